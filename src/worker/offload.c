/*
 * offload: a bounded queue in front of a few threads.
 *
 *     loop: submit ──→ queue (mutex) ──→ helper: work ──→ mail ──→ loop: done
 *
 * A job is its submitter's until submit returns true, the queue's or a helper's until `done`, and
 * its submitter's again from there. While it waits it is linked through the letter that will carry
 * it home. Helpers block all signals: those are the main thread's. Freeing lets running jobs end
 * and sends the waiting ones home as cancelled; the loops outlive the offload.
 */
#include "pgstage/worker/offload.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "pgstage/base/memory.h"

/* What a helper does now. Whoever changes it from WORK decides whether the job goes home. */
enum doing { DOING_NOTHING, DOING_WORK, DOING_ABANDONED };

struct helper {
    /* fixed */
    struct offload *offload;
    pthread_t thread;
    /* shared: atomic */
    _Atomic int doing;
};

struct offload {
    /* fixed */
    unsigned bound;
    unsigned thread_count;

    /* shared: mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct mail *first, **last;
    unsigned waiting;
    bool stopping;

    /* fixed */
    struct helper helpers[];
};

static struct offload_job *job_of(struct mail *mail)
{
    return list_entry(mail, struct offload_job, mail);
}

static void deliver(struct loop *loop, struct mail *mail)
{
    struct offload_job *job = job_of(mail);
    job->done(loop, job);
}

/* The home loop is being freed with the job in its mailbox. */
static void drop(struct mail *mail)
{
    struct offload_job *job = job_of(mail);
    job->cancelled = true;
    job->done(job->home, job);
}

/* Waits for a job; NULL when the helper is to end. Called with the mutex held. */
static struct offload_job *next_job(struct offload *offload)
{
    while (!offload->first && !offload->stopping)
        pthread_cond_wait(&offload->changed, &offload->mutex);
    if (offload->stopping)
        return NULL;
    struct mail *mail = offload->first;
    offload->first = mail->next;
    if (!offload->first)
        offload->last = &offload->first;
    offload->waiting--;
    return job_of(mail);
}

static void *help(void *argument)
{
    struct helper *helper = argument;
    struct offload *offload = helper->offload;
    for (;;) {
        int expected = DOING_WORK;
        pthread_mutex_lock(&offload->mutex);
        struct offload_job *job = next_job(offload);
        pthread_mutex_unlock(&offload->mutex);
        if (!job)
            return NULL;
        atomic_store(&helper->doing, DOING_WORK);
        job->work(job);
        if (!atomic_compare_exchange_strong(&helper->doing, &expected, DOING_NOTHING))
            return NULL; /* home is no more */
        loop_post(job->home, &job->mail);
    }
}

static void start_threads(struct offload *offload, const char *name, unsigned threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < threads; i++) {
        struct helper *helper = &offload->helpers[offload->thread_count];
        helper->offload = offload;
        if (pthread_create(&helper->thread, NULL, help, helper) != 0)
            break;
        char thread_name[16]; /* the kernel's bound */
        snprintf(thread_name, sizeof thread_name, "%.11s-%u", name, i % 1000);
        pthread_setname_np(helper->thread, thread_name);
        offload->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct offload *offload_new(const char *name, unsigned threads, unsigned bound)
{
    struct offload *offload = memory_new(sizeof *offload + threads * sizeof offload->helpers[0]);
    offload->bound = bound;
    offload->last = &offload->first;
    pthread_mutex_init(&offload->mutex, NULL);
    pthread_cond_init(&offload->changed, NULL);
    start_threads(offload, name, threads);
    if (offload->thread_count == 0) {
        offload_free(offload);
        return NULL;
    }
    return offload;
}

static void stop(struct offload *offload)
{
    pthread_mutex_lock(&offload->mutex);
    offload->stopping = true;
    pthread_mutex_unlock(&offload->mutex);
    pthread_cond_broadcast(&offload->changed);
}

/* The threads are gone, or touch nothing any more: the queue is this one's alone. */
static void send_back(struct offload *offload)
{
    for (struct mail *mail = offload->first, *next; mail; mail = next) {
        next = mail->next;
        struct offload_job *job = job_of(mail);
        job->cancelled = true;
        loop_post(job->home, mail);
    }
    offload->first = NULL;
}

void offload_free(struct offload *offload)
{
    if (!offload)
        return;
    stop(offload);
    for (unsigned i = 0; i < offload->thread_count; i++)
        pthread_join(offload->helpers[i].thread, NULL);
    send_back(offload);
    pthread_cond_destroy(&offload->changed);
    pthread_mutex_destroy(&offload->mutex);
    free(offload);
}

/* True: it has ended by then. */
static bool join_until(struct helper *helper, const struct timespec *deadline)
{
    int expected = DOING_WORK;
    if (pthread_timedjoin_np(helper->thread, NULL, deadline) == 0)
        return true;
    if (atomic_compare_exchange_strong(&helper->doing, &expected, DOING_ABANDONED))
        return false;
    /* its work is done, and it is on its way out */
    pthread_join(helper->thread, NULL);
    return true;
}

bool offload_abandon(struct offload *offload, unsigned wait_ms)
{
    struct timespec deadline;
    unsigned left = 0;
    if (!offload)
        return true;
    stop(offload);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += wait_ms / 1000;
    deadline.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    deadline.tv_sec += deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    for (unsigned i = 0; i < offload->thread_count; i++)
        left += !join_until(&offload->helpers[i], &deadline);
    send_back(offload);
    if (left > 0)
        return false; /* they still hold it; the process is about to end */
    pthread_cond_destroy(&offload->changed);
    pthread_mutex_destroy(&offload->mutex);
    free(offload);
    return true;
}

bool offload_submit(struct offload *offload, struct loop *home, struct offload_job *job)
{
    job->mail = (struct mail){.deliver = deliver, .drop = drop};
    job->home = home;
    job->cancelled = false;

    pthread_mutex_lock(&offload->mutex);
    bool taken = !offload->stopping && offload->waiting < offload->bound;
    if (taken) {
        *offload->last = &job->mail;
        offload->last = &job->mail.next;
        offload->waiting++;
    }
    pthread_mutex_unlock(&offload->mutex);
    if (taken)
        pthread_cond_signal(&offload->changed);
    return taken;
}
