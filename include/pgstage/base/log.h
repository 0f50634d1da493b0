/*
 * log: one line per event, to stderr, a file or syslog.
 *
 * A line is `2026-01-31 12:00:00.123 UTC [pid] RANK text`. Each line is one write(2) of at most
 * PIPE_BUF (4096) bytes, so lines of several threads never mix, in a pipe neither. Any thread may
 * log; never under a lock. What came from a peer is made printable (control bytes become \xNN) and
 * cut, so nobody can forge a line. Before log_open, lines from RANK_INFO on go to stderr.
 */
#ifndef PGSTAGE_BASE_LOG_H
#define PGSTAGE_BASE_LOG_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>

enum log_rank {
    RANK_TRACE,   /* state changes of every object */
    RANK_DEBUG,   /* chatter for development */
    RANK_INFO,    /* chatter */
    RANK_WARNING, /* somebody should look at it */
    RANK_ERROR,   /* something failed */
    RANK_LOG,     /* connection ends, changes of state, loads: always written (PostgreSQL's LOG) */
    RANK_FATAL,   /* the process ends */
};

struct log_settings {
    const char *file;            /* NULL or "": none */
    bool to_stderr;              /* also to stderr */
    bool syslog;                 /* also to syslog */
    const char *syslog_ident;    /* NULL: pgstage */
    const char *syslog_facility; /* NULL: daemon; names as in syslog.conf */
    enum log_rank minimum;       /* lines below are dropped, but see log_wants_from */
    int verbose;                 /* -v: 1: RANK_DEBUG and 2: RANK_TRACE too, whatever minima say */
};

/* Applies settings and (re)opens the file. The old file stays in use when the new one cannot be
 * opened; then false is returned and errno set. Main thread. */
bool log_open(const struct log_settings *settings) __attribute__((warn_unused_result));
/* The lowest rank that is written, by all settings together. */
extern _Atomic int log_lowest;
/* Is a line of this rank written? */
static inline bool log_wants(enum log_rank rank)
{
    return (int)rank >= atomic_load_explicit(&log_lowest, memory_order_relaxed);
}
/* The same for something with a minimum of its own, as environments have. */
bool log_wants_from(enum log_rank rank, enum log_rank minimum);
/* Write whatever the settings are: whoever calls has asked. */
void log_write(enum log_rank rank, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_vwrite(enum log_rank rank, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
/* The word for a rank ("DEBUG", "LOG", ...). */
const char *log_rank_name(enum log_rank rank);

/* Arguments are not evaluated when the line would be dropped. */
#define log_at(rank, ...)                                                                          \
    do {                                                                                           \
        if (log_wants(rank))                                                                       \
            log_write((rank), __VA_ARGS__);                                                        \
    } while (0)
#define log_trace(...) log_at(RANK_TRACE, __VA_ARGS__)
#define log_debug(...) log_at(RANK_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(RANK_INFO, __VA_ARGS__)
#define log_warning(...) log_at(RANK_WARNING, __VA_ARGS__)
#define log_error(...) log_at(RANK_ERROR, __VA_ARGS__)
#define log_log(...) log_at(RANK_LOG, __VA_ARGS__)
#define log_fatal(...) log_at(RANK_FATAL, __VA_ARGS__)

#endif
