/*
 * server_parameters.c: gives a server the session parameters of the client that it is lent to.
 *
 * Values that this server has taken before go with the client's own query, in one write and with no
 * round trip more (`ahead`); others are asked first, since one that fails must stop the client. What
 * the server makes of them is known when it has answered: until then they are `undecided`.
 */
#include <string.h>

#include "pgstage/session/accepted.h"
#include "pgstage/session/client.h"
#include "pgstage/session/tracker.h"
#include "pgstage/wire/message.h"
#include "server_inside.h"

void server_ask(struct server *server, const char *sql)
{
    server->asking = true;
    server->told[0] = '\0';
    server_set_state(server, SERVER_PREPARE);
    (void)server_query(server, sql);
}

void server_prepare(struct server *server)
{
    struct client *client = server->client;
    struct buffer sql = {0};
    bool known;

    if (parameters_equal(server->parameters, client->parameters) ||
        !parameters_sql(server->parameters, client->parameters, &sql)) {
        server_activate(server);
        return;
    }
    buffer_put_u8(&sql, '\0');
    known =
        accepted_all(server->share->accepted, server->host, server->parameters, client->parameters);
    /* from here on it has the client's; what it reports in its own spelling is noted on top */
    server->before = server->parameters;
    server->parameters = parameters_ref(client->parameters);
    server->undecided = true;
    if (known) {
        /* it goes with what the client has sent */
        server->query_failed = false;
        message_query(&server->ahead, (const char *)sql.data);
        buffer_fini(&sql);
        server_activate(server);
        return;
    }
    server_set_state(server, SERVER_PREPARE);
    (void)server_query(server, (const char *)sql.data);
    buffer_fini(&sql);
}

/* Values are kept as the server spells them ("iso" is "ISO, MDY" to it), and not at all when they
 * are what it has by itself: else each change of client would cost a SET. It has reported a value
 * when that changed; so the last report is what the value is. */
static void spell_as_server(struct server *server)
{
    struct parameters *set = parameters_ref(server->parameters);

    for (size_t i = 0; i < parameters_count(set); i++) {
        const char *name, *value, *standard, *said;

        parameters_at(set, i, &name, &value);
        standard = parameters_get(server->reported, name);
        if (!standard)
            continue;
        said = parameters_get(server->said, name);
        if (!said)
            said = parameters_get(server->before, name);
        if (!said)
            said = standard;
        server->parameters =
            parameters_with(server->parameters, name, strcmp(said, standard) == 0 ? NULL : said);
    }
    parameters_unref(set);
}

void server_decide_parameters(struct server *server)
{
    struct parameters *dropped = server->before;

    if (!server->undecided)
        return;
    if (server->query_failed) {
        dropped = server->parameters;
        server->parameters = server->before;
    } else {
        accepted_add(&server->share->accepted, server->host, server->parameters);
        spell_as_server(server);
    }
    server->before = NULL;
    server->undecided = false;
    parameters_unref(dropped);
    parameters_unref(server->said);
    server->said = NULL;
}

void server_ask_ahead(struct server *server)
{
    if (server->ahead.length == 0 || server->ahead_asked)
        return;
    server->ahead_asked = true;
    transaction_ask_for(&server->transaction, 'Q', ANSWER_SWALLOW, 0,
                        server->stream.offered_bytes + server->ahead.length);
}

bool server_decide_ahead(struct server *server)
{
    struct client *client = server->client;

    server_decide_parameters(server);
    if (!server->query_failed) {
        parameters_unref(client->parameters);
        client->parameters = parameters_ref(server->parameters);
        return true;
    }
    /* a value that was taken before: what came behind it may have run without it */
    accepted_free(server->share->accepted);
    server->share->accepted = NULL;
    client_fail_as(client, REASON_SERVER_PARAMETERS_FAILED, server->query_sqlstate,
                   server->query_error);
    server_close(server, REASON_SERVER_PARAMETERS_FAILED, NULL);
    return false;
}

void server_forget_ahead(struct server *server)
{
    if (server->ahead.length == 0)
        return;
    buffer_fini(&server->ahead);
    if (server->ahead_asked)
        return; /* the queue waits for an answer: it is closed for that */
    server->query_failed = true;
    server_decide_parameters(server);
    server->query_failed = false;
}

void server_prepared(struct server *server)
{
    struct client *client = server->client;

    if (server->asking) {
        server->asking = false;
        tracker_told(server);
        server_activate(server);
        server_active_settled(server);
        return;
    }
    server_decide_parameters(server);
    if (server->query_failed) {
        client_fail_as(client, REASON_SERVER_PARAMETERS_FAILED, server->query_sqlstate,
                       server->query_error);
        return;
    }
    parameters_unref(client->parameters);
    client->parameters = parameters_ref(server->parameters);
    server_activate(server);
}
