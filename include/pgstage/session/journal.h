/*
 * journal: what the statements of a transaction have done to the session's state, until it is known
 * whether it stays.
 *
 * Entries stand in the order of the statements. ROLLBACK TO takes away what came behind its
 * savepoint, as PostgreSQL does; COMMIT makes what is left certain, ROLLBACK drops what is not. The
 * caller carries out what is certain when all is reported. Pure apart from allocation; one thread.
 * It has bounds: beyond them it is `lost`, and the caller must take it that anything may have
 * happened.
 */
#ifndef PGSTAGE_SESSION_JOURNAL_H
#define PGSTAGE_SESSION_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_ENTRIES_MAX 4096
#define JOURNAL_BYTES_MAX (256 * 1024)

enum entry_kind {
    ENTRY_SET,   /* name, value; `words`: as parameters_with_words takes it */
    ENTRY_RESET, /* name */
    ENTRY_RESET_ALL,
    ENTRY_DISCARD_ALL,
    ENTRY_PIN,         /* `pin`: state came into being that cannot be replayed */
    ENTRY_UNPIN,       /* … has gone */
    ENTRY_ASK,         /* … may have come or gone: the server has to be asked */
    ENTRY_SOIL,        /* the session may differ from a new one: it is cleaned before the next */
    ENTRY_STAIN,       /* … and cannot be cleaned: the server is closed */
    ENTRY_LISTEN,      /* name */
    ENTRY_UNLISTEN,    /* name; NULL: all */
    ENTRY_SAVEPOINT,   /* name */
    ENTRY_RELEASE,     /* name */
    ENTRY_ROLLBACK_TO, /* name */
};

struct entry {
    uint8_t kind; /* enum entry_kind */
    bool words;
    bool at_once;       /* it does not wait for the end of the transaction, and is not undone */
    uint8_t pin;        /* enum pin */
    uint32_t statement; /* the number of its statement in the text, from 0 */
    char *name, *value; /* owned; may be NULL */
};

struct journal {
    struct entry *entries;
    uint32_t count, capacity;
    uint32_t certain; /* so many of the first are committed */
    size_t bytes;
    bool lost; /* it could not take an entry */
};

void entry_fini(struct entry *entry);
/* Takes a copy. Savepoints, RELEASE and ROLLBACK TO do what they say to what is there. */
void journal_add(struct journal *journal, const struct entry *entry);
/* The transaction is committed: what is there is certain. */
void journal_commit(struct journal *journal);
/* … rolled back: what is not certain goes. */
void journal_rollback(struct journal *journal);
/* Takes away what is certain, which the caller has carried out. */
void journal_drop_certain(struct journal *journal);
/* Empties it. */
void journal_clear(struct journal *journal);
/* Frees its memory; it is empty then and may be used again. */
void journal_fini(struct journal *journal);

#endif
