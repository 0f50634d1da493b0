/* outside: what is asked of LDAP and PAM, and what is not even asked. */
#include <criterion/criterion.h>

#include "pgstage/auth/outside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

static void filter_is(const struct ldap_options *options, const char *user, const char *expected)
{
    char *filter = ldap_filter_for(options, user);
    cr_expect_str_eq(filter, expected);
    free(filter);
}

static void name_is(const char *prefix, const char *suffix, const char *user, const char *expected)
{
    const struct ldap_options options = {.prefix = prefix, .suffix = suffix};
    char *name = ldap_name_for(&options, user);
    cr_expect_str_eq(name, expected);
    free(name);
}

Test(outside, a_filter_finds_the_user_and_nobody_else)
{
    const struct ldap_options usual = {0}, by_mail = {.attribute = "mail"};
    const struct ldap_options own = {.filter = "(|(uid=$username)(mail=$username))"};
    filter_is(&usual, "alice", "(uid=alice)");
    filter_is(&by_mail, "alice@example.net", "(mail=alice@example.net)");
    filter_is(&own, "al", "(|(uid=al)(mail=al))");
    /* RFC 4515, section 4 */
    filter_is(&usual, "*", "(uid=\\2a)");
    filter_is(&usual, "Parens R Us (for all)", "(uid=Parens R Us \\28for all\\29)");
    filter_is(&usual, "C:\\MyFile", "(uid=C:\\5cMyFile)");
    filter_is(&usual, "x)(uid=*", "(uid=x\\29\\28uid\\3d\\2a)");
    filter_is(&usual, "Lu\xc4\x8di\xc4\x87", "(uid=Lu\\c4\\8di\\c4\\87)");
    filter_is(&usual, "a\nb\x7f", "(uid=a\\0ab\\7f)");
    filter_is(&own, "$username", "(|(uid=$username)(mail=$username))");
    filter_is(&usual, "", "(uid=)");
}

Test(outside, a_name_is_one_value_of_a_distinguished_name)
{
    name_is("cn=", ",dc=example,dc=net", "alice", "cn=alice,dc=example,dc=net");
    /* RFC 4514, section 4 */
    name_is("cn=", ",dc=x", "James \"Jim\" Smith, III", "cn=James \\\"Jim\\\" Smith\\, III,dc=x");
    name_is("cn=", ",dc=x", "Before\rAfter", "cn=Before\\0dAfter,dc=x");
    name_is("cn=", ",dc=x", "#1", "cn=\\#1,dc=x");
    name_is("cn=", ",dc=x", " a ", "cn=\\ a\\ ,dc=x");
    name_is("cn=", ",dc=x", " ", "cn=\\ ,dc=x");
    name_is("cn=", ",dc=x", "a,ou=admins", "cn=a\\,ou\\=admins,dc=x");
    name_is("cn=", ",dc=x", "a+sn=b;c<d>e\\f", "cn=a\\+sn\\=b\\;c\\<d\\>e\\\\f,dc=x");
    name_is("cn=", ",dc=x", "\xc3\xbc", "cn=\\c3\\bc,dc=x");
    name_is(NULL, ",dc=x", "a", "a,dc=x");
}

Test(outside, names_of_active_directory_are_left_as_they_are)
{
    name_is(NULL, "@example.net", "alice", "alice@example.net");
    name_is("EXAMPLE\\", NULL, "alice", "EXAMPLE\\alice");
}

Test(outside, nobody_is_asked_about_an_empty_password_or_too_late)
{
    const struct outside nobody = {.method = AUTH_LDAP};
    char problem[100];
    uint64_t later_us = clock_now_us() + 60 * CLOCK_SECOND;
    cr_assert_eq(outside_ask(&nobody, "alice", "", NULL, later_us, problem, sizeof problem),
                 OUTSIDE_NO);
    cr_assert_str_eq(problem, "the password is empty");
    cr_assert_eq(outside_ask(&nobody, "alice", "x", NULL, 0, problem, sizeof problem),
                 OUTSIDE_FAILED);
    cr_assert_not_null(strstr(problem, "wait for an answer"));
    cr_assert_eq(outside_ask(&nobody, "alice", "x", NULL, later_us, problem, sizeof problem),
                 OUTSIDE_FAILED, "nothing is configured");
}

Test(outside, a_service_that_pam_does_not_know_lets_nobody_in)
{
    const struct outside pam = {
        .method = AUTH_PAM, .pam_service = "pgstage-no-such-service", .pam_folder = "/nonexistent"};
    char problem[200];
    cr_assert_neq(outside_ask(&pam, "alice", "x", NULL, clock_now_us() + 60 * CLOCK_SECOND, problem,
                              sizeof problem),
                  OUTSIDE_YES);
    cr_assert_null(strstr(problem, "alice"));
}
