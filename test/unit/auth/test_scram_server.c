/* scram_server: pgstage's side of SCRAM towards a client. */
#include <criterion/criterion.h>

#include "exchange.h"
#include "pgstage/base/text.h"

static struct scram_server server;
static struct buffer out;
static const char *problem;

static void clean(void)
{
    scram_server_fini(&server);
    buffer_fini(&out);
}

TestSuite(scram_server, .fini = clean);

/* An exact allocation, so that AddressSanitizer sees reads behind the end. */
static bool first_bytes(const void *message, size_t length)
{
    struct scram_verifier verifier = rfc_verifier();
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, message, length);
    bool good = scram_server_first_with(&server, &verifier, NULL, RFC_SERVER_NONCE, copy, length,
                                        &out, &problem);
    free(copy);
    return good;
}

static bool first(const char *message)
{
    return first_bytes(message, strlen(message));
}

static enum scram_result final_bytes(const void *message, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, message, length);
    enum scram_result result = scram_server_final(&server, copy, length, &out, &problem);
    free(copy);
    return result;
}

static enum scram_result final(const char *message)
{
    return final_bytes(message, strlen(message));
}

static void expect_out(const char *text)
{
    cr_assert_eq(out.length, strlen(text));
    cr_assert_arr_eq(out.data, text, out.length);
}

Test(scram_server, gives_the_answers_of_rfc_7677)
{
    cr_assert(first(RFC_CLIENT_FIRST), "%s", problem);
    expect_out(RFC_SERVER_FIRST);
    buffer_fini(&out);
    cr_assert_eq(final(RFC_CLIENT_FINAL), SCRAM_OK);
    expect_out(RFC_SERVER_FINAL);
    struct scram_keys keys = rfc_keys();
    cr_assert_arr_eq(server.client_key, keys.client_key, SCRAM_KEY_BYTES);
}

Test(scram_server, takes_the_first_message_in_all_its_legal_forms)
{
    static const char *const good[] = {
        "n,,n=,r=abc",           "y,,n=,r=abc",        "n,,n=user,r=abc,x=extension",
        "n,,n=,r=a,b=,c=d=e,f=", "n,,n=us=2Cer,r=abc", "n,,n=,r=!#$%&'()*+-./:;<=>?@[]^_`{|}~",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_expect(first(good[i]), "%s: %s", good[i], problem);
}

Test(scram_server, refuses_a_malformed_first_message)
{
    static const char *const bad[] = {
        "",
        "n",
        "n,",
        "n,,",
        "p=tls-server-end-point,,n=,r=abc",
        "p",
        "p=",
        "x,,n=,r=abc",
        "N,,n=,r=abc",
        "n,a=admin,n=,r=abc",
        "n,x,n=,r=abc",
        "nn,,n=,r=abc",
        "n,,r=abc",
        "n,,r=abc,n=",
        "n,,n=",
        "n,,n=,",
        "n,,n=,r",
        "n,,n=,r=",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,x",
        "n,,n=,r=abc,xy",
        "n,,n=,r=abc,=y",
        "n,,n=,r=abc,1=y",
        "n,,n=,r=abc,,x=y",
        "n,,n=,r=a bc",
        "n,,n=,r=a\x7f",
        "n,,n=,r=\xc3\xbc",
        "n,,n=,r=a\n",
        "n,,m=ext,n=,r=abc",
        "n,,n,r=abc",
        "n,,,n=,r=abc",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        problem = NULL;
        cr_expect_not(first(bad[i]), "%s", bad[i]);
        cr_expect_not_null(problem, "%s", bad[i]);
        cr_expect_eq(out.length, 0, "%s", bad[i]);
    }
}

Test(scram_server, refuses_a_nul_anywhere_in_the_first_message)
{
    char message[] = RFC_CLIENT_FIRST;
    for (size_t i = 0; i < sizeof message - 1; i++) {
        char kept = message[i];
        message[i] = 0;
        cr_expect_not(first_bytes(message, sizeof message - 1), "at %zu", i);
        message[i] = kept;
    }
    cr_assert_not(first_bytes(message, sizeof message), "at the end");
}

Test(scram_server, refuses_a_first_message_cut_before_its_nonce)
{
    for (size_t length = 0; length < strlen("n,,n=user,r=") + 1; length++)
        cr_expect_not(first_bytes(RFC_CLIENT_FIRST, length), "%zu bytes", length - 1);
}

Test(scram_server, takes_a_client_nonce_of_any_length)
{
    struct buffer message = {0}, answer = {0};
    buffer_print(&message, "n,,n=,r=");
    memset(buffer_reserve(&message, 60000), 'x', 60000);
    message.length += 60000;
    cr_assert(first_bytes(message.data, message.length));
    cr_assert_gt(out.length, 60000);
    buffer_print(&answer, "c=biws,r=");
    buffer_put(&answer, message.data + 8, 60000);
    buffer_print(&answer, "%s", RFC_SERVER_NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    cr_assert_eq(final_bytes(answer.data, answer.length), SCRAM_WRONG_PROOF);
    buffer_fini(&message);
    buffer_fini(&answer);
}

#define NONCE RFC_CLIENT_NONCE RFC_SERVER_NONCE
#define PROOF "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

Test(scram_server, refuses_a_malformed_final_message)
{
    static const char *const bad[] = {
        "",
        "c=biws",
        "c=biws,",
        "c=biws,r=" NONCE,
        "c=biws,r=" NONCE ",",
        "c=biws,r=" NONCE ",p",
        "c=biws,r=" NONCE ",p=",
        "c=biws,r=" NONCE ",p=" PROOF ",",
        "c=biws,r=" NONCE ",p=" PROOF ",x=y",
        "c=biws,r=" NONCE ",p=" PROOF "\n",
        "c=biws,r=" NONCE ",p=Zm9v",         /* 3 bytes */
        "c=biws,r=" NONCE ",p=" PROOF PROOF, /* padding in the middle */
        "c=biws,r=" NONCE ",x=y",
        "c=biws,r=" NONCE ",xx,p=" PROOF,
        "c=biws,p=" PROOF,
        "c=biws,p=" PROOF ",r=" NONCE,
        "r=" NONCE ",c=biws,p=" PROOF,
        "c=eSws,r=" NONCE ",p=" PROOF, /* "y,,": not what the client began with */
        "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCws,r=" NONCE ",p=" PROOF,
        "c=,r=" NONCE ",p=" PROOF,
        "c=biwsbiws,r=" NONCE ",p=" PROOF,
        "c=biws,r=" RFC_CLIENT_NONCE ",p=" PROOF, /* the server's part is missing */
        "c=biws,r=" RFC_SERVER_NONCE ",p=" PROOF,
        "c=biws,r=" NONCE "x,p=" PROOF,
        "c=biws,r=,p=" PROOF,
        "c=biws,r=xOprNGfwEbeRWgbNEkqO" RFC_SERVER_NONCE ",p=" PROOF,
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert(first(RFC_CLIENT_FIRST));
        buffer_fini(&out);
        problem = NULL;
        cr_expect_eq(final(bad[i]), SCRAM_MALFORMED, "%s", bad[i]);
        cr_expect_not_null(problem, "%s", bad[i]);
        cr_expect_eq(out.length, 0, "%s", bad[i]);
    }
}

Test(scram_server, refuses_a_final_message_at_every_truncation)
{
    cr_assert(first(RFC_CLIENT_FIRST));
    buffer_fini(&out);
    for (size_t length = 0; length < strlen(RFC_CLIENT_FINAL); length++)
        cr_expect_eq(final_bytes(RFC_CLIENT_FINAL, length), SCRAM_MALFORMED, "%zu bytes", length);
    cr_assert_eq(out.length, 0);
}

Test(scram_server, accepts_no_final_message_with_a_changed_byte)
{
    cr_assert(first(RFC_CLIENT_FIRST));
    buffer_fini(&out);
    char message[] = RFC_CLIENT_FINAL;
    for (size_t i = 0; i < sizeof message - 1; i++) {
        char kept = message[i];
        for (int value = 0; value < 256; value++) {
            message[i] = (char)value;
            if (message[i] != kept)
                cr_expect_neq(final_bytes(message, sizeof message - 1), SCRAM_OK, "%d at %zu",
                              value, i);
        }
        message[i] = kept;
    }
    cr_assert_eq(final(message), SCRAM_OK, "the message itself was good");
}

Test(scram_server, signs_extensions_before_the_proof)
{
    cr_assert(first(RFC_CLIENT_FIRST));
    buffer_fini(&out);
    cr_assert_eq(final("c=biws,r=" NONCE ",x=y,p=" PROOF), SCRAM_WRONG_PROOF,
                 "the proof does not cover the extension");
}

Test(scram_server, wants_the_binding_of_a_client_that_said_y)
{
    cr_assert(first("y,,n=user,r=" RFC_CLIENT_NONCE));
    buffer_fini(&out);
    cr_assert_eq(final(RFC_CLIENT_FINAL), SCRAM_MALFORMED);
    cr_assert_eq(final("c=eSws,r=" NONCE ",p=" PROOF), SCRAM_WRONG_PROOF);
}

Test(scram_server, knows_no_final_message_before_the_first)
{
    cr_assert_eq(final(RFC_CLIENT_FINAL), SCRAM_MALFORMED);
}

Test(scram_server, never_accepts_a_proof_for_a_mock)
{
    struct scram_verifier mock;
    cr_assert(scram_verifier_mock("user", &mock));
    cr_assert(scram_server_first_with(&server, &mock, NULL, RFC_SERVER_NONCE,
                                      (const uint8_t *)RFC_CLIENT_FIRST, strlen(RFC_CLIENT_FIRST),
                                      &out, &problem));
    buffer_fini(&out);
    cr_assert_eq(final(RFC_CLIENT_FINAL), SCRAM_WRONG_PROOF);
}

Test(scram_server, forgets_the_client_key_after_a_wrong_proof)
{
    static const uint8_t zero[SCRAM_KEY_BYTES];
    cr_assert(first(RFC_CLIENT_FIRST));
    buffer_fini(&out);
    cr_assert_eq(final("c=biws,r=" NONCE ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
                 SCRAM_WRONG_PROOF);
    cr_assert_arr_eq(server.client_key, zero, SCRAM_KEY_BYTES);
}
