/*
 * store: one JSON file in a folder that only one process uses: read at the start, replaced as a
 * whole, on the disk when `done` says so.
 *
 *   store_write ─► text ─► helper thread: FILE.new, fsync, rename, fsync of the folder ─► done
 *
 * The loop never waits for the disk. While a write is under way further ones are gathered: only the
 * latest content is written, and everybody who asked is told. One loop's thread.
 */
#ifndef PGSTAGE_FAILOVER_STORE_H
#define PGSTAGE_FAILOVER_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct loop;
struct store;

enum store_found {
    STORE_READ,
    STORE_MISSING, /* no file: a first start, or it was lost */
    STORE_DAMAGED, /* it cannot be read, or is no JSON object */
};

/* Makes the folder if it is missing (not its parents) and locks it. NULL and `problem`: it cannot
 * be used, or another process uses it. */
struct store *store_open(struct loop *loop, const char *folder, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* Lets what is being written end, writes what was asked for last, unlocks. No `done` comes any
 * more. NULL is nothing. Blocks on the disk. */
void store_close(struct store *store);

/* READ: the caller owns `*content`. DAMAGED: `problem` says why. Blocks on the disk; for the start.
 */
enum store_found store_load(struct store *store, json_t **content, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* A file that makes no sense is put aside (its name with .damaged behind it), so that whoever wants
 * to know what was in it can look. False: it stays where it is. */
bool store_put_aside(struct store *store);

/* Takes `content` over. `done` (may be NULL) comes once, on the loop and never from inside the
 * call; `problem` is "" when it was written. */
void store_write(struct store *store, json_t *content,
                 void (*done)(void *context, const char *problem), void *context);

#endif
