/*
 * large: much data, slow readers, long messages; the pooler's memory stays what it was.
 */
#include "system.h"

SYSTEM_SUITE(large);

enum { FLAT_KB = 48 * 1024 };

SYSTEM_TEST(large, a_100_mb_result_for_a_slow_reader_costs_no_memory)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    struct wire *wire = wire_client(proxy);
    static unsigned char piece[1 << 20];
    size_t total = 0, got;
    long before = proxy_memory_kb(proxy), most = 0;
    int turn = 0;

    wire_query(wire, "SELECT repeat('x', 100000) FROM generate_series(1, 1000)");
    while (total < 100000000) {
        /* slow at first, so that everything on the way fills up */
        if (turn++ < 20)
            pause_ms(50);
        got = wire_take(wire, piece, sizeof piece, PATIENCE_MS);
        cr_assert_gt(got, 0);
        total += got;
        long now = proxy_memory_kb(proxy);
        most = now > most ? now : most;
    }
    cr_assert_lt(most - before, FLAT_KB, "it grew by %ld kB", most - before);
}

SYSTEM_TEST(large, a_reader_that_stops_does_not_stop_others)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 3\n");
    struct wire *lazy[2] = {wire_client(proxy), wire_client(proxy)};
    PGconn *client = client_open(proxy, NULL);
    long before = proxy_memory_kb(proxy);
    int i;

    for (i = 0; i < 2; i++)
        wire_query(lazy[i], "SELECT repeat('x', 100000) FROM generate_series(1, 2000)");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 2, PATIENCE_MS));
    for (i = 0; i < 200; i++)
        cr_assert_eq(client_number(client, text_of("SELECT %d", i)), i);
    cr_assert_lt(proxy_memory_kb(proxy) - before, FLAT_KB);
}

SYSTEM_TEST(large, a_64_mb_parameter_passes_and_costs_no_memory)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);
    size_t size = 64 << 20;
    char *text = malloc(size + 1);
    const char *values[] = {text};
    long before, after;

    client_do(client, "SELECT 1");
    before = proxy_memory_kb(proxy);
    memset(text, 'y', size);
    text[size] = 0;
    PGresult *result =
        PQexecParams(client, "SELECT length($1::text)", 1, NULL, values, NULL, NULL, 0);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(client));
    cr_assert_eq((size_t)atol(PQgetvalue(result, 0, 0)), size);
    after = proxy_memory_kb(proxy);
    cr_assert_lt(after - before, FLAT_KB, "it grew by %ld kB", after - before);
}

SYSTEM_TEST(large, a_64_mb_query_that_has_to_wait_does_not_disturb)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);
    size_t size = 64 << 20;
    char *sql = malloc(size + 64);
    long before = proxy_memory_kb(proxy);

    client_do(first, "BEGIN");
    strcpy(sql, "SELECT length('");
    memset(sql + 15, 'z', size);
    strcpy(sql + 15 + size, "')");
    PQsetnonblocking(second, 1);
    cr_assert(PQsendQuery(second, sql));
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    client_do(first, "SELECT 1");
    cr_assert_lt(proxy_memory_kb(proxy) - before, FLAT_KB);
    client_do(first, "COMMIT");
    cr_assert(until(PQflush(second) == 0, PATIENCE_MS));
    PGresult *result = client_result(second, PATIENCE_MS);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(second));
    cr_assert_eq((size_t)atol(PQgetvalue(result, 0, 0)), size);
}

SYSTEM_TEST(large, messages_of_every_size_around_a_buffer_pass_unchanged)
{
    PGconn *client = client_open(proxy_start("pool_mode = transaction\n"), NULL);
    static const int sizes[] = {1000,  2047,  2048,  4000,   4083,  4096,  4097,
                                8180,  8192,  16300, 16370,  16384, 16385, 32767,
                                32768, 65530, 65536, 131072, 262144};
    size_t i;
    int delta;

    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (delta = -3; delta <= 3; delta++) {
            int size = sizes[i] + delta;
            char *text = malloc((size_t)size + 1);
            const char *values[] = {text};

            memset(text, 'a' + (int)(i % 26), (size_t)size);
            text[size] = 0;
            PGresult *result =
                PQexecParams(client, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
            cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(client));
            cr_assert_str_eq(PQgetvalue(result, 0, 0), text, "size %d", size);
            PQclear(result);
            free(text);
        }
    }
}

SYSTEM_TEST(large, a_message_in_one_byte_pieces_passes)
{
    struct wire *wire = wire_client(proxy_start("pool_mode = transaction\n"));
    struct bytes message = {0};
    const char *sql = "SELECT 'piece by piece'";
    size_t i;

    bytes_add(&message, "Q", 1);
    bytes_add32(&message, (uint32_t)strlen(sql) + 5);
    bytes_add_text(&message, sql);
    for (i = 0; i < message.count; i++) {
        wire_write(wire, message.data + i, 1);
        pause_ms(1);
    }
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "piece by piece");
}

SYSTEM_TEST(large, max_packet_size_refuses_longer_messages)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nmax_packet_size = 100000\n");
    PGconn *client = client_open(proxy, NULL);
    PGconn *other = client_open(proxy, NULL);
    char *sql = text_of("SELECT length('%0150000d')", 0);

    client_do(other, "SELECT 1");
    PGresult *result = PQexec(client, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_FATAL_ERROR);
    cr_assert(client_is_closed(client, PATIENCE_MS));
    client_do(other, "SELECT 1");
}
