/* exchange: a client has one while it is at something; no two share one, and none leaves anything in
 * it for the next. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/parameters.h"
#include "pgstage/session/watch.h"

#define CROWD 10000

static struct worker worker;
static struct client crowd[CROWD];

static void begin(void)
{
    worker = (struct worker){.index = 3};
    slab_init(&worker.exchanges, sizeof(struct exchange));
    slab_init(&worker.statement_heads, sizeof(struct statement_head));
    for (uint64_t i = 0; i < CROWD; i++)
        crowd[i] = (struct client){.worker = &worker, .id = i + 1, .state = CLIENT_IDLE};
}

static void end(void)
{
    slab_fini(&worker.exchanges);
    slab_fini(&worker.statement_heads);
}

TestSuite(exchange, .init = begin, .fini = end);

static void expect_clean(const struct client *client)
{
    static const struct loss no_loss;
    static const struct recall no_recall;
    const struct exchange *exchange = client->exchange;

    cr_assert_eq(exchange->client, client);
    cr_assert_eq(exchange->waiter.id, client->id);
    cr_assert_eq(exchange->waiter.worker, 3);
    cr_assert_eq(exchange->waiter.state, WAITER_IDLE);
    cr_assert_not(exchange->marked);
    cr_assert_not(exchange->changes);
    cr_assert_null(exchange->before);
    cr_assert_null(exchange->statement);
    cr_assert_eq(exchange->waited_us, 0);
    cr_assert_arr_eq(&exchange->loss, &no_loss, sizeof(no_loss));
    cr_assert_arr_eq(&exchange->recall, &no_recall, sizeof(no_recall));
    cr_assert_eq(exchange->again.count, 0);
    cr_assert_null(exchange->again.longer);
    cr_assert_eq(exchange->again.capacity, 0);
    cr_assert_not(exchange->again.used);
}

/* Uses everything that there is in it. */
static void use(struct client *client)
{
    struct exchange *exchange = client->exchange;

    exchange->waited_us = exchange->transaction_us = 5;
    exchange->recall = (struct recall){.portal = 1, .portals = 2, .parsed = 4, .has_parsed = true};
    exchange->again =
        (struct again){.longer = malloc(1000), .capacity = 1000, .count = 600, .used = true};
    exchange->statement = slab_take(&worker.statement_heads);
    exchange->statement->bytes = 3;
    exchange->marked = true;
    client->parameters = parameters_with(NULL, "application_name", "one");
    client_parameter_reported(client, "application_name", "two");
    cr_assert(exchange->changes);
    loss_refuse(&exchange->loss, "57P01", "the server was lost", "try again");
}

static void end_loss(struct client *client)
{
    loss_fini(&client->exchange->loss);
    client->exchange->loss.state = LOSS_NONE;
}

Test(exchange, is_given_back_when_the_client_is_idle)
{
    struct client *client = &crowd[0];
    struct exchange *first;

    exchange_begin(client);
    expect_clean(client);
    first = client->exchange;
    exchange_begin(client);
    cr_assert_eq(client->exchange, first, "it has one already");
    exchange_end(client);
    cr_assert_null(client->exchange);
    exchange_free(client); /* harmless */
}

Test(exchange, stays_while_something_is_left)
{
    struct client *client = &crowd[0];
    uint8_t byte = 'Q';

    exchange_begin(client);
    client->state = CLIENT_WAITING;
    exchange_end(client);
    cr_assert_not_null(client->exchange);
    client->state = CLIENT_ACTIVE;
    exchange_end(client);
    cr_assert_not_null(client->exchange);
    client->state = CLIENT_IDLE;
    client->server = (struct server *)&worker; /* replication: it has one and is welcomed */
    exchange_end(client);
    cr_assert_not_null(client->exchange);
    client->server = NULL;
    memory_keep(&client->held, &client->held_bytes, &byte, 1);
    exchange_end(client);
    cr_assert_not_null(client->exchange);
    memory_keep(&client->held, &client->held_bytes, NULL, 0);
    /* the client is still to be told that its server was lost */
    client->exchange->marked = true;
    loss_refuse(&client->exchange->loss, "57P01", "the server was lost", NULL);
    exchange_end(client);
    cr_assert_not_null(client->exchange);
    end_loss(client);
    /* the rest of a message that is refused has not come yet */
    loss_cut(&client->exchange->loss, 'Q', 0);
    exchange_end(client);
    cr_assert_not_null(client->exchange);
    client->exchange->loss.cut = 0;
    exchange_end(client);
    cr_assert_null(client->exchange);
}

Test(exchange, leaves_nothing_for_the_next_client)
{
    struct client *one = &crowd[0], *other = &crowd[1];
    struct exchange *first;

    exchange_begin(one);
    first = one->exchange;
    use(one);
    end_loss(one);
    exchange_end(one);
    cr_assert_null(one->exchange);
    cr_assert_str_eq(parameters_get(one->parameters, "application_name"), "two");
    exchange_begin(other);
    cr_assert_eq(other->exchange, first, "the test wants the same block");
    expect_clean(other);
    exchange_end(other);
    /* a client that ends in the middle of everything */
    exchange_begin(other);
    use(other);
    exchange_free(other);
    exchange_begin(one);
    expect_clean(one);
    exchange_end(one);
    parameters_unref(one->parameters);
    parameters_unref(other->parameters);
}

Test(exchange, is_never_shared)
{
    for (int i = 0; i < CROWD; i++)
        exchange_begin(&crowd[i]);
    for (int i = 0; i < CROWD; i++)
        expect_clean(&crowd[i]);
    for (int i = 0; i < CROWD; i += 2)
        exchange_end(&crowd[i]);
    for (int i = 0; i < CROWD; i += 2)
        exchange_begin(&crowd[i]);
    for (int i = 0; i < CROWD; i++)
        expect_clean(&crowd[i]);
    for (int i = 0; i < CROWD; i++)
        exchange_end(&crowd[i]);
}

Test(exchange, a_burst_leaves_one_page)
{
    for (int i = 0; i < CROWD; i++)
        exchange_begin(&crowd[i]);
    cr_assert_geq(worker.exchanges.page_count, CROWD / worker.exchanges.page_blocks);
    for (int i = 0; i < CROWD; i++)
        exchange_end(&crowd[i]);
    cr_assert_eq(worker.exchanges.page_count, 1);
}
