/* own: pools whose items are each opened for one waiter, and lent to nobody else. */
#include "stage.h"

TestSuite(own, .timeout = 300);

static struct pool *own_pool(int64_t size)
{
    struct pool_key key = {"app", "alice", NULL, true};
    struct pool_limits limits = {.pool_size = size};
    return registry_pool(registry, &key, &limits, NULL);
}

static void end(struct pool *pool)
{
    pool_unref(pool);
    stage_end();
}

Test(own, is_another_pool_than_the_one_of_its_name)
{
    stage_start(1);
    struct pool *pool = own_pool(2), *other = pool_of_size(2);
    struct pool_key key = {"app", "alice", NULL, true};
    cr_assert_neq(pool, other);
    cr_assert(pool_has_own_items(pool) && !pool_has_own_items(other));
    struct pool *found = registry_find(registry, &key);
    cr_assert_eq(found, pool);
    pool_unref(found);
    end(pool);
}

Test(own, an_item_goes_to_the_waiter_that_it_was_opened_for)
{
    stage_start(1);
    struct pool *pool = own_pool(2);
    struct pool_waiter first = client_of(0), second = client_of(0);
    struct pool_item item = {0};
    cr_assert_null(pool_borrow(pool, &first, now_us));
    cr_assert_null(pool_borrow(pool, &second, now_us));
    cr_assert_eq(notes_of(NOTE_OPEN), 2);
    cr_assert(pool_opened_for(pool, &item, 0, &second, now_us));
    cr_assert_neq(item.id, 0);
    cr_assert_eq(item.state, ITEM_ACTIVE);
    cr_assert_eq(second.state, WAITER_IDLE);
    cr_assert_eq(first.state, WAITER_QUEUED);
    cr_assert_eq(counts_of(pool).active, 1);
    pool_remove(pool, &item, now_us);
    pool_forget(pool, &first, now_us);
    pool_open_dropped(pool, now_us);
    end(pool);
}

Test(own, pool_size_holds_and_an_end_makes_room)
{
    stage_start(1);
    struct pool *pool = own_pool(1);
    struct pool_waiter first = client_of(0), second = client_of(0);
    struct pool_item item = {0}, next = {0};
    cr_assert_null(pool_borrow(pool, &first, now_us));
    note_take(NOTE_OPEN, pool);
    cr_assert(pool_opened_for(pool, &item, 0, &first, now_us));
    cr_assert_null(pool_borrow(pool, &second, now_us));
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_remove(pool, &item, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    cr_assert(pool_opened_for(pool, &next, 0, &second, now_us));
    pool_remove(pool, &next, now_us);
    end(pool);
}

Test(own, nothing_enters_a_pool_that_lends_nothing_or_for_a_waiter_that_has_left)
{
    stage_start(1);
    struct pool *pool = own_pool(2);
    struct pool_waiter client = client_of(0);
    struct pool_item item = {0};
    cr_assert_null(pool_borrow(pool, &client, now_us));
    pool_pause(pool, now_us);
    cr_assert_not(pool_opened_for(pool, &item, 0, &client, now_us));
    cr_assert_eq(item.id, 0);
    pool_open_dropped(pool, now_us);
    cr_assert_eq(counts_of(pool).opening, 0);
    cr_assert_eq(client.state, WAITER_QUEUED);
    pool_resume(pool, now_us); /* it waits on, and one is opened for it again */
    cr_assert_eq(counts_of(pool).opening, 1);
    pool_forget(pool, &client, now_us);
    cr_assert_not(pool_opened_for(pool, &item, 0, &client, now_us));
    pool_open_dropped(pool, now_us);
    end(pool);
}

Test(own, it_stands_under_the_limits_of_its_database_with_the_others)
{
    stage_start(1);
    struct pool *ordinary = pool_of_size(5);
    registry_limit_database(registry, "app", NULL, 1, 0, now_us);
    struct pool_item *idle = server_idle(ordinary, 0);
    struct pool *pool = own_pool(5);
    struct pool_waiter client = client_of(0), other = client_of(0);
    struct pool_item item = {0};
    note_count = 0;
    cr_assert_null(pool_borrow(pool, &client, now_us));
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    cr_assert_eq(note_take(NOTE_DOOM, ordinary).item_id, idle->id); /* evicted for it */
    server_close(idle);
    cr_assert_eq(note_take(NOTE_OPEN, NULL).pool, pool);
    cr_assert(pool_opened_for(pool, &item, 0, &client, now_us));
    cr_assert_null(pool_borrow(ordinary, &other, now_us));
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_remove(pool, &item, now_us);
    cr_assert_eq(note_take(NOTE_OPEN, NULL).pool, ordinary);
    pool_forget(ordinary, &other, now_us);
    pool_open_failed(ordinary, now_us, 0);
    end(pool);
}
