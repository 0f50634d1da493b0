/*
 * arena: the texts and records of one configuration, freed together.
 *
 * Pieces are cut from chunks of 64 kB (a larger piece gets a chunk of its own). One owner, who
 * alone calls these; readers of a finished snapshot need no lock because nothing moves.
 *
 *   chunks -> [ used | free ] -> [ used ] -> NULL
 */
#include "pgstage/conf/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define CHUNK_BYTES ((size_t)65536)
#define ALIGNMENT _Alignof(max_align_t)

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    _Alignas(max_align_t) uint8_t bytes[];
};

void *arena_get(struct arena *arena, size_t size)
{
    struct arena_chunk *chunk = arena->chunks;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!chunk || size > chunk->size - chunk->used) {
        size_t chunk_size = size > CHUNK_BYTES / 4 ? size : CHUNK_BYTES;
        struct arena_chunk *fresh = memory_new(sizeof(*fresh) + chunk_size);
        fresh->size = chunk_size;
        /* A piece with a chunk of its own goes behind, so that the half-filled one stays in use. */
        if (chunk && chunk_size != CHUNK_BYTES) {
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunks = fresh;
        }
        chunk = fresh;
    }
    void *piece = chunk->bytes + chunk->used;
    chunk->used += size;
    return piece;
}

const char *arena_copy_n(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_get(arena, length + 1);
    if (length)
        memcpy(copy, text, length);
    return copy;
}

const char *arena_copy(struct arena *arena, const char *text)
{
    return text ? arena_copy_n(arena, text, strlen(text)) : NULL;
}

const char *arena_print(struct arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    const char *copy = arena_copy(arena, text);
    text_wipe(text, strlen(text));
    free(text);
    return copy;
}

void arena_fini(struct arena *arena)
{
    while (arena->chunks) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        text_wipe(chunk->bytes, chunk->used);
        free(chunk);
    }
}
