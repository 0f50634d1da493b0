/*
 * server_move.c: a server goes to another worker, in a letter, because a client waits for it there.
 *
 * Nobody uses it meanwhile: it is off the loop of the one worker before the letter is sent, at the
 * end of the turn, and on the loop of the other when it is opened. A worker that has ended drops it.
 */
#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/session/border.h"
#include "pgstage/session/choice.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/standing.h"
#include "pgstage/session/worker.h"
#include "server_inside.h"

struct move_letter {
    struct mail mail;
    struct loop *target;
    struct server *server;
    uint64_t waiter_id;
};

static void drop_move(struct mail *mail)
{
    struct move_letter *letter = (struct move_letter *)mail;
    struct server *server = letter->server;

    stream_close(&server->stream);
    pool_remove(server->backend->pool, &server->item, clock_now_us());
    host_connections_add(server->host, -1);
    server_free(server);
    free(letter);
}

static void deliver_move(struct loop *loop, struct mail *mail)
{
    struct move_letter *letter = (struct move_letter *)mail;
    struct server *server = letter->server;
    uint64_t waiter_id = letter->waiter_id;

    if (worker_of(loop)->ended) {
        drop_move(mail);
        return;
    }
    free(letter);
    server_arrive(worker_of(loop), server, waiter_id);
}

/* At the end of the turn, when nothing here can look at the server any more. */
static void send_move(void *object)
{
    struct move_letter *letter = object;

    loop_post(letter->target, &letter->mail);
}

void server_move_away(struct server *server, const struct pool_grant *grant)
{
    struct move_letter *letter = memory_new(sizeof(*letter));

    server->worker->moved_servers++;
    server_set_state(server, SERVER_MOVING);
    timer_detach(server->worker->loop, &server->timer);
    stream_detach(&server->stream);
    worker_remove_server(server->worker, server);
    list_remove(&server->share->servers, &server->share_node);
    letter->mail.deliver = deliver_move;
    letter->mail.drop = drop_move;
    letter->server = server;
    letter->waiter_id = grant->waiter_id;
    letter->target = server->backend->plane->loops[grant->worker];
    loop_release(server->worker->loop, letter, send_move);
}

void server_arrive(struct worker *worker, struct server *server, uint64_t waiter_id)
{
    struct client *client = worker_client(worker, waiter_id);
    struct pool *pool = server->backend->pool;
    struct pool_grant grant = {0};
    bool fits, wanted;

    server_place(server, worker);
    fits = !server_is_outdated(server) && choice_fits(server) && border_still_allows(server) &&
           stream_attach(&server->stream, worker->loop);
    /* who was to have one that does not fit keeps its place in the queue */
    wanted = pool_accept(pool, &server->item, worker->index,
                         fits && client && client->exchange ? &client->exchange->waiter : NULL);
    server_set_state(server, SERVER_IDLE);
    if (!fits) {
        server_close(server, server->stream.error ? REASON_SERVER_BROKEN : REASON_SERVER_WRONG_ROLE,
                     NULL);
        return;
    }
    if (wanted) {
        grant.waiter = &client->exchange->waiter;
        server_dispose(server, POOL_LENT, &grant);
    } else {
        server_dispose(server, pool_return(pool, &server->item, server_now_us(server), &grant),
                       &grant);
    }
}
