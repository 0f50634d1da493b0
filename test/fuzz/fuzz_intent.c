/*
 * fuzz_intent: what a text may do. Whatever the reader of statements calls a COMMIT may commit, and
 * what changes the session is seen, also where a glance was enough; and nothing is certain of a
 * text that goes on.
 */
#include <string.h>

#include "pgstage/wire/intent.h"
#include "pgstage/wire/sql.h"
#include "promise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    unsigned mode = data[0] & 3, count = 0;
    const char *text = (const char *)data + 1;
    size_t length = size - 1;
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_statement statement;
    unsigned intent = intent_of(text, length, false, mode);
    /* a syntax error, whatever it begins with; blanks at its end do not count */
    bool is_short = length < 24 || memchr("; \t\n\r", text[length - 1], 5);
    bool commits = false, state = false;

    while (sql_next(&lexer, &statement)) {
        count++;
        commits |= statement.verb == SQL_COMMIT || statement.verb == SQL_PREPARE_TRANSACTION;
        state |= statement.verb != SQL_QUIET && statement.verb != SQL_BEGIN &&
                 statement.verb != SQL_ROLLBACK && statement.verb != SQL_UNKNOWN &&
                 statement.verb != SQL_COMMIT && statement.verb != SQL_PREPARE_TRANSACTION;
    }
    if (commits)
        promise(intent & INTENT_COMMITS);
    if (state && !is_short)
        promise(intent & INTENT_STATE);
    if (intent & (INTENT_ENDS | INTENT_PREPARES))
        promise(count == 1 && !(intent & (INTENT_BEGINS | INTENT_EMPTY)));
    if (intent & INTENT_EMPTY)
        promise(count == 0 && (intent & ~(unsigned)INTENT_READ) == INTENT_EMPTY);
    promise(intent_of(text, length, true, mode) & INTENT_COMMITS);
    (void)intent_is_none_at_head(text, length);
    (void)intent_may_be_in(text, length);
    return 0;
}
