/*
 * program: folders, users, ports and hooks of a system-test program.
 *
 * Criterion runs every test in a process of its own, which shares no memory with the runner. So
 * what the tests share (a folder, a PostgreSQL cluster) is made by the runner before the first test
 * and handed on through environment variables:
 *
 *   runner ── PRE_ALL: folder, binary, shared cluster ── setenv
 *     ├── test process: reads them, starts its own proxy ── test_end stops it
 *     └── POST_TEST: shows the logs of a failed test ── POST_ALL: stops and removes everything
 *
 * A test that crashes or runs out of time leaves nothing running: children die with their parent.
 */
#include "program.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cluster.h"
#include "process.h"

/* Tests leak on purpose (their processes are short); what pgstage leaks is seen in its own. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static const char FOLDER_VARIABLE[] = "PGSTAGE_TEST_FOLDER";
static const char RUNNER_VARIABLE[] = "PGSTAGE_TEST_RUNNER";

static bool in_test_process(void)
{
    const char *runner = getenv(RUNNER_VARIABLE);

    return runner && atoi(runner) != getpid();
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    remove(path);
    return 0;
}

static void folder_remove(void)
{
    const char *folder = getenv(FOLDER_VARIABLE);

    if (folder && !getenv("PGSTAGE_TEST_KEEP"))
        nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    else if (folder)
        fprintf(stderr, "the files are kept in %s\n", folder);
}

void support_fail(const char *format, ...)
{
    char text[4096];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (in_test_process())
        cr_assert_fail("%s", text);
    fprintf(stderr, "cannot prepare the tests: %s\n", text);
    folder_remove();
    exit(2);
}

char *text_of_list(const char *format, va_list arguments)
{
    char *text = NULL;

    if (vasprintf(&text, format, arguments) < 0)
        abort();
    return text;
}

char *text_of(const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = text_of_list(format, arguments);
    va_end(arguments);
    return text;
}

char *file_text(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t size = 0, count;
    char piece[16384];
    FILE *out = open_memstream(&text, &size);

    if (!out)
        abort();
    while (file && (count = fread(piece, 1, sizeof piece, file)) > 0)
        fwrite(piece, 1, count, out);
    fclose(out);
    if (file)
        fclose(file);
    return text;
}

void path_give(const char *path)
{
    if (geteuid() == 0 && lchown(path, program_uid(), program_gid()))
        support_fail("chown %s: %m", path);
}

void file_write(const char *path, mode_t mode, const char *text)
{
    char *fresh = text_of("%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    size_t size = strlen(text);

    if (fd < 0 || write(fd, text, size) != (ssize_t)size || fchmod(fd, mode) || close(fd))
        support_fail("write %s: %m", fresh);
    path_give(fresh);
    if (rename(fresh, path))
        support_fail("rename %s: %m", path);
}

void folder_make(const char *path)
{
    if (mkdir(path, 0755) && errno != EEXIST)
        support_fail("mkdir %s: %m", path);
    path_give(path);
}

/* ---- users and binaries ---- */

static const struct passwd *program_passwd(void)
{
    const struct passwd *entry;

    if (geteuid())
        return getpwuid(geteuid());
    entry = getpwnam("postgres");
    return entry ? entry : getpwnam("nobody");
}

uid_t program_uid(void)
{
    const struct passwd *entry = program_passwd();

    return entry ? entry->pw_uid : geteuid();
}

gid_t program_gid(void)
{
    const struct passwd *entry = program_passwd();

    return entry ? entry->pw_gid : getegid();
}

const char *program_user(void)
{
    const struct passwd *entry = program_passwd();

    return entry ? text_of("%s", entry->pw_name) : "";
}

const char *program_postgres_folder(void)
{
    const char *folder = getenv("PG_BIN");
    glob_t found;

    if (folder)
        return folder;
    if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) || found.gl_pathc == 0)
        support_fail("no PostgreSQL server programs in /usr/lib/postgresql; set PG_BIN");
    folder = text_of("%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    return folder;
}

const char *program_folder(void)
{
    const char *folder = getenv(FOLDER_VARIABLE);

    if (!folder)
        support_fail("the program has no folder");
    return folder;
}

const char *program_binary(void)
{
    return text_of("%s/%s", program_folder(), program_is_pgbouncer() ? "pgbouncer" : "pgstage");
}

bool program_is_pgbouncer(void)
{
    const char *binary = getenv("PGSTAGE");
    const char *base = binary ? strrchr(binary, '/') : NULL;

    return binary && !strcmp(base ? base + 1 : binary, "pgbouncer");
}

const char *test_folder(void)
{
    static char *folder;

    if (!folder) {
        folder = text_of("%s/%s.%s", program_folder(), criterion_current_suite->name,
                         criterion_current_test->name);
        folder_make(folder);
    }
    return folder;
}

/* ---- ports ---- */

/* The port is bound for a moment to see that it is free, and an abstract socket with its number in
 * the name keeps other test processes away from it for as long as this one lives. Numbers below the
 * ephemeral range, so that no outgoing connection sits on one. */
static bool port_lock(int port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int length =
        snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "pgstage-test-port-%d", port);
    int lock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool taken = false;
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (lock >= 0 && probe >= 0 &&
        !bind(lock, (struct sockaddr *)&name,
              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) &&
        !bind(probe, (struct sockaddr *)&address, sizeof address))
        taken = true;
    close(probe);
    if (!taken)
        close(lock);
    return taken;
}

int port_take(void)
{
    static unsigned next;
    int attempt;

    if (!next)
        next = (unsigned)getpid() * 7919u;
    for (attempt = 0; attempt < 2000; attempt++) {
        int port = 20000 + (int)(next++ % 12000u);

        if (port_lock(port))
            return port;
    }
    support_fail("no free port between 20000 and 32000");
}

/* ---- the end of a test ---- */

struct cleanup {
    void (*function)(void *argument);
    void *argument;
};
static struct cleanup cleanups[256];
static size_t cleanup_count;

void test_cleanup(void (*function)(void *argument), void *argument)
{
    if (cleanup_count == sizeof cleanups / sizeof cleanups[0])
        support_fail("too many things to clean up");
    cleanups[cleanup_count].function = function;
    cleanups[cleanup_count++].argument = argument;
}

void test_end(void)
{
    while (cleanup_count > 0) {
        struct cleanup *cleanup = &cleanups[--cleanup_count];

        cleanup->function(cleanup->argument);
    }
}

/* ---- hooks: run in the runner ---- */

static void copy_binary(void)
{
    const char *from = getenv("PGSTAGE");
    char *arguments[] = {"cp", NULL, NULL, NULL};
    struct process_options options = {.keep_user = true};

    if (!from)
        from = "./pgstage";
    if (access(from, X_OK))
        support_fail("%s cannot be executed; set PGSTAGE to the binary under test", from);
    arguments[1] = text_of("%s", from);
    arguments[2] = text_of("%s", program_binary());
    if (process_run(arguments, &options, NULL) != 0)
        support_fail("cannot copy %s", from);
    if (chmod(arguments[2], 0755))
        support_fail("chmod %s: %m", arguments[2]);
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    char folder[] = "/tmp/pgstage-test-XXXXXX";

    (void)tests;
    if (!mkdtemp(folder) || chmod(folder, 0755))
        support_fail("mkdtemp: %m");
    setenv(FOLDER_VARIABLE, folder, 1);
    setenv(RUNNER_VARIABLE, text_of("%d", (int)getpid()), 1);
    setenv("LC_MESSAGES", "C", 1);
    copy_binary();
    cluster_shared_start();
}

/* What the servers of a failed test wrote, at most the last 3 kB of each log. */
ReportHook(POST_TEST)(struct criterion_test_stats *stats)
{
    char *pattern;
    glob_t found;
    size_t i;

    if (stats->test_status != CR_STATUS_FAILED && !stats->crashed)
        return;
    pattern =
        text_of("%s/%s.%s/*.log*", program_folder(), stats->test->category, stats->test->name);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (i = 0; i < found.gl_pathc; i++) {
            char *text = file_text(found.gl_pathv[i]);
            size_t size = strlen(text);

            fprintf(stderr, "---- %s\n%s", found.gl_pathv[i],
                    size > 3072 ? text + size - 3072 : text);
            free(text);
        }
        globfree(&found);
    }
    free(pattern);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    (void)stats;
    cluster_shared_stop();
    folder_remove();
}
