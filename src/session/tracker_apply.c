/*
 * tracker_apply.c: what becomes of a change that is certain, by the option session_state.
 *
 *   track, pin     a parameter goes into the client's set and the server's; state that cannot be
 *                  replayed pins
 *   reset, error   the server is cleaned when the client leaves it
 *   reset_always   the server is cleaned in any case
 *
 * A session that holds a statement of SQL's PREPARE, a library or a seed cannot be cleaned without
 * taking prepared statements of others away: such a server is closed.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/session/listening.h"
#include "pgstage/wire/frame.h"
#include "tracker_inside.h"

/* Over this much a client's parameters do not follow it, but pin it. */
#define FOLLOWING_MAX_BYTES (64 * 1024)

static int mode_of(const struct client *client)
{
    return share_settings(client->share)->session_state;
}

static bool keeps_state(const struct client *client)
{
    return mode_of(client) == SESSION_STATE_TRACK || mode_of(client) == SESSION_STATE_PIN;
}

/* ---- pins ---- */

static void pin(struct client *client, enum pin reason)
{
    if (keeps_state(client))
        client_pin(client, reason);
    else if (pin_leaves(reason) == PIN_LEAVES_DIRTY)
        client->server->stained = true;
    else
        client->server->soiled = true;
}

static void ask(struct client *client, bool unknown)
{
    struct tracker *tracker = client->tracker;

    if (!keeps_state(client)) {
        client->server->soiled |= unknown;
        return;
    }
    tracker->ask |= client->pins != 0 || unknown;
    tracker->ask_all |= unknown;
    /* a parameter that nobody can list may have been set */
    client->server->soiled |= unknown;
}

/* ---- parameters ---- */

static void set(struct client *client, const struct entry *entry)
{
    struct server *server = client->server;

    if (tracker_is_reported(server, entry->name))
        return; /* ParameterStatus has told */
    if (!keeps_state(client)) {
        server->soiled = true;
        return;
    }
    if (parameters_bytes(client->parameters) + strlen(entry->value) > FOLLOWING_MAX_BYTES) {
        client->tracker->other_setting = true;
        client_pin(client, PIN_setting);
        return;
    }
    if (entry->words) {
        client->parameters = parameters_with_words(client->parameters, entry->name, entry->value);
        server->parameters = parameters_with_words(server->parameters, entry->name, entry->value);
    } else {
        client->parameters = parameters_with(client->parameters, entry->name, entry->value);
        server->parameters = parameters_with(server->parameters, entry->name, entry->value);
    }
}

/* Back to what the client asked for at its login, which the server did not know then. */
static void reset(struct client *client, const char *name)
{
    struct server *server = client->server;

    if (!tracker_is_reported(server, name)) {
        server->parameters = parameters_with(server->parameters, name, NULL);
        client->parameters = parameters_with(client->parameters, name, NULL);
    }
    if (parameters_get(client->startup, name))
        client->parameters = parameters_with_of(client->parameters, name, client->startup);
}

static struct parameters *without_unreported(struct parameters *set, const struct server *server)
{
    size_t at = 0;

    while (at < parameters_count(set)) {
        const char *name, *value;

        parameters_at(set, at, &name, &value);
        if (tracker_is_reported(server, name)) {
            at++;
            continue;
        }
        /* the name lives in the set that goes */
        char *copy = text_copy(name);
        set = parameters_with(set, copy, NULL);
        free(copy);
    }
    return set;
}

static void reset_all(struct client *client)
{
    struct server *server = client->server;

    server->parameters = without_unreported(server->parameters, server);
    client->parameters = without_unreported(client->parameters, server);
    for (size_t i = 0; i < parameters_count(client->startup); i++) {
        const char *name, *value;

        parameters_at(client->startup, i, &name, &value);
        client->parameters = parameters_with_of(client->parameters, name, client->startup);
    }
    client->tracker->other_setting = false;
    client_unpin(client, PIN_setting);
    /* a statement of SQL's PREPARE may call it again */
    if (!(client->pins & UINT32_C(1) << PIN_prepare))
        client_unpin(client, PIN_set_config);
    if (client->pins & UINT32_C(1) << PIN_unknown)
        ask(client, true);
}

static void discard_all(struct client *client)
{
    static const enum pin gone[] = {PIN_temporary,     PIN_cursor, PIN_role,
                                    PIN_authorization, PIN_listen, PIN_unknown};

    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        client_unpin(client, gone[i]);
    reset_all(client);
    listening_stop(client, NULL);
}

void tracker_apply(struct client *client, const struct entry *entry)
{
    switch ((enum entry_kind)entry->kind) {
    case ENTRY_SET:
        set(client, entry);
        break;
    case ENTRY_RESET:
        reset(client, entry->name);
        break;
    case ENTRY_RESET_ALL:
        reset_all(client);
        break;
    case ENTRY_DISCARD_ALL:
        discard_all(client);
        break;
    case ENTRY_PIN:
        client->tracker->other_setting |= entry->pin == PIN_setting;
        pin(client, entry->pin);
        break;
    case ENTRY_UNPIN:
        client_unpin(client, entry->pin);
        break;
    case ENTRY_ASK:
        ask(client, entry->pin == PIN_unknown);
        break;
    case ENTRY_SOIL:
        client->server->soiled = true;
        break;
    case ENTRY_STAIN:
        client->server->stained = true;
        break;
    case ENTRY_LISTEN:
        if (mode_of(client) == SESSION_STATE_PIN) {
            pin(client, PIN_listen);
            break;
        }
        client->server->soiled = true; /* it listens itself, too */
        listening_start(client, entry->name);
        break;
    case ENTRY_UNLISTEN:
        listening_stop(client, entry->name);
        if (entry->name)
            ask(client, false);
        else
            client_unpin(client, PIN_listen);
        break;
    case ENTRY_SAVEPOINT:
    case ENTRY_RELEASE:
    case ENTRY_ROLLBACK_TO:
        break;
    }
}

void tracker_commit(struct client *client)
{
    struct journal *journal = &client->tracker->journal;

    for (uint32_t i = 0; i < journal->certain && !client_is_over(client); i++)
        tracker_apply(client, &journal->entries[i]);
    if (journal->lost && !client_is_over(client))
        ask(client, true);
    journal->lost = false;
    journal_drop_certain(journal);
}

void tracker_doubt(struct client *client)
{
    ask(client, true);
}

bool tracker_may_hear(const struct server *server)
{
    const struct client *client = server->client;
    const struct journal *journal;

    if (share_settings(server->share)->pool_mode == POOL_MODE_SESSION)
        return true;
    if (!client || !client->tracker)
        return false;
    if (client->pins & UINT32_C(1) << PIN_listen)
        return true;
    if (mode_of(client) != SESSION_STATE_PIN)
        return false; /* it hears by the connection that listens for all */
    /* it may come before the ReadyForQuery by which we know that the LISTEN is committed */
    journal = &client->tracker->journal;
    for (uint32_t i = 0; i < journal->count; i++) {
        if (journal->entries[i].kind == ENTRY_LISTEN)
            return true;
    }
    return false;
}

/* ---- asking the server ---- */

/* One row with a digit for each. */
static const struct question {
    enum pin pin;
    const char *sql; /* of a condition */
} questions[] = {
    {PIN_temporary,
     "EXISTS(SELECT FROM pg_catalog.pg_class WHERE relnamespace=pg_catalog.pg_my_temp_schema())OR "
     "EXISTS(SELECT FROM pg_catalog.pg_proc WHERE pronamespace=pg_catalog.pg_my_temp_schema())OR "
     "EXISTS(SELECT FROM pg_catalog.pg_type WHERE typnamespace=pg_catalog.pg_my_temp_schema())"},
    {PIN_cursor, "EXISTS(SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"},
    {PIN_advisory_lock, "EXISTS(SELECT FROM pg_catalog.pg_locks WHERE locktype='advisory' AND "
                        "pid=pg_catalog.pg_backend_pid())"},
    {PIN_prepare, "EXISTS(SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"},
    {PIN_listen, "EXISTS(SELECT FROM pg_catalog.pg_listening_channels())"},
};
#define QUESTION_COUNT (sizeof questions / sizeof *questions)

static void put_names(struct buffer *sql, const struct parameters *set)
{
    for (size_t i = 0; i < parameters_count(set); i++) {
        const char *name, *value;

        parameters_at(set, i, &name, &value);
        if (parameter_name_is_plain(name))
            buffer_print(sql, ",pg_catalog.lower('%s')", name);
    }
}

static void put_question(const struct server *server, bool all, struct buffer *sql)
{
    buffer_print(sql, "SELECT pg_catalog.concat(");
    for (size_t i = 0; i < QUESTION_COUNT; i++)
        buffer_print(sql, "%s(%s)::pg_catalog.int4", i ? "," : "", questions[i].sql);
    if (all) {
        buffer_print(sql, ",(EXISTS(SELECT FROM pg_catalog.pg_settings WHERE source='session' AND "
                          "pg_catalog.lower(name) NOT IN(''");
        put_names(sql, server->parameters);
        put_names(sql, server->reported);
        buffer_print(sql, ")))::pg_catalog.int4");
    }
    buffer_print(sql, ")");
    buffer_put_u8(sql, '\0');
}

/* With session_state = pin: has it parameters that differ from what it logged in with? */
static bool has_settings(const struct client *client)
{
    for (size_t i = 0; i < parameters_count(client->parameters); i++) {
        const char *name, *value;

        parameters_at(client->parameters, i, &name, &value);
        if (!tracker_is_reported(client->server, name) &&
            !text_equal(parameters_get(client->startup, name), value))
            return true;
    }
    return false;
}

bool tracker_settled(struct server *server)
{
    struct client *client = server->client;
    struct tracker *tracker = client->tracker;
    struct buffer sql = {0};
    bool all;

    if (!tracker)
        return false;
    if (mode_of(client) == SESSION_STATE_PIN) {
        if (has_settings(client))
            client_pin(client, PIN_setting);
        else if (!tracker->other_setting)
            client_unpin(client, PIN_setting);
    }
    if (tracker->ask) {
        all = tracker->ask_all;
        tracker->ask = tracker->ask_all = false;
        put_question(server, all, &sql);
        server_ask(server, (const char *)sql.data);
        buffer_fini(&sql);
        return true;
    }
    if (client->pins && !parameters_equal(server->parameters, client->parameters)) {
        server_prepare(server);
        return server->state != SERVER_ACTIVE; /* or it goes ahead of the next message */
    }
    return false;
}

void tracker_row(struct server *server, const uint8_t *body, size_t there)
{
    struct reader reader;
    uint32_t length;
    uint16_t columns;

    reader_init(&reader, body, there);
    columns = reader_u16(&reader);
    length = reader_u32(&reader);
    if (reader.failed || columns != 1 || length >= sizeof(server->told) || length > there - 6)
        return;
    memcpy(server->told, body + 6, length);
    server->told[length] = '\0';
}

void tracker_told(struct server *server)
{
    struct client *client = server->client;
    size_t count = strlen(server->told);

    if (!client->tracker || server->query_failed)
        return; /* nothing is known: the pins stay */
    for (size_t i = 0; i < QUESTION_COUNT && i < count; i++) {
        if (server->told[i] == '1')
            client_pin(client, questions[i].pin);
        else
            client_unpin(client, questions[i].pin);
    }
    if (count > QUESTION_COUNT) {
        if (server->told[QUESTION_COUNT] == '1')
            client_pin(client, PIN_unknown);
        else
            client_unpin(client, PIN_unknown);
    }
}

const char *tracker_clean_sql(void)
{
    return "CLOSE ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;RESET ALL;UNLISTEN *;"
           "SELECT pg_catalog.pg_advisory_unlock_all();DISCARD TEMP;DISCARD SEQUENCES;"
           "SELECT '" TRACKER_CLEAN_PREPARED
           "' FROM pg_catalog.pg_prepared_statements WHERE from_sql "
           "LIMIT 1";
}
