/*
 * wire: protocol 3 spoken by hand, byte by byte where a test wants that, plain or TLS.
 *
 * Works for both sides: a client (wire_open) and what a fake server accepts (wire_of). Reads have a
 * deadline; nothing here asserts, except wire_login and wire_expect.
 */
#ifndef SUPPORT_WIRE_H
#define SUPPORT_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proxy;

struct wire {
    int fd;
    SSL *ssl; /* NULL: plain */
    bool ended;
    unsigned char *bytes; /* read, not yet taken */
    size_t count, size;
    uint32_t key_pid, key_secret; /* of BackendKeyData, once wire_login has seen it */
    unsigned char key[260];       /* … all of it; a fake server: of the CancelRequest it got */
    size_t key_bytes;
    uint32_t version; /* a fake server: what its client's first packet asked for */
};

struct wire_message {
    char type;
    size_t length;       /* of the body */
    unsigned char *body; /* allocated, a NUL behind it */
};

struct wire *wire_open(const struct proxy *proxy);
struct wire *wire_open_port(int port);
struct wire *wire_of(int fd);
void wire_close(struct wire *wire);
/* The other side sees a reset instead of an end. */
void wire_reset(struct wire *wire);

/* Raw bytes. False when the connection is gone. */
bool wire_write(struct wire *wire, const void *bytes, size_t count);
/* Up to `count` bytes within `ms`; fewer at the end or the deadline. */
size_t wire_take(struct wire *wire, void *bytes, size_t count, int ms);
/* True when the peer has closed and nothing more came (what came before is thrown away). */
bool wire_is_closed(struct wire *wire, int ms);

/* A growing piece of bytes. */
struct bytes {
    unsigned char *data;
    size_t count;
};
void bytes_add(struct bytes *bytes, const void *data, size_t count);
void bytes_add16(struct bytes *bytes, unsigned value);
void bytes_add32(struct bytes *bytes, uint32_t value);
void bytes_add_text(struct bytes *bytes, const char *text); /* with its NUL */

/* The startup packet with name, value, … NULL. */
struct bytes startup_packet(const char *name, ...) __attribute__((sentinel));
/* The 8 bytes of SSLRequest or GSSENCRequest, and a CancelRequest. */
void wire_ssl_request(struct wire *wire);
void wire_gss_request(struct wire *wire);
void wire_cancel_request(struct wire *wire, uint32_t pid, uint32_t secret);
/* … with a key of any length: process id and secret. */
void wire_cancel_key(struct wire *wire, const unsigned char *key, size_t bytes);

/* While corked (a TCP connection), messages are kept; uncorking sends them in one piece. */
void wire_cork(struct wire *wire, bool corked);
void wire_send(struct wire *wire, char type, const void *body, size_t length);
void wire_query(struct wire *wire, const char *sql);
void wire_parse(struct wire *wire, const char *name, const char *sql);
/* All parameters as text; NULL at the end. */
void wire_bind(struct wire *wire, const char *portal, const char *statement, ...)
    __attribute__((sentinel));
void wire_describe(struct wire *wire, char kind, const char *name);
void wire_execute(struct wire *wire, const char *portal, unsigned rows);
void wire_close_name(struct wire *wire, char kind, const char *name);
void wire_sync(struct wire *wire);
void wire_flush(struct wire *wire);
void wire_copy_data(struct wire *wire, const char *text);
void wire_password(struct wire *wire, const char *password);

/* The next message within `ms`; false at the end, the deadline, or on a nonsensical length. */
bool wire_read(struct wire *wire, struct wire_message *message, int ms);
/* The types of all messages up to and including the first `last`, as text ("TDCZ"); 'S' (parameter
 * status) and 'N' (notice) are left out. "!" at its end: the connection ended; "?": the deadline
 * passed. Allocated. */
char *wire_types(struct wire *wire, char last, int ms);
/* A field of an ErrorResponse or NoticeResponse: 'S', 'C', 'M' …; "" when it has none. */
const char *wire_field(const struct wire_message *message, char field);
/* Reads up to the next ErrorResponse and gives "SEVERITY SQLSTATE text", or "!" or "?" as above. */
char *wire_error(struct wire *wire, int ms);
/* Reads up to the first value of the next DataRow, then on to ReadyForQuery; "" when none came. */
char *wire_value(struct wire *wire, int ms);

/* Startup as this user (trust), up to ReadyForQuery; the test fails when it is refused. */
void wire_login(struct wire *wire, const char *user, const char *database);
/* The same with a startup packet of the test's, which is freed. */
void wire_log_in(struct wire *wire, struct bytes packet);
/* Opens and logs in as app to app. */
struct wire *wire_client(const struct proxy *proxy);
/* The same as a client of protocol 3.`minor`. */
struct wire *wire_client_of(const struct proxy *proxy, unsigned minor);
/* Sends a cancel request on a connection of its own; the test fails when that is not ended. */
void wire_cancel_at(const struct proxy *proxy, const unsigned char *key, size_t bytes);

/* The TLS handshake as a client at once (after 'S', or direct). ALPN "postgresql" when asked for.
 * `ca_file`: verify with it, NULL: not at all. False: it failed. */
bool wire_secure(struct wire *wire, bool alpn, const char *ca_file);
/* … as a server with this certificate. */
bool wire_accept_tls(struct wire *wire, const char *certificate_file, const char *key_file);

#endif
