/*
 * desk: a folder of its own for each test, files in it, and configurations loaded from it.
 */
#ifndef TEST_UNIT_CONF_DESK_H
#define TEST_UNIT_CONF_DESK_H

#include <stdbool.h>

#include "pgstage/conf/report.h"
#include "pgstage/conf/snapshot.h"

/* Makes the folder and goes into it; desk_clear removes it. Use as .init and .fini of a suite. */
void desk_set(void);
void desk_clear(void);
/* Writes a file, its folders included; mode 0600. */
void desk_write(const char *path, const char *text);
/* The path of something in the folder; lives until the next call. */
const char *desk_path(const char *name);
/* Loads pgstage.ini of the folder, after writing `text` into it when that is not NULL. The report
 * is the test's and is emptied first. */
struct snapshot *desk_load(const char *text);
extern struct report desk_report;
/* Is there an entry with this line (0: any) whose text contains `words`? */
bool desk_said(int line, const char *words);
/* Loads `text` and demands that it is refused with `words` at `line`; says what was said if not. */
void desk_refuses(const char *text, int line, const char *words);
/* Loads `text` and demands that it is accepted; the caller drops the snapshot. */
struct snapshot *desk_accepts(const char *text);
/* What holds for a client's name for a database and a user. The caller drops it. */
struct effective *desk_effective(struct snapshot *snapshot, const char *name, const char *user);
/* The origin that SHOW CONFIG gives for an option; lives until the next call. */
const char *desk_origin(const struct snapshot *snapshot, const char *environment, const char *key);
/* The same for the value. */
const char *desk_value(const struct snapshot *snapshot, const char *environment, const char *key);

#endif
