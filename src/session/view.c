/*
 * view.c: what SHOW tells of clients, servers and pools. Each function runs on the worker whose
 * things it shows.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/session/client.h"
#include "pgstage/session/prepared.h"
#include "pgstage/session/replication.h"
#include "pgstage/session/server.h"
#include "pgstage/session/wait.h"

/* A moment of the monotonic clock as one of the wall clock. */
static uint64_t wall_us(struct loop *loop, uint64_t us)
{
    return us ? clock_wall_us() - (loop_now_us(loop) - us) : 0;
}

static void describe_ends(const struct stream *stream, struct socket_view *view)
{
    struct address address;

    view->addr[0] = view->local_addr[0] = '\0';
    if (stream_peer_address(stream, &address)) {
        (void)address_host_text(&address, view->addr);
        view->port = address_port(&address);
    }
    if (stream_local_address(stream, &address)) {
        (void)address_host_text(&address, view->local_addr);
        view->local_port = address_port(&address);
    }
    if (stream->ssl && stream_is_open(stream))
        tls_describe(stream->ssl, view->tls, sizeof(view->tls));
    view->sent_bytes_waiting = stream_queued_bytes(stream);
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static const char *protocol_name(unsigned minor)
{
    return minor ? "3.2" : "3.0";
}

static void describe_client(const struct client *client, struct socket_view *view)
{
    struct loop *loop = client->worker->loop;
    const struct pool *pool = client->share ? client->share->backend->pool : NULL;

    memset(view, 0, sizeof(*view));
    view->type = 'C';
    view->user = or_empty(client->user);
    view->database = pool ? pool_database(pool) : or_empty(client->database);
    view->environment = pool ? or_empty(pool_environment(pool)) : "";
    view->replication = replication_name(client->replication);
    view->state = client_state_name(client->state);
    describe_ends(&client->stream, view);
    (void)address_host_text(client->address, view->addr);
    view->port = address_port(client->address);
    view->connect_wall_us = client->connected_us;
    view->request_wall_us = wall_us(loop, client->request_us);
    if (client->state == CLIENT_WAITING || client->state == CLIENT_WELCOME)
        view->wait_us = loop_now_us(loop) - wait_since_us(client);
    view->self = client;
    view->link = client->server;
    view->remote_pid = client->server ? client->server->remote_pid : 0;
    view->application_name = or_empty(parameters_get(
        client->replication && client->server ? client->server->reported : client->parameters,
        "application_name"));
    view->id = client->id;
    view->worker = client->worker->index;
    view->protocol = protocol_name(client->protocol_minor);
    view->prepared_statements = (uint32_t)prepared_client_count(client);
    view->received_bytes_waiting = client->held_bytes;
    (void)pins_text(client->pins, view->pinned, sizeof(view->pinned));
}

void worker_each_client(struct loop *loop, void (*row)(void *argument, const struct socket_view *),
                        void *argument)
{
    struct worker *worker = worker_of(loop);

    list_for_each (node, &worker->clients) {
        const struct client *client = list_entry(node, struct client, node);
        struct socket_view view;

        /* clients that are still logging in are not listed, as in PgBouncer */
        if (client->state < CLIENT_WELCOME || client_is_over(client))
            continue;
        describe_client(client, &view);
        row(argument, &view);
    }
}

void worker_each_server(struct loop *loop, void (*row)(void *argument, const struct socket_view *),
                        void *argument)
{
    struct worker *worker = worker_of(loop);

    list_for_each (node, &worker->servers) {
        struct server *server = list_entry(node, struct server, node);
        const struct pool *pool = server->backend->pool;
        const char *name = parameters_get(server->parameters, "application_name");
        struct socket_view view;

        memset(&view, 0, sizeof(view));
        view.type = 'S';
        view.user = pool_user(pool);
        view.database = pool_database(pool);
        view.environment = or_empty(pool_environment(pool));
        view.replication = replication_name(server->replication);
        view.state = server_state_name(server);
        describe_ends(&server->stream, &view);
        view.connect_wall_us = server->connected_wall_us;
        view.request_wall_us = wall_us(loop, server->request_us);
        view.close_needed =
            server->close_needed ||
            (server->item.id && pool_is_obsolete(server->backend->pool, &server->item));
        view.self = server;
        view.link = server->client;
        view.remote_pid = server->remote_pid;
        view.application_name =
            or_empty(name ? name : parameters_get(server->reported, "application_name"));
        view.id = server->item.id;
        view.worker = worker->index;
        view.protocol = protocol_name(server->protocol_minor);
        view.host = host_name(server->host);
        view.prepared_statements = (uint32_t)prepared_server_count(server);
        view.received_bytes_waiting = server->tail_bytes;
        row(argument, &view);
    }
}

static void count_servers(const struct share *share, struct pool_view *view)
{
    list_for_each (node, &share->servers) {
        const struct server *server = list_entry(node, struct server, share_node);

        switch (server->state) {
        case SERVER_OPENING:
        case SERVER_LOGIN:
        case SERVER_SETUP:
            view->sv_login++;
            break;
        case SERVER_IDLE:
            view->sv_idle++;
            break;
        case SERVER_CHECK:
        case SERVER_RESET:
            view->sv_tested++;
            break;
        case SERVER_DRAINING:
            if (server->cancels)
                view->sv_being_canceled++;
            else
                view->sv_active++;
            break;
        default:
            view->sv_active++;
            break;
        }
    }
}

void worker_each_pool(struct loop *loop, void (*row)(void *argument, const struct pool_view *),
                      void *argument)
{
    struct worker *worker = worker_of(loop);

    list_for_each (node, &worker->shares) {
        const struct share *share = list_entry(node, struct share, node);
        struct pool_view view = {.pool = share->backend->pool};
        struct pool_counts counts;

        view.cl_active = share->tally[TALLY_ACTIVE];
        view.cl_waiting = share->tally[TALLY_WAITING];
        view.cl_active_cancel_req = share->cancels;
        view.sv_active_cancel = share->cancels;
        count_servers(share, &view);
        pool_counts(share->backend->pool, &counts);
        if (counts.oldest_wait_since_us && loop_now_us(loop) > counts.oldest_wait_since_us)
            view.max_wait_us = loop_now_us(loop) - counts.oldest_wait_since_us;
        row(argument, &view);
    }
}

void worker_totals(struct loop *loop, struct worker_totals *totals)
{
    struct worker *worker = worker_of(loop);

    memset(totals, 0, sizeof(*totals));
    list_for_each (node, &worker->clients) {
        const struct client *client = list_entry(node, struct client, node);

        if (client->state < CLIENT_WELCOME)
            totals->login_clients++;
        else
            totals->used_clients++;
        if (client->exchange)
            totals->used_exchanges++;
        totals->buffer_bytes += client->held_bytes + stream_queued_bytes(&client->stream);
    }
    list_for_each (node, &worker->servers) {
        const struct server *server = list_entry(node, struct server, node);

        totals->used_servers++;
        totals->buffer_bytes += server->tail_bytes + stream_queued_bytes(&server->stream);
    }
    totals->moved_servers = worker->moved_servers;
    totals->free_clients = worker->slot_count - worker->clients.length;
    totals->free_exchanges =
        worker->exchanges.page_count * worker->exchanges.page_blocks - totals->used_exchanges;
    totals->exchange_bytes = worker->exchanges.page_count * SLAB_PAGE_BYTES;
    totals->client_bytes = worker->clients.length * sizeof(struct client);
    totals->server_bytes = worker->servers.length * sizeof(struct server);
}

void plane_each_pin(struct plane *plane,
                    void (*row)(void *argument, const char *name, uint64_t clients, uint64_t total,
                                const char *help),
                    void *argument)
{
    for (int i = 0; i < PIN_COUNT; i++) {
        uint64_t held = 0, made = 0;

        for (unsigned k = 0; k < plane->worker_count; k++) {
            held += counter_read(&plane->workers[k].pins_held[i]);
            made += counter_read(&plane->workers[k].pins_made[i]);
        }
        row(argument, pin_name((enum pin)i), held, made, pin_help((enum pin)i));
    }
}
