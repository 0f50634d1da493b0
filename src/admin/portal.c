/*
 * portal: Parse, Bind, Describe, Close, and the sending half of Execute.
 *
 *   Parse ─► struct prepared ─ Bind ─► struct portal ─ Execute (console.c runs the command once) ─►
 *   rows wait in the portal ─ portal_send hands out as many as each Execute asks for
 *
 * Commands take no parameters, so a Bind with one is refused. Everything a client can make grow
 * here is bounded: names by PORTAL_NAMES_MAX, rows by one result for each portal.
 */
#include "pgstage/admin/portal.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/message.h"

static bool refuse(struct buffer *out, const char *sqlstate, const char *text)
{
    message_error(out, "ERROR", sqlstate, text, NULL, NULL);
    return false;
}

static void prepared_free(struct portals *portals, struct prepared *prepared)
{
    HASH_DEL(portals->prepared, prepared);
    command_fini(&prepared->command);
    free(prepared->name);
    free(prepared->text);
    free(prepared);
}

static struct prepared *prepared_find(struct portals *portals, const char *name)
{
    struct prepared *prepared;
    HASH_FIND_STR(portals->prepared, name, prepared);
    return prepared;
}

static void portal_free(struct portals *portals, struct portal *portal)
{
    HASH_DEL(portals->portals, portal);
    command_fini(&portal->command);
    buffer_fini(&portal->rows);
    free(portal->formats);
    free(portal->name);
    free(portal->text);
    free(portal->tag);
    free(portal);
}

struct portal *portal_find(struct portals *portals, const char *name)
{
    struct portal *portal;
    HASH_FIND_STR(portals->portals, name, portal);
    return portal;
}

void portals_clear(struct portals *portals)
{
    struct portal *portal, *next;
    HASH_ITER (hh, portals->portals, portal, next)
        portal_free(portals, portal);
}

void portals_forget(struct portals *portals)
{
    struct prepared *prepared, *next;
    HASH_ITER (hh, portals->prepared, prepared, next)
        prepared_free(portals, prepared);
}

/* What the text means. Returns how many statements stand in it; more than one: none is read. */
static unsigned read_text(const struct portals *portals, const char *text, struct command *command)
{
    *command = (struct command){.columns = &columns_of_none};
    struct statement statement;
    unsigned count = 0;
    while (count < 2 && statement_next(&text, &statement)) {
        command_fini(command);
        command_read(command, &statement);
        if (portals->as_pgbouncer)
            command_as_pgbouncer(command);
        statement_fini(&statement);
        count++;
    }
    return count;
}

bool portal_parse(struct portals *portals, struct reader *body, char status, struct buffer *out)
{
    const char *name = reader_string(body);
    const char *text = reader_string(body);
    size_t types = reader_u16(body);
    (void)reader_bytes(body, types * 4);
    if (!reader_is_done(body))
        return refuse(out, "08P01", "invalid Parse message");

    struct prepared *old = prepared_find(portals, name);
    if (old && *name)
        return refuse(out, "42P05", "a prepared statement of this name already exists");
    if (!old && HASH_COUNT(portals->prepared) >= PORTAL_NAMES_MAX)
        return refuse(out, "54000", "too many prepared statements in this console session");

    struct command command;
    unsigned count = read_text(portals, text, &command);
    bool ok = false;
    if (count > 1)
        refuse(out, "42601", "cannot insert multiple commands into a prepared statement");
    else if (count == 1 && command.kind == COMMAND_WRONG)
        message_error(out, "ERROR", command.sqlstate, command.problem, NULL, command.hint);
    else if (status == 'E' && count == 1 && command.kind != COMMAND_END)
        refuse(out, "25P02",
               "current transaction is aborted, commands ignored until end of transaction block");
    else
        ok = true;
    if (!ok) {
        command_fini(&command);
        return false;
    }

    if (old)
        prepared_free(portals, old);
    struct prepared *prepared = memory_new(sizeof *prepared);
    prepared->name = text_copy(name);
    prepared->text = text_copy(text);
    prepared->command = command;
    prepared->is_empty = count == 0;
    HASH_ADD_KEYPTR(hh, portals->prepared, prepared->name, strlen(prepared->name), prepared);
    message_empty(out, '1');
    return true;
}

/* Expands Bind's format codes (none, one for all, or one for each) to one for each column. NULL and
 * an error in `out` when they do not fit. */
static uint16_t *read_formats(struct reader *body, size_t columns, struct buffer *out)
{
    size_t given = reader_u16(body);
    uint16_t *formats = memory_new((columns + 1) * sizeof *formats);
    uint16_t last = 0;
    bool ok = true;
    for (size_t i = 0; i < given && !body->failed; i++) {
        last = reader_u16(body);
        ok = ok && last <= 1;
        if (i < columns)
            formats[i] = last;
    }
    for (size_t i = 1; given == 1 && i < columns; i++)
        formats[i] = last;
    /* A single code for a command without columns is what some drivers send. */
    bool fits = given <= 1 || given == columns;
    if (reader_is_done(body) && ok && fits)
        return formats;
    free(formats);
    refuse(out, "08P01",
           !reader_is_done(body) ? "invalid Bind message"
           : !ok                 ? "unsupported format code"
                 : "bind message has another number of result formats than columns");
    return NULL;
}

bool portal_bind(struct portals *portals, struct reader *body, struct buffer *out)
{
    const char *name = reader_string(body);
    const char *statement_name = reader_string(body);
    size_t parameter_formats = reader_u16(body);
    (void)reader_bytes(body, parameter_formats * 2);
    size_t parameters = reader_u16(body);
    if (body->failed)
        return refuse(out, "08P01", "invalid Bind message");
    if (parameters > 0)
        return refuse(out, "08P01", "commands of the console take no parameters");
    struct prepared *prepared = prepared_find(portals, statement_name);
    if (!prepared)
        return refuse(out, "26000", "this prepared statement does not exist");

    struct portal *old = portal_find(portals, name);
    if (old && *name)
        return refuse(out, "42P03", "a portal of this name already exists");
    if (!old && HASH_COUNT(portals->portals) >= PORTAL_NAMES_MAX)
        return refuse(out, "54000", "too many portals in this console session");
    uint16_t *formats = read_formats(body, prepared->command.columns->count, out);
    if (!formats)
        return false;

    if (old)
        portal_free(portals, old);
    struct portal *portal = memory_new(sizeof *portal);
    portal->name = text_copy(name);
    portal->text = text_copy(prepared->text);
    portal->is_empty = read_text(portals, prepared->text, &portal->command) == 0;
    portal->columns = portal->command.columns;
    portal->formats = formats;
    HASH_ADD_KEYPTR(hh, portals->portals, portal->name, strlen(portal->name), portal);
    message_empty(out, '2');
    return true;
}

bool portal_describe(struct portals *portals, struct reader *body, struct buffer *out)
{
    uint8_t what = reader_u8(body);
    const char *name = reader_string(body);
    if (!reader_is_done(body) || (what != 'S' && what != 'P'))
        return refuse(out, "08P01", "invalid Describe message");
    if (what == 'P') {
        struct portal *portal = portal_find(portals, name);
        if (!portal)
            return refuse(out, "34000", "this portal does not exist");
        result_describe(out, portal->columns, portal->formats);
        return true;
    }
    struct prepared *prepared = prepared_find(portals, name);
    if (!prepared)
        return refuse(out, "26000", "this prepared statement does not exist");
    size_t begin = message_begin(out, 't');
    buffer_put_u16(out, 0);
    message_end(out, begin);
    result_describe(out, prepared->command.columns, NULL);
    return true;
}

bool portal_close(struct portals *portals, struct reader *body, struct buffer *out)
{
    uint8_t what = reader_u8(body);
    const char *name = reader_string(body);
    if (!reader_is_done(body) || (what != 'S' && what != 'P'))
        return refuse(out, "08P01", "invalid Close message");
    struct portal *portal = what == 'P' ? portal_find(portals, name) : NULL;
    struct prepared *prepared = what == 'S' ? prepared_find(portals, name) : NULL;
    if (portal)
        portal_free(portals, portal);
    if (prepared)
        prepared_free(portals, prepared);
    message_empty(out, '3');
    return true;
}

void portal_send(struct portal *portal, uint32_t maximum, struct buffer *out)
{
    size_t begin = portal->sent_bytes, end = begin;
    for (uint32_t sent = 0; end < portal->rows.length && (maximum == 0 || sent < maximum); sent++)
        end += 1 + wire_get_u32(portal->rows.data + end + 1);
    buffer_put(out, portal->rows.data + begin, end - begin);
    portal->sent_bytes = end;
    if (end < portal->rows.length) {
        message_empty(out, 's');
        return;
    }
    buffer_fini(&portal->rows);
    portal->sent_bytes = 0;
    message_command_complete(out, portal->tag);
}
