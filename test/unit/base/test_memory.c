/*
 * test_memory.c: what memory.h promises beyond malloc.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"

Test(memory, keeps_an_exact_copy_in_place_of_the_old_one)
{
    uint8_t *kept = NULL;
    uint32_t count = 0;
    memory_keep(&kept, &count, (const uint8_t *)"first", 5);
    cr_assert_eq(count, 5);
    cr_assert_eq(memcmp(kept, "first", 5), 0);
    memory_keep(&kept, &count, (const uint8_t *)"2nd", 3);
    cr_assert_eq(count, 3);
    cr_assert_eq(memcmp(kept, "2nd", 3), 0);
    memory_keep(&kept, &count, NULL, 0);
    cr_assert_null(kept);
    cr_assert_eq(count, 0);
}

Test(memory, keeps_the_rest_of_what_was_kept)
{
    uint8_t *kept = NULL;
    uint32_t count = 0;
    memory_keep(&kept, &count, (const uint8_t *)"head and tail", 13);
    memory_keep(&kept, &count, kept + 9, 4);
    cr_assert_eq(count, 4);
    cr_assert_eq(memcmp(kept, "tail", 4), 0);
    free(kept);
}
