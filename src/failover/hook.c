/*
 * hook: one child process, its output and its deadline.
 *
 *   RUNNING ──► (exit) ───────────────────────────► told
 *      │ deadline, or hook_end: SIGTERM to the group
 *      ▼
 *   ENDING ──► (exit) ────────────────────────────► told
 *      │ a second later: SIGKILL to the group
 *      ▼
 *   KILLED ──► (exit, or two more seconds) ───────► told
 *
 * The end of the child is seen by its pidfd; where the kernel has none, by looking every 20 ms. Its
 * output may stay open in what it left in the background, so only the child's own end counts; what
 * has been written by then is read. A process that even SIGKILL does not end (it hangs in the
 * kernel) keeps this small object alive until it does.
 */
#include "pgstage/failover/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/list.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/worker/timer.h"

#define OUTPUT_BYTES 4096 /* of its end are kept */
#define LINES_MAX 200     /* are logged */
#define LINE_BYTES 500    /* of each */
#define LOOK_US (20 * CLOCK_MS)
#define GRACE_US CLOCK_SECOND
#define LAST_US (2 * CLOCK_SECOND)

enum state { STATE_RUNNING, STATE_ENDING, STATE_KILLED, STATE_OVER };

struct hook {
    /* fixed */
    struct loop *loop;
    char *label;
    hook_done *done; /* NULL: told already */
    void *context;
    /* owner */
    enum state state;
    pid_t pid;
    struct loop_watch output_watch, pid_watch; /* `fd` -1: none */
    struct timer deadline, look;
    struct loop_task task;
    struct buffer output, line;
    unsigned lines;
    uint64_t begin_us;
    struct hook_result result;
};

/* ---- output ---- */

static void log_line(struct hook *hook)
{
    if (hook->line.length > 0 && hook->lines < LINES_MAX)
        log_log("%s: %.*s", hook->label, (int)hook->line.length, (const char *)hook->line.data);
    else if (hook->line.length > 0 && hook->lines == LINES_MAX)
        log_log("%s: … (it writes more than %d lines; the rest is not logged)", hook->label,
                LINES_MAX);
    if (hook->line.length > 0)
        hook->lines++;
    hook->line.length = 0;
}

static void take(struct hook *hook, const uint8_t *bytes, size_t count)
{
    buffer_put(&hook->output, bytes, count);
    if (hook->output.length > OUTPUT_BYTES)
        buffer_consume(&hook->output, hook->output.length - OUTPUT_BYTES);
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n')
            log_line(hook);
        else if (bytes[i] != '\0' && bytes[i] != '\r' && hook->line.length < LINE_BYTES)
            buffer_put_u8(&hook->line, bytes[i]);
    }
}

static void close_watched(struct hook *hook, struct loop_watch *watch)
{
    loop_unwatch(hook->loop, watch);
    if (watch->fd >= 0)
        close(watch->fd);
    watch->fd = -1;
}

/* Reads what is there, at most so much in one go; false at its end. */
static bool read_output(struct hook *hook)
{
    uint8_t bytes[4096];
    for (int turn = 0; hook->output_watch.fd >= 0 && turn < 16; turn++) {
        ssize_t got = read(hook->output_watch.fd, bytes, sizeof bytes);
        if (got > 0)
            take(hook, bytes, (size_t)got);
        else if (got == 0)
            return false;
        else if (errno != EINTR)
            return errno == EAGAIN;
    }
    return true;
}

static void on_output(struct loop_watch *watch, uint32_t events)
{
    struct hook *hook = list_entry(watch, struct hook, output_watch);
    (void)events;
    if (!read_output(hook))
        close_watched(hook, &hook->output_watch);
}

/* ---- the end ---- */

static void release(void *object)
{
    struct hook *hook = object;
    buffer_fini(&hook->output);
    buffer_fini(&hook->line);
    free(hook->label);
    free(hook);
}

static void unwatch(struct hook *hook)
{
    close_watched(hook, &hook->output_watch);
    close_watched(hook, &hook->pid_watch);
    timer_detach(hook->loop, &hook->deadline);
    timer_detach(hook->loop, &hook->look);
    loop_undefer(hook->loop, &hook->task);
}

static void destroy(struct hook *hook)
{
    hook->state = STATE_OVER;
    unwatch(hook);
    loop_release(hook->loop, hook, release);
}

/* The last line that is not empty, without its end; allocated. */
static char *last_line(const struct buffer *output)
{
    size_t end = output->length, begin;
    while (end > 0 && strchr("\r\n\t ", output->data[end - 1]))
        end--;
    for (begin = end; begin > 0 && output->data[begin - 1] != '\n';)
        begin--;
    return text_copy_n(end > begin ? (const char *)output->data + begin : "", end - begin);
}

static char *summary_of(const struct hook *hook)
{
    char *line = last_line(&hook->output), *text = NULL;
    const char *colon = *line ? ": " : "";
    switch (hook->result.end) {
    case HOOK_EXITED:
        text = text_print("exited with %d%s%.300s", hook->result.status, colon, line);
        break;
    case HOOK_KILLED:
        text = text_print("was ended by signal %d%s%.300s", hook->result.status, colon, line);
        break;
    case HOOK_TIMEOUT:
        text = text_print("did not end in time%s%.300s", colon, line);
        break;
    case HOOK_NOT_STARTED:
        text = text_print("could not be started: %s", strerror(hook->result.status));
        break;
    }
    free(line);
    return text;
}

static void tell(struct hook *hook)
{
    hook_done *done = hook->done;
    if (!done)
        return;
    log_line(hook);
    char *summary = summary_of(hook);
    log_log("%s %s (after %.3f s)", hook->label, summary,
            (double)(loop_now_us(hook->loop) - hook->begin_us) / 1e6);
    struct hook_result result = hook->result;
    buffer_put_u8(&hook->output, '\0');
    result.ok = result.end == HOOK_EXITED && result.status == 0;
    result.output = (const char *)hook->output.data;
    result.summary = summary;
    result.duration_us = loop_now_us(hook->loop) - hook->begin_us;
    hook->done = NULL;
    done(hook->context, &result);
    free(summary);
}

/* Has it ended? Then everything is over. */
static bool reap(struct hook *hook)
{
    int status;
    if (hook->pid <= 0)
        return false;
    pid_t got = waitpid(hook->pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR))
        return false;
    hook->pid = 0;
    (void)read_output(hook);
    if (hook->state == STATE_RUNNING && got > 0) {
        hook->result.end = WIFEXITED(status) ? HOOK_EXITED : HOOK_KILLED;
        hook->result.status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    } else {
        hook->result.end = HOOK_TIMEOUT;
    }
    tell(hook);
    destroy(hook);
    return true;
}

static void on_pid(struct loop_watch *watch, uint32_t events)
{
    (void)events;
    (void)reap(list_entry(watch, struct hook, pid_watch));
}

static void on_look(struct loop *loop, struct timer *timer)
{
    struct hook *hook = list_entry(timer, struct hook, look);
    if (!reap(hook))
        timer_set(loop, timer, loop_now_us(loop) + LOOK_US);
}

static void end_group(struct hook *hook, enum state state, int signal_number, uint64_t grace_us)
{
    hook->state = state;
    if (hook->pid > 0)
        (void)kill(-hook->pid, signal_number);
    timer_set(hook->loop, &hook->deadline, loop_now_us(hook->loop) + grace_us);
}

static void on_deadline(struct loop *loop, struct timer *timer)
{
    struct hook *hook = list_entry(timer, struct hook, deadline);
    (void)loop;
    switch (hook->state) {
    case STATE_RUNNING:
        log_warning("%s: it takes too long and is ended", hook->label);
        end_group(hook, STATE_ENDING, SIGTERM, GRACE_US);
        break;
    case STATE_ENDING:
        end_group(hook, STATE_KILLED, SIGKILL, LAST_US);
        break;
    case STATE_KILLED: /* not even that helps: it is told, and waited for on the side */
        hook->result.end = HOOK_TIMEOUT;
        tell(hook);
        break;
    case STATE_OVER:
        break;
    }
}

/* ---- the beginning ---- */

static void on_not_started(struct loop_task *task)
{
    struct hook *hook = list_entry(task, struct hook, task);
    tell(hook);
    destroy(hook);
}

static char **make_environment(const struct hook_variable *variables, size_t count)
{
    static const char *const kept[] = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"};
    size_t kept_count = sizeof kept / sizeof kept[0], used = 0;
    char **environment = memory_new((kept_count + count + 1) * sizeof *environment);
    for (size_t i = 0; i < kept_count; i++) {
        const char *value = getenv(kept[i]);
        if (value)
            environment[used++] = text_print("%s=%s", kept[i], value);
    }
    for (size_t i = 0; i < count; i++) {
        if (variables[i].value)
            environment[used++] = text_print("%s=%s", variables[i].name, variables[i].value);
    }
    return environment;
}

static int spawn(struct hook *hook, const char *command, char **environment, int output_fd)
{
    char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output_fd, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    int error = posix_spawn(&hook->pid, "/bin/sh", &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        hook->pid = 0;
    return error;
}

/* 0, or the errno of what failed. */
static int start(struct hook *hook, const char *command, char **environment)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    hook->output_watch.fd = ends[0];
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    int error = spawn(hook, command, environment, ends[1]);
    close(ends[1]);
    if (error)
        return error;
    (void)!loop_watch(hook->loop, &hook->output_watch, EPOLLIN); /* else it is read at the end */
    hook->pid_watch.fd = (int)syscall(SYS_pidfd_open, hook->pid, 0);
    if (hook->pid_watch.fd < 0 || !loop_watch(hook->loop, &hook->pid_watch, EPOLLIN))
        timer_set(hook->loop, &hook->look, loop_now_us(hook->loop) + LOOK_US);
    return 0;
}

struct hook *hook_start(struct loop *loop, const char *label, const char *command,
                        const struct hook_variable *variables, size_t count, uint64_t deadline_us,
                        hook_done *done, void *context)
{
    struct hook *hook = memory_new(sizeof *hook);
    char **environment = make_environment(variables, count);
    hook->loop = loop;
    hook->label = text_copy(label);
    hook->done = done;
    hook->context = context;
    hook->output_watch = (struct loop_watch){.ready = on_output, .fd = -1};
    hook->pid_watch = (struct loop_watch){.ready = on_pid, .fd = -1};
    hook->deadline.fire = on_deadline;
    hook->look.fire = on_look;
    hook->task.run = on_not_started;
    hook->begin_us = loop_now_us(loop);
    int error = start(hook, command, environment);
    if (error) {
        hook->result.end = HOOK_NOT_STARTED;
        hook->result.status = error;
        loop_defer(loop, &hook->task);
    } else {
        log_log("%s: started, process %ld", hook->label, (long)hook->pid);
        timer_set(loop, &hook->deadline, deadline_us);
    }
    for (size_t i = 0; environment[i]; i++)
        free(environment[i]);
    free(environment);
    return hook;
}

void hook_end(struct hook *hook)
{
    if (hook->state == STATE_RUNNING && hook->pid > 0)
        end_group(hook, STATE_ENDING, SIGTERM, GRACE_US);
}

void hook_cancel(struct hook *hook)
{
    if (!hook)
        return;
    hook->done = NULL;
    if (hook->pid > 0) {
        (void)kill(-hook->pid, SIGTERM);
        (void)waitpid(hook->pid, NULL, WNOHANG);
    }
    destroy(hook);
}
