/* exchange.c: what the other side of a login says, byte by byte. */
#include "exchange.h"

#include <string.h>

#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

struct scram_keys rfc_keys(void)
{
    static const uint8_t salt[] = {0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
                                   0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81};
    struct scram_keys keys;
    if (!scram_derive(RFC_PASSWORD, salt, sizeof salt, 4096, &keys))
        memset(&keys, 0, sizeof keys);
    return keys;
}

struct scram_verifier rfc_verifier(void)
{
    struct scram_keys keys = rfc_keys();
    struct scram_verifier verifier;
    if (!scram_verifier_from_keys(&keys, &verifier))
        memset(&verifier, 0, sizeof verifier);
    return verifier;
}

char *verifier_text(const char *password, const char *salt, uint32_t iterations)
{
    struct scram_keys keys;
    struct scram_verifier verifier;
    if (!scram_derive(password, (const uint8_t *)salt, strlen(salt), iterations, &keys) ||
        !scram_verifier_from_keys(&keys, &verifier))
        return NULL;
    return scram_verifier_print(&verifier);
}

const char *request_data(const struct buffer *out, uint32_t code, size_t *length)
{
    static _Thread_local char data[70000];
    struct frame frame;
    if (frame_peek(out->data, out->length, sizeof data, &frame) != FRAME_OK || frame.type != 'R' ||
        frame.body_bytes < 4 || out->length < FRAME_HEADER_BYTES + frame.body_bytes ||
        wire_get_u32(out->data + FRAME_HEADER_BYTES) != code)
        return NULL;
    *length = frame.body_bytes - 4;
    memcpy(data, out->data + FRAME_HEADER_BYTES + 4, *length);
    data[*length] = 0;
    return data;
}

bool ends_with_ok(const struct buffer *out)
{
    return out->length >= 9 && memcmp(out->data + out->length - 9, "R\0\0\0\x08\0\0\0\0", 9) == 0;
}

void put_initial(struct buffer *body, const char *mechanism, const void *data, size_t length)
{
    buffer_put_string(body, mechanism);
    buffer_put_u32(body, (uint32_t)length);
    buffer_put(body, data, length);
}

void put_request(struct buffer *body, uint32_t code, const void *data, size_t length)
{
    buffer_put_u32(body, code);
    buffer_put(body, data, length);
}

/* The client's part after the server's list of mechanisms. */
static enum auth_step answer_challenges(struct auth_client *auth, struct scram_client *scram,
                                        const char *password, struct buffer *out, int *derivations)
{
    struct buffer text = {0}, body = {0};
    struct scram_keys keys;
    const char *data, *problem;
    size_t length;
    if (!scram_client_first(scram, 'n', NULL, &text))
        return AUTH_FAILED;
    put_initial(&body, "SCRAM-SHA-256", text.data, text.length);
    enum auth_step step = auth_client_feed(auth, body.data, body.length, out);
    buffer_fini(&text);
    buffer_fini(&body);
    if (step != AUTH_SEND)
        return step;
    data = request_data(out, 11, &length);
    bool is_good =
        data && scram_client_challenge(scram, (const uint8_t *)data, length, &problem) &&
        scram_derive(password, scram->salt, scram->salt_bytes, scram->iterations, &keys) &&
        scram_client_final(scram, &keys, &text);
    buffer_fini(out);
    step = is_good ? auth_client_feed(auth, text.data, text.length, out) : AUTH_FAILED;
    buffer_fini(&text);
    if (step == AUTH_DERIVE) {
        *derivations += 1;
        auth_client_derive(auth);
        step = auth_client_resume(auth, out);
    }
    if (step != AUTH_OK)
        return step;
    data = request_data(out, 12, &length);
    is_good = data && scram_client_verify(scram, (const uint8_t *)data, length, &problem);
    return is_good ? AUTH_OK : AUTH_FAILED;
}

enum auth_step scram_login(struct auth_client *auth, const char *password, struct buffer *out,
                           int *derivations)
{
    struct scram_client scram = {0};
    int uncounted = 0;
    size_t length;
    enum auth_step step = auth_client_start(auth, out);
    const char *mechanisms = step == AUTH_SEND ? request_data(out, 10, &length) : NULL;
    bool is_list = mechanisms && length == 15 && memcmp(mechanisms, "SCRAM-SHA-256\0", 15) == 0;
    buffer_fini(out);
    if (is_list)
        step =
            answer_challenges(auth, &scram, password, out, derivations ? derivations : &uncounted);
    else if (step == AUTH_SEND)
        step = AUTH_FAILED;
    scram_client_fini(&scram);
    return step;
}
