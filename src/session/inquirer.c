/*
 * inquirer.c: one connection on which auth_query runs.
 *
 *   host ─► RESOLVING ─► CONNECTING ─► PREPARING ─► IDLE ◄─► ASKING
 *              │             │ next address             │ quiet for a while, its host is no good any
 *              └─────────────┴──────────► source_lost ◄─┘ more, or the server has ended it
 *
 * PREPARING fixes how times are printed and how long a query may take, and where the cluster of the
 * environment is known, makes sure that this is it: secrets of another server would let in whoever
 * is known there. The connection is never reset and never shared; nothing of a client reaches it
 * but the name that is asked for, as the value of $1. The control thread.
 */
#include <stdlib.h>
#include <string.h>

#include "inquiry_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/lookup.h"
#include "pgstage/net/dial.h"
#include "pgstage/session/border.h"
#include "pgstage/session/choice.h"

/* An idle connection is closed after this time. */
#define IDLE_US (30 * CLOCK_SECOND)

enum state { STATE_RESOLVING, STATE_CONNECTING, STATE_PREPARING, STATE_IDLE, STATE_ASKING };

struct inquirer {
    /* fixed */
    struct source *source;
    struct host *host; /* used */
    /* owner: the control thread */
    enum state state;
    struct dial dial;
    struct address address;
    struct probe *probe;
    struct question *question;
    uint64_t deadline_us; /* of connecting; UINT64_MAX: none */
    struct timer timer;   /* RESOLVING: the deadline; IDLE: it is closed */
    struct loop_task task;
};

static void connect_next(struct inquirer *inquirer);

static const struct settings *settings_of(const struct inquirer *inquirer)
{
    return inquirer->source->meaning->effective->settings;
}

static void lost(struct inquirer *inquirer, enum probe_error error, const char *text)
{
    struct source *source = inquirer->source;
    char *line = text_print("auth_query on %s as %s: %s", host_label(inquirer->host),
                            source->auth_user, text);

    if (inquirer->state < STATE_IDLE && probe_error_is_host(error))
        host_failed(inquirer->host, loop_now_us(source->plane->control),
                    settings_of(inquirer)->server_login_retry_us, text);
    source_lost(source, inquirer, inquirer->question, error, line);
    free(line);
}

/* ---- from connected to ready ---- */

static void is_ready(struct inquirer *inquirer)
{
    struct loop *loop = inquirer->source->plane->control;

    inquirer->state = STATE_IDLE;
    timer_set(loop, &inquirer->timer, loop_now_us(loop) + IDLE_US);
    source_connected(inquirer->source);
}

static void on_identity(struct probe *probe, void *context, const struct probe_result *result)
{
    struct inquirer *inquirer = context;
    uint64_t expected = host_identity(inquirer->host).system_identifier;

    (void)probe;
    if (result->error == PROBE_SERVER) {
        /* somebody has revoked pg_control_system(): the monitor's word must do */
        is_ready(inquirer);
    } else if (result->error != PROBE_FINE) {
        lost(inquirer, result->error, result->text);
    } else if (expected && (PQntuples(result->rows) != 1 ||
                            strtoull(PQgetvalue(result->rows, 0, 0), NULL, 10) != expected)) {
        lost(inquirer, PROBE_PROTOCOL, "this is another cluster than the environment's");
    } else {
        is_ready(inquirer);
    }
}

static void on_prepared(struct probe *probe, void *context, const struct probe_result *result)
{
    struct inquirer *inquirer = context;

    if (result->error != PROBE_FINE)
        lost(inquirer, result->error, result->text);
    else if (host_identity(inquirer->host).system_identifier)
        probe_query(probe, "SELECT system_identifier FROM pg_catalog.pg_control_system()",
                    inquirer->deadline_us, on_identity);
    else
        is_ready(inquirer);
}

static void on_end(struct probe *probe, void *context)
{
    struct inquirer *inquirer = context;

    (void)probe;
    if (inquirer->state == STATE_IDLE)
        lost(inquirer, PROBE_LOST, "the server has ended the connection");
}

static void on_opened(struct probe *probe, void *context, const struct probe_result *result)
{
    struct inquirer *inquirer = context;
    char sql[LOOKUP_SETTINGS_BYTES];

    if (result->error != PROBE_FINE) {
        if (probe_error_is_host(result->error) && dial_has_next(&inquirer->dial)) {
            probe_close(inquirer->probe);
            inquirer->probe = NULL;
            connect_next(inquirer);
        } else {
            lost(inquirer, result->error, result->text);
        }
        return;
    }
    host_succeeded(inquirer->host);
    inquirer->state = STATE_PREPARING;
    probe_on_end(probe, on_end);
    lookup_settings_sql(sql,
                        snapshot_globals(inquirer->source->setup->snapshot)->auth_query_timeout_us);
    probe_query(probe, sql, inquirer->deadline_us, on_prepared);
}

/* ---- connecting ---- */

static void connect_next(struct inquirer *inquirer)
{
    struct source *source = inquirer->source;
    struct effective *effective = source->meaning->effective;
    struct probe_target target = {
        .name = host_name(inquirer->host),
        .port = host_port(inquirer->host),
        .user = source->auth_user,
        .password = source->password,
        .dbname = effective->dbname,
        .peer_user = effective->settings->server_peer_user,
    };
    const struct address *address = dial_next(&inquirer->dial);
    char text[ADDRESS_TEXT_BYTES], *why;

    if (!address) {
        lost(inquirer, PROBE_DNS, dial_problem(&inquirer->dial));
        return;
    }
    inquirer->address = *address;
    if (!border_allows_address(source->plane, effective->environment, &inquirer->address, &why)) {
        lost(inquirer, PROBE_AUTH, why);
        free(why);
        return;
    }
    inquirer->state = STATE_CONNECTING;
    if (!address_is_local(&inquirer->address))
        target.address = address_host_text(&inquirer->address, text);
    tls_settings_of_servers(&target.tls, effective->settings);
    inquirer->probe = probe_open(source->plane->control, source->plane->resolver, &target,
                                 inquirer->deadline_us, on_opened, inquirer);
}

static void resolved(struct dial *dial)
{
    connect_next(list_entry(dial, struct inquirer, dial));
}

static void on_timer(struct loop *loop, struct timer *timer)
{
    struct inquirer *inquirer = list_entry(timer, struct inquirer, timer);

    (void)loop;
    if (inquirer->state == STATE_IDLE)
        source_lost(inquirer->source, inquirer, NULL, PROBE_FINE, NULL);
    else if (inquirer->state == STATE_RESOLVING)
        lost(inquirer, PROBE_DNS, "no answer from the name service in time");
}

/* Not from inside inquirer_open: what fails at once is told like what fails later. */
static void begin(struct loop_task *task)
{
    struct inquirer *inquirer = list_entry(task, struct inquirer, task);
    struct host *host = inquirer->host;

    if (dial_begin(&inquirer->dial, host_target(host), host_port(host)))
        connect_next(inquirer);
}

struct inquirer *inquirer_open(struct source *source, uint64_t *retry_at_us)
{
    struct loop *loop = source->plane->control;
    uint64_t now_us = loop_now_us(loop);
    struct host *host = choice_pick_any(source->meaning, now_us, retry_at_us);
    struct inquirer *inquirer;
    uint64_t limit_us;

    if (!host)
        return NULL;
    inquirer = memory_new(sizeof(*inquirer));
    inquirer->source = source;
    inquirer->host = host;
    dial_init(&inquirer->dial, loop, source->plane->resolver, resolved);
    inquirer->task.run = begin;
    inquirer->timer.fire = on_timer;
    limit_us = settings_of(inquirer)->server_connect_timeout_us;
    inquirer->deadline_us = limit_us ? now_us + limit_us : UINT64_MAX;
    timer_set(loop, &inquirer->timer, inquirer->deadline_us);
    loop_defer(loop, &inquirer->task);
    return inquirer;
}

void inquirer_close(struct inquirer *inquirer)
{
    struct plane *plane;

    if (!inquirer)
        return;
    plane = inquirer->source->plane;
    loop_undefer(plane->control, &inquirer->task);
    timer_detach(plane->control, &inquirer->timer);
    dial_end(&inquirer->dial);
    probe_close(inquirer->probe);
    host_unuse(inquirer->host);
    free(inquirer);
}

/* ---- asking ---- */

bool inquirer_is_idle(const struct inquirer *inquirer)
{
    return inquirer && inquirer->state == STATE_IDLE;
}

bool inquirer_is_usable(const struct inquirer *inquirer)
{
    char *why;
    bool allowed = border_allows_address(inquirer->source->plane,
                                         inquirer->source->meaning->effective->environment,
                                         &inquirer->address, &why);

    free(why);
    return allowed && choice_takes_any(inquirer->host) && probe_is_idle(inquirer->probe);
}

struct question *inquirer_question(const struct inquirer *inquirer)
{
    return inquirer ? inquirer->question : NULL;
}

static void on_answer(struct probe *probe, void *context, const struct probe_result *result)
{
    struct inquirer *inquirer = context;
    struct question *question = inquirer->question;
    struct loop *loop = inquirer->source->plane->control;

    (void)probe;
    if (result->error != PROBE_FINE && result->error != PROBE_SERVER) {
        lost(inquirer, result->error, result->text);
        return;
    }
    inquirer->question = NULL;
    inquirer->state = STATE_IDLE;
    timer_set(loop, &inquirer->timer, loop_now_us(loop) + IDLE_US);
    source_answered(inquirer->source, question, result);
}

void inquirer_ask(struct inquirer *inquirer, struct question *question)
{
    inquirer->state = STATE_ASKING;
    inquirer->question = question;
    timer_clear(&inquirer->timer);
    /* the question's own timer comes first, and takes this connection away */
    probe_query_with(inquirer->probe, inquirer->source->auth_query, question->user,
                     question->deadline_us + CLOCK_SECOND, on_answer);
}
