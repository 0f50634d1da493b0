/*
 * ident: maps of user names in the manner of pg_ident.conf.
 *
 *   people   /^(.*)@example\.com$   \1        whoever's certificate says ann@example.com is ann
 *   people   root                   admin
 *
 * Any line of a map that fits allows. Read on the thread that loads, then frozen.
 */
#include <stdlib.h>
#include <string.h>

#include "hba_inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct ident_rule {
    const char *map;
    const char *system_name; /* NULL: the pattern */
    const regex_t *system_pattern;
    const char *user; /* may hold \1; NULL: all, or the pattern */
    const regex_t *user_pattern;
};

struct ident {
    /* fixed */
    struct hba_words words; /* owns all memory */
    struct ident_rule *rules;
    size_t count;
};

/* A name or a pattern: false when the pattern cannot be used. */
static bool take_name(struct ident *ident, int line, const struct hba_word *word, const char **name,
                      const regex_t **pattern)
{
    bool is_pattern = !word->quoted && word->whole[0] == '/';
    *name = is_pattern ? NULL : word->whole;
    *pattern = is_pattern ? hba_pattern(&ident->words, line, word->whole + 1) : NULL;
    return !is_pattern || *pattern;
}

static void take_line(struct ident *ident, const struct hba_line *line)
{
    struct ident_rule *rule = &ident->rules[ident->count];
    if (line->count != 3 || line->fields[0].count != 1 || line->fields[1].count != 1 ||
        line->fields[2].count != 1) {
        hba_error(&ident->words, line->number, "expected MAP SYSTEM-NAME USER");
        return;
    }
    const struct hba_word *system = &line->fields[1].words[0], *user = &line->fields[2].words[0];
    *rule = (struct ident_rule){.map = line->fields[0].words[0].whole};
    if (!user->quoted && user->whole[0] == '+') {
        hba_error(&ident->words, line->number,
                  "%.100s: pgstage knows no groups of users; write the names", user->whole);
        return;
    }
    if (!take_name(ident, line->number, system, &rule->system_name, &rule->system_pattern) ||
        !take_name(ident, line->number, user, &rule->user, &rule->user_pattern))
        return;
    if (hba_word_is(user, "all"))
        rule->user = NULL;
    if (rule->user && !rule->system_pattern && !user->quoted && strstr(rule->user, "\\1")) {
        hba_error(&ident->words, line->number, "\\1 needs a pattern before it: /^(.*)@example$");
        return;
    }
    if (rule->user && rule->system_pattern && strstr(rule->user, "\\1") &&
        rule->system_pattern->re_nsub == 0) {
        hba_error(&ident->words, line->number, "\\1 needs a part in parentheses in %.100s",
                  system->whole);
        return;
    }
    ident->count++;
}

static struct ident *ident_finish(struct ident *ident, bool read, size_t errors_before)
{
    ident->rules = arena_get(&ident->words.arena, (ident->words.count + 1) * sizeof(*ident->rules));
    for (size_t i = 0; i < ident->words.count; i++)
        take_line(ident, &ident->words.lines[i]);
    if (read && ident->words.report->errors == errors_before)
        return ident;
    ident_free(ident);
    return NULL;
}

struct ident *ident_load(const char *file, struct report *report)
{
    struct ident *ident = memory_new(sizeof(*ident));
    size_t errors = report->errors;
    bool read = hba_words_load(&ident->words, file, report);
    return ident_finish(ident, read, errors);
}

struct ident *ident_parse(const char *name, const char *text, size_t length, struct report *report)
{
    struct ident *ident = memory_new(sizeof(*ident));
    size_t errors = report->errors;
    hba_words_parse(&ident->words, name, text, length, report);
    return ident_finish(ident, true, errors);
}

void ident_free(struct ident *ident)
{
    if (!ident)
        return;
    hba_words_fini(&ident->words);
    free(ident);
}

bool ident_has_map(const struct ident *ident, const char *map)
{
    for (size_t i = 0; ident && i < ident->count; i++)
        if (strcmp(ident->rules[i].map, map) == 0)
            return true;
    return false;
}

/* `wanted` with \1 replaced by what the group of `name` holds; is that the user? */
static bool is_expansion(const char *wanted, const char *name, const regmatch_t *group,
                         const char *user)
{
    const char *place = strstr(wanted, "\\1");
    if (!place)
        return strcmp(wanted, user) == 0;
    size_t before = (size_t)(place - wanted), length = strlen(user);
    size_t size = group->rm_so < 0 ? 0 : (size_t)(group->rm_eo - group->rm_so);
    const char *behind = place + 2;
    return length == before + size + strlen(behind) && memcmp(user, wanted, before) == 0 &&
           (!size || memcmp(user + before, name + group->rm_so, size) == 0) &&
           strcmp(user + before + size, behind) == 0;
}

static bool rule_allows(const struct ident_rule *rule, const char *system_name, const char *user)
{
    regmatch_t groups[2] = {{-1, -1}, {-1, -1}};
    if (rule->system_name ? strcmp(rule->system_name, system_name) != 0
                          : !hba_pattern_fits(rule->system_pattern, system_name, groups, 2))
        return false;
    if (rule->user_pattern)
        return hba_pattern_fits(rule->user_pattern, user, NULL, 0);
    return !rule->user || is_expansion(rule->user, system_name, &groups[1], user);
}

bool ident_allows(const struct ident *ident, const char *map, const char *system_name,
                  const char *user)
{
    if (!map)
        return strcmp(system_name, user) == 0;
    for (size_t i = 0; ident && i < ident->count; i++)
        if (strcmp(ident->rules[i].map, map) == 0 &&
            rule_allows(&ident->rules[i], system_name, user))
            return true;
    return false;
}
