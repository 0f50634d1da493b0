/*
 * hba: logins by rules: who may come from where, and how each proves who it is.
 */
#include <pwd.h>

#include "system.h"

SYSTEM_SUITE(hba);

static char *file_of(const char *name, const char *text)
{
    char *path = text_of("%s/%s", test_folder(), name);

    file_write(path, 0600, text);
    return path;
}

/* Two environments before the same cluster, and rules for all. */
static struct proxy *start(const char *rules, const char *maps, const char *globals)
{
    return proxy_start("auth_type = hba\nauth_hba_file = %s\nauth_ident_file = %s\n%s"
                       "[environment one]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                       "[environment two]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
                       "[databases]\napp =\ndb2 =\n",
                       file_of("hba", text_of("local pgbouncer,pgstage admin trust\n"
                                              "host pgbouncer admin 127.0.0.1/32 trust\n%s",
                                              rules)),
                       file_of("ident", maps), globals, cluster_shared()->port,
                       cluster_shared()->port);
}

static const char *const SECRET = "user=user_scram password=secret";

SYSTEM_TEST(hba, each_line_asks_for_its_own_proof)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("host app@one user_scram 127.0.0.1/32 scram-sha-256\n"
                                "host app@one user_plain all password\n"
                                "host app@one user_md5 all md5\n"
                                "host app@one other all trust\n"
                                "host app@one app all reject\n",
                                "", "");
    char *text;

    client_do(client_open(proxy, text_of("%s dbname=app@one", SECRET)), "SELECT 1");
    client_do(client_open(proxy, "user=user_plain password=secret dbname=app@one"), "SELECT 1");
    client_do(client_open(proxy, "user=user_md5 password=secret dbname=app@one"), "SELECT 1");
    client_do(client_open(proxy, "user=other dbname=app@one"), "SELECT 1");
    text = client_refusal(proxy, "user=user_scram password=wrong dbname=app@one");
    cr_assert_has(text, "28P01");
    text = client_refusal(proxy, "user=app dbname=app@one");
    cr_assert_has(text, "28000");
    cr_assert_has(text, "login rejected");
    cr_assert(until(proxy_logged(proxy, "hba:7"), PATIENCE_MS));
    /* nobody says anything about environment two, or about the other database */
    text = client_refusal(proxy, text_of("%s dbname=app@two", SECRET));
    cr_assert_has(text, "login rejected");
    text = client_refusal(proxy, text_of("%s dbname=db2@one", SECRET));
    cr_assert_has(text, "login rejected");
    cr_assert(until(proxy_logged(proxy, "fits database db2 of one, no TLS"), PATIENCE_MS));
}

SYSTEM_TEST(hba, what_does_not_exist_looks_like_what_is_not_allowed)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("host app@one all all trust\n", "", "");
    char *here = client_refusal(proxy, "dbname=app@two");
    char *nowhere = client_refusal(proxy, "dbname=app@nowhere");
    char *nothing = client_refusal(proxy, "dbname=nothing");

    cr_assert_has(here, "login rejected");
    cr_assert_has(nowhere, "login rejected");
    cr_assert_has(nothing, "login rejected");
}

SYSTEM_TEST(hba, the_console_has_its_lines_too)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("host all@one all all trust\n", "", "");

    client_do(client_open(proxy, "dbname=pgbouncer user=admin"), "SHOW VERSION");
    cr_assert_has(client_refusal(proxy, "dbname=pgbouncer user=stats"), "login rejected");
    /* the other name of the console is no way around the rules for it */
    client_do(client_open(proxy, "dbname=pgstage user=admin"), "SHOW VERSION");
}

/* ---- certificates ---- */

static struct pki_certificate *issue(const char *file, const char *name)
{
    struct pki_request request = {.file = file, .common_name = name, .issuer = pki_shared_ca()};
    struct pki_certificate *made = pki_issue(test_folder(), &request);

    /* libpq wants its key to be our own or root's */
    cr_assert(geteuid() != 0 || chown(made->key, 0, 0) == 0);
    return made;
}

static struct proxy *start_tls(const char *rules, const char *maps)
{
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);

    return start(rules, maps,
                 text_of("client_tls_sslmode = prefer\nclient_tls_key_file = %s\n"
                         "client_tls_cert_file = %s\nclient_tls_ca_file = %s\n",
                         pooler->key, pooler->certificate, pki_shared_ca()->certificate));
}

static const char *shown(const struct pki_certificate *certificate, const char *more)
{
    return text_of("sslmode=require sslcert=%s sslkey=%s dbname=app@one %s",
                   certificate->certificate, certificate->key, more);
}

SYSTEM_TEST(hba, a_certificate_says_who_its_owner_is)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *own = issue("own", "app"), *mapped = issue("mapped", "app@example.com");
    struct proxy *proxy = start_tls("hostssl app@one app all cert\n"
                                    "hostssl app@one other all cert map=people\n"
                                    "host app@one user_scram all scram-sha-256\n",
                                    "people /^app@(.*)\\.com$ other\n");
    char *text;

    client_do(client_open(proxy, shown(own, "user=app")), "SELECT 1");
    client_do(client_open(proxy, shown(mapped, "user=other")), "SELECT 1");
    text = client_refusal(proxy, shown(mapped, "user=app"));
    cr_assert_has(text, "28000");
    cr_assert_has(text, "certificate authentication failed for user \"app\"");
    cr_assert(
        until(proxy_logged(proxy, "the certificate is that of \"app@example.com\""), PATIENCE_MS));
    cr_assert_has(client_refusal(proxy, shown(own, "user=other")), "28000");
    /* without one: the same, and lines for others ask for none */
    cr_assert_has(client_refusal(proxy, "sslmode=require sslcert= user=app dbname=app@one"),
                  "certificate authentication failed");
    client_do(client_open(proxy, text_of("sslmode=require %s dbname=app@one", SECRET)), "SELECT 1");
    client_do(client_open(proxy, text_of("%s dbname=app@one", SECRET)), "SELECT 1");
    /* cert lines are about TLS only */
    cr_assert_has(client_refusal(proxy, "user=app dbname=app@one"), "login rejected");
}

SYSTEM_TEST(hba, a_password_may_need_a_certificate_beside_it)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *named = issue("named", "user_scram"), *any = issue("any", "whoever");
    struct pki_request old = {.file = "old",
                              .common_name = "user_scram",
                              .issuer = pki_shared_ca(),
                              .starts_in_days = -10,
                              .ends_in_days = -1};
    struct pki_certificate *expired = pki_issue(test_folder(), &old);
    struct proxy *proxy =
        start_tls("hostssl app@one user_scram all scram-sha-256 clientcert=verify-full\n"
                  "hostssl app@one user_plain all scram-sha-256 clientcert=verify-ca\n",
                  "");

    cr_assert(geteuid() != 0 || chown(expired->key, 0, 0) == 0);
    client_do(client_open(proxy, shown(named, SECRET)), "SELECT 1");
    cr_assert_has(client_refusal(proxy, shown(any, SECRET)), "certificate authentication failed");
    cr_assert_has(client_refusal(proxy, shown(named, "user=user_scram password=wrong")), "28P01");
    client_do(client_open(proxy, shown(any, "user=user_plain password=secret")), "SELECT 1");
    cr_assert_has(client_refusal(proxy, "sslmode=require user=user_plain password=secret "
                                        "dbname=app@one"),
                  "certificate authentication failed");
    /* one that is shown must be valid */
    client_refusal(proxy, shown(expired, SECRET));
}

SYSTEM_TEST(hba, cert_may_be_the_method_of_an_environment)
{
    SKIP_ON_PGBOUNCER();
    struct pki_certificate *own = issue("own", "app");
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);
    struct proxy *proxy = proxy_start(
        "client_tls_sslmode = prefer\nclient_tls_key_file = %s\n"
        "client_tls_cert_file = %s\nclient_tls_ca_file = %s\n"
        "[environment one]\nclass = review_apps\nhosts = 127.0.0.1:%d\n"
        "auth_type = cert\n[databases]\napp =\n",
        pooler->key, pooler->certificate, pki_shared_ca()->certificate, cluster_shared()->port);

    client_do(client_open(proxy, shown(own, "user=app")), "SELECT 1");
    cr_assert_has(client_refusal(proxy, shown(own, "user=other")), "28000");
    cr_assert_has(client_refusal(proxy, "dbname=app@one"), "certificate authentication failed");
}

/* ---- the system's word ---- */

static const char *own_name(void)
{
    return getpwuid(geteuid())->pw_name;
}

SYSTEM_TEST(hba, the_system_says_who_is_behind_a_unix_socket)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        start("local app@one app peer map=people\n"
              "local app@one other peer\n"
              "local app@one user_plain peer map=strangers\n"
              "host all all all reject\n",
              text_of("people %s app\nstrangers nobody_at_all user_plain\n", own_name()), "");
    char *text;

    client_do(client_open(proxy, text_of("host=%s dbname=app@one", proxy->socket_folder)),
              "SELECT 1");
    text =
        client_refusal(proxy, text_of("host=%s dbname=app@one user=other", proxy->socket_folder));
    cr_assert_has(text, "28000");
    cr_assert_has(text, "peer authentication failed for user \"other\"");
    text = client_refusal(proxy,
                          text_of("host=%s dbname=app@one user=user_plain", proxy->socket_folder));
    cr_assert_has(text, "peer authentication failed");
    cr_assert(
        until(proxy_logged(proxy, text_of("the system user is \"%s\", who may not be", own_name())),
              PATIENCE_MS));
    cr_assert_has(client_refusal(proxy, "dbname=app@one"), "login rejected");
}

SYSTEM_TEST(hba, many_peers_at_once_are_all_answered)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        start("local app@one app peer map=people\n", text_of("people %s app\n", own_name()), "");
    const char *conninfo =
        client_conninfo(proxy, text_of("host=%s dbname=app@one", proxy->socket_folder));
    PGconn *conns[40];
    int i;

    for (i = 0; i < 40; i++)
        cr_assert(conns[i] = PQconnectStart(conninfo));
    /* half of them leave while the system is asked */
    for (i = 0; i < 40; i += 2)
        PQfinish(conns[i]);
    for (i = 1; i < 40; i += 2) {
        PostgresPollingStatusType status = PGRES_POLLING_WRITING;

        cr_assert(until((status = PQconnectPoll(conns[i])) == PGRES_POLLING_OK ||
                            status == PGRES_POLLING_FAILED,
                        PATIENCE_MS));
        cr_assert_eq(status, PGRES_POLLING_OK, "%s", PQerrorMessage(conns[i]));
    }
}

/* ---- changes ---- */

SYSTEM_TEST(hba, a_reload_reads_the_rules_and_a_bad_file_changes_nothing)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("host app@one all all trust\n", "", "");
    PGconn *client = client_open(proxy, "dbname=app@one");
    char *path = text_of("%s/hba", test_folder()), *text = file_text(path);

    client_do(client, "SELECT 1");
    file_write(path, 0600, text_of("%slocal all all thrust\n", text));
    cr_assert(proxy_reload(proxy));
    cr_assert(until(proxy_logged(proxy, "the method \"thrust\" is none of"), PATIENCE_MS));
    client_do(client_open(proxy, "dbname=app@one"), "SELECT 1");
    file_write(path, 0600,
               text_of("host pgbouncer admin 127.0.0.1/32 trust\nhost app@two all all trust\n"));
    cr_assert_null(proxy_reload(proxy));
    cr_assert_has(client_refusal(proxy, "dbname=app@one"), "login rejected");
    client_do(client_open(proxy, "dbname=app@two"), "SELECT 1");
    client_do(client, "SELECT 1"); /* whoever is in stays in */
}

SYSTEM_TEST(hba, rejections_are_in_the_audit_log)
{
    SKIP_ON_PGBOUNCER();
    char *audit = text_of("%s/audit", test_folder());
    struct proxy *proxy = start("host app@one all all reject\n", "",
                                text_of("audit_log = %s\naudit_logins = yes\n", audit));

    client_refusal(proxy, "dbname=app@one");
    cr_assert(until(strstr(file_text(audit), "login rejected") != NULL, PATIENCE_MS));
}
