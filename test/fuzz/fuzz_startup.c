/*
 * fuzz_startup: the first bytes of a connection. What is good stays good when more bytes follow, is
 * incomplete while it is cut, and its parameters lie inside the packet. Also what is made of them:
 * keys of cancel requests, the kind of replication; and a server's word on the protocol's version.
 */
#include <string.h>

#include "pgstage/session/cancel_key.h"
#include "pgstage/session/replication.h"
#include "pgstage/wire/startup.h"
#include "promise.h"

/* Cutting is tried up to here; longer packets only differ in their padding. */
#define CUT_MAX_BYTES 256

static void walk(const uint8_t *data, const struct startup *startup)
{
    const char *end = (const char *)data + startup->total_bytes;
    const char *name, *value;
    size_t offset = 0, used = 0;
    while (startup_next(startup, &offset, &name, &value)) {
        enum replication kind;
        promise(replication_read(value, &kind) || kind == REPLICATION_NONE);
        promise(name[0] != 0);
        promise(name > (const char *)data && value > name && value < end);
        promise(value + strlen(value) < end);
        used += strlen(name) + strlen(value) + 2;
    }
    promise(used == startup->parameters_bytes);
}

/* A key that is passed on keeps its owner, and is passed on three times at most. */
static void pass_on(const struct startup *startup)
{
    struct cancel_key key;
    int hops = 0;
    if (!cancel_key_read(&key, startup->cancel_pid, startup->cancel_secret,
                         startup->cancel_secret_bytes))
        return;
    promise(key.secret_bytes == startup->cancel_secret_bytes);
    int64_t peer = cancel_key_peer(&key);
    promise(peer >= 0 && peer <= UINT16_MAX);
    while (cancel_key_hop(&key)) {
        promise(++hops <= 3);
        promise(cancel_key_peer(&key) == peer && key.pid == startup->cancel_pid);
        promise((key.secret[3] | 3) == (startup->cancel_secret[3] | 3));
    }
}

/* What a server answers to the version it was asked for. */
static void negotiate(const uint8_t *data, size_t size)
{
    for (uint32_t asked = 0; asked <= 2; asked += 2) {
        uint32_t minor;
        if (startup_negotiated(data, size, asked, &minor))
            promise(size == 8 && minor <= asked);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct startup startup, cut;
    enum startup_result result = startup_parse(data, size, &startup);
    negotiate(data, size);
    if (result == STARTUP_BAD)
        promise(startup.problem != NULL);
    if (result == STARTUP_PARTIAL)
        promise(size < 8 || startup.total_bytes > size);
    if (result != STARTUP_OK)
        return 0;
    promise(startup.total_bytes <= size && startup.total_bytes <= STARTUP_MAX_BYTES);
    if (startup.kind == STARTUP_CANCEL)
        promise(startup.cancel_secret_bytes >= 4 &&
                startup.cancel_secret_bytes <= CANCEL_KEY_MAX_BYTES &&
                startup.cancel_secret + startup.cancel_secret_bytes <= data + startup.total_bytes);
    if (startup.kind == STARTUP_CANCEL)
        pass_on(&startup);
    walk(data, &startup);
    for (size_t i = 0; i < startup.total_bytes && i < CUT_MAX_BYTES; i++)
        promise(startup_parse(data, i, &cut) == STARTUP_PARTIAL);
    promise(startup_parse(data, startup.total_bytes, &cut) == STARTUP_OK);
    return 0;
}
