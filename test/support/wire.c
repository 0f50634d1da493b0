/*
 * wire: a blocking client (or server end) with deadlines, for everything that libpq would not send.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "program.h"
#include "proxy.h"
#include "until.h"

struct wire *wire_of(int fd)
{
    struct wire *wire = calloc(1, sizeof *wire);
    int on = 1;

    if (!wire)
        abort();
    wire->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return wire;
}

struct wire *wire_open_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        support_fail("connect to port %d: %m", port);
    return wire_of(fd);
}

struct wire *wire_open(const struct proxy *proxy)
{
    return wire_open_port(proxy->port);
}

void wire_close(struct wire *wire)
{
    if (wire->ssl) {
        SSL_CTX *context = SSL_get_SSL_CTX(wire->ssl);

        SSL_shutdown(wire->ssl);
        SSL_free(wire->ssl);
        SSL_CTX_free(context);
    }
    if (wire->fd >= 0)
        close(wire->fd);
    free(wire->bytes);
    free(wire);
}

void wire_reset(struct wire *wire)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(wire->fd);
    wire->fd = -1;
    wire_close(wire);
}

/* ---- bytes ---- */

bool wire_write(struct wire *wire, const void *bytes, size_t count)
{
    const unsigned char *from = bytes;

    while (count > 0) {
        ssize_t done = wire->ssl ? SSL_write(wire->ssl, from, (int)(count < 65536 ? count : 65536))
                                 : send(wire->fd, from, count, MSG_NOSIGNAL);

        if (done <= 0)
            return false;
        from += done;
        count -= (size_t)done;
    }
    return true;
}

/* Reads once, at most until the deadline; false at the end or the deadline. */
static bool fill(struct wire *wire, int64_t deadline)
{
    struct pollfd wait = {.fd = wire->fd, .events = POLLIN};
    int64_t left = deadline - now_ms();
    ssize_t done;

    if (wire->ended)
        return false;
    if (!(wire->ssl && SSL_pending(wire->ssl)) && poll(&wait, 1, left > 0 ? (int)left : 0) <= 0)
        return false;
    if (wire->size - wire->count < 65536) {
        wire->size = wire->count + 262144;
        wire->bytes = realloc(wire->bytes, wire->size);
        if (!wire->bytes)
            abort();
    }
    done = wire->ssl ? SSL_read(wire->ssl, wire->bytes + wire->count, 65536)
                     : recv(wire->fd, wire->bytes + wire->count, 65536, 0);
    if (done <= 0) {
        wire->ended = true;
        return false;
    }
    wire->count += (size_t)done;
    return true;
}

size_t wire_take(struct wire *wire, void *bytes, size_t count, int ms)
{
    int64_t deadline = now_ms() + ms;

    while (wire->count < count && fill(wire, deadline))
        ;
    if (count > wire->count)
        count = wire->count;
    if (count > 0) {
        memcpy(bytes, wire->bytes, count);
        wire->count -= count;
        memmove(wire->bytes, wire->bytes + count, wire->count);
    }
    return count;
}

bool wire_is_closed(struct wire *wire, int ms)
{
    int64_t deadline = now_ms() + ms;

    while (fill(wire, deadline))
        wire->count = 0;
    return wire->ended;
}

void bytes_add(struct bytes *bytes, const void *data, size_t count)
{
    if (count == 0)
        return;
    bytes->data = realloc(bytes->data, bytes->count + count);
    if (!bytes->data)
        abort();
    memcpy(bytes->data + bytes->count, data, count);
    bytes->count += count;
}

void bytes_add16(struct bytes *bytes, unsigned value)
{
    uint16_t big = htons((uint16_t)value);

    bytes_add(bytes, &big, sizeof big);
}

void bytes_add32(struct bytes *bytes, uint32_t value)
{
    uint32_t big = htonl(value);

    bytes_add(bytes, &big, sizeof big);
}

void bytes_add_text(struct bytes *bytes, const char *text)
{
    bytes_add(bytes, text, strlen(text) + 1);
}

/* ---- what a client sends ---- */

struct bytes startup_packet(const char *name, ...)
{
    struct bytes pairs = {0}, packet = {0};
    va_list arguments;

    va_start(arguments, name);
    while (name) {
        bytes_add_text(&pairs, name);
        bytes_add_text(&pairs, va_arg(arguments, const char *));
        name = va_arg(arguments, const char *);
    }
    va_end(arguments);
    bytes_add32(&packet, (uint32_t)(9 + pairs.count));
    bytes_add32(&packet, 196608);
    bytes_add(&packet, pairs.data, pairs.count);
    bytes_add(&packet, "", 1);
    free(pairs.data);
    return packet;
}

static void send_words(struct wire *wire, const uint32_t *words, size_t count)
{
    struct bytes packet = {0};
    size_t i;

    for (i = 0; i < count; i++)
        bytes_add32(&packet, words[i]);
    wire_write(wire, packet.data, packet.count);
    free(packet.data);
}

void wire_ssl_request(struct wire *wire)
{
    send_words(wire, (const uint32_t[]){8, 80877103}, 2);
}

void wire_gss_request(struct wire *wire)
{
    send_words(wire, (const uint32_t[]){8, 80877104}, 2);
}

void wire_cancel_request(struct wire *wire, uint32_t pid, uint32_t secret)
{
    send_words(wire, (const uint32_t[]){16, 80877102, pid, secret}, 4);
}

void wire_cancel_key(struct wire *wire, const unsigned char *key, size_t bytes)
{
    struct bytes packet = {0};

    bytes_add32(&packet, (uint32_t)(8 + bytes));
    bytes_add32(&packet, 80877102);
    bytes_add(&packet, key, bytes);
    wire_write(wire, packet.data, packet.count);
    free(packet.data);
}

void wire_cork(struct wire *wire, bool corked)
{
    int on = corked;

    if (setsockopt(wire->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on) != 0)
        support_fail("TCP_CORK: %m");
}

void wire_send(struct wire *wire, char type, const void *body, size_t length)
{
    struct bytes packet = {0};

    bytes_add(&packet, &type, 1);
    bytes_add32(&packet, (uint32_t)(length + 4));
    bytes_add(&packet, body, length);
    wire_write(wire, packet.data, packet.count);
    free(packet.data);
}

static void send_bytes(struct wire *wire, char type, struct bytes *body)
{
    wire_send(wire, type, body->data, body->count);
    free(body->data);
}

void wire_query(struct wire *wire, const char *sql)
{
    wire_send(wire, 'Q', sql, strlen(sql) + 1);
}

void wire_password(struct wire *wire, const char *password)
{
    wire_send(wire, 'p', password, strlen(password) + 1);
}

void wire_parse(struct wire *wire, const char *name, const char *sql)
{
    struct bytes body = {0};

    bytes_add_text(&body, name);
    bytes_add_text(&body, sql);
    bytes_add16(&body, 0);
    send_bytes(wire, 'P', &body);
}

void wire_bind(struct wire *wire, const char *portal, const char *statement, ...)
{
    struct bytes body = {0}, values = {0};
    const char *value;
    unsigned count = 0;
    va_list arguments;

    va_start(arguments, statement);
    while ((value = va_arg(arguments, const char *))) {
        bytes_add32(&values, (uint32_t)strlen(value));
        bytes_add(&values, value, strlen(value));
        count++;
    }
    va_end(arguments);
    bytes_add_text(&body, portal);
    bytes_add_text(&body, statement);
    bytes_add16(&body, 0);
    bytes_add16(&body, count);
    bytes_add(&body, values.data, values.count);
    bytes_add16(&body, 0);
    free(values.data);
    send_bytes(wire, 'B', &body);
}

static void send_kind(struct wire *wire, char type, char kind, const char *name)
{
    struct bytes body = {0};

    bytes_add(&body, &kind, 1);
    bytes_add_text(&body, name);
    send_bytes(wire, type, &body);
}

void wire_describe(struct wire *wire, char kind, const char *name)
{
    send_kind(wire, 'D', kind, name);
}

void wire_close_name(struct wire *wire, char kind, const char *name)
{
    send_kind(wire, 'C', kind, name);
}

void wire_execute(struct wire *wire, const char *portal, unsigned rows)
{
    struct bytes body = {0};

    bytes_add_text(&body, portal);
    bytes_add32(&body, rows);
    send_bytes(wire, 'E', &body);
}

void wire_sync(struct wire *wire)
{
    wire_send(wire, 'S', NULL, 0);
}

void wire_flush(struct wire *wire)
{
    wire_send(wire, 'H', NULL, 0);
}

void wire_copy_data(struct wire *wire, const char *text)
{
    wire_send(wire, 'd', text, strlen(text));
}

/* ---- what it reads ---- */

static uint32_t word_at(const unsigned char *bytes)
{
    uint32_t big;

    memcpy(&big, bytes, sizeof big);
    return ntohl(big);
}

bool wire_read(struct wire *wire, struct wire_message *message, int ms)
{
    int64_t deadline = now_ms() + ms;
    size_t length;

    while (wire->count < 5)
        if (!fill(wire, deadline))
            return false;
    length = word_at(wire->bytes + 1);
    if (length < 4 || length > 0x7fffffff)
        return false;
    while (wire->count < length + 1)
        if (!fill(wire, deadline))
            return false;
    message->type = (char)wire->bytes[0];
    message->length = length - 4;
    message->body = calloc(1, message->length + 1);
    if (!message->body)
        abort();
    memcpy(message->body, wire->bytes + 5, message->length);
    wire->count -= length + 1;
    memmove(wire->bytes, wire->bytes + length + 1, wire->count);
    return true;
}

static const char *why(const struct wire *wire)
{
    return wire->ended ? "!" : "?";
}

char *wire_types(struct wire *wire, char last, int ms)
{
    struct wire_message message;
    struct bytes types = {0};
    int64_t deadline = now_ms() + ms;
    char type = 0;

    while (type != last) {
        if (!wire_read(wire, &message, (int)(deadline - now_ms()))) {
            bytes_add(&types, why(wire), 1);
            break;
        }
        free(message.body);
        type = message.type;
        if (type != 'N' && (type != 'S' || last == 'S'))
            bytes_add(&types, &type, 1);
    }
    bytes_add(&types, "", 1);
    return (char *)types.data;
}

const char *wire_field(const struct wire_message *message, char field)
{
    const unsigned char *place = message->body, *end = message->body + message->length;

    while (place < end && *place) {
        if (*place == field)
            return (const char *)place + 1;
        place += strlen((const char *)place) + 1;
    }
    return "";
}

char *wire_error(struct wire *wire, int ms)
{
    struct wire_message message;
    int64_t deadline = now_ms() + ms;
    char *text = NULL;

    while (!text) {
        if (!wire_read(wire, &message, (int)(deadline - now_ms())))
            return text_of("%s", why(wire));
        if (message.type == 'E')
            text = text_of("%s %s %s", wire_field(&message, 'S'), wire_field(&message, 'C'),
                           wire_field(&message, 'M'));
        free(message.body);
    }
    return text;
}

char *wire_value(struct wire *wire, int ms)
{
    struct wire_message message;
    int64_t deadline = now_ms() + ms;
    char *value = text_of("%s", "");
    char type = 0;

    while (type != 'Z' && wire_read(wire, &message, (int)(deadline - now_ms()))) {
        type = message.type;
        if (type == 'D' && message.length >= 6)
            value = text_of("%.*s", (int)word_at(message.body + 2), (char *)message.body + 6);
        free(message.body);
    }
    return value;
}

/* ---- login and TLS ---- */

void wire_login(struct wire *wire, const char *user, const char *database)
{
    wire_log_in(wire, startup_packet("user", user, "database", database, NULL));
}

void wire_log_in(struct wire *wire, struct bytes packet)
{
    struct wire_message message;
    char type = 0;

    wire_write(wire, packet.data, packet.count);
    free(packet.data);
    while (type != 'Z') {
        if (!wire_read(wire, &message, PATIENCE_MS))
            support_fail("login: no answer (%s)", why(wire));
        type = message.type;
        if (type == 'E')
            support_fail("login: %s", wire_field(&message, 'M'));
        if (type == 'K' && message.length >= 8 && message.length <= sizeof wire->key) {
            memcpy(wire->key, message.body, message.length);
            wire->key_bytes = message.length;
            wire->key_pid = word_at(message.body);
            wire->key_secret = word_at(message.body + 4);
        }
        free(message.body);
    }
}

struct wire *wire_client(const struct proxy *proxy)
{
    struct wire *wire = wire_open(proxy);

    wire_login(wire, "app", "app");
    return wire;
}

struct wire *wire_client_of(const struct proxy *proxy, unsigned minor)
{
    struct wire *wire = wire_open(proxy);
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);

    packet.data[6] = (unsigned char)(minor >> 8);
    packet.data[7] = (unsigned char)minor;
    wire_log_in(wire, packet);
    return wire;
}

void wire_cancel_at(const struct proxy *proxy, const unsigned char *key, size_t bytes)
{
    struct wire *request = wire_open(proxy);

    wire_cancel_key(request, key, bytes);
    cr_assert(wire_is_closed(request, PATIENCE_MS), "a cancel request is not ended");
    wire_close(request);
}

bool wire_secure(struct wire *wire, bool alpn, const char *ca_file)
{
    static const unsigned char protocol[] = "\012postgresql";
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (ca_file) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_load_verify_file(context, ca_file);
    }
    wire->ssl = SSL_new(context);
    if (alpn)
        SSL_set_alpn_protos(wire->ssl, protocol, sizeof protocol - 1);
    SSL_set_fd(wire->ssl, wire->fd);
    return SSL_connect(wire->ssl) == 1;
}

bool wire_accept_tls(struct wire *wire, const char *certificate_file, const char *key_file)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (SSL_CTX_use_certificate_chain_file(context, certificate_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1)
        return false;
    wire->ssl = SSL_new(context);
    SSL_set_fd(wire->ssl, wire->fd);
    return SSL_accept(wire->ssl) == 1;
}
