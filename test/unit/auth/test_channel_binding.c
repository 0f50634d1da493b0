/*
 * SCRAM-SHA-256-PLUS on both sides: an exchange that is bound to a TLS connection ends well on that
 * connection only, and nobody can take the offer away unnoticed.
 */
#include <criterion/criterion.h>

#include "exchange.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/frame.h"

#define PLUS_LIST "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0"
#define ONLY_PLUS "SCRAM-SHA-256-PLUS\0"
#define LIST "SCRAM-SHA-256\0"

static const struct scram_binding here = {.bytes = 32, .hash = "the certificate of this server."};
static const struct scram_binding elsewhere = {.bytes = 32,
                                               .hash = "another one's certificate....."};
static const struct user_secret alice = {"alice", "secret", SECRET_PLAIN};

static struct key_cache *cache;
static struct auth_client *client;
static struct auth_server *server;
static struct buffer out;

static void open_cache(void)
{
    cache = key_cache_new(100);
}

static void clean(void)
{
    auth_client_free(client);
    auth_server_free(server);
    key_cache_free(cache);
    buffer_fini(&out);
}

TestSuite(channel_binding, .init = open_cache, .fini = clean);

/* ---- a client of pgstage ---- */

/* Begins as a client of this method does; `binding` NULL: without TLS. */
static void begin(const struct scram_binding *binding, const struct user_secret *secret)
{
    auth_client_free(client);
    buffer_fini(&out);
    client = auth_client_new(AUTH_SCRAM, "alice", secret, true, cache);
    if (binding)
        auth_client_bind(client, binding);
    cr_assert_eq(auth_client_start(client, &out), AUTH_SEND);
}

/* The first message, as it stands. */
static enum auth_step say_first(const char *mechanism, const char *text)
{
    struct buffer body = {0};
    put_initial(&body, mechanism, text, strlen(text));
    buffer_fini(&out);
    enum auth_step step = auth_client_feed(client, body.data, body.length, &out);
    buffer_fini(&body);
    return step;
}

/* A whole login of somebody who binds to `seen`. */
static enum auth_step log_in(char flag, const char *mechanism, const struct scram_binding *seen,
                             const char *password)
{
    struct scram_client scram = {0};
    struct scram_keys keys;
    struct buffer text = {0}, body = {0};
    const char *data, *problem = NULL;
    size_t length;
    cr_assert(scram_client_first(&scram, flag, seen, &text));
    put_initial(&body, mechanism, text.data, text.length);
    buffer_fini(&out);
    enum auth_step step = auth_client_feed(client, body.data, body.length, &out);
    buffer_fini(&body);
    buffer_fini(&text);
    if (step == AUTH_SEND) {
        data = request_data(&out, 11, &length);
        cr_assert(scram_client_challenge(&scram, (const uint8_t *)data, length, &problem));
        cr_assert(scram_derive(password, scram.salt, scram.salt_bytes, scram.iterations, &keys));
        cr_assert(scram_client_final(&scram, &keys, &text));
        buffer_fini(&out);
        step = auth_client_feed(client, text.data, text.length, &out);
        if (step == AUTH_DERIVE) {
            auth_client_derive(client);
            step = auth_client_resume(client, &out);
        }
        buffer_fini(&text);
    }
    scram_client_fini(&scram);
    return step;
}

static void expect_refusal(const char *sqlstate, const char *part)
{
    cr_expect_str_eq(auth_client_sqlstate(client), sqlstate);
    cr_expect_not_null(strstr(auth_client_problem(client), part), "%s",
                       auth_client_problem(client));
    cr_expect_eq(out.length, 0, "nothing is sent");
}

Test(channel_binding, is_offered_first_where_there_is_tls)
{
    size_t length;
    begin(&here, &alice);
    const char *list = request_data(&out, 10, &length);
    cr_assert_eq(length, sizeof PLUS_LIST);
    cr_assert_arr_eq(list, PLUS_LIST, sizeof PLUS_LIST);
}

Test(channel_binding, is_not_offered_without_tls_or_where_the_certificate_has_no_hash)
{
    const struct scram_binding nothing = {0};
    size_t length;
    begin(NULL, &alice);
    const char *list = request_data(&out, 10, &length);
    cr_assert_eq(length, sizeof LIST);
    cr_assert_arr_eq(list, LIST, sizeof LIST);
    begin(&nothing, &alice);
    cr_assert_eq(say_first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc"), AUTH_FAILED);
    expect_refusal("08P01", "invalid SASL authentication mechanism");
    /* a client that could bind says so, and is no victim of anybody */
    begin(&nothing, &alice);
    cr_assert_eq(say_first("SCRAM-SHA-256", "y,,n=,r=abc"), AUTH_SEND);
}

Test(channel_binding, lets_in_whoever_has_seen_the_same_certificate)
{
    begin(&here, &alice);
    cr_assert_eq(log_in('p', "SCRAM-SHA-256-PLUS", &here, "secret"), AUTH_OK);
    cr_assert(ends_with_ok(&out));
}

Test(channel_binding, does_not_replace_the_password)
{
    begin(&here, &alice);
    cr_assert_eq(log_in('p', "SCRAM-SHA-256-PLUS", &here, "Secret"), AUTH_FAILED);
    expect_refusal("28P01", "SASL authentication failed");
    begin(&here, NULL);
    cr_assert_eq(log_in('p', "SCRAM-SHA-256-PLUS", &here, "secret"), AUTH_FAILED);
    expect_refusal("28P01", "SASL authentication failed");
}

Test(channel_binding, refuses_whoever_has_seen_another_certificate)
{
    begin(&here, &alice);
    cr_assert_eq(log_in('p', "SCRAM-SHA-256-PLUS", &elsewhere, "secret"), AUTH_FAILED);
    expect_refusal("28000", "SCRAM channel binding check failed");
    cr_expect_not_null(strstr(auth_client_log_problem(client), "in the middle"));
    struct scram_binding shorter = here;
    shorter.bytes = 31;
    begin(&here, &alice);
    cr_assert_eq(log_in('p', "SCRAM-SHA-256-PLUS", &shorter, "secret"), AUTH_FAILED);
    expect_refusal("28000", "SCRAM channel binding check failed");
}

Test(channel_binding, a_client_that_thinks_it_was_not_offered_is_refused)
{
    begin(&here, &alice);
    cr_assert_eq(say_first("SCRAM-SHA-256", "y,,n=,r=abc"), AUTH_FAILED);
    expect_refusal("28000", "SCRAM channel binding negotiation error");
}

Test(channel_binding, a_client_may_do_without)
{
    begin(&here, &alice);
    cr_assert_eq(log_in('n', "SCRAM-SHA-256", NULL, "secret"), AUTH_OK);
}

Test(channel_binding, flag_and_mechanism_must_go_together)
{
    static const struct {
        const char *mechanism, *first;
    } bad[] = {
        {"SCRAM-SHA-256-PLUS", "n,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "y,,n=,r=abc"},
        {"SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-point2,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-poin,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p=,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p,,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p"},
        {"SCRAM-SHA-256-PLUS", "p="},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-point"},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-point,"},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-point,n=,r=abc"},
        {"SCRAM-SHA-256-PLUS", "p=tls-server-end-point,a=admin,n=,r=abc"},
        {"scram-sha-256-plus", "p=tls-server-end-point,,n=,r=abc"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin(&here, &alice);
        cr_expect_eq(say_first(bad[i].mechanism, bad[i].first), AUTH_FAILED, "%s", bad[i].first);
        expect_refusal("08P01", "");
    }
}

Test(channel_binding, what_a_client_has_shown_serves_pass_through)
{
    char *stored = verifier_text("secret", "salt", 3);
    const struct user_secret secret = {"alice", stored, SECRET_SCRAM};
    struct scram_keys keys, derived;
    begin(&here, &secret);
    cr_assert_eq(log_in('p', "SCRAM-SHA-256-PLUS", &here, "secret"), AUTH_OK);
    cr_assert(key_cache_find(cache, "alice", stored, (const uint8_t *)"salt", 4, 3, &keys));
    cr_assert(scram_derive("secret", (const uint8_t *)"salt", 4, 3, &derived));
    cr_assert_arr_eq(keys.client_key, derived.client_key, SCRAM_KEY_BYTES);
    free(stored);
}

/* ---- pgstage as a client of a server ---- */

static void begin_server(enum channel_binding policy, const struct scram_binding *binding)
{
    const struct credentials credentials = {"alice", "secret", SECRET_PLAIN, true};
    auth_server_free(server);
    server = auth_server_new(&credentials, cache);
    auth_server_bind(server, policy, binding);
}

static enum auth_step ask(uint32_t code, const void *data, size_t length)
{
    struct buffer body = {0};
    put_request(&body, code, data, length);
    buffer_fini(&out);
    enum auth_step step = auth_server_feed(server, body.data, body.length, &out);
    buffer_fini(&body);
    return step;
}

/* What pgstage has chosen and how its first message begins. */
static void expect_choice(const char *mechanism, const char *header)
{
    struct reader reader;
    reader_init(&reader, out.data + FRAME_HEADER_BYTES, out.length - FRAME_HEADER_BYTES);
    cr_expect_str_eq(reader_string(&reader), mechanism);
    uint32_t length = reader_u32(&reader);
    const uint8_t *first = reader_bytes(&reader, length);
    cr_assert(first && length > strlen(header));
    cr_expect_eq(memcmp(first, header, strlen(header)), 0, "%.40s", (const char *)first);
}

static void expect_problem(const char *part)
{
    cr_expect_not_null(strstr(auth_server_problem(server), part), "%s",
                       auth_server_problem(server));
    cr_expect_eq(out.length, 0, "nothing is sent");
}

Test(channel_binding, pgstage_takes_what_the_server_offers)
{
    begin_server(CHANNEL_BINDING_PREFER, &here);
    cr_assert_eq(ask(10, PLUS_LIST, sizeof PLUS_LIST), AUTH_SEND);
    expect_choice("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=");
    begin_server(CHANNEL_BINDING_REQUIRE, &here);
    cr_assert_eq(ask(10, ONLY_PLUS, sizeof ONLY_PLUS), AUTH_SEND);
    expect_choice("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=");
}

Test(channel_binding, pgstage_says_what_it_could_have_done)
{
    begin_server(CHANNEL_BINDING_PREFER, &here);
    cr_assert_eq(ask(10, LIST, sizeof LIST), AUTH_SEND);
    expect_choice("SCRAM-SHA-256", "y,,n=,r=");
    begin_server(CHANNEL_BINDING_DISABLE, &here);
    cr_assert_eq(ask(10, PLUS_LIST, sizeof PLUS_LIST), AUTH_SEND);
    expect_choice("SCRAM-SHA-256", "n,,n=,r=");
    begin_server(CHANNEL_BINDING_PREFER, NULL);
    cr_assert_eq(ask(10, PLUS_LIST, sizeof PLUS_LIST), AUTH_SEND);
    expect_choice("SCRAM-SHA-256", "n,,n=,r=");
}

Test(channel_binding, pgstage_cannot_bind_where_nothing_is_to_bind_to)
{
    begin_server(CHANNEL_BINDING_PREFER, NULL);
    cr_assert_eq(ask(10, ONLY_PLUS, sizeof ONLY_PLUS), AUTH_FAILED);
    expect_problem("offers no SCRAM-SHA-256 but: SCRAM-SHA-256-PLUS");
    begin_server(CHANNEL_BINDING_REQUIRE, NULL);
    cr_assert_eq(ask(10, PLUS_LIST, sizeof PLUS_LIST), AUTH_FAILED);
    expect_problem("channel binding is required");
}

Test(channel_binding, required_means_that_nothing_else_will_do)
{
    begin_server(CHANNEL_BINDING_REQUIRE, &here);
    cr_assert_eq(ask(10, LIST, sizeof LIST), AUTH_FAILED);
    expect_problem("channel binding is required, and the server offers only: SCRAM-SHA-256");
    begin_server(CHANNEL_BINDING_REQUIRE, &here);
    cr_assert_eq(ask(3, "", 0), AUTH_FAILED);
    expect_problem("channel binding is required");
    begin_server(CHANNEL_BINDING_REQUIRE, &here);
    cr_assert_eq(ask(5, "salt", 4), AUTH_FAILED);
    expect_problem("channel binding is required");
    begin_server(CHANNEL_BINDING_REQUIRE, &here);
    cr_assert_eq(ask(0, "", 0), AUTH_FAILED);
    expect_problem("channel binding is required");
}

/* A server that has the certificate `shown`, and a pgstage that has seen `seen`. */
static enum scram_result meet(const struct scram_binding *shown, const struct scram_binding *seen,
                              enum auth_step *last)
{
    struct scram_server scram = {0};
    struct scram_verifier verifier;
    struct scram_keys keys;
    const struct scram_offer offer = {.binding = shown, .plus_chosen = true};
    struct buffer answer = {0};
    struct reader reader;
    const char *problem = NULL;
    cr_assert(scram_derive("secret", (const uint8_t *)"salt", 4, 3, &keys));
    cr_assert(scram_verifier_from_keys(&keys, &verifier));
    begin_server(CHANNEL_BINDING_REQUIRE, seen);
    cr_assert_eq(ask(10, PLUS_LIST, sizeof PLUS_LIST), AUTH_SEND);
    reader_init(&reader, out.data + FRAME_HEADER_BYTES, out.length - FRAME_HEADER_BYTES);
    (void)reader_string(&reader);
    uint32_t length = reader_u32(&reader);
    const uint8_t *first = reader_bytes(&reader, length);
    cr_assert(scram_server_first(&scram, &verifier, &offer, first, length, &answer, &problem));
    *last = ask(11, answer.data, answer.length);
    if (*last == AUTH_DERIVE) {
        auth_server_derive(server);
        *last = auth_server_resume(server, &out);
    }
    cr_assert_eq(*last, AUTH_SEND);
    buffer_fini(&answer);
    enum scram_result result = scram_server_final(
        &scram, out.data + FRAME_HEADER_BYTES, out.length - FRAME_HEADER_BYTES, &answer, &problem);
    if (result == SCRAM_OK) {
        *last = ask(12, answer.data, answer.length);
        if (*last == AUTH_SEND)
            *last = ask(0, "", 0);
    }
    buffer_fini(&answer);
    scram_server_fini(&scram);
    return result;
}

Test(channel_binding, both_sides_agree_on_one_connection_only)
{
    enum auth_step last;
    cr_assert_eq(meet(&here, &here, &last), SCRAM_OK);
    cr_assert_eq(last, AUTH_OK);
    cr_assert_eq(meet(&here, &elsewhere, &last), SCRAM_MISBOUND);
}
