/*
 * arena: memory that is taken piece by piece and given back all at once. One owner.
 *
 * A zeroed arena is empty. Pieces never move and live until arena_fini.
 */
#ifndef PGSTAGE_CONF_ARENA_H
#define PGSTAGE_CONF_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks;
};

/* `size` zeroed bytes, aligned for anything. */
void *arena_get(struct arena *arena, size_t size) __attribute__((malloc));
/* A copy; NULL gives NULL. */
const char *arena_copy(struct arena *arena, const char *text);
const char *arena_copy_n(struct arena *arena, const char *text, size_t length);
const char *arena_print(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Wipes and frees everything: secrets are among it. */
void arena_fini(struct arena *arena);

#endif
