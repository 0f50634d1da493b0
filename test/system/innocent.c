/*
 * innocent: see innocent.h.
 */
#include "innocent.h"

#include <stdlib.h>
#include <string.h>

#include "system.h"

unsigned long trial_number(const char *variable, unsigned long otherwise)
{
    const char *value = getenv(variable);

    return value ? strtoul(value, NULL, 10) : otherwise;
}

void trial_wrong(struct trial *trial, char *text)
{
    pthread_mutex_lock(&trial->mutex);
    if (!trial->wrong)
        trial->wrong = text;
    pthread_mutex_unlock(&trial->mutex);
    trial->over = true;
}

static void hear_notice(void *argument, const PGresult *result)
{
    struct innocent *innocent = argument;

    trial_wrong(innocent->trial, text_of("innocent client %d heard: %s", innocent->number,
                                         PQresultErrorMessage(result)));
}

/* Is this one row with this value? Frees the result. */
static void judge(struct innocent *innocent, PGresult *result, const char *expected)
{
    bool row = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;

    if (!row)
        trial_wrong(innocent->trial,
                    text_of("innocent client %d expected '%.80s' and got %s %s", innocent->number,
                            expected, PQresStatus(PQresultStatus(result)),
                            PQresultErrorMessage(result)));
    else if (strcmp(PQgetvalue(result, 0, 0), expected) != 0)
        trial_wrong(innocent->trial, text_of("innocent client %d expected '%.80s' and got '%.80s'",
                                             innocent->number, expected, PQgetvalue(result, 0, 0)));
    PQclear(result);
}

static void judge_command(struct innocent *innocent, const char *sql)
{
    PGresult *result = PQexec(innocent->conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        trial_wrong(innocent->trial, text_of("innocent client %d: %s: %s", innocent->number, sql,
                                             PQresultErrorMessage(result)));
    PQclear(result);
}

static void play_pipeline(struct innocent *innocent, const char *tag)
{
    char texts[3][100];

    PQenterPipelineMode(innocent->conn);
    for (int i = 0; i < 3; i++) {
        const char *values[] = {texts[i]};

        snprintf(texts[i], sizeof texts[i], "%s-%d", tag, i);
        (void)!PQsendQueryParams(innocent->conn, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
    }
    PQpipelineSync(innocent->conn);
    for (int i = 0; i < 3; i++) {
        judge(innocent, PQgetResult(innocent->conn), texts[i]);
        PQclear(PQgetResult(innocent->conn));
    }
    PQclear(PQgetResult(innocent->conn)); /* of the Sync */
    if (!PQexitPipelineMode(innocent->conn))
        trial_wrong(innocent->trial,
                    text_of("innocent client %d: the pipeline is not over", innocent->number));
}

/* What others could have left in its session. */
static const char state_sql[] =
    "SELECT concat_ws('|', current_setting('lock_timeout'), current_setting('search_path'), "
    "current_setting('DateStyle'), coalesce(current_setting('my.secret', true), ''), "
    "(SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_my_temp_schema()), "
    "(SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql), "
    "(SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = "
    "pg_backend_pid()), (SELECT count(*) FROM pg_catalog.pg_listening_channels()))";

static void play_round(struct innocent *innocent)
{
    PGconn *conn = innocent->conn;
    char tag[64], sql[100], longer[64 + 8];
    const char *values[] = {tag};

    snprintf(tag, sizeof tag, INNOCENT_MARK "-%d-%lu", innocent->number, innocent->round);
    snprintf(sql, sizeof sql, "SELECT '%s'", tag);
    switch (innocent->round++ % 7) {
    case 0:
        judge(innocent, PQexec(conn, sql), tag);
        break;
    case 1:
        judge(innocent, PQexecParams(conn, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0), tag);
        break;
    case 2:
        snprintf(longer, sizeof longer, "%s-kept", tag);
        judge(innocent, PQexecPrepared(conn, "kept", 1, values, NULL, NULL, 0), longer);
        break;
    case 3:
        judge_command(innocent, "BEGIN");
        judge(innocent, PQexec(conn, sql), tag);
        judge_command(innocent, "COMMIT");
        break;
    case 4:
        judge(innocent, PQexec(conn, state_sql), "0|\"$user\", public|ISO, MDY||0|0|0|0");
        break;
    case 5:
        judge(innocent, PQexec(conn, text_of("SELECT 1; %s", sql)), tag);
        break;
    default:
        play_pipeline(innocent, tag);
        break;
    }
    if (PQtransactionStatus(conn) != PQTRANS_IDLE || PQnotifies(conn))
        trial_wrong(innocent->trial, text_of("innocent client %d is in no state to go on (%d)",
                                             innocent->number, PQtransactionStatus(conn)));
    innocent->trial->rounds++;
}

static void *innocent_main(void *argument)
{
    struct innocent *innocent = argument;

    PQclear(PQprepare(innocent->conn, "kept", "SELECT $1::text || '-kept'", 1, NULL));
    while (!innocent->trial->over)
        play_round(innocent);
    return NULL;
}

void innocent_start(struct innocent *innocent, struct trial *trial, int number, PGconn *conn)
{
    *innocent = (struct innocent){.trial = trial, .number = number, .conn = conn};
    PQsetNoticeReceiver(conn, hear_notice, innocent);
    cr_assert_eq(pthread_create(&innocent->thread, NULL, innocent_main, innocent), 0);
}
