/*
 * slab: blocks of one size, for what each of very many needs now and then.
 *
 * Blocks lie in pages that come straight from the kernel and go back to it with their last block,
 * all but one that is kept for the next: so a burst leaves nothing behind, as pieces of malloc
 * would that stay between what was allocated meanwhile. As in Bonwick's slabs a block keeps what
 * stands in it until it is taken again, but for its first word: who leaves it in good order need
 * not make it anew. Under AddressSanitizer a block that is not taken cannot be touched. One thread.
 */
#ifndef PGSTAGE_BASE_SLAB_H
#define PGSTAGE_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "pgstage/base/list.h"

/* What a page of blocks takes of the address space; memory only where it is touched. */
#define SLAB_PAGE_BYTES (64 * 1024)

struct slab_block {
    struct slab_block *next;
};

/* At the beginning of its blocks. */
struct slab_page {
    struct list_node node; /* in slab->roomy, while it has room */
    struct slab_block *free;
    uint32_t room;  /* blocks that are not taken */
    uint32_t fresh; /* where those of them begin that were never used */
};

struct slab {
    /* fixed */
    uint32_t block_bytes;
    uint32_t page_blocks;
    /* owner */
    struct list roomy;       /* pages with taken and free blocks; or the only page */
    struct slab_page *spare; /* a page of free blocks; NULL: none */
    size_t page_count;       /* with those that are full */
};

/* Blocks of `block_bytes`, aligned as malloc's; at least two must fit into a page. */
void slab_init(struct slab *slab, size_t block_bytes);
/* Gives the pages back; no block may be taken. */
void slab_fini(struct slab *slab);
/* For slab_take and slab_give: a page for a slab without room; one that has become empty. */
struct slab_page *slab_add_page(struct slab *slab);
void slab_retire_page(struct slab *slab, struct slab_page *page);

static inline void slab_hide(struct slab *slab, void *block)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(block, slab->block_bytes);
#endif
    (void)slab, (void)block;
}
static inline void slab_show(struct slab *slab, void *block)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(block, slab->block_bytes);
#endif
    (void)slab, (void)block;
}

/* A block: a new one is zeroed, another as it was given back but for its first word. Never NULL (see
 * memory.h). slab_give takes it back. */
static inline __attribute__((warn_unused_result)) void *slab_take(struct slab *slab)
{
    struct list_node *first = list_first(&slab->roomy);
    struct slab_page *page =
        first ? list_entry(first, struct slab_page, node) : slab_add_page(slab);
    struct slab_block *block = page->free;

    if (block) {
        slab_show(slab, block);
        page->free = block->next;
    } else {
        block = (struct slab_block *)((uint8_t *)page + page->fresh);
        page->fresh += slab->block_bytes;
        slab_show(slab, block);
    }
    if (--page->room == 0)
        list_remove(&slab->roomy, &page->node);
    return block;
}

static inline void slab_give(struct slab *slab, void *taken)
{
    struct slab_block *block = taken;
    /* pages are aligned to their size */
    struct slab_page *page =
        (struct slab_page *)((uintptr_t)block & ~(uintptr_t)(SLAB_PAGE_BYTES - 1));

    block->next = page->free;
    page->free = block;
    slab_hide(slab, block);
    if (page->room++ == 0)
        list_push_back(&slab->roomy, &page->node);
    if (page->room == slab->page_blocks && slab->page_count > 1)
        slab_retire_page(slab, page);
}

#endif
