/*
 * cidr: blocks of addresses (10.0.0.0/8, 2001:db8::/32) and whether an address is in one. Values
 * without memory of their own; pure; any thread.
 */
#ifndef PGSTAGE_BASE_CIDR_H
#define PGSTAGE_BASE_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

struct cidr {
    uint8_t address_bytes; /* 4 or 16 */
    uint8_t bits;          /* how many of them count */
    uint8_t bytes[16];     /* zero behind `bits` */
};

/* The memory of `items` is whoever's made it. */
struct cidr_list {
    const struct cidr *items;
    size_t count;
};

/* `address/bits` or one address. False when it is neither; then `problem` says what is wrong. An
 * IPv4 block in IPv6 form (::ffff:10.0.0.0/104) becomes IPv4. */
bool cidr_parse(struct cidr *cidr, const char *text, char *problem, size_t size);
/* An address and a mask (255.255.0.0), as two words of pg_hba.conf. */
bool cidr_parse_mask(struct cidr *cidr, const char *address, const char *mask, char *problem,
                     size_t size);
/* Is this address in the block? A Unix socket is where 127.0.0.1 or ::1 is. An IPv4 address in
 * IPv6 form counts as IPv4. NULL is nowhere. */
bool cidr_holds(const struct cidr *cidr, const struct sockaddr *address);
/* In any block of the list; an empty one holds nothing. */
bool cidr_list_holds(const struct cidr_list *list, const struct sockaddr *address);

#endif
