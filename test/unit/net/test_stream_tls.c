/*
 * Streams over TLS: bytes through records, pending bytes, ends, and hostile handshakes.
 *
 * The raw client is OpenSSL with its bytes in the test's hands, so that records can be cut, held
 * back and sent together.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "certificate.h"
#include "harness.h"
#include "pgstage/net/tls.h"

static struct loop *loop;
static struct tls_context *accepts, *connects;
static struct peer server, client;
static char problem[256];

static void make_contexts(void)
{
    folder_make();
    struct certificate own = certificate_new(
        &(struct certificate_options){.common_name = "db", .alternatives = "DNS:db"}, NULL);
    certificate_write(folder_path("own.pem"), &own);
    certificate_write_key(folder_path("own-key.pem"), &own, NULL);
    certificate_free(&own);
    struct tls_settings settings = {.mode = TLS_REQUIRE,
                                    .cert_file = folder_path("own.pem"),
                                    .key_file = folder_path("own-key.pem")};
    accepts = tls_context_for_clients(&settings, problem, sizeof problem);
    settings = (struct tls_settings){.mode = TLS_VERIFY_FULL, .ca_file = folder_path("own.pem")};
    connects = tls_context_for_servers(&settings, problem, sizeof problem);
    cr_assert(accepts && connects, "%s", problem);
}

static void begin(void)
{
    loop = loop_new(0, NULL);
    make_contexts();
    peers_init(&server, &client, loop);
}

static void end(void)
{
    peer_fini(&server);
    peer_fini(&client);
    tls_context_unref(accepts);
    tls_context_unref(connects);
    loop_free(loop);
    folder_remove();
}

TestSuite(stream_tls, .init = begin, .fini = end);

static void secure(void)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    stream_secure(&client.stream, tls_connect_new(connects, "db"), false);
    cr_assert(turn_until(loop, peer_is_secured, &server), "%s", server.problem);
    cr_assert(turn_until(loop, peer_is_secured, &client), "%s", client.problem);
}

struct amount {
    struct peer *peer;
    size_t bytes;
};

static bool has_got(void *argument)
{
    struct amount *amount = argument;
    return amount->peer->got.length >= amount->bytes;
}

static bool gets(struct loop *on, struct peer *peer, size_t bytes)
{
    return turn_until(on, has_got, &(struct amount){peer, bytes});
}

Test(stream_tls, carries_bytes_both_ways)
{
    secure();
    cr_assert_eq(stream_write(&client.stream, "question", 8), STREAM_DONE);
    cr_assert(gets(loop, &server, 8));
    cr_assert_eq(stream_write(&server.stream, "answer", 6), STREAM_DONE);
    cr_assert(gets(loop, &client, 6));
    cr_assert_eq(memcmp(server.got.data, "question", 8), 0);
    cr_assert_eq(memcmp(client.got.data, "answer", 6), 0);
    cr_assert_eq(server.secured + client.secured, 2);
}

Test(stream_tls, what_is_written_during_the_handshake_follows_it)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    stream_secure(&client.stream, tls_connect_new(connects, "db"), false);
    stream_write(&client.stream, "early", 5);
    stream_write(&server.stream, "bird", 4);
    cr_assert(gets(loop, &server, 5));
    cr_assert(gets(loop, &client, 4));
}

/* One side of a big transfer. */
struct sender {
    struct peer *from;
    size_t place, total;
    bool waiting;
    unsigned seed;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static size_t random_size(unsigned *seed)
{
    unsigned kind = next_random(seed) % 10;
    if (kind < 5)
        return 1 + next_random(seed) % 100;
    if (kind < 9)
        return 1 + next_random(seed) % 20000;
    return 1 + next_random(seed) % 200000;
}

/* A write of random size in random pieces, sometimes corked. */
static void send_some(struct sender *sender)
{
    static uint8_t bytes[200001];
    size_t count = random_size(&sender->seed);
    if (count > sender->total - sender->place)
        count = sender->total - sender->place;
    pattern_fill(bytes, sender->place, count);
    struct iovec pieces[8];
    size_t used = 0;
    int pieces_count = 1 + (int)(next_random(&sender->seed) % 8);
    for (int i = 0; i < pieces_count; i++) {
        size_t here =
            i + 1 == pieces_count ? count - used : next_random(&sender->seed) % (count - used + 1);
        pieces[i] = (struct iovec){bytes + used, here};
        used += here;
    }
    bool cork = next_random(&sender->seed) % 4 == 0;
    if (cork)
        stream_cork(&sender->from->stream);
    enum stream_result result = stream_writev(&sender->from->stream, pieces, pieces_count);
    if (cork)
        result = stream_uncork(&sender->from->stream);
    cr_assert_neq(result, STREAM_BROKEN);
    sender->waiting = result == STREAM_QUEUED;
    sender->place += count;
}

static void keep_sending(struct peer *peer, enum stream_event event)
{
    struct sender *sender = peer->argument;
    if (event != STREAM_DRAINED)
        return;
    sender->waiting = false;
    while (!sender->waiting && sender->place < sender->total)
        send_some(sender);
}

static void transfer_both_ways(size_t total, unsigned seed)
{
    struct sender down = {&server, 0, total, false, seed};
    struct sender up = {&client, 0, total / 2, false, seed + 1};
    server.then = client.then = keep_sending;
    server.argument = &down;
    client.argument = &up;
    server.read_at_most = 1 + seed % 16384;
    keep_sending(&server, STREAM_DRAINED);
    keep_sending(&client, STREAM_DRAINED);
    cr_assert(gets(loop, &client, down.total));
    cr_assert(gets(loop, &server, up.total));
    settle(loop);
    cr_assert_eq(client.got.length, down.total);
    cr_assert_eq(server.got.length, up.total);
    cr_assert_eq(pattern_differs(client.got.data, down.total), down.total);
    cr_assert_eq(pattern_differs(server.got.data, up.total), up.total);
    cr_assert_null(server.stream.output);
    cr_assert_null(client.stream.output);
}

Test(stream_tls, big_transfers_in_random_pieces_arrive_whole)
{
    int small = 8192; /* records get stuck half way */
    setsockopt(server.stream.watch.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(client.stream.watch.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    secure();
    transfer_both_ways(6 * 1000 * 1000, 4711);
}

Test(stream_tls, plain_transfers_in_random_pieces_arrive_whole)
{
    int small = 8192;
    setsockopt(server.stream.watch.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    transfer_both_ways(6 * 1000 * 1000, 815);
}

Test(stream_tls, a_slow_reader_gets_everything_in_order)
{
    secure();
    stream_pause(&client.stream);
    uint8_t bytes[7777];
    size_t place = 0;
    enum stream_result result = STREAM_DONE;
    for (unsigned after = 0; after < 20; after += result == STREAM_QUEUED) {
        pattern_fill(bytes, place, sizeof bytes);
        result = stream_write(&server.stream, bytes, sizeof bytes);
        place += sizeof bytes;
    }
    cr_assert_lt(turns_within(loop, 30), 30, "neither side may spin");
    stream_resume(&client.stream);
    cr_assert(gets(loop, &client, place));
    cr_assert_eq(pattern_differs(client.got.data, place), place);
    cr_assert(turn_until(loop, peer_has_drained, &server));
}

Test(stream_tls, decrypted_bytes_that_epoll_cannot_announce_are_pending)
{
    secure();
    uint8_t bytes[10000];
    pattern_fill(bytes, 0, sizeof bytes);
    server.lazy = true;
    stream_write(&client.stream, bytes, sizeof bytes);
    cr_assert(turn_until(loop, peer_is_readable, &server));
    cr_assert_eq(stream_read(&server.stream, bytes, 100), 100);
    cr_assert(stream_has_pending(&server.stream));
    server.readable = 0;
    server.lazy = false;
    buffer_put(&server.got, bytes, 100);
    stream_read_later(&server.stream);
    cr_assert(gets(loop, &server, sizeof bytes));
    cr_assert_eq(pattern_differs(server.got.data, sizeof bytes), sizeof bytes);
    cr_assert_not(stream_has_pending(&server.stream));
}

Test(stream_tls, pending_bytes_are_announced_on_the_loop_they_move_to)
{
    secure();
    struct loop *second = loop_new(1, NULL);
    uint8_t bytes[10000];
    pattern_fill(bytes, 0, sizeof bytes);
    server.lazy = true;
    stream_write(&client.stream, bytes, sizeof bytes);
    cr_assert(turn_until(loop, peer_is_readable, &server));
    cr_assert_eq(stream_read(&server.stream, bytes, 100), 100);
    buffer_put(&server.got, bytes, 100);
    stream_detach(&server.stream);
    server.lazy = false;
    cr_assert(stream_attach(&server.stream, second));
    cr_assert(gets(second, &server, sizeof bytes));
    cr_assert_eq(stream_write(&server.stream, "from there", 10), STREAM_DONE);
    cr_assert(gets(loop, &client, 10));
    peer_fini(&server);
    loop_free(second);
}

Test(stream_tls, pending_bytes_are_announced_after_a_pause)
{
    secure();
    uint8_t bytes[10000];
    pattern_fill(bytes, 0, sizeof bytes);
    server.lazy = true;
    stream_write(&client.stream, bytes, sizeof bytes);
    cr_assert(turn_until(loop, peer_is_readable, &server));
    cr_assert_eq(stream_read(&server.stream, bytes, 100), 100);
    stream_pause(&server.stream);
    server.readable = 0;
    settle(loop);
    cr_assert_eq(server.readable, 0);
    server.lazy = false;
    stream_resume(&server.stream);
    cr_assert(gets(loop, &server, sizeof bytes - 100));
}

/* --- the raw client --- */

struct raw {
    SSL *ssl;
    BIO *in, *out; /* ssl's */
    int fd;
};

static void raw_new(struct raw *raw)
{
    stream_detach(&client.stream); /* its descriptor is used by hand */
    *raw = (struct raw){.ssl = tls_connect_new(connects, "db"),
                        .in = BIO_new(BIO_s_mem()),
                        .out = BIO_new(BIO_s_mem()),
                        .fd = client.stream.watch.fd};
    SSL_set_bio(raw->ssl, raw->in, raw->out);
    SSL_set_connect_state(raw->ssl);
}

/* Sends what OpenSSL has made, in steps, letting the server act after each. */
static void raw_send(struct raw *raw, size_t step)
{
    uint8_t byte[65536];
    int count;
    while ((count = BIO_read(raw->out, byte, (int)step)) > 0) {
        cr_assert_eq(send(raw->fd, byte, (size_t)count, MSG_NOSIGNAL), count);
        loop_turn(loop, false);
    }
}

static void raw_receive(struct raw *raw)
{
    uint8_t bytes[65536];
    ssize_t count;
    settle(loop);
    while ((count = recv(raw->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        BIO_write(raw->in, bytes, (int)count);
}

static void raw_shake(struct raw *raw, size_t step)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    for (unsigned i = 0; i < 10 && SSL_do_handshake(raw->ssl) != 1; i++) {
        raw_send(raw, step);
        raw_receive(raw);
    }
    raw_send(raw, step);
    cr_assert(turn_until(loop, peer_is_secured, &server), "%s", server.problem);
}

Test(stream_tls, a_handshake_in_single_bytes_completes)
{
    struct raw raw;
    raw_new(&raw);
    raw_shake(&raw, 1);
    SSL_write(raw.ssl, "x", 1);
    raw_send(&raw, 1);
    cr_assert(gets(loop, &server, 1));
    SSL_free(raw.ssl);
}

Test(stream_tls, half_a_record_is_not_pending)
{
    struct raw raw;
    uint8_t record[2000];
    raw_new(&raw);
    raw_shake(&raw, 65536);
    SSL_write(raw.ssl, "0123456789", 10);
    int count = BIO_read(raw.out, record, sizeof record);
    cr_assert_eq(send(raw.fd, record, 9, 0), 9);
    cr_assert(turn_until(loop, peer_is_readable, &server));
    cr_assert_eq(server.got.length, 0);
    cr_assert_not(stream_has_pending(&server.stream));
    cr_assert_lt(turns_within(loop, 30), 30);
    cr_assert_eq(send(raw.fd, record + 9, (size_t)count - 9, 0), count - 9);
    cr_assert(gets(loop, &server, 10));
    SSL_free(raw.ssl);
}

Test(stream_tls, records_that_arrive_together_are_read_together)
{
    struct raw raw;
    raw_new(&raw);
    raw_shake(&raw, 65536);
    server.lazy = true;
    SSL_write(raw.ssl, "one", 3);
    SSL_write(raw.ssl, "two", 3);
    raw_send(&raw, 65536);
    cr_assert(turn_until(loop, peer_is_readable, &server));
    char bytes[16];
    cr_assert_eq(stream_read(&server.stream, bytes, sizeof bytes), 6);
    cr_assert_not(stream_has_pending(&server.stream));
    SSL_free(raw.ssl);
}

Test(stream_tls, data_in_the_handshakes_last_flight_is_announced)
{
    struct raw raw;
    raw_new(&raw);
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    cr_assert_neq(SSL_do_handshake(raw.ssl), 1);
    raw_send(&raw, 65536);
    raw_receive(&raw);
    cr_assert_eq(SSL_do_handshake(raw.ssl), 1);
    SSL_write(raw.ssl, "eager", 5);
    raw_send(&raw, 65536); /* Finished and the data in one segment */
    cr_assert(gets(loop, &server, 5));
    cr_assert_eq(server.secured, 1);
    SSL_free(raw.ssl);
}

Test(stream_tls, pieces_make_one_record)
{
    struct raw raw;
    raw_new(&raw);
    raw_shake(&raw, 65536);
    raw_receive(&raw);
    struct iovec pieces[] = {{"D", 1}, {"xy", 2}, {"", 0}, {"zzz", 3}};
    cr_assert_eq(stream_writev(&server.stream, pieces, 4), STREAM_DONE);
    uint8_t bytes[1000];
    ssize_t count = recv(raw.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    cr_assert_gt(count, 5);
    cr_assert_eq(bytes[0], 23); /* application data */
    cr_assert_eq(5 + (bytes[3] << 8 | bytes[4]), count);
    SSL_free(raw.ssl);
}

Test(stream_tls, a_goodbye_behind_data_gives_the_data_and_then_the_end)
{
    struct raw raw;
    raw_new(&raw);
    raw_shake(&raw, 65536);
    SSL_write(raw.ssl, "last words", 10);
    SSL_shutdown(raw.ssl); /* the socket stays open: no event but this one comes */
    server.lazy = true;
    raw_send(&raw, 65536);
    cr_assert(turn_until(loop, peer_is_readable, &server));
    char bytes[64];
    cr_assert_eq(stream_read(&server.stream, bytes, sizeof bytes), 10);
    server.lazy = false;
    cr_assert(turn_until(loop, peer_has_ended, &server));
    cr_assert_eq(server.end_error, 0);
    SSL_free(raw.ssl);
}

Test(stream_tls, an_unclean_end_is_an_ordinary_end)
{
    secure();
    stream_detach(&client.stream);
    shutdown(client.stream.watch.fd, SHUT_RDWR);
    cr_assert(turn_until(loop, peer_has_ended, &server));
    cr_assert_eq(server.end_error, 0);
}

Test(stream_tls, closing_says_goodbye)
{
    struct raw raw;
    char byte;
    raw_new(&raw);
    raw_shake(&raw, 65536);
    stream_close(&server.stream);
    raw_receive(&raw);
    cr_assert_leq(SSL_read(raw.ssl, &byte, 1), 0);
    cr_assert(SSL_get_shutdown(raw.ssl) & SSL_RECEIVED_SHUTDOWN);
    SSL_free(raw.ssl);
}

Test(stream_tls, a_key_update_goes_unnoticed)
{
    struct raw raw;
    raw_new(&raw);
    raw_shake(&raw, 65536);
    SSL_write(raw.ssl, "a", 1);
    SSL_key_update(raw.ssl, SSL_KEY_UPDATE_REQUESTED);
    SSL_write(raw.ssl, "b", 1);
    raw_send(&raw, 7);
    cr_assert(gets(loop, &server, 2));
    stream_write(&server.stream, "c", 1);
    raw_receive(&raw);
    char byte = 0;
    cr_assert_eq(SSL_read(raw.ssl, &byte, 1), 1);
    cr_assert_eq(byte, 'c');
    SSL_free(raw.ssl);
}

Test(stream_tls, a_broken_record_fails_the_reading)
{
    secure();
    stream_detach(&client.stream);
    cr_assert_eq(send(client.stream.watch.fd, "\027\003\003\000\024garbage garbage gar!", 25, 0),
                 25);
    cr_assert(turn_until(loop, peer_has_ended, &server));
    cr_assert_eq(server.end_error, EPROTO);
    stream_problem(&server.stream, problem, sizeof problem);
    cr_assert_not_null(strstr(problem, "mac"), "%s", problem);
    cr_assert_eq(stream_write(&server.stream, "x", 1), STREAM_BROKEN);
}

Test(stream_tls, plain_text_fails_the_handshake)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    stream_write(&client.stream, "GET / HTTP/1.0\r\n\r\n", 18);
    cr_assert(turn_until(loop, peer_has_failed, &server));
    cr_assert_str_eq(server.problem, "http request");
    cr_assert_lt(turns_within(loop, 20), 20);
    cr_assert_eq(server.failed, 1);
}

Test(stream_tls, a_peer_that_leaves_fails_the_handshake)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    stream_write(&client.stream, "\026\003\001", 3);
    settle(loop);
    stream_close(&client.stream);
    cr_assert(turn_until(loop, peer_has_failed, &server));
    cr_assert_gt(strlen(server.problem), 0);
    cr_assert_eq(server.stream.error, ECONNRESET, "that says nothing of its certificate");
}

Test(stream_tls, random_bytes_never_do_more_than_fail)
{
    uint8_t noise[512];
    for (unsigned i = 0; i < 200; i++) {
        struct peer victim, attacker;
        peers_init(&victim, &attacker, loop);
        stream_secure(&victim.stream, tls_accept_new(accepts), true);
        RAND_bytes(noise, sizeof noise);
        if (i % 2)
            memcpy(noise, "\026\003\001\001\000\001\000\000\374\003\003", 11); /* ClientHello */
        stream_write(&attacker.stream, noise, sizeof noise);
        stream_close(&attacker.stream);
        cr_assert(turn_until(loop, peer_has_failed, &victim));
        peer_fini(&victim);
        peer_fini(&attacker);
    }
}

Test(stream_tls, closing_in_the_middle_of_a_handshake_is_quiet)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    stream_secure(&client.stream, tls_connect_new(connects, "db"), false);
    loop_turn(loop, false);
    stream_close(&server.stream);
    stream_close(&client.stream);
    settle(loop);
    cr_assert_eq(server.events + client.events, 0);
}

Test(stream_tls, a_client_without_the_alpn_name_has_none)
{
    struct raw raw;
    raw_new(&raw);
    SSL_set_alpn_protos(raw.ssl, NULL, 0);
    raw_shake(&raw, 65536);
    cr_assert_not(tls_has_alpn(server.stream.ssl));
    SSL_free(raw.ssl);
}

Test(stream_tls, another_alpn_name_is_refused)
{
    stream_secure(&server.stream, tls_accept_new(accepts), true);
    SSL *ssl = tls_connect_new(connects, "db");
    SSL_set_alpn_protos(ssl, (const unsigned char *)"\002h2", 3);
    stream_secure(&client.stream, ssl, false);
    cr_assert(turn_until(loop, peer_has_failed, &server));
    cr_assert(turn_until(loop, peer_has_failed, &client));
    cr_assert_not_null(strstr(client.problem, "no application protocol"), "%s", client.problem);
}

#define CROWD 60

static bool crowd_is_secured(void *argument)
{
    struct peer *peers = argument;
    for (unsigned i = 0; i < 2 * CROWD; i++) {
        if (!peers[i].secured)
            return false;
    }
    return true;
}

Test(stream_tls, a_crowd_of_handshakes_completes)
{
    static struct peer peers[2 * CROWD];
    for (unsigned i = 0; i < 2 * CROWD; i += 2) {
        peers_init(&peers[i], &peers[i + 1], loop);
        stream_secure(&peers[i].stream, tls_accept_new(accepts), true);
        stream_secure(&peers[i + 1].stream, tls_connect_new(connects, "db"), false);
    }
    cr_assert(turn_until(loop, crowd_is_secured, peers));
    for (unsigned i = 0; i < 2 * CROWD; i++)
        peer_fini(&peers[i]);
}
