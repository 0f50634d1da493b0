/*
 * fuzz_startup: the first bytes of a connection. What is good stays good when more bytes follow, is
 * incomplete while it is cut, and its parameters lie inside the packet.
 */
#include <string.h>

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
        promise(name[0] != 0);
        promise(name > (const char *)data && value > name && value < end);
        promise(value + strlen(value) < end);
        used += strlen(name) + strlen(value) + 2;
    }
    promise(used == startup->parameters_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct startup startup, cut;
    enum startup_result result = startup_parse(data, size, &startup);
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
    walk(data, &startup);
    for (size_t i = 0; i < startup.total_bytes && i < CUT_MAX_BYTES; i++)
        promise(startup_parse(data, i, &cut) == STARTUP_PARTIAL);
    promise(startup_parse(data, startup.total_bytes, &cut) == STARTUP_OK);
    return 0;
}
