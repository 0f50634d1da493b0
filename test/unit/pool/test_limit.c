/* limit: places for servers that several pools share. */
#include "stage.h"

TestSuite(limit, .timeout = 300);

#define NO_LIMITS (&(struct pool_limits){0})

/* Pools a, b, c of different users in one database that may have `servers` servers. */
static struct pool *a, *b, *c;

static void start_with(int64_t servers)
{
    stage_start(2);
    registry_limit_database(registry, "app", NULL, servers, 0, now_us);
    a = stage_pool("app", "alice", NULL, NO_LIMITS);
    b = stage_pool("app", "bob", NULL, NO_LIMITS);
    c = stage_pool("app", "carol", NULL, NO_LIMITS);
}

static int64_t servers_now(void)
{
    struct limit_counts counts;
    registry_database_counts(registry, "app", NULL, &counts);
    return counts.servers;
}

/* A client of worker 0 that has to wait. */
static void wait_in(struct pool *pool, struct pool_waiter *client)
{
    *client = client_of(0);
    cr_assert_null(pool_borrow(pool, client, now_us));
    now_us++;
}

static void opened_for(struct pool *pool, const struct pool_waiter *client)
{
    enum pool_outcome outcome;
    struct pool_grant grant;
    server_open(pool, &outcome, &grant);
    cr_assert_eq(outcome, POOL_LENT);
    cr_assert_eq(grant.waiter, client);
}

Test(limit, holds_over_all_pools_of_a_database)
{
    start_with(3);
    struct pool_waiter clients[4];
    wait_in(a, &clients[0]);
    wait_in(a, &clients[1]);
    wait_in(b, &clients[2]);
    wait_in(c, &clients[3]);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    cr_assert_eq(servers_now(), 3);
    pool_forget(a, &clients[0], now_us);
    pool_forget(a, &clients[1], now_us);
    pool_forget(b, &clients[2], now_us);
    pool_forget(c, &clients[3], now_us);
    stage_clear();
}

Test(limit, holds_over_all_databases_of_a_user)
{
    stage_start(1);
    registry_limit_user(registry, "alice", 1, 0, now_us);
    struct pool *one = stage_pool("one", "alice", NULL, NO_LIMITS);
    struct pool *two = stage_pool("two", "alice", NULL, NO_LIMITS);
    struct pool_waiter client;
    server_active(one, 0);
    wait_in(two, &client);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_forget(two, &client, now_us);
    stage_clear();
}

Test(limit, holds_over_all_pools_of_an_environment_and_no_other)
{
    stage_start(1);
    registry_limit_environment(registry, "production", 1, 0, now_us);
    struct pool *one = stage_pool("one", "alice", "production", NO_LIMITS);
    struct pool *two = stage_pool("two", "bob", "production", NO_LIMITS);
    struct pool *other = stage_pool("two", "bob", "staging", NO_LIMITS);
    struct pool_waiter client;
    server_active(one, 0);
    wait_in(two, &client);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    server_active(other, 0);
    pool_forget(two, &client, now_us);
    stage_clear();
}

Test(limit, of_a_database_is_counted_for_each_environment_alone)
{
    stage_start(1);
    registry_limit_database(registry, "app", "production", 1, 0, now_us);
    struct pool *limited = stage_pool("app", "alice", "production", NO_LIMITS);
    struct pool *other = stage_pool("app", "alice", NULL, NO_LIMITS);
    struct pool_waiter client;
    server_active(other, 0);
    server_active(other, 0);
    server_active(limited, 0);
    wait_in(limited, &client);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_forget(limited, &client, now_us);
    stage_clear();
}

Test(limit, gives_a_place_back_when_an_open_fails)
{
    start_with(1);
    struct pool_waiter client;
    wait_in(a, &client);
    pool_forget(a, &client, now_us);
    cr_assert_eq(note_take(NOTE_OPEN, a).kind, NOTE_OPEN);
    cr_assert_eq(servers_now(), 1);
    pool_open_failed(a, now_us, 0);
    cr_assert_eq(servers_now(), 0);
    stage_clear();
}

Test(limit, evicts_exactly_one_idle_item_for_one_wish)
{
    start_with(4);
    struct pool_item *items[4];
    struct pool_grant grant;
    struct pool_waiter client;
    for (unsigned i = 0; i < 4; i++)
        items[i] = server_active(a, 0);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(server_return(items[i], &grant), POOL_KEPT);
    wait_in(b, &client);
    cr_assert_eq(notes_of(NOTE_DOOM), 1);
    pool_pump(b, now_us);
    cr_assert_eq(notes_of(NOTE_DOOM), 1);
    cr_assert_eq(notes_of(NOTE_OPEN), 0, "the place is not free yet");
    cr_assert_eq(close_doomed(), 1);
    cr_assert_eq(notes_of(NOTE_DOOM), 0);
    opened_for(b, &client);
    cr_assert_eq(servers_now(), 4);
    stage_clear();
}

Test(limit, evicts_one_item_for_each_of_several_wishes)
{
    start_with(4);
    struct pool_item *items[4];
    struct pool_grant grant;
    struct pool_waiter clients[3];
    for (unsigned i = 0; i < 4; i++)
        items[i] = server_active(a, 0);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(server_return(items[i], &grant), POOL_KEPT);
    wait_in(b, &clients[0]);
    wait_in(b, &clients[1]);
    wait_in(c, &clients[2]);
    cr_assert_eq(notes_of(NOTE_DOOM), 3);
    cr_assert_eq(close_doomed(), 3);
    cr_assert_eq(notes_of(NOTE_OPEN), 3);
    opened_for(b, &clients[0]);
    opened_for(b, &clients[1]);
    opened_for(c, &clients[2]);
    cr_assert_eq(counts_of(a).idle, 1);
    stage_clear();
}

Test(limit, evicts_the_item_that_has_been_idle_longest)
{
    start_with(3);
    struct pool_item *items[] = {server_active(b, 1), server_active(a, 0), server_active(b, 0)};
    struct pool_grant grant;
    for (unsigned i = 0; i < 3; i++, now_us++)
        cr_assert_eq(server_return(items[i], &grant), POOL_KEPT);
    struct pool_waiter client;
    wait_in(c, &client);
    struct note asked = note_take(NOTE_DOOM, NULL);
    cr_assert_eq(asked.pool, b);
    cr_assert_eq(asked.item_id, items[0]->id);
    cr_assert_eq(asked.worker, 1);
    cr_assert_str_eq(asked.why, "evicted");
    pool_forget(c, &client, now_us);
    stage_clear();
}

Test(limit, evicts_only_from_pools_under_it)
{
    start_with(1);
    struct pool *stranger = stage_pool("other", "alice", NULL, NO_LIMITS);
    server_idle(stranger, 0);
    server_active(a, 0);
    struct pool_waiter client;
    wait_in(b, &client);
    cr_assert_eq(notes_of(NOTE_DOOM), 0);
    pool_forget(b, &client, now_us);
    stage_clear();
}

Test(limit, evicts_nothing_for_min_pool_size)
{
    start_with(1);
    server_idle(a, 0);
    pool_configure(b, &(struct pool_limits){.min_pool_size = 2, .warm = true}, now_us);
    cr_assert_gt(pool_pump(b, now_us), now_us, "it will try again");
    cr_assert_eq(note_count, 0);
    server_close(server_of(server_active(a, 0)->id));
    pool_pump(b, now_us);
    cr_assert_eq(notes_of(NOTE_OPEN), 1);
    stage_clear();
}

Test(limit, an_item_that_becomes_idle_later_is_given_up_for_who_waits)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter client;
    struct pool_grant grant;
    wait_in(b, &client);
    cr_assert_eq(notes_of(NOTE_DOOM), 0);
    cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
    server_close(item);
    opened_for(b, &client);
    stage_clear();
}

Test(limit, one_returned_item_is_given_up_for_one_wish)
{
    start_with(2);
    struct pool_item *first = server_active(a, 0), *second = server_active(a, 0);
    struct pool_waiter client;
    struct pool_grant grant;
    wait_in(b, &client);
    cr_assert_eq(server_return(first, &grant), POOL_DISCARD);
    cr_assert_eq(server_return(second, &grant), POOL_KEPT);
    pool_forget(b, &client, now_us);
    stage_clear();
}

Test(limit, an_item_goes_to_its_own_pools_waiter_first)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter other, own;
    struct pool_grant grant;
    wait_in(b, &other);
    wait_in(a, &own);
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(grant.waiter, &own);
    pool_forget(b, &other, now_us);
    stage_clear();
}

Test(limit, a_busy_pool_gives_way_to_one_without_servers_that_was_kept_out_for_long)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter other, own;
    struct pool_grant grant;
    wait_in(b, &other);
    now_us += 2 * CLOCK_SECOND;
    wait_in(a, &own);
    cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
    server_close(item);
    opened_for(b, &other);
    cr_assert_eq(own.state, WAITER_QUEUED);
    pool_forget(a, &own, now_us);
    stage_clear();
}

Test(limit, a_waiter_that_is_older_than_the_other_pools_is_served_first)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter other, own;
    struct pool_grant grant;
    wait_in(a, &own);
    wait_in(b, &other);
    now_us += 2 * CLOCK_SECOND;
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    pool_forget(b, &other, now_us);
    stage_clear();
}

Test(limit, hands_a_free_place_to_the_pool_that_waited_longest)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter first, second;
    wait_in(c, &first);
    wait_in(b, &second);
    server_close(item);
    opened_for(c, &first);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_forget(b, &second, now_us);
    stage_clear();
}

Test(limit, a_newcomer_cannot_snatch_the_place)
{
    start_with(2);
    struct pool_item *item = server_active(a, 0);
    server_active(a, 0);
    struct pool_waiter waits, newcomer;
    wait_in(b, &waits);
    server_close(item);
    wait_in(c, &newcomer);
    cr_assert_eq(note_take(NOTE_OPEN, c).kind, NOTE_NONE);
    opened_for(b, &waits);
    cr_assert_eq(servers_now(), 2);
    pool_forget(c, &newcomer, now_us);
    stage_clear();
}

Test(limit, pools_that_wait_take_turns)
{
    start_with(2);
    struct pool_item *items[2] = {server_active(a, 0), server_active(a, 0)};
    struct pool_waiter many[2], one;
    wait_in(b, &many[0]);
    wait_in(b, &many[1]);
    wait_in(c, &one);
    server_close(items[0]);
    server_close(items[1]);
    opened_for(b, &many[0]);
    opened_for(c, &one);
    pool_forget(b, &many[1], now_us);
    stage_clear();
}

Test(limit, a_pool_whose_client_left_passes_its_turn_on)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter gone, next;
    wait_in(b, &gone);
    wait_in(c, &next);
    pool_forget(b, &gone, now_us);
    server_close(item);
    opened_for(c, &next);
    stage_clear();
}

Test(limit, a_wish_taken_back_after_the_eviction_leaves_the_place_free)
{
    start_with(1);
    server_idle(a, 0);
    struct pool_waiter gone;
    wait_in(b, &gone);
    cr_assert_eq(notes_of(NOTE_DOOM), 1);
    pool_forget(b, &gone, now_us);
    cr_assert_eq(close_doomed(), 1);
    cr_assert_eq(servers_now(), 0);
    server_active(c, 0);
    stage_clear();
}

Test(limit, an_eviction_under_way_serves_the_next_wish_too)
{
    start_with(2);
    struct pool_item *items[2] = {server_active(a, 0), server_active(a, 0)};
    struct pool_grant grant;
    cr_assert_eq(server_return(items[0], &grant), POOL_KEPT);
    cr_assert_eq(server_return(items[1], &grant), POOL_KEPT);
    struct pool_waiter gone, next;
    wait_in(b, &gone);
    cr_assert_eq(notes_of(NOTE_DOOM), 1);
    pool_forget(b, &gone, now_us);
    wait_in(c, &next);
    cr_assert_eq(notes_of(NOTE_DOOM), 1, "the first eviction will do");
    cr_assert_eq(close_doomed(), 1);
    opened_for(c, &next);
    stage_clear();
}

Test(limit, needs_a_place_under_every_limit)
{
    stage_start(1);
    registry_limit_database(registry, "one", NULL, 1, 0, now_us);
    registry_limit_user(registry, "alice", 1, 0, now_us);
    struct pool *both = stage_pool("one", "alice", NULL, NO_LIMITS);
    struct pool *database = stage_pool("one", "bob", NULL, NO_LIMITS);
    struct pool *user = stage_pool("two", "alice", NULL, NO_LIMITS);
    struct pool_item *in_database = server_active(database, 0);
    struct pool_item *of_user = server_active(user, 0);
    struct pool_waiter client;
    wait_in(both, &client);
    server_close(in_database);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    /* while it stands in the other limit, it does not hold the free place */
    server_close(server_active(database, 0));
    server_close(of_user);
    opened_for(both, &client);
    stage_clear();
}

Test(limit, raised_serves_those_who_wait)
{
    start_with(1);
    struct pool_waiter clients[3];
    server_active(a, 0);
    wait_in(b, &clients[0]);
    wait_in(c, &clients[1]);
    wait_in(b, &clients[2]);
    registry_limit_database(registry, "app", NULL, 3, 0, now_us);
    opened_for(b, &clients[0]);
    opened_for(c, &clients[1]);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    registry_limit_database(registry, "app", NULL, 0, 0, now_us);
    opened_for(b, &clients[2]);
    cr_assert_eq(servers_now(), 4);
    stage_clear();
}

Test(limit, of_a_database_can_be_set_by_way_of_one_of_its_pools)
{
    start_with(2);
    struct pool_item *first = server_active(a, 0);
    struct pool_waiter clients[2];
    struct limit_counts counts;
    server_active(a, 0);
    wait_in(b, &clients[0]);
    wait_in(c, &clients[1]);
    pool_limit_database(a, 3, 7, now_us);
    opened_for(b, &clients[0]);
    registry_database_counts(registry, "app", NULL, &counts);
    cr_assert_eq(counts.max_servers, 3);
    cr_assert_eq(counts.max_clients, 7);
    cr_assert_eq(notes_of(NOTE_OPEN), 0);
    pool_limit_database(c, 0, -1, now_us);
    opened_for(c, &clients[1]);
    registry_database_counts(registry, "app", NULL, &counts);
    cr_assert_eq(counts.max_servers, 0);
    cr_assert_eq(counts.max_clients, 0);
    pool_limit_database(b, 3, 0, now_us);
    struct pool_grant grant;
    cr_assert_eq(server_return(first, &grant), POOL_DISCARD, "there are more than it has been");
    server_close(first);
    cr_assert_eq(servers_now(), 3);
    stage_clear();
}

Test(limit, lowered_evicts_the_idle_surplus_and_discards_the_rest_when_it_returns)
{
    start_with(5);
    struct pool_item *items[5];
    struct pool_grant grant;
    struct pool_waiter client;
    for (unsigned i = 0; i < 5; i++)
        items[i] = server_active(a, 0);
    cr_assert_eq(server_return(items[0], &grant), POOL_KEPT);
    registry_limit_database(registry, "app", NULL, 3, 0, now_us);
    cr_assert_eq(notes_of(NOTE_DOOM), 1);
    wait_in(a, &client);
    cr_assert_eq(server_return(items[1], &grant), POOL_DISCARD, "although somebody waits");
    cr_assert_eq(server_return(items[2], &grant), POOL_LENT);
    close_doomed();
    server_close(items[1]);
    cr_assert_eq(servers_now(), 3);
    cr_assert_eq(server_return(items[3], &grant), POOL_KEPT);
    stage_clear();
}

Test(limit, evicts_again_when_the_place_went_elsewhere)
{
    start_with(2);
    registry_limit_user(registry, "bob", 1, 0, now_us);
    struct pool *elsewhere = stage_pool("two", "bob", NULL, NO_LIMITS);
    server_idle(elsewhere, 0);
    server_active(a, 0);
    server_idle(a, 1);
    struct pool_waiter client;
    wait_in(b, &client);
    /* first the database is full, then the user */
    cr_assert_eq(notes_of(NOTE_DOOM), 1);
    cr_assert_eq(close_doomed() + close_doomed(), 2);
    opened_for(b, &client);
    stage_clear();
}

Test(limit, a_pool_does_not_give_way_to_itself)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter clients[2];
    struct pool_grant grant;
    wait_in(a, &clients[0]);
    wait_in(a, &clients[1]);
    now_us += 3 * CLOCK_SECOND;
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    wait_in(a, &clients[0]);
    now_us += 3 * CLOCK_SECOND;
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(server_return(item, &grant), POOL_KEPT);
    stage_clear();
}

Test(limit, a_place_given_up_for_a_pool_without_servers_goes_there_although_others_wait_longer)
{
    start_with(2);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter own[2], more, none;
    struct pool_grant grant;
    server_active(c, 0);
    wait_in(c, &more);
    wait_in(a, &own[0]);
    wait_in(b, &none);
    now_us += 2 * CLOCK_SECOND;
    wait_in(a, &own[1]);
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
    server_close(item);
    opened_for(b, &none);
    pool_forget(a, &own[1], now_us);
    pool_forget(c, &more, now_us);
    stage_clear();
}

Test(limit, a_busy_pool_does_not_give_way_to_one_that_has_servers)
{
    start_with(2);
    struct pool_item *item = server_active(a, 0);
    struct pool_waiter own, more;
    struct pool_grant grant;
    server_active(b, 0);
    wait_in(b, &more);
    now_us += 10 * CLOCK_SECOND;
    wait_in(a, &own);
    cr_assert_eq(server_return(item, &grant), POOL_LENT);
    pool_forget(b, &more, now_us);
    stage_clear();
}

Test(limit, two_pools_with_one_place_take_turns_by_time)
{
    start_with(1);
    struct pool_item *item = server_active(a, 0);
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool_waiter waiters[6];
    struct pool *pools[2] = {a, b};
    wait_in(b, &waiters[0]);
    for (unsigned turn = 1; turn < 6; turn++) {
        now_us += 2 * CLOCK_SECOND;
        wait_in(pools[(turn + 1) % 2], &waiters[turn]);
        cr_assert_eq(server_return(item, &grant), POOL_DISCARD);
        server_close(item);
        item = server_open(pools[turn % 2], &outcome, &grant);
        cr_assert_eq(outcome, POOL_LENT);
        cr_assert_eq(grant.waiter, &waiters[turn - 1]);
    }
    pool_forget(a, &waiters[5], now_us);
    stage_clear();
}
