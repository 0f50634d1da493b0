/*
 * sql_inside: what the files of the SQL reader share.
 */
#ifndef PGSTAGE_WIRE_SQL_INSIDE_H
#define PGSTAGE_WIRE_SQL_INSIDE_H

#include "pgstage/wire/sql.h"

/* What a statement that begins with this word may be: SQL_QUIET for most. */
enum sql_verb sql_first_word(const char *word, size_t length);
/* SET and RESET, behind that word, up to the end of `at`. */
enum sql_verb sql_read_set(struct sql_lexer *at, struct sql_statement *statement,
                           enum sql_verb verb);
/* What a set_config that was read into settings[0] is. */
enum sql_verb sql_config_verb(struct sql_statement *statement);

#endif
