/* text and memory: copies, cuts, comparisons and distances. */
#include <criterion/criterion.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

Test(text, copies_null_as_null)
{
    cr_assert_null(text_copy(NULL));
}

Test(text, copies_all_or_a_part)
{
    char *all = text_copy("production");
    char *part = text_copy_n("production", 4);
    cr_assert_str_eq(all, "production");
    cr_assert_str_eq(part, "prod");
    free(all);
    free(part);
}

Test(text, prints_as_long_as_it_takes)
{
    char *text = text_print("%0500d|%s", 1, "end");
    cr_assert_eq(strlen(text), 504);
    cr_assert_str_eq(text + 499, "1|end");
    free(text);
}

Test(text, fit_tells_a_cut)
{
    char target[4];
    cr_assert(text_fit(target, sizeof target, "abc"));
    cr_assert_str_eq(target, "abc");
    cr_assert_not(text_fit(target, sizeof target, "abcd"));
    cr_assert_str_eq(target, "abc");
}

Test(text, compares_null_only_equal_to_null)
{
    cr_assert(text_equal(NULL, NULL));
    cr_assert_not(text_equal(NULL, ""));
    cr_assert_not(text_equal("", NULL));
    cr_assert(text_equal("a", "a"));
    cr_assert_not(text_equal("a", "A"));
    cr_assert(text_equal_nocase(NULL, NULL));
    cr_assert_not(text_equal_nocase(NULL, ""));
}

Test(text, ignores_ascii_case_only)
{
    cr_assert(text_equal_nocase("Search_Path", "sEARCH_pATH"));
    cr_assert_not(text_equal_nocase("search", "search_path"));
    cr_assert_not(text_equal_nocase("search_path", "search"));
    cr_assert_not(text_equal_nocase("[", "{")); /* 0x20 apart, and no letters */
    cr_assert_not(text_equal_nocase("\xc4", "\xe4"));
}

Test(text, starts_with_its_prefix)
{
    cr_assert(text_starts_with("SCRAM-SHA-256$4096", "SCRAM-SHA-256$"));
    cr_assert(text_starts_with("a", ""));
    cr_assert_not(text_starts_with("SCRAM", "SCRAM-SHA-256$"));
}

Test(text, distance_counts_edits)
{
    cr_assert_eq(text_distance("pool_size", "pool_size"), 0);
    cr_assert_eq(text_distance("pool_size", "pol_size"), 1);
    cr_assert_eq(text_distance("pool_size", "pool_sizes"), 1);
    cr_assert_eq(text_distance("pool_size", "pool-size"), 1);
    cr_assert_eq(text_distance("kitten", "sitting"), 3);
    cr_assert_eq(text_distance("", "abc"), 3);
    cr_assert_eq(text_distance("abc", ""), 3);
}

Test(text, distance_counts_swapped_neighbours_once)
{
    cr_assert_eq(text_distance("pool_mode", "pool_mdoe"), 1);
    cr_assert_eq(text_distance("ab", "ba"), 1);
}

Test(text, distance_is_the_same_both_ways)
{
    cr_assert_eq(text_distance("listen_addr", "listen_port"),
                 text_distance("listen_port", "listen_addr"));
}

Test(text, distance_calls_long_texts_far_away)
{
    char longest[65], too_long[66];
    memset(longest, 'x', 64);
    memset(too_long, 'x', 65);
    longest[64] = too_long[65] = '\0';
    cr_assert_eq(text_distance(longest, longest), 0);
    cr_assert_eq(text_distance(too_long, too_long), UINT_MAX);
    cr_assert_eq(text_distance("x", too_long), UINT_MAX);
}

Test(text, wipes_a_secret)
{
    char secret[] = "password";
    text_wipe(secret, sizeof secret - 1);
    for (size_t i = 0; i < sizeof secret; i++)
        cr_assert_eq(secret[i], 0);
}

Test(memory, is_zeroed_when_new)
{
    unsigned char *bytes = memory_new(1000);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(bytes[i], 0);
    free(bytes);
}

Test(memory, resizes_to_nothing_and_back)
{
    char *bytes = memory_resize(NULL, 3, 2);
    memcpy(bytes, "abcde", 6);
    bytes = memory_resize(bytes, 100, 2);
    cr_assert_str_eq(bytes, "abcde");
    bytes = memory_resize(bytes, 0, 2);
    cr_assert_not_null(bytes);
    free(bytes);
}

Test(memory, ends_the_process_when_a_size_overflows, .signal = SIGABRT)
{
    volatile size_t count = SIZE_MAX / 2;
    free(memory_resize(NULL, count, 4));
}

Test(text, a_word_is_in_a_list_when_it_is_one_of_its_words)
{
    cr_expect(text_in_list("a", "a"));
    cr_expect(text_in_list("x, admin ,y", "admin"));
    cr_expect(text_in_list("two words,y", "two words"));
    cr_expect(text_in_list(",,a", "a"));
    cr_expect_not(text_in_list("admins, ad", "admin"));
    cr_expect_not(text_in_list("Admin", "admin"));
    cr_expect_not(text_in_list("a,,b", ""));
    cr_expect_not(text_in_list("", "a"));
    cr_expect_not(text_in_list(NULL, "a"));
}
