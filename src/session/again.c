/*
 * again.c: keeps the one batch that may be sent again.
 *
 * That nothing of it was answered yet, and that nothing was asked behind it, is seen in the number
 * of entries that are owed to the client: it is the same as when its Sync was asked. A batch that
 * was sent again is not kept, so there is no going round.
 */
#include "pgstage/session/again.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/server.h"
#include "pgstage/wire/frame.h"

void again_fini(struct again *again)
{
    free(again->longer);
    again->longer = NULL;
    again->capacity = 0;
}

static uint8_t *bytes_of(struct again *again)
{
    return again->count > AGAIN_ROOM_BYTES ? again->longer : again->room;
}

void again_keep(struct client *client, const uint8_t *bytes, size_t count, bool describes)
{
    struct again *again = &client->exchange->again;

    if (again->used || count > AGAIN_BATCH_BYTES || !describes) {
        again_drop(again);
        return;
    }
    if (count > AGAIN_ROOM_BYTES && count > again->capacity) {
        free(again->longer);
        again->longer = memory_get(count);
        again->capacity = (uint32_t)count;
        client->exchange->marked = true;
    }
    again->count = (uint32_t)count;
    memcpy(bytes_of(again), bytes, count);
    again->owed = transaction_owed_to_client(&client->server->transaction);
    again->links = client->server->links;
}

bool again_try(struct client *client)
{
    struct again *again = &client->exchange->again;
    struct transaction *transaction = &client->server->transaction;
    size_t count = again->count + client->held_bytes;
    uint8_t *bytes;

    if (again->count == 0 || again->links != client->server->links || transaction->status != 'I' ||
        client->body_left || client->parting || count > LOOP_BUFFER_BYTES ||
        again->owed != transaction_owed_to_client(transaction) ||
        !transaction_swallow_sync(transaction))
        return false;
    bytes = memory_get(count);
    memcpy(bytes, bytes_of(again), again->count);
    if (client->held_bytes)
        memcpy(bytes + again->count, client->held, client->held_bytes);
    client_hold(client, bytes, count);
    free(bytes);
    again->count = 0;
    again->used = true;
    client->granted = true;
    loop_defer(client->worker->loop, &client->task);
    return true;
}
