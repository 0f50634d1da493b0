/*
 * step_repoint.c: the other standbys are told to follow the new primary.
 *
 *   for each standby that follows the old one:
 *     read primary_conninfo and primary_slot_name ─► make the slot on the new primary, if one is
 *     named ─► ALTER SYSTEM SET primary_conninfo ─► pg_reload_conf
 *   then wait until they stream on the new timeline
 *
 * Only host, hostaddr and port of primary_conninfo are changed; user, password, TLS and the rest
 * stay as the administrator has set them. One that cannot be told keeps following the dead primary:
 * the history says so, and it is shown as orphaned. Clients do not wait for any of this.
 *
 * The advisory locks are held while it waits: another pgstage that cannot reach the new primary
 * would find a majority among the others and promote a second one. Once they stream, the newer
 * timeline that it meets there keeps it from that.
 */
#include <stdlib.h>
#include <string.h>

#include "conninfo.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"

#include "step.h"

#define JOIN_LOOK_US (100 * CLOCK_MS)
/* A standby looks for its new primary each wal_retrieve_retry_interval (5 s). */
#define JOIN_LIMIT_US (30 * CLOCK_SECOND)

/* ---- one standby after the other ---- */

static void ask(struct procedure *procedure);

static struct delegate *delegate_at(const struct procedure *procedure, size_t index)
{
    size_t i = 0;
    list_for_each (node, delegation_list(procedure->delegation)) {
        if (i++ == index)
            return list_entry(node, struct delegate, node);
    }
    return NULL;
}

static void go_on(struct procedure *procedure, enum repoint_phase phase)
{
    procedure->repoint_phase = phase;
    ask(procedure);
}

static void next_standby(struct procedure *procedure)
{
    procedure->repoint_at++;
    go_on(procedure, REPOINT_READ);
}

static void give_up(struct procedure *procedure, const struct delegate *delegate, const char *what)
{
    procedure_note(procedure, "%s still follows the old primary: %s: %s", delegate->host, what,
                   delegate->problem);
    next_standby(procedure);
}

static void on_read(void *context, struct delegate *delegate, const struct probe_result *result)
{
    struct procedure *procedure = context;
    if (result->error != PROBE_FINE || PQntuples(result->rows) != 1)
        return;
    free(procedure->conninfo);
    free(procedure->slot);
    procedure->conninfo = text_copy(PQgetvalue(result->rows, 0, 0));
    procedure->slot = text_copy(PQgetvalue(result->rows, 0, 1));
    (void)delegate;
}

/* Whom a primary_conninfo means. */
struct aim {
    const char *host, *address, *port;
    const char *label; /* of the monitored host that it is; NULL: of none */
};

static void match_aim(void *argument, const struct host_report *report)
{
    struct aim *aim = argument;
    char port[8];
    snprintf(port, sizeof port, "%u", report->port);
    if (strcmp(port, aim->port) != 0)
        return;
    if (text_equal_nocase(aim->host, report->name) || text_equal(aim->host, report->address) ||
        (aim->address && text_equal(aim->address, report->address)))
        aim->label = report->label;
}

/* The key of the host that it follows; NULL: none that is known. */
static const char *whom_it_follows(const struct procedure *procedure)
{
    struct aim aim = {.host = "", .port = "5432"};
    PQconninfoOption *options = PQconninfoParse(procedure->conninfo, NULL);
    for (const PQconninfoOption *option = options; option && option->keyword; option++) {
        if (!option->val)
            continue;
        if (strcmp(option->keyword, "host") == 0)
            aim.host = option->val;
        else if (strcmp(option->keyword, "hostaddr") == 0)
            aim.address = option->val;
        else if (strcmp(option->keyword, "port") == 0)
            aim.port = option->val;
    }
    if (options)
        monitor_each(procedure->procedures->monitor, procedure->environment->name, match_aim, &aim);
    PQconninfoFree(options);
    return aim.label;
}

/* A cascaded standby stays behind its own upstream, and one that follows a name which is no host of
 * the environment (a moving address, say) is the administrator's. */
static void judge_aim(struct procedure *procedure, const struct delegate *delegate)
{
    const char *follows = whom_it_follows(procedure);
    if (text_equal(follows, procedure->old) && follows) {
        go_on(procedure, *procedure->slot ? REPOINT_SLOT : REPOINT_WRITE);
        return;
    }
    if (!follows)
        procedure_note(procedure, "%s follows a host that is none of the environment's: left alone",
                       delegate->host);
    else
        procedure_note(procedure, "%s follows %s", delegate->host, follows);
    next_standby(procedure);
}

static void after_read(void *context)
{
    struct procedure *procedure = context;
    struct delegate *delegate = delegate_at(procedure, procedure->repoint_at);
    if (delegate->has_failed || !delegate->is_open)
        give_up(procedure, delegate, "primary_conninfo cannot be read");
    else if (!procedure->conninfo || !*procedure->conninfo)
        next_standby(procedure); /* it takes its WAL from an archive */
    else
        judge_aim(procedure, delegate);
}

static void after_slot(void *context)
{
    struct procedure *procedure = context;
    const struct delegate *primary = delegation_find(procedure->delegation, procedure->candidate);
    if (primary->has_failed)
        procedure_note(procedure, "the slot %s of %s could not be made on %s: %s", procedure->slot,
                       delegate_at(procedure, procedure->repoint_at)->host, primary->host,
                       primary->problem);
    go_on(procedure, REPOINT_WRITE);
}

static void after_write(void *context)
{
    struct procedure *procedure = context;
    struct delegate *delegate = delegate_at(procedure, procedure->repoint_at);
    if (delegate->has_failed || !delegate->is_open)
        give_up(procedure, delegate, "primary_conninfo cannot be set");
    else
        go_on(procedure, REPOINT_RELOAD);
}

static void after_reload(void *context)
{
    struct procedure *procedure = context;
    struct delegate *delegate = delegate_at(procedure, procedure->repoint_at);
    if (delegate->has_failed || !delegate->is_open) {
        give_up(procedure, delegate, "the configuration cannot be reloaded");
        return;
    }
    procedure_note(procedure, "%s follows %s", delegate->host, procedure->candidate);
    delegate->is_repointed = true;
    next_standby(procedure);
}

/* ---- until they have joined ---- */

static void survey(struct procedure *procedure);

static void judge_joined(struct procedure *procedure)
{
    const struct delegate *missing = NULL;
    list_for_each (node, delegation_list(procedure->delegation)) {
        const struct delegate *delegate = list_entry(node, struct delegate, node);
        bool joined = delegate->streams && delegate->timeline >= procedure->new_timeline;
        if (delegate->is_repointed && delegate->is_open && !joined)
            missing = delegate;
    }
    if (missing && procedure_now_us(procedure) < procedure->step_began_us + JOIN_LIMIT_US) {
        procedure_poll(procedure, JOIN_LOOK_US, survey);
        return;
    }
    if (missing)
        procedure_note(procedure, "%s does not stream yet", missing->host);
    procedure_next(procedure);
}

static void survey(struct procedure *procedure)
{
    procedure_survey(procedure, judge_joined);
}

static void ask_slot(struct procedure *procedure)
{
    char *name = sql_literal(procedure->slot);
    char *sql = text_print("SELECT pg_catalog.pg_create_physical_replication_slot(%s) WHERE NOT "
                           "EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE "
                           "slot_name = %s)",
                           name, name);
    delegation_ask(procedure->delegation, procedure->candidate, sql,
                   procedure_deadline_us(procedure), NULL, after_slot);
    free(sql);
    free(name);
}

static void ask_write(struct procedure *procedure, const struct delegate *delegate)
{
    const struct host_report *report = procedure_report(procedure, procedure->candidate);
    bool has_address = strchr(procedure->candidate, '@') != NULL;
    char *conninfo = report ? conninfo_move(procedure->conninfo, report->name,
                                            has_address ? report->address : NULL, report->port)
                            : NULL;
    if (!conninfo) {
        procedure_note(procedure, "%s: its primary_conninfo cannot be understood", delegate->host);
        next_standby(procedure);
        return;
    }
    char *literal = sql_literal(conninfo);
    char *sql = text_print("ALTER SYSTEM SET primary_conninfo = %s", literal);
    delegation_ask(procedure->delegation, delegate->host, sql, procedure_deadline_us(procedure),
                   NULL, after_write);
    /* it has a password in it */
    text_wipe(conninfo, strlen(conninfo));
    text_wipe(literal, strlen(literal));
    text_wipe(sql, strlen(sql));
    free(conninfo);
    free(literal);
    free(sql);
}

static void ask(struct procedure *procedure)
{
    struct delegate *delegate = delegate_at(procedure, procedure->repoint_at);
    if (!delegate) {
        survey(procedure);
        return;
    }
    if (!delegate->is_open || !delegate->in_recovery ||
        text_equal(delegate->host, procedure->candidate) ||
        text_equal(delegate->host, procedure->old)) {
        procedure->repoint_at++;
        ask(procedure);
        return;
    }
    switch (procedure->repoint_phase) {
    case REPOINT_READ:
        delegation_ask(procedure->delegation, delegate->host,
                       "SELECT pg_catalog.current_setting('primary_conninfo'),"
                       " pg_catalog.current_setting('primary_slot_name')",
                       procedure_deadline_us(procedure), on_read, after_read);
        break;
    case REPOINT_SLOT:
        ask_slot(procedure);
        break;
    case REPOINT_WRITE:
        ask_write(procedure, delegate);
        break;
    case REPOINT_RELOAD:
        delegation_ask(procedure->delegation, delegate->host, "SELECT pg_catalog.pg_reload_conf()",
                       procedure_deadline_us(procedure), NULL, after_reload);
        break;
    }
}

void step_repoint(struct procedure *procedure)
{
    procedure->repoint_at = 0;
    go_on(procedure, REPOINT_READ);
}
