/*
 * keep.c: what survives a restart, as one JSON object.
 *
 *   {"version": 1, "next_id": 8, "environments": {NAME: situation, …}, "history": [episode, …]}
 *
 * A file that cannot be understood as a whole is put aside and nothing of it is believed.
 * Environments that the configuration does not name (any more) are kept as they are. An episode
 * that was running when pgstage died was not written; its intent was, if it got so far.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define KEEP_VERSION 1
/* Environments that a file may name. */
#define ENVIRONMENTS_MAX 10000

/* ---- reading ---- */

static bool read_environments(struct failover *failover, const json_t *environments)
{
    const char *name;
    json_t *value;
    if (!json_is_object(environments) || json_object_size(environments) > ENVIRONMENTS_MAX)
        return false;
    json_object_foreach((json_t *)environments, name, value)
    {
        struct situation *situation = situation_from_json(name, value);
        if (!situation)
            return false;
        struct ward *ward = ward_get(failover, name);
        situation_free(ward->situation);
        ward->situation = situation;
        maintenance_resume(ward);
    }
    return true;
}

static bool read_history(struct failover *failover, const json_t *content)
{
    const json_t *items = json_object_get(content, "history");
    const json_t *next_id = json_object_get(content, "next_id");
    if (!json_is_array(items) || !json_is_integer(next_id) || json_integer_value(next_id) < 1)
        return false;
    for (size_t i = 0; i < json_array_size(items); i++) {
        struct episode *episode = episode_from_json(json_array_get(items, i));
        if (!episode)
            return false;
        history_add(&failover->history, episode);
    }
    failover->history.next_id = (uint64_t)json_integer_value(next_id);
    return true;
}

/* Nothing of a file that is wrong in one place is believed. */
static void forget_all(struct failover *failover)
{
    struct ward *ward, *next;
    HASH_ITER (hh, failover->wards, ward, next) {
        HASH_DEL(failover->wards, ward);
        ward_free(ward);
    }
    history_fini(&failover->history);
    failover->history.next_id = 1;
}

static void tell_lost(struct failover *failover, const char *problem)
{
    char *detail = text_print("%s; %s", problem,
                              store_put_aside(failover->store)
                                  ? "it has been put aside as failover.json.damaged"
                                  : "it could not be put aside");
    alarm_raise(&failover->alarms, NULL, NULL, ALARM_STATE_LOST, detail);
    free(detail);
}

void keep_load(struct failover *failover)
{
    char problem[256] = "it is not what this version of pgstage writes";
    json_t *content = NULL;
    if (!failover->store)
        return;
    enum store_found found = store_load(failover->store, &content, problem, sizeof problem);
    if (found == STORE_READ) {
        bool ok = json_integer_value(json_object_get(content, "version")) == KEEP_VERSION &&
                  read_environments(failover, json_object_get(content, "environments")) &&
                  read_history(failover, content);
        json_decref(content);
        if (ok)
            return;
        forget_all(failover);
        found = STORE_DAMAGED;
    }
    if (found == STORE_DAMAGED)
        tell_lost(failover, problem);
    else
        log_log("failover: state_dir holds no state yet: the first primary is accepted when all "
                "hosts of its environment have answered or timed out");
}

/* ---- writing ---- */

/* Is there anything to remember of it? */
static bool is_blank(const struct situation *situation)
{
    return !situation->accepted && situation->fence_count == 0 &&
           situation->maintenance_until_us == 0 && !situation->intent &&
           situation->last_automatic_wall_us == 0;
}

static json_t *everything(const struct failover *failover)
{
    json_t *environments = json_object(), *history = json_array();
    struct ward *ward, *next;
    HASH_ITER (hh, failover->wards, ward, next) {
        if (!is_blank(ward->situation))
            json_object_set_new(environments, ward->name, situation_to_json(ward->situation));
    }
    for (size_t i = 0; i < failover->history.count; i++)
        json_array_append_new(history, episode_to_json(failover->history.items[i]));
    return json_pack("{si sI so so}", "version", KEEP_VERSION, "next_id",
                     (json_int_t)failover->history.next_id, "environments", environments, "history",
                     history);
}

/* Somebody who waits for the disk. */
struct saving {
    struct list_node node; /* in failover->savings */
    struct failover *failover;
    void (*done)(void *context, enum failover_saved how);
    void *context;
};

static void saving_free(struct saving *saving)
{
    list_remove(&saving->failover->savings, &saving->node);
    free(saving);
}

static void on_written(void *context, const char *problem)
{
    struct saving *saving = context;
    struct failover *failover = saving->failover;
    failover->is_behind = *problem;
    if (*problem)
        alarm_raise(&failover->alarms, NULL, NULL, ALARM_STATE_NOT_SAVED, problem);
    else
        alarm_end(&failover->alarms, NULL, ALARM_STATE_NOT_SAVED);
    if (saving->done)
        saving->done(saving->context, *problem ? FAILOVER_NOT_SAVED : FAILOVER_SAVED);
    saving_free(saving);
}

static void on_not_kept(void *context, int value)
{
    struct saving *saving = context;
    (void)value;
    if (saving->done)
        saving->done(saving->context, FAILOVER_NOT_KEPT);
    saving_free(saving);
}

void keep_save(struct failover *failover, void (*done)(void *context, enum failover_saved how),
               void *context)
{
    struct saving *saving = memory_new(sizeof *saving);
    *saving = (struct saving){.failover = failover, .done = done, .context = context};
    list_push_back(&failover->savings, &saving->node);
    if (failover->store)
        store_write(failover->store, everything(failover), on_written, saving);
    else
        failover_later(failover, on_not_kept, saving, 0);
}

void savings_free(struct failover *failover)
{
    while (!list_is_empty(&failover->savings))
        saving_free(list_entry(list_first(&failover->savings), struct saving, node));
}

void keep_episode(struct failover *failover, struct episode *episode)
{
    const struct failover_procedures *procedures = &failover->procedures;
    if (procedures->ended && !failover->is_stopped)
        procedures->ended(procedures->context, episode);
    ward_record_episode(ward_find(failover, episode->environment), episode);
    history_add(&failover->history, episode);
    keep_save(failover, NULL, NULL);
}
