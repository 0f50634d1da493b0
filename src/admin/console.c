/*
 * console: sessions of administrators, one command at a time.
 *
 *   console_input ─► pending messages ─► session_run ─► Query: statement by statement ─┐
 *                                            ▲     └──► Execute: a portal ─────────────┤
 *                                            │                                         ▼
 *   hooks.reply ◄─ out ◄─ console_done / console_fail ◄── hooks.run(job): at once or later
 *
 * While a job runs the session stands still: its further messages wait in `pending`, which the
 * plane bounds by not reading on before a reply says `resume`. A session whose client has left is
 * freed at once; its job lives on without it until whoever runs it ends it. The level of a command
 * is checked here, before hooks.run, and what changes something is logged here and given to
 * hooks.record, which may hold the answer back until it is on the disk. Control thread only.
 */
#include "pgstage/admin/console.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/admin/portal.h"
#include "pgstage/base/log.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

/* What one batch of pipelined messages may ask for before the client must read. */
#define OUTPUT_MAX_BYTES (64U << 20)

struct console_session {
    /* fixed */
    struct console *console;
    uint64_t client_id;
    char *user, *from;
    enum console_level level;
    /* owner */
    UT_hash_handle hh;
    struct buffer pending; /* messages that were not looked at yet */
    size_t pending_done;   /* bytes of them that were */
    struct buffer out;
    size_t batch_bytes; /* of answers since the last resume */
    char *query;        /* a simple Query that is being worked on, or NULL */
    const char *query_rest;
    struct portals portals;
    char *portal; /* the name of the portal that runs, or NULL */
    uint32_t portal_maximum;
    struct console_job *job; /* the command that runs, or NULL */
    char status;             /* of ReadyForQuery: I, T, E */
    bool skipping;           /* an extended message failed: everything up to Sync is ignored */
    bool running;            /* session_run is on the stack */
    bool closing;
    bool gone; /* the client has left while session_run was on the stack */
};

struct console {
    /* fixed */
    struct console_hooks hooks;
    /* owner */
    struct console_session *sessions;
};

static void session_run(struct console_session *session);

struct console *console_new(const struct console_hooks *hooks)
{
    struct console *console = memory_new(sizeof *console);
    console->hooks = *hooks;
    return console;
}

static struct console_session *find(struct console *console, uint64_t client_id)
{
    struct console_session *session;
    HASH_FIND(hh, console->sessions, &client_id, sizeof client_id, session);
    return session;
}

static void session_free(struct console_session *session)
{
    HASH_DEL(session->console->sessions, session);
    if (session->job)
        session->job->session = NULL;
    portals_clear(&session->portals);
    portals_forget(&session->portals);
    buffer_fini(&session->pending);
    buffer_fini(&session->out);
    free(session->query);
    free(session->portal);
    free(session->user);
    free(session->from);
    free(session);
}

void console_free(struct console *console)
{
    struct console_session *session, *next;
    HASH_ITER (hh, console->sessions, session, next)
        session_free(session);
    free(console);
}

void console_opened(struct console *console, uint64_t client_id, const char *user,
                    const char *database, enum console_level level, const char *from)
{
    struct console_session *session = memory_new(sizeof *session);
    session->console = console;
    session->client_id = client_id;
    session->user = text_copy(user);
    session->from = text_copy(from);
    session->level = level;
    session->status = 'I';
    session->portals.as_pgbouncer = text_equal(database, "pgbouncer");
    HASH_ADD(hh, console->sessions, client_id, sizeof session->client_id, session);
}

void console_closed(struct console *console, uint64_t client_id)
{
    struct console_session *session = find(console, client_id);
    if (!session)
        return;
    struct console_job *job = session->job;
    if (session->running)
        session->gone = true;
    else
        session_free(session);
    if (job && job->cancelled)
        job->cancelled(job, true);
}

void console_cancelled(struct console *console, uint64_t client_id)
{
    struct console_session *session = find(console, client_id);
    if (session && session->job && session->job->cancelled)
        session->job->cancelled(session->job, false);
}

size_t console_session_count(const struct console *console)
{
    return HASH_COUNT(console->sessions);
}

void console_input(struct console *console, uint64_t client_id, const uint8_t *bytes, size_t length)
{
    struct console_session *session = find(console, client_id);
    if (!session)
        return;
    buffer_put(&session->pending, bytes, length);
    session_run(session);
}

/* ---- commands ---- */

/* FAILOVER, FAILBACK. */
static char *failover_for_log(const struct command *command)
{
    return text_print("%s %s%s%s%s%s%s", command_rows[command->id].verb, command->target,
                      command->value ? " TO " : "", command->value ? command->value : "",
                      command->is_planned ? " PLANNED" : "",
                      command->is_emergency ? " EMERGENCY" : "",
                      command->is_dry_run ? " DRY RUN" : "");
}

/* MAINTENANCE: how long stands in `value`, where a time was given. */
static char *maintenance_for_log(const struct command *command)
{
    return text_print("MAINTENANCE %s %s%s%s", command->target, command->is_on ? "ON" : "OFF",
                      command->value ? " FOR " : "", command->value ? command->value : "");
}

/* The statement as the log may show it. */
static char *text_for_log(const struct command *command)
{
    enum command_argument argument = command_rows[command->id].argument;
    if (argument == ARGUMENT_FAILOVER || argument == ARGUMENT_FAILBACK)
        return failover_for_log(command);
    if (argument == ARGUMENT_MAINTENANCE)
        return maintenance_for_log(command);
    if (argument == ARGUMENT_ENVIRONMENT_HOST)
        return text_print("%s %s %s", command_rows[command->id].verb, command->target,
                          command->value);
    if (command_rows[command->id].argument != ARGUMENT_ASSIGNMENT) {
        const char *target = command->target;
        return command->id == COMMAND_kill_client
                   ? text_print("KILL_CLIENT %" PRIu64, command->client_id)
                   : text_print("%s%s%s%s%s%s%s", command_rows[command->id].verb,
                                *command_rows[command->id].noun ? " " : "",
                                command_rows[command->id].noun, target ? " " : "",
                                target ? target : "",
                                command->wait_for_servers ? " WAIT_FOR_SERVERS" : "",
                                command->wait_for_clients ? " WAIT_FOR_CLIENTS" : "");
    }
    bool secret = command->key && strstr(command->key, "password");
    return text_print("SET %s = %s", command->key, secret ? "********" : command->value);
}

static bool changes_something(const struct command *command)
{
    return command->kind == COMMAND_RUN && command_rows[command->id].level == CONSOLE_ADMIN;
}

static void log_command(const struct console_session *session, const struct command *command)
{
    if (!changes_something(command))
        return;
    char *text = text_for_log(command);
    log_log("console: %s@%s: %s", session->user, session->from, text);
    free(text);
}

static void job_free(struct console_job *job)
{
    command_fini(&job->command);
    result_fini(&job->result);
    buffer_fini(&job->notices);
    free(job->user);
    free(job->from);
    free(job->formats);
    free(job->tag);
    free(job->failure.sqlstate);
    free(job->failure.text);
    free(job->failure.detail);
    free(job->failure.hint);
    free(job);
}

/* Makes the command a job; `formats` and the command's contents become the job's. */
static struct console_job *job_new(struct console_session *session, struct command *command,
                                   uint16_t *formats)
{
    struct console_job *job = memory_new(sizeof *job);
    job->client_id = session->client_id;
    job->user = text_copy(session->user);
    job->from = text_copy(session->from);
    job->level = session->level;
    job->command = *command;
    *command = (struct command){.columns = job->command.columns};
    job->formats = formats;
    job->session = session;
    result_init(&job->result, job->command.columns, formats);
    session->job = job;
    job->console = session->console;
    return job;
}

/* The error ends a simple query, or everything up to Sync. */
static void failed(struct console_session *session)
{
    if (session->status == 'T')
        session->status = 'E';
    if (session->query) {
        free(session->query);
        session->query = NULL;
        message_ready(&session->out, session->status);
    } else {
        session->skipping = true;
    }
}

static void fail(struct console_session *session, const char *sqlstate, const char *text,
                 const char *hint)
{
    message_error(&session->out, "ERROR", sqlstate, text, NULL, hint);
    failed(session);
}

/* Rows and tag of a command that went well, to where its kind of query wants them. `tag` is freed
 * here or given to the portal. */
static void answer(struct console_session *session, struct result *result, struct buffer *notices,
                   char *tag)
{
    buffer_put(&session->out, notices->data, notices->length);
    struct portal *portal =
        session->portal ? portal_find(&session->portals, session->portal) : NULL;
    if (portal) {
        portal->rows = result->rows;
        result->rows = (struct buffer){0};
        portal->tag = tag;
        portal_send(portal, session->portal_maximum, &session->out);
    } else {
        if (result->columns->count > 0)
            result_describe(&session->out, result->columns, NULL);
        buffer_put(&session->out, result->rows.data, result->rows.length);
        message_command_complete(&session->out, tag);
        free(tag);
    }
    free(session->portal);
    session->portal = NULL;
}

/* Takes the job off its session; NULL when the client has gone. */
static struct console_session *detach(struct console_job *job)
{
    struct console_session *session = job->session;
    if (session)
        session->job = NULL;
    return session;
}

/* The job is over: its answer, what comes behind it, and on with the session. */
static void complete(struct console_job *job)
{
    struct console_session *session = detach(job);
    const struct console_failure *failure = &job->failure;
    void (*after)(void *argument) = job->after;
    void *after_argument = job->after_argument;
    if (session && failure->sqlstate) {
        free(session->portal);
        session->portal = NULL;
        buffer_put(&session->out, job->notices.data, job->notices.length);
        message_error(&session->out, "ERROR", failure->sqlstate, failure->text, failure->detail,
                      failure->hint);
        failed(session);
    } else if (session) {
        char *tag = job->tag ? job->tag : text_copy(job->command.tag);
        job->tag = NULL;
        answer(session, &job->result, &job->notices, tag);
    }
    job_free(job);
    if (session)
        session_run(session);
    if (after)
        after(after_argument);
}

/* The command has run. */
static void ended(struct console_job *job)
{
    const struct console_hooks *hooks = &job->console->hooks;
    bool waits = false;
    job->cancelled = NULL; /* it is too late for that */
    if (hooks->record && changes_something(&job->command)) {
        char *what = text_for_log(&job->command);
        waits = hooks->record(hooks->context, job, what);
        free(what);
    }
    if (!waits)
        complete(job);
}

void console_recorded(struct console_job *job, bool written)
{
    if (!written)
        message_notice(&job->notices, "WARNING", "01000",
                       "the audit log cannot be written: this command does not stand in it");
    complete(job);
}

void console_notice(struct console_job *job, const char *text)
{
    const struct console_hooks *hooks = &job->console->hooks;
    struct buffer out = {0};
    if (!job->session)
        return;
    message_notice(&out, "NOTICE", "00000", text);
    hooks->reply(hooks->context, job->client_id, &out, false, false);
    buffer_fini(&out);
}

void console_done(struct console_job *job)
{
    ended(job);
}

void console_fail(struct console_job *job, const char *sqlstate, const char *text,
                  const char *detail, const char *hint)
{
    if (changes_something(&job->command)) {
        char *what = text_for_log(&job->command);
        log_log("console: %s@%s: %s failed: %s", job->user, job->from, what, text);
        free(what);
    }
    job->failure = (struct console_failure){text_copy(sqlstate), text_copy(text), text_copy(detail),
                                            text_copy(hint)};
    ended(job);
}

/* A command that needs nobody but the session. */
static void pretend(struct console_session *session, struct command *command,
                    const uint16_t *formats)
{
    struct result result;
    struct buffer notices = {0};
    result_init(&result, command->columns, formats);
    const char *tag = command->tag;
    switch (command->kind) {
    case COMMAND_PRETEND_ROW:
        result_begin(&result);
        if (command->columns->items[0].type == COLUMN_TEXT)
            result_text(&result, command->value);
        else
            result_int(&result, strtol(command->value, NULL, 10));
        result_end(&result);
        break;
    case COMMAND_BEGIN:
        session->status = 'T';
        break;
    case COMMAND_END:
        tag = session->status == 'E' ? "ROLLBACK" : tag;
        session->status = 'I';
        break;
    case COMMAND_FORGET:
        portals_forget(&session->portals);
        break;
    case COMMAND_PRETEND_SET:
    case COMMAND_RUN:
    case COMMAND_WRONG:
        break;
    }
    answer(session, &result, &notices, text_copy(tag));
    result_fini(&result);
}

/* Runs or refuses; afterwards `command` holds nothing. `formats` becomes the callee's. */
static void dispatch(struct console_session *session, struct command *command, uint16_t *formats)
{
    const char *aborted =
        "current transaction is aborted, commands ignored until end of transaction block";
    if (command->kind == COMMAND_WRONG) {
        fail(session, command->sqlstate, command->problem, command->hint);
    } else if (session->status == 'E' && command->kind != COMMAND_END) {
        fail(session, "25P02", aborted, NULL);
    } else if (session->batch_bytes + session->out.length > OUTPUT_MAX_BYTES) {
        fail(session, "54000", "too many results asked for at once",
             "Read the answers before sending further commands.");
    } else if (!command_allows(command, session->level)) {
        console_fail(job_new(session, command, formats), "42501", "admin access needed", NULL,
                     NULL);
        formats = NULL;
    } else if (command->kind == COMMAND_RUN) {
        const struct console_hooks *hooks = &session->console->hooks;
        log_command(session, command);
        hooks->run(hooks->context, job_new(session, command, formats));
        formats = NULL;
    } else {
        pretend(session, command, formats);
    }
    free(formats);
    command_fini(command);
}

/* ---- messages ---- */

static void close_session(struct console_session *session, const char *problem)
{
    if (problem)
        message_error(&session->out, "FATAL", "08P01", problem, NULL, NULL);
    session->closing = true;
}

static void begin_query(struct console_session *session, struct reader *body)
{
    const char *text = reader_string(body);
    if (!reader_is_done(body)) {
        close_session(session, "invalid Query message");
        return;
    }
    if (session->status == 'I')
        portals_clear(&session->portals);
    session->query = text_copy(text);
    session->query_rest = session->query;
    struct statement statement;
    const char *rest = text;
    if (statement_next(&rest, &statement))
        statement_fini(&statement);
    else
        message_empty(&session->out, 'I');
}

/* The next statement of a simple query, or its end. */
static void continue_query(struct console_session *session)
{
    struct statement statement;
    if (!statement_next(&session->query_rest, &statement)) {
        free(session->query);
        session->query = NULL;
        message_ready(&session->out, session->status);
        return;
    }
    struct command command;
    command_read(&command, &statement);
    if (session->portals.as_pgbouncer)
        command_as_pgbouncer(&command);
    statement_fini(&statement);
    dispatch(session, &command, NULL);
}

static void execute(struct console_session *session, struct reader *body)
{
    const char *name = reader_string(body);
    uint32_t maximum = reader_u32(body);
    if (!reader_is_done(body)) {
        fail(session, "08P01", "invalid Execute message", NULL);
        return;
    }
    struct portal *portal = portal_find(&session->portals, name);
    if (!portal) {
        fail(session, "34000", "this portal does not exist", NULL);
        return;
    }
    maximum = maximum > INT32_MAX ? 0 : maximum;
    if (portal->is_empty) {
        message_empty(&session->out, 'I');
    } else if (portal->has_run && portal->tag) {
        portal_send(portal, maximum, &session->out);
    } else if (portal->has_run) {
        fail(session, "55000", "this portal cannot be run again", NULL);
    } else {
        portal->has_run = true;
        session->portal = text_copy(name);
        session->portal_maximum = maximum;
        size_t bytes = portal->columns->count * sizeof *portal->formats;
        uint16_t *formats = memory_new(bytes);
        memcpy(formats, portal->formats, bytes);
        dispatch(session, &portal->command, formats);
        if (!session->job) {
            free(session->portal);
            session->portal = NULL;
        }
    }
}

static void extended(struct console_session *session, uint8_t type, struct reader *body)
{
    if (session->skipping)
        return;
    bool ok = true;
    switch (type) {
    case 'P':
        ok = portal_parse(&session->portals, body, session->status, &session->out);
        break;
    case 'B':
        ok = portal_bind(&session->portals, body, &session->out);
        break;
    case 'D':
        ok = portal_describe(&session->portals, body, &session->out);
        break;
    case 'C':
        ok = portal_close(&session->portals, body, &session->out);
        break;
    case 'E':
        execute(session, body);
        break;
    }
    if (!ok)
        failed(session);
}

static void handle(struct console_session *session, uint8_t type, struct reader *body)
{
    switch (type) {
    case 'Q':
        if (!session->skipping)
            begin_query(session, body);
        return;
    case 'P':
    case 'B':
    case 'D':
    case 'C':
    case 'E':
        extended(session, type, body);
        return;
    case 'S':
        session->skipping = false;
        if (session->status == 'I')
            portals_clear(&session->portals);
        message_ready(&session->out, session->status);
        return;
    case 'H': /* Flush: answers leave at the end of the batch, or before a wait */
    case 'd':
    case 'c':
    case 'f':
        return;
    case 'F':
        if (!session->skipping) {
            message_error(&session->out, "ERROR", "0A000", "the console has no functions to call",
                          NULL, NULL);
            message_ready(&session->out, session->status);
        }
        return;
    case 'X':
        close_session(session, NULL);
        return;
    default:
        close_session(session, "unexpected message from a console client");
        return;
    }
}

/* Takes the next whole message; false when there is none. */
static bool next_message(struct console_session *session)
{
    const uint8_t *data = session->pending.data + session->pending_done;
    size_t available = session->pending.length - session->pending_done;
    struct frame frame;
    if (available == 0)
        return false;
    enum frame_result result = frame_peek(data, available, INT32_MAX, &frame);
    if (result == FRAME_BAD) {
        close_session(session, "invalid message from a console client");
        return true;
    }
    if (result == FRAME_PARTIAL || frame.body_bytes > available - FRAME_HEADER_BYTES)
        return false;
    struct reader body;
    reader_init(&body, data + FRAME_HEADER_BYTES, frame.body_bytes);
    session->pending_done += FRAME_HEADER_BYTES + frame.body_bytes;
    handle(session, frame.type, &body);
    return true;
}

/* Hands the answers to the client. May free the session (closing). */
static void flush(struct console_session *session)
{
    if (session->gone) {
        session_free(session);
        return;
    }
    bool idle = !session->job;
    session->batch_bytes = idle ? 0 : session->batch_bytes + session->out.length;
    struct buffer out = session->out;
    session->out = (struct buffer){0};
    struct console *console = session->console;
    uint64_t client_id = session->client_id;
    bool closing = session->closing;
    if (closing)
        session_free(session);
    if (idle || out.length > 0 || closing)
        console->hooks.reply(console->hooks.context, client_id, &out, idle && !closing, closing);
    buffer_fini(&out);
}

/* Works until a command has to wait or nothing is left to do. */
static void session_run(struct console_session *session)
{
    if (session->running)
        return;
    session->running = true;
    for (bool more = true; more && !session->job && !session->closing && !session->gone;) {
        if (session->query)
            continue_query(session);
        else
            more = next_message(session);
    }
    session->running = false;
    if (!session->job && !session->query) {
        buffer_consume(&session->pending, session->pending_done);
        session->pending_done = 0;
    }
    flush(session);
}
