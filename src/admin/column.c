/*
 * column: the columns of every view, with their types.
 *
 * PgBouncer's names, types and order come first: exporters and scripts count on them, some by
 * position. What pgstage adds goes last. A view's function fills exactly these columns (result_end
 * checks it), and Describe and the reference page read them without running anything.
 */
#include "pgstage/admin/column.h"

#define TEXT(name, help)                                                                           \
    {                                                                                              \
        name, COLUMN_TEXT, help                                                                    \
    }
#define INT4(name, help)                                                                           \
    {                                                                                              \
        name, COLUMN_INT4, help                                                                    \
    }
#define INT8(name, help)                                                                           \
    {                                                                                              \
        name, COLUMN_INT8, help                                                                    \
    }
#define NUMERIC(name, help)                                                                        \
    {                                                                                              \
        name, COLUMN_NUMERIC, help                                                                 \
    }

#define VIEW(name)                                                                                 \
    const struct columns columns_of_##name = {name##_columns,                                      \
                                              sizeof name##_columns / sizeof name##_columns[0]};

const struct columns columns_of_none = {NULL, 0};

static const struct column config_columns[] = {
    TEXT("key", "the option"),
    TEXT("value", "in force"),
    TEXT("default", NULL),
    TEXT("changeable", "yes: a reload or SET changes it; no: a restart is needed"),
    TEXT("origin", "file:line, variable, class or SET that the value comes from"),
    TEXT("pending", "the value that waits for a restart; empty: none does"),
    TEXT("rule", "the rule of the production classes that it stands under"),
};
VIEW(config)
const struct columns columns_of_config_of_pgbouncer = {config_columns, 4};

static const struct column classes_columns[] = {
    TEXT("name", NULL),
    TEXT("production_class", "yes: the rules of production hold"),
    TEXT("purpose", NULL),
    INT4("pool_size", NULL),
    INT4("min_pool_size", NULL),
    TEXT("query_wait_timeout", NULL),
    TEXT("server_idle_timeout", NULL),
    TEXT("idle_transaction_timeout", "empty: nothing is preset"),
    TEXT("server_tls_sslmode", NULL),
    TEXT("client_tls_sslmode", NULL),
    TEXT("statement_timeout", "empty: nothing is preset"),
    TEXT("monitoring", NULL),
    TEXT("log_level", NULL),
    TEXT("failover_mode", NULL),
    TEXT("environments", "those of this class, with commas between"),
};
VIEW(classes)

static const struct column databases_columns[] = {
    TEXT("name", "what a client asks for; database@environment where an environment serves it"),
    TEXT("host", "the hosts; empty: the Unix socket"),
    INT4("port", "of the first host"),
    TEXT("database", "the server's name for it"),
    TEXT("force_user", "the user that every server connection logs in as"),
    INT4("pool_size", NULL),
    INT4("min_pool_size", NULL),
    INT4("reserve_pool_size", NULL),
    INT4("server_lifetime", "seconds"),
    TEXT("pool_mode", NULL),
    TEXT("load_balance_hosts", "empty with a single host"),
    INT4("max_connections", "limit on servers; 0: none"),
    INT4("current_connections", "servers"),
    INT4("max_client_connections", "limit on clients; 0: none"),
    INT4("current_client_connections", "clients"),
    INT4("paused", "1: PAUSE or KILL is in force"),
    INT4("disabled", "1: DISABLE is in force"),
    TEXT("environment", NULL),
};
VIEW(databases)

static const struct column pools_columns[] = {
    TEXT("database", "database@environment where an environment serves it"),
    TEXT("user", "the login on the server"),
    INT4("cl_active", "clients that have a server or need none"),
    INT4("cl_waiting", "clients that wait for a server"),
    INT4("cl_active_cancel_req", "cancel requests passed on"),
    INT4("cl_waiting_cancel_req", "cancel requests that wait"),
    INT4("sv_active", "servers that have a client"),
    INT4("sv_active_cancel", "servers that pass a cancel request on"),
    INT4("sv_being_canceled", "free servers that a cancel request may still hit"),
    INT4("sv_idle", "servers that can be lent at once"),
    INT4("sv_used", "idle for longer than server_check_delay: checked before they are lent"),
    INT4("sv_tested", "servers that are being checked or reset"),
    INT4("sv_login", "servers that are connecting"),
    INT4("maxwait", "longest present wait, whole seconds"),
    INT4("maxwait_us", "and the microseconds of it"),
    TEXT("pool_mode", NULL),
    TEXT("load_balance_hosts", "empty with a single host"),
    TEXT("environment", NULL),
    INT4("paused", "1: PAUSE or KILL is in force"),
    TEXT("login_error", "SQLSTATE and text, when the last login on a server was refused"),
};
VIEW(pools)

#define SOCKET_COLUMNS                                                                             \
    TEXT("type", "C client, S server"), TEXT("user", NULL),                                        \
        TEXT("database", "database@environment where an environment serves it"),                   \
        TEXT("replication", "none, logical or physical"), TEXT("state", NULL),                     \
        TEXT("addr", "the peer's address"), INT4("port", "the peer's port"),                       \
        TEXT("local_addr", NULL), INT4("local_port", NULL), TEXT("connect_time", NULL),            \
        TEXT("request_time", "of the latest query"), INT4("wait", "present wait, whole seconds"),  \
        INT4("wait_us", "and the microseconds of it"),                                             \
        INT4("close_needed", "1: closed as soon as it is free"), TEXT("ptr", "unique address"),    \
        TEXT("link", "the address of the client or server at the other side"),                     \
        INT4("remote_pid", "the server's process id"), TEXT("tls", "protocol and cipher"),         \
        TEXT("application_name", NULL), INT4("prepared_statements", NULL),                         \
        INT8("id", "unique while pgstage runs")
#define SOCKET_COLUMNS_ADDED                                                                       \
    TEXT("environment", NULL), TEXT("host", "the host's name in the configuration"),               \
        INT4("worker", "the thread that serves it")

static const struct column clients_columns[] = {
    SOCKET_COLUMNS,
    SOCKET_COLUMNS_ADDED,
    TEXT("pinned",
         "why it keeps its server between transactions (see SHOW PINS); empty: it does not"),
    TEXT("protocol", "3.0 or 3.2"),
};
VIEW(clients)

static const struct column servers_columns[] = {
    SOCKET_COLUMNS,
    SOCKET_COLUMNS_ADDED,
    TEXT("protocol", "3.0 or 3.2: the version that the server took"),
};
VIEW(servers)

static const struct column sockets_columns[] = {
    SOCKET_COLUMNS,
    INT4("recv_pos", "always 0: an idle connection owns no buffer"),
    INT4("pkt_pos", "always 0"),
    INT4("pkt_remain", "always 0"),
    INT4("send_pos", "always 0"),
    INT4("send_remain", "always 0"),
    INT4("pkt_avail", "received bytes that wait to be passed on"),
    INT4("send_avail", "bytes that wait for the peer to read"),
    SOCKET_COLUMNS_ADDED,
};
VIEW(sockets)

static const struct column users_columns[] = {
    TEXT("name", NULL),
    TEXT("pool_size", "empty: the database's"),
    TEXT("reserve_pool_size", "empty: the database's"),
    TEXT("pool_mode", "empty: the database's"),
    INT4("max_user_connections", "limit on servers; 0: none"),
    INT4("current_connections", "servers"),
    INT4("max_user_client_connections", "limit on clients; 0: none"),
    INT4("current_client_connections", "clients"),
    TEXT("source",
         "auth_file, auth_query (found by it since the start), or users: only its line there"),
};
VIEW(users)

static const struct column environments_columns[] = {
    TEXT("name", NULL),
    TEXT("class", NULL),
    TEXT("production_class", "yes: the rules of production hold"),
    TEXT("hosts", NULL),
    TEXT("dr_hosts", NULL),
    TEXT("server_tls_sslmode", NULL),
    TEXT("client_tls_sslmode", NULL),
    INT4("pool_size", NULL),
    INT4("max_connections", "limit on servers; 0: none"),
    INT4("current_connections", "servers"),
    INT4("max_client_connections", "limit on clients; 0: none"),
    INT4("current_client_connections", "clients"),
    TEXT("default", "yes: it serves databases for which nothing else decides"),
    TEXT("expires_at", "when logins end and pools are drained; none: never"),
    TEXT("state", "active, paused or expired"),
    INT4("hosts_up", "hosts that are healthy or warning"),
    INT4("hosts_total", "hosts of its cluster, each address of a name; dr_hosts are not counted"),
    INT4("pools", NULL),
    TEXT("primary", "hosts that are up and take writes, with commas between"),
    TEXT("accepted_primary", "the one host that writes go to; empty: none so far"),
    TEXT("failover_mode", NULL),
    TEXT("failover_state",
         "ok, no_primary, switching, failover, stopped, starting, unverified, unwatched"),
    INT8("timeline", "of the accepted primary"),
    TEXT("system_identifier", "of the cluster; other ones are refused"),
    TEXT("maintenance", "no; yes; or until when no automatic action is taken"),
};
VIEW(environments)

static const struct column hosts_columns[] = {
    TEXT("environment", NULL),
    TEXT("host", "the name in the configuration"),
    TEXT("address", NULL),
    INT4("port", NULL),
    TEXT("state", "up, down (attempts are held back for a while) or unknown"),
    INT8("connections", "server connections"),
    INT8("failures", "attempts that failed since the last good one"),
    TEXT("last_error", NULL),
    INT8("retry_in_ms", "until the next attempt"),
    TEXT("role", "primary, standby, orphaned (a standby that follows nobody) or unknown"),
    TEXT("health", "healthy, warning, critical (down) or unknown, as the probes find it"),
    TEXT("breaker", "closed; open: nobody connects; half_open: only probes do"),
    INT8("lag_bytes", "that a standby is behind the primary"),
    INT8("lag_ms", "0 when it has all there is"),
    INT8("latency_us", "of the last good probe"),
    INT8("timeline", NULL),
    TEXT("system_identifier", NULL),
    TEXT("since", "when its health became what it is; empty: at the start"),
    INT8("next_probe_ms", "until the next probe; empty: one is under way, or none is made"),
    TEXT("label", "the host's name in commands and in the log"),
    TEXT("dr", "yes: one of dr_hosts"),
    TEXT("accepted", "yes: it is the accepted primary of its environment"),
    TEXT("fence", "why nothing is sent to it; empty: it is not fenced"),
};
VIEW(hosts)

static const struct column health_columns[] = {
    TEXT("environment", NULL),
    TEXT("host", "the host's label: name[@address]:port"),
    TEXT("health", "healthy, warning, critical (down) or unknown"),
    TEXT("role", "primary, standby, orphaned or unknown; of a host that is down: its last one"),
    TEXT("breaker", "closed, open or half_open"),
    TEXT("since", "of its health; empty: since the start"),
    TEXT("role_since", NULL),
    TEXT("login", "whom probes log in as: monitor_user, user (forced), or a handshake only"),
    INT8("good", "probes in a row that found it alive"),
    INT8("bad", "probes in a row that found it dead"),
    INT8("latency_us", "of the last good probe"),
    TEXT("last_probe", NULL),
    INT8("next_probe_ms", "empty: one is under way, or none is made"),
    TEXT("error", "what kind of failure the last probe met; empty: none"),
    TEXT("sqlstate", NULL),
    TEXT("last_error", NULL),
    INT4("server_version", "as server_version_num"),
    INT8("timeline", NULL),
    TEXT("system_identifier", NULL),
    TEXT("lsn", "a primary's flushed position"),
    TEXT("received_lsn", "a standby's"),
    TEXT("replayed_lsn", "a standby's"),
    INT8("lag_bytes", "behind the primary as last seen"),
    INT8("lag_ms", "0 when it has all there is"),
    TEXT("receiver", "a standby's WAL receiver: streaming, not streaming, none; unknown: "
                     "monitor_user is no member of pg_monitor"),
    INT8("receiver_silent_ms", "since the last message from upstream"),
    INT8("wal_receiver_timeout_ms", NULL),
    TEXT("upstream", "whom a standby follows"),
    TEXT("replica_name", "the application_name by which its upstream knows a standby"),
    TEXT("sync_state", "what the primary says of a standby: sync, quorum, potential or async"),
    TEXT("synchronous_standby_names", "a primary's"),
};
VIEW(health)

static const struct column failovers_columns[] = {
    INT8("id", NULL),
    TEXT("environment", NULL),
    TEXT("type", "automatic, manual, planned or emergency"),
    TEXT("from", "the primary before; empty: none"),
    TEXT("to", "the primary afterwards"),
    TEXT("trigger", "what it began with"),
    TEXT("started", NULL),
    INT8("detection_ms", "from the last sign of life of the old primary to the decision"),
    INT8("hold_ms", "how long new transactions that write were held"),
    INT8("total_ms", "from the last sign of life, or the command, until clients went on"),
    INT8("lag_bytes", "what the new primary lacked, as far as it was known"),
    INT8("clients_held", "clients that had to wait"),
    INT8("clients_errored", "clients that lost a transaction or their connection"),
    TEXT("steps", "what was done, with durations"),
    TEXT("result", "running, done, failed, aborted, or broken (pgstage ended in the middle)"),
    TEXT("detail", "why it failed"),
};
VIEW(failovers)

static const struct column alarms_columns[] = {
    TEXT("environment", "empty: pgstage itself"),
    TEXT("host", NULL),
    TEXT("alarm", NULL),
    TEXT("since", NULL),
    TEXT("detail", NULL),
    TEXT("help", "what it means and what to do"),
};
VIEW(alarms)

static const struct column fences_columns[] = {
    TEXT("environment", NULL),
    TEXT("host", NULL),
    TEXT("reason", "former_primary, contender, failover or operator"),
    TEXT("by", "what led to it, or who asked for it"),
    TEXT("since", NULL),
};
VIEW(fences)

static const struct column tls_columns[] = {
    TEXT("subject", NULL),
    TEXT("names", "the names and addresses that it is valid for"),
    TEXT("issuer", NULL),
    TEXT("not_after", "when it expires"),
    INT4("days_left", "whole days; negative: it has expired"),
    TEXT("used_by", "listeners, environments and databases that name its file"),
    TEXT("authority", "yes: others are checked against it"),
    TEXT("file", NULL),
};
VIEW(tls)

static const struct column check_columns[] = {
    TEXT("environment", "empty: a database without one"),
    TEXT("host", "name:port, with the address where the name has several; empty: all hosts"),
    TEXT("check", "what was looked at: dns, tcp, tls, login, role …"),
    TEXT("result", "ok, warning or error"),
    TEXT("detail", NULL),
    INT8("duration_us",
         "microseconds that were waited for it; empty: it took no answer of its own"),
};
VIEW(check)

static const struct column procedure_columns[] = {
    TEXT("item", "candidate, guard, step, way back or estimate"),
    TEXT("name", NULL),
    TEXT("result",
         "of a guard: ok, refused, not asked; of a step: done, or in DRY RUN its deadline"),
    TEXT("detail", NULL),
    INT8("duration_ms", "of a step that was done"),
};
VIEW(procedure)

static const struct column drill_columns[] = {
    TEXT("check", "reachable, role, identity, streaming, lag, failover_user, grants, login, rpo, "
                  "rto, ready …"),
    TEXT("host", "empty: all of them"),
    TEXT("result", "ok, warning or error"),
    TEXT("detail", NULL),
    INT8("duration_ms", "what it took, or would take"),
};
VIEW(drill)

static const struct column lists_columns[] = {
    TEXT("list", NULL),
    INT4("items", NULL),
};
VIEW(lists)

static const struct column stats_columns[] = {
    TEXT("database", "database@environment where an environment serves it"),
    NUMERIC("total_server_assignment_count", "times a server was lent to a client"),
    NUMERIC("total_xact_count", "transactions"),
    NUMERIC("total_query_count", "queries"),
    NUMERIC("total_received", "bytes from clients"),
    NUMERIC("total_sent", "bytes to clients"),
    NUMERIC("total_xact_time", "microseconds in transactions"),
    NUMERIC("total_query_time", "microseconds in queries"),
    NUMERIC("total_wait_time", "microseconds that clients waited for a server"),
    NUMERIC("total_client_parse_count", "named Parse messages from clients"),
    NUMERIC("total_server_parse_count", "named Parse messages to servers"),
    NUMERIC("total_bind_count", "Bind messages from clients"),
    NUMERIC("total_client_login_count", "logins of clients"),
    NUMERIC("avg_server_assignment_count", "per second"),
    NUMERIC("avg_xact_count", "per second"),
    NUMERIC("avg_query_count", "per second"),
    NUMERIC("avg_recv", "bytes per second"),
    NUMERIC("avg_sent", "bytes per second"),
    NUMERIC("avg_xact_time", "microseconds per transaction"),
    NUMERIC("avg_query_time", "microseconds per query"),
    NUMERIC("avg_wait_time", "microseconds per server assignment"),
    NUMERIC("avg_client_parse_count", "per second"),
    NUMERIC("avg_server_parse_count", "per second"),
    NUMERIC("avg_bind_count", "per second"),
    NUMERIC("avg_client_login_count", "per second"),
};
VIEW(stats)

static const struct column stats_totals_columns[] = {
    TEXT("database", "database@environment where an environment serves it"),
    NUMERIC("server_assignment_count", NULL),
    NUMERIC("xact_count", NULL),
    NUMERIC("query_count", NULL),
    NUMERIC("bytes_received", NULL),
    NUMERIC("bytes_sent", NULL),
    NUMERIC("xact_time", "microseconds"),
    NUMERIC("query_time", "microseconds"),
    NUMERIC("wait_time", "microseconds"),
    NUMERIC("client_parse_count", NULL),
    NUMERIC("server_parse_count", NULL),
    NUMERIC("bind_count", NULL),
    NUMERIC("client_login_count", NULL),
};
VIEW(stats_totals)

static const struct column stats_averages_columns[] = {
    TEXT("database", "database@environment where an environment serves it"),
    NUMERIC("server_assignment_count", "per second"),
    NUMERIC("xact_count", "per second"),
    NUMERIC("query_count", "per second"),
    NUMERIC("bytes_received", "per second"),
    NUMERIC("bytes_sent", "per second"),
    NUMERIC("xact_time", "microseconds per transaction"),
    NUMERIC("query_time", "microseconds per query"),
    NUMERIC("wait_time", "microseconds per server assignment"),
    NUMERIC("avg_client_parse_count", "per second"),
    NUMERIC("avg_server_parse_count", "per second"),
    NUMERIC("avg_bind_count", "per second"),
    NUMERIC("avg_client_login_count", "per second"),
};
VIEW(stats_averages)

static const struct column totals_columns[] = {
    TEXT("name", "as in SHOW STATS: total_… and avg_…; bytes are client_bytes and server_bytes"),
    NUMERIC("value", NULL),
};
VIEW(totals)

static const struct column mem_columns[] = {
    TEXT("name", NULL),
    INT8("size", "bytes of one"),
    INT8("used", "in use"),
    INT8("free", "kept for the next"),
    INT8("memtotal", "bytes of all"),
};
VIEW(mem)

#define FIGURE(name, help) INT8(#name, help),
static const struct column stats_users_columns[] = {
    TEXT("user", "as the client logged in"),
    TEXT("environment", NULL),
#include "pgstage/tables/figures.def"
};
VIEW(stats_users)

static const struct column stats_hosts_columns[] = {
    TEXT("host", "name:port as the configuration says it"),
    TEXT("environment", NULL),
#include "pgstage/tables/figures.def"
};
#undef FIGURE
VIEW(stats_hosts)

static const struct column histograms_columns[] = {
    TEXT("database", "database@environment where an environment serves it"),
    TEXT("user", "the login on the server"),
    TEXT("environment", NULL),
    TEXT("kind", "query, transaction or wait"),
    INT8("le_us", "the most microseconds that the bucket counts; NULL: no limit"),
    INT8("count", "of this bucket alone; empty buckets have no row"),
};
VIEW(histograms)

static const struct column security_columns[] = {
    TEXT("name", NULL),
    INT8("value", NULL),
    TEXT("meaning", NULL),
};
VIEW(security)

static const struct column pins_columns[] = {
    TEXT("reason", NULL),
    INT8("clients", "that are pinned for it now"),
    INT8("total", "how often a client was, since the start"),
    TEXT("meaning", NULL),
};
VIEW(pins)

static const struct column state_columns[] = {
    TEXT("key", "active, paused, suspended"),
    TEXT("value", "yes or no"),
};
VIEW(state)

static const struct column version_columns[] = {
    TEXT("version", NULL),
};
VIEW(version)

static const struct column dns_hosts_columns[] = {
    TEXT("hostname", NULL),
    INT8("ttl", "seconds until it is resolved again"),
    TEXT("addrs", "addresses with commas between"),
};
VIEW(dns_hosts)

static const struct column dns_zones_columns[] = {
    TEXT("zonename", NULL),
    INT8("serial", NULL),
    INT4("count", NULL),
};
VIEW(dns_zones)

static const struct column peers_columns[] = {
    INT4("peer_id", NULL),
    TEXT("host", NULL),
    INT4("port", NULL),
    INT4("pool_size", NULL),
};
VIEW(peers)

static const struct column peer_pools_columns[] = {
    INT4("peer_id", NULL),
    INT4("cl_active_cancel_req", NULL),
    INT4("cl_waiting_cancel_req", NULL),
    INT4("sv_active_cancel", NULL),
    INT4("sv_login", NULL),
};
VIEW(peer_pools)
