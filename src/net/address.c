/*
 * address: socket addresses as values.
 *
 * An IPv4 address that arrives in its IPv6 form (::ffff:10.0.0.1) is kept as IPv4, so that one
 * machine has one text and one answer to "is it loopback", whichever socket it came through. A Unix
 * address holds no more than its path: `length` says where that ends, whether or not a NUL follows.
 */
#include "pgstage/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"

#define LOCAL_PATH_OFFSET offsetof(struct sockaddr_un, sun_path)
#define LOCAL_PORT_PREFIX ".s.PGSQL."

static void set_ip4(struct address *address, struct in_addr host, in_port_t port)
{
    memset(address, 0, sizeof *address);
    address->ip4.sin_family = AF_INET;
    address->ip4.sin_port = port;
    address->ip4.sin_addr = host;
    address->length = sizeof address->ip4;
}

static void set_ip6(struct address *address, const struct in6_addr *host, in_port_t port,
                    uint32_t scope)
{
    if (IN6_IS_ADDR_V4MAPPED(host)) {
        struct in_addr host4;
        memcpy(&host4, host->s6_addr + 12, sizeof host4);
        set_ip4(address, host4, port);
        return;
    }
    memset(address, 0, sizeof *address);
    address->ip6.sin6_family = AF_INET6;
    address->ip6.sin6_port = port;
    address->ip6.sin6_addr = *host;
    address->ip6.sin6_scope_id = scope;
    address->length = sizeof address->ip6;
}

/* "fe80::1%eth0", "fe80::1%2": a link-local address means nothing without its interface. */
static bool parse_scoped(struct address *address, const char *text, const char *percent,
                         uint16_t port)
{
    char host_text[INET6_ADDRSTRLEN];
    size_t length = (size_t)(percent - text);
    if (length >= sizeof host_text)
        return false;
    memcpy(host_text, text, length);
    host_text[length] = '\0';
    struct in6_addr host;
    if (inet_pton(AF_INET6, host_text, &host) != 1)
        return false;
    uint32_t scope = if_nametoindex(percent + 1);
    if (scope == 0) {
        char *end;
        errno = 0;
        unsigned long number = strtoul(percent + 1, &end, 10);
        if (errno || end == percent + 1 || *end || number == 0 || number > UINT32_MAX)
            return false;
        scope = (uint32_t)number;
    }
    set_ip6(address, &host, htons(port), scope);
    return true;
}

bool address_parse(struct address *address, const char *text, uint16_t port)
{
    struct in_addr host4;
    struct in6_addr host6;
    if (inet_pton(AF_INET, text, &host4) == 1) {
        set_ip4(address, host4, htons(port));
        return true;
    }
    if (inet_pton(AF_INET6, text, &host6) == 1) {
        set_ip6(address, &host6, htons(port), 0);
        return true;
    }
    const char *percent = strchr(text, '%');
    return percent && parse_scoped(address, text, percent, port);
}

bool address_local(struct address *address, const char *folder, uint16_t port)
{
    memset(address, 0, sizeof *address);
    char *path = address->local.sun_path;
    size_t size = sizeof address->local.sun_path;
    int length = snprintf(path, size, "%s/" LOCAL_PORT_PREFIX "%u", folder, port);
    if (length < 0 || (size_t)length >= size) {
        memset(address, 0, sizeof *address);
        return false;
    }
    address->local.sun_family = AF_UNIX;
    address->length = (socklen_t)(LOCAL_PATH_OFFSET + (size_t)length);
    if (path[0] == '@')
        path[0] = '\0'; /* abstract: the length ends the name */
    else
        address->length++; /* the NUL of a path counts */
    return true;
}

bool address_from(struct address *address, const struct sockaddr *from, socklen_t length)
{
    memset(address, 0, sizeof *address);
    if (length < sizeof from->sa_family)
        return false;
    if (from->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *ip4 = (const struct sockaddr_in *)from;
        set_ip4(address, ip4->sin_addr, ip4->sin_port);
        return true;
    }
    if (from->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *ip6 = (const struct sockaddr_in6 *)from;
        set_ip6(address, &ip6->sin6_addr, ip6->sin6_port, ip6->sin6_scope_id);
        return true;
    }
    if (from->sa_family == AF_UNIX && length <= sizeof address->local) {
        memcpy(&address->local, from, length);
        address->length = length;
        return true;
    }
    return false;
}

/* The bytes of a Unix path or abstract name, without the NUL behind a path. */
static size_t local_length(const struct address *address)
{
    if (address->length <= LOCAL_PATH_OFFSET)
        return 0;
    size_t length = address->length - LOCAL_PATH_OFFSET;
    const char *path = address->local.sun_path;
    return path[0] ? strnlen(path, length) : length;
}

struct address *address_copy(const struct address *address)
{
    size_t length = address->length > sizeof(address->any) ? address->length : sizeof(address->any);
    size_t size = offsetof(struct address, any) + length;
    struct address *copy = memory_get(size);

    memcpy(copy, address, size);
    return copy;
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->length == 0 || b->length == 0)
        return a->length == b->length;
    if (a->any.sa_family != b->any.sa_family)
        return false;
    switch (a->any.sa_family) {
    case AF_INET:
        return a->ip4.sin_port == b->ip4.sin_port &&
               a->ip4.sin_addr.s_addr == b->ip4.sin_addr.s_addr;
    case AF_INET6:
        return a->ip6.sin6_port == b->ip6.sin6_port &&
               a->ip6.sin6_scope_id == b->ip6.sin6_scope_id &&
               IN6_ARE_ADDR_EQUAL(&a->ip6.sin6_addr, &b->ip6.sin6_addr);
    case AF_UNIX:
        return local_length(a) == local_length(b) &&
               memcmp(a->local.sun_path, b->local.sun_path, local_length(a)) == 0;
    default:
        return false;
    }
}

bool address_is_local(const struct address *address)
{
    return address->length > 0 && address->any.sa_family == AF_UNIX;
}

bool address_is_loopback(const struct address *address)
{
    if (address->length == 0)
        return false;
    switch (address->any.sa_family) {
    case AF_INET:
        return ntohl(address->ip4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&address->ip6.sin6_addr);
    default:
        return address->any.sa_family == AF_UNIX;
    }
}

/* The digits behind the last ".s.PGSQL." of a Unix address. */
static uint16_t local_port(const struct address *address)
{
    size_t length = local_length(address), prefix = sizeof LOCAL_PORT_PREFIX - 1;
    const char *path = address->local.sun_path;
    size_t start = length;
    while (start > 0 && path[start - 1] >= '0' && path[start - 1] <= '9')
        start--;
    if (start == length || length - start > 5 || start < prefix ||
        memcmp(path + start - prefix, LOCAL_PORT_PREFIX, prefix) != 0)
        return 0;
    unsigned port = 0;
    for (size_t i = start; i < length; i++)
        port = port * 10 + (unsigned)(path[i] - '0');
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

uint16_t address_port(const struct address *address)
{
    if (address->length == 0)
        return 0;
    switch (address->any.sa_family) {
    case AF_INET:
        return ntohs(address->ip4.sin_port);
    case AF_INET6:
        return ntohs(address->ip6.sin6_port);
    case AF_UNIX:
        return local_port(address);
    default:
        return 0;
    }
}

const char *address_host_text(const struct address *address, char text[ADDRESS_TEXT_BYTES])
{
    const char *done = NULL;
    if (address->length > 0 && address->any.sa_family == AF_INET) {
        done = inet_ntop(AF_INET, &address->ip4.sin_addr, text, ADDRESS_TEXT_BYTES);
    } else if (address->length > 0 && address->any.sa_family == AF_INET6) {
        done = inet_ntop(AF_INET6, &address->ip6.sin6_addr, text, ADDRESS_TEXT_BYTES);
        if (done && address->ip6.sin6_scope_id) {
            size_t length = strlen(text);
            snprintf(text + length, ADDRESS_TEXT_BYTES - length, "%%%u",
                     address->ip6.sin6_scope_id);
        }
    } else if (address_is_local(address)) {
        done = strcpy(text, "unix");
    }
    return done ? done : strcpy(text, "?");
}

const char *address_text(const struct address *address, char text[ADDRESS_TEXT_BYTES])
{
    if (address_is_local(address)) {
        size_t length = local_length(address);
        const char *path = address->local.sun_path;
        if (length == 0)
            return strcpy(text, "unix");
        if (path[0])
            snprintf(text, ADDRESS_TEXT_BYTES, "unix:%.*s", (int)length, path);
        else
            snprintf(text, ADDRESS_TEXT_BYTES, "unix:@%.*s", (int)length - 1, path + 1);
        return text;
    }
    char host[ADDRESS_TEXT_BYTES];
    address_host_text(address, host);
    bool bracketed = address->length > 0 && address->any.sa_family == AF_INET6;
    snprintf(text, ADDRESS_TEXT_BYTES, bracketed ? "[%.*s]:%u" : "%.*s:%u", INET6_ADDRSTRLEN + 12,
             host, address_port(address));
    return text;
}
