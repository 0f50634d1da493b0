/*
 * prepared_inside.h: what prepared.c (messages of the client) and prepared_answer.c (those of the
 * server) share.
 */
#ifndef PGSTAGE_SESSION_PREPARED_INSIDE_H
#define PGSTAGE_SESSION_PREPARED_INSIDE_H

#include <string.h>

#include "pgstage/session/prepared.h"
#include "pgstage/session/statement_names.h"
#include "pgstage/session/statement_set.h"

/* What the answer to one tagged message makes true when it comes, or what it was about. */
struct change {
    struct statement_name *name; /* that will stand for `statement`; NULL: no name changes */
    struct statement *statement; /* a name's reference; NULL: the name is closed */
    struct kept_statement *kept; /* that the server will have or not; NULL: nothing */
    bool there;
    bool failed; /* it was answered with an error, and more answers follow */
    bool by_tag; /* true as soon as one of its statements is answered by DEALLOCATE, whatever the
                    others do: that cannot be rolled back */
    bool tagged; /* that has come */
    struct statement_name *used; /* the name that is bound, described or parsed again; NULL: none */
    uint64_t number;             /* its statement's */
    char *sqlstate;              /* the error is to be replaced by this one; NULL: it is not */
    char *text, *hint;
};

/* A server's part. */
struct prepared {
    /* owner */
    struct statement_set set;
    struct change *changes; /* a ring */
    uint32_t capacity;      /* a power of two, or 0 */
    uint32_t first;         /* server->awaited is how many there are */
    uint32_t tags_seen;     /* of transaction.tags_over */
};

/* The statement for this text in the client's present context, with a name's reference; NULL: no
 * memory is left for it. */
struct statement *prepared_take(struct client *client, const void *text, size_t bytes,
                                uint8_t intent);
/* A name that looks like one of ours must not reach what others have prepared. */
static inline bool prepared_is_ours(const char *name)
{
    return strncmp(name, SERVER_NAME_PREFIX, sizeof(SERVER_NAME_PREFIX) - 1) == 0;
}
/* The server's part, made when there is none. */
struct prepared *prepared_of(struct server *server);
/* For the message that was just entered with ANSWER_TAGGED. */
struct change *prepared_expect(struct server *server);

#endif
