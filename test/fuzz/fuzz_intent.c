/*
 * fuzz_intent: what a text may do to its transaction. A text that looks plain is plain; whatever
 * the reader calls a COMMIT may commit, here too; and nothing is certain of a text that goes on.
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
    uint8_t intent = intent_of(text, length, false, mode);
    bool commits = false;

    while (sql_next(&lexer, &statement)) {
        count++;
        commits |= statement.verb == SQL_COMMIT || statement.verb == SQL_PREPARE_TRANSACTION;
    }
    if (intent_is_plain(text, length))
        promise(intent == 0);
    if (commits)
        promise(intent & INTENT_COMMITS);
    if (intent & (INTENT_ENDS | INTENT_PREPARES))
        promise(count == 1 && !(intent & (INTENT_BEGINS | INTENT_EMPTY)));
    if (intent & INTENT_EMPTY)
        promise(count == 0 && intent == INTENT_EMPTY);
    promise(intent_of(text, length, true, mode) & INTENT_COMMITS);
    return 0;
}
