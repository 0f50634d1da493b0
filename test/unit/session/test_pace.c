/*
 * The pace of an environment's openings: held back after a release, first in, first out, and faster
 * with each success.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/session/pace.h"

#define NOW (1000 * CLOCK_SECOND)

static struct pool *const pool = (struct pool *)64; /* never looked into */

/* How many may begin, when so many ask one after the other. */
static unsigned begin(struct pace *pace, unsigned count, uint64_t now_us)
{
    unsigned begun = 0;
    for (unsigned i = 0; i < count; i++)
        begun += pace_begin(pace, pool, i, now_us);
    return begun;
}

/* One ends; the workers of those that begin instead, as digits. */
static int end(struct pace *pace, bool opened, uint64_t now_us)
{
    struct list orders;
    struct list_node *node;
    int workers = 0;
    list_init(&orders);
    pace_end(pace, opened, now_us, &orders);
    while ((node = list_pop_front(&orders))) {
        struct pace_order *order = list_entry(node, struct pace_order, node);
        workers = workers * 10 + (int)order->worker;
        free(order);
    }
    return workers;
}

Test(pace, nothing_is_held_back_at_other_times)
{
    struct pace pace = {0};
    pace_init(&pace);
    cr_assert_eq(begin(&pace, 100, NOW), 100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(end(&pace, i % 2, NOW), 0);
    pace_fini(&pace);
}

Test(pace, each_success_allows_one_more_and_a_failure_none)
{
    struct pace pace = {0};
    pace_init(&pace);
    pace_slow(&pace, NOW);
    cr_assert_eq(begin(&pace, 9, NOW), PACE_FIRST); /* 4 to 8 wait */
    cr_assert_eq(end(&pace, false, NOW), 4);
    cr_assert_eq(end(&pace, true, NOW), 56);
    cr_assert_eq(end(&pace, true, NOW), 78);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(end(&pace, true, NOW), 0);
    pace_fini(&pace);
}

Test(pace, it_is_over_after_a_while)
{
    struct pace pace = {0};
    pace_init(&pace);
    pace_slow(&pace, NOW);
    cr_assert_eq(begin(&pace, 7, NOW), PACE_FIRST);
    cr_assert_eq(end(&pace, false, NOW + 60 * CLOCK_SECOND), 456);
    cr_assert_eq(begin(&pace, 20, NOW + 60 * CLOCK_SECOND), 20);
    while (pace.running > 0)
        cr_assert_eq(end(&pace, false, NOW + 60 * CLOCK_SECOND), 0);
    pace_fini(&pace);
}

Test(pace, what_waits_can_be_taken_back)
{
    struct pace pace = {0};
    struct list orders;
    struct list_node *node;
    unsigned count = 0;
    pace_init(&pace);
    list_init(&orders);
    pace_slow(&pace, NOW);
    cr_assert_eq(begin(&pace, 9, NOW), PACE_FIRST);
    pace_end(&pace, true, NOW, NULL); /* nobody is there any more who could begin */
    pace_flush(&pace, &orders);
    while ((node = list_pop_front(&orders))) {
        free(list_entry(node, struct pace_order, node));
        count++;
    }
    cr_assert_eq(count, 5);
    pace_fini(&pace);
}
