/* What is printed: the merged file, the rows of SHOW CONFIG, the sample and the reference page. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/class.h"
#include "pgstage/conf/file.h"
#include "pgstage/conf/option.h"
#include "pgstage/conf/print.h"
#include "pgstage/conf/show.h"

TestSuite(show, .init = desk_set, .fini = desk_clear);

/* The merged file; without its comments when `bare`. */
static char *printed_of(const struct snapshot *snapshot, const char *environment, bool bare)
{
    char *text = NULL, *out;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    config_print(snapshot, environment ? snapshot_find_environment(snapshot, environment) : NULL,
                 stream);
    fclose(stream);
    out = text;
    for (char *line = text; bare && *line;) {
        size_t size = strcspn(line, "\n") + 1;
        if (*line != ';') {
            memmove(out, line, size);
            out += size;
        }
        line += size;
    }
    if (bare)
        *out = '\0';
    return text;
}

static char *printed(const struct snapshot *snapshot, bool bare)
{
    return printed_of(snapshot, NULL, bare);
}

Test(show, the_printed_file_is_the_same_configuration)
{
    setenv("PW", "top secret", 1);
    setenv("LINE", "host=h9 user=x password=hidden", 1);
    setenv("PGSTAGE__E__PASSWORD", "hidden too", 1);
    desk_write("pgstage.d/a.ini", "[pgstage]\nmax_client_conn = 5\n");
    desk_write("pw", "in a file\n");
    struct snapshot *snapshot = desk_accepts(
        "[pgstage]\nlisten_addr = 127.0.0.1\nquery_timeout = 250ms\nunix_socket_mode = 0700\n"
        "logfile =\nserver_reset_query = a; $${b} 'c'\n"
        "[environment e]\nclass = review_apps\nhosts = h1, h2@::1\nuser = f\n"
        "[listener l]\nlisten_port = 7000\nenvironment = e\n"
        "[databases]\napp = dbname=x connect_query='set a = ''b c'''\n"
        "app@e = password=${PW}\n\"a@b\" = host=h user=u password=plain\n"
        "'it''s \"q\"'@e = pool_size=3\nwhole = ${LINE}\nfile = host=h password_file=pw\n* =\n"
        "[users]\nu = pool_mode=transaction\n'odd user' =\n"
        "[peers]\n3 = host=/tmp\n");
    char *first = printed(snapshot, true);
    cr_expect_null(strstr(first, "secret"), "%s", first);
    cr_expect_null(strstr(first, "hidden"), "%s", first);
    cr_expect_null(strstr(first, "in a file"), "%s", first);
    cr_expect(strstr(first, "password=${PW}"), "%s", first);
    cr_expect(strstr(first, "password = ${PGSTAGE__E__PASSWORD}"), "%s", first);
    cr_expect_null(strstr(first, "plain"), "%s", first);
    desk_write("merged/pgstage.ini", first);
    unsetenv("PGSTAGE__E__PASSWORD");
    setenv("PGSTAGE__E__PASSWORD", "hidden too", 1);
    struct report report = {0};
    struct snapshot *again = snapshot_load("merged/pgstage.ini", false, &report);
    for (size_t i = 0; i < report.count; i++)
        fprintf(stderr, "    %s\n", report.entries[i].text);
    cr_assert(again);
    char *second = printed(again, true);
    cr_expect_str_eq(first, second);
    free(first);
    free(second);
    snapshot_unref(snapshot);
    snapshot_unref(again);
    report_fini(&report);
}

Test(show, every_value_is_printed_with_its_origin)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nmax_client_conn = 5\n[environment e]\nclass = review_apps\n"
                     "hosts = h\n");
    char *text = printed(snapshot, false);
    cr_expect(strstr(text, "/pgstage.ini:2\nmax_client_conn = 5\n"), "%s", text);
    cr_expect(strstr(text, "; class review_apps: pool_size = 5\n"), "%s", text);
    free(text);
    snapshot_unref(snapshot);
}

Test(show, rows_come_in_the_order_of_names_and_hold_every_option_of_the_scope)
{
    struct snapshot *snapshot = desk_accepts("");
    struct config_row row = {0};
    char last[64] = "";
    size_t rows = 0, options = 0;
    while (config_row_next(snapshot, NULL, NULL, &row)) {
        cr_expect_gt(strcmp(row.key, last), 0);
        text_fit(last, sizeof(last), row.key);
        cr_expect(row.value && row.default_text && row.origin);
        rows++;
    }
    for (size_t i = 0; i < option_count(); i++)
        options += (option_at(i)->scopes & SCOPE_GLOBAL) != 0;
    cr_expect_eq(rows, options);
    snapshot_unref(snapshot);
}

Test(show, rows_count_pgbouncers_units)
{
    struct snapshot *snapshot = desk_accepts(
        "[pgstage]\nquery_timeout = 2min\nserver_check_delay = 1500ms\nmax_packet_size = 64kB\n"
        "so_reuseport = yes\nunix_socket_mode = 700\npool_mode = Statement\n");
    cr_expect_str_eq(desk_value(snapshot, NULL, "query_timeout"), "120");
    cr_expect_str_eq(desk_value(snapshot, NULL, "server_check_delay"), "1.5");
    cr_expect_str_eq(desk_value(snapshot, NULL, "max_packet_size"), "65536");
    cr_expect_str_eq(desk_value(snapshot, NULL, "so_reuseport"), "1");
    cr_expect_str_eq(desk_value(snapshot, NULL, "unix_socket_mode"), "0700");
    cr_expect_str_eq(desk_value(snapshot, NULL, "pool_mode"), "statement");
    cr_expect_str_eq(desk_origin(snapshot, NULL, "listen_port"), "default");
    snapshot_unref(snapshot);
}

Test(show, secrets_are_masked_in_rows)
{
    struct snapshot *snapshot = desk_accepts(
        "[environment e]\nclass = review_apps\nhosts = h\nuser = u\npassword = plain\n");
    cr_expect_str_eq(desk_value(snapshot, "e", "password"), "********");
    snapshot_unref(snapshot);
}

static void expect_printed(void (*print)(FILE *), const char *name, const char *option)
{
    char *text = NULL, path[512], problem[256];
    size_t length, file_length;
    FILE *stream = open_memstream(&text, &length);
    print(stream);
    fclose(stream);
    snprintf(path, sizeof(path), "%s/%s", SOURCE_DIR, name);
    char *file = file_read(path, 10 << 20, &file_length, NULL, problem, sizeof(problem));
    cr_assert(file, "%s", problem);
    cr_expect(file_length == length && memcmp(file, text, length) == 0,
              "%s differs from the table of options: pgstage %s > %s", name, option, name);
    free(text);
    free(file);
}

Test(show, the_sample_file_of_the_tree_is_made_from_the_table)
{
    expect_printed(conf_print_sample, "conf/pgstage.ini", "--print-sample");
}

Test(show, the_reference_page_of_the_tree_is_made_from_the_table)
{
    expect_printed(conf_print_reference, "doc/reference-options.md", "--print-reference");
}

/* Loads a file of conf/ and wants no word about it. */
static struct snapshot *load_sample(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/conf/%s", SOURCE_DIR, name);
    report_fini(&desk_report);
    struct snapshot *snapshot = snapshot_load(path, false, &desk_report);
    cr_assert(snapshot, "%s: %s", name, desk_report.count ? desk_report.entries[0].text : "");
    cr_expect_eq(desk_report.warnings, 0, "%s: %s", name,
                 desk_report.count ? desk_report.entries[0].text : "");
    return snapshot;
}

Test(show, the_sample_file_loads)
{
    snapshot_unref(load_sample("pgstage.ini"));
}

Test(show, every_class_has_a_sample_file_that_loads)
{
    for (size_t i = 0; i < class_count(); i++) {
        char name[128];
        snprintf(name, sizeof(name), "environments/%s.ini", class_at(i)->name);
        struct snapshot *snapshot = load_sample(name);
        cr_assert_eq(snapshot_environment_count(snapshot), 1);
        cr_expect_str_eq(snapshot_environment(snapshot, 0)->class_name, class_at(i)->name);
        cr_expect_geq(snapshot_database_count(snapshot), 1);
        snapshot_unref(snapshot);
    }
}

Test(show, the_sample_files_of_all_classes_load_together)
{
    char text[8192] = "[pgstage]\nlisten_addr = 127.0.0.1\n";
    for (size_t i = 0; i < class_count(); i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "%%include %s/conf/environments/%s.ini\n", SOURCE_DIR, class_at(i)->name);
    struct snapshot *snapshot = desk_accepts(text);
    cr_expect_eq(snapshot_environment_count(snapshot), class_count());
    cr_expect_eq(desk_report.count, 0, "%s", desk_report.count ? desk_report.entries[0].text : "");
    snapshot_unref(snapshot);
}

/* Every `;name = value` line of the sample, without its semicolon, is accepted where it stands. */
Test(show, every_option_of_the_sample_can_be_uncommented)
{
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    conf_print_sample(stream);
    fclose(stream);
    for (char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        if (line[0] == ';' && line[1] >= 'a' && line[1] <= 'z')
            line[0] = ' ';
    /* The options of [databases] stand below its one line and are keys of lines, not lines. */
    char *databases = strstr(text, "[databases]\n* =");
    cr_assert(databases);
    *databases = '\0';
    desk_write("userlist.txt", "");
    snapshot_unref(desk_accepts(text));
    free(text);
}

#define TWO_ENVIRONMENTS                                                                           \
    "[pgstage]\nauth_type = scram-sha-256\ndefault_environment = d\nlisten_port = 7001\n"          \
    "[environment d]\nclass = review_apps\nhosts = x\n"                                            \
    "[environment p]\nclass = production\nhosts = h1\nserver_tls_ca_file = system\n"               \
    "max_db_connections = 40\n"                                                                    \
    "[listener d]\nlisten_port = 7002\nenvironment = d\n"                                          \
    "[listener p]\nlisten_port = 7003\nenvironment = p\n"                                          \
    "[databases]\napp = dbname=x\napp@p = pool_size=30\napp@d = dbname=y\nold = host=z\n"          \
    "[users]\nbatch = pool_mode=session\n"

Test(show, one_environment_is_printed_as_a_configuration_of_its_own)
{
    struct snapshot *snapshot = desk_accepts(TWO_ENVIRONMENTS);
    char *text = printed_of(snapshot, "p", false);
    cr_expect(strstr(text, "[environment p]") && strstr(text, "[listener p]"), "%s", text);
    cr_expect(strstr(text, "app@p = pool_size=30") && strstr(text, "batch = pool_mode"), "%s",
              text);
    cr_expect_null(strstr(text, "[environment d]"));
    cr_expect_null(strstr(text, "[listener d]"));
    cr_expect_null(strstr(text, "app@d"));
    cr_expect_null(strstr(text, "old ="));
    cr_expect_null(strstr(text, "default_environment"));
    desk_write("alone/pgstage.ini", text);
    struct report report = {0};
    struct snapshot *alone = snapshot_load("alone/pgstage.ini", false, &report);
    for (size_t i = 0; i < report.count; i++)
        fprintf(stderr, "    %s\n", report.entries[i].text);
    cr_assert(alone);
    cr_expect_eq(snapshot_environment_count(alone), 1);
    cr_expect_str_eq(desk_value(alone, "p", "max_db_connections"), "40");
    snapshot_unref(alone);
    snapshot_unref(snapshot);
    report_fini(&report);
    free(text);
}

Test(show, what_needs_a_restart_is_pending_until_then)
{
    struct snapshot *started = desk_accepts("[pgstage]\nlisten_port = 7001\nmax_client_conn = 5\n");
    struct snapshot *now = desk_accepts("[pgstage]\n\nlisten_port = 7002\nmax_client_conn = 6\n");
    struct config_row row = {0};
    size_t seen = 0, pending = 0;
    while (config_row_next(now, started, NULL, &row)) {
        pending += row.pending != NULL;
        if (strcmp(row.key, "listen_port") == 0) {
            cr_expect_str_eq(row.value, "7001");
            cr_expect_str_eq(row.pending, "7002");
            cr_expect(strstr(row.origin, ".ini:2"), "%s", row.origin);
            cr_expect_not(row.changeable);
            seen++;
        } else if (strcmp(row.key, "max_client_conn") == 0) {
            cr_expect_str_eq(row.value, "6");
            seen++;
        }
    }
    cr_expect_eq(seen, 2);
    cr_expect_eq(pending, 1);
    snapshot_unref(started);
    snapshot_unref(now);
}

/* The rule in a row, or "". */
static const char *rule_in(const struct snapshot *snapshot, const char *environment,
                           const char *key)
{
    struct config_row row = {0};
    const char *rule = "";
    while (config_row_next(snapshot, NULL,
                           environment ? snapshot_find_environment(snapshot, environment) : NULL,
                           &row))
        if (strcmp(row.key, key) == 0 && row.rule)
            rule = row.rule;
    return rule;
}

Test(show, rows_name_the_rule_that_holds_a_value)
{
    struct snapshot *snapshot = desk_accepts(TWO_ENVIRONMENTS);
    cr_expect_str_eq(rule_in(snapshot, "p", "server_tls_sslmode"), "production-tls");
    cr_expect_str_eq(rule_in(snapshot, "p", "pool_size"), "");
    cr_expect_str_eq(rule_in(snapshot, "d", "server_tls_sslmode"), "");
    cr_expect_str_eq(rule_in(snapshot, NULL, "auth_type"), "production-login");
    cr_expect_str_eq(rule_in(snapshot, NULL, "server_tls_sslmode"), "");
    snapshot_unref(snapshot);
    snapshot = desk_accepts("[environment d]\nclass = review_apps\nhosts = x\n");
    cr_expect_str_eq(rule_in(snapshot, NULL, "auth_type"), "");
    snapshot_unref(snapshot);
}

/* The line of the text that begins with `key =`; the caller frees it. */
static char *line_of(const char *text, const char *key)
{
    char *begin = text_print("\n%s =", key);
    const char *at = strstr(text, begin);
    free(begin);
    return at ? text_copy_n(at + 1, strcspn(at + 1, "\n")) : text_copy("");
}

Test(show, an_environment_is_explained_value_by_value)
{
    setenv("PGSTAGE__P__QUERY_TIMEOUT", "5s", 1);
    struct snapshot *snapshot = desk_accepts(TWO_ENVIRONMENTS);
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    config_explain(snapshot, snapshot_find_environment(snapshot, "p"), stream);
    fclose(stream);
    static const char *const expected[][3] = {
        {"server_tls_sslmode", "verify-full", "class production  [production-tls]"},
        {"server_tls_ca_file", "system", "pgstage.ini:11  [production-ca]"},
        {"auth_type", "scram-sha-256", "pgstage.ini:2  [production-login]"},
        {"query_timeout", "5", "variable PGSTAGE__P__QUERY_TIMEOUT"},
        {"pool_size", "50", "class production"},
        {"server_lifetime", "3600", "default"},
        {"app@p: pool_size", "30", "pgstage.ini:21"},
        {"app: dbname", "x", "pgstage.ini:20"},
        {"batch: pool_mode", "session", "pgstage.ini:25"},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        char *line = line_of(text, expected[i][0]);
        cr_expect(strstr(line, expected[i][1]), "%s: %s", expected[i][0], line);
        size_t size = strlen(line), tail = strlen(expected[i][2]);
        cr_expect(size > tail && strcmp(line + size - tail, expected[i][2]) == 0, "%s: %s",
                  expected[i][0], line);
        free(line);
    }
    cr_expect_null(strstr(text, "app@d"));
    cr_expect(strstr(text, "production-host "), "the rules are told");
    free(text);
    snapshot_unref(snapshot);
}

Test(show, the_rules_in_the_page_of_the_tree_are_made_from_the_table)
{
    char *text = NULL, path[512], problem[256];
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    conf_print_rules(stream);
    fclose(stream);
    snprintf(path, sizeof(path), "%s/doc/production.md", SOURCE_DIR);
    char *page = file_read(path, 10 << 20, &length, NULL, problem, sizeof(problem));
    cr_assert(page, "%s", problem);
    cr_expect(strstr(page, text),
              "the table of doc/production.md differs: pgstage --print-production-rules");
    free(text);
    free(page);
}
