/*
 * relay.c: the least that anything between a client and a server can do: each accepted connection
 * gets one of its own to the backend, and bytes are copied both ways. The floor of the benchmark.
 * One thread, one epoll.
 *
 *   relay PORT BACKEND-PORT
 *
 * Prints "ready" when it listens; ends with SIGTERM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 16384

struct link;

/* One end of a link. What came here and the other end did not take waits in `held`; meanwhile this
 * end is not read. */
struct end {
    struct link *link;
    struct end *other;
    int fd;
    uint32_t events;
    uint8_t *held;
    size_t held_bytes, held_sent;
};

struct link {
    struct end ends[2];
    bool over;
    struct link *next; /* of those that end with this turn */
};

static int poller;
static struct link *over;

static void watch(struct end *end, uint32_t wanted)
{
    struct epoll_event event = {.events = wanted, .data.ptr = end};

    if (wanted == end->events)
        return;
    end->events = wanted;
    epoll_ctl(poller, EPOLL_CTL_MOD, end->fd, &event);
}

static void finish(struct link *link)
{
    if (link->over)
        return;
    link->over = true;
    link->next = over;
    over = link;
}

/* Has all gone that waits for the other end? */
static bool drain(struct end *from)
{
    ssize_t sent = send(from->other->fd, from->held + from->held_sent,
                        from->held_bytes - from->held_sent, MSG_NOSIGNAL);

    if (sent < 0 && errno != EAGAIN)
        finish(from->link);
    if (sent > 0)
        from->held_sent += (size_t)sent;
    if (from->held_sent < from->held_bytes)
        return false;
    free(from->held);
    from->held = NULL;
    from->held_bytes = from->held_sent = 0;
    return true;
}

static void copy(struct end *from)
{
    static uint8_t buffer[BUFFER_BYTES];
    ssize_t count = recv(from->fd, buffer, sizeof(buffer), 0), sent;

    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        finish(from->link);
        return;
    }
    sent = send(from->other->fd, buffer, (size_t)count, MSG_NOSIGNAL);
    if (sent == count)
        return;
    if (sent < 0 && errno != EAGAIN) {
        finish(from->link);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    from->held = malloc((size_t)(count - sent));
    if (!from->held)
        abort();
    memcpy(from->held, buffer + sent, (size_t)(count - sent));
    from->held_bytes = (size_t)(count - sent);
    watch(from, from->events & ~(uint32_t)EPOLLIN);
    watch(from->other, from->other->events | EPOLLOUT);
}

static void serve(struct end *end, uint32_t events)
{
    if (end->link->over)
        return;
    if ((events & EPOLLOUT) && (!end->other->held || drain(end->other))) {
        watch(end, end->events & ~(uint32_t)EPOLLOUT);
        watch(end->other, end->other->events | EPOLLIN);
    }
    if (!end->link->over && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && (end->events & EPOLLIN))
        copy(end);
    else if (events & (EPOLLHUP | EPOLLERR))
        finish(end->link);
}

static struct sockaddr_in local_port(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void accept_all(int listener, const struct sockaddr_in *backend)
{
    int fds[2], one = 1;

    while ((fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct link *link = calloc(1, sizeof(*link));

        if (!link)
            abort();
        fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fds[1], (const struct sockaddr *)backend, sizeof(*backend));
        for (int i = 0; i < 2; i++) {
            struct end *end = &link->ends[i];
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};

            setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            *end = (struct end){link, &link->ends[1 - i], fds[i], EPOLLIN, NULL, 0, 0};
            epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &event);
        }
    }
}

static void free_ended(void)
{
    while (over) {
        struct link *link = over;

        over = link->next;
        for (int i = 0; i < 2; i++) {
            close(link->ends[i].fd);
            free(link->ends[i].held);
        }
        free(link);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};
    struct sockaddr_in address, backend;
    struct rlimit limit;
    int listener, one = 1;

    if (argc != 3 || atoi(argv[1]) <= 0 || atoi(argv[2]) <= 0) {
        fprintf(stderr, "usage: relay PORT BACKEND-PORT\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    address = local_port(argv[1]);
    backend = local_port(argv[2]);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event)) {
        perror("relay");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, events, 256, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else
                accept_all(listener, &backend);
        }
        free_ended();
    }
}
