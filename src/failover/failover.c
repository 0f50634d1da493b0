/*
 * failover.c: the beginning, a new configuration, the end; and what others may see.
 *
 *   failover_new: state_dir ─► wards with what they remember ─► failover_start: every ward that can
 *   be watched is held ─► looks ─► … ─► failover_stop
 */
#include "pgstage/failover/failover.h"

#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/check.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

static const char *const state_words[FAILOVER_STATES] = {
    [FAILOVER_STATE_UNWATCHED] = "unwatched",
    [FAILOVER_STATE_STARTING] = "starting",
    [FAILOVER_STATE_OK] = "ok",
    [FAILOVER_STATE_UNVERIFIED] = "unverified",
    [FAILOVER_STATE_NO_PRIMARY] = "no_primary",
    [FAILOVER_STATE_STOPPED] = "stopped",
    [FAILOVER_STATE_SWITCHING] = "switching",
    [FAILOVER_STATE_PROCEDURE] = "failover",
};

const char *failover_state_word(enum failover_state state)
{
    return state_words[state];
}

/* ---- letters to oneself ---- */

struct later {
    struct mail mail;
    void (*run)(void *context, int value);
    void *context;
    int value;
};

static void on_later(struct loop *loop, struct mail *mail)
{
    struct later *later = list_entry(mail, struct later, mail);
    (void)loop;
    later->run(later->context, later->value);
    free(later);
}

void failover_later(struct failover *failover, void (*run)(void *context, int value), void *context,
                    int value)
{
    struct later *later = memory_new(sizeof *later);
    *later = (struct later){
        .mail = {.deliver = on_later},
        .run = run,
        .context = context,
        .value = value,
    };
    loop_post(failover->loop, &later->mail);
}

/* ---- the configuration ---- */

/* Which environments there are now. */
static void take_snapshot(struct failover *failover, struct snapshot *snapshot)
{
    struct ward *ward, *next;
    snapshot_ref(snapshot);
    snapshot_unref(failover->snapshot);
    failover->snapshot = snapshot;
    HASH_ITER (hh, failover->wards, ward, next)
        ward->is_listed = false;
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const struct environment_config *environment = snapshot_environment(snapshot, i);
        if (environment->host_count > 0)
            ward_get(failover, environment->name)->is_listed = true;
    }
}

struct failover *failover_new(struct loop *loop, struct snapshot *snapshot,
                              const struct failover_world *world, char *problem, size_t size)
{
    const char *folder = snapshot_globals(snapshot)->state_dir;
    struct failover *failover = memory_new(sizeof *failover);
    failover->loop = loop;
    failover->world = *world;
    failover->history.next_id = 1;
    list_init(&failover->operations);
    list_init(&failover->savings);
    list_init(&failover->closings);
    if (folder && *folder) {
        failover->store = store_open(loop, folder, problem, size);
        if (!failover->store) {
            failover_free(failover);
            return NULL;
        }
        keep_load(failover);
    }
    take_snapshot(failover, snapshot);
    return failover;
}

/* Before the first decision nobody may write, where there is somebody to ask. */
static void begin_to_watch(struct ward *ward)
{
    ward_ask(ward);
    ward_look(ward);
}

void failover_start(struct failover *failover)
{
    struct ward *ward, *next;
    failover->is_started = true;
    HASH_ITER (hh, failover->wards, ward, next) {
        if (ward->is_listed)
            begin_to_watch(ward);
    }
}

void failover_reloaded(struct failover *failover, struct snapshot *snapshot)
{
    struct ward *ward, *next;
    take_snapshot(failover, snapshot);
    HASH_ITER (hh, failover->wards, ward, next) {
        ward_look(ward);
    }
}

void failover_changed(struct failover *failover, const char *environment)
{
    struct ward *ward = ward_find(failover, environment);
    if (ward)
        ward_look_later(ward);
}

void failover_stop(struct failover *failover)
{
    struct ward *ward, *next;
    failover->is_stopped = true;
    operations_end(failover);
    HASH_ITER (hh, failover->wards, ward, next) {
        loop_undefer(failover->loop, &ward->task);
        change_stop(ward);
        if (!ward->episode)
            continue;
        struct episode *episode = ward->episode;
        ward->episode = NULL;
        episode_step(episode, NULL, loop_now_us(failover->loop));
        episode->result = EPISODE_BROKEN;
        episode->text = text_copy("pgstage was ended in the middle of it");
        keep_episode(failover, episode);
    }
    if (failover->is_behind)
        keep_save(failover, NULL, NULL);
}

void failover_free(struct failover *failover)
{
    struct ward *ward, *next;
    if (!failover)
        return;
    store_close(failover->store);
    operations_free(failover);
    savings_free(failover);
    closings_free(failover);
    HASH_ITER (hh, failover->wards, ward, next) {
        HASH_DEL(failover->wards, ward);
        ward_free(ward);
    }
    alarms_fini(&failover->alarms);
    history_fini(&failover->history);
    snapshot_unref(failover->snapshot);
    free(failover);
}

/* ---- what others may see ---- */

enum failover_state failover_state(const struct failover *failover, const char *environment)
{
    const struct ward *ward = ward_find(failover, environment);
    return ward ? ward->state : FAILOVER_STATE_UNWATCHED;
}

const struct situation *failover_situation(const struct failover *failover, const char *environment)
{
    const struct ward *ward = ward_find(failover, environment);
    return ward && ward->is_listed ? ward->situation : NULL;
}

uint64_t failover_no_primary_since(const struct failover *failover, const char *environment)
{
    const struct ward *ward = ward_find(failover, environment);
    return ward ? ward->no_primary_since_us : 0;
}

void failover_each_episode(const struct failover *failover,
                           void (*row)(void *argument, const struct episode *episode),
                           void *argument)
{
    struct ward *ward, *next;
    for (size_t i = 0; i < failover->history.count; i++)
        row(argument, failover->history.items[i]);
    HASH_ITER (hh, failover->wards, ward, next) {
        if (ward->episode)
            row(argument, ward->episode);
    }
}

static void each_alarm(const struct alarms *alarms, const char *environment,
                       void (*row)(void *argument, const struct alarm_view *alarm), void *argument)
{
    for (const struct alarm *alarm = alarms->first; alarm; alarm = alarm->next) {
        struct alarm_view view = {
            .environment = environment,
            .host = alarm->host,
            .alarm = alarm_word(alarm->kind),
            .detail = alarm->detail,
            .help = alarm_help(alarm->kind),
            .since_wall_us = alarm->since_wall_us,
        };
        row(argument, &view);
    }
}

void failover_each_alarm(const struct failover *failover,
                         void (*row)(void *argument, const struct alarm_view *alarm),
                         void *argument)
{
    struct ward *ward, *next;
    each_alarm(&failover->alarms, NULL, row, argument);
    HASH_ITER (hh, failover->wards, ward, next)
        each_alarm(&ward->alarms, ward->name, row, argument);
}
