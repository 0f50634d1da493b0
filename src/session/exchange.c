/*
 * exchange.c: blocks for clients that are at something.
 *
 * Beginning and ending are on the path of every transaction, and cost it a few dozen instructions:
 * a block goes back as clean as it came, and what few exchanges use is looked at only when it is
 * `marked`. So nothing of one client is ever found by another.
 */
#include "pgstage/session/exchange.h"

#include "pgstage/base/check.h"
#include "pgstage/base/slab.h"
#include "pgstage/session/client.h"
#include "pgstage/session/watch.h"

void exchange_begin(struct client *client)
{
    struct worker *worker = client->worker;
    struct exchange *exchange;

    if (client->exchange)
        return;
    exchange = slab_take(&worker->exchanges);
    exchange->waiter.id = client->id;
    exchange->waiter.worker = worker->index;
    exchange->client = client;
    exchange->waited_us = 0;
    client->exchange = exchange;
}

/* Leaves it as a new one is, but for what the next exchange writes before it is read. */
static void clear(struct client *client, struct exchange *exchange)
{
    loss_fini(&exchange->loss);
    exchange->loss = (struct loss){0};
    client_parameters_stay(client);
    again_fini(&exchange->again);
    if (exchange->statement)
        slab_give(&client->worker->statement_heads, exchange->statement);
    exchange->statement = NULL;
    exchange->marked = false;
}

void exchange_free(struct client *client)
{
    struct exchange *exchange = client->exchange;

    if (!exchange)
        return;
    check(exchange->waiter.state == WAITER_IDLE);
    if (exchange->marked)
        clear(client, exchange);
    exchange->recall = (struct recall){0};
    again_drop(&exchange->again);
    client->exchange = NULL;
    slab_give(&client->worker->exchanges, exchange);
}

void exchange_end(struct client *client)
{
    const struct loss *loss = &client->exchange->loss;

    if (client->state != CLIENT_IDLE || client->server || client->held_bytes)
        return;
    if (client->exchange->marked && (loss_is_busy(loss) || loss->cut))
        return;
    exchange_free(client);
}
