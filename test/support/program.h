/*
 * program: what all tests of one system-test program share: where its files are, which binary is
 * tested, as which user it runs, and how a helper fails.
 *
 * Environment variables: PGSTAGE names the binary (a PgBouncer works for tests of common
 * behaviour), PGSTAGE_TEST_KEEP=1 keeps the folders, PGSTAGE_TEST_CACHE is a folder for things that
 * are slow to make, PG_BIN the folder of PostgreSQL's programs.
 */
#ifndef SUPPORT_PROGRAM_H
#define SUPPORT_PROGRAM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The program's folder, made before the first test, removed after the last. */
const char *program_folder(void);
/* The running test's own folder (made on first use, owned by the unprivileged user). */
const char *test_folder(void);
/* The binary under test: a copy that the unprivileged user may execute. */
const char *program_binary(void);
/* True when the binary is PgBouncer: tests of what only pgstage has skip themselves. */
bool program_is_pgbouncer(void);
#define SKIP_ON_PGBOUNCER()                                                                        \
    do {                                                                                           \
        if (program_is_pgbouncer())                                                                \
            cr_skip_test("PgBouncer does otherwise");                                              \
    } while (0)

/* As whom servers run: our own user, or `postgres` (or `nobody`) when we are root. */
uid_t program_uid(void);
gid_t program_gid(void);
const char *program_user(void);
/* The folder of initdb, postgres and pgbench. */
const char *program_postgres_folder(void);

/* Ends the running test as failed (or, before the first test, the program). */
void support_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Text of any length: allocated, never freed (tests are short-lived processes). */
char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *text_of_list(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
/* A whole file as text, "" when there is none; allocated. */
char *file_text(const char *path);
/* Writes a file with this mode, owned by the unprivileged user. */
void file_write(const char *path, mode_t mode, const char *text);
void folder_make(const char *path);
/* Hands a file or folder to the unprivileged user. */
void path_give(const char *path);
/* A port of 127.0.0.1 that no other test takes while this process lives. */
int port_take(void);

/* Runs at the end of every test, also a failed one: stops what the test started and fails when
 * something of it ended badly. */
void test_end(void);
/* Registers something to be stopped by test_end, last come first. */
void test_cleanup(void (*cleanup)(void *argument), void *argument);

#endif
