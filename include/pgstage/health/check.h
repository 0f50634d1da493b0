/*
 * check: connects to every host of an environment, or of a PgBouncer-style database, and says what
 * it finds, a row for each thing looked at. Behind `pgstage --check --deep` and the console's
 * CHECK.
 *
 * All hosts are looked at in parallel under one deadline (check_timeout). Changes nothing. One
 * loop's thread.
 */
#ifndef PGSTAGE_HEALTH_CHECK_H
#define PGSTAGE_HEALTH_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/snapshot.h"
#include "pgstage/net/resolver.h"
#include "pgstage/worker/loop.h"

enum check_verdict { CHECK_OK, CHECK_WARNING, CHECK_ERROR };

struct check_row {
    const char *environment; /* NULL: none; the snapshot's */
    char *host;        /* "name:port", "name:port (address)" where it has several; NULL: all */
    const char *check; /* dns, tcp, tls, login, role … ; constant */
    enum check_verdict verdict;
    char *detail;
    uint64_t duration_us; /* 0: nothing was waited for */
};

/* Zeroed is empty. */
struct check_rows {
    struct check_row *items;
    size_t count, capacity;
};

struct check;

/* The rows are the callee's only during the call; the check is over and freed after it. */
typedef void check_done(void *context, const struct check_rows *rows);

/* Begins to check what `database` and `environment` name (both NULL: everything). `done` comes
 * once, never from inside this call, soon after check_timeout at the latest. Reads the TLS files as
 * they are on the disk now. A reference of the snapshot is held meanwhile. */
struct check *check_start(struct loop *loop, struct resolver *resolver, struct snapshot *snapshot,
                          const char *database, const char *environment, check_done *done,
                          void *context) __attribute__((warn_unused_result));
/* Ends it without a call of `done`. */
void check_cancel(struct check *check);

/* "ok", "warning", "error". */
const char *check_verdict_word(enum check_verdict verdict);
size_t check_rows_count(const struct check_rows *rows, enum check_verdict verdict);
void check_rows_fini(struct check_rows *rows);
/* A new row at the end; `host` is copied, `format` makes the detail. */
void check_rows_add(struct check_rows *rows, const char *environment, const char *host,
                    const char *check, enum check_verdict verdict, uint64_t duration_us,
                    const char *format, ...) __attribute__((format(printf, 7, 8)));

#endif
