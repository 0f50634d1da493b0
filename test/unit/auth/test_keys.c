/* keys: derived SCRAM keys are kept, found again, and pushed out by nobody else. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "pgstage/auth/keys.h"

static struct key_cache *cache;

static void open_cache(void)
{
    cache = key_cache_new(3);
}

static void close_cache(void)
{
    key_cache_free(cache);
}

TestSuite(keys, .init = open_cache, .fini = close_cache);

/* Recognisable keys of this salt. */
static struct scram_keys keys_of(const char *salt, uint32_t iterations, uint8_t mark)
{
    struct scram_keys keys = {.iterations = iterations, .salt_bytes = strlen(salt)};
    memcpy(keys.salt, salt, strlen(salt));
    memset(keys.client_key, mark, SCRAM_KEY_BYTES);
    return keys;
}

static void store(const char *user, const char *secret, const char *salt, uint8_t mark, bool chosen)
{
    struct scram_keys keys = keys_of(salt, 4096, mark);
    key_cache_store(cache, user, secret, &keys, chosen);
}

/* The mark of the keys found, 0 when there are none. */
static unsigned find(const char *user, const char *secret, const char *salt, uint32_t iterations)
{
    struct scram_keys keys;
    bool found = key_cache_find(cache, user, secret, (const uint8_t *)salt, salt ? strlen(salt) : 0,
                                iterations, &keys);
    return found ? keys.client_key[0] : 0;
}

Test(keys, are_found_by_user_secret_salt_and_iterations)
{
    store("alice", "secret", "salt", 7, false);
    cr_assert_eq(find("alice", "secret", "salt", 4096), 7);
    cr_assert_eq(find("bob", "secret", "salt", 4096), 0);
    cr_assert_eq(find("alice", "other", "salt", 4096), 0);
    cr_assert_eq(find("alice", "secret", "sale", 4096), 0);
    cr_assert_eq(find("alice", "secret", "salt+", 4096), 0);
    cr_assert_eq(find("alice", "secret", "sal", 4096), 0);
    cr_assert_eq(find("alice", "secret", "salt", 4095), 0);
}

Test(keys, of_a_changed_secret_are_not_the_old_ones)
{
    store("alice", "old", "salt", 7, true);
    cr_assert_eq(find("alice", "new", NULL, 0), 0);
    store("alice", "new", "salt", 8, true);
    cr_assert_eq(find("alice", "new", NULL, 0), 8);
}

Test(keys, names_and_secrets_do_not_run_together)
{
    store("ab", "c", "salt", 7, true);
    cr_assert_eq(find("a", "bc", NULL, 0), 0);
}

Test(keys, chosen_here_are_told_apart_from_those_of_servers)
{
    store("alice", "secret", "theirs", 7, false);
    cr_assert_eq(find("alice", "secret", NULL, 0), 0);
    store("alice", "secret", "ours", 8, true);
    cr_assert_eq(find("alice", "secret", NULL, 0), 8);
    cr_assert_eq(find("alice", "secret", "theirs", 4096), 7);
}

Test(keys, chosen_anew_replace_the_former_chosen_ones)
{
    store("alice", "secret", "first", 7, true);
    store("alice", "secret", "second", 8, true);
    cr_assert_eq(find("alice", "secret", NULL, 0), 8);
    cr_assert_eq(find("alice", "secret", "first", 4096), 0);
}

Test(keys, of_several_servers_live_side_by_side)
{
    char salt[2] = "a";
    for (unsigned i = 0; i < KEY_CACHE_SLOTS; i++, salt[0]++)
        store("alice", "secret", salt, (uint8_t)(i + 1), false);
    salt[0] = 'a';
    for (unsigned i = 0; i < KEY_CACHE_SLOTS; i++, salt[0]++)
        cr_expect_eq(find("alice", "secret", salt, 4096), i + 1);
}

Test(keys, of_a_server_that_changes_its_salt_push_out_their_own_user_only)
{
    store("bob", "secret", "salt", 99, true);
    for (unsigned i = 0; i < 1000; i++) {
        char salt[16];
        snprintf(salt, sizeof salt, "salt %u", i);
        store("alice", "secret", salt, 7, false);
    }
    cr_assert_eq(find("bob", "secret", NULL, 0), 99);
    cr_assert_eq(find("alice", "secret", "salt 999", 4096), 7);
    cr_assert_eq(find("alice", "secret", "salt 0", 4096), 0);
}

Test(keys, that_are_used_outlive_those_that_are_not)
{
    store("a", "s", "salt", 1, true);
    store("b", "s", "salt", 2, true);
    store("c", "s", "salt", 3, true);
    cr_assert_eq(find("a", "s", NULL, 0), 1);
    store("d", "s", "salt", 4, true);
    cr_assert_eq(find("b", "s", NULL, 0), 0, "the least recently used one goes");
    cr_assert_eq(find("a", "s", NULL, 0), 1);
    cr_assert_eq(find("c", "s", NULL, 0), 3);
    cr_assert_eq(find("d", "s", NULL, 0), 4);
}

Test(keys, cache_of_zero_holds_one)
{
    struct key_cache *small = key_cache_new(0);
    struct scram_keys keys = keys_of("salt", 1, 5), found;
    key_cache_store(small, "a", "s", &keys, true);
    cr_assert(key_cache_find(small, "a", "s", NULL, 0, 0, &found));
    key_cache_store(small, "b", "s", &keys, true);
    cr_assert_not(key_cache_find(small, "a", "s", NULL, 0, 0, &found));
    key_cache_free(small);
}

Test(keys, iterations_are_bounded)
{
    cr_assert_eq(key_cache_iterations(cache), SCRAM_ITERATIONS_DEFAULT);
    key_cache_set_iterations(cache, 10000);
    cr_assert_eq(key_cache_iterations(cache), 10000);
    key_cache_set_iterations(cache, 0);
    key_cache_set_iterations(cache, SCRAM_ITERATIONS_MAX + 1);
    cr_assert_eq(key_cache_iterations(cache), 10000);
}
