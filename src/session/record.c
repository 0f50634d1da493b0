/*
 * record.c: logins in the audit log.
 *
 *   accepted: record ─► (letter) ─► login_recorded ─► welcome          REFUSED when it cannot be
 *   refused:  record ─► (letter) ─► client_farewell ─► FATAL, the end
 *
 * Which logins: all to an environment of a production class or with monitoring = comprehensive, all
 * where audit_logins says so, all to the console; refused ones also when nobody knows where they
 * wanted to go and there is a production environment. Where production is meant the client hears
 * its answer only when the line is on the disk; elsewhere the line is written in passing.
 */
#include "pgstage/session/record.h"

#include "pgstage/session/audit.h"
#include "pgstage/session/login.h"
#include "pgstage/session/plane.h"

/* What is to be done with a client's record. */
struct duty {
    bool wanted;
    bool through; /* the answer waits for the disk */
    bool refuse;  /* without a record no login */
};

static struct duty duty_of(const struct client *client, bool refused)
{
    const struct snapshot *snapshot = client->worker->setup->snapshot;
    const struct environment_config *environment = login_environment(client);
    const struct settings *settings = environment
                                          ? snapshot_environment_settings(snapshot, environment)
                                          : snapshot_globals(snapshot);
    struct duty duty = {0};
    bool production;

    if (!client->user || !audit_is_on(client->worker->plane->audit))
        return duty;
    if (environment)
        production = environment->production_class;
    else
        production = (client->console || (refused && !login_is_routed(client))) &&
                     snapshot_has_production(snapshot);
    duty.wanted = production || client->console || settings->audit_logins ||
                  (environment && settings->monitoring == MONITORING_COMPREHENSIVE);
    /* whoever has to mend the disk must reach the console */
    duty.refuse =
        settings->audit_log_failure == AUDIT_FAILURE_REFUSE ||
        (settings->audit_log_failure == AUDIT_FAILURE_AUTO && production && !client->console);
    duty.through = production || duty.refuse;
    return duty;
}

static struct audit_record *describe(const struct client *client, const char *event)
{
    struct audit_record *record = audit_record_new(event);
    const struct environment_config *environment = login_environment(client);
    char tls[96], from[ADDRESS_TEXT_BYTES];

    audit_record_text(record, "user", client->user);
    audit_record_text(record, "database", client->database);
    audit_record_text(record, "environment", environment ? environment->name : NULL);
    audit_record_text(record, "from", client_from(client, from));
    if (client->stream.ssl)
        tls_describe(client->stream.ssl, tls, sizeof(tls));
    audit_record_text(record, "tls", client->stream.ssl ? tls : NULL);
    return record;
}

static void on_accepted(struct loop *loop, void *argument, uint64_t id, bool written)
{
    struct client *client = worker_client(worker_of(loop), id);

    (void)argument;
    if (!client || client_is_over(client))
        return;
    client->recorded = RECORD_DONE;
    login_recorded(client, written || !duty_of(client, false).refuse);
}

bool record_accepted(struct client *client)
{
    struct audit *audit = client->worker->plane->audit;
    struct duty duty;

    if (client->recorded == RECORD_DONE)
        return false;
    if (client->recorded == RECORD_WAITING)
        return true;
    duty = duty_of(client, false);
    client->recorded = duty.wanted && duty.through ? RECORD_WAITING : RECORD_DONE;
    if (!duty.wanted)
        return false;
    if (duty.through) {
        audit_write_through(audit, describe(client, "login accepted"), client->worker->loop,
                            on_accepted, NULL, client->id);
        client_arm(client); /* the disk gets as long as the login */
    } else {
        audit_write(audit, describe(client, "login accepted"));
    }
    return duty.through;
}

static void on_refused(struct loop *loop, void *argument, uint64_t id, bool written)
{
    struct client *client = worker_client(worker_of(loop), id);

    (void)argument;
    (void)written; /* the log has said so */
    if (client && client->state == CLIENT_CLOSING)
        client_farewell(client);
}

bool record_refused(struct client *client, const char *sqlstate, const char *text,
                    struct buffer *farewell)
{
    struct audit *audit = client->worker->plane->audit;
    struct duty duty = duty_of(client, true);
    struct audit_record *record;

    if (!client->login || !duty.wanted)
        return false;
    record = describe(client, "login refused");
    audit_record_text(record, "sqlstate", sqlstate);
    audit_record_text(record, "message", text);
    if (!duty.through) {
        audit_write(audit, record);
        return false;
    }
    *login_farewell(client) = *farewell;
    *farewell = (struct buffer){0};
    audit_write_through(audit, record, client->worker->loop, on_refused, NULL, client->id);
    return true;
}
