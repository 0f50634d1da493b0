/*
 * protocol: versions 3.0 and 3.2 with their cancel keys, on both sides, and what is declined.
 */
#include "system.h"

SYSTEM_SUITE(protocol);

/* ---- clients ---- */

SYSTEM_TEST(protocol, a_client_of_3_2_gets_a_long_key_and_cancels_with_it)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client_of(proxy, 2), *other = wire_client_of(proxy, 2);
    unsigned char wrong[260];
    PGresult *clients;

    cr_assert_eq(wire->key_bytes, 4 + 32);
    cr_assert_neq(memcmp(wire->key + 4, other->key + 4, 32), 0);
    cr_assert_neq(memcmp(wire->key + 8, other->key + 8, 28), 0);
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "protocol", "3.2") == 2, PATIENCE_MS));
    clients = proxy_show(proxy, "SERVERS");
    cr_assert_geq(PQfnumber(clients, "protocol"), 0);
    PQclear(clients);

    wire_query(wire, "SELECT pg_sleep(61.2)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(61.2)"), PATIENCE_MS));
    for (size_t i = 4; i < wire->key_bytes; i += 9) { /* each part of it counts */
        memcpy(wrong, wire->key, wire->key_bytes);
        wrong[i] ^= 1;
        wire_cancel_at(proxy, wrong, wire->key_bytes);
    }
    wire_cancel_at(proxy, wire->key, 8); /* … and all of it */
    wire_cancel_at(proxy, wire->key, 4 + 31);
    cr_assert(cluster_running(cluster_shared(), "SELECT pg_sleep(61.2)"));
    wire_cancel_at(proxy, wire->key, wire->key_bytes);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
}

SYSTEM_TEST(protocol, a_client_of_3_0_keeps_its_short_key)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    struct wire *wire = wire_client_of(proxy, 0);

    cr_assert_eq(wire->key_bytes, 8);
    cr_assert(until(proxy_rows(proxy, "CLIENTS", "protocol", "3.0") == 2,
                    PATIENCE_MS)); /* the console is one */
    wire_query(wire, "SELECT pg_sleep(61.3)");
    cr_assert(until(cluster_running(cluster_shared(), "SELECT pg_sleep(61.3)"), PATIENCE_MS));
    wire_cancel_at(proxy, wire->key, 8);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
}

SYSTEM_TEST(protocol, a_waiting_client_of_3_2_is_cancelled_at_once)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 1\n");
    PGconn *holder = client_open(proxy, NULL);
    struct wire *waiting = wire_client_of(proxy, 2);

    client_do(holder, "BEGIN");
    wire_query(waiting, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "cl_waiting") == 1, PATIENCE_MS));
    wire_cancel_at(proxy, waiting->key, waiting->key_bytes);
    cr_assert_has(wire_error(waiting, PATIENCE_MS), "57014");
}

/* What it is told of the version that it asked for: "-" when nothing, else "minor:names". */
static char *negotiated(struct proxy *proxy, unsigned minor, const char *option)
{
    struct wire *wire = wire_open(proxy);
    struct bytes packet = option ? startup_packet("user", "app", "database", "app", option, "1",
                                                  "_pq_.second", "", NULL)
                                 : startup_packet("user", "app", "database", "app", NULL);
    struct wire_message message;
    char *told = text_of("-");
    char type = 0;

    packet.data[6] = (unsigned char)(minor >> 8);
    packet.data[7] = (unsigned char)minor;
    wire_write(wire, packet.data, packet.count);
    while (type != 'Z') {
        cr_assert(wire_read(wire, &message, PATIENCE_MS));
        type = message.type;
        cr_assert_neq(type, 'E', "%s", wire_field(&message, 'M'));
        if (type == 'v') {
            const char *name = (const char *)message.body + 8;

            cr_assert_eq(message.body[1], 3, "all of the version is told");
            told = text_of("%d:", message.body[2] << 8 | message.body[3]);
            for (int i = 0; i < message.body[7]; i++) {
                told = text_of("%s%s,", told, name);
                name += strlen(name) + 1;
            }
        }
        free(message.body);
    }
    wire_query(wire, "SELECT 'works'");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "works");
    wire_close(wire);
    return told;
}

SYSTEM_TEST(protocol, versions_and_options_are_negotiated)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");

    cr_assert_str_eq(negotiated(proxy, 0, NULL), "-");
    cr_assert_str_eq(negotiated(proxy, 2, NULL), "-");
    cr_assert_str_eq(negotiated(proxy, 1, NULL), "0:"); /* there is no 3.1 */
    cr_assert_str_eq(negotiated(proxy, 3, NULL), "2:");
    cr_assert_str_eq(negotiated(proxy, 9999, NULL), "2:");
    cr_assert_str_eq(negotiated(proxy, 0, "_pq_.first"), "0:_pq_.first,_pq_.second,");
    cr_assert_str_eq(negotiated(proxy, 2, "_pq_.first"), "2:_pq_.first,_pq_.second,");
    cr_assert_str_eq(negotiated(proxy, 9999, "_pq_.first"), "2:_pq_.first,_pq_.second,");
}

SYSTEM_TEST(protocol, hundreds_of_unknown_options_are_all_named)
{
    struct wire *wire = wire_open(proxy_start("pool_mode = transaction\n"));
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);
    struct wire_message message;

    packet.count--; /* the terminator comes later */
    for (int i = 0; i < 300; i++) {
        bytes_add_text(&packet, text_of("_pq_.option_%d", i));
        bytes_add_text(&packet, "");
    }
    bytes_add(&packet, "", 1);
    packet.data[2] = (unsigned char)(packet.count >> 8);
    packet.data[3] = (unsigned char)packet.count;
    wire_write(wire, packet.data, packet.count);
    cr_assert(wire_read(wire, &message, PATIENCE_MS));
    cr_assert_eq(message.type, 'v');
    cr_assert_eq(message.body[6] << 8 | message.body[7], 300);
    cr_assert_str_eq((char *)message.body + message.length - sizeof "_pq_.option_299",
                     "_pq_.option_299");
}

/* ---- servers ---- */

/* What a fake server does, and what it has seen. */
struct role {
    uint32_t speaks;     /* the newest minor version it knows */
    bool refuses;        /* … and it does not know how to negotiate */
    bool leaves;         /* … or closes without a word */
    size_t key_bytes;    /* of its key; 0: none */
    _Atomic int refused; /* connections */
    _Atomic uint32_t asked;
    _Atomic size_t cancel_bytes;
    _Atomic bool cancel_right;
};

static void fill_key(unsigned char *key, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        key[i] = (unsigned char)(i * 7 + 1);
}

static void serve(struct wire *wire, struct fake *fake)
{
    struct role *role = (struct role *)fake->context;
    unsigned char key[300], body[8] = {0, 3, 0, 0, 0, 0, 0, 0};

    fill_key(key, sizeof key);
    if (!fake_startup(wire, 'N'))
        return;
    if (wire->version == 80877102) {
        role->cancel_right = memcmp(wire->key, key, role->key_bytes) == 0;
        role->cancel_bytes = wire->key_bytes;
        return;
    }
    role->asked = wire->version;
    if ((wire->version & 0xffff) > role->speaks) {
        if (role->refuses || role->leaves)
            role->refused++;
        if (role->refuses)
            fake_error(wire, "FATAL", "0A000", "unsupported frontend protocol 3.2");
        if (role->refuses || role->leaves)
            return;
        body[3] = (unsigned char)role->speaks;
        wire_send(wire, 'v', body, sizeof body);
    }
    fake_welcome_with(wire, key, role->key_bytes);
    fake_answer(wire, "fake");
}

/* A fake server whose client's query hangs, and is cancelled through pgstage. */
static void hang(struct wire *wire, struct fake *fake)
{
    struct role *role = (struct role *)fake->context;
    unsigned char key[300];
    struct wire_message message;

    fill_key(key, sizeof key);
    if (!fake_startup(wire, 'N'))
        return;
    if (wire->version == 80877102) {
        role->cancel_right = memcmp(wire->key, key, role->key_bytes) == 0;
        role->cancel_bytes = wire->key_bytes;
        return;
    }
    fake_welcome_with(wire, key, role->key_bytes);
    if (!wire_read(wire, &message, 60000))
        return;
    while (!role->cancel_bytes && !wire->ended)
        usleep(1000);
    fake_error(wire, "ERROR", "57014", "canceling statement due to user request");
    wire_send(wire, 'Z', "I", 1);
    fake_answer(wire, "fake");
}

static struct proxy *proxy_to(struct fake *fake)
{
    return proxy_start("pool_mode = transaction\n[databases]\napp = %s\n", fake_route(fake));
}

static const char *server_protocol(struct proxy *proxy)
{
    PGresult *servers = proxy_show(proxy, "SERVERS");
    char *protocol = text_of("%s", PQntuples(servers) == 1
                                       ? PQgetvalue(servers, 0, PQfnumber(servers, "protocol"))
                                       : "not one server");

    PQclear(servers);
    return protocol;
}

SYSTEM_TEST(protocol, a_server_that_speaks_3_2_is_spoken_to_in_it)
{
    static struct role role = {.speaks = 2, .key_bytes = 260};
    struct proxy *proxy = proxy_to(fake_start(serve, &role));

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT 1"), "fake");
    cr_assert_eq(role.asked, 0x30002);
    cr_assert_str_eq(server_protocol(proxy), "3.2");
}

SYSTEM_TEST(protocol, a_long_key_of_a_server_is_sent_back_whole)
{
    static struct role role = {.speaks = 2, .key_bytes = 260};
    struct proxy *proxy = proxy_to(fake_start(hang, &role));
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT 1");
    cr_assert(
        until(proxy_figure(proxy, "POOLS", "database", "app", "sv_active") == 1, PATIENCE_MS));
    wire_cancel_at(proxy, wire->key, wire->key_bytes);
    cr_assert_has(wire_error(wire, PATIENCE_MS), "57014");
    cr_assert_eq(role.cancel_bytes, 260);
    cr_assert(role.cancel_right);
}

SYSTEM_TEST(protocol, a_server_that_negotiates_down_is_taken)
{
    static struct role role = {.speaks = 0, .key_bytes = 8};
    struct proxy *proxy = proxy_to(fake_start(serve, &role));

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT 1"), "fake");
    cr_assert_eq(role.asked, 0x30002);
    cr_assert_str_eq(server_protocol(proxy), "3.0");
}

SYSTEM_TEST(protocol, a_server_that_refuses_3_2_is_asked_for_3_0_at_once_and_from_then_on)
{
    static struct role role = {.speaks = 0, .refuses = true, .key_bytes = 8};
    struct proxy *proxy = proxy_to(fake_start(serve, &role));

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT 1"), "fake");
    cr_assert_eq(role.asked, 0x30000);
    proxy_do(proxy, "RECONNECT");
    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT 1"), "fake");
    cr_assert_eq(role.refused, 1);
    cr_assert_str_eq(server_protocol(proxy), "3.0");
}

SYSTEM_TEST(protocol, a_server_that_hangs_up_at_3_2_gets_3_0_next_time)
{
    static struct role role = {.speaks = 0, .leaves = true, .key_bytes = 8};
    struct proxy *proxy = proxy_to(fake_start(serve, &role));

    cr_assert_str_eq(client_value(client_open(proxy, NULL), "SELECT 1"), "fake");
    cr_assert_eq(role.refused, 1);
}

SYSTEM_TEST(protocol, a_server_without_a_key_and_one_with_a_wrong_one_serve_but_are_not_cancelled)
{
    static struct role wrong = {.speaks = 0, .key_bytes = 36}; /* too long for 3.0 */
    struct proxy *proxy = proxy_to(fake_start(serve, &wrong));
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "SELECT 1");
    cr_assert_str_eq(wire_value(wire, PATIENCE_MS), "fake");
    wire_cancel_at(proxy, wire->key, wire->key_bytes);
    cr_assert_eq(wrong.cancel_bytes, 0);
}

/* Answers with a version that nobody asked for, or an option that nobody did. */
static void lie(struct wire *wire, struct fake *fake)
{
    const unsigned char *body = fake->context;

    if (!fake_startup(wire, 'N'))
        return;
    wire_send(wire, 'v', body + 1, body[0]);
    fake_welcome(wire);
    fake_answer(wire, "liar");
}

SYSTEM_TEST(protocol, a_server_that_negotiates_nonsense_is_refused)
{
    static const unsigned char lies[][24] = {
        {8, 0, 3, 0, 3, 0, 0, 0, 0},                              /* newer than asked for */
        {8, 0, 4, 0, 0, 0, 0, 0, 0},                              /* another major version */
        {14, 0, 3, 0, 0, 0, 0, 0, 1, '_', 'p', 'q', '_', '.', 0}, /* an option */
        {3, 0, 3, 0},                                             /* cut */
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct proxy *proxy = proxy_to(fake_start(lie, lies[i]));

        cr_assert_has(client_refusal(proxy, NULL), "a protocol version that nobody asked for");
        proxy_stop(proxy);
    }
}
