/*
 * check: what the program itself must keep true.
 *
 * A broken shared structure ends the process (`check`); nothing that depends on bytes from a peer
 * or on a file may ever be put into a check.
 */
#ifndef PGSTAGE_BASE_CHECK_H
#define PGSTAGE_BASE_CHECK_H

/* Logs the failed condition with its place and aborts. Any thread. */
_Noreturn void check_failed(const char *condition, const char *file, int line);

#define check(condition)                                                                           \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            check_failed(#condition, __FILE__, __LINE__);                                          \
    } while (0)

#endif
