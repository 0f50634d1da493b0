/*
 * The addresses of a name, one after the other. Names mean what test_resolver.c says.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "harness.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/list.h"
#include "pgstage/net/dial.h"

struct caller {
    struct dial dial;
    unsigned told;
};

static struct loop *loop;
static struct resolver *resolver;
static struct caller caller;

static void on_ready(struct dial *dial)
{
    list_entry(dial, struct caller, dial)->told++;
}

static bool is_told(void *argument)
{
    (void)argument;
    return caller.told > 0;
}

static void begin(void)
{
    loop = loop_new(0, NULL);
    resolver = resolver_new(1000 * CLOCK_SECOND, 1000 * CLOCK_SECOND);
    dial_init(&caller.dial, loop, resolver, on_ready);
}

static void end(void)
{
    dial_end(&caller.dial);
    resolver_free(resolver);
    loop_free(loop);
}

TestSuite(dial, .init = begin, .fini = end, .timeout = 300);

static void is_next(const char *text)
{
    const struct address *address = dial_next(&caller.dial);
    char found[ADDRESS_TEXT_BYTES];

    cr_assert_not_null(address, "%s", text);
    address_text(address, found);
    cr_assert_str_eq(found, text);
}

Test(dial, of_a_name_gives_each_address_once)
{
    cr_assert_not(dial_begin(&caller.dial, "two.test", 5432));
    cr_assert_null(dial_next(&caller.dial), "nothing is known yet");
    cr_assert(turn_until(loop, is_told, NULL));
    cr_assert_eq(caller.told, 1);
    cr_assert_null(dial_problem(&caller.dial));
    is_next("10.0.0.1:5432");
    cr_assert(dial_has_next(&caller.dial));
    is_next("[2001:db8::1]:5432");
    cr_assert_not(dial_has_next(&caller.dial));
    cr_assert_null(dial_next(&caller.dial));
    cr_assert_null(dial_problem(&caller.dial), "it had addresses");
    settle(loop);
    cr_assert_eq(caller.told, 1);
}

Test(dial, gives_the_last_address_again_when_asked_to)
{
    cr_assert(dial_begin(&caller.dial, "127.0.0.1", 1));
    dial_again(&caller.dial); /* none was given: nothing happens */
    is_next("127.0.0.1:1");
    cr_assert_null(dial_next(&caller.dial));
    dial_again(&caller.dial);
    is_next("127.0.0.1:1");
    cr_assert_null(dial_next(&caller.dial));
}

Test(dial, knows_addresses_and_sockets_without_asking_anybody)
{
    const struct address *address;

    cr_assert(dial_begin(&caller.dial, "2001:db8::7", 5432));
    is_next("[2001:db8::7]:5432");
    cr_assert(dial_begin(&caller.dial, "/run/postgresql", 5432));
    address = dial_next(&caller.dial);
    cr_assert(address && address_is_local(address));
    cr_assert_null(dial_next(&caller.dial));
    cr_assert(dial_begin(&caller.dial, "@abstract", 5432));
    address = dial_next(&caller.dial);
    cr_assert(address && address_is_local(address));
    settle(loop);
    cr_assert_eq(caller.told, 0);
}

Test(dial, says_why_there_is_no_address)
{
    char folder[300] = "/";

    cr_assert_not(dial_begin(&caller.dial, "bad.test", 5432));
    cr_assert(turn_until(loop, is_told, NULL));
    cr_assert_null(dial_next(&caller.dial));
    cr_assert_not_null(dial_problem(&caller.dial));
    cr_assert_gt(strlen(dial_problem(&caller.dial)), 0);
    /* a failure is remembered: the second time it is known at once */
    cr_assert(dial_begin(&caller.dial, "bad.test", 5432));
    cr_assert_not_null(dial_problem(&caller.dial));
    /* longer than the name of a socket may be */
    memset(folder + 1, 'x', sizeof folder - 2);
    cr_assert(dial_begin(&caller.dial, folder, 5432));
    cr_assert_null(dial_next(&caller.dial));
    cr_assert_str_eq(dial_problem(&caller.dial), "no address");
}

Test(dial, that_was_ended_is_told_nothing)
{
    cr_assert_not(dial_begin(&caller.dial, "two.test", 5432));
    dial_end(&caller.dial);
    dial_end(&caller.dial);
    turns_within(loop, 50);
    cr_assert_eq(caller.told, 0);
}
