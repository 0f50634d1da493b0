/*
 * Addresses as values.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/net/address.h"

static void same_text(const char *host, uint16_t port, const char *expected)
{
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    cr_assert(address_parse(&address, host, port), "%s", host);
    cr_assert_str_eq(address_text(&address, text), expected);
}

Test(address, numeric_texts_come_back)
{
    same_text("127.0.0.1", 5432, "127.0.0.1:5432");
    same_text("::1", 5432, "[::1]:5432");
    same_text("2001:db8::7", 0, "[2001:db8::7]:0");
    same_text("fe80::1%7", 1, "[fe80::1%7]:1");
}

Test(address, an_ipv4_address_in_ipv6_form_is_ipv4)
{
    same_text("::ffff:10.1.2.3", 99, "10.1.2.3:99");
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(7)};
    inet_pton(AF_INET6, "::ffff:127.0.0.9", &mapped.sin6_addr);
    struct address address;
    cr_assert(address_from(&address, (struct sockaddr *)&mapped, sizeof mapped));
    cr_assert_eq(address.any.sa_family, AF_INET);
    cr_assert(address_is_loopback(&address));
    cr_assert_eq(address_port(&address), 7);
}

Test(address, names_are_not_numeric)
{
    struct address address;
    const char *names[] = {
        "localhost",        "",   "10.1",  "127.0.0.1 ",        "1.2.3.4.5", "[::1]", "fe80::1%",
        "fe80::1%nosuchif", "%1", "::1%0", "fe80::1%4294967296"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_assert_not(address_parse(&address, names[i], 1), "%s", names[i]);
}

Test(address, loopback_is_told_from_the_rest)
{
    struct address address;
    const char *loopback[] = {"127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1"};
    const char *others[] = {"128.0.0.1", "10.0.0.1", "0.0.0.0", "::", "fe80::1%1"};
    for (size_t i = 0; i < sizeof loopback / sizeof loopback[0]; i++) {
        cr_assert(address_parse(&address, loopback[i], 1));
        cr_assert(address_is_loopback(&address), "%s", loopback[i]);
        cr_assert_not(address_is_local(&address));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        cr_assert(address_parse(&address, others[i], 1));
        cr_assert_not(address_is_loopback(&address), "%s", others[i]);
    }
}

Test(address, a_unix_socket_is_named_by_folder_and_port)
{
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    cr_assert(address_local(&address, "/run/pg", 6432));
    cr_assert_str_eq(address.local.sun_path, "/run/pg/.s.PGSQL.6432");
    cr_assert_str_eq(address_text(&address, text), "unix:/run/pg/.s.PGSQL.6432");
    cr_assert_str_eq(address_host_text(&address, text), "unix");
    cr_assert_eq(address_port(&address), 6432);
    cr_assert(address_is_local(&address));
    cr_assert(address_is_loopback(&address));
}

Test(address, an_abstract_socket_has_no_path)
{
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    cr_assert(address_local(&address, "@pgstage", 5));
    cr_assert_eq(address.local.sun_path[0], '\0');
    cr_assert_eq(address.length,
                 offsetof(struct sockaddr_un, sun_path) + strlen("@pgstage/.s.PGSQL.5"));
    cr_assert_str_eq(address_text(&address, text), "unix:@pgstage/.s.PGSQL.5");
    cr_assert_eq(address_port(&address), 5);
}

Test(address, a_folder_that_is_too_long_is_refused)
{
    struct address address;
    char folder[200];
    size_t rest = strlen("/.s.PGSQL.6432");
    memset(folder, 'x', sizeof folder);
    folder[sizeof address.local.sun_path - rest] = '\0';
    cr_assert_not(address_local(&address, folder, 6432));
    cr_assert_eq(address.length, 0);
    folder[sizeof address.local.sun_path - rest - 1] = '\0';
    cr_assert(address_local(&address, folder, 6432));
}

Test(address, equality_looks_at_host_and_port)
{
    struct address a, b;
    cr_assert(address_parse(&a, "10.0.0.1", 1) && address_parse(&b, "10.0.0.1", 1));
    cr_assert(address_equal(&a, &b));
    cr_assert(address_parse(&b, "10.0.0.1", 2));
    cr_assert_not(address_equal(&a, &b));
    cr_assert(address_parse(&b, "10.0.0.2", 1));
    cr_assert_not(address_equal(&a, &b));
    cr_assert(address_parse(&a, "fe80::1%1", 1) && address_parse(&b, "fe80::1%2", 1));
    cr_assert_not(address_equal(&a, &b));
    cr_assert(address_local(&a, "/tmp", 1) && address_local(&b, "/tmp", 1));
    cr_assert(address_equal(&a, &b));
    cr_assert(address_local(&b, "/tmp", 11));
    cr_assert_not(address_equal(&a, &b));
    struct address none = {0}, nothing = {0};
    cr_assert(address_equal(&none, &nothing));
    cr_assert_not(address_equal(&none, &a));
}

Test(address, an_unnamed_unix_peer_is_still_local)
{
    struct sockaddr_un unnamed = {.sun_family = AF_UNIX};
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    cr_assert(address_from(&address, (struct sockaddr *)&unnamed, sizeof unnamed.sun_family));
    cr_assert(address_is_local(&address));
    cr_assert_str_eq(address_text(&address, text), "unix");
    cr_assert_eq(address_port(&address), 0);
}

Test(address, what_is_cut_or_foreign_is_refused)
{
    struct sockaddr_in ip4 = {.sin_family = AF_INET};
    struct address address;
    cr_assert_not(address_from(&address, (struct sockaddr *)&ip4, sizeof ip4 - 1));
    cr_assert_not(address_from(&address, (struct sockaddr *)&ip4, 1));
    ip4.sin_family = AF_APPLETALK;
    cr_assert_not(address_from(&address, (struct sockaddr *)&ip4, sizeof ip4));
    cr_assert_eq(address.length, 0);
    char text[ADDRESS_TEXT_BYTES];
    cr_assert_str_eq(address_host_text(&address, text), "?");
}
