/*
 * console: the protocol side of the console: sessions, statements, portals, one command at a time.
 *
 * Knows no data plane: bytes come in through console_input, answers leave through hooks, commands
 * run through hooks.run and answer at once or later. Control thread only.
 */
#ifndef PGSTAGE_ADMIN_CONSOLE_H
#define PGSTAGE_ADMIN_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/admin/command.h"
#include "pgstage/admin/result.h"
#include "pgstage/base/buffer.h"
#include "pgstage/session/plane.h"

struct console;
struct console_session;

/* A command that runs. Whoever runs it ends it with console_done or console_fail, exactly once,
 * also when the client has gone meanwhile (the answer is then thrown away). */
struct console_job {
    /* fixed */
    struct console *console;
    uint64_t client_id;
    char *user, *from;
    enum console_level level;
    struct command command;
    uint16_t *formats;
    /* owner */
    struct console_session *session; /* NULL: the client has gone */
    struct result result;            /* rows go here */
    struct buffer notices;           /* NoticeResponse messages that go before the rows */
    char *tag;                       /* allocated; NULL: command.tag */
    /* Called when the client cancels (`gone` false) or leaves; NULL: it does not matter. The job is
     * not ended by that: the callback may end it. */
    void (*cancelled)(struct console_job *job, bool gone);
    void *state; /* the command's own */
    /* Called once, behind the answer: what must not happen before it; NULL: nothing. */
    void (*after)(void *argument);
    void *after_argument;
    struct console_failure {
        char *sqlstate, *text, *detail, *hint; /* allocated; sqlstate NULL: it went well */
    } failure;
};

struct console_hooks {
    void *context;
    /* Runs a command whose level has been checked. */
    void (*run)(void *context, struct console_job *job);
    /* Writes a command that changes something, and how it went, to where such things stand (NULL:
     * nowhere). True: the answer waits until console_recorded is called. */
    bool (*record)(void *context, struct console_job *job, const char *what);
    /* As plane_console_reply; empties nothing: the console frees the bytes. */
    void (*reply)(void *context, uint64_t client_id, struct buffer *bytes, bool resume, bool close);
};

struct console *console_new(const struct console_hooks *hooks) __attribute__((warn_unused_result));
/* Frees the sessions. Jobs that still run are orphaned: they must be ended before. */
void console_free(struct console *console);

/* As in struct plane_hooks. */
void console_opened(struct console *console, uint64_t client_id, const char *user,
                    const char *database, enum console_level level, const char *from);
void console_input(struct console *console, uint64_t client_id, const uint8_t *bytes,
                   size_t length);
void console_cancelled(struct console *console, uint64_t client_id);
void console_closed(struct console *console, uint64_t client_id);

/* Ends a job: the client gets its rows and the tag. */
void console_done(struct console_job *job);
/* Ends a job with an ERROR; texts are copied, `detail` and `hint` may be NULL. */
void console_fail(struct console_job *job, const char *sqlstate, const char *text,
                  const char *detail, const char *hint);
/* Tells its client something while it runs. */
void console_notice(struct console_job *job, const char *text);
/* hooks.record has done its work; `written` false: the client is warned. */
void console_recorded(struct console_job *job, bool written);
/* Sessions that are open. */
size_t console_session_count(const struct console *console);

#endif
