/*
 * What a host has taken before may be sent together with a query; nothing else.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "pgstage/session/accepted.h"
#include "pgstage/session/parameters.h"

static struct host *const one = (struct host *)1, *const two = (struct host *)2;

Test(accepted, only_what_this_host_has_taken)
{
    struct parameters *have = parameters_with(NULL, "a", "1");
    struct parameters *want = parameters_with(parameters_with(NULL, "a", "1"), "b", "2");
    struct parameters *words = parameters_with_words(NULL, "b", "2");
    struct accepted *accepted = NULL;

    cr_expect_not(accepted_all(accepted, one, have, want));
    cr_expect(accepted_all(accepted, one, want, want));
    cr_expect(accepted_all(accepted, one, want, have)); /* what is only reset need not be known */
    accepted_add(&accepted, one, want);
    cr_expect(accepted_all(accepted, one, have, want));
    cr_expect(accepted_all(accepted, one, NULL, want));
    cr_expect_not(accepted_all(accepted, two, have, want));
    cr_expect_not(accepted_all(accepted, one, have, words));
    accepted_free(accepted);
    parameters_unref(have);
    parameters_unref(want);
    parameters_unref(words);
}

Test(accepted, has_bounds)
{
    struct accepted *accepted = NULL;
    struct parameters *set = NULL;
    char value[1000];

    for (int i = 0; i < 3000; i++) {
        snprintf(value, sizeof(value), "%d", i);
        set = parameters_with(set, "a", value);
        accepted_add(&accepted, one, set);
        cr_assert(accepted_all(accepted, one, NULL, set));
    }
    set = parameters_with(set, "a", "0");
    cr_expect_not(accepted_all(accepted, one, NULL, set)); /* forgotten */
    snprintf(value, sizeof(value), "%0900d", 1);
    set = parameters_with(set, "a", value);
    accepted_add(&accepted, one, set);
    cr_expect_not(accepted_all(accepted, one, NULL, set)); /* too long to be kept */
    accepted_free(accepted);
    parameters_unref(set);
}
