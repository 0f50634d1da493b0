/*
 * secrets: the answers of auth_query.
 *
 *     scope NUL user ──> entry ── known:   secret, VALID UNTIL, when fetched     list by last use
 *                              └─ unknown: when asked                            list by last use
 *
 * An entry is in one of the two lists, each with a bound of its own: whoever tries names fills the
 * list of unknown ones and nothing else. Everything is wiped before it is freed. One mutex; what is
 * handed out are copies. Any thread.
 */
#include "pgstage/auth/secrets.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/digest.h"
#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct entry {
    struct list_node node; /* in `known` or `unknown` */
    UT_hash_handle hh;
    bool is_known, is_fresh;
    struct fetched fetched; /* of an unknown one only when */
    size_t key_bytes;
    char key[];
};

struct secrets {
    /* fixed */
    size_t known_max, unknown_max;
    pthread_mutex_t mutex;
    /* shared: mutex */
    struct entry *entries;
    struct list known, unknown;     /* the most recently used first */
    size_t kinds[SECRET_SCRAM + 1]; /* how many known ones have such a secret */
};

void fetched_copy(struct fetched *copy, const struct fetched *fetched)
{
    *copy = *fetched;
    copy->secret.user = text_copy(fetched->secret.user);
    copy->secret.secret = text_copy(fetched->secret.secret);
}

void fetched_fini(struct fetched *fetched)
{
    free((char *)fetched->secret.user);
    digest_free_secret((char *)fetched->secret.secret);
    *fetched = (struct fetched){0};
}

struct secrets *secrets_new(size_t known_max, size_t unknown_max)
{
    struct secrets *secrets = memory_new(sizeof *secrets);
    secrets->known_max = known_max > 0 ? known_max : 1;
    secrets->unknown_max = unknown_max > 0 ? unknown_max : 1;
    list_init(&secrets->known);
    list_init(&secrets->unknown);
    pthread_mutex_init(&secrets->mutex, NULL);
    return secrets;
}

static struct list *list_of(struct secrets *secrets, const struct entry *entry)
{
    return entry->is_known ? &secrets->known : &secrets->unknown;
}

/* Forgets the answer, not the entry. */
static void clear(struct secrets *secrets, struct entry *entry)
{
    if (entry->is_known)
        secrets->kinds[entry->fetched.secret.kind]--;
    list_remove(list_of(secrets, entry), &entry->node);
    fetched_fini(&entry->fetched);
}

static void drop(struct secrets *secrets, struct entry *entry)
{
    clear(secrets, entry);
    HASH_DEL(secrets->entries, entry);
    free(entry);
}

void secrets_free(struct secrets *secrets)
{
    struct entry *entry, *next;
    if (!secrets)
        return;
    HASH_ITER (hh, secrets->entries, entry, next)
        drop(secrets, entry);
    pthread_mutex_destroy(&secrets->mutex);
    free(secrets);
}

/* ---- under the mutex ---- */

/* The scope ends with a NUL, so no two pairs give the same key. */
static struct entry *entry_new(const char *scope, const char *user)
{
    size_t scope_bytes = strlen(scope) + 1, user_bytes = strlen(user);
    struct entry *entry = memory_new(sizeof *entry + scope_bytes + user_bytes);
    entry->key_bytes = scope_bytes + user_bytes;
    memcpy(entry->key, scope, scope_bytes);
    memcpy(entry->key + scope_bytes, user, user_bytes);
    return entry;
}

static struct entry *find(struct secrets *secrets, const char *scope, const char *user)
{
    struct entry *wanted = entry_new(scope, user), *entry;
    HASH_FIND(hh, secrets->entries, wanted->key, wanted->key_bytes, entry);
    free(wanted);
    if (entry) {
        struct list *list = list_of(secrets, entry);
        list_remove(list, &entry->node);
        list_push_front(list, &entry->node);
    }
    return entry;
}

static void make_room(struct secrets *secrets)
{
    while (secrets->known.length > secrets->known_max)
        drop(secrets, list_entry(list_last(&secrets->known), struct entry, node));
    while (secrets->unknown.length > secrets->unknown_max)
        drop(secrets, list_entry(list_last(&secrets->unknown), struct entry, node));
}

/* ---- asking and telling ---- */

enum secrets_answer secrets_find(struct secrets *secrets, const char *scope, const char *user,
                                 uint64_t now_us, const struct secrets_ttl *ttl,
                                 struct fetched *copy)
{
    enum secrets_answer answer = SECRETS_MISSING;
    pthread_mutex_lock(&secrets->mutex);
    struct entry *entry = find(secrets, scope, user);
    uint64_t ttl_us = entry && entry->is_known ? ttl->known_us : ttl->unknown_us;
    /* another thread's clock may be a turn ahead */
    if (entry && entry->is_fresh &&
        (entry->fetched.fetched_us > now_us || now_us - entry->fetched.fetched_us < ttl_us)) {
        answer = entry->is_known ? SECRETS_KNOWN : SECRETS_UNKNOWN;
        if (entry->is_known)
            fetched_copy(copy, &entry->fetched);
    }
    pthread_mutex_unlock(&secrets->mutex);
    return answer;
}

bool secrets_find_any(struct secrets *secrets, const char *scope, const char *user,
                      struct fetched *copy)
{
    pthread_mutex_lock(&secrets->mutex);
    struct entry *entry = find(secrets, scope, user);
    bool is_known = entry && entry->is_known;
    if (is_known)
        fetched_copy(copy, &entry->fetched);
    pthread_mutex_unlock(&secrets->mutex);
    return is_known;
}

void secrets_put(struct secrets *secrets, const char *scope, const char *user,
                 const struct fetched *fetched, uint64_t now_us)
{
    pthread_mutex_lock(&secrets->mutex);
    struct entry *entry = find(secrets, scope, user);
    if (entry) {
        clear(secrets, entry);
    } else {
        entry = entry_new(scope, user);
        HASH_ADD_KEYPTR(hh, secrets->entries, entry->key, entry->key_bytes, entry);
    }
    entry->is_known = fetched != NULL;
    entry->is_fresh = true;
    if (fetched) {
        fetched_copy(&entry->fetched, fetched);
        secrets->kinds[fetched->secret.kind]++;
    }
    entry->fetched.fetched_us = now_us;
    list_push_front(list_of(secrets, entry), &entry->node);
    make_room(secrets);
    pthread_mutex_unlock(&secrets->mutex);
}

void secrets_expire(struct secrets *secrets)
{
    struct entry *entry;
    pthread_mutex_lock(&secrets->mutex);
    for (entry = secrets->entries; entry; entry = entry->hh.next)
        entry->is_fresh = false;
    pthread_mutex_unlock(&secrets->mutex);
}

bool secrets_doubt(struct secrets *secrets, const char *scope, const char *user, uint64_t now_us,
                   uint64_t least_us)
{
    pthread_mutex_lock(&secrets->mutex);
    struct entry *entry = find(secrets, scope, user);
    bool is_old = entry && now_us > entry->fetched.fetched_us &&
                  now_us - entry->fetched.fetched_us >= least_us;
    if (is_old)
        entry->is_fresh = false;
    pthread_mutex_unlock(&secrets->mutex);
    return is_old;
}

enum secret_kind secrets_usual_kind(struct secrets *secrets)
{
    enum secret_kind usual = SECRET_NONE;
    size_t most = 0;
    pthread_mutex_lock(&secrets->mutex);
    for (int kind = SECRET_PLAIN; kind <= SECRET_SCRAM; kind++) {
        if (secrets->kinds[kind] > most) {
            most = secrets->kinds[kind];
            usual = (enum secret_kind)kind;
        }
    }
    pthread_mutex_unlock(&secrets->mutex);
    return usual;
}

void secrets_each(struct secrets *secrets, void (*each)(void *argument, const char *user),
                  void *argument)
{
    pthread_mutex_lock(&secrets->mutex);
    size_t count = 0;
    char **names = memory_resize(NULL, secrets->known.length + 1, sizeof *names);
    list_for_each (node, &secrets->known)
        names[count++] = text_copy(list_entry(node, struct entry, node)->fetched.secret.user);
    pthread_mutex_unlock(&secrets->mutex);
    for (size_t i = 0; i < count; i++) {
        each(argument, names[i]);
        free(names[i]);
    }
    free(names);
}
