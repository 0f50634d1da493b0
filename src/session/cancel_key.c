/*
 * cancel_key.c: makes the keys of cancel requests, and finds out whose one is.
 *
 * A long key must come as a long one: else guessing the bytes of a short one would do. The count of
 * hops is no part of what is compared: peers that passed the request on have changed it.
 */
#include "pgstage/session/cancel_key.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/session/client.h"
#include "pgstage/wire/message.h"

#define SECRET_SHORT_BYTES 4
/* In the secret's fourth byte: how often the request may still be passed on. */
#define HOPS_MASK 3

/* A client under the random bits of its key. */
struct cancel_name {
    /* owner: the client's worker */
    uint64_t bits; /* byte 3 and the first four of the secret, the hops all set */
    uint32_t pid;
    struct client *client;
    UT_hash_handle hh; /* in worker->cancel_names */
};

/* ---- making ---- */

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* What is behind the first four bytes of a long secret. */
static void put_rest(const struct client *client, uint8_t *rest)
{
    const struct plane *plane = client->worker->plane;
    uint8_t digest[CANCEL_SECRET_LONG_BYTES];
    unsigned length = sizeof(digest);
    struct {
        uint64_t id;
        uint64_t secret;
    } what = {client->id, client->secret};

    check(HMAC(EVP_sha256(), plane->cancel_seed, sizeof(plane->cancel_seed), (const uint8_t *)&what,
               sizeof(what), digest, &length));
    memcpy(rest, digest, CANCEL_SECRET_LONG_BYTES - SECRET_SHORT_BYTES);
}

static void key_of(const struct client *client, struct cancel_key *key)
{
    const struct cancel_name *name = client->cancel_name;

    key->pid = UINT32_C(1) << 30 | client->worker->index << 20 | slot_of_id(client->id);
    put_u32(key->secret, client->secret);
    if (name) {
        key->pid = name->pid;
        put_u32(key->secret, (uint32_t)name->bits);
    }
    key->secret_bytes = SECRET_SHORT_BYTES;
    if (client->protocol_minor < 2)
        return;
    key->secret_bytes = CANCEL_SECRET_LONG_BYTES;
    put_rest(client, key->secret + SECRET_SHORT_BYTES);
}

static struct cancel_name *name_find(const struct worker *worker, uint64_t bits)
{
    struct cancel_name *name;

    HASH_FIND(hh, worker->cancel_names, &bits, sizeof(bits), name);
    return name;
}

/* A key that peers can read. Without random bytes there is none: the client then has the other
 * kind, which only this process understands. */
static void name_make(struct client *client, uint32_t peer_id)
{
    struct worker *worker = client->worker;
    struct cancel_name *name = memory_new(sizeof(*name));
    uint8_t random[5];

    do {
        if (RAND_bytes(random, sizeof(random)) != 1) {
            free(name);
            return;
        }
        name->bits = HOPS_MASK;
        for (size_t i = 0; i < sizeof(random); i++)
            name->bits |= (uint64_t)random[i] << 8 * i;
    } while (name_find(worker, name->bits));
    name->pid = worker->index << 24 | (peer_id & 0xff) << 16 | (peer_id >> 8) << 8 |
                (uint32_t)(name->bits >> 32);
    name->client = client;
    HASH_ADD(hh, worker->cancel_names, bits, sizeof(name->bits), name);
    client->cancel_name = name;
}

void cancel_key_tell(struct client *client, struct buffer *out)
{
    int64_t peer_id = snapshot_globals(client->worker->setup->snapshot)->peer_id;
    struct cancel_key key;

    if (peer_id)
        name_make(client, (uint32_t)peer_id);
    key_of(client, &key);
    message_backend_key(out, key.pid, key.secret, key.secret_bytes);
}

void cancel_key_forget(struct client *client)
{
    if (!client->cancel_name)
        return;
    HASH_DEL(client->worker->cancel_names, client->cancel_name);
    free(client->cancel_name);
    client->cancel_name = NULL;
}

/* ---- reading ---- */

bool cancel_key_read(struct cancel_key *key, uint32_t pid, const uint8_t *secret, size_t length)
{
    if (length != SECRET_SHORT_BYTES && length != CANCEL_SECRET_LONG_BYTES)
        return false;
    key->pid = pid;
    key->secret_bytes = (uint32_t)length;
    memcpy(key->secret, secret, length);
    return true;
}

int64_t cancel_key_peer(const struct cancel_key *key)
{
    return (key->pid >> 16 & 0xff) | (key->pid >> 8 & 0xff) << 8;
}

bool cancel_key_hop(struct cancel_key *key)
{
    if ((key->secret[3] & HOPS_MASK) == 0)
        return false;
    key->secret[3]--;
    return true;
}

bool cancel_key_worker(const struct cancel_key *key, const struct worker *asked, unsigned *worker)
{
    int64_t own_id = snapshot_globals(asked->setup->snapshot)->peer_id;
    bool named = own_id && cancel_key_peer(key) == own_id;

    *worker = key->pid >> 24 & (WORKERS_MAX - 1);
    if (!named || *worker >= asked->plane->worker_count) /* told before we had a number */
        *worker = key->pid >> 20 & (WORKERS_MAX - 1);
    return *worker < asked->plane->worker_count;
}

static bool is_key_of(const struct cancel_key *key, const struct client *client)
{
    struct cancel_key own, asked = *key;

    key_of(client, &own);
    if (client->cancel_name)
        asked.secret[3] |= HOPS_MASK;
    return own.pid == asked.pid && own.secret_bytes == asked.secret_bytes &&
           CRYPTO_memcmp(own.secret, asked.secret, own.secret_bytes) == 0;
}

struct client *cancel_key_client(const struct cancel_key *key, struct worker *worker)
{
    struct client *client = worker_client_at(worker, key->pid & (WORKER_CLIENTS_MAX - 1));
    uint64_t bits = (uint64_t)(key->pid & 0xff) << 32;
    const struct cancel_name *name;

    if (client && is_key_of(key, client))
        return client;
    for (int i = 0; i < 4; i++)
        bits |= (uint64_t)key->secret[i] << (24 - 8 * i);
    name = name_find(worker, bits | HOPS_MASK);
    return name && is_key_of(key, name->client) ? name->client : NULL;
}
