/*
 * login_inside: what the files of a login share: login.c, startup.c, identity.c, fetch.c, proxy.c. For
 * them only.
 */
#ifndef PGSTAGE_SESSION_LOGIN_INSIDE_H
#define PGSTAGE_SESSION_LOGIN_INSIDE_H

#include "pgstage/auth/secrets.h"
#include "pgstage/conf/hba.h"
#include "pgstage/env/route.h"
#include "pgstage/session/client.h"
#include "pgstage/session/door.h"
#include "pgstage/session/login.h"
#include "pgstage/session/worker.h"

struct derivation;
struct inquiry;
struct lookup;

struct login {
    struct address peer; /* whoever is at the other end of the socket */
    const struct door *door;
    struct setup *setup; /* the configuration that this login stands under */
    bool proxy_passed;   /* the PROXY header has been read, or none is wanted */
    bool tls_asked, gss_asked;
    struct auth_client *auth;
    struct derivation *derivation;
    struct lookup *lookup;      /* of a system user's name, for peer */
    bool is_known;              /* … and whether the user is known */
    struct hba_verdict verdict; /* what is asked of the client */
    struct inquiry *inquiry;    /* auth_query is under way */
    char *scope;                /* where it asks; NULL: the user is not asked for */
    struct fetched fetched;     /* what it has found */
    bool is_recalled;           /* … some time ago */
    bool is_asking;             /* LDAP or PAM */
    bool route_sought;
    enum route_result routed;
    struct route route;
    struct buffer greeting; /* AuthenticationOk, sent together with the welcome */
    char *refusal;          /* what it will be told when the delay of a failed login is over */
    char refusal_sqlstate[6];
    char *unknown_option;   /* a startup parameter that cannot be had */
    struct buffer farewell; /* CLOSING: said when the audit log has it */
    bool is_peer_admin;     /* console over a Unix socket, same system user */
};

static inline struct setup *setup_of(struct client *client)
{
    if (!client->login->setup)
        client->login->setup = setup_ref(client->worker->setup);
    return client->login->setup;
}

static inline const struct settings *globals_of(struct client *client)
{
    return snapshot_globals(setup_of(client)->snapshot);
}

static inline const struct setup_door *door_of(struct client *client)
{
    return &setup_of(client)->doors[client->login->door->index];
}

static inline bool is_local(const struct client *client)
{
    return address_is_local(listener_address(client->login->door->listener));
}

/* startup.c. The bytes of the first packets; what comes behind them is kept. */
void startup_readable(struct client *client, const uint8_t *data, size_t length);
/* A TLS handshake without an SSLRequest: true when it has begun, or failed to. */
bool startup_begins_with_tls(struct client *client);

/* login.c. The startup packet has been understood: the client is to prove who it is. */
void login_authenticate(struct client *client);
/* It is known now who the user is: goes on by login->verdict. */
void login_identify(struct client *client);
/* Goes on with a method of auth/login_client.c. */
void login_prove(struct client *client, enum auth_type method);
/* It has failed to: told so, after a delay where its address has failed before. */
void login_refuse(struct client *client, const char *sqlstate, const char *problem,
                  const char *log_problem);

/* identity.c. What is asked of the client; false: it was refused by a rule, and told so. */
bool identity_method(struct client *client, const struct settings *settings,
                     struct hba_verdict *verdict);
/* Looks at its certificate where that matters. False: it was refused. */
bool identity_certificate(struct client *client, const struct hba_verdict *verdict, bool known);
/* Its system user is looked up; goes on with login_prove or login_refuse. */
void identity_peer(struct client *client, bool known);
/* The login ends while the look-up may go on. */
void identity_forget(struct login *login);

/* fetch.c. The user stands in no auth_file: is there somewhere to ask? True: the answer will go on
 * with login_identify or a refusal, or the login has been refused already. */
bool fetch_begin(struct client *client);
/* What was found; NULL: nothing. */
const struct user_secret *fetch_secret(const struct client *client);
/* What an unknown user should look like where users are asked for; SECRET_NONE: they are not. */
enum secret_kind fetch_usual_kind(const struct client *client);
/* The login has failed with what was found some time ago. */
void fetch_doubt(const struct client *client);
/* The login ends while the answer may be under way. */
void fetch_forget(struct login *login);

#endif
