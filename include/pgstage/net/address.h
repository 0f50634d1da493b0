/*
 * address: a socket address (IPv4, IPv6, Unix) as a value. Pure; any thread.
 */
#ifndef PGSTAGE_NET_ADDRESS_H
#define PGSTAGE_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* "[ipv6]:port" or a Unix path, with its NUL. */
#define ADDRESS_TEXT_BYTES 128

struct address {
    socklen_t length; /* 0: none */
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct sockaddr_un local;
    };
};

/* A numeric IPv4 or IPv6 address; false when `text` is a name. */
bool address_parse(struct address *address, const char *text, uint16_t port);
/* `<folder>/.s.PGSQL.<port>`, a folder starting with '@' is abstract; false when it is too long. */
bool address_local(struct address *address, const char *folder, uint16_t port);
bool address_from(struct address *address, const struct sockaddr *from, socklen_t length);
/* A copy of just the size that its family needs, allocated: many are kept, one for each client. */
struct address *address_copy(const struct address *address) __attribute__((warn_unused_result));
bool address_equal(const struct address *a, const struct address *b);
bool address_is_local(const struct address *address);    /* a Unix socket */
bool address_is_loopback(const struct address *address); /* 127/8, ::1 or a Unix socket */
/* 0 for a Unix socket without one. */
uint16_t address_port(const struct address *address);
/* Numeric host ("127.0.0.1", "::1") or "unix"; returns `text`. */
const char *address_host_text(const struct address *address, char text[ADDRESS_TEXT_BYTES]);
/* "127.0.0.1:5432", "[::1]:5432", "unix:/tmp/.s.PGSQL.6432"; returns `text`. */
const char *address_text(const struct address *address, char text[ADDRESS_TEXT_BYTES]);

#endif
