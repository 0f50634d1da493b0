/*
 * fuzz_sql: the text of a query. Statements lie in the text, in order and apart; names end; values
 * are ASCII unless they are taken as such.
 */
#include <string.h>

#include "pgstage/wire/sql.h"
#include "promise.h"

static void check_settings(const char *text, size_t size, const struct sql_statement *statement,
                           unsigned mode)
{
    promise(statement->setting_count <= SQL_SETTINGS_MAX);
    for (uint8_t i = 0; i < statement->setting_count; i++) {
        const struct sql_setting *setting = &statement->settings[i];
        struct buffer value = {0};
        bool plain;

        promise(memchr(setting->name, '\0', sizeof(setting->name)) != NULL);
        promise(setting->from <= setting->to && setting->to <= size);
        if (sql_value(text, setting, mode, &value, &plain) && !plain) {
            for (size_t at = 0; at < value.length; at++)
                promise(value.data[at] < 0x80 && value.data[at] != '\0' && value.data[at] != ';' &&
                        value.data[at] != '\\');
        }
        buffer_fini(&value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    unsigned mode = data[0] & 3;
    const char *text = (const char *)data + 1;
    size_t length = size - 1, at = 0;
    struct sql_lexer lexer = {text, length, 0, mode};
    struct sql_statement statement;

    while (sql_next(&lexer, &statement)) {
        promise(statement.from >= at && statement.to >= statement.from && statement.to <= length);
        promise(memchr(statement.name, '\0', sizeof(statement.name)) != NULL);
        at = statement.to;
        check_settings(text, length, &statement, mode);
    }
    return 0;
}
