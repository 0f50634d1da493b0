/*
 * show_stats: SHOW STATS, STATS_TOTALS, STATS_AVERAGES, TOTALS.
 *
 * The counters of pools can be read from any thread, so nobody is asked. Control thread.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"

struct columns_wanted {
    struct result *result;
    bool totals, averages;
};

static void put_values(struct result *result, const struct stats_values *values)
{
    for (size_t i = 0; i < METRIC_COUNT; i++)
        result_uint(result, values->of[i]);
}

static void put_row(const char *database, const struct stats_values *totals,
                    const struct stats_values *averages, void *argument)
{
    const struct columns_wanted *wanted = argument;
    result_begin(wanted->result);
    result_text(wanted->result, database);
    if (wanted->totals)
        put_values(wanted->result, totals);
    if (wanted->averages)
        put_values(wanted->result, averages);
    result_end(wanted->result);
}

static uint64_t now_of(const struct admin *admin)
{
    return loop_now_us(plane_control(admin->plane));
}

static void show(struct admin *admin, struct console_job *job, bool totals, bool averages)
{
    struct columns_wanted wanted = {&job->result, totals, averages};
    admin_look_at_stats(admin);
    stats_each(admin->stats, now_of(admin), put_row, &wanted);
    console_done(job);
}

void command_show_stats(struct admin *admin, struct console_job *job)
{
    show(admin, job, true, true);
}

void command_show_stats_totals(struct admin *admin, struct console_job *job)
{
    show(admin, job, true, false);
}

void command_show_stats_averages(struct admin *admin, struct console_job *job)
{
    show(admin, job, false, true);
}

/* The names are those of SHOW STATS's columns behind the first, but PgBouncer says otherwise whose
 * bytes they are. */
static const char *total_name(size_t index)
{
    static const char *const differing[][2] = {
        {"total_received", "total_client_bytes"},
        {"total_sent", "total_server_bytes"},
        {"avg_recv", "avg_client_bytes"},
        {"avg_sent", "avg_server_bytes"},
    };
    const char *name = columns_of_stats.items[1 + index].name;
    for (size_t i = 0; i < sizeof differing / sizeof differing[0]; i++) {
        if (strcmp(name, differing[i][0]) == 0)
            return differing[i][1];
    }
    return name;
}

void command_show_totals(struct admin *admin, struct console_job *job)
{
    struct stats_values values[2];
    admin_look_at_stats(admin);
    stats_sum(admin->stats, now_of(admin), &values[0], &values[1]);
    for (size_t i = 0; i < 2 * (size_t)METRIC_COUNT; i++) {
        result_begin(&job->result);
        result_text(&job->result, total_name(i));
        result_uint(&job->result, values[i / METRIC_COUNT].of[i % METRIC_COUNT]);
        result_end(&job->result);
    }
    console_done(job);
}
