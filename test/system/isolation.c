/*
 * isolation: nothing of one client reaches another through a server that both use in turn.
 */
#include "system.h"

SYSTEM_SUITE(isolation);

/* These are not reported by PostgreSQL, so pgstage has only its own word for what a server has. */
SYSTEM_TEST(isolation, parameters_that_servers_do_not_report_stay_with_their_client)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *plain = client_open(proxy, NULL);
    PGconn *quick = client_open(proxy, "options='-c statement_timeout=61111 -c work_mem=77kB'");
    PGconn *slow = client_open(proxy, "options='-c statement_timeout=62222' application_name=slow");

    for (int round = 0; round < 3; round++) {
        cr_expect_str_eq(client_value(quick, "SHOW statement_timeout"), "61111ms");
        cr_expect_str_eq(client_value(quick, "SHOW work_mem"), "77kB");
        cr_expect_str_eq(client_value(slow, "SHOW statement_timeout"), "62222ms");
        cr_expect_str_neq(client_value(slow, "SHOW work_mem"), "77kB");
        cr_expect_str_eq(client_value(slow, "SHOW application_name"), "slow");
        cr_expect_str_eq(client_value(quick, "SHOW statement_timeout"), "61111ms");
        cr_expect_str_eq(client_value(plain, "SHOW statement_timeout"), "0");
        cr_expect_str_neq(client_value(plain, "SHOW work_mem"), "77kB");
        cr_expect_str_neq(client_value(plain, "SHOW application_name"), "slow");
    }
}

SYSTEM_TEST(isolation, a_refused_parameter_leaves_none_of_its_clients_others_behind)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *good = client_open(proxy, "options='-c statement_timeout=61111'");
    PGconn *bad = client_open(proxy, "options='-c statement_timeout=62222 -c work_mem=nonsense'");

    cr_expect_str_eq(client_value(good, "SHOW statement_timeout"), "61111ms");
    (void)client_error(bad, "SELECT 1");
    cr_expect_eq(PQstatus(bad), CONNECTION_BAD);
    cr_expect_str_eq(client_value(good, "SHOW statement_timeout"), "61111ms");
}

/* Clients that leave at any moment, also while their parameters are on the way. */
SYSTEM_TEST(isolation, parameters_of_clients_that_vanish_are_not_inherited)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *plain = client_open(proxy, NULL);

    for (int round = 0; round < 60; round++) {
        struct wire *wire = wire_open(proxy);
        struct bytes packet = startup_packet("user", "app", "database", "app", "options",
                                             "-c statement_timeout=61111", NULL);

        wire_write(wire, packet.data, packet.count);
        cr_assert_has(wire_types(wire, 'Z', PATIENCE_MS), "Z");
        wire_query(wire, "SELECT 1");
        usleep((useconds_t)(round * 10));
        wire_reset(wire);
        cr_assert_str_eq(client_value(plain, "SHOW statement_timeout"), "0");
    }
}
