/*
 * route: which line of [databases] and which environment serve a client.
 *
 *   "app@staging" ──> asked │ listener │ SNI ──> chosen? ─yes─> app@E, app, *@E, *
 *                                                  └─no──> app's own environment, PgBouncer style,
 *                                                          default_environment, else refused
 *
 * Pure functions on a frozen snapshot, a few hash lookups each; any thread. A line that has hosts
 * of its own and no environment (PgBouncer style) serves no environment, so that a client that came
 * for production never ends at a host that production's rules do not cover.
 */
#include "pgstage/env/route.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/access.h"
#include "pgstage/conf/hba.h"

/* The environment that the client itself chose: by name, listener or SNI. */
enum chosen { CHOSEN_NONE, CHOSEN_ONE, CHOSEN_UNKNOWN };

static enum chosen route_choose(const struct snapshot *snapshot,
                                const struct route_request *request, struct route *route)
{
    const struct listener_config *listener = request->listener;
    char *at = strrchr(route->name, '@');
    /* A quoted name in the file may hold an @ of its own. */
    if (at && !snapshot_find_database(snapshot, route->name, NULL)) {
        route->environment = snapshot_find_environment(snapshot, at + 1);
        *at = '\0';
        return route->environment ? CHOSEN_ONE : CHOSEN_UNKNOWN;
    }
    if (listener && listener->environment)
        route->environment = snapshot_find_environment(snapshot, listener->environment);
    else if (request->sni)
        route->environment = snapshot_find_sni(snapshot, request->sni);
    return route->environment ? CHOSEN_ONE : CHOSEN_NONE;
}

static enum route_result route_in_environment(const struct snapshot *snapshot, struct route *route)
{
    const struct environment_config *environment = route->environment;
    const char *const names[] = {route->name, "*"};
    for (size_t i = 0; i < 2; i++) {
        route->line = snapshot_find_database(snapshot, names[i], environment->name);
        if (route->line)
            return ROUTE_FOUND;
        route->line = snapshot_find_database(snapshot, names[i], NULL);
        if (route->line)
            return database_serves(route->line, environment) ? ROUTE_FOUND : ROUTE_NO_ENVIRONMENT;
    }
    return ROUTE_NO_DATABASE;
}

/* Does any environment have a line of its own for this name? */
static bool route_is_somewhere(const struct snapshot *snapshot, const char *name)
{
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++)
        if (snapshot_find_database(snapshot, name, snapshot_environment(snapshot, i)->name))
            return true;
    return false;
}

static enum route_result route_unchosen(const struct snapshot *snapshot, struct route *route)
{
    const struct environment_config *fallback = snapshot_default_environment(snapshot);
    const struct database_config *line = snapshot_find_database(snapshot, route->name, NULL);
    /* `app@production` must not lose against a `*` line without environment. */
    bool somewhere = !line && route_is_somewhere(snapshot, route->name);
    if (!line && !somewhere)
        line = snapshot_find_database(snapshot, "*", NULL);
    route->line = line;
    if (line && line->in_environment) {
        route->environment = snapshot_find_environment(snapshot, line->in_environment);
        return route_in_environment(snapshot, route);
    }
    if (line && line->host_count)
        return ROUTE_FOUND;
    if (fallback) {
        route->environment = fallback;
        enum route_result result = route_in_environment(snapshot, route);
        return result == ROUTE_NO_DATABASE && somewhere ? ROUTE_NO_ENVIRONMENT : result;
    }
    if (somewhere)
        return ROUTE_AMBIGUOUS;
    if (!line)
        return route_is_somewhere(snapshot, "*") ? ROUTE_AMBIGUOUS : ROUTE_NO_DATABASE;
    return snapshot_environment_count(snapshot) ? ROUTE_AMBIGUOUS : ROUTE_FOUND;
}

enum route_result route_find(const struct snapshot *snapshot, const struct route_request *request,
                             struct route *route)
{
    *route = (struct route){0};
    if (!request->database || !*request->database ||
        !text_fit(route->name, sizeof(route->name), request->database))
        return ROUTE_NO_DATABASE;
    enum route_result result = ROUTE_NO_ENVIRONMENT;
    switch (route_choose(snapshot, request, route)) {
    case CHOSEN_UNKNOWN:
        break;
    case CHOSEN_ONE:
        result = route_in_environment(snapshot, route);
        if (result == ROUTE_NO_DATABASE && route_is_somewhere(snapshot, route->name))
            result = ROUTE_NO_ENVIRONMENT;
        break;
    case CHOSEN_NONE:
        result = route_unchosen(snapshot, route);
        break;
    }
    if (result != ROUTE_FOUND)
        return result;
    route->database = route->name;
    return ROUTE_FOUND;
}

/* Would the rules of the environment keep it out, whatever it proves? */
static bool is_rejected(const struct environment_config *environment,
                        const struct route_request *request, const char *database)
{
    struct hba_login login = {
        .user = request->user,
        .database = database,
        .environment = environment->name,
        .is_local = request->is_local,
        .has_tls = request->has_tls,
        .address = request->from,
    };
    struct hba_verdict verdict;
    return environment->hba && request->user && request->from &&
           (!hba_find(environment->hba, &login, &verdict) || verdict.method == AUTH_REJECT);
}

static bool may_be_in(const struct environment_config *environment,
                      const struct route_request *request, const char *database)
{
    if (is_rejected(environment, request, database))
        return false;
    return (!request->user || environment_allows_user(environment, request->user)) &&
           (!request->from || environment_allows_address(environment, request->from));
}

/* Puts `app@staging, app@production` of every environment that has the database and that the client
 * may be in: of the others it learns nothing. */
static size_t put_choices(const struct snapshot *snapshot, const struct route_request *request,
                          const char *name, struct buffer *out)
{
    size_t count = 0;
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        struct route route = {.environment = snapshot_environment(snapshot, i)};
        if (!may_be_in(route.environment, request, name) ||
            !text_fit(route.name, sizeof(route.name), name) ||
            route_in_environment(snapshot, &route) != ROUTE_FOUND)
            continue;
        buffer_print(out, "%s%s@%s", count ? ", " : "", name, route.environment->name);
        count++;
    }
    return count;
}

char *route_explain(const struct snapshot *snapshot, const struct route_request *request,
                    enum route_result result)
{
    struct buffer choices = {0};
    const char *asked = request->database ? request->database : "";
    char *name = text_copy(asked), *at = strrchr(name, '@'), *text;
    if (at && !snapshot_find_database(snapshot, asked, NULL))
        *at = '\0';
    size_t count = put_choices(snapshot, request, name, &choices);
    buffer_put_u8(&choices, 0);
    if (result == ROUTE_NO_DATABASE || count == 0)
        text = text_print("no such database: %s", asked);
    else if (result == ROUTE_AMBIGUOUS)
        text = text_print("database \"%s\" needs an environment: connect to %s%s", name,
                          count > 1 ? "one of " : "", (char *)choices.data);
    else
        text = text_print("no such database: %s (there is %s)", asked, (char *)choices.data);
    buffer_fini(&choices);
    free(name);
    return text;
}
