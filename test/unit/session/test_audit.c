/*
 * audit: lines reach the disk in order, the chain goes on over restarts, rotations and failures,
 * and whoever waits is told the truth.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/chain.h"
#include "pgstage/session/audit.h"
#include "pgstage/worker/loop.h"

static char folder[] = "/tmp/audit-XXXXXX";
static char path[64], other[64];
static struct loop *loop;
static struct audit *audit;
static int answers, refusals;

static void begin(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/log", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    loop = loop_new(0, NULL);
    audit = audit_new();
    cr_assert_not_null(audit);
}

static void end(void)
{
    audit_free(audit);
    loop_free(loop);
    unlink(path);
    unlink(other);
    rmdir(folder);
}

TestSuite(audit, .init = begin, .fini = end, .timeout = 300);

static void on_done(struct loop *home, void *argument, uint64_t id, bool written)
{
    (void)home;
    (void)argument;
    (void)id;
    answers++;
    refusals += !written;
}

/* Writes a line and waits for its letter; true: it is on the disk. */
static bool write_one(const char *text)
{
    struct audit_record *record = audit_record_new("test");
    int before = answers, refused = refusals;
    audit_record_text(record, "text", text);
    audit_write_through(audit, record, loop, on_done, NULL, 0);
    while (answers == before)
        loop_turn(loop, true);
    return refusals == refused;
}

static bool open_log(const char *file)
{
    char problem[256];
    return audit_open(audit, file, problem, sizeof problem);
}

static void restart(void)
{
    audit_free(audit);
    audit = audit_new();
}

static char *content(const char *file)
{
    static char text[1 << 20];
    FILE *in = fopen(file, "r");
    size_t length = in ? fread(text, 1, sizeof text - 1, in) : 0;
    if (in)
        fclose(in);
    text[length] = '\0';
    return text;
}

static bool is_good(const char *file, const struct chain *before, struct chain_report *report)
{
    FILE *in = fopen(file, "r");
    bool good = chain_verify(in, file, before, stderr, report);
    fclose(in);
    return good;
}

Test(audit, lines_stand_in_a_chain)
{
    struct chain_report report;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    cr_expect(write_one("two"));
    cr_expect(is_good(path, NULL, &report));
    cr_expect_eq(report.lines, 3, "the first says that the log begins");
    cr_expect(strstr(content(path), "\"event\":\"begun\""));
    cr_expect(strstr(content(path), "\"text\":\"two\""));
}

Test(audit, without_a_file_nothing_is_written)
{
    cr_expect_not(audit_is_on(audit));
    audit_write(audit, audit_record_new("test"));
    cr_expect_not(write_one("one"), "whoever insists is told that it was not");
}

Test(audit, a_record_that_nobody_waits_for_is_written_too)
{
    cr_assert(open_log(path));
    audit_write(audit, audit_record_new("in passing"));
    audit_free(audit);
    cr_expect(strstr(content(path), "in passing"));
    audit = audit_new();
}

Test(audit, the_chain_goes_on_after_a_restart)
{
    struct chain_report report;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    restart();
    cr_assert(open_log(path));
    cr_expect(write_one("two"));
    cr_expect(is_good(path, NULL, &report));
    cr_expect_eq(report.last.seq, 4);
}

Test(audit, a_torn_line_stays_and_is_vouched_for)
{
    struct chain_report report;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    restart();
    FILE *file = fopen(path, "a");
    fputs("{\"seq\":3,\"time\":\"20", file);
    fclose(file);
    cr_assert(open_log(path));
    cr_expect(write_one("two"));
    cr_expect(is_good(path, NULL, &report));
    cr_expect(strstr(content(path), "\"event\":\"recovered\",\"torn_bytes\":19"));
}

Test(audit, a_rotated_file_continues_the_old_one)
{
    struct chain_report report;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    cr_assert_eq(rename(path, other), 0);
    audit_reopen(audit);
    cr_expect(write_one("two"));
    cr_expect(is_good(other, NULL, &report));
    struct chain last = report.last;
    cr_expect(is_good(path, &last, &report));
    cr_expect_eq(report.first_seq, 3);
    cr_expect(strstr(content(path), last.hash));
}

Test(audit, opening_the_same_file_anew_writes_nothing)
{
    struct chain_report report;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    audit_reopen(audit);
    cr_expect(write_one("two"));
    cr_expect(is_good(path, NULL, &report));
    cr_expect_eq(report.lines, 3);
}

Test(audit, two_writers_share_one_chain)
{
    struct chain_report report;
    struct audit *first = audit;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    audit = audit_new();
    cr_assert(open_log(path));
    cr_expect(write_one("two"));
    struct audit *second = audit;
    audit = first;
    cr_expect(write_one("three"));
    audit = second;
    cr_expect(write_one("four"));
    audit_free(first);
    cr_expect(is_good(path, NULL, &report));
}

Test(audit, a_file_that_cannot_be_opened_is_told_at_once)
{
    char problem[256] = "";
    cr_expect_not(audit_open(audit, "/nonexistent/log", problem, sizeof problem));
    cr_expect(strstr(problem, "/nonexistent/log"));
    cr_expect_not(audit_is_on(audit));
}

Test(audit, another_file_is_left_alone)
{
    FILE *file = fopen(path, "w");
    fputs("something else\nentirely\n", file);
    fclose(file);
    cr_assert(open_log(path));
    cr_expect_not(write_one("one"));
    cr_expect_str_eq(content(path), "something else\nentirely\n");
}

Test(audit, a_full_disk_is_told_and_what_was_lost_is_counted_afterwards)
{
    struct chain_report report;
    struct rlimit limit, full;
    struct audit_counts counts;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    getrlimit(RLIMIT_FSIZE, &limit);
    full = limit;
    full.rlim_cur = strlen(content(path)) + 20; /* a piece of a line still fits */
    setrlimit(RLIMIT_FSIZE, &full);
    cr_expect_not(write_one("two"));
    cr_expect_not(write_one("three"));
    audit_counts(audit, &counts);
    cr_expect(counts.failing);
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_expect(write_one("four"));
    audit_counts(audit, &counts);
    cr_expect_not(counts.failing);
    cr_expect_eq(counts.lost, 2);
    cr_expect(is_good(path, NULL, &report));
    cr_expect(strstr(content(path), "\"event\":\"lost\",\"lines\":2"));
    cr_expect_null(strstr(content(path), "two"));
}

Test(audit, texts_of_any_origin_are_valid_json)
{
    struct chain_report report;
    char *longest = malloc(100001);
    memset(longest, 'x', 100000);
    longest[100000] = '\0';
    cr_assert(open_log(path));
    cr_expect(write_one("\xff\xc3( \"\n\x01 \xe2\x82\xac"));
    cr_expect(write_one(longest));
    cr_expect(is_good(path, NULL, &report));
    cr_expect(strstr(content(path), "\\\\xff\\\\xc3( \\\"\\n\\u0001 \\u20AC"), "%s", content(path));
    free(longest);
}

Test(audit, only_its_owner_may_read_it)
{
    struct stat status;
    cr_assert(open_log(path));
    cr_expect(write_one("one"));
    cr_assert_eq(stat(path, &status), 0);
    cr_expect_eq(status.st_mode & 0777, 0600);
}
