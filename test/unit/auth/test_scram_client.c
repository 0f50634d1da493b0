/* scram_client: pgstage's side of SCRAM towards a server. */
#include <criterion/criterion.h>

#include "exchange.h"
#include "pgstage/base/text.h"

static struct scram_client client;
static struct buffer out;
static const char *problem;

static void clean(void)
{
    scram_client_fini(&client);
    buffer_fini(&out);
}

TestSuite(scram_client, .fini = clean);

static void begin(void)
{
    cr_assert(scram_client_first_with(&client, 'n', NULL, "user", RFC_CLIENT_NONCE, &out));
    buffer_fini(&out);
}

static bool challenge_bytes(const void *message, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, message, length);
    problem = NULL;
    bool good = scram_client_challenge(&client, copy, length, &problem);
    free(copy);
    return good;
}

static bool challenge(const char *message)
{
    return challenge_bytes(message, strlen(message));
}

static void go_to_the_end(void)
{
    struct scram_keys keys = rfc_keys();
    begin();
    cr_assert(challenge(RFC_SERVER_FIRST), "%s", problem);
    cr_assert(scram_client_final(&client, &keys, &out));
}

static bool verify_bytes(const void *message, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, message, length);
    problem = NULL;
    bool good = scram_client_verify(&client, copy, length, &problem);
    free(copy);
    return good;
}

static bool verify(const char *message)
{
    return verify_bytes(message, strlen(message));
}

Test(scram_client, gives_the_messages_of_rfc_7677)
{
    cr_assert(scram_client_first_with(&client, 'n', NULL, "user", RFC_CLIENT_NONCE, &out));
    cr_assert_eq(out.length, strlen(RFC_CLIENT_FIRST));
    cr_assert_arr_eq(out.data, RFC_CLIENT_FIRST, out.length);
    cr_assert(challenge(RFC_SERVER_FIRST), "%s", problem);
    cr_assert_eq(client.iterations, 4096);
    cr_assert_eq(client.salt_bytes, 16);
    buffer_fini(&out);
    struct scram_keys keys = rfc_keys();
    cr_assert(scram_client_final(&client, &keys, &out));
    cr_assert_eq(out.length, strlen(RFC_CLIENT_FINAL));
    cr_assert_arr_eq(out.data, RFC_CLIENT_FINAL, out.length);
    cr_assert(verify(RFC_SERVER_FINAL), "%s", problem);
}

Test(scram_client, refuses_a_malformed_challenge)
{
    static const char *const bad[] = {
        "",
        "r=",
        "r=" RFC_CLIENT_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", /* nothing was added */
        "r=rOprNGfwEbeRWgbNEkq,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=xOprNGfwEbeRWgbNEkqOabc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=abc" RFC_CLIENT_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=" RFC_CLIENT_NONCE "a b,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=" RFC_CLIENT_NONCE "abc",
        "r=" RFC_CLIENT_NONCE "abc,",
        "r=" RFC_CLIENT_NONCE "abc,s=",
        "r=" RFC_CLIENT_NONCE "abc,s=,i=4096",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z",
        "r=" RFC_CLIENT_NONCE "abc,s=W22,i=4096",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=0",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=-1",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=4096x",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i= 4096",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=1000001",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=4294967297",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=99999999999999999999",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=4096,",
        "r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=4096,x=y",
        "r=" RFC_CLIENT_NONCE "abc,i=4096,s=W22Z",
        "m=ext,r=" RFC_CLIENT_NONCE "abc,s=W22Z,i=4096",
        "e=other-error",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin();
        cr_expect_not(challenge(bad[i]), "%s", bad[i]);
        cr_expect_not_null(problem, "%s", bad[i]);
    }
}

Test(scram_client, refuses_a_challenge_at_every_truncation)
{
    size_t whole = strlen(RFC_SERVER_FIRST);
    for (size_t length = 0; length < whole; length++) {
        begin();
        /* cut within the digits it is another, well-formed count */
        bool expected = length > whole - 4;
        cr_expect_eq(challenge_bytes(RFC_SERVER_FIRST, length), expected, "%zu bytes", length);
    }
}

Test(scram_client, refuses_a_nul_anywhere_in_the_challenge)
{
    char message[] = RFC_SERVER_FIRST;
    for (size_t i = 0; i < sizeof message - 1; i++) {
        char kept = message[i];
        message[i] = 0;
        begin();
        cr_expect_not(challenge_bytes(message, sizeof message - 1), "at %zu", i);
        message[i] = kept;
    }
    begin();
    cr_assert_not(challenge_bytes(message, sizeof message), "at the end");
}

/* CVE-2026-6665: a long server nonce ran over the array that client-final was built in. */
Test(scram_client, takes_a_server_nonce_of_any_length)
{
    struct scram_keys keys = rfc_keys();
    static const size_t lengths[] = {1,   50,  64,  100, 127,  128,  129,
                                     255, 256, 511, 512, 1000, 60000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buffer message = {0};
        begin();
        buffer_print(&message, "r=" RFC_CLIENT_NONCE);
        memset(buffer_reserve(&message, lengths[i]), 'x', lengths[i]);
        message.length += lengths[i];
        buffer_print(&message, ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        cr_expect(challenge_bytes(message.data, message.length), "%zu bytes", lengths[i]);
        cr_expect(scram_client_final(&client, &keys, &out));
        cr_expect_eq(out.length, strlen("c=biws,r=" RFC_CLIENT_NONCE ",p=") + lengths[i] + 44);
        buffer_fini(&out);
        buffer_fini(&message);
    }
}

Test(scram_client, bounds_the_salt)
{
    struct buffer message = {0};
    buffer_print(&message, "r=" RFC_CLIENT_NONCE "abc,s=");
    for (size_t i = 0; i < 88; i += 4) /* 66 bytes */
        buffer_print(&message, "AAAA");
    buffer_print(&message, ",i=4096");
    begin();
    cr_assert_not(challenge_bytes(message.data, message.length));
    buffer_fini(&message);
    begin();
    cr_assert(challenge("r=" RFC_CLIENT_NONCE
                        "abc,s=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                        "AAAAAAAAAAAAAAAAAA==,i=4096"),
              "64 bytes fit: %s", problem);
}

Test(scram_client, takes_one_challenge_only)
{
    begin();
    cr_assert(challenge(RFC_SERVER_FIRST));
    cr_assert_not(challenge(RFC_SERVER_FIRST));
}

Test(scram_client, takes_no_challenge_before_it_began)
{
    cr_assert_not(challenge(RFC_SERVER_FIRST));
    struct scram_keys keys = {0};
    cr_assert_not(scram_client_final(&client, &keys, &out));
}

Test(scram_client, does_not_believe_a_server_without_the_password)
{
    go_to_the_end();
    cr_assert_not(verify("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    cr_assert_not(verify("e=other-error"));
    cr_assert_not(verify(""));
    cr_assert_not(verify("v="));
    cr_assert_not(verify("v=Zm9v"));
    cr_assert_not(verify(RFC_SERVER_FINAL ","));
    cr_assert_not(verify(RFC_SERVER_FINAL ",x=y"));
    cr_assert_not(verify("x=y," RFC_SERVER_FINAL));
    cr_assert_not(verify_bytes(RFC_SERVER_FINAL, sizeof RFC_SERVER_FINAL), "a NUL at the end");
    cr_assert(verify(RFC_SERVER_FINAL));
}

Test(scram_client, believes_no_server_before_its_own_proof)
{
    begin();
    cr_assert_not(verify(RFC_SERVER_FINAL));
    cr_assert(challenge(RFC_SERVER_FIRST));
    cr_assert_not(verify(RFC_SERVER_FINAL));
    /* the signature is all zeroes until it is made; that must not be a password */
    cr_assert_not(verify("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
}

Test(scram_client, refuses_a_last_message_at_every_truncation)
{
    go_to_the_end();
    for (size_t length = 0; length < strlen(RFC_SERVER_FINAL); length++)
        cr_expect_not(verify_bytes(RFC_SERVER_FINAL, length), "%zu bytes", length);
}

Test(scram_client, believes_no_last_message_with_a_changed_byte)
{
    go_to_the_end();
    char message[] = RFC_SERVER_FINAL;
    for (size_t i = 0; i < sizeof message - 1; i++) {
        char kept = message[i];
        for (int value = 0; value < 256; value++) {
            message[i] = (char)value;
            if (message[i] != kept)
                cr_expect_not(verify_bytes(message, sizeof message - 1), "%d at %zu", value, i);
        }
        message[i] = kept;
    }
}

Test(scram_client, refuses_a_nonce_of_its_own_that_does_not_fit)
{
    char nonce[100];
    memset(nonce, 'x', sizeof nonce - 1);
    nonce[99] = 0;
    cr_assert_not(scram_client_first_with(&client, 'n', NULL, "", nonce, &out));
    cr_assert_not(scram_client_first_with(&client, 'n', NULL, "", "a,b", &out));
    cr_assert_not(scram_client_first_with(&client, 'n', NULL, "", "", &out));
    cr_assert_eq(out.length, 0);
}
