/*
 * users: the secrets of auth_file, read once for each configuration load, immutable afterwards.
 */
#ifndef PGSTAGE_CONF_USERS_H
#define PGSTAGE_CONF_USERS_H

#include <stddef.h>

#include "pgstage/conf/report.h"

struct users;

enum secret_kind {
    SECRET_NONE,  /* an empty password: never matches */
    SECRET_PLAIN, /* the password itself */
    SECRET_MD5,   /* "md5" and 32 hex digits */
    SECRET_SCRAM, /* SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey> */
};

struct user_secret {
    const char *user;
    const char *secret; /* as the file says */
    enum secret_kind kind;
};

/* NULL and entries in `report` when the file cannot be read or a line is malformed. */
struct users *users_load(const char *file, struct report *report)
    __attribute__((warn_unused_result));
void users_free(struct users *users);
/* NULL when there is no such user; `users` may be NULL (no auth_file). Any thread. */
const struct user_secret *users_find(const struct users *users, const char *user);
size_t users_count(const struct users *users);
const struct user_secret *users_at(const struct users *users, size_t index);
/* The kind that most secrets of the list are: what an unknown user should look like. */
enum secret_kind users_usual_kind(const struct users *users);
/* What kind of secret this text is. */
enum secret_kind secret_kind_of(const char *secret);

#endif
