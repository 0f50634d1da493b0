/*
 * audit.c: the audit log's thread and its queue.
 *
 *   any thread: audit_write ─► queue (mutex) ─► helper: a batch ─► one write ─► one fsync
 *                                                   └─ letters: written, or not ─► loops
 *
 * A batch is everything that waits, so many logins share an fsync. Batches without anybody who
 * waits are synced within a second. The file is locked during a batch, and when somebody else has
 * written meanwhile (a second process with the same file) its end is read again: the chain goes on
 * behind what is there. A batch that cannot be written is cut off again, everybody in it is told,
 * and the next one begins by opening the file anew; the first line that succeeds says how many were
 * lost. What a crash left of a line stays, and the next line vouches for it.
 */
#include "pgstage/session/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pgstage/base/chain.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/worker/loop.h"

#define TEXT_MAX_BYTES 2048
/* Another process holds the file only while it writes a batch. */
#define LOCK_TRIES 200
#define LOCK_PAUSE_US 10000

struct audit_record {
    struct mail mail; /* links the queue, then carries the answer */
    json_t *fields;
    struct loop *home; /* NULL: nobody waits */
    void (*done)(struct loop *loop, void *argument, uint64_t id, bool written);
    void *argument;
    uint64_t id;
    bool written;
    bool is_order; /* no line: take `path` (NULL: none) */
    char *path;
};

struct audit {
    /* fixed */
    pthread_t thread;
    /* shared: atomic */
    _Atomic bool on;
    _Atomic uint64_t written, lost_total;
    _Atomic bool failing;
    /* owner: the helper */
    char *path; /* NULL: none */
    int fd;     /* -1: closed, or failed */
    struct chain chain;
    uint64_t size; /* of the file, as we left it */
    uint64_t lost; /* lines since the last that was written */
    bool fresh;    /* opened, and no line of ours is in it yet */
    bool unsynced;
    uint64_t sync_due_us;
    char *previous_path; /* of the file that this one continues */
    /* shared: mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct mail *first, **last;
    unsigned waiting;
    char *wanted_path;
    bool stopping;
};

/* ---- records ---- */

struct audit_record *audit_record_new(const char *event)
{
    struct audit_record *record = memory_new(sizeof(*record));
    uint64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / CLOCK_SECOND);
    char day[32], text[48];
    struct tm parts;

    gmtime_r(&seconds, &parts);
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, sizeof(text), "%s.%06" PRIu64 "Z", day, now_us % CLOCK_SECOND);
    record->fields = json_object();
    json_object_set_new(record->fields, "time", json_string(text));
    json_object_set_new(record->fields, "event", json_string(event));
    return record;
}

void audit_record_free(struct audit_record *record)
{
    if (!record)
        return;
    json_decref(record->fields);
    free(record->path);
    free(record);
}

/* How many bytes of valid UTF-8 a character takes; 0: it is none. jansson is the judge. */
static size_t character_bytes(const char *text)
{
    unsigned char first = (unsigned char)*text;
    size_t count = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
    json_t *one;

    if (count <= 1)
        return count;
    if (strnlen(text, count) < count)
        return 0;
    one = json_stringn(text, count);
    json_decref(one);
    return one ? count : 0;
}

void audit_record_text(struct audit_record *record, const char *name, const char *value)
{
    struct buffer text = {0};
    json_t *made = value ? json_string(value) : json_null();

    if (!made || (value && strlen(value) > TEXT_MAX_BYTES)) {
        json_decref(made);
        while (*value && text.length < TEXT_MAX_BYTES) {
            size_t count = character_bytes(value);

            if (count)
                buffer_put(&text, value, count);
            else
                buffer_print(&text, "\\x%02x", (unsigned char)*value);
            value += count ? count : 1;
        }
        if (*value)
            buffer_print(&text, "...");
        made = json_stringn((const char *)text.data, text.length);
        buffer_fini(&text);
    }
    json_object_set_new(record->fields, name, made);
}

void audit_record_number(struct audit_record *record, const char *name, int64_t value)
{
    json_object_set_new(record->fields, name, json_integer((json_int_t)value));
}

/* ---- the file (helper) ---- */

static void close_file(struct audit *audit)
{
    if (audit->fd >= 0)
        close(audit->fd);
    audit->fd = -1;
}

static bool lock_file(int fd)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        usleep(LOCK_PAUSE_US);
    }
    return false;
}

static void put_line(struct audit *audit, struct audit_record *record, struct buffer *out)
{
    if (!chain_put(&audit->chain, record->fields, out))
        log_error("audit log: a line is too long and was left out");
}

/* A line that pgstage writes about the log itself. */
static void put_own_line(struct audit *audit, struct audit_record *record, struct buffer *out)
{
    put_line(audit, record, out);
    audit_record_free(record);
}

static void put_torn(struct audit *audit, const struct chain_torn *torn, struct buffer *out)
{
    struct audit_record *record = audit_record_new("recovered");

    log_warning("audit log %s: its last line was torn (%" PRIu64
                " bytes); it stays, and the chain goes on behind it",
                audit->path, torn->bytes);
    if (!torn->has_newline)
        buffer_put_u8(out, '\n');
    audit_record_number(record, "torn_bytes", (int64_t)torn->bytes);
    audit_record_text(record, "torn_sha256", torn->hash);
    put_own_line(audit, record, out);
}

/* Stands behind the file's last line, whoever wrote it. False and errno (0: no audit log). */
static bool read_end(struct audit *audit, struct buffer *out)
{
    struct chain found;
    struct chain_torn torn;

    switch (chain_read_end(audit->fd, &found, &torn)) {
    case CHAIN_EMPTY:
        return true; /* the chain goes on from the file before, or begins */
    case CHAIN_WHOLE:
        audit->chain = found;
        return true;
    case CHAIN_TORN:
        audit->chain = found;
        put_torn(audit, &torn, out);
        return true;
    case CHAIN_FOREIGN:
        errno = 0;
        return false;
    case CHAIN_FAILED:
        break;
    }
    return false;
}

static int open_path(const char *path)
{
    return open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
}

/* Lines that come before the batch: what the file says of itself. */
static bool begin_batch(struct audit *audit, struct buffer *out)
{
    struct stat status;
    struct audit_record *record;

    if (fstat(audit->fd, &status) != 0)
        return false;
    if ((audit->fresh || (uint64_t)status.st_size != audit->size) && !read_end(audit, out))
        return false;
    audit->size = (uint64_t)status.st_size;
    if (audit->fresh) {
        record = audit_record_new(audit->chain.seq ? "continued" : "begun");
        if (status.st_size == 0 && audit->previous_path)
            audit_record_text(record, "file_before", audit->previous_path);
        audit_record_number(record, "pid", getpid());
        put_own_line(audit, record, out);
    }
    if (audit->lost) {
        record = audit_record_new("lost");
        audit_record_number(record, "lines", (int64_t)audit->lost);
        put_own_line(audit, record, out);
    }
    return true;
}

/* All or nothing: a write that stops in the middle is cut off again. */
static bool write_all(struct audit *audit, const struct buffer *out, bool sync)
{
    size_t done = 0;

    while (done < out->length) {
        ssize_t count = write(audit->fd, out->data + done, out->length - done);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            errno = count == 0 ? ENOSPC : errno;
            break;
        }
        done += (size_t)count;
    }
    if (done == out->length && (!sync || fdatasync(audit->fd) == 0 || errno == EINVAL))
        return true;
    done = (size_t)errno;
    /* when even this fails, the piece is found and vouched for later */
    (void)!ftruncate(audit->fd, (off_t)audit->size);
    errno = (int)done;
    return false;
}

/* Nobody could be told of the file's fate before this: the log. */
static void note_failure(struct audit *audit, int error)
{
    if (!atomic_exchange(&audit->failing, true))
        log_error("audit log %s cannot be written: %s. Logins that must be recorded are refused "
                  "until it can (audit_log_failure)",
                  audit->path, error ? strerror(error) : "the file is no audit log");
}

static void note_success(struct audit *audit)
{
    if (atomic_exchange(&audit->failing, false))
        log_log("audit log %s is written again; lines that were lost: %" PRIu64, audit->path,
                audit->lost);
    if (audit->fresh)
        log_log("audit log %s: at seq %" PRIu64 ", hash %s", audit->path, audit->chain.seq,
                audit->chain.hash);
    audit->lost = 0;
    audit->fresh = false;
    free(audit->previous_path);
    audit->previous_path = text_copy(audit->path);
}

static bool write_lines(struct audit *audit, struct mail *records, bool sync)
{
    struct buffer out = {0};
    struct chain before;
    bool written = false;
    int error;

    if (audit->fd < 0) {
        audit->fd = open_path(audit->path);
        audit->fresh = true;
    }
    before = audit->chain;
    if (audit->fd >= 0 && lock_file(audit->fd)) {
        if (begin_batch(audit, &out)) {
            for (struct mail *mail = records; mail; mail = mail->next)
                put_line(audit, (struct audit_record *)mail, &out);
            written = write_all(audit, &out, sync);
        }
        error = errno;
        flock(audit->fd, LOCK_UN);
        errno = error;
    }
    if (written) {
        audit->size += out.length;
        audit->unsynced = !sync;
        audit->sync_due_us = clock_now_us() + CLOCK_SECOND;
        note_success(audit);
    } else {
        note_failure(audit, errno);
        audit->chain = before;
        close_file(audit);
    }
    buffer_fini(&out);
    return written;
}

/* ---- the helper ---- */

static void deliver(struct loop *loop, struct mail *mail)
{
    struct audit_record *record = (struct audit_record *)mail;

    record->done(loop, record->argument, record->id, record->written);
    audit_record_free(record);
}

static void drop(struct mail *mail)
{
    audit_record_free((struct audit_record *)mail);
}

static void answer(struct audit_record *record, bool written)
{
    if (!record->home) {
        audit_record_free(record);
        return;
    }
    record->written = written;
    record->mail = (struct mail){.deliver = deliver, .drop = drop};
    loop_post(record->home, &record->mail);
}

/* Writes a run of records and tells those who wait. */
static void settle(struct audit *audit, struct mail *records)
{
    bool sync = false, written = false;
    uint64_t count = 0;

    for (struct mail *mail = records; mail; mail = mail->next, count++)
        sync = sync || ((struct audit_record *)mail)->home;
    if (!records)
        return;
    if (audit->path)
        written = write_lines(audit, records, sync);
    if (written) {
        atomic_fetch_add(&audit->written, count);
    } else if (audit->path) {
        audit->lost += count;
        atomic_fetch_add(&audit->lost_total, count);
    }
    for (struct mail *mail = records, *next; mail; mail = next) {
        next = mail->next;
        answer((struct audit_record *)mail, written);
    }
}

static void sync_now(struct audit *audit)
{
    if (audit->unsynced && audit->fd >= 0 && fdatasync(audit->fd) != 0 && errno != EINVAL) {
        note_failure(audit, errno);
        close_file(audit);
    }
    audit->unsynced = false;
}

/* The same file again: nothing to do, unless it was moved away. */
static bool is_same_file(const struct audit *audit, const char *path)
{
    struct stat ours, other;

    return audit->fd >= 0 && text_equal(audit->path, path) && fstat(audit->fd, &ours) == 0 &&
           stat(path, &other) == 0 && ours.st_dev == other.st_dev && ours.st_ino == other.st_ino;
}

static void take_order(struct audit *audit, struct audit_record *order)
{
    if (!is_same_file(audit, order->path)) {
        sync_now(audit);
        close_file(audit);
        free(audit->path);
        audit->path = order->path;
        order->path = NULL;
        if (audit->path && !write_lines(audit, NULL, true))
            audit->lost++; /* the first line of the new file */
    }
    answer(order, true);
}

/* A batch: records in order, with orders in between. */
static void work(struct audit *audit, struct mail *batch)
{
    while (batch) {
        struct mail *run = batch, **end = &batch;

        while (*end && !((struct audit_record *)*end)->is_order)
            end = &(*end)->next;
        struct mail *order = *end;
        *end = NULL;
        batch = order ? order->next : NULL;
        settle(audit, run == order ? NULL : run);
        if (order)
            take_order(audit, (struct audit_record *)order);
    }
}

/* Waits for records; NULL: a sync is due, or the end. Called with the mutex held. */
static struct mail *wait_for_work(struct audit *audit)
{
    struct mail *batch;

    while (!audit->first && !audit->stopping) {
        struct timespec due;

        if (!audit->unsynced) {
            pthread_cond_wait(&audit->changed, &audit->mutex);
            continue;
        }
        due.tv_sec = (time_t)(audit->sync_due_us / CLOCK_SECOND);
        due.tv_nsec = (long)(audit->sync_due_us % CLOCK_SECOND) * 1000;
        if (pthread_cond_timedwait(&audit->changed, &audit->mutex, &due) == ETIMEDOUT)
            break;
    }
    batch = audit->first;
    audit->first = NULL;
    audit->last = &audit->first;
    audit->waiting = 0;
    return batch;
}

static void *help(void *argument)
{
    struct audit *audit = argument;
    struct mail *batch;
    bool stopping;

    do {
        pthread_mutex_lock(&audit->mutex);
        batch = wait_for_work(audit);
        stopping = audit->stopping;
        pthread_mutex_unlock(&audit->mutex);
        work(audit, batch);
        if (audit->unsynced && (stopping || clock_now_us() >= audit->sync_due_us))
            sync_now(audit);
    } while (!stopping || batch);
    return NULL;
}

struct audit *audit_new(void)
{
    struct audit *audit = memory_new(sizeof(*audit));
    pthread_condattr_t attributes;
    sigset_t all, before;
    int failed;

    audit->fd = -1;
    audit->last = &audit->first;
    chain_init(&audit->chain);
    json_object_seed(0); /* before several threads make objects */
    pthread_mutex_init(&audit->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&audit->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&audit->thread, NULL, help, audit);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        pthread_cond_destroy(&audit->changed);
        pthread_mutex_destroy(&audit->mutex);
        free(audit);
        return NULL;
    }
    pthread_setname_np(audit->thread, "audit");
    return audit;
}

void audit_free(struct audit *audit)
{
    if (!audit)
        return;
    pthread_mutex_lock(&audit->mutex);
    audit->stopping = true;
    pthread_mutex_unlock(&audit->mutex);
    pthread_cond_signal(&audit->changed);
    pthread_join(audit->thread, NULL);
    if (audit->path && audit->chain.seq)
        log_log("audit log %s: ends at seq %" PRIu64 ", hash %s", audit->path, audit->chain.seq,
                audit->chain.hash);
    close_file(audit);
    pthread_cond_destroy(&audit->changed);
    pthread_mutex_destroy(&audit->mutex);
    free(audit->wanted_path);
    free(audit->path);
    free(audit->previous_path);
    free(audit);
}

/* ---- any thread ---- */

/* False: the queue is full. Orders always find room. */
static bool submit(struct audit *audit, struct audit_record *record)
{
    bool taken;

    record->mail.next = NULL;
    pthread_mutex_lock(&audit->mutex);
    taken = record->is_order || audit->waiting < AUDIT_QUEUE_MAX;
    if (taken) {
        *audit->last = &record->mail;
        audit->last = &record->mail.next;
        audit->waiting++;
    }
    pthread_mutex_unlock(&audit->mutex);
    if (taken)
        pthread_cond_signal(&audit->changed);
    else
        atomic_fetch_add(&audit->lost_total, 1);
    return taken;
}

void audit_write(struct audit *audit, struct audit_record *record)
{
    if (!audit_is_on(audit) || !submit(audit, record))
        audit_record_free(record);
}

void audit_write_through(struct audit *audit, struct audit_record *record, struct loop *home,
                         void (*done)(struct loop *loop, void *argument, uint64_t id, bool written),
                         void *argument, uint64_t id)
{
    record->home = home;
    record->done = done;
    record->argument = argument;
    record->id = id;
    if (!submit(audit, record))
        answer(record, false);
}

static void order(struct audit *audit, const char *path)
{
    struct audit_record *record = memory_new(sizeof(*record));

    record->is_order = true;
    record->path = text_copy(path);
    (void)submit(audit, record);
}

bool audit_open(struct audit *audit, const char *path, char *problem, size_t size)
{
    int fd;

    if (path && !*path)
        path = NULL;
    if (path) {
        fd = open_path(path);
        if (fd < 0) {
            snprintf(problem, size, "audit_log %s cannot be opened: %s", path, strerror(errno));
            return false;
        }
        close(fd);
    }
    pthread_mutex_lock(&audit->mutex);
    free(audit->wanted_path);
    audit->wanted_path = text_copy(path);
    pthread_mutex_unlock(&audit->mutex);
    atomic_store(&audit->on, path != NULL);
    order(audit, path);
    return true;
}

void audit_reopen(struct audit *audit)
{
    char *path;

    pthread_mutex_lock(&audit->mutex);
    path = text_copy(audit->wanted_path);
    pthread_mutex_unlock(&audit->mutex);
    if (path)
        order(audit, path);
    free(path);
}

bool audit_is_on(struct audit *audit)
{
    return atomic_load_explicit(&audit->on, memory_order_acquire);
}

void audit_counts(struct audit *audit, struct audit_counts *counts)
{
    counts->written = atomic_load(&audit->written);
    counts->lost = atomic_load(&audit->lost_total);
    counts->failing = atomic_load(&audit->failing);
}
