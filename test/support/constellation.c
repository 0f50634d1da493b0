/*
 * constellation: stars from one template.
 *
 * A standby needs no base backup: all clusters are unpacked from the same cold template, so the
 * primary's WAL since then is all that makes them differ, and the primary keeps it.
 *
 *   pg1 ─┬─► pg2 ──► pg4 (cascade)
 *        ├─► pg3
 *        └─► dr1
 */
#include "constellation.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "program.h"
#include "until.h"

static const char HBA[] = "local all all trust\n"
                          "hostssl all all 0.0.0.0/0 scram-sha-256\n"
                          "hostssl replication replicator 0.0.0.0/0 scram-sha-256\n";

/* Standbys notice a dead primary in 2 s, as CHECK demands of candidates; pg_rewind needs hints and
 * full pages in the WAL. */
static const char SETTINGS[] = "max_connections = 100\n"
                               "superuser_reserved_connections = 3\n"
                               "full_page_writes = on\n"
                               "wal_log_hints = on\n"
                               "wal_keep_size = 256MB\n"
                               "wal_receiver_timeout = 2s\n"
                               "wal_receiver_status_interval = 1s\n"
                               "wal_sender_timeout = 10s\n"
                               "wal_retrieve_retry_interval = 200ms\n"
                               "hot_standby_feedback = on\n"
                               "recovery_target_timeline = 'latest'\n";

/* What doc/failover.md tells an administrator to grant, word by word. */
static const char GRANTS[] = "CREATE ROLE pgstage_monitor LOGIN PASSWORD 'monitorsecret';"
                             "GRANT pg_monitor TO pgstage_monitor;"
                             "CREATE ROLE pgstage_failover LOGIN PASSWORD 'failoversecret';"
                             "GRANT pg_monitor TO pgstage_failover;";
/* Those on functions count in one database: failover_dbname. */
static const char FAILOVER_GRANTS[] =
    "SET synchronous_commit = local;"
    "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO pgstage_failover;"
    "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO pgstage_failover;"
    "GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO pgstage_failover;"
    "GRANT pg_checkpoint TO pgstage_failover;";

static const char ROLES[] = "ALTER ROLE app PASSWORD 'appsecret';"
                            "ALTER ROLE other PASSWORD 'othersecret';";

static void make_star(struct constellation *sky, const struct constellation_options *options,
                      const char *short_name, const char *follows)
{
    struct star *star = &sky->stars[sky->count];
    struct pki_request request = {.file = short_name, .issuer = pki_shared_ca()};
    struct cluster_options given = {.name = short_name, .hba = HBA, .follows = follows};

    if (options->network[sky->count]) {
        star->network = network_start();
        given.network = star->network->name;
        given.address = star->network->inside;
    }
    star->name = text_of("%s.drill.test", short_name);
    star->upstream = follows;
    request.common_name = star->name;
    request.names = text_of("DNS:%s", star->name);
    given.certificate = pki_issue(sky->folder, &request);
    given.settings =
        text_of("%s%s%s", SETTINGS,
                options->synchronous ? "synchronous_standby_names = 'ANY 1 (pg1, pg2, pg3)'\n" : "",
                options->settings ? options->settings : "");
    star->cluster = cluster_start(&given);
    star->port = star->cluster->port;
    if (options->valve[sky->count]) {
        star->valve = valve_start(star->cluster->address, star->cluster->port);
        star->port = star->valve->port;
    }
    sky->count++;
}

const char *star_short(const struct star *star)
{
    return text_of("%.*s", (int)strcspn(star->name, "."), star->name);
}

static const char *address_of(const struct star *star)
{
    return star->valve ? "127.0.0.1" : star->cluster->address;
}

const char *star_conninfo(const struct constellation *sky, const struct star *star,
                          const char *application_name)
{
    return text_of("host=%s hostaddr=%s port=%d user=replicator password=replicatorsecret "
                   "sslmode=verify-full sslrootcert=%s gssencmode=disable connect_timeout=3 "
                   "application_name=%s",
                   star->name, address_of(star), star->port, sky->ca_file, application_name);
}

static void local_do(const struct star *star, const char *database, const char *sql)
{
    PGconn *conn = cluster_connect(star->cluster, database);
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        support_fail("on %s: %s", star->name, PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
}

bool star_is_in_recovery(const struct star *star)
{
    char *value = cluster_value(star->cluster, "SELECT pg_is_in_recovery()");
    bool is = value[0] == 't';

    free(value);
    return is;
}

bool star_streams(const struct star *star)
{
    return cluster_number(star->cluster, "SELECT count(*) FROM pg_stat_wal_receiver "
                                         "WHERE status = 'streaming'") == 1;
}

long star_received(const struct star *star)
{
    return cluster_number(star->cluster,
                          "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) "
                          "- '0/0'");
}

bool star_catches_up(const struct star *star, const struct star *primary)
{
    char *end = cluster_value(primary->cluster, "SELECT CASE WHEN pg_is_in_recovery() THEN "
                                                "pg_last_wal_receive_lsn() ELSE "
                                                "pg_current_wal_flush_lsn() END");
    const char *question =
        text_of("SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') >= '%s')::int", end);

    free(end);
    return until(cluster_number(star->cluster, question) == 1, PATIENCE_MS);
}

static const char LEDGER[] =
    "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);"
    "INSERT INTO account SELECT g, 1000 FROM generate_series(0, 999) g;"
    "CREATE TABLE transfer (id bigint NOT NULL, debtor int, creditor int, amount int);"
    "CREATE INDEX ON transfer (id);"
    "CREATE TABLE note (id bigint NOT NULL, made timestamptz DEFAULT clock_timestamp());"
    "CREATE FUNCTION pay(bigint, int, int, int) RETURNS void LANGUAGE sql AS $$"
    " UPDATE account SET balance = balance - $4 WHERE id = $2;"
    " UPDATE account SET balance = balance + $4 WHERE id = $3;"
    " INSERT INTO transfer VALUES ($1, $2, $3, $4) $$;"
    "ALTER TABLE account OWNER TO app; ALTER TABLE transfer OWNER TO app;"
    "ALTER TABLE note OWNER TO app;";

void constellation_fill(const struct star *primary)
{
    /* nothing waits for standbys that are not there yet */
    local_do(primary, "app",
             text_of("SET synchronous_commit = local; %s%s%s", ROLES, GRANTS, LEDGER));
    local_do(primary, "postgres", FAILOVER_GRANTS);
}

struct constellation *constellation_start(const struct constellation_options *options)
{
    struct constellation *sky = calloc(1, sizeof *sky);
    int number = 2;

    if (!sky)
        abort();
    sky->dr = -1;
    sky->ca_file = pki_shared_ca()->certificate;
    sky->folder = test_folder();
    make_star(sky, options, "pg1", NULL);
    local_do(&sky->stars[0], "app",
             "SET synchronous_commit = local;"
             "CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'replicatorsecret'");
    constellation_fill(&sky->stars[0]);
    for (int i = 0; i < options->standbys; i++, number++) {
        const char *name = text_of("pg%d", number);

        make_star(sky, options, name, star_conninfo(sky, &sky->stars[0], name));
    }
    if (options->cascade) {
        const char *name = text_of("pg%d", number);

        make_star(sky, options, name, star_conninfo(sky, &sky->stars[1], name));
    }
    if (options->dr) {
        sky->dr = sky->count;
        make_star(sky, options, "dr1", star_conninfo(sky, &sky->stars[0], "dr1"));
    }
    for (int i = 1; i < sky->count; i++) {
        if (!until(star_streams(&sky->stars[i]), PATIENCE_MS) ||
            !star_catches_up(&sky->stars[i], &sky->stars[0]))
            support_fail("%s does not stream", sky->stars[i].name);
    }
    return sky;
}

/* ---- for pgstage.ini ---- */

const char *star_host(const struct star *star)
{
    return text_of("%s@%s:%d", star->name, address_of(star), star->port);
}

const char *constellation_hosts(const struct constellation *sky)
{
    const char *all = "";

    for (int i = 0; i < sky->count; i++)
        if (i != sky->dr)
            all = text_of("%s%s%s", all, *all ? ", " : "", star_host(&sky->stars[i]));
    return all;
}

const char *constellation_dr_hosts(const struct constellation *sky)
{
    return sky->dr >= 0 ? star_host(&sky->stars[sky->dr]) : "";
}

/* A probe that takes a second says how busy this machine is, and no more. */
const char *constellation_environment(const struct constellation *sky, const char *more)
{
    const char *monitor = text_of("%s/monitor.password", sky->folder);

    file_write(monitor, 0600, "monitorsecret\n");
    return text_of("[environment drill]\nclass = staging\nclient_tls_sslmode = disable\n"
                   "server_tls_ca_file = %s\nmin_pool_size = 0\nhosts = %s\n%s%s%s%s"
                   "monitor_user = pgstage_monitor\nmonitor_password_file = %s\n%s\n"
                   "[databases]\napp = dbname=app\n"
                   "app_read = dbname=app target_session_attrs=prefer-standby\n",
                   sky->ca_file, constellation_hosts(sky), sky->dr >= 0 ? "dr_hosts = " : "",
                   constellation_dr_hosts(sky), sky->dr >= 0 ? "\n" : "",
                   strstr(more, "probe_timeout") ? "" : "probe_timeout = 5\n", monitor, more);
}

const char *constellation_promoter(const struct constellation *sky)
{
    const char *password = text_of("%s/failover.password", sky->folder);

    file_write(password, 0600, "failoversecret\n");
    return text_of("failover_mode = promote\nfailover_user = pgstage_failover\n"
                   "failover_password_file = %s\n",
                   password);
}

/* ---- what is done to them ---- */

char *star_switch_point(const struct star *star)
{
    return cluster_value(star->cluster,
                         "SELECT coalesce(split_part(trim(regexp_replace(pg_read_file('pg_wal/' || "
                         "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '.history', 0, "
                         "100000, true), E'.*\\n(?=[0-9])', '')), E'\\t', 2), '')");
}

void star_repoint(const struct constellation *sky, struct star *star, const struct star *primary)
{
    star->upstream = star_conninfo(sky, primary, star_short(star));
    cluster_set(star->cluster, text_of("primary_conninfo = '%s'", star->upstream));
    kill(star->cluster->pid, SIGHUP);
}

void star_rejoin(const struct constellation *sky, struct star *star, const struct star *primary,
                 bool rewind)
{
    const char *data = text_of("%s/data", star->cluster->folder);
    const char *settings = text_of("%s/postgresql.auto.conf", data);
    /* pg_rewind copies configuration files as well */
    char *own = file_text(settings);

    cluster_end(star->cluster, CLUSTER_FAST);
    if (rewind) {
        char *arguments[] = {"--target-pgdata",
                             text_of("%s", data),
                             "--source-server",
                             text_of("host=%s port=%d user=postgres dbname=postgres",
                                     primary->cluster->socket_folder, primary->cluster->port),
                             "--no-sync",
                             NULL};

        local_do(primary, "postgres", "CHECKPOINT");
        free(cluster_tool("pg_rewind", arguments));
        file_write(settings, 0600, own);
    }
    star->upstream = star_conninfo(sky, primary, star_short(star));
    cluster_follow(star->cluster, star->upstream);
    cluster_again(star->cluster);
    free(own);
}
