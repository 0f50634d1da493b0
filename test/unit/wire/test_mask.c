/*
 * mask: no literal gets into a log, and the rest of the statement can be recognised.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/wire/mask.h"

static void masks(const char *sql, bool cut, const char *expected)
{
    struct buffer out = {0};
    bool known = mask_literals(sql, strlen(sql), cut, &out);
    buffer_put_u8(&out, '\0');
    if (expected)
        cr_expect(known && strcmp((char *)out.data, expected) == 0, "%s became %s", sql,
                  known ? (char *)out.data : "unknown");
    else
        cr_expect_not(known, "%s became %s", sql, (char *)out.data);
    buffer_fini(&out);
}

Test(mask, literals_become_question_marks)
{
    masks("SELECT 'a', 'it''s', E'a\\'b', B'01', X'ff', U&'x', N'n'", false,
          "SELECT ?, ?, ?, ?, ?, ?, ?");
    masks("SELECT 1, -2.5, 1e10, 1.5E-3, .5, 0xFF, 1_000", false, "SELECT ?, -?, ?, ?, ?, ?, ?");
    masks("DO $$ secret 'x' $$; DO $tag$ a $$ b $tag$", false, "DO ?; DO ?");
    masks("SELECT a[1:2], x..y, 1..2", false, "SELECT a[?:?], x..y, ?.?");
}

Test(mask, names_and_parameters_stay)
{
    masks("SELECT t1.c2, \"Na\"\"me 1\", $1, $12 FROM täble_3 WHERE a$b=$2", false,
          "SELECT t1.c2, \"Na\"\"me 1\", $1, $12 FROM täble_3 WHERE a$b=$2");
}

Test(mask, blanks_and_comments_become_one_blank)
{
    masks("SELECT  a\n\t, b -- 'secret\n FROM /* 'x /* nested */ 1 */ t", false,
          "SELECT a , b FROM t");
}

Test(mask, what_may_be_read_in_two_ways_is_unknown)
{
    masks("SELECT 'a\\' OR secret = 'b'", false, NULL);
    masks("SELECT 'open", false, NULL);
    masks("SELECT \"open", false, NULL);
    masks("SELECT $$open", false, NULL);
    masks("SELECT $tag open", false, NULL);
    masks("SELECT /* open", false, NULL);
}

Test(mask, a_cut_text_hides_what_is_open_at_its_end)
{
    masks("SELECT 'secr", true, "SELECT ?");
    masks("SELECT $x$ secr", true, "SELECT ?");
    masks("SELECT \"na", true, "SELECT ");
    masks("SELECT $ta", true, "SELECT ");
    masks("SELECT 12", true, "SELECT ?");
    masks("SELECT E'a\\", true, "SELECT ?");
}
