/*
 * command: the table of commands, what a statement means, and who may run it. Pure; any thread.
 */
#ifndef PGSTAGE_ADMIN_COMMAND_H
#define PGSTAGE_ADMIN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/admin/column.h"
#include "pgstage/admin/statement.h"
#include "pgstage/base/buffer.h"
#include "pgstage/session/plane.h"

enum command_argument {
    ARGUMENT_NOTHING,
    ARGUMENT_TARGET,
    ARGUMENT_NEED_TARGET,
    ARGUMENT_ENVIRONMENT,
    ARGUMENT_CLIENT,
    ARGUMENT_ASSIGNMENT,
    ARGUMENT_SHUTDOWN,
    ARGUMENT_HOST,
    ARGUMENT_ENVIRONMENT_HOST,
    ARGUMENT_MAINTENANCE,
    ARGUMENT_NEED_ENVIRONMENT,
    ARGUMENT_FAILOVER,
    ARGUMENT_FAILBACK,
};

enum command_id {
#define COMMAND(verb, noun, level, argument, columns, function, help) COMMAND_##function,
#include "pgstage/tables/commands.def"
#undef COMMAND
    COMMAND_COUNT,
};

struct command_row {
    const char *verb, *noun;
    enum console_level level;
    enum command_argument argument;
    const struct columns *columns;
    const char *help;
};
extern const struct command_row command_rows[COMMAND_COUNT];

enum command_kind {
    COMMAND_RUN,         /* a row of the table: `id` */
    COMMAND_PRETEND_ROW, /* SHOW of a server parameter: one row with `value` */
    COMMAND_PRETEND_SET, /* SET of one: accepted without effect */
    COMMAND_BEGIN,       /* BEGIN: only the status changes */
    COMMAND_END,         /* COMMIT, ROLLBACK … */
    COMMAND_FORGET,      /* DISCARD ALL, DEALLOCATE ALL: prepared statements go */
    COMMAND_WRONG,       /* `sqlstate`, `problem` and `hint` say why */
};

/* What one statement asks for. */
struct command {
    enum command_kind kind;
    enum command_id id; /* COMMAND_RUN */
    const struct columns *columns;
    const char *tag;   /* of CommandComplete */
    char *target;      /* TARGET: database, database@environment or environment; NULL: all.
                        * ENVIRONMENT: its name; HOST: a host */
    char *key, *value; /* ASSIGNMENT; `value` also of PRETEND_ROW, of ENVIRONMENT_HOST (the host)
                        * and of MAINTENANCE (how long; NULL: until OFF) */
    bool is_on;        /* MAINTENANCE */
    uint64_t client_id;
    bool wait_for_servers, wait_for_clients;   /* SHUTDOWN */
    bool is_planned, is_emergency, is_dry_run; /* FAILOVER (`value` is TO), FAILBACK */
    const char *sqlstate;                      /* WRONG */
    char *problem, *hint;
};

/* Understands a statement; the level is not looked at. */
void command_read(struct command *command, const struct statement *statement);
/* For whoever connected to the database `pgbouncer`, as programs do that know PgBouncer alone: some
 * count the columns of SHOW CONFIG (pgbouncer_exporter), so it has PgBouncer's. */
void command_as_pgbouncer(struct command *command);
void command_fini(struct command *command);
/* Is somebody of this level allowed to run it? */
bool command_allows(const struct command *command, enum console_level level);
/* The text of SHOW HELP; allocated. */
char *command_help(void);
/* The reference page of the console (Markdown). */
void command_reference(struct buffer *out);
/* "PAUSE [<target>]": a row as it is typed; allocated. */
char *command_synopsis(const struct command_row *row);

#endif
