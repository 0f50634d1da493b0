/*
 * The answers-owed queue. A test plays a script of messages:
 *
 *     <Q     the client sends a Query        <!P    pgstage itself sends a Parse
 *     <:P    … for the client's sake         <+P    ParseComplete is to be produced
 *     +      it is due now                   -      it is not
 *     >T     the server sends it, and it has to be forwarded; >ZI is a ReadyForQuery of status I
 *     >!3    … it has to be swallowed        >?D    … it answers nothing that was asked
 *     >*E    … it is the last word of a server that dies
 *     free, busy   may another client have the server?
 *     fence, none  must a fence be sent? (`fence` sends it)
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/session/transaction.h"

static struct transaction owed;

static void set_up(void)
{
    transaction_init(&owed);
}

static void tear_down(void)
{
    transaction_fini(&owed);
}

static void play_answer(const char *script, const char *word, size_t length)
{
    enum verdict expected = word[1] == '!'   ? VERDICT_SWALLOW
                            : word[1] == '?' ? VERDICT_BAD
                            : word[1] == '*' ? VERDICT_LAST
                                             : VERDICT_FORWARD;
    size_t at = expected == VERDICT_FORWARD ? 1 : 2;
    char status = at + 1 < length ? word[at + 1] : 0;
    enum course course = transaction_course(&owed, (uint8_t)word[at]);
    bool in_short = course == COURSE_GOES_ON || course == COURSE_OVER ||
                    (course == COURSE_READY && status == 'I' && owed.ring == owed.few);
    struct transaction before;

    memcpy(&before, &owed, sizeof before);
    if (course == COURSE_OVER)
        transaction_pass(&before);
    if (course == COURSE_READY && in_short)
        transaction_rest(&before);
    cr_assert_eq(transaction_answer(&owed, (uint8_t)word[at], status), expected,
                 "at \"%.*s\" in: %s", (int)length, word, script);
    /* where it says so, asking would have made no difference */
    cr_assert(!in_short || (expected == VERDICT_FORWARD && !memcmp(&before, &owed, sizeof before)),
              "goes on at \"%.*s\" in: %s", (int)length, word, script);
}

static void play_word(const char *script, const char *word, size_t length)
{
    char text[8];

    snprintf(text, sizeof text, "%.*s", (int)length, word);
    if (word[0] == '>')
        play_answer(script, word, length);
    else if (word[0] == '<' && word[1] == '!')
        transaction_ask(&owed, (uint8_t)word[2], ANSWER_SWALLOW);
    else if (word[0] == '<' && word[1] == ':')
        transaction_ask(&owed, (uint8_t)word[2], ANSWER_QUIET | ANSWER_TAGGED);
    else if (word[0] == '<' && word[1] == '+')
        transaction_ask(&owed, (uint8_t)word[2], ANSWER_PRODUCE | ANSWER_TAGGED);
    else if (word[0] == '<')
        transaction_ask(&owed, (uint8_t)word[1], ANSWER_FORWARD);
    else if (!strcmp(text, "+") || !strcmp(text, "-"))
        cr_assert_eq(transaction_produce(&owed), text[0] == '+', "not %s at %s in: %s", text, word,
                     script);
    else if (!strcmp(text, "free") || !strcmp(text, "busy"))
        cr_assert_eq(transaction_is_free(&owed), text[0] == 'f', "not %s at %s in: %s", text, word,
                     script);
    else if (!strcmp(text, "fence") || !strcmp(text, "none"))
        cr_assert_eq(transaction_wants_fence(&owed), text[0] == 'f', "not %s at %s in: %s", text,
                     word, script);
    else
        cr_assert_fail("what is %s?", text);
    if (!strcmp(text, "fence"))
        transaction_fence(&owed);
}

static void play(const char *script)
{
    for (const char *at = script; *at;) {
        size_t length = strcspn(at, " ");

        if (length)
            play_word(script, at, length);
        at += length + (at[length] == ' ');
    }
}

TestSuite(transaction, .init = set_up, .fini = tear_down);

/* ---- simple queries ---- */

Test(transaction, a_new_server_is_free)
{
    play("free none");
    cr_expect_eq(transaction_owed_ready(&owed), 0);
}

Test(transaction, a_simple_query_ends_with_ready_for_query)
{
    play("<Q busy >T busy >D >D >C busy >ZI free");
}

Test(transaction, rows_of_a_query_go_on_without_being_asked_about)
{
    play("<Q");
    cr_assert_eq(transaction_course(&owed, 'T'), COURSE_GOES_ON);
    cr_assert_eq(transaction_course(&owed, 'D'), COURSE_GOES_ON);
    cr_assert_eq(transaction_course(&owed, 'C'), COURSE_GOES_ON);
    cr_assert_eq(transaction_course(&owed, 'Z'), COURSE_READY);
    cr_assert_eq(transaction_course(&owed, 'E'), COURSE_OTHER);
    play(">E"); /* nothing but ReadyForQuery may follow */
    cr_assert_eq(transaction_course(&owed, 'D'), COURSE_OTHER);
    play(">ZI <!Q");
    cr_assert_eq(transaction_course(&owed, 'D'), COURSE_OTHER, "it is not the client's");
}

Test(transaction, answers_of_a_batch_go_on_without_being_asked_about)
{
    play("<P <B <D <E <S");
    cr_assert_eq(transaction_course(&owed, 'D'), COURSE_OTHER);
    cr_assert_eq(transaction_course(&owed, '1'), COURSE_OVER);
    play(">1");
    cr_assert_eq(transaction_course(&owed, '1'), COURSE_OTHER);
    cr_assert_eq(transaction_course(&owed, '2'), COURSE_OVER);
    play(">2");
    cr_assert_eq(transaction_course(&owed, 'T'), COURSE_OVER);
    cr_assert_eq(transaction_course(&owed, 'n'), COURSE_OVER);
    cr_assert_eq(transaction_course(&owed, 'C'), COURSE_OTHER);
    play(">T");
    cr_assert_eq(transaction_course(&owed, 'D'), COURSE_GOES_ON);
    cr_assert_eq(transaction_course(&owed, 'C'), COURSE_OVER);
    cr_assert_eq(transaction_course(&owed, 'Z'), COURSE_OTHER);
    play(">D >C");
    cr_assert_eq(transaction_course(&owed, 'C'), COURSE_OTHER);
    cr_assert_eq(transaction_course(&owed, 'Z'), COURSE_READY);
    play("<Q");
    cr_assert_eq(transaction_course(&owed, 'Z'), COURSE_OTHER, "it is not the last");
    play(">ZI >C");
    cr_assert_eq(transaction_course(&owed, 'Z'), COURSE_READY);
    play(">ZI <E <S >G");
    cr_assert_eq(transaction_course(&owed, 'C'), COURSE_OTHER, "the COPY ends with it");
}

Test(transaction, what_is_asked_in_an_open_batch_is_asked_in_the_short_way)
{
    static const char messages[] = "BDES";
    struct transaction long_way;

    transaction_init(&long_way);
    transaction_ask_for(&owed, 'P', ANSWER_FORWARD, 3, 10);
    transaction_ask_for(&long_way, 'P', ANSWER_FORWARD, 3, 10);
    for (size_t i = 0; messages[i]; i++) {
        transaction_ask_in_batch(&owed, (uint8_t)messages[i], (uint8_t)i, 20 + i);
        cr_assert(transaction_ask_for(&long_way, (uint8_t)messages[i], ANSWER_FORWARD, (uint8_t)i,
                                      20 + i));
        cr_assert_eq(owed.count, long_way.count);
        cr_assert_eq(owed.batches, long_way.batches);
        cr_assert_eq(owed.batch_open, long_way.batch_open);
        cr_assert_eq(owed.few[i + 1].type, long_way.few[i + 1].type);
        cr_assert_eq(owed.few[i + 1].action, long_way.few[i + 1].action);
        cr_assert_eq(owed.few[i + 1].intent, long_way.few[i + 1].intent);
        cr_assert_eq(owed.few[i + 1].end, long_way.few[i + 1].end);
    }
    transaction_fini(&long_way);
}

Test(transaction, every_statement_of_a_string_may_answer)
{
    play("<Q >T >D >C >C >T >C >I >ZI free");
}

Test(transaction, an_empty_query_is_answered)
{
    play("<Q >I busy >ZI free");
}

Test(transaction, after_an_error_only_ready_for_query_follows)
{
    play("<Q >T >D >E busy >?D");
}

Test(transaction, a_failed_query_settles)
{
    play("<Q >E >ZI free");
}

Test(transaction, a_server_inside_a_transaction_is_settled_but_not_free)
{
    play("<Q >C >ZT busy");
    cr_expect(transaction_is_settled(&owed));
    play("<Q >E >ZE busy");
    cr_expect(transaction_is_settled(&owed));
    play("<Q >C >ZI free");
}

Test(transaction, pipelined_queries_are_answered_one_by_one)
{
    play("<Q <Q <Q >C >ZI busy >E >ZI busy >C >ZI free");
}

Test(transaction, a_status_that_does_not_exist_is_bad)
{
    play("<Q >C >?ZX");
}

Test(transaction, a_function_call_is_answered)
{
    play("<F >V busy >ZI free <F >E >ZI free <F >?T");
}

/* ---- extended queries ---- */

Test(transaction, a_batch_ends_with_sync)
{
    play("<P <B <D <E <S >1 >2 >T busy >D >C busy >ZI free");
}

Test(transaction, flush_without_sync_is_not_free)
{
    play("<P <H >1 busy");
    cr_expect_not(transaction_is_settled(&owed));
    play("<S >ZI free");
}

Test(transaction, describe_of_a_statement_gives_parameters_and_then_rows_or_none)
{
    play("<D >t busy >T <D >t busy >n <S >ZI free");
}

Test(transaction, describe_of_a_portal_gives_rows_or_none)
{
    play("<D <D >T >n <S >ZI free");
}

Test(transaction, execute_ends_in_each_of_its_ways)
{
    play("<E <E <E <E <S >D >s >D >C >I >s >ZI free");
}

Test(transaction, close_is_answered)
{
    play("<C <S >3 >ZI free");
}

Test(transaction, answers_in_another_order_are_bad)
{
    play("<P <B <S >1 >?ZI");
}

Test(transaction, after_an_error_everything_up_to_sync_is_skipped)
{
    play("<P <B <D <E <S >1 >E busy >ZI free");
}

Test(transaction, messages_sent_while_skipping_are_not_owed)
{
    play("<P >E busy <B <E <Q <F <C busy <S busy >ZI free");
}

Test(transaction, a_query_between_an_error_and_sync_is_skipped)
{
    play("<P <Q <S >E >ZI free");
}

Test(transaction, a_query_skipped_in_flight_leaves_the_batch_open)
{
    play("<P <Q >E busy");
    cr_expect_not(transaction_is_settled(&owed));
    play("<S >ZI free");
}

Test(transaction, a_query_ends_a_batch_that_goes_well)
{
    play("<P <Q >1 >C >ZI free");
}

Test(transaction, the_batch_behind_the_sync_is_answered)
{
    play("<P <B <S <P <B <S >E >ZI >1 >2 >ZI free");
}

Test(transaction, two_errors_in_two_batches_give_two_ready)
{
    play("<P <S <P <S <Q >E >ZI >E >ZI >C >ZI free");
}

Test(transaction, an_error_at_sync_is_followed_by_its_ready)
{
    play("<P <B <E <S >1 >2 >C >E busy >ZI free");
}

Test(transaction, nothing_but_ready_comes_while_skipping)
{
    play("<P <S <P <S >E >?1");
}

Test(transaction, a_sync_alone_is_answered)
{
    play("<S busy >ZI free <S <S >ZI busy >ZI free");
}

/* ---- COPY ---- */

Test(transaction, copy_out_is_a_simple_query)
{
    play("<Q >H >d >d >c >C >ZI free");
}

Test(transaction, copy_out_in_a_batch)
{
    play("<P <B <E <S >1 >2 >H >d >c >C >ZI free");
}

Test(transaction, copy_out_that_fails)
{
    play("<Q >H >d >E >ZI free <E <S >H >d >E >ZI free");
}

Test(transaction, copy_data_without_a_copy_is_bad)
{
    play("<Q >?d");
}

Test(transaction, copy_in_ends_at_copy_done)
{
    play("<Q >G busy <c busy >C busy >ZI free");
}

Test(transaction, a_sync_inside_copy_in_yields_nothing)
{
    play("<Q >G <S <S <c >C >ZI free");
}

Test(transaction, the_sync_of_a_batch_is_swallowed_by_its_copy)
{
    play("<P <B <E <S >1 >2 >G <c <S >C busy >ZI free");
}

Test(transaction, a_copy_sent_as_a_whole_before_any_answer)
{
    play("<Q <S <c <Q >G >C >ZI >T >C >ZI free");
}

Test(transaction, two_copies_in_one_string_take_a_copy_done_each)
{
    play("<Q >G <S <c <S <c >C >G >C >ZI free");
}

Test(transaction, copy_in_cannot_end_before_copy_done)
{
    play("<Q >G >?C");
}

Test(transaction, ready_cannot_come_inside_copy_in)
{
    play("<Q >G >?ZI");
}

Test(transaction, a_second_copy_cannot_start_inside_a_copy)
{
    play("<Q >G >?G");
}

Test(transaction, copy_both_is_bad)
{
    play("<Q >?W");
}

Test(transaction, a_stray_copy_done_is_ignored)
{
    play("<c free <f free <Q <c >C >ZI free <P <c <S >1 >ZI free");
}

Test(transaction, stray_copy_dones_between_and_behind_copies_are_ignored)
{
    play("<Q >G <c <c <f >C >ZI free <Q <c <Q <c >C >ZI >G >C >ZI free");
}

Test(transaction, a_sync_that_went_into_a_copy_has_not_ended_the_batch_of_its_execute)
{
    play("<P <B <E >1 >2 >G <S <S <c busy >C busy <S busy >ZI free");
    play("<E <S >G <c >C busy <P <B <E <S >1 >2 >C >ZI free");
    play("<E <S >G <c >C busy <Q >C >ZI free");
    /* one behind its end has */
    play("<E <S >G <c <S >C busy >ZI free <E <S >G <c <Q >C >C >ZI free");
    cr_expect(transaction_can_settle(&owed));
    play("<E <S >G <c >C");
    cr_expect_not(transaction_can_settle(&owed));
}

/* ---- COPY that fails ---- */

Test(transaction, a_failed_simple_copy_without_sync_is_certain)
{
    play("<Q >G >E none >ZI free <c free");
}

Test(transaction, a_sync_behind_copy_done_is_answered)
{
    play("<Q >G <c <S >E none >ZI busy >ZI free");
}

Test(transaction, a_failed_extended_copy_without_sync_inside_is_certain)
{
    play("<E >G <c <S >E none busy >ZI free");
    play("<E >G >E none busy <c <S >ZI free");
}

Test(transaction, after_a_failed_simple_copy_a_fence_tells_that_the_sync_was_swallowed)
{
    play("<Q >G <S >E fence none >ZI busy >!3 busy >!ZI free");
}

Test(transaction, after_a_failed_simple_copy_a_fence_tells_that_the_sync_was_answered)
{
    play("<Q >G <S >E fence none >ZI >ZI busy >!3 >!ZI free");
}

Test(transaction, every_sync_inside_the_copy_may_be_answered_or_not)
{
    play("<Q >G <S <S <S >E fence >ZI >ZI >!3 >!ZI free");
    play("<Q >G <S <S <S >E fence >ZI >ZI >ZI >ZI none >!3 >!ZI free");
}

Test(transaction, one_ready_too_many_is_bad)
{
    play("<Q >G <S >E fence >ZI >ZI >?ZI");
}

Test(transaction, the_sync_behind_copy_done_is_owed_in_any_case)
{
    play("<Q >G <S <c <S >E fence >ZI >ZI >!3 >!ZI free");
    play("<Q >G <S <c <S >E fence >ZI >ZI >ZI >!3 >!ZI free");
    play("<Q >G <S <c <S >E fence >ZI >?3");
}

/* libpq: Parse Bind Execute Sync, the rows, and behind the error CopyDone and Sync. */
Test(transaction, a_failed_extended_copy_waits_for_the_next_sync_and_is_fenced_behind_it)
{
    play("<E <S >G >E none busy <c none <S fence >ZI busy >!3 >!ZI free");
    play("<E <S >G >E none <c <S fence >ZI busy >ZI busy >!3 >!ZI free");
}

Test(transaction, the_only_sync_of_a_failed_extended_copy_is_certain_once_it_is_answered)
{
    play("<E <S >G >E none busy >ZI none free");
}

Test(transaction, one_of_two_syncs_answered_shows_that_the_server_does_not_skip)
{
    play("<E <S <S >G >E none >ZI busy fence >!3 >!ZI free");
    play("<E <S <S >G >E none >ZI busy fence >ZI >!3 >!ZI free");
}

Test(transaction, what_the_client_has_sent_behind_the_sync_is_fence_enough)
{
    play("<Q >G <S <c <Q >E none >ZI >T >D >C >ZI free");
    play("<Q >G <S <c <Q >E none >ZI >ZI >T >D >C >ZI free");
    play("<Q >G <S <c <S <P <S >E none >ZI >ZI >1 >ZI free");
    play("<E <S >G <c <S <Q >E none >ZI >E >ZI free");
    play("<E <S >G <c <S <Q >E none >ZI >ZI >E >ZI free");
}

Test(transaction, what_the_client_sends_next_is_fence_enough)
{
    play("<Q <S >G <c >E <C none <S >ZI >3 >ZI free");
}

Test(transaction, a_sync_behind_another_message_is_certain)
{
    /* inside a COPY the server would not have taken the Parse: it failed before */
    play("<Q <P <S >G >E none >ZI >1 >ZI free");
}

Test(transaction, the_next_copy_comes_after_an_uncertain_one)
{
    play("<Q <S <c <Q <S <c >G >E none >ZI >G >C >ZI free");
    play("<Q <S <c <Q <S <c >G >E none >ZI >ZI >G >E fence >ZI >!3 >!ZI free");
}

Test(transaction, a_failed_extended_copy_and_a_batch_that_may_be_skipped_are_bad)
{
    play("<E <S >G >E <P <S none >?ZI");
}

Test(transaction, a_batch_behind_the_answered_sync_is_certain)
{
    play("<E <S >G >E <P >ZI <S >1 >ZI free");
}

Test(transaction, while_it_may_skip_only_ready_comes)
{
    play("<E <S >G >E <P >?1");
}

Test(transaction, the_fence_is_sent_once)
{
    play("<Q >G <S >E fence none >ZI none <c none <S none >!3 >!ZI >ZI free none");
}

Test(transaction, a_fenced_server_serves_the_next_query)
{
    play("<Q >G <S >E fence >ZI <Q >ZI >!3 >!ZI busy >T >C >ZI free");
}

/* ---- pgstage's own messages ---- */

Test(transaction, own_answers_are_swallowed_among_the_clients)
{
    play("<!P <B <E <!C <S >!1 >2 >C >!3 >ZI free");
}

Test(transaction, the_error_of_an_own_message_is_swallowed)
{
    play("<!Q >!E >!ZI free <!P <S >!E >ZI free");
}

Test(transaction, an_own_query_is_swallowed_as_a_whole)
{
    play("<!Q <Q >!T >!D >!C >!C >!ZI >T >D >C >ZI free");
}

/* It would take the client's Sync for one that the copy has swallowed. */
Test(transaction, no_own_statement_begins_a_copy)
{
    static const char *const scripts[] = {"<!Q <P <B <E <S >?G", "<!P <!B <!E <S >!1 >!2 >?G",
                                          "<!Q >?H"};

    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        play(scripts[i]);
        tear_down();
        set_up();
    }
}

Test(transaction, what_an_own_statement_causes_is_swallowed_but_notifications_are_not)
{
    play("<!Q >!S >!N >A >!C >!ZI >S >N >A free");
}

Test(transaction, a_stray_copy_done_does_not_hide_whose_answer_is_next)
{
    play("<P <c <!C >1");
    cr_expect(transaction_is_swallowing(&owed));
    play(">!N >!3");
    cr_expect_not(transaction_is_swallowing(&owed));
}

Test(transaction, own_messages_are_skipped_with_the_others)
{
    play("<P <!C <S >E >ZI free");
}

/* ---- what nobody asked for ---- */

Test(transaction, notices_parameters_and_notifications_change_nothing)
{
    play("<Q >N >S >A >T >N >D >A >C >S >ZI free >N >S >A free");
}

Test(transaction, an_answer_to_nothing_is_bad)
{
    for (const char *type = "123CDGHITVWcdnst"; *type; type++)
        cr_expect_eq(transaction_answer(&owed, (uint8_t)*type, 0), VERDICT_BAD, "%c", *type);
    cr_expect_eq(transaction_answer(&owed, 'Z', 'I'), VERDICT_BAD);
}

Test(transaction, bytes_that_are_no_message_are_bad)
{
    play("<Q");
    for (int type = 0; type < 256; type++) {
        if (!strchr("NSACDEGHITZ", type) || type == 0)
            cr_expect_eq(transaction_answer(&owed, (uint8_t)type, 0), VERDICT_BAD, "%d", type);
    }
}

Test(transaction, an_error_that_nobody_asked_for_is_a_dying_servers_last_word)
{
    play(">*E <P >E >*E <S >E >ZI free >*E");
}

Test(transaction, copy_data_and_flush_are_not_owed)
{
    play("<d <H free");
}

/* ---- a client that has gone ---- */

Test(transaction, complete_requests_settle_without_their_client)
{
    cr_expect(transaction_can_settle(&owed));
    play("<Q <P <S");
    cr_expect(transaction_can_settle(&owed));
    play(">T >ZI >E");
    cr_expect(transaction_can_settle(&owed));
}

Test(transaction, a_batch_without_sync_does_not_settle)
{
    play("<P <H");
    cr_expect_not(transaction_can_settle(&owed));
    play(">1");
    cr_expect_not(transaction_can_settle(&owed));
    play("<S");
    cr_expect(transaction_can_settle(&owed));
}

Test(transaction, a_copy_settles_only_when_its_end_was_sent)
{
    play("<Q >G <S");
    cr_expect_not(transaction_can_settle(&owed));
    play("<c");
    cr_expect(transaction_can_settle(&owed));
}

Test(transaction, a_failed_copy_settles_only_behind_a_certain_sync)
{
    play("<E <S >G >E");
    cr_expect_not(transaction_can_settle(&owed));
    play("<c <S");
    cr_expect(transaction_can_settle(&owed));
    play("fence");
    cr_expect(transaction_can_settle(&owed));
}

Test(transaction, a_failed_simple_copy_settles_behind_its_fence)
{
    play("<Q <S >G >E fence");
    cr_expect(transaction_can_settle(&owed));
    play(">ZI >!3 >!ZI free");
}

/* ---- the ring ---- */

Test(transaction, a_long_pipeline_keeps_its_order)
{
    static const char asked[] = "PBDEC";
    static const char answers[] = "12TC3";

    for (int i = 0; i < 1000; i++) {
        /* some are taken while more come, so that the ring turns and grows at odd places */
        transaction_ask(&owed, (uint8_t)asked[i % 5], i % 7 ? ANSWER_FORWARD : ANSWER_SWALLOW);
        if (i % 3 == 0)
            cr_assert_eq(transaction_answer(&owed, (uint8_t)answers[i / 3 % 5], 0),
                         i / 3 % 7 ? VERDICT_FORWARD : VERDICT_SWALLOW);
    }
    for (int i = 334; i < 1000; i++)
        cr_assert_eq(transaction_answer(&owed, (uint8_t)answers[i % 5], 0),
                     i % 7 ? VERDICT_FORWARD : VERDICT_SWALLOW, "at %d", i);
    play("<S >ZI free");
}

Test(transaction, a_burst_is_not_remembered_for_ever)
{
    for (int i = 0; i < 5000; i++)
        play("<S");
    cr_expect_geq(owed.mask, 5000);
    for (int i = 0; i < 5000; i++)
        play(">ZI");
    cr_expect_eq(owed.mask, TRANSACTION_FEW - 1);
    play("free <Q >C >ZI free");
}

Test(transaction, a_client_that_asks_too_much_is_to_be_paused)
{
    for (int i = 0; i < TRANSACTION_OWED_MAX - 1; i++)
        play("<S");
    cr_expect_not(transaction_is_full(&owed));
    play("<S");
    cr_expect(transaction_is_full(&owed));
    play(">ZI");
    cr_expect_not(transaction_is_full(&owed));
}

/* ---- how many ReadyForQuery the client waits for ---- */

Test(transaction, each_query_call_and_sync_is_owed_a_ready)
{
    play("<Q <F <P <B <E <S <S <!Q");
    cr_expect_eq(transaction_owed_ready(&owed), 4);
    play(">E >ZI");
    cr_expect_eq(transaction_owed_ready(&owed), 3);
}

Test(transaction, a_skipped_query_is_owed_none)
{
    play("<P <Q <S >E");
    cr_expect_eq(transaction_owed_ready(&owed), 1);
}

Test(transaction, a_sync_inside_copy_in_is_owed_none)
{
    play("<Q >G <S <S");
    cr_expect_eq(transaction_owed_ready(&owed), 1);
    play("<c <S");
    cr_expect_eq(transaction_owed_ready(&owed), 2);
}

Test(transaction, after_a_failed_copy_the_client_is_owed_at_least_one)
{
    play("<E <S >G >E");
    cr_expect_eq(transaction_owed_ready(&owed), 1);
    play("<c <S fence");
    cr_expect_eq(transaction_owed_ready(&owed), 1);
}

/* ---- answers that are produced, and messages for the client's sake ---- */

Test(transaction, what_is_produced_comes_in_its_turn)
{
    play("<+P + - <S >ZI free");
    play("<B - <+P - <E - <S >2 + - >C - >ZI free");
    play("<P <+P <+P <S >1 + + - >ZI free");
}

Test(transaction, an_error_drops_what_was_to_be_produced)
{
    play("<P <+P <B <S >E - >ZI free");
    play("<P >E <+P - <S >ZI free");
    play("<+P <P + <S >E >ZI free");
}

Test(transaction, of_a_quiet_message_only_the_error_is_heard)
{
    play("<:C <:P <B <E <S >!3 >!1 >2 >C >ZI free");
    play("<:P <B <E <S >E >ZI free");
    play("<:P <B <S >!N >!1 >N >2 >ZI free");
}

Test(transaction, tags_tell_when_a_message_is_over)
{
    play("<:P <B <S >!1");
    cr_expect_eq(owed.tags_over, 1);
    play(">2 >ZI <:P <:P <+P <S >E");
    cr_expect_eq(owed.tags_over, 4);
    play(">ZI free");
}

Test(transaction, a_batch_is_doubtful_until_it_is_answered)
{
    uint32_t first = transaction_batch(&owed), second;

    play("<P <B");
    cr_expect_not(transaction_is_doubtful(&owed, first), "what follows is dropped with it");
    play("<S");
    second = transaction_batch(&owed);
    cr_expect(transaction_is_doubtful(&owed, first));
    play("<P <S");
    cr_expect(transaction_is_doubtful(&owed, second));
    play(">1 >2 >ZI");
    cr_expect_not(transaction_is_doubtful(&owed, first));
    cr_expect(transaction_is_doubtful(&owed, second));
    play(">1 >ZI free");
    cr_expect_not(transaction_is_doubtful(&owed, second));
}

Test(transaction, batches_are_counted_through_a_copy)
{
    uint32_t batch = transaction_batch(&owed);

    play("<Q >G <S <S <c >C >ZI free"); /* the copy swallows the Syncs */
    cr_expect_not(transaction_is_doubtful(&owed, batch + 2));
    play("<P <S");
    cr_expect(transaction_is_doubtful(&owed, batch + 3));
    play(">1 >ZI free");
    cr_expect_not(transaction_is_doubtful(&owed, batch + 3));
}

Test(transaction, production_needs_certainty)
{
    cr_expect(transaction_may_produce(&owed));
    play("<P <B <D <C");
    cr_expect(transaction_may_produce(&owed));
    play("<E");
    cr_expect_not(transaction_may_produce(&owed), "it may deallocate everything");
    play("<S >1 >2 >n >3 >C");
    cr_expect_not(transaction_may_produce(&owed));
    play(">ZT");
    cr_expect(transaction_may_produce(&owed));
    play("<Q >E >ZE");
    cr_expect_not(transaction_may_produce(&owed), "the transaction is aborted");
    play("<Q >C >ZI");
    cr_expect(transaction_may_produce(&owed));
}

Test(transaction, a_lost_unnamed_parse_is_told)
{
    play("<P <S >E");
    cr_expect_eq(owed.lost, LOST_FORWARDED);
    owed.lost = 0;
    play(">ZI <:P <S >E >ZI");
    cr_expect_eq(owed.lost, 0, "tagged ones are told by their tags");
    transaction_ask(&owed, 'P', ANSWER_QUIET);
    play("<B <S >E >ZI free");
    cr_expect_eq(owed.lost, LOST_QUIET);
}
