/*
 * test_intent.c: what a text may do to its transaction and to the session.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/wire/intent.h"
#include "pgstage/wire/sql.h"

enum {
    B = INTENT_BEGINS,
    F = INTENT_BEGINS_FIRST,
    C = INTENT_COMMITS,
    E = INTENT_ENDS,
    P = INTENT_PREPARES,
    EMPTY = INTENT_EMPTY,
    S = INTENT_STATE,
    A = INTENT_ALONE
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
    {"DO $x$ BEGIN COMMIT; END $x$", A, 0},
    {"COMMITTED", 0, 0},
    {"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", A, 0},
    {"SAVEPOINT a", S, 0},
    {"PREPARE a AS SELECT 1", S, 0},
    {"ROLLBACK TO a", S, 0},
    {"ROLLBACK WORK TO SAVEPOINT a", S, 0},
    {"ROLLBACK PREPARED 'a'", A, 0},
    {"COMMIT PREPARED 'a'", A, 0},
    {"CALL p()", A, 0},
    {"/* x */ vacuum analyze", A, 0},
    {"CREATE DATABASE x", A, 0},
    {"create unique index concurrently on t (a);", A, 0},
    {"DROP DATABASE x", A | S, 0},
    {"DISCARD ALL", A | S, 0},
    {"CALL p(); SELECT 1", 0, 0},
    {"SET a = 1", S, 0},
    {"SET LOCAL a = 1", 0, 0},
    {"BEGIN; SET a = 1", B | F | S, 0},
    {"SELECT 1; CREATE TEMP TABLE t (a int)", S, 0},
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
    {"SELECT 'unfinished; COMMIT", C | S, 0},
    {"SELECT 1; /* COMMIT", C | S, 0},
    {"SELECT 'a\\'; COMMIT; --'", C, 0},
    {"SELECT 'a\\'; COMMIT; --'", 0, SQL_BACKSLASH},
    {"SELECT '\x83\x5c'; COMMIT", C | S, SQL_MIXED},
    {"SELECT '\x83\x5c'; SELECT 2", C | S, SQL_MIXED},
};

Test(intent, of_whole_texts)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        unsigned intent = intent_of(row->text, strlen(row->text), false, row->mode);

        cr_expect_eq(intent & ~(unsigned)INTENT_READ, row->intent, "\"%s\": %#x", row->text,
                     intent);
    }
}

Test(intent, of_a_text_that_goes_on_is_unknown)
{
    cr_expect_eq(intent_of("SELECT 1", 8, true, 0), C | INTENT_READ);
    cr_expect_eq(intent_of("COMMIT", 6, true, 0), C | INTENT_READ);
    cr_expect_eq(intent_of("", 0, true, 0), C | INTENT_READ);
    cr_expect_eq(intent_of("BEGIN; SEL", 10, true, 0), B | F | C | INTENT_READ);
}

/* A glance is the same whatever the mode is. */
Test(intent, a_glance_is_enough_for_the_ordinary_query)
{
    static const struct {
        const char *text;
        bool read;
    } glances[] = {
        {"SELECT 1", false},
        {"select * from accounts where id = 17 and name = 'somebody'", false},
        {"INSERT\nINTO t VALUES (1)", false},
        {"UPDATE t SET a = 1 WHERE b = 2 -- settle", false},
        {"BEGIN", false},
        {"begin isolation level serializable;", false},
        {"COMMIT", false},
        {"ROLLBACK;", false},
        {"  -- c\n select 1;", false},
        {"(select 1)", false},
        {"CREATE TABLE t (a int)", false},
        {"COMMIT WORK", true},
        {"ROLLBACK TO x", true},
        {"SET a = 1", true},
        {"select ';'", true},
        {"select 1 from template_of_something", true},
        {"selectx ;y", true},
        {"\"select\"", true},
    };
    for (size_t i = 0; i < sizeof glances / sizeof *glances; i++) {
        const char *text = glances[i].text;

        cr_expect_eq((intent_of(text, strlen(text), false, 0) & INTENT_READ) != 0, glances[i].read,
                     "%s", text);
    }
}

/* ---- session state ---- */

Test(intent, sees_what_changes_the_session)
{
    static const struct {
        const char *text;
        unsigned intent; /* of S and C */
    } texts[] = {
        {"", 0},
        {";", 0},
        {"select 1", 0},
        {"SELECT * FROM company WHERE template = 'x;y' AND id = $1", 0},
        {"  -- c\n select 1;", 0},
        {"begin", 0},
        {"BEGIN;", 0},
        {"rollback", 0},
        {"rollback work", 0},
        {"ROLLBACK\nTO\na", S},
        {"commit", C},
        {"END ;", C},
        {"commit prepared 'x'", 0},
        {"select 1; commit", C},
        {"prepare transaction 'x'", C},
        {"prepare x as select 1", S},
        {"savepoint x", S},
        {"set local a = 1", 0},
        {"set a = 1", S},
        {"(select pg_advisory_lock(1))", S},
        {"select 1 /* x */; /* y */ SeT a = 1", S},
        {"update t set a = 1", 0},
        {"insert into t values ('temp')", 0},
        {"with x as (select SET_CONFIG('a','b',false)) select 1", S},
        {"create table t (a int)", 0},
        {"create TEMP table t (a int)", S},
        {"explain analyze create temp table t as select 1", S},
        {"select 'x", 0}, /* one statement, an error, whatever is in it */
        {"select 'x; set a = 1", C | S},
        {"select 1 from t where a = 'long enough for some blocks' and b = setseed(0.1)", S},
        {"/* unfinished", C | S},
        {"select u&\"set\"(1, 2)", C | S},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t length = strlen(texts[i].text);
        char *exact = malloc(length ? length : 1);
        unsigned intent;

        memcpy(exact, texts[i].text, length);
        intent = intent_of(exact, length, false, 0) & (S | C);
        cr_expect_eq(intent, texts[i].intent, "%s: %u", texts[i].text, intent);
        free(exact);
    }
}

/* Each sequence is found at every place of the text. */
Test(intent, sees_every_place)
{
    static const char *const words[] = {"set_config('a','b',false)", "pg_advisory_lock(1)",
                                        "setseed(1)", "1;set a=1", "u&\"setseed\"(1)"};
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        for (size_t pad = 0; pad < 70; pad++) {
            char text[256];
            int length = snprintf(text, sizeof(text), "select %*s %s", (int)pad, "", words[w]);
            cr_expect(intent_of(text, (size_t)length, false, 0) & S, "%s", text);
        }
    }
}

Test(intent, of_the_head_of_a_long_text)
{
    static const struct {
        const char *head;
        bool none;
    } heads[] = {
        {"insert into t values (1, 'x", true},
        {"insert into t values (1); x", false},
        {"set a = 'x", false},
        {"begin isolation level ", true},
        {"ROLLBACK /* long", false},
        {"COMMIT /* long", false},
        {"create function f() returns", true},
        {"create temp table", false},
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        cr_expect_eq(intent_is_none_at_head(heads[i].head, strlen(heads[i].head)), heads[i].none,
                     "%s", heads[i].head);
}

/* What the look lets pass has no statement that matters: on random texts of telling pieces. */
Test(intent, agrees_with_the_statements)
{
    static const char *const pieces[] = {
        "select ", "set ",       "a ",      "= ",      "1 ",     ";",       "'",         "\"",
        "$$",      "--",         "\n",      "/*",      "*/",     "(",       ")",         "E'",
        "\\",      "temp ",      "into ",   "create ", "begin ", "atomic ", "end ",      "case ",
        "commit ", "set_config", "'b'",     ",",       "false ", "to ",     "rollback ", "x",
        "with ",   "hold ",      "listen ", "U&",      "reset ", "all ",
    };
    unsigned seed = 1;

    for (int round = 0; round < 200000; round++) {
        char text[256];
        size_t length = 0;
        unsigned count = 1 + rand_r(&seed) % 14, wanted = 0;
        unsigned mode = rand_r(&seed) % 8 == 0 ? SQL_BACKSLASH : 0;
        struct sql_statement statement;

        for (unsigned i = 0; i < count; i++) {
            const char *piece = pieces[(size_t)rand_r(&seed) % (sizeof pieces / sizeof *pieces)];
            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        }
        struct sql_lexer lexer = {text, length, 0, mode};
        if (length < 24)
            continue; /* too short to be more than a syntax error */
        while (sql_next(&lexer, &statement)) {
            switch (statement.verb) {
            case SQL_QUIET:
            case SQL_BEGIN:
            case SQL_ROLLBACK:
                break;
            case SQL_UNKNOWN: /* a syntax error to the server when it is the only one */
                break;
            case SQL_COMMIT:
            case SQL_PREPARE_TRANSACTION:
                wanted |= C;
                break;
            default:
                wanted |= S;
                break;
            }
        }
        cr_assert_eq(wanted & ~intent_of(text, length, false, mode), 0, "%.*s", (int)length, text);
    }
}
