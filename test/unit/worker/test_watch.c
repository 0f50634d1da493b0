/*
 * loop_watch: what is told of descriptors, above all within one batch of events, where a callback
 * may end, free, replace or change the watches whose events lie further back.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "pgstage/worker/loop.h"

/* A watch that counts, and then does what the test wants. */
struct end {
    struct loop_watch watch;
    unsigned told;
    uint32_t events; /* of the last time */
    void (*then)(struct end *end);
    struct end *other;
};

static struct loop *loop;

static void make_loop(void)
{
    loop = loop_new(0, NULL);
    cr_assert_not_null(loop);
}

static void free_loop(void)
{
    loop_free(loop);
}

TestSuite(watch, .init = make_loop, .fini = free_loop, .timeout = 300);

static void on_ready(struct loop_watch *watch, uint32_t events)
{
    struct end *end = list_entry(watch, struct end, watch);
    end->told++;
    end->events = events;
    if (end->then)
        end->then(end);
}

static struct end *end_new(int fd, uint32_t events)
{
    struct end *end = calloc(1, sizeof *end);
    end->watch = (struct loop_watch){.ready = on_ready, .fd = fd};
    cr_assert(loop_watch(loop, &end->watch, events));
    return end;
}

static void end_free(struct end *end)
{
    loop_unwatch(loop, &end->watch);
    close(end->watch.fd);
    free(end);
}

/* An eventfd is readable for ever when it begins with 1, and never when with 0. */
static int readable(void)
{
    return eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
}

static int unreadable(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Two that are ready in one batch and know each other; which comes first is epoll's choice. */
static void two_ready(struct end *ends[2], void (*then)(struct end *end))
{
    for (int i = 0; i < 2; i++) {
        ends[i] = end_new(readable(), EPOLLIN);
        ends[i]->then = then;
    }
    ends[0]->other = ends[1];
    ends[1]->other = ends[0];
}

Test(watch, is_told_in_every_turn_until_there_is_nothing_left)
{
    uint64_t value;
    struct end *end = end_new(readable(), EPOLLIN);
    loop_turn(loop, true);
    loop_turn(loop, true);
    cr_assert_eq(end->told, 2);
    cr_assert_eq(end->events, EPOLLIN);
    cr_assert_eq(read(end->watch.fd, &value, sizeof value), sizeof value);
    loop_turn(loop, false);
    cr_assert_eq(end->told, 2);
    end_free(end);
}

static void unwatch_other(struct end *end)
{
    loop_unwatch(loop, &end->other->watch);
}

Test(watch, that_an_earlier_callback_of_the_batch_ended_is_not_told)
{
    struct end *ends[2];
    two_ready(ends, unwatch_other);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 1);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 2, "the one that was told is watched");
    end_free(ends[0]);
    end_free(ends[1]);
}

static void free_other(struct end *end)
{
    if (end->other)
        end_free(end->other);
    end->other = NULL;
}

Test(watch, may_be_freed_by_an_earlier_callback_of_the_batch)
{
    struct end *ends[2];
    two_ready(ends, free_other);
    loop_turn(loop, false);
    struct end *left = ends[0]->watch.events && !ends[0]->other ? ends[0] : ends[1];
    cr_assert_eq(left->told, 1);
    end_free(left);
}

static struct end *last_told;

static void free_self(struct end *end)
{
    end_free(end);
    last_told = NULL;
}

Test(watch, may_free_itself)
{
    last_told = end_new(readable(), EPOLLIN);
    last_told->then = free_self;
    loop_turn(loop, false);
    cr_assert_null(last_told);
    loop_turn(loop, false);
}

/* The other one's descriptor is closed, and its number is that of a quiet one that `third` watches. */
static struct end *third;

static void reuse_number(struct end *end)
{
    int number = end->other->watch.fd, quiet = unreadable();
    loop_unwatch(loop, &end->other->watch);
    cr_assert_eq(dup3(quiet, number, O_CLOEXEC), number);
    close(quiet);
    third = end_new(number, EPOLLIN);
    end->other->watch.fd = -1;
    end->then = end->other->then = NULL;
}

Test(watch, is_not_told_what_came_for_an_earlier_descriptor_of_the_same_number)
{
    struct end *ends[2];
    two_ready(ends, reuse_number);
    loop_turn(loop, false);
    loop_turn(loop, false);
    cr_assert_eq(third->told, 0);
    cr_assert_eq(ends[0]->told + ends[1]->told, 2, "one of them, in both turns");
    cr_assert_eq(eventfd_write(third->watch.fd, 1), 0);
    loop_turn(loop, false);
    cr_assert_eq(third->told, 1);
    end_free(third);
    end_free(ends[0]);
    end_free(ends[1]);
}

/* The same object, as a stream that is connected anew. */
static void reuse_watch(struct end *end)
{
    struct end *other = end->other;
    loop_unwatch(loop, &other->watch);
    close(other->watch.fd);
    other->watch.fd = unreadable();
    cr_assert(loop_watch(loop, &other->watch, EPOLLIN));
    end->then = other->then = NULL;
}

Test(watch, that_is_used_again_is_not_told_what_came_before)
{
    struct end *ends[2];
    two_ready(ends, reuse_watch);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 1);
    end_free(ends[0]);
    end_free(ends[1]);
}

/* Detached and attached again, as a stream does: it is told, but by the next poll. */
static void watch_other_anew(struct end *end)
{
    loop_unwatch(loop, &end->other->watch);
    cr_assert(loop_watch(loop, &end->other->watch, EPOLLIN));
    end->then = end->other->then = NULL;
}

Test(watch, that_begins_anew_is_told_by_the_next_poll)
{
    struct end *ends[2];
    two_ready(ends, watch_other_anew);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 1);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 3);
    end_free(ends[0]);
    end_free(ends[1]);
}

/* Both are readable and writable; the first takes the second's wish to read. */
static void only_write(struct end *end)
{
    cr_assert(loop_watch(loop, &end->other->watch, EPOLLOUT));
    end->then = end->other->then = NULL;
}

static void do_not_read(struct end *end)
{
    cr_assert(loop_watch(loop, &end->other->watch, EPOLLPRI));
    end->then = end->other->then = NULL;
}

Test(watch, is_not_told_what_it_does_not_want_any_more)
{
    struct end *ends[2];
    two_ready(ends, only_write);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 1, "that it is writable the next poll tells");
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 3);
    cr_assert_eq(ends[0]->events + ends[1]->events, EPOLLIN + EPOLLOUT);
    end_free(ends[0]);
    end_free(ends[1]);

    two_ready(ends, do_not_read);
    loop_turn(loop, false);
    loop_turn(loop, false);
    cr_assert_eq(ends[0]->told + ends[1]->told, 2, "one of them, in both turns");
    end_free(ends[0]);
    end_free(ends[1]);
}

static void tcp_like_pair(int fds[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
}

Test(watch, sees_a_half_closed_peer_once_when_edge_triggered_and_then_its_end)
{
    int fds[2];
    tcp_like_pair(fds);
    cr_assert_eq(write(fds[1], "x", 1), 1);
    struct end *end = end_new(fds[0], EPOLLRDHUP | EPOLLET);
    loop_turn(loop, false);
    cr_assert_eq(end->told, 0, "bytes are not its business");
    shutdown(fds[1], SHUT_WR);
    loop_turn(loop, true);
    loop_turn(loop, false);
    cr_assert_eq(end->told, 1);
    cr_assert_eq(end->events, EPOLLRDHUP);
    close(fds[1]);
    loop_turn(loop, true);
    cr_assert_eq(end->told, 2);
    cr_assert_eq(end->events & (EPOLLRDHUP | EPOLLHUP), EPOLLRDHUP | EPOLLHUP);
    end_free(end);
}

Test(watch, that_begins_when_the_peer_has_left_is_told)
{
    int fds[2];
    tcp_like_pair(fds);
    struct end *end = end_new(fds[0], EPOLLIN);
    shutdown(fds[1], SHUT_WR);
    cr_assert(loop_watch(loop, &end->watch, EPOLLRDHUP | EPOLLET));
    loop_turn(loop, true);
    cr_assert_eq(end->events, EPOLLRDHUP);
    end_free(end);
    close(fds[1]);
}

Test(watch, is_told_of_errors_that_nobody_asks_for)
{
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    struct end *writer = end_new(fds[1], EPOLLPRI), *reader;
    close(fds[0]);
    loop_turn(loop, true);
    cr_assert_eq(writer->events, EPOLLERR);
    end_free(writer);

    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    reader = end_new(fds[0], EPOLLIN);
    close(fds[1]);
    loop_turn(loop, true);
    cr_assert_eq(reader->events, EPOLLHUP);
    end_free(reader);
}

Test(watch, that_epoll_refuses_is_not_watched)
{
    char path[] = "/tmp/pgstage-watch-XXXXXX";
    struct loop_watch watch = {.ready = on_ready, .fd = mkstemp(path)};
    unlink(path);
    cr_assert_not(loop_watch(loop, &watch, EPOLLIN), "a plain file");
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(watch.events, 0);
    loop_unwatch(loop, &watch); /* harmless */
    close(watch.fd);
}

#define CROWD 700

Test(watch, each_of_a_crowd_gets_its_turn)
{
    static struct end *ends[CROWD];
    for (unsigned i = 0; i < CROWD; i++)
        ends[i] = end_new(readable(), EPOLLIN);
    for (unsigned i = 0; i < 5; i++)
        loop_turn(loop, true);
    for (unsigned i = 0; i < CROWD; i++) {
        cr_assert_geq(ends[i]->told, 1, "%u was not told", i);
        end_free(ends[i]);
    }
}

Test(watch, moves_to_another_loop)
{
    struct loop *second = loop_new(1, NULL);
    struct end *end = end_new(readable(), EPOLLIN);
    loop_unwatch(loop, &end->watch);
    cr_assert(loop_watch(second, &end->watch, EPOLLIN));
    loop_turn(loop, false);
    cr_assert_eq(end->told, 0);
    loop_turn(second, true);
    cr_assert_eq(end->told, 1);
    loop_unwatch(second, &end->watch);
    end_free(end);
    loop_free(second);
}

static volatile sig_atomic_t interruptions;

static void on_alarm(int number)
{
    (void)number;
    interruptions++;
}

Test(watch, a_signal_ends_the_wait_and_nothing_else)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval often = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}};
    struct end *end = end_new(unreadable(), EPOLLIN);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (!interruptions)
        loop_turn(loop, true); /* would wait for ever */
    cr_assert_eq(end->told, 0);
    cr_assert_eq(eventfd_write(end->watch.fd, 1), 0);
    loop_turn(loop, true);
    cr_assert_eq(end->told, 1);
    end_free(end);
}
