/*
 * digest: known answers.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/auth/digest.h"

TestSuite(digest);

static void to_hex(const uint8_t digest[DIGEST_SHA256_BYTES], char text[65])
{
    for (int i = 0; i < DIGEST_SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

Test(digest, sha256_gives_the_answer_of_fips_180)
{
    uint8_t digest[DIGEST_SHA256_BYTES];
    char text[65];

    cr_assert(digest_sha256("abc", 3, digest));
    to_hex(digest, text);
    cr_assert_str_eq(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* A key that is shorter than a block counts as one with zeros behind it (RFC 2104). */
Test(digest, hmac_gives_the_answers_of_rfc_4231)
{
    static const struct {
        const char *key;
        size_t key_bytes;
        const char *data, *answer;
    } cases[] = {
        {"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", 20,
         "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", 4, "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t key[DIGEST_SHA256_BYTES] = {0}, digest[DIGEST_SHA256_BYTES];
        char text[65];

        memcpy(key, cases[i].key, cases[i].key_bytes);
        cr_assert(digest_hmac(key, cases[i].data, strlen(cases[i].data), digest));
        to_hex(digest, text);
        cr_assert_str_eq(text, cases[i].answer);
    }
}

/* The data may lie where the answer goes: the inner digest is whole before the outer one begins. */
Test(digest, hmac_may_answer_into_its_data)
{
    uint8_t key[DIGEST_SHA256_BYTES] = "0123456789abcdef0123456789abcdef",
            data[DIGEST_SHA256_BYTES];
    uint8_t digest[DIGEST_SHA256_BYTES];

    memset(data, 7, sizeof(data));
    cr_assert(digest_hmac(key, data, sizeof(data), digest));
    cr_assert(digest_hmac(key, data, sizeof(data), data));
    cr_assert_arr_eq(data, digest, sizeof(data));
}
