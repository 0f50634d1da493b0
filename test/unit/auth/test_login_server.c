/* login_server: each proof that a server may ask for, and what is never given to it. */
#include <criterion/criterion.h>

#include "exchange.h"
#include "pgstage/auth/password.h"
#include "pgstage/wire/frame.h"

static struct key_cache *cache;
static struct auth_server *auth;
static struct buffer out;

static void open_cache(void)
{
    cache = key_cache_new(100);
}

static void clean(void)
{
    auth_server_free(auth);
    key_cache_free(cache);
    buffer_fini(&out);
}

TestSuite(login_server, .init = open_cache, .fini = clean);

static void begin(const char *secret, enum secret_kind kind, bool allow_cleartext)
{
    const struct credentials credentials = {"alice", secret, kind, allow_cleartext};
    auth_server_free(auth);
    buffer_fini(&out);
    auth = auth_server_new(&credentials, cache);
}

static enum auth_step feed_bytes(const void *body, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, body, length);
    buffer_fini(&out);
    enum auth_step step = auth_server_feed(auth, copy, length, &out);
    free(copy);
    return step;
}

/* One AuthenticationRequest. */
static enum auth_step feed(uint32_t code, const void *data, size_t length)
{
    struct buffer body = {0};
    put_request(&body, code, data, length);
    enum auth_step step = feed_bytes(body.data, body.length);
    buffer_fini(&body);
    return step;
}

/* The body of the only password message in `out`. */
static const uint8_t *sent(size_t *length)
{
    struct frame frame;
    cr_assert_eq(frame_peek(out.data, out.length, 100000, &frame), FRAME_OK);
    cr_assert_eq(frame.type, 'p');
    cr_assert_eq(out.length, FRAME_HEADER_BYTES + frame.body_bytes);
    *length = frame.body_bytes;
    return out.data + FRAME_HEADER_BYTES;
}

static void expect_problem(const char *part)
{
    cr_expect_not_null(strstr(auth_server_problem(auth), part), "%s", auth_server_problem(auth));
    cr_expect_eq(out.length, 0, "nothing is sent");
}

#define LIST "SCRAM-SHA-256\0"

/* ---- no password, cleartext, md5 ---- */

Test(login_server, takes_ok_from_a_server_that_asks_nothing)
{
    begin(NULL, SECRET_NONE, false);
    cr_assert_eq(feed(0, "", 0), AUTH_OK);
    cr_assert_eq(out.length, 0);
}

Test(login_server, sends_a_cleartext_password_where_it_is_allowed)
{
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(3, "", 0), AUTH_SEND);
    size_t length;
    const uint8_t *body = sent(&length);
    cr_assert_eq(length, 7);
    cr_assert_arr_eq(body, "secret", 7);
    cr_assert_eq(feed(0, "", 0), AUTH_OK);
}

Test(login_server, sends_no_cleartext_password_where_it_is_not_allowed)
{
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(feed(3, "", 0), AUTH_FAILED);
    expect_problem("cleartext password, which may not be sent");
}

Test(login_server, sends_no_stored_hash_as_a_cleartext_password)
{
    begin("md54d45974e13472b5a0be3533de4666414", SECRET_MD5, true);
    cr_assert_eq(feed(3, "", 0), AUTH_FAILED);
    expect_problem("not a password");
    begin("SCRAM-SHA-256$1:YQ==$a:b", SECRET_SCRAM, true);
    cr_assert_eq(feed(3, "", 0), AUTH_FAILED);
    expect_problem("not a password");
}

Test(login_server, answers_md5_from_a_plain_and_an_md5_secret)
{
    char stored[PASSWORD_MD5_BYTES], answer[PASSWORD_MD5_BYTES];
    const struct user_secret secret = {"alice", "secret", SECRET_PLAIN};
    cr_assert(password_md5_store("alice", "secret", stored));
    cr_assert(password_md5_answer(&secret, (const uint8_t *)"salt", answer));
    size_t length;
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(feed(5, "salt", 4), AUTH_SEND);
    cr_assert_arr_eq(sent(&length), answer, sizeof answer);
    cr_assert_eq(length, sizeof answer);
    cr_assert_eq(feed(0, "", 0), AUTH_OK);
    begin(stored, SECRET_MD5, false);
    cr_assert_eq(feed(5, "salt", 4), AUTH_SEND);
    cr_assert_arr_eq(sent(&length), answer, sizeof answer);
}

Test(login_server, answers_no_md5_with_a_scram_secret)
{
    begin("SCRAM-SHA-256$1:YQ==$a:b", SECRET_SCRAM, true);
    cr_assert_eq(feed(5, "salt", 4), AUTH_FAILED);
    expect_problem("SCRAM verifier");
}

Test(login_server, refuses_malformed_requests)
{
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
        {"", 0},
        {"\0\0\0", 3},
        {"\0\0\0\0x", 5},
        {"\0\0\0\3x", 5},
        {"\0\0\0\5sal", 7},
        {"\0\0\0\5salty", 9},
        {"\0\0\0\x0a", 4},
        {"\0\0\0\x0aSCRAM-SHA-256", 17},
        {"\0\0\0\x0aSCRAM-SHA-256\0", 18},
        {"\0\0\0\x0aSCRAM-SHA-256\0\0x", 20},
        {"\0\0\0\x0a\0SCRAM-SHA-256\0\0", 20},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin("secret", SECRET_PLAIN, true);
        cr_expect_eq(feed_bytes(bad[i].bytes, bad[i].length), AUTH_FAILED, "case %zu", i);
        expect_problem("malformed");
    }
}

Test(login_server, refuses_other_methods_by_name)
{
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(7, "", 0), AUTH_FAILED);
    expect_problem("GSSAPI");
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(8, "data", 4), AUTH_FAILED);
    expect_problem("GSSAPI");
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(9, "", 0), AUTH_FAILED);
    expect_problem("SSPI");
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(6, "", 0), AUTH_FAILED);
    expect_problem("SCM");
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(2, "", 0), AUTH_FAILED);
    expect_problem("method 2");
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(4000000000, "", 0), AUTH_FAILED);
    expect_problem("method 4000000000");
}

Test(login_server, says_when_there_is_no_password)
{
    static const uint32_t codes[] = {3, 5, 10};
    for (size_t i = 0; i < 3; i++) {
        begin(NULL, SECRET_NONE, true);
        cr_expect_eq(feed(codes[i], codes[i] == 5 ? "salt" : LIST, codes[i] == 5 ? 4 : 15),
                     AUTH_FAILED);
        expect_problem("none is stored for user \"alice\"");
    }
    begin("", SECRET_PLAIN, true);
    cr_assert_eq(feed(3, "", 0), AUTH_FAILED);
    expect_problem("none is stored");
}

/* ---- scram: a server that is played with the other half ---- */

struct host {
    struct scram_server scram;
    struct scram_verifier verifier;
};

static struct host host_of(const char *password, const char *salt, uint32_t iterations)
{
    struct host host = {0};
    char *text = verifier_text(password, salt, iterations);
    cr_assert(scram_verifier_parse(text, &host.verifier));
    free(text);
    return host;
}

/* Offers SCRAM and sends the challenge; gives the step after it. */
static enum auth_step challenge(struct host *host)
{
    const char *problem = NULL;
    struct buffer text = {0};
    struct reader reader;
    size_t length;
    cr_assert_eq(feed(10, LIST, 15), AUTH_SEND, "%s", auth_server_problem(auth));
    const uint8_t *body = sent(&length);
    reader_init(&reader, body, length);
    cr_assert_str_eq(reader_string(&reader), "SCRAM-SHA-256");
    uint32_t data_bytes = reader_u32(&reader);
    const uint8_t *data = reader_bytes(&reader, data_bytes);
    cr_assert(reader_is_done(&reader));
    cr_assert(
        scram_server_first(&host->scram, &host->verifier, NULL, data, data_bytes, &text, &problem));
    enum auth_step step = feed(11, text.data, text.length);
    buffer_fini(&text);
    return step;
}

/* The server's verdict over the proof in `out`, then what pgstage says to it. */
static enum auth_step finish(struct host *host)
{
    const char *problem = NULL;
    struct buffer text = {0};
    size_t length;
    const uint8_t *body = sent(&length);
    enum scram_result result = scram_server_final(&host->scram, body, length, &text, &problem);
    enum auth_step step = AUTH_FAILED;
    if (result == SCRAM_OK) {
        step = feed(12, text.data, text.length);
        if (step == AUTH_SEND && out.length == 0)
            step = feed(0, "", 0);
    }
    buffer_fini(&text);
    scram_server_fini(&host->scram);
    return step;
}

static enum auth_step derive(void)
{
    auth_server_derive(auth);
    buffer_fini(&out);
    return auth_server_resume(auth, &out);
}

Test(login_server, scram_with_a_password_derives_once_for_each_salt)
{
    struct host one = host_of("secret", "first", 3), two = host_of("secret", "second", 4);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&one), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(finish(&one), AUTH_OK);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&one), AUTH_SEND, "the keys are known");
    cr_assert_eq(finish(&one), AUTH_OK);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&two), AUTH_DERIVE, "another salt");
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(finish(&two), AUTH_OK);
}

Test(login_server, scram_fails_with_a_wrong_password)
{
    struct host host = host_of("secret", "salt", 3);
    begin("Secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(finish(&host), AUTH_FAILED);
}

Test(login_server, scram_with_a_changed_password_does_not_use_the_old_keys)
{
    struct host host = host_of("old", "salt", 3);
    begin("old", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(finish(&host), AUTH_OK);
    struct host changed = host_of("new", "salt", 3);
    begin("new", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&changed), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(finish(&changed), AUTH_OK);
}

Test(login_server, passes_a_login_through_after_the_client_has_proved_itself)
{
    struct host host = host_of("secret", "salt", 3);
    char *stored = scram_verifier_print(&host.verifier);
    const struct user_secret secret = {"alice", stored, SECRET_SCRAM};
    begin(stored, SECRET_SCRAM, false);
    cr_assert_eq(challenge(&host), AUTH_FAILED);
    expect_problem("before a client of that user has logged in");
    scram_server_fini(&host.scram);

    struct auth_client *client = auth_client_new(AUTH_SCRAM, "alice", &secret, true, cache);
    cr_assert_eq(scram_login(client, "secret", &out, NULL), AUTH_OK);
    auth_client_free(client);

    begin(stored, SECRET_SCRAM, false);
    cr_assert_eq(challenge(&host), AUTH_SEND);
    cr_assert_eq(finish(&host), AUTH_OK);
    free(stored);
}

Test(login_server, passes_nothing_through_to_a_server_with_another_verifier)
{
    struct host host = host_of("secret", "salt", 3), other = host_of("secret", "other", 3);
    struct host more = host_of("secret", "salt", 4);
    char *stored = scram_verifier_print(&host.verifier);
    const struct user_secret secret = {"alice", stored, SECRET_SCRAM};
    struct auth_client *client = auth_client_new(AUTH_SCRAM, "alice", &secret, true, cache);
    cr_assert_eq(scram_login(client, "secret", &out, NULL), AUTH_OK);
    auth_client_free(client);
    begin(stored, SECRET_SCRAM, false);
    cr_assert_eq(challenge(&other), AUTH_FAILED);
    expect_problem("is not the one stored here");
    begin(stored, SECRET_SCRAM, false);
    cr_assert_eq(challenge(&more), AUTH_FAILED);
    expect_problem("is not the one stored here");
    scram_server_fini(&other.scram);
    scram_server_fini(&more.scram);
    free(stored);
}

/* Keys made ad hoc from a password must never serve as passed-through ones, nor the reverse. */
Test(login_server, keeps_derived_keys_out_of_pass_through)
{
    struct host host = host_of("secret", "salt", 3);
    char *stored = scram_verifier_print(&host.verifier);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(finish(&host), AUTH_OK);
    begin(stored, SECRET_SCRAM, false);
    cr_assert_eq(challenge(&host), AUTH_FAILED);
    scram_server_fini(&host.scram);
    free(stored);
}

Test(login_server, scram_does_not_work_from_an_md5_secret)
{
    begin("md54d45974e13472b5a0be3533de4666414", SECRET_MD5, true);
    cr_assert_eq(feed(10, LIST, 15), AUTH_FAILED);
    expect_problem("is md5");
}

Test(login_server, takes_scram_among_other_mechanisms)
{
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(feed(10, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0OAUTHBEARER\0", 46), AUTH_SEND);
}

Test(login_server, names_the_mechanisms_of_a_server_that_offers_no_scram)
{
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(feed(10, "SCRAM-SHA-256-PLUS\0OAUTHBEARER\0", 32), AUTH_FAILED);
    expect_problem("SCRAM-SHA-256-PLUS, OAUTHBEARER");
    struct buffer list = {0};
    for (int i = 0; i < 5000; i++)
        buffer_put_string(&list, "MECHANISM");
    buffer_put_u8(&list, 0);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(feed(10, list.data, list.length), AUTH_FAILED);
    cr_assert_lt(strlen(auth_server_problem(auth)), 400);
    buffer_fini(&list);
}

Test(login_server, believes_no_ok_before_the_server_has_proved_itself)
{
    struct host host = host_of("secret", "salt", 3);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(feed(10, LIST, 15), AUTH_SEND);
    cr_assert_eq(feed(0, "", 0), AUTH_FAILED);
    expect_problem("before it proved");
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(feed(0, "", 0), AUTH_FAILED);
    expect_problem("before it proved");
    scram_server_fini(&host.scram);
}

Test(login_server, does_not_believe_a_server_with_a_wrong_proof)
{
    struct host host = host_of("secret", "salt", 3);
    begin("secret", SECRET_PLAIN, false);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(derive(), AUTH_SEND);
    cr_assert_eq(feed(12, "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 46), AUTH_FAILED);
    expect_problem("could not prove");
    cr_assert_eq(feed(0, "", 0), AUTH_FAILED, "and stays refused");
    scram_server_fini(&host.scram);
}

Test(login_server, refuses_a_weaker_request_in_the_middle)
{
    static const uint32_t codes[] = {3, 5, 10};
    for (size_t i = 0; i < 3; i++) {
        begin("secret", SECRET_PLAIN, true);
        cr_expect_eq(feed(10, LIST, 15), AUTH_SEND);
        cr_expect_eq(feed(codes[i], codes[i] == 5 ? "salt" : LIST, codes[i] == 5 ? 4 : 0),
                     AUTH_FAILED);
        expect_problem("second authentication");
    }
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(5, "salt", 4), AUTH_SEND);
    cr_assert_eq(feed(3, "", 0), AUTH_FAILED);
    expect_problem("second authentication");
}

Test(login_server, refuses_sasl_messages_out_of_order)
{
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(11, "r=a,s=YQ==,i=1", 14), AUTH_FAILED);
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(12, "v=", 2), AUTH_FAILED);
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(10, LIST, 15), AUTH_SEND);
    cr_assert_eq(feed(12, "v=", 2), AUTH_FAILED);
    struct host host = host_of("secret", "salt", 3);
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(feed(11, "r=a,s=YQ==,i=1", 14), AUTH_FAILED, "while keys are derived");
    cr_assert_eq(derive(), AUTH_FAILED);
    scram_server_fini(&host.scram);
}

Test(login_server, takes_one_ok_only)
{
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(0, "", 0), AUTH_OK);
    cr_assert_eq(feed(0, "", 0), AUTH_FAILED);
}

Test(login_server, refuses_absurd_iterations)
{
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed(10, LIST, 15), AUTH_SEND);
    struct buffer text = {0};
    size_t length;
    const uint8_t *body = sent(&length);
    /* the nonce stands behind "SCRAM-SHA-256\0", the length and "n,,n=,r=" */
    buffer_print(&text, "r=");
    buffer_put(&text, body + 26, length - 26);
    buffer_print(&text, "abc,s=YQ==,i=2000000000");
    cr_assert_eq(feed(11, text.data, text.length), AUTH_FAILED);
    buffer_fini(&text);
    cr_assert_not_null(strstr(auth_server_problem(auth), "iteration"));
}

Test(login_server, refuses_a_request_over_the_limit)
{
    uint8_t *body = calloc(1, AUTH_MESSAGE_MAX_BYTES + 1);
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(feed_bytes(body, AUTH_MESSAGE_MAX_BYTES + 1), AUTH_FAILED);
    free(body);
}

Test(login_server, fails_when_it_is_resumed_out_of_order_or_without_keys)
{
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(auth_server_resume(auth, &out), AUTH_FAILED);
    struct host host = host_of("secret", "salt", 3);
    begin("secret", SECRET_PLAIN, true);
    cr_assert_eq(challenge(&host), AUTH_DERIVE);
    cr_assert_eq(auth_server_resume(auth, &out), AUTH_FAILED);
    scram_server_fini(&host.scram);
    auth_server_free(NULL);
}

Test(login_server, survives_every_request_of_two_bytes_and_a_code)
{
    for (uint32_t code = 0; code < 16; code++) {
        for (unsigned value = 0; value < 65536; value += 7) {
            const uint8_t data[2] = {(uint8_t)(value >> 8), (uint8_t)value};
            begin("secret", SECRET_PLAIN, true);
            enum auth_step step = feed(code, data, sizeof data);
            cr_expect(step == AUTH_FAILED, "code %u, %u", code, value);
        }
    }
}
