/* The PROXY protocol's header: good ones, their beginnings, and what is none. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/wire/proxy.h"
#include "piece.h"

static const uint8_t signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* A header of version 2 in `out`; its length. */
static size_t v2(uint8_t *out, uint8_t command, uint8_t family, const void *body, size_t length)
{
    memcpy(out, signature, 12);
    out[12] = command;
    out[13] = family;
    out[14] = (uint8_t)(length >> 8);
    out[15] = (uint8_t)length;
    if (length)
        memcpy(out + 16, body, length);
    return 16 + length;
}

/* What the first `length` bytes alone give. */
static const char *read_header(const void *data, size_t length, size_t *total);

static const char *read_cut(const void *data, size_t length)
{
    uint8_t *piece = piece_of(data, length);
    const char *told = read_header(piece, length, NULL);
    free(piece);
    return told;
}

/* "address port" of the source, "-" when there is none, "?" for PARTIAL, "!" for BAD. */
static const char *read_header(const void *data, size_t length, size_t *total)
{
    static char text[80];
    struct proxy_header header;
    switch (proxy_parse(data, length, &header)) {
    case PROXY_PARTIAL:
        return "?";
    case PROXY_BAD:
        cr_expect_not_null(header.problem);
        return "!";
    case PROXY_OK:
        break;
    }
    if (total)
        *total = header.total_bytes;
    if (!header.has_source)
        return "-";
    char address[INET6_ADDRSTRLEN];
    bool ip4 = header.source.any.sa_family == AF_INET;
    inet_ntop(header.source.any.sa_family,
              ip4 ? (void *)&header.source.ip4.sin_addr : (void *)&header.source.ip6.sin6_addr,
              address, sizeof address);
    snprintf(text, sizeof text, "%s %u", address,
             ntohs(ip4 ? header.source.ip4.sin_port : header.source.ip6.sin6_port));
    return text;
}

static const char *line(const char *text)
{
    return read_header(text, strlen(text), NULL);
}

Test(proxy, version_1_tells_the_source)
{
    cr_expect_str_eq(line("PROXY TCP4 192.0.2.1 198.51.100.7 51000 6432\r\n"), "192.0.2.1 51000");
    cr_expect_str_eq(line("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n"), "2001:db8::1 65535");
}

Test(proxy, version_1_may_not_know)
{
    cr_expect_str_eq(line("PROXY UNKNOWN\r\n"), "-");
    cr_expect_str_eq(line("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), "-");
}

Test(proxy, what_follows_is_the_clients)
{
    static const char text[] = "PROXY TCP4 192.0.2.1 198.51.100.7 51000 6432\r\nrest";
    size_t total;
    read_header(text, sizeof text - 1, &total);
    cr_expect_str_eq(text + total, "rest");
    uint8_t bytes[64];
    size_t length = v2(bytes, 0x21, 0x11, "\xc0\0\2\1\xc6\x33\x64\7\xc7\x38\x19\x20", 12);
    memcpy(bytes + length, "more", 4);
    cr_expect_str_eq(read_header(bytes, length + 4, &total), "192.0.2.1 51000");
    cr_expect_eq(total, length);
}

Test(proxy, every_beginning_of_a_header_is_partial)
{
    static const char text[] = "PROXY TCP6 2001:db8::1 2001:db8::2 51000 6432\r\n";
    uint8_t bytes[300], body[220] = {0};
    for (size_t i = 0; i < sizeof text - 1; i++)
        cr_expect_str_eq(read_cut(text, i), "?", "%zu", i);
    size_t length = v2(bytes, 0x21, 0x31, body, 216);
    for (size_t i = 0; i < length; i++)
        cr_expect_str_eq(read_cut(bytes, i), "?", "%zu", i);
    cr_expect_str_eq(read_header(bytes, length, NULL), "-");
}

Test(proxy, lines_that_are_not_exact_are_refused)
{
    static const char *const wrong[] = {
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 51000\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 51000 6432 7\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 51000 6432 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.7 51000 6432\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 51000 6432\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 051000 6432\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 65536 6432\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 -1 6432\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 \r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.7 51000 6432\r\n",
        "PROXY TCP4 ::1 ::1 51000 6432\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.7 51000 6432\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.7 51000 6432\r\n",
        "PROXY UNKNOWNX\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.7 51000 6432\r\n",
        "GET / HTTP/1.1\r\n",
        "PROXX",
        "Q",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_str_eq(line(wrong[i]), "!", "%s", wrong[i]);
}

Test(proxy, a_line_that_does_not_end_is_refused_at_its_limit)
{
    char text[120];
    memset(text, 'x', sizeof text);
    memcpy(text, "PROXY UNKNOWN ", 14);
    cr_expect_str_eq(read_header(text, 106, NULL), "?");
    cr_expect_str_eq(read_header(text, 107, NULL), "!");
    memcpy(text + 105, "\r\n", 2);
    cr_expect_str_eq(read_header(text, 107, NULL), "-");
    text[50] = '\0';
    cr_expect_str_eq(read_header(text, 107, NULL), "!");
}

Test(proxy, version_2_tells_the_source)
{
    uint8_t bytes[128], body[36] = {0x20, 1, 0x0d, 0xb8};
    body[15] = 9;
    body[33] = 77;
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x21, 0x21, body, 36), NULL), "2001:db8::9 77");
}

Test(proxy, local_and_unspecified_connections_are_the_proxys_own)
{
    uint8_t bytes[128], body[20] = {10, 0, 0, 1};
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x20, 0x00, NULL, 0), NULL), "-");
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x20, 0x11, body, 12), NULL), "-");
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x20, 0xff, body, 20), NULL), "-");
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x21, 0x00, body, 20), NULL), "-");
}

Test(proxy, records_behind_the_addresses_must_fill_the_header)
{
    uint8_t bytes[128], body[32] = {192, 0, 2, 1};
    memcpy(body + 12, "\4\0\3abc\5\0\0", 9);
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x21, 0x11, body, 21), NULL), "192.0.2.1 0");
    cr_expect_str_eq(read_header(bytes, v2(bytes, 0x21, 0x11, body, 18), NULL), "192.0.2.1 0");
    for (size_t length = 0; length < 21; length++)
        if (length != 12 && length != 18)
            cr_expect_str_eq(read_header(bytes, v2(bytes, 0x21, 0x11, body, length), NULL), "!",
                             "%zu", length);
}

Test(proxy, what_is_unknown_in_version_2_is_refused)
{
    uint8_t bytes[128], body[36] = {0};
    static const uint8_t commands[] = {0x00, 0x11, 0x22, 0x2f, 0x31},
                         families[] = {0x01, 0x10, 0x12, 0x22, 0x32, 0x41, 0xff};
    for (size_t i = 0; i < sizeof commands; i++)
        cr_expect_str_eq(read_header(bytes, v2(bytes, commands[i], 0x11, body, 12), NULL), "!");
    for (size_t i = 0; i < sizeof families; i++)
        cr_expect_str_eq(read_header(bytes, v2(bytes, 0x21, families[i], body, 36), NULL), "!");
}

Test(proxy, a_header_that_would_be_too_long_is_refused_at_once)
{
    uint8_t bytes[16];
    v2(bytes, 0x21, 0x11, NULL, 0);
    bytes[14] = 0x0f, bytes[15] = 0xf0;
    cr_expect_str_eq(read_header(bytes, 16, NULL), "?");
    bytes[15] = 0xf1;
    cr_expect_str_eq(read_header(bytes, 16, NULL), "!");
}
