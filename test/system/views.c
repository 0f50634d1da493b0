/*
 * views: SHOW …: PgBouncer's columns in its order (exporters count on them), new ones behind them;
 * by the simple and the extended protocol.
 */
#include "system.h"

SYSTEM_SUITE(views);

/* PgBouncer 1.25, in wire order. */
static const struct {
    const char *name, *columns;
} views[] = {
    {"STATS",
     "database,total_server_assignment_count,total_xact_count,total_query_count,total_received,"
     "total_sent,total_xact_time,total_query_time,total_wait_time,total_client_parse_count,"
     "total_server_parse_count,total_bind_count,total_client_login_count,"
     "avg_server_assignment_count,avg_xact_count,avg_query_count,avg_recv,avg_sent,avg_xact_time,"
     "avg_query_time,avg_wait_time,avg_client_parse_count,avg_server_parse_count,avg_bind_count,"
     "avg_client_login_count"},
    {"STATS_TOTALS",
     "database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,xact_time,"
     "query_time,wait_time,client_parse_count,server_parse_count,bind_count,client_login_count"},
    {"STATS_AVERAGES",
     "database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,xact_time,"
     "query_time,wait_time,avg_client_parse_count,avg_server_parse_count,avg_bind_count,"
     "avg_client_login_count"},
    {"TOTALS", "name,value"},
    {"SERVERS", "type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,"
                "request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,"
                "prepared_statements,id"},
    {"CLIENTS", "type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,"
                "request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,"
                "prepared_statements,id"},
    {"SOCKETS", "type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,"
                "request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,"
                "prepared_statements,id,recv_pos,pkt_pos,pkt_remain,send_pos,send_remain,pkt_avail,"
                "send_avail"},
    {"ACTIVE_SOCKETS",
     "type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,"
     "request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,"
     "prepared_statements,id,recv_pos,pkt_pos,pkt_remain,send_pos,send_remain,pkt_avail,"
     "send_avail"},
    {"POOLS",
     "database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,"
     "sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,"
     "pool_mode,load_balance_hosts"},
    {"PEERS", "peer_id,host,port,pool_size"},
    {"PEER_POOLS", "peer_id,cl_active_cancel_req,cl_waiting_cancel_req,sv_active_cancel,sv_login"},
    {"DATABASES",
     "name,host,port,database,force_user,pool_size,min_pool_size,reserve_pool_size,"
     "server_lifetime,pool_mode,load_balance_hosts,max_connections,current_connections,"
     "max_client_connections,current_client_connections,paused,disabled"},
    {"USERS", "name,pool_size,reserve_pool_size,pool_mode,max_user_connections,current_connections,"
              "max_user_client_connections,current_client_connections"},
    {"LISTS", "list,items"},
    {"CONFIG", "key,value,default,changeable"},
    {"MEM", "name,size,used,free,memtotal"},
    {"STATE", "key,value"},
    {"VERSION", "version"},
    {"DNS_HOSTS", "hostname,ttl,addrs"},
    {"DNS_ZONES", "zonename,serial,count"},
    {"ENVIRONMENTS", "name"},
    {"HOSTS", "environment,host"},
};
enum { VIEW_COUNT = sizeof views / sizeof views[0] };

static char *columns_of(const PGresult *result)
{
    char *text = text_of("%s", "");
    int i;

    for (i = 0; i < PQnfields(result); i++)
        text = text_of("%s%s%s", text, i ? "," : "", PQfname(result, i));
    return text;
}

SYSTEM_TEST(views, have_pgbouncers_columns_in_its_order)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    int i;

    client_do(client_open(proxy, NULL), "SELECT 1");
    for (i = 0; i < VIEW_COUNT; i++) {
        PGresult *result = proxy_show(proxy, views[i].name);
        char *columns = columns_of(result);
        size_t length = strlen(views[i].columns);

        cr_assert(!strncmp(columns, views[i].columns, length) &&
                      (columns[length] == ',' || !columns[length]),
                  "SHOW %s: %s", views[i].name, columns);
        PQclear(result);
    }
}

/* What pgbouncer_exporter insists on: it asks under PgBouncer's name, and counts these columns. */
SYSTEM_TEST(views, config_and_lists_have_no_further_columns_for_who_asks_pgbouncer)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *monitor = client_open(proxy, "user=stats dbname=pgbouncer");
    PGresult *config = PQexec(monitor, "SHOW CONFIG;"), *lists = PQexec(monitor, "SHOW LISTS;");
    PGresult *extended = PQexecParams(monitor, "SHOW CONFIG", 0, NULL, NULL, NULL, NULL, 0);

    cr_assert_str_eq(columns_of(config), "key,value,default,changeable");
    cr_assert_str_eq(columns_of(extended), "key,value,default,changeable");
    cr_assert_eq(PQntuples(extended), PQntuples(config));
    cr_assert_str_eq(columns_of(lists), "list,items");
    PQclear(config);
    PQclear(lists);
    PQclear(extended);
}

SYSTEM_TEST(views, totals_have_pgbouncers_names)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");

    client_do(client_open(proxy, NULL), "SELECT repeat('x', 5000)");
    cr_assert(until(proxy_figure(proxy, "TOTALS", "name", "total_xact_count", "value") == 1,
                    PATIENCE_MS));
    cr_assert_gt(proxy_figure(proxy, "TOTALS", "name", "total_server_bytes", "value"), 5000);
    cr_assert_gt(proxy_figure(proxy, "TOTALS", "name", "total_client_bytes", "value"), 10);
    cr_assert_eq(proxy_rows(proxy, "TOTALS", "name", "avg_client_bytes"), 1);
    cr_assert_eq(proxy_rows(proxy, "TOTALS", "name", "avg_server_bytes"), 1);
}

SYSTEM_TEST(views, are_the_same_in_the_extended_protocol)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *admin = client_open(proxy, "user=admin dbname=pgstage");
    int i;

    for (i = 0; i < VIEW_COUNT; i++) {
        char *sql = text_of("SHOW %s", views[i].name);
        PGresult *simple = PQexec(admin, sql);
        PGresult *extended = PQexecParams(admin, sql, 0, NULL, NULL, NULL, NULL, 0);

        cr_assert_eq(PQresultStatus(extended), PGRES_TUPLES_OK, "%s: %s", sql,
                     PQerrorMessage(admin));
        cr_assert_str_eq(columns_of(extended), columns_of(simple));
        PGresult *described = PQprepare(admin, text_of("s%d", i), sql, 0, NULL);
        cr_assert_eq(PQresultStatus(described), PGRES_COMMAND_OK, "%s", PQerrorMessage(admin));
        described = PQdescribePrepared(admin, text_of("s%d", i));
        cr_assert_eq(PQnfields(described), PQnfields(simple));
        PGresult *prepared = PQexecPrepared(admin, text_of("s%d", i), 0, NULL, NULL, NULL, 0);
        cr_assert_eq(PQresultStatus(prepared), PGRES_TUPLES_OK, "%s", PQerrorMessage(admin));
    }
}

SYSTEM_TEST(views, words_may_be_written_in_any_case_and_end_with_a_semicolon)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *admin = proxy_console(proxy);
    static const char *const ways[] = {"show version", "SHOW VERSION;", "  Show  Version ; ",
                                       "SHOW\tVERSION"};
    size_t i;

    for (i = 0; i < 4; i++)
        cr_assert_eq(PQntuples(PQexec(admin, ways[i])), program_is_pgbouncer() ? 1 : 1, "%s",
                     ways[i]);
}

SYSTEM_TEST(views, nonsense_gets_an_error_and_the_console_goes_on)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *admin = proxy_console(proxy);
    static const char *const bad[] = {"SHOW",
                                      "SHOW NOTHING_LIKE_IT",
                                      "FROBNICATE",
                                      "PAUSE a b c",
                                      "SET",
                                      "KILL_CLIENT x y",
                                      "SELECT * FROM pg_class",
                                      "';"};
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        PGresult *result = PQexec(admin, bad[i]);

        cr_assert_eq(PQresultStatus(result), PGRES_FATAL_ERROR, "%s", bad[i]);
        PQclear(result);
    }
    cr_assert_eq(PQntuples(PQexec(admin, "SHOW VERSION")), 1);
}

SYSTEM_TEST(views, pools_count_clients_and_servers_by_state)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 2\n");
    PGconn *clients[5];
    int i;

    for (i = 0; i < 5; i++)
        clients[i] = client_open(proxy, NULL);
    client_do(clients[0], "BEGIN");
    client_do(clients[1], "BEGIN");
    client_start(clients[2], "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 2, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_active") == 4, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "maxwait_us") > 0, PATIENCE_MS));
    client_do(clients[0], "COMMIT");
    client_finish(clients[2], PATIENCE_MS);
    client_do(clients[1], "COMMIT");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0, PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_active") == 5, PATIENCE_MS));
}

static bool exchanges_are(struct proxy *proxy, int used)
{
    return until(proxy_figure(proxy, "MEM", "name", "exchange_cache", "used") == used, PATIENCE_MS);
}

SYSTEM_TEST(views, mem_tells_that_idle_clients_have_no_exchange)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);
    int backend;

    client_do(first, "SELECT 1");
    cr_assert(exchanges_are(proxy, 0));
    client_do(first, "BEGIN");
    client_start(second, "SELECT 1");
    cr_assert(exchanges_are(proxy, 2), "one works, one waits");
    client_do(first, "COMMIT");
    client_finish(second, PATIENCE_MS);
    cr_assert(exchanges_are(proxy, 0));
    client_do(first, "BEGIN");
    backend = client_backend(first);
    cr_assert_eq(cluster_number(cluster_shared(),
                                text_of("SELECT pg_terminate_backend(%d, 50000)::int", backend)),
                 1);
    cr_assert_str_eq(client_sqlstate(first, "SELECT 1"), "57P01");
    cr_assert(exchanges_are(proxy, 1), "its transaction is over when it says so");
    client_do(first, "ROLLBACK");
    cr_assert(exchanges_are(proxy, 0));
    cr_assert_gt(proxy_figure(proxy, "MEM", "name", "exchange_cache", "free"), 0);
}

SYSTEM_TEST(views, clients_and_servers_show_who_is_linked)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, "application_name=linked");
    PGresult *result;
    int row, backend;

    client_do(client, "BEGIN");
    backend = client_backend(client);
    result = proxy_show(proxy, "SERVERS");
    cr_assert_eq(PQntuples(result), 1);
    cr_assert_eq(atoi(PQgetvalue(result, 0, PQfnumber(result, "remote_pid"))), backend);
    cr_assert_str_eq(PQgetvalue(result, 0, PQfnumber(result, "state")), "active");
    char *server = text_of("%s", PQgetvalue(result, 0, PQfnumber(result, "ptr")));
    char *link = text_of("%s", PQgetvalue(result, 0, PQfnumber(result, "link")));
    result = proxy_show(proxy, "CLIENTS");
    for (row = 0; row < PQntuples(result); row++) {
        if (strcmp(PQgetvalue(result, row, PQfnumber(result, "user")), "app"))
            continue;
        cr_assert_str_eq(PQgetvalue(result, row, PQfnumber(result, "ptr")), link);
        cr_assert_str_eq(PQgetvalue(result, row, PQfnumber(result, "link")), server);
        cr_assert_str_eq(PQgetvalue(result, row, PQfnumber(result, "application_name")), "linked");
        cr_assert_str_eq(PQgetvalue(result, row, PQfnumber(result, "addr")), "127.0.0.1");
    }
}

SYSTEM_TEST(views, stats_count_transactions_queries_and_bytes)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    int i;

    for (i = 0; i < 5; i++)
        client_do(client, "SELECT repeat('x', 1000)");
    client_do(client, "BEGIN");
    client_do(client, "SELECT pg_sleep(0.05)");
    client_do(client, "COMMIT");
    cr_assert(until(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "xact_count") == 6,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "query_count") == 8,
                    PATIENCE_MS));
    cr_assert_gt(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "bytes_sent"), 5000);
    cr_assert_gt(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "bytes_received"), 100);
    cr_assert_gt(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "query_time"), 50000);
    cr_assert_gt(proxy_figure(proxy, "STATS_TOTALS", "database", "app", "xact_time"), 50000);
}

SYSTEM_TEST(views, config_shows_values_defaults_and_what_can_be_changed)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_wait_timeout = 33\n");
    PGresult *result = proxy_show(proxy, "CONFIG");
    int row, seen = 0;

    for (row = 0; row < PQntuples(result); row++) {
        const char *key = PQgetvalue(result, row, 0), *value = PQgetvalue(result, row, 1);

        if (!strcmp(key, "query_wait_timeout")) {
            cr_assert_eq(atoi(value), 33);
            cr_assert_str_eq(PQgetvalue(result, row, PQfnumber(result, "changeable")), "yes");
            seen++;
        } else if (!strcmp(key, "listen_port")) {
            cr_assert_eq(atoi(value), proxy->port);
            cr_assert_str_eq(PQgetvalue(result, row, PQfnumber(result, "changeable")), "no");
            seen++;
        }
    }
    cr_assert_eq(seen, 2);
}

SYSTEM_TEST(views, secrets_are_not_shown)
{
    struct proxy *proxy = proxy_start("[databases]\napp = %s user=other password=topsecret\n",
                                      cluster_route(cluster_shared()));
    int i, row, field;

    client_do(client_open(proxy, NULL), "SELECT 1");
    for (i = 0; i < VIEW_COUNT; i++) {
        PGresult *result = PQexec(proxy_console(proxy), text_of("SHOW %s", views[i].name));

        for (row = 0; row < PQntuples(result); row++)
            for (field = 0; field < PQnfields(result); field++)
                cr_assert_null(strstr(PQgetvalue(result, row, field), "topsecret"), "SHOW %s",
                               views[i].name);
    }
    cr_assert_not(proxy_logged(proxy, "topsecret"));
}

SYSTEM_TEST(views, lists_and_users_and_databases_count_right)
{
    struct proxy *proxy =
        proxy_start("[databases]\none = %s dbname=app pool_size=4\n"
                    "two = %s dbname=app\n",
                    cluster_route(cluster_shared()), cluster_route(cluster_shared()));

    client_do(client_open(proxy, "dbname=one"), "SELECT 1");
    client_do(client_open(proxy, "dbname=one user=other"), "SELECT 1");
    cr_assert_eq(proxy_figure(proxy, "LISTS", "list", "pools", "items"),
                 program_is_pgbouncer() ? 3 : 2);
    cr_assert_geq(proxy_figure(proxy, "LISTS", "list", "databases", "items"), 2);
    cr_assert(
        until(proxy_figure(proxy, "DATABASES", "name", "one", "pool_size") == 4, PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "DATABASES", "name", "one", "current_connections") == 2,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "DATABASES", "name", "two", "current_connections") == 0,
                    PATIENCE_MS));
    if (!program_is_pgbouncer())
        cr_assert(until(
            proxy_figure(proxy, "DATABASES", "name", "one", "current_client_connections") == 2,
            PATIENCE_MS));
}

SYSTEM_TEST(views, drivers_may_ask_what_they_always_ask)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *admin = proxy_console(proxy);
    static const char *const asked[] = {"SHOW client_encoding", "SHOW datestyle", "SHOW timezone",
                                        "SHOW standard_conforming_strings",
                                        "SHOW default_transaction_isolation"};
    size_t i;

    if (program_is_pgbouncer())
        cr_skip_test("1.18 has not all of them");
    for (i = 0; i < 5; i++)
        cr_assert_eq(PQntuples(PQexec(admin, asked[i])), 1, "%s", asked[i]);
    client_do(admin, "SET client_encoding = 'UTF8'");
    client_do(admin, "SET datestyle TO 'ISO'");
}

SYSTEM_TEST(views, many_clients_are_all_listed_once)
{
    struct proxy *proxy = proxy_start("max_client_conn = 200\npool_mode = transaction\n");
    PGconn *clients[120];
    int i;

    for (i = 0; i < 120; i++)
        clients[i] = client_open(proxy, text_of("application_name=number%d", i));
    PGresult *result = proxy_show(proxy, "CLIENTS");
    int column = PQfnumber(result, "application_name"), row;
    for (i = 0; i < 120; i++) {
        int found = 0;

        for (row = 0; row < PQntuples(result); row++)
            found += !strcmp(PQgetvalue(result, row, column), text_of("number%d", i));
        cr_assert_eq(found, 1, "client %d is there %d times", i, found);
    }
    (void)clients;
}
