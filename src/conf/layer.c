/*
 * layer: what one section or line says, who said it, and how layers are put on top of each other.
 *
 *   [users] ── [databases] ── [environment] ── class preset ── [pgstage] ── built-in default
 *   looked at first                                                         looked at last
 *
 * Written by the thread that loads, frozen with the snapshot afterwards.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct assignment *layer_find(const struct layer *layer, const struct option *option)
{
    for (size_t i = 0; i < layer->count; i++)
        if (layer->items[i].option == option)
            return &layer->items[i];
    return NULL;
}

struct assignment *layer_find_name(const struct layer *layer, const char *name)
{
    for (size_t i = 0; i < layer->count; i++)
        if (strcmp(layer->items[i].option->name, name) == 0)
            return &layer->items[i];
    return NULL;
}

struct assignment *layer_put(struct arena *arena, struct layer *layer,
                             const struct assignment *assignment)
{
    struct assignment *place = layer_find(layer, assignment->option);
    if (!place) {
        if (layer->count == layer->capacity) {
            size_t capacity = layer->capacity ? layer->capacity * 2 : 4;
            struct assignment *items = arena_get(arena, capacity * sizeof(*items));
            if (layer->count)
                memcpy(items, layer->items, layer->count * sizeof(*items));
            layer->items = items;
            layer->capacity = capacity;
        }
        place = &layer->items[layer->count++];
    }
    *place = *assignment;
    return place;
}

void layer_apply(const struct layer *layer, struct settings *settings)
{
    for (size_t i = 0; i < layer->count; i++)
        option_store(layer->items[i].option, layer->items[i].value, settings);
}

void pointers_add(struct pointers *pointers, void *item)
{
    if (pointers->count == pointers->capacity) {
        pointers->capacity = pointers->capacity ? pointers->capacity * 2 : 8;
        pointers->items =
            memory_resize(pointers->items, pointers->capacity, sizeof(pointers->items[0]));
    }
    pointers->items[pointers->count++] = item;
}

const struct assignment *snapshot_assignment(const struct snapshot *snapshot,
                                             const struct environment *environment,
                                             const struct database *line,
                                             const struct option *option)
{
    const struct assignment *found = line ? layer_find(&line->layer, option) : NULL;
    if (!found && environment)
        found = layer_find(&environment->layer, option);
    if (!found && environment)
        found = layer_find(&environment->preset, option);
    return found ? found : layer_find(&snapshot->layer, option);
}

char *origin_print(const struct origin *origin)
{
    switch (origin->kind) {
    case ORIGIN_DEFAULT:
        return text_copy("default");
    case ORIGIN_FILE:
        return text_print("%s:%d", origin->name, origin->line);
    case ORIGIN_VARIABLE:
        return text_print("variable %s", origin->name);
    case ORIGIN_PRESET:
        return text_print("class %s", origin->name);
    case ORIGIN_SET:
        return text_copy("SET");
    }
    return text_copy("");
}

/* The text with its place in front when that is no file. */
static char *origin_vprint(const struct origin *origin, const char *format, va_list arguments)
{
    char *text = text_vprint(format, arguments);
    if (!origin || origin->kind == ORIGIN_FILE || origin->kind == ORIGIN_DEFAULT)
        return text;
    char *place = origin_print(origin), *whole = text_print("%s: %s", place, text);
    free(place);
    free(text);
    return whole;
}

void origin_error(struct report *report, const struct origin *origin, const char *format, ...)
{
    bool file = origin && origin->kind == ORIGIN_FILE;
    va_list arguments;
    va_start(arguments, format);
    char *text = origin_vprint(origin, format, arguments);
    va_end(arguments);
    report_error(report, file ? origin->name : NULL, file ? origin->line : 0, "%s", text);
    free(text);
}

void origin_warning(struct report *report, const struct origin *origin, const char *format, ...)
{
    bool file = origin && origin->kind == ORIGIN_FILE;
    va_list arguments;
    va_start(arguments, format);
    char *text = origin_vprint(origin, format, arguments);
    va_end(arguments);
    report_warning(report, file ? origin->name : NULL, file ? origin->line : 0, "%s", text);
    free(text);
}

void origin_broken(struct report *report, const struct origin *origin, enum rule_id id,
                   const char *option, const char *format, ...)
{
    bool file = origin && origin->kind == ORIGIN_FILE;
    const struct rule *rule = rule_at(id);
    va_list arguments;
    va_start(arguments, format);
    char *text = origin_vprint(origin, format, arguments), *advice = rule_advice(rule, option);
    va_end(arguments);
    report_broken(report, rule->name, file ? origin->name : NULL, file ? origin->line : 0,
                  "%s: %s; write %s [%s]", text, rule->holds, advice, rule->name);
    free(advice);
    free(text);
}
