/*
 * tracker_read.c: from the text of a query to what its statements do to the session.
 *
 * Each statement gives a few entries, numbered as the server will number its CommandComplete. What
 * takes effect whatever becomes of the transaction is marked `at_once`. Pure apart from allocation.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/listening.h"
#include "pgstage/session/statement_set.h"
#include "pgstage/wire/sql.h"
#include "tracker_inside.h"

struct entry *entries_add(struct entries *entries, enum entry_kind kind, uint32_t statement)
{
    struct entry *entry;

    if (entries->count == entries->capacity) {
        entries->capacity = entries->capacity ? entries->capacity * 2 : 4;
        entries->items = memory_resize(entries->items, entries->capacity, sizeof(*entries->items));
    }
    entry = &entries->items[entries->count++];
    *entry = (struct entry){.kind = (uint8_t)kind, .statement = statement};
    entries->bytes += sizeof(*entry);
    return entry;
}

void entries_fini(struct entries *entries)
{
    for (uint32_t i = 0; i < entries->count; i++)
        entry_fini(&entries->items[i]);
    free(entries->items);
    *entries = (struct entries){0};
}

void entries_copy(struct entries *to, const struct entries *from)
{
    *to = (struct entries){0};
    for (uint32_t i = 0; i < from->count; i++) {
        const struct entry *entry = &from->items[i];
        struct entry *copy = entries_add(to, entry->kind, entry->statement);

        *copy = *entry;
        copy->name = text_copy(entry->name);
        copy->value = text_copy(entry->value);
    }
    to->bytes = from->bytes;
}

static struct entry *add_named(struct entries *entries, enum entry_kind kind, uint32_t statement,
                               const char *name)
{
    struct entry *entry = entries_add(entries, kind, statement);

    entry->name = text_copy(name);
    entries->bytes += strlen(name) + 1;
    return entry;
}

static struct entry *add_pin(struct entries *entries, enum entry_kind kind, uint32_t statement,
                             enum pin pin)
{
    struct entry *entry = entries_add(entries, kind, statement);

    entry->pin = (uint8_t)pin;
    return entry;
}

/* ---- one statement ---- */

static bool begins_with_temp(const char *path)
{
    while (*path == '"' || *path == '\'' || *path == ' ')
        path++;
    return strncasecmp(path, "pg_temp", strlen("pg_temp")) == 0;
}

static void add_setting(struct entries *entries, uint32_t statement, const char *text,
                        const struct sql_setting *setting, unsigned mode)
{
    struct buffer value = {0};
    struct entry *entry;
    bool plain;

    if (!sql_value(text, setting, mode, &value, &plain) ||
        (value.length && memchr(value.data, '\0', value.length))) {
        add_pin(entries, ENTRY_PIN, statement, PIN_setting);
    } else if (value.length == 0 && !plain) {
        add_named(entries, ENTRY_RESET, statement, setting->name);
    } else {
        entry = add_named(entries, ENTRY_SET, statement, setting->name);
        entry->value = text_copy_n(value.data ? (const char *)value.data : "", value.length);
        entry->words = !plain;
        entries->bytes += value.length + 1;
        /* what is made next is temporary, although it does not say so */
        if (text_equal_nocase(setting->name, "search_path") && begins_with_temp(entry->value))
            add_pin(entries, ENTRY_PIN, statement, PIN_temporary);
    }
    buffer_fini(&value);
}

/* A channel's name that means the same on every connection. */
static bool is_channel(const char *name)
{
    size_t length = 0;

    for (; name[length]; length++) {
        if ((unsigned char)name[length] >= 0x80)
            return false;
    }
    return length > 0 && length <= CHANNEL_NAME_MAX_BYTES;
}

static enum pin identity_pin(const char *name)
{
    return text_equal_nocase(name, "role") ? PIN_role : PIN_authorization;
}

/* `prepared`: by a statement that lives on, whatever becomes of the transaction. */
static void add_marks(struct entries *entries, uint32_t number, unsigned marks, bool prepared)
{
    if (marks & SQL_CALLS_CONFIG)
        add_pin(entries, ENTRY_PIN, number, PIN_set_config)->at_once = prepared;
    if (marks & SQL_CALLS_CONFIG && prepared) /* nobody knows when EXECUTE calls it */
        entries_add(entries, ENTRY_SOIL, number)->at_once = true;
    if (marks & SQL_CALLS_LOCK)
        add_pin(entries, ENTRY_PIN, number, PIN_advisory_lock)->at_once = true;
    if (marks & SQL_CALLS_UNLOCK)
        entries_add(entries, ENTRY_ASK, number)->at_once = true;
    if (marks & SQL_CALLS_SEED)
        add_pin(entries, ENTRY_PIN, number, PIN_seed)->at_once = true;
    if (marks & SQL_NAMES_PG_TEMP)
        add_pin(entries, ENTRY_PIN, number, PIN_temporary);
    if (marks & SQL_NAMES_PG_TEMP)
        entries_add(entries, ENTRY_ASK, number);
}

static void add_statement(struct entries *entries, uint32_t number, const char *text,
                          const struct sql_statement *statement, unsigned mode)
{
    const char *name = statement->name;

    switch (statement->verb) {
    case SQL_SET:
        for (uint8_t i = 0; i < statement->setting_count; i++)
            add_setting(entries, number, text, &statement->settings[i], mode);
        break;
    case SQL_RESET:
        add_named(entries, ENTRY_RESET, number, statement->settings[0].name);
        break;
    case SQL_RESET_ALL:
        entries_add(entries, ENTRY_RESET_ALL, number);
        break;
    case SQL_DISCARD_ALL:
        entries_add(entries, ENTRY_DISCARD_ALL, number);
        /* what takes effect at once does so in the order of the statements */
        add_pin(entries, ENTRY_UNPIN, number, PIN_advisory_lock)->at_once = true;
        add_pin(entries, ENTRY_UNPIN, number, PIN_prepare)->at_once = true;
        break;
    case SQL_SET_IDENTITY:
        add_pin(entries, ENTRY_PIN, number, identity_pin(name));
        break;
    case SQL_NO_ROLE:
        entries_add(entries, ENTRY_SOIL, number);
        __attribute__((fallthrough));
    case SQL_RESET_IDENTITY:
        add_pin(entries, ENTRY_UNPIN, number, identity_pin(name));
        /* a session authorization of its own takes the role with it */
        if (identity_pin(name) == PIN_authorization)
            add_pin(entries, ENTRY_UNPIN, number, PIN_role);
        break;
    case SQL_SET_OTHER:
        add_pin(entries, ENTRY_PIN, number, PIN_setting);
        break;
    case SQL_DISCARD_TEMP:
        add_pin(entries, ENTRY_UNPIN, number, PIN_temporary);
        break;
    case SQL_LISTEN:
        if (is_channel(name))
            add_named(entries, ENTRY_LISTEN, number, name);
        else
            add_pin(entries, ENTRY_PIN, number, PIN_listen);
        break;
    case SQL_UNLISTEN:
        if (*name)
            add_named(entries, ENTRY_UNLISTEN, number, name);
        else
            entries_add(entries, ENTRY_UNLISTEN, number);
        break;
    case SQL_PREPARE:
        add_pin(entries, ENTRY_PIN, number, PIN_prepare)->at_once = true;
        break;
    case SQL_DEALLOCATE:
        /* what EXECUTE has done (a lock) is looked for as well */
        entries_add(entries, ENTRY_ASK, number)->at_once = true;
        if (!*name)
            add_pin(entries, ENTRY_UNPIN, number, PIN_prepare)->at_once = true;
        /* nobody may take away what others rely on */
        if (strncmp(name, SERVER_NAME_PREFIX, strlen(SERVER_NAME_PREFIX)) == 0)
            entries_add(entries, ENTRY_STAIN, number)->at_once = true;
        break;
    case SQL_HOLD:
        add_pin(entries, ENTRY_PIN, number, PIN_cursor);
        break;
    case SQL_CLOSE:
    case SQL_DROP:
        entries_add(entries, ENTRY_ASK, number);
        break;
    case SQL_LOAD:
        add_pin(entries, ENTRY_PIN, number, PIN_load)->at_once = true;
        break;
    case SQL_TEMPORARY:
        add_pin(entries, ENTRY_PIN, number, PIN_temporary);
        break;
    case SQL_SAVEPOINT:
        add_named(entries, ENTRY_SAVEPOINT, number, name);
        break;
    case SQL_RELEASE:
        add_named(entries, ENTRY_RELEASE, number, name);
        break;
    case SQL_ROLLBACK_TO:
        add_named(entries, ENTRY_ROLLBACK_TO, number, name);
        break;
    case SQL_UNKNOWN:
        add_pin(entries, ENTRY_ASK, number, PIN_unknown)->at_once = true;
        break;
    case SQL_QUIET:
    case SQL_STANDS_ALONE:
    case SQL_BEGIN:
    case SQL_COMMIT:   /* the tag of its answer tells */
    case SQL_ROLLBACK: /* the same */
    case SQL_PREPARE_TRANSACTION:
        break;
    }
    /* in a search_path it is only looked for in the first place */
    add_marks(entries, number,
              statement->verb == SQL_SET ? statement->marks & ~(unsigned)SQL_NAMES_PG_TEMP
                                         : statement->marks,
              statement->verb == SQL_PREPARE);
}

bool entries_read(struct entries *entries, const char *text, size_t length, unsigned mode)
{
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_statement statement;
    bool known = true;

    for (uint32_t number = 0; sql_next(&lexer, &statement); number++) {
        add_statement(entries, number, text, &statement, mode);
        known = known && statement.verb != SQL_UNKNOWN;
    }
    return known;
}

const char *entries_channel(const struct entries *entries, uint32_t *next)
{
    while (*next < entries->count) {
        const struct entry *entry = &entries->items[(*next)++];

        if (entry->kind == ENTRY_LISTEN)
            return entry->name;
    }
    return NULL;
}

bool entries_are_refused(const struct entries *entries, const struct server *server)
{
    for (uint32_t i = 0; i < entries->count; i++) {
        const struct entry *entry = &entries->items[i];

        if (entry->kind == ENTRY_PIN || entry->kind == ENTRY_LISTEN ||
            (entry->kind == ENTRY_SET && !tracker_is_reported(server, entry->name)))
            return true;
    }
    return false;
}
