/*
 * command: from tokens to a row of commands.def.
 *
 * The level stands in the row and is checked in one place, command_allows, before any function is
 * reached. Besides the table there is what drivers send without asking: SET and SHOW of a few
 * server parameters, BEGIN and COMMIT, DISCARD ALL. Those are answered as a server would and change
 * nothing outside the console session.
 */
#include "pgstage/admin/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"

const struct command_row command_rows[COMMAND_COUNT] = {
#define COMMAND(verb, noun, level, argument, columns, function, help)                              \
    [COMMAND_##function] = {                                                                       \
        verb, noun, CONSOLE_##level, ARGUMENT_##argument, &columns_of_##columns, help},
#include "pgstage/tables/commands.def"
#undef COMMAND
};

/* What drivers read or set at the start of a session. */
#define PRETEND(name, type, value)                                                                 \
    {                                                                                              \
        {&(const struct column){name, COLUMN_##type, NULL}, 1}, value                              \
    }
static const struct pretended {
    struct columns columns;
    const char *value;
} pretended[] = {
    PRETEND("client_encoding", TEXT, "UTF8"),
    PRETEND("default_transaction_isolation", TEXT, "read committed"),
    PRETEND("transaction_isolation", TEXT, "read committed"),
    PRETEND("default_transaction_read_only", TEXT, "off"),
    PRETEND("transaction_read_only", TEXT, "off"),
    PRETEND("standard_conforming_strings", TEXT, "on"),
    PRETEND("datestyle", TEXT, "ISO"),
    PRETEND("intervalstyle", TEXT, "postgres"),
    PRETEND("timezone", TEXT, "GMT"),
    PRETEND("extra_float_digits", TEXT, "2"),
    PRETEND("search_path", TEXT, ""),
    PRETEND("statement_timeout", TEXT, "0"),
    PRETEND("lock_timeout", TEXT, "0"),
    PRETEND("idle_in_transaction_session_timeout", TEXT, "0"),
    PRETEND("client_min_messages", TEXT, "notice"),
    PRETEND("max_identifier_length", TEXT, "63"),
    PRETEND("1", INT4, "1"), /* SELECT 1: how connection pools look whether one is alive */
};

static const struct pretended *find_pretended(const char *name)
{
    for (size_t i = 0; i < sizeof pretended / sizeof pretended[0]; i++) {
        if (text_equal_nocase(pretended[i].columns.items[0].name, name))
            return &pretended[i];
    }
    return NULL;
}

/* `problem` and `hint` become the command's. */
static void refuse(struct command *command, char *problem, char *hint)
{
    command->kind = COMMAND_WRONG;
    command->sqlstate = "42601";
    command->problem = problem;
    command->hint = hint;
}

/* The verb, or view when `nouns`, whose name is nearest to `word`; NULL: none is near. */
static const char *nearest_name(const char *word, bool nouns)
{
    char upper[32];
    if (!text_fit(upper, sizeof upper, word))
        return NULL;
    for (char *p = upper; *p; p++)
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;

    const char *best = NULL;
    size_t length = strlen(upper);
    unsigned best_distance = length < 4 ? 2 : 3; /* a short word is near to everything */
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        bool shows = strcmp(command_rows[i].verb, "SHOW") == 0;
        const char *name = nouns ? (shows ? command_rows[i].noun : "") : command_rows[i].verb;
        unsigned distance = text_distance(upper, name);
        if (*name && distance < best_distance) {
            best_distance = distance;
            best = name;
        }
    }
    return best;
}

/* What people type who know PgBouncer, or SQL; NULL: it is none of that. */
static const char *known_elsewhere(const struct statement *statement)
{
    static const struct {
        const char *verb, *noun, *hint;
    } rows[] = {
        {"select", "",
         "The console has no tables and runs no SQL: it is connected to pgstage itself."},
        {"with", "",
         "The console has no tables and runs no SQL: it is connected to pgstage itself."},
        {"show", "fds", "A new process needs no descriptors of the old one: see so_reuseport."},
        {"suspend", "",
         "A new process needs no suspended old one: see so_reuseport. To hold clients: PAUSE."},
        {"reset", "", "RELOAD ends everything that was SET."},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (statement_is(statement, 0, rows[i].verb) &&
            (!*rows[i].noun || statement_is(statement, 1, rows[i].noun)))
            return rows[i].hint;
    }
    return NULL;
}

static void refuse_unknown(struct command *command, const struct statement *statement)
{
    const char *known = known_elsewhere(statement);
    bool is_show = statement_is(statement, 0, "show");
    const char *word =
        statement->count > 1 && is_show ? statement->tokens[1].text : statement->tokens[0].text;
    const char *near = known ? NULL : nearest_name(word, is_show);
    const char *show = is_show ? "SHOW " : "";
    refuse(command, text_print("invalid command '%.200s', use SHOW HELP;", statement->text),
           near ? text_print("Perhaps %s%s is meant. SHOW HELP lists every command.", show, near)
                : text_print("%s%sSHOW HELP lists every command.", known ? known : "",
                             known ? " " : ""));
}

static void refuse_arguments(struct command *command, const struct command_row *row)
{
    char *synopsis = command_synopsis(row);
    refuse(command, text_print("bad arguments for %s", row->verb),
           text_print("It is written: %s", synopsis));
    free(synopsis);
}

static bool read_id(const char *text, uint64_t *id)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return false;
    *id = value;
    return true;
}

/* `SET [SESSION|LOCAL] key =|TO value`: where the key stands; 0: it is written otherwise. */
static size_t assignment_key(const struct statement *statement)
{
    size_t key = 1;
    if (statement_is(statement, 1, "session") || statement_is(statement, 1, "local"))
        key = statement->count > 3 && !statement_is(statement, 2, "to") ? 2 : 1;
    bool is_assignment = statement_has_value(statement, key) && statement->count > key + 1 &&
                         (statement_is(statement, key + 1, "to") ||
                          (statement->tokens[key + 1].kind == TOKEN_SYMBOL &&
                           strcmp(statement->tokens[key + 1].text, "=") == 0));
    return is_assignment && statement_has_value(statement, key + 2) ? key : 0;
}

/* A name or value that is not empty. */
static bool take_value(char **value, const struct statement *statement, size_t index)
{
    if (!statement_has_value(statement, index) || *statement->tokens[index].text == '\0')
        return false;
    *value = text_copy(statement->tokens[index].text);
    return true;
}

/* `environment ON [FOR 1h] | OFF` from token `first`. */
static bool read_maintenance(struct command *command, const struct statement *statement,
                             size_t first)
{
    size_t given = statement->count - first;
    if (given < 2 || !take_value(&command->target, statement, first))
        return false;
    command->is_on = statement_is(statement, first + 1, "on");
    if (given == 2)
        return command->is_on || statement_is(statement, first + 1, "off");
    return given == 4 && command->is_on && statement_is(statement, first + 2, "for") &&
           take_value(&command->value, statement, first + 3);
}

/* `environment [TO host] [PLANNED | EMERGENCY] [DRY RUN]` from token `first`; the parts behind the
 * environment in any order, each once. A FAILBACK has DRY RUN only. */
static bool read_failover(struct command *command, const struct statement *statement, size_t first,
                          bool failback)
{
    size_t at = first + 1, count = statement->count;
    if (count <= first || count > STATEMENT_TOKENS_MAX || !statement_has_value(statement, first))
        return false;
    command->target = text_copy(statement->tokens[first].text);
    while (at < count) {
        bool typed = command->is_planned || command->is_emergency;
        if (!failback && !command->value && statement_is(statement, at, "to") && at + 1 < count &&
            statement_has_value(statement, at + 1)) {
            command->value = text_copy(statement->tokens[at + 1].text);
            at += 2;
        } else if (!failback && !typed && statement_is(statement, at, "planned")) {
            command->is_planned = true;
            at++;
        } else if (!failback && !typed && statement_is(statement, at, "emergency")) {
            command->is_emergency = true;
            at++;
        } else if (!command->is_dry_run && statement_is(statement, at, "dry") &&
                   statement_is(statement, at + 1, "run")) {
            command->is_dry_run = true;
            at += 2;
        } else {
            return false;
        }
    }
    return true;
}

static bool read_argument(struct command *command, const struct command_row *row,
                          const struct statement *statement, size_t first)
{
    size_t given = statement->count - first;
    switch (row->argument) {
    case ARGUMENT_NOTHING:
        return given == 0;
    case ARGUMENT_TARGET:
    case ARGUMENT_NEED_TARGET:
    case ARGUMENT_ENVIRONMENT:
        if (given == 0)
            return row->argument != ARGUMENT_NEED_TARGET;
        if (given != 1 || !statement_has_value(statement, first))
            return false;
        command->target = text_copy(statement->tokens[first].text);
        return *command->target != '\0';
    case ARGUMENT_CLIENT:
        return given == 1 && statement_has_value(statement, first) &&
               read_id(statement->tokens[first].text, &command->client_id);
    case ARGUMENT_HOST:
        return given == 1 && take_value(&command->target, statement, first);
    case ARGUMENT_ENVIRONMENT_HOST:
        return given == 2 && take_value(&command->target, statement, first) &&
               take_value(&command->value, statement, first + 1);
    case ARGUMENT_MAINTENANCE:
        return read_maintenance(command, statement, first);
    case ARGUMENT_NEED_ENVIRONMENT:
        if (given == 1 && statement_has_value(statement, first))
            command->target = text_copy(statement->tokens[first].text);
        return command->target != NULL;
    case ARGUMENT_FAILOVER:
    case ARGUMENT_FAILBACK:
        return read_failover(command, statement, first, row->argument == ARGUMENT_FAILBACK);
    case ARGUMENT_SHUTDOWN:
        command->wait_for_servers = statement_is(statement, first, "wait_for_servers");
        command->wait_for_clients = statement_is(statement, first, "wait_for_clients");
        return given == 0 ||
               (given == 1 && (command->wait_for_servers || command->wait_for_clients));
    case ARGUMENT_ASSIGNMENT: {
        size_t key = assignment_key(statement);
        if (!key || statement->count != key + 3)
            return false;
        command->key = text_copy(statement->tokens[key].text);
        command->value = text_copy(statement->tokens[key + 2].text);
        return true;
    }
    }
    return false;
}

/* What drivers send without asking. False: it is none of that. */
static bool read_pretended(struct command *command, const struct statement *statement, bool is_show)
{
    size_t count = statement->count;
    if (is_show) {
        const struct pretended *row = count == 2 && statement_has_value(statement, 1)
                                          ? find_pretended(statement->tokens[1].text)
                                      : count == 4 && statement_is(statement, 1, "transaction") &&
                                              statement_is(statement, 2, "isolation")
                                          ? find_pretended("transaction_isolation")
                                          : NULL;
        if (!row)
            return false;
        command->kind = COMMAND_PRETEND_ROW;
        command->columns = &row->columns;
        command->value = text_copy(row->value);
        return true;
    }
    if (statement_is(statement, 0, "set")) {
        size_t key = assignment_key(statement);
        bool pretends = (key && (find_pretended(statement->tokens[key].text) ||
                                 statement_is(statement, key, "application_name"))) ||
                        statement_is(statement, 2, "characteristics") ||
                        statement_is(statement, 1, "transaction");
        command->kind = pretends ? COMMAND_PRETEND_SET : command->kind;
        command->tag = "SET";
        return pretends;
    }
    return false;
}

/* BEGIN and the like; all of them with any words behind. */
static bool read_transaction(struct command *command, const struct statement *statement)
{
    static const struct {
        const char *verb, *next, *tag;
        enum command_kind kind;
    } verbs[] = {
        {"begin", NULL, "BEGIN", COMMAND_BEGIN},
        {"start", "transaction", "START TRANSACTION", COMMAND_BEGIN},
        {"commit", NULL, "COMMIT", COMMAND_END},
        {"end", NULL, "COMMIT", COMMAND_END},
        {"rollback", NULL, "ROLLBACK", COMMAND_END},
        {"abort", NULL, "ROLLBACK", COMMAND_END},
        {"discard", "all", "DISCARD ALL", COMMAND_FORGET},
        {"deallocate", "all", "DEALLOCATE ALL", COMMAND_FORGET},
        {"reset", "all", "RESET", COMMAND_PRETEND_SET},
    };
    if (statement_is(statement, 0, "abort") && statement_is(statement, 1, "failover"))
        return false; /* a command of the table */
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (!statement_is(statement, 0, verbs[i].verb) ||
            (verbs[i].next && !statement_is(statement, 1, verbs[i].next)))
            continue;
        command->kind = verbs[i].kind;
        command->tag = verbs[i].tag;
        return true;
    }
    return false;
}

void command_read(struct command *command, const struct statement *statement)
{
    *command = (struct command){.columns = &columns_of_none};
    if (statement->problem) {
        refuse(command, text_copy(statement->problem), NULL);
        return;
    }
    bool is_show = statement_is(statement, 0, "show") || statement_is(statement, 0, "select");
    if (is_show)
        command->tag = "SHOW";
    if (read_pretended(command, statement, is_show) || read_transaction(command, statement))
        return;

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command_row *row = &command_rows[i];
        bool verb =
            statement_is(statement, 0, row->verb) || (is_show && strcmp(row->verb, "SHOW") == 0);
        if (!verb || (*row->noun && !statement_is(statement, 1, row->noun)))
            continue;
        command->kind = COMMAND_RUN;
        command->id = (enum command_id)i;
        command->columns = row->columns;
        command->tag = row->verb;
        if (!read_argument(command, row, statement, *row->noun ? 2 : 1))
            refuse_arguments(command, row);
        return;
    }
    refuse_unknown(command, statement);
}

void command_as_pgbouncer(struct command *command)
{
    if (command->kind == COMMAND_RUN && command->id == COMMAND_show_config && !command->target)
        command->columns = &columns_of_config_of_pgbouncer;
}

void command_fini(struct command *command)
{
    free(command->target);
    free(command->key);
    free(command->value);
    free(command->problem);
    free(command->hint);
    *command = (struct command){.columns = &columns_of_none};
}

bool command_allows(const struct command *command, enum console_level level)
{
    return command->kind != COMMAND_RUN || level >= command_rows[command->id].level;
}
