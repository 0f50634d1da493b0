/*
 * transaction: which answers a server still owes, and what is to be done with each.
 *
 * Every message that yields an answer puts one entry at the tail; every answer is matched with the
 * head. A server is free only when nothing is owed and its last status was 'I'. Pure logic: no I/O,
 * one thread. Follows "Message Flow" of PostgreSQL's protocol documentation and postgres.c; what is
 * said here in words is in doc/protocol.md.
 *
 *     client ──Q P B D E C S F──►  [ entry | entry | entry ]  ──► server
 *     client ◄──────forward──────   ▲ head            tail ▲  ◄── answers
 */
#ifndef PGSTAGE_SESSION_TRANSACTION_H
#define PGSTAGE_SESSION_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* So many entries need no memory of their own: a power of two. */
#define TRANSACTION_FEW 8
/* Over this many entries a client has to be paused until answers have come. */
#define TRANSACTION_OWED_MAX 32768

/* What is to be done with the answers to a message. */
enum answer_action {
    ANSWER_FORWARD, /* they are the client's */
    ANSWER_SWALLOW, /* pgstage asked by itself */
    ANSWER_QUIET,   /* pgstage asked for the client's sake: only an error is the client's */
    ANSWER_PRODUCE, /* nothing was sent: ParseComplete is made here when its turn comes */
};
/* What of an entry's action is the above. */
#define ANSWER_MASK 0x1f
/* With any of these: whoever asked wants to know when it is answered or dropped (`tags_over`). */
#define ANSWER_TAGGED 0x80
/* … the tracker keeps a record of what was asked (`notes_over`). */
#define ANSWER_NOTED 0x40

struct answer {
    uint8_t type;   /* the message's byte */
    uint8_t action; /* enum answer_action, ANSWER_TAGGED, ANSWER_NOTED, and transaction.c's own */
    uint8_t intent; /* enum intent: what its text may do to the transaction */
    uint64_t end; /* where the message ends among all bytes that the server was sent; 0: not told */
};

/* What an error has taken away among untagged Parse messages. */
enum lost_parse {
    LOST_FORWARDED = 1, /* one of the client's */
    LOST_QUIET = 2,     /* one of pgstage's own */
};

enum copy_state {
    COPY_NONE,
    COPY_IN,  /* the server waits for CopyData */
    COPY_OUT, /* the server sends CopyData */
};

struct transaction {
    /* owner */
    char status;     /* of the last ReadyForQuery: 'I', 'T', 'E' */
    uint8_t copy;    /* enum copy_state */
    bool skipping;   /* an extended message failed: the server ignores all up to a Sync */
    bool batch_open; /* extended messages were sent and no Sync behind them */
    bool failed;     /* the entry at the head was answered with an ErrorResponse */
    bool ran;        /* something of the batch at the head was executed and answered … */
    uint8_t intent;  /* … with these intents together */
    uint32_t mask;   /* of an index into `ring`: its size, a power of two, less one */
    uint32_t first, count;
    /* A COPY FROM failed, and so many of the Syncs at the head may stay without an answer: the
     * server may have read them before it failed. 0: the queue is certain. */
    uint32_t uncertain;
    uint32_t notes_over;            /* how many noted entries have left the queue */
    uint32_t batches, batches_over; /* how many Query, FunctionCall and Sync were asked; left */
    uint32_t tags_over;             /* how many tagged entries have left the queue */
    uint8_t lost;        /* mask of enum lost_parse, set when it happens, cleared by the caller */
    struct answer *ring; /* `few`, or allocated */
    struct answer few[TRANSACTION_FEW];
};

void transaction_init(struct transaction *transaction);
void transaction_fini(struct transaction *transaction);

/* A message of this type is about to be sent to the server, by the client or by pgstage. Messages
 * that yield no answer by themselves (CopyData, Flush) need not be told. Terminate must not be.
 * `action`: enum answer_action, perhaps with ANSWER_TAGGED and ANSWER_NOTED. False: nothing is
 * entered, because the server ignores it or it yields no answer. */
bool transaction_ask(struct transaction *transaction, uint8_t type, unsigned action);
/* The same with what is needed to tell the client if the answer never comes. */
bool transaction_ask_for(struct transaction *transaction, uint8_t type, unsigned action,
                         uint8_t intent, uint64_t end);
/* The same within a batch that is open and not skipped, for Bind, Describe, Execute and Sync of the
 * client's, not noted. */
void transaction_ask_in_batch(struct transaction *transaction, uint8_t type, uint8_t intent,
                              uint64_t end);
/* The same for the message that was entered last, when it was of this type; `note` is ANSWER_NOTED
 * or 0. False: it was not. */
bool transaction_add_last(struct transaction *transaction, uint8_t type, unsigned note,
                          uint8_t intent, uint64_t end);
/* Is the entry at the head, which the next answer belongs to, noted? */
bool transaction_head_is_noted(const struct transaction *transaction);
/* Is a Query or FunctionCall at the head, behind which no batch was open? */
bool transaction_head_is_query(const struct transaction *transaction);
/* Would a message that is sent now be ignored, up to a Sync that has not been sent yet? */
static inline bool transaction_is_ignoring(const struct transaction *transaction)
{
    return transaction->skipping && transaction->count == 0;
}
/* May ParseComplete be produced here instead of asking for it? Only where PostgreSQL itself could
 * not say anything else: no aborted transaction, none that may yet turn out to be, and nothing
 * owed that could change what the server has. */
bool transaction_may_produce(const struct transaction *transaction)
    __attribute__((warn_unused_result));
/* Is the entry at the head, which the next answer belongs to, tagged? */
bool transaction_head_is_tagged(const struct transaction *transaction);
/* How many entries have answers for the client, produced ones included. */
uint32_t transaction_owed_to_client(const struct transaction *transaction);
/* The answer to the message that was entered last, a Sync, is not for the client any more. False:
 * it is no Sync. */
bool transaction_swallow_sync(struct transaction *transaction) __attribute__((warn_unused_result));
/* Is the answer at the head to be produced now? Then it counts as given. To be asked after every
 * answer and after asking for one, until it says no. */
bool transaction_produce(struct transaction *transaction) __attribute__((warn_unused_result));
/* The batch that the next message belongs to: it ends with the next Query, FunctionCall or Sync. */
static inline uint32_t transaction_batch(const struct transaction *transaction)
{
    return transaction->batches;
}
/* May it still turn out that what was sent in this batch is dropped, although it has been ended?
 * Within the batch that is still open there is no such doubt: what follows is dropped with it. */
static inline bool transaction_is_doubtful(const struct transaction *transaction, uint32_t batch)
{
    return batch != transaction->batches && (int32_t)(transaction->batches_over - batch) <= 0;
}
/* Must the client be paused because too many answers are owed? */
static inline bool transaction_is_full(const struct transaction *transaction)
{
    return transaction->count >= TRANSACTION_OWED_MAX;
}

enum verdict {
    VERDICT_FORWARD,
    VERDICT_SWALLOW,
    VERDICT_LAST, /* an error when nothing is owed: a dying server's last word, or VERDICT_BAD */
    VERDICT_BAD,  /* it answers nothing that was asked: the server cannot be trusted any more */
};
/* A message from the server. `status` is the body's byte of a ReadyForQuery, else ignored. */
enum verdict transaction_answer(struct transaction *transaction, uint8_t type, char status)
    __attribute__((warn_unused_result));

/* What a message from the server is to the queue, when it is what most of them are: the client's,
 * and an answer to the head that was expected. */
enum course {
    COURSE_OTHER,   /* it is not: transaction_answer must be asked */
    COURSE_GOES_ON, /* nothing changes */
    COURSE_OVER,    /* the head is answered: when it is passed on, transaction_pass is told */
    COURSE_READY,   /* it ends all that is owed; with status 'I', transaction_rest is told */
};
static inline enum course transaction_course(const struct transaction *transaction, uint8_t type)
{
    const struct answer *entry = &transaction->ring[transaction->first];
    bool over = false;

    if (transaction->count == 0 || transaction->uncertain || transaction->failed ||
        transaction->skipping || (entry->action & ANSWER_MASK) != ANSWER_FORWARD)
        return COURSE_OTHER;
    if (type == 'D')
        return entry->type == 'Q' || entry->type == 'E' ? COURSE_GOES_ON : COURSE_OTHER;
    if (type == 'Z')
        return (entry->type == 'Q' || entry->type == 'S') && transaction->count == 1 &&
                       transaction->copy == COPY_NONE
                   ? COURSE_READY
                   : COURSE_OTHER;
    if (entry->type == 'Q')
        return type == 'T' || (type == 'C' && transaction->copy == COPY_NONE) ? COURSE_GOES_ON
                                                                              : COURSE_OTHER;
    switch (type) {
    case '1':
        over = entry->type == 'P';
        break;
    case '2':
        over = entry->type == 'B';
        break;
    case 'T':
    case 'n':
        over = entry->type == 'D';
        break;
    case 'C':
        over = entry->type == 'E' && transaction->copy == COPY_NONE;
        break;
    default:
        break;
    }
    return over ? COURSE_OVER : COURSE_OTHER;
}
/* After COURSE_OVER: the message is passed on, and its entry leaves the queue. */
void transaction_pass(struct transaction *transaction);
/* After COURSE_READY: a ReadyForQuery of status 'I' is passed on. */
void transaction_rest(struct transaction *transaction);

/* Is nothing owed? */
static inline bool transaction_is_settled(const struct transaction *transaction)
{
    return transaction->count == 0 && !transaction->batch_open;
}
/* May another client have the server? */
static inline bool transaction_is_free(const struct transaction *transaction)
{
    return transaction_is_settled(transaction) && transaction->status == 'I';
}
/* Will nothing be owed some day, with no further message from the client? False when it left a
 * batch without its Sync, or a COPY FROM without its end. To be asked again after each answer: a
 * query may turn out to be a COPY. */
bool transaction_can_settle(const struct transaction *transaction);
/* Is the next answer pgstage's own? */
bool transaction_is_swallowing(const struct transaction *transaction);
/* For transaction_wants_fence alone: where something is uncertain. */
bool transaction_needs_fence(const struct transaction *transaction);
/* Must Close of an unused statement name and Sync be sent now, behind the last message that was
 * asked, to find out which ReadyForQuery is the last? The caller sends them and calls
 * transaction_fence. To be asked after every message in either direction. */
static inline bool transaction_wants_fence(const struct transaction *transaction)
{
    return transaction->uncertain > 0 && transaction_needs_fence(transaction);
}
void transaction_fence(struct transaction *transaction);
/* How many ReadyForQuery the client waits for: one for each Query, FunctionCall and Sync, but none
 * for a Sync that went into a COPY FROM; after one has failed, at least one. */
size_t transaction_owed_ready(const struct transaction *transaction);

/* The server is lost. What the client waits for comes in units: each Query, FunctionCall and Sync
 * (with the batch before it) that it is owed a ReadyForQuery for, and at the end perhaps a batch
 * without its Sync. */
struct unanswered {
    bool open;    /* a batch without its Sync: no ReadyForQuery is owed yet */
    bool waits;   /* open: at least one message of it awaits its answer; else always true */
    bool told;    /* its ErrorResponse has come already */
    bool runs;    /* something of it was executed, or may have been: it had reached the socket */
    bool commits; /* … and one of its texts may commit a transaction */
    bool alone; /* … and one may have been committed before the end of the unit (INTENT_ALONE) */
    bool ends;  /* its Query or Sync, too: what was executed may have been committed by that */
    uint8_t intent; /* of all its texts together, those that were answered included */
    uint8_t sole;   /* what all that it executes has in common */
};
struct unanswered_walk {
    uint32_t at, skip;
    bool begun, done, in_copy;
};
/* The next unit; zero the walk first. `sent_bytes`: how many of the server's bytes its socket has
 * taken. False: there is none left. */
bool transaction_unanswered(const struct transaction *transaction, uint64_t sent_bytes,
                            struct unanswered_walk *walk, struct unanswered *unit);
/* A message of this type was sent in part, and will never be sent as a whole: takes its entry back,
 * if it has one. */
void transaction_retract(struct transaction *transaction, uint8_t type, uint64_t sent_bytes);

#endif
