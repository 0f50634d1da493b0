/*
 * reference: the command table as people read it: SHOW HELP and the page doc/console.md.
 *
 * Both are made from commands.def and column.c and from nothing else, so they cannot fall behind;
 * a unit test compares the page in doc/ with what is made here.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/admin/command.h"
#include "pgstage/base/text.h"

static const char *argument_text(enum command_argument argument)
{
    switch (argument) {
    case ARGUMENT_NOTHING:
        break;
    case ARGUMENT_TARGET:
        return " [<target>]";
    case ARGUMENT_NEED_TARGET:
        return " <target>";
    case ARGUMENT_ENVIRONMENT:
        return " [<environment>]";
    case ARGUMENT_CLIENT:
        return " <client_id>";
    case ARGUMENT_ASSIGNMENT:
        return " <key> = <value>";
    case ARGUMENT_HOST:
        return " <host>";
    case ARGUMENT_ENVIRONMENT_HOST:
        return " <environment> <host>";
    case ARGUMENT_MAINTENANCE:
        return " <environment> ON [FOR <time>]|OFF";
    case ARGUMENT_NEED_ENVIRONMENT:
        return " <environment>";
    case ARGUMENT_FAILOVER:
        return " <environment> [TO <host>] [PLANNED|EMERGENCY] [DRY RUN]";
    case ARGUMENT_FAILBACK:
        return " <environment> [DRY RUN]";
    case ARGUMENT_SHUTDOWN:
        return " [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]";
    }
    return "";
}

char *command_synopsis(const struct command_row *row)
{
    return text_print("%s%s%s%s", row->verb, *row->noun ? " " : "", row->noun,
                      argument_text(row->argument));
}

char *command_help(void)
{
    struct buffer text = {0};
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char *synopsis = command_synopsis(&command_rows[i]);
        buffer_print(&text, "\n\t%s", synopsis);
        free(synopsis);
    }
    buffer_put_u8(&text, '\0');
    return (char *)text.data;
}

/* A table's cell ends at '|'. */
static void put_cell(struct buffer *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            buffer_put_u8(out, '\\');
        buffer_put_u8(out, (uint8_t)*text);
    }
}

static void put_commands(struct buffer *out, bool views)
{
    buffer_print(out, "| command | who | what it does |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command_row *row = &command_rows[i];
        if ((strcmp(row->verb, "SHOW") == 0) != views)
            continue;
        char *synopsis = command_synopsis(row);
        buffer_print(out, "| `");
        put_cell(out, synopsis);
        buffer_print(out, "` | %s | ", row->level == CONSOLE_ADMIN ? "administrators" : "all");
        put_cell(out, row->help);
        buffer_print(out, " |\n");
        free(synopsis);
    }
}

static const char *type_name(enum column_type type)
{
    switch (type) {
    case COLUMN_INT8:
        return "bigint";
    case COLUMN_INT4:
        return "integer";
    case COLUMN_NUMERIC:
        return "numeric";
    case COLUMN_TEXT:
        break;
    }
    return "text";
}

/* The view that has the same columns and stands before it, or NULL. */
static const struct command_row *earlier_with(size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (command_rows[i].columns == command_rows[index].columns)
            return &command_rows[i];
    }
    return NULL;
}

static void put_columns(struct buffer *out, size_t index)
{
    const struct command_row *row = &command_rows[index];
    buffer_print(out, "\n### %s%s%s\n", row->verb, *row->noun ? " " : "", row->noun);
    const struct command_row *earlier = earlier_with(index);
    if (earlier) {
        buffer_print(out, "The columns of %s%s%s.\n", earlier->verb, *earlier->noun ? " " : "",
                     earlier->noun);
        return;
    }
    buffer_print(out, "| column | type | meaning |\n| --- | --- | --- |\n");
    for (size_t i = 0; i < row->columns->count; i++) {
        const struct column *column = &row->columns->items[i];
        buffer_print(out, "| %s | %s | ", column->name, type_name(column->type));
        put_cell(out, column->help ? column->help : "");
        buffer_print(out, " |\n");
    }
}

void command_reference(struct buffer *out)
{
    buffer_print(
        out,
        "# The console\n\n"
        "Connect to the database `pgstage` (or `pgbouncer`) with any PostgreSQL client:\n"
        "`psql -h 127.0.0.1 -p 6432 -U admin pgstage`. `admin_users` may run everything; "
        "`stats_users`\n"
        "the commands that are for all. The simple and the extended protocol work, statements end "
        "with `;`, names "
        "with\n"
        "odd characters stand in double quotes, and `SELECT x` is `SHOW x`. Every command that\n"
        "changes something is logged with user and address.\n\n"
        "A *target* is a database (in every environment), `database@environment`, or an "
        "environment\n"
        "(all its databases); without one a command means everything. The SQLSTATE of an error "
        "says\n"
        "what is wrong: 42601 not understood, 42501 not allowed, 3D000 no such target, 55000 not "
        "in\n"
        "this state, 57014 cancelled, F0000 the configuration has mistakes (DETAIL lists each).\n\n"
        "This page is made by `pgstage --print-console-reference`.\n\n"
        "## Commands\n");
    put_commands(out, false);
    buffer_print(out, "\n## Views\n");
    put_commands(out, true);
    buffer_print(out,
                 "\n## Columns\n"
                 "PgBouncer's columns come first and in its order; what pgstage adds is last.\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (command_rows[i].columns->count > 0)
            put_columns(out, i);
    }
}
