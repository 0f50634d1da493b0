/*
 * unnamed: a client's unnamed prepared statement, which must outlive the batch that parsed it.
 *
 * A server keeps one unnamed statement, and whoever has the server next replaces it. So the text is
 * kept here, and parsed again where a Bind or Describe finds the server without it. That another
 * client's is never used is known by the server's `unnamed_links`. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_UNNAMED_H
#define PGSTAGE_SESSION_UNNAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

/* A text up to this stays until it is replaced; a longer one until it has been bound. */
#define UNNAMED_KEEP_BYTES 4096

enum unnamed_state {
    UNNAMED_NONE, /* the client has none */
    UNNAMED_KEPT, /* `text` is the body of its Parse behind the name */
    UNNAMED_LONG, /* only its server has it */
};

/* Small, since each client has one. */
struct unnamed {
    /* owner */
    struct unnamed_text *text; /* NULL: none is kept */
    uint32_t batch;            /* in which it was parsed */
    uint8_t state;             /* enum unnamed_state */
    uint8_t intent;            /* enum intent, of its text */
    bool bound;                /* since it was parsed */
};

void unnamed_fini(struct unnamed *unnamed);
/* What is kept of it: the body of its Parse behind the name. NULL, and no bytes: nothing. */
const uint8_t *unnamed_text(const struct unnamed *unnamed, size_t *bytes);

enum unnamed_use {
    UNNAMED_THERE,     /* the server has it */
    UNNAMED_REPARSE,   /* it is to be parsed again */
    UNNAMED_MISSING,   /* there is none */
    UNNAMED_UNCERTAIN, /* the batch that parsed it is not answered yet */
};

/* A Parse of it passes: `text` is what is there of the body behind the name, `whole` whether that
 * is all; its text has this intent. */
void unnamed_parse(struct client *client, const uint8_t *text, size_t bytes, bool whole,
                   uint8_t intent);
/* The same of a client that has no server: whichever it gets will be given the statement. */
void unnamed_keep(struct client *client, const uint8_t *text, size_t bytes, uint8_t intent);
/* A Bind or Describe of it comes. */
enum unnamed_use unnamed_look(const struct client *client);
/* A Bind of it passes. */
void unnamed_bound(struct client *client);
/* The server has it from now on. */
void unnamed_is_there(struct client *client);
/* A Query or Close passes, or its Parse was lost: there is none any more. */
void unnamed_forget(struct client *client);
/* A Sync passes: a long one that is not bound yet keeps its server. */
void unnamed_sync(struct client *client);

#endif
