/*
 * recall.c: the names in a client's messages while it has no server.
 *
 * In the made-up transaction (loss.c) Parse of ROLLBACK and the like succeeds, as it does in an
 * aborted one. The statement outlives that transaction, so it is kept as any other; the first
 * server that is asked for it is given it.
 */
#include "pgstage/session/recall.h"

#include <string.h>

#include "pgstage/base/map.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/loss.h"
#include "pgstage/session/prepared.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/intent.h"

/* How its present or last server reads a text, of which `there` bytes have come. */
static uint8_t read_text(const struct client *client, const uint8_t *text, size_t there)
{
    size_t length = strnlen((const char *)text, there);

    return (uint8_t)intent_of((const char *)text, length, length == there, client->sql_mode);
}

static void parse(struct client *client, const uint8_t *body, size_t there,
                  struct loss_message *message)
{
    const uint8_t *end = memchr(body, '\0', there);

    message->intent = INTENT_COMMITS;
    if (!end) /* a name that fills the buffer */
        return;
    message->intent = read_text(client, end + 1, there - (size_t)(end + 1 - body));
    client->exchange->recall.has_parsed = true;
    client->exchange->recall.parsed = message->intent;
    client->exchange->recall.parsed_name = map_hash(body, (size_t)(end - body));
    if (!(message->intent & (INTENT_ENDS | INTENT_EMPTY)) || !*body)
        return;
    message->name = (const char *)body;
    message->sqlstate = prepared_refusal(client, message->name);
}

static void name_statement(struct client *client, const char *name, struct loss_message *message)
{
    const struct recall *recall = &client->exchange->recall;

    message->name = name;
    if (recall->has_parsed && recall->parsed_name == map_hash(name, strlen(name)))
        message->intent = recall->parsed;
    else if (!prepared_intent(client, name, &message->intent))
        message->sqlstate = "26000";
}

void recall_message(struct client *client, const uint8_t *body, size_t there,
                    struct loss_message *message)
{
    struct reader reader;
    const char *portal, *statement;

    reader_init(&reader, body, there);
    message->target = there ? (char)body[0] : 0;
    switch (message->type) {
    case 'Q':
        client->exchange->recall.has_parsed = false;
        message->intent = read_text(client, body, there);
        break;
    case 'S':
        client->exchange->recall.has_parsed = false;
        break;
    case 'P':
        parse(client, body, there, message);
        break;
    case 'B':
        portal = reader_string(&reader);
        statement = reader_string(&reader);
        message->intent = INTENT_COMMITS;
        if (!reader.failed)
            name_statement(client, statement, message);
        if (there)
            recall_bind(&client->exchange->recall, (uint8_t)*portal, message->intent);
        break;
    case 'D':
        (void)reader_u8(&reader);
        statement = reader_string(&reader);
        if (reader.failed)
            break;
        if (message->target == 'S')
            name_statement(client, statement, message);
        else
            message->intent = recall_portal(&client->exchange->recall, (uint8_t)*statement);
        break;
    case 'E':
        message->intent = recall_portal(&client->exchange->recall, there ? body[0] : 0);
        break;
    default:
        break;
    }
}

void recall_done(struct client *client, const uint8_t *body, size_t there,
                 const struct loss_message *message)
{
    const char *name = (const char *)body;
    size_t bytes = strnlen(name, there) + 1;

    if (message->type == 'Q') /* whatever becomes of it */
        unnamed_forget(client);
    if (!message->done)
        return;
    switch (message->type) {
    case 'P':
        if (bytes < there)
            prepared_remember(client, name, body + bytes, there - bytes, message->intent);
        break;
    case 'C':
        if (there > 1 && body[0] == 'S' && memchr(body + 1, '\0', there - 1))
            prepared_forget(client, name + 1);
        break;
    default:
        break;
    }
}
