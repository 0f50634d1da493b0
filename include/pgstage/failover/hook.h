/*
 * hook: runs a command of the operator's (fence_command, demote_command …) without waiting for it.
 *
 * The command is a line for /bin/sh, in a process group of its own. It gets no descriptor of
 * pgstage's, /dev/null as its input, and only these variables: PATH, HOME, USER, LOGNAME, SHELL,
 * LANG, TZ as pgstage has them, and the PGSTAGE_… ones that the caller gives. So nothing secret of
 * pgstage's own environment leaks into it. What it writes is logged line by line, within bounds.
 * One loop's thread. No callback comes from inside a call, and none after hook_cancel.
 */
#ifndef PGSTAGE_FAILOVER_HOOK_H
#define PGSTAGE_FAILOVER_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/worker/loop.h"

struct hook;

struct hook_variable {
    const char *name;  /* "PGSTAGE_HOST" */
    const char *value; /* NULL: the variable is not given */
};

enum hook_end {
    HOOK_EXITED,      /* by itself: `status` */
    HOOK_KILLED,      /* by a signal that is not ours: `status` is its number */
    HOOK_TIMEOUT,     /* it was ended at its deadline, or by hook_end */
    HOOK_NOT_STARTED, /* `status` is the errno */
};

struct hook_result {
    enum hook_end end;
    int status;
    bool ok;             /* it exited with 0 */
    const char *output;  /* the end of what it wrote, "" when nothing; the callback's only */
    const char *summary; /* one line: "exited with 1: the last line that it wrote" */
    uint64_t duration_us;
};

typedef void hook_done(void *context, const struct hook_result *result);

/* Starts `command`; texts need to live only during the call. `label` ("fence_command of
 * production") stands in front of what is logged. `done` comes once, soon after `deadline_us`
 * (loop_now_us's clock) at the latest: then the whole group has been sent SIGTERM and, a second
 * later, SIGKILL. */
struct hook *hook_start(struct loop *loop, const char *label, const char *command,
                        const struct hook_variable *variables, size_t count, uint64_t deadline_us,
                        hook_done *done, void *context) __attribute__((warn_unused_result));
/* Brings its deadline forward to now; `done` comes when it has ended. */
void hook_end(struct hook *hook);
/* For the end of the process: SIGTERM to its group, nothing is waited for, `done` is not called;
 * NULL is nothing. */
void hook_cancel(struct hook *hook);

#endif
