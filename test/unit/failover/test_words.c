/* Texts that procedures read and write: positions in the WAL, connection strings, literals. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "src/failover/conninfo.h"
#include "src/failover/lsn.h"

Test(lsn, is_read_as_postgresql_writes_it)
{
    uint64_t lsn;
    cr_assert(lsn_parse("1A/3000148", &lsn));
    cr_assert_eq(lsn, UINT64_C(0x1A03000148));
    cr_assert(lsn_parse("0/0", &lsn));
    cr_assert_eq(lsn, 0);
    static const char *const wrong[] = {"",     "/",    "1/",   "/1",          "1",
                                        "1/2 ", "x/1",  "1/-2", "-1/2",        " 1/2",
                                        "1/2/", "1/ 2", "1//2", "123456789/1", "1/123456789"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_not(lsn_parse(wrong[i], &lsn), "%s", wrong[i]);
}

Test(lsn, of_the_shutdown_is_found_in_what_demote_command_writes)
{
    cr_assert_eq(lsn_in_output("waiting for server to shut down.... done\nserver stopped\n"
                               "Latest checkpoint location:           0/5000028\n"
                               "Latest checkpoint's REDO location:    0/5000060\n"),
                 0x5000028);
    cr_assert_eq(lsn_in_output("PGSTAGE_FINAL_LSN=2/A0\n"), UINT64_C(0x2000000A0));
    cr_assert_eq(lsn_in_output(""), 0);
    cr_assert_eq(lsn_in_output("PGSTAGE_FINAL_LSN="), 0);
    cr_assert_eq(lsn_in_output("PGSTAGE_FINAL_LSN=zz\n"), 0);
    cr_assert_eq(lsn_in_output("PGSTAGE_FINAL_LSN=00000000000000000000000000000000000000/1"), 0);
}

/* The value of one parameter of a connection string; allocated. */
static char *value_of(const char *conninfo, const char *keyword)
{
    char *value = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    cr_assert_not_null(options, "not a connection string: %s", conninfo);
    for (const PQconninfoOption *option = options; option->keyword; option++) {
        if (option->val && strcmp(option->keyword, keyword) == 0)
            value = strdup(option->val);
    }
    PQconninfoFree(options);
    return value;
}

static void has(const char *conninfo, const char *keyword, const char *expected)
{
    char *value = value_of(conninfo, keyword);
    if (expected)
        cr_expect_str_eq(value ? value : "(none)", expected, "%s in %s", keyword, conninfo);
    else
        cr_expect_null(value, "%s in %s", keyword, conninfo);
    free(value);
}

Test(conninfo, another_primary_and_everything_else_as_it_was)
{
    char *moved = conninfo_move("host=pg1 hostaddr=10.0.0.1 port=5432 user=replicator "
                                "password=secret sslmode=verify-full "
                                "application_name=pg3",
                                "pg2", NULL, 5433);
    has(moved, "host", "pg2");
    has(moved, "hostaddr", NULL);
    has(moved, "port", "5433");
    has(moved, "user", "replicator");
    has(moved, "sslmode", "verify-full");
    has(moved, "application_name", "pg3");
    free(moved);
}

Test(conninfo, values_survive_their_quoting)
{
    char *moved = conninfo_move("host=pg1 password='a\\'b\\\\c d'", "pg2", "10.0.0.2", 5432);
    has(moved, "password", "a'b\\c d");
    has(moved, "hostaddr", "10.0.0.2");
    free(moved);
}

Test(conninfo, urls_are_understood_and_nonsense_is_not)
{
    char *moved =
        conninfo_move("postgresql://replicator@pg1:5432/?sslmode=require", "pg2", NULL, 1);
    has(moved, "host", "pg2");
    has(moved, "port", "1");
    has(moved, "user", "replicator");
    has(moved, "sslmode", "require");
    free(moved);
    cr_assert_null(conninfo_move("this is none", "pg2", NULL, 1));
}
