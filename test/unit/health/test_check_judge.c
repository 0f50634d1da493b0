/* What the answers of a server mean. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "src/health/check_inside.h"

static struct check_rows rows;
static struct settings settings;
static struct check_demand demand;
static struct check_facts facts;

static void set_up(void)
{
    rows = (struct check_rows){0};
    settings = (struct settings){.replication_lag_warning_us = 10 * CLOCK_SECOND,
                                 .server_idle_timeout_us = 600 * CLOCK_SECOND};
    demand = (struct check_demand){.per_user = 20};
    facts = (struct check_facts){.version = "15.4",
                                 .system_identifier = "712",
                                 .max_connections = 100,
                                 .reserved = 3,
                                 .lag_s = -1,
                                 .lag_bytes = -1,
                                 .missing = ""};
}

static void tear_down(void)
{
    check_rows_fini(&rows);
}

TestSuite(check_judge, .init = set_up, .fini = tear_down);

/* The row of one check after judging anew; NULL: none. */
static const struct check_row *judged(const char *check)
{
    check_rows_fini(&rows);
    check_judge(&rows, "e", "h:1", &facts, &demand, &settings, false, 1, 5);
    for (size_t i = 0; i < rows.count; i++) {
        if (text_equal(rows.items[i].check, check))
            return &rows.items[i];
    }
    return NULL;
}

static void is(const char *check, enum check_verdict verdict, const char *part)
{
    const struct check_row *row = judged(check);
    cr_assert_not_null(row, "no row of %s", check);
    cr_assert_eq(row->verdict, verdict, "%s: %s", check_verdict_word(row->verdict), row->detail);
    cr_assert(strstr(row->detail, part), "\"%s\" is not in: %s", part, row->detail);
}

Test(check_judge, a_primary_has_no_lag)
{
    is("role", CHECK_OK, "primary");
    cr_assert_null(judged("lag"));
    cr_assert_eq(check_rows_count(&rows, CHECK_ERROR), 0);
    cr_assert_eq(check_rows_count(&rows, CHECK_WARNING), 0);
}

Test(check_judge, a_standby_without_a_receiver_follows_nobody)
{
    facts.in_recovery = true;
    is("role", CHECK_WARNING, "follows nobody");
    facts.has_receiver = true;
    is("role", CHECK_OK, "standby");
}

Test(check_judge, lag_is_measured_against_the_environments_limit)
{
    facts.in_recovery = facts.has_receiver = true;
    facts.lag_s = 9.5;
    facts.lag_bytes = 100;
    is("lag", CHECK_OK, "9.5 s");
    facts.lag_s = 10.5;
    is("lag", CHECK_WARNING, "10.5 s");
    settings.replication_lag_warning_us = 0;
    is("lag", CHECK_OK, "10.5 s");
    facts.lag_bytes = -1;
    is("lag", CHECK_WARNING, "unknown");
}

Test(check_judge, pools_are_held_against_what_is_not_reserved)
{
    demand.per_user = 97;
    is("max_connections", CHECK_OK, "100, 3 of them reserved; pools may open 97");
    demand.fixed = 1;
    is("max_connections", CHECK_WARNING, "pools may open 98");
    demand = (struct check_demand){.unlimited = true};
    is("max_connections", CHECK_WARNING, "without a limit");
    demand = (struct check_demand){.per_user = 1};
    facts.reserved = 200;
    is("max_connections", CHECK_WARNING, "reserved");
}

Test(check_judge, settings_that_work_against_pooling_are_named)
{
    is("settings", CHECK_OK, "");
    facts.default_read_only = true;
    is("settings", CHECK_WARNING, "default_transaction_read_only");
    facts.default_read_only = false;
    facts.idle_session_us = 600 * CLOCK_SECOND;
    is("settings", CHECK_WARNING, "idle_session_timeout (600000 ms)");
    facts.idle_session_us = 601 * CLOCK_SECOND;
    is("settings", CHECK_OK, "");
    settings.server_idle_timeout_us = 0;
    is("settings", CHECK_WARNING, "idle_session_timeout");
}

Test(check_judge, a_missing_database_is_an_error)
{
    facts.missing = "a, b";
    is("databases", CHECK_ERROR, "a, b");
}

Test(check_judge, names_of_databases_cannot_leave_their_quotes)
{
    const char *names[] = {"it's", "back\\slash", "'); DROP TABLE x; --"};
    char *sql = check_facts_sql(names, 3);
    cr_assert(strstr(sql, "ARRAY[ E'it''s', E'back\\\\slash', E'''); DROP TABLE x; --']"), "%s",
              sql);
    free(sql);
    sql = check_facts_sql(NULL, 0);
    cr_assert(strstr(sql, "ARRAY[]::text[]"));
    free(sql);
}

/* ---- tls ---- */

static void tls_is(const struct handshake_result *result, enum tls_mode mode,
                   enum check_verdict verdict, const char *part)
{
    check_rows_fini(&rows);
    check_judge_tls(&rows, "e", "h:1", result, mode, false, 1000000);
    cr_assert_eq(rows.count, 1);
    cr_assert_eq(rows.items[0].verdict, verdict, "%s", rows.items[0].detail);
    cr_assert(strstr(rows.items[0].detail, part), "%s", rows.items[0].detail);
}

Test(check_judge, a_certificate_near_its_end_is_a_warning)
{
    struct handshake_result result = {.secured = true,
                                      .verified = true,
                                      .protocol = "TLSv1.3/X",
                                      .subject = "CN=a",
                                      .not_after = 1000000 + 31 * 86400};
    tls_is(&result, TLS_VERIFY_FULL, CHECK_OK, "verify-full, TLSv1.3/X: CN=a, valid until ");
    result.not_after = 1000000 + 29 * 86400;
    tls_is(&result, TLS_VERIFY_FULL, CHECK_WARNING, "(29 days)");
}

Test(check_judge, what_is_not_verified_is_said)
{
    struct handshake_result result = {.secured = true, .protocol = "TLSv1.3/X", .subject = "CN=a"};
    tls_is(&result, TLS_REQUIRE, CHECK_OK, "is not verified");
    result = (struct handshake_result){0};
    tls_is(&result, TLS_PREFER, CHECK_WARNING, "in the clear");
    tls_is(&result, TLS_DISABLE, CHECK_OK, "none");
    result = (struct handshake_result){.error = PROBE_TLS, .text = "hostname mismatch"};
    tls_is(&result, TLS_VERIFY_FULL, CHECK_ERROR, "tls: hostname mismatch");
}

Test(check_judge, what_monitor_user_does_not_see_is_named)
{
    cr_assert_null(judged("grants"), "nobody was named to see it");
    settings.monitor_user = "watcher";
    is("grants", CHECK_WARNING, "GRANT pg_monitor TO watcher");
    settings.failover_mode = FAILOVER_PROMOTE;
    is("grants", CHECK_ERROR, "GRANT pg_monitor TO watcher");
    facts.sees_all = true;
    is("grants", CHECK_OK, "watcher");
}

Test(check_judge, promote_mode_needs_receivers_that_notice_a_hang)
{
    facts.receiver_timeout_us = 60 * CLOCK_SECOND;
    cr_assert_null(judged("wal_receiver_timeout"));
    settings.failover_mode = FAILOVER_PROMOTE;
    is("wal_receiver_timeout", CHECK_ERROR, "60000 ms");
    facts.receiver_timeout_us = 0;
    is("wal_receiver_timeout", CHECK_ERROR, "0 ms");
    facts.receiver_timeout_us = 5 * CLOCK_SECOND;
    is("wal_receiver_timeout", CHECK_OK, "5000 ms");
}
