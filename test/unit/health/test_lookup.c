/* What answers of auth_query mean. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/health/lookup.h"
#include "src/health/check_inside.h"

TestSuite(lookup);

/* Rows of so many texts each; NULL is NULL. */
static PGresult *answer(int rows, int columns, const char *const *texts)
{
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc *names = calloc((size_t)columns, sizeof *names);

    for (int i = 0; i < columns; i++)
        names[i].name = "column";
    cr_assert(PQsetResultAttrs(result, columns, names));
    free(names);
    for (int i = 0; i < rows * columns; i++)
        cr_assert(PQsetvalue(result, i / columns, i % columns, (char *)texts[i],
                             texts[i] ? (int)strlen(texts[i]) : -1));
    return result;
}

static void is_no_answer(int rows, int columns, const char *const *texts, const char *words)
{
    PGresult *result = answer(rows, columns, texts);
    struct fetched fetched = {0};
    const char *problem;
    bool known;

    cr_assert_not(lookup_read(result, "dora", &fetched, &known, &problem));
    cr_assert(strstr(problem, words), "\"%s\" is not in: %s", words, problem);
    PQclear(result);
}

Test(lookup, a_row_shows_the_user_and_until_when)
{
    static const char *const texts[] = {"dora", "secret", "2026-01-31 18:00:00+00"};
    PGresult *result = answer(1, 3, texts);
    struct fetched fetched = {0};
    const char *problem;
    bool known;

    cr_assert(lookup_read(result, "dora", &fetched, &known, &problem));
    cr_assert(known);
    cr_assert_null(problem);
    cr_assert_str_eq(fetched.secret.user, "dora");
    cr_assert_str_eq(fetched.secret.secret, "secret");
    cr_assert_eq(fetched.secret.kind, SECRET_PLAIN);
    cr_assert_eq(fetched.valid_until_us, 1769882400 * CLOCK_SECOND);
    PQclear(result);
}

Test(lookup, a_secret_that_is_null_is_an_empty_one_and_no_third_column_is_for_ever)
{
    static const char *const texts[] = {"dora", NULL};
    PGresult *result = answer(1, 2, texts);
    struct fetched fetched = {0};
    const char *problem;
    bool known;

    cr_assert(lookup_read(result, "dora", &fetched, &known, &problem) && known);
    cr_assert_str_eq(fetched.secret.secret, "");
    cr_assert_eq(fetched.valid_until_us, UINT64_MAX);
    PQclear(result);
}

Test(lookup, no_row_is_an_answer_too)
{
    PGresult *result = answer(0, 2, NULL);
    struct fetched fetched = {0};
    const char *problem;
    bool known;

    cr_assert(lookup_read(result, "dora", &fetched, &known, &problem));
    cr_assert_not(known);
    cr_assert_null(fetched.secret.user);
    PQclear(result);
}

Test(lookup, what_is_no_answer_says_why)
{
    static const char *const one[] = {"dora"};
    static const char *const two[] = {"dora", "x", "dora", "y"};
    static const char *const another[] = {"dorothy", "x"};
    static const char *const nobody[] = {NULL, "x"};
    static const char *const someday[] = {"dora", "x", "someday"};
    char *long_secret = calloc(1, 64 * 1024 + 2);
    const char *too_long[] = {"dora", memset(long_secret, 'x', 64 * 1024 + 1)};

    is_no_answer(1, 1, one, "must give two columns");
    is_no_answer(2, 2, two, "more than one row");
    is_no_answer(1, 2, another, "another user");
    is_no_answer(1, 2, nobody, "another user");
    is_no_answer(1, 3, someday, "no timestamp");
    is_no_answer(1, 2, too_long, "too long");
    free(long_secret);
}

/* ---- the row of CHECK ---- */

static void is_judged(const PGresult *answer, const char *problem, enum check_verdict verdict,
                      const char *detail)
{
    struct check_rows rows = {0};

    check_judge_lookup(&rows, "e", "h:1", answer, problem, "dora", "app", 7);
    cr_assert_eq(rows.count, 1);
    cr_assert_str_eq(rows.items[0].check, "auth_query");
    cr_assert_eq(rows.items[0].verdict, verdict);
    cr_assert_str_eq(rows.items[0].detail, detail);
    cr_assert_null(strstr(rows.items[0].detail, "hidden"), "a secret is shown");
    check_rows_fini(&rows);
}

Test(lookup, check_says_what_came_of_it_and_shows_no_secret)
{
    static const char *const found[] = {"dora", "hidden"}, *const another[] = {"tom", "hidden"};
    PGresult *known = answer(1, 2, found), *unknown = answer(0, 2, NULL);
    PGresult *wrong = answer(1, 2, another);

    is_judged(known, NULL, CHECK_OK, "as dora to app: asked for dora itself, it answered");
    is_judged(unknown, NULL, CHECK_OK,
              "as dora to app: asked for dora itself, it answered that there is no such user");
    is_judged(wrong, NULL, CHECK_ERROR,
              "as dora to app: auth_query gave another user than it was asked for");
    is_judged(NULL, "auth: no", CHECK_ERROR, "as dora to app: auth: no");
    PQclear(known);
    PQclear(unknown);
    PQclear(wrong);
}
