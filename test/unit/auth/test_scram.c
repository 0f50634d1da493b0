/* scram: keys and verifiers, by the example of RFC 7677 and at every truncation. */
#include <criterion/criterion.h>

#include "exchange.h"
#include "pgstage/base/text.h"

#define SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define STORED "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
#define SERVER "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define VERIFIER "SCRAM-SHA-256$4096:" SALT "$" STORED ":" SERVER

Test(scram, derives_the_keys_of_rfc_7677)
{
    struct scram_verifier verifier = rfc_verifier();
    char *text = scram_verifier_print(&verifier);
    cr_assert_str_eq(text, VERIFIER);
    free(text);
}

Test(scram, verifier_is_read_back_as_it_was_printed)
{
    struct scram_verifier verifier, again = rfc_verifier();
    cr_assert(scram_verifier_parse(VERIFIER, &verifier));
    cr_assert_eq(verifier.iterations, 4096);
    cr_assert_eq(verifier.salt_bytes, 16);
    cr_assert_arr_eq(verifier.salt, again.salt, 16);
    cr_assert_arr_eq(verifier.stored_key, again.stored_key, SCRAM_KEY_BYTES);
    cr_assert_arr_eq(verifier.server_key, again.server_key, SCRAM_KEY_BYTES);
}

Test(scram, verifier_that_is_malformed_is_refused)
{
    static const char *const bad[] = {
        "",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$",
        "scram-sha-256$4096:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-1$4096:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$0:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$-1:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$+1:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$ 1:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$1000001:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$4294967297:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$4096x:" SALT "$" STORED ":" SERVER,
        "SCRAM-SHA-256$4096:$" STORED ":" SERVER,
        "SCRAM-SHA-256$4096:W22Za$" STORED ":" SERVER,
        "SCRAM-SHA-256$4096:" SALT ":" STORED ":" SERVER,
        "SCRAM-SHA-256$4096:" SALT "$" STORED "$" SERVER,
        "SCRAM-SHA-256$4096:" SALT "$" STORED,
        "SCRAM-SHA-256$4096:" SALT "$" STORED ":",
        "SCRAM-SHA-256$4096:" SALT "$Zm9v:" SERVER,
        "SCRAM-SHA-256$4096:" SALT "$" STORED ":Zm9v",
        "SCRAM-SHA-256$4096:" SALT "$" STORED ":" SERVER "=",
        "SCRAM-SHA-256$4096:" SALT "$" STORED ":" SERVER "\n",
        /* 65 bytes of salt */
        "SCRAM-SHA-256$4096:"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAA=$" STORED ":" SERVER,
    };
    struct scram_verifier verifier;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_not(scram_verifier_parse(bad[i], &verifier), "%s", bad[i]);
}

Test(scram, verifier_is_refused_at_every_truncation)
{
    struct scram_verifier verifier;
    for (size_t length = 0; length < strlen(VERIFIER); length++) {
        char *cut = text_copy_n(VERIFIER, length);
        cr_expect_not(scram_verifier_parse(cut, &verifier), "%s", cut);
        free(cut);
    }
}

Test(scram, derivation_bounds_what_it_is_given)
{
    struct scram_keys keys;
    uint8_t salt[SCRAM_SALT_MAX_BYTES + 1] = {0};
    cr_assert(scram_derive("p", salt, SCRAM_SALT_MAX_BYTES, 1, &keys));
    cr_assert_not(scram_derive("p", salt, SCRAM_SALT_MAX_BYTES + 1, 1, &keys));
    cr_assert_not(scram_derive("p", salt, 16, 0, &keys));
    cr_assert_not(scram_derive("p", salt, 16, SCRAM_ITERATIONS_MAX + 1, &keys));
}

Test(scram, mock_verifier_stays_the_same_for_a_name)
{
    struct scram_verifier first, second;
    cr_assert(scram_verifier_mock("nobody", &first));
    cr_assert(scram_verifier_mock("nobody", &second));
    cr_assert_eq(memcmp(&first, &second, sizeof first), 0);
    cr_assert_eq(first.salt_bytes, 16, "as PostgreSQL's own");
    cr_assert_eq(first.iterations, SCRAM_ITERATIONS_DEFAULT);
}

Test(scram, mock_verifiers_of_two_names_have_salts_of_their_own)
{
    struct scram_verifier first, second;
    cr_assert(scram_verifier_mock("nobody", &first));
    cr_assert(scram_verifier_mock("nobodz", &second));
    cr_assert_neq(memcmp(first.salt, second.salt, 16), 0);
    cr_assert_neq(memcmp(first.stored_key, first.server_key, SCRAM_KEY_BYTES), 0);
}

/* Both sides against each other, with a random nonce. */
static enum scram_result run(const char *known, const char *given, bool *server_proved)
{
    const uint8_t salt[] = "salty";
    struct scram_keys keys;
    struct scram_verifier verifier;
    struct scram_server server = {0};
    struct scram_client client = {0};
    struct buffer one = {0}, two = {0}, three = {0}, four = {0};
    const char *problem = NULL;
    cr_assert(scram_derive(known, salt, sizeof salt, 3, &keys));
    cr_assert(scram_verifier_from_keys(&keys, &verifier));
    cr_assert(scram_client_first(&client, 'n', NULL, &one));
    cr_assert(scram_server_first(&server, &verifier, NULL, one.data, one.length, &two, &problem));
    cr_assert(scram_client_challenge(&client, two.data, two.length, &problem));
    cr_assert(scram_derive(given, client.salt, client.salt_bytes, client.iterations, &keys));
    cr_assert(scram_client_final(&client, &keys, &three));
    enum scram_result result =
        scram_server_final(&server, three.data, three.length, &four, &problem);
    if (result == SCRAM_OK)
        cr_expect_arr_eq(server.client_key, keys.client_key, SCRAM_KEY_BYTES);
    else
        cr_expect_eq(four.length, 0, "nothing is told to a client that failed");
    *server_proved = scram_client_verify(&client, four.data, four.length, &problem);
    scram_server_fini(&server);
    scram_client_fini(&client);
    buffer_fini(&one);
    buffer_fini(&two);
    buffer_fini(&three);
    buffer_fini(&four);
    return result;
}

Test(scram, both_sides_agree_when_the_passwords_do)
{
    bool server_proved;
    cr_assert_eq(run("secret", "secret", &server_proved), SCRAM_OK);
    cr_assert(server_proved);
}

Test(scram, rejects_a_proof_made_with_another_password)
{
    bool server_proved;
    cr_assert_eq(run("secret", "Secret", &server_proved), SCRAM_WRONG_PROOF);
    cr_assert_not(server_proved);
}

Test(scram, nonces_are_never_the_same)
{
    struct scram_client first = {0}, second = {0};
    struct buffer out = {0};
    cr_assert(scram_client_first(&first, 'n', NULL, &out));
    cr_assert(scram_client_first(&second, 'n', NULL, &out));
    cr_assert_str_neq(first.nonce, second.nonce);
    cr_assert_geq(strlen(first.nonce), 24);
    scram_client_fini(&first);
    scram_client_fini(&second);
    buffer_fini(&out);
}
