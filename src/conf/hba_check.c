/*
 * hba_check: HBA rules and name maps within a configuration: which file is for whom, whether what
 * rules name is there, and the floor of the production classes.
 *
 *   auth_type = hba of [pgstage] or an environment ──> its auth_hba_file, read once for each path
 *
 * A rule with a weak method is refused when it could decide about a login to production: when
 * nothing in it keeps production out. Runs on the thread that loads.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hba_inside.h"
#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/access.h"

/* A file that was read. */
struct hba_file {
    const char *path;
    struct hba *hba; /* NULL: it has mistakes */
};

/* ---- reading ---- */

/* Mistakes of a file go into the report; one that cannot be read is a mistake of whoever names it.
 */
static void take_entries(struct report *report, const struct report *own,
                         const struct assignment *named)
{
    for (size_t i = 0; i < own->count; i++) {
        const struct report_entry *entry = &own->entries[i];
        if (entry->file)
            report_error(report, entry->file, entry->line, "%s", entry->text);
        else
            origin_error(report, &named->origin, "%s: %s", named->option->name, entry->text);
    }
}

static const struct hba *load_rules(struct snapshot *snapshot, const struct assignment *named,
                                    struct report *report)
{
    struct report own = {0};
    const char *path = named->value.text;
    for (size_t i = 0; i < snapshot->hba_files.count; i++) {
        struct hba_file *known = snapshot->hba_files.items[i];
        if (strcmp(known->path, path) == 0)
            return known->hba;
    }
    struct hba_file *file = arena_get(&snapshot->arena, sizeof(*file));
    file->path = path;
    file->hba = hba_load(path, &own);
    pointers_add(&snapshot->hba_files, file);
    take_entries(report, &own, named);
    report_fini(&own);
    return file->hba;
}

static void load_maps(struct snapshot *snapshot, struct report *report)
{
    const struct assignment *named = layer_find_name(&snapshot->layer, "auth_ident_file");
    struct report own = {0};
    if (!named || !named->value.text)
        return;
    snapshot->ident = ident_load(named->value.text, &own);
    take_entries(report, &own, named);
    report_fini(&own);
}

/* The rules of one scope; NULL: it goes by none. */
static const struct hba *load_scope(struct snapshot *snapshot, struct environment *environment,
                                    struct report *report)
{
    const struct settings *settings = environment ? &environment->settings : &snapshot->globals;
    const struct layer *layer = environment ? &environment->layer : &snapshot->layer;
    const struct assignment *type = layer_find_name(layer, "auth_type");
    const struct assignment *file = layer_find_name(layer, "auth_hba_file");
    if (settings->auth_type != AUTH_HBA) {
        if (file && file->value.text)
            origin_warning(report, &file->origin,
                           "auth_hba_file has no effect: auth_type is not hba");
        return NULL;
    }
    if (!settings->auth_hba_file) {
        if (type || !environment)
            origin_error(report, type ? &type->origin : NULL,
                         "auth_type = hba needs auth_hba_file");
        return NULL;
    }
    if (snapshot->offline)
        return NULL;
    return load_rules(snapshot, file ? file : layer_find_name(&snapshot->layer, "auth_hba_file"),
                      report);
}

void hba_files_free(struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->hba_files.count; i++) {
        struct hba_file *file = snapshot->hba_files.items[i];
        hba_free(file->hba);
    }
    free(snapshot->hba_files.items);
    ident_free(snapshot->ident);
}

/* ---- what rules name ---- */

static void check_name(const struct snapshot *snapshot, const struct hba *hba, int line,
                       const char *environment, struct report *report)
{
    const char *nearest;
    if (!environment || snapshot_find_environment(snapshot, environment))
        return;
    nearest = environment_nearest(snapshot, environment);
    report_error(report, hba->words.file, line, "there is no environment \"%.80s\"%s%s%s",
                 environment, nearest ? "; did you mean " : "", nearest ? nearest : "",
                 nearest ? "?" : "");
}

static void check_rule(const struct snapshot *snapshot, const struct hba *hba,
                       const struct hba_rule *rule, struct report *report)
{
    for (size_t i = 0; i < rule->environment_count; i++)
        check_name(snapshot, hba, rule->line, rule->environments[i], report);
    for (size_t i = 0; i < rule->databases.count; i++)
        check_name(snapshot, hba, rule->line, rule->databases.items[i].environment, report);
    if (rule->map && !ident_has_map(snapshot->ident, rule->map))
        report_error(report, hba->words.file, rule->line, "there is no map \"%.80s\"%s", rule->map,
                     snapshot->ident ? " in auth_ident_file" : ": auth_ident_file is not set");
}

static bool wants_certificate(const struct hba *hba, int *line)
{
    for (size_t i = 0; i < hba->count; i++) {
        *line = hba->rules[i].line;
        if (hba->rules[i].method == AUTH_CERT || hba->rules[i].certificate)
            return true;
    }
    return false;
}

/* Certificates of clients are asked for where there is something to check them against. */
static bool ask_for_certificates(struct snapshot *snapshot)
{
    bool asked = false;
    for (size_t i = 0; i < snapshot->listeners.count; i++) {
        struct listener *listener = snapshot->listeners.items[i];
        const struct settings *settings = &listener->settings;
        listener->config.asks_certificate =
            settings->client_tls_ca_file && settings->client_tls_sslmode > TLS_DISABLE;
        asked = asked || listener->config.asks_certificate;
    }
    return asked;
}

static void check_certificates(struct snapshot *snapshot, struct report *report)
{
    static const char need[] = "needs a listener with TLS and client_tls_ca_file, which client "
                               "certificates are checked against";
    bool wanted = false;
    struct report mine = {0};
    if (snapshot->globals.auth_type == AUTH_CERT) {
        const struct assignment *type = layer_find_name(&snapshot->layer, "auth_type");
        origin_error(&mine, type ? &type->origin : NULL, "auth_type = cert %s", need);
        wanted = true;
    }
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        const struct assignment *type = layer_find_name(&environment->layer, "auth_type");
        if (type && environment->settings.auth_type == AUTH_CERT) {
            origin_error(&mine, &type->origin, "auth_type = cert %s", need);
            wanted = true;
        }
    }
    for (size_t i = 0; i < snapshot->hba_files.count; i++) {
        const struct hba_file *file = snapshot->hba_files.items[i];
        int line;
        if (file->hba && wants_certificate(file->hba, &line)) {
            report_error(&mine, file->hba->words.file, line, "this line %s", need);
            wanted = true;
        }
    }
    if (wanted && !ask_for_certificates(snapshot))
        for (size_t i = 0; i < mine.count; i++)
            report_error(report, mine.entries[i].file, mine.entries[i].line, "%s",
                         mine.entries[i].text);
    report_fini(&mine);
}

/* ---- the floor ---- */

/* Could a client that asks for this name end in the environment? */
static bool name_leads_there(const struct snapshot *snapshot, const struct hba_name *name,
                             const struct environment *environment)
{
    const struct environment_config *config = &environment->config;
    if (name->environment)
        return strcmp(name->environment, config->name) == 0;
    if (name->match != HBA_EXACT && name->match != HBA_PATTERN)
        return true;
    for (size_t i = 0; i < snapshot->databases.count; i++) {
        const struct database *line = snapshot->databases.items[i];
        bool own = line->config.environment && strcmp(line->config.environment, config->name) == 0;
        if (!own && !database_serves(&line->config, config))
            continue;
        if (!line->config.is_fallback && hba_name_fits(name, line->config.name))
            return true;
        /* `*` leads there whoever has no line of the name's own */
        if (line->config.is_fallback &&
            (name->match == HBA_PATTERN || !snapshot_find_database(snapshot, name->text, NULL)))
            return true;
    }
    return false;
}

/* Is any of the users one that the list holds? A NULL list holds everybody. */
static bool users_may(const struct hba_rule *rule, bool (*may)(const void *whom, const char *user),
                      const void *whom)
{
    for (size_t i = 0; i < rule->users.count; i++)
        if (rule->users.items[i].match != HBA_EXACT || may(whom, rule->users.items[i].text))
            return true;
    return false;
}

static bool may_enter(const void *environment, const char *user)
{
    return environment_allows_user(environment, user);
}

static bool may_administer(const void *globals, const char *user)
{
    const struct settings *settings = globals;
    return text_in_list(settings->admin_users, user) || text_in_list(settings->stats_users, user);
}

static bool is_about(const struct hba_rule *rule, const char *environment)
{
    for (size_t i = 0; i < rule->environment_count; i++)
        if (strcmp(rule->environments[i], environment) == 0)
            return true;
    return !rule->environment_count;
}

static bool rule_reaches(const struct snapshot *snapshot, const struct hba_rule *rule,
                         const struct environment *environment)
{
    if (!is_about(rule, environment->config.name) ||
        !users_may(rule, may_enter, &environment->config))
        return false;
    for (size_t i = 0; i < rule->databases.count; i++)
        if (name_leads_there(snapshot, &rule->databases.items[i], environment))
            return true;
    return false;
}

static bool rule_reaches_console(const struct snapshot *snapshot, const struct hba_rule *rule)
{
    if (rule->environment_count || !users_may(rule, may_administer, &snapshot->globals))
        return false;
    for (size_t i = 0; i < rule->databases.count; i++) {
        const struct hba_name *name = &rule->databases.items[i];
        if (!name->environment && (name->match == HBA_SAMEUSER || hba_name_fits(name, "pgstage") ||
                                   hba_name_fits(name, "pgbouncer")))
            return true;
    }
    return false;
}

/* The production environment that a rule of these reaches, or the first one for the console;
 * NULL: none. */
static const struct environment *reached(const struct snapshot *snapshot, const struct hba *hba,
                                         const struct hba_rule *rule, bool *console)
{
    const struct environment *first = NULL;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (!environment->config.production_class)
            continue;
        first = first ? first : environment;
        if (environment->config.hba == hba && rule_reaches(snapshot, rule, environment))
            return environment;
    }
    *console = first && snapshot->hba == hba && rule_reaches_console(snapshot, rule);
    return *console ? first : NULL;
}

/* A line of ldap: the way of the passwords to the directory, and that of pgstage's own. */
static void floor_ldap(const struct hba *hba, const struct hba_rule *rule,
                       const struct environment *environment, struct report *report)
{
    const struct origin origin = {ORIGIN_FILE, hba->words.file, rule->line};
    struct stat status;
    if (ldap_options_are_clear(rule->ldap))
        origin_broken(report, &origin, RULE_HBA, NULL,
                      "the passwords of logins to environment %s (class %s) would go to %s in the "
                      "clear: ldaptls=1 or ldapscheme=ldaps is missing",
                      environment->config.name, environment->config.class_name,
                      rule->ldap->servers);
    if (rule->ldap->bind_password && !file_is_private(hba->words.file, &status))
        origin_broken(report, &origin, RULE_FILE, NULL,
                      "ldapbindpasswd stands in a file with the owner %u and mode %04o",
                      (unsigned)status.st_uid, (unsigned)(status.st_mode & 07777));
}

static void floor_rule(const struct snapshot *snapshot, const struct hba *hba,
                       const struct hba_rule *rule, struct report *report)
{
    bool console = false;
    if (rule->method != AUTH_TRUST && rule->method != AUTH_PLAIN && rule->method != AUTH_MD5 &&
        rule->method != AUTH_LDAP)
        return;
    const struct environment *environment = reached(snapshot, hba, rule, &console);
    if (!environment)
        return;
    if (rule->method == AUTH_LDAP) {
        floor_ldap(hba, rule, environment, report);
        return;
    }
    const struct origin origin = {ORIGIN_FILE, hba->words.file, rule->line};
    origin_broken(report, &origin, RULE_HBA, NULL,
                  "the method %s of this line can be that of a login to %s%s (class %s)",
                  hba_method_name(rule->method),
                  console ? "the console, beside environment " : "environment ",
                  environment->config.name, environment->config.class_name);
}

void hba_check(struct snapshot *snapshot, struct report *report)
{
    if (!snapshot->offline)
        load_maps(snapshot, report);
    snapshot->hba = load_scope(snapshot, NULL, report);
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        struct environment *environment = snapshot->environments.items[i];
        environment->config.hba = load_scope(snapshot, environment, report);
    }
    check_certificates(snapshot, report);
    for (size_t i = 0; i < snapshot->hba_files.count; i++) {
        const struct hba_file *file = snapshot->hba_files.items[i];
        for (size_t j = 0; file->hba && j < file->hba->count; j++) {
            check_rule(snapshot, file->hba, &file->hba->rules[j], report);
            floor_rule(snapshot, file->hba, &file->hba->rules[j], report);
        }
    }
}
