/*
 * secrets: users that auth_query has fetched, and names that it did not know.
 *
 * An answer is kept under its scope (where it was asked, and how) and the user's name. It is fresh
 * for a while; afterwards it is asked for again before anybody is let in by it, but goes on serving
 * pgstage's own logins on servers for that user. Bounded: the least recently used go, and names
 * that are not known never push out those that are. Shared: a mutex inside; any thread.
 */
#ifndef PGSTAGE_AUTH_SECRETS_H
#define PGSTAGE_AUTH_SECRETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/users.h"

struct secrets;

/* One user as a query has shown it. Zeroed holds nothing. */
struct fetched {
    struct user_secret secret; /* the texts are owned; `secret` is never NULL of a known user */
    uint64_t valid_until_us;   /* of the wall clock; UINT64_MAX: for ever */
    uint64_t fetched_us;       /* loop_now_us's clock */
};

/* How long answers are fresh. */
struct secrets_ttl {
    uint64_t known_us, unknown_us;
};

enum secrets_answer {
    SECRETS_MISSING, /* nobody has asked lately */
    SECRETS_KNOWN,
    SECRETS_UNKNOWN, /* there is no such user */
};

/* At most so many users, and so many names that are none (at least 1 each). */
struct secrets *secrets_new(size_t known_max, size_t unknown_max)
    __attribute__((warn_unused_result));
/* Wipes everything; nobody may use it any more. NULL is nothing. */
void secrets_free(struct secrets *secrets);

/* A fresh answer. KNOWN: `copy` is filled (fetched_fini). */
enum secrets_answer secrets_find(struct secrets *secrets, const char *scope, const char *user,
                                 uint64_t now_us, const struct secrets_ttl *ttl,
                                 struct fetched *copy) __attribute__((warn_unused_result));
/* A user that was known when it was last asked for, however long ago. */
bool secrets_find_any(struct secrets *secrets, const char *scope, const char *user,
                      struct fetched *copy) __attribute__((warn_unused_result));
/* The answer to a question; `fetched` NULL: there is no such user. Copied. */
void secrets_put(struct secrets *secrets, const char *scope, const char *user,
                 const struct fetched *fetched, uint64_t now_us);
/* Nothing is fresh any more. */
void secrets_expire(struct secrets *secrets);
/* A login with this secret has failed: perhaps the password is another one now. The next login asks
 * again, unless the answer is younger than `least_us`. True: it will. */
bool secrets_doubt(struct secrets *secrets, const char *scope, const char *user, uint64_t now_us,
                   uint64_t least_us);
/* Of what kind most of the known secrets are: what an unknown user should look like. SECRET_NONE
 * when none is known. */
enum secret_kind secrets_usual_kind(struct secrets *secrets);
/* The name of every known user, once for each scope that it is known in; no lock is held during the
 * calls. */
void secrets_each(struct secrets *secrets, void (*each)(void *argument, const char *user),
                  void *argument);

/* Copies the texts. */
void fetched_copy(struct fetched *copy, const struct fetched *fetched);
/* Wipes and frees; all is zero afterwards. */
void fetched_fini(struct fetched *fetched);

/* Reads a third column: a timestamp with or without time zone as PostgreSQL prints it with
 * DateStyle ISO ("2026-01-31 18:00:00.5+02", "infinity", "-infinity", a date alone); without a
 * zone it is UTC. `text` NULL or "": for ever. False: it is none. */
bool valid_until_parse(const char *text, uint64_t *until_us) __attribute__((warn_unused_result));

#endif
