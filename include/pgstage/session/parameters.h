/*
 * parameters: the session parameters that follow a client from server to server.
 *
 * A set is immutable, sorted by name (case ignored), reference-counted with atomics and carries a
 * hash, so that "does this server already have what this client wants" is one comparison. NULL is
 * the empty set. Pure apart from allocation; a set may be shared by threads.
 */
#ifndef PGSTAGE_SESSION_PARAMETERS_H
#define PGSTAGE_SESSION_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

struct parameters;

struct parameters *parameters_ref(struct parameters *set);
void parameters_unref(struct parameters *set);
/* A new set like `set` (whose reference is taken over) with `name` = `value`; value NULL removes
 * it. Gives `set` itself when nothing changes. Parameters that change who the session is (role,
 * session_authorization) are never in a set: they change nothing. */
struct parameters *parameters_with(struct parameters *set, const char *name, const char *value)
    __attribute__((warn_unused_result));
/* The same with words that stand behind SET name TO as they are (see sql_value): a value that no
 * server has reported yet. They are another value than the same text given plainly. */
struct parameters *parameters_with_words(struct parameters *set, const char *name,
                                         const char *words) __attribute__((warn_unused_result));
/* The same with what `other` has for `name`; it is removed where that has nothing. */
struct parameters *parameters_with_of(struct parameters *set, const char *name,
                                      const struct parameters *other)
    __attribute__((warn_unused_result));
/* NULL: not in the set. */
const char *parameters_get(const struct parameters *set, const char *name);
size_t parameters_count(const struct parameters *set);
/* The pair at `index` (less than the count) in order of names; texts live as long as the set. */
void parameters_at(const struct parameters *set, size_t index, const char **name,
                   const char **value);
/* Is the value at `index` words (parameters_with_words)? */
bool parameters_is_words(const struct parameters *set, size_t index);
/* Has `set` the pair that `other` has at `index`? */
bool parameters_has(const struct parameters *set, const struct parameters *other, size_t index);
bool parameters_equal(const struct parameters *a, const struct parameters *b);
/* Memory the set takes. */
size_t parameters_bytes(const struct parameters *set);
/* More than this a server's reports do not become: it is no PostgreSQL that has so much to say. */
#define PARAMETERS_REPORTED_MAX_BYTES ((size_t)64 * 1024)

/* Puts the SQL that turns a session with `have` into one with `want`: sets what differs, resets
 * what is only in `have`. One string of statements, joined by ';' and without a NUL, that either
 * all succeed or change nothing when sent as one Query outside a transaction. False (and nothing
 * put) when they are equal already. Values are quoted whatever standard_conforming_strings is; the
 * text is ASCII even where values are not (these are read in the wanted client_encoding);
 * parameters that are lists of quoted names (search_path …) keep their elements. */
bool parameters_sql(const struct parameters *have, const struct parameters *want,
                    struct buffer *sql);
/* Puts `text` (ASCII) as a literal that means the same whatever the session's settings are. */
void parameters_put_literal(struct buffer *sql, const char *text);

/* May a parameter that servers report follow clients? All but those that a server reports of itself
 * (server_version, in_hot_standby …) and those that say who the session is. */
bool parameter_follows(const char *name);
/* May a client set it in its StartupMessage (a plain GUC name: letters, digits, '_', '-' in parts
 * of 1 to 63 bytes joined by '.')? */
bool parameter_name_is_plain(const char *name);
/* Is `name` in the comma list `list` (may be NULL; case and blanks ignored)? */
bool parameter_in_list(const char *name, const char *list);

#endif
