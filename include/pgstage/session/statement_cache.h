/*
 * statement_cache: the texts of named prepared statements, one for all clients that use the same.
 *
 * Two clients share a statement when the text, the parameter types and whatever else decides what
 * the text means (the context: encoding, search_path …) are equal. A statement lives as long as a
 * client's name stands for it or a server is known to have it; its text is only kept for names, and
 * that of a statement without names may be forgotten to make room for others.
 *
 * The cache is shared by all threads. It has a mutex for each of its shards, taken when a name
 * comes or goes, never when a statement is used.
 */
#ifndef PGSTAGE_SESSION_STATEMENT_CACHE_H
#define PGSTAGE_SESSION_STATEMENT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct statement;
struct statement_cache;

struct statement_cache *statement_cache_new(void) __attribute__((warn_unused_result));
/* After the last reference of its statements has gone. NULL is harmless. */
void statement_cache_free(struct statement_cache *cache);

/* The statement for this text (the body of a Parse behind the name: query, NUL, types) in this
 * context, with a name's reference for the caller. NULL: it would take more than `limit_bytes` for
 * all, and nothing can be forgotten. */
struct statement *statement_take(struct statement_cache *cache, const void *text, size_t text_bytes,
                                 const void *context, size_t context_bytes, uint64_t limit_bytes)
    __attribute__((warn_unused_result));
/* A statement whose text is not kept, for one client alone: it can never be parsed again. With a
 * name's reference. */
struct statement *statement_take_long(struct statement_cache *cache)
    __attribute__((warn_unused_result));
/* Gives a name's reference back. NULL is harmless. */
void statement_give(struct statement *statement);

/* The reference of a server that has it. */
struct statement *statement_ref(struct statement *statement);
void statement_unref(struct statement *statement);

/* With a name's reference: the body of its Parse behind the name; NULL for a long one. */
const uint8_t *statement_text(const struct statement *statement, size_t *bytes);
/* With a name's reference: was it taken in this context? */
bool statement_is_in_context(const struct statement *statement, const void *context,
                             size_t context_bytes);
bool statement_is_long(const struct statement *statement);
/* What its text does (enum intent), as whoever took it first has told with statement_set_intent;
 * the same for all, since how a text is read is part of the context. */
uint8_t statement_intent(const struct statement *statement);
void statement_set_intent(struct statement *statement, uint8_t intent);
/* By which servers know it at present. */
uint64_t statement_number(const struct statement *statement);
/* What servers have under the present number is of no use any more (DDL has changed its result):
 * it gets a new one, unless somebody else was faster since `number`. */
void statement_renumber(struct statement *statement, uint64_t number);

struct statement_totals {
    uint64_t statements, bytes;
};
void statement_cache_totals(const struct statement_cache *cache, struct statement_totals *totals);

#endif
