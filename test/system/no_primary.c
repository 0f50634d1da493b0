/*
 * no_primary: clients of an environment whose primary is away: they wait under
 * failover_wait_timeout, work read-only, or are refused, and are never disconnected.
 */
#include <poll.h>

#include "system.h"

#include "constellation.h"

SYSTEM_SUITE(no_primary);

static struct proxy *start_proxy(const struct cluster *cluster, const char *more)
{
    return proxy_start("pool_mode = transaction\n"
                       "[environment e]\nclass = local_development\nhosts = 127.0.0.1:%d\n"
                       "pool_size = 4\nserver_login_retry = 1\nquery_wait_timeout = 1\n%s"
                       "[databases]\napp = environment=e dbname=app\n",
                       cluster->port, more);
}

/* The primary goes, and pgstage knows. */
static void lose_primary(struct cluster *cluster, struct proxy *proxy)
{
    cluster_end(cluster, CLUSTER_KILL);
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app@e", "sv_idle") == 0, PATIENCE_MS));
}

/* "E08006 ZI": up to the next ReadyForQuery. */
static char *told(struct wire *wire)
{
    struct wire_message message;
    struct bytes words = {0};
    int64_t deadline = now_ms() + PATIENCE_MS;
    char type = 0;

    while (type != 'Z') {
        const char *word;

        if (!wire_read(wire, &message, (int)(deadline - now_ms()))) {
            bytes_add(&words, wire->ended ? "!" : "?", 1);
            break;
        }
        type = message.type;
        word = type == 'E'   ? text_of("E%s ", wire_field(&message, 'C'))
               : type == 'Z' ? text_of("Z%c", message.body[0])
                             : text_of("%c ", type);
        if (!strchr("NS", type))
            bytes_add(&words, word, strlen(word));
        free(message.body);
    }
    bytes_add(&words, "", 1);
    return (char *)words.data;
}

static void ask(struct wire *wire, bool extended)
{
    if (!extended) {
        wire_query(wire, "SELECT 1");
        return;
    }
    wire_parse(wire, "", "SELECT 1");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
}

static bool is_served(const struct proxy *proxy)
{
    PGconn *conn = client_try(proxy, NULL);
    PGresult *result = PQexec(conn, "SELECT 1");
    bool served = PQresultStatus(result) == PGRES_TUPLES_OK;

    PQclear(result);
    PQfinish(conn);
    return served;
}

/* While there is a primary. A new one may be slower than query_wait_timeout. */
static struct wire *client_of(struct proxy *proxy)
{
    cr_assert(until(is_served(proxy), PATIENCE_MS));
    struct wire *wire = wire_client(proxy);

    ask(wire, false);
    cr_assert_str_eq(told(wire), "T D C ZI");
    return wire;
}

SYSTEM_TEST(no_primary, clients_wait_longer_than_query_wait_timeout_and_are_served)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = start_proxy(cluster, "failover_wait_timeout = 60\n");
    struct wire *simple = client_of(proxy), *extended = client_of(proxy);

    lose_primary(cluster, proxy);
    ask(simple, false);
    ask(extended, true);
    pause_ms(2500); /* well over query_wait_timeout */
    cluster_again(cluster);
    cr_assert_str_eq(told(simple), "T D C ZI");
    cr_assert_str_eq(told(extended), "1 2 D C ZI");
    cr_assert(until(proxy_logged(proxy, "has no primary to connect to"), PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "has a primary again"), PATIENCE_MS));
}

SYSTEM_TEST(no_primary, an_error_ends_a_wait_and_the_connection_stays)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = start_proxy(cluster, "failover_wait_timeout = 3\n");
    struct wire *simple = client_of(proxy), *extended = client_of(proxy);
    int64_t begun;

    lose_primary(cluster, proxy);
    begun = now_ms();
    ask(simple, false);
    ask(extended, true);
    cr_assert_str_eq(told(simple), "E08006 ZI");
    cr_assert_geq(now_ms() - begun, 2900);
    cr_assert_str_eq(told(extended), "E08006 ZI");
    /* and once more: each request has its own time */
    ask(simple, true);
    cr_assert_str_eq(told(simple), "E08006 ZI");
    cluster_again(cluster);
    cr_assert(until((ask(simple, false), strcmp(told(simple), "T D C ZI") == 0), PATIENCE_MS));
    ask(extended, true);
    cr_assert_str_eq(told(extended), "1 2 D C ZI");
}

SYSTEM_TEST(no_primary, a_login_that_needs_a_server_is_told_fatal)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = start_proxy(cluster, "failover_wait_timeout = 2\n");

    cluster_end(cluster, CLUSTER_KILL);
    cr_assert_has(client_refusal(proxy, NULL), "08006");
}

SYSTEM_TEST(no_primary, with_a_primary_a_full_pool_is_still_query_wait_timeout)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy = start_proxy(cluster, "failover_wait_timeout = 60\n");
    struct wire *busy[4], *waiting = client_of(proxy);

    for (int i = 0; i < 4; i++)
        wire_query(busy[i] = client_of(proxy), "SELECT pg_sleep(200)");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app@e", "sv_active") == 4, PATIENCE_MS));
    ask(waiting, false);
    cr_assert_has(wire_error(waiting, PATIENCE_MS), "FATAL 53300");
}

SYSTEM_TEST(no_primary, an_error_at_once_where_it_is_wanted)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy =
        start_proxy(cluster, "failover_wait_timeout = 600\nno_primary_action = error\n");
    struct wire *wire = client_of(proxy);

    lose_primary(cluster, proxy);
    for (int i = 0; i < 20; i++) {
        ask(wire, i % 2);
        cr_assert_str_eq(told(wire), "E08006 ZI");
    }
    cluster_again(cluster);
    /* those that ask find out that it is back */
    cr_assert(until((ask(wire, false), strcmp(told(wire), "T D C ZI") == 0), PATIENCE_MS));
    ask(wire, true);
    cr_assert_str_eq(told(wire), "1 2 D C ZI");
}

/* How many of them have something to read. */
static int answered(struct wire **wires, int count)
{
    int answered = 0;

    for (int i = 0; i < count; i++) {
        struct pollfd look = {.fd = wires[i]->fd, .events = POLLIN};

        answered += poll(&look, 1, 0) == 1;
    }
    return answered;
}

SYSTEM_TEST(no_primary, no_more_wait_than_failover_queue_limit)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster = cluster_start(NULL);
    struct proxy *proxy =
        start_proxy(cluster, "failover_wait_timeout = 60\nfailover_queue_limit = 3\n"
                             "query_wait_notify = 0\n");
    struct wire *wires[8];
    int refused = 0, served = 0;

    for (int i = 0; i < 8; i++)
        wires[i] = client_of(proxy);
    lose_primary(cluster, proxy);
    ask(wires[0], false);
    cr_assert(until(proxy_logged(proxy, "has no primary to connect to"), PATIENCE_MS));
    for (int i = 1; i < 8; i++)
        ask(wires[i], i % 2);
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app@e", "cl_waiting") == 3, PATIENCE_MS));
    /* all have been read, whichever came first */
    cr_assert(until(answered(wires, 8) == 5, PATIENCE_MS));
    cluster_again(cluster);
    for (int i = 0; i < 8; i++) {
        char *words = told(wires[i]);

        refused += strcmp(words, "E08006 ZI") == 0;
        served += strcmp(words, "E08006 ZI") != 0;
    }
    cr_assert_eq(refused, 5);
    cr_assert_eq(served, 3);
}

SYSTEM_TEST(no_primary, read_only_works_on_a_standby_until_there_is_a_primary_again)
{
    SKIP_ON_PGBOUNCER();
    struct constellation *sky = constellation_start(&(struct constellation_options){.standbys = 2});
    struct proxy *proxy = proxy_start(
        "pool_mode = transaction\n%s",
        constellation_environment(sky, "no_primary_action = read_only\nserver_login_retry = 1\n"));
    PGconn *client = client_open(proxy, "dbname=app@drill password=appsecret"), *promoter;

    /* until a primary has been accepted, it is a standby that answers */
    cr_assert(
        until(PQresultStatus(PQexec(client, "CREATE TABLE no_primary (a int)")) == PGRES_COMMAND_OK,
              PATIENCE_MS));
    cr_assert(star_catches_up(&sky->stars[1], &sky->stars[0]));
    cr_assert(star_catches_up(&sky->stars[2], &sky->stars[0]));
    cluster_end(sky->stars[0].cluster, CLUSTER_KILL);
    /* the first ones may still meet the old server */
    cr_assert(
        until(strcmp(client_sqlstate(client, "INSERT INTO no_primary VALUES (1)"), "25006") == 0,
              PATIENCE_MS));
    cr_assert_eq(client_number(client, "SELECT count(*) FROM no_primary"), 0);
    client_do(client, "BEGIN");
    cr_assert_eq(client_number(client, "SELECT count(*) FROM no_primary"), 0);
    cr_assert_str_eq(client_sqlstate(client, "DELETE FROM no_primary"), "25006");
    client_do(client, "ROLLBACK");
    promoter = cluster_connect(sky->stars[1].cluster, "app");
    client_do(promoter, "SELECT pg_promote()");
    PQfinish(promoter);
    cr_assert(until(PQresultStatus(PQexec(client, "INSERT INTO no_primary VALUES (1)")) ==
                        PGRES_COMMAND_OK,
                    PATIENCE_MS));
    /* nobody is left on a standby */
    for (int i = 0; i < 50; i++)
        client_do(client, "INSERT INTO no_primary VALUES (1)");
}
