/*
 * effective: what one database in one environment means for one user, all scopes resolved.
 *
 * A reference to the snapshot whose texts it points into, and the settings: those of the environment
 * when neither the database's line nor the user's says anything else, as most do not, or a copy.
 * Immutable, so that any thread may read it, and counted, so that a RELOAD does not pull it away.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

/* The record that users see, with its count and the client's name for the database behind it. */
struct held {
    struct effective effective;
    struct settings *own; /* NULL: it has the environment's, or [pgstage]'s */
    atomic_uint references;
    char name[];
};

/* A copy of the settings, where a line says something of its own. */
static void set_own(struct held *held, const struct layer *line, const struct layer *user)
{
    held->own = memory_get(sizeof(*held->own));
    *held->own = *held->effective.settings;
    layer_apply(line, held->own);
    if (user)
        layer_apply(user, held->own);
    held->effective.settings = held->own;
}

struct effective *snapshot_effective(struct snapshot *snapshot, const struct database_config *line,
                                     const char *database,
                                     const struct environment_config *environment, const char *user)
{
    /* Every line that a snapshot hands out is the first field of its own record. */
    const struct database *own = (const struct database *)line;
    struct held *held = memory_new(sizeof(*held) + strlen(database) + 1);
    struct effective *effective = &held->effective;
    struct user_line *user_line = NULL;
    atomic_init(&held->references, 1);
    memcpy(held->name, database, strlen(database));
    effective->settings =
        environment ? snapshot_environment_settings(snapshot, environment) : &snapshot->globals;
    if (user)
        HASH_FIND_STR(snapshot->user_by_name, user, user_line);
    if (own->sets || (user_line && user_line->layer.count))
        set_own(held, &own->layer, user_line ? &user_line->layer : NULL);
    effective->snapshot = snapshot_ref(snapshot);
    effective->database = held->name;
    effective->dbname = own->dbname ? own->dbname : held->name;
    effective->environment = environment;
    effective->fallback = line->is_fallback;
    effective->hosts = line->hosts;
    effective->host_count = line->host_count;
    if (!line->host_count && environment) {
        effective->hosts = environment->hosts;
        effective->host_count = environment->host_count;
    } else if (!line->host_count && snapshot->has_socket) {
        effective->hosts = &snapshot->socket;
        effective->host_count = 1;
    }
    return effective;
}

struct effective *effective_ref(struct effective *effective)
{
    struct held *held = (struct held *)effective;
    atomic_fetch_add_explicit(&held->references, 1, memory_order_relaxed);
    return effective;
}

void effective_unref(struct effective *effective)
{
    struct held *held = (struct held *)effective;
    if (!held || atomic_fetch_sub_explicit(&held->references, 1, memory_order_acq_rel) != 1)
        return;
    snapshot_unref(effective->snapshot);
    free(held->own);
    free(held);
}

/* The options that a server connection was opened with. */
static const char *const connection_options[] = {
    "user",
    "password",
    "connect_query",
    "client_encoding",
    "datestyle",
    "timezone",
    "application_name",
    "statement_timeout",
    "server_tls_sslmode",
    "server_tls_ca_file",
    "server_tls_key_file",
    "server_tls_cert_file",
    "server_tls_crl_file",
    "server_tls_protocols",
    "server_tls_ciphers",
    "server_tls13_ciphers",
    "server_channel_binding",
    "server_peer_user",
};

/* `user` means another option in [pgstage], so the other scopes are asked first. */
static const struct option *connection_option(const char *name)
{
    const struct option *option = option_find(SCOPE_DATABASE, name);
    return option ? option : option_find(SCOPE_ENVIRONMENT, name);
}

#define CONNECTION_OPTIONS (sizeof(connection_options) / sizeof(connection_options[0]))

/* Their rows, found once: a reload compares for each pool. */
static const struct option *connection_rows[CONNECTION_OPTIONS];
static pthread_once_t connection_rows_once = PTHREAD_ONCE_INIT;

static void find_connection_rows(void)
{
    for (size_t i = 0; i < CONNECTION_OPTIONS; i++)
        connection_rows[i] = connection_option(connection_options[i]);
}

bool effective_same_kind(const struct effective *a, const struct effective *b)
{
    return a->settings == b->settings && a->environment == b->environment && a->hosts == b->hosts &&
           a->host_count == b->host_count;
}

bool effective_same_servers(const struct effective *a, const struct effective *b)
{
    const struct environment_config *of_a = a->environment, *of_b = b->environment;
    if (!text_equal(a->dbname, b->dbname) ||
        !host_lists_equal(a->hosts, a->host_count, b->hosts, b->host_count) ||
        !text_equal(of_a ? of_a->name : NULL, of_b ? of_b->name : NULL) ||
        !text_equal(of_a ? of_a->class_name : NULL, of_b ? of_b->class_name : NULL))
        return false;
    pthread_once(&connection_rows_once, find_connection_rows);
    for (size_t i = 0; i < CONNECTION_OPTIONS; i++) {
        const struct option *option = connection_rows[i];
        if (!option_value_equal(option, option_load(option, a->settings),
                                option_load(option, b->settings)))
            return false;
    }
    return true;
}
