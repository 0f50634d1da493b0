/*
 * differential: the same random messages to PostgreSQL directly and through pgstage, answer by
 * answer.
 *
 *            ┌──► PostgreSQL, database db2          what it says ─┐
 *   player ──┤                                                    ├─ must be the same
 *            └──► pgstage ──► PostgreSQL, database app ───────────┘
 *
 * Several players at a time (processes of their own, with several clients each) share a few servers
 * in transaction mode, whose sets of prepared statements are kept so small that they are always
 * full. A sequence is a list of batches: Parse, Bind, Describe, Execute, Close of a handful of
 * names, Query, FunctionCall, COPY both ways, Flush, errors anywhere, cancels, clients that vanish
 * in the middle, and parameters that are set, undone and looked at. Each batch is written at once, or cut anywhere; its answers are compared as
 * text.
 *
 * PGSTAGE_TEST_SEQUENCES is how many sequences are played, PGSTAGE_TEST_SEED the first seed: a
 * failure shows the seed and what was sent; the same seed sends the same again.
 */
#include "system.h"

#include <errno.h>
#include <sys/wait.h>

#include "pgstage/session/transaction.h"
#include "transcript.h"

TestSuite(differential, .timeout = 1800);

#define PLAYERS 3
#define CLIENTS 4 /* of each player */
#define NAMES 6
#define TABLES 6 /* of each client: a new one when it is not known what became of the last */

struct side {
    struct wire *wire;
    struct transaction owed; /* of the direct side: tells when a batch is answered */
};

struct client {
    unsigned number; /* its table and its values: no other client of any test has it */
    unsigned tables; /* how many it has used up */
    struct side direct, pooled;
    bool parsed; /* an unnamed statement is there on both sides */
};

struct player {
    struct proxy *proxy;
    int direct_port;
    uint64_t seed, random;
    struct client clients[CLIENTS];
    struct client *client; /* whose turn it is */
    struct bytes batch;    /* the bytes of the messages */
    struct bytes types;    /* one byte for each message */
    struct bytes story;
    bool failed;
};

/* ---- chance and the story ---- */

static unsigned chance(struct player *player, unsigned bound)
{
    player->random ^= player->random << 13;
    player->random ^= player->random >> 7;
    player->random ^= player->random << 17;
    return (unsigned)(player->random >> 33) % bound;
}

static bool percent(struct player *player, unsigned share)
{
    return chance(player, 100) < share;
}

__attribute__((format(printf, 2, 3))) static void tell(struct player *player, const char *format,
                                                       ...)
{
    char text[900];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bytes_add(&player->story, text, strlen(text));
}

/* ---- messages ---- */

static void put(struct player *player, char type, const void *body, size_t length, const char *what)
{
    unsigned char head = (unsigned char)type;

    tell(player, "  %c %s\n", type, what);
    bytes_add(&player->batch, &head, 1);
    bytes_add32(&player->batch, (uint32_t)length + 4);
    bytes_add(&player->batch, body, length);
    bytes_add(&player->types, &head, 1);
}

static void put_body(struct player *player, char type, struct bytes *body, const char *what)
{
    put(player, type, body->data, body->count, what);
    free(body->data);
}

static const char *name(struct player *player)
{
    static const char *const names[] = {"", "a", "b", "a_name_that_is_a_bit_longer", "d", "E\"e"};

    return names[chance(player, NAMES)];
}

static const char *portal(struct player *player)
{
    return percent(player, 70) ? "" : "p";
}

/* Statements with none or one parameter; %u is the client's number. */
static const char *const texts[] = {
    "SELECT %u, 'one'",
    "SELECT %u, 'two'",
    "SELECT $1::text || ' from %u'",
    "SELECT $1",
    "SELECT i, %u FROM generate_series(1, 5) i",
    "INSERT INTO d%u VALUES (1)",
    "SELECT count(*) FROM d%u",
    "UPDATE d%u SET a = a + 1",
    "SELECT 1 / (%u - %u)",
    "SELECT nonsense_%u",
    "SELEC %u",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "",
    "SELECT repeat('long', 3000 + %u)",
    /* a session's state: what another client's would look like is in each value */
    "SET lock_timeout = '%us'",
    "SET LOCAL lock_timeout = '1%us'",
    "SHOW lock_timeout",
    "RESET lock_timeout",
    "SELECT set_config('my.own', '%u', false)",
    "SELECT coalesce(current_setting('my.own', true), '')",
    "SET IntervalStyle = 'iso_8601'",
    "SELECT interval '1 day', current_setting('lock_timeout')",
    "RESET ALL",
};

static char *text(struct player *player)
{
    static const char *const usual = "\0\1\2\3\4\5\6\7";
    unsigned index = percent(player, 60) ? (unsigned)(unsigned char)usual[chance(player, 8)]
                                         : chance(player, sizeof texts / sizeof *texts);
    unsigned number = player->client->number;

    return text_of(texts[index], number, number);
}

static bool unnamed_is_certain(const struct client *client)
{
    return client->parsed;
}

static void put_parse(struct player *player, const char *statement)
{
    struct bytes body = {0};
    char *sql = text(player);
    unsigned types = percent(player, 15) ? 1 : 0;

    if (!*statement)
        player->client->parsed = false; /* it may be skipped: only its own batch may rely on it */

    bytes_add_text(&body, statement);
    bytes_add_text(&body, sql);
    bytes_add16(&body, types);
    if (types)
        bytes_add32(&body, 25);
    put_body(player, 'P', &body, text_of("\"%s\" %s%s", statement, sql, types ? " (text)" : ""));
}

static void put_bind(struct player *player, const char *to, const char *statement)
{
    struct bytes body = {0};
    unsigned values = percent(player, 30) ? 1 : 0;
    static const size_t sizes[] = {0, 1, 3, 100, 5000, 40000};
    size_t size = sizes[chance(player, percent(player, 10) ? 6 : 4)];

    bytes_add_text(&body, to);
    bytes_add_text(&body, statement);
    bytes_add16(&body, 0);
    bytes_add16(&body, values);
    if (values) {
        bytes_add32(&body, (uint32_t)size);
        for (size_t i = 0; i < size; i++)
            bytes_add(&body, "x", 1);
    }
    bytes_add16(&body, 0);
    put_body(player, 'B', &body,
             text_of("\"%s\" \"%s\" %u values of %zu", to, statement, values, size));
}

static void put_named(struct player *player, char type, char kind, const char *what)
{
    struct bytes body = {0};

    bytes_add(&body, &kind, 1);
    bytes_add_text(&body, what);
    put_body(player, type, &body, text_of("%c \"%s\"", kind, what));
}

static void put_execute(struct player *player, const char *what)
{
    struct bytes body = {0};
    unsigned rows = percent(player, 75) ? 0 : 1 + chance(player, 3);

    bytes_add_text(&body, what);
    bytes_add32(&body, rows);
    put_body(player, 'E', &body, text_of("\"%s\" %u rows", what, rows));
}

static void put_query(struct player *player, const char *sql)
{
    put(player, 'Q', sql, strlen(sql) + 1, sql);
}

static void put_sync(struct player *player)
{
    put(player, 'S', NULL, 0, "");
}

static void put_function(struct player *player, bool good)
{
    struct bytes body = {0};

    bytes_add32(&body, good ? 1397 : 1); /* int4abs */
    bytes_add16(&body, 0);
    bytes_add16(&body, 1);
    bytes_add32(&body, 2);
    bytes_add(&body, "-5", 2);
    bytes_add16(&body, 0);
    put_body(player, 'F', &body, good ? "good" : "bad");
}

/* ---- batches ---- */

/* Where the transaction is aborted PostgreSQL describes statements without rows all the same, and
 * pgstage cannot where their server lacks them. */
static bool may_describe(const struct player *player)
{
    return player->client->direct.owed.status == 'I' && player->types.count == 0;
}

static void put_use(struct player *player, const char *statement)
{
    const char *to = portal(player);

    if (percent(player, 20) && may_describe(player))
        put_named(player, 'D', 'S', statement);
    put_bind(player, to, statement);
    if (percent(player, 40))
        put_named(player, 'D', 'P', to);
    put_execute(player, to);
    if (percent(player, 10))
        put_execute(player, to);
}

/* The unnamed statement of an earlier batch, which succeeded. */
static const char *statement_to_use(struct player *player, bool *parsed)
{
    const char *statement = name(player);

    while (!*statement && !*parsed && !unnamed_is_certain(player->client))
        statement = name(player);
    return statement;
}

static void put_extended(struct player *player)
{
    unsigned count = 1 + chance(player, 6);
    bool parsed = false;

    for (unsigned i = 0; i < count; i++) {
        const char *statement;

        switch (chance(player, 8)) {
        case 0:
        case 1:
            statement = name(player);
            parsed |= !*statement;
            put_parse(player, statement);
            break;
        case 2:
        case 3:
        case 4:
            put_use(player, statement_to_use(player, &parsed));
            break;
        case 5:
            statement = name(player);
            if (*statement)
                put_named(player, 'C', 'S', statement);
            else
                put_named(player, 'C', 'P', portal(player));
            break;
        case 6:
            if (percent(player, 50))
                put(player, 'H', NULL, 0, "");
            else
                put_execute(player, portal(player));
            break;
        default:
            statement = name(player);
            parsed |= !*statement;
            put_parse(player, statement);
            put_use(player, statement);
            break;
        }
    }
    put_sync(player);
}

static void put_simple(struct player *player)
{
    unsigned number = player->client->number;

    switch (chance(player, 12)) {
    case 0:
        put_query(player, "BEGIN");
        break;
    case 1:
    case 2:
        put_query(player, percent(player, 60) ? "COMMIT" : "ROLLBACK");
        break;
    case 3:
        put_query(player, text_of("SELECT %u; SELECT 1/0; SELECT 2", number));
        break;
    case 4:
        put_query(player, "");
        break;
    case 5:
        put_query(player, text_of("DO $$ BEGIN RAISE NOTICE 'from %u'; END $$", number));
        break;
    case 6:
        put_query(player,
                  text_of("COPY (SELECT i, %u FROM generate_series(1, 3) i) TO STDOUT", number));
        break;
    case 7:
        put_query(player, text_of("SELECT repeat('%u', %u)", number, chance(player, 30000)));
        break;
    case 8:
        put_query(player, percent(player, 50) ? "DISCARD ALL" : "DEALLOCATE ALL");
        break;
    case 9:
        put_function(player, percent(player, 70));
        break;
    default:
        put_query(player, text(player));
        break;
    }
}

/* COPY FROM STDIN, perhaps with a bad row, perhaps given up. Nothing stands behind it before it is
 * over: what a Sync there gets is a matter of time even without a pooler. */
static void put_copy_in(struct player *player)
{
    put_query(player, text_of("COPY d%u FROM STDIN", player->client->number));
    for (unsigned i = chance(player, 4); i > 0; i--)
        put(player, 'd', "7\n", 2, "7");
    if (percent(player, 20))
        put(player, 'd', "bad\n", 4, "bad");
    if (percent(player, 75))
        put(player, 'c', NULL, 0, "");
    else
        put(player, 'f', "enough", 7, "enough");
}

/* What SQL's DEALLOCATE does to a name of the protocol; at the beginning of a batch. */
static void put_deallocate(struct player *player)
{
    const char *statement = name(player);

    if (!*statement || strchr(statement, '"'))
        statement = "a";
    put_query(player, text_of("DEALLOCATE %s", statement));
}

static void make_batch(struct player *player)
{
    free(player->batch.data);
    free(player->types.data);
    player->batch = player->types = (struct bytes){0};
    tell(player, "client %u, status %c:\n", player->client->number,
         player->client->direct.owed.status);
    switch (chance(player, 20)) {
    case 0:
        put_copy_in(player);
        return;
    case 1:
        put_deallocate(player);
        return;
    case 2:
    case 3:
    case 4:
        put_simple(player);
        if (percent(player, 70))
            return;
        break;
    default:
        break;
    }
    put_extended(player);
    for (unsigned more = chance(player, 3); more > 0; more--) {
        if (percent(player, 25))
            put_simple(player);
        else
            put_extended(player);
    }
}

/* ---- playing ---- */

static void open_side(struct side *side, struct wire *wire, const char *database)
{
    side->wire = wire;
    wire_login(wire, "app", database);
    transaction_init(&side->owed);
}

static void open_client(struct player *player, struct client *client)
{
    open_side(&client->direct, wire_open_port(player->direct_port), "db2");
    open_side(&client->pooled, wire_open(player->proxy), "app");
    client->parsed = false;
}

static void close_client(struct client *client)
{
    transaction_fini(&client->direct.owed);
    transaction_fini(&client->pooled.owed);
    wire_close(client->direct.wire);
    wire_close(client->pooled.wire);
}

/* Sends the batch as it is, or cut somewhere. */
static bool send_batch(struct player *player, struct wire *wire)
{
    size_t cut = percent(player, 25) ? chance(player, (unsigned)player->batch.count) : 0;

    if (cut && !wire_write(wire, player->batch.data, cut))
        return false;
    if (cut && percent(player, 20))
        pause_ms(1);
    return wire_write(wire, player->batch.data + cut, player->batch.count - cut);
}

/* All answers of the direct side, as text; counts the messages that are compared. */
static char *take_direct(struct player *player, unsigned *count)
{
    struct side *side = &player->client->direct;
    struct wire_message message;
    struct bytes text = {0};

    *count = 0;
    for (size_t i = 0; i < player->types.count; i++)
        transaction_ask(&side->owed, player->types.data[i], ANSWER_FORWARD);
    while (!transaction_is_settled(&side->owed)) {
        if (!wire_read(side->wire, &message, PATIENCE_MS)) {
            bytes_add(&text, side->wire->ended ? " !" : " ?", 2);
            player->failed = true;
            break;
        }
        if (transaction_answer(&side->owed, (uint8_t)message.type,
                               message.length ? (char)message.body[0] : 0) == VERDICT_BAD)
            player->failed = true;
        transcript_add(&text, &message);
        *count += message.type != 'S';
        free(message.body);
        if (player->failed)
            break;
    }
    bytes_add(&text, "", 1);
    return (char *)text.data;
}

/* So many messages of the pooled side. */
static char *take_pooled(struct player *player, unsigned count)
{
    struct wire *wire = player->client->pooled.wire;
    struct wire_message message;
    struct bytes text = {0};

    while (count > 0) {
        if (!wire_read(wire, &message, PATIENCE_MS)) {
            bytes_add(&text, wire->ended ? " !" : " ?", 2);
            break;
        }
        transcript_add(&text, &message);
        count -= message.type != 'S';
        free(message.body);
    }
    bytes_add(&text, "", 1);
    return (char *)text.data;
}

/* In an aborted transaction PostgreSQL counts the parameters of a Bind before it says that the
 * transaction is aborted; where the server must be given the statement first, it only says that. */
static char *without_counting(char *said)
{
    static const char counted[] = "E[08P01 bind message supplies", ready[] = "] Z[E]";
    static const char aborted[] =
        "E[25P02 current transaction is aborted, commands ignored until end "
        "of transaction block";
    struct bytes out = {0};
    char *at, *end, *from = said;

    while ((at = strstr(from, counted)) && (end = strchr(at, ']'))) {
        bool in_aborted = strncmp(end, ready, sizeof ready - 1) == 0;

        bytes_add(&out, from, (size_t)((in_aborted ? at : end) - from));
        if (in_aborted)
            bytes_add(&out, aborted, sizeof aborted - 1);
        from = end;
    }
    bytes_add(&out, from, strlen(from) + 1);
    free(said);
    return (char *)out.data;
}

/* What is known of the unnamed statement after a batch: it is there when the last thing that was
 * done to it was a Parse that succeeded, and nothing failed. */
static void note_unnamed(struct player *player, const char *said)
{
    bool failed = strstr(said, "E[") != NULL;
    const unsigned char *at = player->batch.data;
    size_t left = player->batch.count;

    if (failed)
        player->client->parsed = false;
    while (left >= 5) {
        size_t length =
            ((size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4]) + 1;

        if (at[0] == 'Q')
            player->client->parsed = false;
        else if (at[0] == 'P' && at[5] == '\0')
            player->client->parsed = !failed;
        at += length;
        left -= length;
    }
}

static bool play_batch(struct player *player)
{
    struct client *client = player->client;
    char *direct, *pooled;
    unsigned count;
    bool same;

    make_batch(player);
    if (!send_batch(player, client->direct.wire) || !send_batch(player, client->pooled.wire)) {
        tell(player, "the connection ended\n");
        return false;
    }
    direct = without_counting(take_direct(player, &count));
    pooled = without_counting(take_pooled(player, count));
    same = !player->failed && strcmp(direct, pooled) == 0;
    tell(player, "%s  = %.600s\n", same ? "" : "  WRONG\n", direct);
    if (!same)
        tell(player, "  # %.600s\n", pooled);
    note_unnamed(player, direct);
    free(direct);
    free(pooled);
    return same;
}

/* Its statements have gone with it, on both sides; what it was at is left to whoever cleans up. */
static void vanish(struct player *player)
{
    struct client *client = player->client;

    tell(player, "client %u vanishes\n", client->number);
    if (client->tables + 1 < TABLES) {
        client->tables++;
        make_batch(player);
        (void)send_batch(player, client->direct.wire);
        (void)send_batch(player, client->pooled.wire);
        client->number += PLAYERS * CLIENTS;
    }
    close_client(client);
    open_client(player, client);
}

static void cancel_side(struct wire *canceller, const struct side *side)
{
    wire_cancel_request(canceller, side->wire->key_pid, side->wire->key_secret);
    (void)wire_is_closed(canceller, PATIENCE_MS);
    wire_close(canceller);
}

/* Both sides run a query that only a cancel ends; asked again until it has come. */
static bool cancelled(struct player *player, const struct side *side, bool pooled)
{
    struct wire_message message;
    bool right = false;

    for (int i = 0; i < 300; i++) {
        cancel_side(pooled ? wire_open(player->proxy) : wire_open_port(player->direct_port), side);
        if (!wire_read(side->wire, &message, 100))
            continue;
        while (message.type != 'Z') {
            right |= message.type == 'E' && !strcmp(wire_field(&message, 'C'), "57014");
            free(message.body);
            if (!wire_read(side->wire, &message, PATIENCE_MS))
                return false;
        }
        free(message.body);
        return right;
    }
    return false;
}

static bool cancel(struct player *player)
{
    struct client *client = player->client;

    if (client->direct.owed.status != 'I')
        return true;
    tell(player, "client %u cancels\n", client->number);
    wire_query(client->direct.wire, "SELECT pg_sleep(60)");
    wire_query(client->pooled.wire, "SELECT pg_sleep(60)");
    client->parsed = false;
    return cancelled(player, &client->direct, false) && cancelled(player, &client->pooled, true);
}

/* A transaction that stays open keeps a server: a client leaves none behind, or the others starve.
 */
static bool finish_turn(struct player *player)
{
    struct client *client = player->client;
    char *direct, *pooled;
    unsigned count;
    bool same;

    if (client->direct.owed.status == 'I')
        return true;
    free(player->batch.data);
    free(player->types.data);
    player->batch = player->types = (struct bytes){0};
    put_query(player, "ROLLBACK");
    client->parsed = false;
    (void)wire_write(client->direct.wire, player->batch.data, player->batch.count);
    (void)wire_write(client->pooled.wire, player->batch.data, player->batch.count);
    direct = take_direct(player, &count);
    pooled = take_pooled(player, count);
    same = !player->failed && strcmp(direct, pooled) == 0;
    if (!same)
        tell(player, "  WRONG\n  = %s\n  # %s\n", direct, pooled);
    free(direct);
    free(pooled);
    return same;
}

static bool play_sequence(struct player *player, uint64_t seed)
{
    player->seed = seed;
    player->random = seed * 0x9e3779b97f4a7c15u + 0x1234567;
    for (int i = 0; i < 8; i++)
        (void)chance(player, 2);
    player->client = &player->clients[chance(player, CLIENTS)];
    tell(player, "seed %llu\n", (unsigned long long)seed);
    for (unsigned batches = 1 + chance(player, 4); batches > 0; batches--) {
        if (!play_batch(player))
            return false;
    }
    if (percent(player, 2)) {
        vanish(player);
        return true;
    }
    if (percent(player, 1) && !cancel(player))
        return false;
    return finish_turn(player);
}

/* ---- the players ---- */

static int play(struct proxy *proxy, unsigned index, unsigned first, uint64_t seed,
                unsigned sequences, int report)
{
    struct player player = {.proxy = proxy, .direct_port = cluster_shared()->port};
    size_t before = 0, kept = 0;

    for (unsigned i = 0; i < CLIENTS; i++) {
        player.clients[i].number = first + index * CLIENTS + i;
        open_client(&player, &player.clients[i]);
    }
    for (unsigned i = 0; i < sequences; i++) {
        if (!play_sequence(&player, seed + (uint64_t)i * PLAYERS + index)) {
            bytes_add(&player.story, "", 1);
            (void)!write(report, player.story.data + kept,
                         strlen((char *)player.story.data + kept));
            return 1;
        }
        /* the last sequences are enough to tell how it came to that */
        if (i % 16 == 15) {
            memmove(player.story.data, player.story.data + before, player.story.count - before);
            player.story.count -= before;
            before = player.story.count;
            kept = 0;
        }
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        close_client(&player.clients[i]);
    return 0;
}

static void make_tables(unsigned first)
{
    static const char *const databases[] = {"app", "db2"};

    for (int i = 0; i < 2; i++) {
        PGconn *conn = cluster_connect(cluster_shared(), databases[i]);

        client_do(conn, "SET client_min_messages = warning");
        for (unsigned k = first; k < first + PLAYERS * CLIENTS * TABLES; k++)
            client_do(conn, text_of("DROP TABLE IF EXISTS d%u; CREATE TABLE d%u (a int);"
                                    "GRANT ALL ON d%u TO app",
                                    k, k, k));
        PQfinish(conn);
    }
}

static unsigned long number_of(const char *variable, unsigned long otherwise)
{
    const char *value = getenv(variable);

    return value ? strtoul(value, NULL, 10) : otherwise;
}

#define STORY_BYTES ((size_t)1 << 18)

/* Tests run side by side on the same cluster: each has tables of its own. */
static void run(unsigned test, const char *settings, unsigned long sequences)
{
    unsigned first = 1 + test * PLAYERS * CLIENTS * TABLES;
    struct proxy *proxy;
    unsigned long seed = number_of("PGSTAGE_TEST_SEED", (unsigned long)time(NULL) * 100);
    pid_t players[PLAYERS];
    int report[2];
    char *story = malloc(STORY_BYTES + 1);
    size_t length = 0;
    ssize_t got;

    sequences = number_of("PGSTAGE_TEST_SEQUENCES", sequences);
    make_tables(first);
    proxy = proxy_start("%s", settings);
    cr_assert_eq(pipe(report), 0);
    for (unsigned i = 0; i < PLAYERS; i++) {
        players[i] = fork();
        if (players[i] == 0) {
            close(report[0]); /* who has nobody to tell it to does not wait for ever */
            _exit(play(proxy, i, first, seed, (unsigned)(sequences / PLAYERS), report[1]));
        }
    }
    close(report[1]);
    /* of a long story its end is kept: it says what was different */
    while ((got = read(report[0], story + length, STORY_BYTES / 2)) > 0) {
        length += (size_t)got;
        if (length >= STORY_BYTES / 2) {
            memmove(story, story + length - STORY_BYTES / 4, STORY_BYTES / 4);
            length = STORY_BYTES / 4;
        }
    }
    story[length] = '\0';
    close(report[0]);
    for (unsigned i = 0; i < PLAYERS; i++) {
        int status = 0;

        cr_assert_eq(waitpid(players[i], &status, 0), players[i]);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "first seed %lu, player %u:\n%s",
                  seed, i, story);
    }
    free(story);
}

SYSTEM_TEST(differential, transaction_mode_says_what_postgresql_says)
{
    run(0, "pool_mode = transaction\ndefault_pool_size = 4\nmax_prepared_statements = 3\n", 1500);
}

SYSTEM_TEST(differential, one_statement_for_each_server_is_enough)
{
    run(1,
        "pool_mode = transaction\ndefault_pool_size = 3\nmax_prepared_statements = 1\n"
        "server_lifetime = 1\n",
        600);
}

SYSTEM_TEST(differential, session_mode_says_what_postgresql_says)
{
    run(2, "pool_mode = session\ndefault_pool_size = 20\n", 300);
}
