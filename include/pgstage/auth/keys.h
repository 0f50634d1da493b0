/*
 * keys: what logins have derived, so that the next one costs one proof check.
 *
 * Maps (user, secret text) to SCRAM keys: a verifier with its salt for plain passwords in auth_file,
 * ClientKeys learned from clients' proofs (pass-through: good only towards servers that hold the very
 * same verifier), keys derived for a server's salt. Bounded; the least recently used goes. Keys learned
 * by pass-through and keys derived from a password are never mixed up. Shared: a mutex inside; any thread.
 */
#ifndef PGSTAGE_AUTH_KEYS_H
#define PGSTAGE_AUTH_KEYS_H

#include <stdbool.h>

#include "pgstage/auth/scram.h"

struct key_cache;

struct key_cache *key_cache_new(unsigned maximum_entries) __attribute__((warn_unused_result));
void key_cache_free(struct key_cache *cache);
/* Keys for this user and stored secret that fit (salt, iterations); salt NULL: the ones pgstage
 * itself chose for a plain secret. */
bool key_cache_find(struct key_cache *cache, const char *user, const char *secret,
                    const uint8_t *salt, size_t salt_bytes, uint32_t iterations,
                    struct scram_keys *keys);
void key_cache_store(struct key_cache *cache, const char *user, const char *secret,
                     const struct scram_keys *keys, bool chosen_here);

#endif
