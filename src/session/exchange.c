/*
 * exchange.c: what few exchanges use.
 *
 * Beginning and ending are on the path of every transaction, and cost it a few dozen instructions:
 * a block goes back as clean as it came, and what few exchanges use is looked at only when it is
 * `marked`. So nothing of one client is ever found by another.
 */
#include "pgstage/session/exchange.h"

#include "pgstage/session/watch.h"

/* An idle client is what there are tens of thousands of. Whoever needs more for one finds out first
 * whether an exchange, a login or a pointer would do. */
_Static_assert(sizeof(struct client) <= 456, "an idle client has become larger");

void exchange_clear(struct client *client)
{
    struct exchange *exchange = client->exchange;

    loss_fini(&exchange->loss);
    exchange->loss = (struct loss){0};
    client_parameters_stay(client);
    again_fini(&exchange->again);
    if (exchange->statement)
        slab_give(&client->worker->statement_heads, exchange->statement);
    exchange->statement = NULL;
    exchange->marked = false;
}
