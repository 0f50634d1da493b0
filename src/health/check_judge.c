/*
 * check_judge: from what a server answers to rows that say ok, warning or error. Pure.
 *
 * An error is what keeps clients from being served or breaks a promise; a warning is what will hurt
 * some day. Facts of PostgreSQL that stand behind it:
 *   - "seconds since the last replay" grows on an idle cluster: the lag is 0 when all that was
 *     received is replayed
 *   - a standby that was started while its primary is dead has replayed more than it "received"
 *   - columns of pg_stat_wal_receiver are hidden from ordinary roles, but its pid is not
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/lookup.h"

#define WARN_DAYS 30
#define RECEIVER_TIMEOUT_MOST_US (5 * CLOCK_SECOND)

/* ---- rows ---- */

const char *check_verdict_word(enum check_verdict verdict)
{
    return verdict == CHECK_OK ? "ok" : verdict == CHECK_WARNING ? "warning" : "error";
}

size_t check_rows_count(const struct check_rows *rows, enum check_verdict verdict)
{
    size_t count = 0;
    for (size_t i = 0; i < rows->count; i++)
        count += rows->items[i].verdict == verdict;
    return count;
}

void check_rows_fini(struct check_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        free(rows->items[i].host);
        free(rows->items[i].detail);
    }
    free(rows->items);
    *rows = (struct check_rows){0};
}

void check_rows_add(struct check_rows *rows, const char *environment, const char *host,
                    const char *check, enum check_verdict verdict, uint64_t duration_us,
                    const char *format, ...)
{
    va_list arguments;
    if (rows->count == rows->capacity) {
        rows->capacity = rows->capacity ? 2 * rows->capacity : 16;
        rows->items = memory_resize(rows->items, rows->capacity, sizeof *rows->items);
    }
    va_start(arguments, format);
    rows->items[rows->count++] = (struct check_row){.environment = environment,
                                                    .host = text_copy(host),
                                                    .check = check,
                                                    .verdict = verdict,
                                                    .detail = text_vprint(format, arguments),
                                                    .duration_us = duration_us};
    va_end(arguments);
}

/* ---- the questions ---- */

static void put_literal(struct buffer *out, const char *text)
{
    buffer_print(out, " E'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buffer_put_u8(out, (uint8_t)*text);
        buffer_put_u8(out, (uint8_t)*text);
    }
    buffer_put_u8(out, '\'');
}

enum fact {
    FACT_IN_RECOVERY,
    FACT_READ_ONLY,
    FACT_VERSION,
    FACT_SYSTEM_IDENTIFIER,
    FACT_MAX_CONNECTIONS,
    FACT_RESERVED,
    FACT_RECEIVER,
    FACT_LAG_S,
    FACT_LAG_BYTES,
    FACT_IDLE_SESSION_MS,
    FACT_SEES_ALL,
    FACT_RECEIVER_TIMEOUT_MS,
    FACT_MISSING,
    FACT_COUNT,
};

char *check_facts_sql(const char *const *databases, size_t count)
{
    struct buffer sql = {0};
    buffer_print(&sql,
                 "SELECT pg_catalog.pg_is_in_recovery(),"
                 " pg_catalog.current_setting('default_transaction_read_only'),"
                 " pg_catalog.current_setting('server_version'),"
                 " (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
                 " pg_catalog.current_setting('max_connections'),"
                 " pg_catalog.current_setting('superuser_reserved_connections')::int"
                 " + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int,"
                 " EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE pid IS NOT NULL),"
                 " extract(epoch FROM pg_catalog.clock_timestamp()"
                 " - pg_catalog.pg_last_xact_replay_timestamp()),"
                 " CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_wal_lsn_diff("
                 "pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()) END,"
                 " coalesce((SELECT setting FROM pg_catalog.pg_settings"
                 " WHERE name = 'idle_session_timeout'), '0'),"
                 " pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')"
                 " AND pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE'),"
                 " (extract(epoch FROM pg_catalog.current_setting('wal_receiver_timeout')"
                 "::interval) * 1000)::bigint,"
                 " (SELECT pg_catalog.string_agg(d, ', ') FROM pg_catalog.unnest(ARRAY[");
    for (size_t i = 0; i < count; i++) {
        buffer_print(&sql, "%s", i ? "," : "");
        put_literal(&sql, databases[i]);
    }
    buffer_print(&sql, "]::text[]) AS d WHERE d NOT IN (SELECT datname::text FROM "
                       "pg_catalog.pg_database WHERE datallowconn))");
    buffer_put_u8(&sql, '\0');
    return (char *)sql.data;
}

bool check_facts_read(struct check_facts *facts, const PGresult *rows)
{
    const char *of[FACT_COUNT];
    if (!rows || PQntuples(rows) != 1 || PQnfields(rows) != FACT_COUNT)
        return false;
    for (int i = 0; i < FACT_COUNT; i++)
        of[i] = PQgetvalue(rows, 0, i);
    facts->in_recovery = of[FACT_IN_RECOVERY][0] == 't';
    facts->default_read_only = text_equal(of[FACT_READ_ONLY], "on");
    facts->version = of[FACT_VERSION];
    facts->system_identifier = of[FACT_SYSTEM_IDENTIFIER];
    facts->max_connections = strtoll(of[FACT_MAX_CONNECTIONS], NULL, 10);
    facts->reserved = strtoll(of[FACT_RESERVED], NULL, 10);
    facts->has_receiver = of[FACT_RECEIVER][0] == 't';
    facts->lag_s = *of[FACT_LAG_S] ? strtod(of[FACT_LAG_S], NULL) : -1;
    facts->lag_bytes = -1;
    if (*of[FACT_LAG_BYTES]) {
        facts->lag_bytes = strtoll(of[FACT_LAG_BYTES], NULL, 10);
        if (facts->lag_bytes <= 0)
            facts->lag_bytes = 0, facts->lag_s = 0;
    }
    facts->idle_session_us = strtoull(of[FACT_IDLE_SESSION_MS], NULL, 10) * CLOCK_MS;
    facts->sees_all = of[FACT_SEES_ALL][0] == 't';
    facts->receiver_timeout_us = strtoull(of[FACT_RECEIVER_TIMEOUT_MS], NULL, 10) * CLOCK_MS;
    facts->missing = of[FACT_MISSING];
    return true;
}

/* ---- what they mean ---- */

struct judge {
    struct check_rows *rows;
    const char *environment, *host;
};

#define SAY(judge, check, verdict, ...)                                                            \
    check_rows_add((judge)->rows, (judge)->environment, (judge)->host, check, verdict, 0,          \
                   __VA_ARGS__)

static void judge_role(const struct judge *judge, const struct check_facts *facts, bool dr,
                       uint64_t duration_us)
{
    enum check_verdict verdict = CHECK_OK;
    const char *text = "primary";
    if (facts->in_recovery && !facts->has_receiver) {
        verdict = CHECK_WARNING;
        text = "standby that follows nobody: it has no WAL receiver";
    } else if (facts->in_recovery) {
        text = "standby";
    } else if (dr) {
        verdict = CHECK_WARNING;
        text = "primary, though it is one of dr_hosts";
    }
    check_rows_add(judge->rows, judge->environment, judge->host, "role", verdict, duration_us, "%s",
                   text);
}

static void judge_connections(const struct judge *judge, const struct check_facts *facts,
                              const struct check_demand *demand)
{
    int64_t free_for_all = facts->max_connections - facts->reserved;
    uint64_t wanted = demand->fixed + demand->per_user;
    if (demand->unlimited)
        SAY(judge, "max_connections", CHECK_WARNING,
            "%" PRId64 ", %" PRId64 " of them reserved; a pool without a limit may open them all: "
            "set pool_size or max_db_connections",
            facts->max_connections, facts->reserved);
    else
        SAY(judge, "max_connections",
            free_for_all < 0 || wanted > (uint64_t)free_for_all ? CHECK_WARNING : CHECK_OK,
            "%" PRId64 ", %" PRId64 " of them reserved; pools may open %" PRIu64 ", and %" PRIu64
            " more for each further user",
            facts->max_connections, facts->reserved, wanted, demand->per_user);
}

static void judge_lag(const struct judge *judge, const struct check_facts *facts,
                      const struct settings *settings)
{
    uint64_t limit_us = settings->replication_lag_warning_us;
    if (!facts->in_recovery)
        return;
    if (facts->lag_bytes < 0 || facts->lag_s < 0) {
        SAY(judge, "lag", CHECK_WARNING, "unknown: nothing has been received or replayed yet");
        return;
    }
    bool late = limit_us > 0 && facts->lag_s * (double)CLOCK_SECOND > (double)limit_us;
    SAY(judge, "lag", late ? CHECK_WARNING : CHECK_OK,
        "%.1f s behind, %" PRId64 " bytes received and not replayed", facts->lag_s,
        facts->lag_bytes);
}

static void judge_settings(const struct judge *judge, const struct check_facts *facts,
                           const struct settings *settings)
{
    uint64_t idle_us = settings->server_idle_timeout_us;
    bool cuts = facts->idle_session_us > 0 && (idle_us == 0 || facts->idle_session_us <= idle_us);
    bool read_only = facts->default_read_only && !facts->in_recovery;
    if (!cuts && !read_only) {
        SAY(judge, "settings", CHECK_OK, "nothing stands in the way of pooling");
        return;
    }
    if (read_only)
        SAY(judge, "settings", CHECK_WARNING,
            "default_transaction_read_only is on, on a primary: writes fail");
    if (cuts)
        SAY(judge, "settings", CHECK_WARNING,
            "idle_session_timeout (%" PRIu64 " ms) ends connections that server_idle_timeout "
            "would keep",
            facts->idle_session_us / CLOCK_MS);
}

/* What the probes need to see, and what makes a standby a good witness of its primary's end. */
static void judge_failover(const struct judge *judge, const struct check_facts *facts,
                           const struct settings *settings)
{
    bool promotes = settings->failover_mode == FAILOVER_PROMOTE;
    uint64_t timeout_us = facts->receiver_timeout_us;
    if (!judge->environment)
        return;
    if (settings->monitor_user && facts->sees_all)
        SAY(judge, "grants", CHECK_OK, "%s sees all that probes ask for", settings->monitor_user);
    else if (settings->monitor_user)
        SAY(judge, "grants", promotes ? CHECK_ERROR : CHECK_WARNING,
            "%s does not see the state of replication: GRANT pg_monitor TO %s",
            settings->monitor_user, settings->monitor_user);
    if (!promotes)
        return;
    if (timeout_us > 0 && timeout_us <= RECEIVER_TIMEOUT_MOST_US)
        SAY(judge, "wal_receiver_timeout", CHECK_OK, "%" PRIu64 " ms", timeout_us / CLOCK_MS);
    else
        SAY(judge, "wal_receiver_timeout", CHECK_ERROR,
            "%" PRIu64 " ms: a standby notices so late that its primary hangs; in promote mode set "
            "it to 5s or less",
            timeout_us / CLOCK_MS);
}

void check_judge(struct check_rows *rows, const char *environment, const char *host,
                 const struct check_facts *facts, const struct check_demand *demand,
                 const struct settings *settings, bool dr, size_t database_count,
                 uint64_t duration_us)
{
    const struct judge judge = {rows, environment, host};
    judge_role(&judge, facts, dr, duration_us);
    SAY(&judge, "server_version", CHECK_OK, "%s", facts->version);
    SAY(&judge, "system_identifier", CHECK_OK, "%s", facts->system_identifier);
    judge_connections(&judge, facts, demand);
    judge_lag(&judge, facts, settings);
    judge_settings(&judge, facts, settings);
    judge_failover(&judge, facts, settings);
    if (*facts->missing)
        SAY(&judge, "databases", CHECK_ERROR, "the server has none of this name: %s",
            facts->missing);
    else if (database_count > 0)
        SAY(&judge, "databases", CHECK_OK, "%s",
            database_count == 1 ? "it exists" : "all of them exist");
}

/* ---- tls ---- */

static void judge_certificate(struct check_rows *rows, const char *environment, const char *host,
                              const struct handshake_result *result, enum tls_mode mode, time_t now)
{
    char date[32] = "?";
    struct tm tm;
    long days = (long)((result->not_after - now) / 86400);
    if (result->not_after && gmtime_r(&result->not_after, &tm))
        strftime(date, sizeof date, "%Y-%m-%d", &tm);
    if (!result->verified) {
        check_rows_add(rows, environment, host, "tls", CHECK_OK, result->tls_us,
                       "%s; the certificate (%s) is not verified: server_tls_sslmode = %s",
                       result->protocol, result->subject,
                       mode == TLS_PREFER ? "prefer" : "require");
        return;
    }
    check_rows_add(rows, environment, host, "tls",
                   result->not_after && days < WARN_DAYS ? CHECK_WARNING : CHECK_OK, result->tls_us,
                   "%s, %s: %s, valid until %s (%ld days)",
                   mode == TLS_VERIFY_FULL ? "verify-full" : "verify-ca", result->protocol,
                   result->subject, date, days);
}

void check_judge_tls(struct check_rows *rows, const char *environment, const char *host,
                     const struct handshake_result *result, enum tls_mode mode, bool local,
                     time_t now)
{
    if (result->error != PROBE_FINE)
        check_rows_add(rows, environment, host, "tls", CHECK_ERROR, 0, "%s: %s",
                       probe_error_word(result->error), result->text);
    else if (local)
        check_rows_add(rows, environment, host, "tls", CHECK_OK, 0,
                       "none: a Unix socket crosses no wire");
    else if (result->secured)
        judge_certificate(rows, environment, host, result, mode, now);
    else if (mode == TLS_PREFER)
        check_rows_add(rows, environment, host, "tls", CHECK_WARNING, 0,
                       "the server has no TLS; server_tls_sslmode = prefer goes on in the clear");
    else
        check_rows_add(rows, environment, host, "tls", CHECK_OK, 0, "none: server_tls_sslmode = %s",
                       mode == TLS_ALLOW ? "allow" : "disable");
}

void check_judge_lookup(struct check_rows *to, const char *environment, const char *host,
                        const PGresult *rows, const char *problem, const char *auth_user,
                        const char *dbname, uint64_t duration_us)
{
    struct fetched fetched = {0};
    bool known = false;
    if (rows && lookup_read(rows, auth_user, &fetched, &known, &problem))
        check_rows_add(to, environment, host, "auth_query", CHECK_OK, duration_us,
                       "as %s to %s: asked for %s itself, it %s", auth_user, dbname, auth_user,
                       known ? "answered" : "answered that there is no such user");
    else
        check_rows_add(to, environment, host, "auth_query", CHECK_ERROR, duration_us,
                       "as %s to %s: %s", auth_user, dbname, problem);
}
