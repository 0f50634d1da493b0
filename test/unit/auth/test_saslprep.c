/* saslprep: passwords are prepared as PostgreSQL prepares them. */
#include <criterion/criterion.h>
#include <libpq-fe.h>

#include "pgstage/auth/digest.h"
#include "pgstage/auth/saslprep.h"
#include "pgstage/auth/scram.h"

#define expect_prepared(password, wanted)                                                          \
    do {                                                                                           \
        char *prepared = saslprep_password(password);                                              \
        cr_expect_str_eq(prepared, wanted);                                                        \
        digest_free_secret(prepared);                                                              \
    } while (0)

Test(saslprep, normalises_as_rfc_4013_shows)
{
    expect_prepared("I\xc2\xadX", "IX");      /* a soft hyphen is mapped to nothing */
    expect_prepared("user", "user");          /* no transformation */
    expect_prepared("\xc2\xaa", "a");         /* NFKC */
    expect_prepared("\xe2\x85\xa8", "IX");    /* NFKC */
    expect_prepared("a\xc2\xa0z", "a z");     /* no-break space */
    expect_prepared("u\xcc\x88", "\xc3\xbc"); /* composed */
}

Test(saslprep, leaves_the_bytes_where_they_cannot_be_prepared)
{
    expect_prepared("\x07", "\x07");                 /* prohibited, and ASCII */
    expect_prepared("\xc3\xbc\x07", "\xc3\xbc\x07"); /* prohibited */
    expect_prepared("\xd8\xa7"
                    "1",
                    "\xd8\xa7"
                    "1");                                    /* mixed directions */
    expect_prepared("\xff\xfe", "\xff\xfe");                 /* no UTF-8 */
    expect_prepared("\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"); /* unassigned in Unicode 3.2 */
    expect_prepared("\xc2\xad", "\xc2\xad");                 /* nothing would be left */
    expect_prepared("", "");
}

/* Every pair of bytes, so all ways in which UTF-8 can be cut or wrong. */
Test(saslprep, takes_any_bytes)
{
    for (unsigned pair = 0; pair < 65536; pair++) {
        const char password[] = {'p', (char)(pair >> 8), (char)pair, 0};
        char *prepared = saslprep_password(password);
        cr_expect_gt(strlen(prepared), 0, "%04x", pair);
        digest_free_secret(prepared);
    }
}

Test(saslprep, has_room_for_what_expands_most)
{
    /* U+FDFA becomes 18 characters; the password is 64 kB of them */
    size_t count = 64 * 1024 / 3;
    char *password = calloc(count + 1, 3);
    for (size_t i = 0; i < count; i++)
        memcpy(password + 3 * i, "\xef\xb7\xba", 3);
    char *prepared = saslprep_password(password);
    cr_assert_eq(strlen(prepared), count * 33);
    digest_free_secret(prepared);
    free(password);
}

/* libpq makes a verifier with a salt of its own; the keys must come out the same here. */
static bool agrees_with_libpq(const char *password)
{
    PGconn *connection = PQconnectStart("host=/nonexistent");
    char *text = PQencryptPasswordConn(connection, password, "user", "scram-sha-256");
    struct scram_verifier theirs, ours;
    struct scram_keys keys;
    bool agrees =
        text && scram_verifier_parse(text, &theirs) &&
        scram_derive(password, theirs.salt, theirs.salt_bytes, theirs.iterations, &keys) &&
        scram_verifier_from_keys(&keys, &ours) &&
        memcmp(ours.stored_key, theirs.stored_key, SCRAM_KEY_BYTES) == 0 &&
        memcmp(ours.server_key, theirs.server_key, SCRAM_KEY_BYTES) == 0;
    PQfreemem(text);
    PQfinish(connection);
    return agrees;
}

Test(saslprep, gives_the_keys_that_libpq_gives)
{
    static const char *const passwords[] = {
        "pencil",
        "I\xc2\xadX",
        "\xe2\x85\xa8",
        "\xc3\xbc\x07",
        "\xd8\xa7"
        "1",
        "\xff\xfe",
        "\xf0\x9f\x98\x80",
        "\xc2\xad",
        "p\xc3\xa4ss w\xc3\xb6rd",
        "u\xcc\x88",
        "a\xe2\x80\x8b"
        "b", /* zero width space: mapped to a space or to nothing? */
        "a\xe3\x80\x80"
        "b",
        "\xd8\xa7\xd9\x84",
        "\xe2\x84\xab",
        "a\xcd\x80",     /* U+0340: prohibited before it is normalised, harmless afterwards */
        "a\xe2\x84\xb6", /* U+2136: left to right until it is normalised */
        "a\xef\xb9\xb0", /* U+FE70: right to left until it is normalised */
        "\xef\xb7\xba",  /* U+FDFA: becomes 18 characters */
        "\xed\xa0\x80",
        "\x01",
    };
    for (size_t i = 0; i < sizeof passwords / sizeof passwords[0]; i++)
        cr_expect(agrees_with_libpq(passwords[i]), "password %zu", i);
}
