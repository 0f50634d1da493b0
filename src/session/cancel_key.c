/*
 * cancel_key.c: makes the keys of cancel requests, and finds out whose one is.
 *
 * A long key must come as a long one: else guessing the four bytes of a short one would do.
 */
#include "pgstage/session/cancel_key.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/session/client.h"
#include "pgstage/wire/message.h"

#define SECRET_SHORT_BYTES 4

static uint32_t pid_of(const struct client *client)
{
    return UINT32_C(1) << 30 | client->worker->index << 20 | slot_of_id(client->id);
}

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
    key->pid = pid_of(client);
    key->secret_bytes = SECRET_SHORT_BYTES;
    put_u32(key->secret, client->secret);
    if (client->protocol_minor < 2)
        return;
    key->secret_bytes = CANCEL_SECRET_LONG_BYTES;
    put_rest(client, key->secret + SECRET_SHORT_BYTES);
}

void cancel_key_tell(struct client *client, struct buffer *out)
{
    struct cancel_key key;

    key_of(client, &key);
    message_backend_key(out, key.pid, key.secret, key.secret_bytes);
}

bool cancel_key_read(struct cancel_key *key, uint32_t pid, const uint8_t *secret, size_t length)
{
    if (length != SECRET_SHORT_BYTES && length != CANCEL_SECRET_LONG_BYTES)
        return false;
    key->pid = pid;
    key->secret_bytes = (uint32_t)length;
    memcpy(key->secret, secret, length);
    return true;
}

bool cancel_key_worker(const struct cancel_key *key, const struct plane *plane, unsigned *worker)
{
    *worker = key->pid >> 20 & (WORKERS_MAX - 1);
    return *worker < plane->worker_count;
}

struct client *cancel_key_client(const struct cancel_key *key, struct worker *worker)
{
    struct client *client = worker_client_at(worker, key->pid & (WORKER_CLIENTS_MAX - 1));
    struct cancel_key own;

    if (!client)
        return NULL;
    key_of(client, &own);
    if (own.pid != key->pid || own.secret_bytes != key->secret_bytes ||
        CRYPTO_memcmp(own.secret, key->secret, own.secret_bytes) != 0)
        return NULL;
    return client;
}
