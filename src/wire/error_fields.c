/*
 * error_fields: reads the fields of an ErrorResponse or NoticeResponse.
 *
 *     'S' text\0  'V' text\0  'C' text\0  'M' text\0 …  \0
 *
 * A server need not send every field, nor in this order, and may send others; so every field has a
 * value from the start, and what is read goes by its code. Owns nothing: the texts stay in the
 * body. Any thread.
 */
#include <string.h>

#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

/* Five digits and capital letters; what else a server sends is not passed on as a SQLSTATE. */
static bool is_sqlstate(const char *text)
{
    size_t count = strspn(text, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return count == 5 && text[count] == 0;
}

int error_fields_read(struct error_fields *fields, const uint8_t *body, size_t length)
{
    *fields = (struct error_fields){"", "XX000", "", "", ""};
    const char *localised = "";
    struct reader reader;
    reader_init(&reader, body, length);
    for (;;) {
        uint8_t code = reader_u8(&reader);
        if (code == 0)
            break;
        const char *text = reader_string(&reader);
        if (reader.failed)
            break;
        switch (code) {
        case 'S':
            localised = text;
            break;
        case 'V':
            fields->severity = text;
            break;
        case 'C':
            if (is_sqlstate(text))
                fields->sqlstate = text;
            break;
        case 'M':
            fields->message = text;
            break;
        case 'D':
            fields->detail = text;
            break;
        case 'H':
            fields->hint = text;
            break;
        }
    }
    if (fields->severity[0] == 0)
        fields->severity = localised;
    return reader_is_done(&reader) ? 0 : -1;
}
