/* size: how many connections a pool opens, keeps and gives up. */
#include "stage.h"

TestSuite(size, .timeout = 300);

static void queue_up(struct pool *pool, struct pool_waiter *clients, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        clients[i] = client_of(0);
        cr_assert_null(pool_borrow(pool, &clients[i], now_us));
    }
}

static void forget_all(struct pool *pool, struct pool_waiter *clients, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pool_forget(pool, &clients[i], now_us);
}

/* ---- reserve ---- */

static struct pool *pool_with_reserve(void)
{
    return stage_pool("app", "alice", NULL,
                      &(struct pool_limits){.pool_size = 1,
                                            .reserve_pool_size = 2,
                                            .reserve_pool_timeout_us = 5 * CLOCK_SECOND});
}

Test(size, the_reserve_stays_closed_until_somebody_has_waited_long_enough)
{
    stage_start(1);
    struct pool *pool = pool_with_reserve();
    struct pool_waiter clients[1];
    server_active(pool, 0);
    queue_up(pool, clients, 1);
    cr_assert_eq(pool_pump(pool, now_us), now_us + 5 * CLOCK_SECOND);
    pool_pump(pool, now_us + 5 * CLOCK_SECOND - 1);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_pump(pool, now_us + 5 * CLOCK_SECOND);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    forget_all(pool, clients, 1);
    stage_clear();
}

Test(size, the_reserve_is_never_exceeded)
{
    stage_start(1);
    struct pool *pool = pool_with_reserve();
    struct pool_waiter clients[9];
    server_active(pool, 0);
    queue_up(pool, clients, 9);
    now_us += 5 * CLOCK_SECOND;
    cr_assert_eq(pool_pump(pool, now_us), 0, "there is no more to hope for");
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    forget_all(pool, clients, 9);
    stage_clear();
}

Test(size, a_reserve_without_timeout_is_not_used)
{
    stage_start(1);
    struct pool *pool = stage_pool("app", "alice", NULL,
                                   &(struct pool_limits){.pool_size = 1, .reserve_pool_size = 2});
    struct pool_waiter clients[1];
    server_active(pool, 0);
    queue_up(pool, clients, 1);
    cr_assert_eq(pool_pump(pool, now_us + 3600 * CLOCK_SECOND), 0);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    forget_all(pool, clients, 1);
    stage_clear();
}

Test(size, a_reserve_connection_stays_in_the_pool)
{
    stage_start(1);
    struct pool *pool = pool_with_reserve();
    struct pool_waiter clients[1];
    enum pool_outcome outcome;
    struct pool_grant grant;
    server_active(pool, 0);
    queue_up(pool, clients, 1);
    now_us += 5 * CLOCK_SECOND;
    pool_pump(pool, now_us);
    struct pool_item *reserve = server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(server_return(reserve, &grant), POOL_KEPT);
    stage_clear();
}

/* ---- minimum ---- */

static struct pool *pool_with_minimum(bool warm)
{
    return stage_pool("app", "alice", NULL,
                      &(struct pool_limits){.pool_size = 4, .min_pool_size = 3, .warm = warm});
}

Test(size, min_pool_size_is_opened_when_a_client_is_there)
{
    stage_start(2);
    struct pool *pool = pool_with_minimum(false);
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_client_added(pool);
    cr_assert_eq(pool_pump(pool, now_us), 0);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    pool_client_removed(pool, now_us);
    stage_clear();
}

Test(size, min_pool_size_of_a_warm_pool_needs_no_client)
{
    stage_start(1);
    struct pool *pool = pool_with_minimum(true);
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    stage_clear();
}

Test(size, min_pool_size_is_opened_all_over_the_workers)
{
    stage_start(3);
    struct pool *pool = pool_with_minimum(true);
    pool_pump(pool, now_us);
    bool seen[3] = {false};
    for (unsigned i = 0; i < 3; i++)
        seen[notes[i].worker] = true;
    cr_assert(seen[0] && seen[1] && seen[2]);
    stage_clear();
}

Test(size, min_pool_size_does_not_exceed_pool_size)
{
    stage_start(1);
    struct pool *pool =
        stage_pool("app", "alice", NULL,
                   &(struct pool_limits){.pool_size = 2, .min_pool_size = 50, .warm = true});
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    stage_clear();
}

Test(size, a_large_min_pool_size_is_reached_in_one_go)
{
    stage_start(1);
    struct pool *pool =
        stage_pool("app", "alice", NULL, &(struct pool_limits){.min_pool_size = 50, .warm = true});
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 50);
    stage_clear();
}

Test(size, retiring_an_item_keeps_the_minimum_when_asked_to)
{
    stage_start(1);
    struct pool *pool =
        stage_pool("app", "alice", NULL, &(struct pool_limits){.pool_size = 4, .min_pool_size = 1});
    struct pool_item *a = server_active(pool, 0), *b = server_active(pool, 0);
    struct pool_grant grant;
    cr_assert_eq(server_return(a, &grant), POOL_KEPT);
    cr_assert_eq(server_return(b, &grant), POOL_KEPT);
    pool_client_added(pool);
    cr_assert(pool_retire(pool, a, true));
    cr_assert_eq(a->state, ITEM_DOOMED);
    cr_assert_not(pool_retire(pool, b, true), "the doomed one does not count");
    cr_assert(pool_retire(pool, b, false));
    pool_client_removed(pool, now_us);
    stage_clear();
}

Test(size, without_clients_no_minimum_is_kept)
{
    stage_start(1);
    struct pool *pool = pool_with_minimum(false);
    cr_assert(pool_retire(pool, server_idle(pool, 0), true));
    stage_clear();
}

Test(size, an_item_in_use_is_not_retired)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    cr_assert_not(pool_retire(pool, server_active(pool, 0), false));
    stage_clear();
}

/* ---- failed opens ---- */

Test(size, a_failed_open_is_tried_again_at_once_without_back_off)
{
    stage_start(1);
    struct pool *pool = pool_of_size(2);
    struct pool_waiter clients[1];
    queue_up(pool, clients, 1);
    cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
    pool_open_failed(pool, now_us, 0);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    forget_all(pool, clients, 1);
    stage_clear();
}

Test(size, nothing_is_opened_before_the_back_off_is_over)
{
    stage_start(1);
    struct pool *pool = pool_of_size(2);
    struct pool_waiter clients[2];
    queue_up(pool, clients, 1);
    cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
    pool_open_failed(pool, now_us, now_us + 100);
    queue_up(pool, clients + 1, 1);
    cr_assert_eq(pool_pump(pool, now_us + 99), now_us + 100);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    /* then one connection is tried; when it stands, the others follow */
    pool_pump(pool, now_us + 100);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    now_us += 100;
    enum pool_outcome outcome;
    struct pool_grant grant;
    (void)server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    forget_all(pool, clients, 2);
    stage_clear();
}

Test(size, after_a_failure_each_success_allows_one_more_at_a_time)
{
    stage_start(1);
    struct pool *pool = pool_of_size(60);
    struct pool_waiter clients[40];
    enum pool_outcome outcome;
    struct pool_grant grant;
    queue_up(pool, clients, 1);
    cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
    pool_open_failed(pool, now_us, now_us + 100);
    queue_up(pool, clients + 1, 39);
    now_us += 100;
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    for (size_t width = 2; width <= 16; width++) {
        (void)server_open(pool, &outcome, &grant);
        cr_assert_eq(notes_of(NOTE_OPEN), width, "%zu at a time", notes_of(NOTE_OPEN));
    }
    /* and a failure begins again */
    size_t under_way = notes_of(NOTE_OPEN);
    for (size_t i = 0; i < under_way; i++) {
        cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
        pool_open_failed(pool, now_us, now_us + 100);
    }
    now_us += 100;
    pool_pump(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    forget_all(pool, clients, 40);
    stage_clear();
}

Test(size, clients_that_are_released_open_a_few_connections_at_first)
{
    stage_start(1);
    struct pool *pool = pool_of_size(60);
    struct pool_waiter clients[40];
    enum pool_outcome outcome;
    struct pool_grant grant;
    pool_hold(pool, now_us);
    queue_up(pool, clients, 40);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_release(pool, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    (void)server_open(pool, &outcome, &grant);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    (void)server_open(pool, &outcome, &grant);
    cr_assert_eq(notes_of(NOTE_OPEN), 4);
    forget_all(pool, clients, 40);
    stage_clear();
}

Test(size, the_minimum_waits_for_the_back_off_too)
{
    stage_start(1);
    struct pool *pool = pool_with_minimum(true);
    pool_pump(pool, now_us);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
        pool_open_failed(pool, now_us, now_us + 100);
    }
    cr_assert_eq(pool_pump(pool, now_us + 50), now_us + 100);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_pump(pool, now_us + 100);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    enum pool_outcome outcome;
    struct pool_grant grant;
    (void)server_open(pool, &outcome, &grant);
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    stage_clear();
}

Test(size, a_success_ends_the_back_off)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_waiter clients[3];
    enum pool_outcome outcome;
    struct pool_grant grant;
    queue_up(pool, clients, 2);
    cr_assert_eq(note_take(NOTE_OPEN, pool).kind, NOTE_OPEN);
    pool_open_failed(pool, now_us, now_us + CLOCK_SECOND);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(notes_of(NOTE_OPEN), 1, "for the second client");
    forget_all(pool, clients, 2);
    stage_clear();
}

Test(size, a_connection_that_nobody_waits_for_any_more_is_kept)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_waiter clients[1];
    enum pool_outcome outcome;
    struct pool_grant grant;
    queue_up(pool, clients, 1);
    forget_all(pool, clients, 1);
    server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_KEPT);
    stage_clear();
}

Test(size, an_open_under_way_is_not_asked_for_twice)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_waiter clients[2];
    queue_up(pool, clients, 1);
    forget_all(pool, clients, 1);
    queue_up(pool, clients + 1, 1);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    forget_all(pool, clients + 1, 1);
    stage_clear();
}

/* ---- another size ---- */

Test(size, a_larger_pool_opens_for_those_who_wait)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_waiter clients[5];
    queue_up(pool, clients, 5);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    pool_configure(pool, &(struct pool_limits){.pool_size = 4}, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 4);
    forget_all(pool, clients, 5);
    stage_clear();
}

Test(size, a_smaller_pool_dooms_its_idle_surplus_and_no_more)
{
    stage_start(2);
    struct pool *pool = pool_of_size(5);
    struct pool_item *items[5];
    struct pool_grant grant;
    for (unsigned i = 0; i < 5; i++)
        items[i] = server_active(pool, i % 2);
    for (unsigned i = 0; i < 5; i++, now_us++)
        cr_assert_eq(server_return(items[i], &grant), POOL_KEPT);
    pool_configure(pool, &(struct pool_limits){.pool_size = 3}, now_us);
    cr_assert_eq(notes_of(NOTE_DOOM), 2);
    cr_assert_eq(items[0]->state, ITEM_DOOMED);
    cr_assert_eq(items[1]->state, ITEM_DOOMED);
    cr_assert_eq(close_doomed(), 2);
    cr_assert_eq(counts_of(pool).idle, 3);
    stage_clear();
}

Test(size, a_smaller_pool_discards_its_surplus_when_it_returns)
{
    stage_start(1);
    struct pool *pool = pool_of_size(3);
    struct pool_item *items[3];
    struct pool_grant grant;
    struct pool_waiter clients[1];
    for (unsigned i = 0; i < 3; i++)
        items[i] = server_active(pool, 0);
    queue_up(pool, clients, 1);
    pool_configure(pool, &(struct pool_limits){.pool_size = 2}, now_us);
    cr_assert_eq(server_return(items[0], &grant), POOL_DISCARD);
    cr_assert_eq(server_return(items[1], &grant), POOL_LENT);
    server_close(items[0]);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    stage_clear();
}

Test(size, nothing_is_opened_while_a_doomed_connection_still_counts)
{
    stage_start(1);
    struct pool *pool = pool_of_size(1);
    struct pool_item *item = server_idle(pool, 0);
    struct pool_waiter clients[1];
    cr_assert(pool_retire(pool, item, false));
    queue_up(pool, clients, 1);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    server_close(item);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    forget_all(pool, clients, 1);
    stage_clear();
}

Test(size, a_negative_size_is_no_limit)
{
    stage_start(1);
    struct pool *pool = pool_of_size(-1);
    struct pool_waiter clients[3];
    queue_up(pool, clients, 3);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    forget_all(pool, clients, 3);
    stage_clear();
}
