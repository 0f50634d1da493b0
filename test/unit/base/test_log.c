/* log: the form of a line, what may not get into it, and files that come and go under writers. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/log.h"
#include "pgstage/base/text.h"

static char folder[] = "/tmp/pgstage-log-XXXXXX";
static char *path;

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    path = text_print("%s/log", folder);
}

static void remove_folder(void)
{
    char *rotated = text_print("%s.1", path);
    unlink(rotated);
    unlink(path);
    rmdir(folder);
    free(rotated);
    free(path);
}

TestSuite(log, .init = make_folder, .fini = remove_folder, .timeout = 300);

static void open_log(enum log_rank minimum)
{
    struct log_settings settings = {.file = path, .minimum = minimum};
    cr_assert(log_open(&settings));
}

/* All of a file, allocated. */
static char *contents(const char *name)
{
    FILE *file = fopen(name, "r");
    cr_assert_not_null(file);
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    for (int c; (c = getc(file)) != EOF;)
        putc(c, memory);
    fclose(memory);
    fclose(file);
    return text;
}

static void assert_log_contains(const char *part)
{
    char *text = contents(path);
    cr_assert_not_null(strstr(text, part), "no %s in: %s", part, text);
    free(text);
}

static void assert_log_lacks(const char *part)
{
    char *text = contents(path);
    cr_assert_null(strstr(text, part), "%s in: %s", part, text);
    free(text);
}

Test(log, writes_time_pid_rank_and_text)
{
    open_log(RANK_INFO);
    log_warning("disk %s is %d%% full", "a", 90);
    char *text = contents(path);
    char *pattern = text_print("^20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
                               "\\.[0-9]{3} UTC \\[%ld\\] WARNING disk a is 90%% full\n$",
                               (long)getpid());
    regex_t regex;
    cr_assert_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    cr_assert_eq(regexec(&regex, text, 0, NULL, 0), 0, "line: %s", text);
    regfree(&regex);
    free(pattern);
    free(text);
}

Test(log, makes_control_bytes_visible)
{
    open_log(RANK_INFO);
    log_log("user=%s", "x\n2026-01-31 forged\r\t\x1b[2J\x7f");
    assert_log_contains("user=x\\x0a2026-01-31 forged\\x0d\\x09\\x1b[2J\\x7f\n");
}

Test(log, keeps_utf8_but_not_its_control_characters)
{
    open_log(RANK_INFO);
    log_log("%s", "K\xc3\xb6ln \xc2\xa0| \xc2\x9b|");
    assert_log_contains("K\xc3\xb6ln \xc2\xa0| \\xc2\\x9b|\n");
}

Test(log, cuts_a_long_text_to_one_line)
{
    open_log(RANK_INFO);
    char *longer = text_print("%0*d", 3 * PIPE_BUF, 7);
    log_log("%s", longer);
    char *text = contents(path);
    size_t length = strlen(text);
    cr_assert_eq(length, PIPE_BUF);
    cr_assert_eq(strchr(text, '\n'), text + length - 1);
    free(text);
    free(longer);
}

Test(log, cuts_before_an_escape_that_does_not_fit)
{
    open_log(RANK_INFO);
    char bytes[PIPE_BUF];
    memset(bytes, '\n', sizeof bytes - 1);
    bytes[sizeof bytes - 1] = '\0';
    log_log("%s", bytes);
    char *text = contents(path);
    size_t length = strlen(text);
    cr_assert_leq(length, PIPE_BUF);
    cr_assert_str_eq(text + length - 5, "\\x0a\n");
    free(text);
}

Test(log, filters_chatter_and_nothing_above)
{
    open_log(RANK_ERROR);
    log_debug("a-debug");
    log_info("an-info");
    log_warning("a-warning");
    log_error("an-error");
    log_log("a-log");
    assert_log_lacks("a-debug");
    assert_log_lacks("an-info");
    assert_log_lacks("a-warning");
    assert_log_contains("ERROR an-error\n");
    assert_log_contains("LOG a-log\n");
}

Test(log, does_not_evaluate_what_it_drops)
{
    open_log(RANK_INFO);
    int evaluated = 0;
    log_debug("%d", ++evaluated);
    cr_assert_eq(evaluated, 0);
    log_info("%d", ++evaluated);
    cr_assert_eq(evaluated, 1);
}

Test(log, leaves_errno_alone)
{
    open_log(RANK_INFO);
    struct log_settings settings = {.file = path, .syslog = true, .minimum = RANK_INFO};
    cr_assert(log_open(&settings));
    errno = EXDEV;
    log_log("text");
    cr_assert_eq(errno, EXDEV);
}

Test(log, writes_to_stderr_before_it_is_opened)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    int stderr_copy = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    log_debug("too low");
    log_info("early");
    dup2(stderr_copy, STDERR_FILENO);
    close(stderr_copy);
    close(ends[1]);
    char text[256] = "";
    ssize_t length = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    cr_assert_gt(length, 0);
    cr_assert_not_null(strstr(text, "INFO early\n"), "%s", text);
    cr_assert_null(strstr(text, "too low"));
}

Test(log, appends_to_a_file_that_exists)
{
    open_log(RANK_INFO);
    log_log("first");
    open_log(RANK_INFO);
    log_log("second");
    assert_log_contains("first");
    assert_log_contains("second");
}

Test(log, opens_a_new_file_after_rotation)
{
    open_log(RANK_INFO);
    log_log("old");
    char *rotated = text_print("%s.1", path);
    cr_assert_eq(rename(path, rotated), 0);
    log_log("still-old");
    open_log(RANK_INFO);
    log_log("new");
    char *text = contents(rotated);
    cr_assert_not_null(strstr(text, "still-old"));
    cr_assert_null(strstr(text, "LOG new"));
    free(text);
    free(rotated);
    assert_log_contains("LOG new");
    assert_log_lacks("old");
}

Test(log, something_may_have_a_minimum_of_its_own)
{
    open_log(RANK_WARNING);
    cr_assert(log_wants_from(RANK_DEBUG, RANK_DEBUG));
    cr_assert_not(log_wants_from(RANK_TRACE, RANK_DEBUG));
    cr_assert_not(log_wants_from(RANK_WARNING, RANK_ERROR));
    cr_assert(log_wants_from(RANK_LOG, RANK_ERROR));
    struct log_settings verbose = {.file = path, .minimum = RANK_WARNING, .verbose = 1};
    cr_assert(log_open(&verbose));
    cr_assert(log_wants_from(RANK_DEBUG, RANK_ERROR));
    cr_assert(log_wants(RANK_DEBUG));
    cr_assert_not(log_wants(RANK_TRACE));
}

/* A disk that is full cuts a line; what comes when there is room again begins a line of its own. */
Test(log, begins_a_line_anew_behind_one_that_a_full_disk_has_cut)
{
    struct rlimit before, narrow;
    struct stat status;
    open_log(RANK_INFO);
    log_log("first");
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    narrow = before;
    narrow.rlim_cur = (rlim_t)status.st_size + 10;
    cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &narrow), 0);
    log_log("cut");
    log_log("lost");
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    log_log("whole");
    log_log("next");
    char *text = contents(path);
    const char *cut = strchr(text, '\n') + 1, *whole = strchr(cut, '\n') + 1;
    cr_expect_eq(whole - cut, 11, "%s", text); /* ten bytes and the end that was put behind them */
    cr_expect_not_null(strstr(whole, "LOG whole\n2"), "%s", text);
    cr_expect_not_null(strstr(whole, "LOG next\n"), "%s", text);
    cr_expect_null(strstr(whole, "\n\n"), "%s", text);
    free(text);
}

Test(log, keeps_the_old_file_when_the_new_one_cannot_be_opened)
{
    open_log(RANK_INFO);
    struct log_settings settings = {.file = "/nonexistent/folder/log", .minimum = RANK_ERROR};
    errno = 0;
    cr_assert_not(log_open(&settings));
    cr_assert_eq(errno, ENOENT);
    log_info("still here");
    assert_log_contains("still here");
}

Test(log, does_not_wait_for_whoever_may_read_a_pipe)
{
    cr_assert_eq(mkfifo(path, 0600), 0);
    struct log_settings settings = {.file = path};
    cr_expect_not(log_open(&settings));
    cr_expect_eq(errno, ENXIO);
}

Test(log, stops_writing_to_a_file_and_starts_again)
{
    open_log(RANK_INFO);
    struct log_settings none = {.minimum = RANK_INFO};
    cr_assert(log_open(&none));
    log_log("nowhere");
    assert_log_lacks("nowhere");
    open_log(RANK_INFO);
    log_log("somewhere");
    assert_log_contains("somewhere");
}

Test(log, creates_files_that_others_cannot_read)
{
    umask(0);
    open_log(RANK_INFO);
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0640);
}

#define WRITERS 4
#define LINES 2000

static void *write_lines(void *argument)
{
    for (int i = 0; i < LINES; i++)
        log_log("writer %d line %04d end", *(int *)argument, i);
    return NULL;
}

/* Adds the lines of a file to `seen`; false at the first one that is not whole. */
static bool count_lines(const char *name, unsigned char seen[WRITERS][LINES])
{
    FILE *file = fopen(name, "r");
    if (!file)
        return true;
    char line[256];
    bool whole = true;
    while (whole && fgets(line, sizeof line, file)) {
        int writer, number, end = 0;
        const char *text = strstr(line, " LOG ");
        whole = text &&
                sscanf(text, " LOG writer %d line %d end\n%n", &writer, &number, &end) == 2 &&
                text[end] == '\0';
        if (whole)
            seen[writer][number]++;
    }
    fclose(file);
    return whole;
}

Test(log, loses_and_mixes_no_line_of_many_writers_while_files_are_swapped)
{
    static unsigned char seen[WRITERS][LINES];
    pthread_t threads[WRITERS];
    int numbers[WRITERS];
    open_log(RANK_INFO);
    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
    }
    char *other = text_print("%s.1", path);
    for (int i = 0; i < 200; i++) {
        struct log_settings settings = {.file = i % 2 ? path : other, .minimum = RANK_INFO};
        cr_assert(log_open(&settings));
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    cr_assert(count_lines(path, seen));
    cr_assert(count_lines(other, seen));
    for (int i = 0; i < WRITERS; i++) {
        for (int j = 0; j < LINES; j++)
            cr_assert_eq(seen[i][j], 1, "writer %d line %d: %d times", i, j, seen[i][j]);
    }
    free(other);
}
