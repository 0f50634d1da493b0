/*
 * proxy: reads the PROXY protocol's header (HAProxy's proxy-protocol.txt). Owns nothing.
 *
 *   version 1:  PROXY TCP4 192.0.2.1 198.51.100.7 51000 6432\r\n          (at most 107 bytes)
 *
 *   version 2:  0 ......... 11   12        13         14..15     16 …
 *              | signature    | version | family  | length of  | source, destination, their ports,
 *              |              | command | protocol| the rest   | then records: type, length, bytes
 *
 * Whoever may send one can say it comes from anywhere; who may is the caller's to know. What is not
 * exactly a header is refused: the proxy and we would not agree on where the client's bytes begin.
 */
#include "pgstage/wire/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#include "pgstage/wire/frame.h"

#define V1_MAX_BYTES 107
#define V2_HEADER_BYTES 16
#define V2_IP4_BYTES 12
#define V2_IP6_BYTES 36
#define V2_UNIX_BYTES 216
#define RECORD_HEADER_BYTES 3

static const uint8_t v1_signature[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_signature[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                       0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static enum proxy_result bad(struct proxy_header *header, const char *problem)
{
    header->problem = problem;
    return PROXY_BAD;
}

static bool begins_with(const uint8_t *data, size_t available, const uint8_t *signature,
                        size_t length)
{
    return memcmp(data, signature, available < length ? available : length) == 0;
}

/* ---- version 1 ---- */

/* The next word of the line, cut at exactly one blank; NULL: none. */
static char *next_word(char **rest)
{
    char *word = *rest, *blank = word ? strchr(word, ' ') : NULL;
    if (!word || !*word || word == blank)
        return NULL;
    if (blank)
        *blank = '\0';
    *rest = blank ? blank + 1 : NULL;
    return word;
}

static bool read_port(const char *text, in_port_t *port)
{
    unsigned value = 0;
    if (!text || (text[0] == '0' && text[1]))
        return false;
    for (size_t i = 0; text[i]; i++) {
        if (text[i] < '0' || text[i] > '9' || i >= 5)
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *port = htons((uint16_t)value);
    return text[0] && value <= UINT16_MAX;
}

static bool read_source(struct proxy_header *header, int family, const char *source,
                        const char *destination, in_port_t port)
{
    uint8_t unused[16];
    if (!source || !destination || inet_pton(family, destination, unused) != 1)
        return false;
    header->has_source = true;
    header->source.any.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        header->source.ip4.sin_port = port;
        return inet_pton(family, source, &header->source.ip4.sin_addr) == 1;
    }
    header->source.ip6.sin6_port = port;
    return inet_pton(family, source, &header->source.ip6.sin6_addr) == 1;
}

/* What stands between "PROXY " and the end of the line. */
static enum proxy_result parse_line(char *line, struct proxy_header *header)
{
    char *rest = line, *kind = next_word(&rest);
    in_port_t source_port, destination_port;
    if (kind && strcmp(kind, "UNKNOWN") == 0)
        return PROXY_OK;
    bool ip4 = kind && strcmp(kind, "TCP4") == 0;
    if (!ip4 && !(kind && strcmp(kind, "TCP6") == 0))
        return bad(header, "the PROXY line names no protocol that is known");
    const char *source = next_word(&rest), *destination = next_word(&rest);
    const char *first = next_word(&rest), *second = next_word(&rest);
    if (rest || !read_port(first, &source_port) || !read_port(second, &destination_port) ||
        !read_source(header, ip4 ? AF_INET : AF_INET6, source, destination, source_port))
        return bad(header, "the PROXY line has no good addresses and ports");
    return PROXY_OK;
}

static enum proxy_result parse_v1(const uint8_t *data, size_t available,
                                  struct proxy_header *header)
{
    char line[V1_MAX_BYTES + 1];
    size_t most = available < V1_MAX_BYTES ? available : V1_MAX_BYTES;
    const uint8_t *end = memchr(data, '\n', most);
    if (!end)
        return most == V1_MAX_BYTES ? bad(header, "the PROXY line does not end") : PROXY_PARTIAL;
    size_t length = (size_t)(end - data);
    header->total_bytes = length + 1;
    if (data[length - 1] != '\r' || memchr(data, '\0', length))
        return bad(header, "the PROXY line does not end as it should");
    length -= sizeof v1_signature + 1;
    memcpy(line, data + sizeof v1_signature, length);
    line[length] = '\0';
    return parse_line(line, header);
}

/* ---- version 2 ---- */

/* The records behind the addresses fill the rest exactly. What they say is not needed. */
static bool records_fit(const uint8_t *data, size_t length)
{
    while (length >= RECORD_HEADER_BYTES) {
        size_t body = wire_get_u16(data + 1);
        if (body > length - RECORD_HEADER_BYTES)
            return false;
        data += RECORD_HEADER_BYTES + body;
        length -= RECORD_HEADER_BYTES + body;
    }
    return length == 0;
}

static enum proxy_result parse_addresses(const uint8_t *data, size_t length, uint8_t family,
                                         struct proxy_header *header)
{
    size_t address_bytes;
    switch (family) {
    case 0x00: /* the proxy does not know */
        return PROXY_OK;
    case 0x11:
        address_bytes = V2_IP4_BYTES;
        break;
    case 0x21:
        address_bytes = V2_IP6_BYTES;
        break;
    case 0x31:
        address_bytes = V2_UNIX_BYTES;
        break;
    default:
        return bad(header, "the PROXY header's address family is not known");
    }
    if (address_bytes > length)
        return bad(header, "the PROXY header is too short for its addresses");
    if (!records_fit(data + address_bytes, length - address_bytes))
        return bad(header, "the PROXY header's records do not fit into it");
    header->has_source = family != 0x31;
    if (family == 0x11) {
        header->source.ip4.sin_family = AF_INET;
        memcpy(&header->source.ip4.sin_addr, data, 4);
        memcpy(&header->source.ip4.sin_port, data + 8, 2);
    } else if (family == 0x21) {
        header->source.ip6.sin6_family = AF_INET6;
        memcpy(&header->source.ip6.sin6_addr, data, 16);
        memcpy(&header->source.ip6.sin6_port, data + 32, 2);
    }
    return PROXY_OK;
}

static enum proxy_result parse_v2(const uint8_t *data, size_t available,
                                  struct proxy_header *header)
{
    if (available > 12 && data[12] != 0x20 && data[12] != 0x21)
        return bad(header, "the PROXY header's version or command is not known");
    if (available < V2_HEADER_BYTES)
        return PROXY_PARTIAL;
    size_t length = wire_get_u16(data + 14);
    if (length > PROXY_MAX_BYTES - V2_HEADER_BYTES)
        return bad(header, "the PROXY header is too long");
    header->total_bytes = V2_HEADER_BYTES + length;
    if (header->total_bytes > available)
        return PROXY_PARTIAL;
    if (data[12] == 0x20) /* LOCAL: the proxy's own connection, a health check */
        return PROXY_OK;
    return parse_addresses(data + V2_HEADER_BYTES, length, data[13], header);
}

enum proxy_result proxy_parse(const uint8_t *data, size_t available, struct proxy_header *header)
{
    memset(header, 0, sizeof *header);
    if (available == 0)
        return PROXY_PARTIAL;
    if (begins_with(data, available, v1_signature, sizeof v1_signature))
        return parse_v1(data, available, header);
    if (begins_with(data, available, v2_signature, sizeof v2_signature))
        return parse_v2(data, available, header);
    return bad(header, "a PROXY header was expected");
}
