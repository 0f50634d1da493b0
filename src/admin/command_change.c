/*
 * command_change: the commands that change something.
 *
 * Who may run them has been checked and that they run has been logged (console.c). Texts of errors
 * are PgBouncer's where it has the same error. Each ends its job exactly once, here or, for PAUSE,
 * WAIT_CLOSE and KILL_CLIENT, later. Control thread.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/show.h"
#include "pgstage/pool/registry.h"

static struct registry *registry_of(const struct admin *admin)
{
    return plane_registry(admin->plane);
}

static uint64_t now_of(const struct admin *admin)
{
    return loop_now_us(plane_control(admin->plane));
}

static bool is_everything(const struct target *target)
{
    return !target->database && !target->environment;
}

/* "admin@127.0.0.1:5000"; allocated. */
static char *who_asks(const struct console_job *job)
{
    return text_print("%s@%s", job->user, job->from);
}

/* Names what was read and does not hold yet. */
static void tell_pending(struct admin *admin, struct console_job *job)
{
    struct config_row row = {0};
    while (config_row_next(plane_snapshot(admin->plane), admin->started, NULL, &row)) {
        if (!row.pending)
            continue;
        char *text = text_print("%s = %s holds after a restart", row.key, row.pending);
        console_notice(job, text);
        free(text);
    }
}

void command_reload(struct admin *admin, struct console_job *job)
{
    char *problem = NULL, *who = who_asks(job);
    if (admin->callbacks.reload(admin->callbacks.context, who, &problem)) {
        tell_pending(admin, job);
        console_done(job);
    } else {
        console_fail(job, "F0000", "RELOAD failed, see logs for additional details", problem,
                     "`pgstage --check` shows the same list.");
    }
    free(problem);
    free(who);
}

void command_pause(struct admin *admin, struct console_job *job)
{
    struct target target;
    if (!target_read(admin, job, &target))
        return;
    if (registry_is_paused(registry_of(admin), NULL, NULL)) {
        console_fail(job, "55000", "already suspended/paused", NULL, NULL);
        target_fini(&target);
        return;
    }
    registry_pause(registry_of(admin), target.database, target.environment, true, now_of(admin));
    wait_start(admin, job, &target, true, false);
}

static void resume_all(struct admin *admin, struct console_job *job)
{
    if (admin->for_servers)
        console_fail(job, "57P01", "pooler is shutting down", NULL, NULL);
    else if (admin_resume_all(admin))
        console_done(job);
    else
        console_fail(job, "55000", "pooler is not paused/suspended", NULL, NULL);
}

void command_resume(struct admin *admin, struct console_job *job)
{
    struct target target;
    if (!target_read(admin, job, &target))
        return;
    if (is_everything(&target)) {
        resume_all(admin, job);
        return;
    }
    struct registry *registry = registry_of(admin);
    bool paused = registry_is_paused(registry, target.database, target.environment);
    /* One name in every environment is not paused as a whole when only one of them is. */
    for (size_t i = 0; target.database && !target.environment && !paused &&
                       i < snapshot_environment_count(plane_snapshot(admin->plane));
         i++)
        paused = registry_is_paused(registry, target.database,
                                    snapshot_environment(plane_snapshot(admin->plane), i)->name);
    if (paused) {
        registry_pause(registry, target.database, target.environment, false, now_of(admin));
        console_done(job);
    } else {
        char *text = text_print("database %s is not paused", job->command.target);
        console_fail(job, "55000", text, NULL, NULL);
        free(text);
    }
    target_fini(&target);
}

static void disable(struct admin *admin, struct console_job *job, bool disabled)
{
    struct target target;
    if (!target_read(admin, job, &target))
        return;
    registry_disable(registry_of(admin), target.database, target.environment, disabled);
    target_fini(&target);
    console_done(job);
}

void command_disable(struct admin *admin, struct console_job *job)
{
    disable(admin, job, true);
}

void command_enable(struct admin *admin, struct console_job *job)
{
    disable(admin, job, false);
}

void command_reconnect(struct admin *admin, struct console_job *job)
{
    struct target target;
    if (!target_read(admin, job, &target))
        return;
    plane_reconnect(admin->plane, target.database, target.environment);
    target_fini(&target);
    console_done(job);
}

void command_kill(struct admin *admin, struct console_job *job)
{
    struct target target;
    if (!target_read(admin, job, &target))
        return;
    if (registry_is_paused(registry_of(admin), NULL, NULL)) {
        console_fail(job, "55000", "already suspended/paused", NULL, NULL);
    } else {
        registry_pause(registry_of(admin), target.database, target.environment, true,
                       now_of(admin));
        plane_kill(admin->plane, target.database, target.environment);
        console_done(job);
    }
    target_fini(&target);
}

/* A question that is under way keeps the admin busy, like a gathering. */
struct killing {
    struct admin *admin;
    struct console_job *job;
};

static void on_killed(void *argument, bool found)
{
    struct killing *killing = argument;
    killing->admin->gathers--;
    if (found)
        console_done(killing->job);
    else
        console_fail(killing->job, "22023", "client not found", NULL,
                     "SHOW CLIENTS gives the ids.");
    free(killing);
}

void command_kill_client(struct admin *admin, struct console_job *job)
{
    struct killing *killing = memory_new(sizeof *killing);
    killing->admin = admin;
    killing->job = job;
    admin->gathers++;
    plane_kill_client(admin->plane, job->command.client_id, on_killed, killing);
}

void command_wait_close(struct admin *admin, struct console_job *job)
{
    struct target target;
    if (target_read(admin, job, &target))
        wait_start(admin, job, &target, false, true);
}

/* Every entry of a report, a line each; allocated. */
static char *report_text(const struct report *report)
{
    struct buffer text = {0};
    for (size_t i = 0; i < report->count; i++) {
        if (report->entries[i].is_error)
            buffer_print(&text, "%s%s", text.length ? "\n" : "", report->entries[i].text);
    }
    buffer_put_u8(&text, '\0');
    return (char *)text.data;
}

void command_set(struct admin *admin, struct console_job *job)
{
    const struct command *command = &job->command;
    struct report report = {0};
    char *problem = NULL, *who = who_asks(job);
    struct snapshot *snapshot =
        snapshot_set(plane_snapshot(admin->plane), command->key, command->value, &report);
    if (!snapshot) {
        problem = report_text(&report);
        console_fail(job, "22023", "SET failed", problem, "SHOW CONFIG lists the options.");
    } else if (admin->callbacks.apply(admin->callbacks.context, snapshot, who, &problem)) {
        job->tag = text_print("SET %s=%s", command->key, command->value);
        console_done(job);
    } else {
        console_fail(job, "F0000", "SET failed, the configuration stays as it was", problem, NULL);
    }
    free(problem);
    free(who);
    snapshot_unref(snapshot);
    report_fini(&report);
}

/* What is done when the client has its answer. */
struct ending {
    struct admin *admin;
    enum admin_shutdown how;
};

static void on_answered(void *argument)
{
    struct ending *ending = argument;
    ending->admin->callbacks.shutdown(ending->admin->callbacks.context, ending->how);
    free(ending);
}

void command_shutdown(struct admin *admin, struct console_job *job)
{
    const struct command *command = &job->command;
    enum admin_shutdown how = command->wait_for_servers   ? ADMIN_SHUTDOWN_FOR_SERVERS
                              : command->wait_for_clients ? ADMIN_SHUTDOWN_FOR_CLIENTS
                                                          : ADMIN_SHUTDOWN_NOW;
    struct ending *ending = memory_new(sizeof *ending);
    ending->admin = admin;
    ending->how = how;
    admin->for_servers = admin->for_servers || how == ADMIN_SHUTDOWN_FOR_SERVERS;
    job->after = on_answered;
    job->after_argument = ending;
    console_done(job);
}
