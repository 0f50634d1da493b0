/*
 * claim.c: what procedures (promotion, switchover, DR) do with an environment that they have
 * claimed.
 *
 * A claim is an episode that runs. While it stands the automatic part of a look is off, and what is
 * held stays held until the procedure releases or the claim ends. Everything noted here is in
 * memory at once and on the disk when failover_save says so.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/text.h"

void failover_set_procedures(struct failover *failover,
                             const struct failover_procedures *procedures)
{
    failover->procedures = *procedures;
}

static struct ward *claimed(struct failover *failover, const char *environment)
{
    struct ward *ward = ward_find(failover, environment);
    check(ward && ward->is_claimed);
    return ward;
}

struct episode *failover_claim(struct failover *failover, const char *environment,
                               enum episode_type type, const char *from, const char *to,
                               const char *trigger, char *problem, size_t size)
{
    struct ward *ward = ward_find(failover, environment);
    if (!ward || !ward->is_listed || failover->is_stopped)
        snprintf(problem, size, "pgstage does not watch the environment \"%s\"", environment);
    else if (!ward->is_watched)
        snprintf(problem, size, "the hosts of \"%s\" cannot be watched: it has no monitor_user",
                 environment);
    else if (ward->is_claimed)
        snprintf(problem, size, "a failover of \"%s\" is under way", environment);
    else if (ward_is_changing(ward))
        snprintf(problem, size, "\"%s\" is being switched to another primary", environment);
    else if (writers_remain(ward, ward->situation->accepted))
        snprintf(problem, size,
                 "connections that may write to other hosts of \"%s\" than its accepted primary "
                 "have to be closed first",
                 environment);
    else
        problem[0] = '\0';
    if (*problem)
        return NULL;
    ward->is_claimed = true;
    ward->state = FAILOVER_STATE_PROCEDURE;
    ward->episode = episode_new(environment, type, from, to, trigger);
    ward->episode->id = failover->history.next_id++;
    log_log("failover: %s: %s failover %" PRIu64 " begins: %s", environment,
            episode_type_word(type), ward->episode->id, trigger);
    ward_record_episode(ward, ward->episode);
    return ward->episode;
}

void failover_end(struct failover *failover, struct episode *episode, enum episode_result result,
                  const char *text)
{
    struct ward *ward = claimed(failover, episode->environment);
    check(ward->episode == episode);
    episode_step(episode, NULL, loop_now_us(failover->loop));
    episode->result = result;
    free(episode->text);
    episode->text = text_copy(text);
    ward->episode = NULL;
    ward->is_claimed = false;
    ward->is_withdrawn = false;
    situation_intent_clear(ward->situation);
    log_log("failover: %s: failover %" PRIu64 " ends: %s%s%s", ward->name, episode->id,
            episode_result_word(result), text ? ": " : "", text ? text : "");
    keep_episode(failover, episode);
    ward_look_later(ward);
}

void failover_hold(struct failover *failover, const char *environment)
{
    ward_hold(claimed(failover, environment));
}

void failover_release(struct failover *failover, const char *environment)
{
    ward_release(claimed(failover, environment));
}

void failover_withdraw(struct failover *failover, const char *environment)
{
    struct ward *ward = claimed(failover, environment);
    ward->is_withdrawn = true;
    ward_tell(ward, NULL, false);
}

/* Tells the plane again who may be used. */
static void tell_again(struct ward *ward)
{
    ward_tell(ward, ward->is_withdrawn ? NULL : ward->situation->accepted, false);
}

void failover_fence(struct failover *failover, const char *environment, const char *host,
                    const char *by)
{
    struct ward *ward = claimed(failover, environment);
    /* one that is there already, whosever it is, outlives the way back */
    if (!situation_fence(ward->situation, host))
        (void)ward_fence(ward, host, FENCE_PROCEDURE, by);
    tell_again(ward);
}

void failover_unfence(struct failover *failover, const char *environment, const char *host)
{
    struct ward *ward = claimed(failover, environment);
    const struct fence *fence = situation_fence(ward->situation, host);
    if (fence && fence->kind == FENCE_PROCEDURE)
        (void)ward_unfence(ward, host, "the failover gives it back");
    tell_again(ward);
}

void failover_intent(struct failover *failover, const char *environment, const char *type,
                     const char *from, const char *to, uint32_t timeline)
{
    struct ward *ward = claimed(failover, environment);
    situation_intent_set(ward->situation, type, from, to, timeline, clock_wall_us());
    ward->was_told_unfinished = true;
}

void failover_intent_clear(struct failover *failover, const char *environment)
{
    situation_intent_clear(claimed(failover, environment)->situation);
}

void failover_accept(struct failover *failover, const char *environment, const char *host,
                     uint64_t system_identifier, uint32_t timeline, bool former_streams)
{
    struct ward *ward = claimed(failover, environment);
    struct situation *situation = ward->situation;
    struct ward_host *known = ward_host_find(ward, host);
    if (known) {
        known->proven_us = loop_now_us(failover->loop);
        known->proven_timeline = timeline;
    }
    if (situation->accepted && !text_equal(situation->accepted, host) && !former_streams) {
        char *by = text_print("%s is the primary now", host);
        (void)ward_fence(ward, situation->accepted, FENCE_FORMER, by);
        free(by);
    }
    situation_accept(situation, host, system_identifier, timeline, known && known->sighting.is_dr,
                     clock_wall_us());
    log_log("failover: %s: %s is the accepted primary, on timeline %" PRIu32, ward->name, host,
            timeline);
    ward_record(ward, (struct failover_record){
                          .what = "accept", .host = host, .timeline = (int64_t)timeline});
    ward->is_withdrawn = false;
    ward->no_primary_since_us = 0;
    list_for_each (node, &ward->hosts) {
        struct ward_host *other = list_entry(node, struct ward_host, node);
        if (other != known)
            other->may_have_writers = other->was_opened = false;
    }
    ward_ask(ward);
    ward_tell(ward, situation->accepted, false);
}

void failover_refuse(struct failover *failover, const char *environment, const char *reason)
{
    struct ward *ward = ward_find(failover, environment);
    if (!ward || text_equal(ward->refusal, reason))
        return;
    free(ward->refusal);
    ward->refusal = text_copy(reason);
    if (reason)
        alarm_raise(&ward->alarms, ward->name, NULL, ALARM_PROMOTION_REFUSED, reason);
    else
        alarm_end(&ward->alarms, ward->name, ALARM_PROMOTION_REFUSED);
}

void failover_note_automatic(struct failover *failover, const char *environment)
{
    struct situation *situation = claimed(failover, environment)->situation;
    situation->last_automatic_wall_us = clock_wall_us();
    situation->last_automatic_us = loop_now_us(failover->loop);
}

void failover_save(struct failover *failover, void (*done)(void *context, enum failover_saved how),
                   void *context)
{
    keep_save(failover, done, context);
}

void failover_save_is_late(struct failover *failover)
{
    alarm_raise(&failover->alarms, NULL, NULL, ALARM_STATE_NOT_SAVED,
                "the disk of state_dir does not answer");
}
