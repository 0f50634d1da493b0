/*
 * login.c: the generator proves who it is: trust, cleartext, SCRAM-SHA-256. Keys are derived once
 * for each salt and kept, so that logins cost the generator little.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generator.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

static struct scram_keys kept;

void login_startup(struct connection *connection, const struct plan *plan)
{
    static unsigned turn;
    char name[128];
    const char *pairs[] = {"user", plan->user, "database", name};

    if (plan->databases)
        snprintf(name, sizeof(name), "%s%u", plan->database, turn++ % (unsigned)plan->databases);
    else
        snprintf(name, sizeof(name), "%s", plan->database);

    message_startup(&connection->own, 0x00030000, pairs, 2);
}

static bool fail(const char *why)
{
    fprintf(stderr, "generator: login: %s\n", why);
    return false;
}

static bool begin_scram(struct connection *connection)
{
    struct buffer first = {0};
    size_t begin;

    connection->scram = calloc(1, sizeof(*connection->scram));
    if (!connection->scram || !scram_client_first(connection->scram, 'n', NULL, &first))
        return fail("no SCRAM");
    begin = message_begin(&connection->own, 'p');
    buffer_put_string(&connection->own, "SCRAM-SHA-256");
    buffer_put_u32(&connection->own, (uint32_t)first.length);
    buffer_put(&connection->own, first.data, first.length);
    message_end(&connection->own, begin);
    buffer_fini(&first);
    return true;
}

static bool answer_challenge(struct connection *connection, const struct plan *plan,
                             const uint8_t *data, size_t length)
{
    struct scram_client *scram = connection->scram;
    const char *problem = "";
    size_t begin;

    if (!scram || !scram_client_challenge(scram, data, length, &problem))
        return fail(problem);
    if (kept.salt_bytes != scram->salt_bytes || kept.iterations != scram->iterations ||
        memcmp(kept.salt, scram->salt, scram->salt_bytes) != 0) {
        if (!scram_derive(plan->password, scram->salt, scram->salt_bytes, scram->iterations, &kept))
            return fail("cannot derive keys");
    }
    begin = message_begin(&connection->own, 'p');
    if (!scram_client_final(scram, &kept, &connection->own))
        return fail("no SCRAM proof");
    message_end(&connection->own, begin);
    return true;
}

static bool authentication(struct connection *connection, const struct plan *plan)
{
    const uint8_t *body = connection->body;
    size_t length = connection->body_have;
    const char *problem = "";

    if (length < 4)
        return fail("short message");
    switch (wire_get_u32(body)) {
    case 0:
        return true;
    case 3:
        message_password(&connection->own, plan->password, strlen(plan->password) + 1);
        return true;
    case 10:
        return begin_scram(connection);
    case 11:
        return answer_challenge(connection, plan, body + 4, length - 4);
    case 12:
        return connection->scram &&
                       scram_client_verify(connection->scram, body + 4, length - 4, &problem)
                   ? true
                   : fail(problem);
    default:
        return fail("unknown method");
    }
}

bool login_message(struct connection *connection, const struct plan *plan, uint8_t type)
{
    struct error_fields fields;

    if (type == 'R')
        return authentication(connection, plan);
    if (type == 'E') {
        error_fields_read(&fields, connection->body, connection->body_have);
        return fail(fields.message);
    }
    return true;
}

void login_fini(struct connection *connection)
{
    if (connection->scram) {
        scram_client_fini(connection->scram);
        free(connection->scram);
        connection->scram = NULL;
    }
    buffer_fini(&connection->own);
    free(connection->body);
    connection->body = NULL;
}
