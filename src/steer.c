/*
 * steer.c: the wires between monitor, failover and plane.
 *
 * What the plane is told of a host comes from the failover engine alone, so that "takes writes" is
 * said by one place; the monitor's names and addresses go to the plane directly. Control thread.
 */
#include "steer.h"

#include "pgstage/failover/failover.h"
#include "pgstage/failover/procedure.h"
#include "pgstage/health/monitor.h"
#include "pgstage/session/audit.h"
#include "pgstage/session/plane.h"

/* ---- what the monitor and the plane say ---- */

static void on_addresses(void *context, const char *environment, const struct host_config *host,
                         const char *const *addresses, size_t count)
{
    struct steer *steer = context;
    plane_set_addresses(steer->plane, environment, host, addresses, count);
}

static void know_host(struct steer *steer, const struct host_report *report, bool is_gone)
{
    struct known_host known = {
        .environment = report->environment,
        .label = report->label,
        .name = report->name,
        .address = report->address,
        .port = report->port,
        .is_local = report->is_local,
        .system_identifier = report->system_identifier,
        .is_gone = is_gone,
    };
    plane_know_host(steer->plane, &known);
}

static void on_changed(void *context, const struct host_report *report, unsigned what)
{
    struct steer *steer = context;
    if (what & (MONITOR_IDENTITY | MONITOR_NEW | MONITOR_GONE))
        know_host(steer, report, what & MONITOR_GONE);
    failover_changed(steer->failover, report->environment);
}

static void on_probed(void *context, const struct host_report *report)
{
    struct steer *steer = context;
    failover_changed(steer->failover, report->environment);
}

static void on_heard(void *context, const char *environment, const char *host,
                     enum host_evidence evidence)
{
    static const enum monitor_evidence words[] = {
        [HOST_TROUBLE] = EVIDENCE_TROUBLE,
        [HOST_PRIMARY] = EVIDENCE_PRIMARY,
        [HOST_STANDBY] = EVIDENCE_STANDBY,
    };
    struct steer *steer = context;
    monitor_note(steer->monitor, environment, host, words[evidence]);
}

/* ---- what the failover engine does ---- */

static void hold(void *context, const char *environment)
{
    struct steer *steer = context;
    plane_hold(steer->plane, environment, GATE_WRITERS);
}

static void release(void *context, const char *environment)
{
    struct steer *steer = context;
    plane_release(steer->plane, environment);
}

static void count(void *context, const char *environment, struct failover_counts *counts)
{
    struct steer *steer = context;
    struct gate_counts gate;
    plane_gate_counts(steer->plane, environment, &gate);
    counts->held = (int64_t)gate.queued;
    counts->errored = (int64_t)gate.errored;
}

static void close_host(void *context, const char *environment, const char *host, const char *detail,
                       void (*done)(void *argument), void *argument)
{
    struct steer *steer = context;
    plane_close_host(steer->plane, environment, host, REASON_SERVER_FENCED, detail, done, argument);
}

static void set_standing(void *context, const char *environment, const char *host,
                         const struct standing *standing)
{
    struct steer *steer = context;
    plane_set_standing(steer->plane, environment, host, standing);
}

static void each_host(void *context, const char *environment,
                      void (*each)(void *argument, const struct host_report *report),
                      void *argument)
{
    struct steer *steer = context;
    monitor_each(steer->monitor, environment, each, argument);
}

static void put(struct audit_record *record, const char *name, const char *value)
{
    if (value)
        audit_record_text(record, name, value);
}

static void record_decision(void *context, const struct failover_record *given)
{
    struct steer *steer = context;
    struct audit *audit = plane_audit(steer->plane);
    const struct episode *episode = given->episode;
    if (!audit_is_on(audit))
        return;
    struct audit_record *record = audit_record_new("failover");
    put(record, "what", given->what);
    put(record, "environment", given->environment);
    put(record, "host", given->host);
    put(record, "from", given->from);
    put(record, "type", given->type);
    put(record, "kind", given->kind);
    put(record, "reason", given->reason);
    put(record, "result", given->result);
    if (given->timeline > 0)
        audit_record_number(record, "timeline", given->timeline);
    if (episode) {
        audit_record_number(record, "id", (int64_t)episode->id);
        audit_record_number(record, "total_ms", episode->total_ms);
        audit_record_number(record, "lag_bytes", episode->lag_bytes);
    }
    audit_write(audit, record);
}

/* ---- beginning and end ---- */

bool steer_start(struct steer *steer, struct loop *loop, struct plane *plane,
                 struct snapshot *snapshot, char *problem, size_t size)
{
    struct monitor_hooks hooks = {
        .context = steer,
        .changed = on_changed,
        .probed = on_probed,
        .addresses = on_addresses,
    };
    struct failover_world world = {
        .context = steer,
        .hold = hold,
        .release = release,
        .counts = count,
        .close_host = close_host,
        .set_standing = set_standing,
        .each_host = each_host,
        .record = record_decision,
    };
    steer->plane = plane;
    steer->failover = failover_new(loop, snapshot, &world, problem, size);
    if (!steer->failover)
        return false;
    steer->monitor = monitor_new(loop, plane_resolver(plane), &hooks);
    plane_listen_to_hosts(plane, on_heard, steer);
    steer->procedures = procedures_new(steer->failover, plane, steer->monitor);
    monitor_load(steer->monitor, snapshot);
    failover_start(steer->failover);
    return true;
}

void steer_reload(struct steer *steer, struct snapshot *snapshot)
{
    monitor_load(steer->monitor, snapshot);
    failover_reloaded(steer->failover, snapshot);
}

void steer_stop(struct steer *steer)
{
    if (steer->procedures)
        procedures_stop(steer->procedures);
    if (steer->failover)
        failover_stop(steer->failover);
}

void steer_end(struct steer *steer)
{
    if (steer->monitor)
        monitor_free(steer->monitor);
    steer->monitor = NULL;
}

void steer_fini(struct steer *steer)
{
    failover_free(steer->failover);
    steer->failover = NULL;
    procedures_free(steer->procedures);
    steer->procedures = NULL;
}
