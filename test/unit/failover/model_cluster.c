/* The servers, and the monitor that looks at them: see model_cluster.h. */
#include "model_cluster.h"

#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"

struct model_cluster cluster;

/* ---- servers ---- */

void cluster_init(void)
{
    cluster = (struct model_cluster){0};
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        cluster.servers[i] = (struct model_server){
            .is_running = true,
            .is_primary = i == 0,
            .timeline = 1,
            .written = 5000,
            .replayed = 5000,
            .upstream = i == 0 ? MODEL_HOSTS : 0,
            .next_upstream = MODEL_HOSTS,
        };
    }
}

void cluster_new_episode(void)
{
    cluster.promotions = cluster.demotes = cluster.undemotes = cluster.fences = 0;
    cluster.was_fenced = cluster.was_demoted = cluster.has_lied = false;
    cluster.misses_none = cluster.has_said_end = false;
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        cluster.servers[i].surveyed_us = 0;
}

uint64_t cluster_position(size_t index)
{
    const struct model_server *server = &cluster.servers[index];
    return server->replayed > server->written ? server->replayed : server->written;
}

/* Also behind a standby whose own primary is dead: a cascaded one goes on. */
bool server_streams(size_t index)
{
    const struct model_server *server = &cluster.servers[index];
    if (!server->is_running || server->is_primary || server->is_detached ||
        server->upstream == MODEL_HOSTS)
        return false;
    if (world.now_us < server->lingers_us)
        return true;
    const struct model_server *upstream = &cluster.servers[server->upstream];
    return upstream->is_running && upstream->timeline >= server->timeline &&
           upstream->written >= server->written;
}

static void receive(size_t index, bool all)
{
    struct model_server *server = &cluster.servers[index];
    const struct model_server *upstream;
    if (server->owed && world.now_us >= server->lingers_us) {
        server->written =
            server->is_running && server->owed > server->written ? server->owed : server->written;
        server->owed = 0;
    }
    if (server_streams(index) && cluster.servers[server->upstream].is_running) {
        upstream = &cluster.servers[server->upstream];
        server->heard_us = world.now_us;
        server->timeline = upstream->timeline;
        server->written = all || dice(2) ? upstream->written : server->written;
    }
    if (!server->is_primary && server->is_running && (all || dice(2)))
        server->replayed = server->written;
}

void server_stops(size_t index, bool cleanly)
{
    struct model_server *server = &cluster.servers[index];
    if (cleanly && server->is_running && server->is_primary) {
        server->written += 120; /* the shutdown checkpoint */
        for (size_t i = 0; i < MODEL_HOSTS; i++) {
            struct model_server *standby = &cluster.servers[i];
            if (i == index || standby->upstream != index || !server_streams(i))
                continue;
            standby->owed = server->written;
            standby->lingers_us = world.now_us + dice(10) * 50 * CLOCK_MS;
        }
    }
    server->owed = server->lingers_us = 0;
    server->is_running = server->is_starting = false;
    server->promoted_us = 0;
    server->lock_lost_us = server->lock ? world.now_us : server->lock_lost_us;
    server->lock = NULL;
    server->boots++;
}

void server_starts(size_t index)
{
    struct model_server *server = &cluster.servers[index];
    server->boots += server->is_running;
    server->is_running = true;
    server->lock_lost_us = server->lock ? world.now_us : server->lock_lost_us;
    server->lock = NULL;
}

static void become_primary(size_t index)
{
    struct model_server *server = &cluster.servers[index];
    server->promoted_us = 0;
    server->is_primary = true;
    server->written = server->replayed = cluster_position(index);
    server->timeline++;
    server->upstream = MODEL_HOSTS;
}

void cluster_live(void)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct model_server *server = &cluster.servers[i];
        if (server->is_running && server->is_primary)
            server->written += dice(500);
        if (server->is_running && server->promoted_us && server->promoted_us <= world.now_us)
            become_primary(i);
    }
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        receive(i, cluster.is_honest);
    if (world.is_held && cluster.transactions && (cluster.is_honest || dice(3)))
        cluster.transactions--;
    else if (!world.is_held)
        cluster.transactions = dice(4);
}

void cluster_trouble(void)
{
    static const char *const words[] = {"dies",        "restarts",   "starts",      "starts",
                                        "is cut off",  "is reached", "is detached", "joins",
                                        "is up",       "refuses",    "lets in",     "promoted",
                                        "follows",     "restarts",   "starts up",   "locked",
                                        "is unlocked", "no grant",   "grant"};
    size_t index = dice(MODEL_HOSTS);
    unsigned what = dice(sizeof words / sizeof words[0]);
    struct model_server *server = &cluster.servers[index];
    model_note("%s %s", model_labels[index], words[what]);
    switch (what) {
    case 0:
        server_stops(index, dice(2));
        break;
    case 2:
    case 3:
        server_starts(index);
        break;
    case 4:
        server->is_cut = true;
        break;
    case 5:
        server->is_cut = false;
        break;
    case 6:
        server->is_detached = true;
        break;
    case 7:
        server->is_detached = false;
        break;
    case 8:
        server->is_starting = false;
        break;
    case 9:
        server->refuses_login = true;
        break;
    case 10:
        server->refuses_login = false;
        break;
    case 11:
        if (server->is_running && !server->is_primary)
            become_primary(index);
        break;
    case 12:
        server->is_primary = false;
        server->upstream = dice(MODEL_HOSTS);
        if (server->upstream == index)
            server->upstream = MODEL_HOSTS;
        break;
    case 1:
    case 13:
        server_stops(index, true);
        server_starts(index);
        break;
    case 14:
        server->is_starting = true;
        break;
    case 15:
        server->lock = server->lock ? server->lock : &cluster; /* somebody else's */
        break;
    case 16:
        server->lock = server->lock == &cluster ? NULL : server->lock;
        break;
    default:
        server->may_not_promote = what == 17;
        break;
    }
}

void cluster_heal(size_t primary)
{
    uint64_t furthest = 0;
    uint32_t newest = 0;
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        furthest = cluster_position(i) > furthest ? cluster_position(i) : furthest;
        newest = cluster.servers[i].timeline > newest ? cluster.servers[i].timeline : newest;
    }
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct model_server *server = &cluster.servers[i];
        server_stops(i, false);
        server->is_running = true;
        server->is_cut = server->is_detached = server->refuses_login = false;
        server->may_not_promote = false;
        server->is_primary = i == primary;
        server->timeline = newest + 10;
        server->written = server->replayed = furthest;
        server->upstream = i == primary ? MODEL_HOSTS : primary;
        server->next_upstream = MODEL_HOSTS;
    }
}

/* ---- the monitor ---- */

static void fail(struct host_report *report, enum probe_error error)
{
    report->error = error;
    report->error_text = "it does not answer";
    report->good = 0;
    report->bad++;
    if (report->bad < 2 || report->health == HEALTH_CRITICAL)
        return;
    report->health = HEALTH_CRITICAL;
    report->health_since_us = world.now_us;
    report->breaker = BREAKER_OPEN;
    report->starting = report->blind = false;
}

static void rise(struct host_report *report)
{
    report->bad = 0;
    report->good++;
    if (report->health == HEALTH_HEALTHY || (report->health == HEALTH_CRITICAL && report->good < 2))
        return;
    report->health = HEALTH_HEALTHY;
    report->health_since_us = world.now_us;
    report->breaker = BREAKER_CLOSED;
}

static void read_role(struct host_report *report, size_t index)
{
    const struct model_server *server = &cluster.servers[index];
    bool streams = server_streams(index);
    rise(report);
    report->error = PROBE_FINE;
    report->error_text = "";
    report->starting = report->blind = false;
    report->role = server->is_primary ? ROLE_PRIMARY : streams ? ROLE_STANDBY : ROLE_ORPHANED;
    report->receiver = streams ? RECEIVER_STREAMING : RECEIVER_NONE;
    report->timeline = server->timeline;
    report->upstream = server->upstream == MODEL_HOSTS ? "" : model_labels[server->upstream];
    report->lsn_written = report->lsn_flushed = server->is_primary ? server->written : 0;
    report->lsn_received = server->is_primary ? 0 : server->written;
    report->lsn_replayed = server->is_primary ? 0 : server->replayed;
    report->receiver_silent_us = (int64_t)(world.now_us - server->heard_us);
    report->wal_receiver_timeout_us = 5 * CLOCK_SECOND;
    report->position_us = report->answered_us = world.now_us;
    report->lag_bytes = report->lag_us = 0;
}

static void look_at(size_t index)
{
    const struct model_server *server = &cluster.servers[index];
    struct host_report *report = &world.hosts[index].report;
    report->probed_us = world.now_us;
    if (server->is_cut) {
        fail(report, PROBE_TIMEOUT);
    } else if (!server->is_running) {
        fail(report, PROBE_REFUSED);
    } else if (server->is_starting || server->refuses_login) {
        rise(report);
        report->starting = server->is_starting;
        report->blind = !server->is_starting;
        report->error = server->is_starting ? PROBE_STARTING_UP : PROBE_AUTH;
        report->error_text = "it lets nobody in";
    } else {
        read_role(report, index);
    }
}

void cluster_look(void)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct model_server *server = &cluster.servers[i];
        if (!dice(4) || (server->wants_probe && dice(3)) || cluster.is_honest) {
            server->wants_probe = false;
            look_at(i);
        }
    }
    failover_changed(world.failover, "e");
}

void cluster_forget(void)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct host_report *report = &world.hosts[i].report;
        report->health = HEALTH_UNKNOWN;
        report->role = ROLE_UNKNOWN;
        report->breaker = BREAKER_CLOSED;
        report->receiver = RECEIVER_UNKNOWN;
        report->error = PROBE_FINE;
        report->error_text = report->upstream = "";
        report->starting = report->blind = false;
        report->good = report->bad = 0;
        report->timeline = 0;
        report->probed_us = report->answered_us = report->position_us = report->health_since_us = 0;
        report->lsn_flushed = report->lsn_received = report->lsn_replayed = 0;
    }
}

void monitor_each(struct monitor *monitor, const char *environment,
                  void (*each)(void *argument, const struct host_report *report), void *argument)
{
    (void)monitor;
    world_each_host(environment, each, argument);
}

static bool is_known(const char *environment, size_t index)
{
    return strcmp(environment, "e") == 0 && index < world.configured && world.hosts[index].is_there;
}

const struct host_report *monitor_find(struct monitor *monitor, const char *environment,
                                       const char *label)
{
    (void)monitor;
    size_t index = model_host_find(label);
    return is_known(environment, index) ? &world.hosts[index].report : NULL;
}

void monitor_probe_now(struct monitor *monitor, const char *environment, const char *label)
{
    (void)monitor;
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (is_known(environment, i) && (!label || strcmp(label, model_labels[i]) == 0))
            cluster.servers[i].wants_probe = true;
    }
}

void monitor_hurry(struct monitor *monitor, const char *environment, bool fast)
{
    (void)monitor;
    (void)environment;
    (void)fast;
}
