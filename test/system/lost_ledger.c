/*
 * lost_ledger: clients write numbers in every manner while their servers are ended at random, and
 * a ledger of their own says what each was told. Afterwards the table has to agree:
 *
 *     told that it was done ──────► it is there, once
 *     told that it is not known ──► it is there once, or not at all
 *     told anything else ─────────► it is not there
 *     written in one transaction ─► all of it or nothing
 *
 * And on the way each client gets exactly as many ReadyForQuery as it is owed, no row that is not
 * its own, and keeps its connection. PGSTAGE_TEST_LEDGER is how many seconds it lasts.
 */
#include "system.h"

#include <pthread.h>
#include <stdatomic.h>

TestSuite(lost_ledger, .fini = test_end, .timeout = 300);

#define WRITERS 16
#define WRITES_MAX 20000

enum outcome { DONE, UNKNOWN, UNDONE };

/* Numbers first and first + 1 (`pair`), or first alone. */
struct write {
    long first;
    bool pair;
    enum outcome outcome;
};

struct writer {
    /* fixed */
    int port;
    unsigned seed;
    long next; /* numbers of its own */
    atomic_bool *stopping;
    /* the writer's, read after its end */
    struct wire *wire;
    struct write *writes;
    int count;
    char problem[400];
    long lost; /* errors that it was told */
};

static unsigned roll(struct writer *writer, unsigned sides)
{
    return (unsigned)rand_r(&writer->seed) % sides;
}

static void complain(struct writer *writer, const char *what, const char *got)
{
    if (!writer->problem[0])
        snprintf(writer->problem, sizeof writer->problem, "%s: \"%s\"", what, got);
}

/* One answer, up to ReadyForQuery. */
struct answer {
    char sqlstate[6]; /* of its error; "": none */
    char tag[32];     /* of its last CommandComplete */
    char value[32];   /* of its first row */
    char status;      /* 0: there was none */
    bool copying;     /* it asks for CopyData (and is not over) */
};

static void keep(char *target, size_t size, const char *text)
{
    snprintf(target, size, "%s", text);
}

static struct answer listen(struct writer *writer)
{
    struct answer answer = {.status = 0};
    struct wire_message message;
    int errors = 0;

    while (!answer.status && !answer.copying) {
        if (!wire_read(writer->wire, &message, PATIENCE_MS)) {
            complain(writer, writer->wire->ended ? "disconnected" : "no answer", answer.tag);
            return answer;
        }
        switch (message.type) {
        case 'E':
            if (strcmp(wire_field(&message, 'V'), "ERROR") != 0)
                complain(writer, "not an ERROR", wire_field(&message, 'M'));
            if (errors++)
                complain(writer, "a second error for one answer", wire_field(&message, 'M'));
            keep(answer.sqlstate, sizeof answer.sqlstate, wire_field(&message, 'C'));
            writer->lost++;
            break;
        case 'C':
            keep(answer.tag, sizeof answer.tag, (char *)message.body);
            break;
        case 'D':
            if (message.length > 6)
                keep(answer.value, sizeof answer.value, (char *)message.body + 6);
            break;
        case 'G':
            answer.copying = true;
            break;
        case 'Z':
            answer.status = (char)message.body[0];
            break;
        default:
            break;
        }
        free(message.body);
    }
    return answer;
}

static void note(struct writer *writer, long first, bool pair, enum outcome outcome)
{
    if (writer->count < WRITES_MAX)
        writer->writes[writer->count++] = (struct write){first, pair, outcome};
}

static enum outcome outcome_of(const struct answer *answer, const char *done)
{
    if (strcmp(answer->sqlstate, "08007") == 0 || !answer->status)
        return UNKNOWN;
    return !answer->sqlstate[0] && strncmp(answer->tag, done, strlen(done)) == 0 ? DONE : UNDONE;
}

static long numbers(struct writer *writer, int count)
{
    long first = writer->next;

    writer->next += count;
    return first;
}

static const char *insert(long number)
{
    static _Thread_local char sql[80];

    snprintf(sql, sizeof sql, "INSERT INTO ledger VALUES (%ld)", number);
    return sql;
}

static void extended(struct writer *writer, const char *sql)
{
    wire_parse(writer->wire, "", sql);
    wire_bind(writer->wire, "", "", NULL);
    wire_execute(writer->wire, "", 0);
}

/* ---- what writers do ---- */

static void write_alone(struct writer *writer)
{
    long number = numbers(writer, 1);
    struct answer answer;

    if (roll(writer, 2)) {
        wire_query(writer->wire, insert(number));
    } else {
        extended(writer, insert(number));
        wire_sync(writer->wire);
    }
    answer = listen(writer);
    note(writer, number, false, outcome_of(&answer, "INSERT"));
    if (answer.status != 'I')
        complain(writer, "a transaction after one statement", answer.sqlstate);
}

/* Several batches at once; each is its own transaction. */
static void write_pipeline(struct writer *writer)
{
    int count = 1 + (int)roll(writer, 5);
    long first = numbers(writer, count);
    struct answer answer;

    for (int i = 0; i < count; i++) {
        extended(writer, insert(first + i));
        wire_sync(writer->wire);
    }
    for (int i = 0; i < count; i++) {
        answer = listen(writer);
        note(writer, first + i, false, outcome_of(&answer, "INSERT"));
    }
}

static void leave_aborted(struct writer *writer, struct answer answer)
{
    if (answer.status == 'I' || !answer.status)
        return;
    wire_query(writer->wire, roll(writer, 2) ? "ROLLBACK" : "COMMIT");
    answer = listen(writer);
    /* a server that is lost once more says so */
    if (answer.status != 'I')
        complain(writer, "ROLLBACK leaves a transaction", answer.sqlstate);
}

/* Step by step, as most programs do; stops at the first error. */
static void write_transaction(struct writer *writer)
{
    long first = numbers(writer, 2);
    struct answer answer;

    wire_query(writer->wire, "BEGIN");
    answer = listen(writer);
    for (int i = 0; i < 2 && !answer.sqlstate[0] && answer.status; i++) {
        if (roll(writer, 2)) {
            wire_query(writer->wire, insert(first + i));
        } else {
            extended(writer, insert(first + i));
            wire_sync(writer->wire);
        }
        answer = listen(writer);
    }
    if (answer.sqlstate[0] || !answer.status) {
        note(writer, first, true, UNDONE);
        leave_aborted(writer, answer);
        return;
    }
    if (roll(writer, 2)) {
        wire_query(writer->wire, "COMMIT");
    } else {
        extended(writer, "COMMIT");
        wire_sync(writer->wire);
    }
    answer = listen(writer);
    note(writer, first, true, outcome_of(&answer, "COMMIT"));
    if (answer.status != 'I')
        complain(writer, "a transaction after COMMIT", answer.sqlstate);
}

/* All at once, without a look at what is answered. */
static void write_blindly(struct writer *writer)
{
    long first = numbers(writer, 2);
    struct answer answers[4];

    wire_query(writer->wire, "BEGIN");
    wire_query(writer->wire, insert(first));
    wire_query(writer->wire, insert(first + 1));
    wire_query(writer->wire, "COMMIT");
    for (int i = 0; i < 4; i++)
        answers[i] = listen(writer);
    note(writer, first, true, outcome_of(&answers[3], "COMMIT"));
    leave_aborted(writer, answers[3]);
}

static void write_copy(struct writer *writer)
{
    long first = numbers(writer, 2);
    struct answer answer;
    char row[40];

    wire_query(writer->wire, "COPY ledger FROM STDIN");
    answer = listen(writer);
    if (answer.copying) {
        for (int i = 0; i < 2; i++) {
            snprintf(row, sizeof row, "%ld\n", first + i);
            wire_copy_data(writer->wire, row);
        }
        wire_send(writer->wire, 'c', NULL, 0);
        answer = listen(writer);
    }
    note(writer, first, true, outcome_of(&answer, "COPY"));
}

/* The next answer is that of the next question, or an error: nothing was left over. */
static void ask_for_own(struct writer *writer)
{
    char own[32], sql[64];
    struct answer answer;

    snprintf(own, sizeof own, "%ld", numbers(writer, 1));
    snprintf(sql, sizeof sql, "SELECT '%s'", own);
    wire_query(writer->wire, sql);
    answer = listen(writer);
    if (!answer.sqlstate[0] && strncmp(answer.value, own, strlen(own)) != 0)
        complain(writer, own, answer.value);
}

static void *writer_main(void *argument)
{
    static void (*const plays[])(struct writer *) = {
        write_alone, write_pipeline, write_transaction, write_blindly, write_copy, ask_for_own};
    struct writer *writer = argument;
    struct bytes packet = startup_packet("user", "app", "database", "app", NULL);

    writer->wire = wire_open_port(writer->port);
    wire_write(writer->wire, packet.data, packet.count);
    if (listen(writer).status != 'I')
        complain(writer, "not welcomed", "");
    while (!atomic_load(writer->stopping) && !writer->problem[0]) {
        plays[roll(writer, 6)](writer);
        ask_for_own(writer);
    }
    wire_close(writer->wire);
    free(packet.data);
    return NULL;
}

/* ---- ending servers ---- */

struct ender {
    const char *conninfo;
    atomic_bool *stopping;
    long ended, crashed;
};

static void hush(void *argument, const char *text)
{
    (void)argument;
    (void)text;
}

static void *ender_main(void *argument)
{
    struct ender *ender = argument;
    PGconn *conn = NULL;
    unsigned seed = 7;

    for (int round = 0; !atomic_load(ender->stopping); round++) {
        PGresult *result;

        if (!conn || PQstatus(conn) != CONNECTION_OK) {
            PQfinish(conn);
            conn = PQconnectdb(ender->conninfo);
            PQsetNoticeProcessor(conn, hush, NULL);
        }
        result = PQexec(conn, round % 40 == 39
                                  ? "SELECT pid FROM pg_stat_activity WHERE usename = 'app' LIMIT 1"
                                  : "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                                    "usename = 'app' ORDER BY random() LIMIT 1");
        if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result)) {
            if (round % 40 == 39)
                ender->crashed += kill(atoi(PQgetvalue(result, 0, 0)), SIGKILL) == 0;
            else
                ender->ended++;
        }
        PQclear(result);
        pause_ms(10 + rand_r(&seed) % 60);
    }
    PQfinish(conn);
    return NULL;
}

/* ---- the reckoning ---- */

static void judge(const struct writer *writer, const int *there)
{
    static const char *const words[] = {"done", "unknown", "undone"};

    for (int i = 0; i < writer->count; i++) {
        const struct write *write = &writer->writes[i];
        long a = there[write->first];
        long b = write->pair ? there[write->first + 1] : a;
        bool fits = a == b && a <= 1 && (write->outcome != DONE || a == 1) &&
                    (write->outcome != UNDONE || a == 0);

        cr_assert(fits, "%ld%s was told to be %s, and is there %ld and %ld times", write->first,
                  write->pair ? " and the next" : "", words[write->outcome], a, b);
    }
}

static void play(struct cluster *cluster, struct proxy *proxy, int seconds, bool crash)
{
    atomic_bool stopping = false;
    struct writer writers[WRITERS];
    struct ender ender = {.conninfo =
                              text_of("%s dbname=postgres user=postgres", cluster_route(cluster)),
                          .stopping = &stopping};
    pthread_t threads[WRITERS], thread;
    int64_t end = now_ms() + seconds * 1000;
    long outcomes[3] = {0}, lost = 0, most = 0;
    int *there;
    PGresult *result;
    PGconn *past;

    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.port = proxy->port,
                                     .seed = (unsigned)i + 1,
                                     .next = (long)i * 5 * WRITES_MAX,
                                     .stopping = &stopping,
                                     .writes = calloc(WRITES_MAX, sizeof(struct write))};
        cr_assert_eq(pthread_create(&threads[i], NULL, writer_main, &writers[i]), 0);
    }
    cr_assert_eq(pthread_create(&thread, NULL, ender_main, &ender), 0);
    while (now_ms() < end) {
        pause_ms(2000);
        if (crash && now_ms() < end) {
            cluster_end(cluster, CLUSTER_IMMEDIATE);
            cluster_again(cluster);
        }
    }
    atomic_store(&stopping, true);
    pthread_join(thread, NULL);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);

    past = PQconnectdb(text_of("%s dbname=app user=postgres", cluster_route(cluster)));
    cr_assert(until((PQreset(past), PQstatus(past) == CONNECTION_OK), PATIENCE_MS));
    result = PQexec(past, "SELECT id, count(*) FROM ledger GROUP BY id");
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(past));
    most = (long)WRITERS * 5 * WRITES_MAX;
    there = calloc((size_t)most, sizeof *there);
    for (int i = 0; i < PQntuples(result); i++)
        there[atol(PQgetvalue(result, i, 0))] = atoi(PQgetvalue(result, i, 1));
    PQclear(result);
    PQfinish(past);
    for (int i = 0; i < WRITERS; i++) {
        cr_assert_str_eq(writers[i].problem, "", "%s", writers[i].problem);
        judge(&writers[i], there);
        for (int k = 0; k < writers[i].count; k++)
            outcomes[writers[i].writes[k].outcome]++;
        lost += writers[i].lost;
        free(writers[i].writes);
    }
    free(there);
    printf("lost_ledger: %ld done, %ld unknown, %ld undone; %ld errors, %ld backends ended, %ld "
           "crashes\n",
           outcomes[DONE], outcomes[UNKNOWN], outcomes[UNDONE], lost, ender.ended, ender.crashed);
    cr_assert_gt(outcomes[DONE], 100);
    cr_assert_gt(ender.ended, 10);
    cr_assert_gt(lost, 5);
}

static int seconds_of(int otherwise)
{
    const char *text = getenv("PGSTAGE_TEST_LEDGER");

    return text ? atoi(text) : otherwise;
}

static void start(struct cluster **cluster, struct proxy **proxy)
{
    PGconn *past;

    *cluster = cluster_start(&(struct cluster_options){.settings = "restart_after_crash = on\n"});
    *proxy = proxy_start("pool_mode = transaction\ndefault_pool_size = 5\nserver_login_retry = 1\n"
                         "[databases]\napp = %s\n",
                         cluster_route(*cluster));
    past = cluster_connect(*cluster, "app");
    client_do(past, "CREATE TABLE ledger (id bigint)");
    client_do(past, "GRANT ALL ON ledger TO public");
    PQfinish(past);
}

SYSTEM_TEST(lost_ledger, agrees_with_what_clients_were_told_when_backends_are_ended)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster;
    struct proxy *proxy;

    start(&cluster, &proxy);
    play(cluster, proxy, seconds_of(12), false);
}

SYSTEM_TEST(lost_ledger, agrees_with_what_clients_were_told_when_the_server_is_restarted)
{
    SKIP_ON_PGBOUNCER();
    struct cluster *cluster;
    struct proxy *proxy;

    start(&cluster, &proxy);
    play(cluster, proxy, seconds_of(12), true);
}
