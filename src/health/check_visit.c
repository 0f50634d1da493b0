/*
 * check_visit: one address of one host.
 *
 *   handshake (tcp, tls) ─► login ─► one query with all questions ─► rows
 *      ─► where there is a failover_user: its login ─► its grants ─► rows
 *      ─► where there is an auth_user: its login ─► auth_query for itself ─► a row ─► over
 *
 * The first failure ends it. The handshake is the data plane's code, the login is libpq: where both
 * succeed, all of pgstage's connections can.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/lookup.h"

static const struct settings *settings_of(const struct check_visit *visit)
{
    return visit->host->subject->effective->settings;
}

static const char *environment_of(const struct check_visit *visit)
{
    return visit->host->subject->environment;
}

static void end(struct check_visit *visit)
{
    visit->over = true;
    handshake_close(visit->handshake);
    probe_close(visit->probe);
    visit->handshake = NULL;
    visit->probe = NULL;
    check_went_on(visit->host->check);
}

/* "auth: password authentication failed (28P01)"; allocated. */
static char *problem_of(const struct probe_result *result)
{
    return text_print("%s: %s%s%s%s", probe_error_word(result->error), result->text,
                      result->sqlstate[0] ? " (" : "", result->sqlstate,
                      result->sqlstate[0] ? ")" : "");
}

static void fail(struct check_visit *visit, const char *check, const char *before,
                 const struct probe_result *result)
{
    char *problem = problem_of(result);
    check_rows_add(&visit->rows, environment_of(visit), visit->label, check, CHECK_ERROR,
                   result->duration_us, "%s%s", before, problem);
    free(problem);
}

/* A session of this user on the visited host. */
static struct probe *open_session(struct check_visit *visit, const char *user, const char *password,
                                  const char *dbname, probe_done *opened)
{
    struct check *check = visit->host->check;
    char address[ADDRESS_TEXT_BYTES];
    struct probe_target target = {
        .name = visit->host->config->name,
        .address =
            address_is_local(&visit->address) ? NULL : address_host_text(&visit->address, address),
        .port = visit->host->config->port,
        .user = user,
        .password = password,
        .dbname = dbname,
        .peer_user = settings_of(visit)->server_peer_user,
    };
    tls_settings_of_servers(&target.tls, settings_of(visit));
    return probe_open(check->loop, check->resolver, &target, check->deadline_us, opened, visit);
}

/* ---- auth_query ---- */

static void judge_lookup(struct check_visit *visit, const struct probe_result *result)
{
    const struct effective *asking = visit->host->subject->asking;
    bool fine = result->error == PROBE_FINE;
    char *problem = fine ? NULL : problem_of(result);
    check_judge_lookup(&visit->rows, environment_of(visit), visit->label,
                       fine ? result->rows : NULL, problem, asking->settings->auth_user,
                       asking->dbname, result->duration_us);
    free(problem);
    end(visit);
}

static void on_looked_up(struct probe *probe, void *context, const struct probe_result *result)
{
    (void)probe;
    judge_lookup(context, result);
}

static void on_auth_user_set_up(struct probe *probe, void *context,
                                const struct probe_result *result)
{
    struct check_visit *visit = context;
    const struct settings *settings = visit->host->subject->asking->settings;
    if (result->error == PROBE_FINE)
        probe_query_with(probe, settings->auth_query, settings->auth_user,
                         visit->host->check->deadline_us, on_looked_up);
    else
        judge_lookup(visit, result);
}

static void on_auth_user(struct probe *probe, void *context, const struct probe_result *result)
{
    struct check_visit *visit = context;
    const struct check *check = visit->host->check;
    char sql[LOOKUP_SETTINGS_BYTES];
    if (result->error != PROBE_FINE) {
        judge_lookup(visit, result);
        return;
    }
    lookup_settings_sql(sql, snapshot_globals(check->snapshot)->auth_query_timeout_us);
    probe_query(probe, sql, check->deadline_us, on_auth_user_set_up);
}

/* The last look: can users who stand in no auth_file be asked for? */
static void look_at_lookup(struct check_visit *visit)
{
    const struct effective *asking = visit->host->subject->asking;
    if (!asking) {
        end(visit);
        return;
    }
    probe_close(visit->probe);
    visit->probe =
        open_session(visit, asking->settings->auth_user,
                     lookup_password(asking->settings, snapshot_users(visit->host->check->snapshot),
                                     asking->settings->auth_user),
                     asking->dbname, on_auth_user);
}

/* ---- failover_user ---- */

static void judge_grants(struct check_visit *visit, const struct probe_result *result)
{
    char *problem = problem_of(result);
    bool fine = result->error == PROBE_FINE;
    check_judge_grants(&visit->rows, environment_of(visit), visit->label,
                       fine ? result->rows : NULL, fine ? NULL : problem, settings_of(visit),
                       result->duration_us);
    free(problem);
    look_at_lookup(visit);
}

static void on_grants(struct probe *probe, void *context, const struct probe_result *result)
{
    (void)probe;
    judge_grants(context, result);
}

static void on_failover_user(struct probe *probe, void *context, const struct probe_result *result)
{
    struct check_visit *visit = context;
    if (result->error == PROBE_FINE)
        probe_query(probe, check_grants_sql, visit->host->check->deadline_us, on_grants);
    else
        judge_grants(visit, result);
}

/* What a failover would need. */
static void look_at_grants(struct check_visit *visit)
{
    const struct settings *settings = settings_of(visit);
    if (!environment_of(visit) || !settings->failover_user) {
        look_at_lookup(visit);
        return;
    }
    probe_close(visit->probe);
    visit->probe = open_session(visit, settings->failover_user, settings->failover_password,
                                settings->failover_dbname, on_failover_user);
}

/* ---- the first login ---- */

static void on_answered(struct probe *probe, void *context, const struct probe_result *result)
{
    struct check_visit *visit = context;
    struct check_host *host = visit->host;
    struct check_facts facts;
    (void)probe;
    if (result->error != PROBE_FINE) {
        fail(visit, "role", "", result);
    } else if (!check_facts_read(&facts, result->rows)) {
        check_rows_add(&visit->rows, environment_of(visit), visit->label, "role", CHECK_ERROR,
                       result->duration_us, "protocol: the answer is not what was asked for");
    } else {
        check_judge(&visit->rows, environment_of(visit), visit->label, &facts, &host->demand,
                    settings_of(visit), host->dr, host->subject->database_count,
                    result->duration_us);
        visit->answered = true;
        visit->in_recovery = facts.in_recovery;
        (void)text_fit(visit->system_identifier, sizeof visit->system_identifier,
                       facts.system_identifier);
    }
    look_at_grants(visit);
}

static void on_opened(struct probe *probe, void *context, const struct probe_result *result)
{
    struct check_visit *visit = context;
    const struct check_subject *subject = visit->host->subject;
    if (result->error != PROBE_FINE) {
        char *before =
            text_print("as %s (%s) to %s: ", subject->user, subject->user_from, subject->dbname);
        fail(visit, result->step == PROBE_STEP_TLS ? "tls" : "login", before, result);
        free(before);
        end(visit);
        return;
    }
    check_rows_add(&visit->rows, environment_of(visit), visit->label, "login", CHECK_OK,
                   result->duration_us, "as %s (%s) to %s", subject->user, subject->user_from,
                   subject->dbname);
    char *sql = check_facts_sql(subject->databases, subject->database_count);
    probe_query(probe, sql, visit->host->check->deadline_us, on_answered);
    free(sql);
}

static void log_in(struct check_visit *visit)
{
    const struct check_subject *subject = visit->host->subject;
    if (!subject->user) {
        check_rows_add(&visit->rows, environment_of(visit), visit->label, "login", CHECK_WARNING, 0,
                       "nobody to log in as: set %s, and nothing behind the login was looked at",
                       subject->environment ? "monitor_user and monitor_password_file"
                                            : "user and password of the database");
        end(visit);
        return;
    }
    visit->probe =
        open_session(visit, subject->user, subject->password, subject->dbname, on_opened);
}

static void on_handshake(void *context, const struct handshake_result *result)
{
    struct check_visit *visit = context;
    const char *environment = environment_of(visit);
    visit->reached = result->step != PROBE_STEP_CONNECT;
    if (!visit->reached) {
        check_rows_add(&visit->rows, environment, visit->label, "tcp", CHECK_ERROR, 0, "%s: %s",
                       probe_error_word(result->error), result->text);
        end(visit);
        return;
    }
    check_rows_add(&visit->rows, environment, visit->label, "tcp", CHECK_OK, result->connect_us,
                   "%s", address_is_local(&visit->address) ? "a Unix socket" : "connected");
    check_judge_tls(&visit->rows, environment, visit->label, result,
                    (enum tls_mode)settings_of(visit)->server_tls_sslmode,
                    address_is_local(&visit->address), time(NULL));
    handshake_close(visit->handshake);
    visit->handshake = NULL;
    if (result->error != PROBE_FINE)
        end(visit);
    else
        log_in(visit);
}

void check_visit_start(struct check_host *host, const struct address *address, bool several)
{
    struct check_visit *visit = memory_new(sizeof *visit);
    char text[ADDRESS_TEXT_BYTES];
    visit->host = host;
    visit->address = *address;
    visit->label = several ? text_print("%s (%s)", host->label, address_host_text(address, text))
                           : text_copy(host->label);
    list_push_back(&host->visits, &visit->node);
    host->check->pending++;
    visit->handshake =
        handshake_open(host->check->loop, address, host->subject->tls, host->config->name,
                       host->check->deadline_us, on_handshake, visit);
}

void check_visit_free(struct check_visit *visit)
{
    handshake_close(visit->handshake);
    probe_close(visit->probe);
    check_rows_fini(&visit->rows);
    free(visit->label);
    free(visit);
}
