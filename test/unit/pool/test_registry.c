/* registry: pools by key, clients within limits, and what is switched off by name. */
#include <stdio.h>

#include "stage.h"

TestSuite(registry, .timeout = 300);

#define NO_LIMITS (&(struct pool_limits){0})

static int attached, detached;

static void *attach(struct pool *pool, void *argument)
{
    (void)pool;
    attached++;
    return argument;
}

static void detach(void *attachment)
{
    *(int *)attachment += 1;
    detached++;
}

static struct registry *attaching(void)
{
    return registry_new(1, &(struct registry_events){.attach = attach, .detach = detach});
}

Test(registry, finds_the_same_pool_for_the_same_key)
{
    stage_start(1);
    struct pool *pool = stage_pool("app", "alice", "production", NO_LIMITS);
    cr_assert_eq(stage_pool("app", "alice", "production", NO_LIMITS), pool);
    cr_assert_eq(registry_pool_count(registry), 1);
    stage_end();
}

Test(registry, makes_another_pool_for_each_part_of_the_key)
{
    stage_start(1);
    struct pool *pool = stage_pool("app", "alice", "production", NO_LIMITS);
    cr_assert_neq(stage_pool("app", "bob", "production", NO_LIMITS), pool);
    cr_assert_neq(stage_pool("app", "alice", NULL, NO_LIMITS), pool);
    cr_assert_neq(stage_pool("appa", "lice", "production", NO_LIMITS), pool);
    cr_assert_neq(stage_pool("app", "alice", "", NO_LIMITS),
                  stage_pool("app", "alice", NULL, NO_LIMITS));
    cr_assert_eq(registry_pool_count(registry), 5);
    stage_end();
}

Test(registry, a_pool_knows_its_names)
{
    stage_start(1);
    struct pool *pool = stage_pool("app", "alice", "production", NO_LIMITS);
    struct pool *plain = stage_pool("app", "alice", NULL, NO_LIMITS);
    cr_assert_str_eq(pool_database(pool), "app");
    cr_assert_str_eq(pool_user(pool), "alice");
    cr_assert_str_eq(pool_environment(pool), "production");
    cr_assert_null(pool_environment(plain));
    cr_assert_eq(pool_registry(pool), registry);
    cr_assert_neq(pool_id(pool), pool_id(plain));
    stage_end();
}

Test(registry, attaches_once_and_detaches_when_the_pool_goes)
{
    registry = attaching();
    int argument = 0;
    struct pool_key key = {"app", "alice", NULL, false};
    struct pool *pool = registry_pool(registry, &key, NO_LIMITS, &argument);
    cr_assert_eq(registry_pool(registry, &key, NO_LIMITS, NULL), pool);
    cr_assert_eq(attached, 1);
    cr_assert_eq(pool_attachment(pool), &argument);
    pool_unref(pool);
    pool_unref(pool);
    cr_assert_eq(detached, 0);
    registry_free(registry);
    cr_assert_eq(detached, 1);
    cr_assert_eq(argument, 1);
}

/* ---- sweep ---- */

static struct pool *unreferenced(const char *database)
{
    struct pool_key key = {database, "alice", NULL, false};
    struct pool *pool = registry_pool(registry, &key, NO_LIMITS, NULL);
    pool_client_added(pool);
    pool_client_removed(pool, now_us);
    pool_unref(pool);
    return pool;
}

Test(registry, sweeps_a_pool_that_nobody_used_for_long_enough)
{
    stage_start(1);
    unreferenced("app");
    cr_assert_eq(registry_sweep(registry, now_us + 99, 100, NULL, NULL), 0);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 1);
    cr_assert_eq(registry_pool_count(registry), 0);
    stage_end();
}

Test(registry, sweeps_nothing_when_told_to_keep)
{
    stage_start(1);
    unreferenced("app");
    cr_assert_eq(registry_sweep(registry, now_us + 1000 * CLOCK_SECOND, 0, NULL, NULL), 0);
    stage_end();
}

Test(registry, does_not_sweep_what_is_referenced)
{
    stage_start(1);
    struct pool *pool = unreferenced("app");
    stage_pool("app", "alice", NULL, NO_LIMITS);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 0);
    cr_assert_str_eq(pool_database(pool), "app");
    stage_end();
}

Test(registry, does_not_sweep_a_pool_with_servers)
{
    stage_start(1);
    struct pool_key key = {"app", "alice", NULL, false};
    struct pool *pool = registry_pool(registry, &key, NO_LIMITS, NULL);
    struct pool_item *item = server_idle(pool, 0);
    pool_unref(pool);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 0);
    server_close(item);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 1);
    stage_end();
}

Test(registry, does_not_sweep_a_pool_that_is_opening)
{
    stage_start(1);
    struct pool_key key = {"app", "alice", NULL, false};
    struct pool *pool = registry_pool(registry, &key, NO_LIMITS, NULL);
    struct pool_waiter client = client_of(0);
    cr_assert_null(pool_borrow(pool, &client, now_us));
    pool_forget(pool, &client, now_us);
    pool_unref(pool);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 0);
    pool_open_failed(pool, now_us, 0);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 1);
    stage_end();
}

static void count_pool(struct pool *pool, void *argument)
{
    cr_assert_not_null(pool_database(pool));
    ++*(unsigned *)argument;
}

Test(registry, each_visits_every_pool)
{
    stage_start(1);
    unsigned visits = 0;
    stage_pool("app", "alice", NULL, NO_LIMITS);
    stage_pool("app", "bob", NULL, NO_LIMITS);
    registry_each(registry, count_pool, &visits);
    cr_assert_eq(visits, 2);
    stage_end();
}

#define MANY 200

static void many_unreferenced(void)
{
    char name[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "app%d", i);
        unreferenced(name);
    }
}

Test(registry, each_visits_more_pools_than_a_step_takes)
{
    unsigned visits = 0;
    stage_start(1);
    many_unreferenced();
    registry_each(registry, count_pool, &visits);
    cr_assert_eq(visits, MANY);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), MANY);
    stage_end();
}

static void sweep_others(struct pool *pool, void *argument)
{
    count_pool(pool, argument);
    (void)registry_sweep(registry, now_us + 100, 100, NULL, NULL);
}

/* The pool that a walk would look at next is gone when it comes there. */
Test(registry, each_goes_on_when_pools_are_swept_meanwhile)
{
    unsigned visits = 0;
    stage_start(1);
    many_unreferenced();
    stage_pool("last", "alice", NULL, NO_LIMITS);
    registry_each(registry, sweep_others, &visits);
    cr_assert_gt(visits, 1); /* those of the first step, which it holds, and the one in use */
    cr_assert_lt(visits, MANY);
    cr_assert_eq(registry_pool_count(registry), 1);
    stage_end();
}

static bool keeps(struct pool *pool, bool act, void *argument)
{
    (void)pool, (void)act, (void)argument;
    return false;
}

Test(registry, does_not_sweep_what_may_not_go)
{
    stage_start(1);
    unreferenced("app");
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, keeps, NULL), 0);
    cr_assert_eq(registry_pool_count(registry), 1);
    stage_end();
}

/* ---- clients ---- */

static const struct pool_key production = {"app", "forced", "production", false};

Test(registry, admits_no_more_clients_than_allowed)
{
    stage_start(1);
    registry_limit_clients(registry, 2);
    cr_assert_eq(registry_admit(registry), ADMITTED);
    cr_assert_eq(registry_admit(registry), ADMITTED);
    cr_assert_eq(registry_admit(registry), REFUSED_TOTAL);
    cr_assert_eq(registry_client_count(registry), 2);
    registry_discharge(registry);
    cr_assert_eq(registry_admit(registry), ADMITTED);
    stage_end();
}

Test(registry, names_the_limit_that_refuses_a_client)
{
    stage_start(1);
    registry_limit_environment(registry, "production", 0, 1, now_us);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), ADMITTED);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), REFUSED_ENVIRONMENT);
    registry_limit_user(registry, "alice", 0, 1, now_us);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), REFUSED_USER);
    registry_limit_database(registry, "app", "production", 0, 1, now_us);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), REFUSED_DATABASE);
    registry_discharge_from(registry, &production, "alice");
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), ADMITTED);
    stage_end();
}

Test(registry, a_refused_client_is_counted_nowhere)
{
    stage_start(1);
    struct limit_counts counts;
    registry_limit_environment(registry, "production", 0, 1, now_us);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), ADMITTED);
    cr_assert_eq(registry_admit_to(registry, &production, "bob"), REFUSED_ENVIRONMENT);
    registry_database_counts(registry, "app", "production", &counts);
    cr_assert_eq(counts.clients, 1);
    registry_user_counts(registry, "bob", &counts);
    cr_assert_eq(counts.clients, 0);
    registry_environment_counts(registry, "production", &counts);
    cr_assert_eq(counts.clients, 1);
    cr_assert_eq(counts.max_clients, 1);
    stage_end();
}

Test(registry, counts_clients_under_their_own_name_and_servers_under_the_login)
{
    stage_start(1);
    struct limit_counts counts;
    struct pool *pool = stage_pool("app", "forced", "production", NO_LIMITS);
    server_active(pool, 0);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), ADMITTED);
    registry_user_counts(registry, "alice", &counts);
    cr_assert_eq(counts.clients, 1);
    cr_assert_eq(counts.servers, 0);
    registry_user_counts(registry, "forced", &counts);
    cr_assert_eq(counts.clients, 0);
    cr_assert_eq(counts.servers, 1);
    registry_environment_counts(registry, "production", &counts);
    cr_assert_eq(counts.servers, 1);
    stage_clear();
}

/* Counting by pool and counting by key are the same counting. */
Test(registry, a_pool_counts_its_clients_as_its_key_does)
{
    stage_start(1);
    struct limit_counts counts;
    struct pool *pool = stage_pool("app", "forced", "production", NO_LIMITS);
    registry_limit_environment(registry, "production", 0, 3, now_us);
    cr_assert_eq(registry_admit_to(registry, &production, "alice"), ADMITTED);
    cr_assert_eq(pool_admit(pool, "alice"), ADMITTED);
    cr_assert_eq(pool_admit(pool, "forced"), ADMITTED);
    cr_assert_eq(pool_admit(pool, "bob"), REFUSED_ENVIRONMENT);
    registry_user_counts(registry, "alice", &counts);
    cr_assert_eq(counts.clients, 2);
    registry_user_counts(registry, "forced", &counts);
    cr_assert_eq(counts.clients, 1);
    registry_user_counts(registry, "bob", &counts);
    cr_assert_eq(counts.clients, 0);
    pool_discharge(pool, "alice");
    pool_discharge(pool, "forced");
    registry_discharge_from(registry, &production, "alice");
    registry_user_counts(registry, "alice", &counts);
    cr_assert_eq(counts.clients, 0);
    registry_database_counts(registry, "app", "production", &counts);
    cr_assert_eq(counts.clients, 0);
    registry_environment_counts(registry, "production", &counts);
    cr_assert_eq(counts.clients, 0);
    stage_clear();
}

Test(registry, says_nothing_of_names_it_does_not_know)
{
    stage_start(1);
    struct limit_counts counts;
    registry_database_counts(registry, "nowhere", NULL, &counts);
    cr_assert_eq(counts.servers + counts.clients + counts.max_servers + counts.max_clients, 0);
    stage_end();
}

/* ---- switches ---- */

Test(registry, pauses_the_pools_of_a_database)
{
    stage_start(1);
    struct pool *named = stage_pool("app", "alice", "production", NO_LIMITS);
    struct pool *also = stage_pool("app", "bob", NULL, NO_LIMITS);
    struct pool *other = stage_pool("shop", "alice", NULL, NO_LIMITS);
    registry_pause(registry, "app", NULL, true, now_us);
    cr_assert(counts_of(named).paused);
    cr_assert(counts_of(also).paused);
    cr_assert_not(counts_of(other).paused);
    registry_pause(registry, "app", NULL, false, now_us);
    cr_assert_not(counts_of(named).paused);
    stage_end();
}

Test(registry, pauses_a_database_in_one_environment)
{
    stage_start(1);
    struct pool *named = stage_pool("app", "alice", "production", NO_LIMITS);
    struct pool *other = stage_pool("app", "alice", "staging", NO_LIMITS);
    registry_pause(registry, "app", "production", true, now_us);
    cr_assert(counts_of(named).paused);
    cr_assert_not(counts_of(other).paused);
    cr_assert(registry_is_paused(registry, "app", "production"));
    cr_assert_not(registry_is_paused(registry, "app", "staging"));
    cr_assert_not(registry_is_paused(registry, "app", NULL));
    stage_end();
}

Test(registry, a_pool_of_a_paused_database_is_born_paused)
{
    stage_start(1);
    registry_pause(registry, "app", NULL, true, now_us);
    cr_assert(counts_of(stage_pool("app", "alice", "production", NO_LIMITS)).paused);
    cr_assert_not(counts_of(stage_pool("shop", "alice", NULL, NO_LIMITS)).paused);
    stage_end();
}

Test(registry, pauses_everything)
{
    stage_start(1);
    struct pool *pool = stage_pool("app", "alice", "production", NO_LIMITS);
    registry_pause(registry, NULL, NULL, true, now_us);
    cr_assert(counts_of(pool).paused);
    cr_assert(registry_is_paused(registry, "anything", NULL));
    cr_assert(registry_is_paused(registry, NULL, NULL));
    cr_assert(counts_of(stage_pool("later", "alice", NULL, NO_LIMITS)).paused);
    stage_end();
}

Test(registry, the_latest_word_about_a_database_counts)
{
    stage_start(1);
    registry_disable(registry, NULL, NULL, true);
    registry_disable(registry, "app", "production", false);
    cr_assert_not(registry_is_disabled(registry, "app", "production"));
    cr_assert(registry_is_disabled(registry, "app", "staging"));
    registry_disable(registry, "app", NULL, true);
    cr_assert(registry_is_disabled(registry, "app", "production"));
    registry_disable(registry, NULL, NULL, false);
    cr_assert_not(registry_is_disabled(registry, "app", "production"));
    cr_assert_not(registry_is_disabled(registry, "app", NULL));
    stage_end();
}

Test(registry, disabling_is_not_pausing)
{
    stage_start(1);
    registry_disable(registry, "app", NULL, true);
    cr_assert(registry_is_disabled(registry, "app", "production"));
    cr_assert_not(registry_is_paused(registry, "app", "production"));
    cr_assert_not(counts_of(stage_pool("app", "alice", NULL, NO_LIMITS)).paused);
    stage_end();
}

/* Somebody comes and goes between the first question and the end. */
static bool visited(struct pool *pool, bool act, void *argument)
{
    (void)pool, (void)argument;
    return act;
}

Test(registry, a_sweep_keeps_what_somebody_left_traces_in_meanwhile)
{
    stage_start(1);
    unreferenced("app");
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, visited, NULL), 0);
    cr_assert_eq(registry_pool_count(registry), 1);
    cr_assert_eq(registry_sweep(registry, now_us + 100, 100, NULL, NULL), 1);
    stage_end();
}
