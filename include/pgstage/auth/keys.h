/*
 * keys: what logins have derived, so that the next one costs one proof check.
 *
 * Maps (user, secret text) to SCRAM keys: a verifier with its salt for plain passwords in
 * auth_file, ClientKeys learned from clients' proofs (pass-through: good only towards servers that
 * hold the very same verifier), keys derived for a server's salt. Bounded; the least recently used
 * goes. Keys learned by pass-through and keys derived from a password are never mixed up: the
 * secret's text is part of the name under which keys are kept, so a changed secret never finds old
 * keys either. Shared: a mutex inside; any thread.
 */
#ifndef PGSTAGE_AUTH_KEYS_H
#define PGSTAGE_AUTH_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/auth/scram.h"

struct key_cache;

/* Keys for one user and secret kept at once: pgstage's own and those of several servers' salts. */
#define KEY_CACHE_SLOTS 8

/* `maximum_entries`: how many (user, secret) pairs, at least 1. */
struct key_cache *key_cache_new(unsigned maximum_entries) __attribute__((warn_unused_result));
/* Wipes everything. Nobody may use it any more; NULL is nothing. */
void key_cache_free(struct key_cache *cache);
/* The option scram_iterations: for keys that pgstage chooses (SCRAM_ITERATIONS_DEFAULT until said
 * otherwise). Keys made with another count are made again at the next login. Out of bounds:
 * ignored. */
void key_cache_set_iterations(struct key_cache *cache, uint32_t iterations);
uint32_t key_cache_iterations(struct key_cache *cache);
/* Keys for this user and stored secret that fit (salt, iterations); salt NULL: the ones pgstage
 * itself chose for a plain secret. */
bool key_cache_find(struct key_cache *cache, const char *user, const char *secret,
                    const uint8_t *salt, size_t salt_bytes, uint32_t iterations,
                    struct scram_keys *keys) __attribute__((warn_unused_result));
/* Keeps a copy; keys of the same salt and iterations (or, if chosen here, the former chosen ones)
 * are replaced. */
void key_cache_store(struct key_cache *cache, const char *user, const char *secret,
                     const struct scram_keys *keys, bool chosen_here);

#endif
