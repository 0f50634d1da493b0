/*
 * outside_check: logins by LDAP and PAM: reads auth_ldap_options, and looks whether what is
 * configured can work and is safe enough.
 *
 *   auth_type = ldap │ auth_ldap_options ──> snapshot->ldap     lines of HBA files: hba.c
 *
 * The password of a client goes from here to the directory: for a production class over TLS only.
 * The thread that loads.
 */
#include <stdlib.h>
#include <string.h>

#include "hba_inside.h"
#include "inside.h"
#include "pgstage/base/text.h"

#define PROBLEM_BYTES 256

/* ---- auth_ldap_options ---- */

/* One `name=value`; what is wrong is said without the value, which may be a password. */
static bool take_word(struct snapshot *snapshot, const struct hba_field *field,
                      struct ldap_options *options, const struct origin *origin,
                      struct report *report)
{
    const char *text = field->count ? field->words[0].whole : "", *equals = strchr(text, '=');
    char problem[PROBLEM_BYTES] = "";
    if (field->count != 1 || !equals) {
        origin_error(
            report, origin,
            "auth_ldap_options are name=value with blanks between, in double quotes where a "
            "value has blanks or commas");
        return false;
    }
    char *name = text_copy_n(text, (size_t)(equals - text));
    bool good =
        ldap_options_take(&snapshot->arena, options, name, equals + 1, problem, sizeof(problem));
    if (!good)
        origin_error(report, origin, "auth_ldap_options: %.60s%s%s", name,
                     *problem ? ": " : " is none of them", problem);
    free(name);
    return good;
}

static void load_options(struct snapshot *snapshot, struct report *report)
{
    const struct assignment *named = layer_find_name(&snapshot->layer, "auth_ldap_options");
    struct hba_words words = {0};
    struct report own = {0};
    char problem[PROBLEM_BYTES];
    if (!named || !named->value.text)
        return;
    struct ldap_options *options = arena_get(&snapshot->arena, sizeof(*options));
    ldap_options_init(options);
    hba_words_parse(&words, "auth_ldap_options", named->value.text, strlen(named->value.text),
                    &own);
    bool good = own.errors == 0 && words.count == 1;
    if (!good)
        origin_error(report, &named->origin, "auth_ldap_options: a quote is not closed");
    for (size_t i = 0; good && i < words.lines[0].count; i++)
        good = take_word(snapshot, &words.lines[0].fields[i], options, &named->origin, report);
    if (good && !ldap_options_finish(&snapshot->arena, options, problem, sizeof(problem))) {
        origin_error(report, &named->origin, "auth_ldap_options: %s", problem);
        good = false;
    }
    snapshot->ldap = good ? options : NULL;
    hba_words_fini(&words);
    report_fini(&own);
}

/* ---- what goes by it ---- */

static bool is_outside(int type)
{
    return type == AUTH_LDAP || type == AUTH_PAM;
}

/* Is there anything that pgstage could log in on servers with, for users who show their passwords
 * to others? A server may ask for none, so this can only be a warning. */
static bool has_server_secrets(const struct snapshot *snapshot, const struct settings *settings)
{
    bool found = snapshot->secrets || settings->auth_file || settings->auth_user ||
                 (settings->user && settings->password) || settings->server_tls_cert_file;
    for (size_t i = 0; i < snapshot->databases.count && !found; i++) {
        const struct database *line = snapshot->databases.items[i];
        found = layer_find_name(&line->layer, "user") != NULL;
    }
    return found;
}

/* [pgstage] (environment NULL) or an environment that says how clients log in. */
static void check_type(const struct snapshot *snapshot, const struct environment *environment,
                       struct report *report)
{
    const struct settings *settings = environment ? &environment->settings : &snapshot->globals;
    const struct layer *layer = environment ? &environment->layer : &snapshot->layer;
    const struct assignment *type = layer_find_name(layer, "auth_type");
    if (!type || !is_outside(settings->auth_type))
        return;
    if (settings->auth_type == AUTH_LDAP && !layer_find_name(&snapshot->layer, "auth_ldap_options"))
        origin_error(report, &type->origin,
                     "auth_type = ldap needs auth_ldap_options in [pgstage]");
    if (!has_server_secrets(snapshot, settings))
        origin_warning(report, &type->origin,
                       "users of %s have no secret here that pgstage could log in on servers with; "
                       "give the database a user and password, the users a line in auth_file, or "
                       "let the servers ask for none",
                       settings->auth_type == AUTH_LDAP ? "ldap" : "pam");
}

/* auth_type says nothing of TLS, so passwords do not come over a wire without it. */
static void check_client_tls(const struct snapshot *snapshot, const struct environment *environment,
                             struct report *report)
{
    const struct layer *layer = environment ? &environment->layer : &snapshot->layer;
    const struct settings *settings = environment ? &environment->settings : &snapshot->globals;
    const struct assignment *type = layer_find_name(layer, "auth_type");
    bool tls = false, wire = false;
    if (!type || !is_outside(settings->auth_type))
        return;
    for (size_t i = 0; i < snapshot->listeners.count; i++) {
        const struct settings *listener =
            &((const struct listener *)snapshot->listeners.items[i])->settings;
        tls = tls || listener->client_tls_sslmode > TLS_DISABLE;
        wire = wire || !listens_on_loopback(listener->listen_addr);
    }
    if (wire && !tls)
        origin_warning(report, &type->origin,
                       "clients that come over a wire are refused: their passwords come over TLS "
                       "only, and no listener has it (client_tls_sslmode)");
}

/* auth_type = ldap that a production class goes by. */
static void check_production(const struct snapshot *snapshot, struct report *report)
{
    const struct assignment *options = layer_find_name(&snapshot->layer, "auth_ldap_options");
    if (!snapshot->ldap || !ldap_options_are_clear(snapshot->ldap))
        return;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (!environment->config.production_class || environment->settings.auth_type != AUTH_LDAP)
            continue;
        origin_broken(report, &options->origin, RULE_LOGIN, NULL,
                      "environment %s (class %s): clients' passwords would go to %s in the clear",
                      environment->config.name, environment->config.class_name,
                      snapshot->ldap->servers);
        return;
    }
}

void outside_check(struct snapshot *snapshot, struct report *report)
{
    load_options(snapshot, report);
    check_type(snapshot, NULL, report);
    check_client_tls(snapshot, NULL, report);
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        check_type(snapshot, snapshot->environments.items[i], report);
        check_client_tls(snapshot, snapshot->environments.items[i], report);
    }
    check_production(snapshot, report);
}

const struct ldap_options *snapshot_ldap(const struct snapshot *snapshot)
{
    return snapshot->ldap;
}

static bool rules_ask(const struct hba *hba)
{
    for (size_t i = 0; hba && i < hba->count; i++)
        if (is_outside((int)hba->rules[i].method))
            return true;
    return false;
}

bool snapshot_asks_outside(const struct snapshot *snapshot)
{
    bool asks = is_outside(snapshot->globals.auth_type) || rules_ask(snapshot->hba);
    for (size_t i = 0; i < snapshot->environments.count && !asks; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        asks = is_outside(environment->settings.auth_type) || rules_ask(environment->config.hba);
    }
    return asks;
}
