/*
 * chosen: SCRAM for secrets that are plain passwords.
 *
 * The salt of a user is made from the name, under a key of this process, and is the same whether
 * the user exists, has logged in before, or was forgotten by the cache: so a stranger who asks for
 * challenges learns nothing from them. Only the derivation could tell, by its time, that a user
 * exists and has not logged in yet; auth_warm does it before anybody asks. Owns nothing; any
 * thread.
 */
#include "pgstage/auth/chosen.h"

#include "pgstage/auth/login.h"
#include "pgstage/base/text.h"

bool chosen_challenge(struct key_cache *cache, const char *user, struct scram_verifier *challenge)
{
    if (!scram_verifier_mock(user, challenge))
        return false;
    challenge->iterations = key_cache_iterations(cache);
    return true;
}

bool chosen_find(struct key_cache *cache, const struct user_secret *secret,
                 const struct scram_verifier *challenge, struct scram_keys *keys)
{
    return key_cache_find(cache, secret->user, secret->secret, NULL, 0, 0, keys) &&
           keys->iterations == challenge->iterations;
}

bool chosen_derive(struct key_cache *cache, const struct user_secret *secret,
                   const struct scram_verifier *challenge, struct scram_keys *keys)
{
    /* several clients may have waited for the same keys */
    if (chosen_find(cache, secret, challenge, keys))
        return true;
    if (!scram_derive(secret->secret, challenge->salt, challenge->salt_bytes, challenge->iterations,
                      keys))
        return false;
    key_cache_store(cache, secret->user, secret->secret, keys, true);
    return true;
}

bool auth_warm(const struct user_secret *secret, struct key_cache *keys)
{
    struct scram_verifier challenge;
    struct scram_keys made = {0};
    if (secret->kind != SECRET_PLAIN || !secret->secret || !secret->secret[0])
        return true;
    bool good = chosen_challenge(keys, secret->user, &challenge) &&
                chosen_derive(keys, secret, &challenge, &made);
    text_wipe(&made, sizeof made);
    return good;
}
