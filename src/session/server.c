/*
 * server.c: a connection to a PostgreSQL server, from the pool's view: linked, released, abandoned,
 * closed.
 *
 * How it comes to be is server_login.c, how it is given its client's session parameters
 * server_parameters.c, how it goes to another worker server_move.c. What stays true here: a server goes back to the pool only
 * when nothing is owed, its status is 'I', all bytes for it are written and no cancel aimed at it
 * is under way; whatever is in doubt is closed. Statements of our own (check, parameters, reset)
 * run with nobody listening, in states of their own; an error in one of them is never a client's.
 */
#include "pgstage/session/server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/cancel.h"
#include "pgstage/session/choice.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/listening.h"
#include "pgstage/session/login.h"
#include "pgstage/session/lost.h"
#include "pgstage/session/prepared.h"
#include "pgstage/session/relay.h"
#include "pgstage/session/server_login.h"
#include "pgstage/session/standing.h"
#include "pgstage/session/tracker.h"
#include "pgstage/session/watch.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/sql.h"
#include "server_inside.h"

/* How long a statement of our own may take when connecting may take for ever. */
#define OWN_STATEMENT_US (60 * CLOCK_SECOND)

static void recycle(struct server *server);

/* ---- states ---- */

const char *server_state_name(const struct server *server)
{
    switch (server->state) {
    case SERVER_OPENING:
    case SERVER_LOGIN:
    case SERVER_SETUP:
        return "new";
    case SERVER_IDLE:
    case SERVER_MOVING:
        return "idle";
    case SERVER_CHECK:
    case SERVER_RESET:
        return "tested";
    case SERVER_PREPARE:
    case SERVER_ACTIVE:
        return "active";
    case SERVER_DRAINING:
        return server->cancels ? "being_canceled" : "active";
    case SERVER_GONE:
        break;
    }
    return "gone";
}

void server_set_state(struct server *server, enum server_state state)
{
    check(server->state != SERVER_GONE);
    if (log_wants(RANK_TRACE))
        server_log(server, RANK_TRACE, "server state %d -> %d", (int)server->state, (int)state);
    server->state = state;
}

void server_log(const struct server *server, enum log_rank rank, const char *format, ...)
{
    const struct effective *effective = server->meaning->effective;
    va_list arguments;
    char *text;

    if (!log_wants_from(rank, settings_log_rank(effective->settings)))
        return;
    va_start(arguments, format);
    text = text_vprint(format, arguments);
    va_end(arguments);
    log_write(rank, "S-%" PRIx64 ": %s%s%s/%s@%s:%u %s", server->item.id, effective->database,
              effective->environment ? "@" : "",
              effective->environment ? effective->environment->name : "",
              pool_user(server->backend->pool), host_name(server->host),
              (unsigned)host_port(server->host), text);
    free(text);
}

void server_limit_own(struct server *server)
{
    uint64_t limit_us = share_settings(server->share)->server_connect_timeout_us;

    timer_set(server->worker->loop, &server->timer,
              server_now_us(server) + (limit_us ? limit_us : OWN_STATEMENT_US));
}

bool server_query(struct server *server, const char *sql)
{
    struct buffer out = {0};
    enum stream_result result;

    server->query_failed = false;
    transaction_ask(&server->transaction, 'Q', ANSWER_SWALLOW);
    message_query(&out, sql);
    result = stream_write(&server->stream, out.data, out.length);
    buffer_fini(&out);
    if (result == STREAM_BROKEN) {
        server_close(server, REASON_SERVER_BROKEN, NULL);
        return false;
    }
    server_limit_own(server);
    return true;
}

/* ---- lent to a client ---- */

void server_activate(struct server *server)
{
    struct client *client = server->client;

    timer_clear(&server->timer);
    server_set_state(server, SERVER_ACTIVE);
    if (client->asking)
        return;
    if (client->held_bytes) {
        client->granted = true;
        loop_defer(client->worker->loop, &client->task);
    }
    client_arm(client);
    client_update_flow(client);
}

static const char *check_query(const struct settings *settings)
{
    const char *query = settings->server_check_query;

    if (!query || !*query)
        return NULL;
    return strcmp(query, "<empty>") == 0 ? "" : query;
}

void server_link(struct server *server, struct client *client)
{
    const struct settings *settings = share_settings(server->share);
    struct pool_stats *stats = server->share->stats;
    uint64_t now_us = server_now_us(server);
    uint64_t idle_us = server->request_us ? now_us - server->request_us : 0;

    counter_add(&stats->server_assignment_count, 1);
    if (client->state == CLIENT_WAITING)
        counter_add(&stats->wait_time, now_us - client->exchange->waiter.since_us);
    if (server->share->watch)
        watch_waited(client, server,
                     client->state == CLIENT_WAITING ? now_us - client->exchange->waiter.since_us
                                                     : 0);
    server->client = client;
    client->server = server;
    server->links++;
    tracker_linked(client);
    server->request_us = 0;
    client->request_us = client->exchange->transaction_us = client->active_us = now_us;
    client_set_state(client, CLIENT_ACTIVE);
    timer_clear(&client->timer); /* what it waited does not count as what it does now */
    if (idle_us > settings->server_check_delay_us && check_query(settings) &&
        server->state == SERVER_IDLE) {
        server_set_state(server, SERVER_CHECK);
        (void)server_query(server, check_query(settings));
        return;
    }
    server_prepare(server);
}

static struct client *unlink_client(struct server *server)
{
    struct client *client = server->client;

    gate_part(server);
    server_forget_ahead(server);
    if (client) {
        if (server->prepared || client->names)
            prepared_unlink(server, client);
        server->client = NULL;
        client->server = NULL;
    }
    return client;
}

/* ---- given back ---- */

static void idle_timer(struct server *server)
{
    const struct settings *settings = share_settings(server->share);
    uint64_t due_us = server->retire_us;
    uint64_t idle_us = settings->server_idle_timeout_us;

    if (idle_us && (!due_us || server->request_us + idle_us < due_us))
        due_us = server->request_us + idle_us;
    if (due_us)
        timer_set(server->worker->loop, &server->timer, due_us);
    else
        timer_clear(&server->timer);
}

/* Spread over the last eighth, so that servers opened together do not close together. */
static void set_retirement(struct server *server)
{
    uint64_t lifetime_us = share_settings(server->share)->server_lifetime_us;
    uint64_t earlier_us = map_hash(&server, sizeof(server)) % (lifetime_us / 8 + 1);

    server->retire_us = lifetime_us ? server->logged_in_us + lifetime_us - earlier_us : 1;
    /* only trying tells that a primary is back */
    if (server->stands_in && !choice_knows_no_primary(server->share))
        server->retire_us = server->logged_in_us + CLOCK_SECOND;
}

void server_refresh(struct server *server)
{
    if (server->login || server->aside)
        return;
    set_retirement(server);
    if (server->state == SERVER_IDLE)
        idle_timer(server);
}

void server_free(void *object)
{
    struct server *server = object;

    server_login_free(server->login);
    transaction_fini(&server->transaction);
    prepared_free(server);
    parameters_unref(server->parameters);
    parameters_unref(server->before);
    parameters_unref(server->said);
    buffer_fini(&server->ahead);
    parameters_unref(server->reported);
    meaning_unref(server->meaning);
    host_unuse(server->host);
    free(server->tail);
    free(server->query_error);
    free(server->cancel_secret);
    free(server);
}

void server_place(struct server *server, struct worker *worker)
{
    worker_add_server(worker, server);
    server->share = backend_share(server->backend, worker);
    list_push_back(&server->share->servers, &server->share_node);
}

void server_dispose(struct server *server, enum pool_outcome outcome,
                    const struct pool_grant *given)
{
    struct pool_grant grant = *given;

    /* clients that only want to be welcomed need no more than to know that there is a server */
    while (outcome == POOL_LENT) {
        struct client *client = list_entry(grant.waiter, struct exchange, waiter)->client;

        if (client->state != CLIENT_WELCOME) {
            server_link(server, client);
            return;
        }
        login_finish(client);
        outcome = pool_return(server->backend->pool, &server->item, server_now_us(server), &grant);
    }
    switch (outcome) {
    case POOL_KEPT:
        if (server->state != SERVER_IDLE)
            server_set_state(server, SERVER_IDLE);
        idle_timer(server);
        break;
    case POOL_LINGERS: /* as idle, for us: it may end, and a client may borrow it */
        server_set_state(server, SERVER_IDLE);
        if (!timer_is_set(&server->share->linger))
            timer_set(server->worker->loop, &server->share->linger, grant.until_us);
        break;
    case POOL_MOVE:
        server_move_away(server, &grant);
        break;
    case POOL_DISCARD:
        server_close(server, REASON_SERVER_OBSOLETE, NULL);
        break;
    case POOL_LENT:
        break;
    }
}

static bool is_reset_due(const struct server *server)
{
    const struct settings *settings = share_settings(server->share);

    if (!settings->server_reset_query || !*settings->server_reset_query)
        return false;
    return settings->pool_mode == POOL_MODE_SESSION || settings->server_reset_query_always;
}

static void give_back(struct server *server)
{
    struct pool_grant grant = {0};
    enum pool_outcome outcome;
    uint64_t now_us = server_now_us(server);

    timer_clear(&server->timer);
    server->request_us = now_us;
    server_set_state(server, SERVER_IDLE);
    outcome = pool_return(server->backend->pool, &server->item, now_us, &grant);
    server_dispose(server, outcome, &grant);
}

/* With session_state = reset_always, whatever its client has done. */
static bool is_cleaning_due(const struct server *server)
{
    const struct settings *settings = share_settings(server->share);

    return server->soiled || (settings->session_state == SESSION_STATE_RESET_ALWAYS &&
                              settings->pool_mode != POOL_MODE_SESSION);
}

/* Nobody uses it and all is answered: where does it go? */
static void recycle(struct server *server)
{
    bool cleaned = server->state == SERVER_RESET && server->cleaning;
    bool reset_done = server->state == SERVER_RESET && !server->cleaning;

    server_update_flow(server); /* it may be paused for a client that has gone */
    if (server->close_needed || server->fatal || server->stream.write_broken) {
        server_close(server,
                     server->fatal                 ? REASON_SERVER_FATAL
                     : server->stream.write_broken ? REASON_SERVER_BROKEN
                                                   : REASON_SERVER_CHANGED,
                     NULL);
        return;
    }
    if (server->stained) {
        server_close(server, REASON_SERVER_UNCLEAN, NULL);
        return;
    }
    if (server->retire_us && server_now_us(server) >= server->retire_us) {
        server_close(server, REASON_SERVER_LIFETIME, NULL);
        return;
    }
    if (server->cancels > 0 || stream_queued_bytes(&server->stream) > 0) {
        /* the cancel might hit whoever came next: wait until it is over */
        if (!reset_done && !cleaned)
            server_set_state(server, SERVER_DRAINING);
        server->releasing = true;
        return;
    }
    server->releasing = false;
    server->asking = false;
    if (!reset_done && !cleaned && is_cleaning_due(server)) {
        server->cleaning = true;
        server->told[0] = '\0';
        server_set_state(server, SERVER_RESET);
        (void)server_query(server, tracker_clean_sql());
        return;
    }
    server->cleaning = false;
    if (!reset_done && is_reset_due(server)) {
        server_set_state(server, SERVER_RESET);
        (void)server_query(server, share_settings(server->share)->server_reset_query);
        return;
    }
    give_back(server);
}

void server_release(struct server *server)
{
    struct client *client = unlink_client(server);

    client_set_state(client, CLIENT_IDLE);
    client_arm(client);
    if (client->held_bytes) {
        client->granted = true;
        loop_defer(client->worker->loop, &client->task);
    }
    recycle(server);
    if (client_is_stopping(client) && client->state == CLIENT_IDLE && !client->held_bytes)
        client_stop(client);
    else
        exchange_end(client);
}

static void abandon_running(struct server *server, bool terminated)
{
    int action = share_settings(server->share)->client_gone_action;
    uint64_t limit_us = share_settings(server->share)->query_timeout_us;

    if (!transaction_can_settle(&server->transaction) ||
        (!terminated && action == CLIENT_GONE_CLOSE)) {
        if (!terminated && action == CLIENT_GONE_CANCEL && server->transaction.count > 0 &&
            server->cancels == 0)
            cancel_server(server); /* it is sent although the connection is closed */
        server_close(server, REASON_SERVER_ABANDONED, NULL);
        return;
    }
    server_set_state(server, SERVER_DRAINING);
    server_update_flow(server);
    if (!terminated && action == CLIENT_GONE_CANCEL) {
        if (server->cancels == 0)
            cancel_server(server);
        server_limit_own(server);
    } else if (limit_us) {
        timer_set(server->worker->loop, &server->timer, server->request_us + limit_us);
    }
}

void server_abandon(struct server *server, bool terminated)
{
    struct client *client = server->client;
    bool cut = client->body_left && !client->body_dropped;
    enum pin_leaves left;

    if (server->aside) {
        server_close(server, REASON_SERVER_ABANDONED, NULL);
        return;
    }
    server->soiled |= tracker_leaves_doubt(client);
    left = client_unpin_all(client);
    server->soiled |= left == PIN_LEAVES_SOILED;
    server->stained |= left == PIN_LEAVES_DIRTY;
    unlink_client(server);
    if (cut) {
        /* half a message has gone out; its rest never comes */
        if (server->state == SERVER_ACTIVE && !transaction_is_settled(&server->transaction))
            cancel_server(server);
        server_close(server, REASON_SERVER_ABANDONED, NULL);
        return;
    }
    switch (server->state) {
    case SERVER_CHECK:
    case SERVER_PREPARE:
        if (transaction_is_free(&server->transaction))
            recycle(server);
        else
            server_set_state(server, SERVER_DRAINING);
        break;
    case SERVER_ACTIVE:
        if (!transaction_is_settled(&server->transaction)) {
            abandon_running(server, terminated);
        } else if (server->transaction.status == 'I') {
            recycle(server);
        } else {
            server_close(server, REASON_SERVER_UNCLEAN, NULL);
        }
        break;
    default:
        server_close(server, REASON_SERVER_ABANDONED, NULL);
        break;
    }
}

/* ---- everything is answered ---- */

/* Counts what has just ended. */
static void count_end(struct server *server)
{
    struct client *client = server->client;
    struct pool_stats *stats = server->share->stats;
    uint64_t now_us = server_now_us(server);

    if (!server->request_us)
        return;
    counter_add(&stats->query_time, now_us - server->request_us);
    if (server->share->watch)
        watch_ended(client, server, now_us - server->request_us,
                    now_us - client->exchange->transaction_us, server->transaction.status == 'I');
    server->request_us = 0;
    client->active_us = now_us;
    if (server->transaction.status == 'I') {
        counter_add(&stats->xact_count, 1);
        counter_add(&stats->xact_time, now_us - client->exchange->transaction_us);
        client->transactions++;
    }
}

void server_active_settled(struct server *server)
{
    struct client *client = server->client;
    int mode = share_settings(server->share)->pool_mode;

    count_end(server);
    if (server->transaction.status != 'I') {
        client_arm(client);
        return;
    }
    if (client->body_left && !client->body_dropped)
        return;
    if (client_is_stopping(client) && stream_queued_bytes(&client->stream) == 0) {
        client_stop(client);
        return;
    }
    if (mode != POOL_MODE_SESSION && tracker_settled(server))
        return;
    if (client->hearing) {
        if (!listening_flush(client))
            return;
        if (listening_waits(client)) {
            client_arm(client); /* its LISTEN goes to this server when it can */
            return;
        }
    }
    if (mode == POOL_MODE_SESSION || client->pins) {
        if (server->close_needed && share_settings(server->share)->server_fast_close) {
            server_close(server, REASON_SERVER_CHANGED, NULL);
            return;
        }
        gate_keep(server);
        client_arm(client);
        return;
    }
    if (stream_queued_bytes(&server->stream) == 0)
        server_release(server);
}

void server_settled(struct server *server)
{
    struct transaction *transaction = &server->transaction;

    if (server->body_left)
        return; /* a long notice behind the last answer: its rest is nobody else's */
    if (!transaction_is_settled(transaction)) {
        if (server->state == SERVER_DRAINING && !transaction_can_settle(transaction))
            server_close(server, REASON_SERVER_ABANDONED, NULL); /* nobody will send the rest */
        return;
    }
    switch (server->state) {
    case SERVER_SETUP:
        if (server->query_failed && server_login_forgives(server))
            break;
        if (server->query_failed)
            server_open_failed(server, REASON_SERVER_LOGIN_FAILED, server->query_sqlstate,
                               server->query_error);
        else if (transaction->status != 'I')
            server_open_failed(server, REASON_SERVER_PROTOCOL, "25001",
                               "connect_query left a transaction open");
        else if (!server_login_goes_on(server))
            server_logged_in(server);
        break;
    case SERVER_CHECK:
        if (server->query_failed)
            server_close(server, REASON_SERVER_CHECK_FAILED, NULL);
        else
            server_prepare(server);
        break;
    case SERVER_PREPARE:
        server_prepared(server);
        break;
    case SERVER_ACTIVE:
        server_active_settled(server);
        break;
    case SERVER_DRAINING:
        server_decide_parameters(server);
        if (transaction->status == 'I')
            recycle(server);
        else
            server_close(server, REASON_SERVER_UNCLEAN, NULL);
        break;
    case SERVER_RESET:
        if (server->query_failed || transaction->status != 'I') {
            server_close(server, REASON_SERVER_RESET_FAILED, NULL);
            break;
        }
        if (server->cleaning && strcmp(server->told, TRACKER_CLEAN_PREPARED) == 0) {
            server_close(server, REASON_SERVER_UNCLEAN, "a prepared statement of SQL");
            break;
        }
        if (server->cleaning ||
            strcasestr(share_settings(server->share)->server_reset_query, "discard all")) {
            parameters_unref(server->parameters);
            server->parameters = NULL;
        }
        if (server->cleaning)
            server->soiled = false;
        recycle(server);
        break;
    default:
        break;
    }
}

void server_update_flow(struct server *server)
{
    if (!stream_is_open(&server->stream))
        return;
    if (server->client && stream_queued_bytes(&server->client->stream) > 0)
        stream_pause(&server->stream);
    else
        stream_resume(&server->stream);
}

void server_cancel_over(struct server *server)
{
    server->cancels--;
    if (server->cancels == 0 && server->releasing && server->state != SERVER_GONE)
        recycle(server);
}

/* ---- the end ---- */

void server_close(struct server *server, enum reason reason, const char *detail)
{
    const struct settings *globals = snapshot_globals(server->worker->setup->snapshot);
    uint64_t now_us = server_now_us(server);
    struct client *client;
    bool untouched, cut;

    if (server->state == SERVER_GONE)
        return;
    if (server->login) {
        server_open_failed(server, reason, reason_sqlstate(reason),
                           detail ? detail : reason_text(reason));
        return;
    }
    if (globals->log_disconnections)
        server_log(server, RANK_LOG, "closing because: %s%s%s (age=%" PRIu64 "s)",
                   reason_text(reason), detail ? ": " : "", detail ? detail : "",
                   (clock_wall_us() - server->connected_wall_us) / CLOCK_SECOND);
    if (reason == REASON_SERVER_CRASHED || reason == REASON_SERVER_BROKEN ||
        reason == REASON_SERVER_FATAL || reason == REASON_SERVER_CHECK_FAILED)
        server_saw_trouble(server);
    untouched = (server->state == SERVER_CHECK || server->state == SERVER_PREPARE) &&
                !(server->client && server->client->pins);
    cut = server_cuts_answer(server);
    client = unlink_client(server);
    if (server->state == SERVER_IDLE || server->state == SERVER_ACTIVE) {
        /* a server that is not needed is told so, as libpq does */
        static const uint8_t terminate[] = {'X', 0, 0, 0, 4};

        if (transaction_is_free(&server->transaction) &&
            stream_queued_bytes(&server->stream) == 0 && !(client && client->body_left))
            (void)!stream_write(&server->stream, terminate, sizeof(terminate));
    }
    server_set_state(server, SERVER_GONE);
    host_connections_add(server->host, -1);
    stream_close(&server->stream);
    timer_detach(server->worker->loop, &server->timer);
    worker_remove_server(server->worker, server);
    list_remove(&server->share->servers, &server->share_node);
    loop_release(server->worker->loop, server, server_free);
    if (server->aside) {
        server->aside->closed(server, reason);
        return;
    }
    pool_remove(server->backend->pool, &server->item, now_us);
    if (!timer_is_set(&server->share->pump))
        timer_set(server->worker->loop, &server->share->pump, now_us + 100 * CLOCK_MS);
    if (client)
        lost_server(server, client, reason, untouched, cut);
}

/* ---- events ---- */

/* Has its client still to take what it said? Then reading finds its end later. */
static bool is_behind(const struct server *server)
{
    return server->client && stream_queued_bytes(&server->client->stream) > 0;
}

static void server_event(struct stream *stream, enum stream_event event)
{
    struct server *server = list_entry(stream, struct server, stream);

    if (server->login) {
        server_login_event(server, event);
        return;
    }
    if (server->aside) {
        if (event == STREAM_READABLE || event == STREAM_FAILED)
            server->aside->readable(server);
        else if (event == STREAM_CLOSED && !is_behind(server))
            server_close(server, REASON_SERVER_CRASHED, NULL);
        else if (event == STREAM_DRAINED && server->client)
            client_update_flow(server->client);
        return;
    }
    switch (event) {
    case STREAM_READABLE:
        relay_server(server);
        break;
    case STREAM_DRAINED:
        if (server->client) {
            client_update_flow(server->client);
            if (server->client->held_bytes)
                loop_defer(server->worker->loop, &server->client->task);
        }
        if (server->releasing)
            recycle(server);
        else
            server_settled(server);
        break;
    case STREAM_CLOSED:
        if (!is_behind(server))
            server_close(server, REASON_SERVER_CRASHED, NULL);
        break;
    case STREAM_FAILED:
        relay_server(server); /* what it has said until then is read first */
        break;
    case STREAM_CONNECTED:
    case STREAM_SECURED:
        break;
    }
}

static void server_timer(struct loop *loop, struct timer *timer)
{
    struct server *server = list_entry(timer, struct server, timer);
    uint64_t now_us = loop_now_us(loop);

    if (server->login) {
        server_open_failed(server, REASON_SERVER_CONNECT_TIMEOUT, "08001",
                           reason_text(REASON_SERVER_CONNECT_TIMEOUT));
        return;
    }
    if (server->aside) {
        server_close(server, REASON_SERVER_CHECK_FAILED, NULL);
        return;
    }
    switch (server->state) {
    case SERVER_IDLE: {
        bool old = server->retire_us && now_us >= server->retire_us;

        if (pool_retire(server->backend->pool, &server->item, !old)) {
            server_close(server, old ? REASON_SERVER_LIFETIME : REASON_SERVER_IDLE_TIMEOUT, NULL);
        } else {
            /* needed for min_pool_size, or just promised to somebody: looked at again later */
            timer_set(loop, timer, now_us + CLOCK_SECOND);
        }
        break;
    }
    case SERVER_CHECK:
        server_close(server, REASON_SERVER_CHECK_FAILED, NULL);
        break;
    case SERVER_PREPARE:
        server_close(server, REASON_SERVER_PARAMETERS_FAILED, NULL);
        break;
    case SERVER_RESET:
        server_close(server, REASON_SERVER_RESET_FAILED, NULL);
        break;
    case SERVER_DRAINING: /* its client has gone, and its time is over */
        if (!transaction_is_settled(&server->transaction) && server->cancels == 0)
            cancel_server(server);
        server_close(server, REASON_SERVER_ABANDONED, NULL);
        break;
    default:
        break;
    }
}

/* ---- the beginning ---- */

struct server *server_new(struct share *share, struct host *host)
{
    struct server *server = memory_new(sizeof(*server));

    server->backend = share->backend;
    server->item.generation = pool_generation(share->backend->pool);
    server->host = host;
    server->host_generation = host_generation(host);
    server->meaning = meaning_ref(share->meaning);
    server->stream.watch.fd = -1;
    server->timer.fire = server_timer;
    server->connected_wall_us = clock_wall_us();
    transaction_init(&server->transaction);
    server_place(server, share->worker);
    return server;
}

void (*server_stream_callback(void))(struct stream *, enum stream_event)
{
    return server_event;
}

/* A server that never became ready goes; the pool is told when it may try again. */
void server_discard(struct server *server, uint64_t retry_at_us)
{
    struct share *share = server->share;
    struct pool *pool = server->backend->pool;
    struct loop *loop = server->worker->loop;

    server_set_state(server, SERVER_GONE);
    stream_close(&server->stream);
    timer_detach(loop, &server->timer);
    worker_remove_server(server->worker, server);
    list_remove(&share->servers, &server->share_node);
    loop_release(loop, server, server_free);
    if (server->aside && !server->replication)
        return;
    backend_open_ended(pool, false);
    pool_open_failed(pool, loop_now_us(loop), retry_at_us);
    if (!timer_is_set(&share->pump) || (retry_at_us && retry_at_us < share->pump.due_us))
        timer_set(loop, &share->pump,
                  retry_at_us ? retry_at_us : loop_now_us(loop) + 100 * CLOCK_MS);
}

/* Our own end of the connection, by which the server's log knows it. */
static const char *from_text(const struct server *server, char text[ADDRESS_TEXT_BYTES])
{
    struct address address;

    return stream_local_address(&server->stream, &address) ? address_text(&address, text) : "?";
}

void server_logged_in(struct server *server)
{
    char text[ADDRESS_TEXT_BYTES];
    struct pool_grant grant = {0};
    enum pool_outcome outcome;
    uint64_t now_us = server_now_us(server);

    server_login_free(server->login);
    server->login = NULL;
    timer_clear(&server->timer);
    host_succeeded(server->host);
    host_connections_add(server->host, 1);
    if (!server->replication)
        backend_server_ready(server->backend, parameters_ref(server->reported));
    server->logged_in_us = now_us;
    set_retirement(server);
    gate_found(server);
    server->request_us = now_us;
    server->sql_mode =
        (uint8_t)sql_mode_of(parameters_get(server->reported, "standard_conforming_strings"),
                             parameters_get(server->reported, "client_encoding"));
    if (server->aside) {
        server_log(server, RANK_LOG, "new connection to server (from %s), %s",
                   from_text(server, text),
                   server->replication ? "for replication" : "outside the pool");
        server_set_state(server, SERVER_ACTIVE);
        server->aside->ready(server);
        return;
    }
    server_set_state(server, SERVER_IDLE);
    backend_open_ended(server->backend->pool, true);
    outcome =
        pool_opened(server->backend->pool, &server->item, server->worker->index, now_us, &grant);
    HASH_ADD(hh, server->worker->servers_by_id, item.id, sizeof(server->item.id), server);
    server_log(server, RANK_LOG, "new connection to server (from %s)", from_text(server, text));
    server_dispose(server, outcome, &grant);
}
