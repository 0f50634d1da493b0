/*
 * exchange: the other side of a login, for tests: builds what clients and servers send, reads what
 * the dialogues put out, and the example of RFC 7677, section 3.
 */
#ifndef PGSTAGE_TEST_AUTH_EXCHANGE_H
#define PGSTAGE_TEST_AUTH_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/auth/login.h"
#include "pgstage/auth/scram.h"
#include "pgstage/base/buffer.h"

#define RFC_PASSWORD "pencil"
#define RFC_CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define RFC_SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_CLIENT_FIRST "n,,n=user,r=" RFC_CLIENT_NONCE
#define RFC_SERVER_FIRST "r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define RFC_CLIENT_FINAL                                                                           \
    "c=biws,r=" RFC_CLIENT_NONCE RFC_SERVER_NONCE ",p=dHzbZapWIk4jUhN+"                            \
    "Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define RFC_SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

/* The keys of the example. */
struct scram_keys rfc_keys(void);
struct scram_verifier rfc_verifier(void);

/* Few iterations, for speed; the caller frees the text. */
char *verifier_text(const char *password, const char *salt, uint32_t iterations);

/* The only message in `out` is an AuthenticationRequest of this code; its data, NUL-terminated for
 * convenience, until the next call. NULL otherwise. */
const char *request_data(const struct buffer *out, uint32_t code, size_t *length);
/* Does `out` end with AuthenticationOk? */
bool ends_with_ok(const struct buffer *out);

/* A SASLInitialResponse with this mechanism and data. */
void put_initial(struct buffer *body, const char *mechanism, const void *data, size_t length);
/* An AuthenticationRequest's body. */
void put_request(struct buffer *body, uint32_t code, const void *data, size_t length);

/*
 * Walks a client with this password through a whole SCRAM login of `auth`, derivations included.
 * `derivations` (may be NULL) counts them. Gives the last step; `out` is what came with it. A login
 * that succeeds also checks the server's proof, and gives AUTH_FAILED when that is wrong.
 */
enum auth_step scram_login(struct auth_client *auth, const char *password, struct buffer *out,
                           int *derivations);

#endif
