/*
 * validate: what must fit together in a configuration once every line has been read.
 *
 * Reports everything that is wrong, never only the first; warnings are for what works but is
 * probably not meant. Certificates are looked at in certificate.c, what options make of each other
 * in fit.c, the rules of the production classes in floor.c. Runs on the thread that loads and reads
 * the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/file.h"
#include "pgstage/conf/host.h"

bool database_serves(const struct database_config *line,
                     const struct environment_config *environment)
{
    if (line->environment)
        return strcmp(line->environment, environment->name) == 0;
    if (line->in_environment)
        return strcmp(line->in_environment, environment->name) == 0;
    return line->host_count == 0;
}

/* The origin of an option in a layer, or of the layer's section itself. */
static const struct origin *origin_of(const struct layer *layer, const char *option,
                                      const struct origin *section)
{
    const struct assignment *assignment = layer_find_name(layer, option);
    return assignment ? &assignment->origin : section;
}

const char *environment_nearest(const struct snapshot *snapshot, const char *name)
{
    const char *nearest = NULL;
    unsigned best = (unsigned)strlen(name) / 2 + 1;
    for (size_t i = 0; i < snapshot_environment_count(snapshot); i++) {
        const char *known = snapshot_environment(snapshot, i)->name;
        unsigned distance = text_distance(name, known);
        if (distance < best) {
            nearest = known;
            best = distance;
        }
    }
    return nearest;
}

static void check_environment_name(const struct snapshot *snapshot, struct report *report,
                                   const struct origin *origin, const char *name)
{
    const char *nearest;
    if (snapshot_find_environment(snapshot, name))
        return;
    nearest = environment_nearest(snapshot, name);
    if (nearest)
        origin_error(report, origin, "there is no environment \"%.80s\"; did you mean %s?", name,
                     nearest);
    else
        origin_error(report, origin, "there is no environment \"%.80s\"", name);
}

/* Every file that a layer names can be opened, and reading it waits for nobody. */
static void check_files(const struct snapshot *snapshot, const struct layer *layer,
                        struct report *report)
{
    for (size_t i = 0; i < layer->count && !snapshot->offline; i++) {
        const struct assignment *assignment = &layer->items[i];
        const char *path = assignment->value.text;
        if (assignment->option->form != FORM_FILE || !path || strcmp(path, "system") == 0)
            continue;
        /* Files that are read whole report for themselves. */
        if (strcmp(assignment->option->name, "auth_file") == 0 ||
            strcmp(assignment->option->name, "auth_hba_file") == 0 ||
            strcmp(assignment->option->name, "auth_ident_file") == 0 ||
            strstr(assignment->option->name, "password_file"))
            continue;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat status;
        if (fd < 0 || fstat(fd, &status) < 0)
            origin_error(report, &assignment->origin, "%s: cannot read %s: %s",
                         assignment->option->name, path, strerror(errno));
        else if (!file_is_plain(&status))
            origin_error(report, &assignment->origin, "%s: cannot read %s: " FILE_NOT_PLAIN,
                         assignment->option->name, path);
        if (fd >= 0)
            close(fd);
    }
}

static void check_protocols(const struct layer *layer, struct report *report, const char *option)
{
    static const char *const words[] = {"secure",  "all",     "legacy",  "default",
                                        "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"};
    const struct assignment *assignment = layer_find_name(layer, option);
    if (!assignment || !assignment->value.text)
        return;
    char *list = text_copy(assignment->value.text), *rest = NULL;
    for (char *word = strtok_r(list, ", :\t", &rest); word; word = strtok_r(NULL, ", :\t", &rest)) {
        bool known = false;
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            known = known || text_equal_nocase(word, words[i]);
        if (!known)
            origin_error(report, &assignment->origin,
                         "%s: \"%.40s\" is none of secure, all, tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3",
                         option, word);
    }
    free(list);
}

/* Certificates of servers can only be verified against something. `floor`: an environment of a
 * production class, whose rules ask for it anyway. */
static void check_server_tls(const struct settings *settings, const struct layer *layer,
                             const struct origin *section, bool floor, struct report *report)
{
    if (!floor && settings->server_tls_sslmode >= TLS_VERIFY_CA && !settings->server_tls_ca_file)
        origin_error(report, origin_of(layer, "server_tls_sslmode", section),
                     "server_tls_sslmode = %s needs server_tls_ca_file: a file of certificates, or "
                     "system for the distribution's",
                     settings->server_tls_sslmode == TLS_VERIFY_CA ? "verify-ca" : "verify-full");
    if (settings->server_channel_binding == CHANNEL_BINDING_REQUIRE &&
        settings->server_tls_sslmode < TLS_REQUIRE)
        origin_error(report, origin_of(layer, "server_channel_binding", section),
                     "server_channel_binding = require needs TLS: server_tls_sslmode = require or "
                     "stricter");
    if (!settings->server_tls_key_file != !settings->server_tls_cert_file)
        origin_error(report,
                     origin_of(layer,
                               settings->server_tls_key_file ? "server_tls_key_file"
                                                             : "server_tls_cert_file",
                               section),
                     "server_tls_key_file and server_tls_cert_file need each other");
}

static void check_client_tls(const struct listener *listener, const struct layer *layer,
                             struct report *report)
{
    const struct settings *settings = &listener->settings;
    const struct origin *origin = origin_of(layer, "client_tls_sslmode", &listener->origin);
    if (!settings->client_tls_key_file != !settings->client_tls_cert_file) {
        origin_error(report,
                     origin_of(layer,
                               settings->client_tls_key_file ? "client_tls_key_file"
                                                             : "client_tls_cert_file",
                               &listener->origin),
                     "client_tls_key_file and client_tls_cert_file need each other");
        return;
    }
    if (settings->client_tls_sslmode == TLS_DISABLE)
        return;
    if (!settings->client_tls_key_file)
        origin_error(report, origin,
                     "client_tls_sslmode needs client_tls_key_file and client_tls_cert_file");
    if (settings->client_tls_sslmode >= TLS_VERIFY_CA && !settings->client_tls_ca_file)
        origin_error(report, origin,
                     "client_tls_sslmode = %s needs client_tls_ca_file, which client certificates "
                     "are checked against",
                     settings->client_tls_sslmode == TLS_VERIFY_CA ? "verify-ca" : "verify-full");
}

/* Does one of the addresses in `a` stand in `b`, or is either every address? */
static bool addresses_meet(const char *a, const char *b)
{
    static const char *const every[] = {"*", "0.0.0.0", "::"};
    if (!a || !b)
        return false;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(a, every[i]) == 0 || strcmp(b, every[i]) == 0)
            return true;
    char *list = text_copy(a), *rest = NULL;
    bool meet = false;
    for (char *one = strtok_r(list, ", \t", &rest); one && !meet;
         one = strtok_r(NULL, ", \t", &rest)) {
        const char *at = strstr(b, one);
        size_t length = strlen(one);
        for (; at && !meet; at = strstr(at + 1, one))
            meet =
                (at == b || strchr(", \t", at[-1])) && (!at[length] || strchr(", \t", at[length]));
    }
    free(list);
    return meet;
}

static void check_listener(const struct snapshot *snapshot, size_t index, struct report *report)
{
    const struct listener *listener = snapshot->listeners.items[index];
    const struct layer *layer = listener->config.name ? &listener->layer : &snapshot->layer;
    const struct settings *settings = &listener->settings;
    const struct origin *port = origin_of(layer, "listen_port", &listener->origin);
    if (listener->config.environment)
        check_environment_name(snapshot, report, origin_of(layer, "environment", &listener->origin),
                               listener->config.environment);
    const struct origin *folder = origin_of(layer, "unix_socket_dir", &listener->origin);
    if (!settings->listen_addr && !settings->unix_socket_dir)
        origin_error(report, origin_of(layer, "listen_addr", folder),
                     "neither listen_addr nor unix_socket_dir is set: nobody could connect");
    if (settings->unix_socket_dir &&
        !socket_folder_fits(settings->unix_socket_dir, (uint16_t)settings->listen_port))
        origin_error(report, folder, SOCKET_TOO_LONG, settings->unix_socket_dir,
                     (unsigned)settings->listen_port, SOCKET_PATH_MAX_BYTES);
    if (listener->config.name) {
        check_files(snapshot, layer, report);
        check_protocols(layer, report, "client_tls_protocols");
    }
    check_client_tls(listener, layer, report);
    for (size_t i = 0; i < index; i++) {
        const struct listener *other = snapshot->listeners.items[i];
        if (other->settings.listen_port != settings->listen_port)
            continue;
        if (addresses_meet(other->settings.listen_addr, settings->listen_addr) ||
            (settings->unix_socket_dir &&
             text_equal(other->settings.unix_socket_dir, settings->unix_socket_dir)))
            origin_error(report, port, "listener %s and %s%s have the same port %lld",
                         listener->config.name, other->config.name ? "listener " : "[pgstage]",
                         other->config.name ? other->config.name : "",
                         (long long)settings->listen_port);
    }
}

/* A certificate of its own needs its key, and somebody who is shown it. */
static void check_environment_certificate(const struct snapshot *snapshot,
                                          const struct environment *environment,
                                          struct report *report)
{
    const struct layer *layer = &environment->layer;
    const struct assignment *certificate = layer_find_name(layer, "client_tls_cert_file");
    const struct assignment *key = layer_find_name(layer, "client_tls_key_file");
    bool shown = environment->settings.sni != NULL;
    if (!certificate && !key)
        return;
    if (!environment->config.client_cert_file) {
        origin_error(report, certificate ? &certificate->origin : &key->origin,
                     "client_tls_key_file and client_tls_cert_file need each other");
        return;
    }
    for (size_t i = 0; i < snapshot->listeners.count && !shown; i++) {
        const struct listener *listener = snapshot->listeners.items[i];
        shown = text_equal(listener->config.environment, environment->config.name);
    }
    if (!shown)
        origin_warning(report, &certificate->origin,
                       "environment %s has no sni and no listener of its own: nobody is shown its "
                       "client_tls_cert_file",
                       environment->config.name);
}

static void check_environment(const struct snapshot *snapshot,
                              const struct environment *environment, struct report *report)
{
    const struct layer *layer = &environment->layer;
    const struct settings *settings = &environment->settings;
    if (!environment->config.host_count && !layer_find_name(layer, "hosts"))
        origin_error(report, &environment->origin, "environment %s has no hosts",
                     environment->config.name);
    else if (!environment->config.host_count && !layer_find_name(layer, "hosts")->value.text)
        origin_error(report, origin_of(layer, "hosts", &environment->origin),
                     "environment %s has no hosts", environment->config.name);
    if (!environment->config.class_name)
        origin_warning(report, &environment->origin,
                       "environment %s has no class, so nothing is preset and no rule of a class "
                       "protects it",
                       environment->config.name);
    if (!settings->monitor_user && (settings->monitor_password || settings->monitor_password_file))
        origin_error(report, origin_of(layer, "monitor_password", &environment->origin),
                     "monitor_password needs monitor_user");
    if (settings->copy_of)
        check_environment_name(snapshot, report, origin_of(layer, "copy_of", &environment->origin),
                               settings->copy_of);
    check_files(snapshot, layer, report);
    check_protocols(layer, report, "server_tls_protocols");
    check_server_tls(settings, layer, &environment->origin, environment->config.production_class,
                     report);
    check_environment_certificate(snapshot, environment, report);
}

/* A line that changes TLS must fit every environment that it can serve; one report is enough. */
static void check_database_tls(const struct snapshot *snapshot, const struct database *line,
                               struct report *report)
{
    const struct environment *own = NULL;
    bool changes = false;
    for (size_t i = 0; i < line->layer.count; i++)
        changes = changes || text_starts_with(line->layer.items[i].option->name, "server_tls_");
    if (!changes)
        return;
    for (size_t i = 0; i < snapshot->environments.count && !own; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        own = database_serves(&line->config, &environment->config) ? environment : NULL;
    }
    struct settings settings = own ? own->settings : snapshot->globals;
    layer_apply(&line->layer, &settings);
    check_files(snapshot, &line->layer, report);
    check_protocols(&line->layer, report, "server_tls_protocols");
    check_server_tls(&settings, &line->layer, &line->origin, own && own->config.production_class,
                     report);
}

static void check_database(const struct snapshot *snapshot, const struct database *line,
                           struct report *report)
{
    const struct database_config *config = &line->config;
    if (strcmp(config->name, "pgbouncer") == 0 || strcmp(config->name, "pgstage") == 0)
        origin_error(report, &line->origin,
                     "the database name %s is the console's; choose another one", config->name);
    if (config->environment)
        check_environment_name(snapshot, report, &line->origin, config->environment);
    if (config->in_environment)
        check_environment_name(snapshot, report, &line->origin, config->in_environment);
    if (config->environment && config->in_environment &&
        strcmp(config->environment, config->in_environment) != 0)
        origin_error(report, &line->origin, "%s@%s cannot be in environment %s", config->name,
                     config->environment, config->in_environment);
    if (!config->host_count && !snapshot->has_socket && !snapshot->environments.count)
        origin_error(report, &line->origin, "%s has no host, and unix_socket_dir is empty",
                     config->name);
    check_database_tls(snapshot, line, report);
}

static void check_globals(const struct snapshot *snapshot, struct report *report)
{
    const struct settings *settings = &snapshot->globals;
    const struct layer *layer = &snapshot->layer;
    const struct origin *nowhere = NULL;
    check_files(snapshot, layer, report);
    check_protocols(layer, report, "client_tls_protocols");
    check_protocols(layer, report, "server_tls_protocols");
    check_server_tls(settings, layer, nowhere, false, report);
    if (settings->default_environment)
        check_environment_name(snapshot, report, origin_of(layer, "default_environment", nowhere),
                               settings->default_environment);
}

static void load_users(struct snapshot *snapshot, struct report *report)
{
    const struct assignment *file = layer_find_name(&snapshot->layer, "auth_file");
    struct report own = {0};
    if (!file || !file->value.text || snapshot->offline)
        return;
    snapshot->secrets = users_load(file->value.text, &own);
    for (size_t i = 0; i < own.count; i++) {
        if (own.entries[i].file)
            report_error(report, own.entries[i].file, own.entries[i].line, "%s",
                         own.entries[i].text);
        else
            origin_error(report, &file->origin, "auth_file: %s", own.entries[i].text);
    }
    report_fini(&own);
}

void validate_snapshot(struct snapshot *snapshot, struct report *report)
{
    load_users(snapshot, report);
    check_globals(snapshot, report);
    for (size_t i = 0; i < snapshot->listeners.count; i++)
        check_listener(snapshot, i, report);
    for (size_t i = 0; i < snapshot->environments.count; i++)
        check_environment(snapshot, snapshot->environments.items[i], report);
    for (size_t i = 0; i < snapshot->databases.count; i++)
        check_database(snapshot, snapshot->databases.items[i], report);
    outside_check(snapshot, report);
    hba_check(snapshot, report);
    inquiry_check(snapshot, report);
    fit_check(snapshot, report);
    floor_check(snapshot, report);
    if (!snapshot->offline)
        certificate_check(snapshot, report);
}
