/*
 * harness: see the header. Everything runs on the test's own thread.
 */
#include "harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/worker/timer.h"

static void tick(struct loop *loop, struct timer *timer)
{
    (void)loop;
    (void)timer;
}

bool turn_until(struct loop *loop, bool (*done)(void *argument), void *argument)
{
    uint64_t end_us = clock_now_us() + 10 * CLOCK_SECOND;
    struct timer timer = {.fire = tick};
    bool is_done;
    while (!(is_done = done(argument)) && clock_now_us() < end_us) {
        timer_set(loop, &timer, clock_now_us() + 10 * CLOCK_MS);
        loop_turn(loop, true);
    }
    timer_detach(loop, &timer);
    return is_done;
}

unsigned turns_within(struct loop *loop, unsigned milliseconds)
{
    uint64_t end_us = clock_now_us() + milliseconds * CLOCK_MS;
    struct timer timer = {.fire = tick};
    timer_set(loop, &timer, end_us);
    unsigned turns = 0;
    while (clock_now_us() < end_us) {
        loop_turn(loop, true);
        turns++;
    }
    timer_detach(loop, &timer);
    return turns;
}

void settle(struct loop *loop)
{
    for (unsigned i = 0; i < 8; i++)
        loop_turn(loop, false);
}

void peer_read(struct peer *peer)
{
    size_t size;
    uint8_t *bytes = loop_buffer(peer->stream.loop, &size);
    if (peer->read_at_most && peer->read_at_most < size)
        size = peer->read_at_most;
    for (;;) {
        ssize_t count = stream_read(&peer->stream, bytes, size);
        if (count > 0)
            buffer_put(&peer->got, bytes, (size_t)count);
        if (count < 0) {
            peer->ended = true;
            peer->end_error = peer->stream.error;
            stream_pause(&peer->stream);
        }
        if (count <= 0)
            return;
    }
}

static void on_event(struct stream *stream, enum stream_event event)
{
    struct peer *peer = list_entry(stream, struct peer, stream);
    peer->events++;
    switch (event) {
    case STREAM_READABLE:
        peer->readable++;
        if (!peer->lazy)
            peer_read(peer);
        break;
    case STREAM_DRAINED:
        peer->drained++;
        break;
    case STREAM_CONNECTED:
        peer->connected++;
        break;
    case STREAM_SECURED:
        peer->secured++;
        break;
    case STREAM_CLOSED:
        peer->closed++;
        break;
    case STREAM_FAILED:
        peer->failed++;
        stream_problem(stream, peer->problem, sizeof peer->problem);
        break;
    }
    if (peer->then)
        peer->then(peer, event);
}

void peer_init(struct peer *peer, struct loop *loop, int fd)
{
    signal(SIGPIPE, SIG_IGN); /* as the program does */
    *peer = (struct peer){0};
    stream_init(&peer->stream, fd, on_event);
    if (loop)
        check(stream_attach(&peer->stream, loop));
}

bool peer_connect(struct peer *peer, struct loop *loop, const struct address *address)
{
    *peer = (struct peer){0};
    return stream_connect(&peer->stream, loop, address, on_event);
}

void peer_fini(struct peer *peer)
{
    stream_close(&peer->stream);
    buffer_fini(&peer->got);
}

void peers_init(struct peer *a, struct peer *b, struct loop *loop)
{
    int fds[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    peer_init(a, loop, fds[0]);
    peer_init(b, loop, fds[1]);
}

void tcp_pair(int fds[2])
{
    struct address address;
    check(address_parse(&address, "127.0.0.1", 0));
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(listening, &address.any, address.length) == 0 && listen(listening, 1) == 0);
    socklen_t length = sizeof address.ip4;
    check(getsockname(listening, &address.any, &length) == 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(connect(fds[0], &address.any, address.length) == 0);
    fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    check(fds[1] >= 0);
    close(listening);
}

void peers_init_tcp(struct peer *a, struct peer *b, struct loop *loop)
{
    int fds[2];
    tcp_pair(fds);
    peer_init(a, loop, fds[0]);
    peer_init(b, loop, fds[1]);
}

void reset_on_close(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
}

bool peer_is_secured(void *peer)
{
    return ((struct peer *)peer)->secured > 0;
}

bool peer_has_ended(void *peer)
{
    return ((struct peer *)peer)->ended;
}

bool peer_has_failed(void *peer)
{
    return ((struct peer *)peer)->failed > 0;
}

bool peer_has_drained(void *peer)
{
    return ((struct peer *)peer)->drained > 0;
}

bool peer_is_readable(void *peer)
{
    return ((struct peer *)peer)->readable > 0;
}

uint8_t pattern_at(size_t place)
{
    return (uint8_t)((place % 65521) * 31 >> 3);
}

void pattern_fill(uint8_t *bytes, size_t place, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = pattern_at(place + i);
}

size_t pattern_differs(const uint8_t *bytes, size_t length)
{
    size_t i = 0;
    while (i < length && bytes[i] == pattern_at(i))
        i++;
    return i;
}

static char folder[64];

const char *folder_make(void)
{
    strcpy(folder, "/tmp/pgstage-net-XXXXXX");
    check(mkdtemp(folder) != NULL);
    return folder;
}

const char *folder_path(const char *name)
{
    static char paths[8][sizeof folder + 256]; /* 255 is the longest name of a file */
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void folder_remove(void)
{
    DIR *open_folder = opendir(folder);
    if (!open_folder)
        return;
    struct dirent *entry;
    while ((entry = readdir(open_folder))) {
        if (entry->d_name[0] != '.' || strncmp(entry->d_name, ".s.", 3) == 0)
            unlink(folder_path(entry->d_name));
    }
    closedir(open_folder);
    rmdir(folder);
}
