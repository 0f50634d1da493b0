/*
 * portal: the extended protocol of one console session: prepared statements and portals.
 *
 * For console.c, which owns the sessions. Control thread only.
 */
#ifndef PGSTAGE_ADMIN_PORTAL_H
#define PGSTAGE_ADMIN_PORTAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/admin/command.h"
#include "pgstage/admin/result.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/map.h"
#include "pgstage/wire/frame.h"

/* What one session may keep of each. */
#define PORTAL_NAMES_MAX 1000

/* A text with the command that it means; empty: no statement at all. */
struct prepared {
    char *name;
    char *text;
    struct command command;
    bool is_empty;
    UT_hash_handle hh;
};

struct portal {
    char *name;
    char *text;
    struct command command; /* read again from the text; empty once it has run */
    const struct columns *columns;
    bool is_empty;
    uint16_t *formats;  /* one for each column */
    struct buffer rows; /* once it has run */
    size_t sent_bytes;  /* of them */
    bool has_run;
    char *tag;
    UT_hash_handle hh;
};

struct portals {
    /* fixed */
    bool as_pgbouncer; /* commands are read as command_as_pgbouncer says */
    /* owner */
    struct prepared *prepared;
    struct portal *portals;
};

/* Each reads one message's body and puts the answer into `out`. False: `out` holds an ErrorResponse
 * instead, and the session skips to Sync. */
bool portal_parse(struct portals *portals, struct reader *body, char status, struct buffer *out);
bool portal_bind(struct portals *portals, struct reader *body, struct buffer *out);
bool portal_describe(struct portals *portals, struct reader *body, struct buffer *out);
bool portal_close(struct portals *portals, struct reader *body, struct buffer *out);
/* NULL when there is none of this name. */
struct portal *portal_find(struct portals *portals, const char *name);
/* Sends up to `maximum` rows (0: all), then PortalSuspended or CommandComplete. */
void portal_send(struct portal *portal, uint32_t maximum, struct buffer *out);

/* The end of a transaction. */
void portals_clear(struct portals *portals);
/* DISCARD ALL, DEALLOCATE ALL: the named statements. */
void portals_forget(struct portals *portals);

#endif
