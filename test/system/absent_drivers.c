/*
 * absent_drivers: what drivers that test/drivers cannot run send in transaction mode, message by
 * message: Npgsql, and tokio-postgres as Prisma and sqlx-like libraries use it. It shows that the
 * sequences work, not the drivers themselves.
 *
 * There is one server; a client that kept it would stop the other one at its next message.
 */
#include "system.h"
#include "transcript.h"

SYSTEM_SUITE(absent_drivers);

/* What Npgsql sends before a connection of its pool is used again, when statements are prepared. */
static const char npgsql_reset[] =
    "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;"
    "SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP";
static const char npgsql_reset_said[] = "C[SET] C[RESET] C[CLOSE CURSOR ALL] C[UNLISTEN] T D[] "
                                        "C[SELECT 1] C[DISCARD SEQUENCES] C[DISCARD TEMP] Z[I]";

static struct proxy *start(void)
{
    return proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
}

/* Without what RowDescription and ParameterDescription hold. */
static char *shortened(char *said)
{
    char *to = said;

    for (const char *from = said; *from;) {
        bool described =
            (*from == 'T' || *from == 't') && from[1] == '[' && (from == said || from[-1] == ' ');

        *to++ = *from++;
        if (described)
            from = strchr(from, ']') + 1;
    }
    *to = 0;
    return said;
}

static void assert_said(struct wire *wire, int ready, const char *expected)
{
    char *said = shortened(transcript(wire, ready, PATIENCE_MS));

    cr_assert_str_eq(said, expected, "expected: %s\ngot:      %s", expected, said);
}

/* Bind, Describe of the portal, Execute, Sync. */
static void execute(struct wire *wire, const char *name)
{
    wire_bind(wire, "", name, NULL);
    wire_describe(wire, 'P', "");
    wire_execute(wire, "", 0);
    wire_sync(wire);
}

/* Auto-prepared statements outlive the connection's way through Npgsql's pool. */
SYSTEM_TEST(absent_drivers, npgsql_resets_a_connection_and_keeps_its_statements)
{
    struct proxy *proxy = start();
    struct wire *wires[] = {wire_client(proxy), wire_client(proxy)};

    for (int i = 0; i < 2; i++) {
        wire_parse(wires[i], "_auto0", text_of("SELECT 'client %d'", i));
        wire_describe(wires[i], 'S', "_auto0");
        execute(wires[i], "_auto0");
        assert_said(wires[i], 1, text_of("1 t T 2 T D[client %d] C[SELECT 1] Z[I]", i));
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            /* what its user left: a setting, a lock, a table, a cursor */
            wire_query(wires[i], text_of("SET work_mem = '%dMB'", 5 + i));
            assert_said(wires[i], 1, "C[SET] Z[I]");
            wire_query(wires[i], "SELECT pg_advisory_lock(42) IS NULL");
            assert_said(wires[i], 1, "T D[f] C[SELECT 1] Z[I]");
            wire_query(wires[i], "CREATE TEMP TABLE t (a int)");
            assert_said(wires[i], 1, "C[CREATE TABLE] Z[I]");
            /* the next user's first statement, in the same write */
            wire_cork(wires[i], true);
            wire_query(wires[i], npgsql_reset);
            execute(wires[i], "_auto0");
            wire_cork(wires[i], false);
            assert_said(wires[i], 2,
                        text_of("%s 2 T D[client %d] C[SELECT 1] Z[I]", npgsql_reset_said, i));
            wire_query(wires[i], "SHOW work_mem");
            assert_said(wires[i], 1, "T D[4MB] C[SHOW] Z[I]");
        }
    }
}

/* Without prepared statements it is DISCARD ALL. */
SYSTEM_TEST(absent_drivers, npgsql_discards_all_before_the_next_batch)
{
    struct proxy *proxy = start();
    struct wire *wires[] = {wire_client(proxy), wire_client(proxy)};

    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 2; i++) {
            wire_query(wires[i], text_of("SET work_mem = '%dMB'", 5 + i));
            assert_said(wires[i], 1, "C[SET] Z[I]");
            wire_cork(wires[i], true);
            wire_query(wires[i], "DISCARD ALL");
            wire_parse(wires[i], "", "SELECT current_setting('work_mem')");
            execute(wires[i], "");
            wire_cork(wires[i], false);
            assert_said(wires[i], 2, "C[DISCARD ALL] Z[I] 1 2 T D[4MB] C[SELECT 1] Z[I]");
        }
    }
}

/* Every connection of tokio-postgres counts its names from s0; it prepares and executes in batches
 * of their own, and closes what it drops. */
SYSTEM_TEST(absent_drivers, tokio_postgres_names_its_statements_alike_everywhere)
{
    struct proxy *proxy = start();
    struct wire *wires[] = {wire_client(proxy), wire_client(proxy)};

    for (int n = 0; n < 5; n++) {
        for (int i = 0; i < 2; i++) {
            wire_parse(wires[i], text_of("s%d", n), text_of("SELECT 'client %d: %d'", i, n));
            wire_describe(wires[i], 'S', text_of("s%d", n));
            wire_sync(wires[i]);
            assert_said(wires[i], 1, "1 t T Z[I]");
        }
        for (int i = 0; i < 2; i++) {
            for (int old = n / 2; old <= n; old++) {
                wire_bind(wires[i], "", text_of("s%d", old), NULL);
                wire_execute(wires[i], "", 0);
                wire_sync(wires[i]);
                assert_said(wires[i], 1, text_of("2 D[client %d: %d] C[SELECT 1] Z[I]", i, old));
            }
        }
    }
    wire_close_name(wires[0], 'S', "s4");
    wire_sync(wires[0]);
    assert_said(wires[0], 1, "3 Z[I]");
    wire_bind(wires[1], "", "s4", NULL);
    wire_execute(wires[1], "", 0);
    wire_sync(wires[1]);
    assert_said(wires[1], 1, "2 D[client 1: 4] C[SELECT 1] Z[I]");
}

/* With pgbouncer=true Prisma deallocates everything in each transaction, and begins at s0 anew. */
SYSTEM_TEST(absent_drivers, prisma_with_its_setting_for_other_poolers)
{
    struct proxy *proxy = start();
    struct wire *wires[] = {wire_client(proxy), wire_client(proxy)};

    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 2; i++) {
            wire_query(wires[i], "BEGIN");
            assert_said(wires[i], 1, "C[BEGIN] Z[T]");
            wire_query(wires[i], "DEALLOCATE ALL");
            assert_said(wires[i], 1, "C[DEALLOCATE ALL] Z[T]");
            wire_parse(wires[i], "s0", text_of("SELECT 'round %d of %d'", round, i));
            wire_describe(wires[i], 'S', "s0");
            wire_sync(wires[i]);
            assert_said(wires[i], 1, "1 t T Z[T]");
            wire_bind(wires[i], "", "s0", NULL);
            wire_execute(wires[i], "", 0);
            wire_sync(wires[i]);
            assert_said(wires[i], 1, text_of("2 D[round %d of %d] C[SELECT 1] Z[T]", round, i));
            wire_query(wires[i], "COMMIT");
            assert_said(wires[i], 1, "C[COMMIT] Z[I]");
        }
    }
}
