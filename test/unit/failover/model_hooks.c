/* The operator's commands, and what procedures ask of the plane: see model_cluster.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_cluster.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/list.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/hook.h"
#include "pgstage/session/plane.h"

enum fate {
    FATE_GOOD,
    FATE_LIES, /* it says that it is done, and has done nothing */
    FATE_FAILS,
    FATE_FAILS_AFTERWARDS, /* it has done it, and says that it has not */
    FATE_HANGS,
    FATE_HANGS_AFTERWARDS,
    FATE_NOT_STARTED,
    FATES,
};

struct hook {
    struct list_node node;
    char *command;
    size_t old, new; /* MODEL_HOSTS: none */
    enum fate fate;
    bool is_ended;
    uint64_t deadline_us;
    char output[64];
    hook_done *done;
    void *context;
};

static struct list hooks = LIST_INITIALIZER(hooks);

static bool is_aftermath(const struct hook *hook)
{
    return strcmp(hook->command, "on_failover_command") == 0;
}

static void hook_free(struct hook *hook)
{
    list_remove(&hooks, &hook->node);
    cluster.hooks -= !is_aftermath(hook);
    cluster.aftermaths -= is_aftermath(hook);
    free(hook->command);
    free(hook);
}

/* ---- what they do ---- */

static void switch_over(const struct hook *hook)
{
    bool is_named = hook->new != MODEL_HOSTS && (cluster.is_honest || dice(8));
    size_t to = is_named            ? hook->new
                : cluster.is_honest ? (hook->old + 1) % (MODEL_HOSTS - 1)
                                    : dice(MODEL_HOSTS);
    struct model_server *old = &cluster.servers[hook->old], *new = &cluster.servers[to];
    if (to == hook->old || !new->is_running || new->is_primary)
        return;
    server_stops(hook->old, true);
    new->promoted_us = world.now_us;
    cluster_live();
    if (dice(3)) {
        old->is_primary = false;
        old->upstream = to;
        server_starts(hook->old);
    }
}

static void act(struct hook *hook)
{
    const char *command = hook->command;
    bool is_demote = strcmp(command, "demote_command") == 0;
    uint64_t before = hook->old == MODEL_HOSTS ? 0 : cluster.servers[hook->old].written;
    if (is_demote && dice(2))
        (void)snprintf(hook->output, sizeof hook->output, "PGSTAGE_FINAL_LSN=%X/%X",
                       (unsigned)(before >> 32), (unsigned)before);
    /* one that does not stop it as it should says nothing of the end of its WAL */
    bool is_clean = is_demote && (cluster.is_honest || dice(6));
    if (!is_clean)
        hook->output[0] = '\0';
    if (is_demote)
        cluster.misses_none = is_clean && (*hook->output || server_streams(hook->new));
    if (is_demote || strcmp(command, "fence_command") == 0)
        server_stops(hook->old, is_clean);
    else if (strcmp(command, "undemote_command") == 0)
        server_starts(hook->old);
    else if (strcmp(command, "switchover_command") == 0)
        switch_over(hook);
}

static void count(const struct hook *hook)
{
    bool is_demote = strcmp(hook->command, "demote_command") == 0;
    promise(!is_demote || cluster.servers[hook->new].surveyed_from != MODEL_HOSTS);
    cluster.demotes += strcmp(hook->command, "demote_command") == 0;
    cluster.undemotes += strcmp(hook->command, "undemote_command") == 0;
    cluster.fences += strcmp(hook->command, "fence_command") == 0;
    cluster.hooks += !is_aftermath(hook);
    cluster.aftermaths += is_aftermath(hook);
}

static void note_success(const struct hook *hook)
{
    if (strcmp(hook->command, "demote_command") == 0) {
        cluster.was_demoted = true;
        cluster.demoted_us = world.now_us;
        cluster.has_said_end = *hook->output;
    }
    cluster.was_fenced |= strcmp(hook->command, "fence_command") == 0;
    cluster.has_lied |= hook->fate == FATE_LIES;
}

static void end(struct hook *hook, enum hook_end how)
{
    bool ok = how == HOOK_EXITED && hook->fate <= FATE_LIES;
    struct hook_result result = {
        .end = how,
        .status = ok ? 0 : 1,
        .ok = ok,
        .output = hook->output,
        .summary = ok ? "exited with 0" : "failed",
    };
    hook_done *done = hook->done;
    void *context = hook->context;
    bool acts = hook->fate == FATE_GOOD || hook->fate == FATE_FAILS_AFTERWARDS;
    if (acts && (how == HOOK_EXITED || (!cluster.is_honest && dice(2))))
        act(hook);
    if (ok)
        note_success(hook);
    model_note("%s %s", hook->command, result.summary);
    struct hook copy = *hook; /* the output must outlive it */
    result.output = copy.output;
    hook_free(hook);
    done(context, &result);
}

static bool go_on(bool all)
{
    list_for_each (node, &hooks) {
        struct hook *hook = list_entry(node, struct hook, node);
        bool is_late = hook->is_ended || world.now_us >= hook->deadline_us;
        bool hangs = hook->fate == FATE_HANGS || hook->fate == FATE_HANGS_AFTERWARDS;
        if (!all && dice(4))
            continue;
        if (is_late || !hangs) {
            end(hook, is_late                          ? HOOK_TIMEOUT
                      : hook->fate == FATE_NOT_STARTED ? HOOK_NOT_STARTED
                                                       : HOOK_EXITED);
            return true;
        }
    }
    return false;
}

void cluster_hooks_go_on(bool all)
{
    while (go_on(all)) {
    }
}

/* ---- hook.h ---- */

static size_t host_in(const struct hook_variable *variables, size_t length, const char *name)
{
    for (size_t i = 0; i < length; i++) {
        if (strcmp(variables[i].name, name) == 0 && variables[i].value)
            return model_host_find(variables[i].value);
    }
    return MODEL_HOSTS;
}

struct hook *hook_start(struct loop *loop, const char *label, const char *command,
                        const struct hook_variable *variables, size_t length, uint64_t deadline_us,
                        hook_done *done, void *context)
{
    struct hook *hook = memory_new(sizeof *hook);
    (void)loop;
    promise(*label && *command);
    hook->command = text_copy(variables[0].value);
    hook->old = host_in(variables, length, "PGSTAGE_OLD_PRIMARY");
    hook->new = host_in(variables, length, "PGSTAGE_NEW_PRIMARY");
    hook->fate = cluster.is_honest || dice(2) ? FATE_GOOD : (enum fate)dice(FATES);
    hook->deadline_us = deadline_us;
    hook->done = done;
    hook->context = context;
    count(hook);
    if (hook->fate == FATE_HANGS_AFTERWARDS)
        act(hook);
    model_note("%s begins (%d)", hook->command, (int)hook->fate);
    list_push_back(&hooks, &hook->node);
    return hook;
}

void hook_end(struct hook *hook)
{
    hook->is_ended = true;
}

void hook_cancel(struct hook *hook)
{
    if (hook)
        hook_free(hook);
}

/* ---- plane.h ---- */

struct snapshot *plane_snapshot(const struct plane *plane)
{
    (void)plane;
    return cluster.snapshot;
}

struct loop *plane_control(const struct plane *plane)
{
    (void)plane;
    return world.loop;
}

struct resolver *plane_resolver(const struct plane *plane)
{
    (void)plane;
    return NULL;
}

struct registry *plane_registry(const struct plane *plane)
{
    (void)plane;
    return cluster.registry;
}

void plane_gate_counts(struct plane *plane, const char *environment, struct gate_counts *counts)
{
    (void)plane;
    promise(strcmp(environment, "e") == 0);
    *counts = (struct gate_counts){
        .held = world.is_held, .waiting = 1, .running = cluster.transactions, .queued = 1};
}

void plane_close_host(struct plane *plane, const char *environment, const char *host,
                      enum reason reason, const char *detail, void (*done)(void *context),
                      void *context)
{
    (void)plane;
    promise(strcmp(environment, "e") == 0 && reason == REASON_SERVER_FENCED && *detail);
    world_close_host(host, done, context);
}

struct effective *plane_pool_effective(struct pool *pool)
{
    (void)pool;
    return NULL;
}
