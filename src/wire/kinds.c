/*
 * kinds: the rows of tables/messages.def as two arrays of 256, so that the relay finds a message's
 * row with one load. A byte that has no row is all zeroes: no name, refused. Constant data.
 */
#include "pgstage/wire/kinds.h"

const struct kind kind_table[2][256] = {
#define MESSAGE(direction, byte, name, relay) [KIND_##direction][byte] = {name, KIND_##relay},
#include "pgstage/tables/messages.def"
#undef MESSAGE
};

const char *kind_name(enum kind_direction direction, uint8_t type)
{
    const char *name = kind_find(direction, type)->name;
    return name ? name : "unknown";
}
