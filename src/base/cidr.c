/*
 * cidr: blocks of addresses. Owns nothing; any thread.
 *
 *     10.1.0.0/16   bytes 0a 01 | 00 00      the first `bits` bits are compared
 *
 * IPv4 in IPv6 form is reduced to IPv4 on both sides, so that a machine is in a block or not,
 * whichever kind of socket it came through.
 */
#include "pgstage/base/cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void clear_behind(struct cidr *cidr)
{
    for (unsigned i = 0; i < cidr->address_bytes; i++) {
        unsigned first = i * 8;
        if (first >= cidr->bits)
            cidr->bytes[i] = 0;
        else if (cidr->bits - first < 8)
            cidr->bytes[i] &= (uint8_t)(0xff << (8 - (cidr->bits - first)));
    }
}

/* The address alone, as a block that holds only it. */
static bool parse_address(struct cidr *cidr, const char *text)
{
    memset(cidr, 0, sizeof *cidr);
    if (inet_pton(AF_INET, text, cidr->bytes) == 1)
        cidr->address_bytes = 4;
    else if (inet_pton(AF_INET6, text, cidr->bytes) == 1)
        cidr->address_bytes = 16;
    cidr->bits = (uint8_t)(cidr->address_bytes * 8);
    return cidr->address_bytes > 0;
}

static void reduce_mapped(struct cidr *cidr)
{
    if (cidr->address_bytes != 16 || cidr->bits < 96 ||
        memcmp(cidr->bytes, mapped_prefix, sizeof mapped_prefix) != 0)
        return;
    memmove(cidr->bytes, cidr->bytes + 12, 4);
    memset(cidr->bytes + 4, 0, 12);
    cidr->address_bytes = 4;
    cidr->bits = (uint8_t)(cidr->bits - 96);
}

static bool parse_bits(struct cidr *cidr, const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 3 || text[digits])
        return false;
    long bits = strtol(text, NULL, 10);
    if (bits > cidr->address_bytes * 8)
        return false;
    cidr->bits = (uint8_t)bits;
    return true;
}

bool cidr_parse(struct cidr *cidr, const char *text, char *problem, size_t size)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);
    bool fits = length < sizeof address;
    if (fits) {
        memcpy(address, text, length);
        address[length] = '\0';
    }
    if (!fits || !parse_address(cidr, address)) {
        snprintf(problem, size, "\"%.60s\" is not an address or block such as 10.0.0.0/8", text);
        return false;
    }
    if (slash && !parse_bits(cidr, slash + 1)) {
        snprintf(problem, size, "\"%.60s\": the number behind the / is 0 to %d", text,
                 cidr->address_bytes * 8);
        return false;
    }
    clear_behind(cidr);
    reduce_mapped(cidr);
    return true;
}

bool cidr_parse_mask(struct cidr *cidr, const char *address, const char *mask, char *problem,
                     size_t size)
{
    struct cidr ones;
    unsigned bits = 0;
    if (!parse_address(cidr, address)) {
        snprintf(problem, size, "\"%.60s\" is not an address", address);
        return false;
    }
    bool good = parse_address(&ones, mask) && ones.address_bytes == cidr->address_bytes;
    while (good && bits < cidr->bits && (ones.bytes[bits / 8] & (0x80 >> bits % 8)))
        bits++;
    for (unsigned rest = bits; good && rest < cidr->bits; rest++)
        good = !(ones.bytes[rest / 8] & (0x80 >> rest % 8));
    if (!good) {
        snprintf(problem, size, "\"%.60s\" is not a mask for %.60s", mask, address);
        return false;
    }
    cidr->bits = (uint8_t)bits;
    clear_behind(cidr);
    reduce_mapped(cidr);
    return true;
}

static bool holds_bytes(const struct cidr *cidr, const uint8_t *bytes, unsigned count)
{
    unsigned whole = cidr->bits / 8, rest = cidr->bits % 8;
    if (cidr->address_bytes != count || memcmp(cidr->bytes, bytes, whole) != 0)
        return false;
    return rest == 0 || ((cidr->bytes[whole] ^ bytes[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

bool cidr_holds(const struct cidr *cidr, const struct sockaddr *address)
{
    static const uint8_t loopback4[4] = {127, 0, 0, 1};
    if (!address)
        return false;
    switch (address->sa_family) {
    case AF_INET: {
        struct sockaddr_in ip4;
        memcpy(&ip4, address, sizeof ip4);
        return holds_bytes(cidr, (const uint8_t *)&ip4.sin_addr, 4);
    }
    case AF_INET6: {
        struct sockaddr_in6 ip6;
        memcpy(&ip6, address, sizeof ip6);
        if (IN6_IS_ADDR_V4MAPPED(&ip6.sin6_addr))
            return holds_bytes(cidr, ip6.sin6_addr.s6_addr + 12, 4);
        return holds_bytes(cidr, ip6.sin6_addr.s6_addr, 16);
    }
    case AF_UNIX:
        return holds_bytes(cidr, loopback4, 4) || holds_bytes(cidr, in6addr_loopback.s6_addr, 16);
    default:
        return false;
    }
}

bool cidr_list_holds(const struct cidr_list *list, const struct sockaddr *address)
{
    for (size_t i = 0; i < list->count; i++)
        if (cidr_holds(&list->items[i], address))
            return true;
    return false;
}
