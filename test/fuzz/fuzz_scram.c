/*
 * fuzz_scram: logins with a peer that says anything.
 *
 *     byte 0: which side and how    then messages: length (2 bytes), bytes
 *
 * A byte 0x01 in a message stands for the nonce that was told last, so that inputs get behind the
 * first message although nonces are random. Nobody must get in: the peer never knows the password,
 * so no exchange may end well except by a method that asks nothing.
 */
#include <string.h>

#include "pgstage/auth/login.h"
#include "pgstage/auth/scram.h"
#include "pgstage/wire/frame.h"
#include "promise.h"

#define NONCE_MARK 0x01
#define ITERATIONS 1

/* What is left of the input. */
struct input {
    const uint8_t *data;
    size_t size;
    struct buffer nonce;   /* told last */
    struct buffer message; /* the one that was taken last */
};

static bool take_message(struct input *input)
{
    if (input->size < 2)
        return false;
    size_t length = wire_get_u16(input->data);
    input->data += 2;
    input->size -= 2;
    if (length > input->size)
        length = input->size;
    buffer_fini(&input->message);
    for (size_t i = 0; i < length; i++) {
        if (input->data[i] == NONCE_MARK)
            buffer_put(&input->message, input->nonce.data, input->nonce.length);
        else
            buffer_put_u8(&input->message, input->data[i]);
    }
    input->data += length;
    input->size -= length;
    return true;
}

/* Remembers the value of the last "r=" of what was told. */
static void learn_nonce(struct input *input, const struct buffer *told)
{
    for (size_t i = 0; i + 2 <= told->length; i++) {
        if (memcmp(told->data + i, "r=", 2) != 0)
            continue;
        const uint8_t *value = told->data + i + 2;
        size_t left = told->length - i - 2;
        const uint8_t *comma = left > 0 ? memchr(value, ',', left) : NULL;
        buffer_fini(&input->nonce);
        buffer_put(&input->nonce, value, comma ? (size_t)(comma - value) : left);
        return;
    }
}

static const struct scram_binding binding = {.bytes = 32, .hash = "hash of some certificate"};

static struct key_cache *open_cache(void)
{
    struct key_cache *cache = key_cache_new(8);
    key_cache_set_iterations(cache, ITERATIONS);
    return cache;
}

/* The server side of SCRAM alone. */
static void run_scram_server(struct input *input, uint8_t how)
{
    const struct scram_offer offer = {.binding = how & 1 ? &binding : NULL,
                                      .plus_chosen = (how & 2) != 0};
    struct scram_server scram = {0};
    struct scram_verifier mock;
    struct buffer out = {0};
    const char *problem = NULL;
    promise(scram_verifier_mock("user", &mock));
    while (take_message(input)) {
        const struct buffer *message = &input->message;
        buffer_fini(&out);
        if (scram.server_first) {
            enum scram_result result =
                scram_server_final(&scram, message->data, message->length, &out, &problem);
            promise(result != SCRAM_OK && problem && out.length == 0);
        } else if (scram_server_first_with(&scram, &mock, &offer, "nonce", message->data,
                                           message->length, &out, &problem)) {
            learn_nonce(input, &out);
            promise(input->nonce.length == scram.nonce_bytes);
            promise((scram.gs2_flag == 'p') == ((how & 3) == 3));
            promise(scram.gs2_flag != 'y' || !(how & 1));
        } else {
            promise(problem && out.length == 0);
        }
    }
    scram_server_fini(&scram);
    buffer_fini(&out);
}

/* The client side of SCRAM alone. */
static void run_scram_client(struct input *input, uint8_t how)
{
    struct scram_client scram = {0};
    struct scram_keys keys = {.iterations = 1};
    struct buffer out = {0};
    const char *problem = NULL;
    memset(keys.client_key, 'c', sizeof keys.client_key);
    promise(scram_client_first_with(&scram, "nyp"[how % 3], &binding, "", "nonce", &out));
    learn_nonce(input, &out);
    while (take_message(input)) {
        const struct buffer *message = &input->message;
        buffer_fini(&out);
        if (scram.is_final) {
            promise(!scram_client_verify(&scram, message->data, message->length, &problem));
        } else if (scram_client_challenge(&scram, message->data, message->length, &problem)) {
            promise(scram.salt_bytes > 0 && scram.salt_bytes <= SCRAM_SALT_MAX_BYTES);
            promise(scram.iterations > 0 && scram.iterations <= SCRAM_ITERATIONS_MAX);
            promise(scram_client_final(&scram, &keys, &out));
            promise(out.length > scram.whole_nonce_bytes);
        }
        promise(problem || scram.is_final);
    }
    scram_client_fini(&scram);
    buffer_fini(&out);
}

/* A client logs in to pgstage. */
static void run_login_client(struct input *input, uint8_t how)
{
    static const enum auth_type methods[] = {AUTH_PLAIN, AUTH_MD5, AUTH_SCRAM, AUTH_SCRAM};
    static const struct user_secret secrets[] = {
        {"user", "a password nobody would hit upon by chance", SECRET_PLAIN},
        {"user", "md500112233445566778899aabbccddeeff", SECRET_MD5},
        {"user",
         "SCRAM-SHA-256$1:c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
         "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
         SECRET_SCRAM},
        {"user", "", SECRET_NONE},
    };
    struct key_cache *cache = open_cache();
    unsigned choice = how / 4 % 5;
    struct auth_client *auth = auth_client_new(methods[how % 4], "user",
                                               choice < 4 ? &secrets[choice] : NULL, true, cache);
    struct buffer out = {0};
    if (how & 32)
        auth_client_bind(auth, &binding);
    enum auth_step step = auth_client_start(auth, &out);
    promise(step == AUTH_SEND && out.length > 0);
    while (step == AUTH_SEND && take_message(input)) {
        buffer_fini(&out);
        step = auth_client_feed(auth, input->message.data, input->message.length, &out);
        if (step == AUTH_DERIVE) {
            auth_client_derive(auth);
            step = auth_client_resume(auth, &out);
        }
        promise(step == AUTH_SEND || step == AUTH_FAILED);
        promise((step == AUTH_FAILED) == (out.length == 0));
        learn_nonce(input, &out);
    }
    promise(strlen(auth_client_sqlstate(auth)) == 5);
    promise(auth_client_problem(auth) && auth_client_log_problem(auth));
    buffer_fini(&out);
    auth_client_free(auth);
    key_cache_free(cache);
}

/* pgstage logs in to a server. */
static void run_login_server(struct input *input, uint8_t how)
{
    static const char verifier[] =
        "SCRAM-SHA-256$1:c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    static const struct credentials all[] = {
        {"user", "password", SECRET_PLAIN, true},
        {"user", "password", SECRET_PLAIN, false},
        {"user", "md500112233445566778899aabbccddeeff", SECRET_MD5, false},
        {"user", verifier, SECRET_SCRAM, false},
    };
    const struct credentials *credentials = &all[how % 4];
    struct key_cache *cache = open_cache();
    /* keys are at hand for one salt; PBKDF2 for any count a server names would be too slow here */
    struct scram_keys keys = {.iterations = 1, .salt_bytes = 4, .salt = "salt"};
    key_cache_store(cache, "user", credentials->secret, &keys, false);
    struct auth_server *auth = auth_server_new(credentials, cache);
    struct buffer out = {0};
    if (how & 4)
        auth_server_bind(auth, (enum channel_binding)(how / 8 % 3), how & 32 ? &binding : NULL);
    enum auth_step step = AUTH_SEND;
    bool asked = false, answered = false;
    while (step == AUTH_SEND && take_message(input)) {
        const struct buffer *message = &input->message;
        buffer_fini(&out);
        bool is_sasl = message->length >= 4 && wire_get_u32(message->data) >= 10;
        step = auth_server_feed(auth, message->data, message->length, &out);
        if (step == AUTH_DERIVE)
            step = auth_server_resume(auth, &out);
        asked = asked || (is_sasl && step == AUTH_SEND);
        answered = answered || out.length > 0;
        promise(step == AUTH_SEND || out.length == 0);
        learn_nonce(input, &out);
    }
    /* no server here can prove that it knows the password */
    promise(step != AUTH_OK || !asked);
    promise(auth_server_problem(auth) != NULL);
    buffer_fini(&out);
    auth_server_free(auth);
    key_cache_free(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct input input = {.data = data + 1, .size = size - 1};
    uint8_t how = data[0] / 4;
    switch (data[0] % 4) {
    case 0:
        run_scram_server(&input, how);
        break;
    case 1:
        run_scram_client(&input, how);
        break;
    case 2:
        run_login_client(&input, how);
        break;
    default:
        run_login_server(&input, how);
        break;
    }
    buffer_fini(&input.nonce);
    buffer_fini(&input.message);
    return 0;
}
