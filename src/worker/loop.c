/*
 * loop: the turn.
 *
 *     poll ─ I/O callbacks ─ mail ─ due timers ─ deferred tasks ─ releases ─┐
 *       ↑___________________________________________________________________│
 *
 * libevent polls and calls the I/O callbacks (one event_base_loop with EVLOOP_ONCE each turn); the
 * other phases run here. Everything belongs to the loop's thread, except the mailbox, the stop flag
 * and the eventfd, which any thread may touch.
 *
 * Mailbox: a stack of letters that senders push with compare-and-swap and the loop takes whole and
 * turns round. The sender that finds it empty writes to the eventfd. The eventfd is edge-triggered
 * and never read: each write is an edge of its own, and 2^64 writes do not happen.
 *
 * Timers: one timerfd stands for the whole heap. It is armed again only when the heap's first moment
 * comes before the armed one, so a turn in which deadlines only move later costs nothing. libevent
 * has no timer of its own in here: with one it would read the clock twice in each turn.
 *
 * A loop is freed after the threads that post to it have ended.
 */
#include "pgstage/worker/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/worker/heap.h"

struct release {
    void *object;
    void (*destroy)(void *object);
};

struct loop {
    /* fixed */
    struct event_base *base;
    struct event *wake_event;
    struct event *timer_event;
    int wake_fd, timer_fd;
    unsigned index;
    void *context;
    uint8_t *buffer;

    /* owner */
    uint64_t now_us; /* this turn's time; 0: not read yet */
    uint64_t turns;
    struct list tasks;
    struct loop_task last_task; /* marks the end of the batch that is being run */
    struct timer_heap timers;
    uint64_t armed_us; /* when timer_event fires; 0: not armed */
    struct release *releases;
    size_t release_count, release_capacity;

    /* shared: atomics */
    _Atomic(struct mail *) mailbox; /* newest first */
    atomic_bool stop;
};

/* Being polled awake is all that is asked of it. */
static void on_wake(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    (void)argument;
}

static void on_timer(evutil_socket_t fd, short what, void *argument)
{
    struct loop *loop = argument;
    (void)fd;
    (void)what;
    loop->armed_us = 0;
}

/*
 * epoll or nothing, and without libevent's locks, since mail is the only way in from other threads.
 * No epoll changelist: it skips epoll_ctl calls for a descriptor that was closed and whose number
 * came back (or was put in place by dup3) within a turn. No cached time: nobody asks libevent for
 * it.
 */
static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;
    struct event_base *base = NULL;
    if (event_config_avoid_method(config, "poll") == 0 &&
        event_config_avoid_method(config, "select") == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static void close_all(struct loop *loop)
{
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->timer_event)
        event_free(loop->timer_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    timer_heap_fini(&loop->timers);
    free(loop->releases);
    free(loop->buffer);
    free(loop);
}

struct loop *loop_new(unsigned index, void *context)
{
    struct loop *loop = memory_new(sizeof *loop);
    loop->index = index;
    loop->context = context;
    list_init(&loop->tasks);
    loop->buffer = memory_get(LOOP_STREAM_BYTES);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->base = new_base();
    if (loop->wake_fd >= 0 && loop->timer_fd >= 0 && loop->base) {
        loop->wake_event =
            event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST | EV_ET, on_wake, loop);
        loop->timer_event =
            event_new(loop->base, loop->timer_fd, EV_READ | EV_PERSIST | EV_ET, on_timer, loop);
    }
    if (!loop->wake_event || !loop->timer_event || event_add(loop->wake_event, NULL) != 0 ||
        event_add(loop->timer_event, NULL) != 0) {
        close_all(loop);
        return NULL;
    }
    return loop;
}

/* The letters so far, oldest first. */
static struct mail *take_mail(struct loop *loop)
{
    if (!atomic_load_explicit(&loop->mailbox, memory_order_relaxed))
        return NULL;
    struct mail *newest = atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
    struct mail *oldest = NULL;
    while (newest) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void deliver_mail(struct loop *loop)
{
    for (struct mail *mail = take_mail(loop), *next; mail; mail = next) {
        next = mail->next;
        mail->deliver(loop, mail);
    }
}

static void drop_mail(struct loop *loop)
{
    struct mail *mail;
    while ((mail = take_mail(loop))) { /* dropping may post again */
        for (struct mail *next; mail; mail = next) {
            next = mail->next;
            if (mail->drop)
                mail->drop(mail);
            else
                free(mail);
        }
    }
}

/* Tasks that are deferred meanwhile stand behind the mark and wait for the next turn. */
static void run_tasks(struct loop *loop)
{
    if (list_is_empty(&loop->tasks))
        return;
    list_push_back(&loop->tasks, &loop->last_task.node);
    struct list_node *node;
    while ((node = list_pop_front(&loop->tasks)) != &loop->last_task.node) {
        struct loop_task *task = list_entry(node, struct loop_task, node);
        task->run(task);
    }
}

/* Destroying one object may release others: they go in the same turn. */
static void run_releases(struct loop *loop)
{
    for (size_t i = 0; i < loop->release_count; i++) {
        struct release release = loop->releases[i];
        release.destroy(release.object);
    }
    loop->release_count = 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    drop_mail(loop);
    run_releases(loop);
    drop_mail(loop);
    close_all(loop);
}

/* False when a timer is due already, so there is nothing to wait for. */
static bool arm_timer(struct loop *loop)
{
    uint64_t next_us = timer_heap_next_us(&loop->timers);
    if (next_us == UINT64_MAX || (loop->armed_us && loop->armed_us <= next_us))
        return true;

    if (next_us <= clock_now_us())
        return false;
    /* each expiry is an edge of its own: nobody reads it */
    struct itimerspec moment = {.it_value = {.tv_sec = (time_t)(next_us / CLOCK_SECOND),
                                             .tv_nsec = (long)(next_us % CLOCK_SECOND * 1000)}};
    check(timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &moment, NULL) == 0);
    loop->armed_us = next_us;
    return true;
}

void loop_turn(struct loop *loop, bool wait)
{
    int flags = EVLOOP_ONCE;
    if (!wait || !list_is_empty(&loop->tasks) || !arm_timer(loop))
        flags |= EVLOOP_NONBLOCK;
    loop->now_us = 0;
    loop->turns++;
    check(event_base_loop(loop->base, flags) >= 0);

    deliver_mail(loop);
    if (timer_heap_next_us(&loop->timers) != UINT64_MAX)
        timer_heap_run(&loop->timers, loop, loop_now_us(loop));
    run_tasks(loop);
    run_releases(loop);
}

void loop_run(struct loop *loop)
{
    loop->now_us = 0;
    while (!atomic_exchange_explicit(&loop->stop, false, memory_order_acquire))
        loop_turn(loop, true);
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t wrote;
    do {
        wrote = write(loop->wake_fd, &one, sizeof one);
    } while (wrote < 0 && errno == EINTR);
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    wake(loop);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

void *loop_context(struct loop *loop)
{
    return loop->context;
}

unsigned loop_index(const struct loop *loop)
{
    return loop->index;
}

struct timer_heap *loop_timers(struct loop *loop)
{
    return &loop->timers;
}

/* libevent offers no hook between its poll and the first callback, so the first one who asks in a
 * turn reads the clock. To the callers that is no change of the loop, hence the const. */
uint64_t loop_now_us(const struct loop *loop)
{
    if (loop->now_us == 0)
        ((struct loop *)loop)->now_us = clock_now_us();
    return loop->now_us;
}

uint64_t loop_turns(const struct loop *loop)
{
    return loop->turns;
}

uint8_t *loop_buffer(struct loop *loop, size_t *size)
{
    *size = LOOP_BUFFER_BYTES;
    return loop->buffer;
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
    if (!list_node_is_listed(&task->node))
        list_push_back(&loop->tasks, &task->node);
}

void loop_undefer(struct loop *loop, struct loop_task *task)
{
    if (list_node_is_listed(&task->node))
        list_remove(&loop->tasks, &task->node);
}

void loop_release(struct loop *loop, void *object, void (*destroy)(void *object))
{
    if (loop->release_count == loop->release_capacity) {
        loop->release_capacity = loop->release_capacity ? loop->release_capacity * 2 : 16;
        loop->releases =
            memory_resize(loop->releases, loop->release_capacity, sizeof *loop->releases);
    }
    loop->releases[loop->release_count++] = (struct release){object, destroy};
}

void loop_post(struct loop *loop, struct mail *mail)
{
    struct mail *newest = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);
    do {
        mail->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&loop->mailbox, &newest, mail,
                                                    memory_order_release, memory_order_relaxed));
    if (!newest)
        wake(loop);
}
