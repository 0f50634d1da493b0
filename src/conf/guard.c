/*
 * guard: no host of a production class stands anywhere else: not in another class, not in a line
 * that is in no environment (PgBouncer's kind), not behind `*`, where other rules would hold.
 *
 *   hosts, dr_hosts, host= of production ──canonical──> keys ──> every other list is looked up
 *
 * A host is known by its name and by its address, both in one spelling: case, a dot at the end,
 * leading zeros, `::ffff:10.0.0.3`, and symbolic links of a socket's folder are no way around. What
 * a name resolves to is looked at where it is resolved.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

/* A host of a production environment, found by what it is connected by. */
struct guarded {
    char *key;
    const struct environment *environment;
    UT_hash_handle hh;
};

struct guard {
    const struct snapshot *snapshot;
    struct report *report;
    struct guarded *hosts;
};

/* Calls `each` with both keys of a host. */
static void guard_keys(struct guard *guard, const struct host_config *host,
                       void (*each)(struct guard *guard, const char *key, void *argument),
                       void *argument)
{
    const char *const names[] = {host->name, host->address};
    for (size_t i = 0; i < 2; i++) {
        if (!names[i])
            continue;
        char *name = host_canonical(names[i], !guard->snapshot->offline);
        char *key = text_print("%s %u", name, host->port);
        each(guard, key, argument);
        free(key);
        free(name);
    }
}

static void guard_put(struct guard *guard, const char *key, void *environment)
{
    struct guarded *known;
    HASH_FIND_STR(guard->hosts, key, known);
    if (known)
        return;
    known = memory_new(sizeof(*known));
    known->key = text_copy(key);
    known->environment = environment;
    HASH_ADD_KEYPTR(hh, guard->hosts, known->key, strlen(known->key), known);
}

static void guard_hosts(struct guard *guard, struct environment *environment,
                        const struct host_config *hosts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        guard_keys(guard, &hosts[i], guard_put, environment);
}

static void guard_find(struct guard *guard, const char *key, void *found)
{
    struct guarded *known;
    const struct environment **environment = found;
    HASH_FIND_STR(guard->hosts, key, known);
    if (known && !*environment)
        *environment = known->environment;
}

/* May hosts of one production class also be named by the other? Only the disaster recovery site's,
 * which production names as its dr_hosts. */
static bool classes_share(const struct environment_class *a, const struct environment_class *b)
{
    return a == b || (a && a->production && b->production &&
                      (strcmp(a->name, "disaster_recovery") == 0 ||
                       strcmp(b->name, "disaster_recovery") == 0));
}

/* Reports hosts that belong to an environment of a production class other than `class`. */
static void guard_list(struct guard *guard, const struct environment_class *class,
                       const struct host_config *hosts, size_t count, const struct origin *origin)
{
    for (size_t i = 0; i < count; i++) {
        const struct environment *owner = NULL;
        guard_keys(guard, &hosts[i], guard_find, &owner);
        if (!owner || classes_share(class, owner->class))
            continue;
        char *host = host_print(&hosts[i]);
        origin_broken(guard->report, origin, RULE_HOST, NULL,
                      "%s is a host of environment %s (class %s), whose rules would not hold here",
                      host, owner->config.name, owner->class->name);
        free(host);
    }
}

static const struct origin *hosts_origin(const struct layer *layer, const char *option,
                                         const struct origin *section)
{
    const struct assignment *hosts = layer_find_name(layer, option);
    return hosts ? &hosts->origin : section;
}

/* The environment that a line names; NULL: none. */
static struct environment *line_environment(const struct snapshot *snapshot,
                                            const struct database *line)
{
    const char *name =
        line->config.environment ? line->config.environment : line->config.in_environment;
    struct environment *environment = NULL;
    if (name)
        HASH_FIND_STR(snapshot->environment_by_name, name, environment);
    return environment;
}

/* What production is connected to: its hosts, and those of lines in it. */
static void guard_collect(struct guard *guard)
{
    const struct snapshot *snapshot = guard->snapshot;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        struct environment *environment = snapshot->environments.items[i];
        const struct environment_config *config = &environment->config;
        if (!config->production_class)
            continue;
        guard_hosts(guard, environment, config->hosts, config->host_count);
        guard_hosts(guard, environment, config->dr_hosts, config->dr_host_count);
    }
    for (size_t i = 0; guard->hosts && i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        struct environment *environment =
            line->config.host_count ? line_environment(snapshot, line) : NULL;
        if (environment && environment->config.production_class)
            guard_hosts(guard, environment, line->config.hosts, line->config.host_count);
    }
}

void guard_check(const struct snapshot *snapshot, struct report *report)
{
    struct guard guard = {snapshot, report, NULL};
    struct guarded *known, *next;
    guard_collect(&guard);
    for (size_t i = 0; guard.hosts && i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        const struct environment_config *config = &environment->config;
        const struct layer *layer = &environment->layer;
        guard_list(&guard, environment->class, config->hosts, config->host_count,
                   hosts_origin(layer, "hosts", &environment->origin));
        guard_list(&guard, environment->class, config->dr_hosts, config->dr_host_count,
                   hosts_origin(layer, "dr_hosts", &environment->origin));
    }
    for (size_t i = 0; guard.hosts && i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        const struct environment *environment = line_environment(snapshot, line);
        guard_list(&guard, environment ? environment->class : NULL, line->config.hosts,
                   line->config.host_count, &line->origin);
    }
    HASH_ITER (hh, guard.hosts, known, next) {
        HASH_DEL(guard.hosts, known);
        free(known->key);
        free(known);
    }
}
