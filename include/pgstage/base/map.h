/*
 * map: uthash with a seeded hash (XXH3), so that names from peers cannot be chosen to collide.
 *
 * Use the HASH_* macros of uthash on structs that hold a `UT_hash_handle`. Include this header,
 * never <uthash.h>. The owner of the table calls them, or the mutex that guards it is held.
 */
#ifndef PGSTAGE_BASE_MAP_H
#define PGSTAGE_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/check.h"

/* XXH3 of the bytes with this process's random seed. Any thread. */
uint32_t map_hash(const void *bytes, size_t length);

#define HASH_FUNCTION(key, length, value) ((value) = map_hash((key), (length)))
#define uthash_fatal(message) check(!message)
#include <uthash.h>

#endif
