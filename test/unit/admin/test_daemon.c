/* daemon: pid files, users, the descriptor limit. */
#include <criterion/criterion.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"

static char folder[] = "/tmp/pgstage-daemon-XXXXXX";
static char path[64], problem[256];
static struct pidfile pidfile;

static void begin(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/pid", folder);
}

static void end(void)
{
    pidfile_close(&pidfile);
    (void)unlink(path);
    (void)rmdir(folder);
}

TestSuite(daemon, .init = begin, .fini = end);

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

static long written_pid(void)
{
    char text[32] = "";
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    cr_assert_not_null(fgets(text, sizeof text, file));
    fclose(file);
    return strtol(text, NULL, 10);
}

Test(daemon, pid_file_holds_the_process_id_and_goes_at_the_end)
{
    cr_assert(pidfile_is_free(path, problem, sizeof problem));
    cr_assert(pidfile_open(&pidfile, path, problem, sizeof problem), "%s", problem);
    cr_expect_eq(written_pid(), (long)getpid());
    pidfile_close(&pidfile);
    cr_expect_neq(access(path, F_OK), 0);
}

Test(daemon, stale_pid_file_is_replaced_even_if_its_number_lives)
{
    write_file("1\n and a longer text than a number");
    cr_assert(pidfile_is_free(path, problem, sizeof problem));
    cr_assert(pidfile_open(&pidfile, path, problem, sizeof problem), "%s", problem);
    cr_expect_eq(written_pid(), (long)getpid());
}

Test(daemon, pid_file_of_a_live_process_is_refused)
{
    cr_assert(pidfile_open(&pidfile, path, problem, sizeof problem));
    struct pidfile second = {0};
    cr_expect(!pidfile_is_free(path, problem, sizeof problem));
    cr_expect(!pidfile_open(&second, path, problem, sizeof problem));
    char number[32];
    snprintf(number, sizeof number, "process %ld", (long)getpid());
    cr_expect(strstr(problem, number), "%s", problem);
    cr_expect_eq(written_pid(), (long)getpid());
}

Test(daemon, pid_file_that_cannot_be_made_is_told)
{
    cr_expect(!pidfile_open(&pidfile, "/nonexistent/pid", problem, sizeof problem));
    cr_expect(strstr(problem, "/nonexistent/pid: No such file"), "%s", problem);
}

Test(daemon, pid_file_does_not_follow_a_symbolic_link)
{
    cr_assert_eq(symlink("/tmp/pgstage-elsewhere", path), 0);
    cr_expect(!pidfile_open(&pidfile, path, problem, sizeof problem));
    cr_expect_neq(access("/tmp/pgstage-elsewhere", F_OK), 0);
}

Test(daemon, user_is_found_by_name_and_by_number)
{
    struct daemon_user user;
    cr_assert(daemon_user_find(&user, "root", problem, sizeof problem));
    cr_expect_eq(user.uid, 0);
    daemon_user_fini(&user);
    cr_assert(daemon_user_find(&user, "0", problem, sizeof problem));
    cr_expect_str_eq(user.name, "root");
    daemon_user_fini(&user);
    cr_expect(!daemon_user_find(&user, "no-such-user", problem, sizeof problem));
    cr_expect_str_eq(problem, "there is no system user \"no-such-user\"");
}

Test(daemon, descriptor_limit_is_raised_to_the_hard_one)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 100;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct descriptor_limit raised = descriptor_limit_raise();
    cr_expect_eq(raised.soft, raised.hard);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_expect_eq(limit.rlim_cur, limit.rlim_max);
}

/* What a parent's exit status is when its background process does this. */
static int status_of_parent(void (*child)(int fd))
{
    fflush(NULL);
    pid_t parent = fork();
    if (parent == 0) {
        int fd = daemon_start();
        if (fd >= 0)
            child(fd);
        _exit(3);
    }
    int status = 0;
    cr_assert_eq(waitpid(parent, &status, 0), parent);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void succeed(int fd)
{
    daemon_ready(fd);
    _exit(0);
}

static void give_up(int fd)
{
    (void)fd;
    _exit(1);
}

Test(daemon, parent_tells_whether_the_background_process_runs)
{
    cr_expect_eq(status_of_parent(succeed), 0);
    cr_expect_eq(status_of_parent(give_up), 1);
}
