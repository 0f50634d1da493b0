/* offload: work elsewhere, done at home, no more waiting than agreed. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "pgstage/worker/offload.h"

TestSuite(offload, .timeout = 300);

struct errand {
    struct offload_job job;
    pthread_t worked_on, done_on;
    char thread_name[16];
    unsigned worked, done;
    bool cancelled;
};

static sem_t started, go;
static unsigned done_count, done_wanted;

static struct errand *errand_of(struct offload_job *job)
{
    return list_entry(job, struct errand, job);
}

static void work(struct offload_job *job)
{
    struct errand *errand = errand_of(job);
    errand->worked++;
    errand->worked_on = pthread_self();
    pthread_getname_np(pthread_self(), errand->thread_name, sizeof errand->thread_name);
}

static void work_until_told(struct offload_job *job)
{
    work(job);
    sem_post(&started);
    sem_wait(&go);
}

static void done(struct loop *loop, struct offload_job *job)
{
    struct errand *errand = errand_of(job);
    errand->done++;
    errand->done_on = pthread_self();
    errand->cancelled = job->cancelled;
    if (++done_count == done_wanted)
        loop_stop(loop);
}

static struct loop *loop;

static void set_up(void)
{
    loop = loop_new(0, NULL);
    cr_assert_not_null(loop);
    sem_init(&started, 0, 0);
    sem_init(&go, 0, 0);
}

/* A pool of one thread that is busy with `busy`. */
static struct offload *occupied(struct errand *busy, unsigned bound)
{
    struct offload *offload = offload_new("busy", 1, bound);
    cr_assert_not_null(offload);
    *busy = (struct errand){.job = {.work = work_until_told, .done = done}};
    cr_assert(offload_submit(offload, loop, &busy->job));
    sem_wait(&started);
    return offload;
}

Test(offload, works_elsewhere_and_is_done_at_home, .init = set_up)
{
    struct offload *offload = offload_new("resolver", 2, 10);
    struct errand errand = {.job = {.work = work, .done = done}};
    done_wanted = 1;
    cr_assert(offload_submit(offload, loop, &errand.job));
    loop_run(loop);
    cr_assert_eq(errand.worked, 1);
    cr_assert_eq(errand.done, 1);
    cr_assert_not(errand.cancelled);
    cr_assert_not(pthread_equal(errand.worked_on, pthread_self()));
    cr_assert(pthread_equal(errand.done_on, pthread_self()));
    offload_free(offload);
    loop_free(loop);
}

Test(offload, refuses_what_is_over_the_bound, .init = set_up)
{
    struct errand busy, waiting[3];
    struct offload *offload = occupied(&busy, 2);
    for (int i = 0; i < 3; i++)
        waiting[i] = (struct errand){.job = {.work = work, .done = done}};
    cr_assert(offload_submit(offload, loop, &waiting[0].job));
    cr_assert(offload_submit(offload, loop, &waiting[1].job));
    cr_assert_not(offload_submit(offload, loop, &waiting[2].job));

    done_wanted = 3;
    sem_post(&go);
    loop_run(loop);
    cr_assert_eq(waiting[0].done, 1);
    cr_assert_eq(waiting[1].done, 1);
    cr_assert_eq(waiting[2].done + waiting[2].worked, 0);

    /* There is room again. */
    done_wanted = 4;
    cr_assert(offload_submit(offload, loop, &waiting[2].job));
    loop_run(loop);
    cr_assert_eq(waiting[2].done, 1);
    offload_free(offload);
    loop_free(loop);
}

Test(offload, sends_home_every_job_once_when_it_is_freed, .init = set_up)
{
    static struct errand waiting[200];
    struct errand busy;
    struct offload *offload = occupied(&busy, 200);
    for (int i = 0; i < 200; i++) {
        waiting[i] = (struct errand){.job = {.work = work, .done = done}};
        cr_assert(offload_submit(offload, loop, &waiting[i].job));
    }
    sem_post(&go);
    offload_free(offload);
    done_wanted = 201;
    loop_run(loop);
    cr_assert_eq(busy.done, 1);
    cr_assert_not(busy.cancelled);
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(waiting[i].done, 1);
        cr_assert_eq(waiting[i].worked, waiting[i].cancelled ? 0 : 1);
    }
    loop_free(loop);
}

Test(offload, ends_a_job_whose_loop_is_freed_before_it_came_home, .init = set_up)
{
    struct errand busy;
    struct offload *offload = occupied(&busy, 2);
    sem_post(&go);
    offload_free(offload);
    loop_free(loop);
    cr_assert_eq(busy.done, 1);
    cr_assert(busy.cancelled);
}

static int count_threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    while (tasks && readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

Test(offload, abandons_a_job_that_does_not_end, .init = set_up)
{
    static struct errand busy, waiting;
    static struct offload *offload; /* it is lost, as it is with the process: not forgotten */
    int before = count_threads();

    offload = occupied(&busy, 2);
    waiting = (struct errand){.job = {.work = work, .done = done}};
    cr_assert(offload_submit(offload, loop, &waiting.job));
    cr_assert_not(offload_abandon(offload, 50));
    done_wanted = 1;
    loop_run(loop);
    cr_assert_eq(waiting.done, 1);
    cr_assert(waiting.cancelled);
    loop_free(loop);
    /* it ends when nobody waits for it any more, and tells nobody */
    sem_post(&go);
    for (int i = 0; i < 10000 && count_threads() > before; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    cr_assert_eq(count_threads(), before);
    cr_assert_eq(busy.done, 0);
}

Test(offload, abandoning_lets_jobs_end_that_do, .init = set_up)
{
    struct errand busy;
    struct offload *offload = occupied(&busy, 2);
    sem_post(&go);
    cr_assert(offload_abandon(offload, 60000));
    done_wanted = 1;
    loop_run(loop);
    cr_assert_eq(busy.done, 1);
    cr_assert_not(busy.cancelled);
    loop_free(loop);
}

Test(offload, names_its_threads, .init = set_up)
{
    struct offload *offload = offload_new("a-name-that-is-too-long", 1, 1);
    struct errand named = {.job = {.work = work, .done = done}};
    done_wanted = 1;
    cr_assert(offload_submit(offload, loop, &named.job));
    loop_run(loop);
    cr_assert_str_eq(named.thread_name, "a-name-that-0");
    offload_free(offload);
    loop_free(loop);
}

Test(offload, has_no_threads_to_start_from_nothing)
{
    cr_assert_null(offload_new("none", 0, 1));
}
