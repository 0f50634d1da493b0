/*
 * slab.c: the pages of a slab.
 *
 *     ┌ page, aligned to its size ────────────────────────────────┐
 *     │ slab_page │ taken │ free ─┐ │ taken │ free │ never used     │
 *     └───────────────────────────────────▲─────────▲─────────────┘
 *          free ──────────────────┴─► …   ┘         └ fresh
 *
 * A block finds its page by clearing the low bits of its address. Free blocks are chained through
 * their first word; those that were never used stand behind `fresh` and are no memory yet. Blocks
 * are taken from the first page that has one, and a page that has just got room is put behind the
 * others: so what is taken gathers in few pages, and others become empty. One that has become empty
 * is the spare one, or goes; the only page stays where it is.
 */
#include "pgstage/base/slab.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"

#define ALIGNMENT 16
#define FIRST_BLOCK ((sizeof(struct slab_page) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

static struct slab_page *page_new(struct slab *slab)
{
    struct slab_page *page = memory_map(SLAB_PAGE_BYTES);

#ifdef __SANITIZE_ADDRESS__
    __lsan_register_root_region(page, SLAB_PAGE_BYTES);
    __asan_poison_memory_region((uint8_t *)page + FIRST_BLOCK, SLAB_PAGE_BYTES - FIRST_BLOCK);
#endif
    page->room = slab->page_blocks;
    page->fresh = FIRST_BLOCK;
    slab->page_count++;
    return page;
}

static void page_free(struct slab *slab, struct slab_page *page)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(page, SLAB_PAGE_BYTES);
    __lsan_unregister_root_region(page, SLAB_PAGE_BYTES);
#endif
    memory_unmap(page, SLAB_PAGE_BYTES);
    slab->page_count--;
}

struct slab_page *slab_add_page(struct slab *slab)
{
    struct slab_page *page = slab->spare ? slab->spare : page_new(slab);

    slab->spare = NULL;
    list_push_back(&slab->roomy, &page->node);
    return page;
}

void slab_retire_page(struct slab *slab, struct slab_page *page)
{
    list_remove(&slab->roomy, &page->node);
    if (slab->spare)
        page_free(slab, page);
    else
        slab->spare = page;
}

void slab_init(struct slab *slab, size_t block_bytes)
{
    size_t bytes = (block_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    check(bytes && bytes <= (SLAB_PAGE_BYTES - FIRST_BLOCK) / 2);
    *slab = (struct slab){.block_bytes = (uint32_t)bytes,
                          .page_blocks = (uint32_t)((SLAB_PAGE_BYTES - FIRST_BLOCK) / bytes)};
    list_init(&slab->roomy);
}

void slab_fini(struct slab *slab)
{
    struct list_node *node;

    while ((node = list_pop_front(&slab->roomy))) {
        struct slab_page *page = list_entry(node, struct slab_page, node);

        check(page->room == slab->page_blocks);
        page_free(slab, page);
    }
    if (slab->spare)
        page_free(slab, slab->spare);
    slab->spare = NULL;
    check(slab->page_count == 0);
}
