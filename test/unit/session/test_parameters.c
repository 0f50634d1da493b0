/*
 * Session parameters: sets keep what they are given, and the SQL between two sets says exactly the
 * difference, with no value able to leave its quotes.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/session/parameters.h"

/* A set of the given names and values, NULL at the end. */
static struct parameters *set_of(const char *name, ...)
{
    struct parameters *set = NULL;
    va_list rest;

    va_start(rest, name);
    for (; name; name = va_arg(rest, const char *))
        set = parameters_with(set, name, va_arg(rest, const char *));
    va_end(rest);
    return set;
}

/* Both references are taken over. NULL when they are equal. */
static char *sql_of(struct parameters *have, struct parameters *want)
{
    struct buffer sql = {0};
    bool differs = parameters_sql(have, want, &sql);

    parameters_unref(have);
    parameters_unref(want);
    if (!differs) {
        cr_assert_eq(sql.length, 0);
        return NULL;
    }
    buffer_put_u8(&sql, 0);
    return (char *)sql.data;
}

static void expect_sql(struct parameters *have, struct parameters *want, const char *expected)
{
    char *sql = sql_of(have, want);

    cr_expect_str_eq(sql ? sql : "(equal)", expected);
    free(sql);
}

/* ---- sets ---- */

Test(parameters, the_empty_set_is_null)
{
    cr_expect_eq(parameters_count(NULL), 0);
    cr_expect_eq(parameters_bytes(NULL), 0);
    cr_expect_null(parameters_get(NULL, "TimeZone"));
    cr_expect_null(parameters_ref(NULL));
    parameters_unref(NULL);
    cr_expect_null(parameters_with(NULL, "TimeZone", NULL));
}

Test(parameters, a_value_is_found_whatever_the_case_of_the_name)
{
    struct parameters *set = set_of("TimeZone", "UTC", NULL);

    cr_expect_str_eq(parameters_get(set, "timezone"), "UTC");
    cr_expect_str_eq(parameters_get(set, "TIMEZONE"), "UTC");
    cr_expect_null(parameters_get(set, "TimeZon"));
    cr_expect_null(parameters_get(set, "TimeZones"));
    parameters_unref(set);
}

Test(parameters, a_name_in_another_case_replaces_the_value)
{
    struct parameters *set = set_of("TimeZone", "UTC", "TIMEZONE", "CET", NULL);

    cr_expect_eq(parameters_count(set), 1);
    cr_expect_str_eq(parameters_get(set, "TimeZone"), "CET");
    parameters_unref(set);
}

Test(parameters, pairs_come_in_order_of_their_names)
{
    struct parameters *set = set_of("b", "2", "C", "3", "a", "1", "d.e", "4", NULL);
    const char *names[] = {"a", "b", "C", "d.e"}, *values[] = {"1", "2", "3", "4"};

    cr_assert_eq(parameters_count(set), 4);
    for (size_t i = 0; i < 4; i++) {
        const char *name, *value;
        parameters_at(set, i, &name, &value);
        cr_expect_str_eq(name, names[i]);
        cr_expect_str_eq(value, values[i]);
    }
    parameters_unref(set);
}

Test(parameters, a_shared_set_does_not_change)
{
    struct parameters *first = set_of("a", "1", "b", "2", NULL);
    struct parameters *second = parameters_with(parameters_ref(first), "a", "9");

    cr_expect_neq(first, second);
    cr_expect_str_eq(parameters_get(first, "a"), "1");
    cr_expect_str_eq(parameters_get(second, "a"), "9");
    cr_expect_str_eq(parameters_get(second, "b"), "2");
    parameters_unref(first);
    parameters_unref(second);
}

Test(parameters, the_same_value_gives_the_same_set)
{
    struct parameters *set = set_of("a", "1", NULL);

    cr_expect_eq(parameters_with(set, "A", "1"), set);
    cr_expect_eq(parameters_with(set, "b", NULL), set);
    parameters_unref(set);
}

Test(parameters, removing_the_last_one_gives_the_empty_set)
{
    struct parameters *set = set_of("a", "1", "b", "2", "c", "3", NULL);

    set = parameters_with(set, "B", NULL);
    cr_expect_eq(parameters_count(set), 2);
    cr_expect_null(parameters_get(set, "b"));
    set = parameters_with(set, "c", NULL);
    set = parameters_with(set, "a", NULL);
    cr_expect_null(set);
}

Test(parameters, a_value_of_the_set_itself_can_be_given_again)
{
    struct parameters *set = set_of("a", "one", NULL);

    set = parameters_with(set, "b", parameters_get(set, "a"));
    cr_expect_str_eq(parameters_get(set, "b"), "one");
    parameters_unref(set);
}

Test(parameters, role_and_session_authorization_are_never_in_a_set)
{
    struct parameters *set = set_of("role", "boss", "Session_Authorization", "boss", NULL);

    cr_expect_null(set);
}

Test(parameters, sets_made_in_another_order_are_equal)
{
    struct parameters *a = set_of("a", "1", "B", "2", NULL);
    struct parameters *b = set_of("b", "2", "A", "1", NULL);

    cr_expect(parameters_equal(a, b));
    b = parameters_with(b, "b", "3");
    cr_expect_not(parameters_equal(a, b));
    cr_expect_not(parameters_equal(a, NULL));
    cr_expect(parameters_equal(NULL, NULL));
    parameters_unref(a);
    parameters_unref(b);
}

Test(parameters, text_that_moves_between_name_and_value_makes_another_set)
{
    struct parameters *a = set_of("ab", "c", NULL), *b = set_of("a", "bc", NULL);

    cr_expect_not(parameters_equal(a, b));
    parameters_unref(a);
    parameters_unref(b);
}

Test(parameters, values_differ_by_case)
{
    struct parameters *a = set_of("application_name", "App", NULL);
    struct parameters *b = set_of("application_name", "app", NULL);

    cr_expect_not(parameters_equal(a, b));
    parameters_unref(a);
    parameters_unref(b);
}

Test(parameters, an_empty_value_is_a_value)
{
    struct parameters *set = set_of("application_name", "", NULL);

    cr_expect_eq(parameters_count(set), 1);
    cr_expect_str_eq(parameters_get(set, "application_name"), "");
    cr_expect_gt(parameters_bytes(set), strlen("application_name") + 2);
    parameters_unref(set);
}

/* ---- SQL ---- */

Test(parameters_sql, equal_sets_need_no_statement)
{
    expect_sql(NULL, NULL, "(equal)");
    expect_sql(set_of("TimeZone", "UTC", NULL), set_of("timezone", "UTC", NULL), "(equal)");
}

Test(parameters_sql, plain_parameters_are_set)
{
    expect_sql(NULL, set_of("datestyle", "ISO, MDY", "TimeZone", "UTC", NULL),
               "SET DateStyle=E'ISO, MDY';SET TimeZone=E'UTC'");
    expect_sql(NULL, set_of("IntervalStyle", "iso_8601", NULL), "SET IntervalStyle=E'iso_8601'");
}

Test(parameters_sql, only_what_differs_is_set)
{
    expect_sql(set_of("TimeZone", "UTC", "application_name", "x", NULL),
               set_of("application_name", "y", "TimeZone", "UTC", NULL),
               "SET application_name=E'y'");
}

Test(parameters_sql, what_is_only_there_is_reset)
{
    expect_sql(set_of("TimeZone", "UTC", NULL), NULL, "RESET TimeZone");
    expect_sql(set_of("search_path", "a, b", "work_mem", "1MB", NULL),
               set_of("work_mem", "1MB", NULL), "RESET \"search_path\"");
}

Test(parameters_sql, the_parts_of_a_dotted_name_are_quoted_one_by_one)
{
    expect_sql(set_of("my.Setting", "1", NULL), NULL, "RESET \"my\".\"Setting\"");
    expect_sql(set_of("my.a\"b", "1", NULL), NULL, "RESET \"my\".\"a\"\"b\"");
}

Test(parameters_sql, lists_keep_their_elements)
{
    expect_sql(NULL, set_of("search_path", "\"$user\", public", NULL),
               "SELECT pg_catalog.set_config(E'search_path',E'\"$user\", public',false)");
}

Test(parameters_sql, quotes_and_backslashes_stay_inside_the_literal)
{
    expect_sql(NULL, set_of("application_name", "a'; DROP TABLE t; --", NULL),
               "SET application_name=E'a''; DROP TABLE t; --'");
    expect_sql(NULL, set_of("application_name", "a\\'b\\", NULL),
               "SET application_name=E'a\\\\''b\\\\'");
    expect_sql(NULL, set_of("x.y'z", "\\", NULL),
               "SELECT pg_catalog.set_config(E'x.y''z',E'\\\\',false)");
}

Test(parameters_sql, the_encoding_is_changed_before_the_other_values)
{
    expect_sql(set_of("application_name", "a", "client_encoding", "UTF8", NULL),
               set_of("application_name", "b", "client_encoding", "LATIN1", NULL),
               "SET client_encoding=E'LATIN1';SET application_name=E'b'");
    expect_sql(set_of("application_name", "a", "client_encoding", "UTF8", NULL), NULL,
               "RESET client_encoding;RESET application_name");
}

/* In GBK, 0xbf 0x5c is one character: a doubled backslash would leave one behind, and the quote. */
Test(parameters_sql, a_value_that_is_not_ascii_cannot_leave_its_quotes_in_any_encoding)
{
    expect_sql(NULL, set_of("application_name", "\xbf\\'", NULL),
               "SELECT pg_catalog.set_config(E'application_name',pg_catalog.convert_from("
               "pg_catalog.decode('bf5c27','hex'),pg_catalog.current_setting('client_encoding'))"
               ",false)");
}

Test(parameters_sql, the_text_is_put_behind_what_the_buffer_holds)
{
    struct buffer sql = {0};
    struct parameters *want = set_of("TimeZone", "UTC", "DateStyle", "ISO", NULL);

    buffer_print(&sql, "Q....");
    cr_expect(parameters_sql(NULL, want, &sql));
    buffer_put_u8(&sql, 0);
    cr_expect_str_eq((char *)sql.data, "Q....SET DateStyle=E'ISO';SET TimeZone=E'UTC'");
    buffer_fini(&sql);
    parameters_unref(want);
}

Test(parameters_sql, long_values_are_whole)
{
    char value[5000], *sql;

    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    sql = sql_of(NULL, set_of("application_name", value, NULL));
    cr_expect_eq(strlen(sql), strlen("SET application_name=E''") + sizeof value - 1);
    free(sql);
}

/* ---- names ---- */

Test(parameters, those_that_can_be_set_follow)
{
    cr_expect(parameter_follows("client_encoding"));
    cr_expect(parameter_follows("TIMEZONE"));
    cr_expect(parameter_follows("search_path"));
    cr_expect(parameter_follows("default_transaction_read_only"));
    cr_expect_not(parameter_follows("server_version"));
    cr_expect_not(parameter_follows("In_Hot_Standby"));
    cr_expect_not(parameter_follows("is_superuser"));
    cr_expect_not(parameter_follows("role"));
    cr_expect_not(parameter_follows("SESSION_AUTHORIZATION"));
}

Test(parameters, words_stand_in_the_statement_as_they_are)
{
    struct parameters *have = NULL, *want = NULL;
    struct buffer sql = {0};

    want = parameters_with_words(want, "search_path", "a, \"B\"");
    want = parameters_with_words(want, "my.app", "'it''s'");
    cr_assert(parameters_sql(have, want, &sql));
    buffer_put_u8(&sql, '\0');
    cr_expect_str_eq((char *)sql.data,
                     "SET \"my\".\"app\" TO 'it''s';SET \"search_path\" TO a, \"B\"");
    sql.length = 0;
    /* the same text as a value is another one */
    have = parameters_with(have, "search_path", "a, \"B\"");
    have = parameters_with_words(have, "my.app", "'it''s'");
    cr_assert(parameters_sql(have, want, &sql));
    buffer_put_u8(&sql, '\0');
    cr_expect_str_eq((char *)sql.data, "SET \"search_path\" TO a, \"B\"");
    have = parameters_with_of(have, "search_path", want);
    cr_expect(parameters_equal(have, want));
    have = parameters_with_of(have, "my.app", NULL);
    cr_expect_eq(parameters_count(have), 1);
    buffer_fini(&sql);
    parameters_unref(have);
    parameters_unref(want);
}

Test(parameters, date_style_is_not_mixed_with_what_was_there)
{
    struct parameters *have = parameters_with(NULL, "DateStyle", "SQL, DMY");
    struct parameters *want = parameters_with(NULL, "datestyle", "iso");
    struct buffer sql = {0};

    cr_assert(parameters_sql(have, want, &sql));
    buffer_put_u8(&sql, '\0');
    cr_expect_str_eq((char *)sql.data, "RESET DateStyle;SET DateStyle=E'iso'");
    buffer_fini(&sql);
    parameters_unref(have);
    parameters_unref(want);
}

Test(parameter_name, a_list_ignores_case_blanks_and_empty_elements)
{
    cr_expect(parameter_in_list("b", "a, B ,c"));
    cr_expect(parameter_in_list("c", "a,,\tc\n"));
    cr_expect(parameter_in_list("a", "a"));
    cr_expect_not(parameter_in_list("b", "ab, bc, a b"));
    cr_expect_not(parameter_in_list("", "a,,b"));
    cr_expect_not(parameter_in_list("a", ""));
    cr_expect_not(parameter_in_list("a", NULL));
}

Test(parameter_name, plain_names_are_letters_digits_and_dots_between_parts)
{
    cr_expect(parameter_name_is_plain("search_path"));
    cr_expect(parameter_name_is_plain("my.Setting-2"));
    cr_expect_not(parameter_name_is_plain(""));
    cr_expect_not(parameter_name_is_plain("."));
    cr_expect_not(parameter_name_is_plain("a..b"));
    cr_expect_not(parameter_name_is_plain("a."));
    cr_expect_not(parameter_name_is_plain("a b"));
    cr_expect_not(parameter_name_is_plain("a'b"));
    cr_expect_not(parameter_name_is_plain("caf\xc3\xa9"));
}

/* PostgreSQL cuts longer identifiers, so that a RESET would reach another parameter. */
Test(parameter_name, a_part_longer_than_an_identifier_is_not_plain)
{
    char name[65];

    memset(name, 'a', 64);
    name[63] = name[64] = '\0';
    cr_expect(parameter_name_is_plain(name));
    name[63] = 'a';
    cr_expect_not(parameter_name_is_plain(name));
}
