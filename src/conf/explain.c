/*
 * explain: what is in force, option by option: the rows of SHOW CONFIG and the text of --explain.
 *
 * A value comes with its origin and, in a production class, with the rule of tables/rules.def that
 * holds it where it is. Reads a frozen snapshot; any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/show.h"

#define MASK "********"
#define VALUE_COLUMN 52

void config_row_fini(struct config_row *row)
{
    free(row->value);
    free(row->default_text);
    free(row->origin);
    free(row->pending);
    *row = (struct config_row){0};
}

/* The option with the next name behind `last`. */
static const struct option *option_after(unsigned scopes, const char *last)
{
    const struct option *next = NULL;
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        if ((option->scopes & scopes) && (!last || strcmp(option->name, last) > 0) &&
            (!next || strcmp(option->name, next->name) < 0))
            next = option;
    }
    return next;
}

static char *shown_value(const struct option *option, struct option_value value)
{
    return option->form == FORM_SECRET && value.text ? text_copy(MASK)
                                                     : option_print(option, value);
}

/* The rule behind an option: of a production environment, or of what all of them share. */
static const struct rule *rule_behind(const struct snapshot *snapshot,
                                      const struct environment *own, const struct option *option)
{
    bool production = own && own->config.production_class;
    bool shared = !own && !text_starts_with(option->name, "server_tls_");
    for (size_t i = 0; shared && i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        production = production || environment->config.production_class;
    }
    return production ? rule_of_option(option->name) : NULL;
}

static void fill_row(const struct snapshot *snapshot, const struct snapshot *started,
                     const struct environment *own, const struct option *option,
                     struct config_row *row)
{
    const struct origin nowhere = {ORIGIN_DEFAULT, NULL, 0};
    const struct rule *rule = rule_behind(snapshot, own, option);
    /* Only options of [pgstage] need a restart, so no environment says anything about them. */
    bool old = started && option->reload == RELOAD_RESTART && (option->scopes & SCOPE_GLOBAL);
    const struct snapshot *source = old ? started : snapshot;
    const struct settings *settings = own && !old ? &own->settings : &source->globals;
    const struct assignment *from = snapshot_assignment(source, old ? NULL : own, NULL, option);
    struct option_value value = option_load(option, settings);
    row->key = option->name;
    if (strcmp(option->name, "conffile") == 0 && !value.text)
        row->value = text_copy(snapshot->file);
    else
        row->value = shown_value(option, value);
    row->default_text = option_print(option, option_default(option));
    row->changeable = option->reload != RELOAD_RESTART;
    row->origin = origin_print(from ? &from->origin : &nowhere);
    row->rule = rule ? rule->name : NULL;
    struct option_value next = option_load(option, &snapshot->globals);
    if (old && !option_value_equal(option, value, next))
        row->pending = shown_value(option, next);
}

bool config_row_next(const struct snapshot *snapshot, const struct snapshot *started,
                     const struct environment_config *environment, struct config_row *row)
{
    const struct environment *own =
        environment ? snapshot->environments.items[environment->index] : NULL;
    unsigned scopes = own ? SCOPE_GLOBAL | SCOPE_ENVIRONMENT : SCOPE_GLOBAL;
    const struct option *option = option_after(scopes, row->key);
    config_row_fini(row);
    if (option)
        fill_row(snapshot, started, own, option, row);
    return option != NULL;
}

/* ---- the text ---- */

static void explain_value(const char *key, const char *value, const char *origin, const char *rule,
                          FILE *out)
{
    int width = fprintf(out, "%s =%s%s", key, *value ? " " : "", value);
    /* Two blanks at least, in a column as long as values are short. */
    fprintf(out, "%*s%s", width + 2 < VALUE_COLUMN ? VALUE_COLUMN - width : 2, "", origin);
    fprintf(out, "%s%s%s\n", rule ? "  [" : "", rule ? rule : "", rule ? "]" : "");
}

/* What a line says otherwise: `name: option = value`. */
static void explain_layer(const char *name, const char *suffix, const struct layer *layer,
                          bool production, FILE *out)
{
    for (size_t i = 0; i < layer->count; i++) {
        const struct assignment *assignment = &layer->items[i];
        const struct option *option = assignment->option;
        const struct rule *rule = production ? rule_of_option(option->name) : NULL;
        if (assignment->derived)
            continue;
        char *key =
            text_print("%s%s%s: %s", name, suffix ? "@" : "", suffix ? suffix : "", option->name);
        char *value = shown_value(option, assignment->value);
        char *origin = origin_print(&assignment->origin);
        explain_value(key, value, origin, rule ? rule->name : NULL, out);
        free(origin);
        free(value);
        free(key);
    }
}

static void explain_lines(const struct snapshot *snapshot, const struct environment *own, FILE *out)
{
    bool production = own->config.production_class;
    fputs("\nWhat lines of [databases] say otherwise in it:\n", out);
    for (size_t i = 0; i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        if (database_serves(&line->config, &own->config))
            explain_layer(line->config.name, line->config.environment, &line->layer, production,
                          out);
    }
    fputs("\nWhat lines of [users] say otherwise, in every environment:\n", out);
    for (size_t i = 0; i < snapshot->users.count; i++) {
        const struct user_line *line = snapshot->users.items[i];
        explain_layer(line->name, NULL, &line->layer, false, out);
    }
}

static void explain_rules(FILE *out)
{
    fputs("\nThe rules of a production class. A configuration that breaks one does not load:\n",
          out);
    for (enum rule_id id = 0; id < RULE_COUNT; id++) {
        const struct rule *rule = rule_at(id);
        fprintf(out, "%-23s %s\n", rule->name, rule->holds);
    }
}

void config_explain(const struct snapshot *snapshot, const struct environment_config *environment,
                    FILE *out)
{
    const struct environment *own = snapshot->environments.items[environment->index];
    const char *group = "";
    fprintf(out, "Environment %s, ", environment->name);
    if (own->class)
        fprintf(out, "class %s (%s%s)\n", own->class->name, own->class->purpose,
                own->class->production ? "; a production class" : "");
    else
        fputs("without a class\n", out);
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        struct config_row row = {0};
        if (!(option->scopes & (SCOPE_GLOBAL | SCOPE_ENVIRONMENT)))
            continue;
        if (strcmp(group, option->group) != 0)
            fputs("\n", out);
        group = option->group;
        fill_row(snapshot, NULL, own, option, &row);
        explain_value(row.key, row.value, row.origin, row.rule, out);
        config_row_fini(&row);
    }
    explain_lines(snapshot, own, out);
    if (environment->production_class)
        explain_rules(out);
}
