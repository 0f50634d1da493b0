/* loop: the order of a turn's phases, and mail between threads. Turns are driven by hand where one
 * thread is enough. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

TestSuite(loop, .timeout = 300);

/* What happened, a letter each. */
static char story[64];
static struct loop *main_loop;

static void tell(char what)
{
    size_t length = strlen(story);
    cr_assert_lt(length, sizeof story - 1);
    story[length] = what;
}

static void tell_task(struct loop_task *task)
{
    (void)task;
    tell('t');
}

static void tell_timer(struct loop *loop, struct timer *timer)
{
    (void)loop;
    (void)timer;
    tell('d');
}

static void tell_mail(struct loop *loop, struct mail *mail)
{
    (void)loop;
    (void)mail;
    tell('m');
}

static void tell_release(void *object)
{
    tell(*(char *)object);
}

static void tell_input(struct loop_watch *watch, uint32_t events)
{
    char byte;
    cr_assert_eq(events, EPOLLIN);
    cr_assert_eq(read(watch->fd, &byte, 1), 1);
    tell('i');
}

static struct loop *new_loop(void)
{
    main_loop = loop_new(0, NULL);
    cr_assert_not_null(main_loop);
    return main_loop;
}

Test(loop, runs_the_phases_of_a_turn_in_order)
{
    struct loop *loop = new_loop();
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    struct loop_watch watch = {.ready = tell_input, .fd = ends[0]};
    cr_assert(loop_watch(loop, &watch, EPOLLIN));

    /* Prepared in the opposite order. */
    loop_release(loop, "r", tell_release);
    struct loop_task task = {.run = tell_task};
    loop_defer(loop, &task);
    struct timer timer = {.fire = tell_timer};
    timer_set(loop, &timer, loop_now_us(loop));
    struct mail mail = {.deliver = tell_mail};
    loop_post(loop, &mail);
    cr_assert_eq(write(ends[1], "x", 1), 1);

    loop_turn(loop, true);
    cr_assert_str_eq(story, "imdtr");

    loop_unwatch(loop, &watch);
    close(ends[0]);
    close(ends[1]);
    loop_free(loop);
}

Test(loop, runs_a_task_once_however_often_it_is_deferred)
{
    struct loop *loop = new_loop();
    struct loop_task task = {.run = tell_task};
    loop_defer(loop, &task);
    loop_defer(loop, &task);
    loop_turn(loop, false);
    loop_turn(loop, false);
    cr_assert_str_eq(story, "t");
    loop_free(loop);
}

Test(loop, does_not_run_a_task_that_was_taken_back)
{
    struct loop *loop = new_loop();
    struct loop_task task = {.run = tell_task};
    loop_defer(loop, &task);
    loop_undefer(loop, &task);
    loop_undefer(loop, &task);
    loop_turn(loop, false);
    cr_assert_str_eq(story, "");
    loop_free(loop);
}

struct numbered_task {
    struct loop_task task;
    char name;
    struct loop_task *defers, *undefers;
};

static void run_numbered(struct loop_task *task)
{
    struct numbered_task *self = list_entry(task, struct numbered_task, task);
    tell(self->name);
    if (self->defers)
        loop_defer(main_loop, self->defers);
    if (self->undefers)
        loop_undefer(main_loop, self->undefers);
}

Test(loop, runs_tasks_first_in_first_out)
{
    struct loop *loop = new_loop();
    struct numbered_task a = {.task.run = run_numbered, .name = 'a'};
    struct numbered_task b = {.task.run = run_numbered, .name = 'b'};
    struct numbered_task c = {.task.run = run_numbered, .name = 'c'};
    loop_defer(loop, &c.task);
    loop_defer(loop, &a.task);
    loop_defer(loop, &b.task);
    loop_turn(loop, false);
    cr_assert_str_eq(story, "cab");
    loop_free(loop);
}

Test(loop, runs_what_a_task_defers_in_the_next_turn_and_does_not_wait_for_it)
{
    struct loop *loop = new_loop();
    struct numbered_task b = {.task.run = run_numbered, .name = 'b'};
    struct numbered_task a = {.task.run = run_numbered, .name = 'a', .defers = &b.task};
    loop_defer(loop, &a.task);
    loop_turn(loop, true);
    cr_assert_str_eq(story, "a");
    loop_turn(loop, true); /* would wait for ever */
    cr_assert_str_eq(story, "ab");
    loop_free(loop);
}

Test(loop, lets_a_task_defer_itself_again)
{
    struct loop *loop = new_loop();
    struct numbered_task a = {.task.run = run_numbered, .name = 'a'};
    a.defers = &a.task;
    loop_defer(loop, &a.task);
    loop_turn(loop, true);
    loop_turn(loop, true);
    loop_turn(loop, true);
    cr_assert_str_eq(story, "aaa");
    loop_free(loop);
}

Test(loop, lets_a_task_take_back_a_later_one_of_the_same_turn)
{
    struct loop *loop = new_loop();
    struct numbered_task b = {.task.run = run_numbered, .name = 'b'};
    struct numbered_task c = {.task.run = run_numbered, .name = 'c'};
    struct numbered_task a = {
        .task.run = run_numbered, .name = 'a', .defers = &c.task, .undefers = &b.task};
    loop_defer(loop, &a.task);
    loop_defer(loop, &b.task);
    loop_turn(loop, false);
    cr_assert_str_eq(story, "a");
    loop_turn(loop, false);
    cr_assert_str_eq(story, "ac");
    loop_free(loop);
}

static void release_another(void *object)
{
    tell('1');
    loop_release(object, "2", tell_release);
}

Test(loop, releases_in_the_same_turn_what_a_release_lets_go)
{
    struct loop *loop = new_loop();
    loop_release(loop, loop, release_another);
    loop_turn(loop, false);
    cr_assert_str_eq(story, "12");
    loop_free(loop);
}

Test(loop, releases_each_object_once)
{
    struct loop *loop = new_loop();
    for (int i = 0; i < 50; i++)
        loop_release(loop, "r", tell_release);
    loop_turn(loop, false);
    cr_assert_eq(strlen(story), 50);
    loop_turn(loop, false);
    cr_assert_eq(strlen(story), 50);
    loop_free(loop);
}

Test(loop, destroys_what_is_still_to_be_released_when_it_is_freed)
{
    struct loop *loop = new_loop();
    loop_release(loop, "r", tell_release);
    loop_free(loop);
    cr_assert_str_eq(story, "r");
}

static uint64_t task_saw_us[2];

static void watch_clock(struct loop_task *task)
{
    (void)task;
    task_saw_us[0] = loop_now_us(main_loop);
    for (uint64_t start = clock_now_us(); clock_now_us() < start + 10;)
        ;
    task_saw_us[1] = loop_now_us(main_loop);
}

Test(loop, has_one_time_for_a_turn_and_another_for_the_next)
{
    struct loop *loop = new_loop();
    struct loop_task task = {.run = watch_clock};
    uint64_t before_us = clock_now_us();
    loop_defer(loop, &task);
    loop_turn(loop, false);
    cr_assert_eq(task_saw_us[0], task_saw_us[1]);
    cr_assert_geq(task_saw_us[0], before_us);
    uint64_t first_us = task_saw_us[0];
    loop_defer(loop, &task);
    loop_turn(loop, false);
    cr_assert_geq(task_saw_us[0], first_us + 10);
    loop_free(loop);
}

Test(loop, knows_its_owner_and_lends_a_buffer)
{
    int owner;
    struct loop *loop = loop_new(3, &owner);
    size_t size = 0;
    uint8_t *buffer = loop_buffer(loop, &size);
    cr_assert_eq(loop_context(loop), &owner);
    cr_assert_eq(loop_index(loop), 3);
    cr_assert_eq(size, LOOP_BUFFER_BYTES);
    memset(buffer, 1, LOOP_STREAM_BYTES); /* there is more than that */
    loop_free(loop);
}

static void post_again(struct loop *loop, struct mail *mail)
{
    tell('p');
    mail->deliver = tell_mail;
    loop_post(loop, mail);
}

Test(loop, delivers_what_a_letter_posts_in_the_next_turn)
{
    struct loop *loop = new_loop();
    struct mail mail = {.deliver = post_again};
    loop_post(loop, &mail);
    loop_turn(loop, true);
    cr_assert_str_eq(story, "p");
    loop_turn(loop, true);
    cr_assert_str_eq(story, "pm");
    loop_free(loop);
}

static void tell_drop(struct mail *mail)
{
    tell('x');
    free(mail);
}

Test(loop, drops_undelivered_mail_when_it_is_freed)
{
    struct loop *loop = new_loop();
    struct mail *with_drop = calloc(1, sizeof *with_drop);
    with_drop->deliver = tell_mail;
    with_drop->drop = tell_drop;
    loop_post(loop, with_drop);
    struct mail *without = calloc(1, sizeof *without); /* a leak if it is not freed */
    without->deliver = tell_mail;
    loop_post(loop, without);
    loop_free(loop);
    cr_assert_str_eq(story, "x");
}

#define LETTERS 20000

struct numbered_letter {
    struct mail mail;
    int sender, number;
};

static int next_number[2];
static bool in_order = true;
static pthread_t delivered_on;

static void count_letter(struct loop *loop, struct mail *mail)
{
    struct numbered_letter *letter = list_entry(mail, struct numbered_letter, mail);
    in_order = in_order && letter->number == next_number[letter->sender];
    next_number[letter->sender]++;
    delivered_on = pthread_self();
    if (next_number[0] + next_number[1] == 2 * LETTERS)
        loop_stop(loop);
    free(letter);
}

static void *send_letters(void *argument)
{
    for (int i = 0; i < LETTERS; i++) {
        struct numbered_letter *letter = calloc(1, sizeof *letter);
        letter->mail.deliver = count_letter;
        letter->sender = *(int *)argument;
        letter->number = i;
        loop_post(main_loop, &letter->mail);
    }
    return NULL;
}

Test(loop, delivers_the_letters_of_each_thread_in_order)
{
    struct loop *loop = new_loop();
    pthread_t threads[2];
    int numbers[2] = {0, 1};
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, send_letters, &numbers[i]);
    loop_run(loop);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cr_assert(in_order);
    cr_assert_eq(next_number[0], LETTERS);
    cr_assert_eq(next_number[1], LETTERS);
    cr_assert(pthread_equal(delivered_on, pthread_self()));
    loop_free(loop);
}

static void *stop_main_loop(void *argument)
{
    (void)argument;
    loop_stop(main_loop);
    return NULL;
}

Test(loop, stops_when_another_thread_says_so)
{
    struct loop *loop = new_loop();
    for (int i = 0; i < 100; i++) { /* before, at and after the first poll */
        pthread_t thread;
        pthread_create(&thread, NULL, stop_main_loop, NULL);
        loop_run(loop);
        pthread_join(thread, NULL);
    }
    loop_free(loop);
}

Test(loop, runs_again_after_a_stop)
{
    struct loop *loop = new_loop();
    loop_stop(loop);
    loop_run(loop);
    struct numbered_letter *last = calloc(1, sizeof *last);
    next_number[0] = 2 * LETTERS - 1;
    last->number = next_number[0];
    last->mail.deliver = count_letter;
    loop_post(loop, &last->mail);
    loop_run(loop);
    cr_assert_eq(next_number[0], 2 * LETTERS);
    loop_free(loop);
}
