/*
 * pgbench: PostgreSQL's own load through a small pool, simple and extended, without one error.
 */
#include "system.h"

SYSTEM_SUITE(pgbench);

static void run_pgbench(const char *protocol, const char *extra)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 10\n"
                                      "max_client_conn = 200\n");
    char *program = text_of("%s/pgbench", program_postgres_folder());
    char *target =
        text_of("host=127.0.0.1 port=%d user=app dbname=db2 sslmode=disable", proxy->port);
    char *init[] = {"flock",
                    text_of("%s/pgbench.lock", program_folder()),
                    "sh",
                    "-c",
                    text_of("test -e %s/pgbench.done || { %s -q -i -s 2 '%s' && touch "
                            "%s/pgbench.done; }",
                            program_folder(), program, target, program_folder()),
                    NULL};
    char *load[] = {program,
                    "-n",
                    "-c",
                    "32",
                    "-j",
                    "2",
                    "-T",
                    "5",
                    "-M",
                    text_of("%s", protocol),
                    text_of("%s", extra),
                    target,
                    NULL};
    struct process_options options = {.keep_user = true};
    char *output;

    cr_assert_eq(process_run(init, &options, &output), 0, "%s", output);
    cr_assert_eq(process_run(load, &options, &output), 0, "%s", output);
    cr_assert_has(output, "number of failed transactions: 0 ");
    cr_assert_null(strstr(output, "error"), "%s", output);
    cr_assert_leq(proxy_rows(proxy, "SERVERS", "database", "db2"), 10);
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "db2", "sv_active") == 0, PATIENCE_MS));
}

SYSTEM_TEST(pgbench, simple_queries_run_without_an_error)
{
    run_pgbench("simple", "-S");
}

SYSTEM_TEST(pgbench, extended_queries_run_without_an_error)
{
    run_pgbench("extended", "-S");
}

SYSTEM_TEST(pgbench, transactions_that_write_run_without_an_error)
{
    run_pgbench("simple", "-N");
}

SYSTEM_TEST(pgbench, extended_transactions_that_write_run_without_an_error)
{
    run_pgbench("extended", "-N");
}
