/* worker: a client is found by its id as long as it is there, and by no other id. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pgstage/session/client.h"

#define CLIENTS 1000

static struct worker worker;
static struct client clients[CLIENTS];

static void begin(void)
{
    worker = (struct worker){.index = 5};
    list_init(&worker.clients);
}

static void end(void)
{
    free(worker.slots);
    free(worker.slot_next);
    free(worker.slot_generation);
}

TestSuite(worker, .init = begin, .fini = end);

Test(worker, finds_each_client_by_its_id)
{
    for (int i = 0; i < CLIENTS; i++)
        cr_assert(worker_add_client(&worker, &clients[i]));
    for (int i = 0; i < CLIENTS; i++) {
        cr_assert_eq(worker_of_id(clients[i].id), 5);
        cr_assert_eq(worker_client(&worker, clients[i].id), &clients[i]);
        cr_assert_eq(worker_client_at(&worker, slot_of_id(clients[i].id)), &clients[i]);
    }
    cr_assert_eq(worker.clients.length, CLIENTS);
    cr_assert_null(worker_client_at(&worker, CLIENTS), "there is room, but nobody yet");
    cr_assert_null(worker_client_at(&worker, UINT32_MAX));
}

Test(worker, gives_a_slot_again_under_another_id)
{
    uint64_t old[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        cr_assert(worker_add_client(&worker, &clients[i]));
        old[i] = clients[i].id;
    }
    for (int i = 0; i < CLIENTS; i += 2) {
        worker_remove_client(&worker, &clients[i]);
        cr_assert_null(worker_client(&worker, old[i]));
    }
    for (int i = 0; i < CLIENTS; i += 2)
        cr_assert(worker_add_client(&worker, &clients[i]));
    cr_assert_eq(worker.slot_count, CLIENTS, "free slots come first");
    for (int i = 0; i < CLIENTS; i++) {
        cr_assert_eq(worker_client(&worker, clients[i].id), &clients[i]);
        if (i % 2 == 0)
            cr_assert_null(worker_client(&worker, old[i]));
    }
}
