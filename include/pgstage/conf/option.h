/*
 * option: the rows of tables/options.def as data, and how a text becomes a value.
 *
 * Pure functions on constant data; any thread.
 */
#ifndef PGSTAGE_CONF_OPTION_H
#define PGSTAGE_CONF_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/conf/settings.h"

enum option_type {
    OPTION_TYPE_BOOL,
    OPTION_TYPE_INT,
    OPTION_TYPE_ENUM,
    OPTION_TYPE_TEXT,
    OPTION_TYPE_DURATION,
    OPTION_TYPE_SIZE,
};

/* How the text of an option reads. */
enum option_form {
    FORM_YES_NO,
    FORM_NUMBER,
    FORM_AUTO,
    FORM_OCTAL,
    FORM_SECONDS,
    FORM_MILLISECONDS,
    FORM_BYTES,
    FORM_WORDS, /* of an ENUM: see `words` */
    FORM_WORD,
    FORM_LIST,
    FORM_FILE,
    FORM_PATH,
    FORM_SECRET,
    FORM_LINE,
};

enum option_scope {
    SCOPE_GLOBAL = 1,
    SCOPE_LISTENER = 2,
    SCOPE_ENVIRONMENT = 4,
    SCOPE_DATABASE = 8,
    SCOPE_USER = 16,
    SCOPE_PEER = 32,
};

enum option_reload { RELOAD_LIVE, RELOAD_NEW, RELOAD_RESTART };

struct option_word {
    const char *word; /* NULL ends a table */
    int value;
};

struct option {
    const char *name; /* as files write it */
    enum option_type type;
    enum option_form form;
    unsigned scopes;
    const char *default_text; /* NULL: not set */
    int64_t minimum, maximum; /* in the unit of a bare number */
    enum option_reload reload;
    const char *group;
    const char *help;
    const struct option_word *words; /* of an ENUM */
    size_t offset;                   /* in struct settings */
};

/* `number` of BOOL, INT, ENUM, DURATION (µs), SIZE (bytes); `text` of TEXT, NULL: not set. */
struct option_value {
    int64_t number;
    const char *text;
};

size_t option_count(void);
const struct option *option_at(size_t index);
/* The option that `name` (or an alias, as `reserve_pool`) means in one scope, or NULL. */
const struct option *option_find(enum option_scope scope, const char *name);
/* The same in whatever scope, for "x belongs into [databases]"; or NULL. */
const struct option *option_find_anywhere(const char *name);
/* The known name nearest to a mistyped one, or NULL when none is near. */
const char *option_nearest(enum option_scope scope, const char *name);
/* "[pgstage], [environment]" of an option's scopes; `text` is at least 96 bytes. */
void option_scopes_text(const struct option *option, char *text, size_t size);
/* The name of a kind of section: "[pgstage]". */
const char *option_scope_name(enum option_scope scope);

/*
 * Reads a text. A TEXT value points into `text`, empty gives NULL. False when it does not fit the
 * option; then `problem` says why and what would.
 */
bool option_parse(const struct option *option, const char *text, struct option_value *value,
                  char *problem, size_t size) __attribute__((warn_unused_result));
/* The value as a bare text that option_parse reads again: allocated; "" for a text not set. */
char *option_print(const struct option *option, struct option_value value)
    __attribute__((warn_unused_result));
void option_store(const struct option *option, struct option_value value,
                  struct settings *settings);
struct option_value option_load(const struct option *option, const struct settings *settings);
bool option_value_equal(const struct option *option, struct option_value a, struct option_value b);
struct option_value option_default(const struct option *option);
/* Every option at its built-in default. */
void option_defaults(struct settings *settings);

#endif
