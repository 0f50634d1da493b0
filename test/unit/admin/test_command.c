/* command: what statements mean, and who may run them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/admin/command.h"
#include "pgstage/base/text.h"

static struct command command;

static enum command_kind read_one(const char *text)
{
    struct statement statement;
    command_fini(&command);
    cr_assert(statement_next(&text, &statement));
    command_read(&command, &statement);
    statement_fini(&statement);
    return command.kind;
}

static void forget(void)
{
    command_fini(&command);
}

TestSuite(command, .fini = forget);

Test(command, is_found_in_any_case)
{
    cr_assert_eq(read_one("ShOw PoOlS"), COMMAND_RUN);
    cr_expect_eq(command.id, COMMAND_show_pools);
    cr_expect_eq(command.columns, &columns_of_pools);
    cr_expect_str_eq(command.tag, "SHOW");
}

Test(command, select_means_show)
{
    cr_assert_eq(read_one("select stats"), COMMAND_RUN);
    cr_expect_eq(command.id, COMMAND_show_stats);
}

Test(command, target_keeps_its_case)
{
    cr_assert_eq(read_one("pause MyApp@Production"), COMMAND_RUN);
    cr_expect_str_eq(command.target, "MyApp@Production");
}

Test(command, without_target_means_all)
{
    cr_assert_eq(read_one("resume"), COMMAND_RUN);
    cr_expect_null(command.target);
}

Test(command, that_needs_a_target_is_refused_without_one)
{
    cr_assert_eq(read_one("disable"), COMMAND_WRONG);
    cr_expect_str_eq(command.hint, "It is written: DISABLE <target>");
}

Test(command, with_too_many_words_is_refused)
{
    cr_expect_eq(read_one("reload now"), COMMAND_WRONG);
    cr_expect_eq(read_one("pause a b"), COMMAND_WRONG);
    cr_expect_eq(read_one("show pools please"), COMMAND_WRONG);
}

Test(command, unknown_names_show_help_and_the_nearest)
{
    cr_assert_eq(read_one("show polls"), COMMAND_WRONG);
    cr_expect_str_eq(command.sqlstate, "42601");
    cr_expect_str_eq(command.problem, "invalid command 'show polls', use SHOW HELP;");
    cr_expect(strstr(command.hint, "SHOW POOLS"));
    cr_expect(strstr(command.hint, "SHOW HELP"));
}

Test(command, what_pgbouncer_or_sql_has_is_answered_with_what_to_do)
{
    cr_assert_eq(read_one("select 1 from pg_class"), COMMAND_WRONG);
    cr_expect(strstr(command.hint, "runs no SQL"));
    cr_assert_eq(read_one("SHOW FDS"), COMMAND_WRONG);
    cr_expect(strstr(command.hint, "so_reuseport"));
    cr_assert_eq(read_one("suspend"), COMMAND_WRONG);
    cr_expect(strstr(command.hint, "PAUSE"));
    cr_assert_eq(read_one("reset pool_mode"), COMMAND_WRONG);
    cr_expect(strstr(command.hint, "RELOAD"));
}

Test(command, show_config_has_four_columns_for_who_knows_pgbouncer)
{
    cr_assert_eq(read_one("show config"), COMMAND_RUN);
    cr_expect_eq(command.columns, &columns_of_config);
    command_as_pgbouncer(&command);
    cr_assert_eq(command.columns->count, 4);
    cr_expect_str_eq(command.columns->items[3].name, "changeable");
    /* an environment is nothing that such a program asks for */
    cr_assert_eq(read_one("show config production"), COMMAND_RUN);
    command_as_pgbouncer(&command);
    cr_expect_eq(command.columns, &columns_of_config);
    cr_assert_eq(read_one("show pools"), COMMAND_RUN);
    command_as_pgbouncer(&command);
    cr_expect_eq(command.columns, &columns_of_pools);
}

Test(command, kill_client_takes_a_number_only)
{
    cr_assert_eq(read_one("kill_client 42"), COMMAND_RUN);
    cr_expect_eq(command.client_id, 42);
    cr_expect_eq(read_one("kill_client -1"), COMMAND_WRONG);
    cr_expect_eq(read_one("kill_client 42x"), COMMAND_WRONG);
    cr_expect_eq(read_one("kill_client 99999999999999999999999"), COMMAND_WRONG);
}

Test(command, set_takes_its_three_spellings)
{
    const char *texts[] = {"set pool_mode = transaction", "SET pool_mode='transaction'",
                           "set \"pool_mode\" to transaction"};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(read_one(texts[i]), COMMAND_RUN, "%s", texts[i]);
        cr_expect_str_eq(command.key, "pool_mode");
        cr_expect_str_eq(command.value, "transaction");
    }
}

Test(command, set_without_value_is_refused)
{
    cr_expect_eq(read_one("set pool_mode"), COMMAND_WRONG);
    cr_expect_eq(read_one("set pool_mode ="), COMMAND_WRONG);
    cr_expect_eq(read_one("set = x"), COMMAND_WRONG);
}

Test(command, shutdown_takes_how)
{
    cr_assert_eq(read_one("shutdown wait_for_clients"), COMMAND_RUN);
    cr_expect(command.wait_for_clients && !command.wait_for_servers);
    cr_assert_eq(read_one("shutdown wait_for_servers"), COMMAND_RUN);
    cr_expect(command.wait_for_servers && !command.wait_for_clients);
    cr_assert_eq(read_one("shutdown"), COMMAND_RUN);
    cr_expect(!command.wait_for_servers && !command.wait_for_clients);
    cr_expect_eq(read_one("shutdown later"), COMMAND_WRONG);
}

Test(command, maintenance_is_on_for_a_time_or_until_off)
{
    cr_assert_eq(read_one("maintenance production on"), COMMAND_RUN);
    cr_expect(command.is_on && !command.value);
    cr_assert_eq(read_one("MAINTENANCE production ON FOR 30min"), COMMAND_RUN);
    cr_expect(command.is_on);
    cr_expect_str_eq(command.value, "30min");
    cr_expect_str_eq(command.target, "production");
    cr_assert_eq(read_one("maintenance production off"), COMMAND_RUN);
    cr_expect_not(command.is_on);
    static const char *const wrong[] = {
        "maintenance",
        "maintenance production",
        "maintenance production perhaps",
        "maintenance p on 1h",
        "maintenance p on for",
        "maintenance p off for 1h",
        "maintenance p on for =",
        "maintenance p on for 1h please",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_eq(read_one(wrong[i]), COMMAND_WRONG, "%s", wrong[i]);
}

Test(command, hosts_are_named_without_quotes)
{
    cr_assert_eq(read_one("FENCE pg3.example.com@10.0.0.3:5433"), COMMAND_RUN);
    cr_expect_str_eq(command.target, "pg3.example.com@10.0.0.3:5433");
    cr_assert_eq(read_one("accept production \"pg1:5432\""), COMMAND_RUN);
    cr_expect_str_eq(command.target, "production");
    cr_expect_str_eq(command.value, "pg1:5432");
    cr_expect_eq(read_one("fence"), COMMAND_WRONG);
    cr_expect_eq(read_one("accept production"), COMMAND_WRONG);
    cr_expect_eq(read_one("accept production a b"), COMMAND_WRONG);
}

Test(command, pretends_what_drivers_ask_for)
{
    cr_expect_eq(read_one("SHOW client_encoding"), COMMAND_PRETEND_ROW);
    cr_expect_eq(read_one("show transaction isolation level"), COMMAND_PRETEND_ROW);
    cr_expect_eq(read_one("SELECT 1"), COMMAND_PRETEND_ROW);
    cr_expect_eq(read_one("SET extra_float_digits = 3"), COMMAND_PRETEND_SET);
    cr_expect_eq(read_one("set session datestyle to 'ISO, MDY'"), COMMAND_PRETEND_SET);
    cr_expect_eq(read_one("SET application_name = 'psql'"), COMMAND_PRETEND_SET);
    cr_expect_eq(read_one("BEGIN"), COMMAND_BEGIN);
    cr_expect_eq(read_one("rollback"), COMMAND_END);
    cr_expect_eq(read_one("DISCARD ALL"), COMMAND_FORGET);
}

/* "PAUSE app": a text that reads as the row. */
static char *example(const struct command_row *row)
{
    static const char *const arguments[] = {
        [ARGUMENT_NOTHING] = "",
        [ARGUMENT_TARGET] = " app",
        [ARGUMENT_NEED_TARGET] = " app",
        [ARGUMENT_ENVIRONMENT] = " production",
        [ARGUMENT_NEED_ENVIRONMENT] = " production",
        [ARGUMENT_CLIENT] = " 1",
        [ARGUMENT_ASSIGNMENT] = " a = b",
        [ARGUMENT_SHUTDOWN] = "",
        [ARGUMENT_HOST] = " pg1:5432",
        [ARGUMENT_ENVIRONMENT_HOST] = " production pg1:5432",
        [ARGUMENT_MAINTENANCE] = " production ON FOR 1h",
        [ARGUMENT_FAILOVER] = " production TO pg2:5432 PLANNED DRY RUN",
        [ARGUMENT_FAILBACK] = " production",
    };
    return text_print("%s %s%s", row->verb, row->noun, arguments[row->argument]);
}

Test(command, every_row_can_be_typed)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char *text = example(&command_rows[i]);
        cr_expect_eq(read_one(text), COMMAND_RUN, "%s", text);
        cr_expect_eq(command.id, (enum command_id)i, "%s", text);
        free(text);
    }
}

Test(command, that_changes_something_is_refused_to_stats_users)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        bool changes = strcmp(command_rows[i].verb, "SHOW") != 0;
        struct command one = {.kind = COMMAND_RUN, .id = (enum command_id)i};
        cr_expect_eq(command_allows(&one, CONSOLE_STATS), !changes, "%s", command_rows[i].verb);
        cr_expect(command_allows(&one, CONSOLE_ADMIN), "%s", command_rows[i].verb);
        cr_expect(!command_allows(&one, CONSOLE_NONE), "%s", command_rows[i].verb);
    }
}

Test(command, help_lists_every_row)
{
    char *help = command_help();
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char *synopsis = command_synopsis(&command_rows[i]);
        char *line = text_print("\n\t%s", synopsis);
        cr_expect(strstr(help, line), "%s", synopsis);
        free(line);
        free(synopsis);
    }
    free(help);
}

Test(command, reference_page_in_doc_is_up_to_date)
{
    const char *folder = getenv("srcdir");
    char *path = text_print("%s/doc/console.md", folder ? folder : ".");
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    struct buffer made = {0}, stored = {0};
    command_reference(&made);
    uint8_t piece[4096];
    for (size_t got; (got = fread(piece, 1, sizeof piece, file)) > 0;)
        buffer_put(&stored, piece, got);
    fclose(file);
    cr_expect(made.length == stored.length && !memcmp(made.data, stored.data, made.length),
              "run `pgstage --print-console-reference > doc/console.md`");
    buffer_fini(&made);
    buffer_fini(&stored);
    free(path);
}

Test(command, views_have_names_for_every_column_once)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct columns *columns = command_rows[i].columns;
        for (size_t a = 0; a < columns->count; a++) {
            for (size_t b = 0; b < a; b++)
                cr_expect_str_neq(columns->items[a].name, columns->items[b].name, "SHOW %s",
                                  command_rows[i].noun);
        }
    }
}

/* ---- failover ---- */

Test(command, failover_has_its_parts_in_any_order)
{
    cr_assert_eq(read_one("failover Production"), COMMAND_RUN);
    cr_expect_eq(command.id, COMMAND_failover);
    cr_expect_str_eq(command.target, "Production");
    cr_expect_null(command.value);
    cr_expect_not(command.is_planned || command.is_emergency || command.is_dry_run);

    cr_assert_eq(read_one("FAILOVER production DRY RUN PLANNED TO pg2.example.com@10.0.0.2:5433"),
                 COMMAND_RUN);
    cr_expect_str_eq(command.value, "pg2.example.com@10.0.0.2:5433");
    cr_expect(command.is_planned);
    cr_expect(command.is_dry_run);
    cr_expect_not(command.is_emergency);

    cr_assert_eq(read_one("FAILOVER production EMERGENCY"), COMMAND_RUN);
    cr_expect(command.is_emergency);
}

Test(command, failover_that_is_not_understood_does_nothing)
{
    static const char *const wrong[] = {
        "failover",
        "failover e planned emergency",
        "failover e planned planned",
        "failover e to",
        "failover e to a to b",
        "failover e dry",
        "failover e run",
        "failover e dry run dry run",
        "failover e now",
        "failover e , planned",
        "failback",
        "failback e to h",
        "failback e planned",
        "abort failover",
        "abort failover e now",
        "drill",
        "drill e f",
        "failover e to h planned dry run a b c d e f g h i j k",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_eq(read_one(wrong[i]), COMMAND_WRONG, "%s", wrong[i]);
}

Test(command, abort_failover_is_no_end_of_a_transaction)
{
    cr_assert_eq(read_one("ABORT FAILOVER production"), COMMAND_RUN);
    cr_expect_eq(command.id, COMMAND_abort_failover);
    cr_expect_str_eq(command.target, "production");
    cr_expect_eq(read_one("ABORT"), COMMAND_END);
    cr_expect_eq(read_one("show failover"), COMMAND_WRONG);
    cr_expect_eq(read_one("failback production dry run"), COMMAND_RUN);
    cr_expect_eq(read_one("drill production"), COMMAND_RUN);
}
