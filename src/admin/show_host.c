/*
 * show_host: SHOW HOSTS and SHOW HEALTH: the hosts as the pools use them, and as the probes find
 * them.
 *
 * Hosts of environments come from the monitor, in the order of the file, each with what the data
 * plane knows of it under the same label; then those of PgBouncer-style databases, which are not
 * probed. Control thread.
 */
#include <inttypes.h>
#include <time.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/failover.h"
#include "pgstage/health/monitor.h"

struct listing {
    struct admin *admin;
    struct result *result;
    uint64_t now_us;
};

static void put_known(struct result *result, const char *text)
{
    result_text(result, text && *text ? text : NULL);
}

static void put_number(struct result *result, uint64_t number)
{
    if (number)
        result_uint(result, number);
    else
        result_null(result);
}

static void put_lag(struct result *result, int64_t lag, int64_t unit)
{
    if (lag < 0)
        result_null(result);
    else
        result_int(result, lag / unit);
}

/* A moment of the loop's clock, as people read it. */
static void put_moment(const struct listing *listing, uint64_t moment_us)
{
    time_t seconds = (time_t)((clock_wall_us() - (listing->now_us - moment_us)) / CLOCK_SECOND);
    struct tm tm;
    char text[64];
    if (!moment_us || !localtime_r(&seconds, &tm) ||
        strftime(text, sizeof text, "%F %T %Z", &tm) == 0)
        result_null(listing->result);
    else
        result_text(listing->result, text);
}

static void put_wait(const struct listing *listing, uint64_t moment_us)
{
    if (!moment_us)
        result_null(listing->result);
    else
        result_uint(listing->result,
                    moment_us > listing->now_us ? (moment_us - listing->now_us) / CLOCK_MS : 0);
}

/* ---- SHOW HOSTS ---- */

/* The pools' attempts say "up" or "down" only where no probe does. */
static const char *state_of(const struct host_view *view, const struct host_report *report)
{
    if (!report || report->health == HEALTH_UNKNOWN)
        return view->state;
    return report->health == HEALTH_CRITICAL ? "down" : "up";
}

/* What nobody probes has the breaker that the back-off amounts to. */
static enum breaker breaker_of(const struct host_view *view, const struct host_report *report)
{
    if (report)
        return report->breaker;
    return !view->failures ? BREAKER_CLOSED : view->retry_in_us ? BREAKER_OPEN : BREAKER_HALF_OPEN;
}

static void put_health(const struct listing *listing, const struct host_report *report)
{
    struct result *result = listing->result;
    put_lag(result, report->role == ROLE_PRIMARY ? -1 : report->lag_bytes, 1);
    put_lag(result, report->role == ROLE_PRIMARY ? -1 : report->lag_us, CLOCK_MS);
    put_number(result, report->latency_us);
    put_number(result, report->timeline);
    if (report->system_identifier)
        result_print(result, "%" PRIu64, report->system_identifier);
    else
        result_null(result);
    put_moment(listing, report->health_since_us);
    put_wait(listing, report->next_us);
}

/* Whether it is the accepted primary, or fenced. */
static void put_situation(const struct listing *listing, const struct host_view *view)
{
    const struct situation *situation =
        view->environment && *view->environment
            ? failover_situation(listing->admin->failover, view->environment)
            : NULL;
    const struct fence *fence = situation ? situation_fence(situation, view->label) : NULL;
    result_yes(listing->result, situation && text_equal(situation->accepted, view->label));
    result_text(listing->result, fence ? fence_word(fence->kind) : NULL);
}

static void put_host(const struct listing *listing, const struct host_view *view,
                     const struct host_report *report)
{
    struct result *result = listing->result;
    const char *error = report && *report->error_text ? report->error_text : view->last_error;
    result_begin(result);
    put_known(result, view->environment);
    result_text(result, view->name);
    result_text(result, report && *report->address ? report->address : view->address);
    result_int(result, view->port);
    result_text(result, state_of(view, report));
    result_uint(result, view->connections);
    result_uint(result, view->failures);
    put_known(result, error);
    result_uint(result, view->retry_in_us / CLOCK_MS);
    result_text(result, role_word(report ? report->role : ROLE_UNKNOWN));
    result_text(result, health_word(report ? report->health : HEALTH_UNKNOWN));
    result_text(result, breaker_word(breaker_of(view, report)));
    if (report) {
        put_health(listing, report);
    } else {
        for (int i = 0; i < 7; i++)
            result_null(result);
    }
    result_text(result, view->label);
    result_yes(result, report && report->is_dr);
    put_situation(listing, view);
    result_end(result);
}

static void put_monitored(void *argument, const struct host_report *report)
{
    const struct listing *listing = argument;
    struct host_view view;
    if (plane_view_host(listing->admin->plane, report->environment, report->label, &view))
        put_host(listing, &view, report);
}

static void put_unmonitored(void *argument, const struct host_view *view)
{
    const struct listing *listing = argument;
    if (!view->is_split && !monitor_find(listing->admin->monitor, view->environment, view->label))
        put_host(listing, view, NULL);
}

void command_show_hosts(struct admin *admin, struct console_job *job)
{
    struct listing listing = {admin, &job->result, loop_now_us(plane_control(admin->plane))};
    monitor_each(admin->monitor, NULL, put_monitored, &listing);
    plane_each_host(admin->plane, put_unmonitored, &listing);
    console_done(job);
}

/* ---- SHOW HEALTH ---- */

static void put_lsn(struct result *result, uint64_t lsn)
{
    char text[20];
    put_known(result, lsn_text(lsn, text));
}

static void put_replication(struct result *result, const struct host_report *report)
{
    bool standby = report->role == ROLE_STANDBY || report->role == ROLE_ORPHANED;
    put_lsn(result, report->lsn_flushed);
    put_lsn(result, report->lsn_received);
    put_lsn(result, report->lsn_replayed);
    put_lag(result, standby ? report->lag_bytes : -1, 1);
    put_lag(result, standby ? report->lag_us : -1, CLOCK_MS);
    put_known(result, standby && report->answered_us ? receiver_word(report->receiver) : NULL);
    put_lag(result, standby ? report->receiver_silent_us : -1, CLOCK_MS);
    put_number(result, report->wal_receiver_timeout_us / CLOCK_MS);
    put_known(result, report->upstream);
    put_known(result, standby ? report->replica_name : NULL);
    put_known(result, sync_word(report->sync));
    put_known(result, report->sync_names);
}

static void put_report(void *argument, const struct host_report *report)
{
    const struct listing *listing = argument;
    struct result *result = listing->result;
    result_begin(result);
    result_text(result, report->environment);
    result_text(result, report->label);
    result_text(result, health_word(report->health));
    result_text(result, role_word(report->role));
    result_text(result, breaker_word(report->breaker));
    put_moment(listing, report->health_since_us);
    put_moment(listing, report->role_since_us);
    result_text(result, probe_login_word(report->login));
    result_uint(result, report->good);
    result_uint(result, report->bad);
    put_number(result, report->latency_us);
    put_moment(listing, report->probed_us);
    put_wait(listing, report->next_us);
    put_known(result, report->error == PROBE_FINE ? NULL : probe_error_word(report->error));
    put_known(result, report->sqlstate);
    put_known(result, report->error_text);
    put_number(result, (uint64_t)report->server_version);
    put_number(result, report->timeline);
    if (report->system_identifier)
        result_print(result, "%" PRIu64, report->system_identifier);
    else
        result_null(result);
    put_replication(result, report);
    result_end(result);
}

void command_show_health(struct admin *admin, struct console_job *job)
{
    struct listing listing = {admin, &job->result, loop_now_us(plane_control(admin->plane))};
    monitor_each(admin->monitor, NULL, put_report, &listing);
    console_done(job);
}
