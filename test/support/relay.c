/*
 * relay: one acceptor thread and one thread for each connection; they end with the process.
 *
 * Each direction of each connection is recorded apart while it runs (`struct way`), so that a text
 * which comes in two reads is found, and a copy of each piece with the last bytes of its way before
 * it goes into the relay's record.
 */
#include "relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "program.h"

#define PIECE 65536
#define OVERLAP 256 /* longer than any text that is looked for */

struct connection {
    struct relay *relay;
    int client;
};

struct way {
    int from, to;
    bool open;
    unsigned char tail[OVERLAP];
    size_t tail_count;
};

static void record(struct relay *relay, struct way *way, const unsigned char *bytes, size_t count,
                   bool sent)
{
    size_t keep, all = way->tail_count + count;

    pthread_mutex_lock(&relay->mutex);
    if (relay->size - relay->count < all + 1) {
        relay->size = 2 * relay->size + all + PIECE;
        relay->bytes = realloc(relay->bytes, relay->size);
        if (!relay->bytes)
            abort();
    }
    memcpy(relay->bytes + relay->count, way->tail, way->tail_count);
    memcpy(relay->bytes + relay->count + way->tail_count, bytes, count);
    keep = all < OVERLAP ? all : OVERLAP;
    memcpy(way->tail, relay->bytes + relay->count + all - keep, keep);
    way->tail_count = keep;
    relay->count += all;
    relay->bytes[relay->count++] = 0xff; /* between pieces of different ways */
    relay->sent += sent ? count : 0;
    pthread_mutex_unlock(&relay->mutex);
}

static bool send_all(int fd, const unsigned char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t done = send(fd, bytes, count, MSG_NOSIGNAL);

        if (done <= 0)
            return false;
        bytes += done;
        count -= (size_t)done;
    }
    return true;
}

static bool pass(struct relay *relay, struct way *way, bool sent)
{
    unsigned char bytes[PIECE];
    ssize_t count = recv(way->from, bytes, sizeof bytes, 0);

    if (count <= 0) {
        way->open = false;
        shutdown(way->to, SHUT_WR);
        return count == 0;
    }
    record(relay, way, bytes, (size_t)count, sent);
    return send_all(way->to, bytes, (size_t)count);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void *connection_main(void *argument)
{
    struct connection *connection = argument;
    struct relay *relay = connection->relay;
    int server = connect_to(atomic_load(&relay->target_port));
    struct way ways[2] = {{.from = connection->client, .to = server, .open = true},
                          {.from = server, .to = connection->client, .open = true}};

    while (server >= 0 && (ways[0].open || ways[1].open)) {
        struct pollfd waits[2] = {{.fd = ways[0].open ? ways[0].from : -1, .events = POLLIN},
                                  {.fd = ways[1].open ? ways[1].from : -1, .events = POLLIN}};

        if (poll(waits, 2, -1) < 0 || (waits[0].revents && !pass(relay, &ways[0], true)) ||
            (waits[1].revents && !pass(relay, &ways[1], false)))
            break;
    }
    if (server >= 0)
        close(server);
    close(connection->client);
    free(connection);
    return NULL;
}

static void *acceptor_main(void *argument)
{
    struct relay *relay = argument;
    int fd, on = 1;

    while ((fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        pthread_t thread;

        if (!connection)
            abort();
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->relay = relay;
        connection->client = fd;
        atomic_fetch_add(&relay->accepted, 1);
        if (pthread_create(&thread, NULL, connection_main, connection) == 0)
            pthread_detach(thread);
    }
    return NULL;
}

struct relay *relay_start(int target_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct relay *relay = calloc(1, sizeof *relay);
    pthread_t thread;
    int on = 1;

    if (!relay)
        abort();
    relay->port = port_take();
    pthread_mutex_init(&relay->mutex, NULL);
    atomic_store(&relay->target_port, target_port);
    relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(relay->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_port = htons((uint16_t)relay->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(relay->listener, (struct sockaddr *)&address, sizeof address) ||
        listen(relay->listener, 64) || pthread_create(&thread, NULL, acceptor_main, relay))
        support_fail("a relay on port %d: %m", relay->port);
    pthread_detach(thread);
    return relay;
}

void relay_turn(struct relay *relay, int target_port)
{
    atomic_store(&relay->target_port, target_port);
}

bool relay_saw_bytes(struct relay *relay, const void *bytes, size_t count)
{
    bool found;

    pthread_mutex_lock(&relay->mutex);
    found = relay->count > 0 && memmem(relay->bytes, relay->count, bytes, count) != NULL;
    pthread_mutex_unlock(&relay->mutex);
    return found;
}

bool relay_saw(struct relay *relay, const char *text)
{
    return relay_saw_bytes(relay, text, strlen(text));
}

size_t relay_count(struct relay *relay)
{
    size_t count;

    pthread_mutex_lock(&relay->mutex);
    count = relay->count;
    pthread_mutex_unlock(&relay->mutex);
    return count;
}

void relay_forget(struct relay *relay)
{
    pthread_mutex_lock(&relay->mutex);
    relay->count = relay->sent = 0;
    pthread_mutex_unlock(&relay->mutex);
}
