/*
 * floor: what a production class (pre_production, production, disaster_recovery) can never be
 * configured below, by whatever layer. The rules are the rows of tables/rules.def.
 *
 *   floor_environment   what an environment says, or inherits
 *   floor_database      what a line of [databases] says otherwise in an environment that it serves
 *   floor_shared        what all environments share: the console, listeners, [peers], key files
 *   guard.c             where production hosts stand
 *
 * Each rule looks at the values in force, so it does not matter who set them, and is reported at
 * the line that broke it. What is not visible in the files (the real peer of a connection, the name
 * in a certificate) is checked where it becomes visible.
 */
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

/* One environment of a production class, on its own or as a database line sees it. */
struct floor {
    const struct snapshot *snapshot;
    struct report *report;
    const struct environment *environment;
    const struct database *line; /* NULL: the environment itself */
    struct settings settings;
};

/* Says which environment a message is about. */
#define floor_broken(floor, origin, id, option, format, ...)                                       \
    origin_broken((floor)->report, origin, id, option, "environment %s (class %s): " format,       \
                  (floor)->environment->config.name, (floor)->environment->config.class_name,      \
                  __VA_ARGS__)

/* The assignment in force for an option; NULL: nobody says anything. */
static const struct assignment *floor_assignment(const struct floor *floor, const char *option)
{
    const struct option *row = option_find(SCOPE_ENVIRONMENT, option);
    return row ? snapshot_assignment(floor->snapshot, floor->environment, floor->line, row) : NULL;
}

/* The place of an option's value: the assignment in force, else the line, else the section. */
static const struct origin *floor_origin(const struct floor *floor, const char *option)
{
    const struct assignment *found = floor_assignment(floor, option);
    if (found && found->origin.kind != ORIGIN_PRESET)
        return &found->origin;
    return floor->line ? &floor->line->origin : &floor->environment->origin;
}

/* `option = value`, as it holds. */
static void floor_refuse(const struct floor *floor, enum rule_id id, const char *option)
{
    const struct option *row = option_find(SCOPE_ENVIRONMENT, option);
    char *value = option_print(row, option_load(row, &floor->settings));
    floor_broken(floor, floor_origin(floor, option), id, option, "%s =%s%s", option,
                 *value ? " " : "", value);
    free(value);
}

/* ---- TLS versions and ciphers ---- */

/* Does a list of protocols allow something older than TLS 1.2? What is not known to be good is
 * not. */
static bool protocols_are_old(const char *protocols)
{
    static const char *const good[] = {"secure", "default", "tlsv1.2", "tlsv1.3"};
    bool old = false;
    char *list = text_copy(protocols ? protocols : ""), *rest = NULL;
    for (char *word = strtok_r(list, ", :\t", &rest); word; word = strtok_r(NULL, ", :\t", &rest)) {
        bool known = false;
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
            known = known || text_equal_nocase(word, good[i]);
        old = old || !known;
    }
    free(list);
    return old;
}

/* Is there a cipher in this OpenSSL list that does not encrypt well or not authenticate? */
static bool list_is_weak(const char *list)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    bool weak = !context || SSL_CTX_set_cipher_list(context, list) != 1;
    STACK_OF(SSL_CIPHER) *ciphers = weak ? NULL : SSL_CTX_get_ciphers(context);
    for (int i = 0; !weak && i < sk_SSL_CIPHER_num(ciphers); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
        weak = SSL_CIPHER_get_bits(cipher, NULL) < 128 ||
               SSL_CIPHER_get_auth_nid(cipher) == NID_auth_null;
    }
    SSL_CTX_free(context);
    return weak;
}

static bool ciphers_are_weak(const char *ciphers)
{
    static const char *const good[] = {"default", "normal", "fast", "secure"};
    static const char *const bad[] = {"compat", "legacy", "all", "insecure"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!ciphers || text_equal_nocase(ciphers, good[i]))
            return false;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (text_equal_nocase(ciphers, bad[i]))
            return true;
    return strcasestr(ciphers, "SECLEVEL=0") || list_is_weak(ciphers);
}

static void floor_tls(const struct floor *floor)
{
    const struct settings *settings = &floor->settings;
    if (settings->server_tls_sslmode < TLS_VERIFY_FULL)
        floor_refuse(floor, RULE_TLS, "server_tls_sslmode");
    if (!settings->server_tls_ca_file)
        floor_broken(floor, floor_origin(floor, "server_tls_ca_file"), RULE_CA,
                     "server_tls_ca_file", "%s", "there is no server_tls_ca_file");
    if (protocols_are_old(settings->server_tls_protocols))
        floor_refuse(floor, RULE_TLS_VERSION, "server_tls_protocols");
    if (ciphers_are_weak(settings->server_tls_ciphers))
        floor_refuse(floor, RULE_CIPHERS, "server_tls_ciphers");
}

/* ---- secrets and files ---- */

/* A secret whose text stands in a file is one that many people read. */
static void floor_secret(const struct floor *floor, const struct layer *layer, const char *option)
{
    const struct assignment *secret = layer_find_name(layer, option);
    if (secret && secret->literal && !secret->derived && secret->value.text)
        floor_broken(floor, &secret->origin, RULE_SECRET, option, "a literal %s", option);
}

/*
 * Belongs the file to this process's user alone, or to root and a group? The process may still be
 * root and about to become another user; then the configuration is read again as that one, so that
 * any owner is fine for now.
 */
bool file_is_private(const char *path, struct stat *status)
{
    bool root = geteuid() == 0;
    if (stat(path, status) < 0)
        return true; /* reported as unreadable */
    mode_t allowed = status->st_uid == 0 ? 0640 : 0600;
    bool owner = status->st_uid == 0 || root || status->st_uid == geteuid();
    return owner && !(status->st_mode & 07777 & ~allowed);
}

static void floor_file(const struct floor *floor, const struct assignment *file)
{
    struct stat status;
    if (!file || !file->value.text || floor->snapshot->offline ||
        file_is_private(file->value.text, &status))
        return;
    floor_broken(floor, &file->origin, RULE_FILE, file->option->name,
                 "%s %s has the owner %u and mode %04o", file->option->name, file->value.text,
                 (unsigned)status.st_uid, (unsigned)(status.st_mode & 07777));
}

/* ---- an environment, and a line in it ---- */

static void floor_logins(const struct floor *floor)
{
    int type = floor->settings.auth_type;
    bool weak = type == AUTH_ANY || type == AUTH_TRUST || type == AUTH_PLAIN || type == AUTH_MD5;
    /* What [pgstage] says is reported once, for the console. */
    if (weak && layer_find_name(&floor->environment->layer, "auth_type"))
        floor_refuse(floor, RULE_LOGIN, "auth_type");
    if (floor->settings.client_tls_sslmode < TLS_REQUIRE)
        floor_refuse(floor, RULE_CLIENT_TLS, "client_tls_sslmode");
}

static void floor_sockets(const struct floor *floor, const struct host_config *hosts, size_t count,
                          const char *option)
{
    for (size_t i = 0; i < count; i++)
        if (host_is_socket(&hosts[i]) && !floor->settings.server_peer_user)
            floor_broken(floor, floor_origin(floor, option), RULE_SOCKET, "server_peer_user",
                         "the Unix socket %s has no server_peer_user", hosts[i].name);
}

/* The rules for an environment itself. */
static void floor_environment(const struct snapshot *snapshot,
                              const struct environment *environment, struct report *report)
{
    struct floor floor = {snapshot, report, environment, NULL, environment->settings};
    const struct environment_config *config = &environment->config;
    const struct layer *layer = &environment->layer;
    floor_tls(&floor);
    floor_logins(&floor);
    floor_secret(&floor, layer, "password");
    floor_secret(&floor, layer, "monitor_password");
    floor_secret(&floor, layer, "failover_password");
    floor_file(&floor, layer_find_name(layer, "password_file"));
    floor_file(&floor, layer_find_name(layer, "monitor_password_file"));
    floor_file(&floor, layer_find_name(layer, "failover_password_file"));
    floor_file(&floor, floor_assignment(&floor, "server_tls_key_file"));
    floor_file(&floor, layer_find_name(&environment->layer, "client_tls_key_file"));
    floor_sockets(&floor, config->hosts, config->host_count, "hosts");
    floor_sockets(&floor, config->dr_hosts, config->dr_host_count, "dr_hosts");
}

/* The rules for what a database line says otherwise in an environment that it can serve. */
static void floor_database(const struct snapshot *snapshot, const struct environment *environment,
                           const struct database *line, struct report *report)
{
    bool tls = false, other = false;
    for (size_t i = 0; i < line->layer.count; i++) {
        const char *name = line->layer.items[i].option->name;
        tls = tls || text_starts_with(name, "server_tls_");
        other = other || text_starts_with(name, "password") || strcmp(name, "host") == 0 ||
                strcmp(name, "port") == 0;
    }
    /* Most lines touch nothing that the floor is about: thousands of them cost nothing. */
    if (!tls && !other)
        return;
    struct floor floor = {snapshot, report, environment, line, environment->settings};
    layer_apply(&line->layer, &floor.settings);
    if (tls)
        floor_tls(&floor);
    floor_secret(&floor, &line->layer, "password");
    floor_file(&floor, layer_find_name(&line->layer, "password_file"));
    floor_file(&floor, layer_find_name(&line->layer, "server_tls_key_file"));
    floor_sockets(&floor, line->config.hosts, line->config.host_count, "host");
}

/* ---- what all environments share ---- */

/* Is every address of a listener on this machine's loopback? */
bool listens_on_loopback(const char *addresses)
{
    bool loopback = true;
    char *list = text_copy(addresses ? addresses : ""), *rest = NULL;
    for (char *one = strtok_r(list, ", \t", &rest); one; one = strtok_r(NULL, ", \t", &rest))
        loopback = loopback && host_name_is_loopback(one);
    free(list);
    return loopback;
}

/* Any listener can lead to production: a client names the environment itself (`app@production`).
 * Whether it came over TLS is looked at for each client; a listener that stands for production must
 * not turn that off. */
static void floor_listener(const struct floor *floor, const struct listener *listener)
{
    static const char *const names[] = {"client_tls_sslmode", "client_tls_protocols",
                                        "client_tls_ciphers", "client_tls_key_file"};
    const struct settings *settings = &listener->settings;
    const struct assignment *found[4];
    for (size_t i = 0; i < 4; i++) {
        found[i] = layer_find_name(&listener->layer, names[i]);
        if (!found[i])
            found[i] = layer_find_name(&floor->snapshot->layer, names[i]);
    }
    const char *name = listener->config.name ? listener->config.name : "[pgstage]";
    bool bound = listener->config.environment &&
                 strcmp(listener->config.environment, floor->environment->config.name) == 0;
    if (bound && found[0] && settings->client_tls_sslmode < TLS_REQUIRE &&
        !listens_on_loopback(settings->listen_addr))
        floor_broken(floor, &found[0]->origin, RULE_CLIENT_TLS, names[0],
                     "listener %s stands for it and asks for no TLS", name);
    if (found[1] && protocols_are_old(settings->client_tls_protocols))
        floor_broken(floor, &found[1]->origin, RULE_TLS_VERSION, names[1],
                     "listener %s has client_tls_protocols = %s", name,
                     settings->client_tls_protocols);
    if (found[2] && ciphers_are_weak(settings->client_tls_ciphers))
        floor_broken(floor, &found[2]->origin, RULE_CIPHERS, names[2],
                     "listener %s has client_tls_ciphers = %s", name, settings->client_tls_ciphers);
    floor_file(floor, found[3]);
}

/* `environment` stands for all of the production classes: a value that they share is reported
 * once. */
static void floor_shared(const struct snapshot *snapshot, const struct environment *environment,
                         struct report *report)
{
    struct floor floor = {snapshot, report, environment, NULL, snapshot->globals};
    const struct listener *first = snapshot->listeners.items[0];
    const struct assignment *login = layer_find_name(&snapshot->layer, "auth_type");
    const struct assignment *ldap = layer_find_name(&snapshot->layer, "auth_ldap_options");
    const struct origin *origin = login ? &login->origin : &first->origin;
    int type = snapshot->globals.auth_type;
    if (type == AUTH_ANY || type == AUTH_TRUST || type == AUTH_PLAIN || type == AUTH_MD5) {
        const struct option *option = option_find(SCOPE_GLOBAL, "auth_type");
        char *value = option_print(option, option_load(option, &snapshot->globals));
        floor_broken(&floor, origin, RULE_LOGIN, "auth_type", "[pgstage] has auth_type = %s%s",
                     value, login ? "" : " (the default)");
        free(value);
    }
    /* where a directory is to be found is no secret */
    if (ldap && ldap->value.text && strstr(ldap->value.text, "ldapbindpasswd"))
        floor_secret(&floor, &snapshot->layer, "auth_ldap_options");
    floor_file(&floor, layer_find_name(&snapshot->layer, "auth_file"));
    for (size_t i = 0; i < snapshot->listeners.count; i++)
        floor_listener(&floor, snapshot->listeners.items[i]);
    for (size_t i = 0; i < snapshot->peers.count; i++) {
        const struct peer *peer = snapshot->peers.items[i];
        const char *host = peer->config.host;
        if (host && host[0] != '/' && host[0] != '@' && !host_name_is_loopback(host))
            floor_broken(&floor, &peer->origin, RULE_PEERS, NULL, "peer %lld has host = %s",
                         (long long)peer->config.id, host);
    }
}

/* The listeners that stand for other production environments than the first. */
static void floor_bound_listeners(const struct snapshot *snapshot,
                                  const struct environment *environment, struct report *report)
{
    struct floor floor = {snapshot, report, environment, NULL, environment->settings};
    for (size_t i = 0; i < snapshot->listeners.count; i++) {
        const struct listener *listener = snapshot->listeners.items[i];
        if (text_equal(listener->config.environment, environment->config.name))
            floor_listener(&floor, listener);
    }
}

void floor_check(const struct snapshot *snapshot, struct report *report)
{
    bool shared = false;
    for (size_t i = 0; i < snapshot->environments.count; i++) {
        const struct environment *environment = snapshot->environments.items[i];
        if (!environment->config.production_class)
            continue;
        if (!shared)
            floor_shared(snapshot, environment, report);
        else
            floor_bound_listeners(snapshot, environment, report);
        shared = true;
        floor_environment(snapshot, environment, report);
        for (size_t j = 0; j < snapshot->databases.count; j++) {
            const struct database *line = snapshot->databases.items[j];
            if (line->layer.count && database_serves(&line->config, &environment->config))
                floor_database(snapshot, environment, line, report);
        }
    }
    guard_check(snapshot, report);
}
