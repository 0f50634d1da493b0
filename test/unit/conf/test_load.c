/* Loading: layers, origins, variables, and PgBouncer's files. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "desk.h"
#include "pgstage/base/buffer.h"
#include "pgstage/conf/users.h"

TestSuite(load, .init = desk_set, .fini = desk_clear);

#define STAGE                                                                                      \
    "[pgstage]\nauth_type = scram-sha-256\nquery_wait_timeout = 1\n"                               \
    "[environment test]\nclass = integration_testing\nhosts = h1, h2:5433\n"                       \
    "[databases]\napp = \n"

Test(load, a_missing_file_is_one_clear_mistake)
{
    cr_expect_null(desk_load(NULL));
    cr_expect_eq(desk_report.errors, 1);
    cr_expect(desk_said(0, "cannot read"));
}

Test(load, an_empty_file_is_a_configuration_of_defaults)
{
    struct snapshot *snapshot = desk_accepts("");
    cr_expect_eq(snapshot_globals(snapshot)->default_pool_size, 20);
    cr_expect_eq(snapshot_listener_count(snapshot), 1);
    cr_expect_null(snapshot_listener(snapshot, 0)->name);
    snapshot_unref(snapshot);
}

Test(load, pgbouncer_and_pgstage_are_one_section)
{
    struct snapshot *snapshot =
        desk_accepts("[pgbouncer]\nmax_client_conn = 7\n[pgstage]\ndefault_pool_size = 8\n");
    cr_expect_eq(snapshot_globals(snapshot)->max_client_conn, 7);
    cr_expect_eq(snapshot_globals(snapshot)->default_pool_size, 8);
    snapshot_unref(snapshot);
}

Test(load, sections_may_repeat_and_later_lines_win)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nmax_client_conn = 7\n[databases]\na = pool_size=1 dbname=x\n"
                     "[pgstage]\nmax_client_conn = 9\n[databases]\na = dbname=y\n");
    cr_expect_eq(snapshot_globals(snapshot)->max_client_conn, 9);
    cr_expect_eq(snapshot_database_count(snapshot), 1);
    struct effective *effective = desk_effective(snapshot, "a", "u");
    cr_expect_str_eq(effective->dbname, "y");
    cr_expect_eq(effective->settings->pool_size, -1, "a repeated line replaces the whole line");
    effective_unref(effective);
    snapshot_unref(snapshot);
}

/* A pipe into which nobody writes: whoever opens or reads it without care waits for ever. */
static void put_pipe(const char *name)
{
    cr_assert_eq(mkfifo(desk_path(name), 0600), 0);
}

Test(load, a_pipe_is_refused_at_once_whatever_it_stands_for, .timeout = 60)
{
    put_pipe("pipe");
    desk_refuses("[pgstage]\n%include pipe\n", 2, "pipe: it is not a regular file");
    desk_refuses("[pgstage]\nauth_type = md5\nauth_file = pipe\n", 3, "it is not a regular file");
    desk_refuses("[pgstage]\nauth_type = hba\nauth_hba_file = pipe\n", 3,
                 "it is not a regular file");
    desk_refuses("[pgstage]\nauth_ident_file = pipe\n", 2, "it is not a regular file");
    desk_refuses("[databases]\na = host=h user=u password_file=pipe\n", 2,
                 "it is not a regular file");
    desk_refuses("[pgstage]\nserver_tls_sslmode = verify-ca\nserver_tls_ca_file = pipe\n", 3,
                 "server_tls_ca_file: cannot read pipe: it is not a regular file");
    desk_refuses("[pgstage]\nclient_tls_key_file = pipe\n", 2, "it is not a regular file");
}

Test(load, a_list_of_a_rule_is_no_pipe, .timeout = 60)
{
    put_pipe("pipe");
    desk_write("hba", "local @pipe all md5\n");
    desk_refuses("[pgstage]\nauth_type = hba\nauth_hba_file = hba\n", 1,
                 "@pipe: cannot read pipe: it is not a regular file");
}

Test(load, the_main_file_is_no_pipe_while_clients_are_served, .timeout = 60)
{
    put_pipe("pgstage.ini");
    cr_expect_null(desk_load(NULL));
    cr_expect(desk_said(0, "it is not a regular file"));
}

Test(load, a_folder_of_files_holds_no_pipe, .timeout = 60)
{
    desk_write("pgstage.d/10.ini", "");
    put_pipe("pgstage.d/20.ini");
    desk_refuses("", 0, "20.ini: it is not a regular file");
}

Test(load, a_file_may_be_no_file_at_all)
{
    snapshot_unref(desk_accepts("%include /dev/null\n[pgstage]\nauth_file = /dev/null\n"));
}

Test(load, what_one_file_says_twice_is_told_with_both_lines)
{
    struct snapshot *snapshot =
        desk_accepts("[pgbouncer]\nmax_client_conn = 7\nmax_client_conn = 7\n"
                     "[environment e]\nclass = review_apps\nhosts = h\nhosts = g\n"
                     "[databases]\na = host=h pool_size=5 pool_size=6\na = host=h\na@e =\n"
                     "[users]\nu = pool_size=1\nu = pool_size=2\n"
                     "[peers]\n1 = host=h\n1 = host=g\n"
                     "[pgstage]\nmax_client_conn = 9\n");
    cr_expect(desk_said(3, "/pgstage.ini:2 already"));
    cr_expect(desk_said(7, "hosts stands at"));
    cr_expect(desk_said(9, "pool_size stands twice in this line"));
    cr_expect(desk_said(10, "database a stands at"));
    cr_expect(desk_said(14, "user u stands at"));
    cr_expect(desk_said(17, "peer 1 stands at"));
    cr_expect(desk_said(19, "max_client_conn stands at"));
    cr_expect(desk_said(19, "/pgstage.ini:3 already; this line counts"));
    cr_expect_not(desk_said(11, ""), "the database of one environment is another one");
    snapshot_unref(snapshot);
}

Test(load, what_another_file_says_again_is_meant)
{
    desk_write("more.ini", "max_client_conn = 8\n");
    desk_write("pgstage.local.ini", "[pgstage]\nmax_client_conn = 9\n[databases]\na = host=g\n");
    snapshot_unref(desk_accepts("[pgstage]\nmax_client_conn = 7\n%include more.ini\n"
                                "%include more.ini\n[databases]\na = host=h\n"));
    cr_expect_not(desk_said(0, "already"));
}

Test(load, a_class_beats_what_is_said_for_all)
{
    struct snapshot *snapshot = desk_accepts(STAGE);
    cr_expect_str_eq(desk_value(snapshot, "test", "query_wait_timeout"), "15");
    cr_expect_str_eq(desk_origin(snapshot, "test", "query_wait_timeout"),
                     "class integration_testing");
    cr_expect_str_eq(desk_value(snapshot, NULL, "query_wait_timeout"), "1");
    snapshot_unref(snapshot);
}

Test(load, an_environment_beats_its_class_and_a_line_beats_both)
{
    struct snapshot *snapshot = desk_accepts(STAGE "slow = query_wait_timeout=77 environment=test\n"
                                                   "[environment test]\nquery_wait_timeout = 55s\n"
                                                   "[users]\nhasty = query_wait_timeout=3\n");
    struct effective *app = desk_effective(snapshot, "app@test", "u");
    struct effective *slow = desk_effective(snapshot, "slow", "u");
    struct effective *hasty = desk_effective(snapshot, "slow", "hasty");
    cr_expect_eq(app->settings->query_wait_timeout_us, 55000000);
    cr_expect_eq(slow->settings->query_wait_timeout_us, 77000000);
    cr_expect_eq(hasty->settings->query_wait_timeout_us, 3000000);
    cr_expect_eq(settings_pool_size(app->settings), 10);
    cr_expect_eq(app->host_count, 2);
    cr_expect_eq(app->hosts[1].port, 5433);
    effective_unref(app);
    effective_unref(slow);
    effective_unref(hasty);
    snapshot_unref(snapshot);
}

Test(load, later_files_beat_earlier_ones_within_a_scope)
{
    desk_write("pgstage.d/10.ini", "[pgstage]\nmax_client_conn = 10\nmax_db_connections = 10\n");
    desk_write("pgstage.d/20.ini", "[pgstage]\nmax_client_conn = 20\n");
    desk_write("pgstage.d/30.txt", "[pgstage]\nmax_client_conn = 30\n");
    desk_write("pgstage.local.ini", "[pgstage]\nmax_user_connections = 40\n");
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nmax_client_conn = 1\nmax_db_connections = 1\n"
                     "max_user_connections = 1\nmin_pool_size = 1\n");
    cr_expect_str_eq(desk_value(snapshot, NULL, "max_client_conn"), "20");
    cr_expect_str_eq(desk_value(snapshot, NULL, "max_db_connections"), "10");
    cr_expect_str_eq(desk_value(snapshot, NULL, "max_user_connections"), "40");
    cr_expect_str_eq(desk_value(snapshot, NULL, "min_pool_size"), "1");
    cr_expect(strstr(desk_origin(snapshot, NULL, "max_client_conn"), "/pgstage.d/20.ini:2"));
    cr_expect(strstr(desk_origin(snapshot, NULL, "max_user_connections"), "/pgstage.local.ini:2"));
    cr_expect(strstr(desk_origin(snapshot, NULL, "min_pool_size"), "/pgstage.ini:5"));
    snapshot_unref(snapshot);
}

Test(load, a_later_file_of_a_wider_scope_does_not_beat_a_narrower_one)
{
    desk_write("pgstage.local.ini", "[pgstage]\nquery_wait_timeout = 99\n");
    struct snapshot *snapshot = desk_accepts(STAGE "[environment test]\nquery_wait_timeout = 55\n");
    cr_expect_str_eq(desk_value(snapshot, "test", "query_wait_timeout"), "55");
    snapshot_unref(snapshot);
}

Test(load, variables_come_last_for_all_and_for_one_environment)
{
    setenv("PGSTAGE__MAX_CLIENT_CONN", "77", 1);
    setenv("PGSTAGE__TEST__POOL_SIZE", "3", 1);
    setenv("PGSTAGE_PORT", "tcp://10.0.0.1:6432", 1);
    struct snapshot *snapshot = desk_accepts(STAGE "[environment test]\npool_size = 9\n");
    cr_expect_str_eq(desk_value(snapshot, NULL, "max_client_conn"), "77");
    cr_expect_str_eq(desk_origin(snapshot, NULL, "max_client_conn"),
                     "variable PGSTAGE__MAX_CLIENT_CONN");
    cr_expect_str_eq(desk_value(snapshot, "test", "pool_size"), "3");
    cr_expect_str_eq(desk_origin(snapshot, "test", "pool_size"),
                     "variable PGSTAGE__TEST__POOL_SIZE");
    snapshot_unref(snapshot);
}

Test(load, a_variable_finds_an_environment_with_other_characters_in_its_name)
{
    setenv("PGSTAGE__PRE_LIVE_2__POOL_SIZE", "3", 1);
    struct snapshot *snapshot =
        desk_accepts("[environment pre-live.2]\nclass = review_apps\nhosts = h\n");
    cr_expect_str_eq(desk_value(snapshot, "pre-live.2", "pool_size"), "3");
    snapshot_unref(snapshot);
}

Test(load, a_variable_for_nothing_known_is_a_mistake)
{
    setenv("PGSTAGE__NO_SUCH_OPTION", "1", 1);
    setenv("PGSTAGE__NOWHERE__POOL_SIZE", "1", 1);
    setenv("PGSTAGE__LISTEN_PORT", "abc", 1);
    cr_expect_null(desk_load(STAGE));
    cr_expect_eq(desk_report.errors, 3);
    cr_expect(desk_said(0, "PGSTAGE__NO_SUCH_OPTION: unknown option \"no_such_option\""));
    cr_expect(desk_said(0, "PGSTAGE__NOWHERE__POOL_SIZE: there is no environment NOWHERE"));
    cr_expect(desk_said(0, "PGSTAGE__LISTEN_PORT: listen_port: \"abc\""));
}

Test(load, a_variable_holds_a_value_a_part_of_it_or_a_whole_line)
{
    setenv("PART", "ap", 1);
    setenv("SECRET", "it's a ${secret}", 1);
    setenv("LINE", "dbname='my db' port=7 host=h", 1);
    struct snapshot *snapshot = desk_accepts("[pgstage]\nsyslog_ident = ${PART}p\n[databases]\n"
                                             "a = host=h password=${SECRET} user='${PART} x'\n"
                                             "b = ${LINE}\n");
    struct effective *a = desk_effective(snapshot, "a", "u"), *b = desk_effective(snapshot, "b", 0);
    cr_expect_str_eq(snapshot_globals(snapshot)->syslog_ident, "app");
    cr_expect_str_eq(a->settings->password, "it's a ${secret}");
    cr_expect_str_eq(a->settings->user, "ap x");
    cr_expect_str_eq(b->dbname, "my db");
    cr_expect_eq(b->hosts[0].port, 7);
    effective_unref(a);
    effective_unref(b);
    snapshot_unref(snapshot);
}

Test(load, the_run_as_user_is_no_forced_user)
{
    struct snapshot *snapshot =
        desk_accepts("[pgbouncer]\nuser = pooler\n[databases]\na = host=h\n");
    struct effective *a = desk_effective(snapshot, "a", "u");
    cr_expect_str_eq(snapshot_globals(snapshot)->run_as_user, "pooler");
    cr_expect_null(a->settings->user);
    effective_unref(a);
    snapshot_unref(snapshot);
}

Test(load, a_password_file_gives_the_password)
{
    desk_write("pw", "from a file\nsecond line\n");
    struct snapshot *snapshot =
        desk_accepts("[databases]\na = host=h user=u password_file=pw\n"
                     "[environment e]\nclass = review_apps\nhosts = x\nmonitor_user = m\n"
                     "monitor_password_file = pw\n");
    struct effective *a = desk_effective(snapshot, "a", "u");
    cr_expect_str_eq(a->settings->password, "from a file");
    cr_expect_str_eq(snapshot_environment_settings(snapshot, snapshot_environment(snapshot, 0))
                         ->monitor_password,
                     "from a file");
    effective_unref(a);
    snapshot_unref(snapshot);
}

Test(load, a_fallback_serves_under_the_name_that_was_asked_for)
{
    struct snapshot *snapshot = desk_accepts("[databases]\n* = host=h port=5433\n");
    struct effective *any = desk_effective(snapshot, "anything", "u");
    cr_expect(any->fallback);
    cr_expect_str_eq(any->dbname, "anything");
    cr_expect_str_eq(any->database, "anything");
    cr_expect_eq(any->hosts[0].port, 5433);
    effective_unref(any);
    snapshot_unref(snapshot);
}

Test(load, a_database_without_host_is_on_the_unix_socket)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nunix_socket_dir = /run/x\n[databases]\na =\nb = port=5433\n");
    struct effective *a = desk_effective(snapshot, "a", "u"), *b = desk_effective(snapshot, "b", 0);
    cr_expect_str_eq(a->hosts[0].name, "/run/x");
    cr_expect_eq(a->hosts[0].port, 5432);
    cr_expect_str_eq(b->hosts[0].name, "/run/x");
    cr_expect_eq(b->hosts[0].port, 5433);
    effective_unref(a);
    effective_unref(b);
    snapshot_unref(snapshot);
}

Test(load, an_effective_outlives_the_snapshot)
{
    struct snapshot *snapshot = desk_accepts(STAGE);
    struct effective *app = desk_effective(snapshot, "app@test", "u");
    snapshot_unref(snapshot);
    cr_expect_str_eq(app->environment->name, "test");
    cr_expect_str_eq(app->hosts[0].name, "h1");
    effective_unref(effective_ref(app));
    effective_unref(app);
}

Test(load, listeners_take_over_what_they_do_not_say)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nlisten_addr = 127.0.0.1\nlisten_backlog = 9\n"
                     "[listener b]\nlisten_port = 6433\nenvironment = e\n"
                     "[environment e]\nclass = review_apps\nhosts = h\n");
    const struct listener_config *listener = snapshot_listener(snapshot, 1);
    cr_expect_str_eq(listener->name, "b");
    cr_expect_str_eq(listener->environment, "e");
    cr_expect_str_eq(listener->settings->listen_addr, "127.0.0.1");
    cr_expect_eq(listener->settings->listen_backlog, 9);
    cr_expect_eq(listener->settings->listen_port, 6433);
    cr_expect_eq(snapshot_listener(snapshot, 0)->settings->listen_port, 6432);
    snapshot_unref(snapshot);
}

Test(load, peers_are_read)
{
    struct snapshot *snapshot =
        desk_accepts("[peers]\n1 = host=/tmp port=6433\n2 = host=b pool_size=3\n");
    cr_assert_eq(snapshot_peer_count(snapshot), 2);
    cr_expect_eq(snapshot_peer(snapshot, 0)->port, 6433);
    cr_expect_eq(snapshot_peer(snapshot, 1)->id, 2);
    cr_expect_eq(snapshot_peer(snapshot, 1)->port, 6432);
    cr_expect_eq(snapshot_peer(snapshot, 1)->pool_size, 3);
    snapshot_unref(snapshot);
}

Test(load, user_limits_hold_over_all_databases)
{
    struct settings settings;
    struct snapshot *snapshot = desk_accepts("[pgstage]\nmax_user_connections = 5\n"
                                             "[users]\nu = max_user_connections=2\n");
    snapshot_user_settings(snapshot, "u", &settings);
    cr_expect_eq(settings.max_user_connections, 2);
    snapshot_user_settings(snapshot, "other", &settings);
    cr_expect_eq(settings.max_user_connections, 5);
    snapshot_unref(snapshot);
}

Test(load, a_real_pgbouncer_file_loads_unchanged)
{
    desk_write("userlist.txt", "\"app\" \"md50123456789abcdef0123456789abcdef\"\n");
    desk_write("other.ini", "[databases]\nincluded = host=h9\n");
    struct snapshot *snapshot = desk_accepts(
        ";; from a live machine\n"
        "[databases]\n"
        "; foodb over Unix socket\n"
        "foodb =\n"
        "bardb = host=localhost dbname=bazdb\n"
        "forcedb = host=localhost port=300 user=baz password=foo client_encoding=UNICODE "
        "datestyle=ISO connect_query='SELECT 1; SELECT ''a b'''\n"
        "nondefaultdb = pool_size=50 reserve_pool=10\n"
        "hosts = host=h1,h2,h3 load_balance_hosts=disable\n"
        "'odd name' = host=127.0.0.1 auth_user=bar\n"
        "* = host=testserver\n"
        "[users]\n"
        "user1 = pool_mode=transaction max_user_connections=10\n"
        "[pgbouncer]\n"
        "logfile = /var/log/postgresql/pgbouncer.log\n"
        "pidfile = /var/run/postgresql/pgbouncer.pid\n"
        "   listen_addr = localhost\n"
        "   listen_port = 6432\n"
        "unix_socket_dir = /var/run/postgresql\n"
        "auth_type = md5\n"
        "auth_file = userlist.txt\n"
        "admin_users = user2, someadmin, otheradmin\n"
        "stats_users = stats, root\n"
        "pool_mode = session\n"
        "server_reset_query = DISCARD ALL\n"
        "server_reset_query_always = 0\n"
        "ignore_startup_parameters = extra_float_digits, search_path\n"
        "server_check_query = select 1\n"
        "server_check_delay = 30\n"
        "max_client_conn = 1000\n"
        "default_pool_size = 20\n"
        "reserve_pool_timeout = 3\n"
        "tcp_keepalive = 1\n"
        "tcp_user_timeout = 0\n"
        "pkt_buf = 4096\n"
        "sbuf_loopcnt = 5\n"
        "suspend_timeout = 10\n"
        "job_name = pgbouncer\n"
        "service_name = pgbouncer\n"
        "query_wait_timeout = 120.0\n"
        "client_tls_sslmode = disable\n"
        "server_tls_sslmode = prefer\n"
        "server_tls_protocols = secure\n"
        "server_tls_ciphers = fast\n"
        "%include other.ini\n");
    struct effective *forced = desk_effective(snapshot, "forcedb", "user1");
    struct effective *many = desk_effective(snapshot, "hosts", "u");
    struct effective *included = desk_effective(snapshot, "included", "u");
    cr_expect_str_eq(forced->settings->connect_query, "SELECT 1; SELECT 'a b'");
    cr_expect_str_eq(forced->settings->user, "baz");
    cr_expect_eq(forced->settings->pool_mode, POOL_MODE_TRANSACTION);
    cr_expect_eq(many->host_count, 3);
    cr_expect_eq(many->settings->load_balance_hosts, BALANCE_DISABLE);
    cr_expect_str_eq(included->hosts[0].name, "h9");
    cr_expect_eq(users_count(snapshot_users(snapshot)), 1);
    cr_expect(snapshot_find_database(snapshot, "odd name", NULL) != NULL);
    effective_unref(forced);
    effective_unref(many);
    effective_unref(included);
    snapshot_unref(snapshot);
}

Test(load, set_gives_a_new_snapshot_and_leaves_the_old_one)
{
    struct snapshot *old = desk_accepts(STAGE);
    struct report report = {0};
    struct snapshot *set = snapshot_set(old, "max_client_conn", "55", &report);
    cr_assert(set);
    cr_expect_str_eq(desk_value(set, NULL, "max_client_conn"), "55");
    cr_expect_str_eq(desk_origin(set, NULL, "max_client_conn"), "SET");
    cr_expect_str_eq(desk_value(old, NULL, "max_client_conn"), "100");
    snapshot_unref(old);
    cr_expect(strstr(desk_origin(set, NULL, "auth_type"), "/pgstage.ini:2"));
    cr_expect_str_eq(desk_value(set, "test", "pool_size"), "10");
    snapshot_unref(set);
    report_fini(&report);
}

Test(load, set_refuses_what_a_file_could_not_say_either)
{
    struct snapshot *old = desk_accepts(STAGE);
    report_fini(&desk_report);
    cr_expect_null(snapshot_set(old, "max_client_con", "55", &desk_report));
    cr_expect_null(snapshot_set(old, "max_client_conn", "many", &desk_report));
    cr_expect_null(snapshot_set(old, "listen_port", "6000", &desk_report));
    cr_expect_null(snapshot_set(old, "default_environment", "nowhere", &desk_report));
    cr_expect_null(snapshot_set(old, "logfile", "/tmp/x\nauth_type = any", &desk_report));
    cr_expect(desk_said(0, "one line without control characters"));
    cr_expect(desk_said(0, "did you mean max_client_conn"));
    cr_expect(desk_said(0, "SET: max_client_conn: \"many\""));
    cr_expect(desk_said(0, "listen_port cannot be changed without a restart"));
    cr_expect(desk_said(0, "SET: there is no environment \"nowhere\""));
    snapshot_unref(old);
}

Test(load, same_servers_are_told_from_others)
{
    static const struct {
        const char *line;
        bool same;
    } cases[] = {
        {"host=h1 dbname=x", true},
        {"host=h1 dbname=x pool_size=3 query_wait_timeout=9", true},
        {"host=h1 dbname=y", false},
        {"host=h2 dbname=x", false},
        {"host=h1:5433 dbname=x", false},
        {"host=h1@10.0.0.1 dbname=x", false},
        {"host=h1,h2 dbname=x", false},
        {"host=h1 dbname=x user=f", false},
        {"host=h1 dbname=x password=f", false},
        {"host=h1 dbname=x server_tls_sslmode=require", false},
        {"host=h1 dbname=x connect_query=x", false},
        {"host=h1 dbname=x timezone=UTC", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        struct snapshot *before = desk_accepts("[databases]\na = host=h1 dbname=x\n");
        snprintf(text, sizeof(text), "[databases]\na = %s\n", cases[i].line);
        struct snapshot *after = desk_accepts(text);
        struct effective *a = desk_effective(before, "a", "u"),
                         *b = desk_effective(after, "a", "u");
        cr_expect_eq(effective_same_servers(a, b), cases[i].same, "%s", cases[i].line);
        effective_unref(a);
        effective_unref(b);
        snapshot_unref(before);
        snapshot_unref(after);
    }
}

Test(load, lines_that_say_nothing_of_their_own_have_one_record_of_settings)
{
    struct snapshot *snapshot =
        desk_accepts("[environment e]\nclass = local_development\nhosts = h1\npool_size = 9\n"
                     "[environment f]\nclass = local_development\nhosts = h1\npool_size = 9\n"
                     "[databases]\na = environment=e dbname=x\nb = environment=e\n"
                     "c = environment=e pool_size=3\nd = environment=f dbname=x\n"
                     "[users]\nv = pool_size=4\n");
    static const struct {
        const char *database, *user;
        bool same_kind;
        int64_t pool_size;
        const char *dbname;
    } cases[] = {
        {"a", "u", true, 9, "x"},  {"b", "u", true, 9, "b"},  {"c", "u", false, 3, "c"},
        {"d", "u", false, 9, "x"}, {"a", "v", false, 4, "x"},
    };
    struct effective *first = desk_effective(snapshot, "b", "u");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct effective *one = desk_effective(snapshot, cases[i].database, cases[i].user);
        cr_expect_eq(effective_same_kind(first, one), cases[i].same_kind, "%s of %s",
                     cases[i].database, cases[i].user);
        cr_expect_eq(one->settings->pool_size, cases[i].pool_size, "%s of %s", cases[i].database,
                     cases[i].user);
        cr_expect_str_eq(one->dbname, cases[i].dbname);
        effective_unref(one);
    }
    effective_unref(first);
    snapshot_unref(snapshot);
}

Test(load, a_thousand_databases_in_fifty_environments_load_at_once)
{
    struct buffer text = {0};
    buffer_print(&text, "[pgstage]\nauth_type = scram-sha-256\n");
    for (int i = 0; i < 50; i++)
        buffer_print(&text,
                     "[environment e%d]\nclass = production\nhosts = h%d.a, h%d.b:5433\n"
                     "server_tls_ca_file = system\n",
                     i, i, i);
    buffer_print(&text, "[databases]\n");
    for (int i = 0; i < 1000; i++)
        buffer_print(&text, "db%d@e%d = dbname=real%d pool_size=%d query_wait_timeout=30s\n", i,
                     i % 50, i, i % 40 + 1);
    for (int i = 0; i < 1000; i++)
        buffer_print(&text, "all%d = dbname=real%d pool_size=%d\n", i, i, i % 40 + 1);
    buffer_put_u8(&text, 0);
    struct timespec start, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    struct snapshot *snapshot = desk_accepts((char *)text.data);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double spent_ms =
        (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
    /* 20 ms in a plain build; sanitizers take ten times that. */
    cr_expect_lt(spent_ms, 1000, "took %.1f ms", spent_ms);
    cr_expect_eq(snapshot_database_count(snapshot), 2000);
    struct effective *one = desk_effective(snapshot, "db777@e27", "u");
    cr_expect_str_eq(one->dbname, "real777");
    effective_unref(one);
    snapshot_unref(snapshot);
    buffer_fini(&text);
}

/* ---- size ---- */

/* Processor time of loading so many databases in fifty environments: the best of some tries. */
static double load_cost(unsigned databases)
{
    static const char *const classes[] = {"local_development", "staging", "production",
                                          "review_apps", "disaster_recovery"};
    char *text = NULL;
    size_t length = 0;
    double best = 1e9;
    FILE *out = open_memstream(&text, &length);
    fprintf(out, "[pgstage]\nauth_type = scram-sha-256\naudit_log = audit\n");
    for (unsigned i = 0; i < 50; i++)
        fprintf(out,
                "[environment e%u]\nclass = %s\nhosts = pg1.e%u.test, pg2.e%u.test:5433\n"
                "server_tls_ca_file = system\nallow_from = 10.%u.0.0/16\n",
                i, classes[i % 5], i, i, i);
    fprintf(out, "[databases]\n");
    for (unsigned i = 0; i < databases; i++)
        fprintf(out, "db%u@e%u = dbname=real%u pool_size=3 connect_query='SELECT 1'\n", i, i % 50,
                i);
    fclose(out);
    desk_write("pgstage.ini", text);
    for (int i = 0; i < 5; i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        snapshot_unref(desk_accepts(NULL));
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
        double took = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
        best = took < best ? took : best;
    }
    free(text);
    return best;
}

/* A load of 1,000 databases in 50 environments takes some milliseconds (doc/benchmarks.md); here,
 * whatever the machine and the build, it must not grow faster than what is loaded. */
Test(load, the_time_of_a_load_grows_with_the_file_and_no_faster)
{
    double few = load_cost(1000), many = load_cost(8000);
    cr_expect_lt(many, few * 24, "1,000 databases: %g s, 8,000: %g s", few, many);
}
