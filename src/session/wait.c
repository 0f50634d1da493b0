/*
 * wait.c: how long a client waits for a server.
 *
 *   there is a primary, all its servers are busy ── query_wait_timeout ──► FATAL 53300, as
 * PgBouncer no primary, or the gate is shut ───────────── failover_wait_timeout ─► ERROR 08006, it
 * stays
 *
 * The two do not add up: query_wait_timeout begins anew when the primary is back, since only then
 * waiting says something about the size of the pool. A client that is logging in is told FATAL in
 * both cases. failover_queue_limit and no_primary_action = error end the wait before it begins, and
 * so does a login that servers refuse: waiting does not mend a wrong password.
 */
#include "pgstage/session/wait.h"

#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/gate.h"
#include "pgstage/session/server.h"
#include "pgstage/wire/message.h"

/* ---- asking ---- */

bool client_borrow(struct client *client)
{
    struct share *share = client->share;
    struct loop *loop = client->worker->loop;
    struct pool_item *item;

    exchange_begin(client);
    item = pool_borrow(share->backend->pool, &client->exchange->waiter, loop_now_us(loop));
    client->wait_notified = false;
    if (client->state == CLIENT_IDLE && !item)
        client_set_state(client, CLIENT_WAITING);
    if (item) {
        struct pool_grant grant = {.waiter = &client->exchange->waiter};

        server_dispose(list_entry(item, struct server, item), POOL_LENT, &grant);
        return !client_is_over(client) && client->server;
    }
    /* somebody has to look again when a back-off or reserve_pool_timeout is over */
    if (!timer_is_set(&share->pump))
        timer_set(loop, &share->pump, loop_now_us(loop) + 100 * CLOCK_MS);
    wait_look(client);
    return false;
}

void client_forget_wait(struct client *client)
{
    if (client->share && client->exchange)
        pool_forget(client->share->backend->pool, &client->exchange->waiter,
                    loop_now_us(client->worker->loop));
}

/* ---- time ---- */

static uint64_t earlier(uint64_t due_us, uint64_t since_us, uint64_t limit_us)
{
    uint64_t other_us = since_us + limit_us;

    return limit_us && (!due_us || other_us < due_us) ? other_us : due_us;
}

uint64_t wait_since_us(const struct client *client)
{
    return client->exchange ? client->exchange->waiter.since_us : client->active_us;
}

/* When its patience ends; 0: never. */
static uint64_t patience_ends(const struct client *client)
{
    const struct settings *settings = share_settings(client->share);
    uint64_t since_us = wait_since_us(client);
    uint64_t opened_us = gate_opened_us(client->share);

    if (gate_is_shut(client->share))
        return earlier(0, since_us, settings->failover_wait_timeout_us);
    return earlier(0, since_us > opened_us ? since_us : opened_us, settings->query_wait_timeout_us);
}

uint64_t wait_due(const struct client *client)
{
    const struct settings *settings = share_settings(client->share);
    uint64_t due_us = patience_ends(client);

    if (client->state == CLIENT_WAITING && !client->wait_notified)
        due_us = earlier(due_us, wait_since_us(client), settings->query_wait_notify_us);
    return due_us;
}

/* ---- the end of a wait ---- */

void wait_refuse(struct client *client, const char *sqlstate, const char *text)
{
    client_forget_wait(client);
    client_set_state(client, CLIENT_IDLE);
    client->active_us = loop_now_us(client->worker->loop);
    client->exchange->marked = true;
    loss_refuse(&client->exchange->loss, sqlstate, text, NULL);
    client->granted = true;
    loop_defer(client->worker->loop, &client->task);
    client_arm(client);
}

/* It hears that there is no primary for it: an ERROR, or FATAL while it is logging in. */
static void give_up(struct client *client, enum reason reason, const char *detail)
{
    char *text = text_print("%s: %s", reason_text(reason), detail);

    gate_erred(client->share);
    if (client->state == CLIENT_WAITING)
        wait_refuse(client, reason_sqlstate(reason), text);
    else
        client_fail_as(client, reason, reason_sqlstate(reason), text);
    free(text);
}

void wait_is_due(struct client *client, uint64_t now_us)
{
    uint64_t notify_us = share_settings(client->share)->query_wait_notify_us;
    uint64_t ends_us = patience_ends(client);
    struct buffer out = {0};

    if (ends_us && now_us >= ends_us) {
        if (gate_is_shut(client->share))
            give_up(client, REASON_FAILOVER_WAIT_TIMEOUT, "no primary took the query in time");
        else
            client_fail(client, REASON_QUERY_WAIT_TIMEOUT, NULL);
        return;
    }
    if (client->state == CLIENT_WAITING && !client->wait_notified && notify_us &&
        now_us >= wait_since_us(client) + notify_us) {
        client->wait_notified = true;
        message_notice(&out, "NOTICE", "00000",
                       "No server connection available in postgres backend, client being queued");
        if (!client_send_buffer(client, &out))
            return;
    }
    client_arm(client);
}

/* Does no server of the pool stand, is none on its way, and would the next one be refused again?
 * What may pass by itself (no more connections allowed, say) is waited for as long as the pool
 * pauses between its attempts at most. */
static bool hears_of_failure(struct client *client)
{
    struct share *share = client->share;
    uint64_t now_us = loop_now_us(share->worker->loop);
    uint64_t patience_us = share_settings(share)->server_login_retry_us;
    struct backend_failure failure;
    struct pool_counts counts;
    bool hears;

    if (client->replication || gate_is_shut(share) ||
        !backend_is_failing(share->backend, now_us, &failure))
        return false;
    pool_counts(share->backend->pool, &counts);
    hears = counts.idle + counts.active + counts.reserved + counts.opening == 0 &&
            (!failure.may_mend || client->state == CLIENT_WELCOME ||
             now_us >= wait_since_us(client) + patience_us);
    if (hears && client->state == CLIENT_WAITING)
        wait_refuse(client, failure.sqlstate, failure.text);
    else if (hears)
        client_fail_as(client, REASON_LOGIN_SERVER_FAILING, failure.sqlstate, failure.text);
    free(failure.text);
    return hears;
}

void wait_look(struct client *client)
{
    if (client->state == CLIENT_WAITING || client->state == CLIENT_WELCOME) {
        if (!gate_enter(client)) {
            give_up(client, REASON_FAILOVER_QUEUE_LIMIT,
                    "too many clients wait for a primary already");
            return;
        }
        if (gate_refuses(client->share)) {
            give_up(client, REASON_NO_PRIMARY, "the environment has no primary");
            return;
        }
        if (hears_of_failure(client))
            return;
    }
    client_arm(client);
}
