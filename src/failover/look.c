/*
 * look.c: one look at an environment: asks, decides, and makes it so.
 *
 *   KEEP        standing: it takes the writes; clients go on
 *   ACCEPT      follow.c: hold, close, write down; then the next look says KEEP
 *   UNVERIFIED  standing: unknown; every login finds out by itself, as without a monitor
 *   WAIT        nobody takes writes; clients are held
 *   NONE STOP   nobody takes writes; what clients see is the plane's business (no_primary_action)
 *
 * While a procedure has claimed the environment, or a change is under way, a look only raises
 * alarms and keeps reads away from hosts that are shut out: who takes writes is then said by them.
 */
#include <inttypes.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* ---- what the plane is told ---- */

static bool standings_equal(const struct standing *a, const struct standing *b)
{
    return a->write == b->write && a->standby == b->standby && a->read_only == b->read_only &&
           a->breaker_open == b->breaker_open && a->system_identifier == b->system_identifier &&
           a->timeline == b->timeline;
}

static void tell(struct ward *ward, struct ward_host *host, struct standing standing)
{
    const struct failover_world *world = &ward->failover->world;
    if (standing.write != ALLOW_NO)
        host->may_have_writers = host->was_opened = true;
    if (host->is_told && standings_equal(&host->told, &standing))
        return;
    host->told = standing;
    host->is_told = true;
    world->set_standing(world->context, ward->name, host->label, &standing);
}

void ward_tell(struct ward *ward, const char *writer, bool unknown)
{
    list_for_each (node, &ward->hosts) {
        struct ward_host *host = list_entry(node, struct ward_host, node);
        bool is_shut_out = host->is_shut_out || !host->is_listed ||
                           situation_fence(ward->situation, host->label) != NULL;
        enum standing_writer by = text_equal(host->label, writer)                  ? WRITER_THIS
                                  : unknown && host->sighting.sight == SIGHT_BLIND ? WRITER_BY_ROLE
                                                                                   : WRITER_OTHER;
        struct standing standing = standing_of(&host->report, by, is_shut_out);
        standing.system_identifier = ward->situation->system_identifier;
        /* also where it takes no writes at present: a login may be under way that learns of it late */
        if (!unknown || standing.write == ALLOW_YES)
            standing.timeline = ward->situation->timeline;
        tell(ward, host, standing);
    }
}

void ward_hold(struct ward *ward)
{
    const struct failover_world *world = &ward->failover->world;
    if (ward->is_held)
        return;
    ward->is_held = true;
    ward->held_since_us = loop_now_us(ward->failover->loop);
    world->hold(world->context, ward->name);
}

void ward_release(struct ward *ward)
{
    const struct failover_world *world = &ward->failover->world;
    if (!ward->is_held)
        return;
    ward->is_held = false;
    world->release(world->context, ward->name);
}

/* ---- fences ---- */

bool ward_fence(struct ward *ward, const char *host, enum fence_kind kind, const char *by)
{
    if (!situation_fence_set(ward->situation, host, kind, by, clock_wall_us()))
        return false;
    log_log("failover: %s: %s is fenced (%s): %s", ward->name, host, fence_word(kind), by);
    ward_record(ward, (struct failover_record){
                          .what = "fence", .host = host, .kind = fence_word(kind), .reason = by});
    return true;
}

bool ward_unfence(struct ward *ward, const char *host, const char *why)
{
    if (!situation_fence_clear(ward->situation, host))
        return false;
    log_log("failover: %s: %s is fenced no more: %s", ward->name, host, why);
    ward_record(ward, (struct failover_record){.what = "unfence", .host = host, .reason = why});
    return true;
}

/* True when something changed. */
static bool apply_fences(struct ward *ward, const struct decision *decision,
                         const struct sighting *hosts, size_t count)
{
    bool changed = false;
    char now[DECISION_TEXT_BYTES] = "";
    if (decision->host != DECISION_NO_HOST)
        snprintf(now, sizeof now, "%s is the primary now", hosts[decision->host].host);
    for (size_t i = 0; i < count; i++) {
        const struct host_decision *of = &decision->of[i];
        const char *by = *of->text ? of->text : *now ? now : decision->reason;
        if (of->fence != FENCE_NONE)
            changed |= ward_fence(ward, hosts[i].host, of->fence, by);
        else if (of->unfence)
            changed |= ward_unfence(ward, hosts[i].host,
                                    hosts[i].sight == SIGHT_STANDBY
                                        ? "it streams on the accepted timeline"
                                        : "it is the only one left that takes writes");
    }
    return changed;
}

static void apply_alarms(struct ward *ward, const struct decision *decision,
                         const struct sighting *hosts, size_t count)
{
    alarms_begin(&ward->alarms);
    for (size_t i = 0; i < count; i++) {
        const struct host_decision *of = &decision->of[i];
        if (of->has_alarm)
            alarm_raise(&ward->alarms, ward->name, hosts[i].host, of->alarm, of->text);
    }
    /* while a procedure is at work its intent is no leftover */
    if (decision->has_alarm && !(ward->is_claimed && decision->alarm == ALARM_UNFINISHED_FAILOVER))
        alarm_raise(&ward->alarms, ward->name, NULL, decision->alarm, decision->reason);
    if (ward->refusal)
        alarm_raise(&ward->alarms, ward->name, NULL, ALARM_PROMOTION_REFUSED, ward->refusal);
    alarms_end(&ward->alarms, ward->name);
}

/* ---- verdicts ---- */

/* Behind the same name there is another server than the one that was written to: its address is
 * another, or a promotion has taken place there. Connections to the old one may have survived, in a
 * proxy for example. */
static bool is_another_server(const struct ward *ward, const struct sighting *host)
{
    const struct ward_host *known = ward_host_find(ward, host->host);
    if (!known->may_have_writers || host->sight != SIGHT_WRITER || !host->is_fresh)
        return false;
    bool has_moved = known->writer_address && known->address &&
                     !text_equal(known->writer_address, known->address);
    return has_moved || (ward->situation->timeline && host->timeline > ward->situation->timeline);
}

static void note_writer(struct ward *ward, const struct sighting *host)
{
    struct ward_host *known = ward_host_find(ward, host->host);
    if (host->sight != SIGHT_WRITER)
        return;
    ward->last_writer_us = known->answered_us;
    ward->last_writer_lsn = host_report_position(&known->report);
    if (text_equal(known->writer_address, known->address))
        return;
    free(known->writer_address);
    known->writer_address = text_copy(known->address);
}

static void keep(struct ward *ward, const struct sighting *host)
{
    struct situation *situation = ward->situation;
    uint64_t now_us = loop_now_us(ward->failover->loop);
    if (writers_remain(ward, host->host)) {
        /* until now every login found out by itself: others may have been written to */
        change_begin(ward, host, EPISODE_AUTOMATIC, NULL, false);
        return;
    }
    if (is_another_server(ward, host)) {
        char *trigger = text_print("%s is another server now, on timeline %" PRIu32, host->host,
                                   host->timeline);
        log_log("failover: %s: %s", ward->name, trigger);
        change_begin(ward, host, EPISODE_AUTOMATIC, trigger, true);
        free(trigger);
        return;
    }
    if (host->sight == SIGHT_WRITER && host->is_fresh &&
        (host->timeline > situation->timeline ||
         (host->system_identifier && !situation->system_identifier))) {
        log_log("failover: %s: %s is on timeline %" PRIu32 " now (it was %" PRIu32 ")", ward->name,
                host->host, host->timeline, situation->timeline);
        situation->timeline = host->timeline;
        situation->system_identifier = host->system_identifier;
        keep_save(ward->failover, NULL, NULL);
    }
    uint64_t since_us = ward->no_primary_since_us;
    if (since_us && !ward->episode)
        log_log("failover: %s: %s takes writes again, after %" PRIu64 " ms", ward->name, host->host,
                (now_us - since_us) / CLOCK_MS);
    note_writer(ward, host);
    ward->state = FAILOVER_STATE_OK;
    ward_tell(ward, host->host, false);
    change_settle(ward, NULL);
    ward->no_primary_since_us = 0;
    ward_release(ward);
}

static void go_without(struct ward *ward, const struct decision *decision)
{
    bool is_news = !text_equal(ward->reason, decision->reason);
    ward->state = decision->verdict == VERDICT_WAIT   ? FAILOVER_STATE_STARTING
                  : decision->verdict == VERDICT_STOP ? FAILOVER_STATE_STOPPED
                                                      : FAILOVER_STATE_NO_PRIMARY;
    if (decision->verdict != VERDICT_WAIT) {
        if (!ward->no_primary_since_us)
            ward->no_primary_since_us = loop_now_us(ward->failover->loop);
        if (is_news)
            log_log("failover: %s: no primary: %s; clients that write wait", ward->name,
                    decision->reason);
    }
    /* At the start everybody waits for the first decision. Later the standings alone keep writes
     * away, so that no_primary_action can say what becomes of those who ask. */
    if (decision->verdict == VERDICT_WAIT)
        ward_hold(ward);
    ward_tell(ward, NULL, false);
    /* those of the primary that is gone may be all that its clients have: it may come back */
    close_writers(ward, decision->verdict == VERDICT_STOP ? NULL : ward->situation->accepted,
                  decision->reason);
    char failure[DECISION_TEXT_BYTES + 64];
    snprintf(failure, sizeof failure, "the new primary is gone again: %s", decision->reason);
    change_settle(ward, failure);
    if (decision->verdict != VERDICT_WAIT)
        ward_release(ward);
}

static void go_unverified(struct ward *ward, const struct decision *decision)
{
    if (ward->state != FAILOVER_STATE_UNVERIFIED)
        log_warning("failover: %s: %s: nothing can be verified, every login finds out by itself "
                    "whether its host takes writes",
                    ward->name, decision->reason);
    ward->state = FAILOVER_STATE_UNVERIFIED;
    change_settle(ward, decision->reason);
    ward->no_primary_since_us = 0;
    ward_tell(ward, NULL, true);
    ward_release(ward);
}

/* Says how it came about: "promotion of b:5432 seen". */
static void take(struct ward *ward, const struct sighting *host, const char *reason)
{
    const struct situation *situation = ward->situation;
    const char *trigger = NULL;
    char text[DECISION_TEXT_BYTES + 64];
    if (situation->accepted) {
        snprintf(text, sizeof text, "%s: %s", host->host, reason);
        trigger = text;
    }
    log_log("failover: %s: accepting %s as the primary%s%s: %s", ward->name, host->host,
            situation->accepted ? " instead of " : "",
            situation->accepted ? situation->accepted : "", reason);
    change_begin(ward, host, EPISODE_AUTOMATIC, trigger, false);
}

static void apply_verdict(struct ward *ward, const struct decision *decision,
                          const struct sighting *hosts)
{
    enum verdict verdict = decision->verdict;
    ward->has_decided = ward->has_decided || verdict != VERDICT_WAIT;
    switch (verdict) {
    case VERDICT_KEEP:
        keep(ward, &hosts[decision->host]);
        break;
    case VERDICT_ACCEPT:
        take(ward, &hosts[decision->host], decision->reason);
        break;
    case VERDICT_UNVERIFIED:
        go_unverified(ward, decision);
        break;
    case VERDICT_WAIT:
    case VERDICT_NONE:
    case VERDICT_STOP:
        go_without(ward, decision);
        break;
    }
    ward->verdict = verdict;
    text_fit(ward->reason, sizeof ward->reason, decision->reason);
}

static void forget_verdict(struct ward *ward)
{
    change_settle(ward, "its hosts are not watched any more");
    alarms_begin(&ward->alarms);
    alarms_end(&ward->alarms, ward->name);
    ward->state = FAILOVER_STATE_UNWATCHED;
    ward->no_primary_since_us = 0;
    ward->has_decided = false;
    ward->reason[0] = '\0';
}

/* Nobody knows how to ask its hosts: everything is as without a monitor, but for fences. */
static void leave_unwatched(struct ward *ward)
{
    forget_verdict(ward);
    list_for_each (node, &ward->hosts)
        list_entry(node, struct ward_host, node)->is_shut_out = false;
    ward_tell(ward, NULL, true);
    ward_release(ward);
}

/* The configuration does not name it any more: nothing is held or alarmed. */
static void leave_unlisted(struct ward *ward)
{
    forget_verdict(ward);
    ward_release(ward);
}

/* ---- the look ---- */

static struct sighting *list_sightings(struct ward *ward, size_t *count)
{
    struct sighting *hosts = memory_new((ward->hosts.length + 1) * sizeof *hosts);
    *count = 0;
    list_for_each (node, &ward->hosts) {
        const struct ward_host *host = list_entry(node, struct ward_host, node);
        if (host->is_listed && *count < DECIDE_HOSTS_MAX)
            hosts[(*count)++] = host->sighting;
    }
    return hosts;
}

/* A restart in the middle of a promotion: the procedures may take it up again. */
static void tell_of_intent(struct ward *ward)
{
    const struct failover_procedures *procedures = &ward->failover->procedures;
    if (!ward->situation->intent || ward->was_told_unfinished || ward->is_claimed)
        return;
    ward->was_told_unfinished = true;
    if (procedures->unfinished)
        procedures->unfinished(procedures->context, ward->name, ward->situation->intent);
}

static void look_watched(struct ward *ward)
{
    struct failover *failover = ward->failover;
    const struct settings *settings = ward_settings(ward);
    struct decision *decision = &failover->decision;
    struct policy policy = {
        .promotes = settings->failover_mode == FAILOVER_PROMOTE,
        .two_primaries = (enum two_primaries)settings->two_primaries,
        .in_maintenance = situation_in_maintenance(ward->situation, loop_now_us(failover->loop)),
        .is_first = !ward->has_decided,
    };
    size_t count;
    struct sighting *hosts = list_sightings(ward, &count);
    decide(ward->situation, &policy, hosts, count, decision);
    for (size_t i = 0; i < count; i++)
        ward_host_find(ward, hosts[i].host)->is_shut_out = decision->of[i].shut_out;
    apply_alarms(ward, decision, hosts, count);
    if (decision->verdict != VERDICT_WAIT)
        tell_of_intent(ward);
    if (ward->change.is_under_way || ward->is_claimed) {
        ward_tell(ward, ward->is_withdrawn ? NULL : ward->situation->accepted, false);
    } else {
        bool fences_changed = apply_fences(ward, decision, hosts, count);
        apply_verdict(ward, decision, hosts);
        if (fences_changed && !ward->change.is_under_way)
            keep_save(failover, NULL, NULL);
    }
    free(hosts);
}

/* A clock that was ahead must not keep failovers away until it is there again. */
static void set_clock_right(struct ward *ward)
{
    uint64_t now_us = clock_wall_us();
    if (ward->situation->last_automatic_wall_us <= now_us)
        return;
    ward->situation->last_automatic_wall_us = now_us;
    keep_save(ward->failover, NULL, NULL);
}

static void tell_procedures(struct ward *ward)
{
    const struct failover_procedures *procedures = &ward->failover->procedures;
    if (ward->change.is_under_way || ward->is_claimed || ward->verdict == VERDICT_WAIT)
        return;
    if (procedures->looked)
        procedures->looked(procedures->context, ward->name);
}

void ward_look(struct ward *ward)
{
    struct failover *failover = ward->failover;
    if (!failover->is_started || failover->is_stopped)
        return;
    /* while one of these is at work the look at its end is the one that leaves */
    bool may_leave = !ward->is_claimed && !ward->change.is_under_way;
    if (!ward->is_listed) {
        if (may_leave)
            leave_unlisted(ward);
        return;
    }
    ward_ask(ward);
    set_clock_right(ward);
    maintenance_look(ward);
    if (!ward->is_watched && may_leave) {
        leave_unwatched(ward);
        return;
    }
    look_watched(ward);
    tell_procedures(ward);
}
