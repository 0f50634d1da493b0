/* login_client: each method by which a client proves who it is. */
#include <criterion/criterion.h>

#include "exchange.h"
#include "pgstage/auth/password.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

static struct key_cache *cache;
static struct auth_client *auth;
static struct buffer out;

static void open_cache(void)
{
    cache = key_cache_new(100);
}

static void clean(void)
{
    auth_client_free(auth);
    key_cache_free(cache);
    buffer_fini(&out);
}

TestSuite(login_client, .init = open_cache, .fini = clean);

#define PLAIN(text) (&(struct user_secret){"alice", text, SECRET_PLAIN})
#define NONE (&(struct user_secret){"alice", "", SECRET_NONE})
#define MD5(text) (&(struct user_secret){"alice", text, SECRET_MD5})
#define SCRAM(text) (&(struct user_secret){"alice", text, SECRET_SCRAM})

/* Begins a new dialogue in place of the one before. */
static enum auth_step begin(enum auth_type method, const struct user_secret *secret)
{
    auth_client_free(auth);
    buffer_fini(&out);
    auth = auth_client_new(method, "alice", secret, true, cache);
    return auth_client_start(auth, &out);
}

static enum auth_step feed(const void *body, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, body, length);
    buffer_fini(&out);
    enum auth_step step = auth_client_feed(auth, copy, length, &out);
    free(copy);
    return step;
}

static enum auth_step feed_text(const char *text)
{
    return feed(text, strlen(text) + 1);
}

/* Derives when asked to, as the session does. */
static enum auth_step settle(enum auth_step step)
{
    if (step != AUTH_DERIVE)
        return step;
    auth_client_derive(auth);
    return auth_client_resume(auth, &out);
}

static void expect_refusal(const char *sqlstate, const char *problem)
{
    cr_expect_str_eq(auth_client_sqlstate(auth), sqlstate);
    cr_expect_str_eq(auth_client_problem(auth), problem);
    cr_expect_eq(out.length, 0, "nothing is sent");
}

/* The whole SCRAM login of a new dialogue. */
static enum auth_step login(const struct user_secret *secret, const char *password,
                            int *derivations)
{
    auth_client_free(auth);
    buffer_fini(&out);
    auth = auth_client_new(AUTH_SCRAM, "alice", secret, true, cache);
    return scram_login(auth, password, &out, derivations);
}

/* ---- any, trust and what takes no password ---- */

Test(login_client, any_lets_everybody_in)
{
    cr_assert_eq(begin(AUTH_ANY, NULL), AUTH_OK);
    cr_assert(ends_with_ok(&out));
}

Test(login_client, trust_lets_known_users_in)
{
    cr_assert_eq(begin(AUTH_TRUST, PLAIN("x")), AUTH_OK);
    cr_assert(ends_with_ok(&out));
    cr_assert_eq(out.length, 9);
}

Test(login_client, trust_refuses_unknown_users_where_they_must_exist)
{
    cr_assert_eq(begin(AUTH_TRUST, NULL), AUTH_FAILED);
    expect_refusal("28000", "\"trust\" authentication failed");
    auth_client_free(auth);
    auth = auth_client_new(AUTH_TRUST, "alice", NULL, false, cache);
    cr_assert_eq(auth_client_start(auth, &out), AUTH_OK);
}

Test(login_client, refuses_methods_that_no_password_serves)
{
    static const enum auth_type methods[] = {AUTH_CERT, AUTH_HBA, AUTH_PEER};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        cr_expect_eq(begin(methods[i], PLAIN("x")), AUTH_FAILED);
        expect_refusal("28000", "login rejected");
    }
}

/* ---- ldap and pam ---- */

/* Nobody is configured, so whoever is asked cannot answer. */
static enum auth_step begin_asking(enum auth_type method)
{
    const struct outside outside = {.method = method, .timeout_us = 60 * CLOCK_SECOND};
    auth_client_free(auth);
    buffer_fini(&out);
    auth = auth_client_new(method, "alice", NULL, false, cache);
    auth_client_ask(auth, &outside, "10.0.0.1");
    return auth_client_start(auth, &out);
}

Test(login_client, ldap_and_pam_ask_for_the_password_and_then_others)
{
    size_t length;
    cr_assert_eq(begin_asking(AUTH_LDAP), AUTH_SEND);
    cr_assert_not_null(request_data(&out, 3, &length));
    cr_assert_eq(feed_text("secret"), AUTH_DERIVE);
    cr_assert(auth_client_is_asking(auth));
    auth_client_derive(auth);
    cr_assert_eq(auth_client_resume(auth, &out), AUTH_FAILED);
    cr_assert(auth_client_was_unanswered(auth));
    expect_refusal("57P03", "the password cannot be checked now, try again later");
    cr_expect_null(strstr(auth_client_log_problem(auth), "secret"));
}

Test(login_client, an_empty_password_is_not_even_asked_about)
{
    cr_assert_eq(begin_asking(AUTH_PAM), AUTH_SEND);
    cr_assert_eq(feed_text(""), AUTH_FAILED);
    expect_refusal("28P01", "PAM authentication failed");
    cr_expect_not(auth_client_was_unanswered(auth));
    cr_assert_eq(begin_asking(AUTH_LDAP), AUTH_SEND);
    cr_assert_eq(feed("abc", 3), AUTH_FAILED, "without its NUL");
    expect_refusal("08P01", "invalid password packet size");
}

Test(login_client, nothing_can_be_said_while_others_are_asked)
{
    cr_assert_eq(begin_asking(AUTH_LDAP), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_DERIVE);
    cr_assert_eq(feed_text("another"), AUTH_FAILED);
    auth_client_derive(auth);
    cr_assert_eq(auth_client_resume(auth, &out), AUTH_FAILED);
    cr_expect_str_eq(auth_client_sqlstate(auth), "08P01");
}

/* ---- plain ---- */

Test(login_client, plain_asks_and_takes_the_password)
{
    cr_assert_eq(begin(AUTH_PLAIN, PLAIN("secret")), AUTH_SEND);
    size_t length;
    cr_assert_not_null(request_data(&out, 3, &length));
    cr_assert_eq(length, 0);
    cr_assert_eq(feed_text("secret"), AUTH_OK);
    cr_assert(ends_with_ok(&out));
}

Test(login_client, plain_refuses_a_wrong_password)
{
    cr_assert_eq(begin(AUTH_PLAIN, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(settle(feed_text("Secret")), AUTH_FAILED);
    expect_refusal("28P01", "password authentication failed");
    cr_assert_str_eq(auth_client_log_problem(auth),
                     "password authentication failed: wrong password");
}

Test(login_client, plain_takes_a_password_of_64_kB)
{
    char *token = calloc(1, AUTH_MESSAGE_MAX_BYTES + 1);
    memset(token, 't', AUTH_MESSAGE_MAX_BYTES - 1);
    cr_assert_eq(begin(AUTH_PLAIN, PLAIN(token)), AUTH_SEND);
    cr_assert_eq(feed(token, AUTH_MESSAGE_MAX_BYTES), AUTH_OK);
    cr_assert_eq(begin(AUTH_PLAIN, PLAIN(token)), AUTH_SEND);
    cr_assert_eq(feed(token, AUTH_MESSAGE_MAX_BYTES + 1), AUTH_FAILED);
    expect_refusal("08P01", "password message is too long");
    free(token);
}

Test(login_client, plain_refuses_malformed_messages)
{
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {{"secret", 6}, {"", 0}, {"secret\0", 8}, {"sec\0ret", 8}, {"secret\0x", 8}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(begin(AUTH_PLAIN, PLAIN("secret")), AUTH_SEND);
        cr_expect_eq(feed(bad[i].bytes, bad[i].length), AUTH_FAILED, "case %zu", i);
        expect_refusal("08P01", "invalid password packet size");
    }
}

Test(login_client, plain_checks_against_an_md5_secret)
{
    char stored[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_store("alice", "secret", stored));
    cr_assert_eq(begin(AUTH_PLAIN, MD5(stored)), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_OK);
    cr_assert_eq(begin(AUTH_PLAIN, MD5(stored)), AUTH_SEND);
    cr_assert_eq(settle(feed_text("other")), AUTH_FAILED);
    cr_assert_eq(begin(AUTH_PLAIN, MD5(stored)), AUTH_SEND);
    cr_assert_eq(settle(feed_text(stored)), AUTH_FAILED, "the hash is no password");
}

Test(login_client, plain_checks_against_a_scram_secret_and_learns_its_keys)
{
    char *stored = verifier_text("secret", "salt", 3);
    cr_assert_eq(begin(AUTH_PLAIN, SCRAM(stored)), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_DERIVE);
    cr_assert_eq(settle(AUTH_DERIVE), AUTH_OK);
    cr_assert(ends_with_ok(&out));
    struct scram_keys keys;
    cr_assert(key_cache_find(cache, "alice", stored, (const uint8_t *)"salt", 4, 3, &keys));
    cr_assert_eq(begin(AUTH_PLAIN, SCRAM(stored)), AUTH_SEND);
    cr_assert_eq(settle(feed_text("other")), AUTH_FAILED);
    expect_refusal("28P01", "password authentication failed");
    free(stored);
}

Test(login_client, plain_does_not_take_the_verifier_for_a_password)
{
    char *stored = verifier_text("secret", "salt", 3);
    cr_assert_eq(begin(AUTH_PLAIN, SCRAM(stored)), AUTH_SEND);
    cr_assert_eq(settle(feed_text(stored)), AUTH_FAILED);
    free(stored);
}

Test(login_client, an_empty_secret_never_matches)
{
    cr_assert_eq(begin(AUTH_PLAIN, NONE), AUTH_SEND);
    cr_assert_eq(settle(feed_text("")), AUTH_FAILED);
    cr_assert_eq(begin(AUTH_PLAIN, PLAIN("")), AUTH_SEND);
    cr_assert_eq(settle(feed_text("")), AUTH_FAILED);
    cr_assert_eq(begin(AUTH_PLAIN, &(struct user_secret){"alice", NULL, SECRET_PLAIN}), AUTH_SEND);
    cr_assert_eq(settle(feed_text("")), AUTH_FAILED);
    cr_assert_eq(login(NONE, "", NULL), AUTH_FAILED);
    cr_assert_eq(login(PLAIN(""), "", NULL), AUTH_FAILED);
}

Test(login_client, plain_treats_an_unknown_user_as_a_wrong_password)
{
    cr_assert_eq(begin(AUTH_PLAIN, NULL), AUTH_SEND);
    size_t length;
    cr_assert_not_null(request_data(&out, 3, &length));
    cr_assert_eq(feed_text("secret"), AUTH_DERIVE, "the same work as for a wrong password");
    cr_assert_eq(settle(AUTH_DERIVE), AUTH_FAILED);
    expect_refusal("28P01", "password authentication failed");
    cr_assert_str_eq(auth_client_log_problem(auth), "password authentication failed: no such user");
}

/* ---- md5 ---- */

/* The answer of a client with this password to the challenge in `out`. */
static enum auth_step answer_md5(const char *password)
{
    size_t length;
    const char *salt = request_data(&out, 5, &length);
    cr_assert_not_null(salt);
    cr_assert_eq(length, 4);
    char answer[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_answer(PLAIN(password), (const uint8_t *)salt, answer));
    return feed_text(answer);
}

Test(login_client, md5_takes_the_password_with_a_plain_or_md5_secret)
{
    char stored[PASSWORD_MD5_BYTES];
    cr_assert(password_md5_store("alice", "secret", stored));
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(answer_md5("secret"), AUTH_OK);
    cr_assert(ends_with_ok(&out));
    cr_assert_eq(begin(AUTH_MD5, MD5(stored)), AUTH_SEND);
    cr_assert_eq(answer_md5("secret"), AUTH_OK);
}

Test(login_client, md5_refuses_a_wrong_password)
{
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(answer_md5("Secret"), AUTH_FAILED);
    expect_refusal("28P01", "password authentication failed");
}

Test(login_client, md5_refuses_an_answer_to_another_salt)
{
    char answer[PASSWORD_MD5_BYTES];
    size_t length;
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert(password_md5_answer(PLAIN("secret"), (const uint8_t *)request_data(&out, 5, &length),
                                  answer));
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed_text(answer), AUTH_FAILED);
}

Test(login_client, md5_refuses_the_password_itself_and_cut_answers)
{
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_FAILED);
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed_text(""), AUTH_FAILED);
    char answer[PASSWORD_MD5_BYTES];
    size_t ignored;
    for (size_t length = 0; length < PASSWORD_MD5_BYTES - 1; length++) {
        cr_expect_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
        cr_expect(password_md5_answer(PLAIN("secret"),
                                      (const uint8_t *)request_data(&out, 5, &ignored), answer));
        answer[length] = 0;
        cr_expect_eq(feed_text(answer), AUTH_FAILED, "%zu characters", length);
    }
}

Test(login_client, md5_refuses_malformed_messages)
{
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed("md5", 3), AUTH_FAILED);
    expect_refusal("08P01", "invalid password packet size");
}

Test(login_client, md5_treats_an_unknown_user_as_a_wrong_password)
{
    cr_assert_eq(begin(AUTH_MD5, NULL), AUTH_SEND);
    cr_assert_eq(answer_md5("mock"), AUTH_FAILED);
    expect_refusal("28P01", "password authentication failed");
    cr_assert_eq(begin(AUTH_MD5, NONE), AUTH_SEND);
    cr_assert_eq(answer_md5(""), AUTH_FAILED);
    cr_assert_eq(begin(AUTH_MD5, NONE), AUTH_SEND);
    cr_assert_eq(answer_md5("mock"), AUTH_FAILED);
}

Test(login_client, md5_with_a_scram_secret_becomes_scram)
{
    char *stored = verifier_text("secret", "salt", 3);
    auth = auth_client_new(AUTH_MD5, "alice", SCRAM(stored), true, cache);
    cr_assert_eq(scram_login(auth, "secret", &out, NULL), AUTH_OK);
    free(stored);
}

Test(login_client, md5_salts_differ)
{
    char first[4];
    size_t length;
    cr_assert_eq(begin(AUTH_MD5, NULL), AUTH_SEND);
    memcpy(first, request_data(&out, 5, &length), 4);
    cr_assert_eq(begin(AUTH_MD5, NULL), AUTH_SEND);
    cr_assert_neq(memcmp(first, request_data(&out, 5, &length), 4), 0);
}

/* ---- scram ---- */

Test(login_client, scram_offers_no_channel_binding)
{
    cr_assert_eq(begin(AUTH_SCRAM, PLAIN("secret")), AUTH_SEND);
    size_t length;
    const char *list = request_data(&out, 10, &length);
    cr_assert_eq(length, 15);
    cr_assert_arr_eq(list, "SCRAM-SHA-256\0", 15);
}

Test(login_client, scram_with_a_verifier_needs_no_derivation_and_learns_the_client_key)
{
    char *stored = verifier_text("secret", "salt", 3);
    int derivations = 0;
    cr_assert_eq(login(SCRAM(stored), "secret", &derivations), AUTH_OK);
    cr_assert_eq(derivations, 0);
    cr_assert(ends_with_ok(&out));
    struct scram_keys keys, derived;
    cr_assert(key_cache_find(cache, "alice", stored, (const uint8_t *)"salt", 4, 3, &keys));
    cr_assert(scram_derive("secret", (const uint8_t *)"salt", 4, 3, &derived));
    cr_assert_arr_eq(keys.client_key, derived.client_key, SCRAM_KEY_BYTES);
    cr_assert_arr_eq(keys.server_key, derived.server_key, SCRAM_KEY_BYTES);
    free(stored);
}

Test(login_client, scram_learns_nothing_from_a_wrong_proof)
{
    char *stored = verifier_text("secret", "salt", 3);
    cr_assert_eq(login(SCRAM(stored), "Secret", NULL), AUTH_FAILED);
    expect_refusal("28P01", "SASL authentication failed");
    struct scram_keys keys;
    cr_assert_not(key_cache_find(cache, "alice", stored, (const uint8_t *)"salt", 4, 3, &keys));
    free(stored);
}

Test(login_client, scram_with_a_plain_secret_derives_once)
{
    int derivations = 0;
    cr_assert_eq(login(PLAIN("secret"), "secret", &derivations), AUTH_OK);
    cr_assert_eq(derivations, 1);
    cr_assert_eq(login(PLAIN("secret"), "secret", &derivations), AUTH_OK);
    cr_assert_eq(login(PLAIN("secret"), "wrong", &derivations), AUTH_FAILED);
    cr_assert_eq(derivations, 1);
}

Test(login_client, scram_with_a_changed_secret_does_not_use_the_old_keys)
{
    cr_assert_eq(login(PLAIN("old"), "old", NULL), AUTH_OK);
    cr_assert_eq(login(PLAIN("new"), "old", NULL), AUTH_FAILED);
    cr_assert_eq(login(PLAIN("new"), "new", NULL), AUTH_OK);
    char *stored = verifier_text("third", "salt", 3);
    cr_assert_eq(login(SCRAM(stored), "new", NULL), AUTH_FAILED);
    cr_assert_eq(login(SCRAM(stored), "third", NULL), AUTH_OK);
    free(stored);
}

Test(login_client, scram_derives_anew_when_the_iterations_change)
{
    int derivations = 0;
    cr_assert_eq(login(PLAIN("secret"), "secret", &derivations), AUTH_OK);
    key_cache_set_iterations(cache, 5000);
    cr_assert_eq(login(PLAIN("secret"), "secret", &derivations), AUTH_OK);
    cr_assert_eq(derivations, 2);
    cr_assert_eq(login(PLAIN("secret"), "secret", &derivations), AUTH_OK);
    cr_assert_eq(derivations, 2);
}

Test(login_client, warming_makes_the_first_login_quick)
{
    int derivations = 0;
    cr_assert(auth_warm(PLAIN("secret"), cache));
    cr_assert_eq(login(PLAIN("secret"), "secret", &derivations), AUTH_OK);
    cr_assert_eq(derivations, 0);
    cr_assert(auth_warm(NONE, cache), "nothing to do");
    cr_assert(auth_warm(SCRAM("SCRAM-SHA-256$x"), cache), "nothing to do");
}

Test(login_client, scram_of_two_clients_that_wait_for_the_same_keys_derives_once)
{
    struct scram_keys marked = {0};
    cr_assert_eq(begin(AUTH_SCRAM, PLAIN("secret")), AUTH_SEND);
    struct buffer body = {0};
    put_initial(&body, "SCRAM-SHA-256", "n,,n=,r=abc", 11);
    cr_assert_eq(feed(body.data, body.length), AUTH_SEND);
    buffer_fini(&body);
    cr_assert_eq(feed("c=biws", 6), AUTH_DERIVE);
    /* the other one is quicker; what it stored is found, not derived again */
    marked.iterations = SCRAM_ITERATIONS_DEFAULT;
    key_cache_store(cache, "alice", "secret", &marked, true);
    auth_client_derive(auth);
    struct scram_keys found;
    cr_assert(key_cache_find(cache, "alice", "secret", NULL, 0, 0, &found));
    cr_assert_eq(found.salt_bytes, 0, "they were not replaced");
}

/* The body of the server's first SCRAM message for this user. */
static char *challenge_for(const char *user, const struct user_secret *secret)
{
    struct buffer body = {0};
    size_t length;
    auth_client_free(auth);
    buffer_fini(&out);
    auth = auth_client_new(AUTH_SCRAM, user, secret, true, cache);
    cr_assert_eq(auth_client_start(auth, &out), AUTH_SEND);
    put_initial(&body, "SCRAM-SHA-256", "n,,n=,r=abc", 11);
    cr_assert_eq(feed(body.data, body.length), AUTH_SEND);
    buffer_fini(&body);
    const char *data = request_data(&out, 11, &length);
    cr_assert_not_null(data);
    return text_copy(strstr(data, ",s="));
}

Test(login_client, scram_shows_an_unknown_user_what_it_shows_a_known_one)
{
    const struct user_secret bob = {"bob", "secret", SECRET_PLAIN};
    char *known = challenge_for("bob", &bob);
    char *unknown = challenge_for("nobody", NULL);
    char *without = challenge_for("alice", NONE);
    cr_expect_eq(strlen(known), strlen(unknown));
    cr_expect_eq(strlen(known), strlen(without));
    cr_expect_str_eq(strstr(known, ",i="), strstr(unknown, ",i="));
    cr_expect_str_neq(known, unknown);
    /* asked again, the salt is the same, whether or not somebody has logged in meanwhile */
    cr_expect(auth_warm(&bob, cache));
    char *known_again = challenge_for("bob", &bob);
    char *unknown_again = challenge_for("nobody", NULL);
    cr_expect_str_eq(known, known_again);
    cr_expect_str_eq(unknown, unknown_again);
    free(known);
    free(unknown);
    free(without);
    free(known_again);
    free(unknown_again);
}

Test(login_client, scram_refuses_an_unknown_user_as_a_wrong_password)
{
    int derivations = 0;
    cr_assert_eq(login(NULL, "secret", &derivations), AUTH_FAILED);
    cr_assert_eq(derivations, 0, "strangers cannot make pgstage work");
    expect_refusal("28P01", "SASL authentication failed");
    cr_assert_str_eq(auth_client_log_problem(auth), "SASL authentication failed: no such user");
}

Test(login_client, scram_refuses_secrets_that_cannot_serve_it)
{
    cr_assert_eq(login(MD5("md54d45974e13472b5a0be3533de4666414"), "secret", NULL), AUTH_FAILED);
    expect_refusal("28P01", "SASL authentication failed");
    cr_assert_not_null(strstr(auth_client_log_problem(auth), "md5"));
    cr_assert_eq(login(SCRAM("SCRAM-SHA-256$4096:nonsense"), "secret", NULL), AUTH_FAILED);
    expect_refusal("28P01", "SASL authentication failed");
    cr_assert_not_null(strstr(auth_client_log_problem(auth), "malformed"));
}

Test(login_client, scram_refuses_malformed_initial_responses)
{
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
        {"", 0},
        {"SCRAM-SHA-256", 13},
        {"SCRAM-SHA-256\0", 14},
        {"SCRAM-SHA-256\0\0\0\0", 17},
        {"SCRAM-SHA-256\0\xff\xff\xff\xff", 18}, /* no data at all */
        {"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=abc", 29},
        {"SCRAM-SHA-256\0\0\0\0\x0an,,n=,r=abc", 29}, /* a byte more than it says */
        {"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abc", 29}, /* a byte less */
        {"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=abc", 29},
        {"SCRAM-SHA-256\0\0\0\0\0", 18},
        {"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc", 34},
        {"SCRAM-SHA-1\0\0\0\0\x0bn,,n=,r=abc", 27},
        {"\0\0\0\0\x0bn,,n=,r=abc", 16},
        {"SCRAM-SHA-256\0\0\0\0\x0bp=,,=,r=abc", 29},
        {"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=ab\0", 29},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(begin(AUTH_SCRAM, PLAIN("secret")), AUTH_SEND);
        cr_expect_eq(feed(bad[i].bytes, bad[i].length), AUTH_FAILED, "case %zu", i);
        cr_expect_str_eq(auth_client_sqlstate(auth), "08P01", "case %zu", i);
        cr_expect_eq(out.length, 0);
    }
}

Test(login_client, scram_refuses_an_initial_response_at_every_truncation)
{
    static const char body[] = "SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc";
    for (size_t length = 0; length < sizeof body - 1; length++) {
        cr_expect_eq(begin(AUTH_SCRAM, PLAIN("secret")), AUTH_SEND);
        cr_expect_eq(feed(body, length), AUTH_FAILED, "%zu bytes", length);
    }
    cr_assert_eq(begin(AUTH_SCRAM, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed(body, sizeof body - 1), AUTH_SEND);
}

Test(login_client, scram_survives_any_changed_byte_of_the_initial_response)
{
    char body[] = "SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc";
    for (size_t i = 0; i < sizeof body - 1; i++) {
        char kept = body[i];
        for (int value = 0; value < 256; value++) {
            body[i] = (char)value;
            cr_expect_eq(begin(AUTH_SCRAM, NULL), AUTH_SEND);
            enum auth_step step = feed(body, sizeof body - 1);
            /* the mechanism and its length must be exact; the user name and nonce may be others */
            cr_expect(step == AUTH_FAILED || i >= 18 || body[i] == kept, "%d at %zu", value, i);
        }
        body[i] = kept;
    }
}

Test(login_client, scram_malformed_final_message_is_told_apart_from_a_wrong_password)
{
    char *stored = verifier_text("secret", "salt", 3);
    free(challenge_for("alice", SCRAM(stored)));
    cr_assert_eq(feed("c=biws,r=abc,p=", 15), AUTH_FAILED);
    cr_assert_str_eq(auth_client_sqlstate(auth), "08P01");
    free(stored);
}

/* ---- order ---- */

Test(login_client, refuses_messages_out_of_order)
{
    cr_assert_eq(begin(AUTH_PLAIN, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_OK);
    cr_assert_eq(feed_text("secret"), AUTH_FAILED, "a second password");
    expect_refusal("08P01", "unexpected password message");
    cr_assert_eq(begin(AUTH_TRUST, PLAIN("secret")), AUTH_OK);
    cr_assert_eq(feed_text("secret"), AUTH_FAILED, "nobody asked");
    auth_client_free(auth);
    auth = auth_client_new(AUTH_PLAIN, "alice", PLAIN("secret"), true, cache);
    cr_assert_eq(feed_text("secret"), AUTH_FAILED, "before the start");
}

Test(login_client, refuses_a_second_scram_exchange)
{
    cr_assert_eq(login(PLAIN("secret"), "secret", NULL), AUTH_OK);
    struct buffer body = {0};
    put_initial(&body, "SCRAM-SHA-256", "n,,n=,r=abc", 11);
    cr_assert_eq(feed(body.data, body.length), AUTH_FAILED);
    expect_refusal("08P01", "unexpected password message");
    buffer_fini(&body);
}

Test(login_client, refuses_an_initial_response_in_place_of_the_final_message)
{
    char *stored = verifier_text("secret", "salt", 3);
    free(challenge_for("alice", SCRAM(stored)));
    struct buffer body = {0};
    put_initial(&body, "SCRAM-SHA-256", "n,,n=,r=abc", 11);
    cr_assert_eq(feed(body.data, body.length), AUTH_FAILED);
    cr_assert_str_eq(auth_client_sqlstate(auth), "08P01");
    buffer_fini(&body);
    free(stored);
}

Test(login_client, gives_no_second_chance_after_a_failure)
{
    cr_assert_eq(begin(AUTH_MD5, PLAIN("secret")), AUTH_SEND);
    cr_assert_eq(feed_text("wrong"), AUTH_FAILED);
    cr_assert_eq(feed_text("wrong"), AUTH_FAILED);
    expect_refusal("28P01", "password authentication failed");
    cr_assert_eq(auth_client_resume(auth, &out), AUTH_FAILED);
}

Test(login_client, a_message_during_the_derivation_ends_the_login)
{
    char *stored = verifier_text("secret", "salt", 3);
    cr_assert_eq(begin(AUTH_PLAIN, SCRAM(stored)), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_DERIVE);
    cr_assert_eq(feed_text("secret"), AUTH_FAILED);
    auth_client_derive(auth);
    cr_assert_eq(auth_client_resume(auth, &out), AUTH_FAILED, "though the password was right");
    expect_refusal("08P01", "unexpected password message");
    free(stored);
}

Test(login_client, a_derivation_that_never_ran_fails_the_login)
{
    cr_assert_eq(begin(AUTH_PLAIN, NULL), AUTH_SEND);
    cr_assert_eq(feed_text("secret"), AUTH_DERIVE);
    cr_assert_eq(auth_client_resume(auth, &out), AUTH_FAILED);
    free(challenge_for("alice", PLAIN("secret")));
    cr_assert_eq(feed("c=biws", 6), AUTH_DERIVE);
    cr_assert_eq(auth_client_resume(auth, &out), AUTH_FAILED);
    cr_assert_eq(out.length, 0);
}

Test(login_client, can_be_dropped_at_any_step)
{
    auth = auth_client_new(AUTH_SCRAM, "alice", PLAIN("secret"), true, cache);
    cr_assert_eq(begin(AUTH_SCRAM, PLAIN("secret")), AUTH_SEND);
    free(challenge_for("alice", PLAIN("secret")));
    cr_assert_eq(feed("c=biws", 6), AUTH_DERIVE);
    auth_client_free(NULL);
}
