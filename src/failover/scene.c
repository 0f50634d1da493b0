/*
 * scene.c: reports and memory to facts.
 *
 * Whether a standby was streaming when the primary was last seen cannot be read from the latest
 * reports alone: its receiver ends with the primary. So the moment at which it was first seen not
 * to stream is remembered, and compared with the primary's last sign of life. Some seconds are
 * allowed between the two, because backends of a dead postmaster go on answering probes for a
 * while; what those still write, the lag guard counts.
 */
#include "scene.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"

#define STREAM_SLACK_US (15 * CLOCK_SECOND)

/* ---- memory ---- */

static struct memory_host *remember(struct memory *memory, const char *host)
{
    struct memory_host *one = memory->first;
    while (one && !text_equal(one->host, host))
        one = one->next;
    if (!one) {
        one = memory_new(sizeof *one);
        one->host = text_copy(host);
        one->next = memory->first;
        memory->first = one;
    }
    return one;
}

static const struct memory_host *recall(const struct memory *memory, const char *host)
{
    const struct memory_host *one = memory->first;
    while (one && !text_equal(one->host, host))
        one = one->next;
    return one;
}

struct refreshing {
    struct memory *memory;
    uint64_t now_us;
};

static void refresh(void *argument, const struct host_report *report)
{
    struct refreshing *refreshing = argument;
    struct memory_host *one = remember(refreshing->memory, report->label);
    bool streams = report->role == ROLE_STANDBY && report->receiver == RECEIVER_STREAMING;
    if (one->streams && !streams)
        one->lost_us = refreshing->now_us;
    one->streams = streams;
    one->is_there = true;
}

/* Names whose addresses change would fill it. */
static void forget_gone(struct memory *memory)
{
    for (struct memory_host **place = &memory->first, *one; (one = *place);) {
        if (one->is_there) {
            place = &one->next;
            continue;
        }
        *place = one->next;
        free(one->host);
        free(one);
    }
}

void memory_refresh(struct memory *memory, struct monitor *monitor, const char *environment,
                    uint64_t now_us)
{
    struct refreshing refreshing = {memory, now_us};
    for (struct memory_host *one = memory->first; one; one = one->next)
        one->is_there = false;
    monitor_each(monitor, environment, refresh, &refreshing);
    forget_gone(memory);
}

void memory_fini(struct memory *memory)
{
    while (memory->first) {
        struct memory_host *one = memory->first;
        memory->first = one->next;
        free(one->host);
        free(one);
    }
}

/* ---- the scene ---- */

static void collect(void *argument, const struct host_report *report)
{
    struct scene *scene = argument;
    scene->reports = memory_resize(scene->reports, scene->count + 1, sizeof *scene->reports);
    scene->reports[scene->count++] = *report;
}

size_t scene_find(const struct scene *scene, const char *host)
{
    for (size_t i = 0; i < scene->count; i++) {
        if (text_equal(scene->reports[i].label, host))
            return i;
    }
    return GUARD_NO_HOST;
}

/* Whom "host:port" means, by name or address. */
static size_t find_upstream(const struct scene *scene, const char *upstream)
{
    for (size_t i = 0; *upstream && i < scene->count; i++) {
        const struct host_report *report = &scene->reports[i];
        char *by_name = text_print("%s:%u", report->name, report->port);
        char *by_address = text_print("%s:%u", report->address, report->port);
        bool found = text_equal_nocase(by_name, upstream) || text_equal(by_address, upstream);
        free(by_name);
        free(by_address);
        if (found)
            return i;
    }
    return GUARD_NO_HOST;
}

static enum guard_role role_of(const struct host_report *report)
{
    switch (report->role) {
    case ROLE_PRIMARY:
        return GUARD_ROLE_WRITER;
    case ROLE_STANDBY:
    case ROLE_ORPHANED:
        return GUARD_ROLE_STANDBY;
    case ROLE_UNKNOWN:
        break;
    }
    return GUARD_ROLE_UNKNOWN;
}

static enum guard_receiver receiver_of(const struct host_report *report)
{
    switch (report->receiver) {
    case RECEIVER_NONE:
        return GUARD_RECEIVER_NONE;
    case RECEIVER_STREAMING:
        return GUARD_RECEIVER_STREAMS;
    case RECEIVER_OTHER:
    case RECEIVER_UNKNOWN:
        break;
    }
    return GUARD_RECEIVER_WAITS;
}

static bool has_streamed(const struct memory *memory, const struct host_report *report,
                         const struct host_report *primary)
{
    const struct memory_host *one = recall(memory, report->label);
    if (report->receiver == RECEIVER_STREAMING)
        return true;
    return one && one->lost_us &&
           (!primary || one->lost_us + STREAM_SLACK_US >= primary->answered_us);
}

/* What the receiver's silence is by now. */
static uint64_t silence_of(const struct host_report *report, uint64_t now_us)
{
    uint64_t since =
        now_us > report->position_us && report->position_us ? now_us - report->position_us : 0;
    return report->receiver_silent_us < 0 ? 0 : (uint64_t)report->receiver_silent_us + since;
}

static void fill_host(struct scene *scene, size_t index, const struct memory *memory,
                      const struct situation *situation, uint64_t now_us)
{
    const struct host_report *report = &scene->reports[index];
    size_t primary = scene->guarded.primary;
    scene->hosts[index] = (struct guard_host){
        .host = report->label,
        .is_dr = report->is_dr,
        .is_fenced = situation_fence(situation, report->label) != NULL,
        .answers = report->error == PROBE_FINE && report->bad == 0 && report->answered_us != 0 &&
                   report->health != HEALTH_CRITICAL,
        .role = role_of(report),
        .system_identifier = report->system_identifier,
        .timeline = report->timeline,
        .received_lsn = report->lsn_received,
        .replayed_lsn = report->lsn_replayed,
        .receiver = receiver_of(report),
        .silent_us = silence_of(report, now_us),
        .receiver_timeout_us = report->wal_receiver_timeout_us,
        .has_streamed = has_streamed(memory, report,
                                     primary == GUARD_NO_HOST ? NULL : &scene->reports[primary]),
        .upstream = find_upstream(scene, report->upstream),
        .in_sync_set = report->sync == SYNC_SYNC || report->sync == SYNC_QUORUM,
        .lag_us = report->lag_us,
    };
}

static void fill_primary(struct scene *scene, uint64_t now_us)
{
    struct guard_case *guarded = &scene->guarded;
    const struct host_report *primary = &scene->reports[guarded->primary];
    if (primary->health == HEALTH_CRITICAL)
        guarded->critical_us =
            now_us > primary->health_since_us ? now_us - primary->health_since_us : 1;
    guarded->primary_lsn = primary->lsn_flushed;
    guarded->primary_seen_us =
        now_us > primary->position_us && primary->position_us ? now_us - primary->position_us : 0;
    guarded->sync_in_force = *primary->sync_names != '\0';
}

/* By the wall clock only when it was another process, for that clock may be set. */
static uint64_t since_automatic(const struct situation *situation, uint64_t now_us)
{
    uint64_t wall_us = clock_wall_us(), last_us = situation->last_automatic_wall_us;
    if (situation->last_automatic_us)
        return now_us - situation->last_automatic_us;
    if (!last_us)
        return UINT64_MAX;
    return wall_us > last_us ? wall_us - last_us : 0;
}

void scene_init(struct scene *scene, struct monitor *monitor, const struct memory *memory,
                const struct environment_config *environment, const struct settings *settings,
                const struct situation *situation, uint64_t now_us)
{
    *scene = (struct scene){0};
    monitor_each(monitor, environment->name, collect, scene);
    scene->hosts = memory_new((scene->count + 1) * sizeof *scene->hosts);
    scene->guarded = (struct guard_case){
        .promotes = settings->failover_mode == FAILOVER_PROMOTE,
        .has_user = settings->failover_user != NULL,
        .production = environment->production_class,
        .hosts = scene->hosts,
        .count = scene->count,
        .primary = scene_find(scene, situation->accepted),
        .wanted = GUARD_NO_HOST,
        .system_identifier = situation->system_identifier,
        .timeline = situation->timeline,
        .since_automatic_us = since_automatic(situation, now_us),
        .in_maintenance = situation_in_maintenance(situation, now_us),
        .has_fence = settings->fence_command != NULL,
        .allow_unfenced = settings->allow_unfenced_promotion,
        .has_demote = settings->demote_command != NULL,
        .has_undemote = settings->undemote_command != NULL,
        .has_switchover = settings->switchover_command != NULL,
        .delay_us = settings->failover_delay_us,
        .min_interval_us = settings->failover_min_interval_us,
        .max_lag_bytes = settings->max_failover_lag_bytes,
        .rpo_limit_us = settings->rpo_limit_us,
    };
    if (scene->guarded.primary != GUARD_NO_HOST)
        fill_primary(scene, now_us);
    for (size_t i = 0; i < scene->count; i++)
        fill_host(scene, i, memory, situation, now_us);
}

void scene_fini(struct scene *scene)
{
    free(scene->hosts);
    free(scene->reports);
}
