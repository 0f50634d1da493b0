/*
 * login: who gets in, by which method, and how little is told to those who do not.
 */
#include "system.h"

SYSTEM_SUITE(login);

enum method { TRUST, PLAIN, MD5, SCRAM };
static const char *const methods[] = {"trust", "plain", "md5", "scram-sha-256"};

/* The refusal without what differs by intent: the port of libpq's prefix and the names. */
static char *refusal_text(const struct proxy *proxy, const char *extra)
{
    char *text = client_refusal(proxy, extra);
    char *fatal = strstr(text, "FATAL");

    return fatal ? fatal : text;
}

SYSTEM_TEST(login, trust_needs_no_password)
{
    struct proxy *proxy = proxy_start("auth_type = trust\n");

    cr_assert_eq(client_number(client_open(proxy, NULL), "SELECT 1"), 1);
}

SYSTEM_TEST(login, trust_refuses_a_user_that_is_not_in_auth_file)
{
    struct proxy *proxy = proxy_start("auth_type = trust\n");

    cr_assert_has(client_refusal(proxy, "user=nobody_such"), "FATAL");
}

SYSTEM_TEST(login, any_lets_everybody_be_the_forced_user)
{
    struct proxy *proxy = proxy_start("auth_type = any\n[databases]\napp = %s user=other\n",
                                      cluster_route(cluster_shared()));

    cr_assert_str_eq(client_value(client_open(proxy, "user=whoever"), "SELECT current_user"),
                     "other");
}

static void right_and_wrong(enum method method)
{
    struct proxy *proxy = proxy_start("auth_type = %s\n", methods[method]);

    client_do(client_open(proxy, "password=appsecret"), "SELECT 1");
    char *text = client_refusal(proxy, "password=wrong");
    if (!program_is_pgbouncer()) {
        cr_assert_has(text,
                      method == SCRAM ? "authentication failed" : "password authentication failed");
        cr_assert_has(text, "28P01");
    }
    client_refusal(proxy, "password=appsecretx");
    client_refusal(proxy, "password=appsecre");
    client_refusal(proxy, "password=''");
    client_do(client_open(proxy, "password=appsecret"), "SELECT 1");
}

SYSTEM_TEST(login, plain_checks_the_password)
{
    right_and_wrong(PLAIN);
}

SYSTEM_TEST(login, md5_checks_the_password)
{
    right_and_wrong(MD5);
}

SYSTEM_TEST(login, scram_checks_the_password)
{
    right_and_wrong(SCRAM);
}

SYSTEM_TEST(login, md5_secrets_serve_md5_and_plain)
{
    enum method method;

    /* md5("the password" "app") */
    proxy_set_users("\"app\" \"md5e9ab40e2173bce7afa8c94e6de81f3d1\"\n\"admin\" \"x\"\n");
    for (method = PLAIN; method <= MD5; method++) {
        struct proxy *proxy = proxy_start("auth_type = %s\n", methods[method]);

        cr_assert_has(client_refusal(proxy, "password=appsecret"),
                      "password authentication failed");
        client_do(client_open(proxy, "password='the password'"), "SELECT 1");
    }
}

/* Unknown users and databases look like wrong passwords. */
static void says_the_same(enum method method)
{
    struct proxy *proxy = proxy_start("auth_type = %s\n[databases]\napp = %s\n", methods[method],
                                      cluster_route(cluster_shared()));
    char *wrong = refusal_text(proxy, "password=wrong");
    char *unknown = refusal_text(proxy, "user=zpp password=wrong");
    char *place;

    /* the name may be told, it is the client's own */
    while ((place = strstr(unknown, "zpp")))
        memcpy(place, "app", 3);
    cr_assert_str_eq(unknown, wrong);
    cr_assert_str_eq(refusal_text(proxy, "password=wrong dbname=nosuch"), wrong);
    char *database = refusal_text(proxy, "password=appsecret dbname=nosuch");
    cr_assert_has(database, "no such database: nosuch");
    cr_assert_has(database, "3D000");
}

SYSTEM_TEST(login, plain_tells_nothing_about_users_and_databases)
{
    SKIP_ON_PGBOUNCER();
    says_the_same(PLAIN);
}

SYSTEM_TEST(login, md5_tells_nothing_about_users_and_databases)
{
    SKIP_ON_PGBOUNCER();
    says_the_same(MD5);
}

SYSTEM_TEST(login, scram_tells_nothing_about_users_and_databases)
{
    SKIP_ON_PGBOUNCER();
    says_the_same(SCRAM);
}

/* The SASL messages of one SCRAM attempt by hand: the salt that the user gets. */
static char *scram_salt(struct proxy *proxy, const char *user)
{
    struct wire *wire = wire_open(proxy);
    struct bytes packet = startup_packet("user", user, "database", "app", NULL), body = {0};
    const char *first = "n,,n=,r=fyko+d2lbbFgONRv9qkxdawL";
    struct wire_message message;

    wire_write(wire, packet.data, packet.count);
    cr_assert(wire_read(wire, &message, PATIENCE_MS));
    cr_assert_eq(message.type, 'R');
    cr_assert_eq(message.body[3], 10);
    bytes_add_text(&body, "SCRAM-SHA-256");
    bytes_add32(&body, (uint32_t)strlen(first));
    bytes_add(&body, first, strlen(first));
    wire_send(wire, 'p', body.data, body.count);
    cr_assert(wire_read(wire, &message, PATIENCE_MS));
    cr_assert_eq(message.type, 'R');
    char *salt = strstr((char *)message.body + 4, ",s=");
    cr_assert_not_null(salt);
    salt = text_of("%s", salt);
    cr_assert_has(salt, ",i=");
    wire_close(wire);
    return salt;
}

SYSTEM_TEST(login, an_unknown_users_salt_is_always_the_same)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("auth_type = scram-sha-256\n");
    char *first = scram_salt(proxy, "nosuchuser");

    cr_assert_str_eq(scram_salt(proxy, "nosuchuser"), first);
    cr_assert_str_neq(scram_salt(proxy, "another"), first);
    cr_assert_eq(strlen(scram_salt(proxy, "app")), strlen(first));
}

/* Tries a wrong password and an unknown user, and keeps the quickest times of each. */
static void refused_in(const struct proxy *proxy, int64_t *quickest)
{
    for (int who = 0; who < 2; who++) {
        int64_t start = now_ms(), spent;

        client_refusal(proxy, who ? "user=nosuch password=x" : "password=x");
        spent = now_ms() - start;
        if (spent < quickest[who])
            quickest[who] = spent;
    }
}

static bool are_alike(const int64_t *quickest)
{
    return quickest[0] <= 3 * quickest[1] + 5 && quickest[1] <= 3 * quickest[0] + 5;
}

SYSTEM_TEST(login, an_unknown_user_takes_about_as_long_as_a_wrong_password)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("auth_type = scram-sha-256\n");
    int64_t quickest[2] = {INT64_MAX, INT64_MAX};

    /* the quickest of each, of as many as it takes: what else the machine does counts least in them */
    for (int i = 0; i < 12; i++)
        refused_in(proxy, quickest);
    cr_assert(until((refused_in(proxy, quickest), are_alike(quickest)), PATIENCE_MS),
              "%ld and %ld ms", (long)quickest[0], (long)quickest[1]);
}

SYSTEM_TEST(login, pgstage_logs_in_to_servers_by_each_method)
{
    struct proxy *proxy = proxy_start("auth_type = plain\n");
    static const char *const users[] = {"user_plain", "user_md5", "user_scram"};
    int i;

    for (i = 0; i < 3; i++) {
        PGconn *client = client_open(proxy, text_of("user=%s password=secret", users[i]));

        cr_assert_str_eq(client_value(client, "SELECT current_user"), users[i]);
    }
}

SYSTEM_TEST(login, a_forced_user_has_a_password_of_its_own)
{
    struct proxy *proxy = proxy_start("auth_type = scram-sha-256\n"
                                      "[databases]\napp = %s user=user_scram password=secret\n",
                                      cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, "password=appsecret");

    cr_assert_str_eq(client_value(client, "SELECT current_user"), "user_scram");
}

SYSTEM_TEST(login, scram_passes_through_with_a_verifier_in_auth_file)
{
    char *verifier = cluster_value(
        cluster_shared(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'user_scram'");

    cr_assert_eq(strncmp(verifier, "SCRAM-SHA-256$", 14), 0);
    proxy_set_users(text_of("\"user_scram\" \"%s\"\n\"admin\" \"x\"\n", verifier));
    struct proxy *proxy = proxy_start("auth_type = scram-sha-256\npool_mode = transaction\n");
    PGconn *client = client_open(proxy, "user=user_scram password=secret");
    cr_assert_str_eq(client_value(client, "SELECT current_user"), "user_scram");
    cr_assert_has(client_refusal(proxy, "user=user_scram password=wrong"), "authentication failed");
    /* a second server for the same user */
    PGconn *second = client_open(proxy, "user=user_scram password=secret");
    client_do(client, "BEGIN");
    cr_assert_neq(client_backend(second), client_backend(client));
}

SYSTEM_TEST(login, md5_asks_for_scram_when_the_secret_is_a_verifier)
{
    char *verifier = cluster_value(
        cluster_shared(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'user_scram'");

    proxy_set_users(text_of("\"user_scram\" \"%s\"\n\"admin\" \"x\"\n", verifier));
    struct proxy *proxy = proxy_start("auth_type = md5\n");
    PGconn *client = client_open(proxy, "user=user_scram password=secret");
    cr_assert_str_eq(client_value(client, "SELECT current_user"), "user_scram");
}

SYSTEM_TEST(login, a_servers_refusal_reaches_the_client_with_its_sqlstate)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        proxy_start("[databases]\n"
                    "app = %s dbname=not_on_the_server\n"
                    "db2 = %s user=user_scram password=wrong\n",
                    cluster_route(cluster_shared()), cluster_route(cluster_shared()));
    char *text = client_refusal(proxy, NULL);

    cr_assert_has(text, "3D000");
    cr_assert_has(text, "not_on_the_server");
    text = client_refusal(proxy, "dbname=db2");
    cr_assert_has(text, "28P01");
    cr_assert(until(proxy_logged(proxy, "server login failed"), PATIENCE_MS));
}

SYSTEM_TEST(login, the_servers_parameters_are_known_when_the_login_completes)
{
    PGconn *client = client_open(proxy_start("pool_mode = transaction\n"), NULL);

    cr_assert_eq(PQserverVersion(client) / 10000,
                 cluster_number(cluster_shared(), "SHOW server_version_num") / 10000);
    cr_assert_str_eq(PQparameterStatus(client, "server_encoding"), "UTF8");
    cr_assert_str_eq(PQparameterStatus(client, "integer_datetimes"), "on");
    cr_assert_str_eq(PQparameterStatus(client, "standard_conforming_strings"), "on");
    cr_assert_str_eq(PQparameterStatus(client, "TimeZone"), "UTC");
}

SYSTEM_TEST(login, startup_parameters_hold_for_the_session)
{
    PGconn *client = client_open(proxy_start("pool_mode = transaction\n"),
                                 "application_name=shop client_encoding=LATIN1");

    cr_assert_str_eq(PQparameterStatus(client, "application_name"), "shop");
    cr_assert_str_eq(PQparameterStatus(client, "client_encoding"), "LATIN1");
    cr_assert_str_eq(client_value(client, "SHOW client_encoding"), "LATIN1");
    cr_assert_str_eq(client_value(client, "SHOW application_name"), "shop");
}

SYSTEM_TEST(login, an_unknown_startup_parameter_is_refused_and_disturbs_nobody)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    struct wire *wire = wire_open(proxy);
    struct bytes packet =
        startup_packet("user", "app", "database", "app", "no_such_setting", "1", NULL);

    wire_write(wire, packet.data, packet.count);
    wire_query(wire, "SELECT 1");
    /* at once, or when the server has been asked: but never a session without it */
    char *error = wire_error(wire, PATIENCE_MS);
    cr_assert_has(error, "FATAL");
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    client_do(client, "SELECT 1");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(login, nonsense_values_of_known_parameters_do_not_poison_the_pool)
{
    /* who waited for server_login_retry would be late */
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "server_login_retry = 600\nquery_wait_timeout = 45\n");
    PGconn *client = client_open(proxy, NULL);
    static const char *const pairs[][2] = {{"TimeZone", "Nowhere/Land"},
                                           {"DateStyle", "Gibberish, Upside"},
                                           {"client_encoding", "KLINGON"}};
    size_t i;

    client_do(client, "SELECT 1");
    for (i = 0; i < 3; i++) {
        struct wire *wire = wire_open(proxy);
        struct bytes packet =
            startup_packet("user", "app", "database", "app", pairs[i][0], pairs[i][1], NULL);

        wire_write(wire, packet.data, packet.count);
        wire_query(wire, "SELECT 1");
        /* refused at once or at the first query, as the pooler likes; others see nothing of it */
        char *error = wire_error(wire, PATIENCE_MS);
        cr_assert_str_neq(error, "?", "%s was accepted", pairs[i][0]);
        client_do(client, "SELECT 1");
        client_do(client_open(proxy, NULL), "SELECT 1");
        wire_close(wire);
    }
}

SYSTEM_TEST(login, ignore_startup_parameters_drops_what_it_names)
{
    struct proxy *proxy = proxy_start("ignore_startup_parameters = extra_float_digits, options\n");
    PGconn *client = client_open(proxy, "options='-c no_such_thing=1'");

    client_do(client, "SELECT 1");
}

SYSTEM_TEST(login, a_replication_login_disturbs_nobody)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    struct wire *wire = wire_open(proxy);
    struct bytes packet =
        startup_packet("user", "app", "database", "app", "replication", "database", NULL);

    client_do(client, "SELECT 1");
    wire_write(wire, packet.data, packet.count);
    char *error = wire_error(wire, PATIENCE_MS);
    cr_assert_has(error, "FATAL");
    client_do(client, "SELECT 1");
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(login, a_newer_minor_protocol_is_negotiated_down)
{
    struct wire *wire = wire_open(proxy_start("pool_mode = transaction\n"));
    struct bytes packet =
        startup_packet("user", "app", "database", "app", "_pq_.new_thing", "on", NULL);

    if (program_is_pgbouncer())
        cr_skip_test("PgBouncer 1.18 refuses");
    packet.data[7] = 2; /* 3.2 */
    wire_write(wire, packet.data, packet.count);
    cr_assert_str_eq(wire_types(wire, 'v', PATIENCE_MS), "v");
    char *types = wire_types(wire, 'Z', PATIENCE_MS);
    cr_assert_eq(types[strlen(types) - 1], 'Z', "%s", types);
    wire_query(wire, "SELECT 'new client'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "new client");
}

SYSTEM_TEST(login, very_long_passwords_and_names_are_refused_politely)
{
    struct proxy *proxy = proxy_start("auth_type = plain\n");
    struct wire *wire = wire_open(proxy);
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);
    char *password = text_of("%060000d", 7);

    wire_write(wire, packet.data, packet.count);
    cr_assert_str_eq(wire_types(wire, 'R', PATIENCE_MS), "R");
    wire_password(wire, password);
    if (!program_is_pgbouncer())
        cr_assert_has(wire_error(wire, PATIENCE_MS), "28P01");
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    char *name = text_of("%05000d", 7);
    client_refusal(proxy, text_of("user=%s password=x", name));
    client_refusal(proxy, text_of("dbname=%s password=appsecret", name));
    client_do(client_open(proxy, "password=appsecret"), "SELECT 1");
}

SYSTEM_TEST(login, a_second_password_message_is_not_accepted)
{
    struct wire *wire = wire_open(proxy_start("auth_type = plain\n"));
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);

    wire_write(wire, packet.data, packet.count);
    cr_assert_str_eq(wire_types(wire, 'R', PATIENCE_MS), "R");
    wire_password(wire, "appsecret");
    wire_password(wire, "appsecret");
    char *types = wire_types(wire, 'X', PATIENCE_MS);
    cr_assert_eq(types[strlen(types) - 1], '!', "%s", types);
}

SYSTEM_TEST(login, fifty_at_once_all_succeed)
{
    struct proxy *proxy = proxy_start("auth_type = scram-sha-256\npool_mode = transaction\n");
    struct load_options options = {
        .clients = 50, .conninfo = "password=appsecret", .sql = "SELECT pg_sleep(0.01)"};
    struct load *load = load_start(proxy, &options);

    cr_assert(
        until(load_done(load) >= 150 || load_errors(load) + load_lost(load) > 0, PATIENCE_MS));
    load_stop(load);
    cr_assert_eq(load_errors(load) + load_lost(load), 0, "%s", load_first_error(load));
}

SYSTEM_TEST(login, login_notify_message_reaches_the_client)
{
    struct proxy *proxy = proxy_start("login_notify_message = mind the gap\n");
    struct wire *wire = wire_open(proxy);
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);

    SKIP_ON_PGBOUNCER();
    wire_write(wire, packet.data, packet.count);
    cr_assert_str_eq(wire_types(wire, 'N', PATIENCE_MS), "RK");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "Z");
    wire_query(wire, "SELECT 1");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "TDCZ");
}

SYSTEM_TEST(login, disable_pqexec_refuses_the_simple_protocol)
{
    struct proxy *proxy = proxy_start("disable_pqexec = 1\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT 1");
    char *error = wire_error(wire, PATIENCE_MS);
    cr_assert_has(error, "PQexec disallowed");
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
}
