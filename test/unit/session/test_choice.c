/* Which role of host a pool is served by, for each target_session_attrs and standing. */
#include <criterion/criterion.h>

#include "pgstage/session/choice.h"

#define W CHOICE_WANTED
#define P CHOICE_POSSIBLE
#define F CHOICE_FALLBACK
#define N CHOICE_NONE

Test(choice, ranks)
{
    static const struct {
        const char *what;
        struct standing standing;
        /* any, read-write, read-only, primary, standby, prefer-standby */
        enum choice_rank rank[6];
    } cases[] = {
        {"nothing known", {0}, {P, P, P, P, P, P}},
        {"the primary", {.write = ALLOW_YES, .standby = ALLOW_NO}, {W, W, N, W, N, F}},
        {"a standby", {.write = ALLOW_NO, .standby = ALLOW_YES}, {W, N, W, N, W, W}},
        {"shut out, or a standby that is late",
         {.write = ALLOW_NO, .standby = ALLOW_NO},
         {N, N, N, N, N, N}},
        {"a primary that is read-only by default",
         {.write = ALLOW_YES, .standby = ALLOW_NO, .read_only = true},
         {W, W, F, W, N, F}},
        {"another is accepted, nobody can look inside this one",
         {.write = ALLOW_NO, .standby = ALLOW_UNKNOWN},
         {P, N, P, N, P, P}},
        {"accepted, nobody can look inside",
         {.write = ALLOW_YES, .standby = ALLOW_UNKNOWN},
         {W, W, P, W, P, P}},
        {"no standby, and perhaps the primary",
         {.write = ALLOW_UNKNOWN, .standby = ALLOW_NO},
         {P, P, N, P, N, F}},
    };
    static const int targets[] = {TARGET_ANY,     TARGET_READ_WRITE, TARGET_READ_ONLY,
                                  TARGET_PRIMARY, TARGET_STANDBY,    TARGET_PREFER_STANDBY};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t k = 0; k < 6; k++)
            cr_assert_eq(choice_rank(targets[k], &cases[i].standing), cases[i].rank[k],
                         "%s, target %zu: %d", cases[i].what, k,
                         (int)choice_rank(targets[k], &cases[i].standing));
}
