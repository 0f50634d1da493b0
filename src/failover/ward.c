/*
 * ward.c: one environment in our care, and what is remembered of its hosts.
 *
 * A ward is made for each environment that the configuration names with hosts, or that the state
 * file remembers; it stays while the process lives, so that fences outlast a line that is commented
 * out for an hour. What the monitor says is taken over at each look, as sightings for decide.c.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/report.h"

struct ward *ward_find(const struct failover *failover, const char *environment)
{
    struct ward *ward;
    HASH_FIND_STR(failover->wards, environment, ward);
    return ward;
}

static void on_task(struct loop_task *task)
{
    ward_look(list_entry(task, struct ward, task));
}

struct ward *ward_get(struct failover *failover, const char *environment)
{
    struct ward *ward = ward_find(failover, environment);
    if (ward)
        return ward;
    ward = memory_new(sizeof *ward);
    ward->failover = failover;
    ward->name = text_copy(environment);
    ward->situation = situation_new(environment);
    ward->task.run = on_task;
    list_init(&ward->hosts);
    HASH_ADD_KEYPTR(hh, failover->wards, ward->name, strlen(ward->name), ward);
    return ward;
}

static void ward_host_free(struct ward *ward, struct ward_host *host)
{
    list_remove(&ward->hosts, &host->node);
    free(host->label);
    free(host->name);
    free(host->writer_address);
    free(host->address);
    free(host);
}

/* It must be in no table any more. */
void ward_free(struct ward *ward)
{
    while (!list_is_empty(&ward->hosts))
        ward_host_free(ward, list_entry(list_first(&ward->hosts), struct ward_host, node));
    alarms_fini(&ward->alarms);
    episode_free(ward->episode);
    situation_free(ward->situation);
    free(ward->refusal);
    free(ward->name);
    free(ward);
}

struct ward_host *ward_host_find(const struct ward *ward, const char *label)
{
    list_for_each (node, &ward->hosts) {
        struct ward_host *host = list_entry(node, struct ward_host, node);
        if (text_equal(host->label, label))
            return host;
    }
    return NULL;
}

const struct settings *ward_settings(const struct ward *ward)
{
    const struct snapshot *snapshot = ward->failover->snapshot;
    return snapshot_environment_settings(snapshot, snapshot_find_environment(snapshot, ward->name));
}

void ward_look_later(struct ward *ward)
{
    if (ward->failover->is_started && !ward->failover->is_stopped)
        loop_defer(ward->failover->loop, &ward->task);
}

/* ---- from reports to sightings ---- */

static enum sight sight_of(const struct host_report *report, bool is_asked)
{
    if (!is_asked)
        return SIGHT_BLIND;
    if (!report->probed_us)
        return SIGHT_UNASKED;
    /* The TLS policy of probes is that of all connections: a host that does not meet it gets no
     * client either, and clients are told so at once rather than held. */
    if (report->error == PROBE_TLS)
        return SIGHT_BLIND;
    if (report->health == HEALTH_CRITICAL || report->starting)
        return SIGHT_DOWN;
    if (report->blind)
        return SIGHT_BLIND;
    if (!report->answered_us || report->hearsay)
        return SIGHT_DOWN; /* asked, but nothing good was heard of it so far */
    switch (report->role) {
    case ROLE_PRIMARY:
        return SIGHT_WRITER;
    case ROLE_STANDBY:
    case ROLE_ORPHANED:
        return SIGHT_STANDBY;
    case ROLE_UNKNOWN:
        break;
    }
    return SIGHT_DOWN;
}

/* One that could not be read, and now can, is neither until it is healthy: down would take from its
 * clients what they had while nothing was known. */
static enum sight rising_from(enum sight before, const struct host_report *report, enum sight now)
{
    bool rises = before == SIGHT_BLIND && now == SIGHT_DOWN && report->error == PROBE_FINE;
    return rises ? SIGHT_BLIND : now;
}

/* The labels that a host may have had before: of its name alone, and of its name at its address. */
#define FORMER_LABELS 2

static void former_labels(const struct ward_host *host, char *labels[FORMER_LABELS])
{
    labels[0] = text_print("%s:%u", host->name, host->port);
    labels[1] = text_print("%s@%s:%u", host->name, host->address ? host->address : "", host->port);
}

static void inherit_fence(struct ward *ward, const struct ward_host *host)
{
    char *labels[FORMER_LABELS];
    former_labels(host, labels);
    for (size_t i = 0; i < FORMER_LABELS; i++) {
        const struct fence *fence = situation_fence(ward->situation, labels[i]);
        if (fence && !text_equal(labels[i], host->label)) {
            char *by = text_copy(fence->by); /* setting one may move the others */
            (void)situation_fence_set(ward->situation, host->label, fence->kind, by,
                                      fence->since_wall_us);
            free(by);
        }
        free(labels[i]);
    }
}

static void drop_inherited_fence(struct ward *ward, const struct ward_host *host)
{
    char *labels[FORMER_LABELS];
    former_labels(host, labels);
    for (size_t i = 0; i < FORMER_LABELS; i++) {
        const struct ward_host *former = ward_host_find(ward, labels[i]);
        if (!former || !former->is_listed)
            (void)situation_fence_clear(ward->situation, labels[i]);
        free(labels[i]);
    }
}

/* A fence is by the name that the configuration gives: it holds also when that name has been split
 * into addresses, for each of them, or is one address again. */
static void carry_fences_over(struct ward *ward)
{
    list_for_each (node, &ward->hosts) {
        const struct ward_host *host = list_entry(node, struct ward_host, node);
        if (host->is_new)
            inherit_fence(ward, host);
    }
    list_for_each (node, &ward->hosts) {
        struct ward_host *host = list_entry(node, struct ward_host, node);
        if (host->is_new)
            drop_inherited_fence(ward, host);
        host->is_new = false;
    }
}

/* A standby that a procedure has promoted is still one in the report of the probe before. */
static void correct(const struct ward_host *host, struct host_report *report)
{
    bool is_older = report->answered_us < host->proven_us + report->latency_us;
    if (!host->proven_us || !is_older || report->error != PROBE_FINE ||
        report->role == ROLE_PRIMARY)
        return;
    report->role = ROLE_PRIMARY;
    report->timeline = host->proven_timeline;
    report->receiver = RECEIVER_NONE;
}

static void take_over(void *argument, const struct host_report *given)
{
    struct ward *ward = argument;
    struct ward_host *host = ward_host_find(ward, given->label);
    struct host_report corrected = *given;
    const struct host_report *report = &corrected;
    if (!host) {
        host = memory_new(sizeof *host);
        host->label = text_copy(report->label);
        host->name = text_copy(report->name);
        host->port = report->port;
        host->is_new = true;
        list_push_back(&ward->hosts, &host->node);
    }
    host->is_listed = true;
    bool is_asked = report->login != PROBE_LOGIN_NONE && ward_settings(ward)->probe_interval_us > 0;
    if (is_asked)
        correct(host, &corrected);
    ward->is_watched = ward->is_watched || is_asked;
    host->sighting = (struct sighting){
        .host = host->label,
        .is_dr = report->is_dr,
        .sight = rising_from(host->sighting.sight, report, sight_of(report, is_asked)),
        .is_fresh = report->bad == 0 && report->error == PROBE_FINE,
        .was_standby =
            !report->hearsay && (report->role == ROLE_STANDBY || report->role == ROLE_ORPHANED),
        .system_identifier = report->system_identifier,
        .timeline = report->timeline,
        .is_streaming = report->receiver == RECEIVER_STREAMING,
        .started_wall_us = report->started_wall_us,
    };
    host->report = *report;
    if (*report->address && !text_equal(host->address, report->address)) {
        free(host->address);
        host->address = text_copy(report->address);
    }
    if (host->sighting.sight == SIGHT_STANDBY && host->sighting.is_fresh &&
        host->sighting.is_streaming && report->timeline > host->streamed_timeline &&
        report->system_identifier == ward->situation->system_identifier)
        host->streamed_timeline = report->timeline;
    host->sighting.streamed_timeline = host->streamed_timeline;
    if (host->sighting.sight == SIGHT_WRITER)
        host->answered_us = report->answered_us;
    else if (host->sighting.sight == SIGHT_STANDBY && host_report_position(report))
        host->standby_lsn = host_report_position(report);
}

void ward_ask(struct ward *ward)
{
    const struct failover_world *world = &ward->failover->world;
    ward->is_watched = false;
    list_for_each (node, &ward->hosts)
        list_entry(node, struct ward_host, node)->is_listed = false;
    world->each_host(world->context, ward->name, take_over, ward);
    carry_fences_over(ward);
    list_for_each_safe (node, &ward->hosts) {
        struct ward_host *host = list_entry(node, struct ward_host, node);
        /* one that may still have connections is kept until they have been closed */
        if (!host->is_listed && !host->may_have_writers && host->closing == 0)
            ward_host_free(ward, host);
    }
}
