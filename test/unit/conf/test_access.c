/* Who gets into an environment, and until when. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"
#include "pgstage/base/clock.h"
#include "pgstage/conf/access.h"
#include "pgstage/env/route.h"

TestSuite(access, .init = desk_set, .fini = desk_clear);

#define ENVIRONMENT "[environment e]\nclass = review_apps\nhosts = h\n"

static struct sockaddr_in from4(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    cr_assert_eq(inet_pton(AF_INET, text, &address.sin_addr), 1);
    return address;
}

Test(access, without_lists_everybody_may)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENT);
    const struct environment_config *e = snapshot_find_environment(snapshot, "e");
    struct sockaddr_in address = from4("203.0.113.1");
    cr_expect(environment_allows_user(e, "anyone"));
    cr_expect(environment_allows_address(e, (struct sockaddr *)&address));
    cr_expect_not(environment_is_expired(e, UINT64_MAX));
    snapshot_unref(snapshot);
}

Test(access, only_listed_users_may_and_case_counts)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENT "allow_users = app, deploy bot ,x\n");
    const struct environment_config *e = snapshot_find_environment(snapshot, "e");
    cr_expect(environment_allows_user(e, "app"));
    cr_expect(environment_allows_user(e, "deploy bot"));
    cr_expect(environment_allows_user(e, "x"));
    cr_expect_not(environment_allows_user(e, "App"));
    cr_expect_not(environment_allows_user(e, "deploy"));
    cr_expect_not(environment_allows_user(e, ""));
    snapshot_unref(snapshot);
}

Test(access, only_listed_addresses_may)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENT "allow_from = 10.0.0.0/8, ::1\n");
    const struct environment_config *e = snapshot_find_environment(snapshot, "e");
    struct sockaddr_in inside = from4("10.9.9.9"), outside = from4("192.0.2.1");
    struct sockaddr local = {.sa_family = AF_UNIX};
    cr_expect(environment_allows_address(e, (struct sockaddr *)&inside));
    cr_expect(environment_allows_address(e, &local));
    cr_expect_not(environment_allows_address(e, (struct sockaddr *)&outside));
    snapshot_unref(snapshot);
}

Test(access, every_wrong_address_is_reported)
{
    desk_refuses(ENVIRONMENT "allow_from = 10.0.0.0/33, here, ::1\n", 4, "10.0.0.0/33");
    cr_expect(desk_said(4, "\"here\" is not an address"));
}

/* A variable that is empty would otherwise open the environment to everybody. */
Test(access, a_list_that_names_nobody_is_a_mistake)
{
    desk_refuses(ENVIRONMENT "allow_users = ${NOTHING_HERE:-}\n", 4, "names no user");
    desk_refuses(ENVIRONMENT "allow_users = ,\n", 4, "allow_users");
    desk_refuses(ENVIRONMENT "allow_from = ${NOTHING_HERE:-}\n", 4, "names no address");
    desk_refuses(ENVIRONMENT "allow_from = ,\n", 4, "allow_from");
}

Test(access, an_empty_value_that_stands_there_is_none)
{
    snapshot_unref(desk_accepts(ENVIRONMENT "allow_users = a\nallow_users =\nallow_from =\n"));
}

Test(access, the_lists_belong_to_environments)
{
    desk_refuses("[pgstage]\nallow_from = 10.0.0.0/8\n", 2, "belong");
    desk_refuses("[pgstage]\nexpires_at = 2030-01-01\n", 2, "belong");
}

/* ---- moments ---- */

static const char *moment(const char *text)
{
    static char printed[32];
    uint64_t wall_us;
    char problem[256];
    if (!access_time_parse(text, &wall_us, problem, sizeof problem))
        return "?";
    access_time_print(wall_us, printed, sizeof printed);
    return printed;
}

Test(access, a_day_counts_until_it_ends)
{
    cr_expect_str_eq(moment("2026-01-31"), "2026-02-01T00:00:00Z");
    cr_expect_str_eq(moment("2028-02-29"), "2028-03-01T00:00:00Z");
}

Test(access, a_moment_has_its_zone)
{
    cr_expect_str_eq(moment("2026-01-31T18:00:00Z"), "2026-01-31T18:00:00Z");
    cr_expect_str_eq(moment("2026-01-31 18:00Z"), "2026-01-31T18:00:00Z");
    cr_expect_str_eq(moment("2026-01-31T18:00:00+02:00"), "2026-01-31T16:00:00Z");
    cr_expect_str_eq(moment("2026-01-31T18:00-0530"), "2026-01-31T23:30:00Z");
    cr_expect_str_eq(moment("2026-01-31T23:00-05"), "2026-02-01T04:00:00Z");
}

Test(access, what_is_no_moment_is_refused)
{
    static const char *const wrong[] = {"",
                                        "tomorrow",
                                        "2026",
                                        "2026-13-01",
                                        "2026-00-01",
                                        "2026-02-30",
                                        "2027-02-29",
                                        "2026-1-31",
                                        "2026-01-31T18:00:00",
                                        "1969-12-31",
                                        "2026-01-31T24:00Z",
                                        "2026-01-31T18:60Z",
                                        "2026-01-31T",
                                        "2026-01-31T18Z",
                                        "2026-01-31T18:00:00Z+1",
                                        "2026-01-31T18:00:00+02:",
                                        "2026-01-31T18:00:00+2",
                                        "2026-01-31x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_str_eq(moment(wrong[i]), "?", "%s", wrong[i]);
}

Test(access, a_wrong_moment_is_told_with_its_line)
{
    desk_refuses(ENVIRONMENT "expires_at = tomorrow\n", 4, "\"tomorrow\" is no time");
}

Test(access, an_environment_is_expired_from_its_moment_on)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENT "expires_at = 2040-01-01T00:00:10Z\n");
    const struct environment_config *e = snapshot_find_environment(snapshot, "e");
    uint64_t end_us = 2208988810ull * CLOCK_SECOND;
    cr_expect_not(environment_is_expired(e, end_us - 1));
    cr_expect(environment_is_expired(e, end_us));
    snapshot_unref(snapshot);
}

Test(access, one_that_has_expired_already_is_a_warning)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENT "expires_at = 2020-01-01\n");
    cr_expect(desk_said(4, "has expired"));
    snapshot_unref(snapshot);
}

/* ---- what a refused route tells ---- */

#define TWO                                                                                        \
    "[environment open]\nclass = review_apps\nhosts = h\n"                                         \
    "[environment closed]\nclass = review_apps\nhosts = i\nallow_users = boss\n"                   \
    "[environment far]\nclass = review_apps\nhosts = j\nallow_from = 10.0.0.0/8\n"                 \
    "[databases]\napp =\n"

static void expect_told(const char *user, const char *address, const char *told)
{
    struct snapshot *snapshot = desk_accepts(TWO);
    struct sockaddr_in from = from4(address);
    struct route_request request = {
        .database = "app", .user = user, .from = (struct sockaddr *)&from};
    struct route route;
    enum route_result result = route_find(snapshot, &request, &route);
    char *text = route_explain(snapshot, &request, result);
    cr_expect_eq(result, ROUTE_AMBIGUOUS);
    cr_expect_str_eq(text, told);
    free(text);
    snapshot_unref(snapshot);
}

Test(access, a_refused_route_names_only_what_this_client_may_use)
{
    expect_told("app", "192.0.2.1", "database \"app\" needs an environment: connect to app@open");
    expect_told("boss", "192.0.2.1",
                "database \"app\" needs an environment: connect to one of app@open, app@closed");
    expect_told("app", "10.1.1.1",
                "database \"app\" needs an environment: connect to one of app@open, app@far");
}

/* ---- proxies ---- */

Test(access, proxy_headers_need_somebody_to_believe)
{
    desk_refuses("[pgstage]\nproxy_protocol = yes\n", 2, "proxy_protocol_from");
    desk_refuses("[listener l]\nlisten_port = 1\nproxy_protocol = yes\n", 3, "proxy_protocol_from");
    desk_refuses("[pgstage]\nproxy_protocol = yes\nproxy_protocol_from = lb.example.com\n", 3,
                 "not an address");
}

Test(access, a_listener_believes_its_own_list_or_pgstages)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nproxy_protocol_from = 10.0.0.1\n"
                     "[listener a]\nlisten_port = 1\nproxy_protocol = yes\n"
                     "[listener b]\nlisten_port = 2\nproxy_protocol_from = 10.0.0.2\n");
    struct sockaddr_in one = from4("10.0.0.1");
    const bool believed[] = {true, true, false};
    for (size_t i = 0; i < 3; i++)
        cr_expect_eq(
            cidr_list_holds(&snapshot_listener(snapshot, i)->proxy_from, (struct sockaddr *)&one),
            believed[i]);
    snapshot_unref(snapshot);
}

/* ---- certificates ---- */

Test(access, a_certificate_of_an_environment_needs_its_key)
{
    desk_write("c.pem", "x");
    desk_refuses(ENVIRONMENT "sni = e.test\nclient_tls_cert_file = c.pem\n", 5, "need each other");
    desk_refuses(ENVIRONMENT "sni = e.test\nclient_tls_key_file = c.pem\n", 5, "need each other");
}
