/*
 * store.c: a JSON file that is whole at any moment, whatever happens to the process or the machine.
 *
 * The folder is locked through a file of its own, since the content's file is another one after
 * each write. The new content becomes durable before it gets the name, and the name before anybody
 * is told: a reader finds the old content or the new one. A failure leaves the old file in place.
 * The helper thread knows only its job's text; everything else is the loop's.
 */
#include "pgstage/failover/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/list.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/offload.h"

#define STORE_FILE "failover.json"
#define STORE_NEW STORE_FILE ".new"
#define STORE_ASIDE STORE_FILE ".damaged"
#define STORE_LOCK "lock"
/* Far more than a file with a full history of every environment has. */
#define STORE_BYTES_MAX (64u << 20)

/* Somebody who waits for a write. */
struct waiter {
    struct waiter *next;
    void (*done)(void *context, const char *problem);
    void *context;
};

struct writing {
    struct offload_job job;
    /* fixed */
    struct store *store; /* NULL when it has been closed: for the loop only */
    int folder_fd;       /* of its own */
    char *text;
    struct waiter *waiters;
    /* the helper's, then the loop's */
    char problem[256];
};

struct store {
    /* fixed */
    struct loop *loop;
    struct offload *offload;
    char *folder;
    int folder_fd, lock_fd;
    /* owner */
    struct writing *current; /* under way */
    struct writing *next;    /* gathers what came meanwhile */
};

/* ---- the folder ---- */

static bool open_folder(struct store *store, char *problem, size_t size)
{
    struct stat seen;
    if (mkdir(store->folder, 0700) != 0 && errno != EEXIST) {
        snprintf(problem, size, "cannot make state_dir %s: %s", store->folder, strerror(errno));
        return false;
    }
    store->folder_fd = open(store->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->folder_fd < 0 || fstat(store->folder_fd, &seen) != 0) {
        snprintf(problem, size, "cannot open state_dir %s: %s", store->folder, strerror(errno));
        return false;
    }
    if (seen.st_mode & (S_IWGRP | S_IWOTH)) {
        snprintf(problem, size, "state_dir %s may be written by others: chmod 0700 it",
                 store->folder);
        return false;
    }
    return true;
}

static bool lock_folder(struct store *store, char *problem, size_t size)
{
    store->lock_fd = openat(store->folder_fd, STORE_LOCK,
                            O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (store->lock_fd < 0) {
        snprintf(problem, size, "cannot lock state_dir %s: %s", store->folder, strerror(errno));
        return false;
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(problem, size, "state_dir %s is in use by another process", store->folder);
        return false;
    }
    return true;
}

struct store *store_open(struct loop *loop, const char *folder, char *problem, size_t size)
{
    struct store *store = memory_new(sizeof *store);
    store->loop = loop;
    store->folder = text_copy(folder);
    store->folder_fd = store->lock_fd = -1;
    bool ok = open_folder(store, problem, size) && lock_folder(store, problem, size);
    if (ok) {
        store->offload = offload_new("state", 1, 1);
        ok = store->offload != NULL;
        if (!ok)
            text_fit(problem, size, "no helper thread can be started");
    }
    if (!ok) {
        store_close(store);
        return NULL;
    }
    return store;
}

/* ---- reading ---- */

/* Allocated; NULL and errno. */
static char *read_all(int fd, size_t *length)
{
    struct stat seen;
    if (fstat(fd, &seen) != 0)
        return NULL;
    if (!S_ISREG(seen.st_mode) || seen.st_size > STORE_BYTES_MAX) {
        errno = EFBIG;
        return NULL;
    }
    char *text = memory_get((size_t)seen.st_size + 1);
    size_t got = 0;
    while (got < (size_t)seen.st_size) {
        ssize_t count = read(fd, text + got, (size_t)seen.st_size - got);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            errno = count < 0 ? errno : EIO;
            free(text);
            return NULL;
        }
        got += (size_t)count;
    }
    *length = got;
    return text;
}

enum store_found store_load(struct store *store, json_t **content, char *problem, size_t size)
{
    json_error_t error;
    size_t length = 0;
    int fd = openat(store->folder_fd, STORE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    if (fd < 0 && errno == ENOENT)
        return STORE_MISSING;
    char *text = fd < 0 ? NULL : read_all(fd, &length);
    int failure = errno;
    if (fd >= 0)
        close(fd);
    if (!text) {
        snprintf(problem, size, "%s/%s: %s", store->folder, STORE_FILE, strerror(failure));
        return STORE_DAMAGED;
    }
    *content = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!*content || !json_is_object(*content)) {
        snprintf(problem, size, "%s/%s: %s", store->folder, STORE_FILE,
                 *content ? "it is no JSON object" : error.text);
        json_decref(*content);
        *content = NULL;
        return STORE_DAMAGED;
    }
    return STORE_READ;
}

bool store_put_aside(struct store *store)
{
    return renameat(store->folder_fd, STORE_FILE, store->folder_fd, STORE_ASIDE) == 0;
}

/* ---- writing: the helper thread ---- */

static bool write_all(int fd, const char *text)
{
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t count = write(fd, text, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return false;
        text += count;
        length -= (size_t)count;
    }
    return true;
}

static void write_file(struct writing *writing)
{
    int folder = writing->folder_fd;
    int fd = openat(folder, STORE_NEW,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    bool ok = fd >= 0 && write_all(fd, writing->text) && fsync(fd) == 0;
    int failure = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        failure = errno;
    }
    if (ok && (renameat(folder, STORE_NEW, folder, STORE_FILE) != 0 || fsync(folder) != 0)) {
        ok = false;
        failure = errno;
    }
    if (!ok)
        text_fit(writing->problem, sizeof writing->problem, strerror(failure));
}

static void on_work(struct offload_job *job)
{
    write_file(list_entry(job, struct writing, job));
}

/* ---- writing: the loop ---- */

static void writing_free(struct writing *writing)
{
    for (struct waiter *waiter = writing->waiters, *next; waiter; waiter = next) {
        next = waiter->next;
        free(waiter);
    }
    free(writing->text);
    free(writing);
}

static void start_next(struct store *store);

static void on_done(struct loop *loop, struct offload_job *job)
{
    struct writing *writing = list_entry(job, struct writing, job);
    struct store *store = writing->store;
    (void)loop;
    if (store) {
        store->current = NULL;
        start_next(store);
        for (struct waiter *waiter = writing->waiters; waiter; waiter = waiter->next) {
            if (waiter->done)
                waiter->done(waiter->context, writing->problem);
        }
    }
    writing_free(writing);
}

static void start_next(struct store *store)
{
    struct writing *writing = store->next;
    if (!writing || store->current)
        return;
    store->next = NULL;
    store->current = writing;
    writing->job.work = on_work;
    writing->job.done = on_done;
    /* there is never more than one job, so the queue has room */
    if (!offload_submit(store->offload, store->loop, &writing->job))
        abort();
}

void store_write(struct store *store, json_t *content,
                 void (*done)(void *context, const char *problem), void *context)
{
    struct writing *writing = store->next;
    if (!writing) {
        writing = store->next = memory_new(sizeof *writing);
        writing->store = store;
        writing->folder_fd = store->folder_fd;
    }
    free(writing->text);
    writing->text = json_dumps(content, JSON_INDENT(1));
    if (!writing->text)
        writing->text = text_copy("");
    json_decref(content);
    struct waiter *waiter = memory_new(sizeof *waiter), **last = &writing->waiters;
    waiter->done = done;
    waiter->context = context;
    while (*last)
        last = &(*last)->next;
    *last = waiter;
    start_next(store);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    /* lets a running job end and sends back one that was not begun; either letter comes to the loop
     * later and finds nobody */
    offload_free(store->offload);
    if (store->current) {
        store->current->store = NULL;
        if (store->current->job.cancelled && !store->next)
            write_file(store->current);
    }
    if (store->next) {
        write_file(store->next);
        writing_free(store->next);
    }
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    if (store->folder_fd >= 0)
        close(store->folder_fd);
    free(store->folder);
    free(store);
}
