/*
 * host: lists of servers as configurations write them.
 *
 *   pg1.example.com, pg2.example.com@10.0.0.3:5433, [::1]:5432, fe80::1, /run/postgresql
 *   name             name            address  port  name  port  name     socket folder
 *
 * The name is what a certificate must show, the address where to connect. Pure; any thread.
 */
#include "pgstage/conf/host.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"

#define HOST_NAME_MAX_BYTES 255
#define HOSTS_MAX 64

struct span {
    const char *start, *end;
};

static struct span span_trim(struct span span)
{
    while (span.start < span.end && isspace((unsigned char)*span.start))
        span.start++;
    while (span.start < span.end && isspace((unsigned char)span.end[-1]))
        span.end--;
    return span;
}

static size_t span_length(struct span span)
{
    return (size_t)(span.end - span.start);
}

static bool port_parse(struct span text, uint16_t *port, char *problem, size_t size)
{
    unsigned value = 0;
    size_t length = span_length(text);
    for (size_t i = 0; i < length && value <= 65535; i++) {
        if (!isdigit((unsigned char)text.start[i])) {
            value = 0;
            break;
        }
        value = value * 10 + (unsigned)(text.start[i] - '0');
    }
    if (value == 0 || value > 65535) {
        snprintf(problem, size, "\"%.*s\" is not a port (1 to 65535)",
                 (int)(length > 40 ? 40 : length), text.start);
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* Cuts the port off the end of `host[:port]` and the brackets off an IPv6 address. */
static bool port_cut(struct span *host, uint16_t *port, char *problem, size_t size)
{
    struct span after;
    if (host->start < host->end && *host->start == '[') {
        const char *close = memchr(host->start, ']', span_length(*host));
        if (!close) {
            snprintf(problem, size, "\"%.*s\" has no closing bracket",
                     (int)span_length(*host) > 60 ? 60 : (int)span_length(*host), host->start);
            return false;
        }
        after = (struct span){close + 1, host->end};
        *host = (struct span){host->start + 1, close};
        if (after.start == after.end)
            return true;
        if (*after.start != ':') {
            snprintf(problem, size, "only :port may follow the bracket of an IPv6 address");
            return false;
        }
    } else {
        const char *colon = memchr(host->start, ':', span_length(*host));
        /* Two colons and no brackets: an IPv6 address alone. */
        if (!colon || memchr(colon + 1, ':', (size_t)(host->end - colon - 1)))
            return true;
        after = (struct span){colon, host->end};
        host->end = colon;
    }
    after.start++;
    return port_parse(after, port, problem, size);
}

static bool name_check(struct span name, const char *what, char *problem, size_t size)
{
    size_t length = span_length(name);
    if (length == 0) {
        snprintf(problem, size, "a host has no %s", what);
        return false;
    }
    if (length > HOST_NAME_MAX_BYTES) {
        snprintf(problem, size, "a host's %s is longer than %d bytes", what, HOST_NAME_MAX_BYTES);
        return false;
    }
    for (const char *at = name.start; at < name.end; at++) {
        if (isgraph((unsigned char)*at) || (unsigned char)*at >= 0x80)
            continue;
        snprintf(problem, size, "\"%.*s\" is not a host's %s", (int)length, name.start, what);
        return false;
    }
    return true;
}

bool socket_folder_fits(const char *folder, uint16_t port)
{
    char digits[8];
    int length = snprintf(digits, sizeof(digits), "%u", port);
    return strlen(folder) + strlen(SOCKET_FILE) + (size_t)length <= SOCKET_PATH_MAX_BYTES;
}

static bool host_parse(struct arena *arena, struct span text, uint16_t port,
                       struct host_config *host, char *problem, size_t size)
{
    host->port = port;
    if (text.start < text.end && (*text.start == '/' || *text.start == '@')) {
        /* A folder may hold a colon only before a port, as elsewhere. */
        if (!port_cut(&text, &host->port, problem, size) ||
            !name_check(text, "socket folder", problem, size))
            return false;
        host->name = arena_copy_n(arena, text.start, span_length(text));
        if (socket_folder_fits(host->name, host->port))
            return true;
        snprintf(problem, size, SOCKET_TOO_LONG, host->name, host->port, SOCKET_PATH_MAX_BYTES);
        return false;
    }
    struct span name = text;
    const char *at = span_length(text) ? memchr(text.start, '@', span_length(text)) : NULL;
    if (at) {
        struct span address = {at + 1, text.end};
        name.end = at;
        if (!port_cut(&address, &host->port, problem, size) ||
            !name_check(address, "address", problem, size))
            return false;
        host->address = arena_copy_n(arena, address.start, span_length(address));
    } else if (!port_cut(&name, &host->port, problem, size)) {
        return false;
    }
    if (!name_check(name, "name", problem, size))
        return false;
    host->name = arena_copy_n(arena, name.start, span_length(name));
    return true;
}

bool host_list_parse(struct arena *arena, const char *text, uint16_t port,
                     const struct host_config **hosts, size_t *count, char *problem, size_t size)
{
    size_t places = 1;
    for (const char *at = text; *at; at++)
        places += *at == ',';
    if (places > HOSTS_MAX) {
        snprintf(problem, size, "%zu hosts are more than %d", places, HOSTS_MAX);
        return false;
    }
    struct host_config *list = arena_get(arena, places * sizeof(*list));
    for (size_t i = 0; i < places; i++) {
        const char *end = strchr(text, ',');
        struct span one = {text, end ? end : text + strlen(text)};
        if (!host_parse(arena, span_trim(one), port, &list[i], problem, size))
            return false;
        text = one.end + (end != NULL);
    }
    *hosts = list;
    *count = places;
    return true;
}

bool host_is_socket(const struct host_config *host)
{
    return host->name[0] == '/' || host->name[0] == '@';
}

/* The usual text of a numeric address; NULL: it is none. */
static char *numeric_canonical(const char *name)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
    char text[INET6_ADDRSTRLEN] = "";
    if (getaddrinfo(name, NULL, &hints, &found) != 0)
        return NULL;
    if (found->ai_family == AF_INET) {
        struct sockaddr_in address;
        memcpy(&address, found->ai_addr, sizeof(address));
        inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
    } else if (found->ai_family == AF_INET6) {
        struct sockaddr_in6 address;
        memcpy(&address, found->ai_addr, sizeof(address));
        if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr))
            inet_ntop(AF_INET, &address.sin6_addr.s6_addr[12], text, sizeof(text));
        else
            inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof(text));
    }
    freeaddrinfo(found);
    /* The address that means any is this machine when one connects to it. */
    if (strcmp(text, "0.0.0.0") == 0)
        return text_copy("127.0.0.1");
    return text_copy(strcmp(text, "::") == 0 ? "::1" : text);
}

char *host_canonical(const char *name, bool links)
{
    if (name[0] == '@')
        return text_copy(name);
    if (name[0] == '/') {
        char *real = links ? realpath(name, NULL) : NULL, *out;
        if (real)
            return real;
        char *path = out = text_copy(name);
        for (const char *at = name; *at; at++)
            if (*at != '/' || (at[1] != '/' && at[1]))
                *out++ = *at;
        *out = '\0';
        return path;
    }
    char *numeric = numeric_canonical(name);
    if (numeric)
        return numeric;
    char *lower = text_copy(name);
    size_t length = strlen(lower);
    for (char *at = lower; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    if (length > 1 && lower[length - 1] == '.')
        lower[length - 1] = '\0';
    if (strcmp(lower, "localhost") == 0) {
        free(lower);
        return text_copy("127.0.0.1");
    }
    return lower;
}

bool host_name_is_loopback(const char *name)
{
    char *canonical = host_canonical(name, false);
    bool any = strcmp(name, "0.0.0.0") == 0 || strcmp(name, "::") == 0 || strcmp(name, "*") == 0;
    bool loopback = !any && (text_starts_with(canonical, "127.") || strcmp(canonical, "::1") == 0);
    /* 127.example.com is a name. */
    loopback = loopback && canonical[strspn(canonical, "0123456789.:")] == '\0';
    free(canonical);
    return loopback;
}

char *host_print(const struct host_config *host)
{
    bool bracket = !host->address && strchr(host->name, ':');
    bool address_bracket = host->address && strchr(host->address, ':');
    return text_print("%s%s%s%s%s%s%s:%u", bracket ? "[" : "", host->name, bracket ? "]" : "",
                      host->address ? "@" : "", address_bracket ? "[" : "",
                      host->address ? host->address : "", address_bracket ? "]" : "", host->port);
}

bool host_lists_equal(const struct host_config *a, size_t a_count, const struct host_config *b,
                      size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (!text_equal(a[i].name, b[i].name) || !text_equal(a[i].address, b[i].address) ||
            a[i].port != b[i].port)
            return false;
    return true;
}
