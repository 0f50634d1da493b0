/*
 * inquiry_check: can auth_query work as it is configured?
 *
 * Looked at where the options stand, in each scope that says something of them; what another scope
 * makes of it is not known before a client comes, and is said in the log then. The thread that
 * loads.
 */
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/users.h"

/* One scope that may say something: [pgstage], an environment, or a line. */
struct asking {
    const struct snapshot *snapshot;
    struct report *report;
    const struct layer *layer;
    const struct environment *environment;
    struct settings settings;
};

static bool serves(const struct database *line, const struct environment *environment)
{
    return !environment || database_serves(&line->config, &environment->config);
}

/* Is there a line that this name means? `*` means every name. */
static bool is_database(const struct asking *asking, const char *name)
{
    const struct environment *environment = asking->environment;
    for (size_t i = 0; i < asking->snapshot->databases.count; i++) {
        const struct database *line = asking->snapshot->databases.items[i];
        if ((line->config.is_fallback || strcmp(line->config.name, name) == 0) &&
            serves(line, environment))
            return true;
    }
    return false;
}

static void check_user(const struct asking *asking, const struct assignment *user)
{
    const struct settings *settings = &asking->settings;
    const struct user_secret *secret = users_find(asking->snapshot->secrets, user->value.text);
    if (text_equal(settings->user, user->value.text) && settings->password)
        return;
    if (secret && (secret->kind == SECRET_MD5 || secret->kind == SECRET_SCRAM))
        origin_warning(asking->report, &user->origin,
                       "auth_user %s has no password in auth_file but a secret made from one: with "
                       "it pgstage can log in only where the server asks for none",
                       user->value.text);
}

static void check_scope(const struct asking *asking)
{
    const struct assignment *user = layer_find_name(asking->layer, "auth_user");
    const struct assignment *query = layer_find_name(asking->layer, "auth_query");
    const struct assignment *dbname = layer_find_name(asking->layer, "auth_dbname");
    if (user && user->value.text)
        check_user(asking, user);
    if (query && query->value.text && !strstr(query->value.text, "$1"))
        origin_error(asking->report, &query->origin,
                     "auth_query asks for nobody: $1 stands for the user's name");
    if (dbname && dbname->value.text && !is_database(asking, dbname->value.text))
        origin_error(asking->report, &dbname->origin,
                     "auth_dbname = %s: there is no such line in [databases]%s%s",
                     dbname->value.text, asking->environment ? " for environment " : "",
                     asking->environment ? asking->environment->config.name : "");
    if (!asking->settings.auth_user &&
        ((query && query->value.text) || (dbname && dbname->value.text)))
        origin_warning(asking->report, query ? &query->origin : &dbname->origin,
                       "%s has no effect without auth_user", query ? "auth_query" : "auth_dbname");
}

/* The first environment that a line serves; NULL: none. */
static const struct environment *served_by(const struct snapshot *snapshot,
                                           const struct database *line)
{
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (database_serves(&line->config, &environment->config))
            return environment;
    }
    return NULL;
}

void inquiry_check(const struct snapshot *snapshot, struct report *report)
{
    struct asking asking = {snapshot, report, &snapshot->layer, NULL, snapshot->globals};
    bool somewhere = snapshot->globals.auth_user != NULL;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        struct asking own = {snapshot, report, &environment->layer, environment,
                             environment->settings};
        somewhere = somewhere || environment->settings.auth_user;
        check_scope(&own);
    }
    for (size_t i = 0; i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        if (!layer_find_name(&line->layer, "auth_user") &&
            !layer_find_name(&line->layer, "auth_query") &&
            !layer_find_name(&line->layer, "auth_dbname"))
            continue;
        const struct environment *environment = served_by(snapshot, line);
        struct asking own = {snapshot, report, &line->layer, environment,
                             environment ? environment->settings : snapshot->globals};
        layer_apply(&line->layer, &own.settings);
        somewhere = somewhere || own.settings.auth_user;
        check_scope(&own);
    }
    /* what [pgstage] says of auth_query may be for those that have an auth_user of their own */
    if (somewhere)
        asking.settings.auth_user = "";
    check_scope(&asking);
}
