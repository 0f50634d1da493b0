/*
 * statement_set.c: what one server has prepared.
 *
 * `used` holds the entries that are there when all that was asked goes well, in order of use. An
 * entry that was asked to go stays in the table until its CloseComplete, and comes back into `used`
 * when the Close was dropped.
 */
#include "pgstage/session/statement_set.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "pgstage/base/memory.h"

/* How far into the list surplus is sought: entries with something pending are passed over. */
#define SURPLUS_LOOKS 64

void statement_set_init(struct statement_set *set)
{
    set->by_number = NULL;
    list_init(&set->used);
}

static void place(struct statement_set *set, struct kept_statement *kept)
{
    if (kept->asked && !list_node_is_listed(&kept->node))
        list_push_back(&set->used, &kept->node);
    else if (!kept->asked && list_node_is_listed(&kept->node))
        list_remove(&set->used, &kept->node);
}

static void drop(struct statement_set *set, struct kept_statement *kept)
{
    kept->asked = false;
    place(set, kept);
    HASH_DEL(set->by_number, kept);
    statement_unref(kept->statement);
    free(kept);
}

void statement_set_fini(struct statement_set *set)
{
    struct kept_statement *kept, *next;

    HASH_ITER (hh, set->by_number, kept, next)
        drop(set, kept);
}

/* Numbers are our own: nobody can choose them to collide. */
static unsigned hash_of(uint64_t number)
{
    return (unsigned)(number * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

struct kept_statement *statement_set_find_number(const struct statement_set *set, uint64_t number)
{
    struct kept_statement *kept;

    HASH_FIND_BYHASHVALUE(hh, set->by_number, &number, sizeof(number), hash_of(number), kept);
    return kept;
}

struct kept_statement *statement_set_find(const struct statement_set *set,
                                          const struct statement *statement)
{
    return statement_set_find_number(set, statement_number(statement));
}

struct kept_statement *statement_set_get(struct statement_set *set, struct statement *statement)
{
    uint64_t number = statement_number(statement);
    struct kept_statement *kept = statement_set_find_number(set, number);

    if (kept)
        return kept;
    kept = memory_new(sizeof(*kept));
    kept->number = number;
    kept->statement = statement_ref(statement);
    kept->held = statement_is_long(statement);
    kept->name_bytes = (uint8_t)(1 + snprintf(kept->name, sizeof(kept->name),
                                              SERVER_NAME_PREFIX "%" PRIu64, number));
    HASH_ADD_BYHASHVALUE(hh, set->by_number, number, sizeof(kept->number), hash_of(number), kept);
    return kept;
}

void statement_set_touch(struct statement_set *set, struct kept_statement *kept)
{
    if (!kept->asked || set->used.head.prev == &kept->node)
        return;
    list_remove(&set->used, &kept->node);
    list_push_back(&set->used, &kept->node);
}

void statement_set_ask(struct statement_set *set, struct kept_statement *kept, bool there,
                       uint32_t batch)
{
    kept->asked = there;
    kept->pending++;
    kept->batch = batch;
    place(set, kept);
}

static void settle(struct statement_set *set, struct kept_statement *kept)
{
    if (!kept->there && kept->pending == 0)
        drop(set, kept);
    else
        place(set, kept);
}

void statement_set_answer(struct statement_set *set, struct kept_statement *kept, bool there,
                          bool done)
{
    kept->pending--;
    if (done)
        kept->there = there;
    if (kept->pending == 0 || !done)
        kept->asked = kept->there;
    settle(set, kept);
}

/* The server does not have it, contrary to what was thought. */
static void lose(struct statement_set *set, struct kept_statement *kept)
{
    kept->there = false;
    if (kept->pending == 0)
        kept->asked = false;
    settle(set, kept);
}

void statement_set_clear(struct statement_set *set)
{
    struct kept_statement *kept, *next;

    HASH_ITER (hh, set->by_number, kept, next)
        lose(set, kept);
}

struct kept_statement *statement_set_surplus(const struct statement_set *set, size_t most,
                                             uint32_t batch)
{
    int looks = 0;

    if (set->used.length < most)
        return NULL;
    list_for_each (node, &set->used) {
        struct kept_statement *kept = list_entry(node, struct kept_statement, node);

        if ((kept->pending == 0 || kept->batch == batch) && !kept->held)
            return kept;
        if (++looks == SURPLUS_LOOKS)
            break;
    }
    return NULL;
}

void statement_set_release(struct statement_set *set)
{
    list_for_each (node, &set->used)
        list_entry(node, struct kept_statement, node)->held = false;
}
