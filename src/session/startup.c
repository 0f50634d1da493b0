/*
 * startup.c: the first packets of a client: what is asked in the clear, TLS, and the startup
 * packet.
 *
 *   PROXY header ─► [SSLRequest, GSSENCRequest] ─► [TLS] ─► startup packet ─► login_authenticate
 *                                                     └──► CancelRequest
 *
 * Nothing that came behind an SSLRequest in the clear counts. Parameters that the client sent are
 * kept aside and reach a server only with the client's own first query. The client's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "login_inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/cancel.h"
#include "pgstage/session/failures.h"
#include "pgstage/session/replication.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/startup.h"

/* ---- parameters of the startup packet ---- */

/* One `name=value` of `options`. */
static void take_option(struct client *client, char *setting)
{
    char *equals = strchr(setting, '=');

    if (equals)
        *equals = '\0';
    for (char *at = setting; *at; at++)
        if (*at == '-')
            *at = '_'; /* as PostgreSQL reads --search-path */
    if (!equals || !parameter_name_is_plain(setting)) {
        free(client->login->unknown_option);
        client->login->unknown_option = text_print("options (%s)", setting);
        return;
    }
    client->parameters = parameters_with(client->parameters, setting, equals + 1);
}

/* `-c name=value`, `-cname=value`, `--name=value`, separated by blanks; a backslash escapes. */
static void take_options(struct client *client, const char *text)
{
    char *word = memory_get(strlen(text) + 1);
    bool setting_follows = false;

    while (*text) {
        size_t length = 0;

        while (*text == ' ' || *text == '\t' || *text == '\n')
            text++;
        if (!*text)
            break;
        while (*text && *text != ' ' && *text != '\t' && *text != '\n') {
            if (*text == '\\' && text[1])
                text++;
            word[length++] = *text++;
        }
        word[length] = '\0';
        if (setting_follows) {
            take_option(client, word);
            setting_follows = false;
        } else if (strcmp(word, "-c") == 0) {
            setting_follows = true;
        } else if (strncmp(word, "-c", 2) == 0 || strncmp(word, "--", 2) == 0) {
            take_option(client, word + 2);
        } else {
            free(client->login->unknown_option);
            client->login->unknown_option = text_print("options (%s)", word);
        }
    }
    free(word);
}

static void take_parameter(struct client *client, const char *name, const char *value)
{
    const struct settings *globals = globals_of(client);

    if (parameter_in_list(name, globals->ignore_startup_parameters))
        return;
    if (text_equal_nocase(name, "options")) {
        take_options(client, value);
    } else if (parameter_name_is_plain(name) && !text_equal_nocase(name, "role") &&
               !text_equal_nocase(name, "session_authorization")) {
        client->parameters = parameters_with(client->parameters, name, value);
    } else {
        free(client->login->unknown_option);
        client->login->unknown_option = text_copy(name);
    }
}

static void add_host_to_application_name(struct client *client)
{
    const char *name = parameters_get(client->parameters, "application_name");
    char from[ADDRESS_TEXT_BYTES];
    char *with_host = text_print("%s%s%s", name ? name : "", name && *name ? " - " : "",
                                 client_from(client, from));

    client->parameters = parameters_with(client->parameters, "application_name", with_host);
    free(with_host);
}

/* Versions 3.0 and 3.2 are spoken; there is no 3.1, so who asks for it gets 3.0. Protocol options
 * and newer minor versions are declined, as PostgreSQL does. */
static void negotiate(struct client *client, const struct startup *startup)
{
    const char *name, *value, **unknown;
    size_t offset = 0, count = 0;
    struct buffer out = {0};

    client->protocol_minor = startup->minor >= 2 ? 2 : 0;
    while (startup_next(startup, &offset, &name, &value))
        count += text_starts_with(name, "_pq_.");
    if (count == 0 && startup->minor == client->protocol_minor)
        return;
    unknown = memory_get((count + 1) * sizeof(*unknown));
    count = offset = 0;
    while (startup_next(startup, &offset, &name, &value))
        if (text_starts_with(name, "_pq_."))
            unknown[count++] = name;
    message_negotiate(&out, client->protocol_minor, unknown, count);
    free(unknown);
    (void)client_send_buffer(client, &out);
}

static bool is_console_name(const char *database)
{
    return strcmp(database, "pgstage") == 0 || strcmp(database, "pgbouncer") == 0;
}

static void start_up(struct client *client, const struct startup *startup)
{
    const char *name, *value;
    size_t offset = 0;
    enum replication replication = REPLICATION_NONE;
    bool understood = true;

    while (startup_next(startup, &offset, &name, &value)) {
        if (strcmp(name, "user") == 0) {
            free((char *)client->user);
            client->user = text_copy(value);
        } else if (strcmp(name, "database") == 0) {
            free((char *)client->database);
            client->database = text_copy(value);
        } else if (strcmp(name, "replication") == 0) {
            understood = replication_read(value, &replication);
            client->replication = (uint8_t)replication;
        } else if (!text_starts_with(name, "_pq_.")) {
            take_parameter(client, name, value);
        }
    }
    if (!client->user || !*client->user) {
        client_fail(client, REASON_CLIENT_NO_USER, NULL);
        return;
    }
    if (!client->database || !*client->database) {
        free((char *)client->database);
        client->database = text_copy(client->user);
    }
    if (failures_refuse(client->worker->plane->failures, globals_of(client), client->address,
                        loop_now_us(client->worker->loop))) {
        client_fail(client, REASON_LOGIN_TOO_MANY_FAILURES, NULL);
        return;
    }
    negotiate(client, startup);
    if (client_is_over(client))
        return;
    client->console = is_console_name(client->database);
    if (client->login->unknown_option && !client->console) {
        client_fail(client, REASON_CLIENT_PARAMETER, client->login->unknown_option);
        return;
    }
    if (!understood || (replication && client->console)) {
        client_fail(client,
                    understood ? REASON_CLIENT_REPLICATION : REASON_CLIENT_REPLICATION_VALUE, NULL);
        return;
    }
    if (globals_of(client)->application_name_add_host)
        add_host_to_application_name(client);
    if (!client->console) {
        if (registry_admit(client->worker->plane->registry) != ADMITTED) {
            client_fail(client, REASON_LOGIN_LIMIT_TOTAL, NULL);
            return;
        }
        client->admitted = true;
    }
    login_authenticate(client);
}

/* ---- the first packets ---- */

/* 'S' or 'N' to an SSLRequest. What came behind it in the clear was not meant for us in the clear
 * (CVE-2021-3935). False: the client is gone or the handshake has begun. */
static bool answer_ssl(struct client *client, size_t rest)
{
    struct tls_context *tls = is_local(client) ? NULL : door_of(client)->tls;
    SSL *ssl;

    if (rest > 0 || client->login->tls_asked || client->stream.ssl) {
        client_fail(client, REASON_CLIENT_STUFFED, NULL);
        return false;
    }
    client->login->tls_asked = true;
    if (!tls)
        return client_send(client, "N", 1);
    if (!client_send(client, "S", 1))
        return false;
    ssl = tls_accept_new(tls);
    if (!ssl) {
        client_close(client, REASON_CLIENT_TLS_FAILED);
        return false;
    }
    stream_secure(&client->stream, ssl, true);
    return false;
}

/* One packet; false: stop (gone, waits for a handshake, or the dialogue goes on elsewhere). */
static bool first_packet(struct client *client, const struct startup *startup, size_t rest)
{
    switch (startup->kind) {
    case STARTUP_SSL:
        return answer_ssl(client, rest);
    case STARTUP_GSSENC:
        if (rest > 0 || client->login->gss_asked || client->stream.ssl) {
            client_fail(client, REASON_CLIENT_STUFFED, NULL);
            return false;
        }
        client->login->gss_asked = true;
        return client_send(client, "N", 1);
    case STARTUP_CANCEL:
        client_set_state(client, CLIENT_CANCEL);
        client_arm(client);
        cancel_request(client, startup);
        return false;
    case STARTUP_MESSAGE:
        if (startup->major != 3)
            client_fail(client, REASON_CLIENT_OLD_PROTOCOL, NULL);
        else
            start_up(client, startup);
        return false;
    }
    return false;
}

/* A TLS handshake without an SSLRequest: the first byte of a ClientHello can be no length. */
bool startup_begins_with_tls(struct client *client)
{
    struct tls_context *tls = is_local(client) ? NULL : door_of(client)->tls;
    uint8_t first;
    SSL *ssl;

    if (!tls || client->stream.ssl || client->held_bytes || client->login->tls_asked ||
        stream_peek(&client->stream, &first, 1) != 1 || first != 0x16)
        return false;
    ssl = tls_accept_new(tls);
    if (!ssl) {
        client_close(client, REASON_CLIENT_TLS_FAILED);
        return true;
    }
    stream_secure(&client->stream, ssl, true);
    return true;
}

void login_secured(struct client *client)
{
    if (client->login->tls_asked)
        return;
    /* direct TLS: only with ALPN, else another protocol's bytes could be made to look like ours */
    if (!tls_has_alpn(client->stream.ssl))
        client_fail(client, REASON_CLIENT_TLS_FAILED, "direct TLS needs ALPN \"postgresql\"");
    client->login->tls_asked = true;
}

void startup_readable(struct client *client, const uint8_t *data, size_t length)
{
    size_t at = 0;
    struct startup startup;

    for (int packets = 0; packets < 4; packets++) {
        switch (startup_parse(data + at, length - at, &startup)) {
        case STARTUP_PARTIAL:
            client_hold(client, data + at, length - at);
            return;
        case STARTUP_BAD:
            client_fail(client, REASON_CLIENT_BAD_STARTUP, startup.problem);
            return;
        case STARTUP_OK:
            break;
        }
        at += startup.total_bytes;
        client_hold(client, NULL, 0);
        if (!first_packet(client, &startup, length - at)) {
            if (!client_is_over(client) && client->state != CLIENT_STARTUP && at < length) {
                /* the password or even queries came along: they are next */
                client_hold(client, data + at, length - at);
                client->granted = true;
                loop_defer(client->worker->loop, &client->task);
            }
            return;
        }
        if (at == length)
            return;
    }
    client_fail(client, REASON_CLIENT_BAD_STARTUP, "too many packets");
}
