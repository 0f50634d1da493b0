/* statement: comments, quotes, and where one ends. */
#include <criterion/criterion.h>

#include "pgstage/admin/statement.h"
#include "pgstage/base/buffer.h"

/* All statements as [kind:text …][…]. */
static char *shape(const char *query)
{
    static struct buffer out;
    buffer_fini(&out);
    struct statement statement;
    while (statement_next(&query, &statement)) {
        buffer_print(&out, "[");
        for (size_t i = 0; i < statement.count && i < STATEMENT_TOKENS_MAX; i++)
            buffer_print(&out, "%s%c:%s", i ? " " : "", "wqs="[statement.tokens[i].kind],
                         statement.tokens[i].text);
        buffer_print(&out, "]%s", statement.problem ? "!" : "");
        statement_fini(&statement);
    }
    buffer_put_u8(&out, '\0');
    return (char *)out.data;
}

Test(statement, splits_at_semicolons_and_skips_empty_ones)
{
    cr_assert_str_eq(shape(" ; SHOW pools;;pause  app ;"), "[w:SHOW w:pools][w:pause w:app]");
}

Test(statement, skips_comments_also_nested_ones)
{
    cr_assert_str_eq(shape("-- a; b\nshow /* x /* y; */ z */ pools -- end"), "[w:show w:pools]");
}

Test(statement, of_comments_alone_is_none)
{
    cr_assert_str_eq(shape("-- nothing\n /* here */ ;;"), "");
}

Test(statement, keeps_semicolons_and_comments_inside_quotes)
{
    cr_assert_str_eq(shape("set a='1; --2'"), "[w:set w:a =:= s:1; --2]");
}

Test(statement, unquotes_doubled_quotes)
{
    cr_assert_str_eq(shape("pause \"a\"\"b\" 'c''d'"), "[w:pause q:a\"b s:c'd]");
}

Test(statement, takes_database_at_environment_as_one_word)
{
    cr_assert_str_eq(shape("pause my-app@production"), "[w:pause w:my-app@production]");
}

Test(statement, tells_a_quote_without_end)
{
    cr_assert_str_eq(shape("show 'pools"), "[w:show s:pools]!");
}

Test(statement, keeps_its_own_text)
{
    const char *query = "  show  pools  ; next";
    struct statement statement;
    cr_assert(statement_next(&query, &statement));
    cr_expect_str_eq(statement.text, "show  pools");
    statement_fini(&statement);
}

Test(statement, counts_tokens_beyond_what_it_keeps)
{
    const char *query = "a b c d e f g h i j k l m n o p q r s t";
    struct statement statement;
    cr_assert(statement_next(&query, &statement));
    cr_expect_eq(statement.count, 20);
    statement_fini(&statement);
}
