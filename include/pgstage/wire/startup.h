/*
 * startup: the packets without a type byte that open a connection: StartupMessage, SSLRequest,
 * GSSENCRequest, CancelRequest (PostgreSQL documentation, "Message Formats"). Pure; any thread.
 */
#ifndef PGSTAGE_WIRE_STARTUP_H
#define PGSTAGE_WIRE_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* PostgreSQL's MAX_STARTUP_PACKET_LENGTH. */
#define STARTUP_MAX_BYTES 10000
/* Protocol 3.2's longest cancel key. */
#define CANCEL_KEY_MAX_BYTES 256

enum startup_result { STARTUP_OK, STARTUP_PARTIAL, STARTUP_BAD };

enum startup_kind { STARTUP_MESSAGE, STARTUP_SSL, STARTUP_GSSENC, STARTUP_CANCEL };

struct startup {
    enum startup_kind kind;
    size_t total_bytes; /* of the packet, length word included */
    uint16_t major, minor;
    /* STARTUP_MESSAGE: name, value, name, value … each NUL-terminated, in the packet */
    const uint8_t *parameters;
    size_t parameters_bytes;
    /* STARTUP_CANCEL */
    uint32_t cancel_pid;
    const uint8_t *cancel_secret;
    size_t cancel_secret_bytes;
    const char *problem; /* STARTUP_BAD: what is wrong, for the log */
};

/* Looks at the first `available` bytes of a connection. Requires the terminator, paired parameters,
 * exact lengths (a CancelRequest one byte too long, which some drivers send, is accepted), protocol
 * 2 gives STARTUP_OK with major 2 so that the caller can answer it. */
enum startup_result startup_parse(const uint8_t *data, size_t available, struct startup *startup);
/* What a server says in NegotiateProtocolVersion when it was asked for 3.`asked` and no options:
 * `*minor` is what it speaks, at most that. False: it says something that nobody asked for. */
bool startup_negotiated(const uint8_t *body, size_t length, uint32_t asked, uint32_t *minor)
    __attribute__((warn_unused_result));
/* Walks the parameters: `*offset` starts at 0; false at the end. */
bool startup_next(const struct startup *startup, size_t *offset, const char **name,
                  const char **value);

#endif
