/*
 * monitoring: each level counts what it says, and no more.
 */
#include "system.h"

SYSTEM_SUITE(monitoring);

static struct proxy *start(const char *level, const char *more)
{
    return proxy_start("pool_mode = transaction\ndefault_environment = here\n%s"
                       "[environment here]\nhosts = 127.0.0.1:%d\nmonitoring = %s\n"
                       "[databases]\napp = dbname=app\n",
                       more, cluster_shared()->port, level);
}

SYSTEM_TEST(monitoring, basic_has_neither_histograms_nor_figures)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("basic", "slow_query_threshold = 1ms\n");

    client_do(client_open(proxy, ""), "SELECT pg_sleep(0.05)");
    cr_assert_eq(proxy_rows(proxy, "HISTOGRAMS", NULL, NULL), 0);
    cr_assert_eq(proxy_rows(proxy, "STATS_USERS", NULL, NULL), 0);
    cr_assert_eq(proxy_rows(proxy, "STATS_HOSTS", NULL, NULL), 0);
    cr_assert_not(proxy_logged(proxy, "slow query"));
}

SYSTEM_TEST(monitoring, standard_has_histograms_of_each_pool)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("standard", "");
    PGconn *client = client_open(proxy, "");
    int i;

    for (i = 0; i < 10; i++)
        client_do(client, "SELECT 1");
    client_do(client, "BEGIN");
    client_do(client, "COMMIT");
    cr_assert(
        until(proxy_figure(proxy, "HISTOGRAMS", "kind", "query", "count") == 12, PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "HISTOGRAMS", "kind", "transaction", "count") == 11,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "HISTOGRAMS", "kind", "wait", "count") == 11, PATIENCE_MS));
    cr_assert_eq(proxy_rows(proxy, "STATS_USERS", NULL, NULL), 0);
}

SYSTEM_TEST(monitoring, enhanced_has_figures_of_users_and_logs_slow_queries_masked)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("enhanced", "slow_query_threshold = 3s\n");
    PGconn *client = client_open(proxy, "user=other");
    const char *values[] = {"geheim"};

    client_do(client_open(proxy, ""), "SELECT 1");
    client_do(client, "SELECT pg_sleep(3.2), 'geheim', 4711");
    cr_assert(until(proxy_logged(proxy, "text: SELECT pg_sleep(?), ?, ?"), PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "app/other@127.0.0.1:"), PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "environment=here text:"), PATIENCE_MS));
    PQclear(PQexecParams(client, "SELECT pg_sleep(3.2), $1::text", 1, NULL, values, NULL, NULL, 0));
    cr_assert(until(proxy_logged(proxy, "text: SELECT pg_sleep(?), $1::text"), PATIENCE_MS));
    PQclear(PQprepare(client, "named", "SELECT pg_sleep(3.2)", 0, NULL));
    PQclear(PQexecPrepared(client, "named", 0, NULL, NULL, NULL, 0));
    cr_assert(until(proxy_logged(proxy, "text: (prepared)"), PATIENCE_MS));
    cr_assert(until(proxy_log_count(proxy, "slow query") == 3, PATIENCE_MS));
    cr_assert_not(proxy_logged(proxy, "geheim"));
    cr_assert(
        until(proxy_figure(proxy, "STATS_USERS", "user", "other", "slow_count") == 3, PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "STATS_USERS", "user", "other", "query_count") == 4,
                    PATIENCE_MS));
    cr_assert(
        until(proxy_figure(proxy, "STATS_USERS", "user", "app", "query_count") == 1, PATIENCE_MS));
    cr_assert_eq(proxy_rows(proxy, "STATS_HOSTS", NULL, NULL), 0);
}

SYSTEM_TEST(monitoring, the_text_of_slow_queries_is_a_choice_and_never_long)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("enhanced", "slow_query_threshold = 1ms\nslow_query_text = full\n");
    PGconn *client = client_open(proxy, "");
    char *many = malloc(50001);

    client_do(client, "SELECT pg_sleep(0.01), 'visible'");
    cr_assert(until(proxy_logged(proxy, "SELECT pg_sleep(0.01), 'visible'"), PATIENCE_MS));
    memset(many, 'x', 50000);
    many[50000] = '\0';
    client_do(client, text_of("SELECT pg_sleep(0.01), '%s'", many));
    cr_assert(until(proxy_logged(proxy, "xxx..."), PATIENCE_MS));
    many[1100] = '\0';
    cr_assert_not(proxy_logged(proxy, many));
    proxy_do(proxy, "SET slow_query_text = none");
    client_do(client, "SELECT pg_sleep(0.01), 'hidden'");
    cr_assert(until(proxy_logged(proxy, "text: (not logged)"), PATIENCE_MS));
    cr_assert_not(proxy_logged(proxy, "hidden"));
    proxy_do(proxy, "SET slow_query_sample = 0");
    int before = proxy_log_count(proxy, "slow query");
    client_do(client, "SELECT pg_sleep(0.01)");
    client_do(client, "SELECT 1");
    cr_assert_eq(proxy_log_count(proxy, "slow query"), before);
    free(many);
}

SYSTEM_TEST(monitoring, comprehensive_has_figures_of_hosts)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("comprehensive", "");

    client_do(client_open(proxy, ""), "SELECT 1");
    client_do(client_open(proxy, "user=other"), "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "STATS_HOSTS", "host",
                           text_of("127.0.0.1:%d", cluster_shared()->port), "query_count") == 2,
              PATIENCE_MS));
    cr_assert(until(proxy_rows(proxy, "STATS_USERS", "environment", "here") == 2, PATIENCE_MS));
}

SYSTEM_TEST(monitoring, security_counts_logins_by_what_became_of_them)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("comprehensive", "");
    long before;

    (void)proxy_console(proxy);
    before = proxy_figure(proxy, "SECURITY", "name", "logins_accepted", "value");
    client_do(client_open(proxy, ""), "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "SECURITY", "name", "logins_accepted", "value") == before + 1,
              PATIENCE_MS));
    cr_assert_has(client_refusal(proxy, "dbname=nowhere"), "3D000");
    cr_assert(until(proxy_figure(proxy, "SECURITY", "name", "logins_refused", "value") == 1,
                    PATIENCE_MS));
    cr_assert(until(proxy_figure(proxy, "SECURITY", "meaning", "no such database", "value") == 1,
                    PATIENCE_MS));
}

SYSTEM_TEST(monitoring, a_level_may_change_while_clients_are_connected)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = start("basic", "");
    PGconn *client = client_open(proxy, "");
    char *text = file_text(proxy->file), *place = strstr(text, "monitoring = basic");

    client_do(client, "SELECT 1");
    file_write(proxy->file, 0644,
               text_of("%.*smonitoring = standard\n%s", (int)(place - text), text,
                       place + strlen("monitoring = basic")));
    cr_assert_null(proxy_reload(proxy));
    client_do(client, "SELECT 1");
    client_do(client, "SELECT 1");
    cr_assert(until(proxy_figure(proxy, "HISTOGRAMS", "kind", "query", "count") == 2, PATIENCE_MS));
    file_write(proxy->file, 0644, text);
    cr_assert_null(proxy_reload(proxy));
    client_do(client, "SELECT 1");
    cr_assert(until(proxy_figure(proxy, "HISTOGRAMS", "kind", "query", "count") == 2, PATIENCE_MS));
}
