/*
 * file: whole small files in memory. Blocks on the disk: the thread that loads.
 */
#ifndef PGSTAGE_CONF_FILE_H
#define PGSTAGE_CONF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* What is said of a path that is neither a regular file nor /dev/null. */
#define FILE_NOT_PLAIN "it is not a regular file"

/* Which file it really is, however its path was written. */
struct file_identity {
    uint64_t device, inode;
};

/* May it be read without waiting for anybody: a regular file, or /dev/null. */
bool file_is_plain(const struct stat *status);
/*
 * The whole file, allocated, with a NUL behind its `*length` bytes. NULL and `problem` (cut to
 * `size`) when it cannot be read, is not plain, or is longer than `max_bytes`. `identity` may be
 * NULL.
 */
char *file_read(const char *path, size_t max_bytes, size_t *length, struct file_identity *identity,
                char *problem, size_t size) __attribute__((warn_unused_result));
/* The same, pipes and devices included: waits for whoever writes into them. Never while clients are
 * served. */
char *file_read_waiting(const char *path, size_t max_bytes, size_t *length,
                        struct file_identity *identity, char *problem, size_t size)
    __attribute__((warn_unused_result));
/* The folder of a path, "." when it names none; allocated. */
char *file_folder(const char *path) __attribute__((warn_unused_result));
/* `path`, or below `folder` when it is relative; allocated. */
char *file_join(const char *folder, const char *path) __attribute__((warn_unused_result));

#endif
