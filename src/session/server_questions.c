/*
 * server_questions.c: what a server that has let us in is asked before it serves: is it the cluster
 * that was accepted, and has it the role that its pool needs? Then connect_query makes its session.
 *
 *   authenticated ─┬─► identity, timeline and role ─┐
 *                  ├─► role (before PostgreSQL 14) ─┼─► connect_query ─► logged in
 *                  └─► it has reported its role ────┘
 *
 * An address can lead to another server before the next probe sees it, and a role can change while
 * a login is under way; a server that gives the wrong answer is none of ours.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/session/choice.h"
#include "pgstage/session/standing.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"
#include "server_login_inside.h"

/* What follows when the host has proved to have a role that serves the pool, or may have any. */
static void role_is_right(struct server *server)
{
    const struct settings *settings = server->meaning->effective->settings;
    struct buffer out = {0};

    server->login->asks_role = server->login->asks_identity = false;
    if (!settings->connect_query || !*settings->connect_query || server->replication) {
        server_logged_in(server);
        return;
    }
    transaction_ask(&server->transaction, 'Q', ANSWER_SWALLOW);
    message_query(&out, settings->connect_query);
    (void)server_login_say(server, &out);
}

static void role_is(struct server *server, bool in_recovery)
{
    server_saw_role(server, in_recovery);
    if (!choice_takes_role(server, in_recovery, loop_now_us(server->worker->loop)))
        server_login_failed(server, REASON_SERVER_WRONG_ROLE,
                            in_recovery ? "it is a standby" : "it is no standby");
    else if (!choice_allows(server))
        /* the control plane has said so since the login began: the host may lead elsewhere now */
        server_login_failed(server, REASON_SERVER_WRONG_ROLE,
                            "the host does not serve this pool any more");
    else
        role_is_right(server);
}

static void ask(struct server *server, const char *sql)
{
    struct buffer out = {0};

    server->login->asks_role = true;
    transaction_ask(&server->transaction, 'Q', ANSWER_SWALLOW);
    message_query(&out, sql);
    (void)server_login_say(server, &out);
}

/* Servers before 14 do not report in_hot_standby: they are asked. */
static void ask_role(struct server *server)
{
    ask(server, "SELECT pg_catalog.pg_is_in_recovery()");
}

/* Where an environment's cluster is known, each new connection asks whether it has come to it: an
 * address can lead to another server before the next probe sees it. */
static void ask_identity(struct server *server)
{
    server->login->asks_identity = true;
    if (server->replication) { /* SQL may not be understood there */
        ask(server, "IDENTIFY_SYSTEM");
        return;
    }
    ask(server, "SELECT pg_catalog.pg_is_in_recovery(), system_identifier, CASE WHEN NOT "
                "pg_catalog.pg_is_in_recovery() THEN "
                "pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END "
                "FROM pg_catalog.pg_control_system()");
}

/* A column of a DataRow as text, cut to `size`; false: there is none, or it is NULL. */
static bool read_column(struct reader *reader, char *text, size_t size)
{
    uint32_t length = reader_u32(reader);
    const uint8_t *bytes;

    if (length == UINT32_MAX || reader->failed)
        return false;
    bytes = reader_bytes(reader, length);
    if (!bytes || length >= size)
        return false;
    memcpy(text, bytes, length);
    text[length] = '\0';
    return true;
}

/* The answer to IDENTIFY_SYSTEM: identifier, timeline, position, database. */
static void read_system(struct server *server, struct reader *reader)
{
    struct server_login *login = server->login;
    const char *standby = parameters_get(server->reported, "in_hot_standby");
    char text[32];

    if (reader_u16(reader) < 2)
        return;
    if (read_column(reader, text, sizeof(text)))
        login->system_identifier = strtoull(text, NULL, 10);
    if (read_column(reader, text, sizeof(text)))
        login->timeline = (uint32_t)strtoul(text, NULL, 10);
    /* a server before 14 does not report what it is, and cannot be asked: the probes' word must do
     */
    login->role = standby && strcmp(standby, "on") == 0 ? 't' : 'f';
}

/* One row: in recovery or not; and, when that was asked for, identifier and WAL file. */
void server_login_row(struct server *server, const uint8_t *body, size_t length)
{
    struct server_login *login = server->login;
    struct reader reader;
    char text[32];

    if (!login->asks_role)
        return;
    reader_init(&reader, body, length);
    if (server->replication) {
        read_system(server, &reader);
        return;
    }
    if (reader_u16(&reader) != (login->asks_identity ? 3 : 1))
        return;
    if (read_column(&reader, text, sizeof(text)) && !text[1])
        login->role = text[0];
    if (!login->asks_identity)
        return;
    if (read_column(&reader, text, sizeof(text)))
        login->system_identifier = strtoull(text, NULL, 10);
    if (read_column(&reader, text, sizeof(text)) && strlen(text) == 24) {
        text[8] = '\0'; /* the file's name begins with the timeline */
        login->timeline = (uint32_t)strtoul(text, NULL, 16);
    }
}

/* False: it is another server than the one that was accepted; the login has failed. */
static bool identity_is_right(struct server *server)
{
    const struct server_login *login = server->login;
    struct host_identity expected = host_identity(server->host);
    char text[128];

    if (login->system_identifier && expected.system_identifier &&
        login->system_identifier != expected.system_identifier)
        snprintf(text, sizeof(text), "system identifier %" PRIu64 " instead of %" PRIu64,
                 login->system_identifier, expected.system_identifier);
    else if (login->role == 'f' && login->timeline && login->timeline < expected.timeline)
        snprintf(text, sizeof(text),
                 "it takes writes on timeline %" PRIu32 ", which is over: %" PRIu32 " was accepted",
                 login->timeline, expected.timeline);
    else
        return true;
    server_login_failed(server, REASON_SERVER_WRONG_CLUSTER, text);
    return false;
}

bool server_login_goes_on(struct server *server)
{
    char role = server->login->role;

    if (!server->login->asks_role)
        return false;
    if (role != 't' && role != 'f')
        server_login_failed(server, REASON_SERVER_PROTOCOL, "no answer to pg_is_in_recovery()");
    else if (!identity_is_right(server))
        return true;
    else if (server->replication && !parameters_get(server->reported, "in_hot_standby"))
        role_is_right(server);
    else
        role_is(server, role == 't');
    return true;
}

bool server_login_forgives(struct server *server)
{
    if (!server->login || !server->login->asks_identity || server->replication)
        return false;
    /* somebody has revoked pg_control_system(): the probes' word must do */
    server->login->asks_identity = false;
    server->query_failed = false;
    ask_role(server);
    return true;
}

void server_login_ask(struct server *server)
{
    const char *standby = parameters_get(server->reported, "in_hot_standby");

    server_set_state(server, SERVER_SETUP);
    if (host_identity(server->host).system_identifier)
        ask_identity(server);
    else if (standby)
        role_is(server, strcmp(standby, "on") == 0);
    else if (choice_needs_role(server) && !server->replication)
        ask_role(server);
    else
        role_is_right(server);
}
