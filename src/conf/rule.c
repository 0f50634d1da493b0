/*
 * rule: the rows of tables/rules.def and finding them. Constant data and pure functions; any
 * thread.
 *
 * Whether a rule holds is looked at in floor.c and guard.c; here is what it is called and what it
 * says, in one place for messages, --explain, SHOW CONFIG and the page doc/production.md.
 */
#include "pgstage/conf/rule.h"

#include <string.h>

#include "pgstage/base/text.h"

#define PLACEHOLDER "OPTION"

static const struct rule rules[RULE_COUNT] = {
#define RULE(id, name, options, holds, write) [RULE_##id] = {name, options, holds, write},
#include "pgstage/tables/rules.def"
#undef RULE
};

const struct rule *rule_at(enum rule_id id)
{
    return &rules[id];
}

const struct rule *rule_of_option(const char *option)
{
    size_t length = strlen(option);
    for (size_t i = 0; i < RULE_COUNT; i++) {
        for (const char *word = rules[i].options; *word;) {
            size_t size = strcspn(word, " ");
            if (size == length && memcmp(word, option, length) == 0)
                return &rules[i];
            word += size + (word[size] == ' ');
        }
    }
    return NULL;
}

char *rule_advice(const struct rule *rule, const char *option)
{
    const char *place = strstr(rule->write, PLACEHOLDER);
    /* Only a whole word: DATABASE@ENVIRONMENT and the like stay. */
    if (!place || !option)
        return text_copy(rule->write);
    return text_print("%.*s%s%s", (int)(place - rule->write), rule->write, option,
                      place + strlen(PLACEHOLDER));
}
