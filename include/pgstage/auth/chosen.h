/*
 * chosen: salts and keys that pgstage itself chooses, for secrets that are plain passwords and for
 * users that do not exist. Any thread; a key cache is shared.
 */
#ifndef PGSTAGE_AUTH_CHOSEN_H
#define PGSTAGE_AUTH_CHOSEN_H

#include <stdbool.h>

#include "pgstage/auth/keys.h"
#include "pgstage/auth/scram.h"
#include "pgstage/conf/users.h"

/* The salt and iterations for this user, in a verifier that no proof matches. False: no random
 * bytes. */
bool chosen_challenge(struct key_cache *cache, const char *user, struct scram_verifier *challenge)
    __attribute__((warn_unused_result));
/* Keys that were derived for this secret and challenge before. */
bool chosen_find(struct key_cache *cache, const struct user_secret *secret,
                 const struct scram_verifier *challenge, struct scram_keys *keys)
    __attribute__((warn_unused_result));
/* Finds them, or derives (slow: on an offload thread) and keeps them. False when OpenSSL fails. */
bool chosen_derive(struct key_cache *cache, const struct user_secret *secret,
                   const struct scram_verifier *challenge, struct scram_keys *keys)
    __attribute__((warn_unused_result));

#endif
