/*
 * replication: the real programs of PostgreSQL take backups and stream changes through pgstage, and
 * connections of replication are nobody else's.
 */
#include "system.h"

SYSTEM_SUITE(replication);

static struct cluster *primary(void)
{
    struct cluster_options options = {.name = "primary",
                                      .settings = "wal_level = logical\n"
                                                  "max_wal_senders = 10\n"
                                                  "max_replication_slots = 10\n"
                                                  "log_replication_commands = on\n"
                                                  "wal_keep_size = 64MB\n"};
    struct cluster *cluster = cluster_start(&options);

    cluster_value(cluster, "ALTER ROLE app REPLICATION");
    cluster_value(cluster, "CREATE ROLE watcher LOGIN");
    cluster_value(cluster, "GRANT pg_monitor TO watcher");
    return cluster;
}

/* A proxy before it, with a line for physical connections. */
static struct proxy *before(const struct cluster *cluster, const char *more)
{
    return proxy_start("pool_mode = transaction\n%s\n[databases]\napp = %s dbname=app\n"
                       "replication = %s\n",
                       more, cluster_route(cluster), cluster_route(cluster));
}

/* A program of PostgreSQL's that goes on until it is ended. */
static pid_t start_tool(const char *program, const char *const *arguments, const char *log)
{
    char *all[24] = {text_of("%s/%s", program_postgres_folder(), program)};
    struct process_options options = {.log = log};

    for (int i = 0; arguments[i] && i < 22; i++)
        all[i + 1] = (char *)arguments[i];
    return process_start(all, &options);
}

static long walsenders(const struct cluster *cluster)
{
    return cluster_number(cluster, "SELECT count(*) FROM pg_stat_replication");
}

static const char *port_of(const struct proxy *proxy)
{
    return text_of("%d", proxy->port);
}

/* A folder for what a program writes. */
static const char *folder_of(const char *name)
{
    char *path = text_of("%s/%s", test_folder(), name);
    char *make[] = {"mkdir", path, NULL}, *output;

    cr_assert_eq(process_run(make, NULL, &output), 0, "%s", output);
    return path;
}

/* ---- the programs ---- */

SYSTEM_TEST(replication, pg_basebackup_takes_a_backup_that_a_server_starts_from)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    const char *folder = text_of("%s/backup", test_folder());
    char *backup[] = {
        "-h",           "127.0.0.1", "-p",     (char *)port_of(proxy), "-U",        "app", "-D",
        (char *)folder, "-X",        "stream", "--checkpoint=fast",    "--no-sync", NULL};
    char *verify[] = {(char *)folder, NULL};

    client_do(client_open(proxy, NULL), "CREATE TABLE kept AS SELECT g FROM "
                                        "generate_series(1, 100000) g");
    free(cluster_tool("pg_basebackup", backup));
    cr_assert_has(cluster_tool("pg_verifybackup", verify), "successfully verified");
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "SERVERS", "replication", "physical") == 0, PATIENCE_MS));
}

SYSTEM_TEST(replication, a_standby_streams_through_pgstage)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct cluster *standby = cluster_standby(cluster, NULL);

    cluster_end(standby, CLUSTER_FAST);
    cluster_follow(standby, text_of("host=127.0.0.1 port=%d user=app application_name=far "
                                    "sslmode=disable",
                                    proxy->port));
    cluster_again(standby);
    cr_assert(until(cluster_number(standby, text_of("SELECT count(*) FROM pg_stat_wal_receiver "
                                                    "WHERE status = 'streaming' AND "
                                                    "sender_port = %d",
                                                    proxy->port)) == 1,
                    PATIENCE_MS));
    /* its own words of the startup packet have reached the server */
    cr_assert_eq(cluster_number(cluster, "SELECT count(*) FROM pg_stat_replication WHERE "
                                         "application_name = 'far' AND usename = 'app'"),
                 1);
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "application_name", "far") == 1, PATIENCE_MS));
    cluster_value(cluster, "CREATE TABLE seen AS SELECT 7 AS i");
    cr_assert(until(cluster_number(standby, "SELECT count(*) FROM pg_class WHERE "
                                            "relname = 'seen'") == 1,
                    PATIENCE_MS));
    /* … and what the standby says: it has replayed all */
    cr_assert(until(cluster_number(cluster, "SELECT count(*) FROM pg_stat_replication WHERE "
                                            "replay_lsn = pg_current_wal_lsn()") == 1,
                    PATIENCE_MS));
    proxy_stop(proxy);
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
}

static const char *file_in(const char *folder, const char *name)
{
    return text_of("%s/%s", folder, name);
}

SYSTEM_TEST(replication, pg_receivewal_writes_the_same_wal)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    const char *folder = folder_of("wal");
    const char *const arguments[] = {"-h",  "127.0.0.1", "-p",   port_of(proxy), "-U",
                                     "app", "-D",        folder, "--no-loop",    NULL};
    char *segment = cluster_value(cluster, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    pid_t tool = start_tool("pg_receivewal", arguments, text_of("%s/wal.log", test_folder()));

    /* it begins with the segment that is written when it asks */
    cr_assert(
        until(access(file_in(folder, text_of("%s.partial", segment)), R_OK) == 0, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "replication", "physical") == 1, PATIENCE_MS));
    cluster_value(cluster, "CREATE TABLE t AS SELECT 1 AS i");
    cluster_value(cluster, "SELECT pg_switch_wal()");
    cr_assert(until(access(file_in(folder, segment), R_OK) == 0, PATIENCE_MS));
    char *same[] = {"cmp", (char *)file_in(folder, segment),
                    text_of("%s/data/pg_wal/%s", cluster->folder, segment), NULL},
         *output;
    cr_assert_eq(process_run(same, NULL, &output), 0, "%s", output);
    kill(tool, SIGINT);
    cr_assert_eq(process_wait(tool, PATIENCE_MS), 0, "%s",
                 file_text(text_of("%s/wal.log", test_folder())));
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
}

SYSTEM_TEST(replication, pg_recvlogical_streams_changes_longer_than_any_timeout)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(
        cluster, "default_pool_size = 1\nquery_timeout = 3\nclient_idle_timeout = 3\n"
                 "idle_transaction_timeout = 3\ntransaction_timeout = 3\n"
                 "server_idle_timeout = 1\nserver_lifetime = 1\nmax_prepared_statements = 5\n");
    const char *output = text_of("%s/changes", test_folder());
    const char *log = text_of("%s/recvlogical.log", test_folder());
    char *create[] = {"-h",
                      "127.0.0.1",
                      "-p",
                      (char *)port_of(proxy),
                      "-U",
                      "app",
                      "-d",
                      "app",
                      "--slot=s",
                      "--plugin=test_decoding",
                      "--create-slot",
                      NULL};
    const char *const start[] = {
        "-h",       "127.0.0.1", "-p", port_of(proxy), "-U", "app", "-d",        "app",
        "--slot=s", "--start",   "-f", output,         "-F", "1",   "--no-loop", NULL};
    PGconn *direct = cluster_connect(cluster, "app"), *idle;
    pid_t tool;

    client_do(direct, "CREATE TABLE t (i int)");
    free(cluster_tool("pg_recvlogical", create));
    tool = start_tool("pg_recvlogical", start, log);
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "replication", "logical") == 1, PATIENCE_MS));
    client_do(direct, "INSERT INTO t VALUES (4711)");
    cr_assert(until(access(output, R_OK) == 0 && strstr(file_text(output), "4711"), PATIENCE_MS));
    /* while the timeouts end others … */
    for (int i = 0; i < 2; i++) {
        idle = client_open(proxy, NULL);
        client_do(idle, "SELECT 1");
        cr_assert(client_is_closed(idle, PATIENCE_MS));
    }
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "replication", "logical") == 1, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "SERVERS", "replication", "logical") == 1, PATIENCE_MS));
    client_do(direct, "INSERT INTO t VALUES (4712)");
    cr_assert(until(strstr(file_text(output), "4712") != NULL, PATIENCE_MS));
    kill(tool, SIGINT);
    cr_assert_eq(process_wait(tool, PATIENCE_MS), 0, "%s", file_text(log));
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
}

SYSTEM_TEST(replication, a_subscription_copies_its_tables_and_follows_their_changes)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct cluster_options options = {.name = "subscriber"};
    struct cluster *subscriber = cluster_start(&options);
    struct proxy *proxy = before(cluster, "");
    PGconn *here = cluster_connect(cluster, "app"), *there = cluster_connect(subscriber, "app");

    client_do(here, "CREATE TABLE t (i int PRIMARY KEY)");
    client_do(here, "GRANT SELECT ON t TO app");
    client_do(here, "INSERT INTO t SELECT generate_series(1, 5000)");
    client_do(here, "CREATE PUBLICATION p FOR TABLE t");
    client_do(there, "CREATE TABLE t (i int PRIMARY KEY)");
    client_do(there, text_of("CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=%d user=app "
                             "dbname=app sslmode=disable' PUBLICATION p",
                             proxy->port));
    cr_assert(until(client_number(there, "SELECT count(*) FROM t") == 5000, PATIENCE_MS));
    client_do(here, "INSERT INTO t VALUES (4711000)");
    cr_assert(
        until(client_number(there, "SELECT count(*) FROM t WHERE i = 4711000") == 1, PATIENCE_MS));
    cr_assert_geq(proxy_rows(proxy, "CLIENTS", "replication", "logical"), 1);
    client_do(there, "DROP SUBSCRIPTION s"); /* which drops the slot through pgstage */
    cr_assert_eq(client_number(here, "SELECT count(*) FROM pg_replication_slots"), 0);
}

/* ---- by hand ---- */

static struct bytes packet_of(const char *database, const char *replication)
{
    return startup_packet("user", "app", "database", database, "replication", replication, NULL);
}

static struct wire *replica(struct proxy *proxy, const char *database, const char *kind)
{
    struct wire *wire = wire_open(proxy);

    wire_log_in(wire, packet_of(database, kind));
    return wire;
}

/* Begins to stream WAL from here on, up to the first bytes of it. */
static void stream(struct wire *wire, const struct cluster *cluster)
{
    wire_query(wire, text_of("START_REPLICATION PHYSICAL %s",
                             cluster_value(cluster, "SELECT pg_current_wal_lsn()")));
    cr_assert_str_eq(wire_types(wire, 'W', PATIENCE_MS), "W");
    cr_assert_str_eq(wire_types(wire, 'd', PATIENCE_MS), "d");
}

SYSTEM_TEST(replication, both_sides_end_copy_both_and_commands_go_on)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = replica(proxy, "replication", "true");
    struct wire_message message;
    char type = 0;

    wire_query(wire, "IDENTIFY_SYSTEM");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS),
                     cluster_value(cluster, "SELECT system_identifier FROM pg_control_system()"));
    stream(wire, cluster);
    /* a standby status update that asks for an answer at once */
    wire_send(wire, 'd', "r\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 34);
    cr_assert_str_eq(wire_types(wire, 'd', PATIENCE_MS), "d");
    wire_send(wire, 'c', "", 0);
    while (type != 'c') {
        cr_assert(wire_read(wire, &message, PATIENCE_MS));
        type = message.type;
        cr_assert(type == 'd' || type == 'c', "%c", type);
        free(message.body);
    }
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CCZ");
    wire_query(wire, "IDENTIFY_SYSTEM");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCZ");
    wire_query(wire, "no command at all");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "EZ");
    wire_query(wire, "SHOW wal_level");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "logical");
}

SYSTEM_TEST(replication, a_connection_is_one_clients_own_from_its_login_to_its_end)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "default_pool_size = 2\n");
    PGconn *client = client_open(proxy, NULL);
    struct wire *first = replica(proxy, "app", "database"), *second;
    char *backend;

    client_do(client, "SELECT 1");
    wire_query(first, "SELECT pg_backend_pid()"); /* SQL is understood on a logical one */
    backend = wire_value(first, PATIENCE_MS);
    cr_assert_neq(atoi(backend), client_backend(client));
    second = replica(proxy, "app", "database");
    wire_query(second, "SELECT pg_backend_pid()");
    cr_assert_str_neq(wire_value(second, PATIENCE_MS), backend);
    /* session state stays: nothing is pooled */
    wire_query(first, "SET statement_timeout = '4711s'");
    cr_assert_str_eq(wire_types(first, 'Z', PATIENCE_MS), "CZ");
    wire_query(first, "SHOW statement_timeout");
    cr_assert_str_eq(wire_value(first, PATIENCE_MS), "4711s");
    wire_send(first, 'X', "", 0);
    cr_assert(wire_is_closed(first, PATIENCE_MS));
    cr_assert(until(cluster_number(cluster, text_of("SELECT count(*) FROM pg_stat_activity WHERE "
                                                    "pid = %s",
                                                    backend)) == 0,
                    PATIENCE_MS));
    /* a client that vanishes takes its server along, too */
    wire_query(second, "SELECT pg_sleep(0.1), 1");
    wire_reset(second);
    cr_assert(until(proxy_rows(proxy, "SERVERS", "replication", "logical") == 0, PATIENCE_MS));
    cr_assert_eq(proxy_rows(proxy, "POOLS", "database", "app"), 1, "one row for both kinds");
}

SYSTEM_TEST(replication, what_the_client_says_at_its_login_reaches_its_server)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = wire_open(proxy);

    wire_log_in(wire, startup_packet("user", "app", "database", "app", "replication", "database",
                                     "application_name", "mine", "options",
                                     "-c work_mem=4711kB -c datestyle=sql", NULL));
    wire_query(wire, "SELECT current_setting('application_name') || current_setting('work_mem') "
                     "|| current_setting('datestyle')");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "mine4711kBSQL, MDY");
    cr_assert(until(proxy_rows(proxy, "SERVERS", "application_name", "mine") == 1, PATIENCE_MS));
}

SYSTEM_TEST(replication, it_counts_under_the_limits_and_waits_for_its_place)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "max_db_connections = 1\nquery_wait_timeout = 60\n");
    PGconn *client = client_open(proxy, NULL);
    struct wire *first, *second = wire_open(proxy);
    struct bytes packet = packet_of("app", "database");

    client_do(client, "SELECT 1"); /* its server lies idle: it makes room */
    first = replica(proxy, "app", "database");
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 1, PATIENCE_MS));
    wire_write(second, packet.data, packet.count);
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    client_start(client, "SELECT 'after it'"); /* … and so does an ordinary client */
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 2, PATIENCE_MS));
    cr_assert_not(client_is_ready(client));
    wire_close(first);
    char *types = wire_types(second, 'Z', PATIENCE_MS);
    cr_assert_eq(types[strlen(types) - 1], 'Z', "%s", types);
    wire_close(second);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
}

SYSTEM_TEST(replication, a_place_that_never_comes_is_told)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "default_pool_size = 1\nquery_wait_timeout = 6\n");
    struct wire *first = replica(proxy, "app", "database"), *second = wire_open(proxy);
    struct bytes packet = packet_of("app", "database");

    wire_write(second, packet.data, packet.count);
    cr_assert_has(wire_error(second, PATIENCE_MS), "FATAL 53300");
    wire_query(first, "IDENTIFY_SYSTEM");
    cr_assert_str_eq(wire_types(first, 'Z', PATIENCE_MS), "TDCZ");
    /* the pool of ordinary clients has a size of its own */
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(replication, what_the_server_refuses_its_client_hears_and_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nserver_login_retry = 60\n");
    struct wire *wire = wire_open(proxy);
    struct bytes packet = packet_of("app", "database");
    char *error;

    wire_write(wire, packet.data, packet.count); /* the role has no REPLICATION there */
    error = wire_error(wire, PATIENCE_MS);
    cr_assert_has(error, "FATAL 42501");
    cr_assert_has(error, "walsender");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(replication, nonsense_and_the_console_are_refused)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    static const char *const no[] = {"0", "no", "FALSE", "off", "f"};
    struct wire *wire = wire_open(proxy);
    struct bytes packet = packet_of("app", "maybe");

    wire_write(wire, packet.data, packet.count);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "FATAL 22023");
    wire = wire_open(proxy);
    packet = startup_packet("user", "admin", "database", "pgstage", "replication", "true", NULL);
    wire_write(wire, packet.data, packet.count);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "FATAL 0A000");
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        wire = replica(proxy, "app", no[i]);
        wire_query(wire, "SELECT 'ordinary'");
        cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "ordinary");
    }
}

SYSTEM_TEST(replication, hba_lines_decide_as_in_postgresql)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    const char *rules = text_of("%s/hba", test_folder());
    struct proxy *proxy;
    struct wire *wire = NULL;
    struct bytes packet = packet_of("replication", "true");

    file_write(rules, 0600, "host all all 127.0.0.1/32 trust\n");
    proxy = before(cluster, text_of("auth_type = hba\nauth_hba_file = %s\n", rules));
    wire = wire_open(proxy);
    wire_write(wire, packet.data, packet.count);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "login rejected"); /* `all` is not about it */
    (void)replica(proxy, "app", "database");                        /* which this is not */
    file_write(rules, 0600,
               "host all all 127.0.0.1/32 trust\n"
               "host replication app 127.0.0.1/32 trust\n");
    cr_assert_null(proxy_reload(proxy));
    (void)replica(proxy, "replication", "true");
}

SYSTEM_TEST(replication, a_cancel_request_reaches_what_runs_on_it)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = replica(proxy, "app", "database"), *request = wire_open(proxy);

    wire_query(wire, "SELECT pg_sleep(63)");
    cr_assert(until(cluster_number(cluster, "SELECT count(*) FROM pg_stat_activity WHERE "
                                            "query = 'SELECT pg_sleep(63)'") == 1,
                    PATIENCE_MS));
    wire_cancel_key(request, wire->key, wire->key_bytes);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
    cr_assert(wire_is_closed(request, PATIENCE_MS));
}

/* ---- its end ---- */

SYSTEM_TEST(replication, the_loss_of_its_host_is_told_with_57P01)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = replica(proxy, "replication", "true");

    stream(wire, cluster);
    cluster_end(cluster, CLUSTER_KILL);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "FATAL 57P01");
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
}

SYSTEM_TEST(replication, a_fenced_host_serves_no_replication_any_more)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\nstate_dir = %s/state\ndefault_environment = e\n"
                    "[environment e]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
                    "monitor_user = watcher\nprobe_interval = 300ms\n"
                    "[databases]\napp = dbname=app\nreplication =\n",
                    test_folder(), cluster->port);
    struct wire *physical, *logical;

    cr_assert(until(proxy_rows(proxy, "ENVIRONMENTS", "accepted_primary",
                               text_of("127.0.0.1:%d", cluster->port)) == 1,
                    PATIENCE_MS));
    physical = replica(proxy, "replication", "true"); /* its system identifier was asked for */
    cr_assert_has(file_text(text_of("%s/postgres.log", cluster->folder)), "IDENTIFY_SYSTEM");
    logical = replica(proxy, "app", "database");
    stream(physical, cluster);
    proxy_do(proxy, text_of("FENCE 127.0.0.1:%d", cluster->port));
    cr_assert_has(wire_error(physical, PATIENCE_MS), "FATAL 57P01");
    cr_assert_has(wire_error(logical, PATIENCE_MS), "FATAL 57P01");
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
}

SYSTEM_TEST(replication, pgstage_says_when_it_ends)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = replica(proxy, "app", "database");

    proxy_signal(proxy, SIGINT); /* when transactions are over: it is in none */
    cr_assert_has(wire_error(wire, PATIENCE_MS), "FATAL 57P01");
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
}

SYSTEM_TEST(replication, pause_waits_for_it_kill_ends_it_and_reconnect_leaves_it)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = replica(proxy, "app", "database"), *late = wire_open(proxy);
    PGconn *console = client_open(proxy, "user=admin dbname=pgstage");
    struct bytes packet = packet_of("app", "database");

    proxy_do(proxy, "RECONNECT app");
    wire_query(wire, "IDENTIFY_SYSTEM");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCZ");
    client_start(console, "PAUSE app");
    cr_assert(until(proxy_figure(proxy, "DATABASES", "name", "app", "paused") == 1, PATIENCE_MS));
    wire_write(late, packet.data, packet.count); /* paused: it waits */
    wire_query(wire, "IDENTIFY_SYSTEM");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCZ");
    cr_assert_not(client_is_ready(console));
    wire_close(wire);
    cr_assert_str_eq(client_finish(console, PATIENCE_MS), "");
    proxy_do(proxy, "RESUME app");
    char *types = wire_types(late, 'Z', PATIENCE_MS);
    cr_assert_eq(types[strlen(types) - 1], 'Z', "%s", types);
    proxy_do(proxy, "KILL app");
    cr_assert_has(wire_error(late, PATIENCE_MS), "FATAL 57P01");
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
}

SYSTEM_TEST(replication, a_client_in_mid_message_hears_it_when_the_message_is_whole)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire = replica(proxy, "app", "database");
    PGconn *idle = client_open(proxy, NULL);

    wire_write(wire, "Q\0\0\0\024IDENTIFY", 13); /* …_SYSTEM is to follow */
    proxy_signal(proxy, SIGINT);
    cr_assert(client_is_closed(idle, PATIENCE_MS)); /* it has been heard */
    wire_write(wire, "_SYSTEM", 8);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "FATAL 57P01");
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
}

SYSTEM_TEST(replication, a_client_that_does_not_read_costs_no_memory)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = primary();
    struct proxy *proxy = before(cluster, "");
    struct wire *wire;
    long kb;

    cluster_value(cluster, "CREATE TABLE wide AS SELECT repeat(md5(g::text), 30) FROM "
                           "generate_series(1, 100000) g"); /* about 100 MB */
    wire = replica(proxy, "replication", "true");
    kb = proxy_memory_kb(proxy);
    wire_query(wire, "BASE_BACKUP (CHECKPOINT 'fast')");
    cr_assert(until(cluster_number(cluster, "SELECT count(*) FROM pg_stat_progress_basebackup "
                                            "WHERE backup_streamed > 0") == 1,
                    PATIENCE_MS));
    /* it stands still because nobody reads */
    cr_assert(until(cluster_number(cluster, "SELECT count(*) FROM pg_stat_activity WHERE "
                                            "wait_event = 'WalSenderWriteData' OR "
                                            "wait_event = 'ClientWrite'") == 1,
                    PATIENCE_MS));
    cr_assert_leq(proxy_memory_kb(proxy) - kb, 16 * 1024);
    wire_reset(wire);
    cr_assert(until(walsenders(cluster) == 0, PATIENCE_MS));
}
