/*
 * identity.c: by which method a client proves who it is, and the proofs that need no password.
 *
 *   auth_type ──hba──> first rule that fits ──> reject, or none: refused
 *       └──────────────────┴─> method ─┬─ cert: the name in the verified certificate
 *                                      ├─ peer: the system user behind the Unix socket (other
 * thread) └─ a password, or none: auth/login_client.c
 *
 * Names go through the maps of auth_ident_file where a rule says so. A user who is not known is refused
 * as one with the wrong certificate is. The client's worker.
 */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "login_inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/hba.h"
#include "pgstage/session/replication.h"

/* The name of a system user, looked up on another thread: a directory service may take its time. */
struct lookup {
    struct offload_job job;
    uid_t uid;
    char name[256];        /* "": there is none */
    struct client *client; /* NULL: it has gone */
};

/* ---- which rule ---- */

/* What a client that no line of [databases] serves asks for is looked at as it stands. */
static struct hba_login login_of(struct client *client, char *name, size_t size)
{
    const struct login *login = client->login;
    struct hba_login asked = {
        .user = client->user,
        .database = client->database,
        .is_console = client->console,
        .is_replication = client->replication == REPLICATION_PHYSICAL,
        .is_local = is_local(client),
        .has_tls = client->stream.ssl != NULL,
        .address = &client->address->any,
    };
    char *at;

    if (login_is_routed(client)) {
        asked.database = login->route.database;
        asked.environment = login->route.environment ? login->route.environment->name : NULL;
    } else if (!client->console && text_fit(name, size, client->database) &&
               (at = strrchr(name, '@'))) {
        *at = '\0';
        asked.database = name;
        asked.environment = at + 1;
    }
    return asked;
}

bool identity_method(struct client *client, const struct settings *settings,
                     struct hba_verdict *verdict)
{
    const struct environment_config *environment = login_environment(client);
    const struct hba *hba =
        environment ? environment->hba : snapshot_hba(setup_of(client)->snapshot);
    struct hba_login asked;
    char name[256];

    *verdict = (struct hba_verdict){.method = (enum auth_type)settings->auth_type};
    if (client->login->is_peer_admin)
        verdict->method = AUTH_ANY;
    if (verdict->method != AUTH_HBA)
        return true;
    asked = login_of(client, name, sizeof(name));
    if (!hba || !hba_find(hba, &asked, verdict)) {
        client_log(client, RANK_LOG, "login refused: no line of %s fits database %s of %s, %s",
                   settings->auth_hba_file, asked.database,
                   asked.environment ? asked.environment : "no environment",
                   asked.is_local  ? "Unix socket"
                   : asked.has_tls ? "TLS"
                                   : "no TLS");
    } else if (verdict->method == AUTH_REJECT) {
        client_log(client, RANK_LOG, "login refused by %s:%d", verdict->file, verdict->line);
    } else {
        return true;
    }
    client_fail(client, REASON_LOGIN_REJECTED, NULL);
    return false;
}

/* ---- certificates ---- */

static void refuse(struct client *client, const char *kind, const char *why)
{
    char *told = text_print("%s authentication failed for user \"%s\"", kind, client->user);
    char *logged = text_print("%s: %s", told, why);

    login_refuse(client, "28000", told, logged);
    free(logged);
    free(told);
}

/* Is the certificate's name that of the user, straight or through the map? */
static bool is_named(struct client *client, const char *map, char **why)
{
    char *name = client->stream.ssl ? tls_peer_common_name(client->stream.ssl) : NULL;
    bool allowed =
        name && ident_allows(snapshot_ident(setup_of(client)->snapshot), map, name, client->user);

    *why = !name ? text_copy("no valid certificate with a common name")
                 : text_print("the certificate is that of \"%.200s\"%s%s", name,
                              map ? ", who may not be that user by the map " : "", map ? map : "");
    free(name);
    return allowed;
}

bool identity_certificate(struct client *client, const struct hba_verdict *verdict, bool known)
{
    bool named = verdict->method == AUTH_CERT || verdict->certificate == HBA_CERTIFICATE_NAMED;
    bool good = true;
    char *why = NULL;

    if (named)
        good = is_named(client, verdict->method == AUTH_CERT ? verdict->map : NULL, &why);
    else if (verdict->certificate == HBA_CERTIFICATE_VALID)
        good = client->stream.ssl && tls_peer_is_verified(client->stream.ssl);
    if (!good)
        refuse(client, "certificate", why ? why : "no valid certificate");
    else if (verdict->method == AUTH_CERT && !known)
        refuse(client, "certificate", "no such user");
    free(why);
    return good && (known || verdict->method != AUTH_CERT);
}

/* ---- system users ---- */

static void look_up(struct offload_job *job)
{
    struct lookup *lookup = list_entry(job, struct lookup, job);
    struct passwd record, *found = NULL;
    char space[4096];

    if (getpwuid_r(lookup->uid, &record, space, sizeof(space), &found) == 0 && found)
        (void)text_fit(lookup->name, sizeof(lookup->name), found->pw_name);
}

static void looked_up(struct loop *loop, struct offload_job *job)
{
    struct lookup *lookup = list_entry(job, struct lookup, job);
    struct client *client = lookup->client;
    const struct login *login;
    char *why;

    (void)loop;
    if (client)
        client->login->lookup = NULL;
    if (!client || client_is_over(client) || job->cancelled) {
        free(lookup);
        return;
    }
    stream_resume(&client->stream);
    login = client->login;
    if (!lookup->name[0]) {
        refuse(client, "peer", "the system knows no name of its user");
    } else if (!ident_allows(snapshot_ident(setup_of(client)->snapshot), login->verdict.map,
                             lookup->name, client->user)) {
        why = text_print("the system user is \"%s\"%s%s", lookup->name,
                         login->verdict.map ? ", who may not be that user by the map " : "",
                         login->verdict.map ? login->verdict.map : "");
        refuse(client, "peer", why);
        free(why);
    } else if (!login->is_known) {
        refuse(client, "peer", "no such user");
    } else {
        login_prove(client, AUTH_TRUST);
    }
    free(lookup);
}

void identity_peer(struct client *client, bool known)
{
    struct lookup *lookup;
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (!is_local(client) ||
        getsockopt(client->stream.watch.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        refuse(client, "peer", "it did not come through a Unix socket");
        return;
    }
    lookup = memory_new(sizeof(*lookup));
    lookup->job.work = look_up;
    lookup->job.done = looked_up;
    lookup->uid = peer.uid;
    lookup->client = client;
    client->login->is_known = known;
    if (!offload_submit(client->worker->plane->identities, client->worker->loop, &lookup->job)) {
        free(lookup);
        client_fail(client, REASON_LOGIN_BUSY, NULL);
        return;
    }
    client->login->lookup = lookup;
}

void identity_forget(struct login *login)
{
    if (login->lookup)
        login->lookup->client = NULL; /* it frees itself when it comes home */
}
