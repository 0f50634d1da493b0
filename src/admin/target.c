/*
 * target: what a name behind PAUSE, KILL … means: a database, database@environment, an environment.
 *
 *   the whole text names a database ─► it, in every environment
 *   "x@e", e an environment that x is in ─► x there
 *   the text names an environment ─► all of it
 *   else, where `*` would serve it ─► a database of that name
 *
 * A name that is both a database and an environment means the database. Control thread.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/env/route.h"

void target_fini(struct target *target)
{
    free(target->database);
    free(target->environment);
    *target = (struct target){0};
}

/* Does [databases] name it, in whatever environment? */
static bool is_database(const struct snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot_database_count(snapshot); i++) {
        const struct database_config *line = snapshot_database(snapshot, i);
        if (!line->is_fallback && text_equal(line->name, name))
            return true;
    }
    return false;
}

/* Would a client that asks for this be served? */
static bool is_served(const struct snapshot *snapshot, const char *name, struct route *route)
{
    struct route_request request = {.database = name};
    return route_find(snapshot, &request, route) == ROUTE_FOUND;
}

/* False: no such thing. */
static bool resolve(const struct snapshot *snapshot, const char *name, struct target *target)
{
    struct route route;
    if (is_database(snapshot, name)) {
        target->database = text_copy(name);
    } else if (strrchr(name, '@')) {
        if (!is_served(snapshot, name, &route))
            return false;
        target->database = text_copy(route.database);
        target->environment = route.environment ? text_copy(route.environment->name) : NULL;
    } else if (snapshot_find_environment(snapshot, name)) {
        target->environment = text_copy(name);
    } else if (is_served(snapshot, name, &route)) {
        target->database = text_copy(name);
    } else {
        return false;
    }
    return true;
}

bool target_read(struct admin *admin, struct console_job *job, struct target *target)
{
    *target = (struct target){0};
    const char *name = job->command.target;
    if (!name)
        return true;
    if (text_equal(name, "pgbouncer") || text_equal(name, "pgstage")) {
        char *text = text_print("cannot apply %s to the admin db: %s",
                                command_rows[job->command.id].verb, name);
        console_fail(job, "22023", text, NULL, NULL);
        free(text);
        return false;
    }
    if (resolve(plane_snapshot(admin->plane), name, target))
        return true;
    char *text = text_print("no such database: %s", name);
    console_fail(job, "3D000", text, NULL,
                 "A target is a database, database@environment or an environment.");
    free(text);
    return false;
}
