/*
 * watch.c: histograms, figures of users and hosts, the slow-query log.
 *
 *   level          standard     enhanced                    comprehensive
 *   counted        histograms   + users, slow queries       + hosts
 *
 * Everything has one writer, the worker, and is read with relaxed atomics. Figures stand in a table
 * of the worker for as long as it runs; a client and a server remember theirs, so that a query
 * costs no look-up. A statement's head is copied only from enhanced on, and at most 1 kB of it.
 */
#include "pgstage/session/watch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/session/client.h"
#include "pgstage/session/exchange.h"
#include "pgstage/session/server.h"
#include "pgstage/wire/mask.h"

/* Names come from people that have logged in, but databases made from `*` bring any number of
 * environments' users: beyond this they share one row. */
#define FIGURES_MAX 10000
#define OTHERS "(others)"

/* ---- histograms ---- */

unsigned histogram_bucket(uint64_t us)
{
    unsigned power, bucket;

    if (us < 4)
        return (unsigned)us;
    power = 63 - (unsigned)__builtin_clzll(us);
    bucket = 4 * (power - 1) + (unsigned)(us >> (power - 2) & 3);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_bound_us(unsigned bucket)
{
    if (bucket < 4)
        return bucket;
    if (bucket >= HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;
    return ((uint64_t)(4 + bucket % 4 + 1) << (bucket / 4 - 1)) - 1;
}

static void count_time(struct watch *watch, enum watch_kind kind, uint64_t us)
{
    counter_add(&watch->histograms[kind].buckets[histogram_bucket(us)], 1);
}

void watch_refresh(struct share *share)
{
    int level = share_settings(share)->monitoring;
    struct watch *watch = atomic_load_explicit(&share->kept_watch, memory_order_relaxed);

    if (level == MONITORING_BASIC) {
        share->watch = NULL; /* what was counted stays to be read */
        return;
    }
    if (!watch) {
        watch = memory_new(sizeof(*watch));
        atomic_store_explicit(&share->kept_watch, watch, memory_order_release);
    }
    watch->level = level;
    share->watch = watch;
}

/* ---- figures ---- */

static struct figures *figures_find(struct worker *worker, enum figure_kind kind, const char *name,
                                    const char *environment)
{
    struct figures *figures;
    char *key = text_print("%s@%s", name, environment ? environment : "");

    HASH_FIND_STR(worker->figures[kind], key, figures);
    if (!figures && HASH_COUNT(worker->figures[kind]) >= FIGURES_MAX && strcmp(name, OTHERS) != 0) {
        free(key);
        return figures_find(worker, kind, OTHERS, NULL);
    }
    if (figures) {
        free(key);
        return figures;
    }
    figures = memory_new(sizeof(*figures));
    figures->worker = worker->index;
    figures->key = key;
    figures->name = text_copy(name);
    figures->environment = text_copy(environment);
    HASH_ADD_KEYPTR(hh, worker->figures[kind], figures->key, strlen(figures->key), figures);
    return figures;
}

static struct figures *figures_of_client(struct client *client)
{
    if (!client->figures)
        client->figures = figures_find(client->worker, FIGURES_OF_USERS, client->user,
                                       pool_environment(client->share->backend->pool));
    return client->figures;
}

static struct figures *figures_of_server(struct server *server)
{
    char name[320];

    if (!server->figures || server->figures->worker != server->worker->index) {
        snprintf(name, sizeof(name), "%s:%u", host_name(server->host),
                 (unsigned)host_port(server->host));
        server->figures = figures_find(server->worker, FIGURES_OF_HOSTS, name,
                                       pool_environment(server->backend->pool));
    }
    return server->figures;
}

void watch_forget(struct worker *worker)
{
    for (int kind = 0; kind < FIGURE_KINDS; kind++) {
        struct figures *figures, *next;

        HASH_ITER (hh, worker->figures[kind], figures, next) {
            HASH_DEL(worker->figures[kind], figures);
            free(figures->key);
            free(figures->name);
            free(figures->environment);
            free(figures);
        }
    }
}

static void count_end(struct figures *figures, uint64_t query_us, uint64_t transaction_us,
                      bool is_over, bool is_slow)
{
    counter_add(&figures->of[FIGURE_query_count], 1);
    counter_add(&figures->of[FIGURE_query_time], query_us);
    if (is_over) {
        counter_add(&figures->of[FIGURE_xact_count], 1);
        counter_add(&figures->of[FIGURE_xact_time], transaction_us);
    }
    if (is_slow)
        counter_add(&figures->of[FIGURE_slow_count], 1);
}

static void count_wait(struct figures *figures, uint64_t wait_us)
{
    counter_add(&figures->of[FIGURE_wait_count], 1);
    counter_add(&figures->of[FIGURE_wait_time], wait_us);
}

/* ---- slow queries ---- */

void watch_began(struct client *client)
{
    struct statement_head *head = client->exchange->statement;

    if (head)
        head->bytes = head->total_bytes = 0;
}

void watch_statement(struct client *client, uint8_t type, const uint8_t *body, size_t there,
                     size_t total)
{
    const struct watch *watch = client->share->watch;
    struct exchange *exchange = client->exchange;
    const uint8_t *text = body;
    struct statement_head *head;

    if (watch->level < MONITORING_ENHANCED || (exchange->statement && exchange->statement->bytes))
        return;
    if (type == 'F') {
        text = (const uint8_t *)"(function call)";
        there = total = strlen((const char *)text);
    } else if (type == 'P') {
        /* name, then the text */
        text = memchr(body, '\0', there);
        if (!text)
            return;
        text++;
        there -= (size_t)(text - body);
        total -= (size_t)(text - body);
    }
    if (!exchange->statement) {
        exchange->statement = slab_take(&client->worker->statement_heads);
        exchange->marked = true;
    }
    head = exchange->statement;
    head->bytes =
        strnlen((const char *)text, there < STATEMENT_MAX_BYTES ? there : STATEMENT_MAX_BYTES);
    head->total_bytes =
        head->bytes < STATEMENT_MAX_BYTES && head->bytes < there ? head->bytes : total;
    memcpy(head->text, text, head->bytes);
}

/* Wanted this time, at `percent` of all? Spread by the time and the client. */
static bool is_sampled(const struct client *client, int64_t percent)
{
    uint64_t seed[2] = {loop_now_us(client->worker->loop), client->id};

    return percent >= 100 || (int64_t)(map_hash(seed, sizeof(seed)) % 100) < percent;
}

static void log_slow(const struct client *client, uint64_t query_us)
{
    const struct settings *settings = share_settings(client->share);
    const struct statement_head *head = client->exchange->statement;
    const char *environment = pool_environment(client->share->backend->pool);
    bool cut = head && head->total_bytes > head->bytes;
    struct buffer text = {0};

    if (!is_sampled(client, settings->slow_query_sample))
        return;
    if (settings->slow_query_text == QUERY_TEXT_NONE)
        buffer_print(&text, "(not logged)");
    else if (!head || !head->bytes)
        buffer_print(&text, "(prepared)");
    else if (settings->slow_query_text == QUERY_TEXT_FULL || head->text[0] == '(')
        buffer_put(&text, head->text, head->bytes);
    else if (!mask_literals(head->text, head->bytes, cut, &text))
        buffer_print(&text, "(not logged: its literals cannot be told apart)");
    client_log(client, RANK_LOG,
               "slow query: duration=%" PRIu64 ".%03u ms waited=%" PRIu64
               ".%03u ms environment=%s text: %.*s%s",
               query_us / 1000, (unsigned)(query_us % 1000), client->exchange->waited_us / 1000,
               (unsigned)(client->exchange->waited_us % 1000), environment ? environment : "-",
               (int)text.length, (const char *)text.data, cut ? "..." : "");
    buffer_fini(&text);
}

/* ---- what the relay and the servers tell ---- */

void watch_waited(struct client *client, struct server *server, uint64_t wait_us)
{
    struct watch *watch = client->share->watch;

    client->exchange->waited_us = wait_us;
    count_time(watch, WATCH_wait, wait_us);
    if (watch->level >= MONITORING_ENHANCED && wait_us)
        count_wait(figures_of_client(client), wait_us);
    if (watch->level >= MONITORING_COMPREHENSIVE && wait_us)
        count_wait(figures_of_server(server), wait_us);
}

void watch_ended(struct client *client, struct server *server, uint64_t query_us,
                 uint64_t transaction_us, bool is_over)
{
    struct watch *watch = client->share->watch;
    uint64_t threshold_us = share_settings(client->share)->slow_query_threshold_us;
    bool is_slow = threshold_us && query_us >= threshold_us;

    count_time(watch, WATCH_query, query_us);
    if (is_over)
        count_time(watch, WATCH_transaction, transaction_us);
    if (watch->level >= MONITORING_ENHANCED) {
        count_end(figures_of_client(client), query_us, transaction_us, is_over, is_slow);
        if (is_slow)
            log_slow(client, query_us);
    }
    if (watch->level >= MONITORING_COMPREHENSIVE)
        count_end(figures_of_server(server), query_us, transaction_us, is_over, is_slow);
    client->exchange->waited_us = 0; /* it counts for the first query behind it */
}

/* ---- views ---- */

void plane_each_bucket(struct plane *plane, struct pool *pool,
                       void (*row)(void *argument, enum watch_kind kind, uint64_t bound_us,
                                   uint64_t count),
                       void *argument)
{
    struct backend *backend = backend_of(pool);

    for (int kind = 0; kind < WATCH_KINDS; kind++)
        for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
            uint64_t count = 0;

            for (unsigned i = 0; i < plane->worker_count; i++) {
                const struct watch *watch =
                    atomic_load_explicit(&backend->shares[i].kept_watch, memory_order_acquire);

                if (watch)
                    count += counter_read(&watch->histograms[kind].buckets[bucket]);
            }
            if (count)
                row(argument, (enum watch_kind)kind, histogram_bound_us(bucket), count);
        }
}

void worker_each_figures(struct loop *loop, enum figure_kind kind,
                         void (*row)(void *argument, const struct figures_view *), void *argument)
{
    struct worker *worker = worker_of(loop);
    struct figures *figures, *next;

    HASH_ITER (hh, worker->figures[kind], figures, next) {
        struct figures_view view = {.name = figures->name, .environment = figures->environment};

        for (int i = 0; i < FIGURE_COUNT; i++)
            view.of[i] = counter_read(&figures->of[i]);
        row(argument, &view);
    }
}

void plane_each_security(struct plane *plane,
                         void (*row)(void *argument, const char *name, uint64_t value,
                                     const char *help),
                         void *argument)
{
    static const char *const names[][2] = {
#define SECURITY(name, help) {#name, help},
#include "pgstage/tables/security.def"
#undef SECURITY
    };
    uint64_t value;

    for (int i = 0; i < SECURITY_COUNT; i++) {
        value = 0;
        for (unsigned k = 0; k < plane->worker_count; k++)
            value += counter_read(&plane->workers[k].security[i]);
        row(argument, names[i][0], value, names[i][1]);
    }
    for (int i = 0; i < REASON_COUNT; i++) {
        value = 0;
        for (unsigned k = 0; k < plane->worker_count; k++)
            value += counter_read(&plane->workers[k].refused[i]);
        if (value)
            row(argument, "logins_refused_for", value, reason_text((enum reason)i));
    }
}
