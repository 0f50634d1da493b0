/*
 * chain: whatever is done to a chained file afterwards is found, and said of the right line.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/chain.h"

static struct chain end;
static struct chain_report report;
static char *said;
static char *made[64]; /* lines, freed at the end */
static size_t made_count;

static void forget(void)
{
    for (size_t i = 0; i < made_count; i++)
        free(made[i]);
    free(said);
}

TestSuite(chain, .fini = forget);

/* Lines of a chain, each with its newline. */
static void make_lines(char *lines[], size_t count)
{
    chain_init(&end);
    for (size_t i = 0; i < count; i++) {
        struct buffer line = {0};
        json_t *fields = json_pack("{s:s, s:i}", "event", "test", "number", (int)i);
        cr_assert(chain_put(&end, fields, &line));
        json_decref(fields);
        lines[i] = made[made_count++] = strndup((char *)line.data, line.length);
        buffer_fini(&line);
    }
}

static bool verify_after(const struct chain *before, char *const lines[], size_t count)
{
    size_t size;
    char *text;
    size_t length;
    free(said);
    FILE *in, *out, *all = open_memstream(&text, &length);
    for (size_t i = 0; i < count; i++)
        fputs(lines[i], all);
    fclose(all);
    in = length ? fmemopen(text, length, "r") : fopen("/dev/null", "r");
    out = open_memstream(&said, &size);
    bool good = chain_verify(in, "log", before, out, &report);
    fclose(in);
    fclose(out);
    free(text);
    return good;
}

static bool verify(char *const lines[], size_t count)
{
    return verify_after(NULL, lines, count);
}

#define cr_expect_said(part) cr_expect(strstr(said, (part)), "\"%s\" is not in: %s", (part), said)

Test(chain, a_chain_as_it_was_written_is_good)
{
    char *lines[5];
    make_lines(lines, 5);
    cr_expect(verify(lines, 5));
    cr_expect_str_eq(said, "");
    cr_expect_eq(report.lines, 5);
    cr_expect_eq(report.last.seq, 5);
    cr_expect_str_eq(report.last.hash, end.hash);
}

Test(chain, an_empty_file_is_good)
{
    cr_expect(verify(NULL, 0));
    cr_expect_eq(report.lines, 0);
}

Test(chain, the_hash_is_sha256)
{
    char hash[CHAIN_HASH_BYTES];
    chain_hash("abc", 3, hash);
    cr_expect_str_eq(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(chain, a_changed_line_is_named)
{
    for (size_t i = 0; i < 4; i++) {
        char *lines[6], expected[80];
        make_lines(lines, 6);
        char *number = strstr(lines[i], "\"number\":");
        number[9] = '9';
        cr_expect_not(verify(lines, 6));
        cr_expect_eq(report.problems, 1);
        snprintf(expected, sizeof expected, "log:%zu: this line (seq %zu) was changed\n", i + 1,
                 i + 1);
        cr_expect_str_eq(said, expected);
    }
}

Test(chain, a_changed_hash_is_found_on_its_line)
{
    char *lines[6];
    make_lines(lines, 6);
    char *hash = strstr(lines[3], "\"previous\":\"") + 12;
    *hash = *hash == '0' ? '1' : '0';
    cr_expect_not(verify(lines, 6));
    cr_expect_str_eq(said, "log:4: this line (seq 4) was changed\n");
}

Test(chain, of_the_last_two_lines_either_may_have_been_changed)
{
    char *lines[3];
    make_lines(lines, 3);
    strstr(lines[1], "\"number\":")[9] = '9';
    cr_expect_not(verify(lines, 3));
    cr_expect_said("log:2: this line (seq 2) or the one behind it was changed");
}

Test(chain, a_missing_line_is_named)
{
    char *lines[6];
    make_lines(lines, 6);
    memmove(&lines[2], &lines[3], 3 * sizeof lines[0]);
    cr_expect_not(verify(lines, 5));
    cr_expect_str_eq(said, "log:3: the line seq 3 is missing before this one\n");
}

Test(chain, several_missing_lines_are_named)
{
    char *lines[6];
    make_lines(lines, 6);
    lines[1] = lines[4];
    lines[2] = lines[5];
    cr_expect_not(verify(lines, 3));
    cr_expect_str_eq(said, "log:2: the lines seq 2 to 4 are missing before this one\n");
}

Test(chain, a_line_that_was_moved_is_named_and_not_called_missing)
{
    char *lines[6], *moved;
    make_lines(lines, 6);
    moved = lines[1];
    memmove(&lines[1], &lines[2], 2 * sizeof lines[0]);
    lines[3] = moved; /* 1 3 4 2 5 6 */
    cr_expect_not(verify(lines, 6));
    cr_expect_str_eq(said, "log:4: this line (seq 2) was moved here\n");
}

Test(chain, two_lines_that_changed_places_are_found)
{
    char *lines[6], *other;
    make_lines(lines, 6);
    other = lines[2];
    lines[2] = lines[3];
    lines[3] = other;
    cr_expect_not(verify(lines, 6));
    cr_expect_said("log:4: this line (seq 3) was moved here");
}

Test(chain, a_line_that_stands_twice_is_found)
{
    char *lines[6];
    make_lines(lines, 5);
    lines[5] = lines[4];
    lines[4] = lines[1];
    cr_expect_not(verify(lines, 6));
    cr_expect_said("log:5: this line (seq 2) was put in");
}

Test(chain, a_line_that_is_no_json_is_found)
{
    char *lines[4], *with[5];
    make_lines(lines, 4);
    with[0] = lines[0];
    with[1] = "nonsense\n";
    memcpy(&with[2], &lines[1], 3 * sizeof lines[0]);
    cr_expect_not(verify(with, 5));
    cr_expect_str_eq(said, "log:2: this line cannot be read, and none behind it vouches for it\n");
}

Test(chain, a_file_that_continues_another_is_good_behind_it)
{
    char *lines[6];
    struct chain_report first;
    make_lines(lines, 6);
    cr_expect(verify(lines, 3));
    first = report;
    cr_expect(verify_after(&first.last, lines + 3, 3));
    cr_expect(verify(lines + 3, 3), "alone it says only where it begins");
    cr_expect_eq(report.first_seq, 4);
    cr_expect_not(verify_after(&first.last, lines + 4, 2));
    cr_expect_said("the line seq 4 is missing");
}

Test(chain, a_changed_end_of_the_file_before_is_found)
{
    char *lines[6];
    struct chain_report first;
    make_lines(lines, 6);
    strstr(lines[2], "\"number\":")[9] = '9';
    cr_expect(verify(lines, 3), "nobody vouches for the last line");
    first = report;
    cr_expect_not(verify_after(&first.last, lines + 3, 3));
    cr_expect_said("another hash than the file before ends with");
}

/* ---- the end of a file ---- */

static int file_of(const char *text)
{
    FILE *file = tmpfile();
    int fd = dup(fileno(file));
    fputs(text, file);
    fclose(file);
    return fd;
}

Test(chain, the_end_of_a_file_is_found)
{
    char *lines[3], all[4096];
    struct chain found;
    struct chain_torn torn;
    make_lines(lines, 3);
    snprintf(all, sizeof all, "%s%s%s", lines[0], lines[1], lines[2]);
    cr_expect_eq(chain_read_end(file_of(all), &found, &torn), CHAIN_WHOLE);
    cr_expect_eq(found.seq, 3);
    cr_expect_str_eq(found.hash, end.hash);
    cr_expect_eq(chain_read_end(file_of(""), &found, &torn), CHAIN_EMPTY);
    cr_expect_eq(found.seq, 0);
}

Test(chain, a_torn_line_is_found_behind_the_last_whole_one)
{
    char *lines[2], all[4096];
    struct chain found;
    struct chain_torn torn;
    make_lines(lines, 2);
    snprintf(all, sizeof all, "%s%s{\"seq\":3,\"ti", lines[0], lines[1]);
    cr_expect_eq(chain_read_end(file_of(all), &found, &torn), CHAIN_TORN);
    cr_expect_eq(found.seq, 2);
    cr_expect_eq(torn.bytes, strlen("{\"seq\":3,\"ti"));
    cr_expect_not(torn.has_newline);
    cr_expect_eq(chain_read_end(file_of("{\"se"), &found, &torn), CHAIN_TORN);
    cr_expect_eq(found.seq, 0);
}

Test(chain, a_torn_line_that_is_vouched_for_is_good)
{
    char *lines[3];
    struct buffer line = {0};
    struct chain_torn torn;
    make_lines(lines, 2);
    chain_hash("{\"seq\":3,\"ti", 12, torn.hash);
    json_t *fields = json_pack("{s:s, s:s}", "event", "recovered", "torn_sha256", torn.hash);
    cr_assert(chain_put(&end, fields, &line));
    buffer_put_u8(&line, '\0');
    char *with[] = {lines[0], lines[1], "{\"seq\":3,\"ti\n", (char *)line.data};
    cr_expect(verify(with, 4), "%s", said);
    with[2] = "{\"seq\":3,\"to\n";
    cr_expect_not(verify(with, 4));
    json_decref(fields);
    buffer_fini(&line);
}

Test(chain, another_file_is_not_taken_for_one)
{
    struct chain found;
    struct chain_torn torn;
    cr_expect_eq(chain_read_end(file_of("root:x:0:0\nbin:x:1:1\n"), &found, &torn), CHAIN_FOREIGN);
    cr_expect_eq(chain_read_end(file_of("{\"a\":1}\n"), &found, &torn), CHAIN_FOREIGN);
    cr_expect_eq(chain_read_end(file_of("hello"), &found, &torn), CHAIN_FOREIGN);
}
