/*
 * host: reading lists of `name[@address][:port]`. Pure; any thread.
 *
 * An IPv6 address stands in brackets when a port follows (`[::1]:5432`); alone it needs none. A
 * name that begins with '/' is the folder of a Unix socket, one that begins with '@' an abstract
 * socket.
 */
#ifndef PGSTAGE_CONF_HOST_H
#define PGSTAGE_CONF_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/arena.h"
#include "pgstage/conf/snapshot.h"

/*
 * Reads a list with commas into `*hosts` of `*count`, both made in `arena`; `port` is for those
 * that name none. False and `problem` (cut to `size`) at the first entry that is wrong.
 */
bool host_list_parse(struct arena *arena, const char *text, uint16_t port,
                     const struct host_config **hosts, size_t *count, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* What the file of a Unix socket is called in its folder, before the port. */
#define SOCKET_FILE "/.s.PGSQL."
#define SOCKET_PATH_MAX_BYTES 107 /* the kernel's bound, less the NUL */
/* Words for one that is longer: with its folder, port and SOCKET_PATH_MAX_BYTES. */
#define SOCKET_TOO_LONG "the path %.300s" SOCKET_FILE "%u is longer than %d bytes"
/* Is the path of the socket in this folder short enough? */
bool socket_folder_fits(const char *folder, uint16_t port);
/* A Unix socket rather than a host on the network? */
bool host_is_socket(const struct host_config *host);
/*
 * One spelling of a name, an address or a socket's folder, for comparing; allocated. Numeric
 * addresses in every form that connects (`010.3`, `::ffff:10.0.0.3`) are the usual one, `localhost`
 * and the addresses that mean it are loopback's; names are in lower case without the last dot.
 * `links`: symbolic links of a folder are followed (looks at the disk).
 */
char *host_canonical(const char *name, bool links) __attribute__((warn_unused_result));
/* Is it `localhost` or a literal address of the loopback? Names are not resolved. */
bool host_name_is_loopback(const char *name);
/* `name[@address]:port` as host_list_parse reads it, allocated. */
char *host_print(const struct host_config *host) __attribute__((warn_unused_result));
bool host_lists_equal(const struct host_config *a, size_t a_count, const struct host_config *b,
                      size_t b_count);

#endif
