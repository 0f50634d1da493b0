/*
 * transaction.c: the answers-owed queue.
 *
 * The server answers strictly in order, so the head entry says what may come next; anything else is
 * doubt, and doubt closes the server. Three things bend the order:
 *
 * - An error in an extended message makes the server ignore everything up to a Sync: the entries up
 * to it are dropped, and what is asked before a Sync comes is not entered.
 * - In COPY FROM STDIN the server ignores Sync and Flush until CopyDone or CopyFail, which stand in
 *   the queue as markers: when the copy is over, what stands before the marker was swallowed by it.
 * - When a COPY FROM fails, the Syncs that directly follow it may have been swallowed or may be
 *   answered, which the same bytes do not tell (what follows them is certain: inside a COPY the
 * server takes nothing else). A ReadyForQuery answers one of them; any other answer is that of the
 * first entry behind them, and says that no more will come. Where there is no such entry, a fence
 * is put there: Close of a name that nobody uses, and Sync.
 *
 *       [ Q(copy) S? S? c S | P B E S ]        [ Q(copy) S? S? c S | C(fence) S(fence) ]
 *                 uncertain ▲ its '1' settles            uncertain ▲ its '3' settles
 */
#include "pgstage/session/transaction.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/wire/intent.h"

void transaction_init(struct transaction *transaction)
{
    memset(transaction, 0, sizeof(*transaction));
    transaction->status = 'I';
    transaction->ring = transaction->few;
    transaction->mask = TRANSACTION_FEW - 1;
}

/* Back to the few that need no memory. It is empty. */
static void free_ring(struct transaction *transaction)
{
    if (transaction->ring != transaction->few)
        free(transaction->ring);
    transaction->ring = transaction->few;
    transaction->mask = TRANSACTION_FEW - 1;
    transaction->first = 0;
}

void transaction_fini(struct transaction *transaction)
{
    transaction->count = 0;
    free_ring(transaction);
}

/* ---- the ring ---- */

static struct answer *entry_at(const struct transaction *transaction, uint32_t index)
{
    return &transaction->ring[(transaction->first + index) & transaction->mask];
}

static struct answer *head(const struct transaction *transaction)
{
    return transaction->count ? entry_at(transaction, 0) : NULL;
}

static void grow(struct transaction *transaction)
{
    uint32_t size = transaction->ring == transaction->few ? 32 : (transaction->mask + 1) * 2;
    struct answer *ring = memory_get(size * sizeof(*ring));

    for (uint32_t i = 0; i < transaction->count; i++)
        ring[i] = *entry_at(transaction, i);
    free_ring(transaction);
    transaction->ring = ring;
    transaction->mask = size - 1;
}

/* Beside ANSWER_TAGGED and ANSWER_NOTED in an entry's action: it ends a batch. */
#define ENDS_BATCH 0x20

static bool ends_batch(const struct answer *entry)
{
    return entry->action & ENDS_BATCH;
}

static inline void push(struct transaction *transaction, struct answer answer)
{
    if (transaction->count > transaction->mask)
        grow(transaction);
    *entry_at(transaction, transaction->count++) = answer;
    transaction->batches += answer.action >> 5 & 1;
}

static inline void pop(struct transaction *transaction)
{
    unsigned action = entry_at(transaction, 0)->action;

    transaction->batches_over += action >> 5 & 1;
    transaction->notes_over += action >> 6 & 1;
    transaction->tags_over += action >> 7;
    transaction->first = (transaction->first + 1) & transaction->mask;
    transaction->count--;
    transaction->failed = false;
}

static bool is_marker(const struct answer *entry)
{
    return entry->type == 'c' || entry->type == 'f';
}

/* Markers at the head belong to a COPY that never was, or is over: they yield nothing. */
static void pop_markers(struct transaction *transaction)
{
    while (transaction->count && is_marker(head(transaction)))
        pop(transaction);
}

/* A burst of a pipeline need not be remembered for ever. */
static void shrink_when_empty(struct transaction *transaction)
{
    if (transaction->count == 0 && transaction->mask >= 1024)
        free_ring(transaction);
}

/* ---- asking ---- */

bool transaction_ask_for(struct transaction *transaction, uint8_t type, unsigned action,
                         uint8_t intent, uint64_t end)
{
    struct answer answer = {type, (uint8_t)action, intent, end};
    /* while the server skips, it will not even look at a message until a Sync has come */
    bool skipped = transaction->skipping && transaction->count == 0;

    switch (type) {
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        transaction->batch_open = true;
        if (skipped)
            return false;
        break;
    case 'Q':
    case 'F':
        /* ends a batch as a Sync does, unless it is skipped itself */
        if (skipped)
            return false;
        answer.action |= ENDS_BATCH;
        transaction->batch_open = false;
        break;
    case 'S':
        answer.action |= ENDS_BATCH;
        transaction->batch_open = false;
        break;
    case 'c':
    case 'f':
        if (transaction->count == 0)
            return false;
        break;
    default:
        return false;
    }
    push(transaction, answer);
    return true;
}

bool transaction_ask(struct transaction *transaction, uint8_t type, unsigned action)
{
    return transaction_ask_for(transaction, type, action, 0, 0);
}

void transaction_ask_in_batch(struct transaction *transaction, uint8_t type, uint8_t intent,
                              uint64_t end)
{
    bool last = type == 'S';
    uint8_t action = ANSWER_FORWARD | (last ? ENDS_BATCH : 0);

    push(transaction, (struct answer){type, action, intent, end});
    transaction->batch_open = !last;
}

bool transaction_add_last(struct transaction *transaction, uint8_t type, unsigned note,
                          uint8_t intent, uint64_t end)
{
    struct answer *entry =
        transaction->count ? entry_at(transaction, transaction->count - 1) : NULL;

    if (!entry || entry->type != type)
        return false;
    entry->action |= (uint8_t)note;
    entry->intent = intent;
    entry->end = end;
    return true;
}

bool transaction_may_produce(const struct transaction *transaction)
{
    if (transaction->status == 'E' || transaction->uncertain || transaction->skipping ||
        transaction->copy != COPY_NONE)
        return false;
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (entry->type == 'E' || ends_batch(entry))
            return false;
    }
    return true;
}

/* ---- the head ---- */

static unsigned action_of(const struct answer *entry)
{
    return entry->action & ANSWER_MASK;
}

static enum verdict verdict_of(const struct answer *entry)
{
    return action_of(entry) == ANSWER_FORWARD ? VERDICT_FORWARD : VERDICT_SWALLOW;
}

static enum verdict error_verdict_of(const struct answer *entry)
{
    return action_of(entry) == ANSWER_SWALLOW ? VERDICT_SWALLOW : VERDICT_FORWARD;
}

/* The head is answered by this message as a whole. */
static inline enum verdict finish(struct transaction *transaction)
{
    const struct answer *entry = entry_at(transaction, 0);
    enum verdict verdict = verdict_of(entry);

    if (entry->type == 'E') {
        transaction->ran = true;
        transaction->intent |= entry->intent;
    }
    pop(transaction);
    return verdict;
}

bool transaction_produce(struct transaction *transaction)
{
    if (transaction->count == 0 || action_of(head(transaction)) != ANSWER_PRODUCE)
        return false;
    pop(transaction);
    return true;
}

uint32_t transaction_owed_to_client(const struct transaction *transaction)
{
    uint32_t owed = 0;

    for (uint32_t i = 0; i < transaction->count; i++) {
        unsigned action = action_of(entry_at(transaction, i));
        owed += action == ANSWER_FORWARD || action == ANSWER_PRODUCE;
    }
    return owed;
}

bool transaction_swallow_sync(struct transaction *transaction)
{
    struct answer *last = transaction->count ? entry_at(transaction, transaction->count - 1) : NULL;

    if (!last || last->type != 'S' || action_of(last) != ANSWER_FORWARD)
        return false;
    last->action |= ANSWER_SWALLOW;
    return true;
}

bool transaction_head_is_tagged(const struct transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (!is_marker(entry))
            return entry->action & ANSWER_TAGGED;
    }
    return false;
}

/* Does an entry from `index` on end a batch? */
static bool is_ended_behind(const struct transaction *transaction, uint32_t index)
{
    for (; index < transaction->count; index++) {
        if (ends_batch(entry_at(transaction, index)))
            return true;
    }
    return false;
}

/* COPY FROM ended well: what stood between the head and the marker was swallowed by it. Only Syncs
 * can have been there; they did not end the batch that an Execute of it is in. Keeps the head. */
static bool end_copy_in(struct transaction *transaction)
{
    struct answer kept = *head(transaction);

    transaction->copy = COPY_NONE;
    for (uint32_t i = 1; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (is_marker(entry)) {
            transaction->batch_open |= kept.type == 'E' && !is_ended_behind(transaction, i + 1);
            for (; i > 0; i--)
                pop(transaction);
            *head(transaction) = kept;
            transaction->batches_over -= kept.action >> 5 & 1; /* it was only moved */
            transaction->notes_over -= kept.action >> 6 & 1;
            transaction->tags_over -= kept.action >> 7;
            return true;
        }
        if (entry->type != 'S')
            return false;
    }
    return false;
}

/* The server ignores everything up to a Sync; when none has been sent, the batch is still open. */
static void start_skipping(struct transaction *transaction)
{
    transaction->skipping = true;
    while (transaction->count && head(transaction)->type != 'S') {
        if (head(transaction)->type == 'P' && !(head(transaction)->action & ANSWER_TAGGED)) {
            if (action_of(head(transaction)) == ANSWER_FORWARD)
                transaction->lost |= LOST_FORWARDED;
            else if (action_of(head(transaction)) == ANSWER_QUIET)
                transaction->lost |= LOST_QUIET;
        }
        pop(transaction);
    }
    if (transaction->count == 0)
        transaction->batch_open = true;
}

static enum verdict error_in_copy_in(struct transaction *transaction)
{
    enum verdict verdict = error_verdict_of(head(transaction));
    uint32_t syncs = 0;

    while (1 + syncs < transaction->count && entry_at(transaction, 1 + syncs)->type == 'S')
        syncs++;
    transaction->copy = COPY_NONE;
    transaction->uncertain = syncs;
    if (head(transaction)->type == 'E')
        start_skipping(transaction);
    else
        transaction->failed = true;
    return verdict;
}

/* ---- after a COPY FROM that failed ---- */

/* How many Syncs stand together from `index` on (markers between them do not count); `behind`
 * becomes the index of the first entry behind them. */
static uint32_t count_syncs(const struct transaction *transaction, uint32_t index, uint32_t *behind)
{
    uint32_t syncs = 0;

    for (; index < transaction->count; index++) {
        const struct answer *entry = entry_at(transaction, index);
        if (entry->type == 'S')
            syncs++;
        else if (!is_marker(entry))
            break;
    }
    *behind = index;
    return syncs;
}

/* While the server may still be skipping, only one of these Syncs can be answered, and so could be
 * a later one, with all between them skipped. */
static bool is_ambiguous(const struct transaction *transaction, uint32_t syncs, uint32_t behind)
{
    if (!transaction->skipping || syncs > transaction->uncertain)
        return false;
    for (uint32_t i = behind; i < transaction->count; i++) {
        if (entry_at(transaction, i)->type == 'S')
            return true;
    }
    return false;
}

/* A Sync of the uncertain ones, or of those that follow, was answered: which one does not matter.
 */
static bool finish_uncertain(struct transaction *transaction)
{
    uint32_t behind, syncs = count_syncs(transaction, 0, &behind);

    if (is_ambiguous(transaction, syncs, behind))
        return false;
    if (transaction->uncertain > syncs - 1)
        transaction->uncertain = syncs - 1;
    return true;
}

/* Something else than a ReadyForQuery came: the Syncs that are still there were swallowed. */
static bool drop_uncertain(struct transaction *transaction)
{
    uint32_t behind, syncs = count_syncs(transaction, 0, &behind);

    if (transaction->skipping || syncs > transaction->uncertain || behind == transaction->count)
        return false;
    while (behind-- > 0)
        pop(transaction);
    transaction->uncertain = 0;
    return true;
}

bool transaction_needs_fence(const struct transaction *transaction)
{
    uint32_t behind, syncs;

    /* a failed Query is still to get its own ReadyForQuery, before them */
    syncs = count_syncs(transaction, head(transaction)->type == 'S' ? 0 : 1, &behind);
    return behind == transaction->count &&
           (!transaction->skipping || syncs > transaction->uncertain);
}

bool transaction_can_settle(const struct transaction *transaction)
{
    uint32_t behind;

    if (transaction->batch_open)
        return false;
    if (transaction->copy == COPY_IN) {
        for (uint32_t i = 1; i < transaction->count; i++) {
            if (is_marker(entry_at(transaction, i)))
                return true;
        }
        return false;
    }
    /* while the server may still be skipping, a Sync has to be there that it cannot have swallowed
     */
    return !transaction->uncertain || !transaction->skipping ||
           count_syncs(transaction, 0, &behind) > transaction->uncertain ||
           behind < transaction->count;
}

void transaction_fence(struct transaction *transaction)
{
    push(transaction, (struct answer){.type = 'C', .action = ANSWER_SWALLOW});
    push(transaction, (struct answer){.type = 'S', .action = ANSWER_SWALLOW | ENDS_BATCH});
}

/* ---- answers ---- */

static enum verdict answer_error(struct transaction *transaction)
{
    enum verdict verdict;

    if (transaction->count == 0)
        return VERDICT_LAST;
    if (transaction->copy == COPY_IN)
        return error_in_copy_in(transaction);
    transaction->copy = COPY_NONE;
    verdict = error_verdict_of(head(transaction));
    switch (head(transaction)->type) {
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        start_skipping(transaction);
        break;
    default:
        transaction->failed = true;
        break;
    }
    return verdict;
}

static enum verdict answer_ready(struct transaction *transaction, char status)
{
    enum verdict verdict;

    if (transaction->count == 0 || (status != 'I' && status != 'T' && status != 'E'))
        return VERDICT_BAD;
    switch (head(transaction)->type) {
    case 'S':
        if (transaction->uncertain && !finish_uncertain(transaction))
            return VERDICT_BAD;
        transaction->skipping = false;
        break;
    case 'Q':
    case 'F':
        if (transaction->skipping)
            return VERDICT_BAD;
        break;
    default:
        return VERDICT_BAD;
    }
    if (transaction->copy == COPY_IN)
        return VERDICT_BAD;
    transaction->copy = COPY_NONE;
    transaction->status = status;
    verdict = finish(transaction);
    transaction->ran = false;
    transaction->intent = 0;
    pop_markers(transaction);
    shrink_when_empty(transaction);
    return verdict;
}

static enum verdict answer_complete(struct transaction *transaction)
{
    if (transaction->copy == COPY_IN && !end_copy_in(transaction))
        return VERDICT_BAD;
    transaction->copy = COPY_NONE;
    if (head(transaction)->type == 'E')
        return finish(transaction);
    return verdict_of(head(transaction));
}

/* May the head be followed by this message, and does it stay the head? */
static enum verdict answer_head(struct transaction *transaction, uint8_t type)
{
    const struct answer *entry = entry_at(transaction, 0);
    uint8_t asked = entry->type;
    enum verdict verdict = verdict_of(entry);

    if (action_of(entry) == ANSWER_PRODUCE)
        return VERDICT_BAD; /* the server was not asked */
    switch (type) {
    case '1':
        return asked == 'P' ? finish(transaction) : VERDICT_BAD;
    case '2':
        return asked == 'B' ? finish(transaction) : VERDICT_BAD;
    case '3':
        return asked == 'C' ? finish(transaction) : VERDICT_BAD;
    case 't':
        return asked == 'D' ? verdict : VERDICT_BAD;
    case 'n':
        return asked == 'D' ? finish(transaction) : VERDICT_BAD;
    case 'T':
        if (asked == 'D')
            return finish(transaction);
        return asked == 'Q' ? verdict : VERDICT_BAD;
    case 's':
        return asked == 'E' ? finish(transaction) : VERDICT_BAD;
    case 'I':
        if (asked == 'E')
            return finish(transaction);
        return asked == 'Q' ? verdict : VERDICT_BAD;
    case 'D':
        return asked == 'Q' || asked == 'E' ? verdict : VERDICT_BAD;
    case 'C':
        return asked == 'Q' || asked == 'E' ? answer_complete(transaction) : VERDICT_BAD;
    case 'V':
        return asked == 'F' ? verdict : VERDICT_BAD;
    case 'G':
    case 'H':
        /* nor do statements of ours copy: the client's Sync would count as swallowed by it */
        if ((asked != 'Q' && asked != 'E') || transaction->copy != COPY_NONE ||
            verdict != VERDICT_FORWARD)
            return VERDICT_BAD;
        transaction->copy = type == 'G' ? COPY_IN : COPY_OUT;
        return verdict;
    case 'd':
    case 'c':
        return transaction->copy == COPY_OUT ? verdict : VERDICT_BAD;
    default:
        return VERDICT_BAD;
    }
}

/* The action of the next answer; ANSWER_FORWARD when nothing is owed. */
static unsigned next_action(const struct transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (!is_marker(entry))
            return action_of(entry);
    }
    return ANSWER_FORWARD;
}

static bool is_own(const struct transaction *transaction)
{
    unsigned action = next_action(transaction);

    return action == ANSWER_SWALLOW || action == ANSWER_QUIET;
}

enum verdict transaction_answer(struct transaction *transaction, uint8_t type, char status)
{
    bool plain = !transaction->uncertain && !transaction->failed && !transaction->skipping &&
                 transaction->count && !is_marker(entry_at(transaction, 0));

    switch (type) {
    case 'N':
    case 'S':
    case 'A':
        /* these come at any time and answer nothing; what our own statements cause is ours */
        return type != 'A' && is_own(transaction) ? VERDICT_SWALLOW : VERDICT_FORWARD;
    case 'E':
    case 'Z':
        break;
    default:
        if (plain)
            return answer_head(transaction, type);
        break;
    }
    pop_markers(transaction);
    if (type != 'Z' && transaction->uncertain && head(transaction)->type == 'S' &&
        !drop_uncertain(transaction))
        return type == 'E' ? VERDICT_FORWARD : VERDICT_BAD;
    if (type == 'E')
        return answer_error(transaction);
    if (type == 'Z')
        return answer_ready(transaction, status);
    if (transaction->count == 0 || transaction->failed || transaction->skipping)
        return VERDICT_BAD;
    return answer_head(transaction, type);
}

void transaction_pass(struct transaction *transaction)
{
    (void)finish(transaction);
}

void transaction_rest(struct transaction *transaction)
{
    transaction->status = 'I';
    pop(transaction);
    transaction->ran = false;
    transaction->intent = 0;
    shrink_when_empty(transaction);
}

bool transaction_head_is_noted(const struct transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (!is_marker(entry))
            return entry->action & ANSWER_NOTED;
    }
    return false;
}

bool transaction_head_is_query(const struct transaction *transaction)
{
    for (uint32_t i = 0; i < transaction->count && !transaction->ran; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (!is_marker(entry))
            return entry->type == 'Q' || entry->type == 'F';
    }
    return false;
}

bool transaction_is_swallowing(const struct transaction *transaction)
{
    return next_action(transaction) == ANSWER_SWALLOW;
}

size_t transaction_owed_ready(const struct transaction *transaction)
{
    bool in_copy = transaction->copy == COPY_IN;
    size_t owed = 0;

    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);
        if (is_marker(entry))
            in_copy = false;
        if (action_of(entry) == ANSWER_FORWARD &&
            (entry->type == 'Q' || entry->type == 'F' || (entry->type == 'S' && !in_copy)))
            owed++;
    }
    if (transaction->uncertain == 0)
        return owed;
    return owed > transaction->uncertain ? owed - transaction->uncertain : 1;
}

/* ---- what is never answered ---- */

/* Has the end of the COPY FROM at the head reached the socket? Without it nothing is stored. */
static bool copy_was_ended(const struct transaction *transaction, uint64_t sent_bytes)
{
    for (uint32_t i = 1; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);

        if (is_marker(entry))
            return entry->end <= sent_bytes;
    }
    return false;
}

/* Before the first unit. Where it is uncertain how many Syncs behind a failed COPY are answered,
 * the client is given as many as it waits for at least. */
static void begin_walk(const struct transaction *transaction, struct unanswered_walk *walk,
                       struct unanswered *unit)
{
    size_t owed = 0;

    walk->begun = true;
    walk->in_copy = transaction->copy == COPY_IN;
    unit->told = transaction->skipping ||
                 (transaction->failed && action_of(head(transaction)) == ANSWER_FORWARD);
    unit->runs = transaction->ran;
    unit->intent = transaction->intent;
    if (unit->runs)
        unit->sole = 0;
    unit->commits = transaction->intent & INTENT_COMMITS;
    unit->alone = transaction->intent & INTENT_ALONE;
    if (!transaction->uncertain)
        return;
    for (uint32_t i = 0; i < transaction->count; i++) {
        const struct answer *entry = entry_at(transaction, i);

        owed += action_of(entry) == ANSWER_FORWARD && ends_batch(entry);
    }
    walk->skip = (uint32_t)(owed - transaction_owed_ready(transaction));
}

void transaction_retract(struct transaction *transaction, uint8_t type, uint64_t sent_bytes)
{
    const struct answer *last =
        transaction->count ? entry_at(transaction, transaction->count - 1) : NULL;

    if (last && last->type == type && last->end > sent_bytes)
        transaction->count--;
}

/* Adds an entry of the client's to its unit. */
static void add_entry(struct unanswered *unit, const struct answer *entry, bool reached)
{
    unit->waits = true;
    unit->intent |= entry->intent;
    if (entry->type != 'S' && (ends_batch(entry) || entry->type == 'E')) {
        unit->sole &= entry->intent;
        unit->runs |= reached;
        unit->commits |= reached && entry->intent & INTENT_COMMITS;
        unit->alone |= reached && entry->intent & INTENT_ALONE;
    }
    unit->ends = reached && ends_batch(entry);
}

bool transaction_unanswered(const struct transaction *transaction, uint64_t sent_bytes,
                            struct unanswered_walk *walk, struct unanswered *unit)
{
    bool first = !walk->begun;

    *unit = (struct unanswered){.open = true, .sole = UINT8_MAX};
    if (first)
        begin_walk(transaction, walk, unit);
    while (walk->at < transaction->count) {
        const struct answer *entry = entry_at(transaction, walk->at++);
        bool reached = entry->end <= sent_bytes;

        if (is_marker(entry)) {
            walk->in_copy = false;
            continue;
        }
        unit->waits |= action_of(entry) == ANSWER_PRODUCE;
        if (action_of(entry) != ANSWER_FORWARD || (entry->type == 'S' && walk->in_copy))
            continue;
        if (entry->type == 'S' && walk->skip && !(first && transaction->skipping)) {
            walk->skip--;
            continue;
        }
        if (walk->at == 1 && transaction->copy == COPY_IN && !(entry->intent & INTENT_COMMITS))
            reached = copy_was_ended(transaction, sent_bytes);
        add_entry(unit, entry, reached);
        if (ends_batch(entry)) {
            unit->open = false;
            return true;
        }
    }
    if (walk->done)
        return false;
    walk->done = true;
    return transaction->batch_open || unit->waits;
}
