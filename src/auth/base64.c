/*
 * base64: strict decoding on top of OpenSSL, whose own decoder skips blanks at the ends and takes
 * '=' anywhere for a zero.
 *
 * Text is good when encoding what was decoded gives the very same text. So each value has one
 * spelling only, which keeps two peers from reading one message differently. Owns nothing.
 */
#include "pgstage/auth/base64.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

void base64_put(struct buffer *out, const uint8_t *bytes, size_t count)
{
    /* EVP_EncodeBlock writes a NUL behind the text */
    uint8_t *place = buffer_reserve(out, BASE64_LENGTH(count) + 1);
    out->length += (size_t)EVP_EncodeBlock(place, bytes, (int)count);
}

/* What a message may hold is bounded by its frame; this keeps the ints of OpenSSL far from theirs.
 */
#define BASE64_MAX_CHARACTERS (1 << 20)
/* Keys and salts are decoded without asking for memory. */
#define BASE64_SHORT_CHARACTERS 128

ssize_t base64_read(const char *text, size_t length, uint8_t *bytes, size_t size)
{
    if (length % 4 != 0 || length > BASE64_MAX_CHARACTERS)
        return -1;
    if (length == 0)
        return 0;
    size_t padding = text[length - 1] != '=' ? 0 : text[length - 2] != '=' ? 1 : 2;
    size_t count = length / 4 * 3 - padding;
    if (count > size)
        return -1;

    uint8_t room[BASE64_SHORT_CHARACTERS / 4 * 3 + BASE64_SHORT_CHARACTERS + 1];
    uint8_t *decoded =
        length <= BASE64_SHORT_CHARACTERS ? room : memory_get(length / 4 * 3 + length + 1);
    uint8_t *again = decoded + length / 4 * 3;
    bool same = EVP_DecodeBlock(decoded, (const uint8_t *)text, (int)length) >= 0 &&
                (size_t)EVP_EncodeBlock(again, decoded, (int)count) == length &&
                memcmp(again, text, length) == 0;
    if (same)
        memcpy(bytes, decoded, count);
    text_wipe(decoded, length / 4 * 3 + length + 1);
    if (decoded != room)
        free(decoded);
    return same ? (ssize_t)count : -1;
}
