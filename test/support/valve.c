/*
 * valve: an acceptor thread, and one thread for each connection.
 *
 *   client ── connection_main: reads only while the valve lets it ── server
 *
 * A shut valve leaves the bytes in the kernel's buffers: nothing is lost, it only does not come.
 * The threads look at the state every few milliseconds instead of being woken, which is exact
 * enough for tests and keeps this free of locks.
 */
#include "valve.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "program.h"
#include "until.h"

#define LOOK_MS 5

struct passage {
    struct valve *valve;
    long cuts; /* of the valve, when this one began */
    int client;
};

static int state_of(struct valve *valve)
{
    return atomic_load(&valve->state);
}

/* Cut since it began; the valve may be open again by now. */
static bool is_cut(const struct passage *passage)
{
    return atomic_load(&passage->valve->cuts) != passage->cuts;
}

static int socket_to(const char *host, int port, bool listens)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    inet_pton(AF_INET, host, &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (listens ? bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 128)
                : connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Lets a piece through; false at the end of this way. */
static bool pass(struct valve *valve, int from, int to)
{
    char bytes[65536];
    ssize_t count = recv(from, bytes, sizeof bytes, 0), done = 0, piece;

    if (count <= 0) {
        shutdown(to, SHUT_WR);
        return false;
    }
    if (state_of(valve) == VALVE_SLOW)
        pause_ms(atomic_load(&valve->delay_ms));
    for (; done < count; done += piece) {
        piece = send(to, bytes + done, (size_t)(count - done), MSG_NOSIGNAL);
        if (piece <= 0)
            return false;
    }
    atomic_fetch_add(&valve->passed_bytes, count);
    return true;
}

static void cut(int fd)
{
    struct linger now = {.l_onoff = 1};

    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
    }
}

static void carry(const struct passage *passage, int client, int server)
{
    struct valve *valve = passage->valve;
    bool open[2] = {true, true};

    while ((open[0] || open[1]) && !is_cut(passage)) {
        struct pollfd waits[2] = {{.fd = open[0] ? client : -1, .events = POLLIN},
                                  {.fd = open[1] ? server : -1, .events = POLLIN}};

        if (state_of(valve) == VALVE_SHUT) {
            pause_ms(LOOK_MS);
            continue;
        }
        if (poll(waits, 2, LOOK_MS) < 0)
            break;
        if (state_of(valve) == VALVE_SHUT)
            continue;
        if (waits[0].revents && !pass(valve, client, server))
            open[0] = false;
        if (waits[1].revents && !pass(valve, server, client))
            open[1] = false;
    }
}

static void *passage_main(void *argument)
{
    struct passage *passage = argument;
    struct valve *valve = passage->valve;
    int server = -1;

    while (state_of(valve) == VALVE_SHUT && !is_cut(passage))
        pause_ms(LOOK_MS);
    if (!is_cut(passage))
        server = socket_to(valve->target_address, atomic_load(&valve->target_port), false);
    if (server >= 0)
        carry(passage, passage->client, server);
    if (is_cut(passage)) {
        cut(server);
        cut(passage->client);
    } else {
        if (server >= 0)
            close(server);
        close(passage->client);
    }
    free(passage);
    return NULL;
}

static void take(struct valve *valve, int fd, long cuts)
{
    struct passage *passage = calloc(1, sizeof *passage);
    pthread_t thread;
    int on = 1;

    if (!passage)
        abort();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    passage->valve = valve;
    passage->cuts = cuts;
    passage->client = fd;
    atomic_fetch_add(&valve->accepted, 1);
    if (pthread_create(&thread, NULL, passage_main, passage) == 0)
        pthread_detach(thread);
}

static void *acceptor_main(void *argument)
{
    struct valve *valve = argument;

    for (;;) {
        struct pollfd wait = {.fd = valve->listener, .events = POLLIN};
        /* before the state: who is accepted while it refuses is cut, too */
        long cuts = atomic_load(&valve->cuts);
        int fd;

        if (state_of(valve) == VALVE_REFUSE && valve->listener >= 0) {
            close(valve->listener);
            valve->listener = -1;
        } else if (state_of(valve) != VALVE_REFUSE && valve->listener < 0) {
            valve->listener = socket_to("127.0.0.1", valve->port, true);
        }
        atomic_store(&valve->listening, valve->listener >= 0);
        if (poll(&wait, 1, LOOK_MS) > 0 &&
            (fd = accept4(valve->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
            take(valve, fd, cuts);
    }
    return NULL;
}

struct valve *valve_start(const char *target_address, int target_port)
{
    struct valve *valve = calloc(1, sizeof *valve);
    pthread_t thread;

    if (!valve)
        abort();
    valve->port = port_take();
    valve->target_address = target_address;
    valve->target_port = target_port;
    valve->listener = socket_to("127.0.0.1", valve->port, true);
    valve->listening = 1;
    if (valve->listener < 0 || pthread_create(&thread, NULL, acceptor_main, valve))
        support_fail("a valve on port %d: %m", valve->port);
    pthread_detach(thread);
    return valve;
}

void valve_turn(struct valve *valve, enum valve_state state, int delay_ms)
{
    atomic_store(&valve->delay_ms, delay_ms);
    atomic_store(&valve->state, state);
    if (state == VALVE_REFUSE)
        atomic_fetch_add(&valve->cuts, 1);
    if (!until(atomic_load(&valve->listening) == (state != VALVE_REFUSE), PATIENCE_MS))
        support_fail("the valve on port %d does not turn", valve->port);
}
