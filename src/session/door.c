/*
 * door.c: the sockets through which clients come, and to which worker each of them goes.
 *
 * Opened on the control thread before the workers run; owned by worker 0 afterwards, which hands
 * each accepted descriptor to the worker with the fewest clients and keeps it without any letter
 * when that is itself.
 */
#include "pgstage/session/door.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/client.h"

/* ---- opening (control thread) ---- */

static bool add_door(struct plane *plane, struct listener *listener, const char *listener_name,
                     bool brings_bytes)
{
    char text[ADDRESS_TEXT_BYTES];
    struct door *door;

    if (!listener)
        return false;
    plane->doors = memory_resize(plane->doors, plane->door_count + 1, sizeof(*plane->doors));
    door = &plane->doors[plane->door_count];
    door->plane = plane;
    door->listener = listener;
    door->listener_name = text_copy(listener_name);
    door->brings_bytes = brings_bytes;
    door->index = (unsigned)plane->door_count++;
    log_log("listening on %s", address_text(listener_address(listener), text));
    return true;
}

static void options_of(const struct settings *settings, struct listener_options *options)
{
    *options = (struct listener_options){
        .backlog = (int)settings->listen_backlog,
        .reuse_port = settings->so_reuseport,
        .defer_accept = settings->tcp_defer_accept > 0,
        .unix_mode = (unsigned)settings->unix_socket_mode,
        .unix_group = settings->unix_socket_group,
        .tuning = tuning_of(settings),
    };
}

/* One entry of listen_addr: `*`, an address, or a name with all its addresses. */
static bool open_tcp(struct plane *plane, const struct listener_config *config, const char *name,
                     char *problem, size_t size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *all, *one;
    bool any = strcmp(name, "*") == 0, opened = false;
    struct listener_options options;
    char port[8];
    int failed;

    options_of(config->settings, &options);
    snprintf(port, sizeof(port), "%d", (int)config->settings->listen_port);
    failed = getaddrinfo(any ? NULL : name, port, &hints, &all);
    if (failed) {
        snprintf(problem, size, "listen_addr %s: %s", name, gai_strerror(failed));
        return false;
    }
    for (one = all; one; one = one->ai_next) {
        struct address address;

        if (!address_from(&address, one->ai_addr, one->ai_addrlen))
            continue;
        if (add_door(plane, listener_open(&address, &options, problem, size), config->name,
                     options.defer_accept))
            opened = true;
        else if (!any)
            break;
    }
    freeaddrinfo(all);
    /* `*` means every family that this machine has; one is enough */
    return any ? opened : opened && !one;
}

static bool open_listener(struct plane *plane, const struct listener_config *config, char *problem,
                          size_t size)
{
    const struct settings *settings = config->settings;
    struct listener_options options;
    char *list = text_copy(settings->listen_addr ? settings->listen_addr : ""), *rest, *name;
    bool opened = true;

    options_of(settings, &options);
    for (name = strtok_r(list, ", \t", &rest); name && opened; name = strtok_r(NULL, ", \t", &rest))
        opened = open_tcp(plane, config, name, problem, size);
    free(list);
    if (opened && settings->unix_socket_dir && *settings->unix_socket_dir) {
        struct address address;

        if (!address_local(&address, settings->unix_socket_dir, (uint16_t)settings->listen_port)) {
            snprintf(problem, size, "unix_socket_dir %s is too long", settings->unix_socket_dir);
            return false;
        }
        opened =
            add_door(plane, listener_open(&address, &options, problem, size), config->name, false);
    }
    return opened;
}

/* Sockets from systemd stand for the listener with their port, or for [pgstage]'s own. */
static bool adopt_sockets(struct plane *plane, const struct snapshot *snapshot,
                          const struct plane_socket *sockets, size_t count, char *problem,
                          size_t size)
{
    struct tuning tuning = tuning_of(snapshot_globals(snapshot));

    for (size_t i = 0; i < count; i++) {
        struct listener *listener = listener_adopt(sockets[i].fd, problem, size);
        const char *name = NULL;

        if (!listener)
            return false;
        for (size_t j = 0; j < snapshot_listener_count(snapshot); j++) {
            const struct listener_config *config = snapshot_listener(snapshot, j);

            if (config->name &&
                config->settings->listen_port == address_port(listener_address(listener)))
                name = config->name;
        }
        listener_tune(listener, &tuning);
        (void)add_door(plane, listener, name, false);
    }
    return true;
}

bool doors_open(struct plane *plane, const struct snapshot *snapshot,
                const struct plane_socket *inherited, size_t inherited_count, char *problem,
                size_t size)
{
    if (inherited_count)
        return adopt_sockets(plane, snapshot, inherited, inherited_count, problem, size);
    for (size_t i = 0; i < snapshot_listener_count(snapshot); i++)
        if (!open_listener(plane, snapshot_listener(snapshot, i), problem, size))
            return false;
    if (plane->door_count == 0) {
        text_fit(problem, size, "nothing to listen on: set listen_addr or unix_socket_dir");
        return false;
    }
    return true;
}

/* ---- accepting (worker 0) ---- */

struct accept_letter {
    struct mail mail;
    struct door *door;
    int fd;
    struct address peer;
};

static void drop_accept(struct mail *mail)
{
    close(((struct accept_letter *)mail)->fd);
    free(mail);
}

static void deliver_accept(struct loop *loop, struct mail *mail)
{
    struct accept_letter *letter = (struct accept_letter *)mail;

    if (worker_of(loop)->ended) {
        drop_accept(mail);
        return;
    }
    client_accept(worker_of(loop), letter->door, letter->fd, &letter->peer);
    free(letter);
}

/* Connections that have not logged in are not in max_client_conn; this bounds them too. */
static bool is_flooded(const struct plane *plane)
{
    const struct settings *globals = snapshot_globals(plane->workers[0].setup->snapshot);
    uint64_t load = 0;

    for (unsigned i = 0; i < plane->worker_count; i++)
        load += atomic_load_explicit(&plane->workers[i].client_load, memory_order_relaxed);
    return load >= (uint64_t)globals->max_client_conn + (uint64_t)globals->max_client_conn / 4 +
                       (uint64_t)globals->console_reserved + 64;
}

static void on_accept(struct listener *listener, int fd, const struct address *peer)
{
    struct door *door = listener_context(listener);
    struct plane *plane = door->plane;
    struct worker *best = &plane->workers[0];
    struct accept_letter *letter;

    if (is_flooded(plane)) {
        log_warning("too many connections are logging in: one more is closed");
        close(fd);
        return;
    }
    for (unsigned i = 1; i < plane->worker_count; i++)
        if (atomic_load_explicit(&plane->workers[i].client_load, memory_order_relaxed) <
            atomic_load_explicit(&best->client_load, memory_order_relaxed))
            best = &plane->workers[i];
    atomic_fetch_add_explicit(&best->client_load, 1, memory_order_relaxed);
    if (best == &plane->workers[0]) {
        client_accept(best, door, fd, peer);
        return;
    }
    letter = memory_new(sizeof(*letter));
    letter->mail.deliver = deliver_accept;
    letter->mail.drop = drop_accept;
    letter->door = door;
    letter->fd = fd;
    letter->peer = *peer;
    loop_post(best->loop, &letter->mail);
}

void doors_tune(struct plane *plane, const struct settings *globals)
{
    struct tuning tuning = tuning_of(globals);

    for (size_t i = 0; i < plane->door_count; i++)
        listener_tune(plane->doors[i].listener, &tuning);
}

void doors_listen(struct plane *plane, struct loop *loop)
{
    for (size_t i = 0; i < plane->door_count; i++)
        if (!listener_start(plane->doors[i].listener, loop, on_accept, &plane->doors[i]))
            log_error("cannot accept connections: %s", strerror(errno));
}

/* A socket that is only not accepted from would go on swallowing connections, also those meant for
 * a new process on the same port. */
void doors_shut(struct plane *plane, bool tcp_only)
{
    for (size_t i = 0; i < plane->door_count; i++) {
        struct door *door = &plane->doors[i];

        if (tcp_only && address_is_local(listener_address(door->listener)))
            continue;
        listener_shut(door->listener);
    }
}

void doors_close(struct plane *plane)
{
    for (size_t i = 0; i < plane->door_count; i++) {
        listener_close(plane->doors[i].listener);
        free((char *)plane->doors[i].listener_name);
    }
    free(plane->doors);
    plane->doors = NULL;
    plane->door_count = 0;
}
