/*
 * talk: a console client without a socket: sends messages, reads the answers as one short text.
 *
 *   "T(list:25 items:23) D(pools|3) C(SHOW) Z(I)"
 *
 * E and N show SQLSTATE and text; a NULL cell is ~, a binary one is hex behind 0x.
 */
#ifndef TALK_H
#define TALK_H

#include "pgstage/admin/console.h"
#include "pgstage/base/buffer.h"

struct talk {
    struct console *console;
    struct buffer to; /* what the client is about to send */
    char *heard;      /* transcript of everything since the last talk_hear */
    unsigned replies;
    bool resumed, closed;
    void (*run)(struct console_job *job); /* NULL: answers every view with no rows */
    unsigned runs;
    enum command_id last_id;
    struct console_job *waiting; /* for tests that answer late */
};

#define TALK_CLIENT 7

void talk_open(struct talk *talk, enum console_level level);
/* By the name that PgBouncer's console has. */
void talk_open_as_pgbouncer(struct talk *talk);
void talk_close(struct talk *talk);
void talk_query(struct talk *talk, const char *text);
void talk_parse(struct talk *talk, const char *name, const char *text);
/* formats: "" none, "01": one digit for each. */
void talk_bind(struct talk *talk, const char *portal, const char *name, const char *formats);
void talk_describe(struct talk *talk, char what, const char *name);
void talk_execute(struct talk *talk, const char *portal, unsigned maximum);
void talk_close_name(struct talk *talk, char what, const char *name);
void talk_sync(struct talk *talk);
/* Sends what has been put together and returns the answer's transcript (the talk's own). */
const char *talk_send(struct talk *talk);
/* The transcript so far, emptied. */
const char *talk_hear(struct talk *talk);
/* One query, one transcript. */
const char *talk_ask(struct talk *talk, const char *query);

#endif
