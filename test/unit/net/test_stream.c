/*
 * Plain streams: writing, waiting, pausing, closing, moving.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

static struct loop *loop;
static struct peer a, b;

static void make_pair(void)
{
    loop = loop_new(0, NULL);
    peers_init(&a, &b, loop);
}

static void make_tcp(void)
{
    loop = loop_new(0, NULL);
    peers_init_tcp(&a, &b, loop);
}

static void end(void)
{
    peer_fini(&a);
    peer_fini(&b);
    loop_free(loop);
}

TestSuite(stream, .init = make_pair, .fini = end);
TestSuite(stream_tcp, .init = make_tcp, .fini = end);

static bool b_has(void *count)
{
    return b.got.length >= *(size_t *)count;
}

static bool a_has(void *count)
{
    return a.got.length >= *(size_t *)count;
}

static bool b_gets(size_t count)
{
    return turn_until(loop, b_has, &count);
}

/* Writes the pattern from a until some of it waits; how much that was. */
static size_t write_until_queued(void)
{
    uint8_t bytes[10000];
    size_t place = 0;
    enum stream_result result = STREAM_DONE;
    while (result == STREAM_DONE && place < 64 * 1000 * 1000) {
        pattern_fill(bytes, place, sizeof bytes);
        result = stream_write(&a.stream, bytes, sizeof bytes);
        place += sizeof bytes;
    }
    cr_assert_eq(result, STREAM_QUEUED);
    return place;
}

Test(stream, what_one_side_writes_the_other_reads)
{
    cr_assert_eq(stream_write(&a.stream, "hello", 5), STREAM_DONE);
    cr_assert(b_gets(5));
    cr_assert_eq(memcmp(b.got.data, "hello", 5), 0);
    cr_assert_null(a.stream.output);
}

Test(stream, is_small_while_idle)
{
    cr_assert_leq(sizeof(struct stream), 136);
    settle(loop);
    cr_assert_eq(a.events + b.events, 0);
}

Test(stream, an_empty_write_is_done)
{
    cr_assert_eq(stream_write(&a.stream, "", 0), STREAM_DONE);
    cr_assert_eq(stream_writev(&a.stream, NULL, 0), STREAM_DONE);
    settle(loop);
    cr_assert_eq(b.events, 0);
}

Test(stream, what_the_socket_does_not_take_is_drained_when_the_reader_comes)
{
    b.lazy = true;
    stream_pause(&b.stream);
    size_t written = write_until_queued();
    cr_assert_gt(stream_queued_bytes(&a.stream), 0);
    settle(loop);
    cr_assert_eq(a.drained, 0);

    b.lazy = false;
    stream_resume(&b.stream);
    cr_assert(b_gets(written));
    cr_assert(turn_until(loop, peer_has_drained, &a));
    settle(loop);
    cr_assert_eq(a.drained, 1);
    cr_assert_eq(b.got.length, written);
    cr_assert_eq(pattern_differs(b.got.data, written), written);
    cr_assert_null(a.stream.output, "an idle stream owns no buffer");
}

Test(stream, later_writes_stay_behind_what_waits)
{
    stream_pause(&b.stream);
    size_t place = write_until_queued();
    uint8_t bytes[3000];
    for (unsigned i = 0; i < 400; i++) {
        size_t count = 1 + i * 7 % sizeof bytes;
        pattern_fill(bytes, place, count);
        struct iovec pieces[3] = {{bytes, count / 3}, {bytes + count / 3, 0}};
        pieces[2] = (struct iovec){bytes + count / 3, count - count / 3};
        cr_assert_eq(stream_writev(&a.stream, pieces, 3), STREAM_QUEUED);
        place += count;
    }
    stream_resume(&b.stream);
    cr_assert(b_gets(place));
    cr_assert_eq(pattern_differs(b.got.data, place), place);
}

Test(stream, many_pieces_arrive_in_order)
{
    static uint8_t bytes[300 * 50];
    struct iovec pieces[300];
    pattern_fill(bytes, 0, sizeof bytes);
    size_t place = 0;
    for (size_t i = 0; i < 300; i++) {
        size_t count = i % 5 == 0 ? 0 : i % 50;
        pieces[i] = (struct iovec){bytes + place, count};
        place += count;
    }
    cr_assert_eq(stream_writev(&a.stream, pieces, 300), STREAM_DONE);
    cr_assert(b_gets(place));
    cr_assert_eq(pattern_differs(b.got.data, place), place);
}

Test(stream, a_paused_stream_is_not_readable_until_resumed)
{
    stream_pause(&b.stream);
    stream_write(&a.stream, "x", 1);
    settle(loop);
    cr_assert_eq(b.events, 0);
    stream_resume(&b.stream);
    cr_assert(b_gets(1));
}

Test(stream, pausing_and_resuming_without_bytes_leaves_epoll_alone)
{
    uint32_t before = b.stream.watch.events;
    stream_pause(&b.stream);
    cr_assert_eq(b.stream.watch.events, before);
    stream_resume(&b.stream);
    cr_assert_eq(b.stream.watch.events, before);
}

Test(stream, bytes_for_a_paused_stream_do_not_spin)
{
    stream_pause(&b.stream);
    stream_write(&a.stream, "x", 1);
    cr_assert_lt(turns_within(loop, 50), 50);
    stream_write(&a.stream, "y", 1);
    cr_assert_lt(turns_within(loop, 50), 50);
}

Test(stream, a_peer_that_leaves_while_reading_is_paused_is_seen_once)
{
    stream_pause(&b.stream);
    stream_write(&a.stream, "last", 4);
    settle(loop);
    stream_close(&a.stream);
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(b.closed, 1);
    cr_assert_eq(b.events, 1);

    stream_resume(&b.stream); /* what it had said can still be read */
    cr_assert(turn_until(loop, peer_has_ended, &b));
    cr_assert_eq(b.got.length, 4);
    cr_assert_eq(b.end_error, 0);
}

Test(stream_tcp, a_reset_while_reading_is_paused_is_seen_and_does_not_spin)
{
    stream_pause(&b.stream);
    stream_write(&a.stream, "x", 1);
    settle(loop);
    reset_on_close(a.stream.watch.fd);
    stream_close(&a.stream);
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(b.closed, 1);
}

Test(stream_tcp, a_half_closed_peer_is_seen_while_paused)
{
    stream_pause(&b.stream);
    shutdown(a.stream.watch.fd, SHUT_WR);
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(b.closed, 1);
    cr_assert_eq(stream_write(&b.stream, "answer", 6), STREAM_DONE);
    settle(loop);
    reset_on_close(a.stream.watch.fd); /* news of the same kind are not told again */
    stream_close(&a.stream);
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(b.closed, 1);
}

Test(stream_tcp, the_end_is_told_from_a_reset)
{
    stream_close(&a.stream);
    cr_assert(turn_until(loop, peer_has_ended, &b));
    cr_assert_eq(b.end_error, 0);

    struct peer c, d;
    peers_init_tcp(&c, &d, loop);
    reset_on_close(c.stream.watch.fd);
    stream_close(&c.stream);
    cr_assert(turn_until(loop, peer_has_ended, &d));
    cr_assert_eq(d.end_error, ECONNRESET);
    peer_fini(&d);
}

Test(stream_tcp, last_words_can_be_read_after_a_write_has_failed)
{
    b.lazy = true;
    stream_write(&b.stream, "unread", 6);
    stream_write(&a.stream, "FATAL", 5);
    stream_pause(&b.stream);
    stream_close(&a.stream); /* with bytes unread: a reset */
    enum stream_result result = STREAM_DONE;
    for (unsigned i = 0; i < 10 && result == STREAM_DONE; i++) {
        result = stream_write(&b.stream, "more", 4);
        turns_within(loop, 5);
    }
    cr_assert_eq(result, STREAM_BROKEN);
    cr_assert_eq(stream_write(&b.stream, "x", 1), STREAM_BROKEN);
    peer_read(&b);
    cr_assert_eq(b.got.length, 5);
    cr_assert(b.ended);
}

/* A host that is cut off must not get the rest of a query when the way is open again. */
Test(stream_tcp, what_an_aborted_stream_has_not_delivered_is_dropped)
{
    stream_pause(&b.stream);
    (void)write_until_queued();
    stream_abort(&a.stream);
    stream_close(&a.stream);
    stream_resume(&b.stream);
    cr_assert(turn_until(loop, peer_has_ended, &b));
    cr_assert_eq(b.end_error, ECONNRESET);
}

Test(stream_tcp, a_queued_write_that_fails_is_told)
{
    stream_pause(&b.stream);
    write_until_queued();
    stream_pause(&a.stream);
    settle(loop);
    reset_on_close(b.stream.watch.fd);
    stream_close(&b.stream);
    cr_assert(turn_until(loop, peer_has_failed, &a));
    cr_assert_eq(stream_write(&a.stream, "x", 1), STREAM_BROKEN);
    cr_assert_eq(stream_queued_bytes(&a.stream), 0);
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(a.failed, 1);
}

Test(stream, corked_writes_leave_as_one)
{
    int fds[2];
    struct peer c;
    char bytes[64];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    peer_init(&c, loop, fds[0]);
    stream_cork(&c.stream);
    cr_assert_eq(stream_write(&c.stream, "one ", 4), STREAM_DONE);
    cr_assert_eq(stream_write(&c.stream, "two", 3), STREAM_DONE);
    settle(loop);
    cr_assert_eq(recv(fds[1], bytes, sizeof bytes, MSG_DONTWAIT), -1);
    cr_assert_eq(stream_uncork(&c.stream), STREAM_DONE);
    cr_assert_eq(recv(fds[1], bytes, sizeof bytes, MSG_DONTWAIT), 7);
    cr_assert_null(c.stream.output);
    peer_fini(&c);
    close(fds[1]);
}

Test(stream, pieces_leave_as_one)
{
    int fds[2];
    struct peer c;
    char bytes[64];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    peer_init(&c, loop, fds[0]);
    struct iovec pieces[] = {{"one ", 4}, {"two", 3}};
    cr_assert_eq(stream_writev(&c.stream, pieces, 2), STREAM_DONE);
    cr_assert_eq(recv(fds[1], bytes, sizeof bytes, MSG_DONTWAIT), 7);
    peer_fini(&c);
    close(fds[1]);
}

Test(stream, uncorking_a_full_socket_queues_and_drains)
{
    stream_pause(&b.stream);
    size_t place = write_until_queued();
    uint8_t bytes[500];
    pattern_fill(bytes, place, sizeof bytes);
    stream_cork(&a.stream);
    cr_assert_eq(stream_write(&a.stream, bytes, sizeof bytes), STREAM_QUEUED);
    cr_assert_eq(stream_uncork(&a.stream), STREAM_QUEUED);
    stream_resume(&b.stream);
    cr_assert(b_gets(place + sizeof bytes));
    cr_assert_eq(pattern_differs(b.got.data, b.got.length), b.got.length);
}

Test(stream, peeking_consumes_nothing)
{
    char bytes[4];
    cr_assert_eq(stream_peek(&b.stream, bytes, sizeof bytes), 0);
    stream_write(&a.stream, "ab", 2);
    cr_assert_eq(stream_peek(&b.stream, bytes, sizeof bytes), 2);
    cr_assert_eq(stream_peek(&b.stream, bytes, 1), 1);
    cr_assert(b_gets(2));
    stream_close(&a.stream);
    cr_assert_eq(stream_peek(&b.stream, bytes, sizeof bytes), -1);
}

static void close_both(struct peer *peer, enum stream_event event)
{
    (void)peer;
    (void)event;
    stream_close(&a.stream);
    stream_close(&b.stream);
}

Test(stream, closing_in_a_callback_silences_all_that_was_closed)
{
    a.lazy = b.lazy = true;
    a.then = b.then = close_both;
    stream_write(&a.stream, "x", 1);
    stream_write(&b.stream, "x", 1);
    settle(loop);
    cr_assert_eq(a.events + b.events, 1, "the second event of the same turn must not come");
    cr_assert_not(stream_is_open(&a.stream));
    stream_close(&a.stream); /* harmless */
}

Test(stream, what_was_put_off_does_not_come_after_closing)
{
    stream_read_later(&a.stream);
    stream_read_later(&b.stream);
    stream_close(&a.stream);
    settle(loop);
    cr_assert_eq(a.events, 0);
    cr_assert_eq(b.readable, 1);
}

Test(stream, reading_later_waits_while_paused)
{
    stream_read_later(&b.stream);
    stream_pause(&b.stream);
    settle(loop);
    cr_assert_eq(b.readable, 0);
    stream_resume(&b.stream);
    settle(loop);
    cr_assert_eq(b.readable, 1);
}

Test(stream, a_closed_stream_refuses_everything)
{
    char bytes[4];
    stream_close(&a.stream);
    cr_assert_eq(stream_write(&a.stream, "x", 1), STREAM_BROKEN);
    cr_assert_eq(stream_read(&a.stream, bytes, sizeof bytes), -1);
    struct stream zeroed = {0};
    cr_assert_not(stream_is_open(&zeroed));
    stream_close(&zeroed);
}

Test(stream, moves_to_another_loop_with_what_was_not_read)
{
    struct loop *second = loop_new(1, NULL);
    stream_write(&a.stream, "before", 6);
    stream_detach(&b.stream);
    settle(loop);
    cr_assert_eq(b.events, 0);
    cr_assert(stream_attach(&b.stream, second));
    stream_write(&a.stream, " after", 6);
    cr_assert(turn_until(second, b_has, &(size_t){12}));
    cr_assert_eq(memcmp(b.got.data, "before after", 12), 0);
    settle(loop);
    peer_fini(&b);
    loop_free(second);
}

Test(stream, a_put_off_reading_moves_along)
{
    struct loop *second = loop_new(1, NULL);
    stream_read_later(&b.stream);
    stream_detach(&b.stream);
    settle(loop);
    cr_assert_eq(b.readable, 0);
    cr_assert(stream_attach(&b.stream, second));
    settle(second);
    cr_assert_eq(b.readable, 1);
    peer_fini(&b);
    loop_free(second);
}

/* ---- what epoll says once only ---- */

/* One read for each event, of one byte, or of as much as there is: */
static void read_once(struct peer *peer, size_t size)
{
    char bytes[100];
    ssize_t count = stream_read(&peer->stream, bytes, size);
    if (count > 0)
        buffer_put(&peer->got, bytes, (size_t)count);
    peer->ended = count < 0;
    if (peer->ended)
        stream_pause(&peer->stream);
}

static void read_a_byte(struct peer *peer, enum stream_event event)
{
    if (event == STREAM_READABLE)
        read_once(peer, 1);
}

static void read_much(struct peer *peer, enum stream_event event)
{
    if (event == STREAM_READABLE)
        read_once(peer, 100);
}

static void read_a_byte_and_pause(struct peer *peer, enum stream_event event)
{
    read_a_byte(peer, event);
    stream_pause(&peer->stream);
}

static void read_much_and_pause(struct peer *peer, enum stream_event event)
{
    read_much(peer, event);
    stream_pause(&peer->stream);
}

/* Both kinds, since Unix sockets and TCP wake epoll by code of their own. */
static void each_kind(void (*promise)(void))
{
    promise();
    peer_fini(&a);
    peer_fini(&b);
    peers_init_tcp(&a, &b, loop);
    promise();
}

static void rest_is_told(void)
{
    b.lazy = true;
    b.then = read_a_byte;
    stream_write(&a.stream, "hello", 5);
    cr_assert(b_gets(5));
    cr_assert_lt(turns_within(loop, 50), 50);
    stream_write(&a.stream, "again", 5);
    stream_close(&a.stream);
    cr_assert(b_gets(10));
    cr_assert(turn_until(loop, peer_has_ended, &b));
}

Test(stream, an_owner_that_reads_a_little_is_told_of_the_rest)
{
    each_kind(rest_is_told);
}

static void nothing_read_is_told(void)
{
    b.lazy = true;
    stream_write(&a.stream, "x", 1);
    for (int i = 0; i < 3; i++) {
        unsigned before = b.readable;
        cr_assert(turn_until(loop, peer_is_readable, &b));
        settle(loop);
        cr_assert_gt(b.readable, before);
    }
    b.lazy = false;
    cr_assert(b_gets(1));
    cr_assert_lt(turns_within(loop, 50), 50);
}

Test(stream, an_owner_that_reads_nothing_is_told_again)
{
    each_kind(nothing_read_is_told);
}

static void last_words_and_end(void)
{
    b.lazy = true;
    b.then = read_much;
    stream_write(&a.stream, "last", 4);
    stream_close(&a.stream);
    cr_assert(turn_until(loop, peer_has_ended, &b));
    cr_assert_eq(b.got.length, 4);
    cr_assert_lt(turns_within(loop, 50), 50);
}

Test(stream, last_words_and_the_end_in_one_event_are_both_told)
{
    each_kind(last_words_and_end);
}

static void rest_is_told_when_resumed(void)
{
    b.lazy = true;
    b.then = read_a_byte_and_pause;
    stream_write(&a.stream, "abc", 3);
    for (size_t i = 1; i <= 3; i++) {
        cr_assert(b_gets(i));
        cr_assert_lt(turns_within(loop, 20), 20);
        cr_assert_eq(b.got.length, i);
        stream_resume(&b.stream);
    }
    settle(loop);
    cr_assert_eq(b.closed, 0);
}

Test(stream, what_a_pause_left_is_told_when_it_is_over)
{
    each_kind(rest_is_told_when_resumed);
}

static void end_is_seen_while_paused(void)
{
    b.lazy = true;
    b.then = read_much_and_pause;
    stream_write(&a.stream, "last", 4);
    stream_close(&a.stream);
    cr_assert(b_gets(4));
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(b.closed, 1, "the end had come with the bytes");
    cr_assert_eq(b.readable, 1);
    stream_resume(&b.stream);
    cr_assert(turn_until(loop, peer_has_ended, &b));
}

Test(stream, an_end_that_came_with_what_was_read_is_seen_while_paused)
{
    each_kind(end_is_seen_while_paused);
}

static void unasked_reading(void)
{
    b.lazy = true;
    stream_pause(&b.stream);
    stream_write(&a.stream, "abc", 3);
    settle(loop);
    stream_resume(&b.stream);
    read_once(&b, 1); /* before anything was told */
    b.lazy = false;
    cr_assert(b_gets(3));
}

Test(stream, reading_before_being_told_loses_no_event)
{
    each_kind(unasked_reading);
}

Test(stream, what_was_put_off_and_is_not_read_then_does_not_spin)
{
    b.lazy = true;
    stream_read_later(&b.stream);
    cr_assert_lt(turns_within(loop, 50), 50);
    cr_assert_eq(b.readable, 1);
}

static void read_soon(struct peer *peer, enum stream_event event)
{
    if (event == STREAM_READABLE)
        stream_read_soon(&peer->stream);
}

static void reading_soon(void)
{
    b.lazy = true;
    b.then = read_soon;
    stream_write(&a.stream, "abc", 3);
    cr_assert(turn_until(loop, peer_is_readable, &b));
    settle(loop);
    cr_assert_eq(b.readable, 1, "the owner was believed");
    read_once(&b, 1);
    b.then = read_a_byte;
    stream_reread(&b.stream);
    cr_assert(b_gets(3));
    stream_reread(&b.stream);
    cr_assert_lt(turns_within(loop, 50), 50);
}

Test(stream, an_owner_that_reads_soon_is_told_afterwards_of_what_it_left)
{
    each_kind(reading_soon);
}

static struct loop *destination;

static void move_away(struct peer *peer, enum stream_event event)
{
    (void)event;
    peer->then = NULL;
    peer->lazy = false;
    read_once(peer, 1);
    stream_detach(&peer->stream);
}

static void moving(void)
{
    destination = loop_new(1, NULL);
    b.lazy = true;
    b.then = move_away;
    stream_write(&a.stream, "abc", 3);
    stream_close(&a.stream);
    cr_assert(turn_until(loop, peer_is_readable, &b));
    settle(loop);
    cr_assert_eq(b.got.length, 1, "it may be another thread's");
    cr_assert_eq(b.stream.later, 0, "it may be another thread's");
    cr_assert(stream_attach(&b.stream, destination));
    cr_assert(turn_until(destination, peer_has_ended, &b));
    cr_assert_eq(b.got.length, 3);
    peer_fini(&b);
    loop_free(destination);
}

Test(stream, what_is_left_when_it_moves_in_a_callback_is_told_there)
{
    each_kind(moving);
}

static void blocked_and_readable(void)
{
    a.lazy = true;
    a.then = read_a_byte;
    stream_pause(&b.stream);
    size_t written = write_until_queued();
    stream_write(&b.stream, "abc", 3);
    cr_assert(turn_until(loop, a_has, &(size_t){3}));
    stream_resume(&b.stream);
    cr_assert(b_gets(written));
    cr_assert(turn_until(loop, peer_has_drained, &a));
    cr_assert_lt(turns_within(loop, 50), 50);
}

Test(stream, a_stream_that_waits_for_room_is_read_meanwhile)
{
    each_kind(blocked_and_readable);
}

static int listen_at(struct address *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(address_parse(address, "127.0.0.1", 0));
    cr_assert_eq(bind(fd, &address->any, address->length), 0);
    socklen_t length = sizeof address->ip4;
    cr_assert_eq(getsockname(fd, &address->any, &length), 0);
    return fd;
}

static bool is_connected(void *peer)
{
    return ((struct peer *)peer)->connected > 0;
}

Test(stream, connects_and_sends_what_was_written_before)
{
    struct address address, there, here;
    struct peer c;
    int fd = listen_at(&address);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert(peer_connect(&c, loop, &address));
    cr_assert_eq(c.events, 0, "never from inside the call");
    stream_write(&c.stream, "early", 5);
    cr_assert(turn_until(loop, is_connected, &c));
    cr_assert(stream_peer_address(&c.stream, &there));
    cr_assert(address_equal(&there, &address));
    cr_assert(stream_local_address(&c.stream, &here));
    cr_assert_neq(address_port(&here), 0);
    int accepted = accept(fd, NULL, NULL);
    char bytes[8];
    cr_assert_eq(recv(accepted, bytes, sizeof bytes, 0), 5);
    settle(loop);
    cr_assert_eq(c.connected, 1);
    peer_fini(&c);
    close(accepted);
    close(fd);
}

static void fill_when_connected(struct peer *peer, enum stream_event event)
{
    static uint8_t bytes[100000];
    if (event != STREAM_CONNECTED)
        return;
    enum stream_result result;
    do {
        result = stream_write(&peer->stream, bytes, sizeof bytes);
    } while (result == STREAM_DONE);
    cr_assert_eq(result, STREAM_QUEUED);
}

Test(stream, is_not_drained_while_a_later_write_waits)
{
    struct address address;
    struct peer c, d;
    int fd = listen_at(&address);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert(peer_connect(&c, loop, &address));
    c.then = fill_when_connected;
    stream_write(&c.stream, "early", 5); /* drained before the callback fills the socket */
    cr_assert(turn_until(loop, is_connected, &c));
    settle(loop);
    cr_assert_eq(c.drained, 0);
    peer_init(&d, loop, accept(fd, NULL, NULL));
    cr_assert(turn_until(loop, peer_has_drained, &c));
    settle(loop);
    cr_assert_eq(c.drained, 1);
    peer_fini(&c);
    peer_fini(&d);
    close(fd);
}

Test(stream, a_refused_connection_fails_with_its_reason)
{
    struct address address;
    struct peer c;
    int fd = listen_at(&address); /* bound, so nobody else gets the port, but not listening */
    if (peer_connect(&c, loop, &address))
        cr_assert(turn_until(loop, peer_has_failed, &c));
    cr_assert_eq(c.stream.error, ECONNREFUSED);
    char text[64];
    stream_problem(&c.stream, text, sizeof text);
    cr_assert_str_eq(text, strerror(ECONNREFUSED));
    cr_assert_lt(turns_within(loop, 20), 20);
    cr_assert_leq(c.failed, 1);
    peer_fini(&c);
    close(fd);
}

Test(stream, a_missing_unix_socket_fails_at_once)
{
    struct address address;
    struct peer c;
    cr_assert(address_local(&address, "/nonexistent", 1));
    cr_assert_not(peer_connect(&c, loop, &address));
    cr_assert_eq(errno, ENOENT);
    cr_assert_not(stream_is_open(&c.stream));
}

Test(stream, says_why_there_is_no_socket)
{
    struct address address;
    struct peer c;
    struct rlimit limit, none;
    int fd = listen_at(&address);
    char text[64];
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){0, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool begun = peer_connect(&c, loop, &address);
    int error = errno;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_not(begun);
    cr_assert_eq(error, EMFILE);
    cr_assert_str_eq(stream_problem(&c.stream, text, sizeof text), strerror(EMFILE));
    close(fd);
}

static void connect_again(struct peer *peer, enum stream_event event)
{
    if (event != STREAM_FAILED)
        return;
    stream_close(&peer->stream);
    struct address *address = peer->argument;
    peer->then = NULL;
    cr_assert(stream_connect(&peer->stream, loop, address, peer->stream.on_event));
}

Test(stream, another_address_may_be_tried_inside_the_failure)
{
    struct address dead, alive;
    struct peer c;
    int first = listen_at(&dead), second = listen_at(&alive);
    cr_assert_eq(listen(second, 1), 0);
    cr_assert(peer_connect(&c, loop, &dead));
    c.then = connect_again;
    c.argument = &alive;
    cr_assert(turn_until(loop, is_connected, &c));
    cr_assert_eq(c.failed, 1);
    peer_fini(&c);
    close(first);
    close(second);
}

Test(stream_tcp, is_tuned)
{
    struct tuning tuning = {.keepalive = true,
                            .keepidle_s = 61,
                            .keepintvl_s = 7,
                            .keepcnt = 3,
                            .user_timeout_ms = 4321,
                            .socket_buffer_bytes = 50000};
    stream_tune(&a.stream, &tuning);
    const struct {
        int level, name, expected;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},         {IPPROTO_TCP, TCP_KEEPIDLE, 61},
                   {IPPROTO_TCP, TCP_KEEPINTVL, 7},       {IPPROTO_TCP, TCP_KEEPCNT, 3},
                   {IPPROTO_TCP, TCP_USER_TIMEOUT, 4321}, {SOL_SOCKET, SO_SNDBUF, 100000},
                   {IPPROTO_TCP, TCP_NODELAY, 1}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int value = 0;
        socklen_t size = sizeof value;
        cr_assert_eq(
            getsockopt(a.stream.watch.fd, options[i].level, options[i].name, &value, &size), 0);
        cr_assert_eq(value, options[i].expected, "option %zu is %d", i, value);
    }
}
