/*
 * What is known of an environment survives the way through the state file, and a text that is not
 * what was written gives nothing rather than half of it.
 */
#include <criterion/criterion.h>

#include "pgstage/base/text.h"
#include "pgstage/failover/situation.h"

static struct situation *full(void)
{
    struct situation *situation = situation_new("production");
    situation_accept(situation, "pg1:5432", UINT64_C(18446744073709551000), 7, true, 1000);
    situation_fence_set(situation, "pg2:5432", FENCE_FORMER, "pg1:5432 is the primary", 2000);
    situation_fence_set(situation, "pg3@10.0.0.3:5433", FENCE_OPERATOR, "admin@127.0.0.1", 3000);
    situation_intent_set(situation, "automatic", "pg1:5432", "pg2:5432", 7, 4000);
    situation->maintenance_until_us = MAINTENANCE_UNTIL_OFF;
    situation->last_automatic_wall_us = 5000;
    return situation;
}

Test(situation, comes_back_from_the_state_file_as_it_was)
{
    struct situation *before = full();
    json_t *json = situation_to_json(before);
    struct situation *after = situation_from_json("production", json);
    cr_assert_not_null(after);
    cr_assert_str_eq(after->environment, "production");
    cr_assert_str_eq(after->accepted, "pg1:5432");
    cr_assert(after->system_identifier == before->system_identifier);
    cr_assert(after->timeline == 7 && after->dr_in_force && after->accepted_wall_us == 1000);
    cr_assert(after->maintenance_until_us == MAINTENANCE_UNTIL_OFF);
    cr_assert(after->last_automatic_wall_us == 5000);
    cr_assert(after->fence_count == 2);
    const struct fence *fence = situation_fence(after, "pg3@10.0.0.3:5433");
    cr_assert(fence && fence->kind == FENCE_OPERATOR && fence->since_wall_us == 3000);
    cr_assert_str_eq(fence->by, "admin@127.0.0.1");
    cr_assert(after->intent && after->intent->timeline == 7);
    cr_assert_str_eq(after->intent->to, "pg2:5432");
    json_decref(json);
    situation_free(before);
    situation_free(after);
}

Test(situation, of_an_environment_that_nothing_is_known_of_comes_back_too)
{
    struct situation *before = situation_new("dev");
    json_t *json = situation_to_json(before);
    struct situation *after = situation_from_json("dev", json);
    cr_assert(after && !after->accepted && !after->intent && after->fence_count == 0);
    json_decref(json);
    situation_free(before);
    situation_free(after);
}

/* Each field in turn is missing, or is something else. */
Test(situation, that_is_damaged_gives_nothing)
{
    struct situation *before = full();
    json_t *json = situation_to_json(before);
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(json, next, name, value)
    {
        json_t *less = json_copy(json), *odd = json_copy(json);
        json_object_del(less, name);
        json_object_set_new(odd, name, json_real(0.5));
        cr_assert_null(situation_from_json("production", less), "without %s", name);
        cr_assert_null(situation_from_json("production", odd), "odd %s", name);
        json_decref(less);
        json_decref(odd);
    }
    json_t *fence = json_array_get(json_object_get(json, "fences"), 0);
    json_object_set_new(fence, "kind", json_string("none"));
    cr_assert_null(situation_from_json("production", json), "a fence of no kind");
    json_decref(json);
    json_t *other = json_integer(1);
    cr_assert_null(situation_from_json("production", other));
    json_decref(other);
    situation_free(before);
}

Test(situation, the_operator_s_fence_is_not_taken_over_by_another_reason)
{
    struct situation *situation = situation_new("e");
    cr_assert(situation_fence_set(situation, "a:1", FENCE_OPERATOR, "admin", 1));
    cr_assert_not(situation_fence_set(situation, "a:1", FENCE_FORMER, "x", 2));
    cr_assert(situation_fence(situation, "a:1")->kind == FENCE_OPERATOR);
    cr_assert(situation_fence_set(situation, "b:1", FENCE_FORMER, "x", 2));
    cr_assert(situation_fence_set(situation, "b:1", FENCE_OPERATOR, "admin", 3));
    cr_assert(situation_fence_clear(situation, "a:1"));
    cr_assert_not(situation_fence_clear(situation, "a:1"));
    cr_assert(situation_fence(situation, "b:1")->kind == FENCE_OPERATOR);
    situation_free(situation);
}

Test(situation, an_accepted_host_is_fenced_no_more_and_the_intent_is_fulfilled)
{
    struct situation *situation = full();
    situation_accept(situation, "pg2:5432", 9, 8, false, 6000);
    cr_assert_null(situation_fence(situation, "pg2:5432"));
    cr_assert_null(situation->intent);
    cr_assert_not(situation->dr_in_force);
    /* also by its own text */
    situation_accept(situation, situation->accepted, 9, 9, false, 7000);
    cr_assert_str_eq(situation->accepted, "pg2:5432");
    situation_free(situation);
}

Test(situation, maintenance_ends_by_itself_only_when_it_was_given_an_end)
{
    struct situation *situation = situation_new("e");
    cr_assert_not(situation_in_maintenance(situation, 100));
    situation->maintenance_until_us = 7000; /* the wall clock's: it does not count */
    situation->maintenance_due_us = 100;
    cr_assert(situation_in_maintenance(situation, 99));
    cr_assert_not(situation_in_maintenance(situation, 100));
    situation->maintenance_until_us = MAINTENANCE_UNTIL_OFF;
    cr_assert(situation_in_maintenance(situation, UINT64_MAX - 1));
    situation_free(situation);
}
