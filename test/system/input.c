/*
 * input: what bad input gets. A clear error where the protocol allows one, a closed connection, no
 * crash, no growth, and nothing of it for the other clients.
 */
#include <sys/resource.h>

#include "system.h"

SYSTEM_SUITE(input);

/* What came of some bytes sent instead of a startup packet. */
static char *after_startup_bytes(struct proxy *proxy, const void *bytes, size_t count)
{
    struct wire *wire = wire_open(proxy);
    char *types;

    wire_write(wire, bytes, count);
    types = wire_types(wire, '~', PATIENCE_MS);
    wire_close(wire);
    return types;
}

static void still_well(struct proxy *proxy, PGconn *client)
{
    cr_assert(proxy_is_alive(proxy));
    client_do(client, "SELECT 1");
    PGconn *fresh = client_open(proxy, NULL);
    client_do(fresh, "SELECT 1");
    PQfinish(fresh);
}

static struct bytes packet_of(uint32_t length, uint32_t code, const void *rest, size_t count)
{
    struct bytes packet = {0};

    bytes_add32(&packet, length);
    bytes_add32(&packet, code);
    bytes_add(&packet, rest, count);
    return packet;
}

SYSTEM_TEST(input, startup_packets_of_every_bad_kind_are_refused)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    struct bytes bad[] = {
        packet_of(0, 196608, "", 0),
        packet_of(4, 196608, "", 0),
        packet_of(7, 196608, "", 0),
        packet_of(0x7fffffff, 196608, "user", 5),
        packet_of(0xffffffff, 196608, "user", 5),
        packet_of(0x80000000, 196608, "user", 5),
        packet_of(1000000, 196608, "user", 5),
        packet_of(9, 0, "", 1),
        packet_of(9, 0x12345678, "", 1),
        packet_of(8, 80877102, "", 0),                        /* a cancel without a key */
        packet_of(8 + 9, 196608, "user\0app\0", 9),           /* no terminator */
        packet_of(8 + 8, 196608, "user\0app", 8),             /* no NUL at all at the end */
        packet_of(8 + 6, 196608, "user\0\0", 6),              /* a name without a value */
        packet_of(8 + 1, 196608, "\0", 1),                    /* nobody */
        packet_of(8 + 14, 196608, "database\0app\0\0", 14),   /* a database, but nobody */
        packet_of(8 + 7, 196608, "user\0\0\0", 7),            /* an empty user */
        packet_of(8 + 15, 196608, "user\0app\0\0more\0", 15), /* bytes behind the end */
    };
    size_t i;

    client_do(client, "SELECT 1");
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *types = after_startup_bytes(proxy, bad[i].data, bad[i].count);

        cr_assert(!strcmp(types, "!") || !strcmp(types, "E!"), "case %zu: %s", i, types);
    }
    still_well(proxy, client);
}

SYSTEM_TEST(input, protocol_2_and_1_are_refused_with_an_error)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    static const char zeros[296];
    struct bytes packet = packet_of(304, 131072, zeros, sizeof zeros - 0);
    struct wire *wire = wire_open(proxy);

    wire_write(wire, packet.data, packet.count);
    if (program_is_pgbouncer())
        cr_assert(wire_is_closed(wire, PATIENCE_MS));
    else
        cr_assert_has(wire_error(wire, PATIENCE_MS), "unsupported frontend protocol");
    wire_close(wire);
    cr_assert(proxy_is_alive(proxy));
}

SYSTEM_TEST(input, http_and_other_protocols_are_refused)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    static const char *const words[] = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                        "SSH-2.0-OpenSSH_9.2\r\n",
                                        "\x16\x03\x01\x02\x01\x01\x01\x01"};
    size_t i;

    for (i = 0; i < 3; i++) {
        struct wire *wire = wire_open(proxy);

        wire_write(wire, words[i], strlen(words[i]));
        cr_assert(wire_is_closed(wire, PATIENCE_MS), "%s", words[i]);
        wire_close(wire);
    }
    still_well(proxy, client);
}

SYSTEM_TEST(input, a_startup_in_one_byte_pieces_is_understood)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("auth_type = plain\npool_mode = transaction\n");
    struct wire *wire = wire_open(proxy);
    struct bytes packet =
        startup_packet("user", "app", "database", "app", "application_name", "drip", NULL);
    struct bytes password = {0};
    size_t i;

    for (i = 0; i < packet.count; i++) {
        wire_write(wire, packet.data + i, 1);
        pause_ms(1);
    }
    cr_assert_str_eq(wire_types(wire, 'R', PATIENCE_MS), "R");
    bytes_add(&password, "p", 1);
    bytes_add32(&password, 14);
    bytes_add_text(&password, "appsecret");
    for (i = 0; i < password.count; i++) {
        wire_write(wire, password.data + i, 1);
        pause_ms(1);
    }
    char *types = wire_types(wire, 'Z', PATIENCE_MS);
    cr_assert_eq(types[strlen(types) - 1], 'Z', "%s", types);
    wire_query(wire, "SHOW application_name");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "drip");
}

SYSTEM_TEST(input, startup_password_and_query_in_one_piece_are_understood)
{
    struct proxy *proxy = proxy_start("auth_type = plain\npool_mode = transaction\n");
    struct wire *wire = wire_open(proxy);
    struct bytes all = startup_packet("user", "app", "database", "app", NULL);

    bytes_add(&all, "p", 1);
    bytes_add32(&all, 14);
    bytes_add_text(&all, "appsecret");
    bytes_add(&all, "Q", 1);
    bytes_add32(&all, 4 + 14);
    bytes_add_text(&all, "SELECT 'fast'");
    wire_write(wire, all.data, all.count);
    /* pipelining a login is unusual, but every byte of it is well-formed */
    char *types = wire_types(wire, 'Z', PATIENCE_MS);
    cr_assert_eq(types[strlen(types) - 1], 'Z', "%s", types);
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "fast");
}

/* What comes of one bad message after login. */
static void bad_message(struct proxy *proxy, char type, uint32_t length, const void *body,
                        size_t count)
{
    struct wire *wire = wire_client(proxy);
    struct bytes message = {0};

    bytes_add(&message, &type, 1);
    bytes_add32(&message, length);
    bytes_add(&message, body, count);
    wire_write(wire, message.data, message.count);
    /* a Sync behind it: a tolerant peer would answer that */
    wire_sync(wire);
    char *types = wire_types(wire, 'Z', PATIENCE_MS);
    char end = types[strlen(types) - 1];
    cr_assert(end == '!' || strchr(types, 'E'), "%c, length %u: %s", type, length, types);
    wire_close(wire);
}

SYSTEM_TEST(input, messages_with_impossible_lengths_end_the_connection)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    static const uint32_t lengths[] = {0, 1, 3, 0x80000000, 0xffffffff, 0xfffffff0};
    static const char types[] = "QPBDECSHXdcfpF";
    size_t i, t;

    for (t = 0; types[t]; t++)
        for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            bad_message(proxy, types[t], lengths[i], "", 0);
    still_well(proxy, client);
}

SYSTEM_TEST(input, unknown_and_misplaced_message_types_end_the_connection)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    int type;

    for (type = 0; type < 256; type += 3)
        if (type == 0 || !strchr("QPBDECSHXdcfF", type))
            bad_message(proxy, (char)type, 8, "\0\0\0\0", 4);
    /* known ones that have no business here */
    bad_message(proxy, 'p', 9, "pass\0", 5);
    bad_message(proxy, 'Z', 5, "I", 1);
    bad_message(proxy, 'R', 8, "\0\0\0\0", 4);
    still_well(proxy, client);
}

SYSTEM_TEST(input, what_stood_before_a_bad_message_is_carried_out)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    static const char nonsense[] = {'!', 0, 0, 0, 4};
    static const char too_short[] = {'Q', 0, 0, 0, 3};

    SKIP_ON_PGBOUNCER();
    client_do(client, "DROP TABLE IF EXISTS before; CREATE TABLE before (a int)");
    for (int i = 0; i < 2; i++) {
        struct wire *wire = wire_client(proxy);

        wire_cork(wire, true);
        wire_query(wire, text_of("INSERT INTO before VALUES (%d)", i));
        wire_parse(wire, "", text_of("INSERT INTO before SELECT %d FROM pg_sleep(0.2)", i + 10));
        wire_bind(wire, "", "", NULL);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        wire_write(wire, i ? too_short : nonsense, 5);
        wire_cork(wire, false);
        cr_expect_not_null(strchr(wire_types(wire, '~', PATIENCE_MS), 'E'));
        wire_close(wire);
    }
    cr_expect(until(client_number(client, "SELECT count(*) FROM before") == 4, PATIENCE_MS));
    client_do(client, "DROP TABLE before");
}

/* Read in pieces, it is not given a server before enough of it has come to be looked at. */
SYSTEM_TEST(input, a_long_query_in_small_pieces_borrows_once)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    size_t length = 40000;
    char *sql = malloc(length + 6);
    struct bytes message = {0};
    long before;

    SKIP_ON_PGBOUNCER();
    memset(sql, ' ', length);
    memcpy(sql, "SELECT 1", 8);
    memcpy(sql + length, "+1;", 4);
    bytes_add(&message, "Q", 1);
    bytes_add32(&message, (uint32_t)(length + 4 + 4));
    bytes_add_text(&message, sql);
    free(sql);
    before = proxy_figure(proxy, "STATS", "database", "app", "total_server_assignment_count");
    /* its beginning stands behind another query, which has a server for a moment */
    wire_cork(wire, true);
    wire_query(wire, "SELECT 2");
    wire_write(wire, message.data, 100);
    wire_cork(wire, false);
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "2");
    for (size_t at = 100; at < message.count; at += 400) {
        size_t count = message.count - at < 400 ? message.count - at : 400;

        wire_write(wire, message.data + at, count);
        pause_ms(1);
    }
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "2");
    cr_expect_eq(proxy_figure(proxy, "STATS", "database", "app", "total_server_assignment_count") -
                     before,
                 2);
    free(message.data);
}

SYSTEM_TEST(input, malformed_bodies_get_an_error_or_a_closed_connection)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);

    bad_message(proxy, 'Q', 4, "", 0);     /* no text at all */
    bad_message(proxy, 'Q', 8, "SELE", 4); /* no NUL */
    bad_message(proxy, 'P', 4, "", 0);
    bad_message(proxy, 'P', 6, "a\0", 2);       /* a name only */
    bad_message(proxy, 'P', 12, "noend123", 8); /* the name never ends */
    bad_message(proxy, 'B', 4, "", 0);
    bad_message(proxy, 'B', 6, "\0\0", 2); /* no counts */
    bad_message(proxy, 'B', 12, "\0\0\377\377\377\377\377\377", 8);
    bad_message(proxy, 'D', 4, "", 0);
    bad_message(proxy, 'D', 6, "Z\0", 2); /* neither statement nor portal */
    bad_message(proxy, 'E', 5, "\0", 1);  /* no row count */
    bad_message(proxy, 'C', 4, "", 0);
    bad_message(proxy, 'C', 8, "Snam", 4); /* no NUL */
    bad_message(proxy, 'F', 5, "\0", 1);
    still_well(proxy, client);
}

SYSTEM_TEST(input, an_unnamed_text_without_an_end_is_not_read_beyond_its_bytes)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    struct wire *wire = wire_client(proxy);
    unsigned char body[129] = {0}; /* no name; the text fills the memory it is kept in */

    memset(body + 1, 'x', sizeof body - 1);
    memcpy(body + 1, "SET \"", 5); /* a text that must be looked at */
    wire_cork(wire, true);
    wire_parse(wire, "named", "SELECT 1");
    wire_sync(wire);
    wire_send(wire, 'P', body, sizeof body);
    wire_bind(wire, "", "", NULL);
    wire_sync(wire);
    wire_cork(wire, false);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "1Z");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "EZ");
    wire_close(wire);
    still_well(proxy, client);
}

/* PostgreSQL answers such a Flush with an error and skips the query behind it, which nobody would
 * ever hear of. */
SYSTEM_TEST(input, a_flush_with_a_body_keeps_no_server)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    PGconn *client = client_open(proxy, NULL);

    wire_cork(wire, true);
    wire_query(wire, "SELECT 'before'");
    wire_send(wire, 'H', "body", 4);
    wire_query(wire, "SELECT 'behind'");
    wire_send(wire, 'X', NULL, 0);
    wire_cork(wire, false);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    client_do(client, "SELECT 1");
    still_well(proxy, client);
}

SYSTEM_TEST(input, copy_messages_outside_a_copy_are_ignored)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    struct wire *wire = wire_client(proxy);

    wire_copy_data(wire, "stray\n");
    wire_send(wire, 'c', NULL, 0);
    wire_send(wire, 'f', "no", 3);
    wire_query(wire, "SELECT 'still here'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "still here");
}

SYSTEM_TEST(input, truncated_messages_leave_nothing_behind)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *client = client_open(proxy, NULL);
    static const char *const pieces[] = {"Q", "Q\0\0", "Q\0\0\0\040", "Q\0\0\0\040SELECT",
                                         "P\0\0\1\0x"};
    static const size_t sizes[] = {1, 3, 5, 11, 6};
    size_t i;

    for (i = 0; i < 5; i++) {
        struct wire *wire = wire_client(proxy);

        wire_write(wire, pieces[i], sizes[i]);
        pause_ms(20);
        wire_close(wire);
        client_do(client, "SELECT 1");
    }
    cr_assert(until(proxy_figure(proxy, "POOLS", "database", "app", "cl_active") +
                            proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") <=
                        1,
                    PATIENCE_MS));
}

/* The type, the length and half of the body of a message that never ends holds a server; it must
 * not hold it for ever, nor make others see it. */
SYSTEM_TEST(input, half_a_message_does_not_reach_another_clients_server)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 2\n");
    struct wire *half = wire_client(proxy);
    PGconn *client = client_open(proxy, NULL);
    struct bytes message = {0};
    int i;

    bytes_add(&message, "Q", 1);
    bytes_add32(&message, 4000);
    bytes_add(&message, "SELECT 'never", 13);
    wire_write(half, message.data, message.count);
    for (i = 0; i < 50; i++)
        cr_assert_eq(client_number(client, text_of("SELECT %d", i)), i);
    wire_reset(half);
    for (i = 0; i < 50; i++)
        cr_assert_eq(client_number(client, text_of("SELECT %d", i)), i);
}

SYSTEM_TEST(input, plaintext_behind_ssl_request_is_refused)
{
    const struct pki_certificate *server = pki_shared_server();
    struct proxy *proxy = proxy_start("client_tls_sslmode = allow\nclient_tls_key_file = %s\n"
                                      "client_tls_cert_file = %s\n",
                                      server->key, server->certificate);
    struct wire *wire = wire_open(proxy);
    struct bytes all = packet_of(8, 80877103, "", 0);
    struct bytes startup = startup_packet("user", "app", "database", "app", NULL);
    char answer = 0;

    /* the injected startup packet must never be taken for something that came through TLS */
    bytes_add(&all, startup.data, startup.count);
    wire_write(wire, all.data, all.count);
    wire_take(wire, &answer, 1, PATIENCE_MS);
    cr_assert(answer == 'S' || answer == 0 || answer == 'E', "%c", answer);
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
    wire_close(wire);
    client_do(client_open(proxy, NULL), "SELECT 1");
}

SYSTEM_TEST(input, gssenc_request_is_answered_n_and_the_login_goes_on)
{
    struct wire *wire = wire_open(proxy_start("pool_mode = transaction\n"));
    char answer = 0;

    wire_gss_request(wire);
    cr_assert_eq(wire_take(wire, &answer, 1, PATIENCE_MS), 1);
    cr_assert_eq(answer, 'N');
    wire_ssl_request(wire);
    cr_assert_eq(wire_take(wire, &answer, 1, PATIENCE_MS), 1);
    cr_assert_eq(answer, 'N');
    wire_login(wire, "app", "app");
}

SYSTEM_TEST(input, requests_for_encryption_cannot_be_repeated_for_ever)
{
    struct proxy *proxy = proxy_start("client_login_timeout = 2\n");
    struct wire *wire = wire_open(proxy);
    char answer;
    int i;

    for (i = 0; i < 200 && !wire->ended; i++) {
        wire_ssl_request(wire);
        if (wire_take(wire, &answer, 1, PATIENCE_MS) < 1)
            break;
    }
    cr_assert(wire_is_closed(wire, PATIENCE_MS));
}

SYSTEM_TEST(input, a_flood_of_half_open_logins_costs_little_and_ends)
{
    struct rlimit limit = {4000, 4000};
    struct proxy *proxy = proxy_start("max_client_conn = 600\nclient_login_timeout = 8\n"
                                      "auth_type = plain\ntcp_defer_accept = 0\n");
    PGconn *client = client_open(proxy, "password=appsecret");
    static struct wire *half[500];
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);
    int i;

    setrlimit(RLIMIT_NOFILE, &limit);
    client_do(client, "SELECT 1");
    long before = proxy_memory_kb(proxy);
    int descriptors = process_descriptor_count(proxy->pid);
    for (i = 0; i < 500; i++) {
        half[i] = wire_open(proxy);
        if (i % 2)
            wire_write(half[i], packet.data, i % 4 == 1 ? 6 : packet.count);
    }
    client_do(client, "SELECT 1");
    cr_assert_lt(proxy_memory_kb(proxy) - before, 24 * 1024);
    for (i = 0; i < 500; i++)
        cr_assert(wire_is_closed(half[i], PATIENCE_MS));
    client_do(client, "SELECT 1");
    client_do(client_open(proxy, "password=appsecret"), "SELECT 1");
    cr_assert(until(process_descriptor_count(proxy->pid) <= descriptors + 3, PATIENCE_MS));
}

SYSTEM_TEST(input, a_flood_of_half_open_logins_cannot_lock_out_the_console)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("max_client_conn = 20\ntcp_defer_accept = 0\n");
    struct wire *half[40];
    int i;

    for (i = 0; i < 40; i++)
        half[i] = wire_open(proxy);
    PGconn *admin = client_open(proxy, "user=admin dbname=pgbouncer");
    PQclear(PQexec(admin, "SHOW VERSION"));
    cr_assert_eq(PQstatus(admin), CONNECTION_OK);
    for (i = 0; i < 40; i++)
        wire_close(half[i]);
}

static uint32_t random_state;

static unsigned random_byte(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 24;
}

SYSTEM_TEST(input, random_bytes_after_login_never_crash_it)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 3\n");
    PGconn *client = client_open(proxy, NULL);
    static const char types[] = "QPBDECSHdcf";
    int round, i;

    random_state = 20261;
    for (round = 0; round < 150; round++) {
        struct wire *wire = wire_client(proxy);
        unsigned char body[64];

        for (i = 0; i < 8; i++) {
            size_t size = random_byte() % sizeof body, b;

            for (b = 0; b < size; b++)
                body[b] = random_byte() % 3 ? (unsigned char)random_byte() : 0;
            wire_send(wire, types[random_byte() % (sizeof types - 1)], body, size);
        }
        wire_sync(wire);
        wire_types(wire, 'Z', 100);
        wire_close(wire);
        if (round % 10 == 0)
            cr_assert_eq(client_number(client, text_of("SELECT %d", round)), round);
    }
    still_well(proxy, client);
}

SYSTEM_TEST(input, memory_stays_flat_under_bad_input)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nclient_login_timeout = 30\n");
    PGconn *client = client_open(proxy, NULL);
    long before = 0;
    int i;

    client_do(client, "SELECT 1");
    for (i = 0; i < 3000; i++) {
        struct wire *wire = wire_open(proxy);

        wire_write(wire, i % 2 ? "\0\0\0\011\0\3\0\0\0" : "\0\0\0\4xxxxx", 9);
        cr_assert(wire_is_closed(wire, PATIENCE_MS));
        wire_close(wire);
        if (i == 500)
            before = proxy_memory_kb(proxy);
    }
    cr_assert_lt(proxy_memory_kb(proxy) - before, 16 * 1024);
    still_well(proxy, client);
}

/* ---- and from servers ---- */

/* So many that differ. */
static void report_parameters(struct wire *wire, int count)
{
    for (int i = 0; i < count; i++) {
        char *pair = text_of("parameter_%d%cthe value", i, '\0');

        wire_send(wire, 'S', pair, strlen(pair) + 1 + sizeof "the value");
        free(pair);
    }
}

static void serve_half(struct wire *wire, struct fake *fake)
{
    const char *how = fake->context;

    if (!fake_startup(wire, 'N'))
        return;
    if (!strcmp(how, "garbage")) {
        wire_write(wire, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    } else if (!strcmp(how, "length")) {
        wire_write(wire, "R\377\377\377\377", 5);
    } else if (!strcmp(how, "no code")) {
        fake_error(wire, "FATAL", NULL, "an error without a code");
    } else if (!strcmp(how, "empty error")) {
        wire_send(wire, 'E', "", 0);
    } else if (!strcmp(how, "no key")) {
        wire_send(wire, 'R', "\0\0\0\0", 4);
        wire_send(wire, 'Z', "I", 1);
    } else if (!strcmp(how, "short auth")) {
        wire_send(wire, 'R', "\0\0", 2);
    } else if (!strcmp(how, "sasl")) {
        wire_send(wire, 'R', "\0\0\0\012SCRAM-SHA-256", 17); /* no terminator */
    } else if (!strcmp(how, "parameter")) {
        wire_send(wire, 'S', "no terminator", 13);
    } else if (!strcmp(how, "parameters")) {
        wire_send(wire, 'R', "\0\0\0\0", 4);
        report_parameters(wire, 5000);
        wire_send(wire, 'Z', "I", 1);
    } else if (!strcmp(how, "close")) {
        return;
    }
    wire_is_closed(wire, 3000);
}

SYSTEM_TEST(input, servers_that_talk_nonsense_harm_nobody)
{
    SKIP_ON_PGBOUNCER();
    static const char *const ways[] = {"garbage",    "length", "no code",   "empty error", "no key",
                                       "short auth", "sasl",   "parameter", "parameters",  "close"};
    const size_t count = sizeof ways / sizeof *ways;
    char *lines = text_of("%s", "");
    struct proxy *proxy;
    size_t i;

    for (i = 0; i < count; i++)
        lines = text_of("%sbad%zu = %s dbname=app query_wait_timeout=2\n", lines, i,
                        fake_route(fake_start(serve_half, ways[i])));
    proxy = proxy_start("pool_mode = transaction\nserver_login_retry = 1\n"
                        "[databases]\n%s* = %s\n",
                        lines, cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, NULL);
    for (i = 0; i < count; i++) {
        PGconn *conn = client_try(proxy, text_of("dbname=bad%zu", i));

        /* a server without a cancel key might do */
        if (strcmp(ways[i], "no key"))
            cr_assert_eq(PQstatus(conn), CONNECTION_BAD, "%s", ways[i]);
        PQfinish(conn);
        client_do(client, "SELECT 1");
    }
    still_well(proxy, client);
}

static void serve_then_lie(struct wire *wire, struct fake *fake)
{
    const char *how = fake->context;
    struct wire_message message;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    while (wire_read(wire, &message, PATIENCE_MS)) {
        if (message.type != 'Q')
            continue;
        if (!strcmp(how, "auth"))
            wire_send(wire, 'R', "\0\0\0\0", 4);
        else if (!strcmp(how, "unasked"))
            wire_send(wire, '1', "", 0);
        else if (!strcmp(how, "state"))
            wire_send(wire, 'Z', "?", 1);
        else if (!strcmp(how, "length"))
            wire_write(wire, "D\0\0\0\1", 5);
        else if (!strcmp(how, "unknown"))
            wire_send(wire, '~', "what", 4);
        else
            return; /* leaves in the middle */
    }
}

struct excess {
    const char *how;
    _Atomic bool go_on; /* the test wants the rest */
};

/* Answers each query, and says more than it was asked for. */
static void serve_too_much(struct wire *wire, struct fake *fake)
{
    struct excess *excess = (struct excess *)fake->context;
    static const unsigned char notice[40000] = "SNOTICE\0CWARNING\0Mlong";
    struct wire_message message;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    wire_cork(wire, true);
    while (wire_read(wire, &message, PATIENCE_MS)) {
        if (message.type != 'Q')
            continue;
        wire_send(wire, 'C', "SELECT 0", 9);
        wire_send(wire, 'Z', "I", 1);
        if (!strcmp(excess->how, "error"))
            fake_error(wire, "ERROR", "22012", "division by zero");
        else if (!strcmp(excess->how, "answer"))
            wire_send(wire, 'C', "SELECT 0", 9);
        else if (!strcmp(excess->how, "ready"))
            wire_send(wire, 'Z', "I", 1);
        if (!strcmp(excess->how, "parameters"))
            report_parameters(wire, 5000);
        if (!strcmp(excess->how, "notice") && !excess->go_on) {
            wire_write(wire, "N\0\0\x9c\x44", 5);
            wire_write(wire, notice, 20000);
            wire_cork(wire, false);
            (void)until(excess->go_on, PATIENCE_MS);
            wire_write(wire, notice, 20000);
        }
        wire_cork(wire, false);
        wire_cork(wire, true);
    }
}

SYSTEM_TEST(input, a_server_that_says_more_than_it_owes_is_lent_to_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    static const char *const ways[] = {"error", "answer", "ready", "parameters"};

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct excess excess = {.how = ways[i]};
        struct fake *fake = fake_start(serve_too_much, &excess);
        struct proxy *proxy = proxy_start(
            "pool_mode = transaction\n[databases]\n* = %s pool_size=1\n", fake_route(fake));
        struct wire *a = wire_client(proxy), *b = wire_client(proxy);

        for (int round = 1; round <= 3; round++) {
            struct wire *wire = round % 2 ? a : b;

            wire_query(wire, "SELECT");
            cr_expect_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ", "%s", ways[i]);
            cr_expect_eq(fake->accepted, round, "%s", ways[i]);
            cr_assert(until(proxy_figure(proxy, "POOLS", "database", "app", "sv_idle") == 0 &&
                                proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 0,
                            PATIENCE_MS));
        }
        wire_close(a);
        wire_close(b);
        proxy_stop(proxy);
    }
}

SYSTEM_TEST(input, the_rest_of_a_long_notice_reaches_no_other_client)
{
    SKIP_ON_PGBOUNCER();
    struct excess excess = {.how = "notice"};
    struct fake *fake = fake_start(serve_too_much, &excess);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n[databases]\n* = %s pool_size=1\n", fake_route(fake));
    struct wire *a = wire_client(proxy), *b = wire_client(proxy);

    wire_query(a, "SELECT");
    cr_assert_str_eq(wire_types(a, 'Z', PATIENCE_MS), "CZ");
    wire_query(b, "SELECT");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    excess.go_on = true;
    cr_expect_str_eq(wire_types(b, 'Z', PATIENCE_MS), "CZ");
    wire_query(a, "SELECT");
    cr_expect_str_eq(wire_types(a, 'Z', PATIENCE_MS), "CZ");
    cr_expect_eq(fake->accepted, 1);
}

SYSTEM_TEST(input, a_server_that_breaks_the_protocol_loses_its_connection)
{
    SKIP_ON_PGBOUNCER();
    static const char *const ways[] = {"auth", "state", "length", "unknown", "leave"};
    char *lines = text_of("%s", "");
    struct proxy *proxy;
    size_t i;

    for (i = 0; i < 5; i++)
        lines = text_of("%sbad%zu = %s dbname=app\n", lines, i,
                        fake_route(fake_start(serve_then_lie, ways[i])));
    proxy = proxy_start("pool_mode = transaction\nquery_timeout = 10\nserver_reset_query =\n"
                        "server_login_retry = 1\n"
                        "[databases]\n%s* = %s\n",
                        lines, cluster_route(cluster_shared()));
    PGconn *client = client_open(proxy, NULL);
    for (i = 0; i < 5; i++) {
        PGconn *conn = client_open(proxy, text_of("dbname=bad%zu", i));
        PGresult *result = PQexec(conn, "SELECT 1");

        cr_assert_eq(PQresultStatus(result), PGRES_FATAL_ERROR, "%s", ways[i]);
        PQfinish(conn);
        client_do(client, "SELECT 1");
    }
    still_well(proxy, client);
}
