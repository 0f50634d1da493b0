/*
 * memory: allocation that never returns NULL; running out of memory ends the process with a log
 * line. Free with free(3). Any thread.
 */
#ifndef PGSTAGE_BASE_MEMORY_H
#define PGSTAGE_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* `size` zeroed bytes; size 0 gives a pointer that can be freed. */
void *memory_new(size_t size) __attribute__((malloc, warn_unused_result));
/* `size` bytes that are not initialised. */
void *memory_get(size_t size) __attribute__((malloc, warn_unused_result));
/* realloc(3) of `old` (may be NULL) to `count * size` bytes; an overflow ends the process. */
void *memory_resize(void *old, size_t count, size_t size) __attribute__((warn_unused_result));

/* `size` (a power of two, whole pages) zeroed bytes straight from the kernel, aligned to their size;
 * memory_unmap gives them back to it. */
void *memory_map(size_t size) __attribute__((malloc, warn_unused_result));
void memory_unmap(void *memory, size_t size);

/* Frees *kept and keeps an exact-size copy of `count` bytes in its place (NULL for none); `bytes` may
 * lie in the old copy. Sets *kept_count. */
void memory_keep(uint8_t **kept, uint32_t *kept_count, const uint8_t *bytes, size_t count);

#endif
