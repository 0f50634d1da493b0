/*
 * scram_client: pgstage proves itself to a server, and has the server prove itself.
 *
 *     pgstage                                             server
 *        <header>n=,r=<c>                     ─────────>
 *                                             <─────────  r=<c><s>,s=<salt>,i=<iterations>
 *        c=<header, binding>,r=<c><s>,p=<proof> ───────>
 *                                             <─────────  v=<server's proof>
 *
 * The server is not trusted before its proof was checked: its nonce may be of any length and is
 * kept where it was copied to, its salt and iterations are bounded. Strings of a peer never go into
 * fixed arrays. One thread at a time.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/base64.h"
#include "pgstage/auth/digest.h"
#include "pgstage/auth/scram.h"
#include "pgstage/auth/scram_text.h"
#include "pgstage/base/random.h"
#include "pgstage/base/text.h"

#define NONCE_RAW_BYTES 18

static bool fail(const char **problem, const char *text)
{
    *problem = text;
    return false;
}

bool scram_client_first_with(struct scram_client *scram, char flag,
                             const struct scram_binding *binding, const char *user,
                             const char *nonce, struct buffer *out)
{
    scram_client_fini(scram);
    if (flag == 'p' && (!binding || binding->bytes == 0))
        return false;
    if (!scram_text_is_nonce(nonce, strlen(nonce)) ||
        !text_fit(scram->nonce, sizeof scram->nonce, nonce))
        return false;
    scram->client_first_bare = text_print("n=%s,r=%s", user, nonce);
    scram->gs2_flag = flag;
    if (flag == 'p')
        scram->binding = *binding;
    scram_text_put_header(out, flag);
    buffer_print(out, "%s", scram->client_first_bare);
    return true;
}

bool scram_client_first(struct scram_client *scram, char flag, const struct scram_binding *binding,
                        struct buffer *out)
{
    uint8_t raw[NONCE_RAW_BYTES];
    if (!random_bytes(raw, sizeof raw))
        return false;
    struct buffer nonce = {0};
    base64_put(&nonce, raw, sizeof raw);
    buffer_put_u8(&nonce, 0);
    bool made = scram_client_first_with(scram, flag, binding, "", (const char *)nonce.data, out);
    buffer_fini(&nonce);
    return made;
}

static bool read_iterations(const char *value, size_t length, uint32_t *iterations)
{
    uint32_t number = 0;
    if (length == 0 || length > 9)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        number = number * 10 + (uint32_t)(value[i] - '0');
    }
    *iterations = number;
    return number > 0;
}

/* Reads the copy of server-first that `scram` owns. */
static bool read_server_first(struct scram_client *scram, size_t length, const char **problem)
{
    struct scram_text text;
    const char *value;
    size_t value_bytes;
    size_t own_bytes = strlen(scram->nonce);
    if (!scram_text_init(&text, (const uint8_t *)scram->server_first, length))
        return fail(problem, "the server's first SCRAM message contains a NUL");
    if (!scram_text_take(&text, 'r', &value, &value_bytes) ||
        !scram_text_is_nonce(value, value_bytes))
        return fail(problem, "the server's first SCRAM message has no valid nonce");
    if (value_bytes <= own_bytes || memcmp(value, scram->nonce, own_bytes) != 0)
        return fail(problem, "the server's SCRAM nonce does not extend pgstage's");
    scram->whole_nonce = value;
    scram->whole_nonce_bytes = value_bytes;
    if (!scram_text_take(&text, 's', &value, &value_bytes))
        return fail(problem, "the server's first SCRAM message has no salt");
    ssize_t salt_bytes = base64_read(value, value_bytes, scram->salt, SCRAM_SALT_MAX_BYTES);
    if (salt_bytes <= 0)
        return fail(problem, "the server's SCRAM salt is malformed or too long");
    scram->salt_bytes = (size_t)salt_bytes;
    if (!scram_text_take(&text, 'i', &value, &value_bytes) ||
        !read_iterations(value, value_bytes, &scram->iterations))
        return fail(problem, "the server's SCRAM iteration count is malformed");
    if (scram->iterations > SCRAM_ITERATIONS_MAX)
        return fail(problem, "the server's SCRAM iteration count is too high");
    if (!scram_text_is_done(&text))
        return fail(problem, "the server's first SCRAM message has bytes behind its end");
    return true;
}

bool scram_client_challenge(struct scram_client *scram, const uint8_t *message, size_t length,
                            const char **problem)
{
    if (!scram->client_first_bare || scram->server_first)
        return fail(problem, "the server's first SCRAM message came out of order");
    scram->server_first = text_copy_n((const char *)message, length);
    return read_server_first(scram, length, problem);
}

bool scram_client_final(struct scram_client *scram, const struct scram_keys *keys,
                        struct buffer *out)
{
    if (!scram->whole_nonce)
        return false;
    struct buffer final = {0}, text = {0};
    buffer_print(&final, "c=");
    scram_text_put_binding(&final, scram->gs2_flag, &scram->binding);
    buffer_print(&final, ",r=");
    buffer_put(&final, scram->whole_nonce, scram->whole_nonce_bytes);
    buffer_print(&text, "%s,%s,", scram->client_first_bare, scram->server_first);
    buffer_put(&text, final.data, final.length);

    uint8_t proof[SCRAM_KEY_BYTES], stored_key[SCRAM_KEY_BYTES];
    bool made = digest_sha256(keys->client_key, SCRAM_KEY_BYTES, stored_key) &&
                digest_hmac(stored_key, text.data, text.length, proof) &&
                digest_hmac(keys->server_key, text.data, text.length, scram->server_signature);
    if (made) {
        for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
            proof[i] ^= keys->client_key[i];
        buffer_put(out, final.data, final.length);
        buffer_print(out, ",p=");
        base64_put(out, proof, SCRAM_KEY_BYTES);
        scram->is_final = true;
    }
    buffer_fini(&final);
    buffer_fini(&text);
    text_wipe(stored_key, sizeof stored_key);
    return made;
}

bool scram_client_verify(struct scram_client *scram, const uint8_t *message, size_t length,
                         const char **problem)
{
    struct scram_text text;
    const char *value;
    size_t value_bytes;
    uint8_t signature[SCRAM_KEY_BYTES];
    if (!scram->is_final)
        return fail(problem, "the server's last SCRAM message came out of order");
    if (!scram_text_init(&text, message, length))
        return fail(problem, "the server's last SCRAM message contains a NUL");
    if (scram_text_take(&text, 'e', &value, &value_bytes))
        return fail(problem, "the server ended the SCRAM exchange with an error");
    if (!scram_text_take(&text, 'v', &value, &value_bytes) || !scram_text_is_done(&text) ||
        base64_read(value, value_bytes, signature, SCRAM_KEY_BYTES) != SCRAM_KEY_BYTES)
        return fail(problem, "the server's last SCRAM message is malformed");
    if (!digest_equal(signature, scram->server_signature, SCRAM_KEY_BYTES))
        return fail(problem, "the server could not prove that it knows the password");
    return true;
}

void scram_client_fini(struct scram_client *scram)
{
    free(scram->client_first_bare);
    free(scram->server_first);
    text_wipe(scram, sizeof *scram);
}
