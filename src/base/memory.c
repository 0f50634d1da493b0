/*
 * memory: malloc(3) without the NULL.
 *
 * A pooler that cannot allocate a few bytes cannot answer its clients either, so running out ends
 * the process with one line that says how much was asked for. Sizes that a peer chooses are bounded
 * by their readers before they come here. Any thread.
 */
#include "pgstage/base/memory.h"

#include "pgstage/base/check.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pgstage/base/log.h"

/* The largest piece that glibc keeps for a thread. */
#define MEMORY_SMALL_BYTES 1032

static _Noreturn void memory_exhausted(size_t count, size_t size)
{
    log_write(RANK_FATAL, "out of memory: cannot allocate %zu x %zu bytes", count, size);
    abort();
}

void *memory_get(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory)
        memory_exhausted(1, size);
    return memory;
}

/* Not inlined, else the compiler makes calloc of it. */
static __attribute__((noinline)) void *get_small(size_t size)
{
    return memory_get(size);
}

/* glibc keeps small pieces for each thread (tcache), but calloc does not take from there: a client
 * that logs in is a quarter cheaper with malloc and memset. Large pieces may come zeroed from the
 * kernel. */
void *memory_new(size_t size)
{
    void *memory;

    if (size > 0 && size <= MEMORY_SMALL_BYTES)
        return memset(get_small(size), 0, size);
    memory = calloc(1, size ? size : 1);
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

/* The kernel aligns to its own pages only: twice as much is asked for, and both ends go back. */
void *memory_map(size_t size)
{
    uint8_t *memory =
        mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (memory == MAP_FAILED)
        memory_exhausted(1, size);
    before = -(uintptr_t)memory & (size - 1);
    if (before)
        memory_unmap(memory, before);
    memory_unmap(memory + before + size, size - before);
    return memory + before;
}

void memory_unmap(void *memory, size_t size)
{
    check(munmap(memory, size) == 0);
}

void memory_keep(uint8_t **kept, uint32_t *kept_count, const uint8_t *bytes, size_t count)
{
    uint8_t *copy = count ? memory_get(count) : NULL;

    check(count <= UINT32_MAX);
    if (count)
        memcpy(copy, bytes, count);
    free(*kept);
    *kept = copy;
    *kept_count = (uint32_t)count;
}
