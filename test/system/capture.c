/*
 * capture: nothing that is worth reading crosses the wire between pgstage and a production server.
 *
 * A relay records every byte of both directions while clients log in (SCRAM, and a password in the
 * clear inside TLS), query, cancel, and an operator runs CHECK. The same things done towards a
 * development server without TLS must be found in the record, or the test proves nothing.
 */
#include "system.h"

SYSTEM_SUITE(capture);

#define PASSWORD "Password-Marker-1"
#define MONITOR_PASSWORD "Monitor-Marker-2"
#define QUERY "Query-Marker-3"
#define ROW "Row-Marker-4"
#define PARAMETER "Parameter-Marker-5"
#define COPIED "Copied-Marker-6"
#define PREPARED "prepared_marker_7"

static const unsigned char CANCEL_CODE[] = {0x00, 0x00, 0x00, 0x10, 0x04, 0xd2, 0x16, 0x2e};

static const char ROLES[] =
    "CREATE ROLE marked_user LOGIN PASSWORD '" PASSWORD "';"
    "CREATE ROLE marked_monitor LOGIN PASSWORD '" MONITOR_PASSWORD "';"
    "GRANT ALL ON SCHEMA public TO marked_user; CREATE TABLE public.marked (t text);"
    "GRANT ALL ON public.marked TO marked_user";

/* What must not be readable in production, and must be in development. */
static const char *const markers[] = {
    QUERY,
    PARAMETER,
    COPIED,
    ROW,
    PREPARED,
    "marked_user",
    "pg_sleep",
    "marked_monitor",
    "client_encoding",
    "pg_is_in_recovery",
    MONITOR_PASSWORD,
    "server_version",
    "SCRAM-SHA-256",
    "ReadyForMarker",
};

static struct cluster *marked_cluster(const char *type)
{
    struct cluster_options options = {
        .hba = text_of("local all all trust\n%s all marked_monitor 127.0.0.1/32 password\n"
                       "%s all all 127.0.0.1/32 scram-sha-256\n",
                       type, type)};
    struct cluster *cluster = cluster_start(&options);
    PGconn *conn = cluster_connect(cluster, "app");

    client_do(conn, ROLES);
    PQfinish(conn);
    proxy_set_users("\"admin\" \"adminsecret\"\n\"marked_user\" \"" PASSWORD "\"\n"
                    "\"marked_monitor\" \"" MONITOR_PASSWORD "\"\n");
    return cluster;
}

static void copy_in(PGconn *client)
{
    PGresult *result = PQexec(client, "COPY public.marked FROM STDIN");

    cr_assert_eq(PQresultStatus(result), PGRES_COPY_IN);
    PQclear(result);
    cr_assert_eq(PQputCopyData(client, COPIED "\n", sizeof COPIED), 1);
    cr_assert_eq(PQputCopyEnd(client, NULL), 1);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
}

static void cancelled(PGconn *client, const struct cluster *cluster)
{
    PGcancel *request = PQgetCancel(client);
    char problem[256];

    client_start(client, "SELECT pg_sleep(87)");
    cr_assert(until(cluster_running(cluster, "SELECT pg_sleep(87)") == 1, PATIENCE_MS));
    cr_assert(PQcancel(request, problem, sizeof problem));
    PQfreeCancel(request);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
}

/* Everything that pgstage says to a server. */
static void say_everything(struct proxy *proxy, const struct cluster *cluster, const char *target)
{
    PGconn *client = client_open(proxy, "user=marked_user password=" PASSWORD);
    PGconn *second = client_open(proxy, "user=marked_monitor password=" MONITOR_PASSWORD);
    PGconn *admin = client_open(proxy, "user=admin password=adminsecret dbname=pgstage");
    const char *values[] = {PARAMETER};
    PGresult *result;

    client_do(client, "SET application_name = 'ReadyForMarker'");
    client_do(client, "SELECT '" QUERY "'");
    client_do(client, "SELECT 'Row' || '-Marker' || '-4'");
    result = PQexecParams(client, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK);
    PQclear(result);
    result = PQprepare(client, PREPARED, "SELECT '" PREPARED "'", 0, NULL);
    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    copy_in(client);
    client_do(second, "SELECT 1");
    cancelled(client, cluster);
    result = PQexec(admin, text_of("CHECK %s", target));
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(admin));
    for (int row = 0; row < PQntuples(result); row++)
        cr_assert_str_neq(PQgetvalue(result, row, 3), "error", "%s: %s", PQgetvalue(result, row, 2),
                          PQgetvalue(result, row, 4));
    PQclear(result);
    PQfinish(client);
    PQfinish(second);
}

SYSTEM_TEST(capture, nothing_crosses_in_the_clear_to_production)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = marked_cluster("hostssl");
    struct relay *relay = relay_start(cluster->port);
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);
    char *secret = text_of("%s/monitor.password", test_folder());

    file_write(secret, 0600, MONITOR_PASSWORD "\n");
    struct proxy *proxy = proxy_start(
        "auth_type = scram-sha-256\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\n"
        "default_environment = production\npool_mode = session\n"
        "[environment production]\nclass = production\nmin_pool_size = 0\n"
        "hosts = pg.production.test@127.0.0.1:%d\nserver_tls_ca_file = %s\n"
        "monitor_user = marked_monitor\nmonitor_password_file = %s\n"
        "[databases]\napp = dbname=app\n",
        pooler->certificate, pooler->key, relay->port, pki_shared_ca()->certificate, secret);

    say_everything(proxy, cluster, "production");
    cr_assert_gt(relay_count(relay), 10000, "the relay was in between");
    /* what does cross: the request for TLS, and the name in the ClientHello */
    cr_assert(relay_saw(relay, "\x04\xd2\x16\x2f"));
    cr_assert(relay_saw(relay, "pg.production.test"));
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++)
        cr_assert(!relay_saw(relay, markers[i]), "\"%s\" crossed in the clear", markers[i]);
    cr_assert(!relay_saw(relay, PASSWORD));
    cr_assert(!relay_saw_bytes(relay, CANCEL_CODE, sizeof CANCEL_CODE));
}

SYSTEM_TEST(capture, the_same_record_finds_all_of_it_without_tls)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = marked_cluster("host");
    struct relay *relay = relay_start(cluster->port);
    struct proxy *proxy = proxy_start(
        "auth_type = scram-sha-256\ndefault_environment = development\npool_mode = session\n"
        "[environment development]\nclass = local_development\nserver_tls_sslmode = disable\n"
        "hosts = 127.0.0.1:%d\nmonitor_user = marked_monitor\nmonitor_password = %s\n"
        "[databases]\napp = dbname=app\n",
        relay->port, MONITOR_PASSWORD);

    say_everything(proxy, cluster, "development");
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++)
        cr_assert(relay_saw(relay, markers[i]), "\"%s\" is not in the record", markers[i]);
    cr_assert(relay_saw_bytes(relay, CANCEL_CODE, sizeof CANCEL_CODE));
}
