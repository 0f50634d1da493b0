/*
 * name: how views write databases, hosts and the words of options; and which databases there are.
 *
 * A name of [databases] that stands for itself in several environments is several databases:
 * `app@development`, `app@production`. That is also what STATS and POOLS show, so that what reads
 * them by database name never sees the same name twice.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/option.h"
#include "pgstage/pool/registry.h"

char *database_name(const char *database, const char *environment)
{
    return environment && *environment ? text_print("%s@%s", database, environment)
                                       : text_copy(database);
}

char *hosts_text(const struct host_config *hosts, size_t count)
{
    if (count == 0)
        return NULL;
    struct buffer text = {0};
    for (size_t i = 0; i < count; i++) {
        const struct host_config *host = &hosts[i];
        buffer_print(&text, "%s%s", i ? ", " : "", host->name);
        if (host->address)
            buffer_print(&text, "@%s", host->address);
        if (*host->name != '/' && *host->name != '@')
            buffer_print(&text, ":%u", host->port);
    }
    buffer_put_u8(&text, '\0');
    return (char *)text.data;
}

const char *option_word(const char *name, int value)
{
    const struct option *option = option_find_anywhere(name);
    for (const struct option_word *word = option ? option->words : NULL; word && word->word;
         word++) {
        if (word->value == value)
            return word->word;
    }
    return "";
}

/* ---- databases ---- */

struct known {
    char *name;
    UT_hash_handle hh;
};

struct walk {
    struct snapshot *snapshot;
    struct known *known;
    void (*each)(struct effective *effective, void *argument);
    void *argument;
};

static const char *environment_name(const struct environment_config *environment)
{
    return environment ? environment->name : NULL;
}

/* True the first time. */
static bool remember(struct walk *walk, const char *database, const char *environment)
{
    char *name = database_name(database, environment);
    struct known *known;
    HASH_FIND_STR(walk->known, name, known);
    if (known) {
        free(name);
        return false;
    }
    known = memory_new(sizeof *known);
    known->name = name;
    HASH_ADD_KEYPTR(hh, walk->known, known->name, strlen(known->name), known);
    return true;
}

static void visit(struct walk *walk, struct effective *effective)
{
    if (remember(walk, effective->database, environment_name(effective->environment)))
        walk->each(effective, walk->argument);
    effective_unref(effective);
}

static void visit_line(struct walk *walk, const struct database_config *line)
{
    bool served = false;
    for (size_t i = 0; i < snapshot_environment_count(walk->snapshot); i++) {
        const struct environment_config *environment = snapshot_environment(walk->snapshot, i);
        if (!database_serves(line, environment))
            continue;
        served = true;
        /* `app@production` says it better than `app`. */
        if (!line->environment &&
            snapshot_find_database(walk->snapshot, line->name, environment->name))
            continue;
        visit(walk, snapshot_effective(walk->snapshot, line, line->name, environment, NULL));
    }
    if (!served && !line->environment && !line->in_environment)
        visit(walk, snapshot_effective(walk->snapshot, line, line->name, NULL, NULL));
}

static void visit_pool(struct pool *pool, void *argument)
{
    struct effective *effective = plane_pool_effective(pool);
    if (effective->fallback)
        visit(argument, effective);
    else
        effective_unref(effective);
}

void databases_each(struct admin *admin, void (*each)(struct effective *effective, void *argument),
                    void *argument)
{
    struct walk walk = {
        .snapshot = plane_snapshot(admin->plane), .each = each, .argument = argument};
    for (size_t i = 0; i < snapshot_database_count(walk.snapshot); i++) {
        const struct database_config *line = snapshot_database(walk.snapshot, i);
        if (!line->is_fallback)
            visit_line(&walk, line);
    }
    registry_each(plane_registry(admin->plane), visit_pool, &walk);
    struct known *known, *next;
    HASH_ITER (hh, walk.known, known, next) {
        HASH_DEL(walk.known, known);
        free(known->name);
        free(known);
    }
}
