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
#include "pgstage/session/access.h"
#include "pgstage/session/backend.h"

/* What each pool will mean; made whole before anything is changed. */
struct changes {
    struct plane *plane;
    struct setup *setup;
    struct change {
        struct pool *pool;       /* a reference */
        struct meaning *meaning; /* NULL: its database is gone */
    } * list;
    size_t count;
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

static void plan_change(struct pool *pool, void *argument)
{
    struct changes *changes = argument;
    struct snapshot *snapshot = changes->setup->snapshot;
    const char *environment_name = pool_environment(pool);
    const struct environment_config *environment =
        environment_name ? snapshot_find_environment(snapshot, environment_name) : NULL;
    const struct database_config *line = NULL;
    struct meaning *meaning = NULL;

    if (!environment_name || environment)
        line = find_line(snapshot, pool_database(pool), environment);
    if (line) {
        struct effective *effective =
            snapshot_effective(snapshot, line, pool_database(pool), environment, pool_user(pool));

        meaning =
            meaning_new(changes->plane, changes->setup, effective, changes->problem, changes->size);
        if (!meaning)
            changes->failed = true;
    }
    changes->list = memory_resize(changes->list, changes->count + 1, sizeof(*changes->list));
    changes->list[changes->count++] = (struct change){pool_ref(pool), meaning};
}

static void apply_change(struct change *change, uint64_t now_us)
{
    struct backend *backend = backend_of(change->pool);
    struct meaning *old = backend_meaning(backend);
    struct pool_limits limits;
    bool same = change->meaning &&
                effective_same_servers(old->effective, change->meaning->effective) &&
                tls_context_same_files(old->tls, change->meaning->tls);

    if (change->meaning) {
        struct pool_key key = {pool_database(change->pool), pool_user(change->pool),
                               pool_environment(change->pool), pool_has_own_items(change->pool)};

        access_limit_pool(pool_registry(change->pool), &key, change->meaning->effective);
        meaning_limits(change->meaning, pool_has_own_items(change->pool), &limits);
        backend_set_meaning(backend, meaning_ref(change->meaning));
        pool_configure(change->pool, &limits, now_us);
        gate_fit(change->pool);
    }
    if (!same)
        pool_obsolete(change->pool, now_us);
    meaning_unref(old);
}

void changes_free(struct changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        pool_unref(changes->list[i].pool);
        meaning_unref(changes->list[i].meaning);
    }
    free(changes->list);
    free(changes);
}

struct changes *changes_plan(struct plane *plane, struct setup *setup, char *problem, size_t size)
{
    struct changes *changes = memory_new(sizeof(*changes));

    changes->plane = plane;
    changes->setup = setup;
    changes->problem = problem;
    changes->size = size;
    registry_each(plane->registry, plan_change, changes);
    if (!changes->failed)
        return changes;
    changes_free(changes);
    return NULL;
}

void changes_apply(struct changes *changes, uint64_t now_us)
{
    for (size_t i = 0; i < changes->count; i++)
        apply_change(&changes->list[i], now_us);
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
    changes = memory_new(sizeof(*changes));
    changes->plane = plane;
    changes->setup = plane->setup;
    changes->problem = problem;
    changes->size = sizeof(problem);
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
