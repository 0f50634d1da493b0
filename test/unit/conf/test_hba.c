/* HBA rules and maps of user names: how lines read, which rule decides, and what production
 * refuses. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "desk.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/hba.h"
#include "pgstage/conf/rule.h"
#include "pgstage/env/route.h"

TestSuite(hba, .init = desk_set, .fini = desk_clear);

static struct hba *load(const char *text)
{
    report_fini(&desk_report);
    desk_write("hba", text);
    char *path = text_copy(desk_path("hba"));
    struct hba *hba = hba_load(path, &desk_report);
    free(path);
    return hba;
}

static struct hba *reads(const char *text)
{
    struct hba *hba = load(text);
    for (size_t i = 0; i < desk_report.count; i++)
        fprintf(stderr, "    %d: %s\n", desk_report.entries[i].line, desk_report.entries[i].text);
    cr_assert(hba, "%s", text);
    return hba;
}

static void refuses(const char *text, int line, const char *words)
{
    cr_expect_null(load(text), "%s", text);
    cr_expect(desk_said(line, words), "\"%s\" at line %d of %s: %s", words, line, text,
              desk_report.count ? desk_report.entries[0].text : "nothing");
}

/* A login, as "user database[@environment] address|local [tls] [replication]". */
static int line_for(const struct hba *hba, const char *words)
{
    char copy[256], *rest = NULL;
    struct sockaddr_in ip4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ip6 = {.sin6_family = AF_INET6};
    struct hba_login login = {0};
    struct hba_verdict verdict;
    cr_assert(text_fit(copy, sizeof(copy), words));
    login.user = strtok_r(copy, " ", &rest);
    login.database = strtok_r(NULL, " ", &rest);
    char *at = strchr(login.database, '@');
    if (at) {
        *at = '\0';
        login.environment = at + 1;
    }
    login.is_console = strcmp(login.database, "pgstage") == 0;
    for (char *word; (word = strtok_r(NULL, " ", &rest));) {
        if (strcmp(word, "local") == 0)
            login.is_local = true;
        else if (strcmp(word, "tls") == 0)
            login.has_tls = true;
        else if (strcmp(word, "replication") == 0)
            login.is_replication = true;
        else if (inet_pton(AF_INET, word, &ip4.sin_addr) == 1)
            login.address = (struct sockaddr *)&ip4;
        else if (inet_pton(AF_INET6, word, &ip6.sin6_addr) == 1)
            login.address = (struct sockaddr *)&ip6;
    }
    return hba_find(hba, &login, &verdict) ? verdict.line : 0;
}

static void decides(const char *rules, const char *login, int line)
{
    struct hba *hba = reads(rules);
    cr_expect_eq(line_for(hba, login), line, "%s by %s", login, rules);
    hba_free(hba);
}

Test(hba, the_first_line_that_fits_decides)
{
    static const char rules[] = "# who comes from where\n"
                                "local all all peer\n"
                                "hostssl all all 10.0.0.0/8 scram-sha-256\n"
                                "hostnossl all all 10.0.0.0/8 reject\n"
                                "host all all all md5\n";
    struct hba *hba = reads(rules);
    cr_expect_eq(line_for(hba, "u d local"), 2);
    cr_expect_eq(line_for(hba, "u d 10.1.2.3 tls"), 3);
    cr_expect_eq(line_for(hba, "u d 10.1.2.3"), 4);
    cr_expect_eq(line_for(hba, "u d 11.1.2.3"), 5);
    cr_expect_eq(line_for(hba, "u d ::ffff:10.1.2.3 tls"), 3);
    cr_expect_eq(line_for(hba, "u d 2001:db8::1 tls"), 5);
    hba_free(hba);
    decides("host all all 10.0.0.0/8 md5\n", "u d 11.0.0.1", 0);
    decides("host all all 10.0.0.0/8 md5\n", "u d local", 0);
    decides("", "u d local", 0);
}

Test(hba, names_are_lists_keywords_and_quoted_names)
{
    decides("local a,b c,d trust\n", "c b local", 1);
    refuses("local a, b c ,d trust\n", 1, "the method \"d\"");
    decides("local a all trust\n", "u A local", 0);
    decides("local sameuser all trust\n", "u u local", 1);
    decides("local sameuser all trust\n", "u d local", 0);
    decides("local \"all\" all trust\n", "u d local", 0);
    decides("local \"all\" all trust\n", "u all local", 1);
    decides("local all \"all\" trust\n", "u d local", 0);
    decides("local \"a\"\"b\" \"x,y\" trust\n", "x,y a\"b local", 1);
    decides("local \"sameuser\",d all trust\n", "u u local", 0);
    decides("local all all trust # reject\n", "u d local", 1);
    decides("local all \\\n  all \\\n  trust\nlocal all all reject\n", "u d local", 1);
}

Test(hba, an_environment_narrows_a_name_or_a_line)
{
    decides("local all@dev all trust\n", "u d@dev local", 1);
    decides("local all@dev all trust\n", "u d@prod local", 0);
    decides("local all@dev all trust\n", "u d local", 0);
    decides("local app@dev,app@test all trust\n", "u app@test local", 1);
    decides("local app@dev,web all trust\n", "u web@prod local", 1);
    decides("local \"my@db\" all trust\n", "u d@dev local", 0);
    decides("local \"my\"@dev all trust\n", "u my@dev local", 1);
    decides("local sameuser@dev all trust\n", "u u@prod local", 0);
    decides("local all all trust environment=dev,test\n", "u d@test local", 1);
    decides("local all all trust environment=dev,test\n", "u d@prod local", 0);
    decides("local all all trust environment=dev\n", "u d local", 0);
    decides("local all ann@example.com trust\n", "ann@example.com d local", 1);
}

Test(hba, patterns_are_extended_regular_expressions)
{
    decides("local /^app_[0-9]+$ all trust\n", "u app_12 local", 1);
    decides("local /^app_[0-9]+$ all trust\n", "u app_x local", 0);
    decides("local all /ro$ trust\n", "app_ro d local", 1);
    decides("local \"/ro$\" all trust\n", "u app_ro local", 0);
    decides("local /^a@b all trust environment=dev\n", "u a@dev local", 0);
    refuses("local /( all trust\n", 1, "the pattern /( cannot be used");
    refuses("local /(a)\\1 all trust\n", 1, "refers back");
    refuses("local /a{9}{9}{9}{9} all trust\n", 1, "repeats too much");
}

Test(hba, a_long_name_fits_no_pattern)
{
    char login[256] = "";
    memset(login, 'a', 200);
    text_fit(login + 200, sizeof(login) - 200, " d local");
    decides("local all /^a*$ trust\n", login, 1);
    struct hba *hba = reads("local all /a trust\n");
    char *user = memset(calloc(1, 5001), 'a', 5000);
    struct hba_login long_one = {.user = user, .database = "d", .is_local = true};
    struct hba_verdict verdict;
    cr_expect_not(hba_find(hba, &long_one, &verdict));
    free(user);
    hba_free(hba);
}

Test(hba, lists_stand_in_files_of_their_own)
{
    desk_write("lists/users", "ann bob,carol # staff\n\"dave x\"\n@more\n");
    desk_write("lists/more", "eve\n");
    decides("local all @lists/users trust\n", "carol d local", 1);
    decides("local all @lists/users trust\n", "eve d local", 1);
    decides("local all zed,@lists/users trust\n", "zed d local", 1);
    decides("local all @lists/users trust\n", "frank d local", 0);
    desk_write("lists/databases", "app@dev\nall@test\n");
    decides("local @lists/databases all trust\n", "u app@dev local", 1);
    decides("local @lists/databases all trust\n", "u app@prod local", 0);
    refuses("\nlocal all @nowhere trust\n", 2, "@nowhere: ");
    desk_write("loop", "@loop @loop\n");
    refuses("local all @loop trust\n", 1, "lists that name each other");
    desk_write("empty", "# nobody\n");
    refuses("local all @empty trust\n", 1, "the list of users is empty");
}

Test(hba, addresses_are_blocks_masks_and_this_machine)
{
    decides("host all all 10.0.0.0 255.255.0.0 trust\n", "u d 10.0.9.9", 1);
    decides("host all all 10.0.0.0 255.255.0.0 trust\n", "u d 10.1.0.0", 0);
    decides("host all all 10.0.0.5 trust\n", "u d 10.0.0.5", 1);
    decides("host all all 2001:db8::/32 trust\n", "u d 2001:db8::7", 1);
    decides("host all all samehost trust\n", "u d 127.0.0.1", 1);
    decides("host all all samenet trust\n", "u d 127.9.9.9", 1);
    decides("host all all samehost trust\n", "u d 127.9.9.9", 0);
    refuses("host all all db.example.com trust\n", 1, "names of hosts are not looked up");
    refuses("host all all 10.0.0.0/33 trust\n", 1, "/33");
    refuses("host all all 10.0.0.0 255.0.255.0 trust\n", 1, "255.0.255.0");
}

Test(hba, replication_is_a_thing_of_its_own)
{
    decides("local all all trust\n", "u d local replication", 0);
    decides("local replication all trust\n", "u d local replication", 1);
    decides("local replication all trust\n", "u replication local", 0);
    decides("local \"replication\" all trust\n", "u replication local", 1);
}

Test(hba, both_names_of_the_console_mean_it)
{
    decides("local pgbouncer all reject\nlocal all all trust\n", "admin pgstage local", 1);
    decides("local pgstage all reject\nlocal all all trust\n", "admin pgstage local", 1);
    decides("local all@dev all trust\n", "admin pgstage local", 0);
    decides("local all all trust\n", "admin pgstage local", 1);
}

Test(hba, ldap_and_pam_lines_have_options_of_their_own)
{
    struct hba *hba =
        load("host all a all ldap ldapserver=\"h1 h2\" ldapprefix=\"cn=\" "
             "ldapsuffix=\", dc=example, dc=net\"\n"
             "host all b all ldap ldapurl=\"ldaps://h/dc=x?uid?sub\" ldapbinddn=\"cn=r@x,dc=y\" "
             "ldapbindpasswd=secret\n"
             "host all c all pam pamservice=own\n"
             "host all d all pam\n");
    struct hba_login login = {.user = "a", .database = "app"};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct hba_verdict verdict;
    cr_assert_not_null(hba);
    login.address = (const struct sockaddr *)&address;
    cr_assert(hba_find(hba, &login, &verdict));
    cr_assert_eq(verdict.method, AUTH_LDAP);
    cr_expect_str_eq(verdict.ldap->uris, "ldap://h1:389 ldap://h2:389");
    cr_expect_str_eq(verdict.ldap->suffix, ", dc=example, dc=net");
    login.user = "b";
    cr_assert(hba_find(hba, &login, &verdict));
    cr_expect_str_eq(verdict.ldap->uris, "ldaps://h:636");
    cr_expect_str_eq(verdict.ldap->bind_dn, "cn=r@x,dc=y");
    cr_expect_str_eq(verdict.ldap->bind_password, "secret");
    login.user = "c";
    cr_assert(hba_find(hba, &login, &verdict));
    cr_expect_eq(verdict.method, AUTH_PAM);
    cr_expect_str_eq(verdict.pam_service, "own");
    login.user = "d";
    cr_assert(hba_find(hba, &login, &verdict));
    cr_expect_null(verdict.pam_service);
    hba_free(hba);
}

Test(hba, every_mistake_is_told_at_its_line)
{
    refuses("locall all all trust\n", 1, "expected local, host, hostssl or hostnossl");
    refuses("hostgssenc all all all trust\n", 1, "hostgssenc");
    refuses("local\n", 1, "the database is missing");
    refuses("local all\n", 1, "the user is missing");
    refuses("host all all\n", 1, "the address is missing");
    refuses("local all all\n", 1, "the method is missing");
    refuses("local all all thrust\n", 1, "the method \"thrust\" is none of");
    refuses("local all all radius\n", 1, "the method \"radius\"");
    refuses("local all all ldap\n", 1, "ldap needs ldapserver");
    refuses("local all all ldap ldapserver=h ldaptls=2\n", 1, "ldaptls is 0 or 1");
    refuses("local all all ldap ldapserver=h ldapsecret=hidden\n", 1,
            "unknown option \"ldapsecret\"");
    refuses("local all all trust ldapserver=h\n", 1, "unknown option");
    refuses("local all all ldap ldapserver=h ldapprefix=cn= pamservice=x\n", 1, "unknown option");
    refuses("local all all pam pamservice=\n", 1, "unknown option");
    refuses("local all all any\n", 1, "the method \"any\"");
    refuses("local all all a,b\n", 1, "the method is one word");
    refuses("host all all all peer\n", 1, "local lines only");
    refuses("host all all all cert\n", 1, "hostssl lines only");
    refuses("local all +staff trust\n", 1, "no groups");
    refuses("local samerole all trust\n", 1, "no groups");
    refuses("local all all trust map=m\n", 1, "map= is for cert and peer");
    refuses("local all all trust clientcert=verify-ca\n", 1, "unknown option");
    refuses("hostssl all all all trust clientcert=1\n", 1, "unknown option");
    refuses("local all all trust radius=1\n", 1, "unknown option \"radius=1\"");
    refuses("local \"all all trust\n", 1, "a quote is not closed");
    refuses("local all@ all trust\n", 1, "an environment's name stands behind @");
    cr_expect_null(load("x\n\nlocal all all trust\nhost all all x y\nz \\\n z\n"));
    cr_expect_eq(desk_report.errors, 3);
    cr_expect(desk_said(1, "expected local"));
    cr_expect(desk_said(4, "not looked up"));
    cr_expect(desk_said(5, "expected local"));
}

/* ---- maps ---- */

static bool maps(const char *text, const char *map, const char *system_name, const char *user)
{
    report_fini(&desk_report);
    struct ident *ident = ident_parse("ident", text, strlen(text), &desk_report);
    cr_assert(ident, "%s: %s", text, desk_report.count ? desk_report.entries[0].text : "");
    bool allowed = ident_allows(ident, map, system_name, user);
    ident_free(ident);
    return allowed;
}

static void map_refuses(const char *text, int line, const char *words)
{
    report_fini(&desk_report);
    cr_expect_null(ident_parse("ident", text, strlen(text), &desk_report), "%s", text);
    cr_expect(desk_said(line, words), "%s: %s", text, desk_report.entries[0].text);
}

Test(hba, a_map_names_who_may_be_whom)
{
    static const char people[] = "# maps\n"
                                 "people root admin\n"
                                 "people root other\n"
                                 "people /^(.*)@example\\.com$ \\1\n"
                                 "people /^(.*)@example\\.com$ \"ro_\\1\"\n"
                                 "guests /^guest guest\n"
                                 "wide boss all\n"
                                 "ours ops /^app_\n"
                                 "quoted \"a b\" \"all\"\n";
    cr_expect(maps(people, "people", "root", "admin"));
    cr_expect(maps(people, "people", "root", "other"));
    cr_expect_not(maps(people, "people", "root", "root"));
    cr_expect(maps(people, "people", "ann@example.com", "ann"));
    cr_expect(maps(people, "people", "ann@example.com", "ro_ann"));
    cr_expect_not(maps(people, "people", "ann@example.com", "bob"));
    cr_expect_not(maps(people, "people", "ann@example.com", "ro_ann2"));
    cr_expect_not(maps(people, "people", "ann@example.org", "ann"));
    cr_expect(maps(people, "guests", "guest7", "guest"));
    cr_expect_not(maps(people, "guests", "root", "guest"));
    cr_expect(maps(people, "wide", "boss", "whoever"));
    cr_expect(maps(people, "ours", "ops", "app_1"));
    cr_expect_not(maps(people, "ours", "ops", "web"));
    cr_expect(maps(people, "quoted", "a b", "all"));
    cr_expect_not(maps(people, "quoted", "a b", "x"));
    cr_expect_not(maps(people, "nowhere", "root", "admin"));
}

Test(hba, without_a_map_both_names_are_the_same)
{
    cr_expect(ident_allows(NULL, NULL, "ann", "ann"));
    cr_expect_not(ident_allows(NULL, NULL, "ann", "Ann"));
    cr_expect_not(ident_allows(NULL, "people", "ann", "ann"));
}

Test(hba, mistakes_in_maps_are_told_at_their_line)
{
    map_refuses("people root\n", 1, "expected MAP SYSTEM-NAME USER");
    map_refuses("\npeople root admin more\n", 2, "expected MAP SYSTEM-NAME USER");
    map_refuses("people a,b admin\n", 1, "expected MAP SYSTEM-NAME USER");
    map_refuses("people /( admin\n", 1, "the pattern");
    map_refuses("people root \\1\n", 1, "\\1 needs a pattern");
    map_refuses("people /root \\1\n", 1, "in parentheses");
    map_refuses("people root +staff\n", 1, "no groups");
}

/* ---- what an ambiguous name is told ---- */

Test(hba, environments_that_reject_a_user_are_not_named_to_it)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
    struct route_request request = {
        .database = "app", .user = "ann", .from = (struct sockaddr *)&address};
    struct route route;
    desk_write("hba", "host all@one ann all scram-sha-256\nhost all@two bob all trust\n"
                      "hostssl all@three ann all scram-sha-256\nhost all@four ann all reject\n");
    struct snapshot *snapshot = desk_accepts("[pgstage]\nauth_type = hba\nauth_hba_file = hba\n"
                                             "[environment one]\nclass = review_apps\nhosts = h\n"
                                             "[environment two]\nclass = review_apps\nhosts = h\n"
                                             "[environment three]\nclass = review_apps\nhosts = h\n"
                                             "[environment four]\nclass = review_apps\nhosts = h\n"
                                             "[databases]\napp =\n");
    enum route_result result = route_find(snapshot, &request, &route);
    char *text = route_explain(snapshot, &request, result);
    cr_expect_eq(result, ROUTE_AMBIGUOUS);
    cr_expect(strstr(text, "app@one"), "%s", text);
    cr_expect(!strstr(text, "two") && !strstr(text, "three") && !strstr(text, "four"), "%s", text);
    free(text);
    request.has_tls = true;
    text = route_explain(snapshot, &request, result);
    cr_expect(strstr(text, "app@one, app@three"), "%s", text);
    free(text);
    snapshot_unref(snapshot);
}

/* ---- in a configuration ---- */

#define BASE                                                                                       \
    "[pgstage]\nauth_type = hba\nauth_hba_file = hba\nadmin_users = boss\n"                        \
    "[environment p]\nclass = production\nhosts = h1\nserver_tls_ca_file = system\n"               \
    "allow_users = app, ops\n"                                                                     \
    "[environment d]\nclass = local_development\nhosts = h2\n"                                     \
    "[databases]\napp =\nlegacy = host=h3\nprobe@p =\nonly@d =\n"

Test(hba, a_file_that_is_not_there_or_not_used_is_told)
{
    desk_refuses("[pgstage]\nauth_type = hba\n", 2, "auth_type = hba needs auth_hba_file");
    desk_refuses("[pgstage]\nauth_type = hba\nauth_hba_file = nowhere\n", 3, "auth_hba_file: ");
    desk_refuses("[pgstage]\nauth_ident_file = nowhere\n", 2, "auth_ident_file: ");
    desk_write("hba", "local all all trust\n");
    snapshot_unref(desk_accepts("[pgstage]\nauth_hba_file = hba\n"));
    cr_expect(desk_said(2, "auth_hba_file has no effect"));
    desk_refuses("[environment d]\nclass = local_development\nhosts = h\nauth_type = hba\n", 4,
                 "auth_type = hba needs auth_hba_file");
}

Test(hba, what_a_line_names_must_be_there)
{
    desk_write("hba", "local all@prd all reject\nlocal all all reject environment=x\n"
                      "local all all peer map=m\n");
    cr_expect_null(desk_load(BASE));
    cr_expect(desk_said(1, "there is no environment \"prd\""));
    cr_expect(desk_said(2, "there is no environment \"x\""));
    cr_expect(desk_said(3, "there is no map \"m\": auth_ident_file is not set"));
    desk_write("hba", "hostssl all all all cert\n");
    desk_refuses(BASE, 1, "needs a listener with TLS and client_tls_ca_file");
    desk_refuses("[pgstage]\nauth_type = cert\n", 2, "auth_type = cert needs a listener with TLS");
}

Test(hba, an_environment_may_have_rules_of_its_own)
{
    desk_write("hba", "local all all reject\n");
    desk_write("loose", "local all all trust\n");
    struct snapshot *snapshot = desk_accepts(
        "[pgstage]\nauth_type = hba\nauth_hba_file = hba\n"
        "[environment d]\nclass = local_development\nhosts = h\nauth_hba_file = loose\n"
        "[environment e]\nclass = local_development\nhosts = h\n"
        "[environment f]\nclass = local_development\nhosts = h\nauth_type = trust\n");
    const struct hba *d = snapshot_find_environment(snapshot, "d")->hba;
    cr_assert(d);
    cr_expect_neq(d, snapshot_hba(snapshot));
    cr_expect_eq(snapshot_find_environment(snapshot, "e")->hba, snapshot_hba(snapshot));
    cr_expect_null(snapshot_find_environment(snapshot, "f")->hba);
    snapshot_unref(snapshot);
}

/* Every line form × every method: a weak method is refused exactly where production (or the
 * console beside it) could be reached by it. */
Test(hba, production_is_reached_by_no_weak_line)
{
    static const struct {
        const char *type, *database, *user, *more;
        bool reaches;
    } forms[] = {
        {"local", "all", "all", "", true},
        {"host", "all", "all", "", true},
        {"hostssl", "all", "all", "", true},
        {"hostnossl", "all", "all", "", true},
        {"local", "app", "all", "", true}, /* served by p, too */
        {"local", "\"app\"", "all", "", true},
        {"local", "probe", "all", "", true},   /* probe@p */
        {"local", "only", "all", "", false},   /* only@d */
        {"local", "legacy", "all", "", false}, /* in no environment */
        {"local", "nothing", "all", "", false},
        {"local", "only,app", "all", "", true},
        {"local", "/^a", "all", "", true},
        {"local", "/^o", "all", "", false},
        {"local", "sameuser", "all", "", true},
        {"local", "replication", "all", "", true},
        {"local", "all@p", "all", "", true},
        {"local", "all@d", "all", "", false},
        {"local", "app@d", "all", "", false},
        {"local", "app@p", "all", "", true},
        {"local", "all@d,app@p", "all", "", true},
        {"local", "@list", "all", "", true},
        {"local", "all", "all", "environment=d", false},
        {"local", "all", "all", "environment=p", true},
        {"local", "all", "all", "environment=d,p", true},
        {"local", "all", "app", "", true},
        {"local", "app", "web", "", false}, /* allow_users keeps it out */
        {"local", "all", "web", "", false},
        {"local", "all", "web,ops", "", true},
        {"local", "all", "/^o", "", true},
        {"local", "pgbouncer", "all", "", true}, /* the console */
        {"local", "pgstage", "boss", "", true},
        {"local", "pgstage", "web", "", false}, /* no administrator */
        {"local", "all", "boss", "", true},
    };
    static const struct {
        const char *method;
        bool weak;
    } methods[] = {
        {"trust", true},          {"md5", true},     {"password", true},
        {"scram-sha-256", false}, {"reject", false},
    };
    const struct rule *rule = rule_at(RULE_HBA);
    desk_write("list", "only app\n");
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        for (size_t j = 0; j < sizeof(methods) / sizeof(methods[0]); j++) {
            bool local = strcmp(forms[i].type, "local") == 0;
            char line[256];
            snprintf(line, sizeof(line), "# one\n%s %s %s %s %s %s\n", forms[i].type,
                     forms[i].database, forms[i].user, local ? "" : "10.0.0.0/8", methods[j].method,
                     forms[i].more);
            desk_write("hba", line);
            struct snapshot *snapshot = desk_load(BASE);
            bool refused = forms[i].reaches && methods[j].weak;
            cr_expect_eq(snapshot == NULL, refused, "%s", line);
            if (refused) {
                cr_expect_eq(desk_report.errors, 1, "%s", line);
                cr_expect(desk_said(2, "[production-hba]"), "%s", line);
                cr_expect(desk_said(2, rule->write), "%s", line);
                cr_expect(desk_said(2, methods[j].method), "%s", line);
            }
            snapshot_unref(snapshot);
        }
    }
}

Test(hba, passwords_of_production_do_not_go_to_a_directory_in_the_clear)
{
    static const struct {
        const char *options;
        bool clear;
    } lines[] = {
        {"ldapserver=h ldapprefix=cn=", true},
        {"ldapurl=ldap://h/dc=x", true},
        {"ldapserver=\"127.0.0.1 h\" ldapprefix=cn=", true},
        {"ldapserver=h ldapprefix=cn= ldaptls=1", false},
        {"ldapserver=h ldapprefix=cn= ldapscheme=ldaps", false},
        {"ldapurl=ldaps://h/dc=x", false},
        {"ldapserver=127.0.0.1 ldapprefix=cn=", false},
    };
    char text[256];
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        snprintf(text, sizeof(text), "# one\nhostssl all all all ldap %s\nlocal all all reject\n",
                 lines[i].options);
        desk_write("hba", text);
        if (lines[i].clear)
            desk_refuses(BASE, 2, "[production-hba]");
        else
            snapshot_unref(desk_accepts(BASE));
    }
    /* nor does the secret of pgstage's own lie about */
    desk_write("hba", "hostssl all all all ldap ldapurl=ldaps://h/dc=x ldapbinddn=cn=r "
                      "ldapbindpasswd=p\n");
    snapshot_unref(desk_accepts(BASE));
    cr_assert_eq(chmod("hba", 0644), 0);
    desk_refuses(BASE, 1, "[production-file]");
    desk_write("hba", "hostssl all all all pam\n");
    snapshot_unref(desk_accepts(BASE));
}

Test(hba, weak_lines_are_free_where_production_goes_by_other_rules)
{
    desk_write("hba", "local all all trust\n");
    /* the console is still in reach of them */
    desk_refuses("[pgstage]\nauth_type = hba\nauth_hba_file = hba\nadmin_users = boss\n"
                 "[environment p]\nclass = production\nhosts = h1\nserver_tls_ca_file = system\n"
                 "auth_type = scram-sha-256\n",
                 1, "the console");
    snapshot_unref(desk_accepts(
        "[pgstage]\nauth_type = scram-sha-256\n"
        "[environment p]\nclass = production\nhosts = h1\nserver_tls_ca_file = system\n"
        "[environment d]\nclass = local_development\nhosts = h2\nauth_type = hba\n"
        "auth_hba_file = hba\n"));
    snapshot_unref(desk_accepts("[pgstage]\nauth_type = hba\nauth_hba_file = hba\n"));
}

Test(hba, a_reload_reads_the_rules_anew_and_set_keeps_them)
{
    desk_write("hba", "local all all reject\n");
    struct snapshot *snapshot = desk_accepts(BASE);
    report_fini(&desk_report);
    struct snapshot *set = snapshot_set(snapshot, "query_timeout", "5", &desk_report);
    cr_assert(set);
    cr_expect(snapshot_hba(set));
    snapshot_unref(set);
    desk_write("hba", "local all all trust\n");
    cr_expect_null(snapshot_set(snapshot, "query_timeout", "6", &desk_report));
    snapshot_unref(snapshot);
}
