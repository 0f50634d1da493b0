/* portal: the extended protocol of the console. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/wire/message.h"
#include "talk.h"

static struct talk talk;

static void three_rows(struct console_job *job)
{
    for (int i = 1; job->command.id == COMMAND_show_lists && i <= 3; i++) {
        result_begin(&job->result);
        result_print(&job->result, "r%d", i);
        result_int(&job->result, i);
        result_end(&job->result);
    }
    console_done(job);
}

static void wait(struct console_job *job)
{
    struct talk *one = job->state;
    one->waiting = job;
}

static void open_admin(void)
{
    talk_open(&talk, CONSOLE_ADMIN);
    talk.run = three_rows;
}

static void close_talk(void)
{
    talk_close(&talk);
}

TestSuite(portal, .init = open_admin, .fini = close_talk);

static void put_all(const char *text, const char *formats, unsigned maximum)
{
    talk_parse(&talk, "", text);
    talk_bind(&talk, "", "", formats);
    talk_describe(&talk, 'P', "");
    talk_execute(&talk, "", maximum);
    talk_sync(&talk);
}

Test(portal, gives_rows_through_the_unnamed_statement)
{
    put_all("SHOW LISTS", "", 0);
    cr_expect_str_eq(talk_send(&talk),
                     "1 2 T(list:25 items:23) D(r1|1) D(r2|2) D(r3|3) C(SHOW) Z(I)");
    cr_expect_eq(talk.runs, 1);
}

Test(portal, gives_binary_numbers_to_who_asks)
{
    put_all("SHOW LISTS", "01", 1);
    cr_expect_str_eq(talk_send(&talk), "1 2 T(list:25 items:23) D(r1|0x00000001) s Z(I)");
}

Test(portal, describes_without_running)
{
    talk_parse(&talk, "s", "show version");
    talk_describe(&talk, 'S', "s");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 t() T(version:25) Z(I)");
    cr_expect_eq(talk.runs, 0);
}

Test(portal, describes_a_command_without_rows_as_no_data)
{
    talk_parse(&talk, "", "reload");
    talk_describe(&talk, 'S', "");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 t() n Z(I)");
}

Test(portal, hands_out_as_many_rows_as_asked_for)
{
    talk_parse(&talk, "", "show lists");
    talk_bind(&talk, "p", "", "");
    for (int i = 0; i < 2; i++)
        talk_execute(&talk, "p", 2);
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 2 D(r1|1) D(r2|2) s D(r3|3) C(SHOW) Z(I)");
    cr_expect_eq(talk.runs, 1);
}

Test(portal, keeps_a_named_statement_for_later)
{
    talk_parse(&talk, "s", "show lists");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 Z(I)");
    for (int i = 0; i < 2; i++) {
        talk_bind(&talk, "", "s", "");
        talk_execute(&talk, "", 1);
        talk_sync(&talk);
        cr_expect_str_eq(talk_send(&talk), "2 D(r1|1) s Z(I)");
    }
}

Test(portal, refuses_a_statement_name_twice)
{
    talk_parse(&talk, "s", "show lists");
    talk_parse(&talk, "s", "show mem");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk),
                     "1 E(42P05 a prepared statement of this name already exists) Z(I)");
}

Test(portal, forgets_a_closed_statement)
{
    talk_parse(&talk, "s", "show lists");
    talk_close_name(&talk, 'S', "s");
    talk_bind(&talk, "", "s", "");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 3 E(26000 this prepared statement does not exist) Z(I)");
}

Test(portal, forgets_portals_at_sync)
{
    talk_parse(&talk, "", "show lists");
    talk_bind(&talk, "p", "", "");
    talk_sync(&talk);
    talk_execute(&talk, "p", 0);
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 2 Z(I) E(34000 this portal does not exist) Z(I)");
}

Test(portal, keeps_portals_inside_a_transaction)
{
    cr_expect_str_eq(talk_ask(&talk, "begin"), "C(BEGIN) Z(T)");
    talk_parse(&talk, "", "show lists");
    talk_bind(&talk, "p", "", "");
    talk_sync(&talk);
    talk_execute(&talk, "p", 1);
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 2 Z(T) D(r1|1) s Z(T)");
}

Test(portal, skips_to_sync_after_an_error)
{
    talk_parse(&talk, "", "nonsense");
    talk_bind(&talk, "", "", "");
    talk_execute(&talk, "", 0);
    talk_query(&talk, "show lists");
    talk_sync(&talk);
    put_all("show lists", "", 0);
    cr_expect_str_eq(talk_send(&talk),
                     "E(42601 invalid command 'nonsense', use SHOW HELP;) Z(I) "
                     "1 2 T(list:25 items:23) D(r1|1) D(r2|2) D(r3|3) C(SHOW) Z(I)");
}

Test(portal, refuses_several_statements_in_one)
{
    talk_parse(&talk, "", "show lists; show mem");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk),
                     "E(42601 cannot insert multiple commands into a prepared statement) Z(I)");
}

Test(portal, answers_an_empty_statement)
{
    put_all("  ; ", "", 0);
    cr_expect_str_eq(talk_send(&talk), "1 2 n I Z(I)");
}

Test(portal, checks_the_level_at_execute)
{
    talk_close(&talk);
    talk_open(&talk, CONSOLE_STATS);
    put_all("reload", "", 0);
    cr_expect_str_eq(talk_send(&talk), "1 2 n E(42501 admin access needed) Z(I)");
    cr_expect_eq(talk.runs, 0);
}

Test(portal, waits_for_a_late_answer_before_what_follows)
{
    talk.run = wait;
    put_all("pause", "", 0);
    cr_expect_str_eq(talk_send(&talk), "1 2 n");
    console_done(talk.waiting);
    cr_expect_str_eq(talk_hear(&talk), "C(PAUSE) Z(I)");
}

Test(portal, skips_to_sync_after_a_late_error)
{
    talk.run = wait;
    talk_parse(&talk, "", "pause");
    talk_bind(&talk, "", "", "");
    talk_execute(&talk, "", 0);
    talk_execute(&talk, "", 0);
    talk_sync(&talk);
    talk_send(&talk);
    console_fail(talk.waiting, "57014", "cancelled", NULL, NULL);
    cr_expect_str_eq(talk_hear(&talk), "E(57014 cancelled) Z(I)");
}

Test(portal, refuses_parameters)
{
    talk_parse(&talk, "", "show lists");
    size_t begin = message_begin(&talk.to, 'B');
    buffer_put_string(&talk.to, "");
    buffer_put_string(&talk.to, "");
    buffer_put_u16(&talk.to, 0);
    buffer_put_u16(&talk.to, 1);
    buffer_put_u32(&talk.to, UINT32_MAX);
    buffer_put_u16(&talk.to, 0);
    message_end(&talk.to, begin);
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk),
                     "1 E(08P01 commands of the console take no parameters) Z(I)");
}

Test(portal, refuses_formats_that_do_not_fit_the_columns)
{
    talk_parse(&talk, "", "show lists");
    talk_bind(&talk, "", "", "111");
    talk_sync(&talk);
    talk_parse(&talk, "", "show lists");
    talk_bind(&talk, "", "", "2");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk),
                     "1 E(08P01 bind message has another number of result formats than columns) "
                     "Z(I) 1 E(08P01 unsupported format code) Z(I)");
}

Test(portal, refuses_messages_that_are_cut)
{
    static const char types[] = "PBDEC";
    for (size_t i = 0; i < sizeof types - 1; i++) {
        size_t begin = message_begin(&talk.to, (uint8_t)types[i]);
        buffer_put(&talk.to, "x", 1);
        message_end(&talk.to, begin);
        talk_sync(&talk);
        const char *heard = talk_send(&talk);
        cr_expect(strstr(heard, "E(08P01 invalid ") == heard, "%c: %s", types[i], heard);
    }
}

Test(portal, bounds_the_names_of_a_session)
{
    char name[16];
    for (unsigned i = 0; i < 1001; i++) {
        snprintf(name, sizeof name, "s%u", i);
        talk_parse(&talk, name, "show lists");
    }
    talk_sync(&talk);
    const char *heard = talk_send(&talk);
    cr_expect(strstr(heard, "E(54000 too many prepared statements in this console session) Z(I)"));
}

Test(portal, deallocates_all)
{
    talk_parse(&talk, "s", "show lists");
    talk_sync(&talk);
    talk_query(&talk, "deallocate all");
    talk_bind(&talk, "", "s", "");
    talk_sync(&talk);
    cr_expect_str_eq(talk_send(&talk), "1 Z(I) C(DEALLOCATE ALL) Z(I) "
                                       "E(26000 this prepared statement does not exist) Z(I)");
}
