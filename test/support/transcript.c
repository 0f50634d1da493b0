/* transcript.c: messages of a server as text, a word for each. */
#include "transcript.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "until.h"

static unsigned get16(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const unsigned char *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void add_text(struct bytes *text, const char *part)
{
    bytes_add(text, part, strlen(part));
}

/* Bytes that can be read; a long value by its length and a sum. */
static void add_value(struct bytes *text, const unsigned char *value, size_t length)
{
    char part[64];

    if (length > 200) {
        uint32_t sum = 2166136261u;

        for (size_t i = 0; i < length; i++)
            sum = (sum ^ value[i]) * 16777619u;
        snprintf(part, sizeof part, "<%zu bytes %08x>", length, sum);
        add_text(text, part);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        if (value[i] >= ' ' && value[i] < 127) {
            bytes_add(text, value + i, 1);
            continue;
        }
        snprintf(part, sizeof part, "\\%02x", value[i]);
        add_text(text, part);
    }
}

static void add_row(struct bytes *text, const struct wire_message *message)
{
    const unsigned char *at = message->body + 2, *end = message->body + message->length;
    unsigned count = message->length < 2 ? 0 : get16(message->body);

    for (unsigned i = 0; i < count && end - at >= 4; i++) {
        uint32_t length = get32(at);

        at += 4;
        if (i)
            add_text(text, ",");
        if (length == UINT32_MAX) {
            add_text(text, "NULL");
            continue;
        }
        if (length > (size_t)(end - at))
            length = (uint32_t)(end - at);
        add_value(text, at, length);
        at += length;
    }
}

static void add_columns(struct bytes *text, const struct wire_message *message)
{
    const unsigned char *at = message->body + 2, *end = message->body + message->length;
    unsigned count = message->length < 2 ? 0 : get16(message->body);
    char part[64];

    for (unsigned i = 0; i < count; i++) {
        size_t length = strnlen((const char *)at, (size_t)(end - at));

        if ((size_t)(end - at) < length + 1 + 18)
            return;
        if (i)
            add_text(text, ",");
        add_value(text, at, length);
        at += length + 1;
        /* the table's oid differs between databases; the type, its modifier and the format do not
         */
        snprintf(part, sizeof part, ":%u:%u:%u", get32(at + 6), get32(at + 12), get16(at + 16));
        add_text(text, part);
        at += 18;
    }
}

static void add_error(struct bytes *text, const struct wire_message *message)
{
    if (strcmp(wire_field(message, 'V'), "FATAL") == 0)
        add_text(text, "FATAL ");
    add_text(text, wire_field(message, 'C'));
    add_text(text, " ");
    add_text(text, wire_field(message, 'M'));
}

void transcript_add(struct bytes *text, const struct wire_message *message)
{
    char type[3] = {message->type, '\0', '\0'};

    if (message->type == 'S')
        return;
    if (text->count)
        add_text(text, " ");
    if (strchr("12snIcGHW3", message->type)) {
        add_text(text, type);
        return;
    }
    type[1] = '[';
    add_text(text, type);
    switch (message->type) {
    case 'D':
        add_row(text, message);
        break;
    case 'T':
        add_columns(text, message);
        break;
    case 'E':
    case 'N':
        add_error(text, message);
        break;
    case 'A':
        if (message->length > 4)
            add_value(text, message->body + 4, message->length - 4);
        break;
    case 'C':
        if (message->length > 0)
            add_value(text, message->body, message->length - 1);
        break;
    default:
        add_value(text, message->body, message->length);
        break;
    }
    add_text(text, "]");
}

char *transcript(struct wire *wire, int ready, int ms)
{
    int64_t deadline = now_ms() + ms;
    struct bytes text = {0};
    struct wire_message message;

    while (ready > 0) {
        int64_t left = deadline - now_ms();

        if (left <= 0 || !wire_read(wire, &message, (int)left)) {
            add_text(&text, wire->ended ? " !" : " ?");
            break;
        }
        transcript_add(&text, &message);
        if (message.type == 'Z')
            ready--;
        free(message.body);
    }
    bytes_add(&text, "", 1);
    return (char *)text.data;
}
