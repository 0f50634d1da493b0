/*
 * generator.c: keeps N connections busy (each asks again as soon as it is answered) and counts.
 *
 *   generator [--host A] --port P --mode M --clients N [--seconds S | --transactions T] …
 *
 * Modes: simple (SELECT 1), extended (unnamed Parse, Bind, Describe, Execute, Sync), prepared (the
 * statement was named and parsed once), bulk (an answer of --bytes), copy (COPY FROM STDIN of
 * --bytes), login (connect, log in, leave), idle (log in and stay until standard input ends).
 *
 * Prints "ready" when all have logged in, and at the end one line of JSON. An error that a server
 * reports, or a connection that ends, is counted and makes the exit status 1.
 */
#include "generator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

#define READ_BYTES 65536
#define COPY_PIECE_BYTES 32768
#define BODY_KEPT_BYTES 16384

static struct plan plan = {.host = "127.0.0.1",
                           .port = 6432,
                           .user = "bench",
                           .database = "bench",
                           .password = "bench",
                           .mode = "simple",
                           .clients = 1,
                           .seconds = 0,
                           .warm_seconds = 0.2,
                           .bytes = 100 << 20,
                           .at_once = 64};

static struct sockaddr_in address;
static SSL_CTX *tls;
static int poller;
static struct connection *connections;
static struct histogram latencies;
static uint64_t done, errors, received_bytes, sent_bytes, counted_from_us, began_us, ended_us;
static int logged_in, logging_in, next_to_open, alive;
static bool counting, ending, is_login, is_idle;

/* The messages of each mode, made once. */
static struct buffer query, query_prepared, parse_prepared, copy_piece, copy_done, terminate, burst;

static uint64_t now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* ---- messages ---- */

static void put_bind(struct buffer *out, const char *statement)
{
    size_t begin = message_begin(out, 'B');

    buffer_put_string(out, "");
    buffer_put_string(out, statement);
    buffer_put_u16(out, 0);
    buffer_put_u16(out, 0);
    buffer_put_u16(out, 0);
    message_end(out, begin);
}

static void put_describe_execute_sync(struct buffer *out)
{
    size_t begin = message_begin(out, 'D');

    buffer_put_u8(out, 'P');
    buffer_put_string(out, "");
    message_end(out, begin);
    begin = message_begin(out, 'E');
    buffer_put_string(out, "");
    buffer_put_u32(out, 0);
    message_end(out, begin);
    message_empty(out, 'S');
}

static bool make_messages(void)
{
    char text[64];
    size_t begin;

    message_empty(&terminate, 'X');
    snprintf(text, sizeof(text), "bulk %llu", (unsigned long long)plan.burst_bytes);
    message_query(&burst, text);
    if (strcmp(plan.mode, "extended") == 0) {
        message_parse(&query, "", "SELECT 1");
        put_bind(&query, "");
        put_describe_execute_sync(&query);
    } else if (strcmp(plan.mode, "prepared") == 0) {
        message_parse(&parse_prepared, "bench_1", "SELECT 1");
        message_empty(&parse_prepared, 'S');
        put_bind(&query_prepared, "bench_1");
        put_describe_execute_sync(&query_prepared);
    } else if (strcmp(plan.mode, "bulk") == 0) {
        snprintf(text, sizeof(text), "bulk %llu", (unsigned long long)plan.bytes);
        message_query(&query, text);
    } else if (strcmp(plan.mode, "copy") == 0) {
        message_query(&query, "copy t from stdin");
        begin = message_begin(&copy_piece, 'd');
        memset(buffer_reserve(&copy_piece, COPY_PIECE_BYTES), 'x', COPY_PIECE_BYTES);
        copy_piece.length += COPY_PIECE_BYTES;
        message_end(&copy_piece, begin);
        message_empty(&copy_done, 'c');
    } else if (strcmp(plan.mode, "simple") == 0 || is_login || is_idle) {
        message_query(&query, "SELECT 1");
    } else {
        return false;
    }
    return true;
}

/* ---- one connection ---- */

static void watch(struct connection *connection, uint32_t wanted)
{
    struct epoll_event event = {.events = wanted, .data.ptr = connection};

    if (connection->events == wanted)
        return;
    connection->events = wanted;
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static void open_connection(struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    int one = 1;

    *connection = (struct connection){.phase = PHASE_CONNECT, .events = event.events};
    connection->began_us = now_us();
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)connect(connection->fd, (struct sockaddr *)&address, sizeof(address));
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
    logging_in++;
    alive++;
}

static void close_connection(struct connection *connection)
{
    if (connection->phase == PHASE_OVER)
        return;
    if (connection->phase < PHASE_READY)
        logging_in--;
    else
        logged_in--;
    alive--;
    SSL_free(connection->ssl);
    close(connection->fd);
    login_fini(connection);
    connection->phase = PHASE_OVER;
}

static void broken(struct connection *connection)
{
    errors++;
    close_connection(connection);
}

/* Sends what is to be sent; false when the connection broke. */
static bool flush(struct connection *connection)
{
    while (connection->to_send_bytes > 0) {
        ssize_t sent;

        if (connection->ssl) {
            int result =
                SSL_write(connection->ssl, connection->to_send, (int)connection->to_send_bytes);
            int error = result > 0 ? 0 : SSL_get_error(connection->ssl, result);

            if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
                watch(connection, EPOLLIN | EPOLLOUT);
                return true;
            }
            sent = result;
        } else {
            sent =
                send(connection->fd, connection->to_send, connection->to_send_bytes, MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                watch(connection, EPOLLIN | EPOLLOUT);
                return true;
            }
        }
        if (sent <= 0)
            return false;
        sent_bytes += (uint64_t)sent;
        connection->to_send += sent;
        connection->to_send_bytes -= (size_t)sent;
        if (connection->to_send_bytes == 0 && connection->copying) {
            /* the next piece, and behind the last one CopyDone */
            const struct buffer *next = connection->copy_left ? &copy_piece : &copy_done;

            connection->copying = connection->copy_left > 0;
            connection->copy_left -=
                connection->copy_left < COPY_PIECE_BYTES ? connection->copy_left : COPY_PIECE_BYTES;
            connection->to_send = next->data;
            connection->to_send_bytes = next->length;
        }
    }
    watch(connection, EPOLLIN);
    return true;
}

static bool send_bytes(struct connection *connection, const struct buffer *bytes)
{
    connection->to_send = bytes->data;
    connection->to_send_bytes = bytes->length;
    return flush(connection);
}

static bool ask(struct connection *connection)
{
    const struct buffer *bytes = &query;

    if (query_prepared.length > 0) {
        bytes = connection->prepared ? &query_prepared : &parse_prepared;
        connection->prepared = true;
    }
    connection->phase = PHASE_BUSY;
    connection->began_us = now_us();
    return send_bytes(connection, bytes);
}

static void begin_counting(void)
{
    counting = true;
    counted_from_us = now_us();
    sent_bytes = received_bytes = 0;
}

/* It has been answered, or has logged in. False: the connection is over. */
static bool ready(struct connection *connection)
{
    uint64_t now = now_us();
    bool first = connection->phase == PHASE_LOGIN;

    if (counting && (!first || is_login)) {
        histogram_add(&latencies, now - connection->began_us);
        done++;
        ended_us = now;
        if (plan.transactions && done >= plan.transactions)
            ending = true;
    }
    if (first) {
        logging_in--;
        logged_in++;
        login_fini(connection);
        if (is_login) {
            connection->phase = PHASE_READY;
            (void)send_bytes(connection, &terminate);
            return false;
        }
        connection->phase = PHASE_READY;
        if (is_idle && plan.burst_bytes) {
            connection->phase = PHASE_BUSY;
            return send_bytes(connection, &burst);
        }
    } else {
        connection->phase = PHASE_READY;
    }
    if (is_idle || ending)
        return true;
    return ask(connection);
}

/* One message has come as a whole. False: the connection is over. */
static bool message(struct connection *connection, uint8_t type)
{
    if (connection->phase == PHASE_LOGIN && type != 'Z') {
        if (!login_message(connection, &plan, type))
            return false;
        return connection->own.length == 0 ||
               (send_bytes(connection, &connection->own) && connection->to_send_bytes == 0 &&
                (connection->own.length = 0, true));
    }
    switch (type) {
    case 'E':
        errors++;
        return true;
    case 'G':
        connection->copying = true;
        connection->copy_left = plan.bytes;
        return send_bytes(connection, &copy_piece);
    case 'Z':
        return ready(connection);
    default:
        return true;
    }
}

static bool take(struct connection *connection, const uint8_t *data, size_t length)
{
    while (length > 0) {
        size_t count;

        if (connection->header_have < 5) {
            connection->header[connection->header_have++] = *data++;
            length--;
            if (connection->header_have < 5)
                continue;
            connection->body_left = wire_get_u32(connection->header + 1) - 4;
            connection->body_have = 0;
        } else {
            count = connection->body_left < length ? connection->body_left : length;
            if (connection->phase == PHASE_LOGIN && connection->body_have < BODY_KEPT_BYTES) {
                size_t kept = BODY_KEPT_BYTES - connection->body_have;

                kept = kept < count ? kept : count;
                if (!connection->body)
                    connection->body = malloc(BODY_KEPT_BYTES);
                if (!connection->body)
                    abort();
                memcpy(connection->body + connection->body_have, data, kept);
                connection->body_have += (uint32_t)kept;
            }
            connection->body_left -= (uint32_t)count;
            data += count;
            length -= count;
        }
        if (connection->body_left > 0)
            continue;
        connection->header_have = 0;
        if (!message(connection, connection->header[0]))
            return false;
    }
    return true;
}

/* ---- the way to the login ---- */

static bool startup(struct connection *connection)
{
    connection->phase = PHASE_LOGIN;
    connection->own.length = 0;
    login_startup(connection, &plan);
    if (!send_bytes(connection, &connection->own))
        return false;
    connection->own.length = 0;
    return true;
}

static bool shake_hands(struct connection *connection)
{
    int result = SSL_connect(connection->ssl), error;

    if (result == 1)
        return startup(connection);
    error = SSL_get_error(connection->ssl, result);
    if (error == SSL_ERROR_WANT_WRITE)
        watch(connection, EPOLLIN | EPOLLOUT);
    else
        watch(connection, EPOLLIN);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static bool advance(struct connection *connection)
{
    uint8_t answer;

    switch (connection->phase) {
    case PHASE_CONNECT:
        if (!plan.tls)
            return startup(connection);
        connection->phase = PHASE_SSL_ANSWER;
        message_ssl_request(&connection->own);
        return send_bytes(connection, &connection->own);
    case PHASE_SSL_ANSWER:
        if (recv(connection->fd, &answer, 1, 0) != 1)
            return errno == EAGAIN;
        if (answer != 'S')
            return false;
        connection->phase = PHASE_TLS;
        connection->ssl = SSL_new(tls);
        if (!connection->ssl || SSL_set_fd(connection->ssl, connection->fd) != 1)
            return false;
        return shake_hands(connection);
    case PHASE_TLS:
        return shake_hands(connection);
    default:
        return true;
    }
}

static bool read_more(struct connection *connection)
{
    static uint8_t buffer[READ_BYTES];
    ssize_t count;

    do {
        if (connection->ssl) {
            int result = SSL_read(connection->ssl, buffer, sizeof(buffer)), error;

            if (result <= 0) {
                error = SSL_get_error(connection->ssl, result);
                return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
            }
            count = result;
        } else {
            count = recv(connection->fd, buffer, sizeof(buffer), 0);
            if (count <= 0)
                return count < 0 && errno == EAGAIN;
        }
        received_bytes += (uint64_t)count;
        if (!take(connection, buffer, (size_t)count))
            return false;
    } while (connection->ssl && SSL_pending(connection->ssl) > 0);
    return true;
}

static void serve(struct connection *connection, uint32_t events)
{
    bool well = true;

    if (connection->phase == PHASE_OVER)
        return;
    if (connection->phase < PHASE_LOGIN)
        well = advance(connection);
    else if ((events & EPOLLOUT) && connection->to_send_bytes > 0)
        well = flush(connection);
    if (well && connection->phase >= PHASE_LOGIN && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        well = read_more(connection);
    else if (well && (events & (EPOLLHUP | EPOLLERR)))
        well = false;
    if (well)
        return;
    if (is_login && connection->phase == PHASE_READY)
        close_connection(connection); /* it said Terminate */
    else
        broken(connection);
}

/* ---- the run ---- */

static void open_more(void)
{
    for (int i = 0; is_login && !ending && i < plan.clients; i++) {
        if (connections[i].phase == PHASE_OVER)
            open_connection(&connections[i]);
    }
    while (!is_login && next_to_open < plan.clients && logging_in < plan.at_once)
        open_connection(&connections[next_to_open++]);
}

static void run(void)
{
    struct epoll_event events[512];
    bool told = false;
    uint64_t warm_until_us = 0;

    began_us = now_us();
    for (;;) {
        int count;

        open_more();
        count = epoll_wait(poller, events, 512, 100);
        for (int i = 0; i < count; i++)
            serve(events[i].data.ptr, events[i].events);
        if (!told && (is_login || (next_to_open == plan.clients && logging_in == 0))) {
            told = true;
            puts("ready");
            fflush(stdout);
            warm_until_us = now_us() + (uint64_t)(plan.warm_seconds * 1e6);
        }
        if (told && !counting && now_us() >= warm_until_us)
            begin_counting();
        if (counting && plan.seconds > 0 && now_us() - counted_from_us > plan.seconds * 1e6)
            ending = true;
        if (is_idle && told) {
            struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

            if (poll(&input, 1, 0) > 0)
                break;
        }
        if (ending || (alive == 0 && !is_login) || (is_login && errors > 1000))
            break;
    }
}

static void report(void)
{
    double seconds = (double)(ended_us - counted_from_us) / 1e6;
    json_t *line = json_pack(
        "{s:s, s:i, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "mode", plan.mode,
        "clients", plan.clients, "transactions", (json_int_t)done, "errors", (json_int_t)errors,
        "seconds", done ? seconds : 0.0, "received_bytes", (json_int_t)received_bytes, "sent_bytes",
        (json_int_t)sent_bytes, "p50_us", (json_int_t)histogram_quantile(&latencies, 0.5), "p99_us",
        (json_int_t)histogram_quantile(&latencies, 0.99), "p999_us",
        (json_int_t)histogram_quantile(&latencies, 0.999), "max_us", (json_int_t)latencies.max_us,
        "logged_in", (json_int_t)logged_in);

    json_dumpf(line, stdout, JSON_COMPACT);
    puts("");
    json_decref(line);
}

static bool read_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", 1, NULL, 'p'},     {"user", 1, NULL, 'u'},         {"database", 1, NULL, 'd'},
        {"password", 1, NULL, 'w'}, {"tls", 0, NULL, 't'},          {"mode", 1, NULL, 'm'},
        {"clients", 1, NULL, 'c'},  {"seconds", 1, NULL, 's'},      {"warm", 1, NULL, 'W'},
        {"bytes", 1, NULL, 'b'},    {"transactions", 1, NULL, 'n'}, {"burst", 1, NULL, 'B'},
        {"at-once", 1, NULL, 'a'},  {"databases", 1, NULL, 'D'},    {"host", 1, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'h':
            plan.host = optarg;
            break;
        case 'p':
            plan.port = (uint16_t)atoi(optarg);
            break;
        case 'u':
            plan.user = optarg;
            break;
        case 'd':
            plan.database = optarg;
            break;
        case 'w':
            plan.password = optarg;
            break;
        case 't':
            plan.tls = true;
            break;
        case 'm':
            plan.mode = optarg;
            break;
        case 'c':
            plan.clients = atoi(optarg);
            break;
        case 's':
            plan.seconds = atof(optarg);
            break;
        case 'W':
            plan.warm_seconds = atof(optarg);
            break;
        case 'b':
            plan.bytes = strtoull(optarg, NULL, 10);
            break;
        case 'n':
            plan.transactions = strtoull(optarg, NULL, 10);
            break;
        case 'B':
            plan.burst_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'D':
            plan.databases = atoi(optarg);
            break;
        case 'a':
            plan.at_once = atoi(optarg);
            break;
        default:
            return false;
        }
    }
    is_login = strcmp(plan.mode, "login") == 0;
    is_idle = strcmp(plan.mode, "idle") == 0;
    return optind == argc && plan.clients > 0 && plan.at_once > 0 && make_messages() &&
           inet_pton(AF_INET, plan.host, &address.sin_addr) == 1 &&
           (is_idle || plan.seconds > 0 || plan.transactions > 0);
}

int main(int argc, char **argv)
{
    struct rlimit limit;

    if (!read_arguments(argc, argv)) {
        fprintf(
            stderr,
            "usage: generator [--host A] --port P --mode simple|extended|prepared|bulk|copy|login|"
            "idle --clients N (--seconds S | --transactions T) [--warm S] [--bytes B] "
            "[--burst B] [--tls] [--user U] [--password W] [--database D] "
            "[--databases N] [--at-once N]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    address.sin_family = AF_INET;
    address.sin_port = htons(plan.port);
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc((size_t)plan.clients, sizeof(*connections));
    tls = SSL_CTX_new(TLS_client_method());
    if (poller < 0 || !connections || !tls) {
        perror("generator");
        return 1;
    }
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (int i = 0; i < plan.clients; i++)
        connections[i].phase = PHASE_OVER;
    run();
    report();
    for (int i = 0; i < plan.clients; i++)
        close_connection(&connections[i]);
    free(connections);
    SSL_CTX_free(tls);
    return errors ? 1 : 0;
}
