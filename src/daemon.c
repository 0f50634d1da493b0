/*
 * daemon: background, user, pid file, descriptor limit.
 *
 *   shell ─ waits ─► parent ── pipe ── child: sets up everything ─ daemon_ready ─► parent exits 0
 *                                        └─ fails: the pipe ends ────────────────► parent exits 1
 *
 * So whoever starts pgstage -d learns from the exit status whether it runs, and sees on stderr why
 * it does not. The pid file is locked for the life of the process: a lock dies with its owner, so a
 * file that nobody holds is stale whatever number stands in it. Main thread.
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgstage/base/text.h"

int daemon_start(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return -1;
    }
    if (child > 0) {
        char byte;
        ssize_t got;
        close(ends[1]);
        do {
            got = read(ends[0], &byte, 1);
        } while (got < 0 && errno == EINTR);
        _exit(got == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    close(ends[0]);
    (void)setsid();
    return ends[1];
}

void daemon_ready(int parent_fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
        (void)dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    (void)!write(parent_fd, "+", 1);
    close(parent_fd);
}

/* ---- user ---- */

bool daemon_user_find(struct daemon_user *user, const char *name, char *problem, size_t size)
{
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    bool is_number = *name >= '0' && *name <= '9' && *end == '\0';
    errno = 0;
    const struct passwd *entry = is_number ? getpwuid((uid_t)number) : getpwnam(name);
    if (!entry) {
        snprintf(problem, size, "there is no system user \"%s\"%s%s", name, errno ? ": " : "",
                 errno ? strerror(errno) : "");
        return false;
    }
    *user = (struct daemon_user){text_copy(entry->pw_name), entry->pw_uid, entry->pw_gid};
    return true;
}

void daemon_user_fini(struct daemon_user *user)
{
    free(user->name);
    user->name = NULL;
}

bool daemon_user_become(const struct daemon_user *user, char *problem, size_t size)
{
    if (geteuid() == user->uid)
        return true;
    if (initgroups(user->name, user->gid) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
        setresuid(user->uid, user->uid, user->uid) != 0) {
        snprintf(problem, size, "cannot become the user \"%s\": %s", user->name, strerror(errno));
        return false;
    }
    return true;
}

/* ---- pid file ---- */

/* The number that stands in the file, 0: none. */
static long read_pid(int fd)
{
    char text[24];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = '\0';
    return strtol(text, NULL, 10);
}

static void tell_taken(int fd, const char *path, char *problem, size_t size)
{
    snprintf(problem, size, "the pid file %s belongs to process %ld, which is running", path,
             read_pid(fd));
}

bool pidfile_is_free(const char *path, char *problem, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return true; /* pidfile_open says what is wrong, if anything is */
    bool is_free = flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (!is_free)
        tell_taken(fd, path, problem, size);
    close(fd);
    return is_free;
}

/* Opens and locks; -1: `problem`. A file that was replaced between the two is opened again. */
static int open_locked(const char *path, char *problem, size_t size)
{
    for (;;) {
        struct stat held, named;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0644);
        if (fd < 0) {
            snprintf(problem, size, "cannot open the pid file %s: %s", path, strerror(errno));
            return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno == EWOULDBLOCK)
                tell_taken(fd, path, problem, size);
            else
                snprintf(problem, size, "cannot lock the pid file %s: %s", path, strerror(errno));
            close(fd);
            return -1;
        }
        if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev)
            return fd;
        close(fd);
    }
}

bool pidfile_open(struct pidfile *pidfile, const char *path, char *problem, size_t size)
{
    int fd = open_locked(path, problem, size);
    if (fd < 0)
        return false;
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
        snprintf(problem, size, "cannot write the pid file %s: %s", path, strerror(errno));
        close(fd);
        return false;
    }
    *pidfile = (struct pidfile){fd + 1, text_copy(path)};
    return true;
}

void pidfile_close(struct pidfile *pidfile)
{
    if (!pidfile->fd)
        return;
    /* Emptied too: after a change of user the folder may not let the file go. */
    (void)!ftruncate(pidfile->fd - 1, 0);
    (void)unlink(pidfile->path);
    close(pidfile->fd - 1);
    free(pidfile->path);
    *pidfile = (struct pidfile){0};
}

/* ---- descriptors ---- */

struct descriptor_limit descriptor_limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return (struct descriptor_limit){UINT64_MAX, UINT64_MAX};
    struct rlimit raised = {limit.rlim_max, limit.rlim_max};
    if (limit.rlim_cur != limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0)
        limit = raised;
    return (struct descriptor_limit){
        limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur,
        limit.rlim_max == RLIM_INFINITY ? UINT64_MAX : limit.rlim_max,
    };
}
