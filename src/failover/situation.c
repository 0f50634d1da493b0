/*
 * situation.c: the accepted identity, fences, maintenance and intent of one environment.
 *
 * Numbers of 64 bits that may not fit a signed JSON integer (system identifiers, moments without
 * end) are written as texts. What is read from a file is looked at field by field: a file that
 * somebody edited, or that is damaged in a way that is still JSON, gives NULL rather than half a
 * situation.
 */
#include "pgstage/failover/situation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* Fences of one environment that a state file may hold. */
#define FENCES_MAX 1024

static const char *const fence_words[FENCE_KINDS] = {
    [FENCE_NONE] = "none",
#define FENCE(id, word, help) [FENCE_##id] = word,
#include "pgstage/tables/fences.def"
#undef FENCE
};

const char *fence_word(enum fence_kind kind)
{
    return fence_words[kind];
}

struct situation *situation_new(const char *environment)
{
    struct situation *situation = memory_new(sizeof *situation);
    situation->environment = text_copy(environment);
    return situation;
}

static void fence_fini(struct fence *fence)
{
    free(fence->host);
    free(fence->by);
}

void situation_free(struct situation *situation)
{
    if (!situation)
        return;
    for (size_t i = 0; i < situation->fence_count; i++)
        fence_fini(&situation->fences[i]);
    situation_intent_clear(situation);
    free(situation->fences);
    free(situation->accepted);
    free(situation->environment);
    free(situation);
}

static struct fence *find_fence(const struct situation *situation, const char *host)
{
    for (size_t i = 0; i < situation->fence_count; i++) {
        if (text_equal(situation->fences[i].host, host))
            return &situation->fences[i];
    }
    return NULL;
}

const struct fence *situation_fence(const struct situation *situation, const char *host)
{
    return find_fence(situation, host);
}

bool situation_fence_set(struct situation *situation, const char *host, enum fence_kind kind,
                         const char *by, uint64_t wall_us)
{
    struct fence *fence = find_fence(situation, host);
    if (fence && (fence->kind == kind || fence->kind == FENCE_OPERATOR))
        return false;
    if (!fence) {
        situation->fences =
            memory_resize(situation->fences, situation->fence_count + 1, sizeof *situation->fences);
        fence = &situation->fences[situation->fence_count++];
        *fence = (struct fence){.host = text_copy(host), .since_wall_us = wall_us};
    }
    fence->kind = kind;
    free(fence->by);
    fence->by = text_copy(by);
    return true;
}

bool situation_fence_clear(struct situation *situation, const char *host)
{
    struct fence *fence = find_fence(situation, host);
    if (!fence)
        return false;
    fence_fini(fence);
    *fence = situation->fences[--situation->fence_count];
    return true;
}

void situation_accept(struct situation *situation, const char *host, uint64_t system_identifier,
                      uint32_t timeline, bool is_dr, uint64_t wall_us)
{
    char *accepted = text_copy(host); /* `host` may be the old text itself */
    (void)situation_fence_clear(situation, accepted);
    free(situation->accepted);
    situation->accepted = accepted;
    situation->system_identifier = system_identifier;
    situation->timeline = timeline;
    situation->dr_in_force = is_dr;
    situation->accepted_wall_us = wall_us;
    situation_intent_clear(situation);
}

void situation_intent_set(struct situation *situation, const char *type, const char *from,
                          const char *to, uint32_t timeline, uint64_t wall_us)
{
    situation_intent_clear(situation);
    struct intent *intent = memory_new(sizeof *intent);
    *intent = (struct intent){
        .type = text_copy(type),
        .from = text_copy(from),
        .to = text_copy(to),
        .timeline = timeline,
        .begun_wall_us = wall_us,
    };
    situation->intent = intent;
}

void situation_intent_clear(struct situation *situation)
{
    struct intent *intent = situation->intent;
    if (!intent)
        return;
    free(intent->type);
    free(intent->from);
    free(intent->to);
    free(intent);
    situation->intent = NULL;
}

bool situation_in_maintenance(const struct situation *situation, uint64_t now_us)
{
    return situation->maintenance_until_us == MAINTENANCE_UNTIL_OFF ||
           (situation->maintenance_until_us && now_us < situation->maintenance_due_us);
}

/* ---- as JSON ---- */

static json_t *number_text(uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    return json_string(text);
}

static json_t *text_or_null(const char *text)
{
    /* a name that is no UTF-8 cannot stand in the file: the empty text matches no host */
    json_t *json = text ? json_string(text) : json_null();
    return json ? json : json_string("");
}

static json_t *fences_to_json(const struct situation *situation)
{
    json_t *array = json_array();
    for (size_t i = 0; i < situation->fence_count; i++) {
        const struct fence *fence = &situation->fences[i];
        json_t *object = json_object();
        json_object_set_new(object, "host", text_or_null(fence->host));
        json_object_set_new(object, "kind", json_string(fence_word(fence->kind)));
        json_object_set_new(object, "by", text_or_null(fence->by));
        json_object_set_new(object, "since_us", json_integer((json_int_t)fence->since_wall_us));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *intent_to_json(const struct intent *intent)
{
    if (!intent)
        return json_null();
    json_t *object = json_object();
    json_object_set_new(object, "type", text_or_null(intent->type));
    json_object_set_new(object, "from", text_or_null(intent->from));
    json_object_set_new(object, "to", text_or_null(intent->to));
    json_object_set_new(object, "timeline", json_integer(intent->timeline));
    json_object_set_new(object, "begun_us", json_integer((json_int_t)intent->begun_wall_us));
    return object;
}

json_t *situation_to_json(const struct situation *situation)
{
    json_t *object = json_object();
    json_object_set_new(object, "accepted", text_or_null(situation->accepted));
    json_object_set_new(object, "system_identifier", number_text(situation->system_identifier));
    json_object_set_new(object, "timeline", json_integer(situation->timeline));
    json_object_set_new(object, "accepted_us",
                        json_integer((json_int_t)situation->accepted_wall_us));
    json_object_set_new(object, "dr_in_force", json_boolean(situation->dr_in_force));
    json_object_set_new(object, "maintenance_until_us",
                        number_text(situation->maintenance_until_us));
    json_object_set_new(object, "last_automatic_us",
                        json_integer((json_int_t)situation->last_automatic_wall_us));
    json_object_set_new(object, "fences", fences_to_json(situation));
    json_object_set_new(object, "intent", intent_to_json(situation->intent));
    return object;
}

static bool read_text(const json_t *object, const char *name, bool may_be_null, char **text)
{
    const json_t *value = json_object_get(object, name);
    if (json_is_null(value) && may_be_null)
        return true;
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return false;
    *text = text_copy(json_string_value(value));
    return true;
}

static bool read_number_text(const json_t *object, const char *name, uint64_t *number)
{
    const char *text = json_string_value(json_object_get(object, name));
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0;
}

static bool read_number(const json_t *object, const char *name, uint64_t maximum, uint64_t *number)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > maximum)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

static bool read_timeline(const json_t *object, uint32_t *timeline)
{
    uint64_t number;
    if (!read_number(object, "timeline", UINT32_MAX, &number))
        return false;
    *timeline = (uint32_t)number;
    return true;
}

static bool read_fence(struct situation *situation, const json_t *object)
{
    char *host = NULL, *by = NULL;
    uint64_t since_us;
    enum fence_kind kind = FENCE_NONE;
    const char *word = json_string_value(json_object_get(object, "kind"));
    for (int i = FENCE_NONE + 1; word && i < FENCE_KINDS; i++) {
        if (text_equal(word, fence_words[i]))
            kind = (enum fence_kind)i;
    }
    bool ok = kind != FENCE_NONE && read_text(object, "host", false, &host) &&
              read_text(object, "by", true, &by) &&
              read_number(object, "since_us", INT64_MAX, &since_us) &&
              situation_fence_set(situation, host, kind, by, since_us);
    free(host);
    free(by);
    return ok;
}

static bool read_fences(struct situation *situation, const json_t *array)
{
    if (!json_is_array(array) || json_array_size(array) > FENCES_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!read_fence(situation, json_array_get(array, i)))
            return false;
    }
    return true;
}

static bool read_intent(struct situation *situation, const json_t *object)
{
    if (json_is_null(object))
        return true;
    struct intent *intent = situation->intent = memory_new(sizeof *intent);
    return read_text(object, "type", false, &intent->type) &&
           read_text(object, "from", true, &intent->from) &&
           read_text(object, "to", false, &intent->to) &&
           read_timeline(object, &intent->timeline) &&
           read_number(object, "begun_us", INT64_MAX, &intent->begun_wall_us);
}

struct situation *situation_from_json(const char *environment, const json_t *json)
{
    struct situation *situation = situation_new(environment);
    const json_t *dr = json_object_get(json, "dr_in_force");
    bool ok =
        json_is_object(json) && json_is_boolean(dr) &&
        read_text(json, "accepted", true, &situation->accepted) &&
        read_number_text(json, "system_identifier", &situation->system_identifier) &&
        read_timeline(json, &situation->timeline) &&
        read_number(json, "accepted_us", INT64_MAX, &situation->accepted_wall_us) &&
        read_number_text(json, "maintenance_until_us", &situation->maintenance_until_us) &&
        read_number(json, "last_automatic_us", INT64_MAX, &situation->last_automatic_wall_us) &&
        read_fences(situation, json_object_get(json, "fences")) &&
        read_intent(situation, json_object_get(json, "intent"));
    if (!ok) {
        situation_free(situation);
        return NULL;
    }
    situation->dr_in_force = json_is_true(dr);
    return situation;
}
