/*
 * log: a line is put together on the caller's stack and handed over in one call per target.
 *
 *   format, arguments → text (cut) → escaped into the line → write(2) to stderr and to the file,
 *                                                          → sendto(2) to syslog's socket
 *
 * Any thread writes; the main thread alone opens. What the writers read is a handful of atomics, so
 * no lock is held anywhere. The file keeps one descriptor number for the life of the process: a new
 * file (or /dev/null, when there is to be none) is put under that number with dup3(2), so a writer
 * that has just loaded the number always writes into a file that is open. A line is at most
 * PIPE_BUF bytes long, because a pipe (a container's stderr) takes no more in one piece.
 */
#include "pgstage/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

#define LINE_BYTES PIPE_BUF
#define SYSLOG_SOCKET "/dev/log"

/* Where syslog lines go. Immutable once writers can see it; a replaced one is kept on the chain,
 * since a writer may still be reading it. */
struct syslog_target {
    int fd;
    int facility;
    char ident[64];
    struct syslog_target *replaced;
};

static struct {
    /* shared: atomics */
    _Atomic int file_fd; /* -1 until a file was first opened; then the same number for ever */
    atomic_bool to_file;
    atomic_bool to_stderr;
    _Atomic(struct syslog_target *) syslog; /* the newest; used only while to_syslog */
    atomic_bool to_syslog;
    _Atomic int verbose;
    atomic_bool is_torn; /* the file ends in a piece of a line: the disk was full */
} log_state = {.file_fd = -1, .to_stderr = true, .verbose = RANK_LOG};
_Atomic int log_lowest = RANK_INFO;

static const struct {
    const char *name;
    int priority;
} ranks[] = {
    [RANK_TRACE] = {"TRACE", LOG_DEBUG}, [RANK_DEBUG] = {"DEBUG", LOG_DEBUG},
    [RANK_INFO] = {"INFO", LOG_INFO},    [RANK_WARNING] = {"WARNING", LOG_WARNING},
    [RANK_ERROR] = {"ERROR", LOG_ERR},   [RANK_LOG] = {"LOG", LOG_NOTICE},
    [RANK_FATAL] = {"FATAL", LOG_CRIT},
};

static const struct {
    const char *name;
    int number;
} facilities[] = {
    {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},
    {"daemon", LOG_DAEMON}, {"ftp", LOG_FTP},           {"kern", LOG_KERN},
    {"lpr", LOG_LPR},       {"mail", LOG_MAIL},         {"news", LOG_NEWS},
    {"syslog", LOG_SYSLOG}, {"user", LOG_USER},         {"uucp", LOG_UUCP},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5},
    {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
};

const char *log_rank_name(enum log_rank rank)
{
    return ranks[rank].name;
}

bool log_wants_from(enum log_rank rank, enum log_rank minimum)
{
    return rank >= RANK_LOG || rank >= minimum ||
           (int)rank >= atomic_load_explicit(&log_state.verbose, memory_order_relaxed);
}

/* Puts `fd` (owned) where the writers look. */
static bool install_file(int fd)
{
    int known = atomic_load(&log_state.file_fd);
    if (known < 0) {
        atomic_store(&log_state.file_fd, fd);
        return true;
    }
    bool moved = dup3(fd, known, O_CLOEXEC) >= 0;
    int error = errno;
    close(fd);
    errno = error;
    return moved;
}

static bool open_file(const char *path)
{
    /* Opened without waiting: a pipe that nobody reads is an error then. Writes wait as ever. */
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (fd >= 0)
        (void)fcntl(fd, F_SETFL, O_APPEND);
    atomic_store(&log_state.is_torn, false);
    return fd >= 0 && install_file(fd);
}

/* Lets go of the file; its number then leads to /dev/null until a file is opened again. */
static void drop_file(void)
{
    atomic_store(&log_state.to_file, false);
    if (atomic_load(&log_state.file_fd) >= 0) {
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)!install_file(fd);
    }
}

static int facility_number(const char *name)
{
    for (size_t i = 0; name && i < sizeof facilities / sizeof facilities[0]; i++) {
        if (text_equal_nocase(facilities[i].name, name))
            return facilities[i].number;
    }
    return LOG_DAEMON;
}

static bool open_syslog(const char *ident, const char *facility)
{
    struct syslog_target *old = atomic_load(&log_state.syslog);
    struct syslog_target *target = memory_new(sizeof *target);
    (void)text_fit(target->ident, sizeof target->ident, ident && *ident ? ident : "pgstage");
    target->facility = facility_number(facility);
    if (old && old->facility == target->facility && text_equal(old->ident, target->ident)) {
        free(target);
        return true;
    }
    target->fd = old ? old->fd : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (target->fd < 0) {
        free(target);
        return false;
    }
    target->replaced = old;
    atomic_store(&log_state.syslog, target);
    return true;
}

bool log_open(const struct log_settings *settings)
{
    const char *path = settings->file && *settings->file ? settings->file : NULL;
    if (settings->syslog && !open_syslog(settings->syslog_ident, settings->syslog_facility))
        return false;
    if (path) {
        if (!open_file(path))
            return false;
        atomic_store(&log_state.to_file, true);
    } else {
        drop_file();
    }
    atomic_store(&log_state.to_syslog, settings->syslog);
    atomic_store(&log_state.to_stderr, settings->to_stderr);
    int verbose = settings->verbose <= 0   ? RANK_LOG
                  : settings->verbose == 1 ? RANK_DEBUG
                                           : RANK_TRACE;
    atomic_store(&log_state.verbose, verbose);
    if ((int)settings->minimum < verbose)
        verbose = (int)settings->minimum;
    atomic_store(&log_lowest, verbose < RANK_LOG ? verbose : RANK_LOG);
    return true;
}

/*
 * Copies `text` into `target`, with control characters (C0, DEL and the UTF-8 form of C1, which
 * terminals obey as well) as \xNN. Stops before an escape that does not fit. Returns the length.
 */
static size_t escape(char *target, size_t size, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t length = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool c1 = *p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        bool c1_tail = *p >= 0x80 && *p < 0xa0 && p != (const unsigned char *)text && p[-1] == 0xc2;
        bool hidden = *p < 0x20 || *p == 0x7f || c1 || c1_tail;
        if (size - length < (hidden ? 4 : 1))
            break;
        if (hidden) {
            target[length++] = '\\';
            target[length++] = 'x';
            target[length++] = digits[*p >> 4];
            target[length++] = digits[*p & 15];
        } else {
            target[length++] = (char)*p;
        }
    }
    return length;
}

/* "2026-01-31 12:00:00.123 UTC [pid] RANK " */
static size_t print_prefix(char *target, size_t size, enum log_rank rank)
{
    uint64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / CLOCK_SECOND);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t length = strftime(target, size, "%Y-%m-%d %H:%M:%S", &tm);
    int more =
        snprintf(target + length, size - length, ".%03u UTC [%ld] %s ",
                 (unsigned)(now_us % CLOCK_SECOND / CLOCK_MS), (long)getpid(), log_rank_name(rank));
    return length + (size_t)more;
}

/* The daemon stamps the time. The socket is not connected, so a restarted syslogd is found again;
 * a daemon that does not keep up costs lines, never time. */
static void send_to_syslog(const struct syslog_target *target, enum log_rank rank, const char *text,
                           size_t length)
{
    static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET};
    char line[LINE_BYTES + 128];
    int head =
        snprintf(line, sizeof line, "<%d>%s[%ld]: %s ", target->facility | ranks[rank].priority,
                 target->ident, (long)getpid(), log_rank_name(rank));
    memcpy(line + head, text, length);
    (void)sendto(target->fd, line, (size_t)head + length, MSG_DONTWAIT | MSG_NOSIGNAL,
                 (const struct sockaddr *)&address, sizeof address);
}

/* `line[-1]` is a line's end: what a full disk has left of the line before ends there. */
static void write_to_file(const char *line, size_t length)
{
    bool was_torn = atomic_exchange(&log_state.is_torn, false);
    ssize_t written =
        write(atomic_load(&log_state.file_fd), line - (was_torn ? 1 : 0), length + was_torn);
    if (written < (ssize_t)(length + was_torn) && (written > 0 || was_torn))
        atomic_store(&log_state.is_torn, true);
}

void log_write(enum log_rank rank, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_vwrite(rank, format, arguments);
    va_end(arguments);
}

void log_vwrite(enum log_rank rank, const char *format, va_list arguments)
{
    int error = errno; /* callers log first and look at errno afterwards */

    char text[LINE_BYTES];
    if (vsnprintf(text, sizeof text, format, arguments) < 0)
        (void)text_fit(text, sizeof text, format);

    char room[1 + LINE_BYTES] = "\n", *line = room + 1;
    size_t prefix = print_prefix(line, LINE_BYTES, rank);
    size_t length = prefix + escape(line + prefix, LINE_BYTES - 1 - prefix, text);

    if (atomic_load_explicit(&log_state.to_syslog, memory_order_acquire))
        send_to_syslog(atomic_load(&log_state.syslog), rank, line + prefix, length - prefix);
    line[length++] = '\n';
    if (atomic_load_explicit(&log_state.to_stderr, memory_order_relaxed))
        (void)!write(STDERR_FILENO, line, length);
    if (atomic_load_explicit(&log_state.to_file, memory_order_acquire))
        write_to_file(line, length);
    errno = error;
}
