/*
 * print: writes the sample configuration and the reference page of the options.
 *
 * Both come from tables/options.def and tables/classes.def alone, so that they cannot fall behind;
 * the files of the tree are compared with this output by a test. Pure.
 */
#include "pgstage/conf/print.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/conf/class.h"
#include "pgstage/conf/option.h"
#include "pgstage/conf/rule.h"

#define WIDTH 96

/* A text broken at blanks, each line behind `prefix`. */
static void print_wrapped(FILE *out, const char *prefix, const char *text)
{
    while (*text) {
        size_t room = WIDTH - strlen(prefix), length = strlen(text);
        if (length > room) {
            length = room;
            while (length && text[length] != ' ')
                length--;
            length = length ? length : room;
        }
        fprintf(out, "%s%.*s\n", prefix, (int)length, text);
        text += length;
        text += *text == ' ';
    }
}

/* What the sample file sets; everything else stands in it as a comment. */
static const char *const sample_values[][2] = {
    {"listen_addr", "127.0.0.1"},   {"listen_port", "6432"},
    {"auth_type", "scram-sha-256"}, {"auth_file", "${CONFIG_DIR}/userlist.txt"},
    {"pool_mode", "transaction"},   {"default_environment", "development"},
    {"class", "local_development"}, {"hosts", "127.0.0.1:5432"},
};

/* What the help of an option says and what can be said from its row. */
static char *option_note(const struct option *option, bool with_reload)
{
    const char *restart =
        with_reload && option->reload == RELOAD_RESTART ? "; needs a restart" : "";
    return text_print("%s%s", option->help, restart);
}

static void print_option(FILE *out, const struct option *option)
{
    char *note = option_note(option, true);
    const char *text = option->default_text ? option->default_text : "";
    print_wrapped(out, "; ", note);
    fprintf(out, ";%s =%s%s\n", option->name, *text ? " " : "", text);
    for (size_t i = 0; i < sizeof(sample_values) / sizeof(sample_values[0]); i++)
        if (strcmp(sample_values[i][0], option->name) == 0)
            fprintf(out, "%s = %s\n", option->name, sample_values[i][1]);
    free(note);
}

/* The group's name with blanks, for people. */
static char *group_title(const char *group)
{
    char *title = text_copy(group);
    for (char *at = title; *at; at++)
        *at = *at == '_' ? ' ' : *at;
    if (text_starts_with(title, "client tls") || text_starts_with(title, "server tls"))
        memcpy(strchr(title, ' '), " TLS", 4);
    return title;
}

/* Options that may stand in `scope` but not in one of `without`. */
static void print_options(FILE *out, unsigned scope, unsigned without)
{
    const char *group = "";
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        if (!(option->scopes & scope) || (option->scopes & without))
            continue;
        if (strcmp(group, option->group) != 0) {
            char *title = group_title(option->group);
            group = option->group;
            fprintf(out, "\n;;; %s\n", title);
            free(title);
        }
        print_option(out, option);
    }
}

/* The names of the options that may stand in both scopes, as a wrapped list. */
static void print_names(FILE *out, const char *lead, unsigned scope, unsigned also)
{
    char *list = text_copy(lead);
    bool first = true;
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        if (!(option->scopes & scope) || !(option->scopes & also))
            continue;
        char *longer = text_print("%s%s %s", list, first ? "" : ",", option->name);
        free(list);
        list = longer;
        first = false;
    }
    print_wrapped(out, "; ", list);
    free(list);
}

static void print_sample_environments(FILE *out)
{
    fputs("\n\n"
          ";;; An environment is one cluster and what it is for. Its class presets pool sizes,\n"
          ";;; timeouts, the TLS policy and how closely it is watched; see conf/environments/ for\n"
          ";;; staging and production. The classes:\n",
          out);
    for (size_t i = 0; i < class_count(); i++)
        fprintf(out, ";;;   %-20s %s%s\n", class_at(i)->name, class_at(i)->purpose,
                class_at(i)->production ? " (a production class)" : "");
    fputs("[environment development]\n", out);
    print_options(out, SCOPE_ENVIRONMENT, SCOPE_GLOBAL | SCOPE_DATABASE);
    fputs("\n", out);
    print_names(out,
                "From [databases], here for all databases of the environment:", SCOPE_ENVIRONMENT,
                SCOPE_DATABASE);
    print_names(out, "From [pgstage], here for this environment only:", SCOPE_ENVIRONMENT,
                SCOPE_GLOBAL);
}

static void print_sample_listener(FILE *out)
{
    fputs("\n\n"
          ";;; A further place to listen on, bound to one environment if it names one:\n"
          ";;;   [listener staging]\n"
          ";;;   listen_port = 6433\n"
          ";;;   environment = staging\n",
          out);
    print_names(out, "A listener takes from [pgstage]:", SCOPE_LISTENER, SCOPE_GLOBAL);
}

static void print_sample_lines(FILE *out)
{
    fputs("\n\n"
          ";;; name = key=value …: the databases that clients may ask for. A value with blanks "
          "stands in\n"
          ";;; 'single quotes'. `app` exists in every environment; `app@production` in that one "
          "only and\n"
          ";;; wins there; `*` is every other name. A line with a host of its own and no "
          "environment is\n"
          ";;; what PgBouncer knows:\n"
          ";;;   app            = dbname=myapp\n"
          ";;;   app@production = dbname=myapp_prod pool_size=80\n"
          ";;;   reports        = environment=production dbname=myapp_prod pool_mode=session\n"
          ";;;   legacy         = host=10.0.0.9 port=5432 dbname=legacy\n"
          "[databases]\n"
          "* =\n",
          out);
    print_options(out, SCOPE_DATABASE, SCOPE_GLOBAL);
    fputs("\n", out);
    print_names(out, "From [pgstage], here for one database:", SCOPE_DATABASE, SCOPE_GLOBAL);
    fputs("\n\n"
          ";;; name = key=value …: what is otherwise for one user\n"
          "[users]\n",
          out);
    print_names(out, "Possible keys:", SCOPE_USER, SCOPE_USER);
    fputs("\n\n"
          ";;; id = host=… port=…: the other processes behind the same address (see peer_id)\n"
          "[peers]\n",
          out);
    print_names(out, "Possible keys:", SCOPE_PEER, SCOPE_PEER);
}

void conf_print_sample(FILE *out)
{
    fputs(";;; pgstage configuration: every option with its default.\n"
          ";;;\n"
          ";;; Comments stand on lines of their own. Durations take us, ms, s, min, h, d; sizes B, "
          "kB, MB, GB;\n"
          ";;; a bare number counts seconds or bytes, as in PgBouncer. ${VAR} and ${VAR:-default} "
          "are\n"
          ";;; environment variables, ${CONFIG_DIR} is this file's folder, $${ is a literal ${.\n"
          ";;; Beside this file, pgstage.d/*.ini and then pgstage.local.ini are read; "
          "%include FILE reads\n"
          ";;; another one in between. PGSTAGE__OPTION and PGSTAGE__ENVIRONMENT__OPTION in the "
          "process's\n"
          ";;; environment come last. `pgstage --check FILE` lists every mistake.\n"
          "\n"
          "; [pgbouncer] is the same section\n"
          "[pgstage]\n",
          out);
    print_options(out, SCOPE_GLOBAL, 0);
    print_sample_listener(out);
    print_sample_environments(out);
    print_sample_lines(out);
}

/* Text for a cell of a table. */
static void print_cell(FILE *out, const char *text)
{
    for (; *text; text++)
        fprintf(out, "%s%c", *text == '|' ? "\\" : "", *text);
}

static void print_type(FILE *out, const struct option *option)
{
    static const char *const names[] = {
        [FORM_YES_NO] = "yes or no",
        [FORM_NUMBER] = "number",
        [FORM_AUTO] = "number or auto",
        [FORM_OCTAL] = "octal number",
        [FORM_SECONDS] = "duration (s)",
        [FORM_MILLISECONDS] = "duration (ms)",
        [FORM_BYTES] = "size",
        [FORM_WORDS] = "",
        [FORM_WORD] = "text",
        [FORM_LIST] = "list",
        [FORM_FILE] = "file",
        [FORM_PATH] = "path",
        [FORM_SECRET] = "secret",
        [FORM_LINE] = "text",
    };
    fputs(names[option->form], out);
    for (const struct option_word *word = option->words; word && word->word; word++)
        fprintf(out, "%s%s", word == option->words ? "" : ", ", word->word);
}

static void print_reference_option(FILE *out, const struct option *option)
{
    static const char *const reloads[] = {"at once", "new connections", "restart"};
    char scopes[96], *note = option_note(option, false);
    option_scopes_text(option, scopes, sizeof(scopes));
    fprintf(out, "| `%s` | ", option->name);
    print_type(out, option);
    fputs(" | ", out);
    if (option->default_text) {
        fputs("`", out);
        print_cell(out, option->default_text);
        fputs("`", out);
    }
    fprintf(out, " | %s | %s | ", scopes, reloads[option->reload]);
    print_cell(out, note);
    fputs(" |\n", out);
    free(note);
}

static void print_reference_classes(FILE *out)
{
    fputs("\n## Environment classes\n\n"
          "What a class presets stands between `[pgstage]` and `[environment NAME]`. In the "
          "production classes\n"
          "(marked *) TLS can only be made stricter.\n\n| class | purpose |",
          out);
    for (enum class_preset preset = 0; preset < PRESET_COUNT; preset++)
        fprintf(out, " `%s` |", class_preset_option(preset));
    fputs("\n| --- | --- |", out);
    for (enum class_preset preset = 0; preset < PRESET_COUNT; preset++)
        fputs(" --- |", out);
    fputs("\n", out);
    for (size_t i = 0; i < class_count(); i++) {
        const struct environment_class *class = class_at(i);
        fprintf(out, "| `%s`%s | %s |", class->name, class->production ? " *" : "", class->purpose);
        for (enum class_preset preset = 0; preset < PRESET_COUNT; preset++)
            fprintf(out, " %s |", class->presets[preset] ? class->presets[preset] : "–");
        fputs("\n", out);
    }
}

void conf_print_reference(FILE *out)
{
    const char *group = "";
    fputs("# Options\n\n"
          "Every option, made from the table in the source (`pgstage --print-reference`). A bare "
          "number counts the\n"
          "unit in brackets; durations also take `us`, `ms`, `s`, `min`, `h`, `d`, sizes `B`, "
          "`kB`, `MB`, `GB`.\n"
          "*Reload* says when a change takes effect after `RELOAD`.\n",
          out);
    for (size_t i = 0; i < option_count(); i++) {
        const struct option *option = option_at(i);
        if (strcmp(group, option->group) != 0) {
            char *title = group_title(option->group);
            group = option->group;
            title[0] = (char)(title[0] >= 'a' ? title[0] - 32 : title[0]);
            fprintf(out,
                    "\n## %s\n\n| option | type | default | where | reload | meaning |\n"
                    "| --- | --- | --- | --- | --- | --- |\n",
                    strcmp(title, "Dns") == 0 ? "DNS" : title);
            free(title);
        }
        print_reference_option(out, option);
    }
    print_reference_classes(out);
}

static void print_rule_options(FILE *out, const char *options)
{
    for (bool first = true; *options; first = false) {
        size_t length = strcspn(options, " ");
        fprintf(out, "%s`%.*s`", first ? "" : ", ", (int)length, options);
        options += length + (options[length] == ' ');
    }
}

void conf_print_rules(FILE *out)
{
    fputs("| rule | options | what holds in every configuration that loads | what to write |\n"
          "| --- | --- | --- | --- |\n",
          out);
    for (enum rule_id id = 0; id < RULE_COUNT; id++) {
        const struct rule *rule = rule_at(id);
        fprintf(out, "| `%s` | ", rule->name);
        print_rule_options(out, rule->options);
        fputs(" | ", out);
        print_cell(out, rule->holds);
        fputs(" | ", out);
        print_cell(out, rule->write);
        fputs(" |\n", out);
    }
}
