/*
 * process: child processes of the tests: started as the unprivileged user, ended by pid, never
 * outliving the test.
 */
#ifndef SUPPORT_PROCESS_H
#define SUPPORT_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct process_options {
    const char *log;          /* stdout and stderr are appended to this file; NULL: discarded */
    char *const *environment; /* added, "NAME=value", NULL at the end; NULL: nothing */
    const char *folder;       /* working folder; NULL: / */
    int descriptors[4];       /* become 3, 4 … in the child (see `descriptor_count`) */
    int descriptor_count;
    int death_signal;    /* what the child gets when we die; 0: SIGKILL */
    const char *network; /* a network namespace that exists (see network.h); NULL: ours */
    const char *hosts;   /* this file stands in the place of /etc/hosts; NULL: the machine's */
    bool keep_user;      /* do not become the unprivileged user */
    bool listen_pid;     /* LISTEN_PID=<the child> and LISTEN_FDS=<descriptor_count> */
};

/* Starts; fails the test when that is impossible. The program is found through PATH. */
pid_t process_start(char *const *arguments, const struct process_options *options);
/* Starts, waits up to a minute, returns the exit status, 128 + signal when it was killed, or -1
 * when it did not end. `output` (may be NULL) becomes what it wrote; allocated. */
int process_run(char *const *arguments, const struct process_options *options, char **output);
/* The exit status as process_run gives it, -1 while it runs after `ms`. */
int process_wait(pid_t pid, int ms);
bool process_is_alive(pid_t pid);
/* Resident memory in kB; 0 when it has gone. */
long process_memory_kb(pid_t pid);
int process_descriptor_count(pid_t pid);

#endif
