/*
 * command_check: CHECK, whose rows come from health/check when every host has answered or the
 * deadline has passed.
 *
 * The loop goes on meanwhile. A cancel, or a client that leaves, ends the check; so does the end of
 * the process. Control thread.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/health/check.h"

struct checking {
    /* fixed */
    struct admin *admin;
    struct console_job *job;
    /* owner */
    struct list_node node; /* in admin->checks */
    struct check *check;
};

static void checking_free(struct checking *checking)
{
    list_remove(&checking->admin->checks, &checking->node);
    free(checking);
}

static void on_cancel(struct console_job *job, bool gone)
{
    struct checking *checking = job->state;
    (void)gone;
    check_cancel(checking->check);
    checking_free(checking);
    console_fail(job, "57014", "canceling statement due to user request", NULL, NULL);
}

static void put_row(struct result *result, const struct check_row *row)
{
    result_begin(result);
    result_text(result, row->environment);
    result_text(result, row->host);
    result_text(result, row->check);
    result_text(result, check_verdict_word(row->verdict));
    result_text(result, row->detail);
    if (row->duration_us)
        result_uint(result, row->duration_us);
    else
        result_null(result);
    result_end(result);
}

static void on_checked(void *context, const struct check_rows *rows)
{
    struct checking *checking = context;
    struct console_job *job = checking->job;
    for (size_t i = 0; i < rows->count; i++)
        put_row(&job->result, &rows->items[i]);
    checking_free(checking);
    console_done(job);
}

void command_check(struct admin *admin, struct console_job *job)
{
    struct target target;
    if (!target_read(admin, job, &target))
        return;
    struct checking *checking = memory_new(sizeof *checking);
    checking->admin = admin;
    checking->job = job;
    job->state = checking;
    job->cancelled = on_cancel;
    list_push_back(&admin->checks, &checking->node);
    checking->check = check_start(plane_control(admin->plane), plane_resolver(admin->plane),
                                  plane_snapshot(admin->plane), target.database, target.environment,
                                  on_checked, checking);
    target_fini(&target);
}

void checks_end(struct admin *admin)
{
    struct list_node *node;
    while ((node = list_first(&admin->checks))) {
        struct checking *checking = list_entry(node, struct checking, node);
        struct console_job *job = checking->job;
        check_cancel(checking->check);
        checking_free(checking);
        console_fail(job, "57P01", "pgstage is shutting down", NULL, NULL);
    }
}
