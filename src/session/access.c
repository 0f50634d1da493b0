/*
 * access.c: users, addresses and the time that an environment allows.
 *
 * Asked after authentication, so that nobody learns by trying names which environments there are.
 * The client hears that it may not, and the log which rule refused it. The client's worker.
 */
#include "pgstage/session/access.h"

#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/access.h"

void access_limit_environments(struct registry *registry, const struct snapshot *old,
                               const struct snapshot *new)
{
    for (size_t i = 0; old && i < snapshot_environment_count(old); i++) {
        const char *name = snapshot_environment(old, i)->name;

        if (!snapshot_find_environment(new, name))
            registry_limit_environment(registry, name, 0, 0, clock_now_us());
    }
    for (size_t i = 0; i < snapshot_environment_count(new); i++) {
        const struct environment_config *environment = snapshot_environment(new, i);
        const struct settings *settings = snapshot_environment_settings(new, environment);

        registry_limit_environment(registry, environment->name, settings->max_server_connections,
                                   settings->max_client_connections, clock_now_us());
    }
}

void access_limit_user(struct registry *registry, const struct snapshot *snapshot, const char *user)
{
    struct settings own;

    snapshot_user_settings(snapshot, user, &own);
    registry_limit_user(registry, user, own.max_user_connections, own.max_user_client_connections,
                        clock_now_us());
}

void access_limit_pool(struct registry *registry, const struct pool_key *key,
                       const struct effective *effective)
{
    registry_limit_database(registry, key->database, key->environment,
                            effective->settings->max_db_connections,
                            effective->settings->max_db_client_connections, clock_now_us());
    access_limit_user(registry, effective->snapshot, key->user);
}

bool access_check(struct client *client, const struct environment_config *environment)
{
    const char *rule = NULL;

    if (!environment)
        return true;
    if (!environment_allows_user(environment, client->user))
        rule = "allow_users";
    else if (!environment_allows_address(environment, &client->address->any))
        rule = "allow_from";
    if (rule) {
        client_log(client, RANK_LOG, "login refused by %s of environment %s", rule,
                   environment->name);
        client_fail(client, REASON_LOGIN_NOT_ALLOWED, NULL);
        return false;
    }
    if (environment_is_expired(environment, clock_wall_us())) {
        char moment[32], *text;

        access_time_print(environment->expires_at_us, moment, sizeof(moment));
        text = text_print("environment \"%s\" has expired at %s", environment->name, moment);
        client_fail_as(client, REASON_LOGIN_EXPIRED, reason_sqlstate(REASON_LOGIN_EXPIRED), text);
        free(text);
        return false;
    }
    return true;
}
