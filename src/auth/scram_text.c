/*
 * scram_text: the attributes of a SCRAM message, read in order and in place.
 *
 *     r=abc,s=c2FsdA==,i=4096
 *     ^ next                    more: after a ',' there must be another one
 *
 * Texts come from peers and have no NUL at their end; all goes by length. Owns nothing; any thread.
 */
#include "pgstage/auth/scram_text.h"

#include <string.h>

#include "pgstage/auth/base64.h"

bool scram_text_init(struct scram_text *text, const uint8_t *message, size_t length)
{
    text->next = (const char *)message;
    text->left = length;
    text->more = true;
    return length == 0 || !memchr(message, 0, length);
}

static bool is_letter(char character)
{
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z');
}

bool scram_text_any(struct scram_text *text, char *name, const char **value, size_t *length)
{
    if (!text->more || text->left < 2 || !is_letter(text->next[0]) || text->next[1] != '=')
        return false;
    *name = text->next[0];
    *value = text->next + 2;
    size_t left = text->left - 2;
    const char *comma = left > 0 ? memchr(*value, ',', left) : NULL;
    *length = comma ? (size_t)(comma - *value) : left;
    text->more = comma != NULL;
    text->next = *value + *length + (comma ? 1 : 0);
    text->left = left - *length - (comma ? 1 : 0);
    return true;
}

bool scram_text_take(struct scram_text *text, char name, const char **value, size_t *length)
{
    char found;
    return text->left > 0 && text->next[0] == name && scram_text_any(text, &found, value, length);
}

bool scram_text_is_done(const struct scram_text *text)
{
    return !text->more && text->left == 0;
}

bool scram_text_is_nonce(const char *value, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (value[i] < 0x21 || value[i] > 0x7e || value[i] == ',')
            return false;
    }
    return length > 0;
}

void scram_text_put_header(struct buffer *out, char flag)
{
    buffer_print(out, "%c%s,,", flag, flag == 'p' ? "=" SCRAM_BINDING_TYPE : "");
}

void scram_text_put_binding(struct buffer *out, char flag, const struct scram_binding *binding)
{
    struct buffer plain = {0};
    scram_text_put_header(&plain, flag);
    if (flag == 'p')
        buffer_put(&plain, binding->hash, binding->bytes);
    base64_put(out, plain.data, plain.length);
    buffer_fini(&plain);
}
