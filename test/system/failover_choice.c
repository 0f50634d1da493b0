/*
 * failover_choice: which of real servers, a primary and two standbys, serves what: each mode of
 * load_balance_hosts and of target_session_attrs.
 */
#include "failover.h"

SYSTEM_SUITE(failover_choice);

#define HELD 16

static const char DATABASES[] =
    "turns = dbname=app target_session_attrs=standby load_balance_hosts=round-robin\n"
    "least = dbname=app target_session_attrs=standby load_balance_hosts=least-connections\n"
    "chance = dbname=app target_session_attrs=standby load_balance_hosts=random\n"
    "first = dbname=app target_session_attrs=standby load_balance_hosts=disable\n"
    "any = dbname=app target_session_attrs=any\n"
    "reads = dbname=app target_session_attrs=read-only\n"
    "prefers = dbname=app target_session_attrs=prefer-standby\n";

struct sight {
    struct constellation *sky;
    struct proxy *proxy;
};

static struct sight start(void)
{
    struct constellation_options options = {.standbys = 2};
    struct sight sight = {.sky = constellation_start(&options)};

    sight.proxy =
        proxy_start("pool_mode = transaction\ndefault_environment = drill\nstate_dir = %s/state\n"
                    "server_idle_timeout = 600\n%s%s",
                    test_folder(), constellation_environment(sight.sky, ""), DATABASES);
    for (int i = 0; i < 3; i++)
        cr_assert(
            until(host_is(sight.proxy, &sight.sky->stars[i], "role", i ? "standby" : "primary"),
                  PATIENCE_MS));
    return sight;
}

/* Opens so many sessions that each need a server of their own, kept until the test's end; how many
 * of them came to each star. */
static void open_held(struct sight *sight, const char *database, int count, int *on)
{
    for (int i = 0; i < 3; i++)
        on[i] = 0;
    for (int i = 0; i < count; i++) {
        PGconn *client = client_open(sight->proxy, text_of("dbname=%s", database));

        client_do(client, "BEGIN");
        on[served_by(sight->sky, client) - sight->sky->stars]++;
    }
}

#define cr_expect_on(on, a, b, c)                                                                  \
    cr_expect((on)[0] == (a) && (on)[1] == (b) && (on)[2] == (c),                                  \
              "%d on pg1, %d on pg2, %d on pg3", (on)[0], (on)[1], (on)[2])

SYSTEM_TEST(failover_choice, each_way_to_balance)
{
    struct sight sight = start();
    int on[3];

    open_held(&sight, "first", 4, on);
    cr_expect_on(on, 0, 4, 0);
    /* the other one has none yet */
    open_held(&sight, "least", 4, on);
    cr_expect_on(on, 0, 0, 4);
    open_held(&sight, "least", 4, on);
    cr_expect_on(on, 0, 2, 2);
    open_held(&sight, "turns", 6, on);
    cr_expect_on(on, 0, 3, 3);
    open_held(&sight, "chance", HELD, on);
    cr_expect(on[0] == 0 && on[1] > 0 && on[2] > 0, "%d on pg1, %d on pg2, %d on pg3", on[0], on[1],
              on[2]);
    open_held(&sight, "any", 6, on);
    cr_expect_on(on, 2, 2, 2);
}

/* Where a new session of this database comes to; -1: it waits. */
static int lands_on(struct sight *sight, const char *database)
{
    PGconn *client = client_open(sight->proxy, text_of("dbname=%s", database));
    int star = (int)(served_by(sight->sky, client) - sight->sky->stars);

    PQfinish(client);
    return star;
}

SYSTEM_TEST(failover_choice, each_role_that_may_be_asked_for)
{
    struct sight sight = start();
    struct star *stars = sight.sky->stars;
    PGconn *waits;

    cr_expect_gt(lands_on(&sight, "reads"), 0);
    cr_expect_gt(lands_on(&sight, "prefers"), 0);
    cr_expect_gt(lands_on(&sight, "turns"), 0);
    cr_expect_eq(lands_on(&sight, "app"), 0);
    waits = client_open(sight.proxy, "dbname=reads");
    client_do(waits, "SELECT 1");
    for (int i = 1; i < 3; i++)
        cluster_end(stars[i].cluster, CLUSTER_KILL);
    for (int i = 1; i < 3; i++)
        cr_assert(until(host_is(sight.proxy, &stars[i], "health", "critical"), PATIENCE_MS));
    /* a primary will do for some, and for one only while it takes no writes by default */
    cr_expect_eq(lands_on(&sight, "prefers"), 0);
    cr_expect_eq(lands_on(&sight, "any"), 0);
    client_start(waits, "SELECT inet_server_port()");
    pause_ms(700);
    cr_expect_not(client_is_ready(waits), "read-only was served by a primary that takes writes");
    free(cluster_value(stars[0].cluster, "ALTER SYSTEM SET default_transaction_read_only = on"));
    free(cluster_value(stars[0].cluster, "SELECT pg_reload_conf()"));
    cr_expect_str_eq(client_finish(waits, PATIENCE_MS), "");
    cr_expect_eq(served_by(sight.sky, waits), &stars[0]);
    /* and back, when there is a standby again */
    cluster_again(stars[1].cluster);
    cr_expect(until(lands_on(&sight, "prefers") == 1, PATIENCE_MS));
    cr_expect(until(served_by(sight.sky, waits) == &stars[1], PATIENCE_MS));
}
