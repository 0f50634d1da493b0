/*
 * The resolver in front of a getaddrinfo of the test's own, so that no network is needed and a
 * look-up lasts until the test lets it end.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/net/resolver.h"

#define LONG_US (1000 * CLOCK_SECOND)

/* What the names of this test mean; guarded by the mutex. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static bool broken;
static unsigned lookups;
static int last_flags;

static struct addrinfo *entry(const char *host, struct addrinfo *next)
{
    struct address address;
    cr_assert(address_parse(&address, host, 0));
    struct addrinfo *info = calloc(1, sizeof *info + sizeof address);
    info->ai_family = address.any.sa_family;
    info->ai_addrlen = address.length;
    info->ai_addr = (struct sockaddr *)(info + 1);
    memcpy(info->ai_addr, &address.any, address.length);
    info->ai_next = next;
    return info;
}

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict list)
{
    (void)service;
    *list = NULL;
    pthread_mutex_lock(&mutex);
    lookups++;
    last_flags = hints->ai_flags;
    while (text_starts_with(name, "slow") && !gate_open)
        pthread_cond_wait(&released, &mutex);
    bool fails = broken || text_starts_with(name, "bad");
    pthread_mutex_unlock(&mutex);
    if (fails)
        return EAI_NONAME;
    if (text_starts_with(name, "none"))
        return 0;
    *list = entry("10.0.0.1", entry("10.0.0.1", entry("2001:db8::1", NULL)));
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static void open_gate(void)
{
    pthread_mutex_lock(&mutex);
    gate_open = true;
    pthread_mutex_unlock(&mutex);
    pthread_cond_broadcast(&released);
}

static unsigned lookups_so_far(void)
{
    pthread_mutex_lock(&mutex);
    unsigned count = lookups;
    pthread_mutex_unlock(&mutex);
    return count;
}

static struct loop *loop;
static struct resolver *resolver;

/* Counts what it is told. */
struct asker {
    struct resolver_query query;
    unsigned answers;
    struct resolver_answer answer;
    struct loop *on;
};

static void answered(struct loop *on, struct resolver_query *query,
                     const struct resolver_answer *answer)
{
    struct asker *asker = list_entry(query, struct asker, query);
    asker->answers++;
    asker->answer = *answer;
    asker->on = on;
}

static void begin(void)
{
    loop = loop_new(0, NULL);
    resolver = resolver_new(LONG_US, LONG_US);
}

static void end(void)
{
    open_gate();
    resolver_free(resolver);
    loop_free(loop);
}

TestSuite(resolver, .init = begin, .fini = end, .timeout = 300);

static bool ask(struct asker *asker, const char *name, uint16_t port)
{
    *asker = (struct asker){.query.answered = answered};
    return resolver_ask(resolver, loop, &asker->query, name, port, &asker->answer);
}

static bool has_answer(void *argument)
{
    return ((struct asker *)argument)->answers > 0;
}

/* Asks and waits. */
static void get(struct asker *asker, const char *name, uint16_t port)
{
    if (!ask(asker, name, port))
        cr_assert(turn_until(loop, has_answer, asker));
}

static void wait_until_nothing_is_pending(void)
{
    size_t names, pending = 1;
    uint64_t end_us = clock_now_us() + 10 * CLOCK_SECOND;
    while (pending > 0 && clock_now_us() < end_us) {
        resolver_counts(resolver, &names, &pending);
        sched_yield();
    }
    cr_assert_eq(pending, 0);
}

Test(resolver, numeric_addresses_are_answered_at_once)
{
    struct asker asker;
    char text[ADDRESS_TEXT_BYTES];
    cr_assert(ask(&asker, "10.9.8.7", 5432));
    cr_assert_eq(asker.answer.count, 1);
    cr_assert_str_eq(address_text(&asker.answer.addresses[0], text), "10.9.8.7:5432");
    cr_assert(ask(&asker, "::1", 5433));
    cr_assert_str_eq(address_text(&asker.answer.addresses[0], text), "[::1]:5433");
    cr_assert_eq(lookups_so_far(), 0);
}

Test(resolver, a_name_gives_its_addresses_once_each_with_the_port)
{
    struct asker asker;
    char text[ADDRESS_TEXT_BYTES];
    cr_assert_not(ask(&asker, "db.test", 5432));
    cr_assert_neq(asker.query.ticket, 0);
    cr_assert(turn_until(loop, has_answer, &asker));
    cr_assert_eq(asker.query.ticket, 0);
    cr_assert_eq(asker.on, loop);
    cr_assert_eq(asker.answer.count, 2);
    cr_assert_str_eq(address_text(&asker.answer.addresses[0], text), "10.0.0.1:5432");
    cr_assert_str_eq(address_text(&asker.answer.addresses[1], text), "[2001:db8::1]:5432");
}

Test(resolver, an_answer_is_kept)
{
    struct asker asker;
    char text[ADDRESS_TEXT_BYTES];
    get(&asker, "db.test", 1);
    cr_assert(ask(&asker, "db.test", 2));
    cr_assert_str_eq(address_text(&asker.answer.addresses[0], text), "10.0.0.1:2");
    cr_assert_eq(lookups_so_far(), 1);
}

Test(resolver, an_answer_is_kept_no_longer_than_told)
{
    struct asker asker;
    resolver_set_ttl(resolver, 0, 0);
    get(&asker, "db.test", 1);
    cr_assert_not(ask(&asker, "db.test", 1));
    cr_assert(turn_until(loop, has_answer, &asker));
    cr_assert_eq(lookups_so_far(), 2);
}

Test(resolver, a_failure_says_why_and_is_kept_too)
{
    struct asker asker;
    get(&asker, "bad.test", 1);
    cr_assert_eq(asker.answer.count, 0);
    cr_assert_str_eq(asker.answer.problem, gai_strerror(EAI_NONAME));
    cr_assert(ask(&asker, "bad.test", 1));
    cr_assert_str_eq(asker.answer.problem, gai_strerror(EAI_NONAME));
    cr_assert_eq(lookups_so_far(), 1);
    get(&asker, "none.test", 1);
    cr_assert_eq(asker.answer.count, 0);
    cr_assert_gt(strlen(asker.answer.problem), 0);
}

Test(resolver, a_failure_after_a_good_answer_gives_the_old_answer)
{
    struct asker asker;
    resolver_set_ttl(resolver, 0, LONG_US);
    get(&asker, "db.test", 1);
    pthread_mutex_lock(&mutex);
    broken = true;
    pthread_mutex_unlock(&mutex);
    get(&asker, "db.test", 7);
    cr_assert_eq(asker.answer.count, 2);
    cr_assert_eq(address_port(&asker.answer.addresses[0]), 7);
    cr_assert_eq(lookups_so_far(), 2);
    cr_assert(ask(&asker, "db.test", 1), "asked again only after the failure's time");
}

Test(resolver, questions_for_one_name_share_a_look_up)
{
    struct asker askers[20];
    for (unsigned i = 0; i < 20; i++)
        cr_assert_not(ask(&askers[i], "slow.test", (uint16_t)(i + 1)));
    size_t names, pending;
    resolver_counts(resolver, &names, &pending);
    cr_assert_eq(names, 1);
    cr_assert_eq(pending, 1);
    open_gate();
    for (unsigned i = 0; i < 20; i++) {
        cr_assert(turn_until(loop, has_answer, &askers[i]));
        cr_assert_eq(address_port(&askers[i].answer.addresses[0]), i + 1);
    }
    settle(loop);
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(askers[i].answers, 1);
    cr_assert_eq(lookups_so_far(), 1);
}

Test(resolver, a_cancelled_question_is_not_answered)
{
    struct asker stays, leaves;
    cr_assert_not(ask(&leaves, "slow.test", 1));
    cr_assert_not(ask(&stays, "slow.test", 1));
    resolver_cancel(resolver, loop, &leaves.query);
    cr_assert_eq(leaves.query.ticket, 0);
    open_gate();
    cr_assert(turn_until(loop, has_answer, &stays));
    settle(loop);
    cr_assert_eq(leaves.answers, 0);
}

Test(resolver, cancelling_wins_over_an_answer_under_way)
{
    struct asker *leaves = malloc(sizeof *leaves);
    cr_assert_not(ask(leaves, "db.test", 1));
    wait_until_nothing_is_pending(); /* the letter is in the mailbox, or about to be */
    resolver_cancel(resolver, loop, &leaves->query);
    resolver_cancel(resolver, loop, &leaves->query);
    free(leaves); /* a late answer would be a write to freed memory */
    struct asker after;
    get(&after, "other.test", 1);
    settle(loop);
}

Test(resolver, a_cancelled_question_may_be_asked_again)
{
    struct asker asker;
    cr_assert_not(ask(&asker, "slow.test", 1));
    resolver_cancel(resolver, loop, &asker.query);
    cr_assert_not(resolver_ask(resolver, loop, &asker.query, "slow.test", 2, &asker.answer));
    open_gate();
    cr_assert(turn_until(loop, has_answer, &asker));
    settle(loop);
    cr_assert_eq(asker.answers, 1);
    cr_assert_eq(address_port(&asker.answer.addresses[0]), 2);
}

static void ask_again(struct loop *on, struct resolver_query *query,
                      const struct resolver_answer *answer)
{
    answered(on, query, answer);
    struct asker *asker = list_entry(query, struct asker, query);
    asker->query.answered = answered;
    (void)!resolver_ask(resolver, on, query, "another.test", 1, &asker->answer);
}

static bool has_two_answers(void *argument)
{
    return ((struct asker *)argument)->answers == 2;
}

Test(resolver, the_next_question_may_be_asked_inside_the_answer)
{
    struct asker asker = {.query.answered = ask_again};
    cr_assert_not(resolver_ask(resolver, loop, &asker.query, "db.test", 1, &asker.answer));
    cr_assert(turn_until(loop, has_two_answers, &asker));
}

Test(resolver, loopback_names_are_asked_for_without_addrconfig)
{
    struct asker asker;
    const char *names[] = {"localhost", "LOCALHOST.", "db.localhost", "localhost.localdomain"};
    for (size_t i = 0; i < 4; i++) {
        get(&asker, names[i], 1);
        cr_assert_eq(last_flags & AI_ADDRCONFIG, 0, "%s", names[i]);
    }
    get(&asker, "notlocalhost", 1);
    cr_assert_neq(last_flags & AI_ADDRCONFIG, 0);
}

Test(resolver, too_many_look_ups_fail_instead_of_piling_up)
{
    static struct asker askers[400];
    unsigned refused = 0, waiting = 0;
    for (unsigned i = 0; i < 400; i++) {
        char name[32];
        snprintf(name, sizeof name, "slow%u.test", i);
        cr_assert_not(ask(&askers[i], name, 1));
    }
    settle(loop);
    for (unsigned i = 0; i < 400; i++) {
        refused += askers[i].answers && askers[i].answer.count == 0;
        waiting += askers[i].answers == 0;
    }
    cr_assert_gt(refused, 0);
    cr_assert_leq(waiting, 300);
    open_gate();
    for (unsigned i = 0; i < 400; i++)
        cr_assert(turn_until(loop, has_answer, &askers[i]));
    get(&askers[399], "slow399.test", 1);
    cr_assert_eq(askers[399].answer.count, 2, "the refusal is not remembered");
}

static void count_row(void *argument, const char *name, uint64_t ttl_us,
                      const struct resolver_answer *answer)
{
    unsigned *rows = argument;
    size_t names, pending;
    resolver_counts(resolver, &names, &pending); /* no lock is held */
    *rows += strcmp(name, "bad.test") == 0 ? answer->count == 0 && ttl_us > 0
                                           : answer->count == 2 && ttl_us > 0;
}

Test(resolver, names_are_listed)
{
    struct asker asker;
    unsigned rows = 0;
    get(&asker, "db.test", 1);
    get(&asker, "bad.test", 1);
    get(&asker, "10.0.0.1", 1);
    resolver_each(resolver, count_row, &rows);
    cr_assert_eq(rows, 2);
}

Test(resolver, freeing_it_ends_what_waits_in_silence)
{
    struct asker running, queued[3], done;
    get(&done, "db.test", 1);
    cr_assert_not(ask(&done, "second.test", 1));
    wait_until_nothing_is_pending(); /* a letter is left behind */
    cr_assert_not(ask(&running, "slow.test", 1));
    for (unsigned i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "slow%u.test", i);
        cr_assert_not(ask(&queued[i], name, 1));
    }
    open_gate();
    resolver_free(resolver);
    resolver = NULL;
    settle(loop);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_leq(queued[i].answers, 1);
}

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

/* Of what this thread allocates. */
static void expect_leaks(bool expected)
{
#ifdef __SANITIZE_ADDRESS__
    expected ? __lsan_disable() : __lsan_enable();
#else
    (void)expected;
#endif
}

static bool have_come_back(void)
{
    size_t names, pending;
    resolver_counts(resolver, &names, &pending);
    return pending == 1; /* that of the one which never began */
}

Test(resolver, stopping_it_does_not_wait_for_a_name_service_that_hangs)
{
    struct loop *second = loop_new(1, NULL);
    struct asker running[2], queued = {.query.answered = answered};
    uint64_t begin_us = clock_now_us();
    resolver_free(resolver);
    expect_leaks(true); /* what hangs is lost, as it is with the process */
    resolver = resolver_new(LONG_US, LONG_US);
    cr_assert_not(ask(&running[0], "slow1.test", 1));
    cr_assert_not(ask(&running[1], "slow2.test", 1));
    while (lookups_so_far() < 2)
        sched_yield();
    cr_assert_not(resolver_ask(resolver, second, &queued.query, "db.test", 1, &queued.answer));
    expect_leaks(false);
    resolver_stop(resolver, 50);
    cr_assert_lt(clock_now_us() - begin_us, 25 * CLOCK_SECOND);
    loop_free(second);
    loop_free(loop);
    /* they come back after all, and find nobody */
    open_gate();
    while (!have_come_back())
        sched_yield();
    resolver_free(resolver);
    cr_assert_eq(running[0].answers + running[1].answers + queued.answers, 0);
    resolver = resolver_new(LONG_US, LONG_US);
    loop = loop_new(0, NULL);
}

Test(resolver, a_loop_may_go_before_its_answer)
{
    struct loop *second = loop_new(1, NULL);
    struct asker asker = {.query.answered = answered};
    cr_assert_not(resolver_ask(resolver, second, &asker.query, "db.test", 1, &asker.answer));
    wait_until_nothing_is_pending();
    resolver_free(resolver);
    loop_free(second);
    resolver = resolver_new(LONG_US, LONG_US);
    cr_assert_eq(asker.answers, 0);
}
