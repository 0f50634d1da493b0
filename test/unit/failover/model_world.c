/* See model_world.h. */
#include "model_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/store.h"

#define NOTES 60
/* How long a change may wait for the disk. */
#define PATIENCE_US (2 * CLOCK_SECOND)

struct model_world world;
const char *const model_labels[MODEL_HOSTS] = {"a:1", "b:2", "c:3", "d:4"};
static const char *const names[MODEL_HOSTS] = {"a", "b", "c", "d"};
static char notes[NOTES][96];
static size_t note_count;

unsigned dice(unsigned sides)
{
    world.state = world.state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(world.state >> 33) % sides;
}

/* ---- what a failure says ---- */

void model_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(notes[note_count++ % NOTES], sizeof notes[0], format, arguments);
    va_end(arguments);
}

static void print_notes(void)
{
    size_t first = note_count > NOTES ? note_count - NOTES : 0;
    fprintf(stderr, "seed %llu, the latest of %zu events:", (unsigned long long)world.seed,
            note_count);
    for (size_t i = first; i < note_count; i++)
        fprintf(stderr, " %s;", notes[i % NOTES]);
    fprintf(stderr, "\n");
}

_Noreturn void model_fail(const char *what)
{
    print_notes();
    fprintf(stderr, "PGSTAGE_MODEL_SEED=%llu: this does not hold: %s\n",
            (unsigned long long)world.seed, what);
    abort(); /* nothing is cleaned up: what leaks by that would only confuse */
}

/* AddressSanitizer calls it before it says what it has found. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    print_notes();
}

/* ---- the clock ---- */

uint64_t clock_now_us(void)
{
    return world.now_us;
}

uint64_t clock_wall_us(void)
{
    return world.wall_us;
}

/* ---- the disk ---- */

struct waiter {
    struct waiter *next;
    void (*done)(void *context, const char *problem);
    void *context;
};

struct writing {
    char *text;
    uint64_t number;
    struct waiter *first;
};

struct store {
    struct writing *current, *next;
};

static struct store *disk;

struct store *store_open(struct loop *loop, const char *folder, char *problem, size_t size)
{
    (void)loop;
    (void)folder;
    (void)problem;
    (void)size;
    promise(!disk);
    return disk = memory_new(sizeof *disk);
}

enum store_found store_load(struct store *store, json_t **content, char *problem, size_t size)
{
    json_error_t error;
    (void)store;
    (void)problem;
    (void)size;
    if (!world.durable)
        return STORE_MISSING;
    *content = json_loads(world.durable, 0, &error);
    return *content ? STORE_READ : STORE_DAMAGED;
}

bool store_put_aside(struct store *store)
{
    (void)store;
    model_fail("a state file of our own is not understood");
}

void store_write(struct store *store, json_t *content,
                 void (*done)(void *context, const char *problem), void *context)
{
    if (!store->next)
        store->next = memory_new(sizeof *store->next);
    struct writing *writing = store->next;
    struct waiter **last = &writing->first;
    free(writing->text);
    writing->text = json_dumps(content, JSON_COMPACT);
    writing->number = ++world.asked;
    json_decref(content);
    while (*last)
        last = &(*last)->next;
    *last = memory_new(sizeof **last);
    **last = (struct waiter){.done = done, .context = context};
    if (!store->current) {
        store->current = store->next;
        store->next = NULL;
    }
}

static void reach(const struct writing *writing)
{
    if (world.is_dead)
        return;
    free(world.durable);
    world.durable = text_copy(writing->text);
}

static void writing_end(struct writing *writing, const char *problem, bool tells)
{
    for (struct waiter *waiter = writing->first, *next; waiter; waiter = next) {
        next = waiter->next;
        if (tells && waiter->done)
            waiter->done(waiter->context, problem);
        free(waiter);
    }
    free(writing->text);
    free(writing);
}

void store_close(struct store *store)
{
    struct writing *writings[] = {store ? store->current : NULL, store ? store->next : NULL};
    for (size_t i = 0; i < 2; i++) {
        if (!writings[i])
            continue;
        reach(writings[i]);
        writing_end(writings[i], "", false);
    }
    free(store);
    disk = NULL;
}

bool disk_is_busy(void)
{
    return disk && disk->current;
}

void disk_answers(bool well)
{
    struct writing *writing = disk->current;
    disk->current = disk->next;
    disk->next = NULL;
    if (well)
        reach(writing);
    world.answered = writing->number;
    writing_end(writing, well ? "" : "the disk is full", true);
}

/* ---- the plane ---- */

size_t model_host_find(const char *label)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (strcmp(model_labels[i], label) == 0)
            return i;
    }
    model_fail("there is no such host");
}

static void on_hold(void *context, const char *environment)
{
    (void)context;
    promise(strcmp(environment, "e") == 0);
    promise(!world.is_held);
    world.is_held = true;
}

static void on_release(void *context, const char *environment)
{
    (void)context;
    (void)environment;
    promise(world.is_held);
    world.is_held = false;
}

static void on_counts(void *context, const char *environment, struct failover_counts *counts)
{
    (void)context;
    (void)environment;
    *counts = (struct failover_counts){1, 0};
}

void world_close_host(const char *host, void (*done)(void *argument), void *argument)
{
    promise(world.closing_count < MODEL_CLOSINGS);
    world.closings[world.closing_count++] =
        (struct model_closing){model_host_find(host), ++world.moment, done, argument};
}

static void on_close_host(void *context, const char *environment, const char *host,
                          const char *detail, void (*done)(void *argument), void *argument)
{
    (void)context;
    (void)environment;
    promise(detail && *detail);
    world_close_host(host, done, argument);
}

void world_closed(size_t index)
{
    struct model_closing closing = world.closings[index];
    struct model_host *host = &world.hosts[closing.host];
    world.closings[index] = world.closings[--world.closing_count];
    if (host->standing.write == ALLOW_NO && host->last_open_at < closing.moment)
        host->may_write = false;
    closing.done(closing.argument);
}

void world_close_others(size_t host)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (i != host && world.hosts[i].standing.write == ALLOW_NO)
            world.hosts[i].may_write = false;
    }
}

bool world_others_may_write(size_t host)
{
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        if (i != host && world.hosts[i].may_write)
            return true;
    }
    return false;
}

/* The disk knows of it, or has refused, or had its time. */
static bool is_written_down(void)
{
    return !disk || world.answered >= world.accept_asked ||
           loop_now_us(world.loop) >= world.accepted_us + PATIENCE_US;
}

/* From now on `host` is written to. */
static void check_writer(size_t host)
{
    const struct situation *situation = failover_situation(world.failover, "e");
    /* NULL: the configuration has just lost it, and a procedure has not heard of that */
    promise(situation || world.is_claimed);
    promise(!situation || text_equal(situation->accepted, model_labels[host]));
    promise(!situation || !situation_fence(situation, model_labels[host]));
    promise(!world_others_may_write(host));
    for (size_t i = 0; i < MODEL_HOSTS; i++)
        promise(i == host || !world.hosts[i].is_told || world.hosts[i].standing.write == ALLOW_NO);
    if (world.writer != host)
        promise(world.is_claimed || is_written_down());
    world.writer = host;
}

static void on_standing(void *context, const char *environment, const char *label,
                        const struct standing *standing)
{
    size_t index = model_host_find(label);
    struct model_host *host = &world.hosts[index];
    (void)context;
    promise(strcmp(environment, "e") == 0);
    if (standing->write != ALLOW_NO || host->standing.write != ALLOW_NO)
        host->last_open_at = ++world.moment;
    host->standing = *standing;
    host->is_told = true;
    if (standing->write != ALLOW_NO)
        host->may_write = true;
    if (standing->write == ALLOW_YES)
        check_writer(index);
}

/* As reports are: they stay where they are. */
static struct host_report shown[MODEL_HOSTS];

void world_each_host(const char *environment,
                     void (*each)(void *argument, const struct host_report *report), void *argument)
{
    for (size_t i = 0; strcmp(environment, "e") == 0 && i < world.configured; i++) {
        struct host_report *report = &shown[i];
        *report = world.hosts[i].report;
        bool is_asked = report->login != PROBE_LOGIN_NONE && !world.is_unprobed;
        if (!is_asked && !report->hearsay)
            report->role = ROLE_UNKNOWN; /* the monitor forgets what nobody looks at */
        if (world.hosts[i].is_there)
            each(argument, report);
    }
}

static void on_each_host(void *context, const char *environment,
                         void (*each)(void *argument, const struct host_report *report),
                         void *argument)
{
    (void)context;
    world_each_host(environment, each, argument);
}

static void on_record(void *context, const struct failover_record *record)
{
    (void)context;
    if (strcmp(record->what, "accept") == 0) {
        const struct situation *situation = failover_situation(world.failover, "e");
        size_t host = model_host_find(record->host);
        if (world.accepted != MODEL_HOSTS && world.accepted != host && !world.is_claimed)
            promise(situation_fence(situation, model_labels[world.accepted]));
        world.accepted = host;
        world.accept_asked = world.asked + 1;
        world.accepted_us = loop_now_us(world.loop);
    } else if (strcmp(record->what, "begin") == 0) {
        world.begun++;
        promise(world.begun == world.ended + 1);
    } else if (strcmp(record->what, "end") == 0) {
        promise(record->episode->result != EPISODE_RUNNING);
        promise(world.ended < sizeof world.ended_ids / sizeof world.ended_ids[0]);
        world.ended_ids[world.ended++] = record->episode->id;
    }
}

const struct failover_world model_failover_world = {
    .hold = on_hold,
    .release = on_release,
    .counts = on_counts,
    .close_host = on_close_host,
    .set_standing = on_standing,
    .each_host = on_each_host,
    .record = on_record,
};

/* ---- the beginning and the end ---- */

void world_restart(void)
{
    world.is_held = world.is_claimed = world.is_dead = false;
    world.closing_count = 0;
    world.writer = world.accepted = MODEL_HOSTS;
    world.asked = world.answered = world.accept_asked = 0;
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        world.hosts[i].standing = (struct standing){0};
        world.hosts[i].may_write = world.hosts[i].is_told = false;
    }
}

void world_init(uint64_t seed)
{
    free(world.durable);
    world = (struct model_world){.seed = seed, .state = seed};
    note_count = 0;
    world.now_us = 1000 * CLOCK_SECOND;
    world.wall_us = UINT64_C(1700000000) * CLOCK_SECOND;
    for (size_t i = 0; i < MODEL_HOSTS; i++) {
        world.hosts[i].is_there = true;
        world.hosts[i].report = (struct host_report){
            .environment = "e",
            .label = model_labels[i],
            .name = names[i],
            .address = "10.0.0.1",
            .port = (uint16_t)(i + 1),
            .is_dr = i == MODEL_HOSTS - 1,
            .login = PROBE_LOGIN_MONITOR,
            .system_identifier = 42,
            .timeline = 1,
            .started_wall_us = 1000 + i,
            .lag_bytes = -1,
            .upstream = "",
            .replica_name = "",
            .sync_names = "",
            .error_text = "",
        };
    }
    world_restart();
}

void world_fini(void)
{
    free(world.durable);
    world.durable = NULL;
}
