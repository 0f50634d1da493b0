/*
 * border: a production host that goes by another name elsewhere, which nothing in the files shows.
 */
#include <arpa/inet.h>
#include <netdb.h>

#include "system.h"

SYSTEM_SUITE(border);

/* `other` is the rest of the file: another environment, or a PgBouncer-style line. */
static struct proxy *start_watching(const char *production_hosts, const char *probe_interval,
                                    const char *other)
{
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);

    proxy_set_users("\"app\" \"\"\n\"admin\" \"adminsecret\"\n\"stats\" \"secret\"\n"
                    "\"user_scram\" \"secret\"\n");
    return proxy_start("auth_type = scram-sha-256\npool_mode = transaction\n"
                       "client_tls_cert_file = %s\nclient_tls_key_file = %s\n"
                       "server_login_retry = 1\nquery_wait_timeout = 5\n"
                       "[environment live]\nclass = production\nhosts = %s\nmin_pool_size = "
                       "0\nprobe_interval = %s\n"
                       "server_tls_ca_file = %s\nmonitor_user = other\n%s",
                       pooler->certificate, pooler->key, production_hosts, probe_interval,
                       pki_shared_ca()->certificate, other);
}

static struct proxy *start(const char *production_hosts, const char *other)
{
    return start_watching(production_hosts, "1", other);
}

/* A production environment on the cluster, and another one, `side`, that reaches it by a relay;
 * `more` is the rest of the file, from the options of `side` on. */
static struct proxy *start_beside(const struct cluster *cluster, const struct relay *relay,
                                  const char *more)
{
    return start(text_of("pg.production.test@127.0.0.1:%d", cluster->port),
                 text_of("[environment side]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
                         "monitor_user = other\n%s",
                         relay->port, more));
}

#define SIDE_LINES "[databases]\napp@live =\napp@side =\n"

static char *refused(struct proxy *proxy, const char *database)
{
    return client_refusal(
        proxy, text_of("user=user_scram password=secret dbname=%s connect_timeout=20", database));
}

static PGconn *enter(struct proxy *proxy, const char *database)
{
    return client_try(proxy, text_of("user=user_scram password=secret dbname=%s", database));
}

/* Stands in no auth_file: auth_query is asked for his secret. */
#define STRANGER "user=user_plain password=secret dbname=app@side connect_timeout=20"

/* The machine's own name, when it means an address that nobody can see in the name. */
static const char *own_name(char *address, socklen_t size)
{
    static char name[256];
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;

    if (gethostname(name, sizeof name - 1) || strcmp(name, "localhost") == 0 ||
        getaddrinfo(name, NULL, &hints, &found) || !found)
        return NULL;
    inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)found->ai_addr)->sin_addr, address, size);
    freeaddrinfo(found);
    return name;
}

/* `probe_interval` 0: nobody ever probes it, and it is production's all the same. */
static void a_name_is_refused(const char *probe_interval)
{
    SKIP_ON_PGBOUNCER();
    struct cluster_options options = {.settings = "listen_addresses = '*'\n",
                                      .hba = "local all all trust\nhost all all all trust\n"};
    char address[INET_ADDRSTRLEN];
    const char *name = own_name(address, sizeof address);
    struct cluster *cluster;
    struct proxy *proxy;

    if (!name)
        cr_skip_test("this machine's name means no IPv4 address");
    cluster = cluster_start(&options);
    proxy = start_watching(
        text_of("pg.production.test@%s:%d", address, cluster->port), probe_interval,
        text_of("[environment side]\nclass = local_development\nhosts = %s:%d\n"
                "auth_user = user_scram\n"
                "[databases]\napp@live =\napp@side =\nold = host=%s port=%d dbname=app\n",
                name, cluster->port, name, cluster->port));
    cr_assert_has(refused(proxy, "app@side"), "the host belongs to a production environment");
    cr_assert_has(refused(proxy, "old"), "the host belongs to a production environment");
    cr_assert(until(proxy_logged(proxy, "is a host of environment live (class production)"),
                    PATIENCE_MS));
    cr_assert(proxy_figure(proxy, "SECURITY", "name", "production_hosts_refused", "value") >= 2);
    /* nobody's secret is asked for there either */
    cr_assert_has(client_refusal(proxy, STRANGER), "cannot be looked up");
    cr_assert(
        until(proxy_logged(proxy, text_of("auth_query on %s:%d as user_scram: %s:%d is a host of "
                                          "environment live (class production)",
                                          name, cluster->port, address, cluster->port)),
              PATIENCE_MS));
    /* production itself is served */
    client_do(enter(proxy, "app@live"), "SELECT 1");
}

SYSTEM_TEST(border, a_name_that_resolves_to_a_production_host_is_refused)
{
    a_name_is_refused("1");
}

SYSTEM_TEST(border, a_production_host_that_nobody_probes_is_guarded_too)
{
    a_name_is_refused("0");
}

SYSTEM_TEST(border, a_host_with_the_identity_of_production_is_refused)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct relay *relay = relay_start(cluster->port);
    struct proxy *proxy = start_beside(cluster, relay, SIDE_LINES);
    PGconn *client = NULL;

    /* whether it was there before the monitor knew or not: it does not stay */
    cr_assert(until((PQfinish(client), client = enter(proxy, "app@side"),
                     strstr(PQerrorMessage(client), "belongs to a production environment") != NULL),
                    PATIENCE_MS));
    client_do(enter(proxy, "app@live"), "SELECT 1");
    PQfinish(client);
}

SYSTEM_TEST(border, a_copy_of_production_says_that_it_is_one)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct relay *relay = relay_start(cluster->port);
    struct proxy *proxy = start_beside(cluster, relay, "copy_of = live\n" SIDE_LINES);

    cr_assert(until(proxy_rows(proxy, "HOSTS", "role", "primary") == 2, PATIENCE_MS));
    client_do(enter(proxy, "app@side"), "SELECT 1");
    cr_assert_eq(proxy_figure(proxy, "SECURITY", "name", "production_hosts_refused", "value"), 0);
}

/* … on connections of auth_query: the secrets of production let nobody into another environment. */
SYSTEM_TEST(border, auth_query_asks_no_host_with_the_identity_of_production)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct relay *relay = relay_start(cluster->port);
    static const char asks[] = "auth_user = user_scram\nauth_query = SELECT * FROM get_auth($1)\n"
                               "[databases]\napp@live =\napp@side = user=other\n";
    PGconn *conn = cluster_connect(cluster, "app");
    struct proxy *proxy;

    client_do(conn, "CREATE FUNCTION get_auth(who text) RETURNS TABLE (name name, secret text) "
                    "LANGUAGE sql SECURITY DEFINER AS "
                    "'SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = who'");
    PQfinish(conn);
    for (int copy = 1; copy >= 0; copy--) {
        proxy = start_beside(cluster, relay, text_of("%s%s", copy ? "copy_of = live\n" : "", asks));
        cr_assert(until(proxy_rows(proxy, "HOSTS", "role", "primary") == 2, PATIENCE_MS));
        if (copy)
            client_do(client_open(proxy, STRANGER), "SELECT 1"); /* it is asked, and answers */
        else
            cr_assert_has(client_refusal(proxy, STRANGER), "cannot be looked up");
    }
    cr_assert(until(proxy_logged(proxy, text_of("auth_query on 127.0.0.1:%d as user_scram: "
                                                "127.0.0.1:%d has the system identifier of "
                                                "environment live",
                                                relay->port, relay->port)),
                    PATIENCE_MS));
}
