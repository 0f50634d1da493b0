/*
 * liar: servers that say whatever a connection can carry, beside an innocent pool on a real one.
 *
 *   innocent ──queries whose answers nobody else can give──► pool ─► PostgreSQL
 *   victim ──queries, batches, COPY, LISTEN, cancels───────► pool ─► a liar: honest answers, and
 *                                                                    lies of every kind among them
 *
 * Whatever a liar does, each victim hears whole messages and is answered or ended in time, no
 * innocent client is disturbed, and pgstage goes on: when the liars tell the truth again their pool
 * serves, nobody is counted who has gone, and nothing spins.
 *
 * PGSTAGE_TEST_SEED repeats a run's choices, PGSTAGE_TEST_HOSTILE is how many seconds each test lasts.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "fake.h"
#include "innocent.h"
#include "system.h"

TestSuite(liar, .fini = test_end, .timeout = 1800);

#define INNOCENT_COUNT 2
#define VICTIM_COUNT 12
#define POOL_SIZE 5

struct scene {
    /* fixed */
    struct proxy *proxy;
    struct fake *fake;
    struct trial trial;
    uint64_t seed;
    /* shared: atomic */
    _Atomic unsigned long connections; /* to the liar; each has choices of its own */
    _Atomic unsigned long lies, answers, ends;
    _Atomic bool honest;
};

static unsigned chance(uint64_t *random, unsigned bound)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (unsigned)(*random >> 33) % bound;
}

static bool percent(uint64_t *random, unsigned share)
{
    return chance(random, 100) < share;
}

/* ---- the liar ---- */

struct liar {
    struct scene *scene;
    struct wire *wire;
    uint64_t random;
};

/* A header that need not fit what comes behind it. */
static void put_head(struct liar *liar, char type, uint32_t length)
{
    const unsigned char head[] = {(unsigned char)type, (unsigned char)(length >> 24),
                                  (unsigned char)(length >> 16), (unsigned char)(length >> 8),
                                  (unsigned char)length};

    wire_write(liar->wire, head, sizeof head);
}

static void put_parameter(struct liar *liar, unsigned number)
{
    char body[64];
    int length = snprintf(body, sizeof body, "odd.parameter%u", number) + 1;

    length += snprintf(body + length, sizeof body - (size_t)length, "value %u", number) + 1;
    wire_send(liar->wire, 'S', body, (size_t)length);
}

static void put_row(struct liar *liar, const char *value)
{
    struct bytes row = {0};

    bytes_add16(&row, 1);
    bytes_add32(&row, (uint32_t)strlen(value));
    bytes_add(&row, value, strlen(value));
    wire_send(liar->wire, 'D', row.data, row.count);
    free(row.data);
}

static void put_columns(struct liar *liar)
{
    wire_send(liar->wire, 'T', "\0\1v\0\0\0\0\0\0\0\0\0\0\031\377\377\377\377\377\377\0\0", 22);
}

/* Something of any type, whole, with a body of zeros or of anything. */
static void put_noise(struct liar *liar)
{
    unsigned char body[600];
    unsigned count = chance(&liar->random, sizeof body);

    for (unsigned i = 0; i < count; i++)
        body[i] = percent(&liar->random, 50) ? 0 : (unsigned char)chance(&liar->random, 256);
    wire_send(liar->wire, (char)chance(&liar->random, 256), body, count);
}

/* False: the connection is over. */
static bool lie(struct liar *liar)
{
    static const char types[] = "ZTDCEN123nstGHWcdAKRSVvI";
    static const uint32_t lengths[] = {0, 1, 3, 5, 100, 70000, 0x7fffffff, 0x80000000, 0xffffffff};
    struct wire *wire = liar->wire;
    uint64_t *random = &liar->random;
    char type = types[chance(random, sizeof types - 1)];

    liar->scene->lies++;
    switch (chance(random, 20)) {
    case 0:
        wire_send(wire, 'Z', "I", 1);
        return true;
    case 1:
        wire_send(wire, 'Z', &"ITE?"[chance(random, 4)], 1);
        return true;
    case 2:
        put_head(liar, type, lengths[chance(random, 9)]);
        return percent(random, 50);
    case 3:
        put_noise(liar);
        return true;
    case 4: /* any type that there is, with nothing in it */
        wire_send(wire, type, "", 0);
        return true;
    case 5:
        fake_error(wire, percent(random, 50) ? "FATAL" : "ERROR",
                   percent(random, 50) ? "57P01" : "XX000", "a lie");
        return percent(random, 50);
    case 6:
        wire_send(wire, "WGH"[chance(random, 3)], "\0\0\0", 3);
        return true;
    case 7:
        wire_send(wire, 'A', "\0\0\0\1odd\0payload\0", 16);
        return true;
    case 8:
        for (unsigned i = chance(random, 3000); i > 0; i--)
            put_parameter(liar, i % 500);
        return true;
    case 9:
        for (unsigned i = chance(random, 500); i > 0; i--)
            wire_send(wire, 'N', "SNOTICE\0C00000\0Mnoise\0", 23);
        return true;
    case 10:
        put_row(liar, "a row of nothing");
        return true;
    case 11:
        wire_send(wire, 'K', "\0\0\0\1\0\0\0\2", 8);
        return true;
    case 12:
        wire_send(wire, 'R', "\0\0\0\3", 4);
        return true;
    case 13: /* half a message, and the end */
        put_head(liar, 'D', 1000);
        wire_write(wire, "\0\1\0", 3);
        return false;
    case 14:
        put_columns(liar);
        for (unsigned i = chance(random, 2000); i > 0; i--)
            put_row(liar, "one of very many rows that nobody has asked for");
        return true;
    case 15: /* an answer, one byte at a time */
        for (const char *at = "C\0\0\0\rSELECT 1\0Z\0\0\0\5I"; at[0] != 'I'; at++)
            wire_write(wire, at, 1);
        wire_write(wire, "I", 1);
        return true;
    case 16:
        wire_send(wire, 'c', "", 0);
        return true;
    case 17: /* the middle of its answer, and then silence */
        put_columns(liar);
        put_head(liar, 'D', 200);
        wire_write(wire, "\0\1", 2);
        fake_hang(wire);
        return false;
    case 18:
        setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        return false; /* reset, not ended, when it is closed */
    default:
        return false;
    }
}

static void answer_query(struct liar *liar)
{
    put_columns(liar);
    put_row(liar, "an honest answer");
    wire_send(liar->wire, 'C', "SELECT 1", 9);
    wire_send(liar->wire, 'Z', "I", 1);
}

static void answer(struct liar *liar, char type)
{
    static const char types[] = "PBDECHSFdcf", answers[] = "12nC3\0ZV\0\0\0";
    const char *at = strchr(types, type);
    char reply = at && *at ? answers[at - types] : '\0';

    if (type == 'Q')
        answer_query(liar);
    else if (reply == 'C')
        wire_send(liar->wire, 'C', "SELECT 0", 9);
    else if (reply == 'Z')
        wire_send(liar->wire, 'Z', "I", 1);
    else if (reply == 'V')
        wire_send(liar->wire, 'V', "\377\377\377\377", 4), wire_send(liar->wire, 'Z', "I", 1);
    else if (reply)
        wire_send(liar->wire, reply, "", 0);
}

/* False: the connection is over. */
static bool say_welcome(struct liar *liar)
{
    static const unsigned char methods[] = {0, 2, 3, 5, 7, 8, 9, 10, 11, 12, 200};
    struct wire *wire = liar->wire;
    uint64_t *random = &liar->random;
    unsigned char code[4 + 30] = {0};

    if (liar->scene->honest || percent(random, 80)) {
        fake_welcome(wire);
        return true;
    }
    switch (chance(random, 5)) {
    case 0: /* a way to log in that there is not, or that comes to nothing */
        code[3] = methods[chance(random, sizeof methods)];
        memcpy(code + 4, "SCRAM-SHA-256\0", 15);
        wire_send(wire, 'R', code, percent(random, 50) ? 4 : 4 + chance(random, 20));
        return percent(random, 70);
    case 1: /* a key of any length, and a state that nobody begins with */
        wire_send(wire, 'R', "\0\0\0\0", 4);
        wire_send(wire, 'K', code, chance(random, sizeof code));
        wire_send(wire, 'Z', &"ITEx"[chance(random, 4)], 1);
        return true;
    case 2:
        wire_send(wire, 'R', "\0\0\0\0", 4);
        for (unsigned i = chance(random, 5000); i > 0; i--)
            put_parameter(liar, i);
        wire_send(wire, 'Z', "I", 1);
        return true;
    case 3:
        fake_error(wire, "FATAL", "28P01", "a lie about a password");
        return false;
    default:
        return lie(liar);
    }
}

static bool is_told_the_truth(struct liar *liar)
{
    return liar->scene->honest || percent(&liar->random, 80);
}

static void serve(struct wire *wire, struct fake *fake)
{
    struct scene *scene = (struct scene *)(uintptr_t)fake->context;
    unsigned long number = scene->connections++;
    struct liar liar = {scene, wire, (scene->seed + number) * 0x9e3779b97f4a7c15u + 1};
    char ssl = scene->honest || percent(&liar.random, 95) ? 'N' : "S\0E~"[chance(&liar.random, 4)];
    struct wire_message message;

    if (!fake_startup(wire, ssl)) {
        if (wire->fd >= 0 && ssl == 'S') /* no handshake that anybody knows */
            wire_write(wire, "no TLS at all, but bytes", 24);
        return;
    }
    if (!say_welcome(&liar))
        return;
    while (!wire->ended) {
        if (!is_told_the_truth(&liar) && percent(&liar.random, 20) && !lie(&liar))
            return; /* nobody has asked */
        if (!wire_read(wire, &message, 1000 * TEST_LIMIT_S))
            return;
        free(message.body);
        if (message.type == 'X')
            return;
        if (is_told_the_truth(&liar))
            answer(&liar, message.type);
        else if (!lie(&liar))
            return;
        else if (percent(&liar.random, 50))
            answer(&liar, message.type); /* a lie before, or in place of, the truth */
    }
}

/* ---- its victims ---- */

struct victim {
    struct scene *scene;
    pthread_t thread;
    uint64_t random;
    struct wire *wire;
    bool extended;      /* its last question */
    bool passes;        /* a replication connection: bytes pass both ways, however long it takes */
    struct bytes story; /* of its connection: what it asked and heard */
    unsigned char key[8];
    bool has_key;
};

static void note(struct victim *victim, const char *text)
{
    bytes_add(&victim->story, text, strlen(text));
}

/* Hears one message. False: the connection has ended, or something is wrong. */
static bool hear(struct victim *victim, char *type)
{
    struct wire *wire = victim->wire;
    struct trial *trial = &victim->scene->trial;
    size_t tail = victim->story.count < 300 ? victim->story.count : 300;
    struct wire_message message;

    if (!wire_read(wire, &message, victim->passes ? 3000 : PATIENCE_MS)) {
        if (!wire->ended && !victim->passes)
            trial_wrong(trial, text_of("a victim was neither answered nor ended:%.*s", (int)tail,
                                       (char *)victim->story.data + victim->story.count - tail));
        victim->scene->ends++;
        return false;
    }
    *type = message.type;
    note(victim, (char[]){*type, '\0'});
    if (memmem(message.body, message.length, INNOCENT_MARK, strlen(INNOCENT_MARK)))
        trial_wrong(trial, text_of("a victim heard an answer of the other pool"));
    if (message.type == 'K' && message.length == sizeof victim->key) {
        memcpy(victim->key, message.body, sizeof victim->key);
        victim->has_key = true;
    }
    free(message.body);
    return true;
}

/* … up to ReadyForQuery; what asks for data gets none. */
static bool hear_all(struct victim *victim)
{
    char type = 0;

    while (type != 'Z') {
        if (!hear(victim, &type))
            return false;
        if (type == 'G' || type == 'W')
            wire_send(victim->wire, 'f', "none", 5);
        if ((type == 'G' || type == 'W') && victim->extended)
            wire_sync(victim->wire); /* what came before it was not heard while data was awaited */
    }
    victim->scene->answers++;
    return true;
}

static void ask(struct victim *victim)
{
    static const char *const texts[] = {"SELECT 1", "BEGIN",       "COMMIT",
                                        "",         "LISTEN a",    "COPY t FROM STDIN",
                                        "SELECT 2", "SET a.b = 1", "SET search_path = x"};
    struct wire *wire = victim->wire;
    uint64_t *random = &victim->random;
    const char *text = texts[chance(random, sizeof texts / sizeof *texts)];
    const char *name = percent(random, 50) ? "" : "named";

    note(victim, " ");
    note(victim, text);
    victim->extended = percent(random, 50);
    if (!victim->extended) {
        note(victim, " Q:");
        wire_query(wire, text);
        return;
    }
    note(victim, " PBES:");
    wire_parse(wire, name, text);
    wire_bind(wire, "", name, NULL);
    if (percent(random, 50))
        wire_describe(wire, 'P', "");
    wire_execute(wire, "", 0);
    if (percent(random, 30))
        wire_close_name(wire, 'S', name);
    wire_sync(wire);
}

static void play_connection(struct victim *victim)
{
    uint64_t *random = &victim->random;
    struct bytes packet;

    victim->passes = percent(random, 5);
    packet = startup_packet("user", "app", "database", "lies", "replication",
                            victim->passes ? "database" : "off", NULL);
    victim->wire = wire_open(victim->scene->proxy);
    victim->has_key = false;
    free(victim->story.data);
    victim->story = (struct bytes){0};
    wire_write(victim->wire, packet.data, packet.count);
    free(packet.data);
    for (unsigned questions = 1 + chance(random, 20);
         questions > 0 && hear_all(victim) && !victim->scene->trial.over; questions--) {
        ask(victim);
        if (victim->has_key && percent(random, 5))
            wire_cancel_at(victim->scene->proxy, victim->key, sizeof victim->key);
    }
    if (percent(random, 30))
        wire_reset(victim->wire);
    else
        wire_close(victim->wire);
}

static void *victim_main(void *argument)
{
    struct victim *victim = argument;

    while (!victim->scene->trial.over)
        play_connection(victim);
    free(victim->story.data);
    return NULL;
}

/* ---- afterwards ---- */

/* Hundredths of a second that it has computed. */
static long computed(const struct proxy *proxy)
{
    char *path = text_of("/proc/%d/stat", (int)proxy->pid);
    FILE *file = fopen(path, "re");
    long user = 0, system = 0;

    cr_assert(file, "%s", path);
    cr_assert_eq(fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld",
                        &user, &system),
                 2);
    fclose(file);
    return user + system;
}

static bool rests(const struct proxy *proxy)
{
    long before = computed(proxy);

    pause_ms(500);
    return computed(proxy) - before < 15;
}

static bool serves(const struct proxy *proxy)
{
    PGconn *conn = client_try(proxy, "dbname=lies");
    PGresult *result = PQexec(conn, "SELECT 1");
    bool served = PQresultStatus(result) == PGRES_TUPLES_OK &&
                  strcmp(PQgetvalue(result, 0, 0), "an honest answer") == 0;

    PQclear(result);
    PQfinish(conn);
    return served;
}

static long lies_figure(const struct scene *scene, const char *column)
{
    return proxy_figure(scene->proxy, "POOLS", "database", "lies", column);
}

static void expect_whole(struct scene *scene)
{
    cr_assert(until(proxy_rows(scene->proxy, "CLIENTS", "database", "lies") == 0, PATIENCE_MS));
    cr_assert(until(lies_figure(scene, "cl_active") + lies_figure(scene, "cl_waiting") == 0,
                    PATIENCE_MS));
    cr_assert(until(rests(scene->proxy), PATIENCE_MS), "it goes on computing for nobody");
    scene->honest = true;
    proxy_do(scene->proxy, "RECONNECT");
    cr_assert(until(serves(scene->proxy), PATIENCE_MS), "the pool does not serve any more");
    cr_assert_leq(proxy_rows(scene->proxy, "SERVERS", "database", "lies"), POOL_SIZE + 1);
}

static void fight(const char *mode)
{
    int ms = (int)trial_number("PGSTAGE_TEST_HOSTILE", 4) * 1000;
    static struct scene scene; /* the liar's threads outlast the test */
    struct innocent innocents[INNOCENT_COUNT];
    struct victim victims[VICTIM_COUNT];
    int64_t deadline_ms = now_ms() + ms;

    scene.seed = trial_number("PGSTAGE_TEST_SEED", (unsigned long)now_ms());
    pthread_mutex_init(&scene.trial.mutex, NULL);
    scene.fake = fake_start(serve, &scene);
    scene.proxy =
        proxy_start("pool_mode = %s\ndefault_pool_size = %d\n"
                    "query_wait_timeout = 2\nserver_login_retry = 0\n"
                    "server_connect_timeout = 2\ncancel_wait_timeout = 2\n"
                    "query_wait_notify = 0\nlog_connections = 0\n"
                    "log_disconnections = 0\n[databases]\napp = %s\nlies = %s query_timeout=1\n",
                    mode, POOL_SIZE, cluster_route(cluster_shared()), fake_route(scene.fake));
    for (int i = 0; i < INNOCENT_COUNT; i++)
        innocent_start(&innocents[i], &scene.trial, i, client_open(scene.proxy, NULL));
    for (int i = 0; i < VICTIM_COUNT; i++) {
        victims[i] = (struct victim){
            .scene = &scene, .random = (scene.seed - (unsigned)i) * 0x9e3779b97f4a7c15u + 1};
        cr_assert_eq(pthread_create(&victims[i].thread, NULL, victim_main, &victims[i]), 0);
    }
    (void)until(scene.trial.over ||
                    (now_ms() >= deadline_ms && scene.lies > 50 && scene.trial.rounds > 50),
                ms + PATIENCE_MS);
    scene.trial.over = true;
    for (int i = 0; i < VICTIM_COUNT; i++)
        pthread_join(victims[i].thread, NULL);
    for (int i = 0; i < INNOCENT_COUNT; i++)
        pthread_join(innocents[i].thread, NULL);
    fprintf(stderr,
            "%s: %lu rounds of innocent clients, %lu lies on %lu connections, %lu answers, "
            "%lu ends (seed %lu)\n",
            mode, (unsigned long)scene.trial.rounds, (unsigned long)scene.lies,
            (unsigned long)scene.connections, (unsigned long)scene.answers,
            (unsigned long)scene.ends, (unsigned long)scene.seed);
    cr_assert_null(scene.trial.wrong, "pool_mode = %s, seed %lu: %s", mode,
                   (unsigned long)scene.seed, scene.trial.wrong);
    cr_assert_gt(scene.lies, 50);
    cr_assert_gt(scene.answers, 50);
    cr_assert_gt(scene.trial.rounds, 50);
    for (int i = 0; i < INNOCENT_COUNT; i++) {
        cr_assert_eq(PQstatus(innocents[i].conn), CONNECTION_OK);
        PQfinish(innocents[i].conn);
    }
    expect_whole(&scene);
}

SYSTEM_TEST(liar, nobody_is_disturbed_in_transaction_mode)
{
    fight("transaction");
}

SYSTEM_TEST(liar, nobody_is_disturbed_in_session_mode)
{
    fight("session");
}

/* `context`: the type of its answer to everything but the first Parse and its Sync. */
static void serve_other_answers(struct wire *wire, struct fake *fake)
{
    struct wire_message message;
    bool ready = false;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    while (wire_read(wire, &message, 1000 * TEST_LIMIT_S)) {
        free(message.body);
        if (strchr("QP", message.type))
            wire_send(wire, ready ? *(const char *)fake->context : '1', "", 0);
        if (message.type == 'S' && !ready)
            wire_send(wire, 'Z', "I", 1);
        ready = ready || message.type == 'S';
    }
}

static void ask_for_a_change(struct wire *wire, bool extended, const char *name)
{
    if (!extended) {
        wire_query(wire, "SET a.b = 1");
        return;
    }
    wire_parse(wire, name, text_of("SET a.b = '%s'", name));
    wire_sync(wire);
}

/* A pool in transaction mode on that liar alone. */
static struct proxy *before(const struct fake *fake, const char *options)
{
    return proxy_start("pool_mode = transaction\n%s[databases]\napp = %s\n", options,
                       fake_route(fake));
}

SYSTEM_TEST(liar, an_answer_to_another_question_ends_the_server_and_nobody_else)
{
    SKIP_ON_PGBOUNCER();
    static const char *const answers[] = {"1", "2", "3", "2", "3"};

    for (unsigned i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct fake *fake = fake_start(serve_other_answers, answers[i]);
        struct proxy *proxy = before(fake, "server_login_retry = 0\n");
        struct wire *wire = wire_client(proxy);
        bool extended = i > 2;
        char *error;

        ask_for_a_change(wire, true, "known");
        cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "1Z");
        ask_for_a_change(wire, extended, "new");
        error = wire_error(wire, PATIENCE_MS);
        cr_assert(strstr(error, extended ? "57P01" : "08007"), "answer %s to a %s: %s", answers[i],
                  extended ? "Parse" : "Query", error);
        cr_assert(until(proxy_logged(proxy, "unexpected message from server"), PATIENCE_MS));
        wire_login(wire_open(proxy), "app", "app");
        proxy_stop(proxy);
    }
}

/* Begins a COPY, refuses what comes, and never says that it is ready again. */
static void serve_endless_copy(struct wire *wire, struct fake *fake)
{
    struct wire_message message;

    (void)fake;
    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    while (wire_read(wire, &message, 1000 * TEST_LIMIT_S)) {
        free(message.body);
        if (strchr("PB", message.type))
            wire_send(wire, message.type == 'P' ? '1' : '2', "", 0);
        else if (message.type == 'E')
            wire_send(wire, 'G', "\0\0\0", 3);
        else if (message.type == 'f')
            fake_error(wire, "ERROR", "57014", "COPY failed");
    }
}

SYSTEM_TEST(liar, a_copy_without_an_end_is_ended_by_query_timeout)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(serve_endless_copy, NULL);
    struct proxy *proxy = before(fake, "query_timeout = 1\n");
    struct wire *wire = wire_client(proxy);

    wire_parse(wire, "", "COPY t FROM STDIN");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    cr_assert_str_eq(wire_types(wire, 'G', PATIENCE_MS), "12G");
    wire_send(wire, 'f', "none", 5);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "EE!");
}

/* Says ERROR to a Bind, and `context` behind it. */
static void serve_error_and(struct wire *wire, struct fake *fake)
{
    const char *what = fake->context;
    struct wire_message message;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    while (wire_read(wire, &message, 1000 * TEST_LIMIT_S)) {
        free(message.body);
        if (message.type == 'P')
            wire_send(wire, '1', "", 0);
        if (message.type == 'B')
            fake_error(wire, "ERROR", "XX000", "a lie");
        if (message.type != what[0])
            continue;
        if (what[1] == '.')
            return;
        if (what[1] != ' ')
            wire_send(wire, what[1], "", 0);
    }
}

SYSTEM_TEST(liar, a_batch_that_has_failed_has_an_end_whatever_comes_then)
{
    SKIP_ON_PGBOUNCER();
    static const char *const cases[] = {"B.", "E.", "S.", "BC", "EC", "SC", "SZ",
                                        "E2", "BE", "EE", "SE", "S ", "BA", "Ew"};

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            struct fake *fake = fake_start(serve_error_and, cases[i]);
            struct proxy *proxy =
                before(fake, "server_login_retry = 0\nquery_timeout = 1\nquery_wait_timeout = 3\n");
            struct wire *wire = wire_client(proxy);
            char *types;

            wire_cork(wire, !pieces);
            wire_parse(wire, "", "COMMIT");
            wire_bind(wire, "", "", NULL);
            wire_execute(wire, "", 0);
            wire_sync(wire);
            wire_cork(wire, false);
            types = wire_types(wire, 'Z', 10000);
            cr_expect(strpbrk(types, "Z!"), "%s, %d: %s", cases[i], pieces, types);
            proxy_stop(proxy);
        }
    }
}

/* Takes a parameter once; later it begins a COPY in place of that, and is gone. */
static void serve_copy_for_a_parameter(struct wire *wire, struct fake *fake)
{
    bool first = fake->accepted == 1;
    struct wire_message message;

    if (!fake_startup(wire, 'N'))
        return;
    fake_welcome(wire);
    while (wire_read(wire, &message, 1000 * TEST_LIMIT_S)) {
        bool sets = memmem(message.body, message.length, "application_name", 16);

        free(message.body);
        if (message.type != 'Q')
            continue;
        if (sets && !first)
            wire_send(wire, 'G', "\0\0\0", 3);
        else if (sets)
            wire_send(wire, 'S', "application_name\0mine", 22);
        if (!sets || !first)
            break;
        wire_send(wire, 'C', "SET", 4);
        wire_send(wire, 'Z', "I", 1);
    }
    if (first) {
        wire_send(wire, 'C', "SELECT 0", 9);
        wire_send(wire, 'Z', "I", 1);
    }
}

SYSTEM_TEST(liar, a_copy_in_place_of_a_parameter_leaves_no_batch_without_an_end)
{
    SKIP_ON_PGBOUNCER();
    struct fake *fake = fake_start(serve_copy_for_a_parameter, NULL);
    struct proxy *proxy = before(fake, "server_login_retry = 0\n");
    struct bytes packet =
        startup_packet("user", "app", "database", "app", "application_name", "mine", NULL);
    struct wire *wire = wire_open(proxy);

    wire_write(wire, packet.data, packet.count);
    (void)wire_types(wire, 'Z', PATIENCE_MS);
    wire_query(wire, "SELECT 1");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    wire_cork(wire, true);
    wire_parse(wire, "", "SELECT 1");
    wire_bind(wire, "", "", NULL);
    wire_execute(wire, "", 0);
    wire_sync(wire);
    wire_cork(wire, false);
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "EZ");
    cr_assert_gt(fake->accepted, 1);
}
