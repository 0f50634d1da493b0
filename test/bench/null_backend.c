/*
 * null_backend.c: a server that speaks PostgreSQL's protocol and answers at once, so that a
 * benchmark measures what stands in front of it. One thread, one epoll; no login, no TLS.
 *
 *   null_backend PORT
 *
 * It answers each statement with one row, `SET a = 'b'` also with ParameterStatus (poolers send a
 * SET again and again to a server that does not report it), `bulk N` with N bytes of rows of 1 kB,
 * `COPY` as COPY FROM STDIN, and keeps track of BEGIN, COMMIT and ROLLBACK. Named statements need
 * no memory: every one is the same. Prints "ready" when it listens, and at SIGTERM, which ends it,
 * how many sessions there were at most at the same time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgstage/base/buffer.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

#define READ_BYTES 65536
#define BODY_KEPT_BYTES 4096 /* of a message; what follows is not looked at */
#define ROW_BYTES 1000
#define FLUSH_AT_BYTES 65536

struct session {
    int fd;
    bool started;
    bool write_wanted;
    char status;          /* of the transaction: I or T */
    bool in_copy;         /* COPY FROM STDIN */
    char tag[16];         /* of the statement that Execute will run */
    uint64_t bulk_left;   /* bytes of rows that are still to come */
    bool bulk_ready;      /* … and then the end of the statement and ReadyForQuery */
    uint32_t header_have; /* bytes of the header that have come */
    uint8_t header[FRAME_HEADER_BYTES];
    uint32_t body_left, body_have;
    uint8_t body[BODY_KEPT_BYTES + 1];
    struct buffer out;
    size_t out_sent;
};

static int poller;
static uint32_t next_pid = 1;
static unsigned sessions, most_sessions;
static volatile sig_atomic_t told_to_end;

static void on_term(int number)
{
    (void)number;
    told_to_end = 1;
}

static void send_row(struct buffer *out)
{
    const char *values[] = {"1"};

    message_data_row(out, values, 1);
}

static void describe_row(struct buffer *out)
{
    const char *names[] = {"?column?"};

    message_row_description(out, names, 1);
}

static void welcome(struct session *session)
{
    static const char *const parameters[][2] = {
        {"application_name", ""},      {"client_encoding", "UTF8"},
        {"DateStyle", "ISO, MDY"},     {"default_transaction_read_only", "off"},
        {"in_hot_standby", "off"},     {"integer_datetimes", "on"},
        {"IntervalStyle", "postgres"}, {"is_superuser", "off"},
        {"server_encoding", "UTF8"},   {"server_version", "15.0"},
        {"session_authorization", ""}, {"standard_conforming_strings", "on"},
        {"TimeZone", "Etc/UTC"},
    };
    uint8_t secret[4] = {1, 2, 3, 4};

    message_authentication(&session->out, 0, NULL, 0);
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++)
        message_parameter_status(&session->out, parameters[i][0], parameters[i][1]);
    message_backend_key(&session->out, next_pid++, secret, sizeof(secret));
    message_ready(&session->out, 'I');
    session->started = true;
    if (++sessions > most_sessions) /* cancel requests and probes are none */
        most_sessions = sessions;
}

/* "SET name = value" or "SET name TO value": reports it, as a server does. */
static void report_set(struct session *session, const char *statement, size_t length)
{
    const char *at = statement + strlen("set "), *end = statement + length;
    char name[64], value[1024];
    size_t name_bytes = strcspn(at, " =;"), value_bytes = 0;
    bool quoted;

    snprintf(name, sizeof(name), "%.*s", (int)name_bytes, at);
    at += name_bytes;
    at += strspn(at, " =");
    if (strncasecmp(at, "to ", 3) == 0)
        at += 3;
    at += strspn(at, " ");
    quoted = at < end && *at == '\'';
    for (at += quoted; at < end && value_bytes + 1 < sizeof(value); at++) {
        if (quoted && *at == '\'' && *++at != '\'')
            break;
        value[value_bytes++] = *at;
    }
    value[value_bytes] = '\0';
    message_parameter_status(&session->out, name, value);
}

static bool begins(const char *text, const char *word)
{
    return strncasecmp(text, word, strlen(word)) == 0;
}

/* Which tag does this statement get? Follows the state of the transaction. */
static void run(struct session *session, const char *sql)
{
    const char *tag = "SELECT 1";

    if (begins(sql, "begin")) {
        tag = "BEGIN";
        session->status = 'T';
    } else if (begins(sql, "commit") || begins(sql, "end")) {
        tag = "COMMIT";
        session->status = 'I';
    } else if (begins(sql, "rollback")) {
        tag = "ROLLBACK";
        session->status = 'I';
    } else if (begins(sql, "discard")) {
        tag = "DISCARD ALL";
    } else if (begins(sql, "reset")) {
        tag = "RESET";
    } else if (begins(sql, "set ")) {
        tag = "SET";
    }
    snprintf(session->tag, sizeof(session->tag), "%s", tag);
}

static void run_simple(struct session *session, const char *sql)
{
    const char *end;

    sql += strspn(sql, " \n\t;");
    if (begins(sql, "bulk ")) {
        session->bulk_left = strtoull(sql + 5, NULL, 10);
        session->bulk_ready = true;
        describe_row(&session->out);
        return;
    }
    if (begins(sql, "copy ")) {
        size_t begin = message_begin(&session->out, 'G');
        buffer_put_u8(&session->out, 0);
        buffer_put_u16(&session->out, 0);
        message_end(&session->out, begin);
        session->in_copy = true;
        return;
    }
    if (*sql == '\0')
        message_empty(&session->out, 'I');
    while (*sql) {
        end = strchrnul(sql, ';');
        run(session, sql);
        if (strcmp(session->tag, "SET") == 0)
            report_set(session, sql, (size_t)(end - sql));
        if (strcmp(session->tag, "SELECT 1") == 0) {
            describe_row(&session->out);
            send_row(&session->out);
        }
        message_command_complete(&session->out, session->tag);
        sql = end + strspn(end, " \n\t;");
    }
    message_ready(&session->out, session->status);
}

static void describe(struct session *session)
{
    size_t begin;

    if (session->body[0] == 'S') {
        begin = message_begin(&session->out, 't');
        buffer_put_u16(&session->out, 0);
        message_end(&session->out, begin);
    }
    if (strcmp(session->tag, "SELECT 1") == 0)
        describe_row(&session->out);
    else
        message_empty(&session->out, 'n');
}

/* One whole message (of its body, what is kept). False: the session is over. */
static bool handle(struct session *session, uint8_t type)
{
    struct buffer *out = &session->out;

    session->body[session->body_have] = '\0';
    switch (type) {
    case 'Q':
        run_simple(session, (const char *)session->body);
        break;
    case 'P':
        run(session, (const char *)session->body + strlen((const char *)session->body) + 1);
        message_empty(out, '1');
        break;
    case 'B':
        message_empty(out, '2');
        break;
    case 'D':
        describe(session);
        break;
    case 'E':
        if (strcmp(session->tag, "SELECT 1") == 0)
            send_row(out);
        message_command_complete(out, session->tag);
        break;
    case 'C':
        message_empty(out, '3');
        break;
    case 'S':
        message_ready(out, session->status);
        break;
    case 'c':
        if (session->in_copy) {
            session->in_copy = false;
            message_command_complete(out, "COPY 1");
            message_ready(out, session->status);
        }
        break;
    case 'X':
        return false;
    default:
        break;
    }
    return true;
}

/* The packets before the session, which have no type byte. */
static bool handle_startup(struct session *session)
{
    uint32_t code = session->body_have >= 4 ? wire_get_u32(session->body) : 0;

    if (code == 80877103 || code == 80877104) /* SSLRequest, GSSENCRequest */
        buffer_put_u8(&session->out, 'N');
    else if (code >> 16 == 3)
        welcome(session);
    else
        return false; /* a CancelRequest among others: nothing runs long enough to be cancelled */
    return true;
}

/* Takes bytes apart; nothing but the beginning of each body is kept. */
static bool take(struct session *session, const uint8_t *data, size_t length)
{
    while (length > 0) {
        uint32_t header_size = session->started ? FRAME_HEADER_BYTES : 4;
        size_t count;

        if (session->header_have < header_size) {
            session->header[session->header_have++] = *data++;
            length--;
            if (session->header_have < header_size)
                continue;
            session->body_left = wire_get_u32(session->header + header_size - 4);
            if (session->body_left < 4)
                return false;
            session->body_left -= 4;
            session->body_have = 0;
        } else {
            count = session->body_left < length ? session->body_left : length;
            if (session->body_have < BODY_KEPT_BYTES) {
                size_t kept = BODY_KEPT_BYTES - session->body_have;
                kept = kept < count ? kept : count;
                memcpy(session->body + session->body_have, data, kept);
                session->body_have += (uint32_t)kept;
            }
            session->body_left -= (uint32_t)count;
            data += count;
            length -= count;
        }
        if (session->body_left > 0)
            continue;
        session->header_have = 0;
        if (!(session->started ? handle(session, session->header[0]) : handle_startup(session)))
            return false;
    }
    return true;
}

/* More rows of a bulk answer, a buffer at a time. */
static void fill(struct session *session)
{
    static char row[ROW_BYTES + 1];
    const char *values[] = {row};

    if (!row[0])
        memset(row, 'x', ROW_BYTES);
    while (session->bulk_left > 0 && session->out.length < FLUSH_AT_BYTES) {
        message_data_row(&session->out, values, 1);
        session->bulk_left -= session->bulk_left < ROW_BYTES ? session->bulk_left : ROW_BYTES;
    }
    if (session->bulk_left == 0 && session->bulk_ready) {
        session->bulk_ready = false;
        message_command_complete(&session->out, "SELECT 1");
        message_ready(&session->out, session->status);
    }
}

static void want_write(struct session *session, bool wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = session};

    if (wanted == session->write_wanted)
        return;
    session->write_wanted = wanted;
    epoll_ctl(poller, EPOLL_CTL_MOD, session->fd, &event);
}

static bool flush(struct session *session)
{
    for (;;) {
        ssize_t sent;

        if (session->out_sent == session->out.length) {
            session->out.length = session->out_sent = 0;
            fill(session);
            if (session->out.length == 0)
                break;
        }
        sent = send(session->fd, session->out.data + session->out_sent,
                    session->out.length - session->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            want_write(session, true);
            return true;
        }
        if (sent < 0)
            return false;
        session->out_sent += (size_t)sent;
    }
    want_write(session, false);
    return true;
}

static void end(struct session *session)
{
    if (session->started)
        sessions--;
    close(session->fd);
    buffer_fini(&session->out);
    free(session);
}

static void serve(struct session *session, uint32_t events)
{
    static uint8_t buffer[READ_BYTES];
    ssize_t count;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        count = recv(session->fd, buffer, sizeof(buffer), 0);
        if (count == 0 || (count < 0 && errno != EAGAIN) ||
            (count > 0 && !take(session, buffer, (size_t)count))) {
            end(session);
            return;
        }
    }
    if (!flush(session))
        end(session);
}

static void accept_all(int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = calloc(1, sizeof(*session));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};

        if (!session)
            abort();
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        session->fd = fd;
        session->status = 'I';
        strcpy(session->tag, "SELECT 1");
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};
    struct rlimit limit;
    int listener, one = 1;

    if (argc != 2 || atoi(argv[1]) <= 0) {
        fprintf(stderr, "usage: null_backend PORT\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event)) {
        perror("null_backend");
        return 1;
    }
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term}, NULL);
    puts("ready");
    fflush(stdout);
    while (!told_to_end) {
        int count = epoll_wait(poller, events, 256, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else
                accept_all(listener);
        }
    }
    printf("%u\n", most_sessions);
    return 0;
}
