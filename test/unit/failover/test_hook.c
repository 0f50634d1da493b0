/* hook: real commands on a real loop. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/hook.h"
#include "pgstage/worker/loop.h"

static struct loop *loop;
static unsigned told;
static enum hook_end how;
static int status;
static bool ok;
static char *output, *summary;

static void make_loop(void)
{
    loop = loop_new(0, NULL);
    cr_assert_not_null(loop);
}

static void free_loop(void)
{
    loop_free(loop);
    free(output);
    free(summary);
}

TestSuite(hook, .init = make_loop, .fini = free_loop, .timeout = 300);

static void on_done(void *context, const struct hook_result *result)
{
    (void)context;
    told++;
    how = result->end;
    status = result->status;
    ok = result->ok;
    output = text_copy(result->output);
    summary = text_copy(result->summary);
}

static struct hook *start(const char *command, uint64_t limit_us)
{
    static const struct hook_variable variables[] = {{"PGSTAGE_HOST", "pg1"},
                                                     {"PGSTAGE_NOT", NULL}};
    return hook_start(loop, "fence_command of test", command, variables, 2,
                      clock_now_us() + limit_us, on_done, NULL);
}

static void run(const char *command, uint64_t limit_us)
{
    (void)!start(command, limit_us);
    while (!told)
        loop_turn(loop, true);
}

Test(hook, exit_with_zero_is_ok)
{
    run("true", 30 * CLOCK_SECOND);
    cr_assert(ok);
    cr_assert_eq(how, HOOK_EXITED);
    cr_assert_str_eq(summary, "exited with 0");
}

Test(hook, another_exit_is_told_with_the_last_line)
{
    run("echo first; echo cannot reach it >&2; exit 7", 30 * CLOCK_SECOND);
    cr_assert_not(ok);
    cr_assert_eq(status, 7);
    cr_assert_str_eq(summary, "exited with 7: cannot reach it");
    cr_assert_str_eq(output, "first\ncannot reach it\n");
}

Test(hook, a_signal_is_told)
{
    run("kill -9 $$", 30 * CLOCK_SECOND);
    cr_assert_eq(how, HOOK_KILLED);
    cr_assert_eq(status, SIGKILL);
    cr_assert_not(ok);
}

Test(hook, the_deadline_ends_the_whole_group)
{
    run("sleep 300 & echo $!; wait", 300 * CLOCK_MS);
    cr_assert_eq(how, HOOK_TIMEOUT);
    cr_assert_not(ok);
    pid_t sleeper = (pid_t)atoi(output);
    cr_assert_gt(sleeper, 0);
    uint64_t limit_us = clock_now_us() + 20 * CLOCK_SECOND;
    while (kill(sleeper, 0) == 0 && clock_now_us() < limit_us) {
        char path[64], state[512] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)sleeper);
        FILE *file = fopen(path, "r");
        if (!file || !fgets(state, sizeof state, file) || strstr(state, ") Z"))
            limit_us = 0; /* dead, and nobody has reaped it here */
        if (file)
            fclose(file);
        usleep(10000);
    }
    cr_assert(limit_us == 0 || kill(sleeper, 0) != 0, "its child lives on");
}

Test(hook, one_that_ignores_sigterm_is_killed)
{
    run("trap '' TERM; while :; do sleep 0.1; done", 200 * CLOCK_MS);
    cr_assert_eq(how, HOOK_TIMEOUT);
}

Test(hook, a_deadline_that_is_brought_forward)
{
    struct hook *hook = start("sleep 300", 3600 * CLOCK_SECOND);
    hook_end(hook);
    cr_assert_eq(told, 0);
    while (!told)
        loop_turn(loop, true);
    cr_assert_eq(how, HOOK_TIMEOUT);
}

Test(hook, what_goes_on_in_the_background_is_not_waited_for)
{
    run("sleep 5 & exit 0", 30 * CLOCK_SECOND);
    cr_assert(ok);
}

Test(hook, it_sees_its_variables_and_no_secret_of_ours)
{
    setenv("PGSTAGE__PRODUCTION__PASSWORD", "hunter2", 1);
    setenv("DATABASE_PASSWORD", "hunter2", 1);
    run("env", 30 * CLOCK_SECOND);
    cr_assert(strstr(output, "PGSTAGE_HOST=pg1\n") != NULL, "%s", output);
    cr_assert(strstr(output, "PATH=") != NULL, "%s", output);
    cr_assert(strstr(output, "PGSTAGE_NOT") == NULL, "%s", output);
    cr_assert(strstr(output, "hunter2") == NULL, "%s", output);
}

Test(hook, it_has_no_descriptor_of_ours)
{
    int mine[2];
    cr_assert_eq(pipe(mine), 0); /* not close-on-exec */
    run("ls /proc/self/fd | wc -l; cat", 30 * CLOCK_SECOND);
    cr_assert(ok);
    cr_assert_leq(atoi(output), 4, "%s", output); /* 0, 1, 2 and ls's own */
}

Test(hook, only_the_end_of_much_output_is_kept)
{
    run("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done", 50 * CLOCK_SECOND);
    cr_assert(ok);
    cr_assert_leq(strlen(output), 4096);
    cr_assert_str_eq(summary, "exited with 0: line 2999");
}

Test(hook, a_cancelled_one_is_never_told)
{
    struct hook *hook = start("sleep 300", 3600 * CLOCK_SECOND);
    hook_cancel(hook);
    for (int i = 0; i < 5; i++)
        loop_turn(loop, false);
    cr_assert_eq(told, 0);
    hook_cancel(NULL);
}

Test(hook, a_command_that_does_not_exist_is_the_shells_127)
{
    run("/nowhere/at/all", 30 * CLOCK_SECOND);
    cr_assert_eq(status, 127);
}
