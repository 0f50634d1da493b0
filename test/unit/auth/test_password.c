/* password: plain and MD5 secrets, and the answers that are made from them. */
#include <criterion/criterion.h>

#include "pgstage/auth/password.h"

Test(password, of_a_message_ends_with_its_only_nul)
{
    cr_assert_str_eq(password_read((const uint8_t *)"secret", 7), "secret");
    cr_assert_str_eq(password_read((const uint8_t *)"", 1), "");
    cr_assert_null(password_read((const uint8_t *)"secret", 6));
    cr_assert_null(password_read((const uint8_t *)"sec\0ret", 8));
    cr_assert_null(password_read((const uint8_t *)"secret\0", 8));
    cr_assert_null(password_read((const uint8_t *)"", 0));
}

Test(password, plain_secret_fits_itself_only)
{
    const struct user_secret secret = {"alice", "secret", SECRET_PLAIN};
    cr_assert(password_fits(&secret, "secret"));
    cr_assert_not(password_fits(&secret, "secreT"));
    cr_assert_not(password_fits(&secret, "secret "));
    cr_assert_not(password_fits(&secret, "secre"));
    cr_assert_not(password_fits(&secret, ""));
}

Test(password, md5_secret_fits_its_password_only)
{
    char stored[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_store("alice", "secret", stored));
    const struct user_secret secret = {"alice", stored, SECRET_MD5};
    cr_assert(password_fits(&secret, "secret"));
    cr_assert_not(password_fits(&secret, "Secret"));
    cr_assert_not(password_fits(&secret, stored), "the hash is no password");
    const struct user_secret other = {"bob", stored, SECRET_MD5};
    cr_assert_not(password_fits(&other, "secret"), "the name is part of the hash");
}

Test(password, empty_secret_fits_nothing)
{
    const struct user_secret none = {"alice", "", SECRET_NONE};
    const struct user_secret plain = {"alice", "", SECRET_PLAIN};
    const struct user_secret md5 = {"alice", "", SECRET_MD5};
    cr_assert_not(password_fits(&none, ""));
    cr_assert_not(password_fits(&plain, ""));
    cr_assert_not(password_fits(&md5, ""));
}

Test(password, md5_text_is_postgresqls)
{
    char stored[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_store("user", "password", stored));
    /* printf passworduser | md5sum */
    cr_assert_str_eq(stored, "md54d45974e13472b5a0be3533de4666414");
}

Test(password, md5_answer_is_the_same_from_a_plain_and_an_md5_secret)
{
    const uint8_t salt[] = {1, 2, 3, 4};
    const struct user_secret plain = {"user", "password", SECRET_PLAIN};
    const struct user_secret md5 = {"user", "md54d45974e13472b5a0be3533de4666414", SECRET_MD5};
    char first[PASSWORD_MD5_BYTES], second[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_answer(&plain, salt, first));
    cr_assert(password_md5_answer(&md5, salt, second));
    cr_assert_str_eq(first, second);
    /* printf '4d45974e13472b5a0be3533de4666414\1\2\3\4' | md5sum */
    cr_assert_str_eq(first, "md5a3576f1ae039b8996bc4fc2720f9c71a");
}

Test(password, md5_answer_changes_with_the_salt)
{
    const struct user_secret plain = {"user", "password", SECRET_PLAIN};
    char first[PASSWORD_MD5_BYTES], second[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_answer(&plain, (const uint8_t *)"\0\0\0\0", first));
    cr_assert(password_md5_answer(&plain, (const uint8_t *)"\0\0\0\1", second));
    cr_assert_str_neq(first, second);
}

Test(password, md5_answer_needs_a_whole_secret_of_the_right_kind)
{
    const uint8_t salt[] = {1, 2, 3, 4};
    char answer[PASSWORD_MD5_BYTES];
    const struct user_secret cut = {"user", "md5", SECRET_MD5};
    const struct user_secret cut_later = {"user", "md54d45974e13472b5a0be3533de466641", SECRET_MD5};
    const struct user_secret longer = {"user", "md54d45974e13472b5a0be3533de4666414a", SECRET_MD5};
    const struct user_secret scram = {"user", "SCRAM-SHA-256$1:YQ==$a:b", SECRET_SCRAM};
    const struct user_secret none = {"user", "", SECRET_NONE};
    cr_assert_not(password_md5_answer(&cut, salt, answer));
    cr_assert_not(password_md5_answer(&cut_later, salt, answer));
    cr_assert_not(password_md5_answer(&longer, salt, answer));
    cr_assert_not(password_md5_answer(&scram, salt, answer));
    cr_assert_not(password_md5_answer(&none, salt, answer));
}
