/*
 * fake: one acceptor thread, one thread for each connection; they end with the process.
 */
#include "fake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "program.h"
#include "until.h"

struct connection {
    struct fake *fake;
    struct wire *wire;
};

static void *connection_main(void *argument)
{
    struct connection *connection = argument;

    connection->fake->serve(connection->wire, connection->fake);
    wire_close(connection->wire);
    free(connection);
    return NULL;
}

static void *acceptor_main(void *argument)
{
    struct fake *fake = argument;
    sigset_t pipe_signal;
    int fd;

    /* OpenSSL writes with write(2) to peers that may be gone; the other threads inherit this */
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
    while ((fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        pthread_t thread;

        if (!connection)
            abort();
        connection->fake = fake;
        connection->wire = wire_of(fd);
        atomic_fetch_add(&fake->accepted, 1);
        if (pthread_create(&thread, NULL, connection_main, connection) == 0)
            pthread_detach(thread);
    }
    return NULL;
}

struct fake *fake_start(void (*serve)(struct wire *wire, struct fake *fake), const void *context)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct fake *fake = calloc(1, sizeof *fake);
    pthread_t thread;
    int on = 1;

    if (!fake)
        abort();
    fake->port = port_take();
    fake->serve = serve;
    fake->context = context;
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fake->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_port = htons((uint16_t)fake->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fake->listener, (struct sockaddr *)&address, sizeof address) ||
        listen(fake->listener, 64) || pthread_create(&thread, NULL, acceptor_main, fake))
        support_fail("a fake server on port %d: %m", fake->port);
    pthread_detach(thread);
    return fake;
}

const char *fake_route(const struct fake *fake)
{
    return text_of("host=127.0.0.1 port=%d", fake->port);
}

bool fake_startup(struct wire *wire, char ssl_answer)
{
    for (;;) {
        unsigned char head[8], rest[10000];
        size_t length;

        if (wire_take(wire, head, 8, PATIENCE_MS) < 8)
            return false;
        length = (size_t)head[2] << 8 | head[3];
        if (length == 8 && head[4] == 0x04) { /* SSLRequest, GSSENCRequest */
            wire_write(wire, &ssl_answer, 1);
            if (ssl_answer != 'N')
                return ssl_answer == 'S';
            continue;
        }
        if (length < 8 || length - 8 > sizeof rest)
            return false;
        wire->version = (uint32_t)head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7];
        if (wire_take(wire, rest, length - 8, PATIENCE_MS) != length - 8)
            return false;
        wire->key_bytes = length - 8 < sizeof wire->key ? length - 8 : sizeof wire->key;
        memcpy(wire->key, rest, wire->key_bytes);
        return true;
    }
}

static void parameter(struct wire *wire, const char *name, const char *value)
{
    struct bytes body = {0};

    bytes_add_text(&body, name);
    bytes_add_text(&body, value);
    wire_send(wire, 'S', body.data, body.count);
    free(body.data);
}

void fake_welcome(struct wire *wire)
{
    fake_welcome_with(wire, "\0\0\0\1\0\0\0\2", 8);
}

void fake_welcome_with(struct wire *wire, const void *key, size_t key_bytes)
{
    wire_send(wire, 'R', "\0\0\0\0", 4);
    parameter(wire, "server_version", "15.0 (fake)");
    parameter(wire, "server_encoding", "UTF8");
    parameter(wire, "client_encoding", "UTF8");
    parameter(wire, "DateStyle", "ISO, MDY");
    parameter(wire, "TimeZone", "UTC");
    parameter(wire, "integer_datetimes", "on");
    parameter(wire, "standard_conforming_strings", "on");
    wire_send(wire, 'K', key, key_bytes);
    wire_send(wire, 'Z', "I", 1);
}

void fake_answer(struct wire *wire, const char *value)
{
    struct wire_message message;

    while (wire_read(wire, &message, 1000 * TEST_LIMIT_S)) {
        struct bytes row = {0};
        char type = message.type;

        free(message.body);
        if (type == 'X')
            return;
        if (type != 'Q')
            continue;
        wire_send(wire, 'T', "\0\1v\0\0\0\0\0\0\0\0\0\0\031\377\377\377\377\377\377\0\0", 22);
        bytes_add16(&row, 1);
        bytes_add32(&row, (uint32_t)strlen(value));
        bytes_add(&row, value, strlen(value));
        wire_send(wire, 'D', row.data, row.count);
        free(row.data);
        wire_send(wire, 'C', "SELECT 1", 9);
        wire_send(wire, 'Z', "I", 1);
    }
}

void fake_hang(struct wire *wire)
{
    wire_is_closed(wire, 1000 * TEST_LIMIT_S);
}

void fake_error(struct wire *wire, const char *severity, const char *sqlstate, const char *text)
{
    struct bytes body = {0};

    bytes_add(&body, "S", 1);
    bytes_add_text(&body, severity);
    if (sqlstate) {
        bytes_add(&body, "C", 1);
        bytes_add_text(&body, sqlstate);
    }
    bytes_add(&body, "M", 1);
    bytes_add_text(&body, text);
    bytes_add(&body, "", 1);
    wire_send(wire, 'E', body.data, body.count);
    free(body.data);
}
