/*
 * rule: the floor of the production classes as data, made from tables/rules.def. Constant; any
 * thread.
 */
#ifndef PGSTAGE_CONF_RULE_H
#define PGSTAGE_CONF_RULE_H

#include <stddef.h>

enum rule_id {
#define RULE(id, name, options, holds, write) RULE_##id,
#include "pgstage/tables/rules.def"
#undef RULE
    RULE_COUNT,
};

struct rule {
    const char *name;
    const char *options; /* with blanks between; "" */
    const char *holds;
    const char *write; /* OPTION stands for the option that broke it */
};

const struct rule *rule_at(enum rule_id id);
/* The rule that an option stands under in a production class, or NULL. */
const struct rule *rule_of_option(const char *option);
/* What to write, with OPTION replaced; allocated. */
char *rule_advice(const struct rule *rule, const char *option) __attribute__((warn_unused_result));

#endif
