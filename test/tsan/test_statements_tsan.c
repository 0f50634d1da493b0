/*
 * The shared cache of prepared statements under ThreadSanitizer: threads take, read, renumber and
 * give back the same few statements, as clients do, and hold them, as servers do, while the limit
 * makes idle texts go.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/session/statement_cache.h"

#define THREADS 4
#define ROUNDS 20000
#define SLOTS 8

static struct statement_cache *cache;

static void *use(void *argument)
{
    unsigned seed = *(unsigned *)argument;
    struct statement *names[SLOTS] = {NULL}, *kept[SLOTS] = {NULL};
    size_t read = 0;

    for (int i = 0; i < ROUNDS; i++) {
        unsigned slot = (seed = seed * 1103515245u + 12345u) >> 16 & (SLOTS - 1);
        size_t bytes;
        char text[64];

        if (names[slot] && !kept[slot])
            kept[slot] = statement_ref(names[slot]);
        statement_give(names[slot]);
        snprintf(text, sizeof text, "SELECT %u", seed >> 8 & 31);
        names[slot] = statement_take(cache, text, strlen(text), "UTF8", 4, 4096);
        if (names[slot]) {
            read += statement_text(names[slot], &bytes)[bytes - 1];
            read += statement_is_in_context(names[slot], "UTF8", 4);
            if (i % 64 == 0)
                statement_renumber(names[slot], statement_number(names[slot]));
        }
        if (i % 3 == 0) {
            statement_unref(kept[slot]);
            kept[slot] = NULL;
        }
    }
    for (int i = 0; i < SLOTS; i++) {
        statement_give(names[i]);
        statement_unref(kept[i]);
    }
    return (void *)read;
}

int main(void)
{
    pthread_t threads[THREADS];
    unsigned seeds[THREADS] = {1, 2, 3, 4};
    struct statement_totals totals;

    cache = statement_cache_new();
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, use, &seeds[i]) != 0)
            return 1;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    statement_cache_totals(cache, &totals);
    statement_cache_free(cache);
    return totals.statements || totals.bytes ? 1 : 0;
}
