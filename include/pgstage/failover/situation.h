/*
 * situation: what pgstage holds to be true of one environment, whatever its hosts say at present.
 *
 *   accepted identity ── host, system identifier, timeline: the one host that writes go to
 *   fences            ── hosts that are never routed to, by the name that the configuration gives
 *   intent            ── "about to promote": written down before, so that a restart knows
 *
 * Plain data with its text as JSON for the state file; no I/O, no clock. Hosts are named by their
 * key, `name[@address]:port` as the configuration has it (host_print). One thread.
 */
#ifndef PGSTAGE_FAILOVER_SITUATION_H
#define PGSTAGE_FAILOVER_SITUATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fence_kind {
    FENCE_NONE,
#define FENCE(id, word, help) FENCE_##id,
#include "pgstage/tables/fences.def"
#undef FENCE
    FENCE_KINDS,
};

struct fence {
    char *host; /* key */
    enum fence_kind kind;
    char *by;               /* why or who: for people */
    uint64_t since_wall_us; /* of the wall clock */
};

/* A promotion that is about to be asked for. */
struct intent {
    char *type;        /* word of the failover type */
    char *from, *to;   /* keys; from NULL: none was accepted */
    uint32_t timeline; /* of the candidate before */
    uint64_t begun_wall_us;
};

/* MAINTENANCE ON without FOR. */
#define MAINTENANCE_UNTIL_OFF UINT64_MAX

struct situation {
    char *environment;
    char *accepted;             /* key; NULL: none yet */
    uint64_t system_identifier; /* expected of every host; 0: not known yet */
    uint32_t timeline;          /* of the accepted primary when it was last seen; 0: not known */
    uint64_t accepted_wall_us;
    struct fence *fences;
    size_t fence_count;
    bool dr_in_force;                /* the accepted primary is one of dr_hosts */
    uint64_t maintenance_until_us;   /* wall clock; 0: off; MAINTENANCE_UNTIL_OFF */
    uint64_t maintenance_due_us;     /* the same moment by the loop's clock, which nobody sets: this
                                        one counts; not in the state file */
    uint64_t last_automatic_wall_us; /* when pgstage last promoted by itself; 0: never */
    uint64_t last_automatic_us;      /* the same by the loop's clock, which counts; 0: not in this
                                        process. Not in the state file */
    struct intent *intent;           /* NULL: none */
};

struct situation *situation_new(const char *environment) __attribute__((warn_unused_result));
void situation_free(struct situation *situation);

/* NULL: not fenced. */
const struct fence *situation_fence(const struct situation *situation, const char *host);
/* Fences, or changes why. A fence of the operator's stays one. True when something changed. */
bool situation_fence_set(struct situation *situation, const char *host, enum fence_kind kind,
                         const char *by, uint64_t wall_us);
/* False: it was not fenced. */
bool situation_fence_clear(struct situation *situation, const char *host);
/* The new accepted primary; its fence and the intent go. */
void situation_accept(struct situation *situation, const char *host, uint64_t system_identifier,
                      uint32_t timeline, bool is_dr, uint64_t wall_us);
void situation_intent_set(struct situation *situation, const char *type, const char *from,
                          const char *to, uint32_t timeline, uint64_t wall_us);
void situation_intent_clear(struct situation *situation);
/* `now_us` is of the loop's clock. */
bool situation_in_maintenance(const struct situation *situation, uint64_t now_us);

/* "former_primary" … */
const char *fence_word(enum fence_kind kind);

/* As an object of the state file; the caller owns the reference. */
json_t *situation_to_json(const struct situation *situation) __attribute__((warn_unused_result));
/* NULL: it is not what situation_to_json writes. */
struct situation *situation_from_json(const char *environment, const json_t *json)
    __attribute__((warn_unused_result));

#endif
