/*
 * monitor_host: one host: when it is probed, on which connection, and what is told of it.
 *
 *   due ─┬─ a session is open, and not the fifth time ─────────────► ask ─► finding
 *        ├─ else log in anew ─► it takes the old session's place ─► ask ─► finding
 *        └─ nobody to log in as: a handshake ────────────────────────────► finding
 *
 * A login that fails leaves the old session open (with max_connections reached it is all there is),
 * and the next probe logs in again. Everything of one probe stands under one deadline,
 * probe_timeout. A session that ends while nothing is asked is noticed at once, and the probe that
 * follows says why. Probes of hosts with nobody to log in as come at every fifth interval while all
 * is well: each of them is a new connection. Only alive or not is known of such a host; its role is
 * what clients' connections have seen.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "monitor_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

#define LOGIN_EVERY 5

static struct loop *loop_of(const struct monitored *host)
{
    return host->environment->monitor->loop;
}

static uint64_t now_of(const struct monitored *host)
{
    return loop_now_us(loop_of(host));
}

static bool is_busy(const struct monitored *host)
{
    return host->opening || host->handshake || host->asked;
}

/* ---- what is told ---- */

static void log_health(const struct monitored *host, unsigned what)
{
    const struct host_report *report = &host->report;
    const char *why = report->error_text;
    char lag[64] = "";

    if (!*why && report->health == HEALTH_WARNING && report->lag_us > 0 &&
        (uint64_t)report->lag_us > host->environment->settings->replication_lag_warning_us) {
        snprintf(lag, sizeof lag, "replication lag %.1f s",
                 (double)report->lag_us / (double)CLOCK_SECOND);
        why = lag;
    } else if (!*why && report->health == HEALTH_WARNING) {
        snprintf(lag, sizeof lag, "slow: %" PRIu64 " ms", report->latency_us / CLOCK_MS);
        why = lag;
    }
    if (what & MONITOR_HEALTH)
        log_log("host %s/%s is %s%s%s", report->environment, report->label,
                health_word(report->health), *why ? ": " : "", why);
    else if (what & MONITOR_BLIND && *why)
        log_log("host %s/%s is alive, but %s: %s", report->environment, report->label,
                report->starting ? "not ready" : "lets no probe in", why);
    if (what & MONITOR_BREAKER)
        log_log("host %s/%s: breaker %s: %s", report->environment, report->label,
                breaker_word(report->breaker),
                report->breaker == BREAKER_OPEN        ? why
                : report->breaker == BREAKER_HALF_OPEN ? "a probe has succeeded"
                                                       : "enough probes have succeeded");
}

static void log_changes(const struct monitored *host, unsigned what)
{
    const struct host_report *report = &host->report;

    if (what & (MONITOR_HEALTH | MONITOR_BREAKER | MONITOR_BLIND))
        log_health(host, what);
    if (what & MONITOR_ROLE)
        log_log("host %s/%s: role %s%s", report->environment, report->label,
                role_word(report->role), report->hearsay ? " (seen by clients' connections)" : "");
    if (what & MONITOR_IDENTITY)
        log_log("host %s/%s: system identifier %" PRIu64 ", timeline %" PRIu32 "%s%s",
                report->environment, report->label, report->system_identifier, report->timeline,
                *report->address ? ", address " : "", report->address);
    if (what & MONITOR_LAG_OVER)
        log_log("host %s/%s is %s max_replica_lag: %.1f s behind", report->environment,
                report->label, report->lag_over ? "over" : "within",
                report->lag_us < 0 ? 0.0 : (double)report->lag_us / (double)CLOCK_SECOND);
}

void monitored_changed(struct monitored *host, unsigned what)
{
    const struct monitor_hooks *hooks = &host->environment->monitor->hooks;

    if (!what)
        return;
    log_changes(host, what);
    if (hooks->changed)
        hooks->changed(hooks->context, &host->report, what);
}

/* ---- when ---- */

static uint64_t interval_of(const struct monitored *host)
{
    struct monitor_environment *environment = host->environment;
    const struct settings *settings = environment->settings;
    uint64_t interval_us = settings->probe_interval_us;

    if (environment_is_anxious(environment) && settings->probe_fast_interval_us < interval_us)
        return settings->probe_fast_interval_us;
    return environment->login == PROBE_LOGIN_NONE ? LOGIN_EVERY * interval_us : interval_us;
}

void monitored_schedule(struct monitored *host, uint64_t at_us)
{
    if (!host->environment->settings->probe_interval_us) {
        timer_clear(&host->timer);
        host->report.next_us = 0;
        return;
    }
    host->report.next_us = at_us;
    timer_set(loop_of(host), &host->timer, at_us);
}

/* ---- the end of a probe ---- */

static struct judge_limits limits_of(const struct monitored *host)
{
    const struct settings *settings = host->environment->settings;

    return (struct judge_limits){
        .rise = (unsigned)settings->probe_rise,
        .fall = (unsigned)settings->probe_fall,
        .slow_us = settings->probe_timeout_us / 2,
        .lag_warning_us = settings->replication_lag_warning_us,
        .max_lag_us = settings->max_replica_lag_us,
    };
}

/* The primary that this standby's cluster has, as seen last: of two the newer one. */
static const struct monitored *primary_of(const struct monitored *host)
{
    const struct monitored *best = NULL;

    list_for_each (node, &host->environment->hosts) {
        const struct monitored *other = list_entry(node, struct monitored, node);
        const struct host_report *report = &other->report;

        if (other == host || report->role != ROLE_PRIMARY || !report->lsn_flushed ||
            (host->has_facts && report->system_identifier != host->facts.system_identifier))
            continue;
        if (!best || report->timeline > best->report.timeline)
            best = other;
    }
    return best;
}

static struct judge_primary primary_facts(const struct monitored *host)
{
    const struct monitored *primary = primary_of(host);

    return primary ? (struct judge_primary){
                         .known = true,
                         .lsn = primary->report.lsn_flushed,
                         .lsn_earlier = primary->lsn_earlier,
                     }
                   : (struct judge_primary){0};
}

/* What the primary says of this standby: by its name, and by its address where others have the same
 * name. */
static enum sync_state sync_of(const struct monitored *host)
{
    const struct monitored *primary = primary_of(host);
    enum sync_state found = SYNC_UNKNOWN;
    unsigned named = 0;

    if (!primary || host->report.role == ROLE_PRIMARY)
        return SYNC_UNKNOWN;
    for (size_t i = 0; i < primary->facts.replica_count; i++) {
        const struct facts_replica *replica = &primary->facts.replicas[i];

        if (strcmp(replica->application_name, host->replica_name) != 0)
            continue;
        if (strcmp(replica->client_address, host->report.address) == 0)
            return replica->sync;
        named++;
        found = replica->sync;
    }
    return named == 1 ? found : SYNC_UNKNOWN;
}

static unsigned take_texts(struct monitored *host)
{
    const struct facts *facts = &host->facts;
    unsigned what = 0;

    if (strcmp(host->upstream, facts->upstream) != 0)
        what |= MONITOR_RECEIVER;
    if (strcmp(host->sync_names, facts->sync_names) != 0)
        what |= MONITOR_SYNC;
    memcpy(host->upstream, facts->upstream, sizeof host->upstream);
    memcpy(host->sync_names, facts->sync_names, sizeof host->sync_names);
    memcpy(host->replica_name, facts->replica_name, sizeof host->replica_name);
    return what;
}

/* Whoever of the environment hears bad news late enough waits no longer. */
static void hurry_others(const struct monitored *host)
{
    uint64_t fast_us = host->environment->settings->probe_fast_interval_us;

    list_for_each (node, &host->environment->hosts) {
        struct monitored *other = list_entry(node, struct monitored, node);

        if (other != host && other->report.next_us > now_of(host) + fast_us)
            monitored_schedule(other, now_of(host) + fast_us);
    }
}

static void end(struct monitored *host, const struct finding *finding)
{
    const struct monitor_hooks *hooks = &host->environment->monitor->hooks;
    struct judge_limits limits = limits_of(host);
    struct judge_primary primary = primary_facts(host);
    bool anxious = environment_is_anxious(host->environment);
    enum sync_state sync = host->report.sync;
    unsigned what;

    if (finding->facts && !finding->facts->in_recovery)
        host->lsn_earlier = host->report.lsn_flushed;
    (void)text_fit(host->error_text, sizeof host->error_text, finding->text);
    if (finding->error == PROBE_LOCAL && host->report.error != PROBE_LOCAL)
        log_warning("host %s/%s cannot be probed from here: %s", host->report.environment,
                    host->report.label, finding->text);
    what = judge(&host->report, &host->memory, finding, &limits, &primary, now_of(host));
    if (finding->facts) {
        what |= take_texts(host);
        host->report.sync = sync_of(host);
        what |= host->report.sync != sync ? MONITOR_SYNC : 0;
    }
    if (!anxious && environment_is_anxious(host->environment))
        hurry_others(host);
    monitored_schedule(host,
                       host->wanted_again ? now_of(host) : host->begin_us + interval_of(host));
    host->wanted_again = false;
    monitored_changed(host, what);
    if (hooks->probed)
        hooks->probed(hooks->context, &host->report);
}

static void end_badly(struct monitored *host, enum probe_error error, const char *sqlstate,
                      const char *text)
{
    struct finding finding = {.error = error, .sqlstate = sqlstate, .text = text};

    end(host, &finding);
}

/* ---- sessions ---- */

static void forget_kept(struct monitored *host)
{
    probe_close(host->kept);
    host->kept = NULL;
    host->asked = false;
    host->since_login = LOGIN_EVERY;
}

static void on_answered(struct probe *probe, void *context, const struct probe_result *result)
{
    struct monitored *host = context;
    struct finding finding = {.error = result->error,
                              .sqlstate = result->sqlstate,
                              .text = result->text,
                              .duration_us = result->duration_us};

    (void)probe;
    host->asked = false;
    if (result->error == PROBE_FINE) {
        if (facts_read(&host->facts, result->rows)) {
            host->has_facts = true;
            finding.facts = &host->facts;
        } else {
            finding.error = PROBE_PROTOCOL;
            finding.text = "the answer is not what was asked for";
        }
    } else if (result->error != PROBE_SERVER) {
        forget_kept(host);
    }
    end(host, &finding);
}

/* A session has ended while nothing was asked of it: the next probe says why. */
static void on_ended(struct probe *probe, void *context)
{
    struct monitored *host = context;

    if (host->kept != probe)
        return;
    forget_kept(host);
    if (!is_busy(host))
        monitored_schedule(host, now_of(host));
}

static void ask(struct monitored *host)
{
    host->asked = true;
    probe_query(host->kept, facts_sql, host->deadline_us, on_answered);
}

static void on_opened(struct probe *probe, void *context, const struct probe_result *result)
{
    struct monitored *host = context;

    host->opening = NULL;
    if (result->error != PROBE_FINE) {
        char text[PROBE_TEXT_BYTES];

        (void)text_fit(text, sizeof text, result->text);
        probe_close(probe);
        if (result->error == PROBE_LOCAL && host->kept && probe_is_idle(host->kept)) {
            ask(host); /* which needs nothing new */
            return;
        }
        if (result->error == PROBE_NO_DATABASE && host->environment->databases[1])
            host->database = !host->database;
        if (probe_error_is_host(result->error))
            forget_kept(host);
        end_badly(host, result->error, result->sqlstate, text);
        return;
    }
    probe_close(host->kept);
    host->kept = probe;
    host->since_login = 0;
    probe_on_end(probe, on_ended);
    ask(host);
}

static void log_in(struct monitored *host)
{
    const struct monitor_environment *environment = host->environment;
    struct probe_target target = {
        .name = host->name->config.name,
        .address = host->report.is_local ? NULL : host->address_text,
        .port = host->name->config.port,
        .user = environment->user,
        .password = environment->password,
        .dbname = environment->databases[host->database],
        .peer_user = environment->settings->server_peer_user,
    };

    tls_settings_of_servers(&target.tls, environment->settings);
    host->opening = probe_open(loop_of(host), environment->monitor->resolver, &target,
                               host->deadline_us, on_opened, host);
}

/* ---- without anybody to log in as ---- */

static void on_handshake(void *context, const struct handshake_result *result)
{
    struct monitored *host = context;
    struct finding finding = {.error = result->error,
                              .sqlstate = "",
                              .text = result->text,
                              .duration_us = result->connect_us + result->tls_us};
    char text[PROBE_TEXT_BYTES];

    (void)text_fit(text, sizeof text, result->text);
    finding.text = text;
    handshake_close(host->handshake);
    host->handshake = NULL;
    end(host, &finding);
}

static void shake_hands(struct monitored *host)
{
    const struct monitor_environment *environment = host->environment;

    if (environment->tls_problem) {
        end_badly(host, PROBE_TLS, "", environment->tls_problem);
        return;
    }
    host->handshake =
        handshake_ping(loop_of(host), &host->address, environment->tls, host->name->config.name,
                       host->deadline_us, on_handshake, host);
}

/* ---- due ---- */

static void on_due(struct loop *loop, struct timer *timer)
{
    struct monitored *host = list_entry(timer, struct monitored, timer);

    if (is_busy(host))
        return;
    host->report.next_us = 0;
    host->begin_us = loop_now_us(loop);
    host->deadline_us = host->begin_us + host->environment->settings->probe_timeout_us;
    if (host->address.length == 0) {
        end_badly(host, PROBE_DNS, "",
                  host->name->problem[0] ? host->name->problem : "the name is not resolved yet");
    } else if (host->environment->login == PROBE_LOGIN_NONE) {
        shake_hands(host);
    } else if (host->kept && probe_is_idle(host->kept) && ++host->since_login < LOGIN_EVERY) {
        ask(host);
    } else {
        log_in(host);
    }
}

/* ---- beginning and end ---- */

static void fill_report(struct monitored *host)
{
    struct host_report *report = &host->report;

    report->environment = host->environment->name;
    report->label = host->label;
    report->name = host->name->config.name;
    report->address = host->address_text;
    report->port = host->name->config.port;
    report->is_dr = host->name->is_dr;
    report->is_local = host_is_socket(&host->name->config);
    report->login = host->environment->login;
    report->lag_bytes = report->lag_us = report->receiver_silent_us = -1;
    report->error_text = host->error_text;
    report->upstream = host->upstream;
    report->replica_name = host->replica_name;
    report->sync_names = host->sync_names;
}

struct monitored *monitored_new(struct monitor_name *name, const struct address *address,
                                bool several)
{
    struct monitored *host = memory_new(sizeof *host);
    char text[ADDRESS_TEXT_BYTES] = "";
    struct host_config config = name->config;

    host->environment = name->environment;
    host->name = name;
    if (address)
        host->address = *address;
    if (address && !address_is_local(address))
        address_host_text(address, text);
    host->address_text = text_copy(text);
    if (several)
        config.address = text;
    host->label = host_print(&config);
    host->timer.fire = on_due;
    host->since_login = LOGIN_EVERY;
    fill_report(host);
    return host;
}

void monitored_reset(struct monitored *host)
{
    probe_close(host->opening);
    handshake_close(host->handshake);
    host->opening = NULL;
    host->handshake = NULL;
    forget_kept(host);
}

void monitored_forget(struct monitored *host)
{
    bool known = host->report.health != HEALTH_UNKNOWN || host->report.role != ROLE_UNKNOWN;

    monitored_reset(host);
    memset(&host->report, 0, sizeof host->report);
    memset(&host->memory, 0, sizeof host->memory);
    host->error_text[0] = '\0';
    fill_report(host);
    if (known)
        monitored_changed(host, MONITOR_HEALTH | MONITOR_ROLE | MONITOR_BREAKER);
}

void monitored_free(struct monitored *host)
{
    monitored_reset(host);
    timer_detach(loop_of(host), &host->timer);
    free(host->label);
    free(host->address_text);
    free(host);
}
