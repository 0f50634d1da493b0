/*
 * unnamed.c: keeps the text of a client's unnamed statement, at the cost of one copy.
 *
 * The memory stays with the client and is used again, so a client that sends Parse, Bind, Execute
 * for each query allocates nothing. A text of more than UNNAMED_KEEP_BYTES that has been bound in
 * its own batch is let go: such a statement can be bound once more only in the same transaction.
 */
#include "pgstage/session/unnamed.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/session/client.h"
#include "pgstage/session/server.h"

/* The room that a short text gets: with what malloc adds, 64 bytes. */
#define SHORT_TEXT_BYTES 48

struct unnamed_text {
    uint32_t bytes, capacity;
    uint8_t of[];
};

void unnamed_fini(struct unnamed *unnamed)
{
    free(unnamed->text);
    unnamed->text = NULL;
}

const uint8_t *unnamed_text(const struct unnamed *unnamed, size_t *bytes)
{
    bool kept = unnamed->state == UNNAMED_KEPT;

    *bytes = kept ? unnamed->text->bytes : 0;
    return kept ? unnamed->text->of : NULL;
}

/* Room for so many bytes, nearly always that of the last text. */
static struct unnamed_text *text_room(struct unnamed *unnamed, size_t bytes)
{
    uint32_t capacity = SHORT_TEXT_BYTES;

    if (unnamed->text && unnamed->text->capacity >= bytes)
        return unnamed->text;
    while (capacity < bytes)
        capacity *= 2;
    free(unnamed->text);
    unnamed->text = memory_get(sizeof(*unnamed->text) + capacity);
    unnamed->text->capacity = capacity;
    return unnamed->text;
}

void unnamed_keep(struct client *client, const uint8_t *text, size_t bytes, uint8_t intent)
{
    struct unnamed *unnamed = &client->unnamed;
    struct unnamed_text *kept = text_room(unnamed, bytes);

    unnamed->state = UNNAMED_KEPT;
    unnamed->intent = intent;
    unnamed->bound = false;
    if (bytes) /* a Parse may have no text behind its name */
        memcpy(kept->of, text, bytes);
    kept->bytes = (uint32_t)bytes;
}

void unnamed_parse(struct client *client, const uint8_t *text, size_t bytes, bool whole,
                   uint8_t intent)
{
    struct unnamed *unnamed = &client->unnamed;

    if (client->pins)
        client_unpin(client, PIN_unnamed_statement);
    unnamed->batch = server_next_batch(client->server);
    unnamed_is_there(client);
    if (whole) {
        unnamed_keep(client, text, bytes, intent);
        return;
    }
    unnamed->state = UNNAMED_LONG;
    unnamed->intent = intent;
    unnamed->bound = false;
}

enum unnamed_use unnamed_look(const struct client *client)
{
    const struct unnamed *unnamed = &client->unnamed;
    const struct server *server = client->server;

    if (server->unnamed_links != server->links)
        return unnamed->state == UNNAMED_KEPT ? UNNAMED_REPARSE : UNNAMED_MISSING;
    if (transaction_is_doubtful(&server->transaction, unnamed->batch))
        return UNNAMED_UNCERTAIN;
    return UNNAMED_THERE;
}

void unnamed_bound(struct client *client)
{
    struct unnamed *unnamed = &client->unnamed;

    unnamed->bound = true;
    if (client->pins)
        client_unpin(client, PIN_unnamed_statement);
    if (!unnamed->text || unnamed->text->capacity <= UNNAMED_KEEP_BYTES)
        return;
    unnamed_fini(unnamed);
    if (unnamed->state == UNNAMED_KEPT)
        unnamed->state = UNNAMED_LONG;
}

void unnamed_is_there(struct client *client)
{
    client->server->unnamed_links = client->server->links;
}

void unnamed_forget(struct client *client)
{
    client_unpin(client, PIN_unnamed_statement);
    client->unnamed.state = UNNAMED_NONE;
    if (client->server)
        client->server->unnamed_links = 0;
}

void unnamed_sync(struct client *client)
{
    if (client->unnamed.state == UNNAMED_LONG && !client->unnamed.bound)
        client_pin(client, PIN_unnamed_statement);
}
