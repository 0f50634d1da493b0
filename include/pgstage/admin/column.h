/*
 * column: what the views of SHOW consist of. Constant; any thread.
 */
#ifndef PGSTAGE_ADMIN_COLUMN_H
#define PGSTAGE_ADMIN_COLUMN_H

#include <stddef.h>

/* The type's oid in pg_type. */
enum column_type {
    COLUMN_INT8 = 20,
    COLUMN_INT4 = 23,
    COLUMN_TEXT = 25,
    COLUMN_NUMERIC = 1700,
};

struct column {
    const char *name;
    enum column_type type;
    const char *help; /* for the reference page; NULL: the name says it */
};

/* `count` is 0 for a command without rows. */
struct columns {
    const struct column *items;
    size_t count;
};

#define COLUMN_VIEWS(X)                                                                            \
    X(procedure)                                                                                   \
    X(drill)                                                                                       \
    X(check)                                                                                       \
    X(config)                                                                                      \
    X(classes)                                                                                     \
    X(databases)                                                                                   \
    X(pools)                                                                                       \
    X(clients)                                                                                     \
    X(servers)                                                                                     \
    X(sockets)                                                                                     \
    X(users)                                                                                       \
    X(environments)                                                                                \
    X(hosts)                                                                                       \
    X(health)                                                                                      \
    X(failovers)                                                                                   \
    X(alarms)                                                                                      \
    X(fences)                                                                                      \
    X(tls)                                                                                         \
    X(lists)                                                                                       \
    X(stats)                                                                                       \
    X(stats_totals)                                                                                \
    X(stats_averages)                                                                              \
    X(totals)                                                                                      \
    X(stats_users)                                                                                 \
    X(stats_hosts)                                                                                 \
    X(histograms)                                                                                  \
    X(security)                                                                                    \
    X(pins)                                                                                        \
    X(mem)                                                                                         \
    X(state)                                                                                       \
    X(version)                                                                                     \
    X(dns_hosts)                                                                                   \
    X(dns_zones)                                                                                   \
    X(peers)                                                                                       \
    X(peer_pools)

#define COLUMN_VIEW(name) extern const struct columns columns_of_##name;
COLUMN_VIEWS(COLUMN_VIEW)
#undef COLUMN_VIEW
extern const struct columns columns_of_none;
/* SHOW CONFIG as PgBouncer has it: the first four of columns_of_config. */
extern const struct columns columns_of_config_of_pgbouncer;

#endif
