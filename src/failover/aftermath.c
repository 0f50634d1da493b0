/*
 * aftermath.c: what commands are told of a failover, and on_failover_command behind it.
 *
 * on_failover_command runs after each procedure, whatever came of it, and outlives it; nobody waits
 * for it but the log. Whoever has failed over without a procedure (a promotion by somebody else
 * that was followed) calls aftermath_run_episode.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"
#include "pgstage/session/plane.h"
#include "procedure_inside.h"

/* ---- variables ---- */

static void put(struct command_variables *variables, const char *name, char *value)
{
    variables->texts[variables->count] = value;
    variables->items[variables->count++] = (struct hook_variable){name, value};
}

static void put_host(struct command_variables *variables, const struct command_facts *facts,
                     const char *host, const char *const names[4])
{
    const struct host_report *report =
        host ? monitor_find(facts->procedures->monitor, facts->environment, host) : NULL;
    put(variables, names[0], text_copy(host));
    put(variables, names[1], report ? text_copy(report->name) : NULL);
    put(variables, names[2], report ? text_copy(report->address) : NULL);
    put(variables, names[3], report ? text_print("%u", report->port) : NULL);
}

void command_variables_init(struct command_variables *variables, const struct command_facts *facts)
{
    static const char *const old[] = {"PGSTAGE_OLD_PRIMARY", "PGSTAGE_OLD_HOST",
                                      "PGSTAGE_OLD_ADDRESS", "PGSTAGE_OLD_PORT"};
    static const char *const new[] = {"PGSTAGE_NEW_PRIMARY", "PGSTAGE_NEW_HOST",
                                      "PGSTAGE_NEW_ADDRESS", "PGSTAGE_NEW_PORT"};
    *variables = (struct command_variables){0};
    put(variables, "PGSTAGE_COMMAND", text_copy(facts->command));
    put(variables, "PGSTAGE_ENVIRONMENT", text_copy(facts->environment));
    put(variables, "PGSTAGE_FAILOVER_TYPE", text_copy(episode_type_word(facts->type)));
    put(variables, "PGSTAGE_TRIGGER", text_copy(facts->trigger));
    put_host(variables, facts, facts->old, old);
    put_host(variables, facts, facts->new, new);
    put(variables, "PGSTAGE_RESULT", text_copy(facts->result));
    put(variables, "PGSTAGE_REASON", text_copy(facts->text));
}

void command_variables_fini(struct command_variables *variables)
{
    for (size_t i = 0; i < variables->count; i++)
        free(variables->texts[i]);
}

/* ---- on_failover_command ---- */

struct aftermath {
    struct list_node node;
    struct procedures *procedures;
    struct hook *hook;
};

static void on_over(void *context, const struct hook_result *result)
{
    struct aftermath *aftermath = context;
    (void)result; /* hook.c has logged it */
    list_remove(&aftermath->procedures->hooks, &aftermath->node);
    free(aftermath);
}

void aftermath_begin(void *context, const struct episode *episode)
{
    struct procedures *procedures = context;
    struct snapshot *snapshot = plane_snapshot(procedures->plane);
    const struct environment_config *environment =
        snapshot_find_environment(snapshot, episode->environment);
    const struct settings *settings =
        environment ? snapshot_environment_settings(snapshot, environment) : NULL;
    if (!settings || !settings->on_failover_command || procedures->is_stopped)
        return;
    const struct command_facts facts = {
        .procedures = procedures,
        .command = "on_failover_command",
        .environment = episode->environment,
        .trigger = episode->trigger,
        .type = episode->type,
        .old = episode->from,
        .new = episode->to,
        .result = episode_result_word(episode->result),
        .text = episode->text,
    };
    struct command_variables variables;
    struct aftermath *aftermath = memory_new(sizeof *aftermath);
    char *label = text_print("failover: %s: on_failover_command", episode->environment);
    command_variables_init(&variables, &facts);
    aftermath->procedures = procedures;
    list_push_back(&procedures->hooks, &aftermath->node);
    aftermath->hook = hook_start(
        procedures->loop, label, settings->on_failover_command, variables.items, variables.count,
        loop_now_us(procedures->loop) + settings->failover_command_timeout_us, on_over, aftermath);
    command_variables_fini(&variables);
    free(label);
}

void aftermaths_end(struct procedures *procedures)
{
    struct list_node *node;
    while ((node = list_pop_front(&procedures->hooks))) {
        struct aftermath *aftermath = list_entry(node, struct aftermath, node);
        hook_cancel(aftermath->hook);
        free(aftermath);
    }
}
