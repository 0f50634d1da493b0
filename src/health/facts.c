/*
 * facts: one cheap statement that says everything about a server, on PostgreSQL 12 and later.
 *
 * What only a primary or only a standby can be asked stands in a CASE, which is evaluated at run
 * time. What the login may not see (it is no member of pg_monitor) comes as NULL and not as an
 * error. The timeline of a standby is that of its WAL receiver; without one the timeline that it
 * must reach before it may be opened, which can be older than the true one. What
 * pg_control_checkpoint() says is stale until the first checkpoint after a promotion and is not
 * asked. Rows of pg_stat_replication come in one text, with control characters between, which
 * application names cannot have.
 */
#include <stdlib.h>
#include <string.h>

#include "monitor_inside.h"
#include "pgstage/base/text.h"

#define C "pg_catalog."
#define RECOVERY C "pg_is_in_recovery()"
#define RECEIVER(what) "(SELECT " what " FROM " C "pg_stat_wal_receiver LIMIT 1)"
#define MICROSECONDS(moment)                                                                       \
    "(extract(epoch FROM " C "clock_timestamp() - " moment ") * 1000000)::bigint"
#define READS(role) C "pg_has_role('" role "', 'USAGE')"

enum fact {
    FACT_IN_RECOVERY,
    FACT_READ_ONLY,
    FACT_SEES_STATS,
    FACT_VERSION,
    FACT_SYSTEM,
    FACT_WALFILE,
    FACT_RECEIVED_TIMELINE,
    FACT_MINIMUM_TIMELINE,
    FACT_WRITTEN,
    FACT_FLUSHED,
    FACT_RECEIVED,
    FACT_REPLAYED,
    FACT_REPLAY_AGE,
    FACT_RECEIVER_PID,
    FACT_RECEIVER_STATUS,
    FACT_RECEIVER_SILENT,
    FACT_RECEIVER_TIMEOUT,
    FACT_SENDER_HOST,
    FACT_SENDER_PORT,
    FACT_REPLICA_NAME,
    FACT_CLUSTER_NAME,
    FACT_SYNC_NAMES,
    FACT_REPLICAS,
    FACT_STARTED,
    FACT_COUNT,
};

/* clang-format off */
const char facts_sql[] =
    "SELECT " RECOVERY
    ", " C "current_setting('default_transaction_read_only')"
    ", " READS("pg_read_all_stats")
    ", " C "current_setting('server_version_num')"
    ", (SELECT system_identifier FROM " C "pg_control_system())"
    ", CASE WHEN NOT " RECOVERY " THEN " C "pg_walfile_name(" C "pg_current_wal_lsn()) END"
    ", " RECEIVER("received_tli")
    ", CASE WHEN " RECOVERY " THEN (SELECT min_recovery_end_timeline FROM " C "pg_control_recovery()) END"
    ", CASE WHEN NOT " RECOVERY " THEN " C "pg_current_wal_lsn() END"
    ", CASE WHEN NOT " RECOVERY " THEN " C "pg_current_wal_flush_lsn() END"
    ", " C "pg_last_wal_receive_lsn()"
    ", " C "pg_last_wal_replay_lsn()"
    ", " MICROSECONDS(C "pg_last_xact_replay_timestamp()")
    ", " RECEIVER("pid")
    ", " RECEIVER("status")
    ", " RECEIVER(MICROSECONDS("last_msg_receipt_time"))
    ", (extract(epoch FROM " C "current_setting('wal_receiver_timeout')::interval) * 1000000)::bigint"
    ", " RECEIVER("sender_host")
    ", " RECEIVER("sender_port")
    ", CASE WHEN " RECOVERY " AND " READS("pg_read_all_settings")
    " THEN " C "substring(" C "current_setting('primary_conninfo', true),"
    " $$application_name\\s*=\\s*('(?:[^'\\\\]|\\\\.)*'|[^\\s']+)$$) END"
    ", " C "current_setting('cluster_name')"
    ", " C "current_setting('synchronous_standby_names')"
    ", CASE WHEN NOT " RECOVERY " THEN (SELECT " C "string_agg(" C "concat_ws(" C "chr(31),"
    " coalesce(application_name, ''), coalesce(" C "host(client_addr), ''),"
    " coalesce(state, ''), coalesce(sync_state, '')), " C "chr(30))"
    " FROM (SELECT * FROM " C "pg_stat_replication LIMIT 64) r) END"
    ", (extract(epoch FROM " C "pg_postmaster_start_time()) * 1000000)::bigint";
/* clang-format on */

/* ---- the answer ---- */

static uint64_t read_lsn(const char *text)
{
    char *slash = NULL;
    uint64_t high = strtoull(text, &slash, 16);

    return slash && *slash == '/' ? high << 32 | strtoull(slash + 1, NULL, 16) : 0;
}

/* The first 8 hexadecimal digits of a WAL file's name. */
static uint32_t read_timeline(const char *walfile)
{
    char digits[9] = "";

    (void)text_fit(digits, sizeof digits, walfile);
    return (uint32_t)strtoul(digits, NULL, 16);
}

/* A value of a connection string: quoted, with backslashes, or bare. */
static void unquote(char *text, size_t size, const char *value)
{
    size_t length = 0;

    if (*value != '\'') {
        (void)text_fit(text, size, value);
        return;
    }
    for (value++; *value && *value != '\'' && length + 1 < size; value++) {
        if (*value == '\\' && value[1])
            value++;
        text[length++] = *value;
    }
    text[length] = '\0';
}

static enum sync_state read_sync(const char *word)
{
    return strcmp(word, "sync") == 0        ? SYNC_SYNC
           : strcmp(word, "quorum") == 0    ? SYNC_QUORUM
           : strcmp(word, "potential") == 0 ? SYNC_POTENTIAL
           : strcmp(word, "async") == 0     ? SYNC_ASYNC
                                            : SYNC_UNKNOWN;
}

/* The next piece before `separator`; moves `*rest` behind it. */
static void take_piece(char *piece, size_t size, const char **rest, char separator)
{
    const char *end = strchr(*rest, separator);
    size_t length = end ? (size_t)(end - *rest) : strlen(*rest);
    size_t fits = length < size ? length : size - 1;

    memcpy(piece, *rest, fits);
    piece[fits] = '\0';
    *rest = end ? end + 1 : *rest + length;
}

static void read_replicas(struct facts *facts, const char *text)
{
    facts->replica_count = 0;
    while (*text && facts->replica_count < FACTS_REPLICAS_MAX) {
        struct facts_replica *replica = &facts->replicas[facts->replica_count++];
        char row[256], sync[16];
        const char *at = row;

        take_piece(row, sizeof row, &text, '\x1e');
        take_piece(replica->application_name, sizeof replica->application_name, &at, '\x1f');
        take_piece(replica->client_address, sizeof replica->client_address, &at, '\x1f');
        take_piece(replica->state, sizeof replica->state, &at, '\x1f');
        take_piece(sync, sizeof sync, &at, '\x1f');
        replica->sync = read_sync(sync);
    }
}

static void read_receiver(struct facts *facts, const char *const *of)
{
    facts->receiver_silent_us = -1;
    if (!*of[FACT_RECEIVER_PID]) {
        facts->receiver = RECEIVER_NONE;
        return;
    }
    facts->receiver = !*of[FACT_RECEIVER_STATUS]                           ? RECEIVER_UNKNOWN
                      : strcmp(of[FACT_RECEIVER_STATUS], "streaming") == 0 ? RECEIVER_STREAMING
                                                                           : RECEIVER_OTHER;
    if (*of[FACT_RECEIVER_SILENT])
        facts->receiver_silent_us = strtoll(of[FACT_RECEIVER_SILENT], NULL, 10);
    if (facts->receiver_silent_us < -1)
        facts->receiver_silent_us = 0; /* its clock was set back */
    if (*of[FACT_SENDER_HOST]) {
        char *text = text_print("%s:%s", of[FACT_SENDER_HOST], of[FACT_SENDER_PORT]);
        (void)text_fit(facts->upstream, sizeof facts->upstream, text);
        free(text);
    }
}

static void read_standby(struct facts *facts, const char *const *of)
{
    facts->lsn_received = read_lsn(of[FACT_RECEIVED]);
    facts->lsn_replayed = read_lsn(of[FACT_REPLAYED]);
    read_receiver(facts, of);
    facts->timeline = (uint32_t)strtoul(of[FACT_RECEIVED_TIMELINE], NULL, 10);
    if (!facts->timeline) {
        facts->timeline = (uint32_t)strtoul(of[FACT_MINIMUM_TIMELINE], NULL, 10);
        facts->timeline_lagging = true;
    }
    if (*of[FACT_REPLICA_NAME])
        unquote(facts->replica_name, sizeof facts->replica_name, of[FACT_REPLICA_NAME]);
    else
        (void)text_fit(facts->replica_name, sizeof facts->replica_name,
                       *of[FACT_CLUSTER_NAME] ? of[FACT_CLUSTER_NAME] : "walreceiver");
}

static void read_primary(struct facts *facts, const char *const *of)
{
    facts->lsn_written = read_lsn(of[FACT_WRITTEN]);
    facts->lsn_flushed = read_lsn(of[FACT_FLUSHED]);
    facts->timeline = read_timeline(of[FACT_WALFILE]);
    (void)text_fit(facts->sync_names, sizeof facts->sync_names, of[FACT_SYNC_NAMES]);
    read_replicas(facts, of[FACT_REPLICAS]);
}

bool facts_read(struct facts *facts, const PGresult *rows)
{
    const char *of[FACT_COUNT];

    memset(facts, 0, sizeof *facts);
    facts->replay_age_us = facts->receiver_silent_us = -1;
    if (!rows || PQntuples(rows) != 1 || PQnfields(rows) != FACT_COUNT)
        return false;
    for (int i = 0; i < FACT_COUNT; i++)
        of[i] = PQgetvalue(rows, 0, i);
    if (strcmp(of[FACT_IN_RECOVERY], "t") != 0 && strcmp(of[FACT_IN_RECOVERY], "f") != 0)
        return false;
    facts->in_recovery = of[FACT_IN_RECOVERY][0] == 't';
    facts->read_only = strcmp(of[FACT_READ_ONLY], "on") == 0;
    facts->sees_stats = of[FACT_SEES_STATS][0] == 't';
    facts->server_version = (int)strtol(of[FACT_VERSION], NULL, 10);
    facts->system_identifier = strtoull(of[FACT_SYSTEM], NULL, 10);
    facts->started_wall_us = strtoull(of[FACT_STARTED], NULL, 10);
    facts->wal_receiver_timeout_us = strtoull(of[FACT_RECEIVER_TIMEOUT], NULL, 10);
    if (*of[FACT_REPLAY_AGE])
        facts->replay_age_us = strtoll(of[FACT_REPLAY_AGE], NULL, 10);
    if (*of[FACT_REPLAY_AGE] && facts->replay_age_us < 0)
        facts->replay_age_us = 0; /* clocks differ */
    if (facts->in_recovery)
        read_standby(facts, of);
    else
        read_primary(facts, of);
    return true;
}
