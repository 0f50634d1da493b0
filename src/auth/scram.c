/*
 * scram: verifiers and keys, what both sides of SCRAM-SHA-256 work from.
 *
 *     password ──PBKDF2(salt, iterations)──> SaltedPassword
 *                 SaltedPassword ──HMAC "Client Key"──> ClientKey ──SHA-256──> StoredKey
 *                 SaltedPassword ──HMAC "Server Key"──> ServerKey
 *
 * `keys` hold ClientKey and ServerKey (who has them can log in), a `verifier` StoredKey and
 * ServerKey (who has them can check a login). Only the first arrow is slow. Passwords and what is
 * made of them are wiped from the stack. Any thread.
 */
#include "pgstage/auth/scram.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/base64.h"
#include "pgstage/auth/digest.h"
#include "pgstage/auth/saslprep.h"
#include "pgstage/base/text.h"

#define SCRAM_PREFIX "SCRAM-SHA-256$"
#define MOCK_SALT_BYTES 16

/* Digits up to `end`, 1 to SCRAM_ITERATIONS_MAX. */
static bool read_iterations(const char *text, const char *end, uint32_t *iterations)
{
    uint32_t value = 0;
    if (text == end || end - text > 7)
        return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (uint32_t)(*text - '0');
    }
    *iterations = value;
    return value > 0 && value <= SCRAM_ITERATIONS_MAX;
}

static bool read_key(const char *text, size_t length, uint8_t key[SCRAM_KEY_BYTES])
{
    return base64_read(text, length, key, SCRAM_KEY_BYTES) == SCRAM_KEY_BYTES;
}

bool scram_verifier_parse(const char *text, struct scram_verifier *verifier)
{
    memset(verifier, 0, sizeof *verifier);
    if (!text_starts_with(text, SCRAM_PREFIX))
        return false;
    const char *iterations = text + strlen(SCRAM_PREFIX);
    const char *salt = strchr(iterations, ':');
    const char *stored = salt ? strchr(salt, '$') : NULL;
    const char *server = stored ? strchr(stored, ':') : NULL;
    if (!server || !read_iterations(iterations, salt, &verifier->iterations))
        return false;
    ssize_t salt_bytes =
        base64_read(salt + 1, (size_t)(stored - salt - 1), verifier->salt, SCRAM_SALT_MAX_BYTES);
    if (salt_bytes <= 0)
        return false;
    verifier->salt_bytes = (size_t)salt_bytes;
    return read_key(stored + 1, (size_t)(server - stored - 1), verifier->stored_key) &&
           read_key(server + 1, strlen(server + 1), verifier->server_key);
}

char *scram_verifier_print(const struct scram_verifier *verifier)
{
    struct buffer text = {0};
    buffer_print(&text, SCRAM_PREFIX "%u:", verifier->iterations);
    base64_put(&text, verifier->salt, verifier->salt_bytes);
    buffer_print(&text, "$");
    base64_put(&text, verifier->stored_key, SCRAM_KEY_BYTES);
    buffer_print(&text, ":");
    base64_put(&text, verifier->server_key, SCRAM_KEY_BYTES);
    buffer_put_u8(&text, 0);
    return (char *)text.data;
}

bool scram_derive(const char *password, const uint8_t *salt, size_t salt_bytes, uint32_t iterations,
                  struct scram_keys *keys)
{
    memset(keys, 0, sizeof *keys);
    if (salt_bytes > SCRAM_SALT_MAX_BYTES || iterations == 0 || iterations > SCRAM_ITERATIONS_MAX)
        return false;
    uint8_t salted[SCRAM_KEY_BYTES];
    char *prepared = saslprep_password(password);
    bool made = PKCS5_PBKDF2_HMAC(prepared, (int)strlen(prepared), salt, (int)salt_bytes,
                                  (int)iterations, EVP_sha256(), SCRAM_KEY_BYTES, salted) == 1 &&
                digest_hmac(salted, "Client Key", 10, keys->client_key) &&
                digest_hmac(salted, "Server Key", 10, keys->server_key);
    text_wipe(salted, sizeof salted);
    digest_free_secret(prepared);
    if (!made) {
        text_wipe(keys, sizeof *keys);
        return false;
    }
    memcpy(keys->salt, salt, salt_bytes);
    keys->salt_bytes = salt_bytes;
    keys->iterations = iterations;
    return true;
}

bool scram_verifier_from_keys(const struct scram_keys *keys, struct scram_verifier *verifier)
{
    verifier->iterations = keys->iterations;
    verifier->salt_bytes = keys->salt_bytes;
    memcpy(verifier->salt, keys->salt, sizeof verifier->salt);
    memcpy(verifier->server_key, keys->server_key, SCRAM_KEY_BYTES);
    return digest_sha256(keys->client_key, SCRAM_KEY_BYTES, verifier->stored_key);
}

/* What makes mock verifiers the process's own: the salt belongs to the user, so that it can be told
 * to him twice; the keys, which nobody ever sees, are the same for all. Written once, under the
 * once-control, and only read afterwards; they never leave the process. */
static struct {
    uint8_t salt_key[SCRAM_KEY_BYTES], stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
} mock;
static bool mock_is_random;
static pthread_once_t mock_once = PTHREAD_ONCE_INIT;

static void draw_mock(void)
{
    mock_is_random = RAND_bytes((uint8_t *)&mock, sizeof mock) == 1;
}

bool scram_verifier_mock(const char *user, struct scram_verifier *verifier)
{
    pthread_once(&mock_once, draw_mock);
    memset(verifier, 0, sizeof *verifier);
    uint8_t salt[SCRAM_KEY_BYTES];
    if (!mock_is_random || !digest_hmac(mock.salt_key, user, strlen(user), salt))
        return false;
    memcpy(verifier->stored_key, mock.stored_key, SCRAM_KEY_BYTES);
    memcpy(verifier->server_key, mock.server_key, SCRAM_KEY_BYTES);
    memcpy(verifier->salt, salt, MOCK_SALT_BYTES);
    verifier->salt_bytes = MOCK_SALT_BYTES;
    verifier->iterations = SCRAM_ITERATIONS_DEFAULT;
    return true;
}
