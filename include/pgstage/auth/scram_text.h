/*
 * scram_text: walks the `a=value,b=value` texts of SCRAM messages (RFC 5802, section 7). Any
 * thread.
 */
#ifndef PGSTAGE_AUTH_SCRAM_TEXT_H
#define PGSTAGE_AUTH_SCRAM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/auth/scram.h"
#include "pgstage/base/buffer.h"

/* The only type of channel binding that PostgreSQL has. */
#define SCRAM_BINDING_TYPE "tls-server-end-point"

struct scram_text {
    const char *next;
    size_t left;
    bool more; /* an attribute must follow */
};

/* False when there is a NUL in it (attributes never hold one). */
bool scram_text_init(struct scram_text *text, const uint8_t *message, size_t length)
    __attribute__((warn_unused_result));
/* Takes the next attribute, whatever its name. False when there is none or it is malformed. */
bool scram_text_any(struct scram_text *text, char *name, const char **value, size_t *length)
    __attribute__((warn_unused_result));
/* Takes the next attribute, which must have this name. */
bool scram_text_take(struct scram_text *text, char name, const char **value, size_t *length)
    __attribute__((warn_unused_result));
/* Was everything taken? */
bool scram_text_is_done(const struct scram_text *text);
/* Puts the header that a client begins with: "n,,", "y,," or "p=tls-server-end-point,,". */
void scram_text_put_header(struct buffer *out, char flag);
/* Puts the value of the attribute `c`: that header and, with 'p', the binding, in base64. */
void scram_text_put_binding(struct buffer *out, char flag, const struct scram_binding *binding);
/* Is it a nonce: printable ASCII without ',' and not empty? */
bool scram_text_is_nonce(const char *value, size_t length);

#endif
