/*
 * The record of a failover: its steps as text, its way through the state file, a bounded history.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/failover/episode.h"

static char *steps_of(const struct episode *episode)
{
    return text_copy_n((const char *)episode->steps.data, episode->steps.length);
}

Test(episode, its_steps_read_in_order_with_their_durations_and_remarks)
{
    struct episode *episode = episode_new("production", EPISODE_AUTOMATIC, "a:1", "b:1", "seen");
    episode_step(episode, "hold", 1000000);
    episode_step(episode, "close", 1003000);
    episode_note(episode, "5 connections");
    episode_step(episode, NULL, 1015000);
    char *steps = steps_of(episode);
    cr_assert_str_eq(steps, "hold 3 ms, close (5 connections) 12 ms");
    free(steps);
    episode_free(episode);
}

Test(episode, steps_without_end_are_cut)
{
    struct episode *episode = episode_new("e", EPISODE_MANUAL, NULL, NULL, "t");
    for (int i = 0; i < 100000; i++)
        episode_step(episode, "again and again", 1);
    cr_assert(episode->steps.length <= EPISODE_STEPS_BYTES + strlen("…"));
    cr_assert(memcmp(episode->steps.data + episode->steps.length - strlen("…"), "…", strlen("…")) ==
              0);
    json_t *json = episode_to_json(episode);
    episode->id = 1;
    json_object_set_new(json, "id", json_integer(1));
    struct episode *after = episode_from_json(json);
    cr_assert(after && after->steps.length <= EPISODE_STEPS_BYTES + strlen("…"));
    json_decref(json);
    episode_free(after);
    episode_free(episode);
}

Test(episode, comes_back_from_the_state_file_as_it_was)
{
    struct episode *before = episode_new("production", EPISODE_PLANNED, "a:1", NULL, "FAILOVER");
    before->id = 12;
    before->detection_ms = 3;
    before->hold_ms = 450;
    before->total_ms = 460;
    before->clients_held = 100;
    before->result = EPISODE_FAILED;
    before->text = text_copy("the candidate did not answer");
    episode_step(before, "hold", 1);
    json_t *json = episode_to_json(before);
    struct episode *after = episode_from_json(json);
    cr_assert_not_null(after);
    cr_assert(after->id == 12 && after->type == EPISODE_PLANNED && after->result == EPISODE_FAILED);
    cr_assert(after->detection_ms == 3 && after->hold_ms == 450 && after->total_ms == 460);
    cr_assert(after->lag_bytes == -1 && after->clients_held == 100 && after->clients_errored == -1);
    cr_assert(text_equal(after->from, "a:1") && !after->to &&
              text_equal(after->text, before->text));
    char *steps = steps_of(after);
    cr_assert_str_eq(steps, "hold");
    free(steps);
    static const char *const needed[] = {"id",         "environment", "type",           "result",
                                         "started_us", "hold_ms",     "clients_errored"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        json_t *less = json_copy(json);
        json_object_del(less, needed[i]);
        cr_assert_null(episode_from_json(less), "without %s", needed[i]);
        json_decref(less);
    }
    json_decref(json);
    episode_free(before);
    episode_free(after);
}

Test(episode, the_history_keeps_the_newest)
{
    struct history history = {0};
    for (uint64_t i = 1; i <= HISTORY_MAX + 3; i++) {
        struct episode *episode = episode_new("e", EPISODE_AUTOMATIC, NULL, NULL, "t");
        episode->id = i;
        history_add(&history, episode);
    }
    cr_assert(history.count == HISTORY_MAX);
    cr_assert(history.items[0]->id == 4);
    cr_assert(history.items[HISTORY_MAX - 1]->id == HISTORY_MAX + 3);
    history_fini(&history);
}
