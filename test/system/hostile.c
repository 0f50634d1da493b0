/*
 * hostile: clients that send whatever a connection can carry, beside innocent ones on the same pool.
 *
 *   hostile ──random messages, valid or not, cut anywhere──►┐
 *                                                           ├─ pool ─► PostgreSQL
 *   innocent ──queries whose answers nobody else can give──►┘
 *
 * An innocent client must never be disturbed: each of its answers is compared. A hostile one must
 * never hear a word of theirs, nor anything but whole messages. Between two pieces of a message it
 * waits until the innocent ones have gone on, so its server would be lent on if pgstage thought it
 * free. An operator reloads and reconnects meanwhile. In the end the pool has to be whole: nobody is
 * counted who has gone, no server that is not there, and as many transactions as it may have servers
 * run at a time.
 *
 * PGSTAGE_TEST_SEED repeats a run's choices, PGSTAGE_TEST_HOSTILE is how many seconds each test lasts.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/socket.h>

#include "innocent.h"
#include "system.h"

TestSuite(hostile, .fini = test_end, .timeout = 1800);

#define INNOCENT_COUNT 4
#define HOSTILE_COUNT 3
#define POOL_SIZE (INNOCENT_COUNT + HOSTILE_COUNT)
/* A hostile client hears no more than this of one connection. */
#define HEARD_MAX ((size_t)4 << 20)

struct arena {
    /* fixed */
    struct proxy *proxy;
    const char *role;
    bool session; /* pool_mode = session */
    struct trial trial;
    /* shared: atomic */
    _Atomic unsigned long connections; /* of all hostile clients */
};

/* ---- hostile clients ---- */

struct hostile {
    struct arena *arena;
    pthread_t thread;
    uint64_t random;
    struct wire *wire;
    struct bytes story, batch;
    struct bytes heard; /* the beginning of a message whose end has not come */
    bool ended;
    unsigned char key[8]; /* of BackendKeyData */
    bool has_key;
};

static unsigned chance(struct hostile *hostile, unsigned bound)
{
    hostile->random ^= hostile->random << 13;
    hostile->random ^= hostile->random >> 7;
    hostile->random ^= hostile->random << 17;
    return (unsigned)(hostile->random >> 33) % bound;
}

static bool percent(struct hostile *hostile, unsigned share)
{
    return chance(hostile, 100) < share;
}

__attribute__((format(printf, 2, 3))) static void tell(struct hostile *hostile, const char *format,
                                                       ...)
{
    char text[300];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bytes_add(&hostile->story, text, strlen(text));
}

static const char *const texts[] = {
    "SELECT 1",
    "SELECT $1",
    "SELECT 1; SELECT 2",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "SELECT 1/0",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELEC",
    "",
    ";;",
    "SET lock_timeout = 4711",
    "SET LOCAL lock_timeout = 4712",
    "SET search_path = evil",
    "SET datestyle = 'german'",
    "SELECT set_config('my.secret', 'leaked', false)",
    "RESET ALL",
    "DISCARD ALL",
    "PREPARE x AS SELECT 1",
    "DEALLOCATE ALL",
    "DEALLOCATE a",
    "CREATE TEMP TABLE evil (a int)",
    "LISTEN evil",
    "NOTIFY evil",
    "UNLISTEN *",
    "SELECT pg_try_advisory_lock(77)",
    "COPY hostile FROM STDIN",
    "COPY hostile FROM STDIN",
    "COPY hostile FROM STDIN; SELECT 1",
    "COPY (SELECT generate_series(1, 200)) TO STDOUT",
    "SELECT generate_series(1, 300)",
    "SELECT repeat('y', 60000)",
    "SELECT pg_sleep(0.01)",
    "DO $$ BEGIN RAISE NOTICE 'hello'; END $$",
    "DO $$ BEGIN RAISE WARNING '%', repeat('w', 20000); END $$",
    "SELECT pg_terminate_backend(pg_backend_pid())",
};

static const char *name_of(struct hostile *hostile)
{
    static const char *const names[] = {"", "", "a", "b", "pgstage_1"};

    return names[chance(hostile, sizeof names / sizeof *names)];
}

static void put(struct hostile *hostile, char type, const struct bytes *body)
{
    bytes_add(&hostile->batch, &type, 1);
    bytes_add32(&hostile->batch, (uint32_t)body->count + 4);
    bytes_add(&hostile->batch, body->data, body->count);
}

/* A body of this type as it should be. */
static void fill_body(struct hostile *hostile, char type, struct bytes *body)
{
    static const char kinds[] = "SP";
    const char *text = texts[chance(hostile, sizeof texts / sizeof *texts)];
    unsigned values = percent(hostile, 30) ? 1 : 0;

    switch (type) {
    case 'Q':
        bytes_add_text(body, text);
        break;
    case 'P':
        bytes_add_text(body, name_of(hostile));
        bytes_add_text(body, text);
        bytes_add16(body, 0);
        break;
    case 'B':
        bytes_add_text(body, percent(hostile, 70) ? "" : "p");
        bytes_add_text(body, name_of(hostile));
        bytes_add16(body, 0);
        bytes_add16(body, values);
        if (values) {
            bytes_add32(body, 1);
            bytes_add(body, "7", 1);
        }
        bytes_add16(body, 0);
        break;
    case 'D':
    case 'C':
        bytes_add(body, &kinds[chance(hostile, 2)], 1);
        bytes_add_text(body, name_of(hostile));
        break;
    case 'E':
        bytes_add_text(body, percent(hostile, 70) ? "" : "p");
        bytes_add32(body, chance(hostile, 3));
        break;
    case 'F':
        bytes_add32(body, percent(hostile, 50) ? 1397 : 1); /* int4abs */
        bytes_add16(body, 0);
        bytes_add16(body, 1);
        bytes_add32(body, 2);
        bytes_add(body, "-5", 2);
        bytes_add16(body, 0);
        break;
    case 'd':
        for (unsigned rows = chance(hostile, 50); rows > 0; rows--)
            bytes_add(body, percent(hostile, 97) ? "123\n" : "bad\n", 4);
        break;
    case 'f':
        bytes_add_text(body, "no more");
        break;
    default:
        break;
    }
}

/* Something with a length, a type or a body as nobody sends them. */
static void put_nonsense(struct hostile *hostile)
{
    static const uint32_t lengths[] = {0,   1,     3,          4,          5,
                                       100, 20000, 0x7fffffff, 0x80000000, 0xffffffff};
    char type = "QPBDECSHFdcfXpRZ~\0"[chance(hostile, 18)];
    struct bytes body = {0};
    unsigned count = chance(hostile, percent(hostile, 90) ? 40 : 30000);

    for (unsigned i = 0; i < count; i++) {
        char byte = (char)chance(hostile, percent(hostile, 50) ? 3 : 256);

        bytes_add(&body, &byte, 1);
    }
    tell(hostile, " nonsense %02x of %u", (unsigned char)type, count);
    if (percent(hostile, 60)) {
        put(hostile, type, &body);
    } else {
        bytes_add(&hostile->batch, &type, 1);
        bytes_add32(&hostile->batch, lengths[chance(hostile, 10)]);
        bytes_add(&hostile->batch, body.data, body.count);
    }
    free(body.data);
}

static void put_messages(struct hostile *hostile)
{
    for (unsigned count = 1 + chance(hostile, 12); count > 0; count--) {
        char type = "QQQPPPBBBDEEEESSSSCHFdddcfX"[chance(hostile, 27)];
        struct bytes body = {0};

        if (type == 'X' && percent(hostile, 80))
            continue;
        if (percent(hostile, 2)) {
            put_nonsense(hostile);
            continue;
        }
        fill_body(hostile, type, &body);
        if (percent(hostile, 2))
            body.count =
                chance(hostile, (unsigned)body.count + 1); /* cut, with a length that fits */
        tell(hostile, " %c", type);
        if (type == 'Q' || type == 'P')
            tell(hostile, "(%.40s)", body.count ? (char *)body.data + (type == 'P') : "");
        put(hostile, type, &body);
        free(body.data);
    }
    tell(hostile, "\n");
}

/* What it has heard are whole messages of a server's, and none of them speaks of others. */
static void judge_heard(struct hostile *hostile)
{
    const unsigned char *data = hostile->heard.data;
    size_t count = hostile->heard.count, at = 0;

    while (count - at >= 5) {
        size_t length = (size_t)data[at + 1] << 24 | (size_t)data[at + 2] << 16 |
                        (size_t)data[at + 3] << 8 | data[at + 4];

        if (!strchr("RSKZTDCEINnt123sGHdcAVv", data[at]) || data[at] == '\0' || length < 4 ||
            length > 200000) {
            trial_wrong(&hostile->arena->trial,
                        text_of("a hostile client heard %02x of %zu bytes after\n%.*s", data[at],
                                length, (int)hostile->story.count, (char *)hostile->story.data));
            break;
        }
        if (count - at < 1 + length)
            break;
        if (memmem(data + at, 1 + length, INNOCENT_MARK, strlen(INNOCENT_MARK)))
            trial_wrong(&hostile->arena->trial,
                        text_of("a hostile client heard the answer of another:\n%.*s after\n%.*s",
                                (int)length - 4, (const char *)data + at + 5,
                                (int)hostile->story.count, (char *)hostile->story.data));
        if (data[at] == 'K' && length == 4 + sizeof hostile->key) {
            memcpy(hostile->key, data + at + 5, sizeof hostile->key);
            hostile->has_key = true;
        }
        at += 1 + length;
    }
    if (at > 0)
        memmove(hostile->heard.data, hostile->heard.data + at, count - at);
    hostile->heard.count = count - at;
}

/* Reads what is there. */
static void hear(struct hostile *hostile)
{
    char piece[65536];
    ssize_t count = recv(hostile->wire->fd, piece, sizeof piece, MSG_DONTWAIT);

    if (count > 0) {
        bytes_add(&hostile->heard, piece, (size_t)count);
        judge_heard(hostile);
    }
    hostile->ended |= count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) ||
                      hostile->heard.count > HEARD_MAX;
}

/* Waits until the innocent clients have gone on by so many rounds, listening or not. */
static void wait_for_others(struct hostile *hostile, unsigned rounds, bool listening)
{
    struct arena *arena = hostile->arena;
    unsigned long enough = arena->trial.rounds + rounds;

    while (arena->trial.rounds < enough && !arena->trial.over && !hostile->ended) {
        struct pollfd wait = {.fd = hostile->wire->fd, .events = listening ? POLLIN : 0};

        if (poll(&wait, 1, 2) > 0 && listening)
            hear(hostile);
    }
}

/* Writes as much as is taken; who is not read may have to read first. */
static void send_piece(struct hostile *hostile, const unsigned char *bytes, size_t count)
{
    struct arena *arena = hostile->arena;
    unsigned long patience = arena->trial.rounds + 2000;

    while (count > 0 && !hostile->ended && !arena->trial.over && arena->trial.rounds < patience) {
        struct pollfd wait = {.fd = hostile->wire->fd, .events = POLLIN | POLLOUT};
        ssize_t sent;

        if (poll(&wait, 1, 10) <= 0)
            continue;
        if (wait.revents & (POLLIN | POLLERR | POLLHUP))
            hear(hostile);
        if (!(wait.revents & POLLOUT))
            continue;
        sent = send(hostile->wire->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            count -= (size_t)sent;
        } else if (errno != EAGAIN && errno != EINTR) {
            hostile->ended = true;
        }
    }
}

static void send_batch(struct hostile *hostile)
{
    size_t count = hostile->batch.count, at = 0;
    unsigned cuts = percent(hostile, 50) ? chance(hostile, 4) : 0;

    while (at < count && !hostile->ended) {
        size_t piece = cuts > 0 ? 1 + chance(hostile, (unsigned)(count - at)) : count - at;

        send_piece(hostile, hostile->batch.data + at, piece);
        at += piece;
        if (cuts > 0) {
            cuts--;
            wait_for_others(hostile, 1 + chance(hostile, 8), percent(hostile, 70));
        }
    }
    free(hostile->batch.data);
    hostile->batch = (struct bytes){0};
}

/* A cancel request of its own, which may come at any time, or of nobody; waited for or not. */
static void cancel(struct hostile *hostile)
{
    struct wire *wire = wire_open(hostile->arena->proxy);

    if (percent(hostile, 20))
        hostile->key[chance(hostile, 8)] ^= (unsigned char)(1 + chance(hostile, 255));
    tell(hostile, " cancels\n");
    wire_cancel_key(wire, hostile->key, sizeof hostile->key);
    if (percent(hostile, 50))
        (void)wire_is_closed(wire, PATIENCE_MS);
    wire_close(wire);
}

static void put_startup(struct hostile *hostile)
{
    static const char *const options[] = {"-c lock_timeout=4713", "-c datestyle=sql",
                                          "-c nonsense=1", "-c lock_timeout=nonsense", "--"};
    struct bytes packet;

    if (percent(hostile, 30))
        packet = startup_packet("user", hostile->arena->role, "database", "app", "options",
                                options[chance(hostile, 5)], NULL);
    else
        packet = startup_packet("user", hostile->arena->role, "database", "app", NULL);
    if (percent(hostile, 3))
        packet.data[chance(hostile, (unsigned)packet.count)] ^= (unsigned char)chance(hostile, 256);
    bytes_add(&hostile->batch, packet.data, packet.count);
    free(packet.data);
}

static void leave(struct hostile *hostile)
{
    static const unsigned char terminate[] = {'X', 0, 0, 0, 4};
    unsigned how = chance(hostile, 5);

    tell(hostile, " leaves in way %u\n", how);
    if (how == 0)
        send_piece(hostile, terminate, sizeof terminate);
    if (how == 1) {
        shutdown(hostile->wire->fd, SHUT_WR);
        wait_for_others(hostile, 20, true);
    }
    if (how == 2)
        wait_for_others(hostile, 20, true);
    if (how == 3)
        wire_reset(hostile->wire);
    else
        wire_close(hostile->wire);
    hostile->wire = NULL;
}

/* From its first byte to its last. */
static void play_connection(struct hostile *hostile)
{
    free(hostile->heard.data);
    free(hostile->story.data);
    hostile->heard = hostile->story = (struct bytes){0};
    hostile->ended = hostile->has_key = false;
    hostile->wire = wire_open(hostile->arena->proxy);
    put_startup(hostile);
    if (percent(hostile, 80))
        send_batch(hostile); /* else in one piece with what follows */
    for (unsigned batches = 1 + chance(hostile, 6); batches > 0 && !hostile->ended; batches--) {
        put_messages(hostile);
        send_batch(hostile);
        if (percent(hostile, 15) && hostile->has_key)
            cancel(hostile);
        if (percent(hostile, 60))
            wait_for_others(hostile, 1 + chance(hostile, 10), true);
    }
    leave(hostile);
    hostile->arena->connections++;
}

static void *hostile_main(void *argument)
{
    struct hostile *hostile = argument;

    while (!hostile->arena->trial.over)
        play_connection(hostile);
    free(hostile->story.data);
    free(hostile->heard.data);
    return NULL;
}

/* ---- the pool afterwards ---- */

static long pool_figure(struct arena *arena, const char *column)
{
    return proxy_figure(arena->proxy, "POOLS", "user", arena->role, column);
}

static long pool_servers(struct arena *arena)
{
    static const char *const columns[] = {"sv_active", "sv_active_cancel", "sv_being_canceled",
                                          "sv_idle",   "sv_used",          "sv_tested",
                                          "sv_login"};
    long sum = 0;

    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        sum += pool_figure(arena, columns[i]);
    return sum;
}

/* The connection that listens for all belongs to no client, and serves no query. */
static long listeners(PGconn *postgres, const struct arena *arena)
{
    return client_number(postgres, text_of("SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                           "'%s' AND query ~ '^(UN)?LISTEN \"'",
                                           arena->role));
}

/* Do all who count agree that there are so many clients, and that no server does anything? */
static bool is_quiet(struct arena *arena, PGconn *postgres, long clients, long busy)
{
    long servers = pool_servers(arena), active = pool_figure(arena, "sv_active");

    return pool_figure(arena, "cl_active") == clients && pool_figure(arena, "cl_waiting") == 0 &&
           proxy_rows(arena->proxy, "CLIENTS", "user", arena->role) == clients &&
           proxy_rows(arena->proxy, "SERVERS", "user", arena->role) == servers &&
           (active == busy || active == busy + listeners(postgres, arena)) &&
           pool_figure(arena, "sv_idle") == servers - active &&
           client_number(postgres, text_of("SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                           "'%s' AND state = 'idle'",
                                           arena->role)) == servers &&
           client_number(postgres, text_of("SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                           "'%s'",
                                           arena->role)) == servers;
}

static void expect_quiet(struct arena *arena, PGconn *postgres, long clients, long busy)
{
    cr_assert(until(is_quiet(arena, postgres, clients, busy), PATIENCE_MS),
              "%ld clients expected: cl_active=%ld cl_waiting=%ld SHOW CLIENTS=%ld sv_active=%ld "
              "sv_idle=%ld all=%ld SHOW SERVERS=%ld PostgreSQL=%ld",
              clients, pool_figure(arena, "cl_active"), pool_figure(arena, "cl_waiting"),
              proxy_rows(arena->proxy, "CLIENTS", "user", arena->role),
              pool_figure(arena, "sv_active"), pool_figure(arena, "sv_idle"), pool_servers(arena),
              proxy_rows(arena->proxy, "SERVERS", "user", arena->role),
              client_number(postgres, text_of("SELECT count(*) FROM pg_stat_activity WHERE usename "
                                              "= '%s'",
                                              arena->role)));
    cr_assert_leq(pool_servers(arena), POOL_SIZE + listeners(postgres, arena));
}

/* No place is lost: as many clients as the pool may have servers have one at a time, and no more. */
static void expect_whole(struct arena *arena, PGconn *postgres)
{
    PGconn *clients[POOL_SIZE + 1];

    for (int i = 0; i <= POOL_SIZE; i++)
        clients[i] = client_open(arena->proxy, text_of("user=%s", arena->role));
    for (int i = 0; i < POOL_SIZE; i++)
        client_do(clients[i], "BEGIN");
    client_start(clients[POOL_SIZE], "SELECT 'last'");
    cr_assert(until(pool_figure(arena, "cl_waiting") == 1, PATIENCE_MS));
    cr_expect_eq(client_number(postgres, text_of("SELECT count(*) FROM pg_stat_activity WHERE "
                                                 "usename = '%s' AND state = 'idle in transaction'",
                                                 arena->role)),
                 POOL_SIZE);
    client_do(clients[0], "COMMIT");
    PQfinish(clients[0]);
    cr_expect_str_eq(client_finish(clients[POOL_SIZE], PATIENCE_MS), "");
    for (int i = 1; i <= POOL_SIZE; i++)
        PQfinish(clients[i]);
    expect_quiet(arena, postgres, 0, 0);
}

/* ---- the tests ---- */

static void make_role(PGconn *postgres, const char *role)
{
    client_do(postgres, "SET client_min_messages = warning");
    client_do(postgres,
              text_of("SELECT pg_advisory_xact_lock(99); DROP ROLE IF EXISTS %s; CREATE ROLE "
                      "%s LOGIN; CREATE TABLE IF NOT EXISTS hostile (a int); GRANT ALL ON "
                      "hostile TO PUBLIC",
                      role, role));
}

/* An operator who leaves nothing as it is, until `deadline_ms`; a busy machine may need longer to do
 * anything at all. */
static void operate(struct arena *arena, int64_t deadline_ms)
{
    static const char *const commands[] = {"RECONNECT", "RELOAD", "SHOW CLIENTS", "SHOW SERVERS",
                                           "SHOW POOLS"};
    int64_t patience_ms = deadline_ms + PATIENCE_MS;

    for (unsigned i = 0; !arena->trial.over; i++) {
        unsigned long rounds = arena->trial.rounds;
        bool enough = arena->connections >= 20 && rounds >= 100;

        if (now_ms() >= (enough ? deadline_ms : patience_ms))
            return;
        proxy_do(arena->proxy, commands[i % (sizeof commands / sizeof *commands)]);
        (void)until(arena->trial.over || arena->trial.rounds > rounds + 20, 1000);
    }
}

static void fight(const char *mode, const char *settings)
{
    unsigned long seed = trial_number("PGSTAGE_TEST_SEED", (unsigned long)now_ms());
    int ms = (int)trial_number("PGSTAGE_TEST_HOSTILE", 4) * 1000;
    struct arena arena = {.role = text_of("hostile_%s", mode),
                          .session = strcmp(mode, "session") == 0};
    struct innocent innocents[INNOCENT_COUNT];
    struct hostile hostiles[HOSTILE_COUNT];
    PGconn *postgres = cluster_connect(cluster_shared(), "app");

    make_role(postgres, arena.role);
    pthread_mutex_init(&arena.trial.mutex, NULL);
    proxy_set_users(text_of("\"admin\" \"secret\"\n\"%s\" \"secret\"\n", arena.role));
    arena.proxy = proxy_start(
        "pool_mode = %s\ndefault_pool_size = %d\nmax_client_conn = 100\nquery_wait_notify = 0\n%s"
        "log_connections = 0\nlog_disconnections = 0\n",
        mode, POOL_SIZE, settings);
    for (int i = 0; i < INNOCENT_COUNT; i++) {
        innocent_start(&innocents[i], &arena.trial, i,
                       client_open(arena.proxy, text_of("user=%s", arena.role)));
    }
    for (int i = 0; i < HOSTILE_COUNT; i++) {
        hostiles[i] = (struct hostile){.arena = &arena,
                                       .random = (seed + (unsigned)i) * 0x9e3779b97f4a7c15u + 1};
        cr_assert_eq(pthread_create(&hostiles[i].thread, NULL, hostile_main, &hostiles[i]), 0);
    }
    operate(&arena, now_ms() + ms);
    arena.trial.over = true;
    for (int i = 0; i < HOSTILE_COUNT; i++)
        pthread_join(hostiles[i].thread, NULL);
    for (int i = 0; i < INNOCENT_COUNT; i++)
        pthread_join(innocents[i].thread, NULL);
    fprintf(stderr, "%s: %lu rounds of innocent clients, %lu hostile connections (seed %lu)\n",
            mode, (unsigned long)arena.trial.rounds, (unsigned long)arena.connections, seed);
    cr_assert_null(arena.trial.wrong, "pool_mode = %s, seed %lu: %s", mode, seed,
                   arena.trial.wrong);
    cr_assert_geq(arena.connections, 20);
    cr_assert_geq(arena.trial.rounds, 100);
    expect_quiet(&arena, postgres, INNOCENT_COUNT, arena.session ? INNOCENT_COUNT : 0);
    for (int i = 0; i < INNOCENT_COUNT; i++)
        PQfinish(innocents[i].conn);
    expect_quiet(&arena, postgres, 0, 0);
    expect_whole(&arena, postgres);
    PQfinish(postgres);
}

SYSTEM_TEST(hostile, nobody_is_disturbed_in_transaction_mode)
{
    fight("transaction", "max_prepared_statements = 3\n");
}

SYSTEM_TEST(hostile, nobody_is_disturbed_in_session_mode)
{
    fight("session", "");
}
