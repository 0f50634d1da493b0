/* console: simple queries, authorisation, late answers. */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/wire/message.h"
#include "talk.h"

static struct talk talk;

static void close_talk(void)
{
    talk_close(&talk);
}

static void open_admin(void)
{
    talk_open(&talk, CONSOLE_ADMIN);
}

TestSuite(console, .init = open_admin, .fini = close_talk);

static void one_row(struct console_job *job)
{
    result_begin(&job->result);
    result_text(&job->result, "pgstage x");
    result_end(&job->result);
    console_done(job);
}

static void wait(struct console_job *job)
{
    struct talk *one = job->state;
    one->waiting = job;
}

static void fail(struct console_job *job)
{
    console_fail(job, "F0000", "RELOAD failed", "a.ini:1: no", NULL);
}

Test(console, answers_a_view_with_its_columns_rows_and_tag)
{
    talk.run = one_row;
    cr_expect_str_eq(talk_ask(&talk, "SHOW VERSION;"), "T(version:25) D(pgstage x) C(SHOW) Z(I)");
    cr_expect(talk.resumed);
}

Test(console, answers_a_command_without_rows_with_its_tag)
{
    cr_expect_str_eq(talk_ask(&talk, "reconnect"), "C(RECONNECT) Z(I)");
}

Test(console, answers_several_statements_of_one_query)
{
    talk.run = NULL;
    cr_expect_str_eq(talk_ask(&talk, "reload; /* and */ resume app;"), "C(RELOAD) C(RESUME) Z(I)");
}

Test(console, stops_a_query_at_its_first_error)
{
    cr_expect_str_eq(talk_ask(&talk, "reload; nonsense; resume"),
                     "C(RELOAD) E(42601 invalid command 'nonsense', use SHOW HELP;) Z(I)");
    cr_expect_eq(talk.runs, 1);
}

Test(console, answers_an_empty_query)
{
    cr_expect_str_eq(talk_ask(&talk, " ; -- nothing"), "I Z(I)");
}

Test(console, passes_detail_of_an_error_on)
{
    talk.run = fail;
    cr_expect_str_eq(talk_ask(&talk, "reload"), "E(F0000 RELOAD failed / a.ini:1: no) Z(I)");
}

Test(console, does_not_run_what_the_level_does_not_allow)
{
    talk_close(&talk);
    talk_open(&talk, CONSOLE_STATS);
    cr_expect_str_eq(talk_ask(&talk, "pause"), "E(42501 admin access needed) Z(I)");
    cr_expect_eq(talk.runs, 0);
    cr_expect_str_eq(talk_ask(&talk, "show lists"), "T(list:25 items:23) C(SHOW) Z(I)");
}

Test(console, pretends_parameters_to_stats_users_too)
{
    talk_close(&talk);
    talk_open(&talk, CONSOLE_STATS);
    cr_expect_str_eq(talk_ask(&talk, "set client_encoding to 'UTF8'"), "C(SET) Z(I)");
    cr_expect_str_eq(talk_ask(&talk, "show standard_conforming_strings"),
                     "T(standard_conforming_strings:25) D(on) C(SHOW) Z(I)");
    cr_expect_eq(talk.runs, 0);
}

Test(console, waits_for_a_late_answer_and_reads_nothing_meanwhile)
{
    talk.run = wait;
    cr_expect_str_eq(talk_ask(&talk, "pause"), "");
    cr_expect(!talk.resumed);
    console_done(talk.waiting);
    cr_expect_str_eq(talk_hear(&talk), "C(PAUSE) Z(I)");
    cr_expect(talk.resumed);
}

Test(console, keeps_messages_that_came_behind_a_late_answer)
{
    talk.run = wait;
    talk_query(&talk, "pause");
    talk_query(&talk, "begin");
    cr_expect_str_eq(talk_send(&talk), "");
    console_done(talk.waiting);
    cr_expect_str_eq(talk_hear(&talk), "C(PAUSE) Z(I) C(BEGIN) Z(T)");
}

Test(console, sends_what_is_ready_before_it_waits)
{
    talk.run = wait;
    cr_expect_str_eq(talk_ask(&talk, "begin; pause"), "C(BEGIN)");
    console_done(talk.waiting);
    cr_expect_str_eq(talk_hear(&talk), "C(PAUSE) Z(T)");
}

static unsigned cancels;
static bool was_gone;

static void on_cancel(struct console_job *job, bool gone)
{
    cancels++;
    was_gone = gone;
    console_fail(job, "57014", "cancelled", NULL, NULL);
}

static void wait_for_cancel(struct console_job *job)
{
    job->cancelled = on_cancel;
}

Test(console, tells_a_waiting_command_of_a_cancel)
{
    talk.run = wait_for_cancel;
    talk_ask(&talk, "pause");
    console_cancelled(talk.console, TALK_CLIENT);
    cr_expect_eq(cancels, 1);
    cr_expect(!was_gone);
    cr_expect_str_eq(talk_hear(&talk), "E(57014 cancelled) Z(I)");
}

Test(console, ignores_a_cancel_for_nobody)
{
    console_cancelled(talk.console, TALK_CLIENT);
    console_cancelled(talk.console, 99);
    cr_expect_str_eq(talk_hear(&talk), "");
}

Test(console, tells_a_waiting_command_that_its_client_has_gone)
{
    talk.run = wait_for_cancel;
    talk_ask(&talk, "pause");
    console_closed(talk.console, TALK_CLIENT);
    cr_expect_eq(cancels, 1);
    cr_expect(was_gone);
    cr_expect_eq(console_session_count(talk.console), 0);
    cr_expect_str_eq(talk_hear(&talk), "");
}

Test(console, throws_an_answer_away_whose_client_has_gone)
{
    talk.run = wait;
    talk_ask(&talk, "show pools");
    console_closed(talk.console, TALK_CLIENT);
    console_done(talk.waiting);
    cr_expect_str_eq(talk_hear(&talk), "");
}

Test(console, follows_transactions_for_drivers)
{
    cr_expect_str_eq(talk_ask(&talk, "BEGIN"), "C(BEGIN) Z(T)");
    cr_expect_str_eq(talk_ask(&talk, "nonsense"),
                     "E(42601 invalid command 'nonsense', use SHOW HELP;) Z(E)");
    cr_expect_str_eq(talk_ask(&talk, "show lists"),
                     "E(25P02 current transaction is aborted, commands ignored until end of "
                     "transaction block) Z(E)");
    cr_expect_str_eq(talk_ask(&talk, "COMMIT"), "C(ROLLBACK) Z(I)");
}

Test(console, closes_on_terminate)
{
    message_empty(&talk.to, 'X');
    cr_expect_str_eq(talk_send(&talk), "");
    cr_expect(talk.closed);
    cr_expect_eq(console_session_count(talk.console), 0);
}

Test(console, closes_on_a_message_that_no_client_sends)
{
    message_empty(&talk.to, 'Z');
    cr_expect_str_eq(talk_send(&talk), "E(08P01 unexpected message from a console client)");
    cr_expect(talk.closed);
}

Test(console, closes_on_a_query_without_its_end)
{
    size_t begin = message_begin(&talk.to, 'Q');
    buffer_put(&talk.to, "show", 4);
    message_end(&talk.to, begin);
    cr_expect_str_eq(talk_send(&talk), "E(08P01 invalid Query message)");
    cr_expect(talk.closed);
}

static void huge(struct console_job *job)
{
    static char text[8 << 20];
    memset(text, 'x', sizeof text - 1);
    result_begin(&job->result);
    result_text(&job->result, text);
    result_end(&job->result);
    console_done(job);
}

Test(console, bounds_what_one_batch_may_ask_for)
{
    talk.run = huge;
    for (int i = 0; i < 30; i++)
        talk_query(&talk, "show version");
    const char *heard = talk_send(&talk);
    cr_expect(strstr(heard, "54000"));
    cr_expect_leq(talk.runs, 10);
    cr_expect(talk.resumed);
}

static struct console_job *told_job;

static void tell_and_wait(struct console_job *job)
{
    console_notice(job, "step one");
    console_notice(job, "step two");
    told_job = job;
}

Test(console, tells_what_goes_on_while_a_command_runs)
{
    talk.run = tell_and_wait;
    talk_query(&talk, "reload");
    cr_expect_str_eq(talk_send(&talk), "N(00000 step one) N(00000 step two)");
    cr_expect_not(talk.resumed);
    console_closed(talk.console, TALK_CLIENT);
    console_notice(told_job, "nobody hears it");
    console_done(told_job);
}
