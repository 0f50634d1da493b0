/*
 * journal.c: the changes of a transaction, and how savepoints undo them.
 *
 *   SET a  SAVEPOINT s  SET b  SET a  │ ROLLBACK TO s      RELEASE s
 *   [a]    [a s]        [a s b a]     │ [a s]              [a b a] without the mark
 *
 * The innermost savepoint of a name is the one that is meant; those inside it go with it. What an
 * earlier transaction has committed stands before all that, until the caller has taken it:
 *
 *   [certain … │ this transaction's …]
 */
#include "pgstage/session/journal.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

void entry_fini(struct entry *entry)
{
    free(entry->name);
    free(entry->value);
    entry->name = entry->value = NULL;
}

static size_t bytes_of(const struct entry *entry)
{
    return sizeof(*entry) + (entry->name ? strlen(entry->name) : 0) +
           (entry->value ? strlen(entry->value) : 0);
}

static void cut(struct journal *journal, uint32_t count)
{
    while (journal->count > count) {
        struct entry *entry = &journal->entries[--journal->count];

        journal->bytes -= bytes_of(entry);
        entry_fini(entry);
    }
}

static void append(struct journal *journal, const struct entry *entry)
{
    size_t bytes = bytes_of(entry);
    struct entry *copy;

    if (journal->count >= JOURNAL_ENTRIES_MAX || journal->bytes + bytes > JOURNAL_BYTES_MAX) {
        journal->lost = true;
        return;
    }
    if (journal->count == journal->capacity) {
        journal->capacity = journal->capacity ? journal->capacity * 2 : 4;
        journal->entries =
            memory_resize(journal->entries, journal->capacity, sizeof(*journal->entries));
    }
    copy = &journal->entries[journal->count++];
    *copy = *entry;
    copy->name = text_copy(entry->name);
    copy->value = text_copy(entry->value);
    journal->bytes += bytes;
}

/* The innermost savepoint of this name; -1: none is known. */
static int64_t find_savepoint(const struct journal *journal, const char *name)
{
    for (uint32_t i = journal->count; i-- > journal->certain;) {
        const struct entry *entry = &journal->entries[i];

        if (entry->kind == ENTRY_SAVEPOINT && strcmp(entry->name, name) == 0)
            return i;
    }
    return -1;
}

/* Takes the marks of this savepoint and of those in it away; what was done stays. */
static void release(struct journal *journal, uint32_t from)
{
    uint32_t kept = from;

    for (uint32_t i = from; i < journal->count; i++) {
        struct entry *entry = &journal->entries[i];

        if (entry->kind == ENTRY_SAVEPOINT) {
            journal->bytes -= bytes_of(entry);
            entry_fini(entry);
        } else {
            journal->entries[kept++] = *entry;
        }
    }
    journal->count = kept;
}

void journal_add(struct journal *journal, const struct entry *entry)
{
    int64_t savepoint;

    switch (entry->kind) {
    case ENTRY_ROLLBACK_TO:
    case ENTRY_RELEASE:
        savepoint = find_savepoint(journal, entry->name);
        if (savepoint < 0) {
            journal->lost = true; /* the server knows one that we do not */
            break;
        }
        if (entry->kind == ENTRY_ROLLBACK_TO)
            cut(journal, (uint32_t)savepoint + 1);
        else
            release(journal, (uint32_t)savepoint);
        break;
    default:
        append(journal, entry);
        break;
    }
}

void journal_commit(struct journal *journal)
{
    release(journal, journal->certain);
    journal->certain = journal->count;
}

void journal_rollback(struct journal *journal)
{
    cut(journal, journal->certain);
}

void journal_drop_certain(struct journal *journal)
{
    for (uint32_t i = 0; i < journal->certain; i++) {
        journal->bytes -= bytes_of(&journal->entries[i]);
        entry_fini(&journal->entries[i]);
    }
    journal->count -= journal->certain;
    if (journal->certain && journal->count)
        memmove(journal->entries, journal->entries + journal->certain,
                journal->count * sizeof(*journal->entries));
    journal->certain = 0;
}

void journal_clear(struct journal *journal)
{
    journal->certain = 0;
    cut(journal, 0);
    journal->lost = false;
}

void journal_fini(struct journal *journal)
{
    journal_clear(journal);
    free(journal->entries);
    journal->entries = NULL;
    journal->capacity = 0;
}
