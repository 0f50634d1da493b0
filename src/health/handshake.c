/*
 * handshake: connect ─► SSLRequest ─► 'S' ─► TLS ─► look at the certificate ─► tell.
 *
 * As on the data plane exactly one byte is read in the clear, and what may be stuffed behind it is
 * the handshake's to refuse. Nothing else is ever sent: no user, no password.
 */
#include "pgstage/health/handshake.h"

#include <openssl/asn1.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/list.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/net/stream.h"
#include "pgstage/wire/message.h"
#include "pgstage/worker/timer.h"

struct handshake {
    /* fixed */
    struct loop *loop;
    struct tls_context *tls; /* NULL: none */
    char *name;
    handshake_done *done;
    void *context;
    bool wants_tls;
    bool pings; /* asks although no TLS is wanted */
    /* owner */
    struct stream stream;
    struct timer timer;
    struct loop_task task; /* tells the result */
    struct handshake_result result;
    uint64_t begin_us;
    bool over, closed;
};

static void finish(struct handshake *handshake, enum probe_error error, const char *text)
{
    if (handshake->over)
        return;
    handshake->over = true;
    handshake->result.error = error;
    (void)text_fit(handshake->result.text, sizeof handshake->result.text, text);
    timer_clear(&handshake->timer);
    loop_defer(handshake->loop, &handshake->task);
}

static void tell(struct loop_task *task)
{
    struct handshake *handshake = list_entry(task, struct handshake, task);
    handshake->done(handshake->context, &handshake->result);
}

static void on_deadline(struct loop *loop, struct timer *timer)
{
    struct handshake *handshake = list_entry(timer, struct handshake, timer);
    (void)loop;
    finish(handshake, PROBE_TIMEOUT,
           handshake->result.step == PROBE_STEP_CONNECT ? "no connection in time"
                                                        : "the TLS handshake was not over in time");
}

static void fail_by_stream(struct handshake *handshake)
{
    char text[PROBE_TEXT_BYTES];
    stream_problem(&handshake->stream, text, sizeof text);
    finish(handshake,
           handshake->result.step != PROBE_STEP_CONNECT    ? PROBE_TLS
           : probe_errno_is_local(handshake->stream.error) ? PROBE_LOCAL
                                                           : PROBE_REFUSED,
           text);
}

/* "CN=pg1.example.com,O=…": the subject on one line. */
static void put_subject(char *text, size_t size, const X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int length = -1;
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0)
        length = BIO_read(bio, text, (int)size - 1);
    text[length > 0 ? length : 0] = '\0';
    BIO_free(bio);
}

static void look_at_certificate(struct handshake *handshake)
{
    const SSL *ssl = handshake->stream.ssl;
    struct handshake_result *result = &handshake->result;
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    struct tm tm;
    tls_describe(ssl, result->protocol, sizeof result->protocol);
    result->secured = true;
    result->verified = tls_context_mode(handshake->tls) >= TLS_VERIFY_CA;
    if (!certificate)
        return;
    put_subject(result->subject, sizeof result->subject, certificate);
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) == 1)
        result->not_after = timegm(&tm);
}

static void on_connected(struct handshake *handshake)
{
    uint64_t now_us = loop_now_us(handshake->loop);
    struct buffer out = {0};
    handshake->result.connect_us = now_us - handshake->begin_us;
    handshake->result.step = PROBE_STEP_TLS;
    handshake->begin_us = now_us;
    if (!handshake->wants_tls && !handshake->pings) {
        finish(handshake, PROBE_FINE, "");
        return;
    }
    message_ssl_request(&out);
    if (stream_write(&handshake->stream, out.data, out.length) == STREAM_BROKEN)
        fail_by_stream(handshake);
    buffer_fini(&out);
}

static void on_answer(struct handshake *handshake)
{
    uint8_t answer;
    ssize_t count = stream_read(&handshake->stream, &answer, 1);
    SSL *ssl = NULL;
    if (count == 0)
        return;
    if (count < 0) {
        finish(handshake, handshake->wants_tls ? PROBE_TLS : PROBE_LOST,
               "the server ended the connection instead of answering a request for TLS");
    } else if (!handshake->wants_tls && (answer == 'S' || answer == 'N')) {
        finish(handshake, PROBE_FINE, "");
    } else if (!handshake->wants_tls) {
        finish(handshake, PROBE_PROTOCOL, "the server did not answer as a PostgreSQL server does");
    } else if (answer == 'S') {
        ssl = tls_connect_new(handshake->tls, handshake->name);
        if (ssl)
            stream_secure(&handshake->stream, ssl, false);
        else
            finish(handshake, PROBE_TLS, "this host name cannot be checked");
    } else if (answer != 'N') {
        finish(handshake, PROBE_TLS, "the server did not answer as a PostgreSQL server does");
    } else if (tls_context_mode(handshake->tls) <= TLS_PREFER) {
        finish(handshake, PROBE_FINE, "");
    } else {
        finish(handshake, PROBE_TLS, "the server has no TLS, and TLS is required");
    }
}

static void on_event(struct stream *stream, enum stream_event event)
{
    struct handshake *handshake = list_entry(stream, struct handshake, stream);
    if (handshake->over)
        return;
    switch (event) {
    case STREAM_CONNECTED:
        on_connected(handshake);
        break;
    case STREAM_SECURED:
        handshake->result.tls_us = loop_now_us(handshake->loop) - handshake->begin_us;
        look_at_certificate(handshake);
        finish(handshake, PROBE_FINE, "");
        break;
    case STREAM_READABLE:
        if (!stream->ssl)
            on_answer(handshake);
        break;
    case STREAM_CLOSED:
    case STREAM_FAILED:
        fail_by_stream(handshake);
        break;
    case STREAM_DRAINED:
        break;
    }
}

static struct handshake *begin(struct loop *loop, const struct address *address,
                               struct tls_context *tls, const char *name, uint64_t deadline_us,
                               bool pings, handshake_done *done, void *context)
{
    struct handshake *handshake = memory_new(sizeof *handshake);
    handshake->loop = loop;
    handshake->tls = tls ? tls_context_ref(tls) : NULL;
    handshake->name = text_copy(name);
    handshake->done = done;
    handshake->context = context;
    handshake->wants_tls = tls && !address_is_local(address);
    handshake->pings = pings;
    handshake->task.run = tell;
    handshake->timer.fire = on_deadline;
    handshake->begin_us = loop_now_us(loop);
    handshake->result.step = PROBE_STEP_CONNECT;
    timer_set(loop, &handshake->timer, deadline_us);
    if (!stream_connect(&handshake->stream, loop, address, on_event))
        fail_by_stream(handshake);
    return handshake;
}

struct handshake *handshake_open(struct loop *loop, const struct address *address,
                                 struct tls_context *tls, const char *name, uint64_t deadline_us,
                                 handshake_done *done, void *context)
{
    return begin(loop, address, tls, name, deadline_us, false, done, context);
}

struct handshake *handshake_ping(struct loop *loop, const struct address *address,
                                 struct tls_context *tls, const char *name, uint64_t deadline_us,
                                 handshake_done *done, void *context)
{
    return begin(loop, address, tls, name, deadline_us, true, done, context);
}

static void release(void *object)
{
    struct handshake *handshake = object;
    tls_context_unref(handshake->tls);
    free(handshake->name);
    free(handshake);
}

void handshake_close(struct handshake *handshake)
{
    if (!handshake || handshake->closed)
        return;
    handshake->closed = handshake->over = true;
    stream_close(&handshake->stream);
    timer_detach(handshake->loop, &handshake->timer);
    loop_undefer(handshake->loop, &handshake->task);
    loop_release(handshake->loop, handshake, release);
}
