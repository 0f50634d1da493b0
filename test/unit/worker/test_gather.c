/* gather: everyone is asked once, and the answer comes home. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "pgstage/worker/gather.h"
#include "pgstage/worker/loop.h"

TestSuite(gather, .timeout = 300);

#define LOOPS 4

struct asked {
    unsigned times[LOOPS];
    struct loop *on[LOOPS];
    pthread_t thread[LOOPS];
    unsigned done;
    struct loop *home;
};

static void each(struct loop *loop, unsigned slot, void *argument)
{
    struct asked *asked = argument;
    asked->times[slot]++;
    asked->on[slot] = loop;
    asked->thread[slot] = pthread_self();
}

static void done(struct loop *home, void *argument)
{
    struct asked *asked = argument;
    asked->done++;
    asked->home = home;
    loop_stop(home);
}

static struct loop *loops[LOOPS];

static void make_loops(void)
{
    for (unsigned i = 0; i < LOOPS; i++)
        loops[i] = loop_new(i, NULL);
}

static void free_loops(unsigned from)
{
    for (unsigned i = LOOPS; i-- > from;)
        loop_free(loops[i]);
}

static void turn_all(void)
{
    for (unsigned i = 0; i < LOOPS; i++)
        loop_turn(loops[i], false);
}

Test(gather, is_done_only_after_the_last_answer)
{
    struct asked asked = {0};
    make_loops();
    gather_start(loops[0], loops, LOOPS, each, done, &asked);
    for (unsigned i = 0; i < LOOPS - 1; i++)
        loop_turn(loops[i], false);
    loop_turn(loops[0], false);
    cr_assert_eq(asked.done, 0);
    loop_turn(loops[LOOPS - 1], false);
    cr_assert_eq(asked.done, 0, "done ran on another loop than home");
    loop_turn(loops[0], false);
    cr_assert_eq(asked.done, 1);
    cr_assert_eq(asked.home, loops[0]);
    free_loops(0);
}

Test(gather, asks_each_loop_once_with_its_slot)
{
    struct asked asked = {0};
    make_loops();
    gather_start(loops[0], loops, LOOPS, each, done, &asked);
    turn_all();
    turn_all();
    for (unsigned i = 0; i < LOOPS; i++) {
        cr_assert_eq(asked.times[i], 1);
        cr_assert_eq(asked.on[i], loops[i]);
    }
    free_loops(0);
}

Test(gather, copies_the_array_of_loops)
{
    struct asked asked = {0};
    struct loop *array[LOOPS];
    make_loops();
    memcpy(array, loops, sizeof array);
    gather_start(loops[0], array, LOOPS, each, done, &asked);
    memset(array, 0, sizeof array);
    turn_all();
    turn_all();
    cr_assert_eq(asked.done, 1);
    free_loops(0);
}

Test(gather, answers_by_mail_even_when_nobody_is_asked)
{
    struct asked asked = {0};
    make_loops();
    gather_start(loops[0], NULL, 0, each, done, &asked);
    cr_assert_eq(asked.done, 0);
    loop_turn(loops[0], false);
    cr_assert_eq(asked.done, 1);
    free_loops(0);
}

Test(gather, counts_a_freed_loop_as_answered)
{
    struct asked asked = {0};
    make_loops();
    gather_start(loops[0], loops, LOOPS, each, done, &asked);
    free_loops(1);
    loop_turn(loops[0], false);
    loop_turn(loops[0], false);
    cr_assert_eq(asked.done, 1);
    cr_assert_eq(asked.times[0], 1);
    cr_assert_eq(asked.times[1], 0);
    loop_free(loops[0]);
}

Test(gather, leaves_nothing_behind_when_home_is_freed_first)
{
    struct asked asked = {0};
    make_loops();
    gather_start(loops[0], loops, LOOPS, each, done, &asked);
    free_loops(0); /* from the last to the first: home's letter is there by then */
    cr_assert_eq(asked.done, 0);
}

static void *run(void *argument)
{
    loop_run(argument);
    return NULL;
}

Test(gather, asks_on_the_thread_of_each_loop)
{
    struct asked asked = {0};
    pthread_t threads[LOOPS];
    make_loops();
    for (unsigned i = 1; i < LOOPS; i++)
        pthread_create(&threads[i], NULL, run, loops[i]);
    gather_start(loops[0], loops, LOOPS, each, done, &asked);
    loop_run(loops[0]);
    cr_assert_eq(asked.done, 1);
    cr_assert(pthread_equal(asked.thread[0], pthread_self()));
    for (unsigned i = 1; i < LOOPS; i++) {
        cr_assert(pthread_equal(asked.thread[i], threads[i]));
        loop_stop(loops[i]);
        pthread_join(threads[i], NULL);
    }
    free_loops(0);
}
