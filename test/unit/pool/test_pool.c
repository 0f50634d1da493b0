/* pool: what one pool promises to the clients and servers of its workers. */
#include "stage.h"

TestSuite(pool, .timeout = 300);

Test(pool, opens_a_connection_on_the_workers_loop_for_the_first_client)
{
    stage_start(2);
    struct pool *pool = pool_of_size(5);
    struct pool_waiter client = client_of(1);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    struct note asked = note_take(NOTE_OPEN, pool);
    cr_assert_eq(asked.kind, NOTE_OPEN);
    cr_assert_eq(asked.worker, 1);
    cr_assert_eq(note_count, 0);
    pool_forget(pool, &client, now_us);
    pool_open_failed(pool, now_us, 0);
    stage_end();
}

Test(pool, lends_the_opened_connection_to_the_client_that_waits)
{
    stage_start(1);
    struct pool *pool = pool_of_size(5);
    struct pool_waiter client = client_of(0);
    enum pool_outcome outcome;
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    struct pool_item *item = server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(grant.waiter, &client);
    cr_assert_eq(item->state, ITEM_ACTIVE);
    cr_assert_eq(client.state, WAITER_IDLE);
    cr_assert_neq(item->id, 0);
    stage_clear();
}

Test(pool, keeps_a_returned_item_idle_and_lends_it_again_at_once)
{
    stage_start(1);
    struct pool *pool = pool_of_size(5);
    struct pool_item *item = server_idle(pool, 0);
    cr_assert_eq(counts_of(pool).idle, 1);
    struct pool_waiter client = client_of(0);
    cr_assert_eq(pool_borrow(pool, &client, now_us), item);
    cr_assert_eq(counts_of(pool).active, 1);
    cr_assert_eq(note_count, 0);
    stage_clear();
}

/* Three idle items on worker 0, returned in this order. */
static void three_idle(struct pool *pool, struct pool_item **items)
{
    struct pool_grant grant;
    for (unsigned i = 0; i < 3; i++)
        items[i] = server_active(pool, 0);
    for (unsigned i = 0; i < 3; i++, now_us++)
        cr_assert_eq(server_return(items[i], &grant), POOL_KEPT);
}

Test(pool, lends_the_item_that_was_used_last)
{
    stage_start(1);
    struct pool *pool = pool_of_size(5);
    struct pool_item *items[3];
    three_idle(pool, items);
    struct pool_waiter client = client_of(0);
    cr_assert_eq(pool_borrow(pool, &client, now_us), items[2]);
    stage_clear();
}

Test(pool, lends_the_item_that_rested_longest_when_round_robin)
{
    stage_start(1);
    struct pool *pool = stage_pool("app", "alice", NULL,
                                   &(struct pool_limits){.pool_size = 5, .round_robin = true});
    struct pool_item *items[3];
    three_idle(pool, items);
    struct pool_waiter client = client_of(0);
    cr_assert_eq(pool_borrow(pool, &client, now_us), items[0]);
    stage_clear();
}

Test(pool, prefers_its_own_workers_idle_item)
{
    stage_start(2);
    struct pool *pool = pool_of_size(5);
    struct pool_item *mine = server_active(pool, 1), *theirs = server_active(pool, 0);
    struct pool_grant grant;
    cr_assert_eq(server_return(mine, &grant), POOL_KEPT);
    cr_assert_eq(server_return(theirs, &grant), POOL_KEPT);
    struct pool_waiter client = client_of(1);
    cr_assert_eq(pool_borrow(pool, &client, now_us), mine);
    stage_clear();
}

Test(pool, never_opens_more_than_pool_size)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_waiter clients[10];
    for (unsigned i = 0; i < 10; i++) {
        clients[i] = client_of(0);
        cr_assert_null(pool_borrow(pool, &clients[i], now_us));
    }
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    cr_assert_eq(counts_of(pool).opening, 3);
    cr_assert_eq(counts_of(pool).waiting, 10);
    for (unsigned i = 0; i < 10; i++)
        pool_forget(pool, &clients[i], now_us);
    stage_clear();
}

Test(pool, opens_no_more_than_there_are_waiters)
{
    stage_start(1);
    struct pool *pool = pool_of_size(0);
    struct pool_waiter clients[40];
    for (unsigned i = 0; i < 40; i++) {
        clients[i] = client_of(0);
        cr_assert_null(pool_borrow(pool, &clients[i], now_us));
        cr_assert_eq(notes_of(NOTE_OPEN), i + 1);
    }
    for (unsigned i = 0; i < 40; i++)
        pool_forget(pool, &clients[i], now_us);
    stage_clear();
}

Test(pool, lends_a_returned_item_to_the_client_that_waited_longest)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter first = client_of(0), second = client_of(0);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &first, now_us));
    cr_assert_null(pool_borrow(pool, &second, now_us + 5));
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(grant.waiter, &first);
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(grant.waiter, &second);
    cr_assert_eq(server_return(item, &grant), POOL_KEPT);
    stage_clear();
}

Test(pool, on_one_worker_a_returned_item_goes_to_the_next_of_many_clients_at_once)
{
    enum { CLIENTS = 64, SERVERS = 20 };
    stage_start(1);
    struct pool *pool = pool_of_size(SERVERS);
    struct pool_item *items[SERVERS];
    struct pool_waiter clients[CLIENTS];
    struct pool_grant grant;
    for (unsigned i = 0; i < SERVERS; i++)
        items[i] = server_active(pool, 0);
    for (unsigned i = 0; i < CLIENTS; i++, now_us++) {
        clients[i] = client_of(0);
        cr_assert_null(pool_borrow(pool, &clients[i], now_us));
    }
    for (unsigned i = 0; i < 1000; i++, now_us++) {
        struct pool_waiter *next = &clients[i % CLIENTS];
        cr_assert_eq(server_return(items[i % SERVERS], &grant), POOL_LENT);
        cr_assert_eq(grant.waiter, next);
        cr_assert_null(pool_borrow(pool, next, now_us));
    }
    cr_assert_eq(note_count, 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        pool_forget(pool, &clients[i], now_us);
    stage_clear();
}

/* A waiter of worker 1, then one of worker 0 `later_us` later; the only item is returned on worker
 * 0. */
static enum pool_outcome return_between(uint64_t later_us, struct pool_waiter *remote,
                                        struct pool_waiter *local, struct pool_grant *grant)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    *remote = client_of(1);
    *local = client_of(0);
    cr_assert_null(pool_borrow(pool, remote, now_us));
    now_us += later_us;
    cr_assert_null(pool_borrow(pool, local, now_us));
    now_us += 70 * CLOCK_SECOND; /* how long both have waited does not matter */
    return server_return(item, grant);
}

Test(pool, hands_over_to_a_local_waiter_that_is_hardly_younger)
{
    struct pool_waiter remote, local;
    struct pool_grant grant;
    cr_assert_eq(return_between(4000, &remote, &local, &grant), POOL_LENT);
    cr_assert_eq(grant.waiter, &local);
    stage_forget(&remote);
    stage_clear();
}

Test(pool, hands_over_to_the_remote_waiter_that_is_more_than_four_milliseconds_older)
{
    struct pool_waiter remote, local;
    struct pool_grant grant;
    cr_assert_eq(return_between(4001, &remote, &local, &grant), POOL_MOVE);
    cr_assert_eq(grant.worker, 1);
    cr_assert_eq(grant.waiter_id, remote.id);
    cr_assert_eq(remote.state, WAITER_GRANTED);
    stage_forget(&remote);
    stage_forget(&local);
    stage_clear();
}

/* ---- what lingers for clients of its worker ---- */

#define BIG 8

/* All of a pool of BIG is used on worker 0 of 2, and `remote` has waited on worker 1 for `age_us`
 * when the first is returned. */
static enum pool_outcome return_from_big(uint64_t age_us, struct pool_item **items,
                                         struct pool_waiter *remote, struct pool_grant *grant)
{
    stage_start(2);
    struct pool *pool = pool_of_size(BIG);
    for (int i = 0; i < BIG; i++)
        items[i] = server_active(pool, 0);
    *remote = client_of(1);
    cr_assert_null(pool_borrow(pool, remote, now_us));
    now_us += age_us;
    return server_return(items[0], grant);
}

Test(pool, a_returned_item_lingers_for_its_worker_while_others_have_hardly_waited)
{
    struct pool_item *items[BIG];
    struct pool_waiter remote, local = {0};
    struct pool_grant grant;
    cr_assert_eq(return_from_big(299, items, &remote, &grant), POOL_LINGERS);
    cr_assert_gt(grant.until_us, now_us);
    cr_assert_leq(grant.until_us, now_us + 100);
    cr_assert_eq(counts_of(items[0]->pool).active, BIG);
    local = client_of(0);
    cr_assert_eq(pool_borrow(items[0]->pool, &local, now_us), items[0]);
    now_us += 1; /* and now the other one has waited long enough */
    cr_assert_eq(server_return(items[0], &grant), POOL_MOVE);
    cr_assert_eq(grant.waiter_id, remote.id);
    stage_forget(&remote);
    stage_clear();
}

Test(pool, nothing_lingers_beside_one_who_has_waited)
{
    struct pool_item *items[BIG];
    struct pool_waiter remote;
    struct pool_grant grant;
    cr_assert_eq(return_from_big(300, items, &remote, &grant), POOL_MOVE);
    stage_forget(&remote);
    stage_clear();
}

static struct pool_item *unlinger(struct pool *pool, enum pool_outcome *outcome,
                                  struct pool_grant *grant)
{
    return pool_unlinger(pool, 0, now_us, outcome, grant);
}

Test(pool, what_lingered_goes_to_whoever_waits)
{
    struct pool_item *items[BIG];
    struct pool_waiter remote;
    struct pool_grant grant;
    enum pool_outcome outcome;
    cr_assert_eq(return_from_big(0, items, &remote, &grant), POOL_LINGERS);
    cr_assert_eq(server_return(items[1], &grant), POOL_LINGERS);
    cr_assert_eq(unlinger(items[0]->pool, &outcome, &grant), items[0]);
    cr_assert_eq(outcome, POOL_MOVE);
    cr_assert_eq(grant.waiter_id, remote.id);
    cr_assert_eq(unlinger(items[0]->pool, &outcome, &grant), items[1]);
    cr_assert_eq(outcome, POOL_KEPT);
    cr_assert_null(unlinger(items[0]->pool, &outcome, &grant));
    stage_forget(&remote);
    stage_clear();
}

Test(pool, what_lingers_is_not_lent_once_it_is_obsolete)
{
    struct pool_item *items[BIG];
    struct pool_waiter remote, local;
    struct pool_grant grant;
    enum pool_outcome outcome;
    cr_assert_eq(return_from_big(0, items, &remote, &grant), POOL_LINGERS);
    pool_obsolete(items[0]->pool, now_us);
    local = client_of(0);
    cr_assert_null(pool_borrow(items[0]->pool, &local, now_us));
    cr_assert_eq(unlinger(items[0]->pool, &outcome, &grant), items[0]);
    cr_assert_eq(outcome, POOL_DISCARD);
    stage_forget(&remote);
    stage_forget(&local);
    stage_clear();
}

Test(pool, what_lingers_is_not_lent_in_a_paused_or_held_pool)
{
    struct pool_item *items[BIG];
    struct pool_waiter remote, local;
    struct pool_grant grant;
    cr_assert_eq(return_from_big(0, items, &remote, &grant), POOL_LINGERS);
    pool_hold(items[0]->pool, now_us);
    local = client_of(0);
    cr_assert_null(pool_borrow(items[0]->pool, &local, now_us));
    stage_forget(&local);
    pool_release(items[0]->pool, now_us);
    pool_pause(items[0]->pool, now_us);
    cr_assert_null(pool_borrow(items[0]->pool, &local, now_us));
    stage_forget(&local);
    stage_forget(&remote);
    stage_clear();
}

Test(pool, what_lingers_may_end)
{
    struct pool_item *items[BIG];
    struct pool_waiter remote;
    struct pool_grant grant;
    enum pool_outcome outcome;
    cr_assert_eq(return_from_big(0, items, &remote, &grant), POOL_LINGERS);
    struct pool *pool = items[0]->pool;
    server_close(items[0]);
    cr_assert_null(unlinger(pool, &outcome, &grant));
    cr_assert_eq(counts_of(pool).active, BIG - 1);
    stage_forget(&remote);
    stage_clear();
}

Test(pool, a_moved_item_is_accepted_by_its_waiter)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter client = client_of(1);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(server_return(item, &grant), POOL_MOVE);
    cr_assert_eq(item->state, ITEM_GRANTED);
    cr_assert_eq(counts_of(pool).active, 1);
    cr_assert_eq(counts_of(pool).waiting, 1);
    cr_assert(pool_accept(pool, item, 1, &client));
    cr_assert_eq(item->state, ITEM_ACTIVE);
    cr_assert_eq(item->worker, 1);
    cr_assert_eq(counts_of(pool).waiting, 0);
    cr_assert_eq(server_return(item, &grant), POOL_KEPT);
    struct pool_waiter again = client_of(1);
    cr_assert_eq(pool_borrow(pool, &again, now_us), item);
    stage_clear();
}

Test(pool, steals_an_idle_item_of_another_worker_instead_of_opening)
{
    stage_start(2);
    struct pool *pool = pool_of_size(5);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter client = client_of(1);
    enum pool_outcome outcome;
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(client.state, WAITER_PROMISED);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    cr_assert_eq(counts_of(pool).reserved, 1);
    cr_assert_eq(server_surrender(&outcome, &grant), item);
    cr_assert_eq(outcome, POOL_MOVE);
    cr_assert_eq(grant.worker, 1);
    cr_assert_eq(grant.waiter_id, client.id);
    cr_assert(pool_accept(pool, item, 1, &client));
    stage_clear();
}

Test(pool, does_not_lend_a_reserved_item_to_its_own_worker)
{
    stage_start(2);
    struct pool *pool = pool_of_size(5);
    server_idle(pool, 0);
    struct pool_waiter thief = client_of(1), local = client_of(0);
    cr_assert_null(pool_borrow(pool, &thief, now_us));
    cr_assert_null(pool_borrow(pool, &local, now_us));
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &local, now_us);
    pool_forget(pool, &thief, now_us);
    stage_clear();
}

Test(pool, a_lost_reserved_item_puts_its_waiter_back_to_the_head_with_its_old_time)
{
    stage_start(2);
    struct pool *pool = pool_of_size(2);
    struct pool_item *stolen = server_idle(pool, 0), *busy = server_active(pool, 0);
    struct pool_waiter thief = client_of(1), later = client_of(1);
    struct pool_grant grant;
    if (stolen == busy) { /* the idle one was lent again: a second one is needed */
        struct pool_item *other = server_active(pool, 0);
        cr_assert_eq(server_return(other, &grant), POOL_KEPT);
        stolen = other;
    }
    uint64_t began_us = now_us;
    cr_assert_null(pool_borrow(pool, &thief, now_us));
    now_us += 10 * CLOCK_MS;
    cr_assert_null(pool_borrow(pool, &later, now_us));
    cr_assert_eq(thief.state, WAITER_PROMISED);
    cr_assert_eq(later.state, WAITER_QUEUED);
    server_close(stolen); /* its owner saw EOF before it heard of the reservation */
    cr_assert_eq(thief.state, WAITER_QUEUED);
    cr_assert_eq(thief.since_us, began_us);
    cr_assert_eq(counts_of(pool).oldest_wait_since_us, began_us);
    cr_assert_eq(server_return(busy, &grant), POOL_MOVE);
    cr_assert_eq(grant.waiter_id, thief.id);
    cr_assert(pool_accept(pool, busy, 1, &thief));
    pool_forget(pool, &later, now_us);
    stage_clear();
}

Test(pool, an_item_lost_on_its_way_puts_its_waiter_back)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter client = client_of(1);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(server_return(item, &grant), POOL_MOVE);
    server_close(item);
    cr_assert_eq(client.state, WAITER_QUEUED);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(pool, an_active_item_that_is_lost_makes_room_for_the_next)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter client = client_of(0);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    server_close(item);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(pool, an_idle_item_that_is_lost_is_lent_to_nobody)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    server_close(server_idle(pool, 0));
    cr_assert_eq(counts_of(pool).idle, 0);
    struct pool_waiter client = client_of(0);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(pool, a_queued_client_that_leaves_is_passed_over)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter gone = client_of(0), next = client_of(0);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &gone, now_us));
    cr_assert_null(pool_borrow(pool, &next, now_us));
    pool_forget(pool, &gone, now_us);
    cr_assert_eq(gone.state, WAITER_IDLE);
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(grant.waiter, &next);
    stage_clear();
}

Test(pool, a_promised_client_that_leaves_passes_its_item_to_the_next)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter gone = client_of(1), next = client_of(1);
    enum pool_outcome outcome;
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &gone, now_us));
    cr_assert_null(pool_borrow(pool, &next, now_us));
    pool_forget(pool, &gone, now_us);
    cr_assert_eq(next.state, WAITER_PROMISED);
    cr_assert_eq(notes_of(NOTE_RECLAIM), 1, "its owner has been asked already");
    server_surrender(&outcome, &grant);
    cr_assert_eq(outcome, POOL_MOVE);
    cr_assert_eq(grant.waiter_id, next.id);
    cr_assert(pool_accept(pool, item, 1, &next));
    stage_clear();
}

Test(pool, an_item_whose_promised_client_left_is_kept_by_its_owner)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter gone = client_of(1), local = client_of(0);
    enum pool_outcome outcome;
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &gone, now_us));
    pool_forget(pool, &gone, now_us);
    server_surrender(&outcome, &grant);
    cr_assert_eq(outcome, POOL_KEPT);
    cr_assert_eq(pool_borrow(pool, &local, now_us), item);
    stage_clear();
}

Test(pool, an_orphaned_item_serves_a_newcomer_and_nothing_is_opened)
{
    stage_start(2);
    struct pool *pool = pool_of_size(5);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter gone = client_of(1), local = client_of(0);
    enum pool_outcome outcome;
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &gone, now_us));
    pool_forget(pool, &gone, now_us);
    cr_assert_null(pool_borrow(pool, &local, now_us));
    cr_assert_eq(local.state, WAITER_PROMISED);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    cr_assert_eq(server_surrender(&outcome, &grant), item);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(grant.waiter, &local);
    stage_clear();
}

Test(pool, an_item_that_arrives_for_a_client_that_left_is_returned)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter gone = client_of(1);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &gone, now_us));
    cr_assert_eq(server_return(item, &grant), POOL_MOVE);
    pool_forget(pool, &gone, now_us);
    cr_assert_not(pool_accept(pool, item, 1, NULL));
    cr_assert_eq(item->state, ITEM_ACTIVE);
    cr_assert_eq(server_return(item, &grant), POOL_KEPT);
    cr_assert_eq(counts_of(pool).idle, 1);
    stage_clear();
}

Test(pool, an_item_that_arrives_late_is_not_taken_by_a_client_that_waits_for_another)
{
    stage_start(2);
    struct pool *pool = pool_of_size(2);
    struct pool_item *late = server_active(pool, 0), *other = server_active(pool, 0);
    struct pool_waiter client = client_of(1);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(server_return(late, &grant), POOL_MOVE);
    pool_forget(pool, &client, now_us);
    cr_assert_null(pool_borrow(pool, &client, now_us)); /* it came back */
    cr_assert_eq(server_return(other, &grant), POOL_MOVE);
    cr_assert_not(pool_accept(pool, late, 1, &client));
    cr_assert_eq(server_return(late, &grant), POOL_KEPT);
    cr_assert(pool_accept(pool, other, 1, &client));
    stage_clear();
}

Test(pool, forgetting_a_client_that_waits_for_nothing_changes_nothing)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_waiter client = client_of(0);
    pool_forget(pool, &client, now_us);
    cr_assert_eq(counts_of(pool).waiting, 0);
    stage_end();
}

Test(pool, takes_an_idle_item_out_for_a_check_and_no_other)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter client = client_of(0);
    struct pool_grant grant;
    cr_assert(pool_take(pool, item));
    cr_assert_not(pool_take(pool, item));
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(grant.waiter, &client);
    stage_clear();
}

Test(pool, counts_every_state)
{
    stage_start(2);
    struct pool *pool = pool_of_size(6);
    struct pool_item *items[5];
    for (unsigned i = 0; i < 5; i++)
        items[i] = server_active(pool, 0);
    struct pool_grant grant;
    cr_assert_eq(server_return(items[0], &grant), POOL_KEPT);
    cr_assert_eq(server_return(items[1], &grant), POOL_KEPT);
    cr_assert(pool_retire(pool, items[0], false));
    struct pool_waiter thief = client_of(1), waits = client_of(1), granted = client_of(1);
    cr_assert_null(pool_borrow(pool, &thief, now_us));
    cr_assert_null(pool_borrow(pool, &waits, now_us + 1));
    cr_assert_null(pool_borrow(pool, &granted, now_us + 2));
    cr_assert_eq(server_return(items[3], &grant), POOL_LINGERS);
    now_us += CLOCK_MS;
    cr_assert_eq(server_return(items[2], &grant), POOL_MOVE);
    pool_client_added(pool);
    struct pool_counts counts = counts_of(pool);
    cr_assert_eq(counts.idle, 0);
    cr_assert_eq(counts.doomed, 1);
    cr_assert_eq(counts.reserved, 1);
    cr_assert_eq(counts.active, 3); /* one in use, one lingers, one is granted */
    cr_assert_eq(counts.opening, 1);
    cr_assert_eq(counts.waiting, 3);
    cr_assert_eq(counts.clients, 1);
    cr_assert_eq(counts.obsolete, 0);
    cr_assert_eq(counts.oldest_wait_since_us, now_us - CLOCK_MS);
    cr_assert_not(counts.paused);
    pool_client_removed(pool, now_us);
    pool_forget(pool, &thief, now_us);
    pool_forget(pool, &waits, now_us);
    pool_forget(pool, &granted, now_us);
    stage_clear();
}

Test(pool, tells_a_waiter_whose_item_is_on_its_way_from_one_in_the_queue)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_waiter first = client_of(0), second = client_of(0);
    (void)server_idle(pool, 1);
    cr_assert_null(pool_borrow(pool, &first, now_us));
    cr_assert_null(pool_borrow(pool, &second, now_us));
    cr_assert(pool_is_coming(pool, &first));
    cr_assert_not(pool_is_coming(pool, &second));
    pool_forget(pool, &second, now_us);
    pool_forget(pool, &first, now_us);
    cr_assert_not(pool_is_coming(pool, &first));
    stage_clear();
}
