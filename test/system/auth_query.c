/*
 * auth_query: users who stand in no auth_file, found on a real PostgreSQL over pgstage's own
 * connections; and the known faults of others that must not be had here.
 */
#include "system.h"

SYSTEM_SUITE(auth_query);

/* Everybody must show a password, pgstage's own login `asker` too. */
#define HBA                                                                                        \
    "local all postgres trust\nhost all,replication postgres 127.0.0.1/32 trust\n"                 \
    "host all all 127.0.0.1/32 scram-sha-256\n"

static struct cluster *cluster;

static void sql(const char *text)
{
    PGconn *conn = cluster_connect(cluster, "app");

    client_do(conn, text);
    PQfinish(conn);
}

/* A cluster with an asker, who may see secrets through a function and in pg_authid, and dora. */
static void begin(void)
{
    struct cluster_options options = {.hba = HBA};

    cluster = cluster_start(&options);
    sql("CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'askersecret';"
        "CREATE ROLE dora LOGIN PASSWORD 'dorasecret';"
        "GRANT ALL ON DATABASE app TO dora");
    proxy_set_users("\"asker\" \"askersecret\"\n\"admin\" \"adminsecret\"\n");
}

/* `more` stands in [pgbouncer]. */
static struct proxy *asking(const char *more)
{
    return proxy_start("auth_type = scram-sha-256\nauth_user = asker\nserver_login_retry = 1\n%s"
                       "[databases]\napp = %s\n",
                       more, cluster_route(cluster));
}

#define DORA "user=dora password=dorasecret"

/* How many questions the cluster was asked. */
static long asked(void)
{
    return cluster_number(cluster, "SELECT coalesce(sum(calls), 0) FROM asked");
}

/* auth_query is a function that counts. */
static const char *const COUNTING = "auth_query = SELECT * FROM counted($1)\n";

static void count_questions(void)
{
    sql("CREATE TABLE asked (name text, calls int);"
        "CREATE FUNCTION public.counted(who text, OUT name text, OUT secret text, "
        "OUT until timestamptz) RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER AS $$ "
        "BEGIN INSERT INTO public.asked VALUES (who, 1); RETURN QUERY SELECT rolname::text, "
        "rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = who AND rolcanlogin; END $$");
}

SYSTEM_TEST(auth_query, lets_in_a_user_of_the_server)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("");

    cr_assert_str_eq(client_value(client_open(proxy, DORA), "SELECT current_user"), "dora");
    cr_assert_has(client_refusal(proxy, "user=dora password=wrong"), "28P01");
    cr_assert_has(client_refusal(proxy, "user=nobody password=dorasecret"), "28P01");
    /* the view knows who was found */
    cr_assert(until(proxy_rows(proxy, "USERS", "name", "dora") == 1, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "USERS", "source", "auth_query") == 1, PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "USERS", "source", "auth_file") == 2, PATIENCE_MS));
}

SYSTEM_TEST(auth_query, a_security_definer_function_serves)
{
    SKIP_ON_PGBOUNCER();
    begin();
    sql("CREATE ROLE humble LOGIN PASSWORD 'humblesecret';"
        "CREATE FUNCTION public.get_auth(who text) RETURNS TABLE (usename name, passwd text) "
        "LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS "
        "'SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = who'");
    proxy_set_users("\"humble\" \"humblesecret\"\n\"admin\" \"adminsecret\"\n");
    struct proxy *proxy = asking(
        "auth_user = humble\nauth_query = SELECT usename, passwd FROM public.get_auth($1)\n");

    cr_assert_str_eq(client_value(client_open(proxy, DORA), "SELECT current_user"), "dora");
}

SYSTEM_TEST(auth_query, users_of_auth_file_are_not_asked_for)
{
    SKIP_ON_PGBOUNCER();
    begin();
    count_questions();
    proxy_set_users("\"asker\" \"askersecret\"\n\"dora\" \"dorasecret\"\n\"admin\" \"x\"\n");
    struct proxy *proxy = asking(COUNTING);

    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_eq(asked(), 0);
}

SYSTEM_TEST(auth_query, answers_are_kept_and_many_logins_share_one)
{
    SKIP_ON_PGBOUNCER();
    begin();
    count_questions();
    struct proxy *proxy = asking("auth_query_ttl = 3600\n"
                                 "auth_query = SELECT * FROM counted($1), pg_sleep(0.3)\n"
                                 "default_pool_size = 2\n");
    PGconn *clients[20];

    for (size_t i = 0; i < 20; i++)
        clients[i] = PQconnectStart(client_conninfo(proxy, DORA));
    for (size_t i = 0; i < 20; i++) {
        PGconn *conn = clients[i];

        cr_assert(until(PQconnectPoll(conn) == PGRES_POLLING_OK, PATIENCE_MS), "%s",
                  PQerrorMessage(conn));
    }
    cr_assert_leq(asked(), 2, "at most one that was answered just before another came");
    for (size_t i = 0; i < 20; i++)
        PQfinish(clients[i]);
    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_leq(asked(), 2);
    /* unknown names are remembered too */
    long before = asked();
    client_refusal(proxy, "user=nobody password=x");
    client_refusal(proxy, "user=nobody password=x");
    cr_assert_eq(asked(), before + 1);
}

SYSTEM_TEST(auth_query, a_changed_password_counts_at_once)
{
    SKIP_ON_PGBOUNCER();
    begin();
    count_questions();
    struct proxy *proxy = asking(text_of("auth_query_ttl = 3600\n%s", COUNTING));

    client_do(client_open(proxy, DORA), "SELECT 1");
    sql("ALTER ROLE dora PASSWORD 'another'");
    /* the first one may find the old secret; it makes pgstage ask, and the next one gets in */
    PGconn *conn = NULL;
    cr_assert(until((PQfinish(conn), conn = client_try(proxy, "user=dora password=another"),
                     PQstatus(conn) == CONNECTION_OK),
                    PATIENCE_MS));
    cr_assert_has(client_refusal(proxy, DORA), "28P01");
    /* and not more often than once in a second */
    long before = asked();
    int64_t start = now_ms();
    for (size_t i = 0; i < 30; i++)
        client_refusal(proxy, "user=dora password=guessed");
    cr_assert_leq(asked() - before, (now_ms() - start) / 1000 + 2);
}

SYSTEM_TEST(auth_query, valid_until_is_honoured)
{
    SKIP_ON_PGBOUNCER();
    begin();
    sql("CREATE ROLE old LOGIN PASSWORD 'oldsecret' VALID UNTIL '2001-01-01';"
        "CREATE ROLE young LOGIN PASSWORD 'youngsecret' VALID UNTIL '2101-01-01';"
        "CREATE ROLE ever LOGIN PASSWORD 'eversecret' VALID UNTIL 'infinity'");
    /* the default query, and one that leaves it to the third column */
    static const char *const queries[] = {
        "", "auth_query = SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE "
            "rolname = $1\n"};

    for (size_t i = 0; i < 2; i++) {
        struct proxy *proxy = asking(queries[i]);

        cr_assert_has(client_refusal(proxy, "user=old password=oldsecret"), "28P01");
        client_do(client_open(proxy, "user=young password=youngsecret"), "SELECT 1");
        client_do(client_open(proxy, "user=ever password=eversecret"), "SELECT 1");
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(auth_query, a_password_ends_while_its_answer_is_kept)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("auth_query_ttl = 3600\n");
    PGconn *conn = NULL;

    sql("DO $$ BEGIN EXECUTE format('ALTER ROLE dora VALID UNTIL %L', now() + '12 s'); END $$");
    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert(
        until((PQfinish(conn), conn = client_try(proxy, DORA), PQstatus(conn) == CONNECTION_BAD),
              PATIENCE_MS));
    cr_assert_has(PQerrorMessage(conn), "28P01");
    cr_assert(until(proxy_logged(proxy, "VALID UNTIL"), PATIENCE_MS));
}

/* CVE-2025-12819: a search_path out of an unauthenticated startup packet ran the attacker's
 * functions as auth_user. */
SYSTEM_TEST(auth_query, nothing_of_the_client_reaches_the_connection)
{
    SKIP_ON_PGBOUNCER();
    begin();
    sql("CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC;"
        "CREATE TABLE evil.caught (who text);"
        "CREATE TABLE evil.users (name text, secret text);"
        "CREATE FUNCTION evil.trap(name) RETURNS name LANGUAGE sql AS "
        "$$INSERT INTO evil.caught VALUES (current_user); SELECT $1$$;"
        "CREATE TABLE public.users (name text, secret text);"
        "INSERT INTO public.users SELECT rolname, rolpassword FROM pg_authid;"
        "INSERT INTO evil.users VALUES ('dora', 'hacked'), ('mallory', 'hacked')");
    struct proxy *proxy = asking("track_extra_parameters = search_path\nauth_query_ttl = 0\n"
                                 "auth_query = SELECT name, secret FROM users WHERE name = $1\n");

    cr_assert_has(
        client_refusal(proxy, "user=mallory password=hacked options='-c search_path=evil'"),
        "28P01");
    cr_assert_has(client_refusal(proxy, "user=dora password=hacked options='-c search_path=evil'"),
                  "28P01");
    client_do(client_open(proxy, DORA " options='-c search_path=evil'"), "SELECT 1");
    cr_assert_eq(cluster_number(cluster, "SELECT count(*) FROM evil.caught"), 0);
}

SYSTEM_TEST(auth_query, names_are_values_and_no_sql)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("");

    cr_assert_has(client_refusal(proxy, "user='x\\' OR rolname=\\'dora' password=dorasecret"),
                  "28P01");
    cr_assert_has(client_refusal(proxy, "user='\xff\xfe' password=x"), "28P01");
    cr_assert_has(client_refusal(proxy, text_of("user=%0*d password=x", 4000, 7)), "28P01");
    client_do(client_open(proxy, DORA), "SELECT 1");
}

/* The pool of the asker is its own: a pool that is full, or a server_reset_query that fails, has
 * nothing to do with it. */
SYSTEM_TEST(auth_query, no_pool_and_no_reset_query_is_in_its_way)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy =
        asking("default_pool_size = 1\nmax_db_connections = 1\npool_mode = session\n"
               "server_reset_query = SELECT no_such_function()\n"
               "server_reset_query_always = 1\nauth_query_ttl = 0\n"
               "query_wait_timeout = 30\n");
    PGconn *holder = client_open(proxy, DORA);
    char *pid, *again;

    client_do(holder, "BEGIN");
    /* the only connection is taken, and still everybody can log in */
    for (size_t i = 0; i < 5; i++)
        client_open(proxy, DORA);
    pid = cluster_value(cluster, "SELECT pid FROM pg_stat_activity WHERE usename = 'asker'");
    cr_assert_str_neq(pid, "");
    /* it is one connection for all of them, and it was not reset */
    again = cluster_value(cluster, "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE "
                                   "usename = 'asker'");
    cr_assert_str_eq(pid, again);
    cr_assert(until(proxy_figure(proxy, "POOLS", "user", "asker", "cl_active") == 0, PATIENCE_MS));
}

SYSTEM_TEST(auth_query, tells_nothing_about_who_exists)
{
    SKIP_ON_PGBOUNCER();
    begin();
    sql("CREATE ROLE group1 NOLOGIN; CREATE ROLE bare LOGIN;"
        "CREATE ROLE elsa LOGIN PASSWORD 'elsasecret' VALID UNTIL '2001-01-01'");
    static const char *const users[] = {"dora", "nobody", "group1", "bare", "elsa"};
    static const char *const types[] = {"scram-sha-256", "md5"};

    for (size_t t = 0; t < 2; t++) {
        struct proxy *proxy = asking(text_of("auth_type = %s\n", types[t]));
        char *first = NULL;

        for (size_t round = 0; round < 2; round++) {
            for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
                char *text = client_refusal(proxy, text_of("user=%s password=wrong", users[i]));

                first = first ? first : text;
                cr_assert_str_eq(strstr(text, "FATAL"), strstr(first, "FATAL"), "%s", users[i]);
            }
        }
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(auth_query, md5_secrets_serve_md5_logins)
{
    SKIP_ON_PGBOUNCER();
    struct cluster_options options = {
        .hba = "local all all trust\nhost all emma 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 "
               "trust\n"};

    cluster = cluster_start(&options);
    sql("SET password_encryption = md5; CREATE ROLE emma LOGIN PASSWORD 'emmasecret'");
    proxy_set_users("\"admin\" \"adminsecret\"\n");
    struct proxy *proxy = proxy_start(
        "auth_type = md5\nauth_user = postgres\n[databases]\napp = %s\n", cluster_route(cluster));

    cr_assert_str_eq(
        client_value(client_open(proxy, "user=emma password=emmasecret"), "SELECT current_user"),
        "emma");
    cr_assert_has(client_refusal(proxy, "user=emma password=wrong"), "28P01");
    cr_assert_has(client_refusal(proxy, "user=nobody password=wrong"), "28P01");
    proxy_stop(proxy);
    /* an md5 secret cannot serve SCRAM: refused like a wrong password, and the log says why */
    proxy = proxy_start("auth_type = scram-sha-256\nauth_user = postgres\n[databases]\napp = %s\n",
                        cluster_route(cluster));
    cr_assert_has(client_refusal(proxy, "user=emma password=emmasecret"), "28P01");
    cr_assert(until(proxy_logged(proxy, "md5, which cannot serve SCRAM"), PATIENCE_MS));
}

SYSTEM_TEST(auth_query, auth_dbname_is_asked_for_all_databases)
{
    SKIP_ON_PGBOUNCER();
    begin();
    sql("CREATE TABLE users AS SELECT rolname AS name, rolpassword AS secret FROM pg_authid");
    sql("GRANT ALL ON DATABASE db2 TO dora");
    struct proxy *proxy = proxy_start(
        "auth_type = scram-sha-256\nauth_user = asker\nauth_dbname = app\nadmin_users = dora\n"
        "auth_query = SELECT name, secret FROM users WHERE name = $1\n[databases]\napp = %s\n"
        "db2 = %s\n",
        cluster_route(cluster), cluster_route(cluster));

    client_do(client_open(proxy, DORA " dbname=db2"), "SELECT 1");
    /* the console too; and a database that does not exist, after the password was right */
    client_do(client_open(proxy, DORA " dbname=pgstage"), "SHOW VERSION");
    cr_assert_has(client_refusal(proxy, DORA " dbname=nosuch"), "no such database");
    cr_assert_has(client_refusal(proxy, "user=dora password=wrong dbname=nosuch"), "28P01");
}

/* With `*` clients name databases that need not exist: the name of a user is not found there. */
SYSTEM_TEST(auth_query, a_database_that_does_not_exist_is_told_to_nobody)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = proxy_start("auth_type = scram-sha-256\nauth_user = asker\n"
                                      "[databases]\n* = %s\n",
                                      cluster_route(cluster));

    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_has(client_refusal(proxy, DORA " dbname=nosuch"), "28P01");
    cr_assert_has(client_refusal(proxy, "user=nobody password=x dbname=app"), "28P01");
}

SYSTEM_TEST(auth_query, its_connections_stand_under_the_rules_of_tls)
{
    SKIP_ON_PGBOUNCER();
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"};
    struct pki_request request = {.file = "stranger", .common_name = "Test CA", .authority = true};
    const char *authorities[] = {pki_shared_ca()->certificate,
                                 pki_issue(test_folder(), &request)->certificate};

    cluster = cluster_start(&options);
    PGconn *conn = PQconnectdb(
        text_of("host=%s port=%d user=postgres dbname=app", cluster->socket_folder, cluster->port));
    client_do(conn, "CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'askersecret';"
                    "CREATE ROLE dora LOGIN PASSWORD 'dorasecret'");
    PQfinish(conn);
    proxy_set_users("\"asker\" \"askersecret\"\n\"admin\" \"adminsecret\"\n");
    for (size_t i = 0; i < 2; i++) {
        struct proxy *proxy =
            proxy_start("auth_type = scram-sha-256\nauth_query_timeout = 10\n"
                        "[environment one]\nclass = staging\nclient_tls_sslmode = disable\n"
                        "hosts = pg.production.test@127.0.0.1:%d\nserver_tls_ca_file = %s\n"
                        "auth_user = asker\nserver_channel_binding = require\nmin_pool_size = 0\n"
                        "[databases]\napp@one = dbname=app\n",
                        cluster->port, authorities[i]);

        if (i == 0)
            client_do(client_open(proxy, DORA " dbname=app@one"), "SELECT 1");
        else
            cr_assert_has(client_refusal(proxy, DORA " dbname=app@one"), "cannot be looked up");
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(auth_query, environments_have_their_own)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = proxy_start(
        "auth_type = scram-sha-256\nauth_query_negative_ttl = 0\n"
        "[environment one]\nclass = local_development\nhosts = 127.0.0.1:%d\nauth_user = asker\n"
        "[environment two]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
        "[databases]\napp = dbname=app\n",
        cluster->port, cluster->port);

    client_do(client_open(proxy, DORA " dbname=app@one"), "SELECT 1");
    cr_assert_has(client_refusal(proxy, DORA " dbname=app@two"), "28P01");
}

SYSTEM_TEST(auth_query, when_nobody_can_be_asked_that_is_said)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("auth_query_ttl = 0\nauth_query_timeout = 6\n");
    char *text;

    client_do(client_open(proxy, DORA), "SELECT 1");
    cluster_end(cluster, CLUSTER_FAST);
    text = client_refusal(proxy, DORA);
    cr_assert_has(text, "57P03");
    cr_assert_has(text, "cannot be looked up");
    cr_assert(until(proxy_logged(proxy, "auth_query was not answered within"), PATIENCE_MS));
    /* users of auth_file are not concerned, and when it is back all is well */
    cluster_again(cluster);
    PGconn *conn = NULL;
    cr_assert(
        until((PQfinish(conn), conn = client_try(proxy, DORA), PQstatus(conn) == CONNECTION_OK),
              PATIENCE_MS));
}

SYSTEM_TEST(auth_query, a_query_that_cannot_work_is_told_in_the_log)
{
    SKIP_ON_PGBOUNCER();
    begin();
    static const struct {
        const char *query, *logged;
    } cases[] = {
        {"SELECT $1::text", "must give two columns"},
        {"SELECT $1::text, 'x' UNION ALL SELECT $1::text, 'y'", "more than one row"},
        {"SELECT 'asker'::text, 'x' WHERE $1::text <> ''", "another user"},
        {"SELECT $1::text, 'x', 'someday'", "no timestamp"},
        {"SELECT no_such_column FROM pg_authid WHERE rolname = $1", "no_such_column"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct proxy *proxy = asking(text_of("auth_query = %s\n", cases[i].query));
        char *text = client_refusal(proxy, "user=dora password=x");

        cr_assert_has(text, "cannot be looked up");
        cr_assert_null(strstr(text, cases[i].logged), "the client is told nothing of it");
        cr_assert(until(proxy_logged(proxy, cases[i].logged), PATIENCE_MS), "%s", cases[i].logged);
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(auth_query, a_refused_auth_user_is_told_at_once)
{
    SKIP_ON_PGBOUNCER();
    begin();
    proxy_set_users("\"asker\" \"wrong\"\n\"admin\" \"adminsecret\"\n");
    struct proxy *proxy = asking("auth_query_timeout = 600\n");

    cr_assert_has(client_refusal(proxy, DORA), "cannot be looked up");
    cr_assert(until(proxy_logged(proxy, "auth_query on 127.0.0.1"), PATIENCE_MS));
    cr_assert_null(strstr(file_text(proxy->log), "wrong\""), "no password in the log");
}

SYSTEM_TEST(auth_query, the_number_that_waits_is_bounded)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("auth_query = SELECT rolname, rolpassword FROM pg_authid, "
                                 "pg_advisory_xact_lock(1) WHERE rolname = $1\n"
                                 "auth_query_timeout = 600\nauth_query_max_waiting = 1\n");
    PGconn *holder = cluster_connect(cluster, "app"), *first;

    client_do(holder, "SELECT pg_advisory_lock(1)");
    first = PQconnectStart(client_conninfo(proxy, DORA));

    cr_assert(
        until((PQconnectPoll(first),
               cluster_number(cluster, "SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                       "'asker' AND state = 'active'") == 1),
              PATIENCE_MS));
    cr_assert_has(client_refusal(proxy, "user=nobody password=x"), "too many logins at once");
    client_do(holder, "SELECT pg_advisory_unlock(1)");
    cr_assert(until(PQconnectPoll(first) == PGRES_POLLING_OK, PATIENCE_MS));
    PQfinish(first);
}

SYSTEM_TEST(auth_query, reload_and_reconnect_ask_anew)
{
    SKIP_ON_PGBOUNCER();
    begin();
    count_questions();
    struct proxy *proxy = asking(text_of("auth_query_ttl = 3600\n%s", COUNTING));

    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_null(proxy_reload(proxy));
    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_eq(asked(), 2);
    proxy_do(proxy, "RECONNECT");
    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_eq(asked(), 3);
    client_do(client_open(proxy, DORA), "SELECT 1");
    cr_assert_eq(asked(), 3);
}

/* The secret goes on serving pgstage's own logins for clients that are there. */
SYSTEM_TEST(auth_query, servers_can_be_opened_when_the_answer_is_old)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("auth_query_ttl = 0\npool_mode = transaction\n");
    PGconn *one = client_open(proxy, DORA), *two = client_open(proxy, DORA);

    proxy_do(proxy, "RECONNECT");
    client_do(one, "BEGIN");
    client_do(two, "BEGIN");
    cr_assert_neq(client_backend(one), client_backend(two));
}

SYSTEM_TEST(auth_query, a_client_that_leaves_meanwhile_is_forgotten)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct proxy *proxy = asking("auth_query_ttl = 0\nauth_query = SELECT rolname, rolpassword "
                                 "FROM pg_authid, pg_sleep(1) WHERE rolname = "
                                 "$1\n");

    for (size_t i = 0; i < 10; i++) {
        struct wire *wire = wire_open(proxy);
        struct bytes packet =
            startup_packet("user", i % 2 ? "dora" : "nobody", "database", "app", NULL);

        wire_write(wire, packet.data, packet.count);
        wire_reset(wire);
    }
    client_do(client_open(proxy, DORA), "SELECT 1");
    /* … and when the process ends meanwhile */
    PGconn *last = PQconnectStart(client_conninfo(proxy, DORA));
    cr_assert(
        until((PQconnectPoll(last),
               cluster_number(cluster, "SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                       "'asker' AND state = 'active'") >= 1),
              PATIENCE_MS));
    proxy_stop(proxy);
    PQfinish(last);
}

SYSTEM_TEST(auth_query, a_standby_serves_when_the_primary_has_gone)
{
    SKIP_ON_PGBOUNCER();
    begin();
    struct cluster_options options = {.hba = HBA};
    struct cluster *standby = cluster_standby(cluster, &options);
    struct proxy *proxy = proxy_start(
        "auth_type = scram-sha-256\nauth_query_ttl = 0\nstate_dir = %s/state\n"
        "[environment one]\nclass = local_development\nhosts = 127.0.0.1:%d, 127.0.0.1:%d\n"
        "auth_user = asker\nmonitor_user = asker\nmonitor_password = askersecret\n"
        "probe_interval = 1\nprobe_fast_interval = 0.2\nprobe_timeout = 1\n"
        "target_session_attrs = any\n[databases]\napp@one = dbname=app\n",
        test_folder(), cluster->port, standby->port);
    PGconn *conn = NULL;

    client_do(client_open(proxy, DORA " dbname=app@one"), "SELECT 1");
    cluster_end(cluster, CLUSTER_IMMEDIATE);
    cr_assert(until((PQfinish(conn), conn = client_try(proxy, DORA " dbname=app@one"),
                     PQstatus(conn) == CONNECTION_OK),
                    60000));
    cr_assert_str_eq(client_value(conn, "SELECT pg_is_in_recovery()"), "t");
}

/* No password, no hash and no name of a function reaches the client. */
SYSTEM_TEST(auth_query, trust_and_certificates_ask_who_exists)
{
    SKIP_ON_PGBOUNCER();
    struct cluster_options options = {.hba =
                                          "local all all trust\nhost all all 127.0.0.1/32 trust\n"};

    cluster = cluster_start(&options);
    sql("CREATE ROLE dora LOGIN");
    proxy_set_users("\"admin\" \"adminsecret\"\n");
    struct proxy *proxy = proxy_start(
        "auth_type = trust\nauth_user = postgres\n[databases]\napp = %s\n", cluster_route(cluster));

    cr_assert_str_eq(client_value(client_open(proxy, "user=dora"), "SELECT current_user"), "dora");
    cr_assert_has(client_refusal(proxy, "user=nobody"), "authentication failed");
}
