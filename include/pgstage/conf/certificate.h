/*
 * certificate: the certificates that a configuration was loaded with, for SHOW TLS and the daily
 * look at what expires. Part of a frozen snapshot; any thread.
 */
#ifndef PGSTAGE_CONF_CERTIFICATE_H
#define PGSTAGE_CONF_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/snapshot.h"

struct certificate {
    const char *file;
    const char *subject, *issuer; /* as in RFC 2253 */
    const char *names;            /* "DNS:pg1.example.com, IP:10.0.0.1"; NULL: none */
    const char *used_by;          /* "listener [pgstage], environment production" */
    bool authority;               /* of a CA file: others are checked against it */
    int64_t not_after_s;          /* seconds since 1970 */
};

/* In the order in which the configuration names them; a chain or a CA file is several. What
 * `system` stands for is not among them. */
size_t snapshot_certificate_count(const struct snapshot *snapshot);
const struct certificate *snapshot_certificate(const struct snapshot *snapshot, size_t index);
/* Whole days until it expires; negative: it has. `now_s` is the time since 1970. */
int64_t certificate_days_left(const struct certificate *certificate, int64_t now_s);
/* "2026-01-31 12:00:00 UTC"; `text` is at least 32 bytes. */
void certificate_time(int64_t when_s, char *text, size_t size);
/* The line to log when less than 14 days are left, allocated; NULL: more are. */
char *certificate_warning(const struct certificate *certificate, int64_t now_s)
    __attribute__((warn_unused_result));

#endif
