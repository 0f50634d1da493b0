/*
 * episode.c: one failover's record, and the bounded history.
 *
 * Steps are kept as the text that SHOW FAILOVERS shows ("hold 0 ms, close 12 ms (3 connections)"):
 * nothing ever computes with them, and a text survives any change of what the steps are.
 */
#include "pgstage/failover/episode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

static const char *const type_words[EPISODE_TYPES] = {
    [EPISODE_AUTOMATIC] = "automatic",
    [EPISODE_MANUAL] = "manual",
    [EPISODE_PLANNED] = "planned",
    [EPISODE_EMERGENCY] = "emergency",
};

static const char *const result_words[EPISODE_RESULTS] = {
    [EPISODE_RUNNING] = "running", [EPISODE_DONE] = "done",     [EPISODE_FAILED] = "failed",
    [EPISODE_ABORTED] = "aborted", [EPISODE_BROKEN] = "broken",
};

const char *episode_type_word(enum episode_type type)
{
    return type_words[type];
}

const char *episode_result_word(enum episode_result result)
{
    return result_words[result];
}

struct episode *episode_new(const char *environment, enum episode_type type, const char *from,
                            const char *to, const char *trigger)
{
    struct episode *episode = memory_new(sizeof *episode);
    *episode = (struct episode){
        .environment = text_copy(environment),
        .type = type,
        .from = text_copy(from),
        .to = text_copy(to),
        .trigger = text_copy(trigger),
        .started_wall_us = clock_wall_us(),
        .detection_ms = -1,
        .hold_ms = -1,
        .total_ms = -1,
        .lag_bytes = -1,
        .clients_held = -1,
        .clients_errored = -1,
    };
    return episode;
}

void episode_free(struct episode *episode)
{
    if (!episode)
        return;
    free(episode->environment);
    free(episode->from);
    free(episode->to);
    free(episode->trigger);
    free(episode->text);
    buffer_fini(&episode->steps);
    free(episode);
}

/* Once the room is used up, one mark says so and nothing more is added. */
static void put(struct episode *episode, const char *text)
{
    if (episode->steps_are_full)
        return;
    episode->steps_are_full = episode->steps.length + strlen(text) > EPISODE_STEPS_BYTES;
    buffer_print(&episode->steps, "%s", episode->steps_are_full ? "…" : text);
}

void episode_step(struct episode *episode, const char *name, uint64_t now_us)
{
    char text[64];
    if (episode->step_began_us) {
        uint64_t took_us = now_us > episode->step_began_us ? now_us - episode->step_began_us : 0;
        snprintf(text, sizeof text, " %" PRIu64 " ms", took_us / CLOCK_MS);
        put(episode, text);
    }
    episode->step_began_us = 0;
    if (!name)
        return;
    put(episode, episode->steps.length ? ", " : "");
    put(episode, name);
    episode->step_began_us = now_us;
}

void episode_note(struct episode *episode, const char *text)
{
    put(episode, " (");
    put(episode, text);
    put(episode, ")");
}

void history_add(struct history *history, struct episode *episode)
{
    if (history->count == HISTORY_MAX) {
        episode_free(history->items[0]);
        memmove(history->items, history->items + 1, (HISTORY_MAX - 1) * sizeof history->items[0]);
        history->count--;
    }
    history->items[history->count++] = episode;
}

void history_fini(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        episode_free(history->items[i]);
    *history = (struct history){0};
}

/* ---- as JSON ---- */

static void set_text(json_t *object, const char *name, const char *text)
{
    json_t *value = text ? json_string(text) : json_null();
    json_object_set_new(object, name, value ? value : json_string("?"));
}

json_t *episode_to_json(const struct episode *episode)
{
    json_t *object = json_object();
    json_t *steps = json_stringn(episode->steps.data ? (const char *)episode->steps.data : "",
                                 episode->steps.length);
    json_object_set_new(object, "id", json_integer((json_int_t)episode->id));
    set_text(object, "environment", episode->environment);
    set_text(object, "type", episode_type_word(episode->type));
    set_text(object, "from", episode->from);
    set_text(object, "to", episode->to);
    set_text(object, "trigger", episode->trigger);
    json_object_set_new(object, "started_us", json_integer((json_int_t)episode->started_wall_us));
    json_object_set_new(object, "detection_ms", json_integer(episode->detection_ms));
    json_object_set_new(object, "hold_ms", json_integer(episode->hold_ms));
    json_object_set_new(object, "total_ms", json_integer(episode->total_ms));
    json_object_set_new(object, "lag_bytes", json_integer(episode->lag_bytes));
    json_object_set_new(object, "clients_held", json_integer(episode->clients_held));
    json_object_set_new(object, "clients_errored", json_integer(episode->clients_errored));
    json_object_set_new(object, "steps", steps ? steps : json_string("?"));
    set_text(object, "result", episode_result_word(episode->result));
    set_text(object, "text", episode->text);
    return object;
}

static int find_word(const json_t *value, const char *const *words, int count)
{
    const char *word = json_string_value(value);
    for (int i = 0; word && i < count; i++) {
        if (text_equal(word, words[i]))
            return i;
    }
    return -1;
}

static bool get_number(const json_t *object, const char *name, int64_t minimum, int64_t *number)
{
    const json_t *value = json_object_get(object, name);
    *number = json_integer_value(value);
    return json_is_integer(value) && *number >= minimum;
}

/* NULL for null and for what is no text: nothing here decides anything. */
static char *get_text(const json_t *object, const char *name)
{
    return text_copy(json_string_value(json_object_get(object, name)));
}

struct episode *episode_from_json(const json_t *json)
{
    int type = find_word(json_object_get(json, "type"), type_words, EPISODE_TYPES);
    int result = find_word(json_object_get(json, "result"), result_words, EPISODE_RESULTS);
    int64_t id, started_us;
    if (type < 0 || result < 0 || !json_is_string(json_object_get(json, "environment")) ||
        !get_number(json, "id", 1, &id) || !get_number(json, "started_us", 0, &started_us))
        return NULL;
    struct episode *episode = memory_new(sizeof *episode);
    episode->id = (uint64_t)id;
    episode->type = (enum episode_type)type;
    episode->result = (enum episode_result)result;
    episode->started_wall_us = (uint64_t)started_us;
    episode->environment = get_text(json, "environment");
    episode->from = get_text(json, "from");
    episode->to = get_text(json, "to");
    episode->trigger = get_text(json, "trigger");
    episode->text = get_text(json, "text");
    const char *steps = json_string_value(json_object_get(json, "steps"));
    if (steps)
        put(episode, steps);
    if (!get_number(json, "detection_ms", -1, &episode->detection_ms) ||
        !get_number(json, "hold_ms", -1, &episode->hold_ms) ||
        !get_number(json, "total_ms", -1, &episode->total_ms) ||
        !get_number(json, "lag_bytes", -1, &episode->lag_bytes) ||
        !get_number(json, "clients_held", -1, &episode->clients_held) ||
        !get_number(json, "clients_errored", -1, &episode->clients_errored)) {
        episode_free(episode);
        return NULL;
    }
    return episode;
}
