/*
 * loss.c: the words for a lost server.
 *
 * What was asked and not answered comes in units, each of which is owed one ErrorResponse and one
 * ReadyForQuery; an error that has come already is not said again:
 *
 *   lost server's queue:  [ E S │ Q │ P B E        ]
 *   told at once:           E Z   E Z  E            … and the Sync of the last one gets its Z later
 *
 *   the unit may have been committed ────────► 08007
 *   the server said FATAL while it was at it ► its own SQLSTATE
 *   else ────────────────────────────────────► 57P01: it has had no effect
 *
 * A unit may have been committed when all of it had reached the socket and it was in no transaction
 * block, or when a text in it commits by itself (CALL or VACUUM only outside of a block). BEGIN opens the block for the units behind it. The
 * client whose BEGIN was among them believes to be in a transaction, and one that was idle in a
 * transaction is: both get a made-up aborted one, in which PostgreSQL's answers are given here.
 */
#include "pgstage/session/loss.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/session/transaction.h"
#include "pgstage/wire/intent.h"
#include "pgstage/wire/message.h"

static const char rolled_back[] = "the transaction was rolled back by the loss of the server";
static const char not_run[] = "the statement had no effect because the server was lost";
static const char unknown[] =
    "the server was lost, and it is not known whether the transaction was committed";
static const char aborted[] =
    "current transaction is aborted, commands ignored until end of transaction block";

#define ENDS_BLOCK (INTENT_ENDS | INTENT_PREPARES)

void loss_fini(struct loss *loss)
{
    free(loss->text);
    free(loss->hint);
    loss->text = loss->hint = NULL;
}

static void put_error(struct buffer *out, const char *sqlstate, const char *text,
                      const char *detail, const char *hint)
{
    message_error(out, "ERROR", sqlstate, text, detail, hint);
}

/* ---- what was asked of the lost server ---- */

struct telling {
    struct loss *loss;
    const struct loss_cause *cause;
    struct buffer *out;
    bool in_block; /* a transaction block is open before the unit */
    bool aborted;  /* … that the client still believes in */
    bool over;     /* the server said FATAL: it did nothing more */
    bool first;
};

static bool may_be_committed(const struct telling *telling, const struct unanswered *unit)
{
    if (telling->over || !unit->runs)
        return false;
    if (unit->commits)
        return true;
    /* where a block begins first, nothing is committed but by a text that says so */
    return !telling->in_block && !(unit->intent & INTENT_BEGINS_FIRST) &&
           (unit->ends || unit->alone);
}

static void tell_error(struct telling *telling, const struct unanswered *unit)
{
    const struct loss_cause *cause = telling->cause;

    if (may_be_committed(telling, unit))
        put_error(telling->out, "08007", unknown, cause->detail, NULL);
    else if (telling->first && cause->sqlstate)
        put_error(telling->out, cause->sqlstate, cause->text, cause->detail, NULL);
    else
        put_error(telling->out, "57P01", telling->in_block ? rolled_back : not_run, cause->detail,
                  NULL);
}

/* The block that the next unit finds, if all had gone well. */
static void step_over(struct telling *telling, const struct unanswered *unit)
{
    if (unit->intent & INTENT_BEGINS) {
        telling->aborted = true;
        telling->in_block = true;
    } else if (unit->sole != UINT8_MAX && unit->sole & ENDS_BLOCK) {
        telling->aborted = false;
        telling->in_block = false;
    } else if (unit->intent & INTENT_COMMITS) {
        telling->in_block = false; /* who knows what is behind it */
    }
    telling->over |= telling->first && telling->cause->sqlstate;
    telling->first = false;
}

static void set_refusal(struct loss *loss, const char *sqlstate, const char *text, const char *hint)
{
    loss_fini(loss);
    loss->state = LOSS_REFUSING;
    (void)text_fit(loss->sqlstate, sizeof(loss->sqlstate), sqlstate);
    loss->text = text_copy(text);
    loss->hint = text_copy(hint);
    loss->spares_sync = false;
}

/* The client waits for nothing, but there is a transaction, or a batch without its Sync (`unit`),
 * that has gone: it hears of it when it goes on. */
static void tell_later(struct telling *telling, const struct unanswered *unit, char ready)
{
    const struct loss_cause *cause = telling->cause;

    if (unit && may_be_committed(telling, unit))
        set_refusal(telling->loss, "08007", unknown, NULL);
    else if (telling->first && cause->sqlstate)
        set_refusal(telling->loss, cause->sqlstate, cause->text, NULL);
    else
        set_refusal(telling->loss, "57P01", rolled_back, NULL);
    telling->loss->ready = ready;
}

/* A batch without its Sync. */
static void tell_open(struct telling *telling, const struct unanswered *unit, bool was_in_block)
{
    if (!unit->waits && !unit->told) {
        tell_later(telling, unit, was_in_block || unit->intent & INTENT_BEGINS ? 'E' : 'I');
        return;
    }
    if (!unit->told)
        tell_error(telling, unit);
    step_over(telling, unit);
    telling->loss->skipping = true;
    telling->loss->executed = true; /* no COMMIT behind it is looked for */
    telling->loss->ready = telling->aborted ? 'E' : 'I';
}

bool loss_tell(struct loss *loss, const struct transaction *transaction,
               const struct loss_cause *cause, struct buffer *out)
{
    struct telling telling = {.loss = loss,
                              .cause = cause,
                              .out = out,
                              .first = true,
                              .in_block = transaction->status != 'I'};
    struct unanswered_walk walk = {0};
    struct unanswered unit;
    bool any = false, in_block;

    loss->state = LOSS_NONE;
    while (transaction_unanswered(transaction, cause->sent_bytes, &walk, &unit)) {
        any = true;
        in_block = telling.in_block;
        if (unit.open) {
            tell_open(&telling, &unit, in_block);
            break;
        }
        if (!unit.told)
            tell_error(&telling, &unit);
        step_over(&telling, &unit);
        message_ready(out, telling.aborted ? 'E' : 'I');
    }
    if (!any && telling.in_block)
        tell_later(&telling, NULL, 'E');
    else if (telling.aborted && loss->state == LOSS_NONE)
        loss->state = LOSS_ABORTED;
    return telling.in_block && loss->state == LOSS_NONE;
}

void loss_cut(struct loss *loss, uint8_t type, uint8_t intent)
{
    if (loss->state == LOSS_REFUSING) {
        loss->state = LOSS_NONE; /* this is the request that is refused */
        loss_fini(loss);
    }
    loss->cut = type;
    loss->cut_ready = loss->state == LOSS_ABORTED || intent & INTENT_BEGINS ? 'E' : 'I';
}

void loss_cut_over(struct loss *loss, struct buffer *out)
{
    if (loss->skipping) {
        loss->cut = 0; /* as all else up to the Sync */
        return;
    }
    put_error(out, "57P01", not_run, NULL, NULL);
    message_ready(out, loss->cut_ready);
    if (loss->cut_ready == 'E')
        loss->state = LOSS_ABORTED;
    loss->cut = 0;
}

void loss_refuse(struct loss *loss, const char *sqlstate, const char *text, const char *hint)
{
    set_refusal(loss, sqlstate, text, hint);
    loss->ready = 'I';
    loss->spares_sync = true;
}

/* ---- what comes afterwards ---- */

/* The request that is answered with an error is over, or was that of a batch whose Sync has come.
 */
static void leave_refusal(struct loss *loss)
{
    loss->state = loss->ready == 'E' ? LOSS_ABORTED : LOSS_NONE;
    if (loss->state == LOSS_NONE)
        loss_fini(loss);
}

/* While all is dropped up to a Sync. The first Execute of a batch decides whether the client ended
 * its transaction by it. */
static void skip(struct loss *loss, const struct loss_message *message, struct buffer *out)
{
    if (message->type == 'S') {
        loss->skipping = false;
        message_ready(out, loss->ready);
        leave_refusal(loss);
    } else if (message->type == 'E' && !loss->executed) {
        loss->executed = true;
        if (message->intent & ENDS_BLOCK)
            loss->ready = 'I';
    }
}

/* One error for this request, whatever it is. */
static void refuse(struct loss *loss, const struct loss_message *message, const char *sqlstate,
                   const char *text, const char *hint, struct buffer *out)
{
    switch (message->type) {
    case 'S':
        if (!loss->spares_sync)
            put_error(out, sqlstate, text, NULL, hint);
        message_ready(out, loss->ready);
        leave_refusal(loss);
        break;
    case 'Q':
    case 'F':
        put_error(out, sqlstate, text, NULL, hint);
        if (message->intent & ENDS_BLOCK)
            loss->ready = 'I';
        message_ready(out, loss->ready);
        leave_refusal(loss);
        break;
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        put_error(out, sqlstate, text, NULL, hint);
        loss->skipping = true;
        loss->executed = false;
        skip(loss, message, out);
        break;
    default:
        break; /* Flush, and what is left of a COPY, ask for nothing */
    }
}

/* Why a name cannot be used. */
static void put_name_error(struct buffer *out, const struct loss_message *message)
{
    bool exists = strcmp(message->sqlstate, "42P05") == 0;
    char *text = !exists && !*message->name
                     ? text_copy("unnamed prepared statement does not exist")
                     : text_print("prepared statement \"%s\" %s", message->name,
                                  exists ? "already exists" : "does not exist");

    put_error(out, message->sqlstate, text, NULL, NULL);
    free(text);
}

/* An error in the made-up transaction: 25P02, unless the message is wrong in itself. */
static void stay_aborted(struct loss *loss, const struct loss_message *message, struct buffer *out)
{
    if (message->sqlstate)
        put_name_error(out, message);
    else
        put_error(out, "25P02", aborted, NULL, NULL);
    loss->ready = 'E';
    if (message->type == 'Q' || message->type == 'F') {
        message_ready(out, 'E');
        return;
    }
    loss->skipping = true;
    loss->executed = true;
}

static void describe_nothing(const struct loss_message *message, struct buffer *out)
{
    size_t begin;

    if (message->target == 'S') {
        begin = message_begin(out, 't');
        buffer_put_u16(out, 0);
        message_end(out, begin);
    }
    message_empty(out, 'n');
}

static void roll_back(struct loss *loss, struct buffer *out)
{
    message_command_complete(out, "ROLLBACK");
    loss->state = LOSS_NONE;
    loss_fini(loss);
}

/* As PostgreSQL answers in an aborted transaction. */
static void answer_aborted(struct loss *loss, struct loss_message *message, struct buffer *out)
{
    bool ends = message->intent & INTENT_ENDS, empty = message->intent & INTENT_EMPTY;

    switch (message->type) {
    case 'Q':
        if (ends)
            roll_back(loss, out);
        else if (empty)
            message_empty(out, 'I');
        else
            break;
        message_ready(out, ends ? 'I' : 'E');
        return;
    case 'P':
    case 'B':
        if (message->sqlstate || (!ends && !empty))
            break;
        message_empty(out, message->type == 'P' ? '1' : '2');
        message->done = true;
        return;
    case 'D':
        if (message->sqlstate || (!ends && !empty))
            break;
        describe_nothing(message, out);
        return;
    case 'E':
        if (ends)
            roll_back(loss, out);
        else if (empty)
            message_empty(out, 'I');
        else
            break;
        return;
    case 'C':
        message_empty(out, '3');
        message->done = true;
        return;
    case 'S':
        message_ready(out, 'E');
        return;
    case 'F':
        break;
    default:
        return;
    }
    stay_aborted(loss, message, out);
}

/* Sent before the client could know that its transaction had gone: it must not run outside of it.
 * Up to the message that ends the transaction. */
static void answer_doomed(struct loss *loss, const struct loss_message *message, struct buffer *out)
{
    loss->ready = message->intent & INTENT_BEGINS ? 'E' : 'I';
    loss->spares_sync = false;
    refuse(loss, message, "57P01", rolled_back, NULL, out);
    if (message->intent & ENDS_BLOCK && message->type == 'Q')
        loss->doomed_bytes = 0;
}

bool loss_message(struct loss *loss, struct loss_message *message, struct buffer *out)
{
    bool ends_doom;

    if (loss->skipping) {
        ends_doom = message->type == 'E' && message->intent & ENDS_BLOCK && !loss->executed;
        skip(loss, message, out);
        if (ends_doom)
            loss->doomed_bytes = 0;
        return true;
    }
    switch (loss->state) {
    case LOSS_REFUSING:
        refuse(loss, message, loss->sqlstate, loss->text, loss->hint, out);
        return true;
    case LOSS_ABORTED:
        answer_aborted(loss, message, out);
        return true;
    default:
        break;
    }
    if (loss->doomed_bytes == 0)
        return false;
    answer_doomed(loss, message, out);
    return true;
}
