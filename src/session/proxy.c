/*
 * proxy.c: the header that a load balancer puts before the client's own bytes.
 *
 * It is looked at where it lies in the socket and taken out exactly, since what follows may be a
 * TLS handshake that OpenSSL reads by itself. Only peers in proxy_protocol_from are believed;
 * others are refused, also when they would send no header, for then somebody goes round the proxy.
 * Unix sockets of such a listener expect none: who can open them is on this machine anyway. The
 * client's worker.
 */
#include "pgstage/session/proxy.h"

#include <stdlib.h>
#include <string.h>

#include "login_inside.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/proxy.h"

/* A connection of the proxy itself (LOCAL, a health check) stays the proxy's. */
static void believe(struct client *client, const struct proxy_header *header)
{
    char text[ADDRESS_TEXT_BYTES];
    struct address source;
    socklen_t length = header->source.any.sa_family == AF_INET ? sizeof(header->source.ip4)
                                                               : sizeof(header->source.ip6);

    if (!header->has_source || !address_from(&source, &header->source.any, length))
        return;
    client_log(client, RANK_DEBUG, "is the proxy of %s", address_text(&source, text));
    free(client->address);
    client->address = address_copy(&source);
}

bool proxy_header_read(struct client *client, const struct listener_config *listener)
{
    uint8_t bytes[PROXY_MAX_BYTES];
    size_t held = client->held_bytes, wanted;
    struct proxy_header header;
    enum proxy_result result;
    ssize_t count;

    if (!listener->settings->proxy_protocol || address_is_local(&client->login->peer))
        return true;
    if (!cidr_list_holds(&listener->proxy_from, &client->login->peer.any)) {
        client_fail(client, REASON_PROXY_REFUSED, NULL);
        return false;
    }
    if (held)
        memcpy(bytes, client->held, held);
    count = stream_peek(&client->stream, bytes + held, sizeof(bytes) - held);
    if (count < 0)
        client_close(client, REASON_CLIENT_EOF);
    if (count <= 0)
        return false;
    result = proxy_parse(bytes, held + (size_t)count, &header);
    if (result == PROXY_BAD) {
        client_fail(client, REASON_PROXY_HEADER, header.problem);
        return false;
    }
    wanted = result == PROXY_OK ? header.total_bytes - held : (size_t)count;
    count = stream_read(&client->stream, bytes + held, wanted);
    if (count < 0 || (size_t)count != wanted) {
        client_close(client, REASON_CLIENT_BROKEN);
        return false;
    }
    if (result == PROXY_PARTIAL) {
        client_hold(client, bytes, held + wanted);
        return false;
    }
    client_hold(client, NULL, 0);
    believe(client, &header);
    return true;
}
