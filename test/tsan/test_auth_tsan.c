/*
 * ThreadSanitizer over the auth room: logins of several users on several threads at once, all with
 * one key cache, and one memory of what auth_query found, that are too small for them, while the
 * iterations change; every derivation runs on a thread of its own, as offloaded ones do. A plain
 * program (Criterion does not start under ThreadSanitizer): exit status 0 when every login ended as
 * it had to; the sanitizer reports the rest.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/auth/exchange.h"
#include "pgstage/auth/login.h"
#include "pgstage/auth/secrets.h"

#define THREADS 4
#define LOGINS 300
#define USERS 6

static struct key_cache *cache;
static struct secrets *found;
static struct user_secret secrets[USERS];
static atomic_uint wrong;

static void *derive_elsewhere(void *auth)
{
    auth_client_derive(auth);
    return NULL;
}

/* A cleartext login, whose derivation runs elsewhere. */
static enum auth_step log_in_plainly(const struct user_secret *secret, const char *password)
{
    struct buffer out = {0};
    pthread_t thread;
    struct auth_client *auth = auth_client_new(AUTH_PLAIN, secret->user, secret, true, cache);
    enum auth_step step = auth_client_start(auth, &out);
    if (step == AUTH_SEND)
        step = auth_client_feed(auth, (const uint8_t *)password, strlen(password) + 1, &out);
    if (step == AUTH_DERIVE) {
        if (pthread_create(&thread, NULL, derive_elsewhere, auth) != 0)
            abort();
        pthread_join(thread, NULL);
        step = auth_client_resume(auth, &out);
    }
    auth_client_free(auth);
    buffer_fini(&out);
    return step;
}

static enum auth_step log_in_by_scram(const struct user_secret *secret, const char *password)
{
    struct buffer out = {0};
    struct auth_client *auth = auth_client_new(AUTH_SCRAM, secret->user, secret, true, cache);
    enum auth_step step = scram_login(auth, password, &out, NULL);
    auth_client_free(auth);
    buffer_fini(&out);
    return step;
}

/* What auth_query has found, remembered and forgotten by all threads at once. */
static void remember(unsigned number, unsigned i)
{
    static const struct secrets_ttl ttl = {1000, 100};
    const struct user_secret *secret = &secrets[(i + number) % USERS];
    const struct fetched fetched = {*secret, UINT64_MAX, 0};
    struct fetched copy = {0};
    secrets_put(found, "scope", secret->user, i % 5 ? &fetched : NULL, i);
    if (secrets_find(found, "scope", secret->user, i, &ttl, &copy) == SECRETS_KNOWN &&
        strcmp(copy.secret.user, secret->user) != 0)
        atomic_fetch_add(&wrong, 1);
    fetched_fini(&copy);
    if (secrets_find_any(found, "scope", secret->user, &copy) && !copy.secret.secret)
        atomic_fetch_add(&wrong, 1);
    fetched_fini(&copy);
    (void)secrets_doubt(found, "scope", secret->user, i, 0);
    (void)secrets_usual_kind(found);
    if (i % 50 == 0)
        secrets_expire(found);
}

static void *run(void *argument)
{
    unsigned number = *(const unsigned *)argument;
    for (unsigned i = 0; i < LOGINS; i++) {
        const struct user_secret *secret = &secrets[(i + number) % USERS];
        bool is_right = i % 3 != 0;
        const char *password = is_right ? "secret" : "Secret";
        enum auth_step step =
            i % 2 ? log_in_plainly(secret, password) : log_in_by_scram(secret, password);
        if (step != (is_right ? AUTH_OK : AUTH_FAILED))
            atomic_fetch_add(&wrong, 1);
        remember(number, i);
        if (number == 0 && i % 50 == 0)
            key_cache_set_iterations(cache, 2 + i / 50 % 2);
        if (number == 1 && i % 10 == 0 && !auth_warm(secret, cache))
            atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

int main(void)
{
    static char names[USERS][8];
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    char *verifier = verifier_text("secret", "salt", 3);
    cache = key_cache_new(USERS / 2);
    found = secrets_new(USERS / 2, 2);
    key_cache_set_iterations(cache, 2);
    for (unsigned i = 0; i < USERS; i++) {
        snprintf(names[i], sizeof names[i], "user%u", i);
        secrets[i] = i % 2 ? (struct user_secret){names[i], verifier, SECRET_SCRAM}
                           : (struct user_secret){names[i], "secret", SECRET_PLAIN};
    }
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, run, &numbers[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    key_cache_free(cache);
    secrets_free(found);
    free(verifier);
    printf("%u logins, %u ended wrongly\n", THREADS * LOGINS, atomic_load(&wrong));
    return atomic_load(&wrong) > 0;
}
