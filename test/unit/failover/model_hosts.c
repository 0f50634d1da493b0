/* What the monitor says of the hosts of the model: see model_world.h. */
#include "model_world.h"

uint32_t newest_timeline(void)
{
    uint32_t newest = 1;
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (world.hosts[i].report.timeline > newest)
            newest = world.hosts[i].report.timeline;
    }
    return newest;
}

static void lives(struct host_report *report)
{
    report->health = HEALTH_HEALTHY;
    report->breaker = BREAKER_CLOSED;
    report->error = PROBE_FINE;
    report->bad = 0;
    report->blind = report->starting = report->hearsay = false;
    report->probed_us = report->answered_us = world.now_us;
    report->lsn_written += dice(1000);
    report->lsn_flushed = report->lsn_received = report->lsn_replayed = report->lsn_written;
}

static void dies(struct host_report *report)
{
    report->health = HEALTH_CRITICAL;
    report->breaker = BREAKER_OPEN;
    report->error = PROBE_REFUSED;
    report->bad = 2;
    report->probed_us = world.now_us;
}

void host_takes_writes(struct host_report *report, uint32_t timeline)
{
    lives(report);
    report->role = ROLE_PRIMARY;
    report->receiver = RECEIVER_NONE;
    report->timeline = timeline;
}

void host_follows(struct host_report *report, uint32_t timeline)
{
    lives(report);
    report->role = ROLE_STANDBY;
    report->receiver = RECEIVER_STREAMING;
    report->timeline = timeline;
}

void event_promotion(void)
{
    size_t to = dice(MODEL_HOSTS);
    uint32_t timeline = newest_timeline() + 1;
    model_note("promotion of %s to %u", model_labels[to], timeline);
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        struct host_report *report = &world.hosts[i].report;
        if (i == to)
            host_takes_writes(report, timeline);
        else if (report->role == ROLE_PRIMARY)
            dies(report);
        else if (dice(2))
            host_follows(report, timeline);
    }
}

void event_host(void)
{
    static const char *const words[] = {
        "dies", "lives",  "promoted", "sibling", "follows", "orphaned", "blind",    "no TLS",
        "late", "starts", "hearsay",  "moves",   "cluster", "vanishes", "restarts", "no timeline"};
    size_t index = dice(MODEL_HOSTS);
    struct host_report *report = &world.hosts[index].report;
    unsigned what = dice(sizeof words / sizeof words[0]);
    model_note("%s %s", model_labels[index], words[what]);
    switch (what) {
    case 0:
        dies(report);
        break;
    case 1:
        lives(report);
        break;
    case 2:
        host_takes_writes(report, newest_timeline() + 1);
        break;
    case 3:
        host_takes_writes(report, report->timeline);
        break;
    case 4:
        host_follows(report, newest_timeline());
        break;
    case 5:
        host_follows(report, report->timeline);
        report->role = ROLE_ORPHANED;
        report->receiver = RECEIVER_NONE;
        break;
    case 6:
        report->blind = true;
        report->error = PROBE_AUTH;
        report->bad = 0;
        report->probed_us = world.now_us;
        break;
    case 7:
        report->error = PROBE_TLS;
        report->probed_us = world.now_us;
        break;
    case 8:
        report->error = PROBE_TIMEOUT;
        report->bad = 1;
        break;
    case 9:
        report->starting = true;
        report->error = PROBE_STARTING_UP;
        break;
    case 10:
        report->hearsay = true;
        break;
    case 11:
        report->address = dice(2) ? "10.0.0.1" : "10.0.0.2";
        break;
    case 12:
        report->system_identifier = (uint64_t[]){42, 42, 43, 0}[dice(4)];
        break;
    case 13:
        world.hosts[index].is_there = !world.hosts[index].is_there;
        break;
    case 14:
        report->started_wall_us++;
        lives(report);
        break;
    default:
        report->timeline = 0;
        break;
    }
}

void event_logins(void)
{
    enum probe_login login = dice(3) ? PROBE_LOGIN_MONITOR : PROBE_LOGIN_NONE;
    model_note("the monitor may %slog in", login == PROBE_LOGIN_NONE ? "not " : "");
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        world.hosts[i].report.login = login;
}
