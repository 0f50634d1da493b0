/*
 * host: what the data plane knows of each server host: attempts, failures, back-off.
 *
 * One record for each (environment, name, address, port), kept while the process lives. Records are
 * shared by all workers; a mutex inside each. Any thread.
 */
#ifndef PGSTAGE_SESSION_HOST_H
#define PGSTAGE_SESSION_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/conf/snapshot.h"

struct host;
struct hosts;

struct hosts *hosts_new(void) __attribute__((warn_unused_result));
void hosts_free(struct hosts *hosts);
/* Finds or makes the record; environment NULL: PgBouncer style. */
struct host *hosts_get(struct hosts *hosts, const char *environment,
                       const struct host_config *config);
/* Calls `each` for every record, no lock held. */
void hosts_each(struct hosts *hosts, void (*each)(struct host *host, void *argument),
                void *argument);

const char *host_name(const struct host *host);
const char *host_address_text(const struct host *host); /* after '@'; NULL: resolve the name */
const char *host_environment(const struct host *host);  /* NULL: none */
uint16_t host_port(const struct host *host);
bool host_is_local(const struct host *host); /* a Unix socket folder */

/* When a connection may be tried again; 0: now. */
uint64_t host_retry_at(struct host *host);
/* A connection could not be made: the pause doubles from 100 ms up to `longest_us`. Returns when to
 * try again. */
uint64_t host_failed(struct host *host, uint64_t now_us, uint64_t longest_us, const char *problem);
/* A connection stands. */
void host_succeeded(struct host *host);
void host_connections_add(struct host *host, int change);

struct host_state {
    uint64_t connections, failures, retry_at_us;
    bool tried;
    char last_error[256];
};
void host_state(struct host *host, struct host_state *state);

#endif
