/*
 * fetch.c: a login whose user stands in no auth_file.
 *
 *   login_authenticate ─► fetch_begin ─┬─ not asked for, or a fresh answer ────► login_identify
 *                                      └─ inquiry (control thread) ─► answered ─┴─► refused
 *
 * What is learned here is told to nobody: whoever is not known goes on as somebody with a wrong
 * password does. Only when nobody could be asked does the client hear that, whoever it is. The
 * client's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "login_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/inquiry.h"

/* A secret that is younger is not asked for again because a login with it has failed. */
#define DOUBT_AFTER_US CLOCK_SECOND

/* ---- where to ask ---- */

/* The database where auth_query runs; NULL: none is known. The caller owns the reference. */
static struct effective *place_of(struct client *client, const struct settings *settings,
                                  const struct environment_config *environment,
                                  struct effective *own)
{
    struct snapshot *snapshot = setup_of(client)->snapshot;
    struct route_request request = {0};
    struct route route;
    enum route_result result;
    char *name;

    if (!settings->auth_dbname)
        return own ? effective_ref(own) : NULL;
    name = environment ? text_print("%s@%s", settings->auth_dbname, environment->name)
                       : text_copy(settings->auth_dbname);
    request.database = name;
    result = route_find(snapshot, &request, &route);
    free(name);
    if (result != ROUTE_FOUND || (environment && route.environment != environment))
        return NULL;
    return snapshot_effective(snapshot, route.line, route.database, route.environment, NULL);
}

/* An inquiry for this client; NULL: its user is not to be asked for. */
static struct inquiry *inquiry_for(struct client *client)
{
    struct login *login = client->login;
    struct setup *setup = setup_of(client);
    const struct environment_config *environment = login_environment(client);
    struct effective *own = NULL, *place;
    const struct settings *settings = snapshot_globals(setup->snapshot);
    struct inquiry *inquiry = NULL;
    char *scope;

    if (login_is_routed(client)) {
        own = snapshot_effective(setup->snapshot, login->route.line, login->route.database,
                                 environment, NULL);
        settings = own->settings;
    }
    scope = inquiry_scope(settings, environment ? environment->name : NULL,
                          own ? login->route.database : NULL);
    place = scope ? place_of(client, settings, environment, own) : NULL;
    if (place) {
        inquiry = memory_new(sizeof(*inquiry));
        inquiry->plane = client->worker->plane;
        inquiry->home = client->worker->loop;
        inquiry->setup = setup_ref(setup);
        inquiry->effective = place;
        inquiry->auth_user = settings->auth_user;
        inquiry->auth_query = settings->auth_query;
        inquiry->user = text_copy(client->user);
        inquiry->scope = scope;
        scope = NULL;
    }
    effective_unref(own);
    free(scope);
    return inquiry;
}

/* ---- answers ---- */

static void take(struct client *client, struct fetched *fetched)
{
    struct login *login = client->login;

    login->fetched = *fetched;
    *fetched = (struct fetched){0};
    if (login->fetched.valid_until_us > clock_wall_us())
        return;
    /* whoever comes without a password may still come */
    client_log(client, RANK_LOG, "the password of user \"%s\" is no longer valid (VALID UNTIL)",
               client->user);
    login->fetched.secret.kind = SECRET_NONE;
}

static void answered(struct inquiry *inquiry)
{
    struct client *client = inquiry->context;

    if (client)
        client->login->inquiry = NULL;
    if (!client || client_is_over(client)) {
        inquiry_free(inquiry);
        return;
    }
    stream_resume(&client->stream);
    if (inquiry->result == INQUIRY_FAILED) {
        client_log(client, RANK_WARNING, "user \"%s\" cannot be looked up: %s", client->user,
                   inquiry->problem);
        client_fail(client, REASON_LOGIN_LOOKUP, NULL);
    } else {
        if (inquiry->result == INQUIRY_KNOWN)
            take(client, &inquiry->fetched);
        login_identify(client);
    }
    inquiry_free(inquiry);
}

bool fetch_begin(struct client *client)
{
    struct login *login = client->login;
    struct inquiry *inquiry = inquiry_for(client);
    enum secrets_answer known;

    if (!inquiry)
        return false;
    login->scope = text_copy(inquiry->scope);
    known = inquiry_recall(inquiry->plane, globals_of(client), inquiry->scope, inquiry->user,
                           loop_now_us(client->worker->loop), &inquiry->fetched);
    if (known != SECRETS_MISSING) {
        login->is_recalled = true;
        if (known == SECRETS_KNOWN)
            take(client, &inquiry->fetched);
        inquiry_free(inquiry);
        return false;
    }
    inquiry->answered = answered;
    inquiry->context = client;
    if (!inquiry_send(inquiry)) {
        inquiry_free(inquiry);
        client_fail(client, REASON_LOGIN_BUSY, NULL);
        return true;
    }
    login->inquiry = inquiry;
    return true;
}

const struct user_secret *fetch_secret(const struct client *client)
{
    const struct fetched *fetched = &client->login->fetched;

    return fetched->secret.user ? &fetched->secret : NULL;
}

enum secret_kind fetch_usual_kind(const struct client *client)
{
    enum secret_kind usual;

    if (!client->login->scope)
        return SECRET_NONE;
    /* where nobody is known yet: what PostgreSQL stores today */
    usual = secrets_usual_kind(inquiries_secrets(client->worker->plane));
    return usual == SECRET_NONE ? SECRET_SCRAM : usual;
}

void fetch_doubt(const struct client *client)
{
    const struct login *login = client->login;

    if (login->is_recalled)
        (void)secrets_doubt(inquiries_secrets(client->worker->plane), login->scope, client->user,
                            loop_now_us(client->worker->loop), DOUBT_AFTER_US);
}

void fetch_forget(struct login *login)
{
    if (login->inquiry)
        login->inquiry->context = NULL; /* it frees itself when it comes home */
    fetched_fini(&login->fetched);
    free(login->scope);
}
