/*
 * environments: one process before several of them, each with its own hosts and policy.
 */
#include <sys/stat.h>

#include "system.h"

SYSTEM_SUITE(environments);

/* development on the shared cluster, production with verify-full on one of its own that accepts
 * nothing but TLS. */
static struct proxy *two_environments(struct cluster **production, const char *more)
{
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"};
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);

    *production = cluster_start(&options);
    return proxy_start(
        "auth_type = scram-sha-256\npool_mode = transaction\nserver_tls_sslmode = prefer\n"
        "client_tls_cert_file = %s\nclient_tls_key_file = %s\ndefault_environment = development\n"
        "%s"
        "[environment development]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
        "[environment production]\nclass = production\nhosts = pg.production.test@127.0.0.1:%d\n"
        "server_tls_ca_file = %s\n"
        "[databases]\napp = dbname=app\n",
        pooler->certificate, pooler->key, more, cluster_shared()->port, (*production)->port,
        pki_shared_ca()->certificate);
}

static const char *const LOGIN = "user=user_scram password=secret";

SYSTEM_TEST(environments, a_name_with_its_environment_reaches_that_ones_host)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");
    PGconn *first = client_open(proxy, text_of("%s dbname=app@development", LOGIN));
    PGconn *second = client_open(proxy, text_of("%s dbname=app@production", LOGIN));

    cr_assert_eq(client_number(first, "SELECT inet_server_port()"), cluster_shared()->port);
    cr_assert_eq(client_number(second, "SELECT inet_server_port()"), production->port);
    cr_assert_str_eq(
        client_value(second, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
}

SYSTEM_TEST(environments, a_bare_name_goes_to_the_default_environment)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");
    PGconn *client = client_open(proxy, LOGIN);

    cr_assert_eq(client_number(client, "SELECT inet_server_port()"), cluster_shared()->port);
}

SYSTEM_TEST(environments, pools_of_two_environments_are_apart)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");

    client_do(client_open(proxy, LOGIN), "SELECT 1");
    client_do(client_open(proxy, text_of("%s dbname=app@production", LOGIN)), "SELECT 1");
    PGconn *admin = client_open(proxy, "user=admin password=adminsecret dbname=pgstage");
    PGresult *result = PQexec(admin, "SHOW POOLS");
    int column = PQfnumber(result, "environment"), row, development = 0, live = 0;
    cr_assert_geq(column, 0);
    for (row = 0; row < PQntuples(result); row++) {
        development += !strcmp(PQgetvalue(result, row, column), "development");
        live += !strcmp(PQgetvalue(result, row, column), "production");
    }
    cr_assert_eq(development, 1);
    cr_assert_eq(live, 1);
}

SYSTEM_TEST(environments, an_unknown_environment_is_told_after_the_password)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");
    char *text = client_refusal(proxy, text_of("%s dbname=app@atlantis", LOGIN));

    cr_assert_has(text, "3D000");
    cr_assert_has(text, "development");
    text = client_refusal(proxy, "user=user_scram password=wrong dbname=app@atlantis");
    cr_assert_has(text, "28P01");
    cr_assert_null(strstr(text, "development"));
}

SYSTEM_TEST(environments, a_listener_may_stand_for_an_environment)
{
    SKIP_ON_PGBOUNCER();
    int port = port_take();
    struct cluster *production;
    struct proxy *proxy =
        two_environments(&production, text_of("[listener live]\nlisten_addr = 127.0.0.1\n"
                                              "listen_port = %d\nenvironment = production\n",
                                              port));
    PGconn *client = client_open(proxy, text_of("%s port=%d", LOGIN, port));

    cr_assert_eq(client_number(client, "SELECT inet_server_port()"), production->port);
}

SYSTEM_TEST(environments, production_may_not_be_configured_below_verify_full)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");
    static const char *const weak[] = {"server_tls_sslmode = verify-ca",
                                       "server_tls_sslmode = require",
                                       "server_tls_sslmode = disable",
                                       "client_tls_sslmode = prefer",
                                       "auth_type = trust",
                                       "auth_type = md5",
                                       "auth_type = plain",
                                       "password = literal"};
    size_t i;

    for (i = 0; i < sizeof weak / sizeof weak[0]; i++) {
        char *file = text_of("%s/weak-%zu.ini", test_folder(), i), *output;
        char *check[] = {text_of("%s", program_binary()), "--check", file, NULL};
        char *text = file_text(proxy->file);
        char *place = strstr(text, "class = production\n");

        cr_assert_not_null(place);
        file_write(file, 0644, text_of("%.*s%s\n%s", (int)(place - text), text, weak[i], place));
        cr_assert_eq(process_run(check, NULL, &output), 1, "%s was accepted", weak[i]);
        cr_assert_has(output, text_of("weak-%zu.ini:", i));
    }
}

SYSTEM_TEST(environments, a_socket_of_production_leads_to_its_owner_only)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_shared();
    char *pid_file = text_of("%s/data/postmaster.pid", cluster->folder);
    struct stat status;
    cr_assert_eq(stat(pid_file, &status), 0);
    for (unsigned wrong = 0; wrong < 2; wrong++) {
        /* [pgstage] of the tests asks for no TLS; a socket crosses no wire. */
        struct proxy *proxy =
            proxy_start("auth_type = scram-sha-256\nserver_tls_ca_file = system\n"
                        "[environment production]\nclass = production\nhosts = %s:%d\n"
                        "server_peer_user = %u\n[databases]\napp =\n",
                        cluster->socket_folder, cluster->port, (unsigned)status.st_uid + wrong);
        char *extra = text_of("%s host=%s dbname=app@production", LOGIN, proxy->socket_folder);
        if (wrong)
            cr_assert_has(client_refusal(proxy, extra), "not run by server_peer_user");
        else
            cr_assert_str_eq(client_value(client_open(proxy, extra), "SELECT 'known'"), "known");
    }
}

SYSTEM_TEST(environments, the_console_knows_them)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");
    PGconn *admin = client_open(proxy, "user=admin password=adminsecret dbname=pgstage");
    PGresult *result = PQexec(admin, "SHOW ENVIRONMENTS");

    cr_assert_eq(PQntuples(result), 2);
    client_do(client_open(proxy, text_of("%s dbname=app@production", LOGIN)), "SELECT 1");
    result = PQexec(admin, "SHOW ENVIRONMENTS");
    cr_assert_str_eq(PQgetvalue(result, 1, PQfnumber(result, "name")), "production");
    cr_assert_str_eq(PQgetvalue(result, 1, PQfnumber(result, "hosts_up")), "1");
    cr_assert_str_eq(PQgetvalue(result, 1, PQfnumber(result, "hosts_total")), "1");
    cr_assert_str_eq(PQgetvalue(result, 1, PQfnumber(result, "pools")), "1");
    cr_assert_str_eq(PQgetvalue(result, 0, PQfnumber(result, "pools")), "0");
    result = PQexec(admin, "SHOW CLASSES");
    cr_assert_eq(PQntuples(result), 12);
    result = PQexec(admin, "SHOW TLS");
    cr_assert_eq(PQntuples(result), 2);
    cr_assert_str_eq(PQgetvalue(result, 1, PQfnumber(result, "used_by")), "environment production");
    result = PQexec(admin, "SHOW CONFIG production");
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK);
    cr_assert_eq(PQfnumber(result, "changeable"), 3);
    result = PQexec(admin, "SHOW CONFIG atlantis");
    cr_assert_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), "3D000");
    result = PQexec(admin, "SET auth_type = 'trust'");
    cr_assert_has(PQresultErrorMessage(result), "[production-login]");
    client_do(admin, "PAUSE app@production");
    client_do(client_open(proxy, LOGIN), "SELECT 1");
    client_do(admin, "RESUME app@production");
    client_do(client_open(proxy, text_of("%s dbname=app@production", LOGIN)), "SELECT 1");
    result = PQexec(admin, "SHOW HOSTS");
    cr_assert_eq(PQntuples(result), 2);
}

SYSTEM_TEST(environments, the_tls_server_name_may_choose_one)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct pki_request request = {.file = "named",
                                  .common_name = "live.example.test",
                                  .names = "DNS:live.example.test,DNS:play.example.test",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *named = pki_issue(test_folder(), &request);
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"};

    production = cluster_start(&options);
    struct proxy *proxy = proxy_start(
        "auth_type = scram-sha-256\npool_mode = transaction\nserver_tls_sslmode = prefer\n"
        "client_tls_sslmode = allow\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\n"
        "default_environment = development\n"
        "[environment development]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
        "[environment production]\nclass = production\nsni = live.example.test\n"
        "hosts = pg.production.test@127.0.0.1:%d\nserver_tls_ca_file = %s\n"
        "[databases]\napp = dbname=app\n",
        named->certificate, named->key, cluster_shared()->port, production->port,
        pki_shared_ca()->certificate);
    const char *secured = text_of("%s hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=%s", LOGIN,
                                  pki_shared_ca()->certificate);
    PGconn *live = client_open(proxy, text_of("%s host=live.example.test", secured));
    PGconn *play = client_open(proxy, text_of("%s host=play.example.test", secured));
    PGconn *plain = client_open(proxy, LOGIN);

    cr_assert_eq(client_number(live, "SELECT inet_server_port()"), production->port);
    cr_assert_eq(client_number(play, "SELECT inet_server_port()"), cluster_shared()->port);
    cr_assert_eq(client_number(plain, "SELECT inet_server_port()"), cluster_shared()->port);
}

SYSTEM_TEST(environments, production_serves_loopback_plain_and_over_tls)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");

    /* loopback crosses no wire; whoever wants TLS gets it */
    client_do(client_open(proxy, text_of("%s dbname=app@production", LOGIN)), "SELECT 1");
    PGconn *secured =
        client_open(proxy, text_of("%s dbname=app@production sslmode=verify-full sslrootcert=%s",
                                   LOGIN, pki_shared_ca()->certificate));
    cr_assert(PQsslInUse(secured));
    client_do(secured, "SELECT 1");
}

SYSTEM_TEST(environments, one_that_is_down_does_not_disturb_the_other)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "query_wait_timeout = 30\n");
    PGconn *development = client_open(proxy, LOGIN);
    int i;

    client_do(client_open(proxy, text_of("%s dbname=app@production", LOGIN)), "SELECT 1");
    cluster_end(production, CLUSTER_KILL);
    PGconn *stuck =
        PQconnectStart(client_conninfo(proxy, text_of("%s dbname=app@production", LOGIN)));
    for (i = 0; i < 200; i++) {
        PQconnectPoll(stuck);
        cr_assert_eq(client_number(development, text_of("SELECT %d", i)), i);
    }
}

SYSTEM_TEST(environments, values_may_come_from_variables)
{
    SKIP_ON_PGBOUNCER();
    char *environment[] = {text_of("APP_DATABASE=db2"), text_of("PGSTAGE__QUERY_WAIT_TIMEOUT=17"),
                           NULL};
    struct proxy_options options = {.environment = environment};
    struct proxy *proxy =
        proxy_start_with(&options,
                         "query_wait_timeout = 50\n[databases]\napp = %s dbname=${APP_DATABASE} "
                         "user=${APP_USER:-other}\n",
                         cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, NULL);

    cr_assert_str_eq(client_value(client, "SELECT current_database()"), "db2");
    cr_assert_str_eq(client_value(client, "SELECT current_user"), "other");
    cr_assert_eq(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value"), 17);
}

SYSTEM_TEST(environments, url_prints_what_an_application_should_use)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *production;
    struct proxy *proxy = two_environments(&production, "");
    char *arguments[] = {text_of("%s", program_binary()), "--url=app@production", proxy->file,
                         NULL};
    char *output;

    cr_assert_eq(process_run(arguments, NULL, &output), 0, "%s", output);
    cr_assert_has(output, "postgres");
    cr_assert_has(output, text_of("%d", proxy->port));
    cr_assert_has(output, "app%40production");
}

/* ---- what a class presets for servers and for the log ---- */

SYSTEM_TEST(environments, statements_have_the_timeout_of_their_class)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n"
                    "[environment review]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                    "[environment quick]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                    "statement_timeout = 3s\n"
                    "[environment laptop]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
                    "[databases]\napp =\n[users]\nother = statement_timeout=0\n",
                    cluster_shared()->port, cluster_shared()->port, cluster_shared()->port);
    PGconn *quick = client_open(proxy, "dbname=app@quick");

    cr_assert_str_eq(
        client_value(client_open(proxy, "dbname=app@review"), "SHOW statement_timeout"), "30s");
    cr_assert_str_eq(client_sqlstate(quick, "SELECT pg_sleep(200)"), "57014");
    client_do(quick, "SELECT 1");
    /* the class says nothing, and a user's line is narrower than the class */
    cr_assert_str_eq(
        client_value(client_open(proxy, "dbname=app@laptop"), "SHOW statement_timeout"), "0");
    cr_assert_str_eq(
        client_value(client_open(proxy, "user=other dbname=app@review"), "SHOW statement_timeout"),
        "0");
    /* what a session sets for itself goes with it */
    client_do(quick, "SET statement_timeout = '10s'");
    client_do(quick, "RESET statement_timeout");
    cr_assert_str_eq(client_value(quick, "SHOW statement_timeout"), "3s");
}

SYSTEM_TEST(environments, a_forced_user_has_its_own_line_whoever_comes_first)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("[databases]\napp = %s user=other\n[users]\n"
                                      "app = statement_timeout=1s\nother = statement_timeout=7s\n",
                                      cluster_route(cluster_shared()));

    cr_assert_str_eq(client_value(client_open(proxy, "user=app"), "SHOW statement_timeout"), "7s");
}

SYSTEM_TEST(environments, chatter_is_written_as_the_environments_log_level_says)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n"
                    "[environment loud]\nclass = local_development\nhosts = nowhere.invalid, "
                    "127.0.0.1:%d\nload_balance_hosts = disable\nprobe_interval = 0\n"
                    "[environment quiet]\nclass = local_development\nhosts = nowhere.invalid, "
                    "127.0.0.1:%d\nload_balance_hosts = disable\nprobe_interval = 0\n"
                    "log_level = error\n"
                    "[databases]\napp =\n",
                    cluster_shared()->port, cluster_shared()->port);

    client_do(client_open(proxy, "dbname=app@loud"), "SELECT 1");
    client_do(client_open(proxy, "dbname=app@quiet"), "SELECT 1");
    cr_assert(until(proxy_logged(proxy, "app@loud/app@nowhere.invalid:5432 closing because"),
                    PATIENCE_MS));
    cr_assert_not(proxy_logged(proxy, "app@quiet/app@nowhere.invalid:5432 closing because"));
    /* what happens to connections is no chatter */
    cr_assert(until(proxy_logged(proxy, "app@quiet/app@127.0.0.1"), PATIENCE_MS));
}
