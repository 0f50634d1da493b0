/* Options: types, units, bounds, names. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/conf/option.h"

static char problem[512];

static int64_t number(enum option_scope scope, const char *name, const char *text)
{
    struct option_value value;
    const struct option *option = option_find(scope, name);
    cr_assert(option, "%s", name);
    cr_assert(option_parse(option, text, &value, problem, sizeof(problem)), "%s = %s: %s", name,
              text, problem);
    return value.number;
}

static const char *refusal(const char *name, const char *text)
{
    struct option_value value;
    const struct option *option = option_find(SCOPE_GLOBAL, name);
    cr_assert(option, "%s", name);
    cr_assert_not(option_parse(option, text, &value, problem, sizeof(problem)), "%s = %s", name,
                  text);
    return problem;
}

Test(option, durations_take_units_and_a_bare_number_counts_seconds)
{
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "3"), 3000000);
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "0.25"), 250000);
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "250ms"), 250000);
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "10us"), 10);
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "1.5s"), 1500000);
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "5 min"), 300000000);
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "2h"), INT64_C(7200000000));
    cr_expect_eq(number(SCOPE_GLOBAL, "query_timeout", "1d"), INT64_C(86400000000));
}

Test(option, tcp_user_timeout_counts_milliseconds_as_in_pgbouncer)
{
    cr_expect_eq(number(SCOPE_GLOBAL, "tcp_user_timeout", "500"), 500000);
    cr_expect_eq(number(SCOPE_GLOBAL, "tcp_user_timeout", "2s"), 2000000);
}

Test(option, sizes_take_units_and_a_bare_number_counts_bytes)
{
    cr_expect_eq(number(SCOPE_GLOBAL, "max_packet_size", "4096"), 4096);
    cr_expect_eq(number(SCOPE_GLOBAL, "max_packet_size", "64kB"), 65536);
    cr_expect_eq(number(SCOPE_GLOBAL, "max_packet_size", "16MB"), 16777216);
    cr_expect_eq(number(SCOPE_GLOBAL, "max_packet_size", "1GB"), 1073741824);
}

Test(option, wrong_units_are_refused_with_the_right_ones)
{
    cr_expect(strstr(refusal("query_timeout", "5m"), "5min"));
    cr_expect(strstr(refusal("query_timeout", "64kB"), "unknown unit"));
    cr_expect(strstr(refusal("max_packet_size", "30s"), "64kB"));
    cr_expect(strstr(refusal("query_timeout", "soon"), "not a duration"));
    refusal("query_timeout", "-1");
    refusal("query_timeout", "");
    refusal("query_timeout", "1e3");
    refusal("query_timeout", "inf");
    refusal("query_timeout", "0x10");
    refusal("query_timeout", ".");
}

Test(option, numbers_out_of_range_are_refused_with_the_range)
{
    cr_expect(strstr(refusal("listen_port", "65536"), "0 to 65535"));
    cr_expect(strstr(refusal("default_pool_size", "-1"), "out of range"));
    cr_expect(strstr(refusal("default_pool_size", "99999999999999999999999"), "out of range"));
    cr_expect(strstr(refusal("query_timeout", "99999999999999999999d"), "out of range"));
    cr_expect(strstr(refusal("stats_period", "0"), "out of range"));
    /* what the kernel would not take */
    cr_expect(strstr(refusal("tcp_keepidle", "32768"), "0 to 32767"));
    cr_expect(strstr(refusal("tcp_keepintvl", "32768"), "0 to 32767"));
    cr_expect(strstr(refusal("tcp_keepcnt", "128"), "0 to 127"));
}

Test(option, numbers_with_something_behind_are_refused)
{
    refusal("default_pool_size", "20x");
    refusal("default_pool_size", "2 0");
    refusal("default_pool_size", "");
}

Test(option, a_socket_mode_is_octal_with_or_without_a_zero)
{
    cr_expect_eq(number(SCOPE_GLOBAL, "unix_socket_mode", "0770"), 0770);
    cr_expect_eq(number(SCOPE_GLOBAL, "unix_socket_mode", "770"), 0770);
    refusal("unix_socket_mode", "0888");
    refusal("unix_socket_mode", "01777");
}

Test(option, workers_may_be_auto)
{
    cr_expect_eq(number(SCOPE_GLOBAL, "workers", "auto"), 0);
    cr_expect_eq(number(SCOPE_GLOBAL, "workers", "4"), 4);
    refusal("workers", "many");
}

Test(option, yes_and_no_have_many_spellings)
{
    static const char *const yes[] = {"1", "yes", "on", "true", "YES"};
    static const char *const no[] = {"0", "no", "off", "false", "Off"};
    for (size_t i = 0; i < 5; i++) {
        cr_expect_eq(number(SCOPE_GLOBAL, "so_reuseport", yes[i]), 1);
        cr_expect_eq(number(SCOPE_GLOBAL, "so_reuseport", no[i]), 0);
    }
    refusal("so_reuseport", "2");
}

Test(option, a_wrong_word_is_refused_with_the_right_ones)
{
    cr_expect_eq(number(SCOPE_GLOBAL, "pool_mode", "Transaction"), POOL_MODE_TRANSACTION);
    cr_expect_str_eq(refusal("pool_mode", "tx"),
                     "\"tx\" is none of session, transaction, statement");
}

Test(option, aliases_mean_what_pgbouncer_means)
{
    cr_expect_str_eq(option_find(SCOPE_GLOBAL, "user")->name, "run_as_user");
    cr_expect_str_eq(option_find(SCOPE_DATABASE, "user")->name, "user");
    cr_expect_str_eq(option_find(SCOPE_DATABASE, "reserve_pool")->name, "reserve_pool_size");
    cr_expect_str_eq(option_find(SCOPE_GLOBAL, "service_name")->name, "job_name");
}

Test(option, the_nearest_name_is_found_and_a_far_one_is_not)
{
    cr_expect_str_eq(option_nearest(SCOPE_GLOBAL, "listen_prt"), "listen_port");
    cr_expect_str_eq(option_nearest(SCOPE_GLOBAL, "max_client_con"), "max_client_conn");
    cr_expect_null(option_nearest(SCOPE_GLOBAL, "zzzzzzzzzz"));
}

Test(option, every_default_fits_its_own_row_and_prints_back)
{
    struct settings settings;
    memset(&settings, 0xff, sizeof(settings));
    option_defaults(&settings);
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        struct option_value value = option_load(option, &settings), again;
        char *text = option_print(option, value);
        cr_expect(option_value_equal(option, value, option_default(option)), "%s", option->name);
        cr_expect(option_parse(option, text, &again, problem, sizeof(problem)), "%s", option->name);
        cr_expect(option_value_equal(option, value, again), "%s = %s", option->name, text);
        free(text);
    }
}

Test(option, defaults_are_pgbouncers)
{
    struct settings settings;
    option_defaults(&settings);
    cr_expect_eq(settings.listen_port, 6432);
    cr_expect_eq(settings.default_pool_size, 20);
    cr_expect_eq(settings_pool_size(&settings), 20);
    cr_expect_eq(settings.max_client_conn, 100);
    cr_expect_eq(settings.pool_mode, POOL_MODE_SESSION);
    cr_expect_eq(settings.auth_type, AUTH_MD5);
    cr_expect_eq(settings.query_wait_timeout_us, 120000000);
    cr_expect_eq(settings.server_lifetime_us, UINT64_C(3600000000));
    cr_expect_eq(settings.server_tls_sslmode, TLS_PREFER);
    cr_expect_eq(settings.client_tls_sslmode, TLS_DISABLE);
    cr_expect_str_eq(settings.server_reset_query, "DISCARD ALL");
    cr_expect_null(settings.listen_addr);
}

Test(option, a_pool_size_of_zero_is_no_limit_and_beats_the_default)
{
    struct settings settings;
    option_defaults(&settings);
    settings.pool_size = 0;
    cr_expect_eq(settings_pool_size(&settings), 0);
    settings.pool_size = 7;
    cr_expect_eq(settings_pool_size(&settings), 7);
}
