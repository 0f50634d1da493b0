/*
 * tracker.c: which answer belongs to which statement.
 *
 * A message that may change something gets a record here and a note at its entry in the
 * answers-owed queue; when noted entries leave the queue, records leave the list, in the same
 * order:
 *
 *   queue    [ S | Q(noted) | P B(noted) E(noted) S ]      notes_over counts what has left
 *   records  [     Q        |   B        E          ]
 *
 * So a record is looked at exactly when the server answers its message, and is gone when an error
 * made the server skip it. What a Query's statements do is entered into the journal with each
 * CommandComplete. Statements and portals of the extended protocol are followed through Parse, Bind
 * and Close, but only those that do something, or are called like one that does.
 */
#include "pgstage/session/tracker.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/listening.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/intent.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/sql.h"
#include "tracker_inside.h"

/* Over this much in flight, what is sent further counts as unknown. */
#define RECORDS_MAX_BYTES (1024 * 1024)
/* Over so many statements or portals that do something, too. */
#define NAMES_MAX 1000

/* ---- life ---- */

static struct tracker *tracker_of(struct client *client)
{
    if (!client->tracker) {
        client->tracker = memory_new(sizeof(*client->tracker));
        list_init(&client->tracker->records);
    }
    return client->tracker;
}

static void record_free(struct record *record)
{
    if (!record)
        return;
    entries_fini(&record->entries);
    free(record->name);
    free(record->target);
    free(record->problem);
    free(record);
}

static void drop_first(struct tracker *tracker)
{
    struct record *record = list_entry(list_first(&tracker->records), struct record, node);

    list_remove(&tracker->records, &record->node);
    tracker->records_bytes -= record->bytes;
    record_free(record);
}

static void names_fini(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        free(names->items[i].name);
        entries_fini(&names->items[i].entries);
    }
    free(names->items);
    *names = (struct names){0};
}

void tracker_free(struct tracker *tracker)
{
    if (!tracker)
        return;
    while (list_first(&tracker->records))
        drop_first(tracker);
    record_free(tracker->staged);
    names_fini(&tracker->statements);
    names_fini(&tracker->portals);
    journal_fini(&tracker->journal);
    free(tracker);
}

/* ---- names ---- */

static struct named *names_find(const struct names *names, const char *name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].name, name) == 0)
            return &names->items[i];
    }
    return NULL;
}

static void names_remove(struct names *names, const char *name)
{
    struct named *named = names_find(names, name);

    if (!named)
        return;
    free(named->name);
    entries_fini(&named->entries);
    *named = names->items[--names->count];
}

/* From now on the name means these entries; none: it does nothing. False when there is no room. */
static bool names_put(struct names *names, const char *name, const struct entries *entries)
{
    names_remove(names, name);
    if (!entries || entries->count == 0)
        return true;
    if (names->count >= NAMES_MAX)
        return false;
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? names->capacity * 2 : 4;
        names->items = memory_resize(names->items, names->capacity, sizeof(*names->items));
    }
    names->items[names->count].name = text_copy(name);
    names->items[names->count].begun = false;
    entries_copy(&names->items[names->count].entries, entries);
    names->count++;
    return true;
}

/* May this statement (or portal) do something by the time that what is sent now is read? */
static bool may_act(const struct tracker *tracker, const char *name, bool is_portal)
{
    if (tracker->overflown ||
        names_find(is_portal ? &tracker->portals : &tracker->statements, name))
        return true;
    list_for_each (node, &tracker->records) {
        const struct record *record = list_entry(node, struct record, node);

        if (record->type == (is_portal ? 'B' : 'P') && strcmp(record->name, name) == 0)
            return true;
    }
    return false;
}

/* ---- asking ---- */

/* The records belong to the server that the client has now. */
static void follow_server(struct tracker *tracker, const struct server *server)
{
    bool same = tracker_is_of(tracker, server);

    if (same && list_first(&tracker->records))
        return;
    while (list_first(&tracker->records))
        drop_first(tracker);
    tracker->notes_over = server->transaction.notes_over;
    if (!same) {
        journal_clear(&tracker->journal);
        names_fini(&tracker->portals);
        tracker->failed = tracker->immediate = tracker->loose = false;
        /* what was executed since the last ReadyForQuery may have ended the block unseen */
        tracker->in_block = server->transaction.status != 'I' && !server->transaction.ran;
    }
    tracker->server_id = server->item.id;
    tracker->links = server->links;
}

/* What it has asked for is what it gets before its first statement; the rest is the server's own.
 * The set is only read when it is another one than last time. */
void tracker_linked(struct client *client)
{
    const char *conforming, *encoding;

    if (client->parameters != client->mode_of) {
        parameters_unref(client->mode_of);
        client->mode_of = parameters_ref(client->parameters);
        conforming = parameters_get(client->parameters, "standard_conforming_strings");
        encoding = parameters_get(client->parameters, "client_encoding");
        client->own_mode = (uint8_t)sql_mode_of(conforming, encoding);
        client->own_mode_mask =
            (uint8_t)((conforming ? SQL_BACKSLASH : 0) | (encoding ? SQL_MIXED : 0));
    }
    client->sql_mode =
        (uint8_t)((client->server->sql_mode & ~client->own_mode_mask) | client->own_mode);
}

static struct record *stage(struct tracker *tracker, uint8_t type, const char *name,
                            const char *target)
{
    struct record *record = memory_new(sizeof(*record));

    record_free(tracker->staged);
    tracker->staged = record;
    record->type = type;
    record->name = text_copy(name);
    record->target = text_copy(target);
    return record;
}

/* It may do what cannot be read in it. */
static void add_unknown(struct record *record)
{
    struct entry *entry = entries_add(&record->entries, ENTRY_ASK, 0);

    entry->pin = PIN_unknown;
    entry->at_once = true;
}

static struct record *stage_unknown(struct tracker *tracker, uint8_t type, const char *name)
{
    struct record *record = stage(tracker, type, name, NULL);

    add_unknown(record);
    return record;
}

/* Is the text read in another way when the session's parameters have changed by then? They may be,
 * by what is still under way. */
static bool is_ambiguous(const struct client *client, const char *text, size_t length)
{
    const struct transaction *transaction = &client->server->transaction;

    if (transaction->count == 0 && !transaction->batch_open)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\\' || (unsigned char)text[i] >= 0x80)
            return true;
    }
    return false;
}

/* A text that may do something. */
static struct record *stage_text(struct client *client, uint8_t type, const char *name,
                                 const char *text, size_t length)
{
    struct tracker *tracker = tracker_of(client);
    struct record *record;

    follow_server(tracker, client->server);
    if (tracker->records_bytes + length > RECORDS_MAX_BYTES)
        return stage_unknown(tracker, type, name);
    record = stage(tracker, type, name, NULL);
    (void)entries_read(&record->entries, text, length, client->sql_mode);
    if (is_ambiguous(client, text, length))
        add_unknown(record);
    return record;
}

/* Only its beginning is here; the rest is looked at as it comes. */
static enum tracker_step look_at_head(struct client *client, uint8_t type, const char *name,
                                      const char *text, size_t length)
{
    struct tracker *tracker = tracker_of(client);

    follow_server(tracker, client->server);
    tracker->scanning =
        length >= sizeof(tracker->scan_tail) && intent_is_none_at_head(text, length);
    if (tracker->scanning) {
        memcpy(tracker->scan_tail, text + length - sizeof(tracker->scan_tail),
               sizeof(tracker->scan_tail));
    }
    /* only what comes later tells whether it does something: there is no harm in a record */
    stage_unknown(tracker, type, name);
    if (tracker->scanning)
        entries_fini(&tracker->staged->entries);
    return TRACKER_NOTE;
}

/* What a LISTEN needs before it is sent on. */
static enum tracker_step prepare_listening(struct client *client, const struct entries *entries)
{
    int mode = share_settings(client->share)->session_state;
    uint32_t next = 0;
    const char *channel;
    char problem[160];

    while (mode != SESSION_STATE_PIN && (channel = entries_channel(entries, &next))) {
        switch (listening_prepare(client, channel, problem, sizeof(problem))) {
        case LISTENING_READY:
            break;
        case LISTENING_WAIT:
            return TRACKER_HOLD;
        case LISTENING_FAILED:
            client->tracker->staged->refused = true;
            client->tracker->staged->problem = text_print("cannot listen: %s", problem);
            return TRACKER_REFUSE;
        }
    }
    return TRACKER_NOTE;
}

static enum tracker_step finish_text(struct client *client, const struct record *record)
{
    if (share_settings(client->share)->session_state == SESSION_STATE_ERROR &&
        entries_are_refused(&record->entries, client->server)) {
        client->tracker->staged->refused = true;
        return TRACKER_REFUSE;
    }
    return prepare_listening(client, &record->entries);
}

static enum tracker_step look_at_text(struct client *client, uint8_t type, unsigned intent,
                                      const uint8_t *body, size_t there, size_t body_bytes)
{
    const char *name = "", *text = (const char *)body;
    size_t length = there;

    if (there == body_bytes && !(intent & (INTENT_STATE | INTENT_READ)) &&
        (type == 'Q' || !client->tracker))
        return TRACKER_PASS;
    if (there < body_bytes && there < LOOP_BUFFER_BYTES / 2)
        return TRACKER_HOLD;
    if (type == 'P') {
        const uint8_t *end = memchr(body, '\0', there);

        if (!end && there == body_bytes)
            return TRACKER_PASS; /* the server will say what is wrong with it */
        if (!end) {
            follow_server(tracker_of(client), client->server);
            stage_unknown(client->tracker, type, "");
            return TRACKER_NOTE;
        }
        name = text;
        length -= (size_t)(end + 1 - body);
        text = (const char *)end + 1;
    }
    if (there < body_bytes)
        return look_at_head(client, type, name, text, length);
    length = strnlen(text, length);
    if (intent & INTENT_STATE || (intent & INTENT_READ && is_ambiguous(client, text, length)))
        return finish_text(client, stage_text(client, type, name, text, length));
    if (type == 'P' && client->tracker && may_act(client->tracker, name, false)) {
        follow_server(client->tracker, client->server);
        stage(client->tracker, type, name, NULL);
        return TRACKER_NOTE;
    }
    return TRACKER_PASS;
}

static enum tracker_step look_at_names(struct client *client, uint8_t type, const uint8_t *body,
                                       size_t there)
{
    struct tracker *tracker = client->tracker;
    struct reader reader;
    const char *name, *target = NULL;
    const struct named *statement;
    char what = 'P';

    reader_init(&reader, body, there);
    if (type == 'C')
        what = (char)reader_u8(&reader);
    name = reader_string(&reader);
    if (type == 'B')
        target = reader_string(&reader);
    if (reader.failed)
        return TRACKER_PASS;
    follow_server(tracker, client->server);
    if (!may_act(tracker, name, what == 'P') && !(target && may_act(tracker, target, false)))
        return TRACKER_PASS;
    stage(tracker, type, name, target)->close_what = what;
    statement = target ? names_find(&tracker->statements, target) : NULL;
    return statement ? prepare_listening(client, &statement->entries) : TRACKER_NOTE;
}

enum tracker_step tracker_look(struct client *client, uint8_t type, unsigned intent,
                               const uint8_t *body, size_t there, size_t body_bytes)
{
    if (client->tracker)
        client->tracker->scanning = false;
    if (type == 'Q' || type == 'P')
        return look_at_text(client, type, intent, body, there, body_bytes);
    return look_at_names(client, type, body, there);
}

static size_t bytes_of(const struct record *record)
{
    return sizeof(*record) + strlen(record->name) + (record->target ? strlen(record->target) : 0) +
           record->entries.bytes;
}

void tracker_asked(struct client *client, bool entered)
{
    struct tracker *tracker = client->tracker;
    struct record *record = tracker->staged;

    tracker->staged = NULL;
    if (!entered) {
        record_free(record);
        return;
    }
    record->bytes = bytes_of(record);
    tracker->records_bytes += record->bytes;
    list_push_back(&tracker->records, &record->node);
}

void tracker_piece(struct client *client, const uint8_t *bytes, size_t count)
{
    struct tracker *tracker = client->tracker;
    uint8_t seam[2 * sizeof(tracker->scan_tail)];
    size_t ahead = count < sizeof(tracker->scan_tail) ? count : sizeof(tracker->scan_tail);

    if (!tracker->scanning)
        return;
    memcpy(seam, tracker->scan_tail, sizeof(tracker->scan_tail));
    memcpy(seam + sizeof(tracker->scan_tail), bytes, ahead);
    if (!intent_may_be_in((const char *)seam, sizeof(tracker->scan_tail) + ahead) &&
        !intent_may_be_in((const char *)bytes, count)) {
        memcpy(tracker->scan_tail, seam + ahead, sizeof(tracker->scan_tail));
        if (count >= sizeof(tracker->scan_tail))
            memcpy(tracker->scan_tail, bytes + count - sizeof(tracker->scan_tail),
                   sizeof(tracker->scan_tail));
        return;
    }
    tracker->scanning = false;
    if (list_last(&tracker->records))
        add_unknown(list_entry(list_last(&tracker->records), struct record, node));
}

void tracker_refusal(const struct client *client, uint8_t type, const uint8_t *body,
                     struct buffer *out)
{
    static const char nonsense[] = "pgstage refuses this statement";

    (void)client;
    if (type == 'P')
        message_parse(out, (const char *)body, nonsense);
    else if (type == 'B')
        message_parse(out, "", nonsense); /* it fails as the Bind shall */
    else
        message_query(out, nonsense);
}

/* ---- answers ---- */

/* What is done as soon as it is done, whatever becomes of the transaction. A statement that failed
 * may have made something all the same, but has taken nothing away for certain. */
static void apply_at_once(struct client *client, const struct entries *entries, uint32_t statement,
                          bool succeeded)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        const struct entry *entry = &entries->items[i];

        if (entry->at_once && entry->statement == statement &&
            (succeeded || entry->kind != ENTRY_UNPIN))
            tracker_apply(client, entry);
    }
}

/* Statement number `statement` has succeeded; `again`: its portal had done so before, and has only
 * been fetched from since. True: it was a ROLLBACK TO. */
static bool enter(struct client *client, const struct entries *entries, uint32_t statement,
                  bool again)
{
    struct tracker *tracker = client->tracker;
    bool loose = !tracker->in_block && !transaction_head_is_query(&client->server->transaction);
    bool to_savepoint = false;

    apply_at_once(client, entries, statement, true);
    for (uint32_t i = 0; i < entries->count; i++) {
        const struct entry *entry = &entries->items[i];

        if (entry->at_once || entry->statement != statement || (again && entry->kind == ENTRY_SET))
            continue;
        to_savepoint |= entry->kind == ENTRY_ROLLBACK_TO;
        tracker->loose |= loose;
        journal_add(&tracker->journal, entry);
    }
    return to_savepoint;
}

/* A portal that nothing is known of, because there were too many. */
static struct entry unknown_entry = {.kind = ENTRY_ASK, .pin = PIN_unknown, .at_once = true};
static struct named unknown_portal = {.entries = {.items = &unknown_entry, .count = 1}};

/* The portal that the record's message executes, if that does something. */
static struct named *portal_of(const struct tracker *tracker, const struct record *record)
{
    struct named *portal;

    if (!record || record->type != 'E')
        return NULL;
    portal = names_find(&tracker->portals, record->name);
    return !portal && tracker->overflown ? &unknown_portal : portal;
}

/* What the record's message does: its own text, or that of the portal it executes. */
static const struct entries *entries_of(const struct tracker *tracker, const struct record *record)
{
    const struct named *portal = portal_of(tracker, record);

    if (record && record->type == 'Q')
        return &record->entries;
    return portal ? &portal->entries : NULL;
}

/* The head's message, or a statement of it, has done what it does; `suspended`: its portal has more
 * rows. True: it was a ROLLBACK TO. */
static bool done(struct client *client, struct record *record, bool suspended)
{
    struct named *portal = portal_of(client->tracker, record);
    bool again = portal && portal->begun;

    if (record && record->type == 'Q')
        return enter(client, &record->entries, record->completed++, false);
    if (!portal)
        return false;
    if (portal != &unknown_portal)
        portal->begun = true;
    return enter(client, &portal->entries, 0, again) && !suspended;
}

/* Statements that PostgreSQL carries out in no transaction block, and commits at once even in the
 * midst of a pipeline. There are more, but their tags do not tell. */
static bool commits_at_once(const char *tag)
{
    static const char *const tags[] = {
        "ALTER SYSTEM",      "COMMIT PREPARED",   "CREATE DATABASE",
        "CREATE TABLESPACE", "DISCARD ALL",       "DROP DATABASE",
        "DROP TABLESPACE",   "ROLLBACK PREPARED", "VACUUM",
    };

    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (strcmp(tag, tags[i]) == 0)
            return true;
    }
    return false;
}

/* What was done since the last commit is committed. */
static void commit(struct tracker *tracker)
{
    journal_commit(&tracker->journal);
    tracker->loose = false;
}

/* … is undone, by an error or a ROLLBACK. What was done in a transaction block is, and so is what was
 * done in a string of statements, which is one transaction as far as no COMMIT stands in it. But in a
 * pipeline outside of a block something may have committed what was before it, which nothing tells: a
 * CREATE INDEX CONCURRENTLY, a procedure, even one that failed in the end. */
static void undo(struct client *client)
{
    struct tracker *tracker = client->tracker;

    if (tracker->loose)
        tracker_doubt(client);
    journal_rollback(&tracker->journal);
    tracker->loose = false;
}

static void command(struct client *client, struct record *record, const char *tag)
{
    struct tracker *tracker = client->tracker;
    bool to_savepoint = done(client, record, false);

    if (strcmp(tag, "COMMIT") == 0 || strcmp(tag, "PREPARE TRANSACTION") == 0) {
        commit(tracker);
        tracker->failed = tracker->in_block = false;
    } else if (strcmp(tag, "ROLLBACK") == 0 && !to_savepoint) {
        undo(client);
        tracker->failed = tracker->in_block = false;
    } else if (strcmp(tag, "BEGIN") == 0 || strcmp(tag, "START TRANSACTION") == 0) {
        tracker->in_block = true;
    } else if (commits_at_once(tag)) {
        commit(tracker);
        tracker->immediate = true;
    }
}

static void refuse(struct record *record, struct buffer *instead)
{
    if (!record->refused)
        return;
    if (record->problem) {
        message_error(instead, "ERROR", "08006", record->problem, NULL, NULL);
        return;
    }
    message_error(
        instead, "ERROR", "0A000", "session state is not allowed in transaction pooling mode", NULL,
        "Use SET LOCAL inside a transaction, or set session_state or pool_mode in pgstage's "
        "configuration.");
}

static void failed(struct client *client, struct record *record, struct buffer *instead)
{
    struct tracker *tracker = client->tracker;
    const struct entries *entries = entries_of(tracker, record);
    bool ran = record && !record->refused;

    /* a lock may have been taken before it failed */
    if (entries && ran)
        apply_at_once(client, entries, record->type == 'Q' ? record->completed : 0, false);
    tracker->failed = true;
    if (record)
        refuse(record, instead);
}

/* There is no room for what a name stands for: from now on any may do anything. */
static void overflow(struct tracker *tracker)
{
    tracker->overflown = tracker->ask = tracker->ask_all = true;
}

static void bound(struct tracker *tracker, const struct record *record)
{
    const struct named *statement = names_find(&tracker->statements, record->target);

    if (!names_put(&tracker->portals, record->name, statement ? &statement->entries : NULL))
        overflow(tracker);
}

static void ready(struct server *server, char status)
{
    struct client *client = server->client;
    struct tracker *tracker = client->tracker;

    if (status == 'I' && tracker->failed) {
        /* older servers commit some of what commits by itself with the Sync only */
        tracker->loose |= tracker->immediate;
        undo(client);
    } else if (status == 'I') {
        commit(tracker);
    }
    if (status == 'I')
        names_fini(&tracker->portals); /* they end with their transaction */
    tracker->failed = tracker->immediate = false;
    tracker->in_block = status != 'I';
    tracker_commit(client);
}

/* May a server say this to what was asked? Of '1', '2' and '3' each answers one message only. */
static bool answers(uint8_t type, const struct record *record)
{
    return type < '1' || type > '3' || record->type == "PBC"[type - '1'];
}

void tracker_answered(struct server *server, uint8_t type, const uint8_t *body, size_t there,
                      struct buffer *instead)
{
    struct client *client = server->client;
    struct tracker *tracker = client->tracker;
    struct transaction *transaction = &server->transaction;
    struct record *record = NULL;

    if (type == 'D' || type == 'd' || transaction_is_swallowing(transaction))
        return;
    if (!tracker_is_of(tracker, server))
        return; /* nothing was asked since the client has this server */
    for (; tracker->notes_over != transaction->notes_over; tracker->notes_over++) {
        if (list_first(&tracker->records))
            drop_first(tracker);
    }
    if (transaction_head_is_noted(transaction) && list_first(&tracker->records))
        record = list_entry(list_first(&tracker->records), struct record, node);
    if (record && !answers(type, record))
        return; /* the server is closed for it */
    switch (type) {
    case 'C':
        if (there && memchr(body, '\0', there))
            command(client, record, (const char *)body);
        break;
    case 's':
        (void)done(client, record, true);
        break;
    case '1':
        if (record && !names_put(&tracker->statements, record->name, &record->entries))
            overflow(tracker);
        break;
    case '2':
        if (record)
            bound(tracker, record);
        break;
    case '3':
        if (record)
            names_remove(record->close_what == 'S' ? &tracker->statements : &tracker->portals,
                         record->name);
        break;
    case 'E':
        failed(client, record, instead);
        break;
    case 'Z':
        if (there == 1)
            ready(server, (char)body[0]);
        break;
    default:
        break;
    }
}

bool tracker_leaves_doubt(const struct client *client)
{
    const struct tracker *tracker = client->tracker;

    return tracker && client->server && tracker_is_of(tracker, client->server) &&
           (list_first(&tracker->records) || tracker->journal.count || tracker->journal.lost ||
            tracker->ask);
}
