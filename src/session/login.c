/*
 * login.c: a client from its first byte to its welcome.
 *
 *   [TLS] ─► startup packet ─► route ─► authentication ─► limits ─► pool ─► welcome
 *                                │            │ derivation (other thread)
 *                                └ remembered; told only to who has proved who it is
 *
 * Whether a database or user exists is not told before the password was right: an unknown user
 * walks the same dialogue with a verifier that nothing matches. Parameters that the client sent are
 * kept aside and reach a server only with the client's own first query.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "login_inside.h"
#include "pgstage/auth/login.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/hba.h"
#include "pgstage/env/route.h"
#include "pgstage/session/access.h"
#include "pgstage/session/cancel_key.h"
#include "pgstage/session/console.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/failures.h"
#include "pgstage/session/proxy.h"
#include "pgstage/session/record.h"
#include "pgstage/session/replication.h"
#include "pgstage/session/server.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/startup.h"

struct derivation {
    struct offload_job job;
    struct auth_client *auth;
    struct setup *setup;   /* what the dialogue points into */
    struct client *client; /* NULL: it has gone */
};

struct login *login_new(const struct address *peer, const struct door *door)
{
    struct login *login = memory_new(sizeof(*login));

    login->peer = *peer;
    login->door = door;
    return login;
}

void login_free(struct login *login)
{
    if (!login)
        return;
    if (login->derivation)
        login->derivation->client = NULL; /* it frees the dialogue when it comes home */
    identity_forget(login);
    fetch_forget(login);
    auth_client_free(login->auth);
    buffer_fini(&login->greeting);
    buffer_fini(&login->farewell);
    setup_unref(login->setup);
    free(login->unknown_option);
    free(login->refusal);
    free(login);
}

static void auth_step(struct client *client, enum auth_step step, struct buffer *out);

/* ---- route and authentication ---- */

/* Whoever runs pgstage may administer it through its Unix socket. */
static bool is_same_system_user(const struct client *client)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (!is_local(client) ||
        (strcmp(client->user, "pgbouncer") != 0 && strcmp(client->user, "pgstage") != 0))
        return false;
    return getsockopt(client->stream.watch.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
           peer.uid == geteuid();
}

/* Through a proxy both must be: what it passes on may have crossed a wire before. */
static bool comes_over_loopback(const struct client *client)
{
    return address_is_loopback(&client->login->peer) && address_is_loopback(client->address);
}

static bool lacks_tls(struct client *client, const struct settings *environment_settings)
{
    bool loopback = comes_over_loopback(client);

    if (client->stream.ssl || is_local(client))
        return false;
    if (door_of(client)->listener->settings->client_tls_sslmode >= TLS_REQUIRE)
        return true;
    if (client->console && snapshot_has_production(setup_of(client)->snapshot))
        return !loopback; /* whoever administers production comes as its clients do */
    return environment_settings->client_tls_sslmode >= TLS_REQUIRE && !loopback;
}

static const struct settings *find_route(struct client *client)
{
    struct login *login = client->login;
    struct snapshot *snapshot = setup_of(client)->snapshot;
    struct route_request request = {
        .database = client->database,
        .listener = door_of(client)->listener,
        .sni = client->stream.ssl ? tls_server_name(client->stream.ssl) : NULL,
        .user = client->user,
    };

    login->route_sought = true;
    login->routed = route_find(snapshot, &request, &login->route);
    if (login->routed != ROUTE_FOUND || !login->route.environment)
        return snapshot_globals(snapshot);
    return snapshot_environment_settings(snapshot, login->route.environment);
}

/* Under md5 a user with a SCRAM secret is asked for SCRAM; an unknown one, or one without a password, for
 * what is usual here. */
static enum auth_type method_for(struct client *client, enum auth_type method,
                                 const struct user_secret *secret)
{
    const struct users *users = snapshot_users(setup_of(client)->snapshot);

    if (method == AUTH_MD5 && (!secret || secret->kind == SECRET_NONE) &&
        ((users && users_usual_kind(users) == SECRET_SCRAM) ||
         fetch_usual_kind(client) == SECRET_SCRAM))
        return AUTH_SCRAM;
    return method;
}

static const struct user_secret *secret_of(struct client *client)
{
    const struct users *users = snapshot_users(setup_of(client)->snapshot);
    const struct user_secret *secret = users_find(users, client->user);

    return secret ? secret : fetch_secret(client);
}

/* The methods that have somebody else look at the password. */
static bool is_outside(enum auth_type method)
{
    return method == AUTH_LDAP || method == AUTH_PAM;
}

static void ask_outside(struct client *client, enum auth_type method)
{
    const struct settings *globals = globals_of(client);
    const struct hba_verdict *verdict = &client->login->verdict;
    const struct outside outside = {
        .method = method,
        .ldap = verdict->ldap ? verdict->ldap : snapshot_ldap(setup_of(client)->snapshot),
        .pam_service = verdict->pam_service ? verdict->pam_service : globals->auth_pam_service,
        .pam_folder = globals->auth_pam_folder,
        .timeout_us = globals->auth_helper_timeout_us,
    };
    char from[ADDRESS_TEXT_BYTES];

    auth_client_ask(client->login->auth, &outside,
                    is_local(client) ? NULL : address_host_text(client->address, from));
}

void login_prove(struct client *client, enum auth_type method)
{
    const struct user_secret *secret = secret_of(client);
    struct scram_binding binding;
    struct buffer out = {0};

    client->login->auth = auth_client_new(method_for(client, method, secret), client->user, secret,
                                          method == AUTH_TRUST, client->worker->plane->keys);
    if (client->stream.ssl) {
        binding.bytes = tls_endpoint_hash(client->stream.ssl, true, binding.hash);
        auth_client_bind(client->login->auth, &binding);
    }
    if (is_outside(method))
        ask_outside(client, method);
    auth_step(client, auth_client_start(client->login->auth, &out), &out);
}

void login_authenticate(struct client *client)
{
    const struct settings *settings = client->console ? globals_of(client) : find_route(client);
    struct hba_verdict *verdict = &client->login->verdict;

    if (lacks_tls(client, settings)) {
        client_fail(client, REASON_LOGIN_TLS_REQUIRED, NULL);
        return;
    }
    client_set_state(client, CLIENT_LOGIN);
    client->login->is_peer_admin = client->console && is_same_system_user(client);
    if (!identity_method(client, settings, verdict))
        return;
    /* what an HBA line says of TLS is its writer's word; where there is none nobody has said that
     * passwords may cross a wire in the clear */
    if (is_outside(verdict->method) && settings->auth_type != AUTH_HBA && !client->stream.ssl &&
        !is_local(client) && !comes_over_loopback(client)) {
        client_fail(client, REASON_LOGIN_TLS_REQUIRED, NULL);
        return;
    }
    if (verdict->method == AUTH_ANY || is_outside(verdict->method) || secret_of(client) ||
        !fetch_begin(client))
        login_identify(client);
}

void login_identify(struct client *client)
{
    const struct hba_verdict *verdict = &client->login->verdict;
    bool known = secret_of(client) != NULL;

    if (!identity_certificate(client, verdict, known))
        return;
    if (verdict->method == AUTH_PEER)
        identity_peer(client, known);
    else
        login_prove(client, verdict->method == AUTH_CERT ? AUTH_TRUST : verdict->method);
}

/* ---- password messages ---- */

/* The longest password message: 64 kB tokens are in use, and half a megabyte is no password. */
#define PASSWORD_MAX_BYTES 65536

static void password_readable(struct client *client, const uint8_t *data, size_t length)
{
    struct buffer out = {0};
    struct frame frame;
    size_t total;
    enum auth_step step;

    if (client->login->derivation || !client->login->auth || record_is_waiting(client)) {
        client_hold(client, data, length);
        client_update_flow(client);
        return;
    }
    switch (frame_peek(data, length, PASSWORD_MAX_BYTES, &frame)) {
    case FRAME_PARTIAL:
        client_hold(client, data, length);
        return;
    case FRAME_BAD:
        client_fail(client, REASON_CLIENT_BAD_LENGTH, NULL);
        return;
    case FRAME_OK:
        break;
    }
    if (frame.type == 'X') {
        client_close(client, REASON_CLIENT_TERMINATE);
        return;
    }
    if (frame.type != 'p') {
        client_fail(client, REASON_CLIENT_UNEXPECTED, NULL);
        return;
    }
    total = FRAME_HEADER_BYTES + (size_t)frame.body_bytes;
    if (total > length) {
        client_hold(client, data, length);
        return;
    }
    client_hold(client, data + total, length - total);
    step = auth_client_feed(client->login->auth, data + FRAME_HEADER_BYTES, frame.body_bytes, &out);
    auth_step(client, step, &out);
}

#define LOGIN_READ_BYTES 4096

void login_readable(struct client *client)
{
    size_t length, size, room = FRAME_HEADER_BYTES + PASSWORD_MAX_BYTES;
    uint8_t *buffer, small[LOGIN_READ_BYTES];
    ssize_t count;

    if (client->state == CLIENT_STARTUP) {
        if (!client->login->proxy_passed && !proxy_header_read(client, door_of(client)->listener))
            return;
        client->login->proxy_passed = true;
        if (startup_begins_with_tls(client))
            return;
        room = STARTUP_MAX_BYTES + 8;
    }
    length = client->held_bytes;
    if (client->login->derivation || client->login->lookup || client->login->inquiry ||
        client->login->refusal || record_is_waiting(client) || length >= room) {
        stream_pause(&client->stream);
        return;
    }
    size = length + LOGIN_READ_BYTES;
    buffer = length ? memory_get(size) : small;
    if (length)
        memcpy(buffer, client->held, length);
    count = stream_read(&client->stream, buffer + length, size - length);
    if (count < 0) {
        client_close(client, client->stream.error ? REASON_CLIENT_BROKEN : REASON_CLIENT_EOF);
    } else if (count > 0 || length > 0) {
        length += (size_t)count;
        if (stream_has_pending(&client->stream))
            stream_read_later(&client->stream);
        if (client->state == CLIENT_STARTUP)
            startup_readable(client, buffer, length);
        else
            password_readable(client, buffer, length);
    }
    text_wipe(buffer, length);
    if (buffer != small)
        free(buffer);
}

/* ---- steps of the dialogue ---- */

static void derive(struct offload_job *job)
{
    auth_client_derive(list_entry(job, struct derivation, job)->auth);
}

static void derived(struct loop *loop, struct offload_job *job)
{
    struct derivation *derivation = list_entry(job, struct derivation, job);
    struct client *client = derivation->client;
    struct buffer out = {0};

    (void)loop;
    if (!client || client_is_over(client) || job->cancelled) {
        /* it may have ended in this very turn, and then stands until the turn's end */
        auth_client_free(derivation->auth);
        if (client)
            client->login->derivation = NULL;
        setup_unref(derivation->setup);
        free(derivation);
        return;
    }
    client->login->auth = derivation->auth;
    client->login->derivation = NULL;
    client->login->is_asking = false;
    setup_unref(derivation->setup);
    free(derivation);
    stream_resume(&client->stream);
    auth_step(client, auth_client_resume(client->login->auth, &out), &out);
}

/* Somebody outside is asked: for no longer than auth_helper_timeout, whatever they do. */
static void limit_asking(struct client *client)
{
    uint64_t due_us =
        loop_now_us(client->worker->loop) + globals_of(client)->auth_helper_timeout_us;

    client->login->is_asking = true;
    if (!timer_is_set(&client->timer) || client->timer.due_us > due_us)
        timer_set(client->worker->loop, &client->timer, due_us);
}

static void start_derivation(struct client *client)
{
    struct derivation *derivation = memory_new(sizeof(*derivation));
    bool asks = auth_client_is_asking(client->login->auth);
    struct plane *plane = client->worker->plane;

    derivation->job.work = derive;
    derivation->job.done = derived;
    derivation->auth = client->login->auth;
    derivation->client = client;
    if (!offload_submit(asks ? plane->helpers : plane->derivations, client->worker->loop,
                        &derivation->job)) {
        free(derivation);
        if (asks)
            client_log(client, RANK_WARNING, "%" PRId64 " logins wait for LDAP or PAM already",
                       globals_of(client)->auth_helper_queue);
        client_fail(client, REASON_LOGIN_BUSY, NULL);
        return;
    }
    derivation->setup = setup_ref(setup_of(client));
    if (asks)
        limit_asking(client);
    client->login->auth = NULL;
    client->login->derivation = derivation;
}

static void tell_refusal(struct client *client)
{
    char *text = client->login->refusal;

    client->login->refusal = NULL;
    client_fail_as(client, REASON_LOGIN_FAILED, client->login->refusal_sqlstate, text);
    free(text);
}

/* The answer of an address that has failed before comes later each time: the client waits in its
 * state, on its timer, and stands in no limit meanwhile. */
void login_refuse(struct client *client, const char *sqlstate, const char *problem,
                  const char *log_problem)
{
    struct login *login = client->login;
    struct plane *plane = client->worker->plane;
    uint64_t now_us = loop_now_us(client->worker->loop), delay_us;
    bool refused;

    login->refusal = text_copy(problem);
    (void)text_fit(login->refusal_sqlstate, sizeof(login->refusal_sqlstate), sqlstate);
    client_log(client, RANK_LOG, "login failed: %s", log_problem);
    delay_us =
        failures_count(plane->failures, globals_of(client), client->address, now_us, &refused);
    if (refused)
        client_log(client, RANK_WARNING,
                   "too many failed logins from this address: it is refused for %" PRIu64 " s",
                   globals_of(client)->login_refusal_time_us / CLOCK_SECOND);
    if (!delay_us) {
        tell_refusal(client);
        return;
    }
    if (client->admitted)
        registry_discharge(plane->registry);
    client->admitted = false;
    stream_pause(&client->stream);
    timer_set(client->worker->loop, &client->timer, now_us + delay_us);
}

void login_timed_out(struct client *client)
{
    if (client->login->refusal) {
        tell_refusal(client);
    } else if (client->login->is_asking) {
        client_log(client, RANK_WARNING, "LDAP or PAM has not answered within auth_helper_timeout");
        client_fail(client, REASON_LOGIN_UNANSWERED, NULL);
    } else
        client_fail(client, REASON_LOGIN_TIMEOUT, NULL);
}

/* ---- after the password was right ---- */

/* `pool` is NULL when there is none yet. */
static bool admit(struct client *client, struct pool *pool, const struct pool_key *key)
{
    static const enum reason reasons[] = {
        [REFUSED_TOTAL] = REASON_LOGIN_LIMIT_TOTAL,
        [REFUSED_DATABASE] = REASON_LOGIN_LIMIT_DATABASE,
        [REFUSED_USER] = REASON_LOGIN_LIMIT_USER,
        [REFUSED_ENVIRONMENT] = REASON_LOGIN_LIMIT_ENVIRONMENT,
    };
    enum admission admission =
        pool ? pool_admit(pool, client->user)
             : registry_admit_to(client->worker->plane->registry, key, client->user);

    if (admission == ADMITTED)
        return true;
    client_fail(client, reasons[admission], NULL);
    return false;
}

/* Limits of a database or user that this is the first client of are not known to the registry yet.
 */
static void set_limits(struct client *client, const struct pool_key *key,
                       const struct effective *effective, bool pool_exists)
{
    struct registry *registry = client->worker->plane->registry;

    if (!pool_exists)
        access_limit_pool(registry, key, effective);
    if (strcmp(client->user, key->user) != 0)
        access_limit_user(registry, effective->snapshot, client->user);
}

/* Makes the pool; NULL: the client has been told why not. */
static struct pool *make_pool(struct client *client, const struct pool_key *key,
                              struct effective *effective)
{
    struct plane *plane = client->worker->plane;
    struct backend_seed seed = {.plane = plane};
    struct pool_limits limits;
    struct pool *pool;
    char problem[256];

    seed.meaning = meaning_new(plane, setup_of(client), effective_ref(effective), NULL, problem,
                               sizeof(problem));
    if (!seed.meaning) {
        registry_discharge_from(plane->registry, key, client->user);
        client_log(client, RANK_ERROR, "TLS to the servers cannot be set up: %s", problem);
        client_fail(client, REASON_LOGIN_REFUSED, NULL);
        return NULL;
    }
    meaning_limits(seed.meaning, key->own_items, &limits);
    pool = registry_pool(plane->registry, key, &limits, &seed);
    meaning_unref(seed.meaning);
    return pool;
}

/* Finds or makes the pool, with a reference, and counts the client under its limits; NULL: the
 * client has been told why not. */
static struct pool *enter_pool(struct client *client, const struct pool_key *key,
                               struct effective *effective)
{
    struct registry *registry = client->worker->plane->registry;
    struct pool *pool = registry_find(registry, key);

    set_limits(client, key, effective, pool != NULL);
    if (registry_is_disabled(registry, key->database, key->environment)) {
        char *text = text_print("database \"%s\" is disabled", key->database);

        client_fail_as(client, REASON_LOGIN_DISABLED, reason_sqlstate(REASON_LOGIN_DISABLED), text);
        free(text);
    } else if (admit(client, pool, key)) {
        if (!pool)
            pool = make_pool(client, key, effective);
        client->admitted_to = pool != NULL;
        if (pool)
            gate_admit(pool);
        return pool;
    }
    if (pool)
        pool_unref(pool);
    return NULL;
}

static struct effective *effective_of(struct client *client, const char *user)
{
    const struct route *route = &client->login->route;

    return snapshot_effective(setup_of(client)->snapshot, route->line, route->database,
                              route->environment, user);
}

static struct pool *find_pool(struct client *client)
{
    struct route *route = &client->login->route;
    struct effective *effective = effective_of(client, client->user);
    struct pool_key key = {
        .database = route->database,
        .environment = route->environment ? route->environment->name : NULL,
        .own_items = client->replication != REPLICATION_NONE,
    };
    struct pool *pool;

    if (effective->settings->user && strcmp(effective->settings->user, client->user) != 0) {
        /* all clients share the pool of the forced user: its line in [users] counts, not that of
         * whoever comes first */
        struct effective *own = effective_of(client, effective->settings->user);

        effective_unref(effective);
        effective = own;
    }
    key.user = effective->settings->user ? effective->settings->user : client->user;
    pool = enter_pool(client, &key, effective);
    effective_unref(effective);
    return pool;
}

/* What the pool is called lives longer than the client: one text will do for all of its clients. */
static void share_names(struct client *client)
{
    const struct pool *pool = client->share->backend->pool;

    if (strcmp(client->user, pool_user(pool)) == 0) {
        free((char *)client->user);
        client->user = pool_user(pool);
    }
    if (strcmp(client->database, pool_database(pool)) == 0) {
        free((char *)client->database);
        client->database = pool_database(pool);
    }
}

static void join_pool(struct client *client)
{
    struct pool *pool = find_pool(client);
    struct welcome *welcome;

    if (!pool)
        return;
    client->share = backend_share(backend_of(pool), client->worker);
    share_look_at_setup(client->share);
    client->share->tally[TALLY_NONE]++;
    client->tally = TALLY_NONE;
    list_push_back(&client->share->clients, &client->share_node);
    share_names(client);
    pool_client_added(pool);
    counter_add(&pool_stats(pool, client->worker->index)->client_login_count, 1);
    client_set_state(client, CLIENT_WELCOME);
    if (client->share->expired) { /* since this login began */
        client_fail(client, REASON_EXPIRED, NULL);
        return;
    }
    if (client->replication) {
        replication_begin(client);
        return;
    }
    welcome = backend_welcome(client->share->backend);
    if (welcome) {
        client_welcome(client, welcome->parameters, &welcome->messages);
        welcome_unref(welcome);
        return;
    }
    (void)client_borrow(client);
}

void login_finish(struct client *client)
{
    struct backend *backend = client->share->backend;
    struct welcome *welcome;

    if (client->replication) {
        replication_begin(client);
        return;
    }
    welcome = backend_welcome(backend);
    if (welcome) {
        client_forget_wait(client); /* a server that is on its way to it will do for others */
        client_welcome(client, welcome->parameters, &welcome->messages);
        welcome_unref(welcome);
    }
}

/* What a client wants as the server has it anyway need not be set for it. */
static void forget_defaults(struct client *client, const struct parameters *defaults)
{
    size_t at = 0;

    while (at < parameters_count(client->parameters)) {
        const char *name, *value, *standard;

        parameters_at(client->parameters, at, &name, &value);
        standard = parameters_get(defaults, name);
        if (standard && strcmp(standard, value) == 0)
            client->parameters = parameters_with(client->parameters, name, NULL);
        else
            at++;
    }
}

/* One ParameterStatus for each parameter that the server reports: the client's own value where it
 * has one. */
static void put_parameters(const struct client *client, const struct parameters *reported,
                           const struct buffer *messages, struct buffer *out)
{
    if (parameters_count(client->parameters) == 0) {
        buffer_put(out, messages->data, messages->length);
        return;
    }
    for (size_t i = 0; i < parameters_count(reported); i++) {
        const char *name, *value, *own;

        parameters_at(reported, i, &name, &value);
        own = parameters_get(client->parameters, name);
        message_parameter_status(out, name, own ? own : value);
    }
}

/* BackendKeyData and ReadyForQuery, and what the client's own parameters may add. */
#define WELCOME_REST_BYTES 128

void client_welcome(struct client *client, const struct parameters *server_parameters,
                    const struct buffer *welcome_messages)
{
    struct buffer out;

    if (record_accepted(client))
        return; /* login_recorded comes back here */
    out = client->login->greeting;
    client->login->greeting = (struct buffer){0};
    forget_defaults(client, server_parameters);
    client->startup = parameters_ref(client->parameters);
    (void)buffer_reserve(&out, welcome_messages->length + WELCOME_REST_BYTES);
    put_parameters(client, server_parameters, welcome_messages, &out);
    cancel_key_tell(client, &out);
    if (globals_of(client)->login_notify_message)
        message_notice(&out, "NOTICE", "00000", globals_of(client)->login_notify_message);
    message_ready(&out, 'I');
    counter_add(&client->worker->security[SECURITY_logins_accepted], 1);
    login_free(client->login);
    client->login = NULL;
    client->active_us = loop_now_us(client->worker->loop);
    client_set_state(client, CLIENT_IDLE);
    if (client->exchange) /* it had to wait for its welcome */
        exchange_end(client);
    if (!client_send_buffer(client, &out))
        return;
    client_arm(client);
    client_update_flow(client);
    if (client->held_bytes) {
        client->granted = true;
        loop_defer(client->worker->loop, &client->task);
    }
}

static void enter_console(struct client *client)
{
    const struct settings *globals = globals_of(client);
    enum console_level level = CONSOLE_NONE;

    if (client->login->is_peer_admin || text_in_list(globals->admin_users, client->user))
        level = CONSOLE_ADMIN;
    else if (text_in_list(globals->stats_users, client->user))
        level = CONSOLE_STATS;
    if (level == CONSOLE_NONE) {
        client_fail(client, REASON_LOGIN_CONSOLE, NULL);
        return;
    }
    if (!record_accepted(client))
        console_enter(client, level, &client->login->greeting);
}

/* ---- the audit log ---- */

const struct environment_config *login_environment(const struct client *client)
{
    return login_is_routed(client) ? client->login->route.environment : NULL;
}

const struct settings *login_settings(const struct client *client)
{
    return snapshot_environment_settings(client->login->setup->snapshot, login_environment(client));
}

struct buffer *login_farewell(struct client *client)
{
    return client->login ? &client->login->farewell : NULL;
}

bool login_is_routed(const struct client *client)
{
    return client->login && client->login->route_sought && client->login->routed == ROUTE_FOUND;
}

void login_recorded(struct client *client, bool may_enter)
{
    if (!may_enter) {
        client_fail(client, REASON_LOGIN_AUDIT, NULL);
    } else if (client->console) {
        stream_resume(&client->stream);
        enter_console(client);
    } else {
        login_finish(client);
    }
}

static void log_attempt(struct client *client)
{
    char tls[96] = "no";

    if (!globals_of(client)->log_connections)
        return;
    if (client->stream.ssl)
        tls_describe(client->stream.ssl, tls, sizeof(tls));
    client_log(client, RANK_LOG, "login attempt: db=%s user=%s tls=%s environment=%s",
               client->database, client->user, tls,
               !client->console && client->login->routed == ROUTE_FOUND &&
                       client->login->route.environment
                   ? client->login->route.environment->name
                   : "-");
}

static void authenticated(struct client *client, struct buffer *out)
{
    client->login->greeting = *out;
    log_attempt(client);
    if (client->console) {
        enter_console(client);
    } else if (atomic_load_explicit(&client->worker->plane->stop, memory_order_relaxed)) {
        client_fail(client, REASON_SHUTDOWN, NULL);
    } else if (client->login->routed != ROUTE_FOUND) {
        struct route_request request = {.database = client->database,
                                        .listener = door_of(client)->listener,
                                        .user = client->user,
                                        .from = &client->address->any,
                                        .is_local = is_local(client),
                                        .has_tls = client->stream.ssl != NULL};
        char *text = route_explain(setup_of(client)->snapshot, &request, client->login->routed);

        client_fail_as(client, REASON_LOGIN_NO_DATABASE, "3D000", text);
        free(text);
    } else if (access_check(client, client->login->route.environment)) {
        join_pool(client);
    }
}

static void auth_step(struct client *client, enum auth_step step, struct buffer *out)
{
    switch (step) {
    case AUTH_SEND:
        (void)client_send_buffer(client, out);
        break;
    case AUTH_DERIVE:
        buffer_fini(out);
        start_derivation(client);
        return;
    case AUTH_OK:
        authenticated(client, out);
        return;
    case AUTH_FAILED:
        buffer_fini(out);
        if (auth_client_was_unanswered(client->login->auth)) {
            client_log(client, RANK_WARNING, "login failed: %s",
                       auth_client_log_problem(client->login->auth));
            client_fail(client, REASON_LOGIN_UNANSWERED, NULL);
            return;
        }
        fetch_doubt(client);
        login_refuse(client, auth_client_sqlstate(client->login->auth),
                     auth_client_problem(client->login->auth),
                     auth_client_log_problem(client->login->auth));
        return;
    }
    if (!client_is_over(client) && client->held_bytes)
        loop_defer(client->worker->loop, &client->task);
}
