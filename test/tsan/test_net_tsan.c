/*
 * ThreadSanitizer over the net room: streams, plain and TLS, that move between two worker threads
 * after every message, with bytes still pending; and a resolver that is asked, cancelled and
 * listed from all loops at once. A plain program: exit status 0 when every byte came back and every
 * question was accounted for; the sanitizer reports the rest.
 *
 *     main: clients ══ socket pairs ══ echoes, wandering by mail ── worker 1 ⇄ worker 2
 */
#include <netdb.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/net/resolver.h"
#include "pgstage/net/stream.h"
#include "pgstage/net/tls.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

#define WORKERS 2
#define PAIRS 12 /* every other one over TLS */
#define ROUNDS 60
#define MESSAGE_MAX 50000
#define QUESTIONS 1500 /* asked on each worker */
#define TIME_LIMIT_SECONDS 300

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

struct worker {
    struct loop *loop;
    pthread_t thread;
    struct loop_task asking;
    struct resolver_query query;
    unsigned asked, answered, cancelled, random;
};

/* A letter while it travels, a stream while it stays. */
struct echo {
    struct mail mail;
    struct stream stream;
    size_t owed, messages; /* bytes of the message that were not echoed yet */
    uint8_t header[4];
    size_t header_bytes;
    unsigned at; /* the worker */
    bool moving;
};

struct client {
    struct stream stream;
    uint8_t *message;
    size_t size, back;
    unsigned rounds, random;
};

static struct worker workers[WORKERS];
static struct loop *main_loop;
static struct resolver *resolver;
static struct client clients[PAIRS];
static unsigned clients_done;

static unsigned next_random(unsigned *random)
{
    *random = *random * 1664525u + 1013904223u;
    return *random >> 8;
}

/* --- names --- */

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict list)
{
    (void)service;
    (void)hints;
    *list = NULL;
    if (name[strlen(name) - 1] == '3')
        return EAI_NONAME;
    struct addrinfo *info = memory_new(sizeof *info + sizeof(struct sockaddr_in));
    struct sockaddr_in *ip4 = (struct sockaddr_in *)(info + 1);
    *ip4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    info->ai_family = AF_INET;
    info->ai_addr = (struct sockaddr *)ip4;
    info->ai_addrlen = sizeof *ip4;
    *list = info;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    free(list);
}

static void row(void *argument, const char *name, uint64_t ttl_us,
                const struct resolver_answer *answer)
{
    size_t *rows = argument;
    *rows += strlen(name) > 0 && (ttl_us > 0 || answer->count <= 1);
}

static void on_answer(struct loop *loop, struct resolver_query *query,
                      const struct resolver_answer *answer)
{
    struct worker *worker = list_entry(query, struct worker, query);
    (void)answer;
    worker->answered++;
    if (worker->asked < QUESTIONS)
        loop_defer(loop, &worker->asking);
}

static void ask(struct loop_task *task)
{
    struct worker *worker = list_entry(task, struct worker, asking);
    char name[16];
    snprintf(name, sizeof name, "host%u", next_random(&worker->random) % 10);
    worker->asked++;
    worker->query.answered = on_answer;
    struct resolver_answer answer;
    if (resolver_ask(resolver, worker->loop, &worker->query, name, 1, &answer)) {
        worker->answered++;
    } else if (next_random(&worker->random) % 3 == 0) {
        resolver_cancel(resolver, worker->loop, &worker->query);
        worker->cancelled++;
    } else {
        return; /* the answer goes on */
    }
    if (next_random(&worker->random) % 50 == 0) {
        size_t rows = 0, names, pending;
        resolver_each(resolver, row, &rows);
        resolver_counts(resolver, &names, &pending);
        resolver_set_ttl(resolver, next_random(&worker->random) % 2000, 500);
    }
    if (worker->asked < QUESTIONS)
        loop_defer(worker->loop, &worker->asking);
}

/* --- echoes --- */

static void echo_arrive(struct loop *loop, struct mail *mail)
{
    struct echo *echo = list_entry(mail, struct echo, mail);
    echo->moving = false;
    REQUIRE(loop == workers[echo->at].loop);
    REQUIRE(stream_attach(&echo->stream, loop));
    stream_resume(&echo->stream);
}

static void echo_free(void *object)
{
    free(object);
}

/* Its message is complete: the next one is answered by the other worker. */
static void echo_move(struct echo *echo)
{
    stream_detach(&echo->stream);
    echo->at = (echo->at + 1) % WORKERS;
    echo->moving = true;
    echo->mail = (struct mail){.deliver = echo_arrive};
    loop_post(workers[echo->at].loop, &echo->mail);
}

static void echo_bytes(struct echo *echo, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        if (echo->owed == 0) {
            echo->header[echo->header_bytes++] = *bytes++;
            count--;
            if (echo->header_bytes < 4)
                continue;
            echo->header_bytes = 0;
            memcpy(&echo->owed, echo->header, 4);
            continue;
        }
        size_t here = count < echo->owed ? count : echo->owed;
        enum stream_result result = stream_write(&echo->stream, bytes, here);
        REQUIRE(result != STREAM_BROKEN);
        if (result == STREAM_QUEUED)
            stream_pause(&echo->stream);
        echo->owed -= here;
        bytes += here;
        count -= here;
        echo->messages += echo->owed == 0;
    }
}

static void echo_event(struct stream *stream, enum stream_event event)
{
    struct echo *echo = list_entry(stream, struct echo, stream);
    struct loop *loop = stream->loop;
    uint8_t bytes[3000]; /* less than a record: something stays pending */
    REQUIRE(!echo->moving && loop == workers[echo->at].loop);
    REQUIRE(event != STREAM_FAILED);
    if (event == STREAM_READABLE) {
        ssize_t count = stream_read(stream, bytes, sizeof bytes);
        if (count < 0) {
            stream_close(stream);
            loop_release(loop, echo, echo_free);
            return;
        }
        echo_bytes(echo, bytes, (size_t)count);
        if (stream_has_pending(stream))
            stream_read_later(stream);
    }
    if (event == STREAM_DRAINED)
        stream_resume(stream);
    if (!stream->output && echo->messages > 0 && event != STREAM_CLOSED) {
        echo->messages = 0;
        echo_move(echo);
    }
}

/* --- clients --- */

static void client_round(struct client *client)
{
    client->size = 1 + next_random(&client->random) % MESSAGE_MAX;
    client->back = 0;
    uint32_t size = (uint32_t)client->size;
    for (size_t i = 0; i < client->size; i++)
        client->message[i] = (uint8_t)(client->rounds + i * 13);
    struct iovec pieces[] = {{&size, sizeof size}, {client->message, client->size}};
    REQUIRE(stream_writev(&client->stream, pieces, 2) != STREAM_BROKEN);
}

static void client_event(struct stream *stream, enum stream_event event)
{
    struct client *client = list_entry(stream, struct client, stream);
    size_t size;
    uint8_t *bytes = loop_buffer(main_loop, &size);
    REQUIRE(event != STREAM_FAILED && event != STREAM_CLOSED);
    if (event == STREAM_SECURED)
        client_round(client);
    if (event != STREAM_READABLE)
        return;
    ssize_t count;
    while ((count = stream_read(stream, bytes, size)) > 0) {
        REQUIRE(client->back + (size_t)count <= client->size);
        REQUIRE(memcmp(client->message + client->back, bytes, (size_t)count) == 0);
        client->back += (size_t)count;
    }
    REQUIRE(count == 0);
    if (client->back < client->size)
        return;
    if (++client->rounds < ROUNDS) {
        client_round(client);
        return;
    }
    stream_close(stream);
    clients_done++;
}

static void pair_new(unsigned i, struct tls_context *accepts, struct tls_context *connects)
{
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    struct client *client = &clients[i];
    struct echo *echo = memory_new(sizeof *echo);
    client->message = memory_get(MESSAGE_MAX);
    client->random = i;
    stream_init(&client->stream, fds[0], client_event);
    stream_init(&echo->stream, fds[1], echo_event);
    echo->at = i % WORKERS;
    if (i % 2) {
        stream_secure(&client->stream, tls_connect_new(connects, "db"), false);
        stream_secure(&echo->stream, tls_accept_new(accepts), true);
    }
    REQUIRE(stream_attach(&client->stream, main_loop));
    echo->moving = true;
    echo->mail = (struct mail){.deliver = echo_arrive};
    loop_post(workers[echo->at].loop, &echo->mail);
    if (i % 2 == 0)
        client_round(client);
}

/* --- the run --- */

static void write_pem(const char *path)
{
    X509 *x509 = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_gmtime_adj(X509_getm_notBefore(x509), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               (const unsigned char *)"db", -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    X509_set_pubkey(x509, key);
    REQUIRE(X509_sign(x509, key, EVP_sha256()) > 0);
    FILE *file = fopen(path, "w");
    REQUIRE(file && PEM_write_X509(file, x509) == 1 &&
            PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
    X509_free(x509);
    EVP_PKEY_free(key);
}

static struct tls_context *context_new(const char *pem, bool accepting)
{
    char problem[256] = "";
    struct tls_settings settings = {.mode = TLS_VERIFY_FULL, .ca_file = pem};
    if (accepting)
        settings = (struct tls_settings){.mode = TLS_REQUIRE, .cert_file = pem, .key_file = pem};
    struct tls_context *context = accepting
                                      ? tls_context_for_clients(&settings, problem, sizeof problem)
                                      : tls_context_for_servers(&settings, problem, sizeof problem);
    if (!context)
        fprintf(stderr, "%s\n", problem);
    REQUIRE(context);
    return context;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    loop_defer(worker->loop, &worker->asking);
    loop_run(worker->loop);
    return NULL;
}

static void tick(struct loop *loop, struct timer *timer)
{
    timer_set(loop, timer, loop_now_us(loop) + 10 * CLOCK_MS);
}

static void stop_worker(struct loop *loop, struct mail *mail)
{
    struct worker *worker = loop_context(loop);
    if (worker->asked < QUESTIONS || worker->query.ticket != 0) {
        loop_post(loop, mail); /* its questions first */
        return;
    }
    free(mail);
    loop_stop(loop);
}

int main(void)
{
    char pem[] = "/tmp/pgstage-tsan-XXXXXX";
    int fd = mkstemp(pem);
    REQUIRE(fd >= 0);
    close(fd);
    signal(SIGPIPE, SIG_IGN);
    write_pem(pem);
    struct tls_context *accepts = context_new(pem, true), *connects = context_new(pem, false);
    unlink(pem);

    main_loop = loop_new(0, NULL);
    resolver = resolver_new(1000, 500);
    REQUIRE(main_loop && resolver);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].loop = loop_new(i + 1, &workers[i]);
        workers[i].random = i;
        workers[i].asking.run = ask;
        REQUIRE(workers[i].loop);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    for (unsigned i = 0; i < PAIRS; i++)
        pair_new(i, accepts, connects);
    tls_context_unref(accepts); /* connections hold on by themselves */
    tls_context_unref(connects);

    struct timer timer = {.fire = tick};
    timer_set(main_loop, &timer, clock_now_us());
    uint64_t end_us = clock_now_us() + TIME_LIMIT_SECONDS * CLOCK_SECOND;
    while (clients_done < PAIRS && clock_now_us() < end_us)
        loop_turn(main_loop, true);
    timer_detach(main_loop, &timer);
    REQUIRE(clients_done == PAIRS);

    for (unsigned i = 0; i < WORKERS; i++) {
        struct mail *mail = memory_new(sizeof *mail);
        mail->deliver = stop_worker;
        loop_post(workers[i].loop, mail);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        REQUIRE(workers[i].answered + workers[i].cancelled == QUESTIONS);
    }
    resolver_free(resolver);
    for (unsigned i = 0; i < WORKERS; i++)
        loop_free(workers[i].loop);
    loop_free(main_loop);
    for (unsigned i = 0; i < PAIRS; i++)
        free(clients[i].message);
    printf("%u connections, %u rounds each, %u questions each on %u workers\n", PAIRS, ROUNDS,
           QUESTIONS, WORKERS);
    return 0;
}
