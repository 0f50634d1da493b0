/*
 * ThreadSanitizer over the worker room: letters that wander between four loops, gathers and
 * offloaded jobs at the same time. A plain program (Criterion does not start under
 * ThreadSanitizer): exit status 0 when every letter, gather and job was accounted for; the
 * sanitizer reports the rest.
 *
 *     main = loop 0 (gathers, counts) ── mail ── loops 1..3 on threads of their own ── mail ──
 * helpers
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgstage/base/log.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/worker/gather.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/offload.h"
#include "pgstage/worker/timer.h"

#define LOOPS 4
#define WANDERERS 200 /* on each loop at the start */
#define HOPS 2000     /* of each wanderer */
#define JOBS 500      /* offered by each loop */
#define GATHERS 200
#define TIME_LIMIT_SECONDS 300

/* What belongs to one loop's thread; main reads it through gather, and after the join. */
struct worker {
    struct loop *loop;
    pthread_t thread;
    unsigned long letters, jobs_done, jobs_refused, ticks;
    struct timer tick;
    struct loop_task task;
};

static struct worker workers[LOOPS];
static struct loop *loops[LOOPS];
static struct offload *offload;

/* Home's. */
static struct {
    unsigned gathers;
    unsigned long letters[LOOPS], jobs[LOOPS]; /* a slot for each loop, as gather promises */
} seen;

struct wanderer {
    struct mail mail;
    unsigned hops, random;
};

struct errand {
    struct offload_job job;
    unsigned long input, output;
};

static void wander(struct loop *loop, struct mail *mail)
{
    struct wanderer *wanderer = list_entry(mail, struct wanderer, mail);
    struct worker *worker = loop_context(loop);
    worker->letters++;
    loop_defer(loop, &worker->task);
    if (--wanderer->hops == 0) {
        loop_release(loop, wanderer, free);
        return;
    }
    wanderer->random = wanderer->random * 1103515245u + 12345u;
    loop_post(loops[wanderer->random >> 16 & (LOOPS - 1)], mail);
}

static void work(struct offload_job *job)
{
    struct errand *errand = list_entry(job, struct errand, job);
    errand->output = map_hash(&errand->input, sizeof errand->input);
    log_debug("dropped by its rank, but the settings are read");
}

static void job_done(struct loop *loop, struct offload_job *job)
{
    struct errand *errand = list_entry(job, struct errand, job);
    struct worker *worker = loop_context(loop);
    if (job->cancelled || errand->output != map_hash(&errand->input, sizeof errand->input))
        abort();
    worker->jobs_done++;
    free(errand);
}

static void offer_jobs(struct worker *worker)
{
    for (unsigned i = 0; i < JOBS; i++) {
        struct errand *errand = memory_new(sizeof *errand);
        errand->job.work = work;
        errand->job.done = job_done;
        errand->input = i;
        if (!offload_submit(offload, worker->loop, &errand->job)) {
            worker->jobs_refused++;
            free(errand);
        }
    }
}

static void on_tick(struct loop *loop, struct timer *timer)
{
    struct worker *worker = loop_context(loop);
    worker->ticks++;
    timer_set(loop, timer, loop_now_us(loop) + 1000);
}

static void on_task(struct loop_task *task)
{
    struct worker *worker = list_entry(task, struct worker, task);
    timer_set(worker->loop, &worker->tick, loop_now_us(worker->loop) + 2000);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    worker->tick.fire = on_tick;
    worker->task.run = on_task;
    timer_set(worker->loop, &worker->tick, loop_now_us(worker->loop) + 1000);
    for (unsigned i = 0; i < WANDERERS; i++) {
        struct wanderer *wanderer = memory_new(sizeof *wanderer);
        wanderer->mail.deliver = wander;
        wanderer->hops = HOPS;
        wanderer->random = i * LOOPS + loop_index(worker->loop);
        loop_post(loops[i % LOOPS], &wanderer->mail);
    }
    offer_jobs(worker);
    loop_run(worker->loop);
    timer_detach(worker->loop, &worker->tick);
    return NULL;
}

static void ask(struct loop *loop, unsigned slot, void *argument)
{
    struct worker *worker = loop_context(loop);
    (void)argument;
    seen.letters[slot] = worker->letters;
    seen.jobs[slot] = worker->jobs_done + worker->jobs_refused;
}

/* Asks again until enough gathers are through and everything has been counted. */
static void answered(struct loop *home, void *argument)
{
    unsigned long letters = 0, jobs = 0;
    for (unsigned i = 0; i < LOOPS; i++) {
        letters += seen.letters[i];
        jobs += seen.jobs[i];
    }
    seen.gathers++;
    if (seen.gathers < GATHERS || letters < (unsigned long)LOOPS * WANDERERS * HOPS ||
        jobs < LOOPS * JOBS) {
        gather_start(home, loops, LOOPS, ask, answered, argument);
        return;
    }
    for (unsigned i = 0; i < LOOPS; i++)
        loop_stop(loops[i]);
}

int main(void)
{
    alarm(TIME_LIMIT_SECONDS);
    struct log_settings quiet = {.file = "/dev/null", .minimum = RANK_INFO};
    offload = offload_new("tsan", 2, 1024);
    if (!log_open(&quiet) || !offload)
        return 1;
    for (unsigned i = 0; i < LOOPS; i++) {
        loops[i] = workers[i].loop = loop_new(i, &workers[i]);
        if (!loops[i])
            return 1;
    }
    for (unsigned i = 1; i < LOOPS; i++)
        pthread_create(&workers[i].thread, NULL, run, &workers[i]);
    gather_start(loops[0], loops, LOOPS, ask, answered, NULL);
    run(&workers[0]);
    for (unsigned i = 1; i < LOOPS; i++)
        pthread_join(workers[i].thread, NULL);
    offload_free(offload);

    unsigned long letters = 0, jobs = 0, refused = 0, ticks = 0;
    for (unsigned i = 0; i < LOOPS; i++) {
        letters += workers[i].letters;
        jobs += workers[i].jobs_done;
        refused += workers[i].jobs_refused;
        ticks += workers[i].ticks;
        loop_free(loops[i]);
    }
    printf("%lu letters, %lu jobs done, %lu refused, %u gathers, %lu ticks\n", letters, jobs,
           refused, seen.gathers, ticks);
    return letters == (unsigned long)LOOPS * WANDERERS * HOPS && jobs + refused == LOOPS * JOBS &&
                   jobs > 0
               ? 0
               : 1;
}
