/*
 * drill.c: DRILL: everything that a DR failover would need, tried without moving anything.
 *
 *   what the monitor knows of each DR host ─► failover_user logs in and asks for its grants ─►
 *   every pool's user logs in to every DR host ─► what it would cost in time and data ─► ready or
 * not
 *
 * A few logins at a time, because max_connections is one of the things that fail there. Users whose
 * password is known only as a hash, or only to their clients, cannot be tried and are named. One
 * deadline for all of it. Rows: item is the check, name the host.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/users.h"
#include "pgstage/health/monitor.h"
#include "pgstage/net/tls.h"
#include "pgstage/pool/registry.h"
#include "pgstage/session/plane.h"
#include "procedure_inside.h"

#define LIMIT_US (60 * CLOCK_SECOND)
#define LOGIN_US (5 * CLOCK_SECOND)
#define AT_ONCE 4
#define LOGINS_MAX 2000
/* What pg_promote takes beyond replaying what has been received. */
#define PROMOTE_US CLOCK_SECOND

/* One login that a pool would make. */
struct login {
    struct list_node node;
    struct drill *drill;
    struct effective *effective;
    char *user, *host; /* host: key */
    const char *password;
    struct probe *probe;
    uint64_t began_us;
};

struct drill {
    /* fixed */
    struct list_node node;
    struct procedures *procedures;
    struct snapshot *snapshot;
    const struct environment_config *environment;
    const struct settings *settings;
    procedure_answered *answered;
    void *context;
    uint64_t deadline_us;
    /* owner */
    struct procedure_rows rows;
    size_t errors, warnings;
    struct delegation *delegation;
    struct list waiting, trying, tried; /* struct login */
    size_t logins, failed;
    struct loop_task task;
    void (*later)(struct drill *drill);
    /* of the host that is best placed */
    char *best;
    int64_t best_lag_us, best_lag_bytes;
    uint64_t best_login_us;
};

/* ---- rows ---- */

enum grade { GRADE_OK, GRADE_WARNING, GRADE_ERROR };

static void put(struct drill *drill, const char *check, const char *host, enum grade grade,
                int64_t duration_us, const char *format, ...) __attribute__((format(printf, 6, 7)));

static void put(struct drill *drill, const char *check, const char *host, enum grade grade,
                int64_t duration_us, const char *format, ...)
{
    static const char *const words[] = {"ok", "warning", "error"};
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    rows_add(&drill->rows, check, host, words[grade], duration_us, "%s", text);
    drill->errors += grade == GRADE_ERROR;
    drill->warnings += grade == GRADE_WARNING;
    free(text);
}

/* ---- the end ---- */

static void login_free(struct list *list, struct login *login)
{
    list_remove(list, &login->node);
    probe_close(login->probe);
    effective_unref(login->effective);
    free(login->user);
    free(login->host);
    free(login);
}

static void logins_free(struct list *list)
{
    struct list_node *node;
    while ((node = list_first(list)))
        login_free(list, list_entry(node, struct login, node));
}

static void drill_free(struct drill *drill)
{
    list_remove(&drill->procedures->drills, &drill->node);
    loop_undefer(drill->procedures->loop, &drill->task);
    logins_free(&drill->waiting);
    logins_free(&drill->trying);
    logins_free(&drill->tried);
    delegation_free(drill->delegation);
    rows_fini(&drill->rows);
    snapshot_unref(drill->snapshot);
    free(drill->best);
    free(drill);
}

static void answer(struct drill *drill, bool ok, const char *sqlstate, const char *text)
{
    struct procedure_answer said = {.ok = ok, .text = text, .rows = &drill->rows};
    (void)text_fit(said.sqlstate, sizeof said.sqlstate, sqlstate);
    if (drill->answered)
        drill->answered(drill->context, &said);
    drill_free(drill);
}

static void run_later(struct loop_task *task)
{
    struct drill *drill = list_entry(task, struct drill, task);
    drill->later(drill);
}

static void later(struct drill *drill, void (*run)(struct drill *drill))
{
    drill->later = run;
    loop_defer(drill->procedures->loop, &drill->task);
}

/* ---- what it would cost ---- */

static void judge_loss(struct drill *drill)
{
    uint64_t limit_us = drill->settings->rpo_limit_us;
    const char *host = drill->best;
    if (drill->best_lag_bytes < 0 || drill->best_lag_us < 0) {
        put(drill, "rpo", host, limit_us ? GRADE_ERROR : GRADE_WARNING, -1,
            "how far %s is behind is not known", host);
        return;
    }
    bool over = limit_us && (uint64_t)drill->best_lag_us > limit_us;
    char *limit = limit_us ? text_print("rpo_limit is %.1f s", (double)limit_us / 1e6)
                           : text_copy("no rpo_limit");
    put(drill, "rpo", host, over ? GRADE_ERROR : GRADE_OK, drill->best_lag_us,
        "%.1f s and %" PRId64 " bytes would be lost now; %s", (double)drill->best_lag_us / 1e6,
        drill->best_lag_bytes, limit);
    free(limit);
}

static void judge_time(struct drill *drill)
{
    const struct settings *settings = drill->settings;
    bool automatic = settings->dr_failover == DR_FAILOVER_AUTOMATIC;
    uint64_t target_us = settings->rto_target_us;
    uint64_t replay_us = drill->best_lag_us > 0 ? (uint64_t)drill->best_lag_us : 0;
    uint64_t total_us = (automatic ? settings->dr_failover_delay_us : 0) +
                        2 * drill->best_login_us + replay_us + PROMOTE_US;
    bool over = target_us && total_us > target_us;
    char *target = target_us ? text_print("rto_target is %.1f s", (double)target_us / 1e6)
                             : text_copy("no rto_target");
    put(drill, "rto", drill->best, over ? GRADE_ERROR : GRADE_OK, (int64_t)total_us,
        "about %.1f s from %s to the first write, %s; %s", (double)total_us / 1e6,
        automatic ? "the loss of the site" : "the command",
        settings->fence_command ? "and what fence_command takes" : "without a fence_command",
        target);
    free(target);
}

static void conclude(struct drill *drill)
{
    const struct settings *settings = drill->settings;
    if (drill->best) {
        judge_loss(drill);
        judge_time(drill);
    } else {
        put(drill, "rpo", NULL, GRADE_ERROR, -1, "no DR host can be promoted");
    }
    if (settings->failover_mode != FAILOVER_PROMOTE)
        put(drill, "mode", NULL, GRADE_ERROR, -1,
            "failover_mode = follow: pgstage promotes nothing at the DR site");
    if (drill->errors)
        put(drill, "ready", NULL, GRADE_ERROR, -1, "no: %zu errors, %zu warnings", drill->errors,
            drill->warnings);
    else
        put(drill, "ready", NULL, drill->warnings ? GRADE_WARNING : GRADE_OK, -1, "yes%s",
            drill->warnings ? ", with the warnings above" : "");
    answer(drill, true, "00000", NULL);
}

/* ---- logins of pools ---- */

static void try_logins(struct drill *drill);

static void on_login(struct probe *probe, void *context, const struct probe_result *result)
{
    struct login *login = context;
    struct drill *drill = login->drill;
    const char *database = login->effective->dbname;
    (void)probe;
    if (result->error == PROBE_FINE)
        put(drill, "login", login->host, GRADE_OK, (int64_t)result->duration_us, "as %s to %s",
            login->user, database);
    else
        put(drill, "login", login->host, GRADE_ERROR, (int64_t)result->duration_us,
            "as %s to %s: %s: %s%s%s%s", login->user, database, probe_error_word(result->error),
            result->text, result->sqlstate[0] ? " (" : "", result->sqlstate,
            result->sqlstate[0] ? ")" : "");
    /* open ones stay open: together they must fit into max_connections */
    list_remove(&drill->trying, &login->node);
    list_push_back(&drill->tried, &login->node);
    if (result->error != PROBE_FINE) {
        probe_close(login->probe);
        login->probe = NULL;
    }
    later(drill, try_logins);
}

static void try_one(struct drill *drill, struct login *login)
{
    struct procedures *procedures = drill->procedures;
    const struct settings *settings = login->effective->settings;
    const struct host_report *report =
        monitor_find(procedures->monitor, drill->environment->name, login->host);
    uint64_t limit_us = loop_now_us(procedures->loop) + LOGIN_US;
    if (!report || loop_now_us(procedures->loop) >= drill->deadline_us) {
        put(drill, "login", login->host, GRADE_ERROR, -1, "as %s to %s: not tried in time",
            login->user, login->effective->dbname);
        list_push_back(&drill->tried, &login->node);
        return;
    }
    struct probe_target target = {
        .name = report->name,
        .address = *report->address ? report->address : NULL,
        .port = report->port,
        .user = login->user,
        .password = login->password,
        .dbname = login->effective->dbname,
        .peer_user = settings->server_peer_user,
    };
    tls_settings_of_servers(&target.tls, settings);
    list_push_back(&drill->trying, &login->node);
    login->probe =
        probe_open(procedures->loop, procedures->resolver, &target,
                   limit_us < drill->deadline_us ? limit_us : drill->deadline_us, on_login, login);
}

static void try_logins(struct drill *drill)
{
    while (drill->trying.length < AT_ONCE && !list_is_empty(&drill->waiting))
        try_one(drill, list_entry(list_pop_front(&drill->waiting), struct login, node));
    if (!list_is_empty(&drill->trying))
        return;
    if (drill->tried.length == 0)
        put(drill, "login", NULL, GRADE_WARNING, -1,
            "no user of a pool could be tried: there are no pools with a known password yet");
    conclude(drill);
}

static bool is_listed(const struct list *list, const char *host, const char *user,
                      const char *database)
{
    list_for_each (node, list) {
        const struct login *login = list_entry(node, struct login, node);
        if (text_equal(login->host, host) && text_equal(login->user, user) &&
            text_equal(login->effective->dbname, database))
            return true;
    }
    return false;
}

/* Is no more than a hash of its password known? One without a password may be let in without. */
static bool has_hash_only(const struct user_secret *secret)
{
    return secret && (secret->kind == SECRET_MD5 || secret->kind == SECRET_SCRAM);
}

struct adding {
    struct drill *drill;
    struct effective *effective;
    const char *user, *password;
};

static void add_login(void *argument, const struct host_report *report)
{
    struct adding *adding = argument;
    struct drill *drill = adding->drill;
    const struct delegate *delegate = delegation_find(drill->delegation, report->label);
    /* a host that does not answer has its row already */
    if (!report->is_dr || !delegate || report->health == HEALTH_CRITICAL ||
        is_listed(&drill->waiting, report->label, adding->user, adding->effective->dbname) ||
        drill->waiting.length >= LOGINS_MAX)
        return;
    struct login *login = memory_new(sizeof *login);
    login->drill = drill;
    login->effective = effective_ref(adding->effective);
    login->user = text_copy(adding->user);
    login->password = adding->password;
    login->host = text_copy(report->label);
    list_push_back(&drill->waiting, &login->node);
}

static void add_user(struct drill *drill, struct effective *effective, const char *pool_user)
{
    const struct settings *settings = effective->settings;
    const char *user = settings->user ? settings->user : pool_user;
    const struct user_secret *secret = users_find(snapshot_users(effective->snapshot), user);
    const char *password = NULL;
    if (settings->user && settings->password)
        password = secret_kind_of(settings->password) == SECRET_PLAIN ? settings->password : NULL;
    else if (secret && secret->kind == SECRET_PLAIN)
        password = secret->secret;
    if (!password && has_hash_only(secret)) {
        put(drill, "login", NULL, GRADE_WARNING, -1,
            "%s cannot be tried: its password is known here only as a hash", user);
        return;
    }
    struct adding adding = {drill, effective, user, password};
    monitor_each(drill->procedures->monitor, drill->environment->name, add_login, &adding);
}

static void each_pool(struct pool *pool, void *argument)
{
    struct drill *drill = argument;
    if (!text_equal(pool_environment(pool), drill->environment->name))
        return;
    struct effective *effective = plane_pool_effective(pool);
    if (effective) {
        add_user(drill, effective, pool_user(pool));
        effective_unref(effective);
    }
}

/* Lines with a forced user, used so far or not. */
static void add_forced(struct drill *drill)
{
    for (size_t i = 0; i < snapshot_database_count(drill->snapshot); i++) {
        const struct database_config *line = snapshot_database(drill->snapshot, i);
        if (line->is_fallback || !database_serves(line, drill->environment))
            continue;
        struct effective *effective =
            snapshot_effective(drill->snapshot, line, line->name, drill->environment, NULL);
        if (effective->settings->user)
            add_user(drill, effective, effective->settings->user);
        effective_unref(effective);
    }
}

static void begin_logins(struct drill *drill)
{
    registry_each(plane_registry(drill->procedures->plane), each_pool, drill);
    add_forced(drill);
    try_logins(drill);
}

/* ---- failover_user ---- */

static const char grants_sql[] =
    "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_promote(boolean, integer)',"
    " 'EXECUTE'),"
    " pg_catalog.has_function_privilege('pg_catalog.pg_reload_conf()', 'EXECUTE'),"
    " pg_catalog.pg_has_role('pg_monitor', 'MEMBER'),"
    " pg_catalog.current_setting('max_connections'),"
    " (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity"
    " WHERE backend_type = 'client backend')";

static void on_grants(void *context, struct delegate *delegate, const struct probe_result *result)
{
    struct drill *drill = context;
    const PGresult *rows = result->rows;
    static const char *const missing[] = {
        "no EXECUTE on pg_promote(boolean, integer): it cannot be promoted",
        "no EXECUTE on pg_reload_conf(): it cannot be told to follow another host",
        "not a member of pg_monitor: its WAL receiver cannot be seen",
    };
    if (result->error != PROBE_FINE || PQntuples(rows) != 1 || PQnfields(rows) != 5) {
        put(drill, "grants", delegate->host, GRADE_ERROR, -1, "%s", delegate->problem);
        return;
    }
    bool fine = true;
    for (int i = 0; i < 3; i++) {
        if (PQgetvalue(rows, 0, i)[0] == 't')
            continue;
        put(drill, "grants", delegate->host, i == 0 ? GRADE_ERROR : GRADE_WARNING, -1, "%s",
            missing[i]);
        fine = false;
    }
    if (fine)
        put(drill, "grants", delegate->host, GRADE_OK, -1,
            "failover_user may promote, reload and see replication");
    put(drill, "connections", delegate->host, GRADE_OK, -1, "%s of max_connections = %s in use",
        PQgetvalue(rows, 0, 4), PQgetvalue(rows, 0, 3));
}

static void on_grants_over(void *context)
{
    begin_logins(context);
}

static void on_delegates_open(void *context)
{
    struct drill *drill = context;
    uint64_t now_us = loop_now_us(drill->procedures->loop);
    list_for_each (node, delegation_list(drill->delegation)) {
        const struct delegate *delegate = list_entry(node, struct delegate, node);
        if (delegate->is_open) {
            put(drill, "failover_user", delegate->host, GRADE_OK, (int64_t)delegate->login_us,
                "%s logs in to %s", drill->settings->failover_user,
                drill->settings->failover_dbname);
            if (text_equal(delegate->host, drill->best))
                drill->best_login_us = delegate->login_us;
        } else {
            put(drill, "failover_user", delegate->host, GRADE_ERROR, -1, "%s", delegate->problem);
        }
    }
    delegation_ask(drill->delegation, NULL, grants_sql, now_us + LOGIN_US, on_grants,
                   on_grants_over);
}

/* ---- what the monitor knows ---- */

static void judge_stream(struct drill *drill, const struct host_report *report)
{
    if (report->receiver == RECEIVER_STREAMING)
        put(drill, "streaming", report->label, GRADE_OK, -1, "receives WAL from %s",
            *report->upstream ? report->upstream : "its upstream");
    else
        put(drill, "streaming", report->label, GRADE_ERROR, -1, "its WAL receiver: %s",
            receiver_word(report->receiver));
    if (report->lag_bytes < 0)
        put(drill, "lag", report->label, GRADE_WARNING, -1, "not known");
    else
        put(drill, "lag", report->label, GRADE_OK, report->lag_us, "%" PRId64 " bytes",
            report->lag_bytes);
    if (report->wal_receiver_timeout_us == 0 || report->wal_receiver_timeout_us > 5 * CLOCK_SECOND)
        put(drill, "witness", report->label, GRADE_WARNING, -1,
            "wal_receiver_timeout is %.0f s: whether the primary is dead is known that late; set "
            "5 s or less",
            (double)report->wal_receiver_timeout_us / 1e6);
}

static void judge_host(void *argument, const struct host_report *report)
{
    struct drill *drill = argument;
    const struct situation *situation =
        failover_situation(drill->procedures->failover, drill->environment->name);
    if (!report->is_dr)
        return;
    bool answers = report->error == PROBE_FINE && report->health != HEALTH_CRITICAL;
    if (!answers) {
        put(drill, "reachable", report->label, GRADE_ERROR, -1, "%s",
            *report->error_text ? report->error_text : "it has not answered yet");
        return;
    }
    put(drill, "reachable", report->label, GRADE_OK, (int64_t)report->latency_us, "answers");
    bool standby = report->role == ROLE_STANDBY || report->role == ROLE_ORPHANED;
    bool ours = situation && report->system_identifier == situation->system_identifier;
    put(drill, "role", report->label, standby ? GRADE_OK : GRADE_ERROR, -1, "%s",
        role_word(report->role));
    put(drill, "identity", report->label, ours ? GRADE_OK : GRADE_ERROR, -1, "%" PRIu64,
        report->system_identifier);
    if (standby)
        judge_stream(drill, report);
    if (standby && ours && !drill->best) { /* in the order of dr_hosts */
        drill->best = text_copy(report->label);
        drill->best_lag_us = report->lag_us;
        drill->best_lag_bytes = report->lag_bytes;
    }
    delegation_add(drill->delegation, report);
}

static void begin_drill(struct drill *drill)
{
    struct procedures *procedures = drill->procedures;
    drill->delegation =
        delegation_new(procedures->loop, procedures->resolver, drill->settings, drill);
    monitor_each(procedures->monitor, drill->environment->name, judge_host, drill);
    if (!drill->settings->failover_user) {
        put(drill, "failover_user", NULL, GRADE_ERROR, -1, "failover_user is not set");
        begin_logins(drill);
        return;
    }
    delegation_open(drill->delegation, NULL, loop_now_us(procedures->loop) + LOGIN_US,
                    on_delegates_open);
}

static void refuse_unknown(struct drill *drill)
{
    answer(drill, false, "3D000", "no such environment");
}

static void refuse_without_dr(struct drill *drill)
{
    answer(drill, false, "55000", "the environment has no dr_hosts");
}

void procedures_drill(struct procedures *procedures, const char *environment,
                      procedure_answered *answered, void *context)
{
    struct drill *drill = memory_new(sizeof *drill);
    drill->procedures = procedures;
    drill->snapshot = snapshot_ref(plane_snapshot(procedures->plane));
    drill->environment = snapshot_find_environment(drill->snapshot, environment);
    drill->answered = answered;
    drill->context = context;
    drill->deadline_us = loop_now_us(procedures->loop) + LIMIT_US;
    drill->best_lag_us = drill->best_lag_bytes = -1;
    drill->task.run = run_later;
    list_init(&drill->waiting);
    list_init(&drill->trying);
    list_init(&drill->tried);
    list_push_back(&procedures->drills, &drill->node);
    if (!drill->environment) {
        later(drill, refuse_unknown);
        return;
    }
    drill->settings = snapshot_environment_settings(drill->snapshot, drill->environment);
    later(drill, drill->environment->dr_host_count ? begin_drill : refuse_without_dr);
}

void drills_end(struct procedures *procedures)
{
    struct list_node *node;
    while ((node = list_first(&procedures->drills)))
        answer(list_entry(node, struct drill, node), false, "57P01", "pgstage is shutting down");
}

void drills_forget(struct procedures *procedures, void *context)
{
    list_for_each_safe (node, &procedures->drills) {
        struct drill *drill = list_entry(node, struct drill, node);
        if (drill->context == context)
            drill_free(drill);
    }
}
