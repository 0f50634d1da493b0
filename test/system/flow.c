/*
 * flow: what is held up goes on, and what is cut off is not made to look whole.
 */
#include "system.h"

SYSTEM_SUITE(flow);

SYSTEM_TEST(flow, a_pipeline_of_more_answers_than_are_counted_goes_on)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    const int count = 70000;
    struct bytes syncs = {0};

    wire_query(wire, "BEGIN");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    for (int i = 0; i < count; i++)
        bytes_add(&syncs, "S\0\0\0\4", 5);
    cr_assert(wire_write(wire, syncs.data, syncs.count));
    for (int i = 0; i < count; i++) {
        struct wire_message message;

        cr_assert(wire_read(wire, &message, PATIENCE_MS), "after %d answers", i);
        cr_assert_eq(message.type, 'Z');
        free(message.body);
    }
    wire_query(wire, "COMMIT");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
}

SYSTEM_TEST(flow, a_client_that_waited_long_is_not_idle)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n"
                                      "client_idle_timeout = 5\n");
    PGconn *first = client_open(proxy, NULL);
    PGconn *second = client_open(proxy, NULL);

    client_do(first, "BEGIN");
    client_start(second, "SELECT 1");
    client_do(first, "SELECT pg_sleep(6)");
    client_do(first, "COMMIT");
    cr_assert_str_eq(client_finish(second, PATIENCE_MS), "");
}

SYSTEM_TEST(flow, a_server_whose_connect_query_failed_is_not_used)
{
    struct proxy *proxy =
        proxy_start("[databases]\napp = %s connect_query='SELECT nonsense_of_the_connect_query'\n",
                    cluster_route(cluster_shared()));
    char *refusal = client_refusal(proxy, NULL);

    cr_assert_has(refusal, "nonsense_of_the_connect_query");
}

/* Half a row of 17,000 bytes, then nothing more. */
static void cut_a_row(struct wire *wire, struct fake *fake)
{
    struct wire_message message;
    struct bytes bytes = {0};
    char text[16000] = {0};

    (void)fake;
    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    if (!wire_read(wire, &message, PATIENCE_MS))
        return;
    memset(text, 'x', sizeof(text));
    bytes_add(&bytes, "D", 1);
    bytes_add32(&bytes, 17000);
    bytes_add16(&bytes, 1);
    bytes_add32(&bytes, 17000 - 10);
    bytes_add(&bytes, text, sizeof(text));
    bytes_add(&bytes, text, 900);
    wire_write(wire, bytes.data, bytes.count);
    pause_ms(300);
}

SYSTEM_TEST(flow, nothing_is_put_behind_half_a_row)
{
    struct fake *fake = fake_start(cut_a_row, NULL);
    struct proxy *proxy = proxy_start("[databases]\napp = %s\n", fake_route(fake));
    struct wire *wire = wire_client(proxy);
    unsigned char *bytes = malloc(40000);

    SKIP_ON_PGBOUNCER();
    wire_query(wire, "SELECT 1");
    size_t count = wire_take(wire, bytes, 40000, PATIENCE_MS);
    cr_assert_eq(count, 5 + 6 + 16900);
    cr_assert_eq(bytes[count - 1], 'x');
    free(bytes);
}

/* The first connection only lets a client log in; the second ends as soon as it stands. */
static void die_after_login_once(struct wire *wire, struct fake *fake)
{
    static const char fatal[] = "SFATAL\0C57P01\0Mterminating connection\0";
    struct bytes bytes = {0};

    if (!fake_startup(wire, 'N'))
        return;
    if (fake->accepted != 2) {
        fake_welcome(wire);
        if (fake->accepted > 2)
            fake_answer(wire, "third");
        return;
    }
    bytes_add(&bytes, "R\0\0\0\x08\0\0\0\0Z\0\0\0\5IE", 9 + 6 + 1);
    bytes_add32(&bytes, 4 + sizeof(fatal));
    bytes_add(&bytes, fatal, sizeof(fatal));
    wire_write(wire, bytes.data, bytes.count);
}

SYSTEM_TEST(flow, a_server_that_ends_right_after_its_login_is_given_to_nobody)
{
    struct fake *fake = fake_start(die_after_login_once, NULL);
    struct proxy *proxy = proxy_start("[databases]\napp = %s\n", fake_route(fake));
    struct wire *wire = wire_client(proxy);

    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    wire_query(wire, "SELECT 1");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "third");
}

/* A whole large answer, and the end of the connection right behind it. */
static void answer_and_leave(struct wire *wire, struct fake *fake)
{
    struct wire_message message;
    struct bytes row = {0};
    char text[1000];

    (void)fake;
    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    if (!wire_read(wire, &message, PATIENCE_MS))
        return;
    memset(text, 'x', sizeof(text));
    bytes_add16(&row, 1);
    bytes_add32(&row, sizeof(text));
    bytes_add(&row, text, sizeof(text));
    for (int i = 0; i < 8000; i++)
        wire_send(wire, 'D', row.data, row.count);
    wire_send(wire, 'C', "SELECT 1", 9);
    wire_send(wire, 'Z', "I", 1);
}

SYSTEM_TEST(flow, a_slow_reader_gets_all_that_a_server_said_before_it_left)
{
    struct fake *fake = fake_start(answer_and_leave, NULL);
    struct proxy *proxy = proxy_start("[databases]\napp = %s\n", fake_route(fake));
    struct wire *wire = wire_client(proxy);
    struct wire_message message;
    int rows = 0;

    wire_query(wire, "SELECT 1");
    pause_ms(1500);
    while (wire_read(wire, &message, PATIENCE_MS) && message.type == 'D')
        rows++;
    cr_assert_eq(rows, 8000);
    cr_assert_eq(message.type, 'C');
}

/* Ticks of the processor that it has used. */
static long ticks_of(const struct proxy *proxy)
{
    char *stat = file_text(text_of("/proc/%d/stat", (int)proxy->pid));
    char *fields = strrchr(stat, ')');
    unsigned long user = 0, system = 0;

    cr_assert_not_null(fields);
    cr_assert_eq(
        sscanf(fields, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return (long)(user + system);
}

/* Once every buffer is full: a second and a half in which it used less than a third of one. */
static bool rests(const struct proxy *proxy)
{
    long before = ticks_of(proxy);

    pause_ms(1500);
    return ticks_of(proxy) - before < sysconf(_SC_CLK_TCK) / 3;
}

/* TLS on both sides: bytes may lie decrypted in a paused connection. */
SYSTEM_TEST(flow, a_stalled_reader_under_tls_costs_no_time_and_gets_all_in_the_end)
{
    struct pki_request request = {.file = "pooler",
                                  .common_name = "localhost",
                                  .names = "DNS:localhost,IP:127.0.0.1",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *pooler = pki_issue(test_folder(), &request);
    struct proxy *proxy = proxy_start("pool_mode = transaction\nclient_tls_sslmode = require\n"
                                      "server_tls_sslmode = require\nclient_tls_key_file = %s\n"
                                      "client_tls_cert_file = %s\n",
                                      pooler->key, pooler->certificate);
    PGconn *client = client_open(proxy, "sslmode=require");
    PGresult *result;
    char sql[128];
    int rows = 0;

    snprintf(sql, sizeof(sql), "SELECT repeat('x', 30011) FROM generate_series(1, 1500)");
    cr_assert(PQsendQuery(client, sql) && PQsetSingleRowMode(client));
    cr_assert(until(rests(proxy), PATIENCE_MS));
    while ((result = PQgetResult(client))) {
        if (PQresultStatus(result) == PGRES_SINGLE_TUPLE) {
            cr_assert_eq(PQgetlength(result, 0, 0), 30011);
            rows++;
        }
        PQclear(result);
    }
    cr_assert_eq(rows, 1500);
    PQfinish(client);
}

SYSTEM_TEST(flow, a_long_query_may_come_in_small_pieces)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client(proxy);
    struct bytes query = {0};
    unsigned char type = 'Q';
    char *sql = text_of("SELECT 'whole'%*s", 40000, "");

    bytes_add(&query, &type, 1);
    bytes_add32(&query, (uint32_t)strlen(sql) + 5);
    bytes_add_text(&query, sql);
    for (size_t at = 0; at < query.count; at += 1000) {
        cr_assert(
            wire_write(wire, query.data + at, query.count - at < 1000 ? query.count - at : 1000));
        pause_ms(2); /* so that they are read one by one; what is asserted does not depend on it */
    }
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "whole");
}
