/*
 * server_login.c: a server connection from the wish of the pool to its first ReadyForQuery.
 *
 *   pick host ─► resolve ─► connect ─► SSLRequest ─► TLS ─► startup ─► authentication ─► parameters
 *                  │           │ next address  │ 'N'   │                │ derivation (other thread)
 *                  └───────────┴───────────────┴───────┴─ server_open_failed ◄─┘
 *
 * What a server that has let us in is asked is in server_questions.c. All of it stands under one
 * deadline, server_connect_timeout. Nothing that a client said reaches a server here (but that of a
 * replication connection): parameters of clients are set later, on a connection that has proved
 * itself. After the one byte that answers an SSLRequest nothing is read in the clear
 * (CVE-2021-3935).
 */
#include "pgstage/session/server_login.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/login.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/border.h"
#include "pgstage/session/choice.h"
#include "pgstage/session/client.h"
#include "pgstage/session/inquiry.h"
#include "pgstage/session/relay.h"
#include "pgstage/session/replication.h"
#include "pgstage/session/standing.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/startup.h"
#include "server_login_inside.h"

/* What servers are asked for; they may say that they only know an older one. */
#define PROTOCOL_MINOR 2
#define PROTOCOL(minor) (UINT32_C(3) << 16 | (minor))

static void connect_next(struct server *server);

void server_login_free(struct server_login *login)
{
    if (!login)
        return;
    dial_end(&login->dial);
    if (login->derivation)
        login->derivation->server = NULL; /* it frees the dialogue when it comes home */
    auth_server_free(login->auth);
    free(login);
}

/* ---- connecting ---- */

static void resolved(struct dial *dial)
{
    connect_next(list_entry(dial, struct server_login, dial)->server);
}

/* Begins with a host; the server may be gone when this returns. */
static void begin(struct server *server)
{
    struct share *share = server->share;
    struct host *host = server->host;
    struct loop *loop = share->worker->loop;
    uint64_t limit_us = share_settings(share)->server_connect_timeout_us;
    struct server_login *login;

    login = memory_new(sizeof(*login));
    login->server = server;
    dial_init(&login->dial, loop, share->backend->plane->resolver, resolved);
    server->login = login;
    if (limit_us)
        timer_set(loop, &server->timer, loop_now_us(loop) + limit_us);
    if (dial_begin(&login->dial, host_target(host), host_port(host)))
        connect_next(server);
}

void server_open(struct share *share)
{
    struct loop *loop = share->worker->loop;
    uint64_t now_us = loop_now_us(loop), retry_at_us;
    struct client *client = NULL;
    struct server *server;
    struct host *host;

    if (pool_has_own_items(share->backend->pool) && !(client = replication_next(share))) {
        pool_open_dropped(share->backend->pool, now_us); /* whoever it was for has left */
        return;
    }
    host = choice_pick(share, now_us, &retry_at_us);
    if (host) {
        server = server_new(share, host);
        if (client)
            replication_attach(server, client);
        begin(server);
        return;
    }
    backend_open_ended(share->backend->pool, false);
    pool_open_failed(share->backend->pool, now_us, retry_at_us);
    if (!backend_tell_failure(share->backend, now_us))
        gate_missed(share, retry_at_us);
    if (!timer_is_set(&share->pump) || share->pump.due_us > retry_at_us)
        timer_set(loop, &share->pump, retry_at_us);
}

struct server *server_open_aside(struct share *share, const struct server_aside *aside, void *owner)
{
    uint64_t now_us = loop_now_us(share->worker->loop), retry_at_us;
    struct host *host = choice_pick(share, now_us, &retry_at_us);
    struct server *server;

    if (!host)
        return NULL;
    server = server_new(share, host);
    server->aside = aside;
    server->aside_owner = owner;
    begin(server); /* it is freed at the end of the turn, should it fail at once */
    return server->state == SERVER_GONE ? NULL : server;
}

/* Tries the next address of the name; the deadline is that of the whole. */
static void connect_next(struct server *server)
{
    struct server_login *login = server->login;
    const struct address *address;
    char problem[160], *why;

    if (dial_problem(&login->dial)) {
        snprintf(problem, sizeof(problem), "cannot resolve %s: %s", host_name(server->host),
                 dial_problem(&login->dial));
        server_login_failed(server, REASON_SERVER_CONNECT_FAILED, problem);
        return;
    }
    login->phase = PHASE_CONNECT;
    while ((address = dial_next(&login->dial))) {
        server->address = *address;
        if (!border_allows(server, &why)) {
            /* whose host it is is nothing for clients */
            server_log(server, RANK_WARNING, "%s", why);
            free(why);
            server_login_failed(server, REASON_SERVER_BORDER, NULL);
            return;
        }
        if (stream_connect(&server->stream, server->worker->loop, &server->address,
                           server_stream_callback()))
            return;
    }
    server_login_failed(server, REASON_SERVER_CONNECT_FAILED, strerror(server->stream.error));
}

bool server_login_say(struct server *server, struct buffer *out)
{
    enum stream_result result = STREAM_DONE;

    if (out->length)
        result = stream_write(&server->stream, out->data, out->length);
    buffer_fini(out);
    if (result == STREAM_BROKEN)
        server_login_failed(server, REASON_SERVER_BROKEN, strerror(server->stream.error));
    return result != STREAM_BROKEN;
}

/* What auth_query has found of a user when one of its clients logged in. */
static bool find_fetched(const struct server *server, const char *user, struct fetched *fetched)
{
    const struct effective *effective = server->meaning->effective;
    char *scope = inquiry_scope(effective->settings,
                                effective->environment ? effective->environment->name : NULL,
                                effective->database);
    bool found =
        scope && secrets_find_any(inquiries_secrets(server->backend->plane), scope, user, fetched);

    free(scope);
    return found;
}

/* The startup packet. For a replication connection, what its client has said beats what the
 * configuration says: a SET is no replication command. */
static void put_startup(struct server *server, struct buffer *out)
{
    const struct effective *effective = server->meaning->effective;
    const struct settings *settings = effective->settings;
    enum replication replication = (enum replication)server->replication;
    const struct parameters *own = replication ? replication_client_of(server)->parameters : NULL;
    size_t count = 0, own_count = parameters_count(own);
    const char **pairs = memory_get((16 + 2 * own_count) * sizeof(*pairs));
    char statement_timeout[32];

    snprintf(statement_timeout, sizeof(statement_timeout), "%" PRIu64 "ms",
             (settings->statement_timeout_us + CLOCK_MS - 1) / CLOCK_MS);
    const struct {
        const char *name, *value;
    } wanted[] = {
        {"user", pool_user(server->backend->pool)},
        {"database", effective->dbname},
        {"replication", replication == REPLICATION_PHYSICAL  ? "true"
                        : replication == REPLICATION_LOGICAL ? "database"
                                                             : NULL},
        {"client_encoding", settings->client_encoding},
        {"datestyle", settings->datestyle},
        {"timezone", settings->timezone},
        {"application_name", settings->application_name},
        {"statement_timeout",
         settings->statement_timeout_us && !replication ? statement_timeout : NULL},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (!wanted[i].value || parameters_get(own, wanted[i].name))
            continue;
        pairs[count++] = wanted[i].name;
        pairs[count++] = wanted[i].value;
    }
    for (size_t i = 0; i < own_count; i++, count += 2)
        parameters_at(own, i, &pairs[count], &pairs[count + 1]);
    message_startup(out, PROTOCOL(server->protocol_minor), pairs, count / 2);
    free(pairs);
}

static void start_up(struct server *server)
{
    const struct effective *effective = server->meaning->effective;
    const struct settings *settings = effective->settings;
    struct buffer out = {0};
    struct credentials credentials = {.user = pool_user(server->backend->pool)};
    const struct user_secret *secret;
    struct fetched fetched = {0};
    struct scram_binding binding = {0};

    if (settings->password) {
        credentials.secret = settings->password;
        credentials.kind = secret_kind_of(settings->password);
    } else if ((secret = users_find(snapshot_users(effective->snapshot), credentials.user))) {
        credentials.secret = secret->secret;
        credentials.kind = secret->kind;
    } else if (find_fetched(server, credentials.user, &fetched)) {
        credentials.secret = fetched.secret.secret;
        credentials.kind = fetched.secret.kind;
    }
    credentials.allow_cleartext =
        !(effective->environment && effective->environment->production_class) ||
        (server->stream.ssl && settings->server_tls_sslmode == TLS_VERIFY_FULL);
    server->login->phase = PHASE_LOGIN;
    server->login->auth = auth_server_new(&credentials, server->backend->plane->keys);
    if (server->stream.ssl)
        binding.bytes = tls_endpoint_hash(server->stream.ssl, false, binding.hash);
    fetched_fini(&fetched);
    auth_server_bind(server->login->auth, (enum channel_binding)settings->server_channel_binding,
                     &binding);
    server->login->answered = false;
    server->protocol_minor = host_is_old(server->host) ? 0 : PROTOCOL_MINOR;
    server_set_state(server, SERVER_LOGIN);
    put_startup(server, &out);
    (void)server_login_say(server, &out);
}

static void connected(struct server *server)
{
    struct buffer out = {0};

    if (!address_is_local(&server->address)) {
        stream_tune_as(&server->stream, share_settings(server->share));
    } else if (!meaning_knows_peer(server->meaning, server->stream.watch.fd)) {
        server_login_failed(server, REASON_SERVER_PEER_WRONG, NULL);
        return;
    }
    if (!server->meaning->tls || address_is_local(&server->address)) {
        start_up(server);
        return;
    }
    server->login->phase = PHASE_SSL_ANSWER;
    message_ssl_request(&out);
    (void)server_login_say(server, &out);
}

/* Exactly one byte is read: what might be stuffed behind it in the clear is the handshake's to
 * refuse. */
static void ssl_answered(struct server *server)
{
    uint8_t answer;
    ssize_t count = stream_read(&server->stream, &answer, 1);
    SSL *ssl;

    if (count == 0)
        return;
    if (count < 0) {
        server_login_failed(server, REASON_SERVER_CRASHED, "no answer to SSLRequest");
    } else if (answer == 'S') {
        ssl = tls_connect_new(server->meaning->tls, host_name(server->host));
        if (!ssl) {
            server_login_failed(server, REASON_SERVER_TLS_FAILED, "TLS cannot be set up");
            return;
        }
        server->login->phase = PHASE_TLS;
        stream_secure(&server->stream, ssl, false);
    } else if (answer == 'N' && tls_context_mode(server->meaning->tls) <= TLS_PREFER) {
        start_up(server);
    } else {
        server_login_failed(server, REASON_SERVER_TLS_REFUSED, NULL);
    }
}

/* ---- authentication ---- */

static void authenticated_step(struct server *server, enum auth_step step, struct buffer *out);

static void derive(struct offload_job *job)
{
    auth_server_derive(list_entry(job, struct derivation, job)->auth);
}

static void derived(struct loop *loop, struct offload_job *job)
{
    struct derivation *derivation = list_entry(job, struct derivation, job);
    struct server *server = derivation->server;
    struct buffer out = {0};
    enum auth_step step;

    (void)loop;
    if (!server || job->cancelled) {
        auth_server_free(derivation->auth);
        if (server)
            server->login->derivation = NULL;
        free(derivation);
        return;
    }
    server->login->auth = derivation->auth;
    server->login->derivation = NULL;
    free(derivation);
    step = auth_server_resume(server->login->auth, &out);
    authenticated_step(server, step, &out);
}

static void start_derivation(struct server *server)
{
    struct derivation *derivation = memory_new(sizeof(*derivation));

    derivation->job.work = derive;
    derivation->job.done = derived;
    derivation->auth = server->login->auth;
    derivation->server = server;
    if (!offload_submit(server->backend->plane->derivations, server->worker->loop,
                        &derivation->job)) {
        free(derivation);
        server_login_failed(server, REASON_SERVER_LOGIN_FAILED, "too many logins at once");
        return;
    }
    server->login->auth = NULL;
    server->login->derivation = derivation;
}

static void authenticated_step(struct server *server, enum auth_step step, struct buffer *out)
{
    switch (step) {
    case AUTH_OK:
        server->login->authenticated = true;
        (void)server_login_say(server, out);
        break;
    case AUTH_SEND:
        (void)server_login_say(server, out);
        break;
    case AUTH_DERIVE:
        buffer_fini(out);
        start_derivation(server);
        break;
    case AUTH_FAILED:
        buffer_fini(out);
        server_login_failed(server, REASON_SERVER_LOGIN_FAILED,
                            auth_server_problem(server->login->auth));
        break;
    }
}

/* ---- messages of a login ---- */

/* A key that the protocol does not allow is none: such a server cannot be asked to cancel. */
static void read_key(struct server *server, const uint8_t *body, size_t length)
{
    size_t most = server->protocol_minor >= 2 ? CANCEL_KEY_MAX_BYTES : 4;

    if (length < 8 || length > 4 + most)
        return;
    server->remote_pid = wire_get_u32(body);
    free(server->cancel_secret);
    server->cancel_secret_bytes = length - 4;
    server->cancel_secret = memory_get(length - 4);
    memcpy(server->cancel_secret, body + 4, length - 4);
}

static void read_parameter(struct server *server, const uint8_t *body, size_t length)
{
    struct reader reader;
    const char *name, *value;

    reader_init(&reader, body, length);
    name = reader_string(&reader);
    value = reader_string(&reader);
    if (!reader.failed && name[0])
        server->reported = parameters_with(server->reported, name, value);
    if (parameters_bytes(server->reported) > PARAMETERS_REPORTED_MAX_BYTES)
        server_login_failed(server, REASON_SERVER_PROTOCOL, "too many parameters reported");
}

static void ready(struct server *server, char status)
{
    if (status != 'I' || !server->login->authenticated) {
        server_login_failed(server, REASON_SERVER_PROTOCOL, "not idle after login");
        return;
    }
    server_login_ask(server);
}

/* The server knows an older version than it was asked for. */
static void negotiated(struct server *server, const uint8_t *body, size_t length)
{
    uint32_t minor;

    if (server->login->authenticated ||
        !startup_negotiated(body, length, server->protocol_minor, &minor))
        server_login_failed(server, REASON_SERVER_PROTOCOL,
                            "a protocol version that nobody asked for");
    else
        server->protocol_minor = minor >= 2 ? 2 : 0;
}

/* A server that does not know how to negotiate refuses what is new to it (PostgreSQL before 9.3,
 * other poolers): it is asked again, for 3.0. */
static bool asks_again(struct server *server, const char *sqlstate)
{
    if (server->login->answered || server->protocol_minor == 0 ||
        (strcmp(sqlstate, "0A000") != 0 && strcmp(sqlstate, "08P01") != 0))
        return false;
    server_log(server, RANK_INFO,
               "the server refuses protocol 3.%d: from now on it is asked for 3.0",
               server->protocol_minor);
    host_set_old(server->host, true);
    auth_server_free(server->login->auth);
    server->login->auth = NULL;
    memory_keep(&server->tail, &server->tail_bytes, NULL, 0);
    stream_close(&server->stream);
    dial_again(&server->login->dial); /* the same address */
    connect_next(server);
    return true;
}

static void refused(struct server *server, const uint8_t *body, size_t length)
{
    struct error_fields fields;

    (void)error_fields_read(&fields, body, length);
    if (!asks_again(server, fields.sqlstate))
        server_open_failed(server, REASON_SERVER_LOGIN_FAILED, fields.sqlstate, fields.message);
}

/* One whole message; false when the login ended in failure (the server is gone) or begins anew. */
static bool login_message(struct server *server, uint8_t type, const uint8_t *body, size_t length)
{
    struct buffer out = {0};
    enum auth_step step;

    switch (type) {
    case 'R':
        if (!server->login->auth || server->login->authenticated) {
            server_login_failed(server, REASON_SERVER_PROTOCOL,
                                "unexpected authentication request");
            break;
        }
        step = auth_server_feed(server->login->auth, body, length, &out);
        authenticated_step(server, step, &out);
        break;
    case 'S':
        read_parameter(server, body, length);
        break;
    case 'K':
        read_key(server, body, length);
        break;
    case 'E':
        refused(server, body, length);
        return false;
    case 'Z':
        ready(server, length == 1 ? (char)body[0] : '?');
        break;
    case 'v':
        negotiated(server, body, length);
        break;
    case 'N':
        break;
    default:
        server_login_failed(server, REASON_SERVER_PROTOCOL, "unexpected message at login");
        break;
    }
    if (server->login)
        server->login->answered = true;
    return server->state != SERVER_GONE;
}

static void login_readable(struct server *server)
{
    size_t size, length = server->tail_bytes, at = 0;
    uint8_t *buffer = loop_buffer(server->worker->loop, &size);
    struct frame frame;
    ssize_t count;

    if (length)
        memcpy(buffer, server->tail, length);
    count = stream_read(&server->stream, buffer + length, size - length);
    if (count == 0)
        return;
    if (count < 0) {
        /* not a word: it may be the protocol version; the next attempt asks for the other one */
        if (!server->login->answered && !length)
            host_set_old(server->host, server->protocol_minor > 0);
        server_login_failed(server, REASON_SERVER_CRASHED, "connection closed during login");
        return;
    }
    length += (size_t)count;
    while (server->login && server->state == SERVER_LOGIN &&
           frame_peek(buffer + at, length - at, UINT32_MAX, &frame) == FRAME_OK) {
        size_t total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;

        if (total > LOOP_BUFFER_BYTES) {
            server_login_failed(server, REASON_SERVER_PROTOCOL, "message too long for a login");
            return;
        }
        if (total > length - at)
            break;
        if (frame.type == 'Z' && total < length - at) {
            /* most likely its FATAL: nobody is to be given this server */
            server_login_failed(server, REASON_SERVER_CRASHED, "more than a login was answered");
            return;
        }
        if (!login_message(server, frame.type, buffer + at + FRAME_HEADER_BYTES, frame.body_bytes))
            return;
        at += total;
    }
    if (server->state == SERVER_LOGIN && length - at >= FRAME_HEADER_BYTES &&
        frame_peek(buffer + at, length - at, UINT32_MAX, &frame) == FRAME_BAD) {
        server_login_failed(server, REASON_SERVER_PROTOCOL, "bad message length");
        return;
    }
    if (server->state == SERVER_LOGIN) {
        memory_keep(&server->tail, &server->tail_bytes, buffer + at, length - at);
        if (stream_has_pending(&server->stream))
            stream_read_later(&server->stream);
    } else if (at < length) {
        /* ReadyForQuery was the last word; nothing has been asked since */
        server_close(server, REASON_SERVER_DIRTY, NULL);
    } else {
        memory_keep(&server->tail, &server->tail_bytes, NULL, 0);
    }
}

void server_login_event(struct server *server, enum stream_event event)
{
    struct server_login *login = server->login;
    char problem[256];

    switch (event) {
    case STREAM_CONNECTED:
        connected(server);
        break;
    case STREAM_SECURED:
        counter_add(&server->worker->security[SECURITY_server_tls_handshakes], 1);
        start_up(server);
        break;
    case STREAM_READABLE:
        if (server->state == SERVER_SETUP)
            relay_server(server);
        else if (login->phase == PHASE_SSL_ANSWER)
            ssl_answered(server);
        else
            login_readable(server);
        break;
    case STREAM_CLOSED:
    case STREAM_FAILED:
        (void)stream_problem(&server->stream, problem, sizeof(problem));
        if (login->phase == PHASE_CONNECT && dial_has_next(&login->dial)) {
            server_log(server, RANK_DEBUG, "%s, trying the next address", problem);
            stream_close(&server->stream);
            connect_next(server);
            break;
        }
        server_login_failed(server,
                            login->phase == PHASE_CONNECT ? REASON_SERVER_CONNECT_FAILED
                            : login->phase == PHASE_TLS   ? REASON_SERVER_TLS_FAILED
                                                          : REASON_SERVER_BROKEN,
                            problem);
        break;
    case STREAM_DRAINED:
        break;
    }
}

/* ---- failure ---- */

void server_login_failed(struct server *server, enum reason reason, const char *text)
{
    server_open_failed(server, reason, reason_sqlstate(reason), text ? text : reason_text(reason));
}

/* Would it be wrong to let clients wait, because waiting does not mend it? A host that is down or
 * starting up may be back in a moment; a refused login or an untrusted certificate stays. */
static bool is_lasting(const struct server *server, enum reason reason, const char *sqlstate)
{
    switch (reason) {
    case REASON_SERVER_LOGIN_FAILED:
        return strcmp(sqlstate, "57P03") != 0 && strcmp(sqlstate, "57P01") != 0;
    case REASON_SERVER_TLS_FAILED:
        return server->stream.error == EPROTO; /* else the connection broke in the handshake */
    case REASON_SERVER_PEER_WRONG:
    case REASON_SERVER_BORDER:
    case REASON_SERVER_TLS_REFUSED:
    case REASON_SERVER_PROTOCOL:
        return true;
    default:
        return false;
    }
}

/* … and of what is lasting, may this pass by itself? A server that has no connection left, or
 * trouble of its own; but another password or certificate somebody has to bring. */
static bool may_mend(enum reason reason, const char *sqlstate)
{
    static const char *const classes[] = {"08", "53", "57", "58", "XX"};

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if (reason == REASON_SERVER_LOGIN_FAILED && strncmp(sqlstate, classes[i], 2) == 0)
            return true;
    return reason == REASON_SERVER_PROTOCOL;
}

/* Does it say something of the host, and not of one login? */
static bool is_trouble(enum reason reason, const char *sqlstate)
{
    switch (reason) {
    case REASON_SERVER_LOGIN_FAILED:
        return strncmp(sqlstate, "57P0", 4) == 0;
    case REASON_SERVER_CONNECT_FAILED:
    case REASON_SERVER_CONNECT_TIMEOUT:
    case REASON_SERVER_BROKEN:
    case REASON_SERVER_CRASHED:
    case REASON_SERVER_WRONG_ROLE:
    case REASON_SERVER_WRONG_CLUSTER:
        return true;
    default:
        return false;
    }
}

void server_login_abandon(struct server *server)
{
    server_login_free(server->login);
    server->login = NULL;
    server_discard(server, 0);
}

void server_open_failed(struct server *server, enum reason reason, const char *sqlstate,
                        const char *text)
{
    uint64_t now_us = loop_now_us(server->worker->loop);
    uint64_t longest_us = share_settings(server->share)->server_login_retry_us;
    bool lasting = is_lasting(server, reason, sqlstate);
    struct server_failure failure = {.sqlstate = sqlstate, .lasting = lasting};
    char *line, *told, *cause;
    uint64_t retry_at_us;

    if (reason == REASON_SERVER_TLS_FAILED || reason == REASON_SERVER_TLS_REFUSED)
        counter_add(&server->worker->security[SECURITY_server_tls_failures], 1);
    if (server->state == SERVER_GONE)
        return;
    told = text_copy(text); /* may point into the dialogue that ends here */
    line = text_print("%s: %s", reason_text(reason), told);
    cause = reason == REASON_SERVER_LOGIN_FAILED && strcmp(sqlstate, "08001") != 0
                ? text_print("server login failed: FATAL %s", told)
                : text_copy(line);
    server_log(server, reason == REASON_SERVER_WRONG_ROLE ? RANK_INFO : RANK_WARNING,
               "closing because: %s", cause);
    if (is_trouble(reason, sqlstate))
        server_saw_trouble(server);
    if (reason == REASON_SERVER_WRONG_ROLE)
        retry_at_us =
            now_us; /* the host itself is well: choice.c knows for how long it is no use */
    else if (reason == REASON_SERVER_LOGIN_FAILED && lasting && server->replication)
        retry_at_us = 0; /* it says something of one client */
    else if (reason == REASON_SERVER_LOGIN_FAILED && lasting)
        retry_at_us = backend_pause(server->backend, now_us, longest_us);
    else
        retry_at_us = host_failed(server->host, now_us, longest_us, line);
    if (server->meaning->host_count > 1 && !(reason == REASON_SERVER_LOGIN_FAILED && lasting))
        retry_at_us = 0; /* another host can be tried at once; server_open knows which */
    if (lasting && !server->replication)
        backend_login_failed(server->backend, sqlstate, told, may_mend(reason, sqlstate),
                             retry_at_us ? retry_at_us : now_us + longest_us);
    server_login_free(server->login);
    server->login = NULL;
    server_discard(server, retry_at_us);
    failure.text = told;
    if (server->aside)
        server->aside->failed(server, &failure);
    if ((!server->aside || server->replication) && retry_at_us && !lasting)
        gate_missed(server->share, retry_at_us);
    free(cause);
    free(line);
    free(told);
}
