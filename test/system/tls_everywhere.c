/*
 * tls_everywhere: what is promised of TLS to servers holds for each kind of connection: those that
 * carry queries (data), those of CHECK (probe), those that carry a CancelRequest (cancel).
 *
 * A relay stands before the servers and is turned from one to the other, so that the cancel of a
 * query on a good server can be led to a bad one. A bad server counts what it hears besides TLS: it
 * must be nothing.
 */
#include <signal.h>
#include <stdatomic.h>

#include "system.h"

SYSTEM_SUITE(tls_everywhere);

static const char *const NAME = "pg.production.test";

/* The code of a CancelRequest, as it would stand on a wire without TLS. */
static const unsigned char CANCEL_CODE[] = {0x00, 0x00, 0x00, 0x10, 0x04, 0xd2, 0x16, 0x2e};

static struct proxy *proxy_before(int port, const char *more)
{
    return proxy_start(
        "check_timeout = 8\nserver_connect_timeout = 5\nserver_login_retry = 1\n"
        "query_wait_timeout = 6\nfailover_wait_timeout = 6\ncancel_wait_timeout = 30\n"
        "default_environment = tested\n"
        "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
        "server_tls_ca_file = %s\nhosts = %s@127.0.0.1:%d\nmin_pool_size = 0\n"
        "monitor_user = other\n%s[databases]\napp = dbname=app\n",
        pki_shared_ca()->certificate, NAME, port, more);
}

/* The detail of a row of CHECK, "result: " before it; "none" without one. */
static const char *check_said(struct proxy *proxy, const char *host, const char *check)
{
    PGresult *result = PQexec(proxy_console(proxy), "CHECK tested");

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        support_fail("CHECK: %s", PQerrorMessage(proxy_console(proxy)));
    for (int row = 0; row < PQntuples(result); row++) {
        if (!strcmp(PQgetvalue(result, row, 2), check) &&
            strstr(PQgetvalue(result, row, 1), host) == PQgetvalue(result, row, 1))
            return text_of("%s: %s", PQgetvalue(result, row, 3), PQgetvalue(result, row, 4));
    }
    return "none";
}

static void cancel(PGconn *client)
{
    PGcancel *request = PQgetCancel(client);
    char problem[256];

    cr_assert(PQcancel(request, problem, sizeof problem), "%s", problem);
    PQfreeCancel(request);
}

/* ---- bad servers ---- */

struct danger {
    char answer;                         /* to SSLRequest; 0: none at all */
    const struct pki_certificate *shown; /* NULL: says nothing behind 'S' */
    _Atomic long heard;                  /* bytes of what is for PostgreSQL only */
};

static void serve_danger(struct wire *wire, struct fake *fake)
{
    struct danger *danger = (struct danger *)fake->context;
    unsigned char head[8], byte;

    if (wire_take(wire, head, 8, PATIENCE_MS) < 8)
        return;
    if (head[4] != 0x04 || head[5] != 0xd2 || head[7] != 0x2f)
        atomic_fetch_add(&danger->heard, 1); /* not an SSLRequest */
    if (!danger->answer) {
        fake_hang(wire);
        return;
    }
    wire_write(wire, &danger->answer, 1);
    if (danger->answer == 'S' && !danger->shown)
        fake_hang(wire);
    else if (danger->answer == 'N' ||
             wire_accept_tls(wire, danger->shown->certificate, danger->shown->key))
        atomic_fetch_add(&danger->heard, (long)wire_take(wire, &byte, 1, PATIENCE_MS));
}

/* Data, probe and cancel connections come to such a server and go away; `reason` is what CHECK says
 * and, unless `quiet`, the log. */
static void refused_everywhere(const struct danger *wanted, const char *reason, bool quiet)
{
    SKIP_ON_PGBOUNCER();
    /* probes come until the very end, when the test's own function has returned */
    static struct danger kept;
    struct danger *danger = &kept;
    danger->answer = wanted->answer;
    danger->shown = wanted->shown;
    struct fake *bad = fake_start(serve_danger, danger);
    struct relay *relay = relay_start(bad->port);
    struct proxy *proxy = proxy_before(relay->port, "");
    const char *said;

    client_refusal(proxy, NULL);
    cr_assert(quiet || until(proxy_logged(proxy, reason), PATIENCE_MS),
              "data: \"%s\" is not in its log", reason);
    said = check_said(proxy, NAME, "tls");
    cr_assert(strstr(said, "error: ") == said && strstr(said, reason), "probe: %s", said);
    cr_assert_str_eq(check_said(proxy, NAME, "login"), "none");

    relay_turn(relay, cluster_shared()->port);
    const char *sql = text_of("SELECT pg_sleep(83.%d)", relay->port);
    PGconn *client = NULL;
    /* known to be the primary: what was let in while no probe got through may be closed when one does */
    cr_assert(until(proxy_rows(proxy, "ENVIRONMENTS", "failover_state", "ok") == 1, PATIENCE_MS));
    /* the failures before hold attempts back for a while */
    cr_assert(until((PQfinish(client), client = client_try(proxy, NULL),
                     PQstatus(client) == CONNECTION_OK),
                    60000),
              "data: the good server is not reached");
    client_start(client, sql);
    cr_assert(until(cluster_running(cluster_shared(), sql), PATIENCE_MS),
              "data: the good server is not reached");
    relay_turn(relay, bad->port);
    relay_forget(relay);
    long before = atomic_load(&bad->accepted);
    cancel(client);
    cr_assert(until(atomic_load(&bad->accepted) > before, PATIENCE_MS), "cancel: none was sent");
    cr_assert(cluster_running(cluster_shared(), sql));
    cr_assert(!relay_saw_bytes(relay, CANCEL_CODE, sizeof CANCEL_CODE), "cancel: in the clear");
    relay_turn(relay, cluster_shared()->port);
    cancel(client);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
    cr_assert_eq(atomic_load(&danger->heard), 0, "something was said to that server");
}

static const struct pki_certificate *issue(const char *names, const struct pki_certificate *issuer,
                                           int starts_in_days, int ends_in_days)
{
    struct pki_request request = {.file = text_of("bad%d", port_take()),
                                  .common_name = NAME,
                                  .names = names,
                                  .issuer = issuer,
                                  .starts_in_days = starts_in_days,
                                  .ends_in_days = ends_in_days};

    return pki_issue(test_folder(), &request);
}

SYSTEM_TEST(tls_everywhere, a_wrong_host_name_is_refused)
{
    struct danger danger = {.answer = 'S',
                            .shown = issue("DNS:pg.elsewhere.test", pki_shared_ca(), 0, 0)};

    refused_everywhere(&danger, "hostname mismatch", false);
}

SYSTEM_TEST(tls_everywhere, an_address_in_the_certificate_is_no_name)
{
    struct danger danger = {.answer = 'S', .shown = issue("IP:127.0.0.1", pki_shared_ca(), 0, 0)};
    struct pki_request request = {.file = "by_address",
                                  .common_name = "somewhere",
                                  .names = "IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};

    danger.shown = pki_issue(test_folder(), &request);
    refused_everywhere(&danger, "hostname mismatch", false);
}

SYSTEM_TEST(tls_everywhere, an_expired_certificate_is_refused)
{
    struct danger danger = {.answer = 'S',
                            .shown = issue("DNS:pg.production.test", pki_shared_ca(), -30, -1)};

    refused_everywhere(&danger, "expired", false);
}

SYSTEM_TEST(tls_everywhere, a_self_signed_certificate_is_refused)
{
    struct danger danger = {.answer = 'S', .shown = issue("DNS:pg.production.test", NULL, 0, 0)};

    refused_everywhere(&danger, "self-signed", false);
}

SYSTEM_TEST(tls_everywhere, an_unknown_ca_is_refused)
{
    struct pki_request request = {.file = "other_ca", .common_name = "Other CA", .authority = true};
    struct pki_certificate *other = pki_issue(test_folder(), &request);
    struct danger danger = {.answer = 'S', .shown = issue("DNS:pg.production.test", other, 0, 0)};

    refused_everywhere(&danger, "certificate", false);
}

SYSTEM_TEST(tls_everywhere, n_is_refused)
{
    struct danger danger = {.answer = 'N'};

    refused_everywhere(&danger, "TLS", true);
}

SYSTEM_TEST(tls_everywhere, a_stall_after_s_ends)
{
    struct danger danger = {.answer = 'S'};

    refused_everywhere(&danger, "not over in time", true);
}

SYSTEM_TEST(tls_everywhere, a_stall_before_any_answer_ends)
{
    struct danger danger = {0};

    refused_everywhere(&danger, "not over in time", true);
}

/* ---- good servers ---- */

static void query_and_cancel(struct proxy *proxy, const struct cluster *cluster,
                             struct relay *relay, const char *extra)
{
    PGconn *client = client_open(proxy, extra);
    const char *sql = text_of("SELECT pg_sleep(84.%d)", cluster->port);

    cr_assert_str_eq(client_value(client, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = "
                                          "pg_backend_pid()"),
                     "true");
    client_start(client, sql);
    cr_assert(until(cluster_running(cluster, sql), PATIENCE_MS));
    cancel(client);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "57014");
    if (relay) {
        cr_assert(relay_saw(relay, "\x04\xd2\x16\x2f"), "there was an SSLRequest");
        cr_assert(!relay_saw_bytes(relay, CANCEL_CODE, sizeof CANCEL_CODE));
        cr_assert(!relay_saw(relay, "pg_sleep"));
    }
    PQfinish(client);
}

static void accepted_everywhere(const struct pki_certificate *certificate, const char *name)
{
    struct cluster_options options = {.certificate = certificate};
    struct cluster *cluster = cluster_start(&options);
    struct relay *relay = relay_start(cluster->port);
    struct proxy *proxy = proxy_start(
        "default_environment = tested\n[environment tested]\nclass = staging\n"
        "client_tls_sslmode = disable\nserver_tls_ca_file = %s\nhosts = %s:%d\nmin_pool_size = 0\n"
        "monitor_user = other\n[databases]\napp = dbname=app\n",
        pki_shared_ca()->certificate, name, relay->port);

    query_and_cancel(proxy, cluster, relay, NULL);
    cr_assert_has(check_said(proxy, "", "tls"), "ok: verify-full");
    cr_assert_has(check_said(proxy, "", "login"), "ok: ");
}

SYSTEM_TEST(tls_everywhere, an_intermediate_chain_is_followed)
{
    SKIP_ON_PGBOUNCER();
    struct pki_request request = {
        .file = "middle", .common_name = "Middle CA", .authority = true, .issuer = pki_shared_ca()};

    accepted_everywhere(issue("DNS:pg.production.test", pki_issue(test_folder(), &request), 0, 0),
                        "pg.production.test@127.0.0.1");
}

SYSTEM_TEST(tls_everywhere, an_address_is_checked_against_the_addresses_of_the_certificate)
{
    SKIP_ON_PGBOUNCER();
    accepted_everywhere(issue("IP:127.0.0.1", pki_shared_ca(), 0, 0), "127.0.0.1");
}

SYSTEM_TEST(tls_everywhere, the_dot_of_an_absolute_name_is_not_part_of_it)
{
    SKIP_ON_PGBOUNCER();
    accepted_everywhere(issue("DNS:pg.production.test", pki_shared_ca(), 0, 0),
                        "pg.production.test.@127.0.0.1");
}

/* They are two primaries, which nobody would accept: so nobody looks. */
static struct proxy *before_two(const char *first, int first_port, const char *second,
                                int second_port)
{
    return proxy_start("server_login_retry = 1\ndefault_environment = tested\n"
                       "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
                       "server_tls_ca_file = %s\nhosts = %s@127.0.0.1:%d, %s@127.0.0.1:%d\n"
                       "min_pool_size = 0\nprobe_interval = 0\nmonitor_user = "
                       "other\n[databases]\napp = dbname=app\n",
                       pki_shared_ca()->certificate, first, first_port, second, second_port);
}

SYSTEM_TEST(tls_everywhere, each_of_two_hosts_must_show_its_own_name)
{
    SKIP_ON_PGBOUNCER();
    struct cluster_options options = {.certificate =
                                          issue("DNS:second.test", pki_shared_ca(), 0, 0)};
    struct cluster *first = cluster_shared(), *second = cluster_start(&options);
    struct proxy *good = before_two(NAME, first->port, "second.test", second->port);
    PGconn *clients[2] = {client_open(good, NULL), client_open(good, NULL)};
    int port[2];

    for (int i = 0; i < 2; i++) {
        client_do(clients[i], "BEGIN");
        port[i] = (int)client_number(clients[i], "SELECT inet_server_port()");
    }
    cr_assert_neq(port[0], port[1], "both hosts serve");
    for (int i = 0; i < 2; i++) {
        const char *sql = text_of("SELECT pg_sleep(85.%d)", port[i]);

        client_start(clients[i], sql);
        cr_assert(
            until(cluster_running(port[i] == first->port ? first : second, sql), PATIENCE_MS));
        cancel(clients[i]);
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "57014");
    }
    cr_assert_has(check_said(good, NAME, "tls"), "CN=pg.production.test");
    cr_assert_has(check_said(good, "second.test", "tls"), "ok: verify-full");

    struct proxy *swapped = before_two("second.test", first->port, NAME, second->port);
    cr_assert_has(check_said(swapped, "second.test", "tls"), "hostname mismatch");
    cr_assert_has(check_said(swapped, NAME, "tls"), "hostname mismatch");
    client_refusal(swapped, NULL);
}

/* ---- rotation ---- */

static void replace(const char *to, const char *from, mode_t mode)
{
    char *text = file_text(from);

    file_write(to, mode, text);
    free(text);
}

SYSTEM_TEST(tls_everywhere, a_rotated_ca_comes_into_use_by_reload)
{
    SKIP_ON_PGBOUNCER();
    struct pki_request ca_request = {.file = "new_ca", .common_name = "New CA", .authority = true};
    struct pki_certificate *new_ca = pki_issue(test_folder(), &ca_request);
    const struct pki_certificate *old = issue("DNS:pg.production.test", pki_shared_ca(), 0, 0);
    const struct pki_certificate *new = issue("DNS:pg.production.test", new_ca, 0, 0);
    char *ca_file = text_of("%s/ca.pem", test_folder());

    replace(ca_file, pki_shared_ca()->certificate, 0644);
    struct cluster_options options = {.certificate = old};
    struct cluster *cluster = cluster_start(&options);
    struct proxy *proxy = proxy_start(
        "server_login_retry = 1\nquery_wait_timeout = 10\ndefault_environment = tested\n"
        "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
        "server_tls_ca_file = %s\nhosts = %s@127.0.0.1:%d\nmin_pool_size = 0\n"
        "monitor_user = other\n[databases]\napp = dbname=app\ndb2 = dbname=db2\n",
        ca_file, NAME, cluster->port);
    PGconn *early = client_open(proxy, NULL);
    const char *sql = "SELECT pg_sleep(86)";

    client_do(early, "BEGIN");
    int backend = client_backend(early);
    client_start(early, sql);
    cr_assert(until(cluster_running(cluster, sql), PATIENCE_MS));
    replace(old->certificate, new->certificate, 0644);
    replace(old->key, new->key, 0600);
    kill(cluster->pid, SIGHUP);
    cr_assert(until(strstr(check_said(proxy, NAME, "tls"), "certificate"), PATIENCE_MS));
    /* new data connections do not trust it yet, and a cancel does not either */
    client_refusal(proxy, "dbname=db2");
    cancel(early);
    cr_assert(cluster_running(cluster, sql));

    replace(ca_file, new_ca->certificate, 0644);
    cr_assert_null(proxy_reload(proxy));
    cr_assert(until(strstr(check_said(proxy, NAME, "login"), "ok: "), PATIENCE_MS));
    /* the connection of before serves on, and what it does can be cancelled */
    cr_assert(cluster_running(cluster, sql));
    cancel(early);
    cr_assert_str_eq(client_finish(early, PATIENCE_MS), "57014");
    client_do(early, "ROLLBACK");
    (void)backend;
    PGconn *late = NULL;
    cr_assert(until(
        (PQfinish(late), late = client_try(proxy, "dbname=db2"), PQstatus(late) == CONNECTION_OK),
        PATIENCE_MS));
    cr_assert_eq(client_number(late, "SELECT 1"), 1);
}

SYSTEM_TEST(tls_everywhere, connections_under_what_was_rotated_are_drained)
{
    SKIP_ON_PGBOUNCER();
    char *ca_file = text_of("%s/ca.pem", test_folder());
    struct pki_request ca_request = {.file = "next", .common_name = "Next CA", .authority = true};
    struct pki_certificate *next = pki_issue(test_folder(), &ca_request);

    replace(ca_file, pki_shared_ca()->certificate, 0644);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\ndefault_environment = tested\n"
                    "[environment tested]\nclass = staging\nclient_tls_sslmode = disable\n"
                    "server_tls_ca_file = %s\nhosts = %s@127.0.0.1:%d\nmin_pool_size = 0\n"
                    "[databases]\napp = dbname=app\n",
                    ca_file, NAME, cluster_shared()->port);
    PGconn *client = client_open(proxy, NULL), *busy = client_open(proxy, NULL);
    int idle_one, busy_one;

    client_do(busy, "BEGIN");
    busy_one = client_backend(busy);
    idle_one = client_backend(client);
    /* the same again: everything stays */
    cr_assert_null(proxy_reload(proxy));
    cr_assert_eq(client_backend(client), idle_one);
    file_write(
        ca_file, 0644,
        text_of("%s%s", file_text(pki_shared_ca()->certificate), file_text(next->certificate)));
    cr_assert_null(proxy_reload(proxy));
    cr_assert(until(client_backend(client) != idle_one, PATIENCE_MS));
    /* what was under way ends as it began, then it goes too */
    cr_assert_eq(client_backend(busy), busy_one);
    client_do(busy, "COMMIT");
    cr_assert(until(client_backend(busy) != busy_one, PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "obsolete") ||
                        proxy_logged(proxy, "database configuration changed"),
                    PATIENCE_MS));
}

/* ---- certificates of both sides ---- */

SYSTEM_TEST(tls_everywhere, both_sides_can_demand_certificates)
{
    SKIP_ON_PGBOUNCER();
    struct pki_request own = {.file = "own", .common_name = "app", .issuer = pki_shared_ca()};
    struct pki_certificate *pgstage = pki_issue(test_folder(), &own);
    struct pki_request mine = {.file = "mine", .common_name = "app", .issuer = pki_shared_ca()};
    struct pki_certificate *client = pki_issue(test_folder(), &mine);
    const struct pki_certificate *door = issue("DNS:localhost,IP:127.0.0.1", pki_shared_ca(), 0, 0);
    struct cluster_options options = {
        .hba = "local all all trust\nhostssl all all 127.0.0.1/32 cert\n"};
    struct cluster *cluster = cluster_start(&options);
    struct relay *relay = relay_start(cluster->port);
    const char *format =
        "client_tls_sslmode = verify-full\nclient_tls_ca_file = %s\nclient_tls_cert_file = %s\n"
        "client_tls_key_file = %s\ndefault_environment = tested\n"
        "[environment tested]\nclass = staging\nserver_tls_ca_file = %s\n%s"
        "hosts = %s@127.0.0.1:%d\nmin_pool_size = 0\nmonitor_user = app\n"
        "[databases]\napp = dbname=app\n";
    const char *ca = pki_shared_ca()->certificate;
    struct proxy *proxy =
        proxy_start(format, ca, door->certificate, door->key, ca,
                    text_of("server_tls_cert_file = %s\nserver_tls_key_file = %s\n",
                            pgstage->certificate, pgstage->key),
                    NAME, relay->port);
    const char *secure = text_of("sslmode=verify-full sslrootcert=%s sslcert=%s sslkey=%s", ca,
                                 client->certificate, client->key);
    PGconn *console = client_open(proxy, text_of("%s user=admin dbname=pgstage", secure));
    PGresult *rows;

    query_and_cancel(proxy, cluster, relay, secure);
    rows = PQexec(console, "CHECK tested");
    for (int row = 0; row < PQntuples(rows); row++)
        cr_assert_str_neq(PQgetvalue(rows, row, 3), "error", "%s", PQgetvalue(rows, row, 4));
    /* a client without one is not let in */
    client_refusal(proxy, "sslmode=require");
    client_refusal(proxy, "sslmode=disable");

    /* neither is pgstage */
    struct proxy *bare =
        proxy_start(format, ca, door->certificate, door->key, ca, "", NAME, relay->port);
    console = client_open(bare, text_of("%s user=admin dbname=pgstage", secure));
    rows = PQexec(console, "CHECK tested");
    bool refused = false;
    for (int row = 0; row < PQntuples(rows); row++)
        refused = refused || (!strcmp(PQgetvalue(rows, row, 2), "login") &&
                              strstr(PQgetvalue(rows, row, 4), "28000"));
    cr_assert(refused, "the server wants a certificate");
    client_refusal(bare, secure);
}
