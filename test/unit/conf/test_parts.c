/* The small readers: connection strings, host lists, variables, user lists. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"
#include "pgstage/conf/connstr.h"
#include "pgstage/conf/host.h"
#include "pgstage/conf/report.h"
#include "pgstage/conf/users.h"
#include "pgstage/conf/variable.h"

TestSuite(users, .init = desk_set, .fini = desk_clear);

static char problem[512];

/* "key=value;" for each pair, and "!" when the string is wrong. */
static const char *pairs(const char *text)
{
    static char result[1024];
    struct arena arena = {0};
    const char *key, *value;
    enum connstr_step step;
    result[0] = '\0';
    while ((step = connstr_next(&arena, &text, &key, &value, problem, sizeof(problem))) ==
           CONNSTR_PAIR)
        snprintf(result + strlen(result), sizeof(result) - strlen(result), "%s=%s;", key, value);
    if (step == CONNSTR_WRONG)
        strcat(result, "!");
    arena_fini(&arena);
    return result;
}

Test(connstr, splits_at_blanks_only)
{
    cr_expect_str_eq(pairs("host=a,b port=5432\tdbname=x;y"), "host=a,b;port=5432;dbname=x;y;");
    cr_expect_str_eq(pairs(""), "");
    cr_expect_str_eq(pairs("  host = a  b=c"), "host=a;b=c;");
    cr_expect_str_eq(pairs("host= b=c"), "!");
}

Test(connstr, quoted_values_hold_blanks_and_doubled_quotes)
{
    cr_expect_str_eq(pairs("connect_query='set a = ''x''; select 1' port=1"),
                     "connect_query=set a = 'x'; select 1;port=1;");
    cr_expect_str_eq(pairs("password=''"), "password=;");
}

Test(connstr, refuses_what_it_cannot_read)
{
    cr_expect_str_eq(pairs("host=a loose"), "host=a;!");
    cr_expect_str_eq(pairs("host="), "!");
    cr_expect_str_eq(pairs("=a"), "!");
    cr_expect_str_eq(pairs("q='open"), "!");
    cr_expect_str_eq(pairs("q='a'b=c"), "!");
}

Test(connstr, quoting_reads_back)
{
    static const char *const values[] = {"plain", "two words", "it's", "", "'", "a\tb", "${X}"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char *quoted = connstr_quote(values[i]), text[64], expected[64];
        snprintf(text, sizeof(text), "k=%s", quoted);
        snprintf(expected, sizeof(expected), "k=%s;", values[i]);
        cr_expect_str_eq(pairs(text), expected);
        free(quoted);
    }
}

/* Each host as host_print writes it, with a blank behind. */
static const char *hosts(const char *text)
{
    static char result[1024];
    struct arena arena = {0};
    const struct host_config *list;
    size_t count;
    result[0] = '\0';
    if (!host_list_parse(&arena, text, 5432, &list, &count, problem, sizeof(problem)))
        strcat(result, "!");
    else
        for (size_t i = 0; i < count; i++) {
            char *one = host_print(&list[i]);
            snprintf(result + strlen(result), sizeof(result) - strlen(result), "%s ", one);
            free(one);
        }
    arena_fini(&arena);
    return result;
}

Test(host, reads_names_addresses_and_ports)
{
    cr_expect_str_eq(hosts("pg1, pg2:5433 ,pg3@10.0.0.3:5434,pg4@10.0.0.4"),
                     "pg1:5432 pg2:5433 pg3@10.0.0.3:5434 pg4@10.0.0.4:5432 ");
}

Test(host, reads_ipv6_with_and_without_brackets)
{
    cr_expect_str_eq(hosts("::1,[::1]:5433,[fe80::1],pg@[::1]:7,pg@::1"),
                     "[::1]:5432 [::1]:5433 [fe80::1]:5432 pg@[::1]:7 pg@[::1]:5432 ");
}

Test(host, reads_socket_folders)
{
    struct arena arena = {0};
    const struct host_config *list;
    size_t count;
    cr_assert(host_list_parse(&arena, "/run/postgresql, @abstract:7, pg", 5432, &list, &count,
                              problem, sizeof(problem)));
    cr_assert_eq(count, 3);
    cr_expect(host_is_socket(&list[0]));
    cr_expect_str_eq(list[0].name, "/run/postgresql");
    cr_expect(host_is_socket(&list[1]));
    cr_expect_str_eq(list[1].name, "@abstract");
    cr_expect_eq(list[1].port, 7);
    cr_expect_not(host_is_socket(&list[2]));
    arena_fini(&arena);
}

Test(host, refuses_what_is_no_host)
{
    static const char *const wrong[] = {"",    "a,,b", "a:0",           "a:65536",
                                        "a:b", "a:",   "[::1",          "[::1]x",
                                        "a@",  "a b",  "a:99999999999", "pg@[::1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        cr_expect_str_eq(hosts(wrong[i]), "!", "\"%s\" gave %s", wrong[i], hosts(wrong[i]));
}

static const char *expanded(const char *text)
{
    static char result[256];
    char *value = variable_expand(text, "/etc/pg", NULL, problem, sizeof(problem));
    snprintf(result, sizeof(result), "%s", value ? value : "!");
    free(value);
    return result;
}

Test(variable, is_replaced_or_falls_back)
{
    setenv("GREETING", "hello", 1);
    setenv("EMPTY", "", 1);
    unsetenv("MISSING");
    cr_expect_str_eq(expanded("a ${GREETING} b"), "a hello b");
    cr_expect_str_eq(expanded("${MISSING:-x y}${GREETING:-no}"), "x yhello");
    cr_expect_str_eq(expanded("${EMPTY:-full}|${EMPTY}|"), "full||");
    cr_expect_str_eq(expanded("${CONFIG_DIR}/a"), "/etc/pg/a");
}

Test(variable, that_is_missing_or_malformed_is_a_mistake)
{
    unsetenv("MISSING");
    cr_expect_str_eq(expanded("${MISSING}"), "!");
    cr_expect(strstr(problem, "MISSING is not set"));
    cr_expect_str_eq(expanded("${open"), "!");
    cr_expect_str_eq(expanded("${}"), "!");
    cr_expect_str_eq(expanded("${a b}"), "!");
    cr_expect_str_eq(expanded("${1x}"), "!");
}

Test(variable, is_not_looked_for_in_what_a_variable_held)
{
    setenv("OUTER", "${INNER}", 1);
    cr_expect_str_eq(expanded("${OUTER}"), "${INNER}");
}

Test(variable, dollars_that_are_no_variables_stay)
{
    cr_expect_str_eq(expanded("$1 $ $$ a$"), "$1 $ $$ a$");
    cr_expect_str_eq(expanded("$${X}"), "${X}");
}

Test(variable, escaping_reads_back)
{
    static const char *const texts[] = {"${X}", "$${X}", "$$${", "a$", "", "${"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *escaped = variable_escape(texts[i]);
        cr_expect_str_eq(expanded(escaped), texts[i]);
        free(escaped);
    }
}

Test(users, reads_every_kind_of_secret)
{
    desk_write("u", "; people\n\n"
                    "\"plain\" \"pa\"\"ss\"\n"
                    "  \"hash\"\t\"md50123456789abcdef0123456789abcdef\" extra\n"
                    "\"scram\" \"SCRAM-SHA-256$4096:c2FsdA==$a:b\"\r\n"
                    "\"empty\" \"\"\n");
    struct users *users = users_load("u", &desk_report);
    cr_assert(users);
    cr_expect_eq(users_count(users), 4);
    cr_expect_str_eq(users_find(users, "plain")->secret, "pa\"ss");
    cr_expect_eq(users_find(users, "plain")->kind, SECRET_PLAIN);
    cr_expect_eq(users_find(users, "hash")->kind, SECRET_MD5);
    cr_expect_eq(users_find(users, "scram")->kind, SECRET_SCRAM);
    cr_expect_eq(users_find(users, "empty")->kind, SECRET_NONE);
    cr_expect_null(users_find(users, "nobody"));
    cr_expect_str_eq(users_at(users, 1)->user, "hash");
    users_free(users);
}

Test(users, a_password_that_only_begins_like_a_hash_is_a_password)
{
    cr_expect_eq(secret_kind_of("md5"), SECRET_PLAIN);
    cr_expect_eq(secret_kind_of("md50123456789abcdef0123456789abcdeg"), SECRET_PLAIN);
    cr_expect_eq(secret_kind_of("SCRAM-SHA-256$"), SECRET_PLAIN);
}

Test(users, every_malformed_line_is_reported_with_its_number)
{
    desk_write("u", "\"a\" \"b\"\nplain text\n\"open \"x\n\"\" \"x\"\n");
    cr_expect_null(users_load("u", &desk_report));
    cr_expect_eq(desk_report.errors, 3);
    cr_expect(desk_said(2, "double quotes"));
    cr_expect(desk_said(3, "double quotes"));
    cr_expect(desk_said(4, "empty"));
}

Test(users, the_last_line_for_a_user_wins)
{
    desk_write("u", "\"a\" \"old\"\n\"a\" \"new\"\n");
    struct users *users = users_load("u", &desk_report);
    cr_assert(users);
    cr_expect_eq(users_count(users), 1);
    cr_expect_str_eq(users_find(users, "a")->secret, "new");
    users_free(users);
}

Test(users, a_list_that_cannot_be_read_is_reported)
{
    cr_expect_null(users_load("none", &desk_report));
    cr_expect(desk_said(0, "cannot read none"));
    cr_expect_null(users_find(NULL, "x"));
}

/* ---- report ---- */

static char *json_of(const struct report *report, const char *file)
{
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    report_print_json(report, file, stream);
    fclose(stream);
    return text;
}

Test(report, is_printed_as_json)
{
    struct report report = {0};
    report_warning(&report, "a\"b\\.ini", 3, "odd \x01\xff \xc3\xa4");
    report_broken(&report, "production-tls", NULL, 0, "broken");
    char *text = json_of(&report, "pgstage.ini");
    cr_expect_str_eq(text,
                     "{\n  \"file\": \"pgstage.ini\",\n  \"errors\": 1,\n  \"warnings\": 1,\n"
                     "  \"entries\": [\n"
                     "    {\"severity\": \"warning\", \"file\": \"a\\\"b\\\\.ini\", \"line\": 3, "
                     "\"rule\": null, \"text\": \"odd \\u0001\\u00ff \xc3\xa4\"},\n"
                     "    {\"severity\": \"error\", \"file\": null, \"line\": null, "
                     "\"rule\": \"production-tls\", \"text\": \"broken\"}\n"
                     "  ]\n}\n");
    free(text);
    report_fini(&report);
}

Test(report, without_entries_is_an_empty_list)
{
    struct report report = {0};
    char *text = json_of(&report, "x");
    cr_expect_str_eq(text, "{\n  \"file\": \"x\",\n  \"errors\": 0,\n  \"warnings\": 0,\n"
                           "  \"entries\": []\n}\n");
    free(text);
}

/* ---- canonical hosts ---- */

Test(host, has_one_spelling)
{
    static const char *const spellings[][2] = {
        {"PG1.Example.COM.", "pg1.example.com"},
        {"10.0.2", "10.0.0.2"},
        {"0x0a000002", "10.0.0.2"},
        {"::ffff:10.0.0.2", "10.0.0.2"},
        {"0:0::1", "::1"},
        {"LocalHost", "127.0.0.1"},
        {"0.0.0.0", "127.0.0.1"},
        {"/run//x/", "/run/x"},
        {"@Abstract", "@Abstract"},
        {"2001:DB8::0:1", "2001:db8::1"},
    };
    for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        char *text = host_canonical(spellings[i][0], false);
        cr_expect_str_eq(text, spellings[i][1]);
        free(text);
    }
}

Test(host, knows_the_loopback_without_asking_anybody)
{
    static const char *const yes[] = {"127.0.0.1", "127.8.8.8", "::1", "localhost", "127.1"};
    static const char *const no[] = {"*",        "0.0.0.0", "::", "127.0.0.1.example.com",
                                     "10.0.0.1", "pg"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        cr_expect(host_name_is_loopback(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        cr_expect_not(host_name_is_loopback(no[i]), "%s", no[i]);
}

/* ---- references ---- */

Test(variable, reference_is_one_variable_and_nothing_else)
{
    static const char *const yes[] = {"${A}", "${A_1}", "${A:-}"};
    static const char *const no[] = {"",      "A",   "${A",      "${A}b", "b${A}", "${A:-b}",
                                     "$${A}", "${}", "${A}${B}", "${1}",  "${A-}", "${:-}"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        cr_expect(variable_is_reference(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        cr_expect_not(variable_is_reference(no[i]), "%s", no[i]);
}
