/*
 * scram_server: a client proves itself to pgstage.
 *
 *     client                                              pgstage
 *        n,,n=,r=<c>                          ─────────>
 *                                             <─────────  r=<c><s>,s=<salt>,i=<iterations>
 *        c=biws,r=<c><s>,p=<proof>            ─────────>
 *                                             <─────────  v=<server's proof>
 *
 * Works from a verifier alone. The proof, taken off its signature, is the ClientKey: it is kept for
 * pass-through. Messages come from somebody who is not yet known: every byte is checked, every
 * length is the message's, and nothing is put into `out` before the message is known to be good.
 * One thread at a time.
 */
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/base64.h"
#include "pgstage/auth/digest.h"
#include "pgstage/auth/scram.h"
#include "pgstage/auth/scram_text.h"
#include "pgstage/base/text.h"

#define NONCE_RAW_BYTES 18
#define GS2_HEADER_BYTES 3

static bool fail(const char **problem, const char *text)
{
    *problem = text;
    return false;
}

static bool check_gs2_header(const uint8_t *message, size_t length, const char **problem)
{
    if (length < GS2_HEADER_BYTES || message[1] != ',')
        return length > 0 && message[0] == 'p'
                   ? fail(problem, "malformed SCRAM message: channel binding was not offered")
                   : fail(problem, "malformed SCRAM message: no channel binding flag");
    if (message[0] != 'n' && message[0] != 'y')
        return fail(problem, "malformed SCRAM message: unexpected channel binding flag");
    if (message[2] == 'a')
        return fail(problem, "malformed SCRAM message: authorization identity is not supported");
    if (message[2] != ',')
        return fail(problem, "malformed SCRAM message: no end of the channel binding header");
    return true;
}

/* n=<user>,r=<nonce>[,extensions]; the name is ignored, as PostgreSQL does: the startup packet's
 * counts. */
static bool read_client_first(const uint8_t *bare, size_t length, const char **nonce,
                              size_t *nonce_bytes, const char **problem)
{
    struct scram_text text;
    const char *value;
    size_t value_bytes;
    char name;
    if (!scram_text_init(&text, bare, length))
        return fail(problem, "malformed SCRAM message: it contains a NUL");
    if (length > 0 && bare[0] == 'm')
        return fail(problem, "malformed SCRAM message: it requires an unsupported extension");
    if (!scram_text_take(&text, 'n', &value, &value_bytes))
        return fail(problem, "malformed SCRAM message: no user name");
    if (!scram_text_take(&text, 'r', nonce, nonce_bytes) ||
        !scram_text_is_nonce(*nonce, *nonce_bytes))
        return fail(problem, "malformed SCRAM message: no valid nonce");
    while (!scram_text_is_done(&text)) {
        if (!scram_text_any(&text, &name, &value, &value_bytes))
            return fail(problem, "malformed SCRAM message: bytes behind the nonce");
    }
    return true;
}

bool scram_server_first_with(struct scram_server *scram, const struct scram_verifier *verifier,
                             const char *nonce, const uint8_t *message, size_t length,
                             struct buffer *out, const char **problem)
{
    const char *client_nonce;
    size_t client_nonce_bytes;
    if (!check_gs2_header(message, length, problem))
        return false;
    const uint8_t *bare = message + GS2_HEADER_BYTES;
    size_t bare_bytes = length - GS2_HEADER_BYTES;
    if (!read_client_first(bare, bare_bytes, &client_nonce, &client_nonce_bytes, problem))
        return false;

    scram_server_fini(scram);
    scram->gs2_flag = (char)message[0];
    scram->verifier = *verifier;
    scram->client_first_bare = text_copy_n((const char *)bare, bare_bytes);
    scram->nonce_bytes = client_nonce_bytes + strlen(nonce);

    struct buffer text = {0};
    buffer_print(&text, "r=");
    buffer_put(&text, client_nonce, client_nonce_bytes);
    buffer_print(&text, "%s,s=", nonce);
    base64_put(&text, verifier->salt, verifier->salt_bytes);
    buffer_print(&text, ",i=%u", verifier->iterations);
    buffer_put(out, text.data, text.length);
    buffer_put_u8(&text, 0);
    scram->server_first = (char *)text.data;
    return true;
}

bool scram_server_first(struct scram_server *scram, const struct scram_verifier *verifier,
                        const uint8_t *message, size_t length, struct buffer *out,
                        const char **problem)
{
    uint8_t raw[NONCE_RAW_BYTES];
    if (RAND_bytes(raw, sizeof raw) != 1)
        return fail(problem, "no random bytes could be had");
    struct buffer nonce = {0};
    base64_put(&nonce, raw, sizeof raw);
    buffer_put_u8(&nonce, 0);
    bool good = scram_server_first_with(scram, verifier, (const char *)nonce.data, message, length,
                                        out, problem);
    buffer_fini(&nonce);
    return good;
}

/* c=<header>,r=<nonce>[,extensions],p=<proof>; the proof is the last attribute. `signed_bytes`: how
 * much of the message stands before ",p=". */
static bool read_client_final(const struct scram_server *scram, const uint8_t *message,
                              size_t length, uint8_t proof[SCRAM_KEY_BYTES], size_t *signed_bytes,
                              const char **problem)
{
    struct scram_text text;
    const char *value;
    size_t value_bytes;
    char name;
    if (!scram_text_init(&text, message, length))
        return fail(problem, "malformed SCRAM message: it contains a NUL");
    /* base64 of the header that the client began with: "n,," or "y,," */
    const char *header = scram->gs2_flag == 'n' ? "biws" : "eSws";
    if (!scram_text_take(&text, 'c', &value, &value_bytes) || value_bytes != 4 ||
        memcmp(value, header, 4) != 0)
        return fail(problem, "malformed SCRAM message: unexpected channel binding attribute");
    if (!scram_text_take(&text, 'r', &value, &value_bytes) || value_bytes != scram->nonce_bytes ||
        memcmp(value, scram->server_first + 2, value_bytes) != 0)
        return fail(problem, "malformed SCRAM message: the nonce does not match");
    do {
        *signed_bytes = length - text.left - 1;
        if (!scram_text_any(&text, &name, &value, &value_bytes))
            return fail(problem, "malformed SCRAM message: no proof");
    } while (name != 'p');
    if (!scram_text_is_done(&text))
        return fail(problem, "malformed SCRAM message: bytes behind the proof");
    if (base64_read(value, value_bytes, proof, SCRAM_KEY_BYTES) != SCRAM_KEY_BYTES)
        return fail(problem, "malformed SCRAM message: the proof is not 32 bytes in base64");
    return true;
}

enum scram_result scram_server_final(struct scram_server *scram, const uint8_t *message,
                                     size_t length, struct buffer *out, const char **problem)
{
    uint8_t proof[SCRAM_KEY_BYTES], signature[SCRAM_KEY_BYTES], stored_key[SCRAM_KEY_BYTES];
    size_t signed_bytes = 0;
    if (!scram->server_first) {
        *problem = "malformed SCRAM message: the exchange has not begun";
        return SCRAM_MALFORMED;
    }
    if (!read_client_final(scram, message, length, proof, &signed_bytes, problem))
        return SCRAM_MALFORMED;

    struct buffer text = {0};
    buffer_print(&text, "%s,%s,", scram->client_first_bare, scram->server_first);
    buffer_put(&text, message, signed_bytes);
    enum scram_result result = SCRAM_WRONG_PROOF;
    *problem = "wrong password";
    if (!digest_hmac(scram->verifier.stored_key, text.data, text.length, signature))
        goto end;
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        scram->client_key[i] = proof[i] ^ signature[i];
    if (!digest_sha256(scram->client_key, SCRAM_KEY_BYTES, stored_key) ||
        !digest_equal(stored_key, scram->verifier.stored_key, SCRAM_KEY_BYTES) ||
        !digest_hmac(scram->verifier.server_key, text.data, text.length, signature)) {
        text_wipe(scram->client_key, sizeof scram->client_key);
        goto end;
    }
    buffer_print(out, "v=");
    base64_put(out, signature, SCRAM_KEY_BYTES);
    result = SCRAM_OK;
    *problem = NULL;
end:
    buffer_fini(&text);
    text_wipe(proof, sizeof proof);
    return result;
}

void scram_server_fini(struct scram_server *scram)
{
    free(scram->client_first_bare);
    free(scram->server_first);
    text_wipe(scram, sizeof *scram);
}
