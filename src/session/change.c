/*
 * change.c: what a reload does to each pool.
 *
 * All new meanings are made before anything is changed, so that a TLS file which cannot be used
 * leaves everything as it was. Then each pool takes its own over: one that means the same keeps its
 * servers, in another they are obsolete and go when they are free. The control thread.
 */
#include "pgstage/session/change.h"

#include <stdlib.h>

#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/access.h"
#include "pgstage/session/backend.h"

/* What the latest pool of an environment came to: the next one is of the same kind mostly. */
struct latest {
    struct meaning *planned;       /* a reference; NULL: none yet */
    struct meaning *old, *applied; /* references; NULL: none yet */
    bool same;                     /* servers of `old` serve under `applied` too */
};

/* What each pool will mean; made whole before anything is changed. */
struct changes {
    struct plane *plane;
    struct setup *setup;
    struct change {
        struct pool *pool;       /* a reference */
        struct meaning *meaning; /* NULL: its database is gone */
    } * list;
    size_t count, capacity;
    struct latest *latest; /* of each environment by its index; first of those without one */
    const char *user;      /* whose limits were set last; a text of a pool in `list` */
    char *problem;
    size_t size;
    bool failed;
};

/* The line that serves this database in this environment now: as route.h orders them. */
static const struct database_config *find_line(const struct snapshot *snapshot, const char *name,
                                               const struct environment_config *environment)
{
    const char *const names[] = {name, "*"};

    for (size_t i = 0; i < 2; i++) {
        const struct database_config *line =
            environment ? snapshot_find_database(snapshot, names[i], environment->name) : NULL;

        if (!line)
            line = snapshot_find_database(snapshot, names[i], NULL);
        if (line && (environment ? database_serves(line, environment) : line->host_count > 0))
            return line;
    }
    return NULL;
}

static struct changes *changes_new(struct plane *plane, struct setup *setup, char *problem,
                                   size_t size)
{
    struct changes *changes = memory_new(sizeof(*changes));

    changes->plane = plane;
    changes->setup = setup;
    changes->problem = problem;
    changes->size = size;
    changes->latest =
        memory_new((1 + snapshot_environment_count(setup->snapshot)) * sizeof(*changes->latest));
    return changes;
}

static struct latest *latest_of(struct changes *changes, const struct effective *effective)
{
    return &changes->latest[effective->environment ? 1 + effective->environment->index : 0];
}

static void replace_meaning(struct meaning **place, struct meaning *meaning)
{
    struct meaning *old = *place;

    *place = meaning_ref(meaning);
    meaning_unref(old);
}

static void plan_change(struct pool *pool, void *argument)
{
    struct changes *changes = argument;
    struct snapshot *snapshot = changes->setup->snapshot;
    const char *environment_name = pool_environment(pool);
    const struct environment_config *environment =
        environment_name ? snapshot_find_environment(snapshot, environment_name) : NULL;
    const struct database_config *line = NULL;
    struct meaning *meaning = NULL;

    if (changes->failed)
        return;
    if (!environment_name || environment)
        line = find_line(snapshot, pool_database(pool), environment);
    if (line) {
        struct effective *effective =
            snapshot_effective(snapshot, line, pool_database(pool), environment, pool_user(pool));
        struct latest *latest = latest_of(changes, effective);

        meaning = meaning_new(changes->plane, changes->setup, effective, latest->planned,
                              changes->problem, changes->size);
        if (meaning)
            replace_meaning(&latest->planned, meaning);
        else
            changes->failed = true;
    }
    if (changes->count == changes->capacity) {
        changes->capacity = changes->capacity ? changes->capacity * 2 : 1;
        changes->list = memory_resize(changes->list, changes->capacity, sizeof(*changes->list));
    }
    changes->list[changes->count++] = (struct change){pool_ref(pool), meaning};
}

static bool same_kind(const struct meaning *a, const struct meaning *b)
{
    return a && effective_same_kind(a->effective, b->effective) && a->tls == b->tls;
}

/* May the servers of a pool stay? */
static bool keeps_servers(struct changes *changes, struct meaning *old, struct meaning *new)
{
    struct latest *latest = latest_of(changes, new->effective);

    if (!text_equal(old->effective->dbname, new->effective->dbname))
        return false;
    if (!same_kind(latest->old, old) || !same_kind(latest->applied, new)) {
        latest->same = effective_same_servers(old->effective, new->effective) &&
                       tls_context_same_files(old->tls, new->tls);
        replace_meaning(&latest->old, old);
        replace_meaning(&latest->applied, new);
    }
    return latest->same;
}

/* Of the pool's database, and of its login on the servers, once for all pools that have it. */
static void set_limits(struct changes *changes, struct change *change, uint64_t now_us)
{
    const struct effective *effective = change->meaning->effective;
    const struct settings *settings = effective->settings;

    pool_limit_database(change->pool, settings->max_db_connections,
                        settings->max_db_client_connections, now_us);
    if (text_equal(changes->user, pool_user(change->pool)))
        return;
    changes->user = pool_user(change->pool);
    access_limit_user(pool_registry(change->pool), effective->snapshot, changes->user);
}

static void apply_change(struct changes *changes, struct change *change, uint64_t now_us)
{
    struct backend *backend = backend_of(change->pool);
    struct meaning *old = backend_meaning(backend);
    struct pool_limits limits;
    bool same = change->meaning && keeps_servers(changes, old, change->meaning);

    if (change->meaning) {
        set_limits(changes, change, now_us);
        meaning_limits(change->meaning, pool_has_own_items(change->pool), &limits);
        backend_set_meaning(backend, meaning_ref(change->meaning));
        pool_configure(change->pool, &limits, now_us);
        gate_fit(change->pool);
    }
    if (!same)
        pool_obsolete(change->pool, now_us);
    else if (atomic_load(&backend->failing))
        pool_retry(change->pool, now_us); /* a password in auth_file may be another one now */
    meaning_unref(old);
}

void changes_free(struct changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        pool_unref(changes->list[i].pool);
        meaning_unref(changes->list[i].meaning);
    }
    for (size_t i = 0; i <= snapshot_environment_count(changes->setup->snapshot); i++) {
        meaning_unref(changes->latest[i].planned);
        meaning_unref(changes->latest[i].old);
        meaning_unref(changes->latest[i].applied);
    }
    free(changes->latest);
    free(changes->list);
    free(changes);
}

struct changes *changes_plan(struct plane *plane, struct setup *setup, char *problem, size_t size)
{
    struct changes *changes = changes_new(plane, setup, problem, size);

    registry_each(plane->registry, plan_change, changes);
    if (!changes->failed)
        return changes;
    changes_free(changes);
    return NULL;
}

void changes_apply(struct changes *changes, uint64_t now_us)
{
    for (size_t i = 0; i < changes->count; i++)
        apply_change(changes, &changes->list[i], now_us);
    changes_free(changes);
}

bool change_renew(struct plane *plane, struct pool *pool, uint64_t now_us)
{
    struct meaning *meaning = backend_meaning(backend_of(pool));
    bool stale = meaning->effective->snapshot != plane->setup->snapshot;
    char problem[256] = "";
    struct changes *changes;

    meaning_unref(meaning);
    if (!stale)
        return false;
    changes = changes_new(plane, plane->setup, problem, sizeof(problem));
    plan_change(pool, changes);
    if (!changes->failed) {
        changes_apply(changes, now_us);
        return true;
    }
    log_error("TLS to the servers of database %s cannot be set up: %s", pool_database(pool),
              problem);
    changes_free(changes);
    return false;
}
