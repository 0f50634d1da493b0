/* Failed logins of an address: later answers, refusal for a while, and who is not counted. */
#include <criterion/criterion.h>

#include "pgstage/base/clock.h"
#include "pgstage/session/failures.h"

#define NOW (1000 * CLOCK_SECOND)

static const struct settings settings = {.login_failures_limit = 4,
                                         .login_failures_window_us = 60 * CLOCK_SECOND,
                                         .login_refusal_time_us = 30 * CLOCK_SECOND};

static struct address address_of(const char *text)
{
    struct address address;
    cr_assert(address_parse(&address, text, 4000));
    return address;
}

/* One failed login; its delay in milliseconds. */
static uint64_t fail(struct failures *failures, const char *text, uint64_t now_us)
{
    struct address address = address_of(text);
    bool refused;
    return failures_count(failures, &settings, &address, now_us, &refused) / CLOCK_MS;
}

static bool is_refused(struct failures *failures, const char *text, uint64_t now_us)
{
    struct address address = address_of(text);
    return failures_refuse(failures, &settings, &address, now_us);
}

Test(failures, answers_come_later_and_later)
{
    struct failures *failures = failures_new(10);
    cr_expect_eq(fail(failures, "192.0.2.1", NOW), 100);
    cr_expect_eq(fail(failures, "192.0.2.1", NOW), 200);
    cr_expect_eq(fail(failures, "192.0.2.1", NOW), 400);
    cr_expect_eq(fail(failures, "192.0.2.2", NOW), 100);
    failures_free(failures);
}

Test(failures, an_answer_waits_five_seconds_at_most)
{
    struct settings many = settings;
    struct failures *failures = failures_new(10);
    struct address address = address_of("192.0.2.1");
    uint64_t delay_us = 0;
    bool refused;
    many.login_failures_limit = 1000;
    for (int i = 0; i < 200; i++)
        delay_us = failures_count(failures, &many, &address, NOW, &refused);
    cr_expect_eq(delay_us, 5 * CLOCK_SECOND);
    failures_free(failures);
}

Test(failures, at_the_limit_the_address_is_refused_for_a_while)
{
    struct failures *failures = failures_new(10);
    for (int i = 0; i < 3; i++)
        fail(failures, "192.0.2.1", NOW);
    cr_expect_not(is_refused(failures, "192.0.2.1", NOW));
    fail(failures, "192.0.2.1", NOW);
    cr_expect(is_refused(failures, "192.0.2.1", NOW));
    cr_expect_not(is_refused(failures, "192.0.2.2", NOW));
    cr_expect(is_refused(failures, "192.0.2.1", NOW + 30 * CLOCK_SECOND - 1));
    cr_expect_not(is_refused(failures, "192.0.2.1", NOW + 30 * CLOCK_SECOND));
    cr_expect_eq(fail(failures, "192.0.2.1", NOW + 30 * CLOCK_SECOND), 100);
    failures_free(failures);
}

Test(failures, becoming_refused_is_told_once)
{
    struct failures *failures = failures_new(10);
    struct address address = address_of("192.0.2.1");
    int told = 0;
    for (int i = 0; i < 12; i++) {
        bool refused;
        (void)failures_count(failures, &settings, &address, NOW, &refused);
        told += refused;
    }
    cr_expect_eq(told, 1);
    failures_free(failures);
}

Test(failures, old_ones_are_forgotten_with_their_window)
{
    struct failures *failures = failures_new(10);
    for (int i = 0; i < 3; i++)
        fail(failures, "192.0.2.1", NOW);
    cr_expect_eq(fail(failures, "192.0.2.1", NOW + 60 * CLOCK_SECOND), 100);
    cr_expect_not(is_refused(failures, "192.0.2.1", NOW + 60 * CLOCK_SECOND));
    failures_free(failures);
}

Test(failures, a_network_of_64_bits_is_one_address_and_ports_do_not_count)
{
    struct failures *failures = failures_new(10);
    cr_expect_eq(fail(failures, "2001:db8:0:1::1", NOW), 100);
    cr_expect_eq(fail(failures, "2001:db8:0:1:ffff::2", NOW), 200);
    cr_expect_eq(fail(failures, "2001:db8:0:2::1", NOW), 100);
    failures_free(failures);
}

Test(failures, loopback_counts_only_when_asked_for_and_unix_sockets_never)
{
    struct settings loopback = settings;
    struct failures *failures = failures_new(10);
    struct address local, ip4 = address_of("127.0.0.1"), ip6 = address_of("::1");
    bool refused;
    cr_assert(address_local(&local, "/tmp", 1));
    cr_expect_eq(failures_count(failures, &settings, &ip4, NOW, &refused), 0);
    cr_expect_eq(failures_count(failures, &settings, &ip6, NOW, &refused), 0);
    loopback.login_failures_loopback = true;
    cr_expect_gt(failures_count(failures, &loopback, &ip4, NOW, &refused), 0);
    cr_expect_gt(failures_count(failures, &loopback, &ip6, NOW, &refused), 0);
    cr_expect_eq(failures_count(failures, &loopback, &local, NOW, &refused), 0);
    failures_free(failures);
}

Test(failures, without_a_limit_nothing_is_held_up)
{
    struct settings off = settings;
    struct failures *failures = failures_new(10);
    struct address address = address_of("192.0.2.1");
    bool refused;
    off.login_failures_limit = 0;
    for (int i = 0; i < 10; i++)
        cr_expect_eq(failures_count(failures, &off, &address, NOW, &refused), 0);
    cr_expect_not(failures_refuse(failures, &off, &address, NOW));
    failures_free(failures);
}

Test(failures, the_table_is_bounded_and_forgets_the_quietest)
{
    struct failures *failures = failures_new(2);
    struct login_totals totals;
    fail(failures, "192.0.2.1", NOW);
    fail(failures, "192.0.2.2", NOW);
    fail(failures, "192.0.2.1", NOW);
    fail(failures, "192.0.2.3", NOW); /* 192.0.2.2 goes */
    cr_expect_eq(fail(failures, "192.0.2.1", NOW), 400);
    cr_expect_eq(fail(failures, "192.0.2.2", NOW), 100);
    failures_totals(failures, NOW, &totals);
    cr_expect_eq(totals.addresses, 2);
    failures_free(failures);
}

Test(failures, everything_is_counted)
{
    struct failures *failures = failures_new(10);
    struct login_totals totals;
    for (int i = 0; i < 4; i++)
        fail(failures, "192.0.2.1", NOW);
    fail(failures, "192.0.2.2", NOW);
    fail(failures, "127.0.0.1", NOW);
    for (int i = 0; i < 3; i++)
        (void)is_refused(failures, "192.0.2.1", NOW);
    failures_totals(failures, NOW, &totals);
    cr_expect_eq(totals.failures, 6);
    cr_expect_eq(totals.refusals, 3);
    cr_expect_eq(totals.addresses, 2);
    cr_expect_eq(totals.refused_addresses, 1);
    failures_free(failures);
}
