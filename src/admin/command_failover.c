/*
 * command_failover: ACCEPT, FENCE, UNFENCE and MAINTENANCE, and the views SHOW FAILOVERS, ALARMS
 * and FENCES.
 *
 * The commands end when the failover engine says so: when it holds and is written down. A client
 * that leaves meanwhile changes nothing about that. Control thread.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/access.h"
#include "pgstage/conf/option.h"
#include "pgstage/failover/failover.h"

/* A command that waits for the engine. */
struct steering {
    /* fixed */
    struct admin *admin;
    struct console_job *job;
    char *by;
    /* owner */
    struct list_node node; /* in admin->steerings */
};

static struct steering *steering_new(struct admin *admin, struct console_job *job)
{
    struct steering *steering = memory_new(sizeof *steering);
    steering->admin = admin;
    steering->job = job;
    steering->by = text_print("%s@%s", job->user, job->from);
    list_push_back(&admin->steerings, &steering->node);
    return steering;
}

static void steering_free(struct steering *steering)
{
    list_remove(&steering->admin->steerings, &steering->node);
    free(steering->by);
    free(steering);
}

static void on_answered(void *context, const struct failover_answer *answer)
{
    struct steering *steering = context;
    struct console_job *job = steering->job;
    steering_free(steering);
    if (answer->ok)
        console_done(job);
    else
        console_fail(job, answer->sqlstate, answer->text, NULL,
                     *answer->hint ? answer->hint : NULL);
}

void steerings_end(struct admin *admin)
{
    struct list_node *node;
    while ((node = list_first(&admin->steerings))) {
        struct steering *steering = list_entry(node, struct steering, node);
        struct console_job *job = steering->job;
        failover_forget(admin->failover, steering);
        steering_free(steering);
        console_fail(job, "57P01", "pgstage is shutting down", NULL, NULL);
    }
}

void command_fence(struct admin *admin, struct console_job *job)
{
    struct steering *steering = steering_new(admin, job);
    failover_fence_command(admin->failover, job->command.target, steering->by, on_answered,
                           steering);
}

void command_unfence(struct admin *admin, struct console_job *job)
{
    struct steering *steering = steering_new(admin, job);
    failover_unfence_command(admin->failover, job->command.target, steering->by, on_answered,
                             steering);
}

/* Is there such an environment? Else the job has been failed. */
static bool environment_is_known(struct admin *admin, struct console_job *job)
{
    const char *name = job->command.target;
    if (snapshot_find_environment(plane_snapshot(admin->plane), name))
        return true;
    char *text = text_print("no such environment: %s", name);
    console_fail(job, "3D000", text, NULL, "SHOW ENVIRONMENTS lists them.");
    free(text);
    return false;
}

void command_accept(struct admin *admin, struct console_job *job)
{
    if (!environment_is_known(admin, job))
        return;
    struct steering *steering = steering_new(admin, job);
    failover_accept_command(admin->failover, job->command.target, job->command.value, steering->by,
                            on_answered, steering);
}

/* "1h", "30min", "90"; else the job has been failed. */
static bool read_time(struct console_job *job, uint64_t *time_us)
{
    const struct option *option = option_find_anywhere("failover_wait_timeout");
    struct option_value value;
    char problem[256];
    *time_us = 0;
    if (!job->command.value)
        return true;
    if (!option_parse(option, job->command.value, &value, problem, sizeof problem)) {
        console_fail(job, "22023", problem, NULL, NULL);
        return false;
    }
    *time_us = (uint64_t)value.number;
    if (*time_us == 0) {
        console_fail(job, "22023", "FOR 0 is no time", NULL, "MAINTENANCE … OFF ends it.");
        return false;
    }
    return true;
}

void command_maintenance(struct admin *admin, struct console_job *job)
{
    uint64_t time_us;
    if (!environment_is_known(admin, job) || !read_time(job, &time_us))
        return;
    struct steering *steering = steering_new(admin, job);
    failover_maintenance_command(admin->failover, job->command.target, job->command.is_on, time_us,
                                 steering->by, on_answered, steering);
}

/* ---- views ---- */

static void put_moment(struct result *result, uint64_t wall_us)
{
    char moment[32];
    access_time_print(wall_us, moment, sizeof moment);
    result_text(result, wall_us ? moment : NULL);
}

/* -1 is not known. */
static void put_known(struct result *result, int64_t number)
{
    if (number < 0)
        result_null(result);
    else
        result_int(result, number);
}

static void put_episode(void *argument, const struct episode *episode)
{
    struct console_job *job = argument;
    struct result *result = &job->result;
    if (job->command.target && !text_equal(job->command.target, episode->environment))
        return;
    char *steps = text_copy_n(episode->steps.data ? (const char *)episode->steps.data : "",
                              episode->steps.length);
    result_begin(result);
    result_uint(result, episode->id);
    result_text(result, episode->environment);
    result_text(result, episode_type_word(episode->type));
    result_text(result, episode->from);
    result_text(result, episode->to);
    result_text(result, episode->trigger);
    put_moment(result, episode->started_wall_us);
    put_known(result, episode->detection_ms);
    put_known(result, episode->hold_ms);
    put_known(result, episode->total_ms);
    put_known(result, episode->lag_bytes);
    put_known(result, episode->clients_held);
    put_known(result, episode->clients_errored);
    result_text(result, steps);
    result_text(result, episode_result_word(episode->result));
    result_text(result, episode->text);
    result_end(result);
    free(steps);
}

void command_show_failovers(struct admin *admin, struct console_job *job)
{
    if (job->command.target && !environment_is_known(admin, job))
        return;
    failover_each_episode(admin->failover, put_episode, job);
    console_done(job);
}

static void put_alarm(void *argument, const struct alarm_view *alarm)
{
    struct result *result = argument;
    result_begin(result);
    result_text(result, alarm->environment);
    result_text(result, alarm->host);
    result_text(result, alarm->alarm);
    put_moment(result, alarm->since_wall_us);
    result_text(result, alarm->detail);
    result_text(result, alarm->help);
    result_end(result);
}

void command_show_alarms(struct admin *admin, struct console_job *job)
{
    failover_each_alarm(admin->failover, put_alarm, &job->result);
    console_done(job);
}

void command_show_fences(struct admin *admin, struct console_job *job)
{
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    struct result *result = &job->result;
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const char *environment = snapshot_environment(snapshot, i)->name;
        const struct situation *situation = failover_situation(admin->failover, environment);
        for (size_t k = 0; situation && k < situation->fence_count; k++) {
            const struct fence *fence = &situation->fences[k];
            result_begin(result);
            result_text(result, environment);
            result_text(result, fence->host);
            result_text(result, fence_word(fence->kind));
            result_text(result, fence->by);
            put_moment(result, fence->since_wall_us);
            result_end(result);
        }
    }
    console_done(job);
}
