/* What is remembered of standbys from one look to the next, with the model's monitor. */
#include <stdlib.h>

#include "model_cluster.h"
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
