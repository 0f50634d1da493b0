/*
 * prepared_answer.c: what the server's answers make true of names and statements.
 *
 *   transaction   [ P.  B.  E  S | P.  S ]        . tagged: one change each, in the same order
 *   changes       [ change change | change ]
 *
 * When a tagged entry leaves the answers-owed queue, the oldest change is applied: done when the
 * message was answered well, else as if it had never been asked. Errors are looked at before the
 * client hears them: names of ours in their texts become the client's, a refusal of our own takes
 * the place of the error that we provoked, and what the server says about its statements is
 * believed more than our own books.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/again.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/intent.h"
#include "pgstage/wire/message.h"
#include "prepared_inside.h"

#define PREFIX_BYTES (sizeof(SERVER_NAME_PREFIX) - 1)

/* ---- the ring of changes ---- */

struct prepared *prepared_of(struct server *server)
{
    if (!server->prepared) {
        server->prepared = memory_new(sizeof(*server->prepared));
        statement_set_init(&server->prepared->set);
        server->prepared->tags_seen = server->transaction.tags_over;
    }
    return server->prepared;
}

static struct change *change_at(const struct prepared *prepared, uint32_t index)
{
    return &prepared->changes[(prepared->first + index) & (prepared->capacity - 1)];
}

struct change *prepared_expect(struct server *server)
{
    struct prepared *prepared = prepared_of(server);
    struct change *change;

    if (server->awaited == prepared->capacity) {
        uint32_t capacity = prepared->capacity ? prepared->capacity * 2 : 8;
        struct change *changes = memory_get(capacity * sizeof(*changes));

        for (uint32_t i = 0; i < server->awaited; i++)
            changes[i] = *change_at(prepared, i);
        free(prepared->changes);
        prepared->changes = changes;
        prepared->capacity = capacity;
        prepared->first = 0;
    }
    change = change_at(prepared, server->awaited++);
    memset(change, 0, sizeof(*change));
    return change;
}

static void update_pin(struct client *client)
{
    if (client->names->long_ones)
        client_pin(client, PIN_long_statement);
    else
        client_unpin(client, PIN_long_statement);
}

/* A long statement without a name is of no use any more. */
static void release_long(struct prepared *prepared, const struct statement_name *name)
{
    struct kept_statement *kept = name->statement && statement_is_long(name->statement)
                                      ? statement_set_find(&prepared->set, name->statement)
                                      : NULL;

    if (kept)
        kept->held = false;
}

static void apply(struct server *server, struct change change, bool done)
{
    struct prepared *prepared = server->prepared;

    if (change.name) {
        if (done)
            release_long(prepared, change.name);
        statement_names_answer(server->client->names, change.name, change.statement, done);
        update_pin(server->client);
    }
    if (change.used)
        statement_names_used(server->client->names, change.used);
    if (change.kept)
        statement_set_answer(&prepared->set, change.kept, change.there, done);
    free(change.sqlstate);
    free(change.text);
    free(change.hint);
}

static void shift(struct server *server, bool done)
{
    struct prepared *prepared = server->prepared;
    struct change change = *change_at(prepared, 0);

    prepared->first = (prepared->first + 1) & (prepared->capacity - 1);
    server->awaited--;
    prepared->tags_seen++;
    apply(server, change, change.by_tag ? change.tagged : done && !change.failed);
    if (server->awaited == 0 && prepared->capacity > 1024) {
        free(prepared->changes); /* a burst need not be remembered for ever */
        prepared->changes = NULL;
        prepared->capacity = prepared->first = 0;
    }
}

unsigned prepared_answered(struct server *server, uint8_t type)
{
    struct prepared *prepared = server->prepared;

    while (prepared->tags_seen != server->transaction.tags_over)
        shift(server, type != 'E');
    return server->awaited ? prepared_produce(server) : 0;
}

unsigned prepared_produce(struct server *server)
{
    unsigned count = 0;

    while (transaction_produce(&server->transaction)) {
        shift(server, true);
        count++;
    }
    return count;
}

/* ---- errors ---- */

/* The change that the head of the queue waits for; NULL: the head is not tagged. */
static struct change *change_of_head(const struct server *server)
{
    return transaction_head_is_tagged(&server->transaction) ? change_at(server->prepared, 0) : NULL;
}

/* The next name of ours in a text; its length, 0: there is none. */
static size_t find_our_name(const char *text, const char **found, uint64_t *number)
{
    const char *at = text;

    while ((at = strstr(at, SERVER_NAME_PREFIX))) {
        char *end;

        *number = strtoull(at + PREFIX_BYTES, &end, 10);
        if (end > at + PREFIX_BYTES && at[PREFIX_BYTES] != '+' && at[PREFIX_BYTES] != '-' &&
            at[PREFIX_BYTES] != ' ') {
            *found = at;
            return (size_t)(end - at);
        }
        at += PREFIX_BYTES;
    }
    return 0;
}

/* The text with the client's names in place of ours; `change` (NULL: none) tells which of several
 * names for the same statement was used. */
static bool put_translated(struct buffer *out, const struct client *client,
                           const struct change *change, const char *text)
{
    const char *found;
    uint64_t number;
    bool changed = false;
    size_t length;

    while ((length = find_our_name(text, &found, &number))) {
        const char *name = NULL;

        if (change && change->used && change->number == number)
            name = change->used->name;
        else if (client->names)
            name = statement_names_of_number(client->names, number);

        buffer_put(out, text, (size_t)(found - text));
        buffer_put(out, name ? name : found, name ? strlen(name) : length);
        changed |= name != NULL;
        text = found + length;
    }
    buffer_put_string(out, text);
    return changed;
}

/* The whole ErrorResponse, its texts translated; false when nothing had to be. */
static bool translate(const struct client *client, const struct change *change, const uint8_t *body,
                      size_t length, struct buffer *out)
{
    size_t begin = message_begin(out, 'E');
    struct reader reader;
    bool changed = false;
    uint8_t field;

    reader_init(&reader, body, length);
    while ((field = reader_u8(&reader)) && !reader.failed) {
        const char *text = reader_string(&reader);

        buffer_put_u8(out, field);
        if (field == 'M' || field == 'D' || field == 'H')
            changed |= put_translated(out, client, change, text);
        else
            buffer_put_string(out, text);
    }
    buffer_put_u8(out, '\0');
    message_end(out, begin);
    return changed && !reader.failed;
}

/* The server says that it has no such statement, though it should: somebody has deallocated it
 * behind our back, most likely all. */
static void believe(struct server *server, const struct error_fields *fields, uint64_t number)
{
    struct kept_statement *kept;
    uint64_t named;
    const char *found;

    if (!find_our_name(fields->message, &found, &named))
        named = number;
    kept = statement_set_find_number(&server->prepared->set, named);
    if (kept && kept->there)
        statement_set_clear(&server->prepared->set);
}

bool prepared_error(struct server *server, const uint8_t *body, size_t length, struct buffer *out,
                    bool *again)
{
    struct change *change = change_of_head(server);
    struct kept_statement *kept;
    struct error_fields fields;

    (void)error_fields_read(&fields, body, length);
    if (change && change->sqlstate && strcmp(fields.severity, "ERROR") == 0 &&
        (!change->used || strcmp(fields.sqlstate, change->sqlstate) == 0)) {
        message_error(out, "ERROR", change->sqlstate, change->text, NULL, change->hint);
        return true;
    }
    if (change)
        change->failed = true;
    if (change && change->number && strcmp(fields.sqlstate, "0A000") == 0) {
        /* its result has changed: from now on it is another statement to every server */
        kept = statement_set_find_number(&server->prepared->set, change->number);
        if (kept) {
            statement_renumber(kept->statement, kept->number);
            *again = server->client && again_try(server->client);
        }
    }
    if (strcmp(fields.sqlstate, "26000") == 0)
        believe(server, &fields, change ? change->number : 0);
    if (server->client && memmem(body, length, SERVER_NAME_PREFIX, PREFIX_BYTES) &&
        translate(server->client, change, body, length, out))
        return true;
    buffer_fini(out);
    return false;
}

/* ---- all at once ---- */

void prepared_command(struct server *server, const uint8_t *tag, size_t length, bool own)
{
    struct client *client = server->client;

    if (!own && server->awaited > 0 && length == sizeof("DEALLOCATE") &&
        memcmp(tag, "DEALLOCATE", length) == 0)
        change_at(server->prepared, 0)->tagged = true;
    if (!(length == sizeof("DEALLOCATE ALL") && memcmp(tag, "DEALLOCATE ALL", length) == 0) &&
        !(length == sizeof("DISCARD ALL") && memcmp(tag, "DISCARD ALL", length) == 0))
        return;
    if (server->prepared)
        statement_set_clear(&server->prepared->set);
    if (client && client->names && !own) {
        statement_names_clear(client->names);
        update_pin(client);
    }
}

void prepared_context_changed(struct server *server)
{
    struct prepared *prepared = server->prepared;

    for (uint32_t i = 0; i < server->awaited; i++) {
        struct kept_statement *kept = change_at(prepared, i)->kept;

        if (kept)
            statement_renumber(kept->statement, kept->number);
    }
}

/* ---- life ---- */

void prepared_unlink(struct server *server, struct client *client)
{
    struct prepared *prepared = server->prepared;

    for (uint32_t i = 0; i < server->awaited; i++) {
        struct change *change = change_at(prepared, i);

        if (change->name)
            statement_names_answer(client->names, change->name, change->statement, false);
        if (change->used)
            statement_names_used(client->names, change->used);
        change->name = change->used = NULL;
        change->statement = NULL;
    }
    if (!client->names)
        return;
    client->names->wiped = false;
    if (client->names->long_ones) {
        statement_names_forget_long(client->names);
        update_pin(client);
        if (prepared)
            statement_set_release(&prepared->set);
    }
}

void prepared_free(struct server *server)
{
    struct prepared *prepared = server->prepared;

    if (!prepared)
        return;
    for (uint32_t i = 0; i < server->awaited; i++) {
        struct change *change = change_at(prepared, i);

        free(change->sqlstate);
        free(change->text);
        free(change->hint);
    }
    statement_set_fini(&prepared->set);
    free(prepared->changes);
    free(prepared);
}

void prepared_client_free(struct client *client)
{
    if (client->names) {
        statement_names_fini(client->names);
        free(client->names);
    }
    unnamed_fini(&client->unnamed);
}

size_t prepared_client_count(const struct client *client)
{
    return client->names ? statement_names_count(client->names) : 0;
}

size_t prepared_server_count(const struct server *server)
{
    return server->prepared ? statement_set_count(&server->prepared->set) : 0;
}

const char *prepared_bound_text(const struct client *client, const uint8_t *body, size_t length)
{
    const struct statement_name *name;
    struct reader reader;
    const char *called;
    size_t bytes;

    reader_init(&reader, body, length);
    (void)reader_string(&reader);
    called = reader_string(&reader);
    if (reader.failed)
        return NULL;
    if (!*called) {
        const uint8_t *text = unnamed_text(&client->unnamed, &bytes);

        /* it is kept as it came: its Parse may have had no end */
        return text && memchr(text, '\0', bytes) ? (const char *)text : NULL;
    }
    name = client->names ? statement_names_find(client->names, called) : NULL;
    return name && name->asked ? (const char *)statement_text(name->asked, &bytes) : NULL;
}

/* ---- without a server ---- */

const char *prepared_refusal(const struct client *client, const char *name)
{
    const struct statement_name *known =
        client->names ? statement_names_find(client->names, name) : NULL;

    return known && known->statement ? "42P05" : NULL;
}

void prepared_remember(struct client *client, const char *name, const uint8_t *text, size_t bytes,
                       uint8_t intent)
{
    struct statement_name *known;
    struct statement *statement;

    if (!*name) {
        unnamed_keep(client, text, bytes, intent);
        return;
    }
    if (share_settings(client->share)->max_prepared_statements <= 0 || prepared_is_ours(name) ||
        prepared_client_count(client) >=
            (size_t)share_settings(client->share)->max_client_prepared_statements)
        return;
    statement = prepared_take(client, text, bytes, intent);
    if (!statement)
        return;
    if (!client->names)
        client->names = memory_new(sizeof(*client->names));
    known = statement_names_get(client->names, name);
    statement_names_ask(known, statement, 0);
    statement_names_answer(client->names, known, statement, true);
}

void prepared_forget(struct client *client, const char *name)
{
    struct statement_name *known =
        client->names && *name ? statement_names_find(client->names, name) : NULL;

    if (!*name)
        unnamed_forget(client);
    if (!known)
        return;
    statement_names_ask(known, NULL, 0);
    statement_names_answer(client->names, known, NULL, true);
}

bool prepared_intent(const struct client *client, const char *name, uint8_t *intent)
{
    const struct statement_name *known =
        client->names && *name ? statement_names_find(client->names, name) : NULL;

    if (!*name) {
        *intent = client->unnamed.intent;
        return client->unnamed.state != UNNAMED_NONE;
    }
    *intent = known && known->asked ? statement_intent(known->asked) : INTENT_COMMITS;
    return (known && known->asked) || share_settings(client->share)->max_prepared_statements <= 0 ||
           share_settings(client->share)->pool_mode == POOL_MODE_SESSION;
}
