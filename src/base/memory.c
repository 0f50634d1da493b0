/*
 * memory: malloc(3) without the NULL.
 *
 * A pooler that cannot allocate a few bytes cannot answer its clients either, so running out ends
 * the process with one line that says how much was asked for. Sizes that a peer chooses are bounded
 * by their readers before they come here. Any thread.
 */
#include "pgstage/base/memory.h"

#include <stdint.h>
#include <stdlib.h>

#include "pgstage/base/log.h"

static _Noreturn void memory_exhausted(size_t count, size_t size)
{
    log_write(RANK_FATAL, "out of memory: cannot allocate %zu x %zu bytes", count, size);
    abort();
}

void *memory_new(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        memory_exhausted(1, size);
    return memory;
}

void *memory_get(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory)
        memory_exhausted(1, size);
    return memory;
}

void *memory_resize(void *old, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        memory_exhausted(count, size);

    /* realloc(old, 0) may free and return NULL: always ask for something. */
    size_t bytes = count * size;
    void *memory = realloc(old, bytes ? bytes : 1);
    if (!memory)
        memory_exhausted(count, size);
    return memory;
}
