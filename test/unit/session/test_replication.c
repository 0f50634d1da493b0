/* replication: what the startup parameter means. */
#include <criterion/criterion.h>

#include "pgstage/session/replication.h"

static enum replication kind_of(const char *value)
{
    enum replication kind;

    cr_assert(replication_read(value, &kind), "%s", value);
    return kind;
}

Test(replication, reads_the_parameter_as_postgresql_reads_a_boolean)
{
    static const char *const on[] = {"1", "t", "true", "TRUE", "tr", "y", "yes", "on", "On"};
    static const char *const off[] = {"0", "f", "false", "FALS", "n", "no", "off", "of"};

    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++)
        cr_assert_eq(kind_of(on[i]), REPLICATION_PHYSICAL, "%s", on[i]);
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++)
        cr_assert_eq(kind_of(off[i]), REPLICATION_NONE, "%s", off[i]);
    cr_assert_eq(kind_of("database"), REPLICATION_LOGICAL);
}

Test(replication, refuses_what_means_nothing)
{
    static const char *const bad[] = {"",     "o",        "Database", "databases", "truely",
                                      "yess", "physical", "2",        " 1"};
    enum replication kind;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_not(replication_read(bad[i], &kind), "%s", bad[i]);
        cr_assert_eq(kind, REPLICATION_NONE);
    }
}

Test(replication, names_its_kinds_as_the_console_shows_them)
{
    cr_assert_str_eq(replication_name(REPLICATION_NONE), "none");
    cr_assert_str_eq(replication_name(REPLICATION_LOGICAL), "logical");
    cr_assert_str_eq(replication_name(REPLICATION_PHYSICAL), "physical");
}
