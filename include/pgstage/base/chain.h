/*
 * chain: a file of JSON lines in which each line names the SHA-256 of the one before, so that a
 * line that was changed, taken out or moved is noticed.
 *
 * A line is `{"seq":7,…,"previous":"<64 hex digits>"}` and a newline; the hash is that of the
 * line's bytes without the newline. The first line of all has seq 1 and 64 zeros. A file that
 * continues another one begins with a higher number and the hash of the other's last line. What a
 * crash left of a line that was being written stays in the file, and the next line vouches for it:
 * its `event` is "recovered", and `torn_bytes` and `torn_sha256` describe the piece.
 */
#ifndef PGSTAGE_BASE_CHAIN_H
#define PGSTAGE_BASE_CHAIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "pgstage/base/buffer.h"

#define CHAIN_HASH_BYTES 65
/* A line is never longer: the end of a file is found without reading all of it. */
#define CHAIN_LINE_MAX_BYTES 65536

/* Where a chain stands: its last line. Seq 0: there is none yet. */
struct chain {
    uint64_t seq;
    char hash[CHAIN_HASH_BYTES];
};

/* The SHA-256 of the bytes as lower-case hex digits. */
void chain_hash(const void *bytes, size_t length, char hash[CHAIN_HASH_BYTES]);
/* Before the first line. */
void chain_init(struct chain *chain);
/* Puts the next line behind `out`: the number, the members of `fields` (an object, the caller's),
 * the hash. False: it would be too long, nothing has changed. */
bool chain_put(struct chain *chain, json_t *fields, struct buffer *out)
    __attribute__((warn_unused_result));

enum chain_end {
    CHAIN_EMPTY,   /* no byte */
    CHAIN_WHOLE,   /* `chain` is its last line */
    CHAIN_TORN,    /* … and behind it is a piece of a line: see `torn` */
    CHAIN_FOREIGN, /* this is no such file */
    CHAIN_FAILED,  /* reading failed: errno */
};

/* A piece behind the last line. */
struct chain_torn {
    uint64_t bytes; /* without a newline at its end */
    char hash[CHAIN_HASH_BYTES];
    bool has_newline;
};

/* Looks at the end of an open file. Blocks on the disk. */
enum chain_end chain_read_end(int fd, struct chain *chain, struct chain_torn *torn);

/* What chain_verify found. */
struct chain_report {
    uint64_t lines, problems;
    uint64_t first_seq;
    struct chain last;
};

/* Reads a file to its end and prints a line for everything that is wrong with it into `out`, each
 * with `name` before it. `chain`: where the file before ended, or NULL (then the first line may
 * have any number). False when something is wrong. Blocks on the disk. */
bool chain_verify(FILE *in, const char *name, const struct chain *before, FILE *out,
                  struct chain_report *report) __attribute__((warn_unused_result));

#endif
