/*
 * random: random bytes that nobody can guess, cheap in small pieces. Any thread.
 */
#ifndef PGSTAGE_BASE_RANDOM_H
#define PGSTAGE_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>

/* For what is told to a peer or dies with a connection: nonces, salts, cancel keys. Keys that last
 * are drawn from OpenSSL directly. False when OpenSSL has none to give. */
bool random_bytes(void *target, size_t count) __attribute__((warn_unused_result));

#endif
