/* control: pausing, resuming and replacing the connections of a pool. */
#include "stage.h"

TestSuite(control, .timeout = 300);

Test(control, a_pause_dooms_every_idle_item_once)
{
    stage_start(2);
    struct pool *pool = pool_of_size(0);
    struct pool_item *items[40];
    struct pool_grant grant;
    for (unsigned i = 0; i < 40; i++)
        items[i] = server_active(pool, i % 2);
    for (unsigned i = 0; i < 40; i++)
        cr_assert_eq(server_return(items[i], &grant), POOL_KEPT);
    pool_pause(pool, now_us);
    cr_assert_eq(notes_of(NOTE_DOOM), 40);
    cr_assert_eq(counts_of(pool).doomed, 40);
    cr_assert(counts_of(pool).paused);
    cr_assert_eq(close_doomed(), 40);
    stage_clear();
}

Test(control, a_paused_pool_lends_and_opens_nothing)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    pool_pause(pool, now_us);
    struct pool_waiter client = client_of(0);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(control, an_active_item_is_discarded_when_it_returns_to_a_paused_pool)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_grant grant;
    pool_pause(pool, now_us);
    cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
    cr_assert_eq(notes_of(NOTE_DOOM), 0, "its owner knows already");
    stage_clear();
}

Test(control, the_end_of_a_paused_pools_last_item_is_told)
{
    stage_start(1);
    struct pool *pool = pool_of_size(2);
    struct pool_item *a = server_active(pool, 0), *b = server_active(pool, 0);
    pool_pause(pool, now_us);
    server_close(a);
    cr_assert_eq(notes_of(NOTE_DRAINED), 0);
    server_close(b);
    cr_assert_eq(notes_of(NOTE_DRAINED), 1);
    stage_clear();
}

Test(control, a_paused_pool_is_drained_only_after_its_last_open_has_ended)
{
    stage_start(1);
    struct pool *pool = pool_of_size(2);
    struct pool_waiter client = client_of(0);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    pool_pause(pool, now_us);
    cr_assert_eq(notes_of(NOTE_DRAINED), 0);
    cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
    pool_open_failed(pool, now_us, 0);
    cr_assert_eq(notes_of(NOTE_DRAINED), 1);
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(control, a_connection_opened_into_a_paused_pool_is_discarded)
{
    stage_start(1);
    struct pool *pool = pool_of_size(2);
    struct pool_waiter client = client_of(0);
    enum pool_outcome outcome;
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    pool_pause(pool, now_us);
    server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_DISCARD);
    cr_assert_eq(client.state, WAITER_QUEUED);
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(control, resume_opens_for_those_who_wait)
{
    stage_start(1);
    struct pool *pool = pool_of_size(2);
    struct pool_waiter clients[3];
    pool_pause(pool, now_us);
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = client_of(0);
        cr_assert_null(pool_borrow(pool, &clients[i], now_us));
    }
    pool_resume(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    cr_assert_not(counts_of(pool).paused);
    for (unsigned i = 0; i < 3; i++)
        pool_forget(pool, &clients[i], now_us);
    stage_clear();
}

/* A thief of worker 1 has been promised the idle item of worker 0. */
static struct pool *promised(struct pool_waiter *thief)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    server_idle(pool, 0);
    *thief = client_of(1);
    cr_assert_null(pool_borrow(pool, thief, now_us));
    cr_assert_eq(thief->state, WAITER_PROMISED);
    return pool;
}

Test(control, a_promise_is_checked_against_a_pause)
{
    struct pool_waiter thief;
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool *pool = promised(&thief);
    pool_pause(pool, now_us);
    struct pool_item *item = server_surrender(&outcome, &grant);
    cr_assert_eq(outcome, POOL_DISCARD);
    cr_assert_eq(thief.state, WAITER_QUEUED);
    server_close(item);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_resume(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &thief, now_us);
    stage_clear();
}

Test(control, a_promise_is_checked_against_a_reconnect)
{
    struct pool_waiter thief;
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool *pool = promised(&thief);
    pool_obsolete(pool, now_us);
    struct pool_item *item = server_surrender(&outcome, &grant);
    cr_assert_eq(outcome, POOL_DISCARD);
    cr_assert_eq(thief.state, WAITER_QUEUED);
    server_close(item);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &thief, now_us);
    stage_clear();
}

Test(control, a_pause_that_ended_before_the_owner_heard_of_the_promise_changes_nothing)
{
    struct pool_waiter thief;
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool *pool = promised(&thief);
    pool_pause(pool, now_us);
    pool_resume(pool, now_us);
    struct pool_item *item = server_surrender(&outcome, &grant);
    cr_assert_eq(outcome, POOL_MOVE);
    cr_assert(pool_accept(pool, item, 1, &thief));
    stage_clear();
}

/* An item is on its way from worker 0 to this client of worker 1. */
static struct pool_item *granted(struct pool_waiter *client)
{
    struct pool_grant grant;
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    *client = client_of(1);
    cr_assert_null(pool_borrow(pool, client, now_us));
    cr_assert_eq(server_return(item, &grant), POOL_MOVE);
    return item;
}

Test(control, an_item_under_way_is_not_linked_in_a_paused_pool)
{
    struct pool_waiter client;
    struct pool_grant grant;
    struct pool_item *item = granted(&client);
    pool_pause(item->pool, now_us);
    cr_assert_not(pool_accept(item->pool, item, 1, &client));
    cr_assert_eq(client.state, WAITER_QUEUED);
    cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
    pool_forget(item->pool, &client, now_us);
    stage_clear();
}

Test(control, an_item_under_way_is_not_linked_after_a_reconnect)
{
    struct pool_waiter client;
    struct pool_grant grant;
    struct pool_item *item = granted(&client);
    struct pool *pool = item->pool;
    pool_obsolete(pool, now_us);
    cr_assert_not(pool_accept(pool, item, 1, &client));
    cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
    server_close(item);
    cr_assert_eq(notes_of(NOTE_OPEN), 1, "a new one for the client that still waits");
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(control, a_reconnect_dooms_idle_items_and_discards_active_ones_when_they_return)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_item *active = server_active(pool, 0), *idle = server_active(pool, 0);
    struct pool_grant grant;
    cr_assert_eq(server_return(idle, &grant), POOL_KEPT);
    pool_obsolete(pool, now_us);
    cr_assert_eq(idle->state, ITEM_DOOMED);
    cr_assert(pool_is_obsolete(pool, active));
    cr_assert_eq(counts_of(pool).obsolete, 2);
    cr_assert_eq(server_return(active, &grant), POOL_DISCARD);
    stage_clear();
}

Test(control, items_opened_after_a_reconnect_are_lent_again)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_grant grant;
    server_idle(pool, 0);
    pool_obsolete(pool, now_us);
    close_doomed();
    struct pool_item *fresh = server_active(pool, 0);
    cr_assert_not(pool_is_obsolete(pool, fresh));
    cr_assert_eq(server_return(fresh, &grant), POOL_KEPT);
    stage_clear();
}

Test(control, a_connection_begun_before_a_reconnect_is_obsolete)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_waiter client = client_of(0);
    struct pool_grant grant;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
    struct pool_item item = {.generation = pool_generation(pool)};
    pool_obsolete(pool, now_us);
    cr_assert_eq(pool_opened(pool, &item, 0, now_us, &grant), POOL_DISCARD);
    cr_assert_eq(counts_of(pool).obsolete, 1);
    pool_remove(pool, &item, now_us);
    cr_assert_eq(counts_of(pool).obsolete, 0);
    pool_forget(pool, &client, now_us);
    stage_clear();
}

Test(control, the_end_of_the_last_obsolete_item_is_told)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_item *a = server_active(pool, 0), *b = server_active(pool, 0);
    pool_obsolete(pool, now_us);
    struct pool_item *fresh = server_active(pool, 0);
    server_close(a);
    cr_assert_eq(notes_of(NOTE_DRAINED), 0);
    server_close(b);
    cr_assert_eq(notes_of(NOTE_DRAINED), 1);
    server_close(fresh);
    cr_assert_eq(notes_of(NOTE_DRAINED), 1);
    stage_clear();
}

Test(control, a_reserved_item_that_was_doomed_meanwhile_is_discarded)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_grant grant;
    cr_assert(pool_retire(pool, item, false));
    cr_assert_eq(pool_surrender(pool, item, now_us, &grant), POOL_DISCARD);
    stage_clear();
}

Test(control, a_held_pool_keeps_its_idle_items_and_lends_none)
{
    stage_start(1);
    struct pool *pool = pool_of_size(4);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter first = client_of(0), second = client_of(0);
    pool_hold(pool, now_us);
    cr_assert_null(pool_borrow(pool, &first, now_us));
    cr_assert_null(pool_borrow(pool, &second, now_us));
    cr_assert_eq(note_count, 0);
    struct pool_counts counts = counts_of(pool);
    cr_assert(counts.held);
    cr_assert_eq(counts.idle, 1);
    cr_assert_eq(counts.waiting, 2);
    pool_release(pool, now_us);
    cr_assert_not(counts_of(pool).held);
    cr_assert_eq(item->state, ITEM_RESERVED);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &first, now_us);
    pool_forget(pool, &second, now_us);
    stage_clear();
}

Test(control, an_active_item_stays_idle_when_it_returns_to_a_held_pool)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_active(pool, 0);
    struct pool_waiter waiter = client_of(0);
    cr_assert_null(pool_borrow(pool, &waiter, now_us));
    pool_hold(pool, now_us);
    struct pool_grant grant;
    cr_assert_eq(server_return(item, &grant), POOL_KEPT);
    cr_assert_eq(item->state, ITEM_IDLE);
    cr_assert_eq(waiter.state, WAITER_QUEUED);
    pool_release(pool, now_us);
    cr_assert_eq(waiter.state, WAITER_PROMISED);
    pool_forget(pool, &waiter, now_us);
    stage_clear();
}

Test(control, promises_and_grants_are_taken_back_when_a_pool_is_held)
{
    stage_start(2);
    struct pool *pool = pool_of_size(2);
    struct pool_item *granted = server_active(pool, 0), *promised = server_idle(pool, 0);
    struct pool_waiter first = client_of(1), second = client_of(1);
    struct pool_grant grant;
    enum pool_outcome outcome;
    cr_assert_null(pool_borrow(pool, &first, now_us));
    now_us += 10000;
    cr_assert_null(pool_borrow(pool, &second, now_us));
    cr_assert_eq(server_return(granted, &grant), POOL_MOVE);
    pool_hold(pool, now_us);
    cr_assert_eq(server_surrender(&outcome, &grant), promised);
    cr_assert_eq(outcome, POOL_KEPT);
    cr_assert_not(pool_accept(pool, granted, 1, &second));
    cr_assert_eq(server_return(granted, &grant), POOL_KEPT);
    cr_assert_eq(first.state, WAITER_QUEUED);
    cr_assert_eq(second.state, WAITER_QUEUED);
    cr_assert_eq(counts_of(pool).idle, 2);
    pool_release(pool, now_us);
    cr_assert_eq(first.state, WAITER_PROMISED);
    cr_assert_eq(second.state, WAITER_PROMISED);
    pool_forget(pool, &first, now_us);
    pool_forget(pool, &second, now_us);
    stage_clear();
}

Test(control, a_held_pool_does_not_open_for_its_minimum)
{
    stage_start(1);
    struct pool *pool =
        stage_pool("app", "alice", NULL,
                   &(struct pool_limits){.pool_size = 4, .min_pool_size = 2, .warm = true});
    pool_hold(pool, now_us);
    cr_assert_eq(pool_pump(pool, now_us), 0);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_release(pool, now_us);
    (void)pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    stage_clear();
}

Test(control, stats_are_each_workers_own)
{
    stage_start(2);
    struct pool *pool = pool_of_size(1);
    counter_add(&pool_stats(pool, 0)->xact_count, 3);
    counter_add(&pool_stats(pool, 1)->xact_count, 4);
    cr_assert_eq(counter_read(&pool_stats(pool, 0)->xact_count), 3);
    cr_assert_eq(counter_read(&pool_stats(pool, 1)->xact_count), 4);
    stage_end();
}

Test(control, a_retry_forgets_the_pause_after_a_failed_open)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_waiter client = client_of(0);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    (void)note_take(NOTE_OPEN, pool);
    pool_open_failed(pool, now_us, now_us + 3600 * CLOCK_SECOND);
    cr_assert_gt(pool_pump(pool, now_us), now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_retry(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_forget(pool, &client, now_us);
    stage_clear();
}
