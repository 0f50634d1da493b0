/* What a host may be used for, by its report and by who was accepted. */
#include <criterion/criterion.h>

#include "pgstage/failover/standing.h"

#define Y ALLOW_YES
#define N ALLOW_NO
#define U ALLOW_UNKNOWN

Test(standing, by_role_and_acceptance)
{
    static const struct {
        const char *what;
        struct host_report report;
        /* by role, this is accepted, another is: write and standby */
        struct {
            enum allowance write, standby;
        } is[3];
    } cases[] = {
        {"unknown", {0}, {{U, U}, {Y, N}, {N, U}}},
        {"primary", {.role = ROLE_PRIMARY}, {{Y, N}, {Y, N}, {N, N}}},
        {"standby", {.role = ROLE_STANDBY}, {{N, Y}, {N, Y}, {N, Y}}},
        {"orphaned", {.role = ROLE_ORPHANED}, {{N, Y}, {N, Y}, {N, Y}}},
        {"late", {.role = ROLE_STANDBY, .lag_over = true}, {{N, N}, {N, N}, {N, N}}},
        {"seen by clients only", {.role = ROLE_STANDBY, .hearsay = true}, {{U, U}, {Y, N}, {N, U}}},
        {"a primary, before it let nobody in",
         {.role = ROLE_PRIMARY, .blind = true, .error = PROBE_AUTH},
         {{U, N}, {Y, N}, {N, N}}},
        {"of the other site", {.role = ROLE_STANDBY, .is_dr = true}, {{N, N}, {N, Y}, {N, N}}},
        {"of the other site and promoted",
         {.role = ROLE_PRIMARY, .is_dr = true},
         {{N, N}, {Y, N}, {N, N}}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int writer = WRITER_BY_ROLE; writer <= WRITER_OTHER; writer++) {
            struct standing is = standing_of(&cases[i].report, (enum standing_writer)writer, false);

            cr_assert_eq(is.write, cases[i].is[writer].write, "%s, %d: write %d", cases[i].what,
                         writer, (int)is.write);
            cr_assert_eq(is.standby, cases[i].is[writer].standby, "%s, %d: standby %d",
                         cases[i].what, writer, (int)is.standby);
            is = standing_of(&cases[i].report, (enum standing_writer)writer, true);
            cr_assert(is.write == N && is.standby == N, "%s: shut out", cases[i].what);
        }
    }
}

Test(standing, only_a_closed_breaker_lets_anybody_connect)
{
    struct host_report report = {.role = ROLE_PRIMARY};

    cr_assert(!standing_of(&report, WRITER_BY_ROLE, false).breaker_open);
    report.breaker = BREAKER_OPEN;
    cr_assert(standing_of(&report, WRITER_THIS, false).breaker_open);
    report.breaker = BREAKER_HALF_OPEN;
    cr_assert(standing_of(&report, WRITER_THIS, false).breaker_open);
}
