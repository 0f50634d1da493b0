/*
 * follow.c: from one accepted primary to the next.
 *
 *   hold ─► nobody takes writes ─► every connection that may write is closed ─┐
 *                                └► the new identity is written down ─────────┴─► look: KEEP ─►
 *                                                                        standing, release
 *
 * The situation is the new one from the first moment: if pgstage dies in between, it comes back
 * knowing the newer of the two. The disk is waited for, but not for ever: an outage of the disk is
 * no reason for one of the database, and the alarm state_not_saved stands. Closing is waited for
 * however long it takes; it waits for no network.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

bool writers_remain(const struct ward *ward, const char *but)
{
    list_for_each (node, &ward->hosts) {
        const struct ward_host *host = list_entry(node, struct ward_host, node);
        if (host->may_have_writers && !text_equal(host->label, but))
            return true;
    }
    return false;
}

/* ---- closing ---- */

/* A host whose connections are being closed. */
struct closing {
    struct list_node node; /* in failover->closings */
    struct failover *failover;
    char *environment, *label;
    uint64_t began_us;
};

static void closing_free(struct closing *closing)
{
    list_remove(&closing->failover->closings, &closing->node);
    free(closing->environment);
    free(closing->label);
    free(closing);
}

void closings_free(struct failover *failover)
{
    while (!list_is_empty(&failover->closings))
        closing_free(list_entry(list_first(&failover->closings), struct closing, node));
}

static void advance(struct ward *ward);

static void on_closed(void *argument)
{
    struct closing *closing = argument;
    struct ward *ward = ward_find(closing->failover, closing->environment);
    struct ward_host *host = ward ? ward_host_find(ward, closing->label) : NULL;
    uint64_t now_us = loop_now_us(closing->failover->loop);
    log_log("failover: %s: every connection to %s is closed, after %" PRIu64 " ms",
            closing->environment, closing->label, (now_us - closing->began_us) / CLOCK_MS);
    if (host) {
        host->closing--;
        if (host->closing == 0 && !host->was_opened)
            host->may_have_writers = false;
        if (ward->change.is_under_way)
            advance(ward);
    }
    closing_free(closing);
}

void close_writers(struct ward *ward, const char *but, const char *why)
{
    struct failover *failover = ward->failover;
    list_for_each (node, &ward->hosts) {
        struct ward_host *host = list_entry(node, struct ward_host, node);
        bool is_at_it = host->closing > 0 && !host->was_opened;
        if (!host->may_have_writers || is_at_it || text_equal(host->label, but))
            continue;
        struct closing *closing = memory_new(sizeof *closing);
        *closing = (struct closing){
            .failover = failover,
            .environment = text_copy(ward->name),
            .label = text_copy(host->label),
            .began_us = loop_now_us(failover->loop),
        };
        list_push_back(&failover->closings, &closing->node);
        host->closing++;
        host->was_opened = host->told.write != ALLOW_NO;
        failover->world.close_host(failover->world.context, ward->name, host->label, why, on_closed,
                                   closing);
    }
}

static unsigned closing_count(const struct ward *ward)
{
    unsigned count = 0;
    list_for_each (node, &ward->hosts)
        count += list_entry(node, struct ward_host, node)->closing;
    return count;
}

/* ---- the change ---- */

static void finish_change(struct ward *ward)
{
    ward->change.is_under_way = false;
    ward->is_withdrawn = false;
    timer_detach(ward->failover->loop, &ward->change.patience);
    if (ward->episode)
        episode_step(ward->episode, "release", loop_now_us(ward->failover->loop));
    ward_look_later(ward);
}

static void advance(struct ward *ward)
{
    if (closing_count(ward) > 0)
        return;
    if (ward->episode && !ward->change.has_closed)
        episode_step(ward->episode, "write down", loop_now_us(ward->failover->loop));
    ward->change.has_closed = true;
    if (!ward->change.is_saving)
        finish_change(ward);
}

static void on_patience_over(struct loop *loop, struct timer *timer)
{
    struct ward *ward = list_entry(timer, struct ward, change.patience);
    (void)loop;
    failover_save_is_late(ward->failover);
    ward->change.is_saving = false;
    if (ward->change.has_closed)
        finish_change(ward);
}

static void on_saved(void *context, enum failover_saved how)
{
    struct ward *ward = context;
    (void)how;
    /* one before may have been given up: its answer says nothing of this one */
    if (--ward->unsaved > 0 || !ward->change.is_under_way || !ward->change.is_saving)
        return;
    ward->change.is_saving = false;
    if (ward->change.has_closed)
        finish_change(ward);
}

/* What `to` lacked of what the old primary had written when they were last seen; at most that, for
 * it may have received more before it was promoted. -1: not known. */
static int64_t lag_of(const struct ward *ward, const char *to)
{
    const struct ward_host *host = ward_host_find(ward, to);
    if (text_equal(ward->situation->accepted, to)) /* another server behind the same name */
        return -1;
    if (!ward->last_writer_lsn || !host || !host->standby_lsn)
        return -1;
    return host->standby_lsn < ward->last_writer_lsn
               ? (int64_t)(ward->last_writer_lsn - host->standby_lsn)
               : 0;
}

static void begin_episode(struct ward *ward, enum episode_type type, const char *to,
                          const char *trigger)
{
    uint64_t now_us = loop_now_us(ward->failover->loop);
    const char *from = ward->situation->accepted;
    const struct ward_host *old = from ? ward_host_find(ward, from) : NULL;
    change_settle(ward, "another host has become the primary");
    /* While the old primary still answers, the event began with the sight of the new one. */
    bool was_lost = ward->last_writer_us &&
                    !(old && old->sighting.sight == SIGHT_WRITER && old->sighting.is_fresh);
    uint64_t since_us = was_lost ? ward->last_writer_us : now_us;
    ward->episode = episode_new(ward->name, type, from, to, trigger);
    ward->episode->id = ward->failover->history.next_id++;
    ward->episode_began_us = since_us;
    ward->episode->detection_ms = type == EPISODE_AUTOMATIC && ward->last_writer_us
                                      ? (int64_t)((now_us - ward->last_writer_us) / CLOCK_MS)
                                      : -1;
    ward->episode->lag_bytes = lag_of(ward, to);
    episode_step(ward->episode, "close", now_us);
    ward_record_episode(ward, ward->episode);
}

void change_begin(struct ward *ward, const struct sighting *to, enum episode_type type,
                  const char *trigger, bool replaces)
{
    struct situation *situation = ward->situation;
    struct change *change = &ward->change;
    bool is_switch = situation->accepted && !text_equal(situation->accepted, to->host);
    *change =
        (struct change){.is_under_way = true, .is_saving = true, .patience.fire = on_patience_over};
    ward->state = FAILOVER_STATE_SWITCHING;
    if (trigger)
        begin_episode(ward, type, to->host, trigger);
    ward_hold(ward);
    ward->is_withdrawn = true;
    if (is_switch) {
        char *why = text_print("%s is the primary now", to->host);
        (void)ward_fence(ward, situation->accepted, FENCE_FORMER, why);
        free(why);
    }
    situation_accept(situation, to->host,
                     to->system_identifier ? to->system_identifier : situation->system_identifier,
                     to->timeline > situation->timeline || replaces ? to->timeline
                                                                    : situation->timeline,
                     to->is_dr, clock_wall_us());
    ward_record(ward, (struct failover_record){.what = "accept",
                                               .host = to->host,
                                               .reason = trigger,
                                               .timeline = situation->timeline});
    ward_tell(ward, NULL, false);
    timer_set(ward->failover->loop, &change->patience,
              loop_now_us(ward->failover->loop) + FAILOVER_PATIENCE_US);
    ward->unsaved++;
    keep_save(ward->failover, on_saved, ward);
    /* after a restore the same address is another server: nothing of before goes on */
    close_writers(ward, replaces ? NULL : to->host, "another host is the primary");
    advance(ward);
}

static int64_t ms_since(const struct ward *ward, uint64_t since_us)
{
    return (int64_t)((loop_now_us(ward->failover->loop) - since_us) / CLOCK_MS);
}

bool ward_is_changing(const struct ward *ward)
{
    return ward->change.is_under_way || (ward->episode && !ward->is_claimed);
}

void change_settle(struct ward *ward, const char *failure)
{
    const struct failover_world *world = &ward->failover->world;
    struct episode *episode = ward->episode;
    struct failover_counts counts = {-1, -1};
    if (!episode || ward->is_claimed)
        return;
    world->counts(world->context, ward->name, &counts);
    episode->clients_held = counts.held;
    episode->clients_errored = counts.errored;
    /* clients have waited since there was no primary, if that was before the hold */
    uint64_t since_us = ward->no_primary_since_us;
    if (!since_us || since_us > ward->held_since_us)
        since_us = ward->held_since_us;
    episode->hold_ms = ms_since(ward, since_us);
    episode->total_ms = ms_since(ward, ward->episode_began_us);
    episode_step(episode, NULL, loop_now_us(ward->failover->loop));
    episode->result = failure ? EPISODE_FAILED : EPISODE_DONE;
    episode->text = text_copy(failure);
    ward->episode = NULL;
    char *detected = episode->detection_ms < 0
                         ? text_copy("")
                         : text_print("detected in %" PRId64 " ms, ", episode->detection_ms);
    log_log("failover: %s: %s → %s %s: %sheld for %" PRId64 " ms, %" PRId64 " ms in all, %" PRId64
            " clients held, %" PRId64 " lost a transaction",
            ward->name, episode->from ? episode->from : "(none)", episode->to,
            episode_result_word(episode->result), detected, episode->hold_ms, episode->total_ms,
            episode->clients_held, episode->clients_errored);
    free(detected);
    keep_episode(ward->failover, episode);
    operation_changed(ward, failure);
}

void change_stop(struct ward *ward)
{
    timer_detach(ward->failover->loop, &ward->change.patience);
}
