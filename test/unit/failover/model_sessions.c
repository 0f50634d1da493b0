/* Sessions of failover_user with the servers of the model: see model_cluster.h. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_cluster.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/list.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/probe.h"

enum login_state { LOGIN_OPENING, LOGIN_IDLE, LOGIN_ASKED, LOGIN_OVER };

struct probe {
    struct list_node node;
    enum login_state state;
    size_t server;
    unsigned boot;
    uint64_t deadline_us;
    char *sql;
    probe_done *done;
    void *context;
};

static struct list sessions = LIST_INITIALIZER(sessions);

/* ---- answers ---- */

#define COLUMNS_MAX 16

struct answer {
    enum probe_error error;
    const char *values[COLUMNS_MAX];
    int count;                   /* of columns; one row */
    char texts[COLUMNS_MAX][48]; /* where values may stand */
};

__attribute__((format(printf, 2, 3))) static void put(struct answer *answer, const char *format,
                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(answer->texts[answer->count], sizeof answer->texts[0], format, arguments);
    va_end(arguments);
    answer->values[answer->count] = answer->texts[answer->count];
    answer->count++;
}

static void put_lsn(struct answer *answer, uint64_t lsn)
{
    put(answer, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
}

static PGresult *rows_of(const struct answer *answer)
{
    PGresAttDesc columns[COLUMNS_MAX] = {0};
    PGresult *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    for (int i = 0; i < answer->count; i++)
        columns[i].name = (char *)"column";
    PQsetResultAttrs(rows, answer->count, columns);
    for (int i = 0; i < answer->count; i++)
        PQsetvalue(rows, 0, i, (char *)answer->values[i], (int)strlen(answer->values[i]));
    return rows;
}

/* ---- what is asked ---- */

static void survey(struct probe *probe, struct answer *answer)
{
    struct model_server *server = &cluster.servers[probe->server];
    if (!server->lock)
        server->lock = probe;
    put(answer, server->lock == probe ? "t" : "f");
    put(answer, server->is_primary ? "f" : "t");
    put(answer, "%llu", (unsigned long long)world.hosts[probe->server].report.system_identifier);
    put_lsn(answer, server->is_primary ? 0 : server->written);
    put_lsn(answer, server->is_primary ? 0 : server->replayed);
    put_lsn(answer, server->is_primary ? server->written : 0);
    bool streams = server_streams(probe->server);
    put(answer, streams ? "streaming" : "none");
    put(answer, server->is_primary ? "%08X" : "%u", server->timeline);
    put(answer, "%llu", (unsigned long long)(world.now_us - server->heard_us));
    put(answer, "5000");
    server->surveyed_us = server->lock == probe ? world.now_us : 0;
    server->surveyed_lsn = cluster_position(probe->server);
    server->surveyed_timeline = server->timeline;
    server->surveyed_from = streams ? server->upstream : MODEL_HOSTS;
}

static void promote(struct probe *probe, struct answer *answer)
{
    struct model_server *server = &cluster.servers[probe->server];
    unsigned fate = cluster.is_honest ? 9 : dice(10);
    cluster.promotions++;
    model_check_promotion(probe->server);
    if (server->may_not_promote || server->is_primary) {
        answer->error = PROBE_SERVER;
        cluster.promotions--; /* nothing was done */
        return;
    }
    if (fate != 0)
        server->promoted_us = world.now_us + dice(2) * dice(20) * 100 * CLOCK_MS;
    if (fate < 2)
        answer->error = PROBE_LOST;
    put(answer, "t");
}

static void read_facts(const struct probe *probe, struct answer *answer)
{
    const struct model_server *server = &cluster.servers[probe->server];
    put(answer, "%llu", (unsigned long long)world.hosts[probe->server].report.system_identifier);
    put(answer, "%08X", server->timeline);
    put(answer, "%s", dice(4) ? "" : "ANY 1 (b, c)");
    put(answer, "%s", dice(8) ? "off" : "on");
    put(answer, "%u", dice(2));
}

static void read_conninfo(const struct probe *probe, struct answer *answer)
{
    size_t upstream = cluster.servers[probe->server].upstream;
    if (upstream == MODEL_HOSTS)
        put(answer, "%s", dice(2) ? "" : "host=elsewhere");
    else
        put(answer, "host=%s port=%u password='o''k\\\\'", world.hosts[upstream].report.name,
            world.hosts[upstream].report.port);
    put(answer, "%s", dice(2) ? "" : "slot");
}

static void set_conninfo(const struct probe *probe)
{
    const char *at = strstr(probe->sql, "port=''");
    size_t port = at ? strtoul(at + strlen("port=''"), NULL, 10) : 0;
    promise(port >= 1 && port <= MODEL_HOSTS);
    cluster.servers[probe->server].next_upstream = port - 1;
}

static void carry_out(struct probe *probe, struct answer *answer)
{
    struct model_server *server = &cluster.servers[probe->server];
    const char *sql = probe->sql;
    if (strstr(sql, "pg_try_advisory_lock")) {
        survey(probe, answer);
    } else if (strstr(sql, "has_function_privilege")) {
        for (int i = 0; i < 3; i++)
            put(answer, "%s", dice(5) ? "t" : "f");
        put(answer, "100");
        put(answer, "7");
    } else if (strstr(sql, "pg_promote(false)")) {
        promote(probe, answer);
    } else if (strstr(sql, "pg_logical_emit_message")) {
        answer->error = server->is_primary ? PROBE_FINE : PROBE_SERVER;
        server->written += 50;
    } else if (strstr(sql, "synchronous_standby_names")) {
        read_facts(probe, answer);
    } else if (strstr(sql, "current_setting('primary_conninfo')")) {
        read_conninfo(probe, answer);
    } else if (strstr(sql, "pg_create_physical_replication_slot")) {
        put(answer, "(slot,)");
    } else if (strstr(sql, "ALTER SYSTEM SET primary_conninfo")) {
        set_conninfo(probe);
    } else if (strstr(sql, "pg_reload_conf")) {
        server->upstream = server->next_upstream;
        put(answer, "t");
    } else if (strstr(sql, "pg_is_in_recovery()")) {
        put(answer, server->is_primary ? "f" : "t");
    } else {
        promise(strcmp(sql, "CHECKPOINT") == 0);
    }
    if (cluster.is_honest || dice(60) || answer->error != PROBE_FINE)
        return;
    if (dice(2) && !strstr(sql, "pg_promote(false)")) /* one that has done it says so */
        answer->error = PROBE_SERVER;
    else
        answer->count = answer->count ? answer->count - 1 : 0;
}

/* ---- going on ---- */

static void tell(struct probe *probe, const struct answer *answer)
{
    struct probe_result result = {.error = answer->error, .step = PROBE_STEP_QUERY};
    PGresult *rows = answer->error == PROBE_FINE ? rows_of(answer) : NULL;
    result.rows = rows;
    if (answer->error != PROBE_FINE)
        (void)text_fit(result.text, sizeof result.text, "it went wrong");
    if (answer->error == PROBE_SERVER)
        (void)text_fit(result.sqlstate, sizeof result.sqlstate, "42501");
    probe->state = answer->error == PROBE_FINE ||
                           (answer->error == PROBE_SERVER && probe->state == LOGIN_ASKED)
                       ? LOGIN_IDLE
                       : LOGIN_OVER;
    probe->done(probe, probe->context, &result);
    PQclear(rows);
}

/* False: it goes on waiting. */
static bool find_answer(struct probe *probe, struct answer *answer)
{
    const struct model_server *server = &cluster.servers[probe->server];
    if (world.now_us >= probe->deadline_us)
        answer->error = PROBE_TIMEOUT;
    else if (server->is_cut)
        return false;
    else if (probe->state == LOGIN_ASKED && probe->boot != server->boots)
        answer->error = PROBE_LOST;
    else if (probe->state == LOGIN_ASKED)
        carry_out(probe, answer);
    else if (!server->is_running)
        answer->error = PROBE_REFUSED;
    else if (server->is_starting)
        answer->error = PROBE_STARTING_UP;
    else if (server->refuses_login)
        answer->error = PROBE_AUTH;
    if (probe->state == LOGIN_OPENING &&
        (answer->error == PROBE_REFUSED || answer->error == PROBE_TIMEOUT))
        cluster.servers[probe->server].refused_us = world.now_us;
    probe->boot = probe->state == LOGIN_OPENING ? server->boots : probe->boot;
    return true;
}

/* One at a time: what it tells may end others. */
static bool go_on(bool all)
{
    list_for_each (node, &sessions) {
        struct probe *probe = list_entry(node, struct probe, node);
        struct answer answer = {0};
        if ((probe->state == LOGIN_OPENING || probe->state == LOGIN_ASKED) && (all || dice(2)) &&
            find_answer(probe, &answer)) {
            tell(probe, &answer);
            return true;
        }
    }
    return false;
}

void cluster_sessions_go_on(bool all)
{
    for (int i = 0; go_on(all) && i < 8; i++) {
    }
}

/* ---- what procedures call ---- */

static void ask(struct probe *probe, const char *sql, uint64_t deadline_us, probe_done *done)
{
    probe->deadline_us = deadline_us;
    probe->done = done;
    free(probe->sql);
    probe->sql = text_copy(sql);
}

struct probe *probe_open(struct loop *loop, struct resolver *resolver,
                         const struct probe_target *target, uint64_t deadline_us,
                         probe_done *opened, void *context)
{
    struct probe *probe = memory_new(sizeof *probe);
    (void)loop;
    (void)resolver;
    promise(target->port >= 1 && target->port <= MODEL_HOSTS && target->user && target->dbname);
    promise(deadline_us >= loop_now_us(world.loop));
    probe->server = target->port - 1u;
    probe->context = context;
    ask(probe, NULL, deadline_us, opened);
    list_push_back(&sessions, &probe->node);
    cluster.sessions++;
    return probe;
}

void probe_query(struct probe *probe, const char *sql, uint64_t deadline_us, probe_done *answered)
{
    promise(probe->state == LOGIN_IDLE);
    probe->state = LOGIN_ASKED;
    ask(probe, sql, deadline_us, answered);
}

static void probe_free(void *object)
{
    struct probe *probe = object;
    free(probe->sql);
    free(probe);
}

void probe_close(struct probe *probe)
{
    if (!probe)
        return;
    struct model_server *server = &cluster.servers[probe->server];
    if (server->lock == probe) {
        server->lock_lost_us = world.now_us;
        server->lock = NULL;
    }
    list_remove(&sessions, &probe->node);
    cluster.sessions--;
    probe->state = LOGIN_OVER;
    loop_release(world.loop, probe, probe_free);
}

bool probe_is_idle(const struct probe *probe)
{
    return probe->state == LOGIN_IDLE;
}
