/*
 * password: the `password` and `md5` methods: what is stored, what is answered, whether it fits.
 * All give false when MD5 cannot be computed. Any thread.
 */
#ifndef PGSTAGE_AUTH_PASSWORD_H
#define PGSTAGE_AUTH_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/users.h"

/* "md5", 32 hex digits and the NUL. */
#define PASSWORD_MD5_BYTES 36
#define PASSWORD_SALT_BYTES 4

/* The body of a PasswordMessage: exactly one NUL, at its end. NULL when it is malformed. */
const char *password_read(const uint8_t *body, size_t length);
/* What an md5 secret stores: "md5" and md5(password, user). */
bool password_md5_store(const char *user, const char *password, char stored[PASSWORD_MD5_BYTES])
    __attribute__((warn_unused_result));
/* The answer to a salt, from a plain or md5 secret: "md5" and md5(the 32 digits, salt). */
bool password_md5_answer(const struct user_secret *secret, const uint8_t salt[PASSWORD_SALT_BYTES],
                         char answer[PASSWORD_MD5_BYTES]) __attribute__((warn_unused_result));
/* Does the password given by a client fit a plain or md5 secret? False for other kinds. */
bool password_fits(const struct user_secret *secret, const char *password)
    __attribute__((warn_unused_result));
/* Are the two texts equal? Takes the same time wherever they differ. */
bool password_equal(const char *a, const char *b) __attribute__((warn_unused_result));

#endif
