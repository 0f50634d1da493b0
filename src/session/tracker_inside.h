/*
 * tracker_inside: what the files of the tracker share.
 */
#ifndef PGSTAGE_SESSION_TRACKER_INSIDE_H
#define PGSTAGE_SESSION_TRACKER_INSIDE_H

#include "pgstage/base/list.h"
#include "pgstage/session/journal.h"
#include "pgstage/session/tracker.h"

/* Entries in the order of their statements. */
struct entries {
    struct entry *items;
    uint32_t count, capacity;
    size_t bytes;
};

/* A message that was sent and is not answered yet. */
struct record {
    struct list_node node; /* in tracker->records */
    uint8_t type;
    bool refused;
    char close_what;        /* Close: 'S' or 'P' */
    char *problem;          /* refused because of this */
    char *name;             /* Parse, Close: statement (or portal); Bind, Execute: portal */
    char *target;           /* Bind: statement */
    struct entries entries; /* Query, Parse */
    uint32_t completed;     /* Query: statements that are done */
    size_t bytes;
};

/* A statement or portal of the client's that does something. */
struct named {
    char *name;
    bool begun; /* a portal: it has been executed, perhaps in part */
    struct entries entries;
};
struct names {
    struct named *items;
    uint32_t count, capacity;
};

struct tracker {
    /* owner */
    struct journal journal;
    struct list records;
    size_t records_bytes;
    struct record *staged; /* looked at, not sent yet */
    uint32_t notes_over;   /* of the server's queue, as far as they were taken out of `records` */
    uint64_t server_id;    /* the server that this belongs to, … */
    uint64_t links;        /* … and which of its linkings */
    struct names statements, portals;
    bool overflown;     /* there were too many of them: any other may do something, too */
    bool other_setting; /* one that is not in the client's set */
    bool failed;        /* an error has come since the last ReadyForQuery */
    bool immediate;     /* … something that commits by itself */
    bool in_block;      /* a transaction block is open, as far as tags and status have told */
    bool loose;         /* the journal has entries of a pipeline outside of one */
    bool scanning;      /* the message that streams is looked at */
    uint8_t scan_tail[3];
    bool ask;     /* the server is to be asked which pins are still true */
    bool ask_all; /* … and whether something else is there */
};

/* Reads a text: what each of its statements does. False when something could not be read. */
bool entries_read(struct entries *entries, const char *text, size_t length, unsigned mode);
struct entry *entries_add(struct entries *entries, enum entry_kind kind, uint32_t statement);
void entries_fini(struct entries *entries);
void entries_copy(struct entries *to, const struct entries *from);
/* The next LISTEN among them, from *next on; NULL: none. */
const char *entries_channel(const struct entries *entries, uint32_t *next);
/* Would one of them be refused with session_state = error? */
bool entries_are_refused(const struct entries *entries, const struct server *server);

/* Carries out what an entry says, now that it is certain. */
void tracker_apply(struct client *client, const struct entry *entry);
/* Carries out what is certain in the journal. */
void tracker_commit(struct client *client);
/* Whatever may have happened to the session: the server is asked, and cleaned later. */
void tracker_doubt(struct client *client);

/* Does what the tracker knows belong to this time of its client with this server? */
static inline bool tracker_is_of(const struct tracker *tracker, const struct server *server)
{
    return tracker->server_id == server->item.id && tracker->links == server->links;
}

static inline bool tracker_is_reported(const struct server *server, const char *name)
{
    return parameters_get(server->reported, name) != NULL;
}

#endif
