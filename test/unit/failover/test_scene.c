/* What is remembered of standbys from one look to the next, with the model's monitor. */
#include <stdlib.h>
#include <string.h>

#include "model_cluster.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "src/failover/scene.h"

static size_t remembered(const struct memory *memory)
{
    size_t count = 0;
    for (const struct memory_host *one = memory->first; one; one = one->next)
        count++;
    return count;
}

/* Each address of a name is a host of its own, and some names have a new one every minute. */
Test(scene, hosts_that_are_gone_are_forgotten)
{
    struct memory memory = {0};
    struct host_report *report = &world.hosts[1].report;
    world_init(1);
    world.configured = MODEL_HOSTS;
    for (unsigned i = 0; i < 50; i++) {
        char *label = text_print("b@10.0.0.%u:2", i);
        report->label = label;
        memory_refresh(&memory, NULL, "e", world.now_us);
        free(label);
    }
    cr_assert_eq(remembered(&memory), MODEL_HOSTS);
    report->label = model_labels[1];
    memory_fini(&memory);
    world_fini();
}

Test(scene, a_standby_that_has_lost_its_stream_is_remembered_while_it_is_there)
{
    struct memory memory = {0};
    world_init(1);
    world.configured = 1;
    struct host_report *report = &world.hosts[0].report;
    report->role = ROLE_STANDBY;
    report->receiver = RECEIVER_STREAMING;
    memory_refresh(&memory, NULL, "e", 1000);
    report->receiver = RECEIVER_NONE;
    memory_refresh(&memory, NULL, "e", 2000);
    memory_refresh(&memory, NULL, "e", 3000);
    cr_assert_eq(memory.first->lost_us, 2000);
    memory_fini(&memory);
    world_fini();
}

static uint64_t since_automatic(const struct snapshot *snapshot, const struct situation *situation)
{
    const struct environment_config *environment = snapshot_find_environment(snapshot, "e");
    struct memory memory = {0};
    struct scene scene;
    scene_init(&scene, NULL, &memory, environment,
               snapshot_environment_settings(snapshot, environment), situation, world.now_us);
    uint64_t since_us = scene.guarded.since_automatic_us;
    scene_fini(&scene);
    return since_us;
}

/* A wall clock that is set forward would let a second failover follow at once. */
Test(scene, the_interval_between_failovers_is_not_measured_by_the_wall_clock)
{
    static const char text[] = "[environment e]\nhosts = a:1\nmonitor_user = m\n";
    struct report report = {0};
    struct snapshot *snapshot = snapshot_parse("scene.ini", text, strlen(text), &report);
    struct situation *situation = situation_new("e");
    cr_assert_not_null(snapshot, "%s", report.count ? report.entries[0].text : "");
    world_init(1);
    cr_assert_eq(since_automatic(snapshot, situation), UINT64_MAX);
    situation->last_automatic_wall_us = world.wall_us - 5 * CLOCK_SECOND; /* a former process */
    cr_assert_eq(since_automatic(snapshot, situation), 5 * CLOCK_SECOND);
    situation->last_automatic_wall_us = world.wall_us;
    situation->last_automatic_us = world.now_us;
    world.now_us += 7 * CLOCK_SECOND;
    world.wall_us += 7200 * CLOCK_SECOND;
    cr_assert_eq(since_automatic(snapshot, situation), 7 * CLOCK_SECOND);
    situation_free(situation);
    snapshot_unref(snapshot);
    report_fini(&report);
    world_fini();
}
