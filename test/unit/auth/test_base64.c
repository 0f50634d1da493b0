/* base64: the strict form that SCRAM wants, and nothing else. */
#include <criterion/criterion.h>

#include "pgstage/auth/base64.h"

static ssize_t read_text(const char *text)
{
    uint8_t bytes[64];
    return base64_read(text, strlen(text), bytes, sizeof bytes);
}

Test(base64, encodes_and_decodes_the_examples_of_rfc_4648)
{
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct buffer out = {0};
        base64_put(&out, (const uint8_t *)pairs[i][0], strlen(pairs[i][0]));
        cr_expect_eq(out.length, strlen(pairs[i][1]));
        cr_expect_eq(memcmp(out.data, pairs[i][1], out.length), 0, "%s", pairs[i][0]);
        uint8_t bytes[8];
        cr_expect_eq(base64_read(pairs[i][1], strlen(pairs[i][1]), bytes, sizeof bytes),
                     (ssize_t)strlen(pairs[i][0]));
        cr_expect_eq(memcmp(bytes, pairs[i][0], strlen(pairs[i][0])), 0);
        buffer_fini(&out);
    }
}

Test(base64, refuses_what_a_lenient_decoder_takes)
{
    static const char *const bad[] = {
        "Zg",      "Zg=",     "Z",    "Zg==\n", " Zg==",    "Zg== ", "Z g==", "Zh==", /* stray bits
                                                                                       */
        "Zm9=",    "====",    "Z===", "=g==",   "Zg==Zg==", "Zm=v",  "Zm9v=", "Zm9-", "Zm9_",
        "Zm9\x80", "\n\n\nZ",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(read_text(bad[i]), -1, "%s", bad[i]);
}

Test(base64, refuses_what_does_not_fit)
{
    uint8_t bytes[6];
    cr_assert_eq(base64_read("Zm9vYmFy", 8, bytes, 6), 6);
    cr_assert_eq(base64_read("Zm9vYmFy", 8, bytes, 5), -1);
    cr_assert_eq(base64_read("Zg==", 4, bytes, 0), -1);
}

Test(base64, refuses_a_nul_inside)
{
    uint8_t bytes[6];
    cr_assert_eq(base64_read("Zm\0v", 4, bytes, sizeof bytes), -1);
}
