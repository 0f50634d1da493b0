/*
 * proxy: the PROXY protocol's header, versions 1 (text) and 2 (binary), with which a load balancer
 * tells whose connection it passes on. Pure; any thread.
 */
#ifndef PGSTAGE_WIRE_PROXY_H
#define PGSTAGE_WIRE_PROXY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest header that is taken: version 2 may carry further records behind the addresses. */
#define PROXY_MAX_BYTES 4096

enum proxy_result { PROXY_OK, PROXY_PARTIAL, PROXY_BAD };

struct proxy_header {
    size_t total_bytes; /* of the header: what follows is the client's */
    /* Is `source` the client's address? If not (LOCAL, UNKNOWN, a Unix socket of the proxy's
     * machine), the connection is the proxy's own. */
    bool has_source;
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
    } source;
    const char *problem; /* PROXY_BAD: what is wrong */
};

/* Looks at the first `available` bytes of a connection. PROXY_PARTIAL: all of them belong to the
 * header, and more does; nonsense is refused as soon as its first byte shows it. */
enum proxy_result proxy_parse(const uint8_t *data, size_t available, struct proxy_header *header);

#endif
