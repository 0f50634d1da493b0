/*
 * gather: one letter to every loop, and one back home.
 *
 *     home ──letter 0──→ loop 0: each() ─┐
 *          ──letter 1──→ loop 1: each() ─┼─ the last one ──done letter──→ home: done()
 *          ──letter n──→ loop n: each() ─┘
 *
 * All letters live in one allocation, which the done letter frees. `remaining` is the only thing
 * that the threads share; its last decrement makes every slot visible to home. A loop that is freed
 * with its letter undelivered counts as having answered, so the others' answers are not lost.
 */
#include "pgstage/worker/gather.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"
#include "pgstage/worker/loop.h"

struct gather_letter {
    struct mail mail;
    struct gather *gather;
    unsigned slot;
};

struct gather {
    /* fixed */
    struct loop *home;
    gather_each *each;
    gather_done *done;
    void *argument;

    /* shared: atomics */
    atomic_uint remaining;

    /* owner: whoever's mailbox holds the letter */
    struct mail done_mail;
    struct gather_letter letters[];
};

static void finish(struct loop *home, struct mail *mail)
{
    struct gather *gather = list_entry(mail, struct gather, done_mail);
    gather->done(home, gather->argument);
    free(gather);
}

static void abandon(struct mail *mail)
{
    free(list_entry(mail, struct gather, done_mail));
}

static void count_down(struct gather *gather)
{
    if (atomic_fetch_sub_explicit(&gather->remaining, 1, memory_order_acq_rel) == 1)
        loop_post(gather->home, &gather->done_mail);
}

static void answer(struct loop *loop, struct mail *mail)
{
    struct gather_letter *letter = list_entry(mail, struct gather_letter, mail);
    letter->gather->each(loop, letter->slot, letter->gather->argument);
    count_down(letter->gather);
}

static void answer_nothing(struct mail *mail)
{
    count_down(list_entry(mail, struct gather_letter, mail)->gather);
}

void gather_start(struct loop *home, struct loop *const *loops, unsigned count, gather_each *each,
                  gather_done *done, void *argument)
{
    struct gather *gather = memory_new(sizeof *gather + count * sizeof gather->letters[0]);
    gather->home = home;
    gather->each = each;
    gather->done = done;
    gather->argument = argument;
    gather->done_mail = (struct mail){.deliver = finish, .drop = abandon};
    /* One more than the loops: nobody can finish while letters are still being sent from here. */
    atomic_init(&gather->remaining, count + 1);

    for (unsigned i = 0; i < count; i++) {
        struct gather_letter *letter = &gather->letters[i];
        letter->mail = (struct mail){.deliver = answer, .drop = answer_nothing};
        letter->gather = gather;
        letter->slot = i;
        loop_post(loops[i], &letter->mail);
    }
    count_down(gather);
}
