/*
 * test_intent.c: what a text may do to its transaction.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/wire/intent.h"
#include "pgstage/wire/sql.h"

enum {
    B = INTENT_BEGINS,
    F = INTENT_BEGINS_FIRST,
    C = INTENT_COMMITS,
    E = INTENT_ENDS,
    P = INTENT_PREPARES,
    EMPTY = INTENT_EMPTY
};

static const struct row {
    const char *text;
    unsigned intent, mode;
} rows[] = {
    {"SELECT 1", 0, 0},
    {"select 1;", 0, 0},
    {"  \n select(1) ;; ", 0, 0},
    {"SELECT 'COMMIT; COMMIT'", 0, 0},
    {"SELECT case when true then 1 end", 0, 0},
    {"SELECT 1 AS commit; SELECT 2", 0, 0},
    {"/* COMMIT; */ SELECT 1; -- COMMIT;\nSELECT 2", 0, 0},
    {"SELECT $$; COMMIT; $$", 0, 0},
    {"INSERT INTO \"x;COMMIT\" VALUES (E'\\'; COMMIT;')", 0, 0},
    {"DO $x$ BEGIN COMMIT; END $x$", 0, 0},
    {"COMMITTED", 0, 0},
    {"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", 0, 0},
    {"SAVEPOINT a", 0, 0},
    {"PREPARE a AS SELECT 1", 0, 0},
    {"ROLLBACK TO a", 0, 0},
    {"ROLLBACK WORK TO SAVEPOINT a", 0, 0},
    {"ROLLBACK PREPARED 'a'", 0, 0},
    {"COMMIT PREPARED 'a'", 0, 0},
    {"", EMPTY, 0},
    {" ;; -- nothing\n/* at /* all */ */;", EMPTY, 0},
    {"BEGIN", B | F, 0},
    {"begin isolation level serializable;", B | F, 0},
    {"START TRANSACTION READ ONLY", B | F, 0},
    {"/* hint */ BEGIN; INSERT INTO t VALUES (1)", B | F, 0},
    {"INSERT INTO t VALUES (1); BEGIN", B, 0},
    {"COMMIT", C | E, 0},
    {"cOmMiT ;", C | E, 0},
    {";COMMIT", C | E, 0},
    {"END", C | E, 0},
    {"END TRANSACTION;", C | E, 0},
    {"COMMIT WORK AND NO CHAIN", C | E, 0},
    {"COMMIT -- now\n", C | E, 0},
    {"COMMIT/**/WORK", C | E, 0},
    {"COMMIT AND CHAIN", C | B | F, 0},
    {"COMMIT nonsense", C, 0},
    {"COMMIT 'x'", C, 0},
    {"ROLLBACK", E, 0},
    {"ABORT TRANSACTION", E, 0},
    {"rollback work and no chain", E, 0},
    {"ROLLBACK AND CHAIN", B | F, 0},
    {"ROLLBACK; ", E, 0},
    {"ROLLBACK; ROLLBACK", C, 0},
    {"ROLLBACK; INSERT INTO t VALUES (1)", C, 0},
    {"INSERT INTO t VALUES (1); ROLLBACK", 0, 0},
    {"PREPARE TRANSACTION 'a'", C | P, 0},
    {"SELECT 1; PREPARE TRANSACTION 'a'", C, 0},
    {"SELECT 1; COMMIT", C, 0},
    {"COMMIT; COMMIT", C, 0},
    {"BEGIN; SELECT 1; COMMIT", B | F | C, 0},
    {"SELECT 'unfinished", 0, 0},
    {"SELECT 'unfinished; COMMIT", C, 0},
    {"SELECT 1; /* COMMIT", C, 0},
    {"SELECT 'a\\'; COMMIT; --'", C, 0},
    {"SELECT 'a\\'; COMMIT; --'", 0, SQL_BACKSLASH},
    {"SELECT '\x83\x5c'; COMMIT", C, SQL_MIXED},
    {"SELECT '\x83\x5c'; SELECT 2", C, SQL_MIXED},
};

Test(intent, of_whole_texts)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        uint8_t intent = intent_of(row->text, strlen(row->text), false, row->mode);

        cr_expect_eq(intent, row->intent, "\"%s\": %#x", row->text, intent);
    }
}

Test(intent, of_a_text_that_goes_on_is_unknown)
{
    cr_expect_eq(intent_of("SELECT 1", 8, true, 0), C);
    cr_expect_eq(intent_of("COMMIT", 6, true, 0), C);
    cr_expect_eq(intent_of("", 0, true, 0), C);
    cr_expect_eq(intent_of("BEGIN; SEL", 10, true, 0), B | F | C);
}

Test(intent, plain_texts_are_never_more_than_plain)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (intent_is_plain(rows[i].text, strlen(rows[i].text)))
            cr_expect_eq(rows[i].intent, 0, "\"%s\"", rows[i].text);
    cr_expect(intent_is_plain("SELECT * FROM t WHERE a = $1", 28));
    cr_expect(intent_is_plain("update t set a = 1;\n", 20));
    cr_expect_not(intent_is_plain("COMMIT", 6));
    cr_expect_not(intent_is_plain("", 0));
}
