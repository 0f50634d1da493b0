/*
 * scram: SCRAM-SHA-256 (RFC 5802, RFC 7677) for both sides, without I/O.
 *
 * The server side (a client proves itself to pgstage) works from a verifier; the client side
 * (pgstage proves itself to a server) from keys. Neither does PBKDF2: scram_derive does, and takes
 * milliseconds, so it runs on an offload thread. With SCRAM-SHA-256-PLUS the exchange is bound to the
 * certificate of the TLS connection it runs over (tls-server-end-point, RFC 5929): who passes it on
 * over another connection cannot finish it. A struct belongs to one thread at a time.
 */
#ifndef PGSTAGE_AUTH_SCRAM_H
#define PGSTAGE_AUTH_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

#define SCRAM_KEY_BYTES 32
#define SCRAM_SALT_MAX_BYTES 64
#define SCRAM_ITERATIONS_MAX 1000000
/* For secrets that are plain passwords, when nothing else is said (PostgreSQL's default). */
#define SCRAM_ITERATIONS_DEFAULT 4096

/* What a server stores about a user. */
struct scram_verifier {
    uint32_t iterations;
    size_t salt_bytes;
    uint8_t salt[SCRAM_SALT_MAX_BYTES];
    uint8_t stored_key[SCRAM_KEY_BYTES];
    uint8_t server_key[SCRAM_KEY_BYTES];
};

/* What a client needs to prove itself to a server that has a certain salt and iteration count. */
struct scram_keys {
    uint32_t iterations;
    size_t
        salt_bytes; /* 0: any salt (pass-through keys are good for the verifier they came from) */
    uint8_t salt[SCRAM_SALT_MAX_BYTES];
    uint8_t client_key[SCRAM_KEY_BYTES];
    uint8_t server_key[SCRAM_KEY_BYTES];
};

/* Both names as PostgreSQL and the RFCs write them. */
#define SCRAM_MECHANISM "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"

/* What a TLS connection is told from others by: the hash of the certificate that its server showed.
 */
#define SCRAM_BINDING_MAX_BYTES 64
struct scram_binding {
    size_t bytes; /* 0: there is none (no TLS, or a certificate whose signature has no hash) */
    uint8_t hash[SCRAM_BINDING_MAX_BYTES];
};

/* Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; false when malformed. */
bool scram_verifier_parse(const char *text, struct scram_verifier *verifier);
/* The same, written; allocated. */
char *scram_verifier_print(const struct scram_verifier *verifier);
/* PBKDF2 over the password (SASLprep as PostgreSQL does it: the raw bytes when it cannot be
 * prepared). Slow. False when OpenSSL fails. Any thread. */
bool scram_derive(const char *password, const uint8_t *salt, size_t salt_bytes, uint32_t iterations,
                  struct scram_keys *keys) __attribute__((warn_unused_result));
/* The verifier that belongs to keys. False when OpenSSL fails. */
bool scram_verifier_from_keys(const struct scram_keys *keys, struct scram_verifier *verifier)
    __attribute__((warn_unused_result));
/* A verifier that no proof matches, the same for the same user name while the process lives, so
 * that an unknown user looks like a wrong password. Its salt is also the one that pgstage chooses
 * for a plain password of that user, so that both look alike. False when there are no random bytes.
 */
bool scram_verifier_mock(const char *user, struct scram_verifier *verifier)
    __attribute__((warn_unused_result));

/* ---- server side ---- */
/* Zeroed before scram_server_first. */
struct scram_server {
    char *client_first_bare, *server_first; /* owned; server_first starts with "r=" and the nonce */
    size_t nonce_bytes;                     /* of both parts together */
    char gs2_flag;                /* 'n', 'y' or 'p': what the client said of channel binding */
    struct scram_binding binding; /* with 'p' */
    bool is_misbound; /* scram_server_first failed because of the flag: somebody in the middle? */
    struct scram_verifier verifier;
    uint8_t client_key[SCRAM_KEY_BYTES]; /* after scram_server_final succeeded: for pass-through */
};

/* What the client was offered, and what it has chosen. NULL or all-zero: no channel binding. */
struct scram_offer {
    const struct scram_binding *binding; /* SCRAM-SHA-256-PLUS was offered too; NULL: was not */
    bool plus_chosen;
};

/* Takes the client-first-message, puts the server-first-message. Of the verifier only salt and
 * iterations are needed yet; the keys may be filled in (`scram->verifier`) before
 * scram_server_final. False: malformed, or the client's flag does not go with the offer
 * (`problem`). */
bool scram_server_first(struct scram_server *scram, const struct scram_verifier *verifier,
                        const struct scram_offer *offer, const uint8_t *message, size_t length,
                        struct buffer *out, const char **problem)
    __attribute__((warn_unused_result));
/* The same with a given nonce of its own, for known answers. */
bool scram_server_first_with(struct scram_server *scram, const struct scram_verifier *verifier,
                             const struct scram_offer *offer, const char *nonce,
                             const uint8_t *message, size_t length, struct buffer *out,
                             const char **problem) __attribute__((warn_unused_result));
enum scram_result {
    SCRAM_OK,
    SCRAM_WRONG_PROOF,
    SCRAM_MALFORMED,
    SCRAM_MISBOUND, /* the client has seen another certificate than the one shown here */
};
/* Takes the client-final-message, checks the proof, puts the server-final-message (only when the
 * result is SCRAM_OK). */
enum scram_result scram_server_final(struct scram_server *scram, const uint8_t *message,
                                     size_t length, struct buffer *out, const char **problem)
    __attribute__((warn_unused_result));
/* Wipes and frees what it owns; all is zero afterwards. */
void scram_server_fini(struct scram_server *scram);

/* ---- client side ---- */
/* Zeroed before scram_client_first. */
struct scram_client {
    char *client_first_bare, *server_first; /* owned */
    char nonce[64];                         /* ours alone; the server's part may have any length */
    char gs2_flag;                          /* what was said of channel binding */
    struct scram_binding binding;           /* with 'p' */
    /* read from server-first */
    const char *whole_nonce; /* in server_first */
    size_t whole_nonce_bytes;
    uint32_t iterations;
    size_t salt_bytes;
    uint8_t salt[SCRAM_SALT_MAX_BYTES];
    /* made by scram_client_final */
    uint8_t server_signature[SCRAM_KEY_BYTES];
    bool is_final; /* client-final was made; the server's proof may come */
};

/* Puts the client-first-message. `flag`: 'p' binds the exchange to `binding` (which is copied, and
 * has bytes), 'y' says that pgstage could but the server did not offer it, 'n' that it does not;
 * then `binding` may be NULL. False when no random bytes could be had. */
bool scram_client_first(struct scram_client *scram, char flag, const struct scram_binding *binding,
                        struct buffer *out) __attribute__((warn_unused_result));
/* The same with a given user name (which PostgreSQL ignores) and nonce, for known answers; false
 * when they do not fit. */
bool scram_client_first_with(struct scram_client *scram, char flag,
                             const struct scram_binding *binding, const char *user,
                             const char *nonce, struct buffer *out)
    __attribute__((warn_unused_result));
/* Reads server-first: fills iterations and salt. The caller then finds or derives keys. */
bool scram_client_challenge(struct scram_client *scram, const uint8_t *message, size_t length,
                            const char **problem) __attribute__((warn_unused_result));
/* Puts client-final made with `keys`. False when OpenSSL fails. */
bool scram_client_final(struct scram_client *scram, const struct scram_keys *keys,
                        struct buffer *out) __attribute__((warn_unused_result));
/* Checks server-final: the server knows the secret too. */
bool scram_client_verify(struct scram_client *scram, const uint8_t *message, size_t length,
                         const char **problem) __attribute__((warn_unused_result));
/* Wipes and frees what it owns; all is zero afterwards. */
void scram_client_fini(struct scram_client *scram);

#endif
