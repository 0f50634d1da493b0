/*
 * password: cleartext and md5 passwords.
 *
 *     stored   "md5" md5(password user)
 *     answer   "md5" md5(the stored 32 digits, salt of 4 bytes)
 *
 * An empty secret fits nothing, and no comparison tells by its time how much of two texts agrees.
 * Owns nothing; what is derived from a password is wiped. Any thread.
 */
#include "pgstage/auth/password.h"

#include <string.h>

#include "pgstage/auth/digest.h"
#include "pgstage/base/text.h"

const char *password_read(const uint8_t *body, size_t length)
{
    if (length == 0 || memchr(body, 0, length) != body + length - 1)
        return NULL;
    return (const char *)body;
}

bool password_md5_store(const char *user, const char *password, char stored[PASSWORD_MD5_BYTES])
{
    memcpy(stored, "md5", 3);
    return digest_md5_text(password, strlen(password), user, strlen(user), stored + 3);
}

bool password_md5_answer(const struct user_secret *secret, const uint8_t salt[PASSWORD_SALT_BYTES],
                         char answer[PASSWORD_MD5_BYTES])
{
    char stored[PASSWORD_MD5_BYTES];
    if (secret->kind == SECRET_MD5) {
        if (!text_fit(stored, sizeof stored, secret->secret))
            return false;
    } else if (secret->kind != SECRET_PLAIN ||
               !password_md5_store(secret->user, secret->secret, stored)) {
        return false;
    }
    memcpy(answer, "md5", 3);
    bool made = strlen(stored) == PASSWORD_MD5_BYTES - 1 &&
                digest_md5_text(stored + 3, 32, salt, PASSWORD_SALT_BYTES, answer + 3);
    text_wipe(stored, sizeof stored);
    return made;
}

bool password_equal(const char *a, const char *b)
{
    /* of equal length whatever the texts are */
    uint8_t digest_a[DIGEST_SHA256_BYTES], digest_b[DIGEST_SHA256_BYTES];
    bool equal = digest_sha256(a, strlen(a), digest_a) && digest_sha256(b, strlen(b), digest_b) &&
                 digest_equal(digest_a, digest_b, DIGEST_SHA256_BYTES);
    text_wipe(digest_a, sizeof digest_a);
    text_wipe(digest_b, sizeof digest_b);
    return equal;
}

bool password_fits(const struct user_secret *secret, const char *password)
{
    if (secret->kind == SECRET_PLAIN)
        return secret->secret[0] != 0 && password_equal(secret->secret, password);
    if (secret->kind != SECRET_MD5)
        return false;
    char stored[PASSWORD_MD5_BYTES];
    bool fits = password_md5_store(secret->user, password, stored) &&
                password_equal(secret->secret, stored);
    text_wipe(stored, sizeof stored);
    return fits;
}
