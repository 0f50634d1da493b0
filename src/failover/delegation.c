/*
 * delegation.c: the logins, questions and answers.
 *
 * `pending` counts who has not answered; the last one defers the call of `done` to the end of the
 * turn, so that nobody is freed who is on the stack. The lock that several pgstage processes lock
 * each other out with is an advisory one: it works on standbys too and goes with the session. Its
 * number is the same everywhere; that it counts per database is why failover_dbname is an option.
 */
#include "delegation.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lsn.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/net/tls.h"

/* "pgstage" and a version, as a number. */
#define LOCK "8098988752610059521"

struct delegation {
    /* fixed */
    struct loop *loop;
    struct resolver *resolver;
    const struct settings *settings;
    void *context;
    /* owner */
    struct list delegates;
    size_t pending;
    delegation_answer *answer;
    delegation_done *done;
    struct loop_task task;
};

static void finish(struct loop_task *task)
{
    struct delegation *delegation = list_entry(task, struct delegation, task);
    delegation_done *done = delegation->done;
    delegation->done = NULL;
    if (done)
        done(delegation->context);
}

static void begin(struct delegation *delegation, delegation_answer *answer, delegation_done *done)
{
    delegation->answer = answer;
    delegation->done = done;
    delegation->pending = 1; /* until all have been asked */
}

static void went_on(struct delegation *delegation)
{
    if (--delegation->pending == 0)
        loop_defer(delegation->loop, &delegation->task);
}

struct delegation *delegation_new(struct loop *loop, struct resolver *resolver,
                                  const struct settings *settings, void *context)
{
    struct delegation *delegation = memory_new(sizeof *delegation);
    delegation->loop = loop;
    delegation->resolver = resolver;
    delegation->settings = settings;
    delegation->context = context;
    delegation->task.run = finish;
    list_init(&delegation->delegates);
    return delegation;
}

static void lose(struct delegate *delegate)
{
    probe_close(delegate->probe);
    delegate->probe = NULL;
    delegate->is_open = delegate->is_pending = delegate->has_lock = false;
}

void delegation_free(struct delegation *delegation)
{
    struct list_node *node;
    if (!delegation)
        return;
    loop_undefer(delegation->loop, &delegation->task);
    while ((node = list_pop_front(&delegation->delegates))) {
        struct delegate *delegate = list_entry(node, struct delegate, node);
        lose(delegate);
        free(delegate->host);
        free(delegate->name);
        free(delegate->address);
        free(delegate);
    }
    free(delegation);
}

void delegation_hush(struct delegation *delegation)
{
    if (!delegation)
        return;
    delegation->done = NULL;
    delegation->answer = NULL;
    delegation->pending = 0;
    loop_undefer(delegation->loop, &delegation->task);
    list_for_each (node, &delegation->delegates) {
        struct delegate *delegate = list_entry(node, struct delegate, node);
        if (delegate->is_pending)
            lose(delegate);
    }
}

void delegation_dismiss(struct delegation *delegation, const char *host)
{
    struct delegate *delegate = delegation_find(delegation, host);
    if (delegate && !delegate->is_pending)
        lose(delegate);
}

struct delegate *delegation_find(const struct delegation *delegation, const char *host)
{
    list_for_each (node, &delegation->delegates) {
        struct delegate *delegate = list_entry(node, struct delegate, node);
        if (text_equal(delegate->host, host))
            return delegate;
    }
    return NULL;
}

struct list *delegation_list(struct delegation *delegation)
{
    return &delegation->delegates;
}

/* ---- logging in ---- */

static void note_problem(struct delegate *delegate, const struct probe_result *result)
{
    delegate->has_failed = result->error != PROBE_FINE;
    delegate->problem[0] = '\0';
    if (delegate->has_failed) {
        char *text = text_print("%s: %s%s%s%s", probe_error_word(result->error), result->text,
                                result->sqlstate[0] ? " (" : "", result->sqlstate,
                                result->sqlstate[0] ? ")" : "");
        (void)text_fit(delegate->problem, sizeof delegate->problem, text);
        free(text);
    }
}

static void on_opened(struct probe *probe, void *context, const struct probe_result *result)
{
    struct delegate *delegate = context;
    struct delegation *delegation = delegate->delegation;
    (void)probe;
    delegate->is_pending = false;
    note_problem(delegate, result);
    delegate->is_open = result->error == PROBE_FINE;
    delegate->login_us = result->duration_us;
    if (!delegate->is_open)
        lose(delegate);
    went_on(delegation);
}

void delegation_add(struct delegation *delegation, const struct host_report *report)
{
    struct delegate *delegate = memory_new(sizeof *delegate);
    delegate->delegation = delegation;
    delegate->host = text_copy(report->label);
    delegate->name = text_copy(report->name);
    delegate->address = *report->address ? text_copy(report->address) : NULL;
    delegate->port = report->port;
    list_push_back(&delegation->delegates, &delegate->node);
}

static void log_in(struct delegate *delegate, uint64_t deadline_us)
{
    struct delegation *delegation = delegate->delegation;
    const struct settings *settings = delegation->settings;
    struct probe_target target = {
        .name = delegate->name,
        .address = delegate->address,
        .port = delegate->port,
        .user = settings->failover_user ? settings->failover_user : "",
        .password = settings->failover_password,
        .dbname = settings->failover_dbname,
        .peer_user = settings->server_peer_user,
    };
    tls_settings_of_servers(&target.tls, settings);
    delegate->is_pending = true;
    delegation->pending++;
    delegate->probe = probe_open(delegation->loop, delegation->resolver, &target, deadline_us,
                                 on_opened, delegate);
}

void delegation_open(struct delegation *delegation, const char *host, uint64_t deadline_us,
                     delegation_done *done)
{
    begin(delegation, NULL, done);
    list_for_each (node, &delegation->delegates) {
        struct delegate *delegate = list_entry(node, struct delegate, node);
        if (!delegate->probe && (!host || text_equal(host, delegate->host)))
            log_in(delegate, deadline_us);
    }
    went_on(delegation);
}

/* ---- asking ---- */

static void on_answered(struct probe *probe, void *context, const struct probe_result *result)
{
    struct delegate *delegate = context;
    struct delegation *delegation = delegate->delegation;
    delegate->is_pending = false;
    note_problem(delegate, result);
    if (delegation->answer)
        delegation->answer(delegation->context, delegate, result);
    if (!probe_is_idle(probe) && delegate->probe == probe)
        lose(delegate);
    went_on(delegation);
}

void delegation_ask(struct delegation *delegation, const char *host, const char *sql,
                    uint64_t deadline_us, delegation_answer *answer, delegation_done *done)
{
    begin(delegation, answer, done);
    list_for_each (node, &delegation->delegates) {
        struct delegate *delegate = list_entry(node, struct delegate, node);
        if (!delegate->is_open || (host && !text_equal(delegate->host, host)))
            continue;
        delegate->is_pending = true;
        delegation->pending++;
        probe_query(delegate->probe, sql, deadline_us, on_answered);
    }
    went_on(delegation);
}

char *sql_literal(const char *text)
{
    struct buffer out = {0};
    buffer_print(&out, " E'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buffer_put_u8(&out, (uint8_t)*text);
        buffer_put_u8(&out, (uint8_t)*text);
    }
    buffer_print(&out, "' ");
    buffer_put_u8(&out, '\0');
    return (char *)out.data;
}

/* ---- the survey ---- */

enum fact {
    FACT_LOCK,
    FACT_IN_RECOVERY,
    FACT_IDENTIFIER,
    FACT_RECEIVED,
    FACT_REPLAYED,
    FACT_WRITTEN,
    FACT_RECEIVER,
    FACT_TIMELINE,
    FACT_SILENT_US,
    FACT_TIMEOUT_MS,
    FACT_COUNT,
};

/* A session that holds the lock already takes it once more, which is as good. */
static const char survey_sql[] =
    "SELECT pg_catalog.pg_try_advisory_lock(" LOCK "),"
    " r.standby,"
    " (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
    " CASE WHEN r.standby THEN pg_catalog.pg_last_wal_receive_lsn() END,"
    " CASE WHEN r.standby THEN pg_catalog.pg_last_wal_replay_lsn() END,"
    " CASE WHEN NOT r.standby THEN pg_catalog.pg_current_wal_flush_lsn() END,"
    " coalesce((SELECT coalesce(status, 'hidden') FROM pg_catalog.pg_stat_wal_receiver"
    " WHERE pid IS NOT NULL), 'none'),"
    " CASE WHEN r.standby THEN (SELECT received_tli::text FROM pg_catalog.pg_stat_wal_receiver)"
    " ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)"
    " END,"
    " (SELECT pg_catalog.floor(1000000 * extract(epoch FROM pg_catalog.clock_timestamp()"
    " - last_msg_receipt_time))::bigint FROM pg_catalog.pg_stat_wal_receiver),"
    " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_receiver_timeout')"
    " FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby) AS r";

static uint64_t lsn_of(const PGresult *rows, int fact)
{
    uint64_t lsn = 0;
    return lsn_parse(PQgetvalue(rows, 0, fact), &lsn) ? lsn : 0;
}

static bool is_true(const PGresult *rows, int fact)
{
    return PQgetvalue(rows, 0, fact)[0] == 't';
}

static void on_surveyed(void *context, struct delegate *delegate, const struct probe_result *result)
{
    const PGresult *rows = result->rows;
    (void)context;
    if (result->error != PROBE_FINE)
        return;
    if (PQnfields(rows) != FACT_COUNT || PQntuples(rows) != 1) {
        delegate->has_failed = true;
        (void)text_fit(delegate->problem, sizeof delegate->problem,
                       "the answer is not what was asked for");
        return;
    }
    delegate->has_lock = is_true(rows, FACT_LOCK);
    delegate->in_recovery = is_true(rows, FACT_IN_RECOVERY);
    delegate->system_identifier = strtoull(PQgetvalue(rows, 0, FACT_IDENTIFIER), NULL, 10);
    delegate->received_lsn = lsn_of(rows, FACT_RECEIVED);
    delegate->replayed_lsn = lsn_of(rows, FACT_REPLAYED);
    delegate->written_lsn = lsn_of(rows, FACT_WRITTEN);
    delegate->has_receiver = strcmp(PQgetvalue(rows, 0, FACT_RECEIVER), "none") != 0;
    delegate->streams = strcmp(PQgetvalue(rows, 0, FACT_RECEIVER), "streaming") == 0;
    delegate->timeline = (uint32_t)strtoul(PQgetvalue(rows, 0, FACT_TIMELINE), NULL,
                                           delegate->in_recovery ? 10 : 16);
    delegate->silent_us = strtoull(PQgetvalue(rows, 0, FACT_SILENT_US), NULL, 10);
    delegate->receiver_timeout_us =
        strtoull(PQgetvalue(rows, 0, FACT_TIMEOUT_MS), NULL, 10) * CLOCK_MS;
}

void delegation_survey(struct delegation *delegation, uint64_t deadline_us, delegation_done *done)
{
    delegation_ask(delegation, NULL, survey_sql, deadline_us, on_surveyed, done);
}
