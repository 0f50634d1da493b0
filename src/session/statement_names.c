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

static size_t length_of(const char *name)
{
    return strnlen(name, STATEMENT_NAME_MAX_BYTES);
}

/* ---- the table ---- */

/* So many names a chain has on average at most. */
#define CHAIN_NAMES 4
/* The least number of chains, once there is more than one. */
#define CHAINS_FIRST 8

static struct statement_name **chain_of(struct statement_names *names, uint32_t hash)
{
    return names->chains ? &names->chains[hash & (names->chain_count - 1)] : &names->first;
}

/* The place that points to it, or where its chain ends. */
static struct statement_name **place_of(struct statement_names *names,
                                        const struct statement_name *name)
{
    struct statement_name **place = chain_of(names, name->hash);

    while (*place && *place != name)
        place = &(*place)->next;
    return place;
}

/* The one behind it, in any order; from NULL the first. */
static struct statement_name *next_of(const struct statement_names *names,
                                      const struct statement_name *name)
{
    uint32_t chain = 0;

    if (name && name->next)
        return name->next;
    if (!names->chains)
        return name ? NULL : names->first;
    if (name)
        chain = (name->hash & (names->chain_count - 1)) + 1;
    while (chain < names->chain_count && !names->chains[chain])
        chain++;
    return chain < names->chain_count ? names->chains[chain] : NULL;
}

static void grow(struct statement_names *names)
{
    struct statement_names old = *names;
    struct statement_name *name = next_of(&old, NULL), *next;

    names->chain_count = old.chains ? 2 * old.chain_count : CHAINS_FIRST;
    names->chains = memory_new(names->chain_count * sizeof(struct statement_name *));
    names->first = NULL;
    for (; name; name = next) {
        next = next_of(&old, name);
        name->next = NULL;
        *place_of(names, name) = name;
    }
    free(old.chains);
}

struct statement_name *statement_names_find(struct statement_names *names, const char *name)
{
    size_t length = length_of(name);
    uint32_t hash = map_hash(name, length);
    struct statement_name *found = *chain_of(names, hash);

    while (found && (found->hash != hash || strncmp(found->name, name, length) != 0 ||
                     found->name[length] != '\0'))
        found = found->next;
    return found;
}

struct statement_name *statement_names_get(struct statement_names *names, const char *name)
{
    struct statement_name *found = statement_names_find(names, name);
    size_t length = length_of(name);

    if (found)
        return found;
    if (names->count >= CHAIN_NAMES * (names->chains ? names->chain_count : 1))
        grow(names);
    found = memory_new(sizeof(*found) + length + 1);
    memcpy(found->name, name, length);
    found->hash = map_hash(name, length);
    *place_of(names, found) = found;
    names->count++;
    return found;
}

/* ---- what names stand for ---- */

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
    *place_of(names, name) = name->next;
    names->count--;
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
    struct statement_name *name = next_of(names, NULL), *next;

    for (; name; name = next) {
        next = next_of(names, name);
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
    struct statement_name *name = next_of(names, NULL), *next;

    for (; name; name = next) {
        next = next_of(names, name);
        stand_for(names, name, NULL);
        drop_when_unused(names, name);
    }
}

void statement_names_fini(struct statement_names *names)
{
    statement_names_clear(names);
    check(names->count == 0);
    free(names->chains);
    *names = (struct statement_names){0};
}

size_t statement_names_count(const struct statement_names *names)
{
    return names->count;
}

const char *statement_names_of_number(const struct statement_names *names, uint64_t number)
{
    const struct statement_name *name = next_of(names, NULL);

    for (; name; name = next_of(names, name)) {
        if ((name->asked && statement_number(name->asked) == number) ||
            (name->statement && statement_number(name->statement) == number))
            return name->name;
    }
    return NULL;
}
