/* ldap: the options of an LDAP line, together and alone. */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/conf/arena.h"
#include "pgstage/conf/ldap.h"

static struct arena arena;
static struct ldap_options options;
static char problem[256];

static void begin(void)
{
    ldap_options_init(&options);
}

static void end(void)
{
    arena_fini(&arena);
}

TestSuite(ldap, .init = begin, .fini = end);

static bool take(const char *name, const char *value)
{
    return ldap_options_take(&arena, &options, name, value, problem, sizeof problem);
}

/* Takes pairs of name and value up to NULL, then finishes. */
static bool take_all(const char *const *pairs)
{
    ldap_options_init(&options);
    for (; *pairs; pairs += 2)
        cr_assert(take(pairs[0], pairs[1]), "%s: %s", pairs[0], problem);
    return ldap_options_finish(&arena, &options, problem, sizeof problem);
}

#define ALL(...) take_all((const char *const[]){__VA_ARGS__, NULL})

static void refuses(const char *name, const char *value, const char *words)
{
    ldap_options_init(&options);
    cr_expect_not(take(name, value), "%s=%s", name, value);
    cr_expect(strstr(problem, words), "%s=%s: %s", name, value, problem);
}

static void url_is(const char *url, const char *uris, const char *base, const char *attribute,
                   enum ldap_reach reach, const char *filter)
{
    ldap_options_init(&options);
    cr_assert(take("ldapurl", url), "%s: %s", url, problem);
    cr_assert(ldap_options_finish(&arena, &options, problem, sizeof problem), "%s: %s", url,
              problem);
    cr_expect_str_eq(options.uris, uris);
    cr_expect_str_eq(options.base_dn, base);
    cr_expect(text_equal(options.attribute, attribute), "%s", url);
    cr_expect_eq(options.reach, reach, "%s", url);
    cr_expect(text_equal(options.filter, filter), "%s", url);
    cr_expect(options.is_search);
}

Test(ldap, servers_become_uris)
{
    cr_assert(ALL("ldapserver", "a.example.net", "ldapprefix", "cn="));
    cr_expect_str_eq(options.uris, "ldap://a.example.net:389");
    cr_expect_not(options.is_search);
    cr_assert(
        ALL("ldapserver", "a b:4000 ::1 [::2] [::3]:5000", "ldapport", "3890", "ldapsuffix", "@x"));
    cr_expect_str_eq(options.uris,
                     "ldap://a:3890 ldap://b:4000 ldap://[::1]:3890 ldap://[::2]:3890 "
                     "ldap://[::3]:5000");
    cr_assert(ALL("ldapserver", "a", "ldapscheme", "ldaps", "ldapbasedn", "dc=x"));
    cr_expect_str_eq(options.uris, "ldaps://a:636");
    cr_expect(options.is_search);
}

Test(ldap, a_url_is_taken_apart)
{
    url_is("ldap://h/dc=x", "ldap://h:389", "dc=x", NULL, LDAP_REACH_SUBTREE, NULL);
    url_is("LDAPS://h:7000/dc=x?mail?one", "ldaps://h:7000", "dc=x", "mail", LDAP_REACH_ONE, NULL);
    url_is("ldap://h/dc%3dx%2Cdc=y??base?(uid=$username)", "ldap://h:389", "dc=x,dc=y", NULL,
           LDAP_REACH_BASE, "(uid=$username)");
    url_is("ldap://[::1]:4000/?uid", "ldap://[::1]:4000", "", "uid", LDAP_REACH_SUBTREE, NULL);
    url_is("ldap://h/dc=x??sub?(uid=$username)?", "ldap://h:389", "dc=x", NULL, LDAP_REACH_SUBTREE,
           "(uid=$username)");
    url_is("ldap://h", "ldap://h:389", "", NULL, LDAP_REACH_SUBTREE, NULL);
}

Test(ldap, what_is_no_url_is_refused)
{
    static const char *const bad[] = {
        "",
        "h/dc=x",
        "http://h/dc=x",
        "ldapi://%2fvar%2frun%2fldapi/dc=x",
        "ldap://",
        "ldap:///dc=x",
        "ldap://h?uid",
        "ldap://h:0/dc=x",
        "ldap://h:65536/dc=x",
        "ldap://h:ldap/dc=x",
        "ldap://a b/dc=x",
        "ldap://h%00/dc=x",
        "ldap://h%2fevil/dc=x",
        "ldap://user@h/dc=x",
        "ldap://h/dc=x%",
        "ldap://h/dc=x%2",
        "ldap://h/dc=x%zz",
        "ldap://h/dc=x%00",
        "ldap://h/dc=x?u(id",
        "ldap://h/dc=x?uid,mail",
        "ldap://h/dc=x?uid?children",
        "ldap://h/dc=x?uid?sub?(uid=x)",
        "ldap://h/dc=x?uid?sub?(uid=$username)?bindname=x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ldap_options_init(&options);
        cr_expect_not(take("ldapurl", bad[i]), "%s", bad[i]);
        cr_expect_str_neq(problem, "", "%s", bad[i]);
    }
}

Test(ldap, a_wrong_value_is_told)
{
    refuses("ldapport", "0", "is no port");
    refuses("ldapport", "-1", "is no port");
    refuses("ldapport", "389x", "is no port");
    refuses("ldapport", "", "is no port");
    refuses("ldaptls", "yes", "0 or 1");
    refuses("ldapscheme", "ldapi", "ldap or ldaps");
    refuses("ldapserver", "", "names no host");
    refuses("ldapserver", " ", "names no host");
    refuses("ldapserver", "a,b", "no list of host names");
    refuses("ldapserver", "ldap://a", "no list of host names");
    refuses("ldapsearchattribute", "(uid", "no attribute");
    refuses("ldapsearchattribute", "", "no attribute");
    refuses("ldapsearchfilter", "(uid=*)", "$username");
    refuses("ldapnosuch", "x", "");
    refuses("port", "389", "");
}

Test(ldap, what_does_not_go_together_is_refused)
{
    cr_expect_not(ALL("ldapprefix", "cn="));
    cr_expect(strstr(problem, "needs ldapserver"));
    cr_expect_not(ALL("ldapserver", "h"));
    cr_expect(strstr(problem, "needs ldapbasedn"));
    cr_expect_not(ALL("ldapserver", "h", "ldapprefix", "cn=", "ldapbasedn", "dc=x"));
    cr_expect(strstr(problem, "one or the other"));
    cr_expect_not(ALL("ldapserver", "h", "ldapsuffix", "@x", "ldapsearchattribute", "uid"));
    cr_expect_not(ALL("ldapserver", "h", "ldapbasedn", "dc=x", "ldapsearchattribute", "uid",
                      "ldapsearchfilter", "(uid=$username)"));
    cr_expect_not(
        ALL("ldapserver", "h", "ldapprefix", "cn=", "ldapscheme", "ldaps", "ldaptls", "1"));
    cr_expect_not(ALL("ldapserver", "h", "ldapbasedn", "dc=x", "ldapbinddn", "cn=r"));
    cr_expect(strstr(problem, "anonymous"));
    cr_expect_not(ALL("ldapserver", "h", "ldapbasedn", "dc=x", "ldapbindpasswd", "p"));
}

Test(ldap, knows_where_passwords_cross_a_wire_in_the_clear)
{
    cr_assert(ALL("ldapserver", "h", "ldapprefix", "cn="));
    cr_expect(ldap_options_are_clear(&options));
    cr_assert(ALL("ldapserver", "h", "ldapprefix", "cn=", "ldaptls", "1"));
    cr_expect_not(ldap_options_are_clear(&options));
    cr_assert(ALL("ldapserver", "h", "ldapprefix", "cn=", "ldapscheme", "ldaps"));
    cr_expect_not(ldap_options_are_clear(&options));
    cr_assert(ALL("ldapserver", "127.0.0.1 ::1 127.0.0.2:4000", "ldapprefix", "cn="));
    cr_expect_not(ldap_options_are_clear(&options));
    cr_assert(ALL("ldapserver", "127.0.0.1 h", "ldapprefix", "cn="));
    cr_expect(ldap_options_are_clear(&options));
}
