/*
 * edges: what drivers do at the edges of the protocol: large objects, the longest messages, batches
 * without their end, and what servers say unasked.
 */
#include <libpq/libpq-fs.h>

#include "system.h"

SYSTEM_SUITE(edges);

/* ---- large objects ---- */

/* One transaction that writes 300 kB of its own letter and reads them back; false: it read others. */
static bool keep_object(PGconn *client, char letter, Oid *object)
{
    enum { PIECE = 30000, PIECES = 10 };
    static char piece[PIECE], back[PIECE];
    bool same = true;
    int handle;

    client_do(client, "BEGIN");
    *object = lo_create(client, 0);
    cr_assert_neq(*object, 0, "%s", PQerrorMessage(client));
    handle = lo_open(client, *object, INV_READ | INV_WRITE);
    cr_assert_geq(handle, 0, "%s", PQerrorMessage(client));
    memset(piece, letter, PIECE);
    for (int i = 0; i < PIECES; i++)
        cr_assert_eq(lo_write(client, handle, piece, PIECE), PIECE, "%s", PQerrorMessage(client));
    cr_assert_eq(lo_tell64(client, handle), PIECE * PIECES);
    cr_assert_eq(lo_lseek64(client, handle, 0, SEEK_SET), 0);
    for (int i = 0; i < PIECES; i++) {
        cr_assert_eq(lo_read(client, handle, back, PIECE), PIECE, "%s", PQerrorMessage(client));
        same = same && memcmp(back, piece, PIECE) == 0;
    }
    cr_assert_eq(lo_close(client, handle), 0);
    client_do(client, "COMMIT");
    return same;
}

SYSTEM_TEST(edges, large_objects_work_in_transaction_mode)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *clients[3];
    Oid objects[3];

    for (int i = 0; i < 3; i++)
        clients[i] = client_open(proxy, NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++)
            cr_assert(keep_object(clients[i], (char)('a' + i), &objects[i]));
    }
    /* each reads what another has written */
    for (int i = 0; i < 3; i++) {
        char letter[2] = "";
        int handle;

        client_do(clients[i], "BEGIN");
        handle = lo_open(clients[i], objects[(i + 1) % 3], INV_READ);
        cr_assert_eq(lo_lseek(clients[i], handle, 299999, SEEK_SET), 299999);
        cr_assert_eq(lo_read(clients[i], handle, letter, 2), 1);
        cr_assert_eq(letter[0], 'a' + (i + 1) % 3);
        client_do(clients[i], "COMMIT");
        /* a descriptor ends with its transaction, as it does without a pooler */
        client_do(clients[i], "BEGIN");
        cr_assert_eq(lo_read(clients[i], handle, letter, 1), -1);
        cr_assert_has(PQerrorMessage(clients[i]), "invalid large-object descriptor");
        client_do(clients[i], "ROLLBACK");
    }
    for (int i = 0; i < 3; i++)
        cr_assert_eq(lo_unlink(clients[i], objects[i]), 1); /* outside of a transaction, too */
    cr_assert(until(proxy_figure(proxy, "POOLS", "database", "app", "sv_idle") == 1, PATIENCE_MS));
}

/* ---- a gigabyte ---- */

/* The server copies it several times before it says a word. */
enum { GIGABYTE = 1000000000, GIGABYTE_MS = 4 * PATIENCE_MS, FLAT_KB = 48 * 1024 };

static long available_kb(void)
{
    const char *line = strstr(file_text("/proc/meminfo"), "MemAvailable:");

    return line ? atol(line + 13) : 0;
}

static unsigned char piece[1 << 20];

/* A parameter of a gigabyte, written piece by piece. */
static void send_gigabyte(struct wire *wire, struct proxy *proxy, long *most)
{
    struct bytes head = {0};
    size_t left = GIGABYTE;

    wire_parse(wire, "", "SELECT octet_length($1::bytea)");
    bytes_add(&head, "B", 1);
    bytes_add32(&head, 4 + 2 + 4 + 2 + 4 + GIGABYTE + 2);
    bytes_add(&head, "\0\0\0\1\0\1\0\1", 8); /* unnamed both; one format: binary; one value */
    bytes_add32(&head, GIGABYTE);
    cr_assert(wire_write(wire, head.data, head.count));
    memset(piece, 'x', sizeof piece);
    while (left > 0) {
        size_t count = left < sizeof piece ? left : sizeof piece;
        long now = proxy_memory_kb(proxy);

        *most = now > *most ? now : *most;
        cr_assert(wire_write(wire, piece, count));
        left -= count;
    }
    cr_assert(wire_write(wire, "\0\0", 2)); /* the results: text */
    wire_execute(wire, "", 0);
    wire_sync(wire);
}

Test(edges, messages_of_a_gigabyte_pass_both_ways_and_cost_no_memory, .timeout = 3 * TEST_LIMIT_S)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);
    long before, most = 0;
    size_t left, wrong = 0;

    if (available_kb() < 8 * 1024 * 1024)
        cr_skip_test("the server needs some gigabytes of memory for this");
    client_do(other, "SELECT 1");
    before = proxy_memory_kb(proxy);
    send_gigabyte(wire, proxy, &most);
    cr_assert_str_eq(wire_value(wire, GIGABYTE_MS), text_of("%d", GIGABYTE));

    wire_query(wire, text_of("SELECT repeat('y', %d)", GIGABYTE));
    cr_assert_str_eq(wire_types(wire, 'T', GIGABYTE_MS), "T");
    unsigned char head[11];
    cr_assert_eq(wire_take(wire, head, sizeof head, PATIENCE_MS), sizeof head);
    cr_assert_eq(head[0], 'D');
    for (left = GIGABYTE; left > 0;) {
        size_t got = wire_take(wire, piece, left < sizeof piece ? left : sizeof piece, PATIENCE_MS);
        long now = proxy_memory_kb(proxy);

        cr_assert_gt(got, 0, "%zu bytes are missing", left);
        most = now > most ? now : most;
        left -= got;
        wrong += piece[0] != 'y' || piece[got / 2] != 'y' || piece[got - 1] != 'y';
    }
    cr_assert_eq(wrong, 0);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    cr_assert_lt(most - before, FLAT_KB, "it grew by %ld kB", most - before);
    cr_assert_str_eq(client_value(other, "SELECT 'the same server'"), "the same server");
    test_end();
}

/* ---- batches without their end ---- */

SYSTEM_TEST(edges, a_flush_without_sync_is_answered_and_keeps_the_server)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);

    wire_parse(wire, "", "SELECT 'flushed'");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'C', PATIENCE_MS), "12DC");
    client_start(other, "SELECT 'later'");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    /* the batch goes on; an empty query is part of it */
    wire_parse(wire, "", "");
    wire_bind(wire, "", "", NULL);
    wire_describe(wire, 'P', "");
    wire_execute(wire, "", 0);
    wire_flush(wire);
    cr_assert_str_eq(wire_types(wire, 'I', PATIENCE_MS), "12nI");
    cr_assert_eq(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting"), 1);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "Z");
    cr_assert_str_eq(client_finish(other, PATIENCE_MS), "");
    /* a Flush with nothing before it asks for nothing */
    wire_flush(wire);
    wire_query(wire, ";");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "IZ");
}

/* What was ended by a Sync is done, what was not is not, and nobody gets the rest of it. */
SYSTEM_TEST(edges, terminate_in_mid_pipeline)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *other = client_open(proxy, NULL);

    client_do(other, "DROP TABLE IF EXISTS ended; CREATE TABLE ended (i int)");
    for (int round = 0; round < 30; round++) {
        struct wire *wire = wire_client(proxy);

        wire_cork(wire, round % 2);
        wire_parse(wire, "", text_of("INSERT INTO ended VALUES (%d)", round));
        wire_bind(wire, "", "", NULL);
        wire_execute(wire, "", 0);
        wire_sync(wire);
        wire_parse(wire, "",
                   text_of("INSERT INTO ended VALUES (-%d) RETURNING 'stray'", round + 1));
        wire_bind(wire, "", "", NULL);
        wire_execute(wire, "", 0);
        if (round % 3 == 0)
            wire_flush(wire);
        wire_send(wire, 'X', "", 0);
        wire_cork(wire, false);
        cr_assert_str_eq(client_value(other, text_of("SELECT 'mine %d'", round)),
                         text_of("mine %d", round));
        wire_is_closed(wire, PATIENCE_MS);
        wire_close(wire);
    }
    cr_assert(
        until(client_number(other, "SELECT count(*) FROM ended WHERE i >= 0") == 30, PATIENCE_MS));
    cr_assert_eq(client_number(other, "SELECT count(*) FROM ended WHERE i < 0"), 0);
    client_do(other, "DROP TABLE ended");
}

/* ---- what servers say unasked ---- */

static void say_notice(struct wire *wire, const char *text)
{
    struct bytes body = {0};

    bytes_add(&body, "SNOTICE", 8);
    bytes_add(&body, "C00000", 7);
    bytes_add(&body, "M", 1);
    bytes_add_text(&body, text);
    bytes_add(&body, "", 1);
    wire_send(wire, 'N', body.data, body.count);
}

static void say_parameter(struct wire *wire, const char *name, const char *value)
{
    struct bytes body = {0};

    bytes_add_text(&body, name);
    bytes_add_text(&body, value);
    wire_send(wire, 'S', body.data, body.count);
}

static _Atomic int unasked;

/* Notices and parameters between all messages of an answer, and once nobody waits for one. */
static void chatter(struct wire *wire, struct fake *fake)
{
    struct wire_message message;

    (void)fake;
    if (!fake_startup(wire, 'N'))
        return;
    say_notice(wire, "at login");
    fake_welcome(wire);
    while (wire_read(wire, &message, PATIENCE_MS)) {
        bool begins = message.type == 'Q' && !strcmp((char *)message.body, "BEGIN");

        if (message.type == 'X')
            return;
        say_notice(wire, "one");
        wire_send(wire, 'T', "\0\1v\0\0\0\0\0\0\0\0\0\0\031\377\377\377\377\377\377\0\0", 22);
        say_notice(wire, "two");
        say_parameter(wire, "session_authorization", "who");
        wire_send(wire, 'D', "\0\1\0\0\0\1x", 7);
        say_parameter(wire, "server_version", "15.1");
        wire_send(wire, 'C', "SELECT 1", 9);
        say_notice(wire, "three");
        wire_send(wire, 'Z', begins ? "T" : "I", 1);
        say_notice(wire, "after it");
        say_parameter(wire, "server_version", "15.2");
        unasked++;
        free(message.body);
    }
}

/* All types up to Z, with those that wire_types leaves out. */
static const char *all_types(struct wire *wire, int count)
{
    struct wire_message message;
    const char *types = "";

    for (int i = 0; i < count; i++) {
        if (!wire_read(wire, &message, PATIENCE_MS))
            return text_of("%s!", types);
        types = text_of("%s%c", types, message.type);
        free(message.body);
    }
    return types;
}

SYSTEM_TEST(edges, notices_and_parameters_may_come_at_any_time)
{
    struct fake *fake = fake_start(chatter, NULL);
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "[databases]\napp = %s\n",
                                      fake_route(fake));
    struct wire *wire = wire_client(proxy);

    /* within a transaction the server is the client's, and so is all it says */
    wire_query(wire, "BEGIN");
    cr_assert_str_eq(all_types(wire, 11), "NTNSDSCNZNS");
    wire_query(wire, "COMMIT");
    cr_assert_str_eq(all_types(wire, 9), "NTNSDSCNZ");
    /* what comes behind is nobody's; the server stays */
    cr_assert(until(unasked == 2, PATIENCE_MS));
    for (int i = 0; i < 5; i++) {
        struct wire *next = wire_client(proxy);

        wire_query(next, "SELECT 1");
        char *types = wire_types(next, 'Z', PATIENCE_MS);
        cr_assert_str_eq(types, "TDCZ");
        wire_close(next);
    }
    cr_assert_eq(fake->accepted, 1);
}

SYSTEM_TEST(edges, a_parameter_that_changes_in_mid_transaction_is_told_in_its_place)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    PGconn *other = client_open(proxy, NULL);

    wire_query(wire, "BEGIN");
    cr_assert_str_eq(all_types(wire, 2), "CZ");
    wire_query(wire, "SET TimeZone TO 'Asia/Tokyo'");
    cr_assert_str_eq(all_types(wire, 3), "CSZ");
    wire_query(wire, "SHOW TimeZone");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "Asia/Tokyo");
    wire_query(wire, "ROLLBACK");
    cr_assert_str_eq(all_types(wire, 3), "CSZ"); /* and what it was before */
    wire_query(wire, "SHOW TimeZone");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "UTC");
    cr_assert_str_eq(client_value(other, "SHOW TimeZone"), "UTC");
}

/* A server that is idle says its last word and goes. */
static _Atomic bool leave;

static void part(struct wire *wire, struct fake *fake)
{
    bool first = fake->accepted == 1;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    if (!first) {
        fake_answer(wire, "the next");
        return;
    }
    struct wire_message message;
    if (!wire_read(wire, &message, PATIENCE_MS))
        return;
    wire_send(wire, 'C', "SET", 4);
    wire_send(wire, 'Z', "I", 1);
    while (!leave && !wire->ended)
        pause_ms(5);
    fake_error(wire, "FATAL", "57P01", "terminating connection due to administrator command");
}

SYSTEM_TEST(edges, the_last_word_of_an_idle_server_is_heard_by_nobody)
{
    struct fake *fake = fake_start(part, NULL);
    struct proxy *proxy =
        proxy_start("pool_mode = transaction\n[databases]\napp = %s\n", fake_route(fake));
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SET x TO y");
    leave = true;
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    cr_assert_str_eq(client_value(client, "SELECT 1"), "the next");
    cr_assert_eq(fake->accepted, 2);
}

/* ---- across workers ---- */

SYSTEM_TEST(edges, a_cancel_request_finds_its_client_on_whatever_worker)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\nworkers = 4\n");
    struct wire *wires[8];
    PGresult *clients;
    unsigned seen = 0;

    for (int i = 0; i < 8; i++) {
        wires[i] = wire_client(proxy);
        wire_query(wires[i], "SELECT pg_sleep(68)");
    }
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(68)") == 8, PATIENCE_MS));
    clients = proxy_show(proxy, "CLIENTS");
    for (int i = 0; i < PQntuples(clients); i++)
        seen |= 1u << atoi(PQgetvalue(clients, i, PQfnumber(clients, "worker")));
    PQclear(clients);
    cr_assert_eq(seen, 15, "workers %#x have clients", seen);
    for (int i = 7; i >= 0; i--) {
        struct wire *request = wire_open(proxy);

        wire_cancel_key(request, wires[i]->key, wires[i]->key_bytes);
        cr_assert_has(wire_error(wires[i], PATIENCE_MS), "57014");
        cr_assert(wire_is_closed(request, PATIENCE_MS));
        wire_close(request);
    }
}
