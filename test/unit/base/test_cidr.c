/* Blocks of addresses: what they hold, and what is no block. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/un.h>

#include "pgstage/base/cidr.h"

static bool holds(const char *block, const char *address)
{
    struct cidr cidr;
    char problem[128];
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
    } from = {0};
    cr_assert(cidr_parse(&cidr, block, problem, sizeof problem), "%s", problem);
    if (inet_pton(AF_INET, address, &from.ip4.sin_addr) == 1)
        from.any.sa_family = AF_INET;
    else if (inet_pton(AF_INET6, address, &from.ip6.sin6_addr) == 1)
        from.any.sa_family = AF_INET6;
    else
        from.any.sa_family = AF_UNIX;
    return cidr_holds(&cidr, &from.any);
}

Test(cidr, a_block_holds_what_shares_its_bits)
{
    cr_expect(holds("10.0.0.0/8", "10.255.3.4"));
    cr_expect_not(holds("10.0.0.0/8", "11.0.0.1"));
    cr_expect(holds("192.168.1.128/25", "192.168.1.200"));
    cr_expect_not(holds("192.168.1.128/25", "192.168.1.127"));
    cr_expect(holds("172.16.0.0/12", "172.31.255.255"));
    cr_expect_not(holds("172.16.0.0/12", "172.32.0.0"));
    cr_expect(holds("2001:db8::/33", "2001:db8:7fff::1"));
    cr_expect_not(holds("2001:db8::/33", "2001:db8:8000::1"));
}

Test(cidr, one_address_holds_itself_alone)
{
    cr_expect(holds("10.1.2.3", "10.1.2.3"));
    cr_expect_not(holds("10.1.2.3", "10.1.2.2"));
    cr_expect(holds("::1", "::1"));
    cr_expect_not(holds("::1", "::2"));
}

Test(cidr, nothing_is_as_wide_as_its_own_family)
{
    cr_expect(holds("0.0.0.0/0", "203.0.113.9"));
    cr_expect_not(holds("0.0.0.0/0", "2001:db8::1"));
    cr_expect(holds("::/0", "2001:db8::1"));
    cr_expect_not(holds("::/0", "203.0.113.9"));
}

Test(cidr, bits_behind_the_length_do_not_count)
{
    cr_expect(holds("10.1.2.3/8", "10.9.9.9"));
    cr_expect(holds("2001:db8::ffff/32", "2001:db8:1::"));
}

Test(cidr, ip4_in_ip6_form_is_ip4_on_both_sides)
{
    cr_expect(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
    cr_expect(holds("::ffff:10.0.0.0/104", "10.1.2.3"));
    cr_expect_not(holds("::ffff:10.0.0.0/104", "11.1.2.3"));
    cr_expect(holds("::ffff:10.0.0.1", "10.0.0.1"));
}

Test(cidr, a_unix_socket_is_where_loopback_is)
{
    cr_expect(holds("127.0.0.0/8", "unix"));
    cr_expect(holds("::1", "unix"));
    cr_expect_not(holds("10.0.0.0/8", "unix"));
    cr_expect_not(holds("127.0.0.2", "unix"));
}

Test(cidr, nonsense_is_refused_with_the_word_that_is_wrong)
{
    static const char *const wrong[] = {
        "",           "/",      "10.0.0.0/",   "10.0.0.0/33", "10.0.0.0/-1",
        "10.0.0/8",   "::/129", "10.0.0.0/8x", "example.com", "10.0.0.0/ 8",
        "10.0.0.256", "[::1]",  "1.2.3.4:80",  "fe80::1%lo",  "10.0.0.0/0008"};
    struct cidr cidr;
    char problem[128];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        problem[0] = '\0';
        cr_expect_not(cidr_parse(&cidr, wrong[i], problem, sizeof problem), "%s", wrong[i]);
        cr_expect(strstr(problem, wrong[i]) != NULL, "%s: %s", wrong[i], problem);
    }
}

Test(cidr, a_mask_is_a_run_of_ones)
{
    struct cidr cidr;
    char problem[128];
    cr_assert(cidr_parse_mask(&cidr, "10.1.0.0", "255.255.0.0", problem, sizeof problem));
    cr_expect_eq(cidr.bits, 16);
    cr_assert(cidr_parse_mask(&cidr, "::", "::", problem, sizeof problem));
    cr_expect_eq(cidr.bits, 0);
    cr_assert(cidr_parse_mask(&cidr, "1.2.3.4", "255.255.255.255", problem, sizeof problem));
    cr_expect_eq(cidr.bits, 32);
    cr_expect_not(cidr_parse_mask(&cidr, "10.1.0.0", "255.0.255.0", problem, sizeof problem));
    cr_expect_not(cidr_parse_mask(&cidr, "10.1.0.0", "ffff::", problem, sizeof problem));
    cr_expect_not(cidr_parse_mask(&cidr, "x", "255.0.0.0", problem, sizeof problem));
}

Test(cidr, a_list_holds_what_one_of_its_blocks_holds)
{
    struct cidr items[2];
    char problem[128];
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct cidr_list list = {items, 2}, none = {items, 0};
    cr_assert(cidr_parse(&items[0], "10.0.0.0/8", problem, sizeof problem));
    cr_assert(cidr_parse(&items[1], "192.0.2.7", problem, sizeof problem));
    from.sin_addr.s_addr = htonl(0xc0000207);
    cr_expect(cidr_list_holds(&list, (struct sockaddr *)&from));
    cr_expect_not(cidr_list_holds(&none, (struct sockaddr *)&from));
    from.sin_addr.s_addr = htonl(0xc0000208);
    cr_expect_not(cidr_list_holds(&list, (struct sockaddr *)&from));
    cr_expect_not(cidr_list_holds(&list, NULL));
}
