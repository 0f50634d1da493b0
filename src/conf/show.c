/*
 * show: the configuration as one file.
 *
 * The printed file says the same as all the files it was merged from, so reading it again gives the
 * same configuration; only secrets that stood in a file in the clear are masked. Reads a frozen
 * snapshot; any thread.
 */
#include "pgstage/conf/show.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/connstr.h"
#include "pgstage/conf/variable.h"

#define MASK "********"

/* A value that a line of a file cannot hold: it came out of a variable and stays one. */
static bool needs_raw(const char *value)
{
    size_t length = strlen(value);
    for (size_t i = 0; i < length; i++)
        if (iscntrl((unsigned char)value[i]) && value[i] != '\t')
            return true;
    return length &&
           (isspace((unsigned char)value[0]) || isspace((unsigned char)value[length - 1]));
}

/* The value as a file writes it, allocated. */
static char *value_text(const struct assignment *assignment)
{
    const char *raw = assignment->raw;
    if (assignment->option->form == FORM_SECRET)
        return text_copy(!assignment->value.text ? "" : assignment->literal || !raw ? MASK : raw);
    char *plain = option_print(assignment->option, assignment->value);
    char *text =
        raw && !assignment->literal && needs_raw(plain) ? text_copy(raw) : variable_escape(plain);
    free(plain);
    return text;
}

static void print_origin(const struct origin *origin, FILE *out)
{
    char *text = origin_print(origin);
    /* A newline in a file's name must not end the comment. */
    for (char *at = text; *at; at++)
        *at = iscntrl((unsigned char)*at) ? '?' : *at;
    fprintf(out, "; %s\n", text);
    free(text);
}

static void print_assignment(const struct assignment *assignment, FILE *out)
{
    if (assignment->derived)
        return;
    char *text = value_text(assignment);
    print_origin(&assignment->origin, out);
    fprintf(out, "%s =%s%s\n", assignment->option->name, *text ? " " : "", text);
    free(text);
}

static void print_layer(const struct layer *layer, FILE *out)
{
    for (size_t i = 0; i < layer->count; i++)
        print_assignment(&layer->items[i], out);
}

/* Presets are no lines of the file: a comment shows what the class adds. */
static void print_preset(const struct environment *environment, FILE *out)
{
    for (size_t i = 0; i < environment->preset.count; i++) {
        const struct assignment *assignment = &environment->preset.items[i];
        if (layer_find(&environment->layer, assignment->option))
            continue;
        char *text = value_text(assignment);
        fprintf(out, "; class %s: %s = %s\n", environment->class->name, assignment->option->name,
                text);
        free(text);
    }
}

static void print_key(const char *name, const char *environment, bool quoted, FILE *out)
{
    if (!quoted) {
        fputs(name, out);
    } else {
        fputc('"', out);
        for (; *name; name++)
            fprintf(out, "%s%c", *name == '"' ? "\"" : "", *name);
        fputc('"', out);
    }
    if (environment)
        fprintf(out, "@%s", environment);
}

static bool name_is_plain(const char *name)
{
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("_.-*", *name))
            return false;
    return true;
}

static void print_pairs(const struct layer *layer, FILE *out)
{
    for (size_t i = 0; i < layer->count; i++) {
        if (layer->items[i].derived)
            continue;
        char *text = value_text(&layer->items[i]), *quoted = connstr_quote(text);
        fprintf(out, " %s=%s", layer->items[i].option->name, quoted);
        free(quoted);
        free(text);
    }
    fputc('\n', out);
}

static void print_databases(const struct snapshot *snapshot,
                            const struct environment_config *environment, FILE *out)
{
    fputs("\n[databases]\n", out);
    for (size_t i = 0; i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        if (environment && !database_serves(&line->config, environment))
            continue;
        print_origin(&line->origin, out);
        print_key(line->config.name, line->config.environment, !name_is_plain(line->config.name),
                  out);
        fputs(" =", out);
        if (line->whole)
            fprintf(out, " %s\n", line->whole);
        else
            print_pairs(&line->layer, out);
    }
}

static void print_users(const struct snapshot *snapshot, FILE *out)
{
    fputs("\n[users]\n", out);
    for (size_t i = 0; i < snapshot->users.count; i++) {
        const struct user_line *line = snapshot->users.items[i];
        print_origin(&line->origin, out);
        print_key(line->name, NULL, !name_is_plain(line->name), out);
        fputs(" =", out);
        print_pairs(&line->layer, out);
    }
}

static void print_peers(const struct snapshot *snapshot, FILE *out)
{
    fputs("\n[peers]\n", out);
    for (size_t i = 0; i < snapshot->peers.count; i++) {
        const struct peer *peer = snapshot->peers.items[i];
        print_origin(&peer->origin, out);
        fprintf(out, "%lld =", (long long)peer->config.id);
        print_pairs(&peer->layer, out);
    }
}

/* An environment alone needs no listener of another, and cannot name another as the default. */
static bool belongs(const struct environment_config *environment, const char *name)
{
    return !environment || !name || strcmp(name, environment->name) == 0;
}

static void print_globals(const struct snapshot *snapshot,
                          const struct environment_config *environment, FILE *out)
{
    fputs("[pgstage]\n", out);
    for (size_t i = 0; i < snapshot->layer.count; i++) {
        const struct assignment *assignment = &snapshot->layer.items[i];
        if (strcmp(assignment->option->name, "default_environment") != 0 ||
            belongs(environment, assignment->value.text))
            print_assignment(assignment, out);
    }
}

void config_print(const struct snapshot *snapshot, const struct environment_config *environment,
                  FILE *out)
{
    print_globals(snapshot, environment, out);
    for (size_t i = 0; i < snapshot->listeners.count; i++) {
        const struct listener *listener = snapshot->listeners.items[i];
        if (!listener->config.name || !belongs(environment, listener->config.environment))
            continue;
        fprintf(out, "\n[listener %s]\n", listener->config.name);
        print_layer(&listener->layer, out);
    }
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *own = snapshot->environments.items[i];
        if (!belongs(environment, own->config.name))
            continue;
        fprintf(out, "\n[environment %s]\n", own->config.name);
        print_layer(&own->layer, out);
        print_preset(own, out);
    }
    if (snapshot->databases.count)
        print_databases(snapshot, environment, out);
    if (snapshot->users.count)
        print_users(snapshot, out);
    if (snapshot->peers.count)
        print_peers(snapshot, out);
}
