/*
 * statement_names.c: one client's names of prepared statements.
 *
 * An entry is there while the name stands for something or a change of it is pending. All pending
 * changes of a name belong to one batch (the relay holds messages back that would mix two), so when
 * one of them is dropped, those behind it are dropped, too.
 */
#include "pgstage/session/statement_names.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"

/* Most clients have a few names, and each that has any keeps its table while it is idle: a table
 * begins with one bucket, and grows when ten names stand in it. */
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS 1U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 0U

static size_t length_of(const char *name)
{
    return strnlen(name, STATEMENT_NAME_MAX_BYTES);
}

struct statement_name *statement_names_find(const struct statement_names *names, const char *name)
{
    struct statement_name *found;
    size_t length = length_of(name);

    HASH_FIND(hh, names->by_name, name, length, found);
    return found;
}

struct statement_name *statement_names_get(struct statement_names *names, const char *name)
{
    struct statement_name *found = statement_names_find(names, name);
    size_t length = length_of(name);

    if (found)
        return found;
    found = memory_new(sizeof(*found) + length + 1);
    memcpy(found->name, name, length);
    HASH_ADD_KEYPTR(hh, names->by_name, found->name, length, found);
    return found;
}

/* What it stands for changes; the old reference is given back. */
static void stand_for(struct statement_names *names, struct statement_name *name,
                      struct statement *statement)
{
    if (name->statement && statement_is_long(name->statement))
        names->long_ones--;
    if (statement && statement_is_long(statement))
        names->long_ones++;
    if (name->asked == name->statement && name->pending == 0)
        name->asked = statement;
    statement_give(name->statement);
    name->statement = statement;
}

static void drop_when_unused(struct statement_names *names, struct statement_name *name)
{
    if (name->statement || name->pending || name->uses)
        return;
    HASH_DEL(names->by_name, name);
    free(name);
}

void statement_names_ask(struct statement_name *name, struct statement *statement, uint32_t batch)
{
    name->asked = statement;
    name->pending++;
    name->batch = batch;
}

void statement_names_answer(struct statement_names *names, struct statement_name *name,
                            struct statement *statement, bool done)
{
    name->pending--;
    if (done)
        stand_for(names, name, statement);
    else
        statement_give(statement);
    if (name->pending == 0 || !done)
        name->asked = name->statement;
    drop_when_unused(names, name);
}

void statement_names_replace(struct statement_names *names, struct statement_name *name,
                             struct statement *statement)
{
    check(name->pending == 0);
    stand_for(names, name, statement);
}

void statement_names_forget_long(struct statement_names *names)
{
    struct statement_name *name, *next;

    HASH_ITER (hh, names->by_name, name, next) {
        if (!name->statement || !statement_is_long(name->statement))
            continue;
        stand_for(names, name, NULL);
        drop_when_unused(names, name);
    }
}

void statement_names_used(struct statement_names *names, struct statement_name *name)
{
    name->uses--;
    drop_when_unused(names, name);
}

void statement_names_clear(struct statement_names *names)
{
    struct statement_name *name, *next;

    HASH_ITER (hh, names->by_name, name, next) {
        stand_for(names, name, NULL);
        drop_when_unused(names, name);
    }
}

void statement_names_fini(struct statement_names *names)
{
    statement_names_clear(names);
    check(!names->by_name);
}

size_t statement_names_count(const struct statement_names *names)
{
    return HASH_COUNT(names->by_name);
}

const char *statement_names_of_number(const struct statement_names *names, uint64_t number)
{
    const struct statement_name *name, *next;

    HASH_ITER (hh, names->by_name, name, next) {
        if ((name->asked && statement_number(name->asked) == number) ||
            (name->statement && statement_number(name->statement) == number))
            return name->name;
    }
    return NULL;
}
