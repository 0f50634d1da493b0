/*
 * border.c: no way around production's rules by another name of a production host.
 *
 *   monitor ─ plane_know_host ─► known hosts ─► guarded addresses, banned hosts ─┐
 *   server of production connects ─────────────► guarded addresses               ├─► border_allows
 *                                                                                ┘    before
 * connect something new is guarded ─ letter ─► each worker: servers that are there already are
 * closed
 *
 * An address is guarded with its port: another port is another server. It may be shared only by
 * those that may share hosts in the configuration: the same class, or production and disaster
 * recovery. A host with the system identifier of a production cluster is banned from other classes,
 * unless its environment says that it is a copy (`copy_of`). What connections have found is
 * forgotten after two hours without another one, so that an address may get another owner.
 */
#include "pgstage/session/border.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define FOUND_FOR_US (7200 * CLOCK_SECOND)

/* An address that is production's. */
struct guarded {
    char *address;     /* as address_text has it */
    char *environment; /* whose it is */
    char *class_name;
    uint64_t found_us; /* by a connection, and when last; 0: the monitor knows it */
    UT_hash_handle hh;
};

/* A host that an environment names, as far as the control plane knows it. */
struct known {
    char *key;                   /* environment and label */
    char *environment, *address; /* "": not known */
    uint64_t system_identifier;
    UT_hash_handle hh;
};

/* A host with the identity of a production cluster. */
struct banned {
    char *key;   /* environment and address */
    char *owner; /* the production environment */
    UT_hash_handle hh;
};

struct border {
    /* owner: the control thread */
    struct known *known;
    /* shared: mutex */
    pthread_mutex_t mutex;
    struct guarded *guarded;
    struct banned *banned;
    /* shared: atomic */
    _Atomic unsigned count; /* of both: without any, nobody is asked */
};

struct border *border_new(void)
{
    struct border *border = memory_new(sizeof(*border));

    pthread_mutex_init(&border->mutex, NULL);
    return border;
}

static void drop_guarded(struct border *border, struct guarded *guarded)
{
    HASH_DEL(border->guarded, guarded);
    free(guarded->address);
    free(guarded->environment);
    free(guarded->class_name);
    free(guarded);
}

static void drop_banned(struct border *border)
{
    struct banned *banned, *next;

    HASH_ITER (hh, border->banned, banned, next) {
        HASH_DEL(border->banned, banned);
        free(banned->key);
        free(banned->owner);
        free(banned);
    }
}

static void drop_known(struct border *border, struct known *known)
{
    HASH_DEL(border->known, known);
    free(known->key);
    free(known->environment);
    free(known->address);
    free(known);
}

void border_free(struct border *border)
{
    struct guarded *guarded, *next_guarded;
    struct known *known, *next_known;

    if (!border)
        return;
    HASH_ITER (hh, border->guarded, guarded, next_guarded)
        drop_guarded(border, guarded);
    HASH_ITER (hh, border->known, known, next_known)
        drop_known(border, known);
    drop_banned(border);
    pthread_mutex_destroy(&border->mutex);
    free(border);
}

static char *key_of(const char *environment, const char *host)
{
    return text_print("%s %s", environment, host);
}

/* ---- who may share ---- */

/* As conf/guard.c has it. `class_name` NULL: of no environment, or of one without class. */
static bool classes_share(const char *class_name, bool production, const char *owner_class)
{
    return class_name && production &&
           (strcmp(class_name, owner_class) == 0 || strcmp(class_name, "disaster_recovery") == 0 ||
            strcmp(owner_class, "disaster_recovery") == 0);
}

/* Under the mutex. True: it was not guarded before. */
static bool guard(struct border *border, const char *address,
                  const struct environment_config *owner, uint64_t found_us)
{
    struct guarded *guarded;

    HASH_FIND_STR(border->guarded, address, guarded);
    if (guarded) {
        if (guarded->found_us && found_us)
            guarded->found_us = found_us;
        else if (!found_us)
            guarded->found_us = 0;
        return false;
    }
    guarded = memory_new(sizeof(*guarded));
    guarded->address = text_copy(address);
    guarded->environment = text_copy(owner->name);
    guarded->class_name = text_copy(owner->class_name);
    guarded->found_us = found_us;
    HASH_ADD_KEYPTR(hh, border->guarded, guarded->address, strlen(guarded->address), guarded);
    return true;
}

/* ---- servers that are there already ---- */

struct border_letter {
    struct mail mail;
};

static void deliver_border(struct loop *loop, struct mail *mail)
{
    struct worker *worker = worker_of(loop);

    if (!worker->ended) {
        list_for_each_safe (node, &worker->servers) {
            struct server *server = list_entry(node, struct server, node);

            if (!border_still_allows(server))
                server_close(server, REASON_SERVER_BORDER, NULL);
        }
    }
    free(mail);
}

static void tell_workers(struct plane *plane)
{
    atomic_fetch_add(&plane->border_epoch, 1);
    for (unsigned i = 0; i < plane->worker_count; i++) {
        struct border_letter *letter = memory_new(sizeof(*letter));

        letter->mail.deliver = deliver_border;
        loop_post(plane->loops[i], &letter->mail);
    }
}

/* ---- what is known (control thread) ---- */

static const struct environment_config *find_environment(const struct plane *plane,
                                                         const char *name)
{
    return name ? snapshot_find_environment(plane->setup->snapshot, name) : NULL;
}

/* The production environment whose cluster has this identity, when `other` may not have it too. */
static const struct environment_config *owner_of(struct plane *plane, const struct known *known,
                                                 const struct environment_config *other)
{
    const struct snapshot *snapshot = plane->setup->snapshot;
    const char *copy_of = snapshot_environment_settings(snapshot, other)->copy_of;

    for (struct known *one = plane->border->known; one; one = one->hh.next) {
        const struct environment_config *owner = find_environment(plane, one->environment);

        if (one->system_identifier == known->system_identifier && owner &&
            owner->production_class && !text_equal(copy_of, owner->name) &&
            !classes_share(other->class_name, other->production_class, owner->class_name))
            return owner;
    }
    return NULL;
}

static void ban(struct border *border, const struct known *known, const char *owner)
{
    struct banned *banned = memory_new(sizeof(*banned));

    banned->key = key_of(known->environment, known->address);
    banned->owner = text_copy(owner);
    HASH_ADD_KEYPTR(hh, border->banned, banned->key, strlen(banned->key), banned);
}

/* Makes both tables from what is known; true when something is new. Under the mutex. */
static bool rebuild(struct plane *plane)
{
    struct border *border = plane->border;
    uint64_t now_us = loop_now_us(plane->control);
    struct guarded *guarded, *next;
    unsigned banned_before = HASH_COUNT(border->banned);
    bool new = false;

    HASH_ITER (hh, border->guarded, guarded, next) {
        const struct environment_config *owner = find_environment(plane, guarded->environment);

        if (!guarded->found_us || now_us - guarded->found_us > FOUND_FOR_US || !owner ||
            !owner->production_class)
            drop_guarded(border, guarded);
    }
    drop_banned(border);
    for (struct known *known = border->known; known; known = known->hh.next) {
        const struct environment_config *environment = find_environment(plane, known->environment);
        const struct environment_config *owner;

        if (environment && environment->production_class && known->address[0])
            new |= guard(border, known->address, environment, 0);
        if (!environment || !known->system_identifier || !known->address[0])
            continue;
        owner = owner_of(plane, known, environment);
        if (owner)
            ban(border, known, owner->name);
    }
    atomic_store(&border->count, HASH_COUNT(border->guarded) + HASH_COUNT(border->banned));
    return new || HASH_COUNT(border->banned) > banned_before;
}

/* Learns the entry of a host. True: something of it is new. */
static bool learn(struct border *border, const struct known_host *host)
{
    struct address address = {0};
    char text[ADDRESS_TEXT_BYTES] = "", *key = key_of(host->environment, host->label);
    struct known *known;
    bool new;

    if (host->is_local ? address_local(&address, host->name, host->port)
                       : address_parse(&address, host->address, host->port))
        address_text(&address, text);
    HASH_FIND_STR(border->known, key, known);
    if (known && host->is_gone)
        drop_known(border, known);
    if (host->is_gone) {
        free(key);
        return known != NULL;
    }
    if (!known) {
        known = memory_new(sizeof(*known));
        known->key = text_copy(key);
        known->environment = text_copy(host->environment);
        known->address = text_copy("");
        HASH_ADD_KEYPTR(hh, border->known, known->key, strlen(known->key), known);
    }
    free(key);
    new = *text &&strcmp(known->address, text) != 0;
    if (new) {
        free(known->address);
        known->address = text_copy(text);
    }
    new |= host->system_identifier && known->system_identifier != host->system_identifier;
    if (host->system_identifier)
        known->system_identifier = host->system_identifier;
    return new;
}

void plane_know_host(struct plane *plane, const struct known_host *host)
{
    if (learn(plane->border, host))
        border_load(plane);
}

void border_load(struct plane *plane)
{
    struct border *border = plane->border;
    bool new;

    pthread_mutex_lock(&border->mutex);
    new = rebuild(plane);
    pthread_mutex_unlock(&border->mutex);
    if (new && plane->running)
        tell_workers(plane);
}

/* ---- one server ---- */

/* Is it where production is, or at a cluster that is production's, under other rules? */
static bool is_trespassing(struct border *border, const struct environment_config *environment,
                           const struct address *address, char **why)
{
    char text[ADDRESS_TEXT_BYTES], *key;
    struct guarded *guarded;
    struct banned *banned;

    if (atomic_load_explicit(&border->count, memory_order_acquire) == 0)
        return false;
    address_text(address, text);
    key = key_of(environment ? environment->name : "", text);
    pthread_mutex_lock(&border->mutex);
    HASH_FIND_STR(border->guarded, text, guarded);
    if (guarded &&
        !classes_share(environment ? environment->class_name : NULL,
                       environment && environment->production_class, guarded->class_name))
        *why = text_print("%s is a host of environment %s (class %s), whose rules would not hold "
                          "here [production-host]",
                          text, guarded->environment, guarded->class_name);
    HASH_FIND_STR(border->banned, key, banned);
    if (!*why && banned)
        *why = text_print("%s has the system identifier of environment %s, whose rules would not "
                          "hold here; a copy of it needs copy_of = %s [production-host]",
                          text, banned->owner, banned->owner);
    pthread_mutex_unlock(&border->mutex);
    free(key);
    return *why != NULL;
}

bool border_allows_address(struct plane *plane, const struct environment_config *environment,
                           const struct address *address, char **why)
{
    *why = NULL;
    return !is_trespassing(plane->border, environment, address, why);
}

static bool server_trespasses(struct server *server, char **why)
{
    return is_trespassing(server->backend->plane->border, server->meaning->effective->environment,
                          &server->address, why);
}

bool border_still_allows(struct server *server)
{
    unsigned epoch = atomic_load(&server->backend->plane->border_epoch);
    char *why = NULL;
    bool allowed = true;

    if (server->border_epoch == epoch)
        return true;
    server->border_epoch = epoch;
    if (server->address.length && server_trespasses(server, &why)) {
        counter_add(&server->worker->security[SECURITY_production_hosts_refused], 1);
        server_log(server, RANK_WARNING, "%s", why);
        allowed = false;
    }
    free(why);
    return allowed;
}

bool border_allows(struct server *server, char **why)
{
    struct plane *plane = server->backend->plane;
    struct border *border = plane->border;
    const struct environment_config *environment = server->meaning->effective->environment;
    char text[ADDRESS_TEXT_BYTES];
    bool new;

    *why = NULL;
    server->border_epoch = atomic_load(&plane->border_epoch);
    if (server_trespasses(server, why)) {
        counter_add(&server->worker->security[SECURITY_production_hosts_refused], 1);
        return false;
    }
    if (!environment || !environment->production_class)
        return true;
    address_text(&server->address, text);
    pthread_mutex_lock(&border->mutex);
    new = guard(border, text, environment, loop_now_us(server->worker->loop));
    atomic_store(&border->count, HASH_COUNT(border->guarded) + HASH_COUNT(border->banned));
    pthread_mutex_unlock(&border->mutex);
    if (new)
        tell_workers(plane);
    return true;
}
