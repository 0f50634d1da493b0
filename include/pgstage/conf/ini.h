/*
 * ini: reading INI files with PgBouncer's grammar, on inih.
 *
 * Comments (`;`, `#`) stand on lines of their own; lines may be indented; nothing continues a line;
 * a value goes to the end of its line, whatever stands in it and however long it is. `%include
 * PATH` is relative to the file it stands in. The thread that loads.
 */
#ifndef PGSTAGE_CONF_INI_H
#define PGSTAGE_CONF_INI_H

#include <stdbool.h>
#include <stddef.h>

#include "pgstage/conf/arena.h"
#include "pgstage/conf/file.h"
#include "pgstage/conf/report.h"

/* One `key = value`, or the beginning of a section (`key` is NULL). All texts are in the arena. */
struct ini_entry {
    const char *section;
    const char *key;    /* without its quotes */
    bool key_is_quoted; /* it stood in quotes, so an @ inside is a part of the name */
    const char *suffix; /* of `"key"@suffix`; NULL: none */
    const char *value;
    const char *file;
    int line;
};

struct ini_reader {
    struct arena *arena;
    struct report *report;
    const char *config_dir; /* what ${CONFIG_DIR} means in %include */
    /* Called for each entry in the order of the files. */
    void (*entry)(void *context, const struct ini_entry *entry);
    void *context;
    bool includes; /* false: %include is a mistake (text that is not from a file) */
};

/* Reads a file with its includes. Mistakes go into the report and reading goes on. False when the
 * file itself cannot be read (reported, too). `waits`: the file may be a pipe, which is waited for;
 * what it includes may not. */
bool ini_read_file(const struct ini_reader *reader, const char *file, bool waits);
/* The same for a text; `name` stands in place of the file. */
void ini_read_text(const struct ini_reader *reader, const char *name, const char *text,
                   size_t length);

#endif
