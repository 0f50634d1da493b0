/*
 * base64: the encoding of SCRAM's attributes (RFC 4648, section 4), strict. Any thread.
 */
#ifndef PGSTAGE_AUTH_BASE64_H
#define PGSTAGE_AUTH_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pgstage/base/buffer.h"

/* Characters for `count` bytes, without a NUL. */
#define BASE64_LENGTH(count) (((count) + 2) / 3 * 4)

/* Puts the encoded bytes, without a NUL. */
void base64_put(struct buffer *out, const uint8_t *bytes, size_t count);
/* Decodes exactly `length` characters. Gives how many bytes there are, or -1 when it is not the one
 * encoding of some bytes (other characters, blanks, missing or wrong padding) or they do not fit.
 */
ssize_t base64_read(const char *text, size_t length, uint8_t *bytes, size_t size);

#endif
