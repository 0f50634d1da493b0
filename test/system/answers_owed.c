/*
 * answers_owed: the answers-owed queue against the truth, a real PostgreSQL.
 *
 * Random sequences of messages go straight to a server, in pipelines, with COPY and with errors at
 * odd places. The queue is told what is sent and judges what comes back, as it does in the relay.
 * Whenever it says that nothing is owed, a query of our own is sent at times, whose value nobody
 * else knows: the very next answer has to be that value, else the queue was wrong.
 *
 *     sequence ──ask──► transaction ◄──answer── server
 *                          │ settled?  → SELECT 'pgsown-7' → must be the next row, and ours
 *
 * PGSTAGE_TEST_SEQUENCES is how many sequences each test plays, PGSTAGE_TEST_SEED the first seed. A
 * failure shows the seed and what went over the wire (< sent, > received, upper case F and S of the
 * verdict), but timing also decides what a server does with a pipeline.
 */
#include "system.h"

#include "pgstage/session/transaction.h"

TestSuite(answers_owed, .timeout = 1800);

/* In every text of our own, and in no other: whose an answer is, is seen in it. */
#define OWN "pgsown"

struct run {
    struct wire *wire;
    struct transaction owed;
    uint64_t seed, random;
    struct bytes story;                         /* what went over the wire in this sequence */
    bool copying;                               /* a COPY FROM was sent and no end of it */
    bool doomed;                                /* the server said FATAL, as it should */
    unsigned own_count;                         /* makes our texts differ */
    unsigned ready, ready_forwarded, ready_own; /* ReadyForQuery: all, the client's, ours to come */
    unsigned checks, fences, dooms, doubts;     /* over all sequences */
};

/* ---- chance and the story ---- */

static unsigned chance(struct run *run, unsigned bound)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return (unsigned)(run->random >> 33) % bound;
}

static bool percent(struct run *run, unsigned share)
{
    return chance(run, 100) < share;
}

__attribute__((format(printf, 2, 3))) static void tell(struct run *run, const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bytes_add(&run->story, text, strlen(text));
}

static void wrong(struct run *run, const char *what)
{
    struct transaction *owed = &run->owed;

    bytes_add(&run->story, "", 1);
    cr_assert_fail("seed %llu: %s\n%s\n(status %c, copy %d, skipping %d, batch open %d, %u owed, "
                   "%u of them uncertain)",
                   (unsigned long long)run->seed, what, (char *)run->story.data, owed->status,
                   owed->copy, owed->skipping, owed->batch_open, owed->count, owed->uncertain);
}

/* ---- sending ---- */

static void ask(struct run *run, char type, enum answer_action action, const char *what)
{
    tell(run, "< %c%s %s\n", type, action == ANSWER_SWALLOW ? " (own)" : "", what);
    transaction_ask(&run->owed, (uint8_t)type, action);
}

static void query(struct run *run, const char *sql)
{
    ask(run, 'Q', ANSWER_FORWARD, sql);
    wire_query(run->wire, sql);
}

static void parse(struct run *run, const char *name, const char *sql)
{
    ask(run, 'P', ANSWER_FORWARD, sql);
    wire_parse(run->wire, name, sql);
}

static void bind(struct run *run, const char *portal, const char *name)
{
    ask(run, 'B', ANSWER_FORWARD, name);
    wire_bind(run->wire, portal, name, NULL);
}

static void describe(struct run *run, char kind, const char *name)
{
    ask(run, 'D', ANSWER_FORWARD, kind == 'S' ? "statement" : "portal");
    wire_describe(run->wire, kind, name);
}

static void execute(struct run *run, const char *portal, unsigned rows)
{
    ask(run, 'E', ANSWER_FORWARD, portal);
    wire_execute(run->wire, portal, rows);
}

static void close_name(struct run *run, char kind, const char *name)
{
    ask(run, 'C', ANSWER_FORWARD, name);
    wire_close_name(run->wire, kind, name);
}

static void empty(struct run *run, char type)
{
    ask(run, type, ANSWER_FORWARD, "");
    wire_send(run->wire, type, NULL, 0);
}

static void copy_data(struct run *run, const char *text)
{
    ask(run, 'd', ANSWER_FORWARD, text);
    wire_copy_data(run->wire, text);
}

static void copy_fail(struct run *run)
{
    ask(run, 'f', ANSWER_FORWARD, "");
    wire_send(run->wire, 'f', "enough", 7);
}

/* int4abs(-5) as text, or a function that is not there. */
static void function_call(struct run *run, bool good)
{
    struct bytes body = {0};

    bytes_add32(&body, good ? 1397 : 1);
    bytes_add16(&body, 0);
    bytes_add16(&body, 1);
    bytes_add32(&body, 2);
    bytes_add(&body, "-5", 2);
    bytes_add16(&body, 0);
    ask(run, 'F', ANSWER_FORWARD, good ? "good" : "bad");
    wire_send(run->wire, 'F', body.data, body.count);
    free(body.data);
}

/* What pgstage itself puts among the client's messages. */
static void own_parse(struct run *run, bool good)
{
    ask(run, 'P', ANSWER_SWALLOW, good ? "good" : "bad");
    wire_parse(run->wire, OWN, good ? "SELECT '" OWN "'" : "SELECT " OWN);
}

static void own_close(struct run *run)
{
    ask(run, 'C', ANSWER_SWALLOW, "");
    wire_close_name(run->wire, 'S', OWN);
}

static void fence_if_wanted(struct run *run)
{
    if (!transaction_wants_fence(&run->owed))
        return;
    tell(run, "< fence\n");
    wire_close_name(run->wire, 'S', OWN "-fence");
    wire_sync(run->wire);
    transaction_fence(&run->owed);
    run->ready_own++;
    run->fences++;
}

/* ---- receiving ---- */

static bool contains(const struct wire_message *message, const char *text)
{
    return memmem(message->body, message->length, text, strlen(text)) != NULL;
}

/* The server ends the connection only where a COPY was sent what no COPY takes. */
static void judge_fatal(struct run *run, const struct wire_message *message)
{
    if (message->type != 'E' || strcmp(wire_field(message, 'V'), "FATAL"))
        return;
    if (!contains(message, "synchronization was lost"))
        wrong(run, "an unexpected FATAL");
    run->doomed = true;
    run->dooms++;
}

/* In whose answers our word stands; the error of an aborted transaction does not say. */
static void judge_owner(struct run *run, const struct wire_message *message, bool swallowed)
{
    if (message->type == 'E' && !strcmp(wire_field(message, 'C'), "25P02"))
        return;
    if (swallowed && !contains(message, OWN))
        wrong(run, "an answer of the client's was swallowed");
    if (!swallowed && contains(message, OWN))
        wrong(run, "an answer of our own was forwarded");
}

static void judge(struct run *run, const struct wire_message *message, enum verdict verdict)
{
    bool swallowed = verdict == VERDICT_SWALLOW;

    judge_fatal(run, message);
    if (run->doomed)
        return;
    if (verdict == VERDICT_BAD && message->type == 'Z' && run->owed.uncertain &&
        run->owed.skipping) {
        /* a failed COPY, Sync, then a batch without another Sync before it: nobody could tell */
        run->doomed = true;
        run->doubts++;
        return;
    }
    if (verdict == VERDICT_BAD)
        wrong(run, "the last answer was not expected");
    if (message->type == 'D' || message->type == 'E')
        judge_owner(run, message, swallowed);
    if (message->type == 'Z') {
        run->ready++;
        run->ready_forwarded += !swallowed;
    }
}

/* Takes one message, if one comes within `ms`, and lets the queue judge it. Gives its type, 0 when
 * none came or the connection ended. */
static char take(struct run *run, struct wire_message *message, int ms)
{
    enum verdict verdict;
    bool was_settled = transaction_is_settled(&run->owed);

    if (!wire_read(run->wire, message, ms)) {
        if (run->wire->ended && !run->doomed)
            wrong(run, "the connection ended");
        return 0;
    }
    verdict = transaction_answer(&run->owed, (uint8_t)message->type,
                                 message->length ? (char)message->body[0] : 0);
    tell(run, "%*s> %c %c %.*s\n", 30, "", message->type, "FSB"[verdict],
         message -> type == 'Z' ? 1 : 0, (char *)message->body);
    if (message->type == 'E')
        tell(run, "%*s  %s\n", 30, "", wire_field(message, 'M'));
    judge(run, message, verdict);
    if (was_settled && !strchr("NSA", message->type) && !run->doomed)
        wrong(run, "an answer came when nothing was owed");
    fence_if_wanted(run);
    return message->type;
}

/* Takes what is there, or comes within `ms`. */
static void pump(struct run *run, int ms)
{
    struct wire_message message;

    while (!run->doomed && take(run, &message, ms)) {
        free(message.body);
        ms = 0;
    }
}

/* The next message that answers something. */
static char take_answer(struct run *run, struct wire_message *message)
{
    for (;;) {
        char type = take(run, message, PATIENCE_MS);

        if (!type || !strchr("NSA", type))
            return type;
        free(message->body);
    }
}

/* ---- the truth ---- */

/* Nothing is owed: then the next answer is that of our own query, at once. */
static void check_settled(struct run *run)
{
    static const char good[] = "TDCZ", aborted[] = "EZ";
    char status = run->owed.status;
    const char *expected = status == 'E' ? aborted : good;
    char *value = text_of(OWN "-%u", ++run->own_count);
    char *sql = text_of("SELECT '%s'", value);

    ask(run, 'Q', ANSWER_SWALLOW, sql);
    wire_query(run->wire, sql);
    run->ready_own++;
    run->checks++;
    for (const char *at = expected; *at; at++) {
        struct wire_message message;
        char type = take_answer(run, &message);

        if (type != *at)
            wrong(run, "our own query is not answered next");
        if (type == 'D' && !contains(&message, value))
            wrong(run, "this is an earlier row");
        if (type == 'E' && strcmp(wire_field(&message, 'C'), "25P02"))
            wrong(run, "this is not the error of an aborted transaction");
        if (type == 'Z' && message.body[0] != status)
            wrong(run, "the status is another");
        free(message.body);
    }
    if (!transaction_is_settled(&run->owed))
        wrong(run, "our own query does not settle");
    free(value);
    free(sql);
}

static void end_batch(struct run *run)
{
    empty(run, 'S');
    fence_if_wanted(run);
}

/* Ends whatever is open and waits until nothing is owed; what the queue says will settle without
 * further help gets none. */
static void settle(struct run *run)
{
    if (run->copying)
        copy_fail(run);
    run->copying = false;
    end_batch(run);
    while (!run->doomed && !transaction_is_settled(&run->owed)) {
        bool settles = transaction_can_settle(&run->owed);
        struct wire_message message;

        if (take(run, &message, settles ? PATIENCE_MS : 50)) {
            free(message.body);
        } else if (!run->doomed) {
            if (settles)
                wrong(run, "something stays owed for ever");
            if (run->owed.copy == COPY_IN)
                copy_fail(run);
            end_batch(run);
        }
    }
}

static void end_sequence(struct run *run)
{
    settle(run);
    if (!run->doomed)
        check_settled(run);
    if (!run->doomed && run->owed.status != 'I') {
        query(run, "ROLLBACK");
        settle(run);
        check_settled(run);
    }
    if (run->doomed)
        return;
    if (!transaction_is_free(&run->owed))
        wrong(run, "the server is not free");
    if (run->ready_forwarded + run->ready_own != run->ready)
        wrong(run, "the client got another number of ReadyForQuery");
}

/* ---- the sequences ---- */

/* `copies`: what a COPY FROM STDIN in it takes. */
static const struct statement {
    const char *sql;
    bool simple_only; /* several statements in one string */
    bool copies;
} statements[] = {
    {"SELECT 'client' || g FROM generate_series(1, 3) g", false, false},
    {"SELECT 'client'", false, false},
    {"SELECT 1 / (random() * 0)::int", false, false},
    {"SELEC nonsense", false, false},
    {"", false, false},
    {"BEGIN", false, false},
    {"COMMIT", false, false},
    {"ROLLBACK", false, false},
    {"SET application_name = 'client'", false, false},
    {"NOTIFY here, 'client'", false, false},
    {"DO $$ BEGIN RAISE NOTICE 'client'; END $$", false, false},
    {"DO $$ BEGIN RAISE EXCEPTION 'client'; END $$", false, false},
    {"INSERT INTO late VALUES (1)", false, false}, /* fails at the end of the transaction */
    {"COPY (SELECT 'client' FROM generate_series(1, 3)) TO STDOUT", false, false},
    {"COPY (SELECT 1 / (3 - g) FROM generate_series(1, 3) g) TO STDOUT", false, false},
    {"COPY missing FROM STDIN", false, false},
    {"SELECT 'client'; SELECT 'client'; SELECT 'client'", true, false},
    {"SELECT 'client'; SELECT 1/0; SELECT 'client'", true, false},
    {"BEGIN; SELECT 'client'; COMMIT", true, false},
    {"COPY (SELECT 1) TO STDOUT; COPY (SELECT 2) TO STDOUT", true, false},
    {"INSERT INTO late VALUES (1); SELECT 'client'", true, false},
    {"COPY rows FROM STDIN", false, true},
    {"COPY rows FROM STDIN", false, true},
    {"COPY late FROM STDIN", false, true},    /* fails at the end of the transaction */
    {"COPY guarded FROM STDIN", false, true}, /* fails before the first row */
    {"COPY closed FROM STDIN", false, true},  /* fails behind the last row */
    {"BEGIN; COPY rows FROM STDIN; COMMIT", true, true},
    {"SELECT 'client'; COPY rows FROM STDIN; SELECT 'client'", true, true},
    {"COPY rows FROM STDIN; COPY rows FROM STDIN", true, true},
    {"COPY rows FROM STDIN; COPY guarded FROM STDIN; SELECT 'client'", true, true},
};

static const char *const setup[] = {
    "CREATE TEMP TABLE rows (id int, txt text); CREATE TEMP TABLE guarded (LIKE rows);"
    "CREATE TEMP TABLE closed (LIKE rows); CREATE TEMP TABLE late (LIKE rows)",
    "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE EXCEPTION ''refused''; END'",
    "CREATE TRIGGER guard BEFORE INSERT ON guarded EXECUTE FUNCTION pg_temp.refuse()",
    "CREATE TRIGGER close AFTER INSERT ON closed EXECUTE FUNCTION pg_temp.refuse()",
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()",
    "LISTEN here",
};

static const struct statement *any_statement(struct run *run, bool simple)
{
    const size_t count = sizeof statements / sizeof *statements;
    const struct statement *statement;

    do
        statement = &statements[chance(run, count)];
    while (statement->simple_only && !simple);
    return statement;
}

static const char *any_name(struct run *run)
{
    return percent(run, 70) ? "" : percent(run, 70) ? "one" : "two";
}

/* What drivers send, with a hole now and then. But the unnamed portal is not executed without a
 * Bind just before: a simple query that fails in a transaction leaves it behind with memory that is
 * gone, and PostgreSQL 15 then crashes. */
static void play_batch(struct run *run)
{
    const struct statement *statement = any_statement(run, false);
    const char *name = any_name(run), *portal = any_name(run);

    if (percent(run, 90))
        parse(run, name, statement->sql);
    if (percent(run, 20))
        describe(run, 'S', name);
    if (percent(run, 95))
        bind(run, portal, name);
    else if (!*portal)
        portal = "one";
    if (percent(run, 50))
        describe(run, 'P', portal);
    if (percent(run, 95)) {
        execute(run, portal, percent(run, 30) ? 1 : 0);
        run->copying = run->copying || statement->copies;
    }
    if (percent(run, 15))
        close_name(run, percent(run, 50) ? 'S' : 'P', name);
    if (percent(run, 60))
        empty(run, 'S');
    else if (percent(run, 50))
        empty(run, 'H');
}

static void play_piece(struct run *run)
{
    switch (chance(run, 16)) {
    case 0:
        parse(run, any_name(run), any_statement(run, false)->sql);
        break;
    case 1:
        bind(run, any_name(run), any_name(run));
        break;
    case 2:
        describe(run, percent(run, 50) ? 'S' : 'P', any_name(run));
        break;
    case 3:
        execute(run, percent(run, 70) ? "one" : "two", chance(run, 3));
        run->copying = run->copying || percent(run, 20);
        break;
    case 4:
        close_name(run, percent(run, 50) ? 'S' : 'P', any_name(run));
        break;
    case 5:
        empty(run, 'H');
        break;
    case 6:
        function_call(run, percent(run, 70));
        break;
    case 7:
        empty(run, 'c');
        break;
    case 8:
        copy_fail(run);
        break;
    case 9:
        copy_data(run, "1\tstray\n");
        break;
    case 10:
        own_parse(run, percent(run, 80));
        break;
    case 11:
        own_close(run);
        break;
    default:
        empty(run, 'S');
        break;
    }
}

static void play_copy(struct run *run)
{
    static const char *const data[] = {
        "1\tgood\n", "2\tgood\n", "3\tgood\n4\tgood\n", "5\tha", "lf\n", "bad\n", "\\.\n", ""};
    unsigned what = chance(run, 100);

    if (what < 45)
        copy_data(run, data[chance(run, sizeof data / sizeof *data)]);
    else if (what < 65)
        empty(run, 'S');
    else if (what < 72)
        empty(run, 'H');
    else if (what < 90)
        empty(run, 'c');
    else if (what < 97)
        copy_fail(run);
    if ((what >= 72 && percent(run, 85)) || percent(run, 1))
        run->copying = false;
}

static void play_step(struct run *run)
{
    unsigned what = chance(run, 100);

    if (what < 12) {
        pump(run, 0);
    } else if (what < 24) {
        pump(run, 5);
        if (run->copying && run->owed.copy != COPY_IN && percent(run, 50))
            run->copying = false; /* clients that see an error stop */
    } else if (run->copying) {
        play_copy(run);
    } else if (what < 45) {
        const struct statement *statement = any_statement(run, true);
        query(run, statement->sql);
        run->copying = statement->copies;
    } else if (what < 72) {
        play_batch(run);
    } else {
        play_piece(run);
    }
    fence_if_wanted(run);
    if (!run->doomed && transaction_is_settled(&run->owed) && percent(run, 30))
        check_settled(run);
}

/* Types of the answers to a statement of the setup: whoever listens hears the other test, too, as
 * soon as the statement is done and before it is ready. */
static char *setup_answers(struct run *run)
{
    char *types = wire_types(run->wire, 'Z', PATIENCE_MS), *end = types;

    for (const char *at = types; *at; at++)
        if (*at != 'A')
            *end++ = *at;
    *end = '\0';
    return types;
}

static void connect_run(struct run *run)
{
    if (run->wire)
        wire_close(run->wire);
    run->wire = wire_open_port(cluster_shared()->port);
    wire_login(run->wire, "app", "app");
    for (size_t i = 0; i < sizeof setup / sizeof *setup; i++) {
        wire_query(run->wire, setup[i]);
        cr_assert_str_eq(setup_answers(run), i ? "CZ" : "CCCCZ");
    }
    transaction_fini(&run->owed);
    transaction_init(&run->owed);
    run->doomed = false;
}

static void play_sequence(struct run *run, uint64_t seed)
{
    unsigned length;

    if (!run->wire || run->doomed)
        connect_run(run);
    run->seed = seed;
    run->random = (seed + 1) * 0x9e3779b97f4a7c15u;
    run->story.count = 0;
    run->copying = false;
    run->ready = run->ready_forwarded = run->ready_own = 0;
    length = 1 + chance(run, 30);
    for (unsigned i = 0; i < length && !run->doomed; i++)
        play_step(run);
    if (!run->doomed)
        end_sequence(run);
}

static uint64_t figure(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Each test has seeds of its own, so that they run side by side. */
static void play_all(uint64_t part)
{
    struct run run = {0};
    uint64_t count = figure("PGSTAGE_TEST_SEQUENCES", 1000);
    uint64_t first = figure("PGSTAGE_TEST_SEED", 1) + part * 1000000;

    printf("answers_owed: %llu sequences from seed %llu\n", (unsigned long long)count,
           (unsigned long long)first);
    for (uint64_t i = 0; i < count; i++)
        play_sequence(&run, first + i);
    printf("answers_owed: %u checks, %u fences, %u connections ended by the server, %u in doubt\n",
           run.checks, run.fences, run.dooms, run.doubts);
    cr_assert_gt(run.checks, count / 2);
    transaction_fini(&run.owed);
    wire_close(run.wire);
    free(run.story.data);
}

Test(answers_owed, agree_with_postgresql_in_random_sequences)
{
    play_all(0);
}

Test(answers_owed, agree_with_postgresql_in_other_random_sequences)
{
    play_all(1);
}
