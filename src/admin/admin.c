/*
 * admin: puts the console, the statistics and the upkeep together.
 *
 *   plane ─ hooks ─► console ─ run ─► command_… ─► console_done / console_fail
 *                                       └─► waits (PAUSE, WAIT_CLOSE), gatherings (SHOW)
 *   timers: stats_period (averages, the log's stats line) · upkeep (idle pools) · watch (waits)
 *           certificates (daily)
 *
 * Everything runs on the control thread, except the `each` of a gathering, which runs on the
 * workers and touches only its own part. A gathering holds its job and this struct: so before the
 * plane is freed, the owner turns the loop until admin_is_busy says no.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/pool/registry.h"
#include "pgstage/session/audit.h"

#define WATCH_US CLOCK_SECOND
#define UPKEEP_US (5 * CLOCK_SECOND)

static void on_run(void *context, struct console_job *job)
{
    static void (*const functions[])(struct admin *, struct console_job *) = {
#define COMMAND(verb, noun, level, argument, columns, function, help)                              \
    [COMMAND_##function] = command_##function,
#include "pgstage/tables/commands.def"
#undef COMMAND
    };
    struct admin *admin = context;
    if (admin->plane && !admin->stopping)
        functions[job->command.id](admin, job);
    else
        console_fail(job, "57P01", "pgstage is shutting down", NULL, NULL);
}

/* A command's line on its way to the disk; keeps the admin busy, like a gathering. */
struct recording {
    struct admin *admin;
    struct console_job *job;
};

static void on_recorded(struct loop *loop, void *argument, uint64_t id, bool written)
{
    struct recording *recording = argument;
    (void)loop;
    (void)id;
    recording->admin->gathers--;
    console_recorded(recording->job, written);
    free(recording);
}

static bool on_record(void *context, struct console_job *job, const char *what)
{
    struct admin *admin = context;
    if (!admin->plane || !audit_is_on(plane_audit(admin->plane)))
        return false;
    struct audit_record *record = audit_record_new("command");
    audit_record_text(record, "user", job->user);
    audit_record_text(record, "from", job->from);
    audit_record_text(record, "command", what);
    audit_record_text(record, "result", job->failure.sqlstate ? "failed" : "done");
    if (job->failure.sqlstate) {
        audit_record_text(record, "sqlstate", job->failure.sqlstate);
        audit_record_text(record, "message", job->failure.text);
    }
    struct recording *recording = memory_new(sizeof *recording);
    recording->admin = admin;
    recording->job = job;
    admin->gathers++;
    audit_write_through(plane_audit(admin->plane), record, plane_control(admin->plane), on_recorded,
                        recording, 0);
    return true;
}

static void on_reply(void *context, uint64_t client_id, struct buffer *bytes, bool resume,
                     bool close)
{
    struct admin *admin = context;
    if (admin->plane)
        plane_console_reply(admin->plane, client_id, bytes, resume, close);
}

static void on_opened(void *context, uint64_t client_id, const char *user, const char *database,
                      enum console_level level, const char *from)
{
    struct admin *admin = context;
    console_opened(admin->console, client_id, user, database, level, from);
}

static void on_input(void *context, uint64_t client_id, const uint8_t *bytes, size_t length)
{
    struct admin *admin = context;
    console_input(admin->console, client_id, bytes, length);
}

static void on_cancelled(void *context, uint64_t client_id)
{
    struct admin *admin = context;
    console_cancelled(admin->console, client_id);
}

static void on_closed(void *context, uint64_t client_id)
{
    struct admin *admin = context;
    console_closed(admin->console, client_id);
}

static void on_pools_changed(void *context)
{
    struct admin *admin = context;
    if (admin->plane)
        waits_look(admin);
}

static void on_idle(void *context)
{
    struct admin *admin = context;
    admin->callbacks.idle(admin->callbacks.context);
}

struct admin *admin_new(const struct admin_callbacks *callbacks)
{
    struct admin *admin = memory_new(sizeof *admin);
    struct console_hooks hooks = {
        .context = admin, .run = on_run, .record = on_record, .reply = on_reply};
    admin->callbacks = *callbacks;
    admin->console = console_new(&hooks);
    admin->stats = stats_new(clock_now_us());
    list_init(&admin->waits);
    list_init(&admin->checks);
    list_init(&admin->steerings);
    list_init(&admin->proceedings);
    return admin;
}

struct plane_hooks admin_hooks(struct admin *admin)
{
    return (struct plane_hooks){
        .context = admin,
        .console_opened = on_opened,
        .console_input = on_input,
        .console_cancelled = on_cancelled,
        .console_closed = on_closed,
        .pools_changed = on_pools_changed,
        .idle = on_idle,
    };
}

/* ---- timers ---- */

static void look_at_pool(struct pool *pool, void *argument)
{
    struct admin *admin = argument;
    struct stats_values values;
    stats_of_pool(pool, plane_worker_count(admin->plane), &values);
    struct effective *effective = plane_pool_effective(pool);
    char *name = database_name(pool_database(pool), pool_environment(pool));
    stats_see(admin->stats, pool_id(pool), name, !effective->fallback, &values);
    free(name);
    effective_unref(effective);
}

void admin_look_at_stats(struct admin *admin)
{
    stats_begin(admin->stats);
    registry_each(plane_registry(admin->plane), look_at_pool, admin);
    stats_end(admin->stats);
}

static void log_stats(struct admin *admin, uint64_t now_us)
{
    struct stats_values totals, averages;
    stats_sum(admin->stats, now_us, &totals, &averages);
    const uint64_t *of = averages.of;
    log_info(
        "stats: %" PRIu64 " xacts/s, %" PRIu64 " queries/s, %" PRIu64 " client parses/s, %" PRIu64
        " server parses/s, %" PRIu64 " binds/s, in %" PRIu64 " B/s, out %" PRIu64
        " B/s, xact %" PRIu64 " us, query %" PRIu64 " us, wait %" PRIu64 " us",
        of[METRIC_xact_count], of[METRIC_query_count], of[METRIC_client_parse_count],
        of[METRIC_server_parse_count], of[METRIC_bind_count], of[METRIC_bytes_received],
        of[METRIC_bytes_sent], of[METRIC_xact_time], of[METRIC_query_time], of[METRIC_wait_time]);
}

/* To the end of the period that has begun, whatever its length is by now: reloads do not put it off. */
static void set_period(struct admin *admin)
{
    uint64_t period_us = snapshot_globals(plane_snapshot(admin->plane))->stats_period_us;
    timer_set(plane_control(admin->plane), &admin->period, admin->period_began_us + period_us);
}

static void begin_period(struct admin *admin)
{
    admin->period_began_us = loop_now_us(plane_control(admin->plane));
    set_period(admin);
}

static void on_period(struct loop *loop, struct timer *timer)
{
    struct admin *admin = list_entry(timer, struct admin, period);
    uint64_t now_us = loop_now_us(loop);
    admin_look_at_stats(admin);
    stats_tick(admin->stats, now_us);
    if (snapshot_globals(plane_snapshot(admin->plane))->log_stats)
        log_stats(admin, now_us);
    begin_period(admin);
}

/* What a pool counted is taken over before it goes. */
static bool may_forget(struct pool *pool, bool act, void *argument)
{
    if (!plane_forget_pool(pool, act))
        return false;
    if (act)
        look_at_pool(pool, argument);
    return true;
}

static bool may_forget_fallback(struct pool *pool, bool act, void *argument)
{
    if (!act) /* fallbacks do not change while nobody can find them */
        return may_forget(pool, act, argument);
    struct effective *effective = plane_pool_effective(pool);
    bool fallback = effective->fallback;
    effective_unref(effective);
    return fallback && may_forget(pool, act, argument);
}

static void on_upkeep(struct loop *loop, struct timer *timer)
{
    struct admin *admin = list_entry(timer, struct admin, upkeep);
    struct registry *registry = plane_registry(admin->plane);
    const struct settings *settings = snapshot_globals(plane_snapshot(admin->plane));
    uint64_t now_us = loop_now_us(loop);
    size_t gone =
        registry_sweep(registry, now_us, settings->pool_idle_timeout_us, may_forget, admin) +
        registry_sweep(registry, now_us, settings->autodb_idle_timeout_us, may_forget_fallback,
                       admin);
    if (gone > 0)
        log_debug("forgot %zu idle pools", gone);
    timer_set(loop, &admin->upkeep, now_us + UPKEEP_US);
}

static void on_watch(struct loop *loop, struct timer *timer)
{
    struct admin *admin = list_entry(timer, struct admin, watch);
    waits_look(admin);
    timer_set(loop, &admin->watch, loop_now_us(loop) + WATCH_US);
}

void admin_start(struct admin *admin, struct plane *plane, struct monitor *monitor,
                 struct failover *failover, struct procedures *procedures)
{
    struct loop *loop = plane_control(plane);
    admin->plane = plane;
    admin->monitor = monitor;
    admin->failover = failover;
    admin->procedures = procedures;
    admin->started = snapshot_ref(plane_snapshot(plane));
    admin->period.fire = on_period;
    admin->upkeep.fire = on_upkeep;
    admin->watch.fire = on_watch;
    timer_set(loop, &admin->upkeep, loop_now_us(loop) + UPKEEP_US);
    timer_set(loop, &admin->watch, loop_now_us(loop) + WATCH_US);
    begin_period(admin);
    certificates_watch(admin);
}

void admin_reloaded(struct admin *admin)
{
    set_period(admin);
}

bool admin_is_busy(const struct admin *admin)
{
    return admin->gathers > 0;
}

void admin_stop(struct admin *admin)
{
    struct loop *loop = plane_control(admin->plane);
    admin->stopping = true;
    waits_end(admin);
    checks_end(admin);
    steerings_end(admin);
    proceedings_end(admin);
    timer_detach(loop, &admin->period);
    timer_detach(loop, &admin->upkeep);
    timer_detach(loop, &admin->watch);
    timer_detach(loop, &admin->certificates);
    admin->plane = NULL;
}

void admin_free(struct admin *admin)
{
    check(admin->gathers == 0);
    console_free(admin->console);
    stats_free(admin->stats);
    snapshot_unref(admin->started);
    free(admin);
}

/* ---- everything at once, also for signals ---- */

bool admin_pause_all(struct admin *admin)
{
    struct registry *registry = plane_registry(admin->plane);
    if (registry_is_paused(registry, NULL, NULL))
        return false;
    registry_pause(registry, NULL, NULL, true, loop_now_us(plane_control(admin->plane)));
    return true;
}

static void find_paused(struct effective *effective, void *argument)
{
    struct {
        struct registry *registry;
        bool found;
    } *search = argument;
    const char *environment = effective->environment ? effective->environment->name : NULL;
    search->found =
        search->found || registry_is_paused(search->registry, effective->database, environment);
}

bool admin_resume_all(struct admin *admin)
{
    struct {
        struct registry *registry;
        bool found;
    } search = {.registry = plane_registry(admin->plane)};
    search.found = registry_is_paused(search.registry, NULL, NULL);
    databases_each(admin, find_paused, &search);
    if (!search.found)
        return false;
    registry_pause(search.registry, NULL, NULL, false, loop_now_us(plane_control(admin->plane)));
    return true;
}
