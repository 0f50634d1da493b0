/*
 * daemon: what a server process does with its surroundings: background, user, pid file,
 * descriptors.
 *
 * Main thread, before any other thread runs (pidfile_close: after).
 */
#ifndef PGSTAGE_DAEMON_H
#define PGSTAGE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Goes on in a child process without a terminal. The parent waits until the child says daemon_ready
 * and then exits 0, or exits 1 when the child ends first. Returns in the child; the number is
 * daemon_ready's, -1 when there can be no child. */
int daemon_start(void) __attribute__((warn_unused_result));
/* Lets the parent go; stdin, stdout and stderr lead nowhere from now on. */
void daemon_ready(int parent_fd);

/* The system user to become. */
struct daemon_user {
    char *name;
    uid_t uid;
    gid_t gid;
};
/* A name or a number. False and `problem` when there is none. */
bool daemon_user_find(struct daemon_user *user, const char *name, char *problem, size_t size)
    __attribute__((warn_unused_result));
void daemon_user_fini(struct daemon_user *user);
/* Becomes the user for good, supplementary groups included. */
bool daemon_user_become(const struct daemon_user *user, char *problem, size_t size)
    __attribute__((warn_unused_result));

/* A locked file with the process's id. Zeroed: none. */
struct pidfile {
    int fd; /* + 1; 0: none */
    char *path;
};
/* Is the file's process alive? Then false and `problem`. Changes nothing. */
bool pidfile_is_free(const char *path, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Makes or takes over the file (one whose process is gone is replaced) and locks it. */
bool pidfile_open(struct pidfile *pidfile, const char *path, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Removes the file. */
void pidfile_close(struct pidfile *pidfile);

struct descriptor_limit {
    uint64_t soft, hard; /* UINT64_MAX: none */
};
/* Raises the soft limit to the hard one. */
struct descriptor_limit descriptor_limit_raise(void);

#endif
