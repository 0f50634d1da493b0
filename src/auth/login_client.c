/*
 * login_client: the dialogue in which a client shows who it is.
 *
 *     start ─┬─ any, trust ───────────────────────────────────────────────> ok
 *            ├─ plain ── PASSWORD ──(not equal)── DERIVE_PASSWORD ─────────> ok / failed
 *            ├─ md5 ──── MD5 ──────────────────────────────────────────────> ok / failed
 *            ├─ ldap, pam ── PASSWORD ── ASK (other thread, others are asked) ──> ok / failed
 *            └─ scram ── SASL_FIRST ── SASL_FINAL ─┬─(keys at hand)────────> ok / failed
 *                                                  └─ DERIVE_FINAL ────────> ok / failed
 *
 * Nobody may learn here which users exist. An unknown user, one without a password and one whose
 * secret cannot serve the method get a mock secret, the same messages and the same work as a known
 * one with a wrong password; the salt told for a plain secret is made from the name like the mock
 * one's. Keys of plain secrets are derived once (auth_warm makes them beforehand). `plain` costs
 * one derivation for each refusal, whoever is refused.
 *
 * Owns copies of the secret and of what waits for a derivation; both are wiped. The client's
 * thread, except auth_client_derive, which reads `state` and what belongs to the waiting step only.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/chosen.h"
#include "pgstage/auth/digest.h"
#include "pgstage/auth/login.h"
#include "pgstage/auth/password.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/random.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

#define SQLSTATE_WRONG "28P01"
#define SQLSTATE_REFUSED "28000"
#define SQLSTATE_MALFORMED "08P01"
#define SQLSTATE_LATER "57P03"

enum client_state {
    CLIENT_NEW,
    CLIENT_PASSWORD,
    CLIENT_MD5,
    CLIENT_SASL_FIRST,
    CLIENT_SASL_FINAL,
    CLIENT_DERIVE_PASSWORD,
    CLIENT_DERIVE_FINAL,
    CLIENT_ASK,
    CLIENT_OK,
    CLIENT_FAILED,
};

struct auth_client {
    /* fixed */
    enum auth_type method;
    bool is_known, must_exist;
    struct user_secret secret; /* owned; the texts are never NULL */
    struct key_cache *keys;
    struct scram_binding binding; /* bytes 0: SCRAM-SHA-256-PLUS is not offered */
    struct outside outside;       /* ldap, pam */
    char *from;
    /* owner */
    enum client_state state;
    uint8_t salt[PASSWORD_SALT_BYTES];
    struct scram_server scram;
    const char *mock_reason; /* why no password can fit; NULL: one can */
    bool needs_keys;         /* scram.verifier has no keys yet */
    char *password;          /* DERIVE_PASSWORD, ASK: what the client sent */
    uint64_t deadline_us;    /* ASK: … the answer must be there, which is: */
    enum outside_result said;
    char said_why[300];
    bool is_unanswered;
    struct buffer waiting; /* DERIVE_FINAL: the client-final-message */
    struct scram_keys derived;
    bool is_derived;
    const char *sqlstate, *problem;
    char *log_problem;
};

struct auth_client *auth_client_new(enum auth_type method, const char *user,
                                    const struct user_secret *secret, bool must_exist,
                                    struct key_cache *keys)
{
    struct auth_client *auth = memory_new(sizeof *auth);
    auth->method = method;
    auth->is_known = secret != NULL;
    auth->must_exist = must_exist;
    auth->keys = keys;
    auth->secret.user = text_copy(user);
    bool has_secret = secret && secret->secret && secret->secret[0];
    auth->secret.kind = has_secret ? secret->kind : SECRET_NONE;
    auth->secret.secret = text_copy(has_secret ? secret->secret : "");
    return auth;
}

void auth_client_bind(struct auth_client *auth, const struct scram_binding *binding)
{
    auth->binding = *binding;
}

void auth_client_ask(struct auth_client *auth, const struct outside *outside, const char *from)
{
    auth->outside = *outside;
    auth->from = text_copy(from);
}

bool auth_client_is_asking(const struct auth_client *auth)
{
    return auth->state == CLIENT_ASK;
}

bool auth_client_was_unanswered(const struct auth_client *auth)
{
    return auth->is_unanswered;
}

void auth_client_free(struct auth_client *auth)
{
    if (!auth)
        return;
    digest_free_secret((char *)auth->secret.secret);
    digest_free_secret(auth->password);
    free((char *)auth->secret.user);
    free(auth->from);
    free(auth->log_problem);
    buffer_fini(&auth->waiting);
    scram_server_fini(&auth->scram);
    text_wipe(auth, sizeof *auth);
    free(auth);
}

/* The first failure counts. While a derivation runs the state is left alone: the other thread reads
 * it, and auth_client_resume fails. */
static enum auth_step fail(struct auth_client *auth, const char *sqlstate, const char *problem,
                           const char *reason)
{
    if (!auth->problem) {
        auth->sqlstate = sqlstate;
        auth->problem = problem;
        auth->log_problem =
            reason ? text_print("%s: %s", problem, reason) : text_print("%s", problem);
    }
    if (auth->state != CLIENT_DERIVE_PASSWORD && auth->state != CLIENT_DERIVE_FINAL &&
        auth->state != CLIENT_ASK)
        auth->state = CLIENT_FAILED;
    return AUTH_FAILED;
}

static enum auth_step fail_malformed(struct auth_client *auth, const char *problem)
{
    return fail(auth, SQLSTATE_MALFORMED, problem, NULL);
}

static enum auth_step fail_misbound(struct auth_client *auth, const char *problem)
{
    return fail(
        auth, SQLSTATE_REFUSED, problem,
        "what the client has seen of the TLS handshake is not what was shown here: somebody "
        "may be in the middle");
}

static enum auth_step fail_wrong(struct auth_client *auth, const char *problem)
{
    return fail(auth, SQLSTATE_WRONG, problem,
                auth->mock_reason ? auth->mock_reason : "wrong password");
}

static enum auth_step succeed(struct auth_client *auth, struct buffer *out)
{
    auth->state = CLIENT_OK;
    message_authentication(out, 0, NULL, 0);
    return AUTH_OK;
}

/* ---- which secret is worked with ---- */

static const char *mock_reason_of(const struct auth_client *auth, bool is_verifier)
{
    if (!auth->is_known)
        return "no such user";
    switch (auth->secret.kind) {
    case SECRET_NONE:
        return "the user has no password";
    case SECRET_MD5:
        return "the user's secret is md5, which cannot serve SCRAM";
    case SECRET_SCRAM:
        return is_verifier ? NULL : "the user's SCRAM secret is malformed";
    default:
        return NULL;
    }
}

/* Fills `scram.verifier`; sets `needs_keys` and `mock_reason`. False: no random bytes. Reading a
 * stored verifier takes about as long as making a mock one and looking for its keys, half a
 * microsecond, so a user who has one is spared the others' work. */
static bool choose_verifier(struct auth_client *auth)
{
    struct scram_verifier *verifier = &auth->scram.verifier;
    struct scram_keys keys;
    bool is_verifier =
        auth->secret.kind == SECRET_SCRAM && scram_verifier_parse(auth->secret.secret, verifier);
    auth->mock_reason = mock_reason_of(auth, is_verifier);
    auth->needs_keys = false;
    if (is_verifier)
        return true;
    if (!chosen_challenge(auth->keys, auth->secret.user, verifier))
        return false;
    bool is_cached = chosen_find(auth->keys, &auth->secret, verifier, &keys), good = true;
    auth->needs_keys = auth->secret.kind == SECRET_PLAIN && !is_cached;
    if (auth->secret.kind == SECRET_PLAIN && is_cached)
        good = scram_verifier_from_keys(&keys, verifier);
    text_wipe(&keys, sizeof keys);
    return good;
}

/* The keys behind a verifier are known now, whichever way the client showed them. */
static void keep_learned_keys(struct auth_client *auth, const uint8_t client_key[SCRAM_KEY_BYTES])
{
    const struct scram_verifier *verifier = &auth->scram.verifier;
    struct scram_keys keys = {.iterations = verifier->iterations,
                              .salt_bytes = verifier->salt_bytes};
    memcpy(keys.salt, verifier->salt, sizeof keys.salt);
    memcpy(keys.client_key, client_key, SCRAM_KEY_BYTES);
    memcpy(keys.server_key, verifier->server_key, SCRAM_KEY_BYTES);
    key_cache_store(auth->keys, auth->secret.user, auth->secret.secret, &keys, false);
    text_wipe(&keys, sizeof keys);
}

/* ---- plain and md5 ---- */

static enum auth_step start_md5(struct auth_client *auth, struct buffer *out)
{
    if (!random_bytes(auth->salt, sizeof auth->salt))
        return fail(auth, SQLSTATE_REFUSED, "authentication failed", "no random bytes");
    auth->mock_reason = mock_reason_of(auth, true);
    if (auth->secret.kind == SECRET_MD5)
        auth->mock_reason = NULL;
    message_authentication(out, 5, auth->salt, sizeof auth->salt);
    auth->state = CLIENT_MD5;
    return AUTH_SEND;
}

static enum auth_step feed_md5(struct auth_client *auth, const uint8_t *body, size_t length,
                               struct buffer *out)
{
    const char *text = password_read(body, length);
    if (!text)
        return fail_malformed(auth, "invalid password packet size");
    const struct user_secret mock = {auth->secret.user, "mock", SECRET_PLAIN};
    char expected[PASSWORD_MD5_BYTES];
    if (!password_md5_answer(auth->mock_reason ? &mock : &auth->secret, auth->salt, expected))
        return fail(auth, SQLSTATE_REFUSED, "password authentication failed",
                    "MD5 cannot be computed or the stored secret is malformed");
    bool fits = password_equal(text, expected);
    text_wipe(expected, sizeof expected);
    if (!fits || auth->mock_reason)
        return fail_wrong(auth, "password authentication failed");
    return succeed(auth, out);
}

static enum auth_step feed_password(struct auth_client *auth, const uint8_t *body, size_t length,
                                    struct buffer *out)
{
    const char *password = password_read(body, length);
    if (!password)
        return fail_malformed(auth, "invalid password packet size");
    if (!choose_verifier(auth))
        return fail(auth, SQLSTATE_REFUSED, "authentication failed", "no random bytes");
    if (auth->secret.kind == SECRET_MD5)
        auth->mock_reason = NULL;
    if (password_fits(&auth->secret, password))
        return succeed(auth, out);
    auth->password = text_copy(password);
    auth->state = CLIENT_DERIVE_PASSWORD;
    return AUTH_DERIVE;
}

static enum auth_step resume_password(struct auth_client *auth, struct buffer *out)
{
    struct scram_verifier given;
    bool fits = auth->is_derived && scram_verifier_from_keys(&auth->derived, &given) &&
                digest_equal(given.stored_key, auth->scram.verifier.stored_key, SCRAM_KEY_BYTES);
    if (!fits || auth->secret.kind != SECRET_SCRAM || auth->mock_reason)
        return fail_wrong(auth, "password authentication failed");
    keep_learned_keys(auth, auth->derived.client_key);
    return succeed(auth, out);
}

/* ---- ldap and pam ---- */

static const char *outside_problem(const struct auth_client *auth)
{
    return auth->method == AUTH_LDAP ? "LDAP authentication failed" : "PAM authentication failed";
}

static enum auth_step feed_asking(struct auth_client *auth, const uint8_t *body, size_t length)
{
    const char *password = password_read(body, length);
    if (!password)
        return fail_malformed(auth, "invalid password packet size");
    if (!*password)
        return fail(auth, SQLSTATE_WRONG, outside_problem(auth), "the password is empty");
    auth->password = text_copy(password);
    auth->deadline_us = clock_now_us() + auth->outside.timeout_us;
    auth->state = CLIENT_ASK;
    return AUTH_DERIVE;
}

static enum auth_step resume_asking(struct auth_client *auth, struct buffer *out)
{
    if (auth->said == OUTSIDE_YES)
        return succeed(auth, out);
    auth->is_unanswered = auth->said == OUTSIDE_FAILED;
    if (auth->is_unanswered)
        return fail(auth, SQLSTATE_LATER, "the password cannot be checked now, try again later",
                    auth->said_why);
    return fail(auth, SQLSTATE_WRONG, outside_problem(auth), auth->said_why);
}

/* ---- scram ---- */

static enum auth_step start_scram(struct auth_client *auth, struct buffer *out)
{
    /* the list of mechanisms ends with an empty name */
    static const char both[] = SCRAM_MECHANISM_PLUS "\0" SCRAM_MECHANISM "\0";
    size_t skipped = auth->binding.bytes > 0 ? 0 : sizeof SCRAM_MECHANISM_PLUS;
    message_authentication(out, 10, both + skipped, sizeof both - skipped);
    auth->state = CLIENT_SASL_FIRST;
    return AUTH_SEND;
}

/* SASLInitialResponse: the mechanism, the length of the data or -1, the data. */
static enum auth_step feed_sasl_first(struct auth_client *auth, const uint8_t *body, size_t length,
                                      struct buffer *out)
{
    struct reader reader;
    reader_init(&reader, body, length);
    const char *mechanism = reader_string(&reader);
    uint32_t data_bytes = reader_u32(&reader);
    const uint8_t *data = reader_bytes(&reader, data_bytes);
    if (!data || !reader_is_done(&reader))
        return fail_malformed(auth, "malformed SASLInitialResponse message");
    bool offered = auth->binding.bytes > 0;
    const struct scram_offer offer = {.binding = offered ? &auth->binding : NULL,
                                      .plus_chosen = text_equal(mechanism, SCRAM_MECHANISM_PLUS)};
    if (!text_equal(mechanism, SCRAM_MECHANISM) && !(offered && offer.plus_chosen))
        return fail_malformed(auth, "client selected an invalid SASL authentication mechanism");
    if (!choose_verifier(auth))
        return fail(auth, SQLSTATE_REFUSED, "SASL authentication failed", "no random bytes");
    const struct scram_verifier verifier = auth->scram.verifier;
    struct buffer answer = {0};
    const char *problem = NULL;
    if (!scram_server_first(&auth->scram, &verifier, &offer, data, data_bytes, &answer, &problem))
        return auth->scram.is_misbound ? fail_misbound(auth, problem)
                                       : fail_malformed(auth, problem);
    message_authentication(out, 11, answer.data, answer.length);
    buffer_fini(&answer);
    auth->state = CLIENT_SASL_FINAL;
    return AUTH_SEND;
}

static enum auth_step finish_scram(struct auth_client *auth, const uint8_t *message, size_t length,
                                   struct buffer *out)
{
    struct buffer answer = {0};
    const char *problem = NULL;
    switch (scram_server_final(&auth->scram, message, length, &answer, &problem)) {
    case SCRAM_MALFORMED:
        return fail_malformed(auth, problem);
    case SCRAM_MISBOUND:
        return fail_misbound(auth, problem);
    case SCRAM_WRONG_PROOF:
        return fail_wrong(auth, "SASL authentication failed");
    case SCRAM_OK:
        break;
    }
    if (auth->secret.kind == SECRET_SCRAM)
        keep_learned_keys(auth, auth->scram.client_key);
    message_authentication(out, 12, answer.data, answer.length);
    buffer_fini(&answer);
    return succeed(auth, out);
}

static enum auth_step feed_sasl_final(struct auth_client *auth, const uint8_t *body, size_t length,
                                      struct buffer *out)
{
    if (!auth->needs_keys)
        return finish_scram(auth, body, length, out);
    buffer_put(&auth->waiting, body, length);
    auth->state = CLIENT_DERIVE_FINAL;
    return AUTH_DERIVE;
}

static enum auth_step resume_final(struct auth_client *auth, struct buffer *out)
{
    if (!auth->is_derived || !scram_verifier_from_keys(&auth->derived, &auth->scram.verifier))
        return fail(auth, SQLSTATE_REFUSED, "SASL authentication failed",
                    "the keys could not be derived");
    return finish_scram(auth, auth->waiting.data, auth->waiting.length, out);
}

/* ---- the dialogue ---- */

enum auth_step auth_client_start(struct auth_client *auth, struct buffer *out)
{
    switch (auth->method) {
    case AUTH_ANY:
        return succeed(auth, out);
    case AUTH_TRUST:
        if (auth->must_exist && !auth->is_known)
            return fail(auth, SQLSTATE_REFUSED, "\"trust\" authentication failed", "no such user");
        return succeed(auth, out);
    case AUTH_PLAIN:
    case AUTH_LDAP:
    case AUTH_PAM:
        message_authentication(out, 3, NULL, 0);
        auth->state = CLIENT_PASSWORD;
        return AUTH_SEND;
    case AUTH_MD5:
        return auth->secret.kind == SECRET_SCRAM ? start_scram(auth, out) : start_md5(auth, out);
    case AUTH_SCRAM:
        return start_scram(auth, out);
    default:
        return fail(auth, SQLSTATE_REFUSED, "login rejected",
                    "the authentication method in force takes no password");
    }
}

enum auth_step auth_client_feed(struct auth_client *auth, const uint8_t *body, size_t length,
                                struct buffer *out)
{
    if (length > AUTH_MESSAGE_MAX_BYTES)
        return fail_malformed(auth, "password message is too long");
    switch (auth->state) {
    case CLIENT_PASSWORD:
        return auth->method == AUTH_PLAIN ? feed_password(auth, body, length, out)
                                          : feed_asking(auth, body, length);
    case CLIENT_MD5:
        return feed_md5(auth, body, length, out);
    case CLIENT_SASL_FIRST:
        return feed_sasl_first(auth, body, length, out);
    case CLIENT_SASL_FINAL:
        return feed_sasl_final(auth, body, length, out);
    default:
        return fail_malformed(auth, "unexpected password message");
    }
}

void auth_client_derive(struct auth_client *auth)
{
    const struct scram_verifier *verifier = &auth->scram.verifier;
    if (auth->state == CLIENT_DERIVE_PASSWORD)
        auth->is_derived = scram_derive(auth->password, verifier->salt, verifier->salt_bytes,
                                        verifier->iterations, &auth->derived);
    else if (auth->state == CLIENT_DERIVE_FINAL)
        auth->is_derived = chosen_derive(auth->keys, &auth->secret, verifier, &auth->derived);
    else if (auth->state == CLIENT_ASK)
        auth->said = outside_ask(&auth->outside, auth->secret.user, auth->password, auth->from,
                                 auth->deadline_us, auth->said_why, sizeof auth->said_why);
}

enum auth_step auth_client_resume(struct auth_client *auth, struct buffer *out)
{
    enum client_state state = auth->state;
    auth->state = CLIENT_FAILED; /* until it is known better */
    if (auth->problem)
        return AUTH_FAILED;
    if (state == CLIENT_DERIVE_PASSWORD)
        return resume_password(auth, out);
    if (state == CLIENT_DERIVE_FINAL)
        return resume_final(auth, out);
    if (state == CLIENT_ASK)
        return resume_asking(auth, out);
    return fail_malformed(auth, "unexpected password message");
}

const char *auth_client_sqlstate(const struct auth_client *auth)
{
    return auth->sqlstate ? auth->sqlstate : SQLSTATE_REFUSED;
}

const char *auth_client_problem(const struct auth_client *auth)
{
    return auth->problem ? auth->problem : "authentication failed";
}

const char *auth_client_log_problem(const struct auth_client *auth)
{
    return auth->log_problem ? auth->log_problem : auth_client_problem(auth);
}
