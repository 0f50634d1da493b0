/*
 * accept: which host pgstage takes for the primary, before real servers: promotions by somebody
 * else, old primaries that come back, two primaries, another cluster behind an address, and what of
 * all that is still known after a restart.
 */
#include <sys/stat.h>

#include "constellation.h"
#include "system.h"

SYSTEM_SUITE(accept);

struct pair {
    struct cluster *a, *b; /* b streams from a at first */
    const char *more;      /* of the environment */
    struct proxy *proxy;
};

static const char *label(const struct cluster *cluster)
{
    return text_of("127.0.0.1:%d", cluster->port);
}

static const char *configuration(const struct pair *pair, const char *more)
{
    return text_of("pool_mode = transaction\nserver_login_retry = 1\nquery_wait_timeout = 60\n"
                   "state_dir = %s/state\ndefault_environment = e\n"
                   "[environment e]\nclass = local_development\n"
                   "hosts = 127.0.0.1:%d, 127.0.0.1:%d\nmonitor_user = watcher\n"
                   "probe_interval = 300ms\nprobe_fast_interval = 100ms\n%s%s\n"
                   "[databases]\napp = dbname=app\n",
                   test_folder(), pair->a->port, pair->b->port,
                   strstr(more, "probe_timeout") ? "" : "probe_timeout = 5\n", more);
}

static void start_proxy(struct pair *pair)
{
    pair->proxy = proxy_start("%s", configuration(pair, pair->more));
}

static struct pair make_pair(const char *more)
{
    struct pair pair = {.more = more};
    struct cluster_options options = {.name = "a", .settings = "wal_keep_size = 64MB\n"};

    pair.a = cluster_start(&options);
    cluster_value(pair.a, "CREATE ROLE watcher LOGIN");
    cluster_value(pair.a, "GRANT pg_monitor TO watcher");
    cluster_value(pair.a, "CREATE TABLE IF NOT EXISTS t (i int)");
    cluster_value(pair.a, "ALTER TABLE t OWNER TO app");
    options.name = "b";
    pair.b = cluster_standby(pair.a, &options);
    start_proxy(&pair);
    return pair;
}

/* A cell of SHOW view in the first row whose `key` is `value`; "" when there is none. */
static const char *cell(struct proxy *proxy, const char *view, const char *key, const char *value,
                        const char *column)
{
    PGresult *rows = proxy_show(proxy, view);
    const char *found = "";

    for (int i = PQntuples(rows) - 1; i >= 0; i--)
        if (strcmp(PQgetvalue(rows, i, PQfnumber(rows, key)), value) == 0)
            found = text_of("%s", PQgetvalue(rows, i, PQfnumber(rows, column)));
    PQclear(rows);
    return found;
}

static bool has_alarm(struct proxy *proxy, const char *alarm)
{
    return proxy_rows(proxy, "ALARMS", "alarm", alarm) > 0;
}

static bool is_accepted(const struct pair *pair, const struct cluster *cluster)
{
    return strcmp(cell(pair->proxy, "ENVIRONMENTS", "name", "e", "accepted_primary"),
                  label(cluster)) == 0 &&
           strcmp(cell(pair->proxy, "ENVIRONMENTS", "name", "e", "failover_state"), "ok") == 0;
}

static void wait_accepted(const struct pair *pair, const struct cluster *cluster)
{
    cr_assert(until(is_accepted(pair, cluster), PATIENCE_MS), "%s is not accepted\n%s",
              label(cluster), file_text(pair->proxy->log));
}

static void wait_alarm(const struct pair *pair, const char *alarm)
{
    cr_assert(until(has_alarm(pair->proxy, alarm), PATIENCE_MS), "no alarm %s\n%s", alarm,
              file_text(pair->proxy->log));
}

static bool is_fenced(const struct pair *pair, const struct cluster *cluster)
{
    return proxy_rows(pair->proxy, "FENCES", "host", label(cluster)) > 0;
}

/* Which server takes an INSERT of a client now. */
static int writes_to(PGconn *client)
{
    client_do(client, "INSERT INTO t VALUES (1)");
    return (int)client_number(client, "SELECT inet_server_port()");
}

/* Nothing that writes gets through: the statement waits. */
static void assert_waits(const struct pair *pair, PGconn *client)
{
    client_start(client, "INSERT INTO t VALUES (2)");
    pause_ms(700);
    cr_assert_not(client_is_ready(client), "it was written\n%s", file_text(pair->proxy->log));
}

static void restart_proxy(struct pair *pair)
{
    proxy_stop(pair->proxy);
    start_proxy(pair);
}

/* An old primary that is started again although nobody has rewound it. */
static void come_back(struct cluster *cluster)
{
    cluster_again(cluster);
}

SYSTEM_TEST(accept, a_promotion_by_somebody_else_is_followed_and_the_client_goes_on)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL), *idle = client_open(pair.proxy, NULL);

    cr_assert_eq(writes_to(client), pair.a->port);
    client_do(idle, "SELECT 1");
    cluster_end(pair.a, CLUSTER_KILL);
    cr_assert(until(proxy_rows(pair.proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    client_start(client, "INSERT INTO t VALUES (3)");
    cluster_promote(pair.b);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "", "%s", file_text(pair.proxy->log));
    cr_assert_eq(writes_to(client), pair.b->port);
    cr_assert_eq(writes_to(idle), pair.b->port);
    cr_assert_eq(cluster_number(pair.b, "SELECT count(*) FROM t WHERE i = 3"), 1);
    wait_accepted(&pair, pair.b);

    cr_assert(is_fenced(&pair, pair.a));
    cr_assert(until(proxy_rows(pair.proxy, "FAILOVERS", "result", "done") == 1, PATIENCE_MS));
    cr_assert_str_eq(cell(pair.proxy, "FAILOVERS", "result", "done", "from"), label(pair.a));
    cr_assert_str_eq(cell(pair.proxy, "FAILOVERS", "result", "done", "to"), label(pair.b));
    cr_assert_str_eq(cell(pair.proxy, "FAILOVERS", "result", "done", "type"), "automatic");
    cr_assert(proxy_figure(pair.proxy, "FAILOVERS", "result", "done", "total_ms") > 0);
    cr_assert_not(has_alarm(pair.proxy, "no_primary"));
    PQfinish(client);
    PQfinish(idle);
}

SYSTEM_TEST(accept, the_old_primary_comes_back_and_stays_fenced_over_a_restart)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    cluster_end(pair.a, CLUSTER_KILL);
    cluster_promote(pair.b);
    wait_accepted(&pair, pair.b);
    come_back(pair.a);
    wait_alarm(&pair, "two_primaries");
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.b->port);
    PQfinish(client);

    restart_proxy(&pair);
    wait_accepted(&pair, pair.b);
    cr_assert(is_fenced(&pair, pair.a));
    cr_assert_eq(proxy_rows(pair.proxy, "FAILOVERS", "result", "done"), 1, "the history is lost");
    client = client_open(pair.proxy, NULL);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(writes_to(client), pair.b->port);

    /* even when it is all there is */
    cluster_end(pair.b, CLUSTER_FAST);
    cr_assert(until(has_alarm(pair.proxy, "no_primary"), PATIENCE_MS));
    assert_waits(&pair, client);
    cluster_again(pair.b);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
    cr_assert_eq(cluster_number(pair.a, "SELECT count(*) FROM t WHERE i = 2"), 0);
    PQfinish(client);
}

SYSTEM_TEST(accept, a_former_primary_that_streams_is_let_in_again)
{
    SKIP_ON_PGBOUNCER();
    struct constellation_options options = {.standbys = 1};
    struct constellation *sky = constellation_start(&options);
    struct star *one = &sky->stars[0], *two = &sky->stars[1];
    struct proxy *proxy = proxy_start(
        "pool_mode = transaction\ndefault_environment = drill\nstate_dir = %s/state\n%s",
        test_folder(), constellation_environment(sky, ""));
    const char *first = star_host(one), *second = star_host(two);

    cr_assert(
        until(strcmp(cell(proxy, "ENVIRONMENTS", "name", "drill", "accepted_primary"), first) == 0,
              PATIENCE_MS),
        "%s", file_text(proxy->log));
    PGconn *client = client_open(proxy, "password=appsecret");
    client_do(client, "SELECT 1");
    cluster_end(one->cluster, CLUSTER_KILL);
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    cluster_promote(two->cluster);
    client_do(client, "CREATE TABLE written_after (i int)");
    cr_assert_eq(client_number(client, "SELECT inet_server_port()"), two->cluster->port);
    cr_assert_str_eq(cell(proxy, "FENCES", "host", first, "reason"), "former_primary");

    star_rejoin(sky, one, two, true);
    cr_assert(until(proxy_rows(proxy, "FENCES", "host", first) == 0, PATIENCE_MS), "%s",
              file_text(proxy->log));
    cr_assert_str_eq(cell(proxy, "ENVIRONMENTS", "name", "drill", "accepted_primary"), second);
    cr_assert_eq(client_number(client, "SELECT inet_server_port()"), two->cluster->port);
    PQfinish(client);
}

SYSTEM_TEST(accept, of_two_primaries_the_newest_takes_all)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.a->port);
    cluster_promote(pair.b); /* the old one goes on */
    wait_accepted(&pair, pair.b);
    wait_alarm(&pair, "two_primaries");
    cr_assert_eq(writes_to(client), pair.b->port);
    cr_assert(until(cluster_number(pair.a, "SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                           "'app'") == 0,
                    PATIENCE_MS),
              "a connection to the old primary is left");
    PQfinish(client);
}

SYSTEM_TEST(accept, of_two_primaries_the_accepted_one_is_kept_where_that_is_asked_for)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("two_primaries = keep\n");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    cluster_promote(pair.b);
    wait_alarm(&pair, "two_primaries");
    for (int i = 0; i < 10; i++)
        cr_assert_eq(writes_to(client), pair.a->port);
    cr_assert(until(is_fenced(&pair, pair.b), PATIENCE_MS));
    PQfinish(client);
}

SYSTEM_TEST(accept, two_primaries_stop_everything_until_an_operator_says_which)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("two_primaries = stop\n");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.a->port);
    cluster_promote(pair.b);
    cr_assert(until(
        strcmp(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "failover_state"), "stopped") == 0,
        PATIENCE_MS));
    assert_waits(&pair, client);
    restart_proxy(&pair); /* it is remembered */
    PQfinish(client);
    cr_assert(until(
        strcmp(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "failover_state"), "stopped") == 0,
        PATIENCE_MS));
    wait_alarm(&pair, "two_primaries");
    proxy_do(pair.proxy, text_of("ACCEPT e \"%s\"", label(pair.b)));
    wait_accepted(&pair, pair.b);
    cr_assert(proxy_logged(pair.proxy, text_of(": ACCEPT e %s", label(pair.b))));
    client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.b->port);
    cr_assert_eq(cluster_number(pair.a, "SELECT count(*) FROM t WHERE i = 2"), 0);
    PQfinish(client);
}

SYSTEM_TEST(accept, another_cluster_behind_the_address_gets_nothing)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.a->port);
    cluster_end(pair.a, CLUSTER_FAST);
    struct cluster_options options = {.name = "stranger", .port = pair.a->port, .stranger = true};
    struct cluster *stranger = cluster_start(&options);
    cluster_value(stranger, "CREATE ROLE watcher LOGIN");
    cluster_value(stranger, "CREATE TABLE IF NOT EXISTS t (i int)");
    cluster_value(stranger, "ALTER TABLE t OWNER TO app");
    wait_alarm(&pair, "wrong_cluster");
    assert_waits(&pair, client);
    cr_assert_eq(cluster_number(stranger, "SELECT count(*) FROM t"), 0);

    /* it is what the operator wants: a restore */
    proxy_do(pair.proxy, text_of("ACCEPT e 127.0.0.1:%d", stranger->port));
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
    cr_assert_eq(cluster_number(stranger, "SELECT count(*) FROM t"), 1);
    wait_accepted(&pair, stranger);
    PQfinish(client);
}

SYSTEM_TEST(accept, maintenance_keeps_it_from_following)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    proxy_do(pair.proxy, "MAINTENANCE e ON FOR 1h");
    cr_assert_str_neq(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "maintenance"), "no");
    cluster_end(pair.a, CLUSTER_FAST);
    cluster_promote(pair.b);
    wait_alarm(&pair, "no_primary");
    assert_waits(&pair, client);
    proxy_do(pair.proxy, "MAINTENANCE e OFF");
    /* who has done what is known afterwards */
    cr_assert(proxy_logged(pair.proxy, ": MAINTENANCE e ON FOR 1h\n"));
    cr_assert(proxy_logged(pair.proxy, ": MAINTENANCE e OFF\n"));
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
    cr_assert_eq(writes_to(client), pair.b->port);
    cr_assert_str_eq(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "maintenance"), "no");
    PQfinish(client);
}

SYSTEM_TEST(accept, a_fence_closes_every_connection_and_is_remembered)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.a->port);
    proxy_do(pair.proxy, text_of("FENCE %s", label(pair.a)));
    cr_assert_eq(proxy_rows(pair.proxy, "SERVERS", NULL, NULL), 0,
                 "FENCE has answered, and connections are left");
    cr_assert(until(cluster_number(pair.a, "SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                           "'app'") == 0,
                    PATIENCE_MS));
    cr_assert_str_eq(cell(pair.proxy, "FENCES", "host", label(pair.a), "reason"), "operator");
    cr_assert(
        until(strstr(cell(pair.proxy, "ALARMS", "alarm", "no_primary", "detail"), "is fenced"),
              PATIENCE_MS));
    PQfinish(client);
    restart_proxy(&pair);
    cr_assert(is_fenced(&pair, pair.a));
    cr_assert(until(has_alarm(pair.proxy, "no_primary"), PATIENCE_MS));
    proxy_do(pair.proxy, text_of("UNFENCE %s", label(pair.a)));
    wait_accepted(&pair, pair.a);
    client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.a->port);
    PQfinish(client);
}

static char *refusal(const struct pair *pair, const char *command)
{
    return client_error(proxy_console(pair->proxy), command);
}

SYSTEM_TEST(accept, commands_that_mean_no_host_or_several_are_refused_with_the_candidates)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    char *error = refusal(&pair, "FENCE 127.0.0.1");
    cr_assert_has(error, "42725");
    cr_assert_has(error, text_of("%s@e, %s@e", label(pair.a), label(pair.b)));
    cr_assert_has(refusal(&pair, "FENCE nowhere"), "42704");
    cr_assert_has(refusal(&pair, "UNFENCE nowhere"), "42704");
    cr_assert_has(refusal(&pair, text_of("UNFENCE %s", label(pair.a))), "is not fenced");
    cr_assert_has(refusal(&pair, "ACCEPT nowhere a"), "3D000");
    cr_assert_has(refusal(&pair, text_of("ACCEPT e %s", label(pair.b))), "it is a standby");
    cr_assert_has(refusal(&pair, "MAINTENANCE nowhere ON"), "3D000");
    cr_assert_has(refusal(&pair, "MAINTENANCE e ON FOR long"), "22023");
    cr_assert(is_accepted(&pair, pair.a));
}

static const char *state_file(void)
{
    return text_of("%s/state/failover.json", test_folder());
}

SYSTEM_TEST(accept, without_its_state_file_nothing_is_accepted_before_all_have_answered)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    cluster_end(pair.a, CLUSTER_KILL);
    cluster_promote(pair.b);
    wait_accepted(&pair, pair.b);
    come_back(pair.a); /* two primaries, of which only the file knows which is right */
    wait_alarm(&pair, "two_primaries");
    proxy_stop(pair.proxy);

    file_write(state_file(), 0600, "{ damaged");
    cluster_freeze(pair.b, true); /* the right one is slow to answer */
    pair.proxy = proxy_start("%s", configuration(&pair, "probe_timeout = 40\n"));
    wait_alarm(&pair, "state_lost");
    cr_assert_str_neq(cell(pair.proxy, "ENVIRONMENTS", "name", "e", "failover_state"), "ok",
                      "accepted without having heard of all hosts");
    cluster_freeze(pair.b, false);
    wait_accepted(&pair, pair.b);
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.b->port);
    PQfinish(client);
    struct stat seen;
    cr_assert_eq(stat(text_of("%s.damaged", state_file()), &seen), 0);
}

SYSTEM_TEST(accept, two_processes_do_not_share_a_state_dir)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    struct proxy_options options = {.wait_none = true};
    wait_accepted(&pair, pair.a);
    struct proxy *other = proxy_start_with(&options, "%s", configuration(&pair, ""));
    other->expect_failure = true;
    cr_assert_eq(proxy_wait(other, PATIENCE_MS), 1);
    cr_assert(proxy_logged(other, "in use by another process"), "%s", file_text(other->log));
}

SYSTEM_TEST(accept, it_comes_back_in_the_middle_of_an_outage_and_knows_who_was_the_primary)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    cluster_end(pair.a, CLUSTER_KILL);
    wait_alarm(&pair, "no_primary");
    proxy_stop(pair.proxy);
    cluster_promote(pair.b);
    start_proxy(&pair);
    wait_accepted(&pair, pair.b);
    cr_assert(is_fenced(&pair, pair.a));
    cr_assert_str_eq(cell(pair.proxy, "FAILOVERS", "result", "done", "from"), label(pair.a));
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.b->port);
    PQfinish(client);
}

SYSTEM_TEST(accept, everything_goes_down_and_comes_back)
{
    SKIP_ON_PGBOUNCER();
    struct pair pair = make_pair("");
    wait_accepted(&pair, pair.a);
    PGconn *client = client_open(pair.proxy, NULL);
    cr_assert_eq(writes_to(client), pair.a->port);
    cluster_end(pair.b, CLUSTER_FAST);
    cluster_end(pair.a, CLUSTER_FAST);
    wait_alarm(&pair, "no_primary");
    client_start(client, "INSERT INTO t VALUES (4)");
    cluster_again(pair.a);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "", "%s", file_text(pair.proxy->log));
    wait_accepted(&pair, pair.a);
    cr_assert_eq(proxy_rows(pair.proxy, "FAILOVERS", NULL, NULL), 0, "a restart is no failover");
    PQfinish(client);
}
