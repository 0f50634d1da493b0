/*
 * variable: environment variables in values, so that one file serves several places and no secret
 * has to stand in it.
 *
 *   ${VAR}   ${VAR:-default}   $${ (a literal ${)   ${CONFIG_DIR} (the main file's folder)
 */
#include "pgstage/conf/variable.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/check.h"
#include "pgstage/base/text.h"

/* What a hidden variable is called instead. One underscore: this is no option. */
#define HIDDEN_PREFIX "PGSTAGE_HIDDEN_"
#define OWN_PREFIX "PGSTAGE_"

extern char **environ;

/* The first variable that is to be hidden, or NULL. */
static const char *find_exposed(const char *prefix)
{
    for (char **at = environ; at && *at; at++) {
        if (text_starts_with(*at, prefix) && !text_starts_with(*at, OWN_PREFIX) && strchr(*at, '='))
            return *at;
    }
    return NULL;
}

void variable_hide(const char *prefix)
{
    const char *found;
    while ((found = find_exposed(prefix))) {
        char *name = text_copy_n(found, strcspn(found, "="));
        char *hidden = text_print("%s%s", HIDDEN_PREFIX, name);
        /* the setting copies the value, so that both may go on */
        char *value = text_copy(strchr(found, '=') + 1);
        check(setenv(hidden, value, 1) == 0 && unsetenv(name) == 0);
        text_wipe(value, strlen(value));
        free(value);
        free(hidden);
        free(name);
    }
}

static const char *look_up(const char *name)
{
    const char *value = getenv(name);
    if (value)
        return value;
    char *hidden = text_print("%s%s", HIDDEN_PREFIX, name);
    value = getenv(hidden);
    free(hidden);
    return value;
}

static bool name_is_good(const char *name, size_t length)
{
    if (length == 0 || isdigit((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_')
            return false;
    return true;
}

/* Puts what stands between the braces; `inner` ends before the closing one. */
static bool put_variable(struct buffer *out, const char *inner, size_t length,
                         const char *config_dir, char *problem, size_t size)
{
    const char *fallback = NULL;
    size_t name_length = length;
    for (size_t i = 0; i + 1 < length; i++) {
        if (inner[i] == ':' && inner[i + 1] == '-') {
            name_length = i;
            fallback = inner + i + 2;
            break;
        }
    }
    if (!name_is_good(inner, name_length)) {
        snprintf(problem, size, "\"${%.*s}\" is not a variable; write $${ for a literal ${",
                 (int)(length > 60 ? 60 : length), inner);
        return false;
    }
    char *name = text_copy_n(inner, name_length);
    const char *value = strcmp(name, "CONFIG_DIR") == 0 ? config_dir : look_up(name);
    /* As in a shell, `:-` also stands in for an empty variable. */
    if (fallback && (!value || !*value))
        buffer_put(out, fallback, (size_t)(inner + length - fallback));
    else if (value)
        buffer_put(out, value, strlen(value));
    else
        snprintf(problem, size,
                 "the variable %.100s is not set; ${%.100s:-default} gives a default", name, name);
    free(name);
    return value || fallback;
}

char *variable_expand(const char *text, const char *config_dir, bool *replaced, char *problem,
                      size_t size)
{
    struct buffer out = {0};
    if (replaced)
        *replaced = false;
    while (*text) {
        if (strncmp(text, "$${", 3) == 0) {
            buffer_put(&out, "${", 2);
            text += 3;
        } else if (strncmp(text, "${", 2) == 0) {
            const char *close = strchr(text, '}');
            if (!close) {
                snprintf(problem, size,
                         "\"%.40s\" is not closed with }; write $${ for a literal ${", text);
                buffer_fini(&out);
                return NULL;
            }
            if (!put_variable(&out, text + 2, (size_t)(close - text - 2), config_dir, problem,
                              size)) {
                buffer_fini(&out);
                return NULL;
            }
            if (replaced)
                *replaced = true;
            text = close + 1;
        } else {
            size_t plain = 1 + strcspn(text + 1, "$");
            buffer_put(&out, text, plain);
            text += plain;
        }
    }
    buffer_put_u8(&out, 0);
    return (char *)out.data;
}

bool variable_is_reference(const char *text)
{
    size_t length = strlen(text);
    if (length < 4 || strncmp(text, "${", 2) != 0 || strchr(text, '}') != text + length - 1)
        return false;
    const char *inner = text + 2, *fallback = strstr(inner, ":-");
    size_t name = length - 3;
    if (fallback && fallback + 3 != text + length)
        return false;
    return name_is_good(inner, fallback ? (size_t)(fallback - inner) : name);
}

char *variable_escape(const char *text)
{
    struct buffer out = {0};
    for (; *text; text++) {
        if (text[0] == '$' && text[1] == '{')
            buffer_put_u8(&out, '$');
        buffer_put_u8(&out, (uint8_t)*text);
    }
    buffer_put_u8(&out, 0);
    return (char *)out.data;
}
