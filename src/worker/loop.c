/*
 * loop: the turn.
 *
 *     poll ─ I/O callbacks ─ mail ─ due timers ─ deferred tasks ─ releases ─┐
 *       ↑___________________________________________________________________│
 *
 * Everything belongs to the loop's thread, except the mailbox, the stop flag and the eventfd, which
 * any thread may touch.
 *
 * Polling: epoll knows each watch by its address. A callback may end any watch, also one whose event
 * lies further back in the batch that is being dispatched: loop_unwatch takes that event out of the
 * batch. So no event reaches a watch that has ended, not even when its memory is freed, or it (or
 * its descriptor's number) is watched anew, before the batch is over.
 *
 * Mailbox: a stack of letters that senders push with compare-and-swap and the loop takes whole and
 * turns round. The sender that finds it empty writes to the eventfd. The eventfd is edge-triggered
 * and never read: each write is an edge of its own, and 2^64 writes do not happen.
 *
 * Timers: one timerfd stands for the whole heap. It is armed again only when the heap's first moment
 * comes before the armed one, so a turn in which deadlines only move later costs nothing.
 *
 * A loop is freed after the threads that post to it have ended.
 */
#include "pgstage/worker/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/kernel.h"
#include "pgstage/base/memory.h"
#include "pgstage/worker/heap.h"

/* Events that one poll brings at most; the others come first in the next turn. */
#define BATCH 256

struct release {
    void *object;
    void (*destroy)(void *object);
};

struct loop {
    /* fixed */
    int epoll_fd;
    struct loop_watch wake_watch;
    unsigned index;
    void *context;
    uint8_t *buffer;

    /* owner */
    uint64_t now_us; /* this turn's time; 0: not read yet */
    uint64_t turns;
    unsigned batch_count; /* events that the last poll brought … */
    unsigned batch_next;  /* … and the first of them that is not dispatched yet */
    struct epoll_event batch[BATCH];
    struct loop_watch timer_watch;
    struct list tasks;
    struct loop_task last_task; /* marks the end of the batch that is being run */
    struct timer_heap timers;
    uint64_t armed_us; /* when the timerfd expires; 0: not armed */
    struct release *releases;
    size_t release_count, release_capacity;

    /* shared: atomics */
    _Atomic(struct mail *) mailbox; /* newest first */
    atomic_bool stop;
};

/* Being polled awake is all that is asked of it. */
static void on_wake(struct loop_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
}

static void on_timer(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    list_entry(watch, struct loop, timer_watch)->armed_us = 0;
}

static void close_all(struct loop *loop)
{
    int fds[] = {loop->wake_watch.fd, loop->timer_watch.fd, loop->epoll_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
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
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_watch =
        (struct loop_watch){.ready = on_wake, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    loop->timer_watch = (struct loop_watch){
        .ready = on_timer, .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)};
    if (loop->epoll_fd < 0 || loop->wake_watch.fd < 0 || loop->timer_watch.fd < 0 ||
        !loop_watch(loop, &loop->wake_watch, EPOLLIN | EPOLLET) ||
        !loop_watch(loop, &loop->timer_watch, EPOLLIN | EPOLLET)) {
        close_all(loop);
        return NULL;
    }
    return loop;
}

bool loop_watch(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
    if (events == watch->events)
        return true;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int operation = watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(loop->epoll_fd, operation, watch->fd, &event) != 0)
        return false;
    watch->events = events;
    return true;
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
    if (!watch->events)
        return;
    watch->events = 0;
    check(epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL) == 0);
    for (unsigned i = loop->batch_next; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr == watch) {
            loop->batch[i].data.ptr = NULL;
            break;
        }
    }
}

/* What a watch did not ask for, or asks for no longer, is not told; errors always are. */
static void dispatch(struct loop *loop)
{
    while (loop->batch_next < loop->batch_count) {
        const struct epoll_event *event = &loop->batch[loop->batch_next++];
        struct loop_watch *watch = event->data.ptr;
        if (!watch)
            continue;
        uint32_t events = event->events & (watch->events | EPOLLERR | EPOLLHUP);
        if (events)
            watch->ready(watch, events);
    }
    loop->batch_count = loop->batch_next = 0;
}

static void poll_events(struct loop *loop, bool wait)
{
    check(loop->batch_count == 0); /* no turn within a turn */
    int count = kernel_epoll_wait(loop->epoll_fd, loop->batch, BATCH, wait ? -1 : 0);
    check(count >= 0 || errno == EINTR);
    loop->now_us = 0;
    loop->turns++;
    if (count > 0) {
        loop->batch_count = (unsigned)count;
        dispatch(loop);
    }
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
    check(timerfd_settime(loop->timer_watch.fd, TFD_TIMER_ABSTIME, &moment, NULL) == 0);
    loop->armed_us = next_us;
    return true;
}

void loop_turn(struct loop *loop, bool wait)
{
    poll_events(loop, wait && list_is_empty(&loop->tasks) && arm_timer(loop));
    deliver_mail(loop);
    uint64_t next_us = timer_heap_next_us(&loop->timers);
    if (next_us != UINT64_MAX && next_us <= loop_now_us(loop))
        timer_heap_run(&loop->timers, loop, loop_now_us(loop));
    run_tasks(loop);
    run_releases(loop);
}

void loop_run(struct loop *loop)
{
    loop->now_us = 0;
    /* only where it has come is it taken back, which costs more than a look */
    while (!atomic_load_explicit(&loop->stop, memory_order_relaxed) ||
           !atomic_exchange_explicit(&loop->stop, false, memory_order_acquire))
        loop_turn(loop, true);
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t wrote;
    do {
        wrote = write(loop->wake_watch.fd, &one, sizeof one);
    } while (wrote < 0 && errno == EINTR);
}

void loop_stop(struct loop *loop)
{
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    wake(loop);
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

/* The first one who asks in a turn reads the clock. To the callers that is no change of the loop,
 * hence the const. */
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
