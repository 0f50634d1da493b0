/*
 * ledger: a thread for each working client, which keeps its own entries; the judge reads them when
 * the threads have ended.
 *
 *   transfer ─► way (one of WAYS) ─► outcome ─► entry {id, outcome, when}
 *
 * An outcome is decided by the statement that commits: before it, every error means "failed".
 * Nothing waits for ever: an answer that does not come for ANSWER_MS is a problem of its own.
 */
#include "ledger.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "process.h"
#include "program.h"
#include "proxy.h"
#include "until.h"

#define CLIENTS_MAX 200
#define ACCOUNTS 1000
#define ANSWER_MS 60000
#define CODES 32

enum outcome {
    ACKNOWLEDGED,
    UNKNOWN,
    FAILED,
};

struct entry {
    int64_t id, when_ms;
    enum outcome outcome;
    char sqlstate[6]; /* of the last error that its client was told about it */
    int seen;         /* the judge's: how often it is in the database */
};

struct worker {
    /* fixed */
    struct ledger *ledger;
    int number;
    /* owner: its thread, later the judge */
    PGconn *conn;
    int set_up;           /* how many of its parameters and named statements are there */
    char parameters[128]; /* what PARAMETERS gives when all of them hold */
    char sqlstate[6];
    bool warned; /* WARNING 01000 came: a cancelled wait for a synchronous standby */
    unsigned seed;
    int64_t deadline;
    struct entry *entries;
    long count, size;
    /* shared: atomic */
    _Atomic int64_t next_id;
    /* owner: the test */
    int64_t marked_id; /* what next_id was at the mark */
};

struct ledger {
    /* fixed */
    const char *conninfo;
    struct ledger_options options;
    pthread_t threads[CLIENTS_MAX];
    struct worker workers[CLIENTS_MAX];
    PGconn *idle[CLIENTS_MAX];
    struct listeners *listeners; /* NULL: none */
    /* shared: atomic */
    atomic_bool stopping;
    atomic_long outcomes[3];
    atomic_long closed, fresh; /* fresh: acknowledged, and begun after `mark_us` */
    _Atomic int64_t longest_ms, mark_us, first_us;
    /* shared: mutex */
    pthread_mutex_t mutex;
    char problem[512], last_error[512];
    struct {
        char sqlstate[8];
        long count;
    } codes[CODES];
    /* owner: the test */
    int idle_lost;
};

static int64_t now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void complain(struct ledger *ledger, const char *what, const char *more)
{
    pthread_mutex_lock(&ledger->mutex);
    if (!ledger->problem[0])
        snprintf(ledger->problem, sizeof ledger->problem, "%s: %s", what, more);
    pthread_mutex_unlock(&ledger->mutex);
}

static void note(struct ledger *ledger, const char *sqlstate, const char *text)
{
    int i;

    pthread_mutex_lock(&ledger->mutex);
    snprintf(ledger->last_error, sizeof ledger->last_error, "%s %s", sqlstate, text);
    for (i = 0;
         i < CODES && ledger->codes[i].sqlstate[0] && strcmp(ledger->codes[i].sqlstate, sqlstate);
         i++)
        ;
    if (i < CODES) {
        snprintf(ledger->codes[i].sqlstate, sizeof ledger->codes[i].sqlstate, "%s", sqlstate);
        ledger->codes[i].count++;
    }
    pthread_mutex_unlock(&ledger->mutex);
}

static void note_error(struct worker *worker, const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    snprintf(worker->sqlstate, sizeof worker->sqlstate, "%s", state ? state : "-----");
    note(worker->ledger, worker->sqlstate, PQresultErrorMessage(result));
}

/* ---- waiting for answers ---- */

static void hear_notice(void *argument, const PGresult *notice)
{
    struct worker *worker = argument;
    const char *state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);

    if (state && !strcmp(state, "01000"))
        worker->warned = true;
}

/* The next result of what was sent; NULL: no more, or the connection has ended. */
static PGresult *take(struct worker *worker)
{
    PGconn *conn = worker->conn;

    while (PQstatus(conn) == CONNECTION_OK && PQisBusy(conn)) {
        bool unsent = PQflush(conn) > 0;
        struct pollfd wait = {.fd = PQsocket(conn),
                              .events = (short)(POLLIN | (unsent ? POLLOUT : 0))};
        int64_t left = worker->deadline - now_ms();

        if (left <= 0) {
            complain(worker->ledger, "no answer for a minute", PQerrorMessage(conn));
            return NULL;
        }
        if (poll(&wait, 1, left > 500 ? 500 : (int)left) < 0 && errno != EINTR)
            return NULL;
        if ((wait.revents & POLLIN) && !PQconsumeInput(conn))
            break;
    }
    return PQgetResult(conn);
}

/* The last column of what a transfer answers: the session's parameters, and what they must be. */
#define PARAMETERS                                                                                 \
    "concat_ws('/', current_setting('application_name'), current_setting('TimeZone'), "            \
    "current_setting('search_path'), current_setting('statement_timeout')) AS parameters"

static void check_parameters(struct worker *worker, const PGresult *result)
{
    int column = PQntuples(result) == 1 ? PQfnumber(result, "parameters") : -1;

    if (column >= 0 && strcmp(PQgetvalue(result, 0, column), worker->parameters) != 0)
        complain(worker->ledger, worker->parameters, PQgetvalue(result, 0, column));
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_PIPELINE_SYNC;
}

/* What the answer to something that commits means. */
static enum outcome judge(struct worker *worker, const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (is_good(result))
        return strcmp(PQcmdStatus((PGresult *)result), "ROLLBACK") ? ACKNOWLEDGED : FAILED;
    /* the end of a connection answers nothing */
    if (!state || !severity || strcmp(severity, "ERROR") != 0 || !strcmp(state, "08007") ||
        PQstatus(worker->conn) != CONNECTION_OK)
        return UNKNOWN;
    return FAILED;
}

/* Reads all results of one simple or extended query: the worst outcome of them. */
static enum outcome finish(struct worker *worker, bool sent)
{
    enum outcome outcome = UNKNOWN, one;
    PGresult *result;
    bool first = true;

    worker->deadline = now_ms() + ANSWER_MS;
    while (sent && (result = take(worker))) {
        one = judge(worker, result);
        check_parameters(worker, result);
        if (!is_good(result))
            note_error(worker, result);
        if (first || (outcome == ACKNOWLEDGED && one != ACKNOWLEDGED))
            outcome = one;
        first = false;
        PQclear(result);
    }
    if (PQstatus(worker->conn) != CONNECTION_OK && outcome == ACKNOWLEDGED)
        outcome = UNKNOWN;
    return outcome;
}

static enum outcome simple(struct worker *worker, const char *sql)
{
    return finish(worker, PQsendQuery(worker->conn, sql));
}

static enum outcome extended(struct worker *worker, const char *sql)
{
    return finish(worker, PQsendQueryParams(worker->conn, sql, 0, NULL, NULL, NULL, NULL, 0));
}

/* ---- a client's session ---- */

static const struct named {
    const char *name, *sql;
} NAMED[] = {
    {"begin", "BEGIN"},
    {"pay", "SELECT pay($1::bigint, $2::int, $3::int, $4::int), " PARAMETERS},
    {"move", "UPDATE account SET balance = balance + $2::int WHERE id = $1::int"},
    {"write",
     "INSERT INTO transfer VALUES ($1::bigint, $2::int, $3::int, $4::int) RETURNING " PARAMETERS},
    {"commit", "COMMIT"},
};

#define NAMED_COUNT ((int)(sizeof NAMED / sizeof NAMED[0]))

/* Its parameters and named statements, once for each connection; goes on where it was refused. */
static bool set_up(struct worker *worker)
{
    int number = worker->ledger->options.first + worker->number, zone = number % 12 + 1;
    const char *sets[] = {
        text_of("SET application_name = 'ledger %d'", number),
        text_of("SET TimeZone = 'Etc/GMT+%d'", zone),
        text_of("SET search_path = shelf_%d, public", number),
        text_of("SET statement_timeout = '%dms'", 700001 + 2 * number),
    };
    const int set_count = (int)(sizeof sets / sizeof sets[0]);

    snprintf(worker->parameters, sizeof worker->parameters,
             "ledger %d/Etc/GMT+%d/shelf_%d, public/%dms", number, zone, number,
             700001 + 2 * number);
    for (int i = worker->set_up; i < set_count + NAMED_COUNT; i++) {
        const struct named *named = i < set_count ? NULL : &NAMED[i - set_count];
        bool sent = named   ? PQsendPrepare(worker->conn, named->name, named->sql, 0, NULL)
                    : i % 2 ? PQsendQueryParams(worker->conn, sets[i], 0, NULL, NULL, NULL, NULL, 0)
                            : PQsendQuery(worker->conn, sets[i]);

        if (finish(worker, sent) != ACKNOWLEDGED)
            break;
        worker->set_up++;
    }
    for (int i = 0; i < set_count; i++)
        free((char *)sets[i]);
    return worker->set_up == set_count + NAMED_COUNT;
}

/* At most four numbers. */
static bool send_named(struct worker *worker, const char *name, int count, const int64_t *numbers)
{
    char texts[4][24];
    const char *values[4] = {NULL};

    for (int i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], "%lld", (long long)numbers[i]);
        values[i] = texts[i];
    }
    return PQsendQueryPrepared(worker->conn, name, count, values, NULL, NULL, 0);
}

static enum outcome named(struct worker *worker, const char *name, int count,
                          const int64_t *numbers)
{
    return finish(worker, send_named(worker, name, count, numbers));
}

/* ---- the ways of a transfer ---- */

struct payment {
    int64_t id;
    int debtor, creditor, amount;
    char pay[384]; /* SELECT pay(…) */
};

/* An error before the commit: nothing happened, and the transaction is ended. */
static enum outcome give_up(struct worker *worker)
{
    if (PQstatus(worker->conn) == CONNECTION_OK &&
        PQtransactionStatus(worker->conn) != PQTRANS_IDLE)
        (void)simple(worker, "ROLLBACK");
    return FAILED;
}

static enum outcome way_transaction(struct worker *worker, const struct payment *payment,
                                    enum outcome (*ask)(struct worker *, const char *))
{
    char sql[384];

    if (ask(worker, "BEGIN") != ACKNOWLEDGED)
        return give_up(worker);
    /* the lower number first, so that nobody waits in a circle */
    for (int i = 0; i < 2; i++) {
        bool debit = (payment->debtor < payment->creditor) == (i == 0);

        snprintf(sql, sizeof sql, "UPDATE account SET balance = balance + %d WHERE id = %d",
                 debit ? -payment->amount : payment->amount,
                 debit ? payment->debtor : payment->creditor);
        if (ask(worker, sql) != ACKNOWLEDGED)
            return give_up(worker);
    }
    snprintf(sql, sizeof sql,
             "INSERT INTO transfer VALUES (%lld, %d, %d, %d) RETURNING " PARAMETERS,
             (long long)payment->id, payment->debtor, payment->creditor, payment->amount);
    if (ask(worker, sql) != ACKNOWLEDGED)
        return give_up(worker);
    return ask(worker, "COMMIT");
}

static enum outcome way_simple(struct worker *worker, const struct payment *payment)
{
    return way_transaction(worker, payment, simple);
}

static enum outcome way_extended(struct worker *worker, const struct payment *payment)
{
    return way_transaction(worker, payment, extended);
}

static enum outcome way_single(struct worker *worker, const struct payment *payment)
{
    return simple(worker, payment->pay);
}

static enum outcome way_string(struct worker *worker, const struct payment *payment)
{
    char sql[448];

    snprintf(sql, sizeof sql, "BEGIN; %s; COMMIT", payment->pay);
    return simple(worker, sql);
}

static enum outcome way_prepared(struct worker *worker, const struct payment *payment)
{
    return named(worker, "pay", 4,
                 (int64_t[]){payment->id, payment->debtor, payment->creditor, payment->amount});
}

/* A transaction of nothing but named statements: what COMMIT is can be seen by its name only. */
static enum outcome way_named(struct worker *worker, const struct payment *payment)
{
    if (named(worker, "begin", 0, NULL) != ACKNOWLEDGED)
        return give_up(worker);
    for (int i = 0; i < 2; i++) {
        bool debit = (payment->debtor < payment->creditor) == (i == 0);
        int64_t numbers[] = {debit ? payment->debtor : payment->creditor,
                             debit ? -payment->amount : payment->amount};

        if (named(worker, "move", 2, numbers) != ACKNOWLEDGED)
            return give_up(worker);
    }
    if (named(worker, "write", 4,
              (int64_t[]){payment->id, payment->debtor, payment->creditor, payment->amount}) !=
        ACKNOWLEDGED)
        return give_up(worker);
    return named(worker, "commit", 0, NULL);
}

/* BEGIN, pay, COMMIT behind one Sync. An error of BEGIN or pay says that COMMIT was skipped, unless
 * it is 08007. */
static enum outcome way_pipeline(struct worker *worker, const struct payment *payment)
{
    const int64_t numbers[] = {payment->id, payment->debtor, payment->creditor, payment->amount};
    enum outcome outcome = ACKNOWLEDGED, one;
    bool synced = false;
    int good = 0;

    if (!PQenterPipelineMode(worker->conn))
        return FAILED;
    worker->deadline = now_ms() + ANSWER_MS;
    PQsendQueryParams(worker->conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 0);
    (void)send_named(worker, "pay", 4, numbers);
    PQsendQueryParams(worker->conn, "COMMIT", 0, NULL, NULL, NULL, NULL, 0);
    PQpipelineSync(worker->conn);
    while (!synced && PQstatus(worker->conn) == CONNECTION_OK && now_ms() < worker->deadline) {
        PGresult *result = take(worker);

        if (!result)
            continue;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            synced = true;
        } else if (PQresultStatus(result) != PGRES_PIPELINE_ABORTED) {
            one = judge(worker, result);
            check_parameters(worker, result);
            if (!is_good(result))
                note_error(worker, result);
            good += one == ACKNOWLEDGED;
            if (outcome == ACKNOWLEDGED)
                outcome = one;
        }
        PQclear(result);
    }
    if (!synced)
        return UNKNOWN;
    (void)PQexitPipelineMode(worker->conn);
    if (PQtransactionStatus(worker->conn) != PQTRANS_IDLE)
        (void)give_up(worker);
    if (outcome == ACKNOWLEDGED && good != 3)
        complain(worker->ledger, "a pipeline lost an answer", payment->pay);
    return outcome;
}

static const struct way {
    const char *name;
    enum outcome (*pay)(struct worker *worker, const struct payment *payment);
} WAYS[] = {
    {"simple", way_simple},     {"single", way_single},     {"extended", way_extended},
    {"prepared", way_prepared}, {"pipeline", way_pipeline}, {"string", way_string},
    {"named", way_named},
};

/* Every client uses each in turn. */
static const struct way *way_of(int64_t client, int64_t id)
{
    return &WAYS[(size_t)(client + id) % (sizeof WAYS / sizeof WAYS[0])];
}

/* ---- a client ---- */

static void write_down(struct worker *worker, int64_t id, enum outcome outcome)
{
    if (worker->count == worker->size) {
        worker->size = 2 * worker->size + 256;
        worker->entries = realloc(worker->entries, (size_t)worker->size * sizeof *worker->entries);
        if (!worker->entries)
            abort();
    }
    worker->entries[worker->count++] =
        (struct entry){.id = id, .when_ms = now_ms(), .outcome = outcome};
    memcpy(worker->entries[worker->count - 1].sqlstate, worker->sqlstate, sizeof worker->sqlstate);
    atomic_fetch_add(&worker->ledger->outcomes[outcome], 1);
}

static void keep_greatest(_Atomic int64_t *place, int64_t value)
{
    int64_t old = atomic_load(place);

    while (value > old && !atomic_compare_exchange_weak(place, &old, value))
        ;
}

static void pay(struct worker *worker)
{
    struct ledger *ledger = worker->ledger;
    struct payment payment = {.id = worker->next_id++,
                              .debtor = rand_r(&worker->seed) % ACCOUNTS,
                              .amount = 1 + rand_r(&worker->seed) % 100};
    int64_t begun = now_us(), ended, nothing = 0;
    enum outcome outcome;

    payment.creditor = (payment.debtor + 1 + rand_r(&worker->seed) % (ACCOUNTS - 1)) % ACCOUNTS;
    snprintf(payment.pay, sizeof payment.pay, "SELECT pay(%lld, %d, %d, %d), " PARAMETERS,
             (long long)payment.id, payment.debtor, payment.creditor, payment.amount);
    worker->warned = false;
    worker->sqlstate[0] = 0;
    outcome = way_of(worker->number, payment.id)->pay(worker, &payment);
    if (outcome == ACKNOWLEDGED && worker->warned)
        outcome = UNKNOWN;
    write_down(worker, payment.id, outcome);
    ended = now_us();
    if (begun >= atomic_load(&ledger->mark_us)) {
        keep_greatest(&ledger->longest_ms, (ended - begun) / 1000);
        if (outcome == ACKNOWLEDGED) {
            atomic_compare_exchange_strong(&ledger->first_us, &nothing, ended);
            atomic_fetch_add(&ledger->fresh, 1);
        }
    }
}

static bool connected(struct worker *worker)
{
    if (worker->conn && PQstatus(worker->conn) == CONNECTION_OK)
        return true;
    if (worker->conn) {
        atomic_fetch_add(&worker->ledger->closed, 1);
        note(worker->ledger, "closed", PQerrorMessage(worker->conn));
        PQfinish(worker->conn);
        pause_ms(50);
    }
    worker->set_up = 0;
    worker->conn = PQconnectdb(worker->ledger->conninfo);
    PQsetNoticeReceiver(worker->conn, hear_notice, worker);
    PQsetnonblocking(worker->conn, 1);
    return PQstatus(worker->conn) == CONNECTION_OK;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;

    while (!atomic_load(&worker->ledger->stopping)) {
        if (!connected(worker) || !set_up(worker))
            continue;
        pay(worker);
        if (worker->ledger->options.pause_ms)
            pause_ms(worker->ledger->options.pause_ms);
    }
    PQfinish(worker->conn);
    return NULL;
}

struct ledger *ledger_start(const struct proxy *proxy, const struct ledger_options *options)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);

    if (!ledger || options->clients > CLIENTS_MAX || options->idle > CLIENTS_MAX)
        abort();
    ledger->options = *options;
    ledger->conninfo = client_conninfo(proxy, options->conninfo);
    pthread_mutex_init(&ledger->mutex, NULL);
    for (int i = 0; i < options->idle; i++) {
        ledger->idle[i] = client_open(proxy, options->conninfo);
        if (i % 2)
            client_do(ledger->idle[i], "SELECT 1");
    }
    for (int i = 0; i < options->clients; i++) {
        struct worker *worker = &ledger->workers[i];

        worker->ledger = ledger;
        worker->number = i;
        worker->seed = (unsigned)i + 1;
        worker->next_id = (int64_t)(options->first + i + 1) * 1000000;
        if (pthread_create(&ledger->threads[i], NULL, worker_main, worker))
            support_fail("pthread_create");
    }
    if (options->listeners)
        ledger->listeners = listeners_start(
            proxy, options->listeners, text_of("ledger_%d", options->first), options->conninfo);
    return ledger;
}

long ledger_acknowledged(const struct ledger *ledger)
{
    return atomic_load(&ledger->outcomes[ACKNOWLEDGED]);
}

long ledger_unknown(const struct ledger *ledger)
{
    return atomic_load(&ledger->outcomes[UNKNOWN]);
}

long ledger_failed(const struct ledger *ledger)
{
    return atomic_load(&ledger->outcomes[FAILED]);
}

long ledger_closed(const struct ledger *ledger)
{
    return atomic_load(&ledger->closed);
}

char *ledger_last_error(struct ledger *ledger)
{
    char *text;

    pthread_mutex_lock(&ledger->mutex);
    text = text_of("%s (all:", ledger->last_error);
    for (int i = 0; i < CODES && ledger->codes[i].sqlstate[0]; i++)
        text = text_of("%s %s %ld times", text, ledger->codes[i].sqlstate, ledger->codes[i].count);
    pthread_mutex_unlock(&ledger->mutex);
    return text_of("%s)", text);
}

void ledger_mark(struct ledger *ledger)
{
    atomic_store(&ledger->mark_us, now_us());
    atomic_store(&ledger->longest_ms, 0);
    atomic_store(&ledger->fresh, 0);
    atomic_store(&ledger->first_us, 0);
    for (int i = 0; i < ledger->options.clients; i++)
        ledger->workers[i].marked_id = atomic_load(&ledger->workers[i].next_id);
}

double ledger_first_ms(const struct ledger *ledger)
{
    int64_t first = atomic_load(&ledger->first_us);

    return first ? (double)(first - atomic_load(&ledger->mark_us)) / 1000 : -1;
}

bool ledger_goes_on(struct ledger *ledger, long count, int ms)
{
    /* each client may be within one that it began before */
    long before = ledger_acknowledged(ledger) + ledger->options.clients;

    return until(ledger_acknowledged(ledger) >= before + count, ms);
}

static bool idle_lives(PGconn *conn)
{
    PGresult *result;
    bool ok;

    if (!PQconsumeInput(conn) || PQstatus(conn) != CONNECTION_OK)
        return false;
    if (!PQsendQuery(conn, "SELECT 1"))
        return false;
    result = client_result(conn, ANSWER_MS);
    ok = PQresultStatus(result) == PGRES_TUPLES_OK;
    PQclear(result);
    while ((result = client_result(conn, ANSWER_MS)))
        PQclear(result);
    return ok;
}

void ledger_stop(struct ledger *ledger)
{
    atomic_store(&ledger->stopping, true);
    for (int i = 0; i < ledger->options.clients; i++)
        pthread_join(ledger->threads[i], NULL);
    for (int i = 0; i < ledger->options.idle; i++) {
        if (!idle_lives(ledger->idle[i])) {
            ledger->idle_lost++;
            note(ledger, "idle", PQerrorMessage(ledger->idle[i]));
        }
        PQfinish(ledger->idle[i]);
    }
    if (ledger->listeners)
        listeners_stop(ledger->listeners);
}

/* ---- the judge ---- */

/* Of the client whose transfer it is; -1: none of this ledger's. */
static int64_t number_of(const struct ledger *ledger, int64_t id)
{
    int64_t number = id / 1000000 - 1 - ledger->options.first;

    return number < ledger->options.clients ? number : -1;
}

static struct entry *entry_of(struct ledger *ledger, int64_t id)
{
    int64_t number = number_of(ledger, id), place = id % 1000000;

    if (number < 0 || place >= ledger->workers[number].count)
        return NULL;
    /* each client writes an entry for each of its ids, in their order */
    return &ledger->workers[number].entries[place];
}

static PGresult *ask(const struct cluster *cluster, const char *sql)
{
    PGconn *conn = cluster_connect(cluster, "app");
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        support_fail("%s: %s", sql, PQerrorMessage(conn));
    PQfinish(conn);
    return result;
}

static const char WRONG_ACCOUNTS[] =
    "SELECT count(*) FROM account LEFT JOIN (SELECT id, sum(amount) AS moved FROM"
    " (SELECT debtor AS id, -amount AS amount FROM transfer UNION ALL"
    "  SELECT creditor, amount FROM transfer) both_ways GROUP BY id) moves USING (id)"
    " WHERE balance <> 1000 + coalesce(moved, 0)";

/* "transfer 3000012 (pipeline): failed 57P01, seen 1 times". */
static void describe(struct ledger_verdict *verdict, const struct entry *entry)
{
    static const char *const outcomes[] = {"acknowledged", "unknown", "failed"};

    if (!verdict->example[0])
        snprintf(verdict->example, sizeof verdict->example,
                 "transfer %lld (way %s): %s %s, is there %d times", (long long)entry->id,
                 way_of(entry->id / 1000000 - 1, entry->id)->name, outcomes[entry->outcome],
                 entry->sqlstate, entry->seen);
}

static void count_entry(struct ledger_verdict *verdict, const struct entry *entry)
{
    switch (entry->outcome) {
    case ACKNOWLEDGED:
        verdict->acknowledged++;
        if (!entry->seen) {
            verdict->missing++;
            if (entry->when_ms > verdict->last_missing)
                verdict->last_missing = entry->when_ms;
        }
        break;
    case UNKNOWN:
        verdict->unknown++;
        verdict->arrived += entry->seen > 0;
        break;
    case FAILED:
        verdict->failed++;
        verdict->ghosts += entry->seen > 0;
        break;
    }
    verdict->doubled += entry->seen > 1;
    if (entry->seen > 1 || (entry->outcome == FAILED && entry->seen))
        describe(verdict, entry);
}

long ledger_fresh_on(const struct ledger *ledger, const struct cluster *cluster)
{
    PGresult *rows = ask(cluster, "SELECT id FROM transfer");
    long fresh = 0;

    for (int i = 0; i < PQntuples(rows); i++) {
        int64_t id = atoll(PQgetvalue(rows, i, 0)), number = number_of(ledger, id);

        fresh += number >= 0 && id >= ledger->workers[number].marked_id;
    }
    PQclear(rows);
    return fresh;
}

struct ledger_verdict ledger_judge(struct ledger *ledger, const struct cluster *primary)
{
    struct ledger_verdict verdict = {.closed = ledger_closed(ledger),
                                     .idle_lost = ledger->idle_lost,
                                     .longest_ms = atomic_load(&ledger->longest_ms)};
    PGresult *rows = ask(primary, "SELECT id FROM transfer");

    for (int i = 0; i < ledger->options.clients; i++)
        for (long j = 0; j < ledger->workers[i].count; j++)
            ledger->workers[i].entries[j].seen = 0;
    for (int i = 0; i < PQntuples(rows); i++) {
        struct entry *entry = entry_of(ledger, atoll(PQgetvalue(rows, i, 0)));

        if (entry)
            entry->seen++;
        else if (!ledger->options.shared)
            complain(ledger, "a transfer that nobody asked for", PQgetvalue(rows, i, 0));
    }
    PQclear(rows);
    for (int i = 0; i < ledger->options.clients; i++)
        for (long j = 0; j < ledger->workers[i].count; j++)
            count_entry(&verdict, &ledger->workers[i].entries[j]);
    if (ledger->listeners)
        verdict.heard = listeners_judge(ledger->listeners);
    if (ledger->options.cut)
        verdict.heard.untold = 0;
    verdict.unexplained = verdict.missing;
    verdict.wrong_accounts = cluster_number(primary, WRONG_ACCOUNTS);
    snprintf(verdict.problem, sizeof verdict.problem, "%s", ledger->problem);
    return verdict;
}

/* " 1234 " for each transaction that committed behind that point. */
static char *commits_behind(const struct cluster *old, const char *switch_point)
{
    char *arguments[] = {text_of("%s/pg_waldump", program_postgres_folder()),
                         "-p",
                         text_of("%s/data/pg_wal", old->folder),
                         "-s",
                         text_of("%s", switch_point),
                         "-r",
                         "Transaction",
                         NULL};
    char *output, *line, *rest = NULL, *all = text_of(" ");

    /* it ends badly where the WAL ends */
    (void)process_run(arguments, NULL, &output);
    for (line = strtok_r(output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *transaction = strstr(line, "tx: ");

        if (transaction && strstr(line, "desc: COMMIT"))
            all = text_of("%s%ld ", all, atol(transaction + 4));
    }
    return all;
}

void ledger_explain(struct ledger *ledger, struct ledger_verdict *verdict, struct cluster *old,
                    const char *switch_point)
{
    const char *settings = text_of("%s/data/postgresql.auto.conf", old->folder);
    char *before = file_text(settings);
    char *commits = commits_behind(old, switch_point);
    PGresult *rows;

    cluster_set(old, "listen_addresses = ''");
    cluster_follow(old, NULL);
    cluster_again(old);
    rows = ask(old, "SELECT id, xmin FROM transfer");
    for (int i = 0; i < PQntuples(rows); i++) {
        struct entry *entry = entry_of(ledger, atoll(PQgetvalue(rows, i, 0)));

        if (entry && entry->outcome == ACKNOWLEDGED && !entry->seen &&
            strstr(commits, text_of(" %s ", PQgetvalue(rows, i, 1))))
            verdict->unexplained--;
    }
    PQclear(rows);
    cluster_end(old, CLUSTER_FAST);
    file_write(settings, 0600, before);
}

void ledger_expect_sound(const struct ledger_verdict *verdict, bool may_miss)
{
    cr_expect_str_eq(verdict->problem, "", "%s", verdict->problem);
    cr_expect_gt(verdict->acknowledged, 0);
    cr_expect_eq(verdict->doubled, 0, "%ld transfers are there twice: %s", verdict->doubled,
                 verdict->example);
    cr_expect_eq(verdict->ghosts, 0, "%ld transfers of which an error was told are there: %s",
                 verdict->ghosts, verdict->example);
    cr_expect_eq(verdict->wrong_accounts, 0, "%ld accounts are wrong", verdict->wrong_accounts);
    cr_expect_eq(verdict->idle_lost, 0, "%d idle clients were lost", verdict->idle_lost);
    cr_expect_str_eq(verdict->heard.problem, "", "%s", verdict->heard.problem);
    cr_expect_eq(verdict->heard.missed, 0, "%ld notifications were missed, and nobody was told",
                 verdict->heard.missed);
    cr_expect_eq(verdict->heard.untold, 0, "%ld listening clients were disconnected without a word",
                 verdict->heard.untold);
    if (!may_miss)
        cr_expect_eq(verdict->missing, 0, "%ld of %ld acknowledged transfers are missing",
                     verdict->missing, verdict->acknowledged);
}
