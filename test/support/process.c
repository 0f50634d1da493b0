/*
 * process: fork, become the unprivileged user, exec; and the other end of it.
 *
 * The child gets nothing but the descriptors it is meant to have, and a signal when we die, so that
 * a test that crashes or is killed by its deadline leaves nothing behind. Only pids that we forked
 * are ever signalled.
 */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"
#include "until.h"

static void child_take_descriptors(const struct process_options *options)
{
    int i;

    /* out of the way first: a source may itself be 3 or 4 */
    int high[4];
    for (i = 0; i < options->descriptor_count; i++)
        high[i] = fcntl(options->descriptors[i], F_DUPFD, 100);
    for (i = 0; i < options->descriptor_count; i++)
        dup2(high[i], 3 + i);
    close_range(3 + (unsigned)options->descriptor_count, ~0u, 0);
}

/* Namespaces: while we are still root. */
static void child_move(const struct process_options *options)
{
    int fd;

    if (options->network) {
        fd = open(text_of("/run/netns/%s", options->network), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || setns(fd, CLONE_NEWNET)) {
            dprintf(2, "network namespace %s: %s\n", options->network, strerror(errno));
            _exit(126);
        }
        close(fd);
    }
    if (options->hosts &&
        (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
         mount(options->hosts, "/etc/hosts", NULL, MS_BIND, NULL))) {
        dprintf(2, "own /etc/hosts: %s\n", strerror(errno));
        _exit(126);
    }
}

__attribute__((noreturn)) static void child_main(char *const *arguments,
                                                 const struct process_options *options, int log,
                                                 uid_t uid, gid_t gid)
{
    char *const *variable;
    sigset_t none;
    int null = open("/dev/null", O_RDWR);
    int number;

    dup2(null, 0);
    dup2(log >= 0 ? log : null, 1);
    dup2(log >= 0 ? log : null, 2);
    child_take_descriptors(options);
    for (number = 1; number < 32; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    child_move(options);
    if (geteuid() == 0 && !options->keep_user && (setgroups(0, NULL) || setgid(gid) || setuid(uid)))
        _exit(126);
    prctl(PR_SET_PDEATHSIG, options->death_signal ? options->death_signal : SIGKILL);
    for (variable = options->environment; variable && *variable; variable++)
        putenv(*variable);
    if (options->listen_pid) {
        setenv("LISTEN_PID", text_of("%d", (int)getpid()), 1);
        setenv("LISTEN_FDS", text_of("%d", options->descriptor_count), 1);
    }
    if (chdir(options->folder ? options->folder : "/"))
        _exit(126);
    execvp(arguments[0], arguments);
    dprintf(2, "exec %s: %s\n", arguments[0], strerror(errno));
    _exit(127);
}

pid_t process_start(char *const *arguments, const struct process_options *options)
{
    static const struct process_options defaults;
    uid_t uid = program_uid();
    gid_t gid = program_gid();
    int log = -1;
    pid_t pid;

    if (!options)
        options = &defaults;
    if (options->log) {
        log = open(options->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log < 0)
            support_fail("open %s: %m", options->log);
        path_give(options->log);
    }
    pid = fork();
    if (pid == 0)
        child_main(arguments, options, log, uid, gid);
    if (log >= 0)
        close(log);
    if (pid < 0)
        support_fail("fork: %m");
    return pid;
}

int process_wait(pid_t pid, int ms)
{
    int status = 0;
    pid_t ended = 0;

    if (!until((ended = waitpid(pid, &status, WNOHANG)) != 0, ms))
        return -1;
    if (ended < 0)
        support_fail("waitpid %d: %m", (int)pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int process_run(char *const *arguments, const struct process_options *options, char **output)
{
    static unsigned count;
    struct process_options given = options ? *options : (struct process_options){0};
    char *log = text_of("%s/run-%d-%u.out", program_folder(), (int)getpid(), count++);
    int status;
    pid_t pid;

    if (!given.log)
        given.log = log;
    pid = process_start(arguments, &given);
    status = process_wait(pid, 2 * PATIENCE_MS);
    if (status < 0) {
        kill(pid, SIGKILL);
        process_wait(pid, PATIENCE_MS);
    }
    if (output)
        *output = file_text(given.log);
    unlink(log);
    free(log);
    return status;
}

bool process_is_alive(pid_t pid)
{
    siginfo_t info = {0};

    /* WNOWAIT: the exit status stays for process_wait */
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

long process_memory_kb(pid_t pid)
{
    char *text = file_text(text_of("/proc/%d/status", (int)pid));
    const char *line = strstr(text, "VmRSS:");

    return line ? atol(line + strlen("VmRSS:")) : 0;
}

int process_descriptor_count(pid_t pid)
{
    DIR *folder = opendir(text_of("/proc/%d/fd", (int)pid));
    int count = 0;

    if (!folder)
        return 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 2;
}
