/*
 * sql_set.c: SET and RESET in all their forms, and the values they give.
 *
 * A value is kept as the words that the client wrote (so the server itself makes of lists, numbers
 * and quotes what it would have made of the client's statement), but only when they are ASCII
 * without a backslash: then they mean the same in every encoding and whatever
 * standard_conforming_strings is. One string with other bytes is taken as its content instead.
 */
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/wire/sql.h"
#include "sql_inside.h"

static bool is_symbol(const struct sql_token *token, char symbol)
{
    return token->kind == SQL_SYMBOL && token->text[0] == symbol;
}

/* Old names for parameters, which RESET and reports do not use. */
static const char *const renamed[][2] = {{"sort_mem", "work_mem"},
                                         {"vacuum_mem", "maintenance_work_mem"}};

static void give_name(struct sql_setting *setting, const char *name)
{
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++) {
        if (strcmp(name, renamed[i][0]) == 0)
            name = renamed[i][1];
    }
    if (name != setting->name)
        (void)text_fit(setting->name, sizeof(setting->name), name);
}

static bool is_identity(const char *name)
{
    return text_equal_nocase(name, "role") || text_equal_nocase(name, "session_authorization");
}

/* They are set anew when a transaction begins. */
static bool is_of_transaction(const char *name)
{
    return text_equal_nocase(name, "transaction_isolation") ||
           text_equal_nocase(name, "transaction_read_only") ||
           text_equal_nocase(name, "transaction_deferrable");
}

/* A parameter's name: identifiers with dots between. `token` is its first; becomes the one behind.
 */
static bool read_parameter(struct sql_lexer *at, struct sql_token *token, char *name)
{
    size_t length = 0;

    for (;;) {
        if (!sql_token_is_folded_here(token) ||
            !sql_token_name(token, name + length, SQL_NAME_BYTES - length))
            return false;
        length = strlen(name);
        *token = sql_token(at);
        if (!is_symbol(token, '.'))
            return true;
        if (length + 2 > SQL_NAME_BYTES)
            return false;
        name[length++] = '.';
        name[length] = '\0';
        *token = sql_token(at);
    }
}

/* The rest is the value. */
static void take_rest(struct sql_lexer *at, const struct sql_token *first,
                      struct sql_setting *setting)
{
    setting->from = (size_t)(first->text - at->text);
    setting->to = at->length;
    if (sql_token_is(first, "default")) {
        struct sql_token next = sql_token(at);
        if (next.kind == SQL_END)
            setting->to = setting->from;
    }
}

static struct sql_setting *add(struct sql_statement *statement, const char *name, const char *fixed)
{
    struct sql_setting *setting = &statement->settings[statement->setting_count++];

    setting->fixed = fixed;
    give_name(setting, name);
    return setting;
}

/* SESSION CHARACTERISTICS AS TRANSACTION mode [,] mode …, behind CHARACTERISTICS. */
static enum sql_verb read_characteristics(struct sql_lexer *at, struct sql_statement *statement)
{
    static const char isolation[] = "default_transaction_isolation";
    static const char read_only[] = "default_transaction_read_only";
    static const char deferrable[] = "default_transaction_deferrable";
    struct sql_token token = sql_token(at), next;

    if (!sql_token_is(&token, "as"))
        return SQL_UNKNOWN;
    token = sql_token(at);
    if (!sql_token_is(&token, "transaction"))
        return SQL_UNKNOWN;
    for (token = sql_token(at); token.kind != SQL_END; token = sql_token(at)) {
        if (is_symbol(&token, ','))
            continue;
        if (statement->setting_count == SQL_SETTINGS_MAX)
            return SQL_SET_OTHER;
        if (sql_token_is(&token, "deferrable")) {
            add(statement, deferrable, "on");
            continue;
        }
        next = sql_token(at);
        if (sql_token_is(&token, "not") && sql_token_is(&next, "deferrable")) {
            add(statement, deferrable, "off");
        } else if (sql_token_is(&token, "read") && sql_token_is(&next, "only")) {
            add(statement, read_only, "on");
        } else if (sql_token_is(&token, "read") && sql_token_is(&next, "write")) {
            add(statement, read_only, "off");
        } else if (sql_token_is(&token, "isolation") && sql_token_is(&next, "level")) {
            token = sql_token(at);
            if (sql_token_is(&token, "serializable")) {
                add(statement, isolation, "'serializable'");
                continue;
            }
            next = sql_token(at);
            if (sql_token_is(&token, "repeatable") && sql_token_is(&next, "read"))
                add(statement, isolation, "'repeatable read'");
            else if (sql_token_is(&token, "read") && sql_token_is(&next, "committed"))
                add(statement, isolation, "'read committed'");
            else if (sql_token_is(&token, "read") && sql_token_is(&next, "uncommitted"))
                add(statement, isolation, "'read uncommitted'");
            else
                return SQL_SET_OTHER;
        } else {
            return SQL_SET_OTHER;
        }
    }
    return statement->setting_count ? SQL_SET : SQL_SET_OTHER;
}

/* ROLE or SESSION AUTHORIZATION with what stands behind it. */
static enum sql_verb read_identity(const struct sql_token *value, struct sql_statement *statement,
                                   const char *name, enum sql_verb verb)
{
    (void)text_fit(statement->name, sizeof(statement->name), name);
    if (verb == SQL_RESET || sql_token_is(value, "default"))
        return SQL_RESET_IDENTITY;
    return strcmp(name, "role") == 0 && sql_token_is(value, "none") ? SQL_NO_ROLE
                                                                    : SQL_SET_IDENTITY;
}

/* The forms of SET with names of their own, behind SET [SESSION]. SQL_QUIET: it is none of them. */
static enum sql_verb read_special(struct sql_lexer *at, struct sql_statement *statement,
                                  const struct sql_token *first, enum sql_verb verb)
{
    struct sql_lexer ahead = *at;
    struct sql_token token = sql_token(&ahead);

    if (sql_token_is(first, "time") && sql_token_is(&token, "zone")) {
        struct sql_setting *setting = add(statement, "TimeZone", NULL);
        token = sql_token(&ahead);
        take_rest(&ahead, &token, setting);
        if (sql_token_is(&token, "local"))
            setting->to = setting->from;
        return verb;
    }
    if (sql_token_is(first, "names") && verb == SQL_SET) {
        struct sql_setting *setting = add(statement, "client_encoding", NULL);
        take_rest(&ahead, &token, setting);
        if (token.kind == SQL_END)
            setting->to = setting->from;
        return SQL_SET;
    }
    if (sql_token_is(first, "schema") && token.kind == SQL_STRING) {
        take_rest(&ahead, &token, add(statement, "search_path", NULL));
        return SQL_SET;
    }
    if (sql_token_is(first, "xml") && sql_token_is(&token, "option")) {
        token = sql_token(&ahead);
        if (verb == SQL_SET && token.kind != SQL_WORD)
            return SQL_SET_OTHER;
        take_rest(&ahead, &token, add(statement, "xmloption", NULL));
        return verb;
    }
    if (sql_token_is(first, "session") && sql_token_is(&token, "authorization")) {
        token = sql_token(&ahead);
        return read_identity(&token, statement, "session_authorization", verb);
    }
    if (sql_token_is(first, "role") && !is_symbol(&token, '=') && !sql_token_is(&token, "to"))
        return read_identity(&token, statement, "role", verb);
    return SQL_QUIET;
}

/* name {= | TO} value */
static enum sql_verb read_plain(struct sql_lexer *at, struct sql_statement *statement,
                                struct sql_token token)
{
    struct sql_setting *setting = &statement->settings[0];

    if (!read_parameter(at, &token, setting->name))
        return SQL_SET_OTHER;
    if (!is_symbol(&token, '=') && !sql_token_is(&token, "to"))
        return SQL_SET_OTHER;
    token = sql_token(at);
    if (token.kind == SQL_END)
        return SQL_SET_OTHER; /* a syntax error */
    give_name(setting, setting->name);
    take_rest(at, &token, setting);
    if (is_identity(setting->name)) {
        (void)text_fit(statement->name, sizeof(statement->name), setting->name);
        if (setting->from == setting->to)
            return SQL_RESET_IDENTITY;
        return text_equal_nocase(setting->name, "role") && sql_token_is(&token, "none")
                   ? SQL_NO_ROLE
                   : SQL_SET_IDENTITY;
    }
    if (is_of_transaction(setting->name))
        return SQL_QUIET;
    if (text_equal_nocase(setting->name, "seed")) {
        statement->marks |= SQL_CALLS_SEED;
        return SQL_QUIET;
    }
    statement->setting_count = 1;
    return SQL_SET;
}

static enum sql_verb read_reset(struct sql_lexer *at, struct sql_statement *statement)
{
    struct sql_token token = sql_token(at);
    enum sql_verb special;

    if (sql_token_is(&token, "all"))
        return SQL_RESET_ALL;
    special = read_special(at, statement, &token, SQL_RESET);
    if (special != SQL_QUIET) {
        for (uint8_t i = 0; i < statement->setting_count; i++)
            statement->settings[i].from = statement->settings[i].to = 0;
        return special;
    }
    if (sql_token_is(&token, "transaction"))
        return SQL_QUIET;
    if (!read_parameter(at, &token, statement->settings[0].name))
        return SQL_SET_OTHER;
    if (is_identity(statement->settings[0].name)) {
        (void)text_fit(statement->name, sizeof(statement->name), statement->settings[0].name);
        return SQL_RESET_IDENTITY;
    }
    give_name(&statement->settings[0], statement->settings[0].name);
    statement->setting_count = 1;
    return SQL_RESET;
}

enum sql_verb sql_read_set(struct sql_lexer *at, struct sql_statement *statement,
                           enum sql_verb verb)
{
    struct sql_lexer behind;
    struct sql_token token, next;
    enum sql_verb special;

    if (verb == SQL_RESET)
        return read_reset(at, statement);
    token = sql_token(at);
    behind = *at;
    next = sql_token(&behind);
    if (sql_token_is(&token, "transaction") || sql_token_is(&token, "constraints"))
        return is_symbol(&next, '=') ? SQL_SET_OTHER : SQL_QUIET;
    if (sql_token_is(&token, "local") && !is_symbol(&next, '=') && !sql_token_is(&next, "to") &&
        !is_symbol(&next, '.'))
        return SQL_QUIET; /* it ends with the transaction */
    if (sql_token_is(&token, "session")) {
        if (sql_token_is(&next, "characteristics"))
            return read_characteristics(&behind, statement);
        if (next.kind == SQL_WORD || next.kind == SQL_QUOTED) {
            if (!sql_token_is(&next, "authorization")) {
                token = next;
                *at = behind;
            }
        }
    }
    special = read_special(at, statement, &token, SQL_SET);
    return special != SQL_QUIET ? special : read_plain(at, statement, token);
}

enum sql_verb sql_config_verb(struct sql_statement *statement)
{
    struct sql_setting *setting = &statement->settings[0];

    if (is_identity(setting->name)) {
        (void)text_fit(statement->name, sizeof(statement->name), setting->name);
        return SQL_SET_IDENTITY;
    }
    if (is_of_transaction(setting->name))
        return SQL_QUIET;
    if (text_equal_nocase(setting->name, "seed")) {
        statement->marks |= SQL_CALLS_SEED;
        return SQL_QUIET;
    }
    give_name(setting, setting->name);
    statement->setting_count = 1;
    return SQL_SET;
}

/* ---- values ---- */

/* Parameters whose elements PostgreSQL quotes by itself (GUC_LIST_QUOTE). */
static bool is_quoted_list(const char *name)
{
    return text_equal_nocase(name, "search_path") || text_equal_nocase(name, "temp_tablespaces") ||
           text_equal_nocase(name, "local_preload_libraries") ||
           text_equal_nocase(name, "session_preload_libraries");
}

static bool is_portable(const struct sql_token *token)
{
    if (token->kind == SQL_ODD || token->kind == SQL_BAD)
        return false;
    if (token->kind == SQL_STRING && token->text[0] != '\'')
        return false; /* E'', N'' */
    for (size_t i = 0; i < token->length; i++) {
        unsigned char byte = (unsigned char)token->text[i];
        if (byte >= 0x80 || byte == '\\' || byte == ';')
            return false;
    }
    return true;
}

/* The content of the only token, when it is one string. */
static bool put_content(const struct sql_setting *setting, struct sql_lexer at, struct buffer *out)
{
    struct sql_token token = sql_token(&at), next = sql_token(&at);
    size_t start = out->length;
    struct buffer quoted = {0};

    if (next.kind != SQL_END || !sql_token_string(&token, at.mode, out))
        return false;
    if (setting->is_text || !is_quoted_list(setting->name))
        return true;
    /* one element of a list, whatever is in it */
    buffer_put_u8(&quoted, '"');
    for (size_t i = start; i < out->length; i++) {
        if (out->data[i] == '"')
            buffer_put_u8(&quoted, '"');
        buffer_put_u8(&quoted, out->data[i]);
    }
    buffer_put_u8(&quoted, '"');
    out->length = start;
    buffer_put(out, quoted.data, quoted.length);
    buffer_fini(&quoted);
    return true;
}

bool sql_value(const char *text, const struct sql_setting *setting, unsigned mode,
               struct buffer *out, bool *plain)
{
    struct sql_lexer at = {text, setting->to, setting->from, mode};
    size_t start = out->length;

    *plain = false;
    if (setting->fixed) {
        buffer_print(out, "%s", setting->fixed);
        return true;
    }
    if (setting->from == setting->to)
        return true;
    while (!setting->is_text) {
        struct sql_token token = sql_token(&at);

        if (token.kind == SQL_END)
            return out->length > start;
        if (!is_portable(&token))
            break;
        if (token.spaced && out->length > start)
            buffer_put_u8(out, ' ');
        buffer_put(out, token.text, token.length);
    }
    out->length = start;
    at.at = setting->from;
    *plain = true;
    return put_content(setting, at, out);
}
