/*
 * fuzz_proxy: the header in front of a proxied connection. A good one is incomplete while it is cut
 * and the same when more bytes follow; nothing but an address of a known family is ever told.
 */
#include <string.h>

#include "pgstage/wire/proxy.h"
#include "promise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header, cut;
    enum proxy_result result = proxy_parse(data, size, &header);
    if (result == PROXY_BAD)
        promise(header.problem != NULL);
    if (result == PROXY_PARTIAL)
        promise(size < PROXY_MAX_BYTES);
    if (result != PROXY_OK)
        return 0;
    promise(header.total_bytes > 0 && header.total_bytes <= size);
    promise(header.total_bytes <= PROXY_MAX_BYTES);
    promise(!header.has_source || header.source.any.sa_family == AF_INET ||
            header.source.any.sa_family == AF_INET6);
    for (size_t i = 0; i < header.total_bytes; i++)
        promise(proxy_parse(data, i, &cut) == PROXY_PARTIAL);
    promise(proxy_parse(data, header.total_bytes, &cut) == PROXY_OK);
    promise(memcmp(&header, &cut, sizeof cut) == 0);
    return 0;
}
