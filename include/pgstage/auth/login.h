/*
 * login: who a client is, as a dialogue without I/O.
 *
 * The session feeds bodies of password messages and sends what the dialogue puts into `out`. Never
 * blocks: when a slow derivation is needed it answers AUTH_DERIVE and the session runs
 * `auth_client_derive` on an offload thread, then `auth_client_resume`. Unknown users walk the same
 * path as known ones with a wrong password. One dialogue belongs to one client's thread.
 */
#ifndef PGSTAGE_AUTH_LOGIN_H
#define PGSTAGE_AUTH_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/auth/keys.h"
#include "pgstage/auth/outside.h"
#include "pgstage/auth/scram.h"
#include "pgstage/base/buffer.h"
#include "pgstage/conf/settings.h"
#include "pgstage/conf/users.h"

/* The longest body of a password message that a dialogue takes, a password of 64 kB with its NUL;
 * longer ones may be refused unread. (Tokens of cloud providers are tens of kilobytes.) */
#define AUTH_MESSAGE_MAX_BYTES (64 * 1024 + 1)

enum auth_step {
    AUTH_SEND,   /* `out` holds messages; then wait for the next password message */
    AUTH_DERIVE, /* run auth_client_derive on another thread, then auth_client_resume */
    AUTH_OK,     /* authenticated; `out` holds what is to be sent (AuthenticationOk included) */
    AUTH_FAILED, /* `out` is empty; `sqlstate` and `problem` are set */
};

struct auth_client; /* the dialogue with one client */

/*
 * Starts: `secret` is NULL for an unknown user; it is copied. `method` is what is in force (HBA
 * resolved, md5 turned into SCRAM when the secret is SCRAM). `keys` is the shared cache
 * (thread-safe). `any` and `trust` give AUTH_OK at once (trust only for a known user when
 * `must_exist`).
 */
struct auth_client *auth_client_new(enum auth_type method, const char *user,
                                    const struct user_secret *secret, bool must_exist,
                                    struct key_cache *keys) __attribute__((warn_unused_result));
/* The client came over TLS, and has seen the certificate with this hash: SCRAM-SHA-256-PLUS is
 * offered too (not when `binding` has no bytes). Before auth_client_start. */
void auth_client_bind(struct auth_client *auth, const struct scram_binding *binding);
/* For the methods ldap and pam: who is asked. What it points to must live until the dialogue is
 * freed, and `from` (NULL: a Unix socket) is copied. Before auth_client_start. */
void auth_client_ask(struct auth_client *auth, const struct outside *outside, const char *from);
/* After AUTH_DERIVE: somebody outside will be asked, who may take long. */
bool auth_client_is_asking(const struct auth_client *auth);
/* After AUTH_FAILED: nobody could be asked, so that nothing is known of the client. */
bool auth_client_was_unanswered(const struct auth_client *auth);
/* Not while auth_client_derive runs. NULL is nothing. */
void auth_client_free(struct auth_client *auth);
enum auth_step auth_client_start(struct auth_client *auth, struct buffer *out);
/* The body of one password message ('p'). */
enum auth_step auth_client_feed(struct auth_client *auth, const uint8_t *body, size_t length,
                                struct buffer *out);
/* On an offload thread, after AUTH_DERIVE; touches only the dialogue and the key cache. Nothing but
 * feed (which then fails) may be called meanwhile. */
void auth_client_derive(struct auth_client *auth);
enum auth_step auth_client_resume(struct auth_client *auth, struct buffer *out);
/* Makes the keys of a plain secret beforehand, so that this user's first login is as quick as the
 * later ones, and as quick as the refusal of an unknown user. Slow when they are not there yet: on
 * an offload thread. False when OpenSSL fails. */
bool auth_warm(const struct user_secret *secret, struct key_cache *keys)
    __attribute__((warn_unused_result));
/* After AUTH_FAILED: SQLSTATE 28P01, 28000, 08P01 or 57P03, and the text for the client; and for the
 * log. */
const char *auth_client_sqlstate(const struct auth_client *auth);
const char *auth_client_problem(const struct auth_client *auth);
const char *auth_client_log_problem(const struct auth_client *auth);

/* The dialogue with one server: pgstage logs in. */
struct auth_server;

/* How pgstage may prove itself: a password, or SCRAM keys passed through, or neither. */
struct credentials {
    const char *user;
    const char *secret; /* plain password or md5… as stored; NULL: none */
    enum secret_kind kind;
    bool allow_cleartext; /* may a cleartext password be sent on this connection? */
};

/* Copies the credentials. */
struct auth_server *auth_server_new(const struct credentials *credentials, struct key_cache *keys)
    __attribute__((warn_unused_result));
/* Whether the exchange is to be bound to the TLS connection; `binding`: what tells it from others,
 * NULL without TLS. Unless this is called it is not. With `require` no other proof is given than
 * SCRAM-SHA-256-PLUS, and no server is believed that asks for none. Before the first feed. */
void auth_server_bind(struct auth_server *auth, enum channel_binding policy,
                      const struct scram_binding *binding);
/* Not while auth_server_derive runs. NULL is nothing. */
void auth_server_free(struct auth_server *auth);
/* The body of one AuthenticationRequest ('R'). AUTH_SEND also when nothing is to be sent (`out`
 * empty); AUTH_OK on AuthenticationOk — refused (AUTH_FAILED) when a SCRAM exchange has been
 * started but the server has not proved itself. */
enum auth_step auth_server_feed(struct auth_server *auth, const uint8_t *body, size_t length,
                                struct buffer *out);
/* On an offload thread, after AUTH_DERIVE; touches only the dialogue and the key cache. */
void auth_server_derive(struct auth_server *auth);
enum auth_step auth_server_resume(struct auth_server *auth, struct buffer *out);
/* After AUTH_FAILED: for the log and the client; it may name the server's mechanisms. */
const char *auth_server_problem(const struct auth_server *auth);

#endif
