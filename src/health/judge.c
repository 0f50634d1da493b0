/*
 * judge: what a finding does to a host's report.
 *
 *   finding           is        health                                breaker
 *   refused, timeout  dead      critical after `fall` in a row        closed ─► open
 *   dns, tls, lost …
 *   no descriptor     nothing     as before                           as before
 *   left here
 *   28P01, 3D000,     alive,    warning; the role is unknown after    as for alive
 *   53300, 57P03      blind     `fall` in a row: nobody can look
 *   an answer         alive     healthy or warning; from critical     open ─► half_open ─► closed
 *                               only after `rise` in a row
 *
 * Slow and late are judged with rise and fall too, so that a figure around its limit does not
 * flap. A host that is down keeps the role that it had. Pure: no clock, no I/O, no log.
 */
#include "monitor_inside.h"
#include "pgstage/base/text.h"

/* ---- lag ---- */

static bool has_caught_up(const struct facts *facts, const struct judge_primary *primary)
{
    bool drained = facts->lsn_received <= facts->lsn_replayed;

    /* what the primary had a probe ago has had time to come here */
    if (primary->known && facts->lsn_replayed < primary->lsn_earlier)
        return false;
    if (facts->receiver == RECEIVER_STREAMING || facts->receiver == RECEIVER_UNKNOWN)
        return drained;
    /* nothing comes any more: it has all only if the primary is known to have had no more */
    return primary->known && facts->lsn_replayed >= primary->lsn;
}

void judge_lag(struct host_report *report, struct judge_memory *memory, const struct facts *facts,
               const struct judge_primary *primary, uint64_t now_us)
{
    uint64_t position = primary->known ? primary->lsn : 0;

    report->lag_bytes = report->lag_us = -1;
    if (!facts->in_recovery)
        return;
    if (facts->lsn_received > position)
        position = facts->lsn_received;
    if (position && facts->lsn_replayed)
        report->lag_bytes =
            position > facts->lsn_replayed ? (int64_t)(position - facts->lsn_replayed) : 0;
    if (has_caught_up(facts, primary)) {
        memory->caught_up_us = now_us;
        report->lag_us = 0;
        return;
    }
    report->lag_us = facts->replay_age_us;
    /* it cannot be later than since it was last seen to have everything; the age of the last
     * transaction says more on an idle cluster */
    if (memory->caught_up_us &&
        (report->lag_us < 0 || (uint64_t)report->lag_us > now_us - memory->caught_up_us))
        report->lag_us = (int64_t)(now_us - memory->caught_up_us);
}

static void count(unsigned *these, unsigned *others)
{
    (*these)++;
    *others = 0;
}

static unsigned judge_max_lag(struct host_report *report, struct judge_memory *memory,
                              const struct judge_limits *limits)
{
    bool late = limits->max_lag_us && report->role != ROLE_PRIMARY &&
                (report->lag_us < 0 || (uint64_t)report->lag_us > limits->max_lag_us);
    bool before = report->lag_over, first = memory->late == 0 && memory->in_time == 0;

    if (late)
        count(&memory->late, &memory->in_time);
    else
        count(&memory->in_time, &memory->late);
    if (late && (memory->late >= limits->fall || first))
        report->lag_over = true;
    else if (!late && (memory->in_time >= limits->rise || !limits->max_lag_us))
        report->lag_over = false;
    return report->lag_over != before ? MONITOR_LAG_OVER : 0;
}

/* ---- role and identity ---- */

/* A standby without a receiver, and nothing comes from an archive either. */
static bool follows_nobody(struct judge_memory *memory, const struct facts *facts, unsigned fall)
{
    bool moves = memory->replayed_before && facts->lsn_replayed > memory->replayed_before;

    memory->replayed_before = facts->lsn_replayed;
    memory->alone = facts->receiver == RECEIVER_NONE && !moves ? memory->alone + 1 : 0;
    return memory->alone >= fall;
}

static enum role role_of(const struct host_report *report, struct judge_memory *memory,
                         const struct facts *facts, const struct judge_limits *limits)
{
    if (!facts->in_recovery) {
        memory->alone = 0;
        return ROLE_PRIMARY;
    }
    if (follows_nobody(memory, facts, limits->fall))
        return ROLE_ORPHANED;
    /* not yet proved, nor disproved */
    return memory->alone && report->role == ROLE_ORPHANED ? ROLE_ORPHANED : ROLE_STANDBY;
}

static unsigned set_role(struct host_report *report, enum role role, bool hearsay, uint64_t now_us)
{
    bool same = report->role == role && report->hearsay == hearsay;

    report->hearsay = hearsay;
    if (report->role != role)
        report->role_since_us = now_us;
    report->role = role;
    return same ? 0 : MONITOR_ROLE;
}

static unsigned take_identity(struct host_report *report, const struct facts *facts)
{
    unsigned what = 0;

    if (facts->system_identifier && report->system_identifier != facts->system_identifier) {
        report->system_identifier = facts->system_identifier;
        report->timeline = 0;
        what = MONITOR_IDENTITY;
    }
    if (facts->timeline && report->timeline != facts->timeline &&
        !(facts->timeline_lagging && facts->timeline < report->timeline)) {
        report->timeline = facts->timeline;
        what = MONITOR_IDENTITY;
    }
    report->timeline_lagging = facts->timeline_lagging;
    report->server_version = facts->server_version;
    report->started_wall_us = facts->started_wall_us;
    report->read_only = facts->read_only;
    return what;
}

static unsigned take_receiver(struct host_report *report, const struct facts *facts)
{
    bool same = report->receiver == facts->receiver;

    report->receiver = facts->receiver;
    report->receiver_silent_us = facts->receiver_silent_us;
    report->wal_receiver_timeout_us = facts->wal_receiver_timeout_us;
    return same ? 0 : MONITOR_RECEIVER;
}

static void take_positions(struct host_report *report, const struct facts *facts, uint64_t now_us)
{
    report->lsn_written = facts->lsn_written;
    report->lsn_flushed = facts->lsn_flushed;
    report->lsn_received = facts->lsn_received;
    report->lsn_replayed = facts->lsn_replayed;
    report->position_us = report->answered_us = now_us;
    report->sync_visible = facts->sees_stats && !facts->in_recovery;
    report->replica_count = facts->replica_count;
}

static unsigned take_facts(struct host_report *report, struct judge_memory *memory,
                           const struct facts *facts, const struct judge_limits *limits,
                           const struct judge_primary *primary, uint64_t now_us)
{
    unsigned what = take_identity(report, facts) | take_receiver(report, facts);

    judge_lag(report, memory, facts, primary, now_us);
    what |= set_role(report, role_of(report, memory, facts, limits), false, now_us);
    take_positions(report, facts, now_us);
    return what | judge_max_lag(report, memory, limits);
}

/* ---- health and breaker ---- */

static unsigned set_health(struct host_report *report, enum health health, uint64_t now_us)
{
    if (report->health == health)
        return 0;
    report->health = health;
    report->health_since_us = now_us;
    return MONITOR_HEALTH;
}

static unsigned set_breaker(struct host_report *report, enum breaker breaker, uint64_t now_us)
{
    if (report->breaker == breaker)
        return 0;
    report->breaker = breaker;
    report->breaker_since_us = now_us;
    return MONITOR_BREAKER;
}

static unsigned judge_dead(struct host_report *report, struct judge_memory *memory,
                           const struct judge_limits *limits, uint64_t now_us)
{
    unsigned what = 0;

    count(&report->bad, &report->good);
    memory->well = 0;
    if (report->bad >= limits->fall || report->health == HEALTH_CRITICAL) {
        what = set_health(report, HEALTH_CRITICAL, now_us);
        what |= set_breaker(report, BREAKER_OPEN, now_us);
    }
    return what;
}

static bool is_unwell(const struct host_report *report, const struct finding *finding,
                      const struct judge_limits *limits)
{
    bool late = limits->lag_warning_us && finding->facts && finding->facts->in_recovery &&
                report->lag_us >= 0 && (uint64_t)report->lag_us > limits->lag_warning_us;

    return late || (limits->slow_us && finding->duration_us > limits->slow_us);
}

static unsigned judge_alive(struct host_report *report, struct judge_memory *memory,
                            const struct finding *finding, const struct judge_limits *limits,
                            uint64_t now_us)
{
    bool blind = report->blind || report->starting, first = report->health == HEALTH_UNKNOWN;
    enum health health = report->health;
    unsigned what = 0;

    count(&report->good, &report->bad);
    if (is_unwell(report, finding, limits))
        count(&memory->unwell, &memory->well);
    else
        count(&memory->well, &memory->unwell);
    if (health == HEALTH_CRITICAL && report->good < limits->rise)
        return set_breaker(report, BREAKER_HALF_OPEN, now_us);
    what = set_breaker(report, BREAKER_CLOSED, now_us);
    if (blind || memory->unwell >= limits->fall || (first && memory->unwell))
        health = HEALTH_WARNING;
    else if (health != HEALTH_WARNING || memory->well >= limits->rise)
        health = HEALTH_HEALTHY;
    return what | set_health(report, health, now_us);
}

/* Alive, but it lets nobody look inside. */
static unsigned judge_blind(struct host_report *report, struct judge_memory *memory,
                            const struct judge_limits *limits, uint64_t now_us)
{
    report->lag_us = report->lag_bytes = -1;
    if (++memory->closed < limits->fall)
        return 0;
    return set_role(report, ROLE_UNKNOWN, false, now_us);
}

unsigned judge(struct host_report *report, struct judge_memory *memory,
               const struct finding *finding, const struct judge_limits *limits,
               const struct judge_primary *primary, uint64_t now_us)
{
    bool dead = probe_error_is_host(finding->error), fine = finding->error == PROBE_FINE;
    bool starting = finding->error == PROBE_STARTING_UP, blind = !dead && !fine && !starting;
    unsigned what = 0;

    report->error = finding->error;
    (void)text_fit(report->sqlstate, sizeof report->sqlstate, finding->sqlstate);
    report->probed_us = now_us;
    if (finding->error == PROBE_LOCAL)
        return 0;
    if (dead)
        return judge_dead(report, memory, limits, now_us);
    if (report->blind != blind || report->starting != starting)
        what = MONITOR_BLIND;
    report->blind = blind;
    report->starting = starting;
    if (fine)
        report->latency_us = finding->duration_us;
    if (finding->facts) {
        memory->closed = 0;
        what |= take_facts(report, memory, finding->facts, limits, primary, now_us);
    } else if (!fine) {
        what |= judge_blind(report, memory, limits, now_us);
    }
    return what | judge_alive(report, memory, finding, limits, now_us);
}
