/*
 * episode: the record of one failover, filled while it runs, and the history of those that ended.
 *
 * A row of SHOW FAILOVERS. Kept in the state file; the history is bounded. One thread.
 */
#ifndef PGSTAGE_FAILOVER_EPISODE_H
#define PGSTAGE_FAILOVER_EPISODE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

/* Episodes that are kept. */
#define HISTORY_MAX 200
/* Bytes that the steps of one may take as text; what does not fit is left out with "…". */
#define EPISODE_STEPS_BYTES 8192

enum episode_type {
    EPISODE_AUTOMATIC,
    EPISODE_MANUAL,
    EPISODE_PLANNED,
    EPISODE_EMERGENCY,
    EPISODE_TYPES,
};

enum episode_result {
    EPISODE_RUNNING,
    EPISODE_DONE,
    EPISODE_FAILED,  /* it ended where it began, or the text says where */
    EPISODE_ABORTED, /* ABORT FAILOVER */
    EPISODE_BROKEN,  /* pgstage ended in the middle of it */
    EPISODE_RESULTS,
};

struct episode {
    uint64_t id; /* 1 and up, over restarts */
    char *environment;
    enum episode_type type;
    char *from, *to; /* keys of hosts; NULL: none */
    char *trigger;   /* what it began with: "promotion of … seen", "FAILOVER by …" */
    uint64_t started_wall_us;
    int64_t detection_ms; /* from the last sign of life of the old primary, or the event itself, to
                             the decision; -1: not known */
    int64_t hold_ms;      /* how long new transactions were held; -1: they were not */
    int64_t total_ms;     /* from the last sign of life (or the command) to the release; -1 */
    int64_t lag_bytes;    /* estimate of what the new primary lacks; -1: not known */
    int64_t clients_held, clients_errored; /* -1: not known */
    struct buffer steps;                   /* "hold 3 ms, close 12 ms, …"; no NUL */
    bool steps_are_full;
    enum episode_result result;
    char *text; /* why it failed; NULL: nothing to say */
    /* of the running step */
    uint64_t step_began_us; /* loop_now_us's clock; 0: none */
};

struct episode *episode_new(const char *environment, enum episode_type type, const char *from,
                            const char *to, const char *trigger)
    __attribute__((warn_unused_result));
void episode_free(struct episode *episode);
/* Ends the running step (its duration becomes known) and begins another; `name` NULL: only ends. */
void episode_step(struct episode *episode, const char *name, uint64_t now_us);
/* Adds a remark to the running step. */
void episode_note(struct episode *episode, const char *text);

const char *episode_type_word(enum episode_type type);
const char *episode_result_word(enum episode_result result);

/* Those that ended, the newest last. Zeroed is empty. */
struct history {
    struct episode *items[HISTORY_MAX];
    size_t count;
    uint64_t next_id;
};
/* Takes it over; the oldest goes when it is full. */
void history_add(struct history *history, struct episode *episode);
void history_fini(struct history *history);

json_t *episode_to_json(const struct episode *episode) __attribute__((warn_unused_result));
/* NULL: it is not what episode_to_json writes. */
struct episode *episode_from_json(const json_t *json) __attribute__((warn_unused_result));

#endif
