/* What must hold in every run of a model, and what the runs share: see model_world.h. */
#include <stdlib.h>
#include <string.h>

#include "model_world.h"
#include "pgstage/base/log.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/report.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#define LEAKS_EVERY 250 /* runs */

struct model_commands model_commands;

/* ---- configurations ---- */

struct snapshot *model_snapshot(const char *environment, bool state_dir)
{
    struct report report = {0};
    char *text =
        text_print("[pgstage]\n%s\n%s%s\n[databases]\napp = dbname=app user=u "
                   "password=secret%s\n",
                   state_dir ? "state_dir = /nowhere" : "", environment ? "[environment e]\n" : "",
                   environment ? environment : "", environment ? "" : " host=127.0.0.1");
    struct snapshot *snapshot = snapshot_parse("model.ini", text, strlen(text), &report);
    cr_assert_not_null(snapshot, "%s", report.count ? report.entries[0].text : "");
    report_fini(&report);
    free(text);
    return snapshot;
}

/* ---- answers ---- */

struct model_command *model_command(const char *name)
{
    promise(model_commands.count < MODEL_COMMANDS);
    struct model_command *command = &model_commands.items[model_commands.count++];
    *command = (struct model_command){.name = name};
    return command;
}

void model_answer(struct model_command *command, bool ok, const char *sqlstate, const char *text)
{
    promise(!command->is_answered);
    promise(!command->is_forgotten);
    promise(ok || (text && *text && *sqlstate));
    command->is_answered = true;
    model_commands.accepted += ok;
}

void model_answered(void *context, const struct failover_answer *answer)
{
    promise(!answer->ok || !*answer->text);
    model_answer(context, answer->ok, answer->sqlstate, answer->text);
}

void model_check_answered(const char *but)
{
    for (size_t i = 0; i < model_commands.count; i++) {
        const struct model_command *command = &model_commands.items[i];
        promise(command->is_answered || command->is_forgotten || strcmp(command->name, but) == 0);
    }
}

/* ---- episodes ---- */

struct rows {
    size_t ended, running;
    unsigned first; /* of world.ended_ids that the history still has */
};

static void compare_row(void *argument, const struct episode *episode)
{
    struct rows *rows = argument;
    if (episode->result == EPISODE_RUNNING) {
        rows->running++;
        return;
    }
    promise(!rows->running);
    promise(rows->first + rows->ended < world.ended);
    promise(world.ended_ids[rows->first + rows->ended] == episode->id);
    rows->ended++;
}

void model_check_episodes(bool is_claimed)
{
    struct rows rows = {.first = world.ended > HISTORY_MAX ? world.ended - HISTORY_MAX : 0};
    failover_each_episode(world.failover, compare_row, &rows);
    promise(rows.first + rows.ended == world.ended);
    promise(rows.running == world.begun - world.ended);
    promise(!is_claimed || rows.running == 1);
    for (unsigned i = rows.first; i < world.ended; i++)
        promise(world.ended_ids[i] != 0);
}

/* ---- alarms and fences ---- */

static void check_alarm(void *argument, const struct alarm_view *alarm)
{
    unsigned *count = argument;
    promise(alarm->alarm && alarm->detail && *alarm->detail && alarm->since_wall_us);
    promise(++*count < 40);
}

void model_check_alarms(void)
{
    unsigned count = 0;
    failover_each_alarm(world.failover, check_alarm, &count);
}

void model_check_fences(const struct situation *situation)
{
    for (size_t i = 0; i < situation->fence_count; i++) {
        const struct model_host *host = &world.hosts[model_host_find(situation->fences[i].host)];
        promise(host->standing.write == ALLOW_NO || !host->is_told);
        for (size_t j = 0; j < i; j++)
            promise(strcmp(situation->fences[i].host, situation->fences[j].host) != 0);
    }
}

/* ---- runs ---- */

static void look_for_leaks(uint64_t seed)
{
#ifdef __SANITIZE_ADDRESS__
    if (__lsan_do_recoverable_leak_check())
        cr_assert_fail("something has leaked in one of the runs up to the seed %llu",
                       (unsigned long long)seed);
#else
    (void)seed;
#endif
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

uint64_t model_run(void (*run)(uint64_t seed), uint64_t seeds)
{
    uint64_t only = number_of("PGSTAGE_MODEL_SEED", 0);
    uint64_t last = only ? only : number_of("PGSTAGE_MODEL_RUNS", seeds);
    if (!only)
        log_lowest = RANK_FATAL;
    for (uint64_t seed = only ? only : 1; seed <= last; seed++) {
        run(seed);
        if (only || seed % LEAKS_EVERY == 0)
            look_for_leaks(seed);
    }
    return only ? 0 : last;
}
