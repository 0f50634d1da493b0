/*
 * url: `pgstage --url app@production`, so that nobody has to put a DATABASE_URL together by hand.
 *
 *   postgresql://127.0.0.1:6432/app%40production?sslmode=require
 *                host and port of the listener,   what it offers
 *
 * Reads a frozen snapshot; any thread.
 */
#include "pgstage/env/url.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/env/route.h"

static void put_encoded(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (isalnum(byte) || strchr("-._~", byte))
            buffer_put_u8(out, byte);
        else
            buffer_print(out, "%%%02X", byte);
    }
}

/* The first address listened on; for "every address" this machine's name. */
static void put_host(struct buffer *out, const char *addresses)
{
    char machine[256] = "localhost";
    size_t length = strcspn(addresses, ", \t");
    char *first = text_copy_n(addresses, length);
    if (strcmp(first, "*") == 0 || strcmp(first, "0.0.0.0") == 0 || strcmp(first, "::") == 0) {
        if (gethostname(machine, sizeof(machine)) != 0)
            text_fit(machine, sizeof(machine), "localhost");
        machine[sizeof(machine) - 1] = '\0';
        buffer_print(out, "%s", machine);
    } else if (strchr(first, ':')) {
        buffer_print(out, "[%s]", first);
    } else {
        buffer_print(out, "%s", first);
    }
    free(first);
}

/* The listener of an environment if it has one, else the one of [pgstage]. */
static const struct listener_config *choose_listener(const struct snapshot *snapshot,
                                                     const struct environment_config *environment)
{
    for (size_t i = 0; environment && i < snapshot_listener_count(snapshot); i++) {
        const struct listener_config *listener = snapshot_listener(snapshot, i);
        if (text_equal(listener->environment, environment->name))
            return listener;
    }
    return snapshot_listener(snapshot, 0);
}

char *url_print(const struct snapshot *snapshot, const char *name, char *problem, size_t size)
{
    struct route_request request = {.database = name};
    struct route route;
    enum route_result result = route_find(snapshot, &request, &route);
    if (result != ROUTE_FOUND) {
        char *why = route_explain(snapshot, &request, result);
        text_fit(problem, size, why);
        free(why);
        return NULL;
    }
    const struct listener_config *listener = choose_listener(snapshot, route.environment);
    const struct settings *settings = listener->settings;
    /* A bound listener decides the environment, so the name needs none. */
    const char *database = listener->environment ? route.database : name;
    struct buffer out = {0};
    buffer_print(&out, "postgresql://");
    if (settings->listen_addr) {
        put_host(&out, settings->listen_addr);
        buffer_print(&out, ":%lld/", (long long)settings->listen_port);
        put_encoded(&out, database);
        buffer_print(&out, "?sslmode=%s",
                     settings->client_tls_sslmode == TLS_DISABLE   ? "disable"
                     : settings->client_tls_sslmode >= TLS_REQUIRE ? "require"
                                                                   : "prefer");
    } else {
        buffer_print(&out, "/");
        put_encoded(&out, database);
        buffer_print(&out, "?host=");
        put_encoded(&out, settings->unix_socket_dir ? settings->unix_socket_dir : "");
        buffer_print(&out, "&port=%lld", (long long)settings->listen_port);
    }
    buffer_put_u8(&out, 0);
    return (char *)out.data;
}
