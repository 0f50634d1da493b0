/*
 * Prepared statements: the shared cache of texts, a client's names, a server's set.
 */
#include <criterion/criterion.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/session/statement_cache.h"
#include "pgstage/session/statement_names.h"
#include "pgstage/session/statement_set.h"

#define PLENTY (1u << 20)

static struct statement_cache *cache;

static void set_up(void)
{
    cache = statement_cache_new();
}

static void tear_down(void)
{
    statement_cache_free(cache); /* checks that nothing is left */
}

TestSuite(statements, .init = set_up, .fini = tear_down);

static struct statement *take_in(const char *text, const char *context)
{
    return statement_take(cache, text, strlen(text), context, strlen(context), PLENTY);
}

static struct statement *take(const char *text)
{
    return take_in(text, "");
}

static uint64_t bytes_used(void)
{
    struct statement_totals totals;

    statement_cache_totals(cache, &totals);
    return totals.bytes;
}

static uint64_t count(void)
{
    struct statement_totals totals;

    statement_cache_totals(cache, &totals);
    return totals.statements;
}

/* ---- the cache ---- */

Test(statements, equal_texts_are_one_statement)
{
    struct statement *one = take("SELECT 1"), *same = take("SELECT 1"), *other = take("SELECT 2");
    size_t bytes;

    cr_assert_eq(one, same);
    cr_assert_neq(one, other);
    cr_assert_neq(statement_number(one), statement_number(other));
    cr_assert_eq(count(), 2);
    cr_assert_eq(memcmp(statement_text(one, &bytes), "SELECT 1", 8), 0);
    cr_assert_eq(bytes, 8);
    statement_give(one);
    statement_give(same);
    cr_assert_eq(count(), 1);
    statement_give(other);
    cr_assert_eq(count(), 0);
    cr_assert_eq(bytes_used(), 0);
}

Test(statements, another_context_is_another_statement)
{
    struct statement *one = take_in("SELECT", "UTF8"), *other = take_in("SELECT", "LATIN1");
    /* the same bytes, cut elsewhere */
    struct statement *third = take_in("SELECTU", "TF8");

    cr_assert_neq(one, other);
    cr_assert_neq(one, third);
    cr_assert(statement_is_in_context(one, "UTF8", 4));
    cr_assert_not(statement_is_in_context(one, "UTF", 3));
    cr_assert_not(statement_is_in_context(one, "UTF9", 4));
    statement_give(one);
    statement_give(other);
    statement_give(third);
}

Test(statements, a_full_cache_refuses_until_something_can_be_forgotten)
{
    struct statement *taken[64], *kept, *again;
    size_t taken_count = 0;
    uint64_t limit = 4096, number;
    char text[128];

    for (; taken_count < 64; taken_count++) {
        snprintf(text, sizeof text, "SELECT %zu %60s", taken_count, "");
        taken[taken_count] = statement_take(cache, text, strlen(text), NULL, 0, limit);
        if (!taken[taken_count])
            break;
        cr_assert_leq(bytes_used(), limit);
    }
    cr_assert_gt(taken_count, 4);
    cr_assert_lt(taken_count, 64);
    /* what is there can be shared all the same */
    snprintf(text, sizeof text, "SELECT 0 %60s", "");
    again = statement_take(cache, text, strlen(text), NULL, 0, limit);
    cr_assert_eq(again, taken[0]);
    statement_give(again);
    snprintf(text, sizeof text, "SELECT %zu %60s", taken_count, "");
    /* a server keeps it, nobody has a name for it: its text may go */
    kept = statement_ref(taken[0]);
    number = statement_number(kept);
    statement_give(taken[0]);
    taken[0] = statement_take(cache, text, strlen(text), NULL, 0, limit);
    cr_assert_not_null(taken[0]);
    cr_assert_eq(statement_number(kept), number);
    statement_unref(kept);
    for (size_t i = 0; i < taken_count; i++)
        statement_give(taken[i]);
    cr_assert_eq(bytes_used(), 0);
}

Test(statements, one_that_only_servers_have_is_found_again)
{
    struct statement *one = take("SELECT 1"), *kept = statement_ref(one);

    statement_give(one);
    cr_assert_eq(take("SELECT 1"), kept);
    statement_unref(kept);
    statement_give(one);
}

Test(statements, a_new_number_is_given_once_for_all_who_ask)
{
    struct statement *one = take("SELECT 1");
    uint64_t number = statement_number(one), next;

    statement_renumber(one, number);
    next = statement_number(one);
    cr_assert_neq(next, number);
    statement_renumber(one, number);
    cr_assert_eq(statement_number(one), next);
    statement_give(one);
}

Test(statements, a_long_one_is_shared_with_nobody)
{
    struct statement *one = statement_take_long(cache), *other = statement_take_long(cache);
    size_t bytes;

    cr_assert_neq(one, other);
    cr_assert(statement_is_long(one));
    cr_assert_null(statement_text(one, &bytes));
    statement_give(one);
    statement_give(other);
}

static void *take_and_give(void *argument)
{
    unsigned seed = *(unsigned *)argument;
    struct statement *held[8] = {NULL};

    for (int i = 0; i < 20000; i++) {
        unsigned slot = (seed = seed * 1103515245u + 12345u) >> 16 & 7;
        char text[32];

        statement_give(held[slot]);
        snprintf(text, sizeof text, "SELECT %u", seed >> 8 & 15);
        held[slot] = statement_take(cache, text, strlen(text), NULL, 0, 2048);
    }
    for (int i = 0; i < 8; i++)
        statement_give(held[i]);
    return NULL;
}

Test(statements, threads_share_it)
{
    pthread_t threads[4];
    unsigned seeds[4] = {1, 2, 3, 4};

    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, take_and_give, &seeds[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(count(), 0);
    cr_assert_eq(bytes_used(), 0);
}

/* ---- names ---- */

Test(statements, a_name_changes_when_the_answer_comes)
{
    struct statement_names names = {0};
    struct statement *statement = take("SELECT 1");
    struct statement_name *name = statement_names_get(&names, "a");

    statement_names_ask(name, statement, 1);
    cr_assert_eq(name->asked, statement);
    cr_assert_null(name->statement);
    statement_names_answer(&names, name, statement, true);
    cr_assert_eq(statement_names_find(&names, "a")->statement, statement);
    cr_assert_str_eq(statement_names_of_number(&names, statement_number(statement)), "a");
    /* a Close that is dropped changes nothing */
    statement_names_ask(name, NULL, 2);
    cr_assert_null(name->asked);
    statement_names_answer(&names, name, NULL, false);
    cr_assert_eq(name->asked, statement);
    statement_names_ask(name, NULL, 3);
    statement_names_answer(&names, name, NULL, true);
    cr_assert_null(statement_names_find(&names, "a"));
    cr_assert_eq(count(), 0);
    statement_names_fini(&names);
}

Test(statements, a_parse_that_fails_leaves_no_name)
{
    struct statement_names names = {0};
    struct statement *statement = take("nonsense");
    struct statement_name *name = statement_names_get(&names, "a");

    statement_names_ask(name, statement, 1);
    statement_names_answer(&names, name, statement, false);
    cr_assert_null(statement_names_find(&names, "a"));
    cr_assert_eq(statement_names_count(&names), 0);
    statement_names_fini(&names);
}

Test(statements, several_changes_of_a_name_in_one_batch)
{
    struct statement_names names = {0};
    struct statement *first = take("SELECT 1"), *second = take("SELECT 2");
    struct statement_name *name = statement_names_get(&names, "a");

    statement_names_ask(name, first, 1);
    statement_names_ask(name, NULL, 1);
    statement_names_ask(name, second, 1);
    cr_assert_eq(name->asked, second);
    statement_names_answer(&names, name, first, true);
    cr_assert_eq(name->asked, second);
    statement_names_answer(&names, name, NULL, true);
    /* the third is dropped */
    statement_names_answer(&names, name, second, false);
    cr_assert_null(statement_names_find(&names, "a"));
    statement_names_fini(&names);
}

Test(statements, all_names_go_but_what_is_pending_comes)
{
    struct statement_names names = {0};
    struct statement *first = take("SELECT 1"), *second = take("SELECT 2");
    struct statement_name *a = statement_names_get(&names, "a"),
                          *b = statement_names_get(&names, "b");

    statement_names_ask(a, first, 1);
    statement_names_answer(&names, a, first, true);
    statement_names_ask(b, second, 2);
    statement_names_clear(&names);
    cr_assert_null(statement_names_find(&names, "a"));
    cr_assert_eq(statement_names_find(&names, "b"), b);
    cr_assert_eq(b->asked, second);
    statement_names_answer(&names, b, second, true);
    cr_assert_eq(b->statement, second);
    statement_names_fini(&names);
    cr_assert_eq(count(), 0);
}

static const char *name_of(int number)
{
    static char name[16];

    snprintf(name, sizeof(name), "s%d", number);
    return name;
}

static void name_it(struct statement_names *names, int number, struct statement *statement)
{
    struct statement_name *name = statement_names_get(names, name_of(number));

    statement_names_ask(name, statement, 1);
    statement_names_answer(names, name, statement, true);
}

#ifdef __SANITIZE_ADDRESS__
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

/* What the process has from the allocator at present. */
static size_t allocated(void)
{
#ifdef __SANITIZE_ADDRESS__
    return __sanitizer_get_current_allocated_bytes();
#else
    return mallinfo2().uordblks;
#endif
}

Test(statements, a_few_names_need_little_memory)
{
    struct statement_names names = {0};
    struct statement *statement[10];
    size_t before;

    for (int i = 0; i < 10; i++)
        statement[i] = take("SELECT 1");
    before = allocated();
    name_it(&names, 0, statement[0]);
    cr_assert_leq(allocated() - before, 300);
    for (int i = 1; i < 10; i++)
        name_it(&names, i, statement[i]);
    cr_assert_leq(allocated() - before, 1400);
    cr_assert_null(statement_names_find(&names, "s10"));
    cr_assert_null(statement_names_find(&names, "s"));
    cr_assert_null(statement_names_find(&names, ""));
    statement_names_fini(&names);
    cr_assert_leq(allocated(), before, "nothing is kept");
    cr_assert_eq(count(), 0);
}

Test(statements, many_names_are_found_while_others_come_and_go)
{
    struct statement_names names = {0};
    struct statement *marked;

    for (int i = 0; i < 5000; i++) {
        name_it(&names, i, take("SELECT 1"));
        cr_assert_eq(statement_names_count(&names), (size_t)i + 1);
    }
    for (int i = 0; i < 5000; i++)
        cr_assert_str_eq(statement_names_find(&names, name_of(i))->name, name_of(i));
    for (int i = 0; i < 5000; i += 2)
        name_it(&names, i, NULL); /* deallocated */
    for (int i = 0; i < 5000; i++)
        cr_assert_eq(statement_names_find(&names, name_of(i)) != NULL, i % 2 == 1);
    cr_assert_eq(statement_names_count(&names), 2500);
    marked = take("SELECT 2");
    name_it(&names, 5000, marked);
    cr_assert_str_eq(statement_names_of_number(&names, statement_number(marked)), "s5000");
    statement_names_clear(&names);
    cr_assert_eq(statement_names_count(&names), 0);
    name_it(&names, 1, take("SELECT 1"));
    cr_assert_not_null(statement_names_find(&names, "s1"));
    statement_names_fini(&names);
    cr_assert_eq(count(), 0);
}

Test(statements, names_are_as_long_as_postgresqls)
{
    struct statement_names names = {0};
    char one[100], other[100];
    struct statement *statement = take("SELECT 1");
    struct statement_name *name;

    memset(one, 'n', sizeof one);
    memset(other, 'n', sizeof other);
    one[70] = other[80] = '\0';
    name = statement_names_get(&names, one);
    statement_names_ask(name, statement, 1);
    statement_names_answer(&names, name, statement, true);
    cr_assert_eq(statement_names_find(&names, other), name);
    other[62] = '\0';
    cr_assert_null(statement_names_find(&names, other));
    statement_names_fini(&names);
}

Test(statements, long_ones_are_counted_and_forgotten)
{
    struct statement_names names = {0};
    struct statement *statement = statement_take_long(cache);
    struct statement_name *name = statement_names_get(&names, "a");

    statement_names_ask(name, statement, 1);
    cr_assert_eq(names.long_ones, 0);
    statement_names_answer(&names, name, statement, true);
    cr_assert_eq(names.long_ones, 1);
    statement_names_forget_long(&names);
    cr_assert_eq(names.long_ones, 0);
    cr_assert_null(statement_names_find(&names, "a"));
    statement_names_fini(&names);
}

/* ---- sets ---- */

static struct statement_set set;
static struct statement *many[8];

static void fill(int number)
{
    statement_set_init(&set);
    for (int i = 0; i < number; i++) {
        struct kept_statement *kept;
        char text[32];

        snprintf(text, sizeof text, "SELECT %d", i);
        many[i] = take(text);
        kept = statement_set_get(&set, many[i]);
        statement_set_ask(&set, kept, true, 1);
        statement_set_answer(&set, kept, true, true);
    }
}

static void empty(int number)
{
    for (int i = 0; i < number; i++)
        statement_give(many[i]);
    statement_set_fini(&set);
}

Test(statements, the_least_recently_used_is_the_surplus)
{
    fill(3);
    cr_assert_null(statement_set_surplus(&set, 4, 2));
    cr_assert_eq(statement_set_surplus(&set, 3, 2)->statement, many[0]);
    statement_set_touch(&set, statement_set_find(&set, many[0]));
    cr_assert_eq(statement_set_surplus(&set, 3, 2)->statement, many[1]);
    empty(3);
}

Test(statements, a_close_that_was_dropped_puts_it_back)
{
    struct kept_statement *kept;

    fill(2);
    kept = statement_set_find(&set, many[0]);
    statement_set_ask(&set, kept, false, 2);
    cr_assert_eq(statement_set_count(&set), 1);
    statement_set_answer(&set, kept, false, false);
    cr_assert_eq(statement_set_count(&set), 2);
    cr_assert(kept->there && kept->asked);
    statement_set_ask(&set, kept, false, 3);
    statement_set_answer(&set, kept, false, true);
    cr_assert_null(statement_set_find(&set, many[0]));
    empty(2);
}

Test(statements, a_parse_that_failed_is_not_there)
{
    struct kept_statement *kept;

    fill(1);
    many[1] = take("nonsense");
    kept = statement_set_get(&set, many[1]);
    statement_set_ask(&set, kept, true, 2);
    cr_assert_eq(statement_set_count(&set), 2);
    statement_set_answer(&set, kept, true, false);
    cr_assert_null(statement_set_find(&set, many[1]));
    cr_assert_eq(statement_set_count(&set), 1);
    empty(2);
}

Test(statements, what_is_pending_in_an_earlier_batch_is_no_surplus)
{
    struct kept_statement *kept;

    fill(2);
    kept = statement_set_find(&set, many[0]);
    statement_set_ask(&set, kept, false, 2);
    statement_set_ask(&set, kept, true, 2);
    statement_set_touch(&set, statement_set_find(&set, many[1]));
    cr_assert_eq(statement_set_surplus(&set, 2, 3)->statement, many[1]);
    cr_assert_eq(statement_set_surplus(&set, 2, 2)->statement, many[0]);
    statement_set_answer(&set, kept, false, true);
    statement_set_answer(&set, kept, true, true);
    empty(2);
}

Test(statements, a_renumbered_statement_is_not_there)
{
    fill(1);
    statement_renumber(many[0], statement_number(many[0]));
    cr_assert_null(statement_set_find(&set, many[0]));
    cr_assert_eq(statement_set_count(&set), 1);
    cr_assert_eq(statement_set_surplus(&set, 1, 2)->statement, many[0]);
    empty(1);
}

Test(statements, all_at_once_but_what_is_pending)
{
    struct kept_statement *kept;

    fill(3);
    kept = statement_set_find(&set, many[1]);
    statement_set_ask(&set, kept, false, 2);
    statement_set_ask(&set, kept, true, 2);
    statement_set_clear(&set);
    cr_assert_eq(statement_set_count(&set), 1);
    statement_set_answer(&set, kept, false, true);
    statement_set_answer(&set, kept, true, true);
    cr_assert(statement_set_find(&set, many[1])->there);
    empty(3);
}

Test(statements, a_long_one_goes_with_its_name_only)
{
    struct statement *statement = statement_take_long(cache);
    struct kept_statement *kept;

    fill(0);
    kept = statement_set_get(&set, statement);
    statement_set_ask(&set, kept, true, 1);
    statement_set_answer(&set, kept, true, true);
    cr_assert_null(statement_set_surplus(&set, 1, 2));
    statement_set_release(&set);
    cr_assert_eq(statement_set_surplus(&set, 1, 2), kept);
    statement_give(statement);
    empty(0);
}
