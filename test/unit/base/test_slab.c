/* slab: no block is given twice, and a burst leaves one spare page behind. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "pgstage/base/slab.h"

#define BURST 10000

static void *blocks[BURST];

static void take_all(struct slab *slab, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        blocks[i] = slab_take(slab);
        memset(blocks[i], 0xa5, slab->block_bytes);
        memcpy(blocks[i], &i, sizeof(i));
    }
}

static void expect_whole(struct slab *slab, size_t i)
{
    const uint8_t *bytes = blocks[i];
    size_t number;

    memcpy(&number, bytes, sizeof(number));
    cr_assert_eq(number, i, "block %zu belongs to %zu, too", i, number);
    for (size_t at = sizeof(number); at < slab->block_bytes; at++)
        cr_assert_eq(bytes[at], 0xa5);
}

Test(slab, blocks_are_apart)
{
    struct slab slab;

    slab_init(&slab, 200);
    take_all(&slab, 2000);
    for (size_t i = 0; i < 2000; i++) {
        cr_assert_eq((uintptr_t)blocks[i] % 16, 0);
        expect_whole(&slab, i);
    }
    for (size_t i = 0; i < 2000; i++)
        slab_give(&slab, blocks[i]);
    slab_fini(&slab);
}

Test(slab, what_is_given_back_is_taken_again)
{
    struct slab slab;
    void *block;

    slab_init(&slab, 200);
    block = slab_take(&slab);
    for (int i = 0; i < 1000; i++) {
        slab_give(&slab, block);
        cr_assert_eq(slab_take(&slab), block);
    }
    cr_assert_eq(slab.page_count, 1);
    slab_give(&slab, block);
    slab_fini(&slab);
}

/* What is given back in good order is taken in good order; new ones are zeroed. */
Test(slab, a_block_keeps_what_stands_in_it)
{
    struct slab slab;
    uint64_t *block;

    slab_init(&slab, 200);
    for (int i = 0; i < 1000; i++) {
        blocks[i] = slab_take(&slab);
        for (size_t word = 0; word < 200 / sizeof(*block); word++)
            cr_assert_eq(((uint64_t *)blocks[i])[word], 0);
    }
    for (int i = 0; i < 1000; i++)
        ((uint64_t *)blocks[i])[1] = 7;
    for (int i = 0; i < 500; i++)
        slab_give(&slab, blocks[i]);
    for (int i = 0; i < 500; i++) {
        blocks[i] = block = slab_take(&slab);
        cr_assert(block[1] == 7 || block[1] == 0);
        cr_assert_eq(block[2], 0);
    }
    for (int i = 0; i < 1000; i++)
        slab_give(&slab, blocks[i]);
    slab_fini(&slab);
}

Test(slab, a_burst_leaves_one_spare_page)
{
    struct slab slab;

    slab_init(&slab, 200);
    for (int round = 0; round < 3; round++) {
        take_all(&slab, BURST);
        cr_assert_geq(slab.page_count, BURST * slab.block_bytes / SLAB_PAGE_BYTES);
        /* in another order than they were taken */
        for (size_t i = 0; i < BURST; i += 2)
            slab_give(&slab, blocks[i]);
        for (size_t i = 1; i < BURST; i += 2)
            slab_give(&slab, blocks[i]);
        cr_assert_eq(slab.page_count, 1, "round %d: %zu pages", round, slab.page_count);
    }
    slab_fini(&slab);
}

/* Any order of taking and giving: a block has one owner, and pages follow what is taken. */
Test(slab, any_order)
{
    struct slab slab;
    bool taken[500] = {false};
    size_t count = 0;
    uint32_t state = 1;

    slab_init(&slab, 1000);
    for (int step = 0; step < 200000; step++) {
        size_t i;

        state = state * 1664525 + 1013904223;
        i = (state >> 8) % 500;
        if (taken[i]) {
            expect_whole(&slab, i);
            slab_give(&slab, blocks[i]);
        } else {
            blocks[i] = slab_take(&slab);
            memset(blocks[i], 0xa5, slab.block_bytes);
            memcpy(blocks[i], &i, sizeof(i));
        }
        taken[i] = !taken[i];
        count += taken[i] ? 1 : (size_t)-1;
        cr_assert_geq(slab.page_count * slab.page_blocks, count);
        cr_assert_leq(slab.page_count, 500 / slab.page_blocks + 2);
    }
    for (size_t i = 0; i < 500; i++)
        if (taken[i])
            slab_give(&slab, blocks[i]);
    cr_assert_leq(slab.page_count, 1 + (slab.spare != NULL));
    slab_fini(&slab);
}
