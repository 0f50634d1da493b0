/*
 * model_world: the world of the engine's model: hosts as the monitor reports them, a plane that
 * remembers which connections may still write, a disk that answers when it is told to, and a clock
 * that stands still between events. What must hold whatever happens is looked at here, in the calls
 * of the engine themselves.
 *
 * The program brings its own store_… and clock_…, so that a run depends on its seed alone.
 */
#ifndef TEST_UNIT_FAILOVER_MODEL_WORLD_H
#define TEST_UNIT_FAILOVER_MODEL_WORLD_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>

#include "pgstage/failover/failover.h"
#include "pgstage/health/report.h"
#include "pgstage/session/plane.h"
#include "pgstage/worker/loop.h"

#define MODEL_HOSTS 4
#define MODEL_CLOSINGS 256

struct model_host {
    struct host_report report;
    bool is_there; /* the monitor knows it */
    /* the plane */
    struct standing standing;
    bool is_told;          /* the standing, by this process */
    bool may_write;        /* a connection that writes may be open */
    uint64_t last_open_at; /* when one may have been opened last, in world.moment's count */
};

struct model_closing {
    size_t host;
    uint64_t moment;
    void (*done)(void *argument);
    void *argument;
};

struct model_world {
    uint64_t seed, state; /* of the dice */
    uint64_t now_us, wall_us;
    uint64_t moment; /* counts what happens to standings and connections */
    struct model_host hosts[MODEL_HOSTS];
    size_t configured; /* hosts that the configuration names, from the first one on */
    bool is_unprobed;  /* … and says that nobody is to ask them */
    struct loop *loop;
    struct failover *failover;
    bool is_claimed;
    /* the plane */
    bool is_held;
    struct model_closing closings[MODEL_CLOSINGS];
    size_t closing_count;
    /* The last host that was told to take writes, and that was accepted; MODEL_HOSTS: none. */
    size_t writer, accepted;
    /* the disk: what is on it, what it is asked for */
    char *durable;
    bool is_dead; /* nothing reaches it any more: the process was killed */
    uint64_t asked, answered;
    /* the latest new primary, the write that tells the disk of it, and when */
    uint64_t accept_asked, accepted_us;
    /* episodes */
    unsigned begun, ended;
    uint64_t ended_ids[1024];
};
extern struct model_world world;

/* One of 0 … sides-1. */
unsigned dice(unsigned sides);
/* Notes an event, for who reads about a failure. */
void model_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the test with the seed and the latest events. */
_Noreturn void model_fail(const char *what);
#define promise(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            model_fail(#condition);                                                                \
    } while (0)

extern const char *const model_labels[MODEL_HOSTS];
size_t model_host_find(const char *label);
/* Everything is as when the machine was set up; the disk is empty. */
void world_init(uint64_t seed);
void world_fini(void);
/* The process begins again: no connection is open, nothing has been told. */
void world_restart(void);
/* For failover_new. */
extern const struct failover_world model_failover_world;

/* Connections to one of the hosts that are being closed are closed now. */
void world_closed(size_t index);
/* Closes what may be written to, but for this host, as a procedure does before it accepts one. */
void world_close_others(size_t host);
bool world_others_may_write(size_t host);
bool disk_is_busy(void);
void disk_answers(bool well);

/* Calls `each` with the report of every host that the monitor knows. */
void world_each_host(const char *environment,
                     void (*each)(void *argument, const struct host_report *report),
                     void *argument);
/* Connections to a host begin to be closed. */
void world_close_host(const char *host, void (*done)(void *argument), void *argument);

/* ---- what every run needs and must keep (model_check.c) ---- */

/* One database of that environment (the text of its section), or of none when it is NULL. */
struct snapshot *model_snapshot(const char *environment, bool state_dir);

#define MODEL_COMMANDS 1024

/* Something that was asked for, and that is to be answered once. */
struct model_command {
    const char *name;
    bool is_answered, is_forgotten;
};
struct model_commands {
    struct model_command items[MODEL_COMMANDS];
    size_t count;
    unsigned accepted; /* in all runs */
};
extern struct model_commands model_commands;

struct model_command *model_command(const char *name);
/* The answer to a command has come. */
void model_answer(struct model_command *command, bool ok, const char *sqlstate, const char *text);
/* failover_answered, with a command. */
void model_answered(void *context, const struct failover_answer *answer);
/* All have been answered, but those of this name. */
void model_check_answered(const char *but);
/* What the engine lists is what was begun and what has ended, once each; `is_claimed`: one runs. */
void model_check_episodes(bool is_claimed);
void model_check_alarms(void);
void model_check_fences(const struct situation *situation);
/* Runs the seeds from 1 to `seeds`, or to PGSTAGE_MODEL_RUNS, without the log, and looks for leaks
 * now and then; how many they were. Or only PGSTAGE_MODEL_SEED, with the log: 0. */
uint64_t model_run(void (*run)(uint64_t seed), uint64_t seeds);

/* ---- what hosts say (model_hosts.c) ---- */

/* The newest timeline that any host shows. */
uint32_t newest_timeline(void);
void host_takes_writes(struct host_report *report, uint32_t timeline);
void host_follows(struct host_report *report, uint32_t timeline);
/* The primary goes, another host takes its place, some of the rest follow. */
void event_promotion(void);
/* Anything befalls one of them. */
void event_host(void);
/* The monitor gets a login, or loses it. */
void event_logins(void);

#endif
