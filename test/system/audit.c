/*
 * audit: what people did to production stands in the audit log, before they hear that it worked.
 */
#include "system.h"

#include <sys/stat.h>

SYSTEM_SUITE(audit);

static const char *const LOGIN = "user=user_scram password=secret";
static char *log_file, *log_folder;

/* An environment of class production on a cluster of its own, and one for development. */
static struct proxy *start(const char *more)
{
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"};
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);
    struct cluster *production = cluster_start(&options);

    log_folder = text_of("%s/audit", test_folder());
    folder_make(log_folder);
    path_give(log_folder);
    log_file = text_of("%s/audit.log", log_folder);
    return proxy_start(
        "auth_type = scram-sha-256\npool_mode = transaction\nserver_tls_sslmode = prefer\n"
        "client_tls_cert_file = %s\nclient_tls_key_file = %s\ndefault_environment = development\n"
        "audit_log = %s\n%s"
        "[environment development]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
        "[environment production]\nclass = production\nhosts = pg.production.test@127.0.0.1:%d\n"
        "server_tls_ca_file = %s\nmin_pool_size = 0\n"
        "[databases]\napp = dbname=app\n",
        pooler->certificate, pooler->key, log_file, more, cluster_shared()->port, production->port,
        pki_shared_ca()->certificate);
}

static const char *production(void)
{
    return text_of("%s dbname=app@production", LOGIN);
}

static int verify(const char *first, const char *second)
{
    char *output;
    char *arguments[] = {(char *)program_binary(), "--verify-audit", (char *)first, (char *)second,
                         NULL};
    return process_run(arguments, NULL, &output);
}

/* Is there one line with all of these? */
static bool stands(const char *a, const char *b, const char *c)
{
    char *text = file_text(log_file), *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (strstr(line, a) && strstr(line, b) && strstr(line, c))
            return true;
    return false;
}

SYSTEM_TEST(audit, a_login_to_production_stands_there_before_it_is_answered)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");

    client_do(client_open(proxy, production()), "SELECT 1");
    cr_assert(stands("\"event\":\"login accepted\"", "\"user\":\"user_scram\"",
                     "\"environment\":\"production\""),
              "%s", file_text(log_file));
    cr_assert_eq(verify(log_file, NULL), 0);
}

SYSTEM_TEST(audit, a_refused_login_stands_there_with_the_reason)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");

    cr_assert_has(client_refusal(proxy, "user=user_scram password=wrong dbname=app@production"),
                  "28P01");
    cr_assert(stands("\"event\":\"login refused\"", "\"sqlstate\":\"28P01\"",
                     "\"environment\":\"production\""),
              "%s", file_text(log_file));
    cr_assert_has(client_refusal(proxy, text_of("%s dbname=app@atlantis", LOGIN)), "3D000");
    cr_assert(stands("\"event\":\"login refused\"", "\"sqlstate\":\"3D000\"", "atlantis"));
    cr_assert_null(strstr(file_text(log_file), "\"wrong\""));
}

SYSTEM_TEST(audit, a_login_to_development_stands_there_when_that_is_wanted)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");

    client_do(client_open(proxy, LOGIN), "SELECT 1");
    cr_assert_not(stands("login accepted", "\"environment\":\"development\"", ""));
    proxy_do(proxy, "SET audit_logins = 1");
    client_do(client_open(proxy, LOGIN), "SELECT 1");
    cr_assert(until(stands("login accepted", "\"environment\":\"development\"", ""), PATIENCE_MS));
}

SYSTEM_TEST(audit, commands_that_change_something_stand_there_with_who_and_result)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");

    proxy_do(proxy, "PAUSE app@production");
    cr_assert(stands("\"event\":\"command\"", "\"command\":\"PAUSE app@production\"",
                     "\"result\":\"done\""),
              "%s", file_text(log_file));
    cr_assert(stands("PAUSE", "\"user\":\"admin\"", "\"from\":\"127.0.0.1:"));
    (void)client_error(proxy_console(proxy), "DISABLE nowhere@atlantis");
    cr_assert(stands("\"command\":\"DISABLE", "\"result\":\"failed\"", "\"message\":"));
    proxy_do(proxy, "RESUME app@production");
    proxy_do(proxy, "SHOW POOLS");
    cr_assert_not(stands("\"event\":\"command\"", "SHOW", ""));
    PGconn *stats = client_open(proxy, "user=stats password=statssecret dbname=pgstage");
    (void)client_error(stats, "KILL app@production");
    cr_assert(stands("\"user\":\"stats\"", "\"command\":\"KILL app@production\"",
                     "\"sqlstate\":\"42501\""));
    cr_assert_eq(verify(log_file, NULL), 0);
}

SYSTEM_TEST(audit, loads_stand_there_with_the_hash_before_and_after)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");
    char *text = file_text(proxy->file), *before;

    cr_assert(until(stands("\"event\":\"configuration\"", "\"who\":\"start\"", "\"after\":\""),
                    PATIENCE_MS));
    before = strstr(file_text(log_file), "\"after\":\"") + 9;
    before[64] = '\0';
    file_write(proxy->file, 0644, text_of("%s\nother = dbname=other\n", text));
    cr_assert_null(proxy_reload(proxy));
    cr_assert(stands("\"who\":\"admin@127.0.0.1:", "\"result\":\"loaded\"",
                     text_of("\"before\":\"%s\"", before)),
              "%s", file_text(log_file));
    file_write(proxy->file, 0644, text_of("%s\n[nonsense]\n", text));
    cr_assert_not_null(proxy_reload(proxy));
    cr_assert(stands("\"event\":\"configuration\"", "\"result\":\"refused\"", "nonsense"));
    cr_assert(stands("\"command\":\"RELOAD\"", "\"result\":\"failed\"", ""));
}

SYSTEM_TEST(audit, the_chain_goes_on_after_a_restart_and_finds_what_was_changed)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");
    char *text;

    client_do(client_open(proxy, production()), "SELECT 1");
    proxy_signal(proxy, SIGINT);
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
    char *arguments[] = {(char *)program_binary(), proxy->file, NULL};
    struct process_options options = {.log = proxy->log};
    pid_t pid = process_start(arguments, &options);
    cr_assert(until(stands("\"event\":\"continued\"", "", ""), PATIENCE_MS));
    kill(pid, SIGQUIT);
    cr_assert_eq(process_wait(pid, PATIENCE_MS), 0);
    cr_assert_eq(verify(log_file, NULL), 0);

    text = file_text(log_file);
    memcpy(strstr(text, "user_scram"), "user_innoc", 10);
    file_write(log_file, 0600, text);
    cr_assert_eq(verify(log_file, NULL), 1);
}

SYSTEM_TEST(audit, a_rotated_log_goes_on_in_the_new_file)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");
    char *old = text_of("%s.1", log_file);

    client_do(client_open(proxy, production()), "SELECT 1");
    cr_assert_eq(rename(log_file, old), 0);
    proxy_signal(proxy, SIGHUP);
    cr_assert(
        until(stands("\"event\":\"continued\"", "\"file_before\":", "\"previous\":"), PATIENCE_MS));
    client_do(client_open(proxy, production()), "SELECT 1");
    cr_assert(stands("login accepted", "", ""));
    cr_assert_eq(verify(old, log_file), 0);
    cr_assert_eq(verify(log_file, old), 1);
}

SYSTEM_TEST(audit, production_is_closed_while_the_log_cannot_be_written)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");
    char *gone = text_of("%s.1", log_file);
    PGconn *inside = client_open(proxy, production());

    client_do(inside, "SELECT 1");
    cr_assert_eq(rename(log_file, gone), 0);
    cr_assert_eq(chmod(log_folder, 0500), 0);
    proxy_signal(proxy, SIGHUP);
    cr_assert(until(proxy_logged(proxy, "cannot be written"), PATIENCE_MS));
    cr_assert_has(client_refusal(proxy, production()), "the audit log cannot be written");
    client_do(inside, "SELECT 1");
    client_do(client_open(proxy, LOGIN), "SELECT 1");
    proxy_do(proxy, "SHOW POOLS");
    cr_assert_eq(chmod(log_folder, 0700), 0);
    client_do(client_open(proxy, production()), "SELECT 1");
    cr_assert(stands("\"event\":\"lost\"", "", ""));
    cr_assert_eq(verify(gone, log_file), 0);
}

SYSTEM_TEST(audit, it_may_be_said_that_logins_go_on_without_it)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("audit_log_failure = continue\n");

    cr_assert_eq(rename(log_file, text_of("%s.1", log_file)), 0);
    cr_assert_eq(chmod(log_folder, 0500), 0);
    proxy_signal(proxy, SIGHUP);
    cr_assert(until(proxy_logged(proxy, "cannot be written"), PATIENCE_MS));
    client_do(client_open(proxy, production()), "SELECT 1");
    cr_assert_eq(chmod(log_folder, 0700), 0);
}

SYSTEM_TEST(audit, a_log_that_cannot_be_opened_is_refused_at_the_start_and_by_reload)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("");
    char *error = client_error(proxy_console(proxy), "SET audit_log = '/nonexistent/audit.log'");

    cr_assert_has(error, "/nonexistent/audit.log");
    client_do(client_open(proxy, production()), "SELECT 1");
    proxy_do(proxy, "SET audit_log = ''");
    cr_assert(stands("\"event\":\"configuration\"", "ends this audit log", "admin@"));
}
