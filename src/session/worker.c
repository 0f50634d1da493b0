/*
 * worker.c: which clients and servers a worker has, and how they are found again.
 *
 * Letters and cancel keys name clients by id, never by pointer: an id is worker, generation and
 * slot, so a look-up is an array access and a slot that was given to someone else is noticed.
 *
 *     id = | worker 12 bits | generation 32 bits | slot 20 bits |
 */
#include "pgstage/session/worker.h"

#include <stdlib.h>

#include "pgstage/base/memory.h"
#include "pgstage/session/client.h"
#include "pgstage/session/server.h"

/* What was not used yet is not touched: large arrays are no memory there. */
static bool grow_slots(struct worker *worker)
{
    uint32_t capacity = worker->slot_capacity ? worker->slot_capacity * 2 : 64;

    if (capacity > WORKER_CLIENTS_MAX)
        return false;
    worker->slots = memory_resize(worker->slots, capacity, sizeof(*worker->slots));
    worker->slot_next = memory_resize(worker->slot_next, capacity, sizeof(*worker->slot_next));
    worker->slot_generation =
        memory_resize(worker->slot_generation, capacity, sizeof(*worker->slot_generation));
    worker->slot_capacity = capacity;
    return true;
}

bool worker_add_client(struct worker *worker, struct client *client)
{
    uint32_t slot;

    if (worker->slot_free) {
        slot = worker->slot_free - 1;
        worker->slot_free = worker->slot_next[slot];
    } else if (worker->slot_count < worker->slot_capacity || grow_slots(worker)) {
        slot = worker->slot_count++;
        worker->slot_generation[slot] = 1;
    } else {
        return false;
    }
    worker->slots[slot] = client;
    client->id =
        (uint64_t)worker->index << 52 | (uint64_t)worker->slot_generation[slot] << 20 | slot;
    list_push_back(&worker->clients, &client->node);
    return true;
}

void worker_remove_client(struct worker *worker, struct client *client)
{
    uint32_t slot = slot_of_id(client->id);

    worker->slots[slot] = NULL;
    worker->slot_generation[slot]++;
    worker->slot_next[slot] = worker->slot_free;
    worker->slot_free = slot + 1;
    list_remove(&worker->clients, &client->node);
}

struct client *worker_client(struct worker *worker, uint64_t id)
{
    struct client *client = worker_client_at(worker, slot_of_id(id));

    return client && client->id == id ? client : NULL;
}

struct client *worker_client_at(struct worker *worker, uint32_t slot)
{
    return slot < worker->slot_count ? worker->slots[slot] : NULL;
}

void worker_add_server(struct worker *worker, struct server *server)
{
    server->worker = worker;
    list_push_back(&worker->servers, &server->node);
    if (server->item.id)
        HASH_ADD(hh, worker->servers_by_id, item.id, sizeof(server->item.id), server);
}

void worker_remove_server(struct worker *worker, struct server *server)
{
    list_remove(&worker->servers, &server->node);
    if (server->hh.tbl)
        HASH_DELETE(hh, worker->servers_by_id, server);
    server->hh.tbl = NULL;
}

struct server *worker_server(struct worker *worker, uint64_t item_id)
{
    struct server *server;

    HASH_FIND(hh, worker->servers_by_id, &item_id, sizeof(item_id), server);
    return server;
}
