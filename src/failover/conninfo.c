/*
 * conninfo.c: takes a connection string apart and puts it together again.
 */
#include "conninfo.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/base/buffer.h"

static void put_value(struct buffer *out, const char *keyword, const char *value)
{
    buffer_print(out, "%s%s='", out->length ? " " : "", keyword);
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            buffer_put_u8(out, '\\');
        buffer_put_u8(out, (uint8_t)*value);
    }
    buffer_put_u8(out, '\'');
}

char *conninfo_move(const char *conninfo, const char *host, const char *address, unsigned port)
{
    struct buffer out = {0};
    char number[12];
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    if (!options)
        return NULL;
    snprintf(number, sizeof number, "%u", port);
    put_value(&out, "host", host);
    if (address)
        put_value(&out, "hostaddr", address);
    put_value(&out, "port", number);
    for (const PQconninfoOption *option = options; option->keyword; option++) {
        if (option->val && strcmp(option->keyword, "host") != 0 &&
            strcmp(option->keyword, "hostaddr") != 0 && strcmp(option->keyword, "port") != 0)
            put_value(&out, option->keyword, option->val);
    }
    PQconninfoFree(options);
    buffer_put_u8(&out, '\0');
    return (char *)out.data;
}
