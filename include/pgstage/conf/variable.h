/*
 * variable: `${VAR}`, `${VAR:-default}` and `$${` in values.
 *
 * Reads the process's environment: the thread that loads.
 */
#ifndef PGSTAGE_CONF_VARIABLE_H
#define PGSTAGE_CONF_VARIABLE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * `text` with its variables replaced, allocated; `*replaced` tells whether there was one (may be
 * NULL). `config_dir` is what ${CONFIG_DIR} means. NULL and `problem` when one is missing or a
 * brace is not closed. What a variable holds is not looked at again.
 */
char *variable_expand(const char *text, const char *config_dir, bool *replaced, char *problem,
                      size_t size) __attribute__((warn_unused_result));
/* Is it one `${NAME}` and nothing else, so that all of the value is out of the file? A default
 * (`${NAME:-x}`) stands in the file; an empty one does no harm. */
bool variable_is_reference(const char *text);
/* Takes the variables whose names begin with `prefix` (but not PGSTAGE_) out of the way of libraries
 * that read them; ${…} still finds them. At the start, before there are threads. */
void variable_hide(const char *prefix);
/* A text that variable_expand turns into `text`; allocated. */
char *variable_escape(const char *text) __attribute__((warn_unused_result));

#endif
