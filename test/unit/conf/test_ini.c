/* The grammar of INI files: what PgBouncer's files hold and inih alone gets wrong. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "desk.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/ini.h"

TestSuite(ini, .init = desk_set, .fini = desk_clear);

/* Entries as text: "section|key|value|line;" each. */
static char collected[4096];
static char *last_value;

static void collect(void *context, const struct ini_entry *entry)
{
    (void)context;
    size_t used = strlen(collected);
    if (!entry->key)
        return;
    snprintf(collected + used, sizeof(collected) - used, "%s|%s|%.40s|%d;", entry->section,
             entry->key, entry->value, entry->line);
    free(last_value);
    last_value = text_copy(entry->value);
}

static void read_text(const char *text)
{
    struct arena arena = {0};
    struct ini_reader reader = {
        .arena = &arena, .report = &desk_report, .config_dir = ".", .entry = collect};
    ini_read_text(&reader, "text", text, strlen(text));
    arena_fini(&arena);
}

static void done(void)
{
    free(last_value);
    last_value = NULL;
}

Test(ini, reads_indented_lines_as_lines_of_their_own)
{
    read_text("  [a]\n\tx = 1\n    y = 2\n  ; note\n   z=3\n");
    cr_expect_str_eq(collected, "a|x|1|2;a|y|2|3;a|z|3|5;");
    done();
}

Test(ini, keeps_what_looks_like_a_comment_inside_a_value)
{
    read_text("[a]\nq = set a=1 ; set b=2 # three\n");
    cr_expect_str_eq(last_value, "set a=1 ; set b=2 # three");
    done();
}

Test(ini, splits_at_the_first_equals_sign_only)
{
    read_text("[a]\napp = dbname=x host=y\n");
    cr_expect_str_eq(last_value, "dbname=x host=y");
    done();
}

Test(ini, does_not_take_a_colon_for_an_equals_sign)
{
    read_text("[a]\nkey: value\nhost = [::1]:5432\n");
    cr_expect_str_eq(collected, "a|host|[::1]:5432|3;");
    cr_expect(desk_said(2, "expected `name = value`"));
    done();
}

Test(ini, reads_quoted_names_of_both_kinds)
{
    read_text("[a]\n\"my = db\" = 1\n'it''s' = 2\n\"say \"\"hi\"\"\"=3\n");
    cr_expect_str_eq(collected, "a|my = db|1|2;a|it's|2|3;a|say \"hi\"|3|4;");
    done();
}

Test(ini, reports_a_quote_that_is_not_closed)
{
    read_text("[a]\n\"db = 1\n");
    cr_expect(desk_said(2, "not closed"));
}

Test(ini, reports_a_name_that_needs_quotes)
{
    read_text("[a]\nmy db = host=x\n");
    cr_expect(desk_said(2, "quotes"));
}

Test(ini, cuts_blanks_and_carriage_returns_off_values)
{
    read_text("[a]\r\nx =   two words \t\r\n");
    cr_expect_str_eq(last_value, "two words");
    done();
}

Test(ini, accepts_an_empty_value_and_a_last_line_without_newline)
{
    read_text("[a]\nx =\ny=1");
    cr_expect_str_eq(collected, "a|x||2;a|y|1|3;");
    done();
}

Test(ini, skips_a_byte_order_mark)
{
    read_text("\xef\xbb\xbf[a]\nx=1\n");
    cr_expect_str_eq(collected, "a|x|1|2;");
    done();
}

Test(ini, reports_a_pair_before_the_first_section)
{
    read_text("x = 1\n[a]\n");
    cr_expect(desk_said(1, "before the first [section]"));
}

Test(ini, reports_a_section_that_is_not_closed_and_reads_on)
{
    read_text("[a]\n[b\nx = 1\n");
    cr_expect(desk_said(2, "not closed"));
    cr_expect_str_eq(collected, "a|x|1|3;");
    done();
}

Test(ini, reads_a_value_of_64_kilobytes)
{
    size_t length = 65536;
    char *text = memory_new(length + 32);
    strcpy(text, "[a]\nx = ");
    memset(text + strlen(text), 'v', length);
    strcat(text, "\ny=1\n");
    read_text(text);
    cr_expect_str_eq(strrchr(collected, '|'), "|3;");
    text[8 + length] = '\0';
    text[strlen(text) - 1] = 'w';
    free(last_value);
    last_value = NULL;
    read_text(text);
    cr_expect_eq(strlen(last_value), length);
    cr_expect_eq(last_value[length - 1], 'w');
    free(text);
    done();
}

Test(ini, reads_section_names_longer_than_inih_can)
{
    read_text("[environment "
              "a-name-that-is-longer-than-the-forty-nine-bytes-that-inih-keeps]\nx=1\n");
    cr_expect_str_eq(collected, "environment "
                                "a-name-that-is-longer-than-the-forty-nine-bytes-that-inih-keeps|x|"
                                "1|2;");
    done();
}

Test(ini, reports_a_nul_byte)
{
    struct arena arena = {0};
    struct ini_reader reader = {
        .arena = &arena, .report = &desk_report, .config_dir = ".", .entry = collect};
    ini_read_text(&reader, "text", "[a]\nx\0y = 1\nz=2\n", 17);
    cr_expect(desk_said(2, "NUL"));
    cr_expect_str_eq(collected, "a|z|2|3;");
    arena_fini(&arena);
    done();
}

Test(ini, reports_a_carriage_return_inside_a_line)
{
    read_text("[a]\rx = 1\r\n[b]\r\ny = 2\r\n");
    cr_expect_str_eq(collected, "b|y|2|3;");
    cr_expect(desk_said(1, "carriage return"));
    done();
}

static void read_file(const char *file)
{
    struct arena arena = {0};
    struct ini_reader reader = {.arena = &arena,
                                .report = &desk_report,
                                .config_dir = ".",
                                .entry = collect,
                                .includes = true};
    (void)ini_read_file(&reader, file, false);
    arena_fini(&arena);
}

Test(ini, includes_relative_to_the_including_file)
{
    desk_write("main.ini", "[a]\n%include sub/one.ini\nz=3\n");
    desk_write("sub/one.ini", "x=1\n%include two.ini\n[b]\n");
    desk_write("sub/two.ini", "y=2\n");
    read_file("main.ini");
    /* The section of an included file ends with it. */
    cr_expect_str_eq(collected, "a|x|1|1;a|y|2|1;a|z|3|3;");
    done();
}

Test(ini, names_the_included_file_in_mistakes)
{
    desk_write("main.ini", "[a]\n%include one.ini\n");
    desk_write("one.ini", "\n\nnonsense\n");
    read_file("main.ini");
    cr_assert_eq(desk_report.errors, 1);
    cr_expect_str_eq(desk_report.entries[0].file, "one.ini");
    cr_expect_eq(desk_report.entries[0].line, 3);
}

Test(ini, refuses_includes_that_come_back)
{
    desk_write("main.ini", "[a]\n%include one.ini\n");
    desk_write("one.ini", "%include ./main.ini\nx=1\n");
    read_file("main.ini");
    cr_expect(desk_said(1, "includes itself"));
    cr_expect_str_eq(collected, "a|x|1|2;");
    done();
}

Test(ini, refuses_includes_deeper_than_it_can_go)
{
    char name[32], text[32];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "%d.ini", i);
        snprintf(text, sizeof(text), "%%include %d.ini\n", i + 1);
        desk_write(name, text);
    }
    read_file("0.ini");
    cr_expect_eq(desk_report.errors, 1);
    cr_expect(desk_said(1, "deeper than"));
}

Test(ini, reports_an_include_that_cannot_be_read)
{
    desk_write("main.ini", "[a]\n%include none.ini\n%include\n%inclde x\n");
    read_file("main.ini");
    cr_expect(desk_said(2, "cannot read none.ini"));
    cr_expect(desk_said(3, "names no file"));
    cr_expect(desk_said(4, "unknown"));
}

Test(ini, replaces_variables_in_includes)
{
    setenv("PART", "one", 1);
    desk_write("main.ini", "[a]\n%include ${CONFIG_DIR}/${PART}.ini\n");
    desk_write("one.ini", "x=1\n");
    read_file("main.ini");
    cr_expect_str_eq(collected, "a|x|1|1;");
    done();
}
