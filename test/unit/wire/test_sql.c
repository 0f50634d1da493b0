/*
 * Tokens and statements: tables of texts and what they are.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/wire/sql.h"
#include "piece.h"

/* ---- tokens ---- */

/* Each token as a letter: W word, Q quoted, S string, D dollar, O odd, N number, the symbol itself,
 * ! bad. The text is copied exactly, so that reading past its end is noticed. */
static void kinds_of(const char *text, unsigned mode, char *kinds)
{
    size_t length = strlen(text), count = 0;
    char *exact = malloc(length ? length : 1);
    struct sql_lexer lexer = {exact, length, 0, mode};

    memcpy(exact, text, length);
    for (;;) {
        struct sql_token token = sql_token(&lexer);
        static const char letters[] = {
            [SQL_WORD] = 'W', [SQL_QUOTED] = 'Q', [SQL_STRING] = 'S', [SQL_DOLLAR] = 'D',
            [SQL_ODD] = 'O',  [SQL_NUMBER] = 'N', [SQL_BAD] = '!',
        };
        if (token.kind == SQL_END)
            break;
        kinds[count++] = token.kind == SQL_SYMBOL ? token.text[0] : letters[token.kind];
        if (token.kind == SQL_BAD)
            break;
    }
    kinds[count] = '\0';
    free(exact);
}

Test(sql, tokens_end_where_postgresql_ends_them)
{
    static const struct {
        const char *text;
        unsigned mode;
        const char *kinds;
    } rows[] = {
        {"", 0, ""},
        {" \n\t ", 0, ""},
        {"select 1", 0, "WN"},
        {"-- only ; a comment", 0, ""},
        {"a -- b\n; c", 0, "W;W"},
        {"a -- b\r; c", 0, "W;W"},
        {"/* a /* b */ ; */ c", 0, "W"},
        {"/* a /* b */ c", 0, "!"},
        {"a*/**/b", 0, "W*W"},
        {"a+--;\nb", 0, "W+W"},
        {"'a'';' b", 0, "SW"},
        {"'a", 0, "!"},
        {"'a\\' ; b", 0, "S;W"},
        {"'a\\' ; b'", SQL_BACKSLASH, "S"},
        {"E'a\\' ; b' c", 0, "SW"},
        {"e'a\\\\' ; b", 0, "S;W"},
        {"E'a'\n'b\\'c' d", 0, "SW"},
        {"E'a' -- x\n'b'", 0, "SS"},
        {"E'a'\n -- x\n'b\\'' c", 0, "SW"},
        {"'a'\n'b\\' c", 0, "SSW"},
        {"N'a\\' b", 0, "SW"},
        {"B'01' X'ff' U&'a' U&\"b\"", 0, "OOOO"},
        {"\"a\"\"b;\" c", 0, "QW"},
        {"\"a", 0, "!"},
        {"$$a;b$$ c", 0, "DW"},
        {"$x$a$$b$x$ c", 0, "DW"},
        {"$x$a$y$", 0, "!"},
        {"a$x$ b", 0, "WW"},
        {"$1 $2", 0, "NN"},
        {"$ 1", 0, "$N"},
        {"$1$a$", 0, "N!"},
        {"1.5e-3 .5 0x1f 1_000", 0, "N-NNNN"},
        {"1--2", 0, "N"},
        {"a.b.c", 0, "W.W.W"},
        {"\xc3\xa4 = 'x'", 0, "W=S"},
        {"a \x83\x5c b", SQL_MIXED, "W!"},
        {"'\x83\x5c' b", SQL_MIXED, "!"},
        {"'abc' b", SQL_MIXED, "SW"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char kinds[64];
        kinds_of(rows[i].text, rows[i].mode, kinds);
        cr_expect_str_eq(kinds, rows[i].kinds, "%s", rows[i].text);
    }
}

Test(sql, mode_follows_from_the_parameters)
{
    cr_expect_eq(sql_mode_of(NULL, NULL), 0);
    cr_expect_eq(sql_mode_of("on", "UTF8"), 0);
    cr_expect_eq(sql_mode_of("off", "LATIN1"), SQL_BACKSLASH);
    cr_expect_eq(sql_mode_of("on", "SJIS"), SQL_MIXED);
    cr_expect_eq(sql_mode_of("off", "gb18030"), SQL_BACKSLASH | SQL_MIXED);
}

/* ---- statements ---- */

static const char *const verb_names[] = {
    [SQL_QUIET] = "quiet",
    [SQL_BEGIN] = "begin",
    [SQL_COMMIT] = "commit",
    [SQL_ROLLBACK] = "rollback",
    [SQL_ROLLBACK_TO] = "rollback_to",
    [SQL_SAVEPOINT] = "savepoint",
    [SQL_RELEASE] = "release",
    [SQL_PREPARE_TRANSACTION] = "prepare_transaction",
    [SQL_SET] = "set",
    [SQL_RESET] = "reset",
    [SQL_RESET_ALL] = "reset_all",
    [SQL_SET_IDENTITY] = "identity",
    [SQL_RESET_IDENTITY] = "own_identity",
    [SQL_NO_ROLE] = "no_role",
    [SQL_SET_OTHER] = "set_other",
    [SQL_DISCARD_ALL] = "discard_all",
    [SQL_DISCARD_TEMP] = "discard_temp",
    [SQL_LISTEN] = "listen",
    [SQL_UNLISTEN] = "unlisten",
    [SQL_PREPARE] = "prepare",
    [SQL_DEALLOCATE] = "deallocate",
    [SQL_HOLD] = "hold",
    [SQL_CLOSE] = "close",
    [SQL_LOAD] = "load",
    [SQL_TEMPORARY] = "temporary",
    [SQL_DROP] = "drop",
    [SQL_UNKNOWN] = "unknown",
};

/* "verb(name) name=value name:=plain name=DEFAULT +marks; verb …" */
static void describe(const char *text, unsigned mode, char *out, size_t size)
{
    size_t length = strlen(text);
    char *exact = malloc(length ? length : 1);
    struct sql_lexer lexer = {exact, length, 0, mode};
    struct sql_statement statement;
    FILE *file = fmemopen(out, size, "w");
    const char *separator = "";

    memcpy(exact, text, length);
    while (sql_next(&lexer, &statement)) {
        fprintf(file, "%s%s", separator, verb_names[statement.verb]);
        separator = "; ";
        if (statement.name[0])
            fprintf(file, "(%s)", statement.name);
        for (uint8_t i = 0; i < statement.setting_count; i++) {
            struct buffer value = {0};
            bool plain;
            if (!sql_value(exact, &statement.settings[i], mode, &value, &plain))
                fprintf(file, " %s=?", statement.settings[i].name);
            else if (value.length == 0 && !plain)
                fprintf(file, " %s=DEFAULT", statement.settings[i].name);
            else
                fprintf(file, " %s%s%.*s", statement.settings[i].name, plain ? ":=" : "=",
                        (int)value.length, (const char *)value.data);
            buffer_fini(&value);
        }
        if (statement.marks & SQL_CALLS_CONFIG)
            fputs(" +config", file);
        if (statement.marks & SQL_CALLS_LOCK)
            fputs(" +lock", file);
        if (statement.marks & SQL_CALLS_UNLOCK)
            fputs(" +unlock", file);
        if (statement.marks & SQL_CALLS_SEED)
            fputs(" +seed", file);
        if (statement.marks & SQL_NAMES_PG_TEMP)
            fputs(" +pg_temp", file);
    }
    fclose(file);
    free(exact);
}

struct row {
    const char *text;
    const char *means;
};

static void expect_rows(const struct row *rows, size_t count, unsigned mode)
{
    for (size_t i = 0; i < count; i++) {
        char means[1024] = "";
        describe(rows[i].text, mode, means, sizeof(means));
        cr_expect_str_eq(means, rows[i].means, "%s\n  is %s", rows[i].text, means);
    }
}
#define EXPECT_ROWS(rows) expect_rows(rows, sizeof rows / sizeof *rows, 0)

Test(sql, statements_are_found)
{
    static const struct row rows[] = {
        {"", ""},
        {";;  ; -- x", ""},
        {"select 1", "quiet"},
        {"select ';'; select 2;", "quiet; quiet"},
        {"insert into t values (';set a=1;')", "quiet"},
        {"update t set a = 1", "quiet"},
        {"create rule r as on insert to t do (select 1; set a = 1)", "quiet"},
        {"create function f() returns int begin atomic select case when true then 1 end; "
         "select 2; end; set a = 1",
         "quiet; set a=1"},
        {"create function f() returns int as $$ set b = 1; $$ language sql; reset a",
         "quiet; reset a=DEFAULT"},
        {"begin; commit and chain; end; start transaction; abort; rollback work",
         "begin; commit; commit; begin; rollback; rollback"},
        {"commit prepared 'x'; rollback prepared 'x'; prepare transaction 'x'",
         "quiet; quiet; prepare_transaction"},
        {"savepoint A; release a; release savepoint \"A b\"; rollback to savepoint x; "
         "rollback transaction to y; rollback to savepoint",
         "savepoint(a); release(a); release(A b); rollback_to(x); rollback_to(y); "
         "rollback_to(savepoint)"},
        {"savepoint \xc3\x84; savepoint \"\xc3\x84\"", "unknown; savepoint(\xc3\x84)"},
        {"savepoint a23456789b123456789c123456789d123456789e123456789f123456789g12345",
         "savepoint(a23456789b123456789c123456789d123456789e123456789f123456789g123)"},
        {"/* lead */ -- more\n SET a = 1", "set a=1"},
        {"select 'unfinished", "unknown"},
        {"select 1; /* unfinished", "quiet; unknown"},
        {"select (1", "unknown"},
        {"select 1; set a = 'x", "quiet; unknown"},
        {"select U&\"set\\005fconfig\"('a', 'b', false)", "unknown"},
    };
    EXPECT_ROWS(rows);
}

Test(sql, settings_are_read)
{
    static const struct row rows[] = {
        {"SET work_mem = '64MB'", "set work_mem='64MB'"},
        {"set WORK_MEM to 4096", "set work_mem=4096"},
        {"set session work_mem = -1", "set work_mem=-1"},
        {"set \"My App\".\"x\" = 'y'", "set My App.x='y'"},
        {"set app.user_id to default", "set app.user_id=DEFAULT"},
        {"set a = on -- why\n;", "set a=on"},
        {"set search_path to  a , \"B c\",'d'", "set search_path=a , \"B c\",'d'"},
        {"set search_path = a/**/,b", "set search_path=a ,b"},
        {"set local a = 1; set transaction read only; set constraints all deferred",
         "quiet; quiet; quiet"},
        {"set local.a = 1", "set local.a=1"},
        {"set session.a = 1", "set session.a=1"},
        {"set time zone 'UTC'; set time zone local; set time zone -7",
         "set TimeZone='UTC'; set TimeZone=DEFAULT; set TimeZone=-7"},
        {"set names 'latin1'; set names",
         "set client_encoding='latin1'; set client_encoding=DEFAULT"},
        {"set schema 'x'", "set search_path='x'"},
        {"set xml option document", "set xmloption=document"},
        {"set session characteristics as transaction isolation level repeatable read, read only, "
         "not deferrable",
         "set default_transaction_isolation='repeatable read' default_transaction_read_only=on "
         "default_transaction_deferrable=off"},
        {"set sort_mem = 1; reset sort_mem", "set work_mem=1; reset work_mem=DEFAULT"},
        {"reset all; reset time zone; reset \"a\".b", "reset_all; reset TimeZone=DEFAULT; "
                                                      "reset a.b=DEFAULT"},
        {"set a = 'it''s'", "set a='it''s'"},
        {"set a = 'back\\slash'", "set a:=back\\slash"},
        {"set a = E'it\\'s\\n'", "set a:=it's\n"},
        {"set a = E'\\x41'", "set a=?"},
        {"set a = $$x'y$$", "set a=$$x'y$$"},
        {"set a = '\xc3\xa4'", "set a:=\xc3\xa4"},
        {"set search_path = '\xc3\xa4\"'", "set search_path:=\"\xc3\xa4\"\"\""},
        {"set a = '\xc3\xa4', b", "set a=?"},
        {"set my.\xc3\x84 = 1; set my.\"\xc3\x84\" = 1; reset my.\xc3\x84",
         "set_other; set my.\xc3\x84=1; set_other"},
        {"set a = 'x;y'", "set a:=x;y"},
        {"set a from current; set a; set a = ; set (a) = 1",
         "set_other; set_other; set_other; set_other"},
        {"set seed to 0.5", "quiet +seed"},
        {"set transaction_isolation = 'serializable'", "quiet"},
        {"set role x; set role none; reset role; set local role x; set role to 'x'; set role = "
         "none",
         "identity(role); no_role(role); own_identity(role); quiet; identity(role); "
         "no_role(role)"},
        {"set session authorization x; set session authorization default; reset session "
         "authorization; set session session authorization x",
         "identity(session_authorization); own_identity(session_authorization); "
         "own_identity(session_authorization); identity(session_authorization)"},
        {"set session role x; set session_authorization = x",
         "identity(role); identity(session_authorization)"},
    };
    EXPECT_ROWS(rows);
}

Test(sql, strings_with_backslashes_follow_the_mode)
{
    static const struct row rows[] = {
        {"set a = 'x\\'y'; set b = 1", "set a:=x'y; set b=1"},
        {"set a = 'x\\\\'; set b = 1", "set a:=x\\; set b=1"},
    };
    expect_rows(rows, sizeof rows / sizeof *rows, SQL_BACKSLASH);
}

Test(sql, set_config_is_seen)
{
    static const struct row rows[] = {
        {"select set_config('a.b', 'c', false)", "set a.b:=c"},
        {"SELECT pg_catalog.set_config('search_path', '', false);", "set search_path:="},
        {"select \"set_config\"('a', 'b', 'f')", "set a:=b"},
        {"select set_config('a', 'b', true)", "quiet"},
        {"select set_config('a', $1, true), set_config('b', f(1, 2), 'on')", "quiet"},
        {"select set_config('a', 'b', $1)", "quiet +config"},
        {"select set_config('a', $1, false)", "quiet +config"},
        {"select set_config('a', 'b', false), 1", "quiet +config"},
        {"select set_config('a', 'b', false) from t", "quiet +config"},
        {"select set_config(set_config('a', 'b', false), 'c', true)", "quiet +config"},
        {"insert into t select set_config(a, b, c) from u", "quiet +config"},
        {"select set_config('role', 'x', false)", "identity(role)"},
        {"select set_config('a', 'b', true", "unknown +config"},
    };
    EXPECT_ROWS(rows);
}

Test(sql, other_state_is_seen)
{
    static const struct row rows[] = {
        {"create temp table t (a int)", "temporary"},
        {"create temporary sequence s; create or replace temp view v as select 1",
         "temporary; temporary"},
        {"create local temp table t (a int) on commit preserve rows", "temporary"},
        {"create temp table t (a int) on commit drop", "quiet"},
        {"select 1 into temp t; select 1 into temporary table t", "temporary; temporary"},
        {"with x as (select 1) select * into temp y from x", "temporary"},
        {"explain analyze create temp table t as select 1", "temporary"},
        {"insert into temp values (1)", "quiet"},
        {"select temp from t; create table temp (a int)", "quiet; quiet"},
        {"create table pg_temp.t (a int)", "quiet +pg_temp"},
        {"create table pg_temp_12.t (a int)", "quiet +pg_temp"},
        {"declare c cursor with hold for select 1; declare c cursor for select 1; declare c cursor "
         "without hold for select 1",
         "hold; quiet; quiet"},
        {"close c; close all", "close(c); close"},
        {"select pg_advisory_lock(1)", "quiet +lock"},
        {"select pg_try_advisory_lock_shared(1)", "quiet +lock"},
        {"select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(1)", "quiet"},
        {"select PG_ADVISORY_UNLOCK_ALL()", "quiet +unlock"},
        {"select setseed(0.5)", "quiet +seed"},
        {"prepare P (int) as select $1; execute p(1); deallocate p; deallocate prepare p; "
         "deallocate all; deallocate prepare all",
         "prepare(p); quiet; deallocate(p); deallocate(p); deallocate; deallocate"},
        {"listen Foo; listen \"Foo\"; unlisten foo; unlisten *; notify foo, 'x'",
         "listen(foo); listen(Foo); unlisten(foo); unlisten; quiet"},
        {"load 'x'; discard all; discard temp; discard plans; drop table t",
         "load; discard_all; discard_temp; quiet; drop"},
        {"do $$ begin set a = 1; end $$", "quiet"},
    };
    EXPECT_ROWS(rows);
}
