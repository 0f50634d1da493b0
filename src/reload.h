/*
 * reload: how a configuration is loaded, told about, and put into force while clients are served.
 *
 * Main (control) thread.
 */
#ifndef PGSTAGE_RELOAD_H
#define PGSTAGE_RELOAD_H

#include <stdbool.h>

#include "pgstage/conf/snapshot.h"

struct admin;
struct plane;

/* What the command line says of the log; it holds over the file. */
struct reload_log {
    bool to_stderr;
    int verbose; /* the number of -v */
};

/* Loads FILE (which may be a pipe if `waits`) and logs every mistake, and warnings if `warn`. NULL: it
 * has mistakes; `*problem` (may be NULL) then lists them, a line each, allocated. */
struct snapshot *reload_load(const char *file, bool warn, bool waits, char **problem)
    __attribute__((warn_unused_result));
/* Log target and level as the configuration wants them. False and errno: the file cannot be opened,
 * the log stays as it was. */
bool reload_open_log(const struct snapshot *snapshot, const struct reload_log *log)
    __attribute__((warn_unused_result));

/* Writes a load to the audit log: who asked for it, SHA-256 of the merged configuration (as
 * --show-config prints it) before and after. `before` NULL: there was none. `after` NULL: refused
 * for `problem`. */
void reload_record(struct plane *plane, const char *who, const struct snapshot *before,
                   const struct snapshot *after, const char *problem);

/* Puts a snapshot into force. False: nothing has changed, `*problem` says why. `who` asks for it.
 */
bool reload_apply(struct plane *plane, struct admin *admin, struct snapshot *snapshot,
                  const struct reload_log *log, const char *who, char **problem)
    __attribute__((warn_unused_result));
/* SIGHUP and RELOAD: loads what `conffile`, else `file`, names and applies it. */
bool reload_file(struct plane *plane, struct admin *admin, const char *file,
                 const struct reload_log *log, const char *who, char **problem)
    __attribute__((warn_unused_result));

#endif
