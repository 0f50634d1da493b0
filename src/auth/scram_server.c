/*
 * scram_server: a client proves itself to pgstage.
 *
 *     client                                              pgstage
 *        <header>n=,r=<c>                     ─────────>
 *                                             <─────────  r=<c><s>,s=<salt>,i=<iterations>
 *        c=<header, binding>,r=<c><s>,p=<proof> ───────>
 *                                             <─────────  v=<server's proof>
 *
 * The header tells what the client thinks of channel binding: 'n' it does not want it, 'y' it would
 * but was not offered it, 'p' it binds. A client that says 'y' although it was offered had the offer
 * taken away by somebody in the middle: refused. Works from a verifier alone. The proof, taken off its signature, is the ClientKey: it is kept for
 * pass-through. Messages come from somebody who is not yet known: every byte is checked, every
 * length is the message's, and nothing is put into `out` before the message is known to be good.
 * One thread at a time.
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

static bool fail_misbound(struct scram_server *scram, const char **problem, const char *text)
{
    scram->is_misbound = true;
    return fail(problem, text);
}

/* "p=<type>": sets how many bytes it has. */
static bool check_binding_type(const uint8_t *message, size_t length, size_t *flag_bytes,
                               const char **problem)
{
    static const char wanted[] = "p=" SCRAM_BINDING_TYPE;
    const uint8_t *comma = memchr(message, ',', length);
    *flag_bytes = sizeof wanted - 1;
    if (!comma || comma - message < 2 || message[1] != '=')
        return fail(problem, "malformed SCRAM message: no channel binding type");
    if ((size_t)(comma - message) != *flag_bytes || memcmp(message, wanted, *flag_bytes) != 0)
        return fail(problem, "unsupported SCRAM channel-binding type");
    return true;
}

/* Reads the flag, its type and the (empty) authorization identity; sets how many bytes they have. */
static bool read_gs2_header(struct scram_server *scram, const struct scram_offer *offer,
                            const uint8_t *message, size_t length, size_t *header_bytes,
                            const char **problem)
{
    char flag = length > 0 ? (char)message[0] : '\0';
    size_t flag_bytes = 1;
    bool plus_offered = offer && offer->binding, plus_chosen = plus_offered && offer->plus_chosen;
    if (flag != 'n' && flag != 'y' && flag != 'p')
        return fail(problem, "malformed SCRAM message: unexpected channel binding flag");
    if (flag == 'p' && !plus_chosen)
        return fail(problem,
                    "malformed SCRAM message: channel binding without " SCRAM_MECHANISM_PLUS);
    if (flag != 'p' && plus_chosen)
        return fail(problem,
                    "malformed SCRAM message: " SCRAM_MECHANISM_PLUS " without channel binding");
    if (flag == 'y' && plus_offered)
        return fail_misbound(scram, problem, "SCRAM channel binding negotiation error");
    if (flag == 'p' && !check_binding_type(message, length, &flag_bytes, problem))
        return false;
    if (length < flag_bytes + 2 || message[flag_bytes] != ',')
        return fail(problem, "malformed SCRAM message: no end of the channel binding flag");
    if (message[flag_bytes + 1] == 'a')
        return fail(problem, "malformed SCRAM message: authorization identity is not supported");
    if (message[flag_bytes + 1] != ',')
        return fail(problem, "malformed SCRAM message: no end of the channel binding header");
    *header_bytes = flag_bytes + 2;
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
                             const struct scram_offer *offer, const char *nonce,
                             const uint8_t *message, size_t length, struct buffer *out,
                             const char **problem)
{
    const char *client_nonce;
    size_t client_nonce_bytes, header_bytes;
    if (!read_gs2_header(scram, offer, message, length, &header_bytes, problem))
        return false;
    const uint8_t *bare = message + header_bytes;
    size_t bare_bytes = length - header_bytes;
    if (!read_client_first(bare, bare_bytes, &client_nonce, &client_nonce_bytes, problem))
        return false;

    scram_server_fini(scram);
    scram->gs2_flag = (char)message[0];
    if (scram->gs2_flag == 'p')
        scram->binding = *offer->binding;
    scram->verifier = *verifier;
    scram->client_first_bare = text_copy_n((const char *)bare, bare_bytes);
    scram->nonce_bytes = client_nonce_bytes + strlen(nonce);

    struct buffer text = {0};
    (void)buffer_reserve(&text, scram->nonce_bytes + BASE64_LENGTH(verifier->salt_bytes) + 32);
    buffer_put(&text, "r=", 2);
    buffer_put(&text, client_nonce, client_nonce_bytes);
    buffer_put(&text, nonce, strlen(nonce));
    buffer_put(&text, ",s=", 3);
    base64_put(&text, verifier->salt, verifier->salt_bytes);
    buffer_print(&text, ",i=%u", verifier->iterations);
    buffer_put(out, text.data, text.length);
    buffer_put_u8(&text, 0);
    scram->server_first = (char *)text.data;
    return true;
}

bool scram_server_first(struct scram_server *scram, const struct scram_verifier *verifier,
                        const struct scram_offer *offer, const uint8_t *message, size_t length,
                        struct buffer *out, const char **problem)
{
    uint8_t raw[NONCE_RAW_BYTES];
    if (!random_bytes(raw, sizeof raw))
        return fail(problem, "no random bytes could be had");
    struct buffer nonce = {0};
    base64_put(&nonce, raw, sizeof raw);
    buffer_put_u8(&nonce, 0);
    bool good = scram_server_first_with(scram, verifier, offer, (const char *)nonce.data, message,
                                        length, out, problem);
    buffer_fini(&nonce);
    return good;
}

/* Does the client mean the TLS connection that this is? */
static enum scram_result check_binding(const struct scram_server *scram, const char *value,
                                       size_t value_bytes, const char **problem)
{
    struct buffer expected = {0};
    scram_text_put_binding(&expected, scram->gs2_flag, &scram->binding);
    bool fits =
        value_bytes == expected.length && memcmp(value, expected.data, expected.length) == 0;
    buffer_fini(&expected);
    if (fits)
        return SCRAM_OK;
    if (scram->gs2_flag == 'p') {
        *problem = "SCRAM channel binding check failed";
        return SCRAM_MISBOUND;
    }
    *problem = "malformed SCRAM message: unexpected channel binding attribute";
    return SCRAM_MALFORMED;
}

static enum scram_result malformed(const char **problem, const char *text)
{
    *problem = text;
    return SCRAM_MALFORMED;
}

/* c=<header and binding>,r=<nonce>[,extensions],p=<proof>; the proof is the last attribute.
 * `signed_bytes`: how much of the message stands before ",p=". */
static enum scram_result read_client_final(const struct scram_server *scram, const uint8_t *message,
                                           size_t length, uint8_t proof[SCRAM_KEY_BYTES],
                                           size_t *signed_bytes, const char **problem)
{
    struct scram_text text;
    const char *value;
    size_t value_bytes;
    char name;
    if (!scram_text_init(&text, message, length))
        return malformed(problem, "malformed SCRAM message: it contains a NUL");
    if (!scram_text_take(&text, 'c', &value, &value_bytes))
        return malformed(problem, "malformed SCRAM message: no channel binding attribute");
    enum scram_result binding = check_binding(scram, value, value_bytes, problem);
    if (binding != SCRAM_OK)
        return binding;
    if (!scram_text_take(&text, 'r', &value, &value_bytes) || value_bytes != scram->nonce_bytes ||
        memcmp(value, scram->server_first + 2, value_bytes) != 0)
        return malformed(problem, "malformed SCRAM message: the nonce does not match");
    do {
        *signed_bytes = length - text.left - 1;
        if (!scram_text_any(&text, &name, &value, &value_bytes))
            return malformed(problem, "malformed SCRAM message: no proof");
    } while (name != 'p');
    if (!scram_text_is_done(&text))
        return malformed(problem, "malformed SCRAM message: bytes behind the proof");
    if (base64_read(value, value_bytes, proof, SCRAM_KEY_BYTES) != SCRAM_KEY_BYTES)
        return malformed(problem, "malformed SCRAM message: the proof is not 32 bytes in base64");
    return SCRAM_OK;
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
    enum scram_result result =
        read_client_final(scram, message, length, proof, &signed_bytes, problem);
    if (result != SCRAM_OK)
        return result;

    struct buffer text = {0};
    size_t first_bytes = strlen(scram->client_first_bare),
           answer_bytes = strlen(scram->server_first);
    (void)buffer_reserve(&text, first_bytes + answer_bytes + 2 + signed_bytes);
    buffer_put(&text, scram->client_first_bare, first_bytes);
    buffer_put(&text, ",", 1);
    buffer_put(&text, scram->server_first, answer_bytes);
    buffer_put(&text, ",", 1);
    buffer_put(&text, message, signed_bytes);
    result = SCRAM_WRONG_PROOF;
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
    buffer_put(out, "v=", 2);
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
