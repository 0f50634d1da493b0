/*
 * login_server: the dialogue in which pgstage logs in to a server.
 *
 *     NEW ─┬─ 0 Ok ────────────────────────────────────────────────────────────> ok
 *          ├─ 3 Cleartext, 5 MD5 ── ANSWERED ── 0 ─────────────────────────────> ok
 *          └─ 10 SASL ── FIRST ── 11 ─┬────────── FINAL ── 12 ── PROVED ── 0 ──> ok
 *                                     └─ DERIVE ──┘
 *
 * Every other request at every other place fails: a server that ends a SCRAM exchange early, or
 * asks for a weaker method in its middle, may be somebody else. A password leaves only where the
 * connection allows it. With a SCRAM verifier there is no password; only the keys that a client's
 * own proof has shown serve, and only towards the salt and iterations of that very verifier. Owns
 * copies of the credentials, wiped at the end. The server's thread, except auth_server_derive.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/digest.h"
#include "pgstage/auth/login.h"
#include "pgstage/auth/password.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

/* How much of the server's list of mechanisms an error text repeats. */
#define MECHANISMS_SHOWN_BYTES 200

enum server_state {
    SERVER_NEW,
    SERVER_ANSWERED,
    SERVER_FIRST,
    SERVER_DERIVE,
    SERVER_FINAL,
    SERVER_PROVED,
    SERVER_OK,
    SERVER_FAILED,
};

/* AuthenticationRequest codes. */
enum {
    REQUEST_OK = 0,
    REQUEST_CLEARTEXT = 3,
    REQUEST_MD5 = 5,
    REQUEST_SCM = 6,
    REQUEST_GSS = 7,
    REQUEST_SSPI = 9,
    REQUEST_SASL = 10,
    REQUEST_SASL_CONTINUE = 11,
    REQUEST_SASL_FINAL = 12,
};

struct auth_server {
    /* fixed */
    struct user_secret secret; /* owned; the texts are never NULL */
    bool allow_cleartext;
    struct key_cache *keys;
    enum channel_binding channel_binding;
    struct scram_binding binding; /* bytes 0: there is nothing to bind to */
    /* owner */
    enum server_state state;
    struct scram_client scram;
    struct scram_keys derived;
    bool is_derived;
    char *problem;
};

struct auth_server *auth_server_new(const struct credentials *credentials, struct key_cache *keys)
{
    struct auth_server *auth = memory_new(sizeof *auth);
    bool has_secret = credentials->secret && credentials->secret[0];
    auth->secret.user = text_copy(credentials->user ? credentials->user : "");
    auth->secret.secret = text_copy(has_secret ? credentials->secret : "");
    auth->secret.kind = has_secret ? credentials->kind : SECRET_NONE;
    auth->allow_cleartext = credentials->allow_cleartext;
    auth->keys = keys;
    return auth;
}

void auth_server_bind(struct auth_server *auth, enum channel_binding policy,
                      const struct scram_binding *binding)
{
    auth->channel_binding = policy;
    if (binding)
        auth->binding = *binding;
}

void auth_server_free(struct auth_server *auth)
{
    if (!auth)
        return;
    digest_free_secret((char *)auth->secret.secret);
    free((char *)auth->secret.user);
    free(auth->problem);
    scram_client_fini(&auth->scram);
    text_wipe(auth, sizeof *auth);
    free(auth);
}

/* Takes the allocated text; the first failure counts. */
static enum auth_step fail_with(struct auth_server *auth, char *problem)
{
    auth->state = SERVER_FAILED;
    if (auth->problem)
        free(problem);
    else
        auth->problem = problem;
    return AUTH_FAILED;
}

static enum auth_step fail(struct auth_server *auth, const char *problem)
{
    return fail_with(auth, text_copy(problem));
}

static enum auth_step answered(struct auth_server *auth, enum server_state state)
{
    auth->state = state;
    return AUTH_SEND;
}

static enum auth_step feed_ok(struct auth_server *auth, const struct reader *reader)
{
    if (!reader_is_done(reader))
        return fail(auth, "the server sent a malformed AuthenticationOk");
    if (auth->state != SERVER_NEW && auth->state != SERVER_ANSWERED && auth->state != SERVER_PROVED)
        return fail(auth, "the server said OK before it proved that it knows the password");
    if (auth->channel_binding == CHANNEL_BINDING_REQUIRE && auth->scram.gs2_flag != 'p')
        return fail(auth, "channel binding is required, and the server lets pgstage in without");
    auth->state = SERVER_OK;
    return AUTH_OK;
}

static enum auth_step feed_cleartext(struct auth_server *auth, const struct reader *reader,
                                     struct buffer *out)
{
    if (!reader_is_done(reader))
        return fail(auth, "the server sent a malformed request for a cleartext password");
    if (auth->secret.kind != SECRET_PLAIN)
        return fail_with(auth, text_print("the server asks for a cleartext password, and the "
                                          "stored secret of user \"%s\" is not a password",
                                          auth->secret.user));
    if (!auth->allow_cleartext)
        return fail(auth, "the server asks for a cleartext password, which may not be sent on this "
                          "connection");
    message_password(out, auth->secret.secret, strlen(auth->secret.secret) + 1);
    return answered(auth, SERVER_ANSWERED);
}

static enum auth_step feed_md5(struct auth_server *auth, struct reader *reader, struct buffer *out)
{
    const uint8_t *salt = reader_bytes(reader, PASSWORD_SALT_BYTES);
    if (!salt || !reader_is_done(reader))
        return fail(auth, "the server sent a malformed request for an md5 password");
    if (auth->secret.kind != SECRET_PLAIN && auth->secret.kind != SECRET_MD5)
        return fail_with(auth, text_print("the server asks for an md5 password, and the stored "
                                          "secret of user \"%s\" is a SCRAM verifier",
                                          auth->secret.user));
    char answer[PASSWORD_MD5_BYTES];
    if (!password_md5_answer(&auth->secret, salt, answer))
        return fail(auth, "the md5 password that the server asks for cannot be computed");
    message_password(out, answer, sizeof answer);
    return answered(auth, SERVER_ANSWERED);
}

/* What of the server's list can be used. */
struct offered {
    bool scram, plus;
};

/* Reads the list of mechanisms; sets a problem when it is malformed or nothing in it is of use. */
static bool read_offered(struct auth_server *auth, struct reader *reader, struct offered *offered)
{
    struct buffer names = {0};
    for (;;) {
        const char *name = reader_string(reader);
        if (name[0] == 0)
            break;
        offered->scram = offered->scram || text_equal(name, SCRAM_MECHANISM);
        offered->plus = offered->plus || text_equal(name, SCRAM_MECHANISM_PLUS);
        if (names.length < MECHANISMS_SHOWN_BYTES)
            buffer_print(&names, "%s%.50s", names.length > 0 ? ", " : "", name);
    }
    bool is_list = reader_is_done(reader);
    offered->plus = offered->plus && auth->channel_binding != CHANNEL_BINDING_DISABLE &&
                    auth->binding.bytes > 0;
    if (!is_list)
        (void)fail(auth, "the server sent a malformed list of SASL mechanisms");
    else if (auth->channel_binding == CHANNEL_BINDING_REQUIRE && !offered->plus)
        (void)fail_with(auth, text_print("channel binding is required, and %s: %.*s",
                                         auth->binding.bytes > 0
                                             ? "the server offers only"
                                             : "there is no TLS with a certificate to bind to; the "
                                               "server offers",
                                         (int)names.length, (const char *)names.data));
    else if (!offered->scram && !offered->plus)
        (void)fail_with(auth, text_print("the server offers no " SCRAM_MECHANISM " but: %.*s",
                                         (int)names.length, (const char *)names.data));
    buffer_fini(&names);
    return !auth->problem;
}

/* 'y' only where pgstage would really have bound, had it been offered: a server that has offered it
 * knows then that somebody took the offer away. */
static char flag_for(const struct auth_server *auth, const struct offered *offered)
{
    if (offered->plus)
        return 'p';
    return auth->channel_binding != CHANNEL_BINDING_DISABLE && auth->binding.bytes > 0 ? 'y' : 'n';
}

static enum auth_step feed_sasl(struct auth_server *auth, struct reader *reader, struct buffer *out)
{
    struct offered offered = {0};
    if (!read_offered(auth, reader, &offered))
        return AUTH_FAILED;
    if (auth->secret.kind == SECRET_MD5)
        return fail_with(auth, text_print("the server asks for SCRAM, and the stored secret of "
                                          "user \"%s\" is md5",
                                          auth->secret.user));
    struct buffer first = {0};
    if (!scram_client_first(&auth->scram, flag_for(auth, &offered), &auth->binding, &first))
        return fail(auth, "no random bytes could be had");
    size_t begin = message_begin(out, 'p');
    buffer_put_string(out, offered.plus ? SCRAM_MECHANISM_PLUS : SCRAM_MECHANISM);
    buffer_put_u32(out, (uint32_t)first.length);
    buffer_put(out, first.data, first.length);
    message_end(out, begin);
    buffer_fini(&first);
    return answered(auth, SERVER_FIRST);
}

static enum auth_step send_final(struct auth_server *auth, const struct scram_keys *keys,
                                 struct buffer *out)
{
    struct buffer final = {0};
    bool made = scram_client_final(&auth->scram, keys, &final);
    if (made)
        message_password(out, final.data, final.length);
    buffer_fini(&final);
    if (!made)
        return fail(auth, "the SCRAM proof could not be computed");
    return answered(auth, SERVER_FINAL);
}

/* Why there are no keys for pass-through. */
static enum auth_step fail_pass_through(struct auth_server *auth)
{
    struct scram_verifier verifier;
    const struct scram_client *scram = &auth->scram;
    if (!scram_verifier_parse(auth->secret.secret, &verifier))
        return fail_with(auth, text_print("the stored SCRAM secret of user \"%s\" is malformed",
                                          auth->secret.user));
    if (verifier.iterations != scram->iterations || verifier.salt_bytes != scram->salt_bytes ||
        memcmp(verifier.salt, scram->salt, scram->salt_bytes) != 0)
        return fail_with(auth, text_print("the server's SCRAM secret of user \"%s\" is not the one "
                                          "stored here, so a login cannot be passed through",
                                          auth->secret.user));
    return fail_with(auth,
                     text_print("no keys are known for the SCRAM secret of user \"%s\" before "
                                "a client of that user has logged in with scram-sha-256",
                                auth->secret.user));
}

static enum auth_step feed_continue(struct auth_server *auth, const struct reader *reader,
                                    struct buffer *out)
{
    struct scram_client *scram = &auth->scram;
    const char *problem = NULL;
    if (!scram_client_challenge(scram, reader->data, reader->available, &problem))
        return fail(auth, problem);
    struct scram_keys keys;
    if (key_cache_find(auth->keys, auth->secret.user, auth->secret.secret, scram->salt,
                       scram->salt_bytes, scram->iterations, &keys)) {
        enum auth_step step = send_final(auth, &keys, out);
        text_wipe(&keys, sizeof keys);
        return step;
    }
    if (auth->secret.kind == SECRET_SCRAM)
        return fail_pass_through(auth);
    auth->state = SERVER_DERIVE;
    return AUTH_DERIVE;
}

static enum auth_step feed_final(struct auth_server *auth, const struct reader *reader)
{
    const char *problem = NULL;
    if (!scram_client_verify(&auth->scram, reader->data, reader->available, &problem))
        return fail(auth, problem);
    return answered(auth, SERVER_PROVED);
}

static enum auth_step fail_method(struct auth_server *auth, uint32_t code)
{
    switch (code) {
    case REQUEST_GSS:
    case REQUEST_GSS + 1:
        return fail(auth, "the server asks for GSSAPI authentication, which is not supported");
    case REQUEST_SSPI:
        return fail(auth, "the server asks for SSPI authentication, which is not supported");
    case REQUEST_SCM:
        return fail(auth, "the server asks for SCM credentials, which are not supported");
    default:
        return fail_with(auth, text_print("the server asks for authentication method %u, which is "
                                          "not supported",
                                          code));
    }
}

/* A request for a password in some form: the first thing a server may ask. */
static enum auth_step feed_request(struct auth_server *auth, uint32_t code, struct reader *reader,
                                   struct buffer *out)
{
    if (auth->state != SERVER_NEW)
        return fail(auth, "the server asks for a second authentication");
    if (auth->secret.kind == SECRET_NONE)
        return fail_with(auth, text_print("the server asks for a password, and none is stored for "
                                          "user \"%s\"",
                                          auth->secret.user));
    if (auth->channel_binding == CHANNEL_BINDING_REQUIRE && code != REQUEST_SASL)
        return fail(auth,
                    "channel binding is required, and the server asks for a password without");
    if (code == REQUEST_CLEARTEXT)
        return feed_cleartext(auth, reader, out);
    if (code == REQUEST_MD5)
        return feed_md5(auth, reader, out);
    return feed_sasl(auth, reader, out);
}

enum auth_step auth_server_feed(struct auth_server *auth, const uint8_t *body, size_t length,
                                struct buffer *out)
{
    struct reader reader;
    reader_init(&reader, body, length);
    uint32_t code = reader_u32(&reader);
    if (auth->state == SERVER_FAILED)
        return AUTH_FAILED;
    if (reader.failed)
        return fail(auth, "the server sent a malformed authentication request");
    if (length > AUTH_MESSAGE_MAX_BYTES)
        return fail(auth, "the server sent an authentication request that is too long");
    if (auth->state == SERVER_OK || auth->state == SERVER_DERIVE)
        return fail(auth, "the server sent an authentication request out of order");
    switch (code) {
    case REQUEST_OK:
        return feed_ok(auth, &reader);
    case REQUEST_CLEARTEXT:
    case REQUEST_MD5:
    case REQUEST_SASL:
        return feed_request(auth, code, &reader, out);
    case REQUEST_SASL_CONTINUE:
        if (auth->state == SERVER_FIRST)
            return feed_continue(auth, &reader, out);
        return fail(auth, "the server continues a SASL exchange that is not under way");
    case REQUEST_SASL_FINAL:
        if (auth->state == SERVER_FINAL)
            return feed_final(auth, &reader);
        return fail(auth, "the server ends a SASL exchange that is not at its end");
    default:
        return fail_method(auth, code);
    }
}

void auth_server_derive(struct auth_server *auth)
{
    const struct scram_client *scram = &auth->scram;
    const struct user_secret *secret = &auth->secret;
    /* several connections to one server may have waited for the same keys */
    auth->is_derived = key_cache_find(auth->keys, secret->user, secret->secret, scram->salt,
                                      scram->salt_bytes, scram->iterations, &auth->derived);
    if (auth->is_derived)
        return;
    auth->is_derived = scram_derive(secret->secret, scram->salt, scram->salt_bytes,
                                    scram->iterations, &auth->derived);
    if (auth->is_derived)
        key_cache_store(auth->keys, secret->user, secret->secret, &auth->derived, false);
}

enum auth_step auth_server_resume(struct auth_server *auth, struct buffer *out)
{
    if (auth->state == SERVER_FAILED)
        return AUTH_FAILED;
    if (auth->state != SERVER_DERIVE)
        return fail(auth, "the login was resumed out of order");
    if (!auth->is_derived)
        return fail(auth, "the SCRAM keys could not be derived");
    return send_final(auth, &auth->derived, out);
}

const char *auth_server_problem(const struct auth_server *auth)
{
    return auth->problem ? auth->problem : "the login to the server failed";
}
