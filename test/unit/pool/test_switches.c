/* registry: what PAUSE and DISABLE of a name, of an environment and of everything mean together. */
#include <string.h>

#include "stage.h"

static bool paused(const char *database, const char *environment)
{
    return registry_is_paused(registry, database, environment);
}

static void pause_start(void)
{
    stage_start(1);
}

TestSuite(switches, .init = pause_start, .fini = stage_end);

Test(switches, of_an_environment_are_about_all_its_names)
{
    registry_pause(registry, NULL, "staging", true, now_us);
    cr_assert(paused("app", "staging"));
    cr_assert(paused("other", "staging"));
    cr_assert(paused(NULL, "staging"));
    cr_assert_not(paused("app", "production"));
    cr_assert_not(paused("app", NULL));
    cr_assert_not(paused(NULL, NULL));
}

Test(switches, the_latest_word_counts)
{
    registry_pause(registry, NULL, "staging", true, now_us);
    registry_pause(registry, "app", "staging", false, now_us);
    cr_assert_not(paused("app", "staging"));
    cr_assert(paused("other", "staging"));
    registry_pause(registry, "app", NULL, true, now_us);
    cr_assert(paused("app", "staging"));
    cr_assert(paused("app", "production"));
    registry_pause(registry, NULL, "staging", false, now_us);
    cr_assert_not(paused("app", "staging"));
    cr_assert(paused("app", "production"));
    registry_pause(registry, NULL, NULL, false, now_us);
    cr_assert_not(paused("app", "production"));
}

Test(switches, of_an_environment_reach_its_pools_present_and_future)
{
    struct pool_limits limits = {.pool_size = 1};
    struct pool *here = stage_pool("app", "alice", "staging", &limits);
    struct pool *elsewhere = stage_pool("app", "alice", "production", &limits);
    registry_pause(registry, NULL, "staging", true, now_us);
    struct pool *later = stage_pool("other", "alice", "staging", &limits);
    cr_assert(counts_of(here).paused);
    cr_assert(counts_of(later).paused);
    cr_assert_not(counts_of(elsewhere).paused);
    registry_pause(registry, NULL, "staging", false, now_us);
    cr_assert_not(counts_of(here).paused);
}

static bool is_other(struct pool *pool, bool act, void *argument)
{
    (void)act, (void)argument;
    return strcmp(pool_database(pool), "other") == 0;
}

Test(switches, a_sweep_frees_only_what_may_go)
{
    struct pool_limits limits = {.pool_size = 1};
    struct pool_key app = {"app", "alice", NULL, false}, other = {"other", "alice", NULL, false};
    pool_unref(registry_pool(registry, &app, &limits, NULL));
    pool_unref(registry_pool(registry, &other, &limits, NULL));
    cr_assert_eq(registry_sweep(registry, now_us, 10, is_other, NULL), 0);
    cr_assert_eq(registry_sweep(registry, now_us + 20, 10, is_other, NULL), 1);
    cr_assert_eq(registry_sweep(registry, now_us + 20, 10, NULL, NULL), 1);
}
