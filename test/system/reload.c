/*
 * reload: RELOAD changes what the file says and disturbs nothing else; a bad file changes nothing.
 */
#include <sys/stat.h>

#include "system.h"

SYSTEM_SUITE(reload);

SYSTEM_TEST(reload, under_load_loses_no_query)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 4\n");
    struct load_options options = {.clients = 12};
    struct load *load = load_start(proxy, &options);
    int i;

    for (i = 0; i < 10; i++) {
        long before = load_done(load);

        cr_assert(until(load_done(load) > before + 10, PATIENCE_MS));
        proxy_rewrite(proxy, "pool_mode = transaction\ndefault_pool_size = %d\n", 2 + i % 4);
        cr_assert_null(proxy_reload(proxy));
    }
    load_stop(load);
    cr_assert_eq(load_errors(load) + load_lost(load), 0, "%s", load_first_error(load));
}

SYSTEM_TEST(reload, of_an_unchanged_file_keeps_the_servers)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    int backend = client_backend(client);

    cr_assert_null(proxy_reload(proxy));
    cr_assert_eq(client_backend(client), backend);
}

SYSTEM_TEST(reload, of_a_broken_file_changes_nothing_and_says_everything)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_wait_timeout = 44\n");
    struct load_options options = {.clients = 6};
    struct load *load = load_start(proxy, &options);
    PGconn *client = client_open(proxy, NULL);
    char *problem;

    cr_assert(until(load_done(load) > 10, PATIENCE_MS));
    proxy_rewrite(proxy, "pool_mode = transcation\nquery_wait_timeout = 45\nno_such_option = 1\n");
    problem = proxy_reload(proxy);
    cr_assert_not_null(problem);
    cr_assert_has(problem, "pool_mode");
    cr_assert_has(problem, "no_such_option");
    cr_assert_has(problem, "F0000");
    cr_assert_eq(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value"), 44);
    client_do(client, "SELECT 1");
    client_do(client_open(proxy, NULL), "SELECT 1");
    load_stop(load);
    cr_assert_eq(load_errors(load) + load_lost(load), 0, "%s", load_first_error(load));
    proxy_rewrite(proxy, "pool_mode = transaction\nquery_wait_timeout = 46\n");
    cr_assert_null(proxy_reload(proxy));
    cr_assert_eq(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value"), 46);
}

static void keep_notice(void *argument, const char *text)
{
    *(char **)argument = text_of("%s%s", *(char **)argument, text);
}

SYSTEM_TEST(reload, what_waits_for_a_restart_is_told_to_who_asks)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_wait_timeout = 44\n");
    char *notices = text_of("%s", "");

    PQsetNoticeProcessor(proxy_console(proxy), keep_notice, &notices);
    proxy_rewrite(proxy, "pool_mode = transaction\nquery_wait_timeout = 45\n");
    cr_assert_null(proxy_reload(proxy));
    cr_assert_str_eq(notices, "");
    proxy_rewrite(proxy, "pool_mode = transaction\nlisten_backlog = 99\n");
    cr_assert_null(proxy_reload(proxy));
    cr_assert_has(notices, "listen_backlog = 99 holds after a restart");
}

SYSTEM_TEST(reload, again_and_again_does_not_put_off_the_statistics)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("stats_period = 3\nlog_stats = 1\n");

    cr_assert(until(!proxy_reload(proxy) && proxy_logged(proxy, " stats: "), PATIENCE_MS));
}

SYSTEM_TEST(reload, of_a_missing_file_changes_nothing)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT 1");
    proxy_console(proxy);
    cr_assert_eq(unlink(proxy->file), 0);
    PQclear(PQexec(proxy_console(proxy), "RELOAD"));
    client_do(client, "SELECT 1");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(reload, of_a_pipe_is_refused_at_once)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("query_wait_timeout = 44\n");
    char *problem;

    proxy_console(proxy);
    cr_assert_eq(unlink(proxy->file), 0);
    cr_assert_eq(mkfifo(proxy->file, 0600), 0);
    cr_assert_eq(chmod(proxy->file, 0644), 0);
    problem = proxy_reload(proxy);
    cr_assert_not_null(problem);
    cr_assert_has(problem, "it is not a regular file");
    cr_assert_eq(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value"), 44);
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(reload, adds_and_removes_databases)
{
    const char *route = cluster_route(cluster_shared());
    struct proxy *proxy = proxy_start("[databases]\napp = %s\n", route);

    client_do(client_open(proxy, NULL), "SELECT 1");
    cr_assert_has(client_refusal(proxy, "dbname=second"), "no such database");
    proxy_rewrite(proxy, "[databases]\nsecond = %s dbname=db2\n", route);
    cr_assert_null(proxy_reload(proxy));
    cr_assert_str_eq(client_value(client_open(proxy, "dbname=second"), "SELECT current_database()"),
                     "db2");
    cr_assert_has(client_refusal(proxy, NULL), "no such database");
}

SYSTEM_TEST(reload, moves_a_database_to_another_server_at_the_end_of_transactions)
{
    struct cluster *other = cluster_start(NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\n[databases]\napp = %s\n",
                                      cluster_route(cluster_shared()));
    PGconn *idle = client_open(proxy, NULL);
    PGconn *busy = client_open(proxy, NULL);
    const char *port = "SELECT inet_server_port()";

    client_do(idle, "SELECT 1");
    client_do(busy, "BEGIN");
    cr_assert_eq(client_number(busy, port), cluster_shared()->port);
    proxy_rewrite(proxy, "pool_mode = transaction\n[databases]\napp = %s\n", cluster_route(other));
    cr_assert_null(proxy_reload(proxy));
    cr_assert_eq(client_number(idle, port), other->port);
    cr_assert_eq(client_number(busy, port), cluster_shared()->port);
    client_do(busy, "COMMIT");
    cr_assert_eq(client_number(busy, port), other->port);
}

SYSTEM_TEST(reload, brings_new_passwords_and_users)
{
    struct proxy *proxy = proxy_start("auth_type = plain\n");
    PGconn *admin = client_open(proxy, "user=admin password=adminsecret dbname=pgbouncer");

    client_do(client_open(proxy, "password=appsecret"), "SELECT 1");
    proxy_set_users("\"app\" \"changed\"\n\"other\" \"fresh\"\n\"admin\" \"adminsecret\"\n");
    proxy_rewrite(proxy, "auth_type = plain\n");
    client_do(admin, "RELOAD");
    cr_assert_has(client_refusal(proxy, "password=appsecret"), "password authentication failed");
    client_do(client_open(proxy, "password=changed"), "SELECT 1");
    client_do(client_open(proxy, "user=other password=fresh"), "SELECT 1");
}

SYSTEM_TEST(reload, shrinks_and_grows_pools)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 3\n");
    PGconn *clients[4];
    int i;

    for (i = 0; i < 4; i++)
        clients[i] = client_open(proxy, NULL);
    for (i = 0; i < 3; i++)
        client_do(clients[i], "BEGIN");
    client_start(clients[3], "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    proxy_rewrite(proxy, "pool_mode = transaction\ndefault_pool_size = 4\n");
    cr_assert_null(proxy_reload(proxy));
    cr_assert_str_eq(client_finish(clients[3], PATIENCE_MS), "");
    proxy_rewrite(proxy, "pool_mode = transaction\ndefault_pool_size = 1\n");
    cr_assert_null(proxy_reload(proxy));
    for (i = 0; i < 3; i++)
        client_do(clients[i], "COMMIT");
    for (i = 0; i < 2; i++)
        client_start(clients[i], "BEGIN");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 1, PATIENCE_MS));
}

/* The defaults are ten minutes and an hour: nobody would wait so long. */
SYSTEM_TEST(reload, of_shorter_timeouts_ends_servers_that_are_idle_already)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_idle_timeout = 600\n");
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT 1");
    /* its answer comes just before its server is given back */
    cr_assert(until(proxy_figure(proxy, "POOLS", NULL, NULL, "sv_idle") == 1, PATIENCE_MS));
    proxy_rewrite(proxy, "pool_mode = transaction\nserver_idle_timeout = 1\n");
    cr_assert_null(proxy_reload(proxy));
    cr_expect(until(proxy_logged(proxy, "server idle timeout"), PATIENCE_MS));
    proxy_rewrite(proxy, "pool_mode = transaction\nserver_idle_timeout = 600\n");
    cr_assert_null(proxy_reload(proxy));
    client_do(client, "SELECT 1");
    proxy_rewrite(proxy, "pool_mode = transaction\nserver_lifetime = 1\n");
    cr_assert_null(proxy_reload(proxy));
    cr_expect(until(proxy_logged(proxy, "server lifetime over"), PATIENCE_MS));
    client_do(client, "SELECT 1");
}

SYSTEM_TEST(reload, can_drop_a_forced_user)
{
    SKIP_ON_PGBOUNCER();
    const char *route = cluster_route(cluster_shared());
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n[databases]\napp = %s user=other\n", route);

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "other");
    proxy_rewrite(proxy, "pool_mode = transaction\n[databases]\napp = %s\n", route);
    cr_assert_null(proxy_reload(proxy));
    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT current_user"), "app");
}

SYSTEM_TEST(reload, follows_includes_and_reports_lines_in_them)
{
    SKIP_ON_PGBOUNCER();
    char *included = text_of("%s/part.ini", test_folder());
    struct proxy *proxy;

    file_write(included, 0644, "[databases]\n  app = host=127.0.0.1 port=1\n");
    file_write(included, 0644,
               text_of("; a comment\n[databases]\n  app = %s\n", cluster_route(cluster_shared())));
    proxy = proxy_start("pool_mode = transaction\n%%include %s\n[databases]\n", included);
    client_do(client_open(proxy, NULL), "SELECT 1");
    file_write(included, 0644, "; a comment\n[databases]\n  app = prot=5432\n");
    char *problem = proxy_reload(proxy);
    cr_assert_not_null(problem);
    cr_assert_has(problem, "part.ini:3");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(reload, limits_hold_at_once_for_clients_that_are_there)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nmax_db_connections = 4\n");
    PGconn *clients[4];
    size_t i;

    for (i = 0; i < 4; i++) {
        clients[i] = client_open(proxy, NULL);
        client_do(clients[i], "BEGIN");
    }
    proxy_rewrite(proxy, "pool_mode = transaction\nmax_db_connections = 1\n");
    cr_assert_null(proxy_reload(proxy));
    for (i = 0; i < 4; i++)
        client_do(clients[i], "COMMIT");
    cr_assert(until(proxy_figure(proxy, "DATABASES", "name", "app", "current_connections") <= 1,
                    PATIENCE_MS));
}

SYSTEM_TEST(reload, a_login_that_a_reload_overtakes_gets_what_holds_now)
{
    SKIP_ON_PGBOUNCER();
    static const char text[] = "pool_mode = transaction\nauth_type = plain\n[databases]\n"
                               "app = %s dbname=%s\n";
    const char *route = cluster_route(cluster_shared());
    struct proxy *proxy;
    struct bytes startup = startup_packet("user", "user_plain", "database", "app", NULL);
    struct wire *wire;
    struct wire_message message;

    proxy_set_users("\"user_plain\" \"secret\"\n\"admin\" \"\"\n");
    proxy = proxy_start(text, route, "app");
    wire = wire_open(proxy);
    cr_assert(wire_write(wire, startup.data, startup.count));
    cr_assert(wire_read(wire, &message, PATIENCE_MS) && message.type == 'R');
    proxy_rewrite(proxy, text, route, "db2");
    proxy_signal(proxy, SIGHUP);
    cr_assert(until(proxy_logged(proxy, "the configuration has been read again"), PATIENCE_MS));
    wire_password(wire, "secret");
    wire_types(wire, 'Z', PATIENCE_MS);
    cr_assert(until((wire_query(wire, "SELECT current_database()"),
                     strcmp(wire_value(wire, PATIENCE_MS), "db2") == 0),
                    PATIENCE_MS));
}
