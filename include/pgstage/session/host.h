/*
 * host: what the data plane knows of each server host: attempts, failures, back-off, and what the
 * control plane has said of it (its standing).
 *
 * One record for each (environment, label), kept while the process lives; the label is
 * `name[@address]:port`. A name that has several addresses has a record for each of them besides
 * its own, as its parts. Records are shared by all workers; a mutex inside each. Any thread.
 */
#ifndef PGSTAGE_SESSION_HOST_H
#define PGSTAGE_SESSION_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/base/clock.h"
#include "pgstage/conf/snapshot.h"

struct host;
struct hosts;
struct standing;

struct hosts *hosts_new(void) __attribute__((warn_unused_result));
void hosts_free(struct hosts *hosts);
/* Finds or makes the record; environment NULL: PgBouncer style. */
struct host *hosts_get(struct hosts *hosts, const char *environment,
                       const struct host_config *config);
/* The record with this label, or NULL. Control thread. */
struct host *hosts_find(struct hosts *hosts, const char *environment, const char *label);
/* Calls `each` for every record, parts included, no lock held. Control thread. */
void hosts_each(struct hosts *hosts, void (*each)(struct host *host, void *argument),
                void *argument);
/* The name of `host` has these addresses (numeric; none: it is only made known): with several each
 * is a part of its own from now on, and connections go to the parts. `gone` is called for whatever
 * stood for another address until now: a part, which is freed when nothing uses it any more, or
 * `host` itself. What is new has no standing yet. Control thread. */
void hosts_split(struct hosts *hosts, struct host *host, const char *const *addresses, size_t count,
                 void (*gone)(void *argument, struct host *part), void *argument);

const char *host_label(const struct host *host);
const char *host_name(const struct host *host);
const char *host_address_text(const struct host *host); /* after '@'; NULL: resolve the name */
const char *host_environment(const struct host *host);  /* NULL: none */
const char *host_target(const struct host *host); /* that address, else the name: what to dial */
uint16_t host_port(const struct host *host);

/* ---- choosing; whoever was given a host uses it until host_unuse ---- */

/* Gives up to `room` records that connections may go to: the parts of `host`, or itself; each is
 * used once more. Returns how many. */
size_t host_use_parts(struct host *host, struct host **parts, size_t room);
void host_use(struct host *host);
void host_unuse(struct host *host);
/* Connections that are open or being opened, and whoever else uses it at this moment. */
uint64_t host_users(const struct host *host);

/* What the control plane has said; all-zero before. Hot enough to be one atomic. */
struct standing host_standing(const struct host *host);
/* What a new connection must find there; zeros: anything. */
struct host_identity {
    uint64_t system_identifier;
    uint32_t timeline;
};
struct host_identity host_identity(const struct host *host);
/* True: it is another one than before. Control thread. */
bool host_set_standing(struct host *host, const struct standing *standing);

/* A server connection that was begun in an earlier generation is to be closed: see
 * plane_close_host. */
unsigned host_generation(const struct host *host);
void host_close_generation(struct host *host);

/* ---- attempts ---- */

/* When a connection may be tried again; 0: now. */
uint64_t host_retry_at(struct host *host);
/* The first pause, and the shortest of all: a server that refuses at once must not keep us busy. */
#define SERVER_LEAST_PAUSE_US (100 * CLOCK_MS)
/* A connection could not be made: the pause doubles from the least one up to `longest_us`. Returns
 * when to try again. */
uint64_t host_failed(struct host *host, uint64_t now_us, uint64_t longest_us, const char *problem);
/* A connection stands. */
void host_succeeded(struct host *host);
void host_connections_add(struct host *host, int change);

/* Does it only know protocol 3.0, and not how to say so? */
bool host_is_old(const struct host *host);
void host_set_old(struct host *host, bool old);

/* A login found the host in this role (in recovery or not). True when the control plane should hear
 * of it: it is news, or was told last `again_us` ago. */
bool host_saw_role(struct host *host, bool in_recovery, uint64_t now_us, uint64_t again_us);
/* … and until when logins that need the other role need not try it; 0: no login has seen the wrong
 * role lately. */
uint64_t host_misfit_until(const struct host *host, bool wants_standby);
void host_is_misfit(struct host *host, bool wants_standby, uint64_t until_us);
/* Trouble was seen; true when the control plane should hear of it (at most one letter each
 * `again_us`). */
bool host_saw_trouble(struct host *host, uint64_t now_us, uint64_t again_us);
/* Forgets back-off and misfits: somebody knows that it is well again. */
void host_forgive(struct host *host);

struct host_state {
    uint64_t connections, failures, retry_at_us;
    bool tried, is_split;
    char last_error[256];
};
void host_state(struct host *host, struct host_state *state);

#endif
