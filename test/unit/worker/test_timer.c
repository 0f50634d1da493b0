/* timer: the heap under a clock of the test's own, then a few timers under the loop's. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pgstage/base/clock.h"
#include "pgstage/worker/heap.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

static struct loop *loop;
static unsigned fired;

static void make_loop(void)
{
    loop = loop_new(0, NULL);
    cr_assert_not_null(loop);
}

static void free_loop(void)
{
    loop_free(loop);
}

TestSuite(timer, .init = make_loop, .fini = free_loop, .timeout = 300);

static void count(struct loop *on, struct timer *timer)
{
    (void)on;
    (void)timer;
    fired++;
}

/* Lets the clock be `now_us`; returns how many fired. */
static unsigned run_at(uint64_t now_us)
{
    fired = 0;
    timer_heap_run(loop_timers(loop), loop, now_us);
    return fired;
}

Test(timer, fires_once_at_its_moment)
{
    struct timer timer = {.fire = count};
    timer_set(loop, &timer, 100);
    cr_assert(timer_is_set(&timer));
    cr_assert_eq(run_at(99), 0);
    cr_assert_eq(run_at(100), 1);
    cr_assert_not(timer_is_set(&timer));
    cr_assert_eq(run_at(1000), 0);
}

Test(timer, moved_later_fires_at_the_later_moment_only)
{
    struct timer timer = {.fire = count};
    timer_set(loop, &timer, 100);
    timer_set(loop, &timer, 200);
    cr_assert_eq(timer.heap_us, 100, "the heap was touched");
    cr_assert_eq(run_at(150), 0);
    cr_assert_eq(timer_heap_next_us(loop_timers(loop)), 200);
    cr_assert_eq(run_at(200), 1);
}

Test(timer, moved_earlier_fires_at_the_earlier_moment_only)
{
    struct timer timer = {.fire = count};
    timer_set(loop, &timer, 200);
    timer_set(loop, &timer, 100);
    cr_assert_eq(run_at(100), 1);
    cr_assert_eq(run_at(200), 0);
}

Test(timer, cleared_does_not_fire)
{
    struct timer timer = {.fire = count};
    timer_set(loop, &timer, 100);
    timer_clear(&timer);
    cr_assert_not(timer_is_set(&timer));
    cr_assert_eq(run_at(100), 0);
    cr_assert_eq(timer.slot, 0, "the heap did not forget it");
}

Test(timer, set_again_after_a_clear_fires)
{
    struct timer timer = {.fire = count};
    timer_set(loop, &timer, 100);
    timer_clear(&timer);
    timer_set(loop, &timer, 150);
    cr_assert_eq(run_at(100), 0);
    cr_assert_eq(run_at(150), 1);
}

Test(timer, detached_leaves_the_heap_and_the_others)
{
    struct timer timers[5];
    for (unsigned i = 0; i < 5; i++) {
        timers[i] = (struct timer){.fire = count};
        timer_set(loop, &timers[i], 100 + i);
    }
    timer_detach(loop, &timers[1]);
    timer_detach(loop, &timers[1]);
    cr_assert_eq(timers[1].slot, 0);
    cr_assert_eq(run_at(104), 4);
}

Test(timer, set_to_nothing_fires_at_once)
{
    struct timer timer = {.fire = count};
    timer_set(loop, &timer, 0);
    cr_assert(timer_is_set(&timer));
    cr_assert_eq(run_at(5), 1);
}

static uint64_t last_due_us;
static bool sorted = true;

struct moment {
    struct timer timer;
    uint64_t due_us;
};

static void check_order(struct loop *on, struct timer *timer)
{
    struct moment *moment = list_entry(timer, struct moment, timer);
    (void)on;
    sorted = sorted && moment->due_us >= last_due_us;
    last_due_us = moment->due_us;
    fired++;
}

Test(timer, fires_many_in_the_order_of_their_moments)
{
    static struct moment moments[500];
    srand(1);
    for (unsigned i = 0; i < 500; i++) {
        moments[i].timer.fire = check_order;
        moments[i].due_us = 1 + (uint64_t)rand() % 1000;
        timer_set(loop, &moments[i].timer, moments[i].due_us);
    }
    cr_assert_eq(run_at(1000), 500);
    cr_assert(sorted);
}

static void set_again_in_the_past(struct loop *on, struct timer *timer)
{
    fired++;
    timer_set(on, timer, 1);
}

Test(timer, that_sets_itself_to_the_past_waits_for_the_next_turn)
{
    struct timer restless = {.fire = set_again_in_the_past}, other = {.fire = count};
    timer_set(loop, &restless, 50);
    timer_set(loop, &other, 60);
    cr_assert_eq(run_at(100), 2);
    cr_assert_eq(run_at(101), 1);
    timer_detach(loop, &restless);
}

static struct timer *victim;

static void detach_victim(struct loop *on, struct timer *timer)
{
    (void)timer;
    fired++;
    timer_detach(on, victim);
}

static void clear_victim(struct loop *on, struct timer *timer)
{
    (void)on;
    (void)timer;
    fired++;
    timer_clear(victim);
}

Test(timer, does_not_fire_when_another_of_the_same_turn_detached_or_cleared_it)
{
    struct timer first = {.fire = detach_victim}, second = {.fire = count};
    victim = &second;
    timer_set(loop, &first, 10);
    timer_set(loop, &second, 11);
    cr_assert_eq(run_at(20), 1);
    first.fire = clear_victim;
    timer_set(loop, &first, 30);
    timer_set(loop, &second, 31);
    cr_assert_eq(run_at(40), 1);
}

Test(timer, fires_a_crowd_over_several_turns)
{
    static struct timer crowd[3000];
    unsigned total = 0, turns = 0;
    for (unsigned i = 0; i < 3000; i++) {
        crowd[i].fire = count;
        timer_set(loop, &crowd[i], 100);
    }
    while (total < 3000 && turns < 100) {
        unsigned now = run_at(100);
        cr_assert_lt(now, 3000);
        total += now;
        turns++;
    }
    cr_assert_eq(total, 3000);
}

#define MODEL_TIMERS 200

struct modelled {
    struct timer timer;
    uint64_t due_us; /* what the model says; 0: not set */
    bool fired;
};

static void mark(struct loop *on, struct timer *timer)
{
    (void)on;
    list_entry(timer, struct modelled, timer)->fired = true;
}

/* One random step: mostly deadlines that move later, as queries do. */
static void step(struct modelled *one, uint64_t now_us)
{
    switch (rand() % 8) {
    case 0:
        one->due_us = 0;
        timer_clear(&one->timer);
        break;
    case 1:
        one->due_us = 0;
        timer_detach(loop, &one->timer);
        break;
    default:
        one->due_us = now_us + 1 + (uint64_t)rand() % 500;
        timer_set(loop, &one->timer, one->due_us);
    }
}

Test(timer, agrees_with_a_simple_model_over_random_steps)
{
    static struct modelled all[MODEL_TIMERS];
    uint64_t now_us = 1000;
    srand(20260131);
    for (int i = 0; i < MODEL_TIMERS; i++)
        all[i].timer.fire = mark;
    for (int turn = 0; turn < 5000; turn++) {
        for (int i = 0; i < 20; i++)
            step(&all[rand() % MODEL_TIMERS], now_us);
        now_us += (uint64_t)rand() % 50;
        (void)run_at(now_us);
        for (int i = 0; i < MODEL_TIMERS; i++) {
            bool due = all[i].due_us && all[i].due_us <= now_us;
            cr_assert_eq(all[i].fired, due, "turn %d timer %d", turn, i);
            if (due)
                all[i].due_us = 0;
            cr_assert_eq(timer_is_set(&all[i].timer), all[i].due_us != 0);
            all[i].fired = false;
        }
    }
}

Test(timer, wakes_a_waiting_loop_and_never_before_its_moment)
{
    struct timer timer = {.fire = count};
    uint64_t due_us = clock_now_us() + 3 * CLOCK_MS;
    timer_set(loop, &timer, due_us);
    fired = 0;
    while (!fired)
        loop_turn(loop, true);
    cr_assert_geq(clock_now_us(), due_us);
}

Test(timer, set_earlier_than_the_armed_one_wakes_the_loop_in_time)
{
    struct timer far = {.fire = count}, near = {.fire = count};
    timer_set(loop, &far, clock_now_us() + 24 * 3600 * CLOCK_SECOND);
    loop_turn(loop, false); /* armed for the far one */
    timer_set(loop, &near, clock_now_us() + 2 * CLOCK_MS);
    fired = 0;
    while (!fired)
        loop_turn(loop, true); /* the suite's time limit is the assertion */
    cr_assert_eq(fired, 1);
    cr_assert(timer_is_set(&far));
    timer_detach(loop, &far);
}

static struct timer again;

static void set_later_twice(struct loop *on, struct timer *timer)
{
    if (++fired < 3)
        timer_set(on, timer, loop_now_us(on) + CLOCK_MS);
}

Test(timer, can_set_itself_again_on_a_running_loop)
{
    again = (struct timer){.fire = set_later_twice};
    timer_set(loop, &again, loop_now_us(loop));
    fired = 0;
    while (fired < 3)
        loop_turn(loop, true);
    cr_assert_not(timer_is_set(&again));
}
