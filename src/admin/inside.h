/*
 * inside.h: what the files of the room share. The control thread only, except what says otherwise.
 */
#ifndef PGSTAGE_ADMIN_INSIDE_H
#define PGSTAGE_ADMIN_INSIDE_H

#include "pgstage/admin/admin.h"
#include "pgstage/admin/console.h"
#include "pgstage/admin/stats.h"
#include "pgstage/base/list.h"
#include "pgstage/worker/gather.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

struct admin {
    /* fixed */
    struct admin_callbacks callbacks;
    struct console *console;
    struct stats *stats;
    struct plane *plane;     /* NULL before admin_start and after admin_stop */
    struct monitor *monitor; /* of the hosts; as `plane` */
    struct failover *failover;
    struct procedures *procedures;
    struct snapshot *started; /* the configuration at admin_start, whose restart options count */
    /* owner */
    struct list waits;         /* struct wait, of PAUSE and WAIT_CLOSE */
    struct list checks;        /* struct checking, of CHECK */
    struct list steerings;     /* struct steering, of FENCE, ACCEPT … */
    struct list proceedings;   /* struct proceeding, of FAILOVER, DRILL … */
    unsigned gathers;          /* questions to the workers that are under way */
    struct timer watch;        /* looks at the waits again */
    struct timer period;       /* stats_period … */
    uint64_t period_began_us;  /* … which began then */
    struct timer upkeep;       /* forgets idle pools */
    struct timer certificates; /* looks each day at what expires */
    bool stopping;             /* no command is begun any more */
    bool for_servers;          /* SHUTDOWN WAIT_FOR_SERVERS is in force */
};

/* One function for each row of commands.def. Ends the job now or later. */
#define COMMAND(verb, noun, level, argument, columns, function, help)                              \
    void command_##function(struct admin *admin, struct console_job *job);
#include "pgstage/tables/commands.def"
#undef COMMAND

/* What a command's argument names; both NULL: everything. */
struct target {
    char *database;
    char *environment;
};

/* Understands the job's argument. False: the job has been failed. */
bool target_read(struct admin *admin, struct console_job *job, struct target *target);
void target_fini(struct target *target);

/* Sums what all pools have counted until now. */
void admin_look_at_stats(struct admin *admin);

/* ---- waits ---- */

/* Ends the job when no server of the target is left. `paused`: a cancel resumes the target. */
void wait_start(struct admin *admin, struct console_job *job, struct target *target, bool paused,
                bool obsolete_only);
/* Looks at all of them. */
void waits_look(struct admin *admin);
/* Fails all of them. */
void waits_end(struct admin *admin);

/* Fails what still waits for the failover engine. */
void steerings_end(struct admin *admin);
/* Fails what still waits for a procedure. */
void proceedings_end(struct admin *admin);

/* Fails every CHECK that is under way. */
void checks_end(struct admin *admin);

/* ---- certificates ---- */

/* Warns in the log each day of certificates that expire soon. */
void certificates_watch(struct admin *admin);

/* ---- views ---- */

/* "app@production", or the bare name without an environment; allocated. */
char *database_name(const char *database, const char *environment);

/* Calls `each` for what each name of [databases] means in each environment that it can be reached
 * in, then for the databases that `*` stands in for at present. */
void databases_each(struct admin *admin, void (*each)(struct effective *effective, void *argument),
                    void *argument);

/* "name:port, name:port", NULL without hosts; allocated. */
char *hosts_text(const struct host_config *hosts, size_t count);
/* The word for a number of an ENUM option. Any thread. */
const char *option_word(const char *option, int value);

/* Asks each worker: `each` fills its own part of `part_bytes` zeroed bytes on the worker's thread
 * (reading the job's result for columns and formats), then `done` gets all parts here and ends the
 * job. */
struct gathering;
void gathering_start(struct admin *admin, struct console_job *job, size_t part_bytes,
                     void (*each)(struct loop *loop, const struct console_job *job, void *part),
                     void (*done)(struct gathering *gathering));
struct gathering {
    /* fixed */
    struct admin *admin;
    struct console_job *job;
    void (*each)(struct loop *loop, const struct console_job *job, void *part);
    void (*done)(struct gathering *gathering);
    unsigned count;
    size_t part_bytes;
    /* owner: each part one worker, then the control thread */
    uint8_t *parts;
};
void *gathering_part(const struct gathering *gathering, unsigned index);

#endif
