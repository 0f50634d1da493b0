/*
 * audit: writes what happened to the audit log, a chained file (base/chain.h), on a thread of its
 * own.
 *
 * Whoever has something to record makes a record, fills it and gives it away: `audit_write` and go
 * on, or `audit_write_through` and be told by letter when the line is on the disk. The queue is
 * bounded; nobody ever waits for the disk on a loop.
 */
#ifndef PGSTAGE_SESSION_AUDIT_H
#define PGSTAGE_SESSION_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct audit;
struct audit_record;
struct loop;

/* Records that may wait to be written. */
#define AUDIT_QUEUE_MAX 8192

/* NULL when no thread can be started. No file yet: everything is dropped. */
struct audit *audit_new(void) __attribute__((warn_unused_result));
/* Writes what still waits, then ends. The loops that wait for letters outlive it. */
void audit_free(struct audit *audit);

/* Goes on in this file (made with mode 0600; NULL: in none), or opens the same path anew, as after
 * a rotation: the first line of a new file names the last one of the old. False and `problem`: it
 * cannot be opened, nothing has changed. Control thread; opens the file to see that it can be. */
bool audit_open(struct audit *audit, const char *path, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* The same path anew, whether it can be opened or not. Any thread. */
void audit_reopen(struct audit *audit);
/* Is there a file? Any thread. */
bool audit_is_on(struct audit *audit);

/* `event` says what the line is about. */
struct audit_record *audit_record_new(const char *event) __attribute__((warn_unused_result));
void audit_record_free(struct audit_record *record);
/* A text of any origin: what is no UTF-8 is written as \xNN, and it is cut at 2 kB. NULL: null. */
void audit_record_text(struct audit_record *record, const char *name, const char *value);
void audit_record_number(struct audit_record *record, const char *name, int64_t value);

/* Takes the record over and writes it some time within a second. Any thread. */
void audit_write(struct audit *audit, struct audit_record *record);
/* Takes the record over; when the line is on the disk (fsync), or cannot be written, `done` is
 * called on that loop, exactly once unless the loop is freed before. Any thread. */
void audit_write_through(struct audit *audit, struct audit_record *record, struct loop *home,
                         void (*done)(struct loop *loop, void *argument, uint64_t id, bool written),
                         void *argument, uint64_t id);

struct audit_counts {
    uint64_t written, lost; /* lines since the start */
    bool failing;           /* the last attempt to write failed */
};
/* Any thread. */
void audit_counts(struct audit *audit, struct audit_counts *counts);

#endif
