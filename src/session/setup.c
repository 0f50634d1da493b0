/*
 * setup.c: one configuration as the workers use it: the snapshot with the TLS contexts that it asks
 * for.
 *
 * Contexts for clients stand with their listener. Contexts for servers are made once for each
 * policy (the same files, mode and ciphers) and shared by all pools that have it, since each holds
 * a parsed CA bundle. A setup is never changed after it was published, but for that cache; a reload
 * makes a new one, which is how rotated certificates come into use.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/worker.h"

struct server_policy {
    char *key;
    struct tls_context *tls;
    UT_hash_handle hh;
};

struct server_policies {
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct server_policy *by_key;
};

static const struct listener_config *listener_of(const struct snapshot *snapshot,
                                                 const struct door *door)
{
    for (size_t i = 0; i < snapshot_listener_count(snapshot); i++) {
        const struct listener_config *listener = snapshot_listener(snapshot, i);

        if (text_equal(listener->name, door->listener_name))
            return listener;
    }
    return NULL;
}

/* A client that names an environment's server (`sni`) is shown the environment's certificate. The
 * handshake belongs to a login, which holds the setup. */
static struct tls_context *choose_tls(void *argument, const char *server_name)
{
    const struct setup_door *door = argument;
    const struct environment_config *environment = snapshot_find_sni(door->snapshot, server_name);

    return environment ? door->tls_by_environment[environment->index] : NULL;
}

/* The contexts of one door: its own, and one for each environment with a certificate. */
static bool make_tls(struct setup_door *door, char *problem, size_t size)
{
    size_t count = snapshot_environment_count(door->snapshot);
    struct tls_settings tls;

    tls_settings_of_clients(&tls, door->listener->settings);
    tls.asks_certificate = door->listener->asks_certificate;
    if (tls.mode == TLS_DISABLE)
        return true;
    door->tls = tls_context_for_clients(&tls, problem, size);
    if (!door->tls)
        return false;
    door->tls_by_environment = memory_new((count + 1) * sizeof(struct tls_context *));
    for (size_t i = 0; i < count; i++) {
        const struct environment_config *environment = snapshot_environment(door->snapshot, i);

        if (!environment->client_cert_file)
            continue;
        tls.cert_file = environment->client_cert_file;
        tls.key_file = environment->client_key_file;
        door->tls_by_environment[i] = tls_context_for_clients(&tls, problem, size);
        if (!door->tls_by_environment[i])
            return false;
    }
    tls_context_choose(door->tls, choose_tls, door);
    return true;
}

struct setup *setup_new(struct snapshot *snapshot, const struct door *doors, size_t door_count,
                        char *problem, size_t size)
{
    struct setup *setup = memory_new(sizeof(*setup) + door_count * sizeof(setup->doors[0]));

    atomic_init(&setup->references, 1);
    setup->snapshot = snapshot_ref(snapshot);
    setup->policies = memory_new(sizeof(*setup->policies));
    pthread_mutex_init(&setup->policies->mutex, NULL);
    setup->door_count = door_count;
    for (size_t i = 0; i < door_count; i++) {
        setup->doors[i].snapshot = snapshot;
        setup->doors[i].listener = listener_of(snapshot, &doors[i]);
        if (!setup->doors[i].listener) {
            text_fit(problem, size, "a listener is gone: listeners change with a restart only");
            goto failed;
        }
        if (!make_tls(&setup->doors[i], problem, size))
            goto failed;
    }
    return setup;
failed:
    setup_unref(setup);
    return NULL;
}

struct setup *setup_ref(struct setup *setup)
{
    atomic_fetch_add_explicit(&setup->references, 1, memory_order_relaxed);
    return setup;
}

static void policies_free(struct server_policies *policies)
{
    struct server_policy *policy, *next;

    HASH_ITER (hh, policies->by_key, policy, next) {
        HASH_DEL(policies->by_key, policy);
        tls_context_unref(policy->tls);
        free(policy->key);
        free(policy);
    }
    pthread_mutex_destroy(&policies->mutex);
    free(policies);
}

void setup_unref(struct setup *setup)
{
    if (!setup || atomic_fetch_sub_explicit(&setup->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < setup->door_count; i++) {
        struct setup_door *door = &setup->doors[i];

        for (size_t j = 0;
             door->tls_by_environment && j < snapshot_environment_count(door->snapshot); j++)
            tls_context_unref(door->tls_by_environment[j]);
        free(door->tls_by_environment);
        tls_context_unref(door->tls);
    }
    policies_free(setup->policies);
    snapshot_unref(setup->snapshot);
    free(setup);
}

static char *policy_key(const struct tls_settings *tls)
{
#define OR_NONE(text) ((text) ? (text) : "")
    return text_print("%d\n%s\n%s\n%s\n%s\n%s\n%s\n%s", (int)tls->mode, OR_NONE(tls->ca_file),
                      OR_NONE(tls->cert_file), OR_NONE(tls->key_file), OR_NONE(tls->crl_file),
                      OR_NONE(tls->protocols), OR_NONE(tls->ciphers), OR_NONE(tls->ciphersuites));
#undef OR_NONE
}

struct tls_context *setup_server_tls(struct setup *setup, const struct settings *settings,
                                     char *problem, size_t size)
{
    struct server_policies *policies = setup->policies;
    struct server_policy *policy;
    struct tls_context *made = NULL, *found = NULL;
    struct tls_settings tls;
    char *key;

    tls_settings_of_servers(&tls, settings);
    key = policy_key(&tls);
    /* files are read without the lock; of two that read the same, one is kept */
    for (int round = 0; round < 2 && !found; round++) {
        if (round == 1 && !(made = tls_context_for_servers(&tls, problem, size)))
            break;
        pthread_mutex_lock(&policies->mutex);
        HASH_FIND_STR(policies->by_key, key, policy);
        if (!policy && made) {
            policy = memory_new(sizeof(*policy));
            policy->key = text_copy(key);
            policy->tls = tls_context_ref(made);
            HASH_ADD_KEYPTR(hh, policies->by_key, policy->key, strlen(policy->key), policy);
        }
        if (policy)
            found = tls_context_ref(policy->tls);
        pthread_mutex_unlock(&policies->mutex);
    }
    tls_context_unref(made);
    free(key);
    return found;
}
