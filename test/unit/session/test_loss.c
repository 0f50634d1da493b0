/*
 * test_loss.c: what a client is told when its server is lost, as scripts.
 *
 * A script is a list of words, one a line:
 *
 *     <Q text     the client sends it, and all of it reaches the server's socket
 *     ~Q text     … and not all of it does
 *     !Q text     as <, and somebody wants to hear of the answer (ANSWER_NOTED)
 *     >CZT        the server answers with these messages; Z is followed by the status
 *     LOST        the server is lost; LOST 25P03: it said FATAL with that SQLSTATE
 *     Q text      the client sends it afterwards
 *     =E08007 ZI  what it has got since the last such line; E is followed by the SQLSTATE
 *     =           nothing
 *
 * P is followed by a name (- for the unnamed one) and a text, B by portal and statement, E by a
 * portal, D and C by S or P and a name. "pass" in a result: the message goes to another server.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/session/loss.h"
#include "pgstage/session/recall.h"
#include "pgstage/session/transaction.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/intent.h"
#include "pgstage/wire/message.h"

struct stage {
    struct transaction transaction;
    struct loss loss;
    struct recall recall;
    struct {
        char name[20];
        uint8_t intent;
    } statements[8]; /* as the client's names would know them */
    uint64_t offered, sent;
    char got[1000];
};

static const char *name_of(const char *word)
{
    return strcmp(word, "-") == 0 ? "" : word;
}

/* The body of a message as the words describe it. */
static void make_body(const char *line, struct buffer *body)
{
    char words[400], *rest, *first, *second;

    snprintf(words, sizeof words, "%s", line + 1 + (line[1] == ' '));
    rest = words;
    switch (line[0]) {
    case 'Q':
        buffer_put_string(body, words);
        break;
    case 'P':
        first = strsep(&rest, " ");
        buffer_put_string(body, name_of(first));
        buffer_put_string(body, rest ? rest : "");
        buffer_put_u16(body, 0);
        break;
    case 'B':
        first = strsep(&rest, " ");
        second = strsep(&rest, " ");
        buffer_put_string(body, name_of(first));
        buffer_put_string(body, name_of(second));
        buffer_put_u16(body, 0);
        buffer_put_u16(body, 0);
        buffer_put_u16(body, 0);
        break;
    case 'E':
        buffer_put_string(body, name_of(words));
        buffer_put_u32(body, 0);
        break;
    case 'D':
    case 'C':
        buffer_put_u8(body, (uint8_t)words[0]);
        buffer_put_string(body, name_of(words + 2));
        break;
    default:
        break;
    }
}

static uint8_t *statement_of(struct stage *stage, const char *name)
{
    size_t i = 0;

    while (stage->statements[i].name[0] && strcmp(stage->statements[i].name, name) != 0)
        i++;
    cr_assert_lt(i, 7);
    snprintf(stage->statements[i].name, sizeof stage->statements[i].name, "%s", name);
    return &stage->statements[i].intent;
}

/* What the message names, as the relay and recall_message find it. */
static uint8_t recall(struct stage *stage, const char *line, struct buffer *body)
{
    char words[400], *rest = words, *first;
    uint8_t intent;

    make_body(line, body);
    snprintf(words, sizeof words, "%s", line + 1 + (line[1] == ' '));
    switch (line[0]) {
    case 'Q':
        return (uint8_t)intent_of(words, strlen(words), false, 0);
    case 'P':
        first = strsep(&rest, " ");
        rest = rest ? rest : "";
        return *statement_of(stage, first) = (uint8_t)intent_of(rest, strlen(rest), false, 0);
    case 'B':
        first = strsep(&rest, " ");
        intent = *statement_of(stage, strsep(&rest, " "));
        recall_bind(&stage->recall, *first != '-', intent);
        return intent;
    case 'D':
        return words[0] == 'S' ? *statement_of(stage, words + 2)
                               : recall_portal(&stage->recall, words[2] != '-');
    case 'E':
        return recall_portal(&stage->recall, words[0] != '-');
    default:
        return 0;
    }
}

static void send(struct stage *stage, const char *line, bool reaches, unsigned note)
{
    struct buffer body = {0};
    uint8_t intent = recall(stage, line, &body);

    stage->offered += FRAME_HEADER_BYTES + body.length;
    if (reaches)
        stage->sent = stage->offered;
    (void)transaction_ask_for(&stage->transaction, (uint8_t)line[0], ANSWER_FORWARD | note, intent,
                              stage->offered);
    buffer_fini(&body);
}

static void answer(struct stage *stage, const char *types)
{
    for (; *types; types++) {
        uint8_t type = (uint8_t)*types;
        char status = type == 'Z' ? *++types : 0;

        cr_assert_neq(transaction_answer(&stage->transaction, type, status), VERDICT_BAD, "%c",
                      type);
    }
}

/* What is in `out`, as words. */
static void get(struct stage *stage, struct buffer *out)
{
    size_t at = 0, room;
    struct frame frame;
    struct error_fields fields;

    while (at < out->length) {
        char *end = stage->got + strlen(stage->got);
        const uint8_t *body = out->data + at + FRAME_HEADER_BYTES;

        room = sizeof stage->got - (size_t)(end - stage->got);
        cr_assert_eq(frame_peek(out->data + at, out->length - at, UINT32_MAX, &frame), FRAME_OK);
        if (end > stage->got) {
            *end++ = ' ';
            room--;
        }
        if (frame.type == 'E') {
            cr_assert_eq(error_fields_read(&fields, body, frame.body_bytes), 0);
            cr_assert_str_eq(fields.severity, "ERROR");
            snprintf(end, room, "E%s", fields.sqlstate);
        } else if (frame.type == 'Z') {
            snprintf(end, room, "Z%c", body[0]);
        } else {
            snprintf(end, room, "%c%s", frame.type, frame.type == 'C' ? (const char *)body : "");
        }
        at += FRAME_HEADER_BYTES + frame.body_bytes;
    }
    buffer_fini(out);
}

static void lose(struct stage *stage, const char *sqlstate)
{
    struct loss_cause cause = {.detail = "gone", .sent_bytes = stage->sent};
    struct buffer out = {0};

    if (*sqlstate) {
        cause.sqlstate = sqlstate;
        cause.text = "own words";
    }
    (void)loss_tell(&stage->loss, &stage->transaction, &cause, &out);
    get(stage, &out);
}

static void go_on(struct stage *stage, const char *line)
{
    struct loss_message message = {.type = (uint8_t)line[0]};
    struct buffer body = {0}, out = {0};

    message.intent = recall(stage, line, &body);
    message.target = body.length ? (char)body.data[0] : 0;
    if (!loss_is_busy(&stage->loss) || !loss_message(&stage->loss, &message, &out))
        strcat(stage->got, stage->got[0] ? " pass" : "pass");
    get(stage, &out);
    buffer_fini(&body);
}

static void play(char status, const char *script)
{
    struct stage stage = {.offered = 1000, .sent = 1000};
    char *text = strdup(script), *rest = text, *line;
    bool lost = false;

    transaction_init(&stage.transaction);
    stage.transaction.status = status;
    while ((line = strsep(&rest, "\n"))) {
        if (line[0] == '<' || line[0] == '~' || line[0] == '!') {
            send(&stage, line + 1, line[0] != '~', line[0] == '!' ? ANSWER_NOTED : 0);
        } else if (line[0] == '>') {
            answer(&stage, line + 1);
        } else if (line[0] == '=') {
            cr_expect_str_eq(stage.got, line + 1, "got \"%s\" instead of \"%s\" in\n%s", stage.got,
                             line + 1, script);
            stage.got[0] = '\0';
        } else if (strncmp(line, "LOST", 4) == 0) {
            lose(&stage, line[4] ? line + 5 : "");
            lost = true;
        } else if (line[0]) {
            go_on(&stage, line);
        }
    }
    cr_assert(lost);
    transaction_fini(&stage.transaction);
    loss_fini(&stage.loss);
    free(text);
}

/* ---- nothing is owed ---- */

Test(loss, idle_between_transactions_is_told_nothing)
{
    play('I', "LOST\n=\nQ SELECT 1\n=pass");
    play('I', "<Q SELECT 1\n>TDCZI\nLOST\n=\nQ SELECT 1\n=pass");
}

Test(loss, idle_in_a_transaction_hears_one_error_at_its_next_message)
{
    play('T', "LOST\n=\nQ SELECT 1\n=E57P01 ZE\nQ SELECT 1\n=E25P02 ZE\nQ ROLLBACK\n=CROLLBACK ZI\n"
              "Q SELECT 1\n=pass");
    play('E', "LOST\n=\nQ SELECT 1\n=E57P01 ZE\nQ END\n=CROLLBACK ZI\nQ SELECT 1\n=pass");
    play('T', "LOST\n=\nQ \n=E57P01 ZE\nQ \n=I ZE");
    play('T', "LOST\n=\nS\n=E57P01 ZE\nS\n=ZE");
    play('T', "LOST\n=\nH\n=\nF\n=E57P01 ZE\nF\n=E25P02 ZE");
}

Test(loss, idle_in_a_transaction_hears_the_servers_own_words)
{
    play('T', "LOST 25P03\n=\nQ SELECT 1\n=E25P03 ZE\nQ SELECT 1\n=E25P02 ZE");
}

Test(loss, an_end_of_the_transaction_gets_that_error_too_and_ends_it)
{
    static const char *const ends[] = {"COMMIT",   "END",  "end work;", "PREPARE TRANSACTION 'x'",
                                       "ROLLBACK", "ABORT"};
    char script[200];

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        snprintf(script, sizeof script, "LOST\n=\nQ %s\n=E57P01 ZI\nQ SELECT 1\n=pass", ends[i]);
        play('T', script);
        snprintf(script, sizeof script,
                 "LOST\nP - %s\n=E57P01\nB - -\nD P -\nE -\n=\nS\n=ZI\nQ SELECT 1\n=pass", ends[i]);
        play('T', script);
        snprintf(script, sizeof script,
                 "<P named %s\n<S\n>1ZT\nLOST\nB - named\n=E57P01\nE -\nS\n=ZI\nP - x\n=pass",
                 ends[i]);
        play('T', script);
    }
    play('T', "LOST\nQ COMMIT AND CHAIN\n=E57P01 ZE");
    play('T', "LOST\nQ ROLLBACK TO a\n=E57P01 ZE");
    play('T', "LOST\nQ INSERT INTO t VALUES (1); COMMIT\n=E57P01 ZE");
    play('T', "LOST\nP - INSERT INTO t VALUES (1)\nB - -\nE -\nP - COMMIT\nB - -\nE -\nS\n"
              "=E57P01 ZE\nQ COMMIT\n=CROLLBACK ZI");
}

Test(loss, an_extended_message_of_an_idle_transaction_drops_its_batch)
{
    play('T', "LOST\nP - SELECT 1\n=E57P01\nB - -\nD P -\nE -\nQ SELECT 2\nH\n=\nS\n=ZE\n"
              "P - SELECT 1\n=E25P02\nB - -\nE -\n=\nS\n=ZE");
    play('T', "LOST\nC S a\n=E57P01\nS\n=ZE\nC S a\n=3\nS\n=ZE");
}

/* ---- the made-up transaction ---- */

Test(loss, an_aborted_transaction_takes_only_its_end)
{
    static const char *const refused[] = {"SELECT 1",
                                          "ROLLBACK TO a",
                                          "COMMIT AND CHAIN",
                                          "ROLLBACK AND CHAIN",
                                          "COMMIT PREPARED 'x'",
                                          "ROLLBACK PREPARED 'x'",
                                          "BEGIN",
                                          "PREPARE TRANSACTION 'x'",
                                          "ROLLBACK; SELECT 1",
                                          "SELECT 1; ROLLBACK",
                                          "ROLLBACK; ROLLBACK",
                                          "ROLLBACK nonsense"};
    static const char *const taken[] = {
        "ROLLBACK",           "abort", "COMMIT", "END TRANSACTION", "/* x */ rollback work ;;",
        "COMMIT AND NO CHAIN"};
    char script[300];

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(script, sizeof script,
                 "LOST\nS\n=E57P01 ZE\nQ %s\n=E25P02 ZE\nP a %s\n=E25P02\nB - a\nE -\n=\nS\n=ZE\n"
                 "B - a\n=E25P02\nS\n=ZE",
                 refused[i], refused[i]);
        play('T', script);
    }
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        snprintf(script, sizeof script, "LOST\nS\n=E57P01 ZE\nQ %s\n=CROLLBACK ZI\nQ x\n=pass",
                 taken[i]);
        play('T', script);
        snprintf(script, sizeof script,
                 "LOST\nS\n=E57P01 ZE\nP - %s\n=1\nD S -\n=t n\nB - -\n=2\nD P -\n=n\nE -\n"
                 "=CROLLBACK\nS\n=pass\nQ x\n=pass",
                 taken[i]);
        play('T', script);
        snprintf(script, sizeof script,
                 "<P a %s\n<S\n>1ZT\nLOST\nS\n=E57P01 ZE\nB - a\n=2\nE -\n=CROLLBACK\nS\n=pass",
                 taken[i]);
        play('T', script);
    }
}

Test(loss, in_an_aborted_transaction_the_rest_is_answered_as_postgresql_does)
{
    play('T', "LOST\nS\n=E57P01 ZE\nQ  ; -- nothing\n=I ZE\nH\n=\nS\n=ZE\nC P a\n=3\nC S a\n=3\n"
              "S\n=ZE\nP - \n=1\nB - -\n=2\nE -\n=I\nS\n=ZE");
    play('T', "LOST\nS\n=E57P01 ZE\nF\n=E25P02 ZE\nd\nc\nf\n=\n");
    /* behind its end the batch goes on with a server */
    play('T', "LOST\nS\n=E57P01 ZE\nP - ROLLBACK\nB - -\nE -\n=1 2 CROLLBACK\nP - SELECT 1\n=pass");
}

/* ---- an answer is owed ---- */

Test(loss, of_a_query_that_commits_by_itself_is_unknown)
{
    play('I', "<Q INSERT INTO t VALUES (1)\nLOST\n=E08007 ZI\nQ x\n=pass");
    play('I', "<Q SELECT 1\n>TD\nLOST\n=E08007 ZI");
    play('I', "<F\nLOST\n=E08007 ZI");
    play('I', "<P - SELECT 1\n<B - -\n<E -\n<S\nLOST\n=E08007 ZI");
    play('I', "<P - SELECT 1\n<B - -\n<E -\n<S\n>12DC\nLOST\n=E08007 ZI");
    play('I', "<Q INSERT INTO t VALUES (1)\n<Q SELECT 2\nLOST\n=E08007 ZI E08007 ZI");
}

Test(loss, of_what_cannot_have_been_carried_out_is_certain)
{
    play('I', "~Q INSERT INTO t VALUES (1)\nLOST\n=E57P01 ZI\nQ x\n=pass");
    play('I', "<Q SELECT 1\n~Q INSERT INTO t VALUES (1)\nLOST\n=E08007 ZI E57P01 ZI");
    play('I', "<P - SELECT 1\n<B - -\n<E -\n~S\nLOST\n=E57P01 ZI");
    play('I', "<P a SELECT 1\n<D S a\n<S\nLOST\n=E57P01 ZI");
    play('I', "<S\nLOST\n=E57P01 ZI");
    play('I', "<P - COMMIT\n<B - -\n<E -\n~S\nLOST\n=E08007 ZI");
    /* what commits before its Sync: nobody knows; but not in a transaction block */
    play('I', "<P - CALL p()\n<B - -\n<E -\n~S\nLOST\n=E08007 ZI");
    play('I', "<P - VACUUM t\n<B - -\n<E -\n>12C\nLOST\n=\nS\n=E08007 ZI");
    play('T', "<P - CALL p()\n<B - -\n<E -\n~S\nLOST\n=E57P01 ZI");
    play('I', "<P - CALL p()\n<B - -\n~E -\nLOST\nS\n=E57P01 ZI");
}

Test(loss, in_a_transaction_only_its_end_is_unknown)
{
    static const char *const unknown[] = {"COMMIT",
                                          "END;",
                                          "PREPARE TRANSACTION 'x'",
                                          "INSERT INTO t VALUES (1); COMMIT",
                                          "ROLLBACK; INSERT INTO t VALUES (1)",
                                          "SELECT 'unreadable'; '"};
    static const char *const certain[] = {"INSERT INTO t VALUES (1)", "ROLLBACK", "SAVEPOINT a",
                                          "SELECT CASE WHEN true THEN 1 END",
                                          "SELECT 'COMMIT'; SELECT 2"};
    char script[300];

    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        snprintf(script, sizeof script, "<Q %s\nLOST\n=E08007 ZI\nQ x\n=pass", unknown[i]);
        play('T', script);
        snprintf(script, sizeof script, "~Q %s\nLOST\n=E57P01 ZI\nQ x\n=pass", unknown[i]);
        play('T', script);
    }
    for (size_t i = 0; i < sizeof certain / sizeof *certain; i++) {
        snprintf(script, sizeof script, "<Q %s\nLOST\n=E57P01 ZI\nQ x\n=pass", certain[i]);
        play('T', script);
        snprintf(script, sizeof script, "<P - %s\n<B - -\n<E -\n<S\nLOST\n=E57P01 ZI", certain[i]);
        play('T', script);
    }
}

Test(loss, an_answer_that_somebody_else_wants_to_hear_of_is_the_clients_too)
{
    play('T', "!Q COMMIT\nLOST\n=E08007 ZI");
    play('I', "!Q SET a = 1\n<Q SELECT 1\nLOST\n=E08007 ZI E08007 ZI");
    play('I', "!Q SET a = 1\n>E\nLOST\n=ZI");
    play('I', "!P - BEGIN\n<B - -\n!E -\n<S\nLOST\n=E57P01 ZE");
}

Test(loss, the_text_of_a_named_statement_decides)
{
    play('T', "<P c COMMIT\n<P i INSERT INTO t VALUES (1)\n<S\n>11ZT\n<B - c\n<E -\n<S\nLOST\n"
              "=E08007 ZI");
    play('T', "<P c COMMIT\n<P i INSERT INTO t VALUES (1)\n<S\n>11ZT\n<B - i\n<E -\n<S\nLOST\n"
              "=E57P01 ZI");
    play('T', "<P c COMMIT\n<B p c\n<S\n>12ZT\n<E p\n<S\nLOST\n=E08007 ZI");
    /* a Parse of the same name is dropped together with what relies on it */
    play('T', "<P c COMMIT\n<S\n>1ZT\n<C S c\n<S\n>3ZT\n<P c SELECT 1\n<B - c\n<E -\n<S\nLOST\n"
              "=E57P01 ZI");
    /* the unnamed one is what its batch says */
    play('T', "<P - COMMIT\n<S\n>1ZT\n<P - SELECT 1\n<B - -\n<E -\n<S\nLOST\n=E57P01 ZI");
}

Test(loss, a_begin_that_went_unanswered_leaves_an_aborted_transaction)
{
    play('I', "<Q BEGIN\nLOST\n=E57P01 ZE\nQ SELECT 1\n=E25P02 ZE\nQ ROLLBACK\n=CROLLBACK ZI");
    play('I', "<Q BEGIN; INSERT INTO t VALUES (1)\nLOST\n=E57P01 ZE");
    play('I', "<Q INSERT INTO t VALUES (1); BEGIN\nLOST\n=E08007 ZE");
    play('I', "<Q BEGIN; INSERT INTO t VALUES (1); COMMIT\nLOST\n=E08007 ZE");
    play('I', "<Q BEGIN\n<Q INSERT INTO t VALUES (1)\n<Q COMMIT\n<Q SELECT 1\nLOST\n"
              "=E57P01 ZE E57P01 ZE E08007 ZI E08007 ZI\nQ x\n=pass");
    play('I', "<P - BEGIN\n<B - -\n<E -\n<P - SELECT 1\n<B - -\n<E -\n<S\nLOST\n=E57P01 ZE");
    play('I', "<P - BEGIN\n<B - -\n<E -\n<P - SELECT 1\n<B - -\n<E -\n<S\n>12C\nLOST\n=E57P01 ZE");
    play('I', "~Q BEGIN\nLOST\n=E57P01 ZE");
}

Test(loss, an_error_that_has_come_is_not_said_again)
{
    play('I', "<Q SELECT 1/0\n>E\nLOST\n=ZI");
    play('I', "<P - x\n<B - -\n<E -\n<S\n>E\nLOST\n=ZI");
    play('I', "<Q SELECT 1/0\n<Q SELECT 1\n>E\nLOST\n=ZI E08007 ZI");
    play('I', "<P - x\n>E\nLOST\n=\nB - -\nE -\n=\nS\n=ZI\nQ x\n=pass");
    play('T', "<Q SELECT 1/0\n>E\nLOST\n=ZI");
}

Test(loss, the_servers_last_words_answer_what_it_was_at)
{
    play('T', "<Q SELECT pg_sleep(9)\nLOST 57P01\n=E57P01 ZI");
    play('T', "<Q SELECT pg_sleep(9)\nLOST 53200\n=E53200 ZI");
    play('T', "<Q SELECT pg_sleep(9)\n<Q COMMIT\nLOST 53200\n=E53200 ZI E57P01 ZI");
    play('I', "<Q INSERT INTO t VALUES (1)\nLOST 57P01\n=E08007 ZI");
    play('T', "<Q COMMIT\nLOST 57P01\n=E08007 ZI");
}

/* ---- batches without their Sync ---- */

Test(loss, an_open_batch_hears_at_once_when_it_waits_and_drops_the_rest)
{
    play('I', "<P - SELECT 1\n<B - -\n<E -\n<H\nLOST\n=E57P01\nE -\nH\nQ x\n=\nS\n=ZI\nQ x\n=pass");
    play('T', "<P - SELECT 1\n<B - -\n<E -\n<H\nLOST\n=E57P01\nS\n=ZI");
    play('I', "<Q SELECT 1\n<P - SELECT 1\nLOST\n=E08007 ZI E57P01\nB - -\nS\n=ZI");
    play('I', "<P - BEGIN\n<B - -\n<E -\n<H\nLOST\n=E57P01\nS\n=ZE\nQ x\n=E25P02 ZE");
}

Test(loss, an_open_batch_that_waits_for_nothing_hears_later)
{
    play('I', "<P - INSERT INTO t VALUES (1)\n<B - -\n<E -\n<H\n>12C\nLOST\n=\nS\n=E57P01 ZI\nQ x\n"
              "=pass");
    play('I', "<P - INSERT INTO t VALUES (1)\n<B - -\n<E -\n<H\n>12C\nLOST\n=\nB - -\n=E57P01\n"
              "E -\n=\nS\n=ZI\nQ x\n=pass");
    play('T', "<P - INSERT INTO t VALUES (1)\n<B - -\n<E -\n<H\n>12C\nLOST\n=\nS\n=E57P01 ZE\nQ x\n"
              "=E25P02 ZE");
}

/* ---- COPY ---- */

Test(loss, of_a_copy_in_that_was_not_ended_is_certain)
{
    play('I', "<Q COPY t FROM STDIN\n>G\n<d\nLOST\n=E57P01 ZI\nd\nc\n=pass pass");
    play('I', "<Q COPY t FROM STDIN\n>G\n<d\n<c\nLOST\n=E08007 ZI");
    play('I', "<Q COPY t FROM STDIN\n>G\n<d\n~c\nLOST\n=E57P01 ZI");
    play('I', "<Q COPY t FROM STDIN\n>G\n<d\n<S\n<d\nLOST\n=E57P01 ZI");
    play('I', "<Q COPY t FROM STDIN\n>G\n<d\n<c\n<S\nLOST\n=E08007 ZI E57P01 ZI");
    play('T', "<Q COMMIT; COPY t FROM STDIN\n>CG\n<d\nLOST\n=E08007 ZI");
}

Test(loss, of_a_copy_in_of_an_execute_drops_up_to_the_sync_behind_it)
{
    play('I', "<P - COPY t FROM STDIN\n<B - -\n<E -\n>12G\n<d\nLOST\n=E57P01\nd\nc\n=\nS\n=ZI");
    play('I', "<P - COPY t FROM STDIN\n<B - -\n<E -\n<S\n>12G\n<d\nLOST\n=E57P01\nd\nc\n=\nS\n=ZI");
    play('I', "<P - COPY t FROM STDIN\n<B - -\n<E -\n>12G\n<d\n<c\n<S\nLOST\n=E08007 ZI");
}

Test(loss, of_a_copy_out)
{
    play('I', "<Q COPY t TO STDOUT\n>Hdd\nLOST\n=E08007 ZI");
    play('T', "<Q COPY t TO STDOUT\n>Hdd\nLOST\n=E57P01 ZI");
}

Test(loss, after_a_failed_copy_as_many_are_answered_as_the_client_waits_for)
{
    play('I', "<Q COPY t FROM STDIN\n<S\n>GE\nLOST\n=ZI");
    play('I', "<Q COPY t FROM STDIN\n<S\n<Q SELECT 1\n>GE\nLOST\n=ZI E08007 ZI");
    play('I', "<P - COPY t FROM STDIN\n<B - -\n<E -\n<S\n>12GE\nLOST\n=ZI");
    play('I', "<P - COPY t FROM STDIN\n<B - -\n<E -\n<S\n<c\n<S\n>12GE\nLOST\n=ZI");
}

/* ---- messages in part, and refusals ---- */

static void take(struct stage *stage, const char *line, const char *expected)
{
    go_on(stage, line);
    cr_expect_str_eq(stage->got, expected, "%s: got %s", line, stage->got);
    stage->got[0] = '\0';
}

static struct stage *cut(char status, const char *before, const char *line)
{
    static struct stage stage;
    struct buffer out = {0};

    stage = (struct stage){.offered = 1000, .sent = 1000};
    transaction_init(&stage.transaction);
    stage.transaction.status = status;
    if (before)
        send(&stage, before, true, 0);
    send(&stage, line, false, 0);
    transaction_retract(&stage.transaction, (uint8_t)line[0], stage.sent);
    lose(&stage, "");
    loss_cut(&stage.loss, (uint8_t)line[0], 0);
    loss_cut_over(&stage.loss, &out);
    get(&stage, &out);
    return &stage;
}

Test(loss, a_query_that_came_in_part_is_refused_when_all_of_it_has_come)
{
    struct stage *stage = cut('I', NULL, "Q INSERT");

    cr_expect_str_eq(stage->got, "E57P01 ZI");
    stage = cut('I', "Q SELECT 1", "Q INSERT");
    cr_expect_str_eq(stage->got, "E08007 ZI E57P01 ZI");
    stage = cut('T', NULL, "Q INSERT");
    cr_expect_str_eq(stage->got, "E57P01 ZI");
    stage->got[0] = '\0';
    take(stage, "Q x", "pass");
    stage = cut('I', "Q BEGIN", "Q INSERT");
    cr_expect_str_eq(stage->got, "E57P01 ZE E57P01 ZE");
    stage->got[0] = '\0';
    take(stage, "Q x", "E25P02 ZE");
}

Test(loss, what_was_sent_behind_a_lost_transaction_does_not_run_outside_of_it)
{
    struct stage stage = {.offered = 1000, .sent = 1000};

    transaction_init(&stage.transaction);
    stage.transaction.status = 'T';
    send(&stage, "Q UPDATE a", true, 0);
    lose(&stage, "");
    cr_expect_str_eq(stage.got, "E57P01 ZI");
    stage.got[0] = '\0';
    stage.loss.doomed_bytes = 100;
    take(&stage, "Q UPDATE b", "E57P01 ZI");
    take(&stage, "P - UPDATE c", "E57P01");
    take(&stage, "B - -", "");
    take(&stage, "E -", "");
    take(&stage, "S", "ZI");
    take(&stage, "Q COMMIT", "E57P01 ZI");
    take(&stage, "Q SELECT 1", "pass");
    stage.loss.doomed_bytes = 100;
    take(&stage, "P - COMMIT", "E57P01");
    take(&stage, "B - -", "");
    take(&stage, "E -", "");
    take(&stage, "S", "ZI");
    take(&stage, "Q SELECT 1", "pass");
    stage.loss.doomed_bytes = 7;
    loss_passed(&stage.loss, 7);
    take(&stage, "Q SELECT 1", "pass");
    transaction_fini(&stage.transaction);
    loss_fini(&stage.loss);
}

Test(loss, a_refusal_answers_one_request)
{
    struct stage stage = {.offered = 1000};

    loss_refuse(&stage.loss, "57014", "cancelled", NULL);
    take(&stage, "Q SELECT 1", "E57014 ZI");
    take(&stage, "Q SELECT 1", "pass");
    loss_refuse(&stage.loss, "57014", "cancelled", NULL);
    take(&stage, "P - SELECT 1", "E57014");
    take(&stage, "B - -", "");
    take(&stage, "S", "ZI");
    take(&stage, "P - SELECT 1", "pass");
    loss_refuse(&stage.loss, "57014", "cancelled", NULL);
    take(&stage, "S", "ZI");
    take(&stage, "Q SELECT 1", "pass");
    loss_refuse(&stage.loss, "57014", "cancelled", NULL);
    take(&stage, "Q COMMIT", "E57014 ZI");
    loss_fini(&stage.loss);
}
