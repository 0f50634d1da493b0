/* secrets: how long what auth_query found is believed. */
#include <criterion/criterion.h>

#include <inttypes.h>

#include "pgstage/auth/secrets.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

#define SECOND CLOCK_SECOND

static const struct secrets_ttl ttl = {10 * SECOND, 2 * SECOND};
static struct secrets *secrets;
static struct fetched copy;

static void begin(void)
{
    secrets = secrets_new(3, 3);
}

static void end(void)
{
    fetched_fini(&copy);
    secrets_free(secrets);
}

TestSuite(secrets, .init = begin, .fini = end);

static void put(const char *scope, const char *user, const char *secret, uint64_t now_us)
{
    const struct fetched fetched = {{user, secret, secret_kind_of(secret)}, UINT64_MAX, 0};
    secrets_put(secrets, scope, user, &fetched, now_us);
}

static enum secrets_answer find(const char *scope, const char *user, uint64_t now_us)
{
    fetched_fini(&copy);
    return secrets_find(secrets, scope, user, now_us, &ttl, &copy);
}

Test(secrets, an_answer_is_fresh_for_its_time)
{
    cr_assert_eq(find("a", "alice", 0), SECRETS_MISSING);
    put("a", "alice", "secret", 5 * SECOND);
    cr_assert_eq(find("a", "alice", 5 * SECOND), SECRETS_KNOWN);
    cr_assert_str_eq(copy.secret.user, "alice");
    cr_assert_str_eq(copy.secret.secret, "secret");
    cr_assert_eq(copy.secret.kind, SECRET_PLAIN);
    cr_assert_eq(find("a", "alice", 15 * SECOND - 1), SECRETS_KNOWN);
    cr_assert_eq(find("a", "alice", 15 * SECOND), SECRETS_MISSING);
    cr_assert_eq(find("a", "alice", 4 * SECOND), SECRETS_KNOWN, "another thread's clock is behind");
}

Test(secrets, that_there_is_no_such_user_is_remembered_for_less_long)
{
    secrets_put(secrets, "a", "nobody", NULL, 0);
    cr_assert_eq(find("a", "nobody", 2 * SECOND - 1), SECRETS_UNKNOWN);
    cr_assert_eq(find("a", "nobody", 2 * SECOND), SECRETS_MISSING);
    cr_assert_not(secrets_find_any(secrets, "a", "nobody", &copy));
}

Test(secrets, scopes_and_users_are_kept_apart)
{
    put("a", "alice", "one", 0);
    put("b", "alice", "two", 0);
    cr_assert_eq(find("a", "alice", 0), SECRETS_KNOWN);
    cr_assert_str_eq(copy.secret.secret, "one");
    cr_assert_eq(find("b", "alice", 0), SECRETS_KNOWN);
    cr_assert_str_eq(copy.secret.secret, "two");
    cr_assert_eq(find("", "aalice", 0), SECRETS_MISSING);
    cr_assert_eq(find("aa", "lice", 0), SECRETS_MISSING);
}

Test(secrets, the_latest_answer_counts)
{
    put("a", "alice", "old", 0);
    put("a", "alice", "new", SECOND);
    cr_assert_eq(find("a", "alice", SECOND), SECRETS_KNOWN);
    cr_assert_str_eq(copy.secret.secret, "new");
    secrets_put(secrets, "a", "alice", NULL, 2 * SECOND);
    cr_assert_eq(find("a", "alice", 2 * SECOND), SECRETS_UNKNOWN);
    cr_assert_not(secrets_find_any(secrets, "a", "alice", &copy));
    put("a", "alice", "again", 3 * SECOND);
    cr_assert_eq(find("a", "alice", 3 * SECOND), SECRETS_KNOWN);
}

Test(secrets, old_answers_go_on_serving_logins_on_servers)
{
    put("a", "alice", "secret", 0);
    cr_assert_eq(find("a", "alice", 100 * SECOND), SECRETS_MISSING);
    cr_assert(secrets_find_any(secrets, "a", "alice", &copy));
    cr_assert_str_eq(copy.secret.secret, "secret");
}

Test(secrets, after_a_reload_nothing_is_fresh_and_nothing_is_lost)
{
    put("a", "alice", "secret", 0);
    secrets_put(secrets, "a", "nobody", NULL, 0);
    secrets_expire(secrets);
    cr_assert_eq(find("a", "alice", 0), SECRETS_MISSING);
    cr_assert_eq(find("a", "nobody", 0), SECRETS_MISSING);
    cr_assert(secrets_find_any(secrets, "a", "alice", &copy));
}

Test(secrets, a_failed_login_asks_again_but_not_all_the_time)
{
    put("a", "alice", "secret", 10 * SECOND);
    cr_assert_not(secrets_doubt(secrets, "a", "alice", 10 * SECOND, SECOND));
    cr_assert_not(secrets_doubt(secrets, "a", "alice", 11 * SECOND - 1, SECOND));
    cr_assert_not(secrets_doubt(secrets, "a", "alice", 9 * SECOND, SECOND));
    cr_assert_eq(find("a", "alice", 11 * SECOND), SECRETS_KNOWN);
    cr_assert(secrets_doubt(secrets, "a", "alice", 11 * SECOND, SECOND));
    cr_assert_eq(find("a", "alice", 11 * SECOND), SECRETS_MISSING);
    cr_assert_not(secrets_doubt(secrets, "a", "bob", 11 * SECOND, SECOND));
}

Test(secrets, names_that_are_none_push_out_only_each_other)
{
    char name[16];
    put("a", "alice", "secret", 0);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "n%d", i);
        secrets_put(secrets, "a", name, NULL, 0);
    }
    cr_assert_eq(find("a", "alice", 0), SECRETS_KNOWN);
    cr_assert_eq(find("a", "n99", 0), SECRETS_UNKNOWN);
    cr_assert_eq(find("a", "n97", 0), SECRETS_UNKNOWN);
    cr_assert_eq(find("a", "n96", 0), SECRETS_MISSING);
}

Test(secrets, the_least_recently_used_user_goes)
{
    put("a", "one", "s", 0);
    put("a", "two", "s", 0);
    put("a", "three", "s", 0);
    cr_assert_eq(find("a", "one", 0), SECRETS_KNOWN);
    put("a", "four", "s", 0);
    cr_assert_eq(find("a", "two", 0), SECRETS_MISSING);
    cr_assert_eq(find("a", "one", 0), SECRETS_KNOWN);
    cr_assert_eq(find("a", "three", 0), SECRETS_KNOWN);
}

static void count(void *argument, const char *user)
{
    (void)user;
    ++*(int *)argument;
}

Test(secrets, knows_what_is_usual)
{
    int known = 0;
    cr_assert_eq(secrets_usual_kind(secrets), SECRET_NONE);
    put("a", "one", "md500112233445566778899aabbccddeeff", 0);
    cr_assert_eq(secrets_usual_kind(secrets), SECRET_MD5);
    put("a", "two", "SCRAM-SHA-256$1:c2FsdA==$a:b", 0);
    put("a", "three", "SCRAM-SHA-256$1:c2FsdA==$a:b", 0);
    cr_assert_eq(secrets_usual_kind(secrets), SECRET_SCRAM);
    secrets_put(secrets, "a", "two", NULL, 0);
    secrets_put(secrets, "a", "three", NULL, 0);
    cr_assert_eq(secrets_usual_kind(secrets), SECRET_MD5);
    secrets_each(secrets, count, &known);
    cr_assert_eq(known, 1);
}

/* ---- until when ---- */

static void is_until(const char *text, uint64_t expected_us)
{
    uint64_t until_us = 1;
    cr_expect(valid_until_parse(text, &until_us), "%s", text ? text : "(none)");
    cr_expect_eq(until_us, expected_us, "%s is %" PRIu64, text ? text : "(none)", until_us);
}

Test(valid_until, reads_what_postgresql_prints)
{
    is_until(NULL, UINT64_MAX);
    is_until("", UINT64_MAX);
    is_until("infinity", UINT64_MAX);
    is_until("-infinity", 0);
    is_until("1970-01-01 00:00:00+00", 0);
    is_until("1970-01-02 00:00:00+00", 86400 * SECOND);
    is_until("2026-01-31 18:00:00+00", UINT64_C(1769882400) * SECOND);
    is_until("2026-01-31 18:00:00.5+00", UINT64_C(1769882400) * SECOND + 500000);
    is_until("2026-01-31 18:00:00.000001+00", UINT64_C(1769882400) * SECOND + 1);
    is_until("2026-01-31 20:30:00+02:30", UINT64_C(1769882400) * SECOND);
    is_until("2026-01-31 10:00:00-08", UINT64_C(1769882400) * SECOND);
    is_until("2026-01-31T18:00:00Z", UINT64_C(1769882400) * SECOND);
    is_until("2026-01-31 18:00:00", UINT64_C(1769882400) * SECOND);
    is_until("2024-02-29", UINT64_C(1709164800) * SECOND);
    is_until("2000-03-01 00:00:00+00", UINT64_C(951868800) * SECOND);
    is_until("294276-12-31 23:59:59+00", UINT64_C(9224318015999) * SECOND);
    is_until("0044-03-15 00:00:00+00 BC", 0);
    is_until("1900-01-01 00:00:00+00", 0);
}

Test(valid_until, refuses_what_is_no_timestamp)
{
    static const char *const bad[] = {
        "never",
        "tomorrow",
        "2026",
        "2026-1-1",
        "2026-13-01",
        "2026-00-01",
        "2026-01-32",
        "20260131",
        "2026-01-31 18",
        "2026-01-31 18:00",
        "2026-01-31 25:00:00+00",
        "2026-01-31 18:60:00+00",
        "2026-01-31 18:00:00+",
        "2026-01-31 18:00:00+0",
        "2026-01-31 18:00:00.+00",
        "2026-01-31 18:00:00+24",
        "2026-01-31 18:00:00+00 AD",
        "2026-01-31 18:00:00+00x",
        "Infinity",
        "infinity ",
        " 2026-01-31",
        "1769882400",
        "2026-01-31 18:00:00 UTC",
        "t",
    };
    uint64_t until_us;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_not(valid_until_parse(bad[i], &until_us), "%s", bad[i]);
}
