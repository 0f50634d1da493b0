/*
 * resolver: a cache of names in front of getaddrinfo.
 *
 *   resolver_ask ─ fresh in the cache ─► answered at once
 *        └─ else a waiter joins its name; the first one submits the look-up
 *   helper: getaddrinfo ─► cache ─► each waiter is mailed to its loop ─► answered
 *
 * A waiter is a letter and belongs to its loop's mailbox once the look-up is over. Its `query` is
 * read and written on the loop of the asker only, so cancelling needs no more than to find the
 * waiter by its ticket and clear that pointer, whatever the letter is doing meanwhile.
 *
 * The mutex guards the cache and the lists and is held for a few copies at most. The resolver goes
 * when the last letter is delivered or dropped, which may be after resolver_free.
 */
#include "pgstage/net/resolver.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/list.h"
#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/worker/offload.h"

#define RESOLVER_THREADS 2
#define RESOLVER_LOOKUPS_MAX 256

struct name {
    UT_hash_handle by_text;
    struct list waiters;
    bool looking;                  /* a look-up is queued or running */
    uint64_t expires_us;           /* 0: never looked up */
    struct resolver_answer answer; /* the last good one, else the failure */
    char text[];
};

struct waiter {
    struct mail mail;
    struct list_node node; /* in name->waiters until the look-up is over */
    UT_hash_handle by_ticket;
    struct resolver *resolver;
    struct loop *loop;
    struct resolver_query *query; /* its loop's thread only; NULL: cancelled */
    uint64_t ticket;
    uint16_t port;
    struct resolver_answer answer;
};

struct lookup {
    struct offload_job job;
    struct resolver *resolver;
    struct resolver_answer answer;
    char text[];
};

struct resolver {
    /* fixed */
    struct offload *offload;

    /* shared: mutex */
    pthread_mutex_t mutex;
    uint64_t ttl_us, failure_ttl_us;
    uint64_t last_ticket;
    unsigned references; /* the owner's and one for each waiter */
    size_t pending;
    struct name *names;
    struct waiter *waiters;
};

struct resolver *resolver_new(uint64_t ttl_us, uint64_t failure_ttl_us)
{
    struct resolver *resolver = memory_new(sizeof *resolver);
    resolver->ttl_us = ttl_us;
    resolver->failure_ttl_us = failure_ttl_us;
    resolver->references = 1;
    resolver->offload = offload_new("resolver", RESOLVER_THREADS, RESOLVER_LOOKUPS_MAX);
    if (!resolver->offload) {
        free(resolver);
        return NULL;
    }
    pthread_mutex_init(&resolver->mutex, NULL);
    return resolver;
}

/* Called with the mutex, which it releases. */
static void unlock_and_unref(struct resolver *resolver)
{
    unsigned left = --resolver->references;
    pthread_mutex_unlock(&resolver->mutex);
    if (left > 0)
        return;
    struct name *name, *next;
    HASH_ITER (by_text, resolver->names, name, next) {
        HASH_DELETE(by_text, resolver->names, name);
        free(name);
    }
    pthread_mutex_destroy(&resolver->mutex);
    free(resolver);
}

/* Forgets a waiter; the resolver may go with it. */
static void waiter_free(struct waiter *waiter)
{
    struct resolver *resolver = waiter->resolver;
    pthread_mutex_lock(&resolver->mutex);
    HASH_DELETE(by_ticket, resolver->waiters, waiter);
    unlock_and_unref(resolver);
    free(waiter);
}

static void waiter_drop(struct mail *mail)
{
    waiter_free(list_entry(mail, struct waiter, mail));
}

static void set_ports(struct resolver_answer *answer, uint16_t port)
{
    for (size_t i = 0; i < answer->count; i++) {
        struct address *address = &answer->addresses[i];
        if (address->any.sa_family == AF_INET)
            address->ip4.sin_port = htons(port);
        else
            address->ip6.sin6_port = htons(port);
    }
}

static void waiter_deliver(struct loop *loop, struct mail *mail)
{
    struct waiter *waiter = list_entry(mail, struct waiter, mail);
    struct resolver_query *query = waiter->query;
    if (query) {
        struct resolver_answer answer = waiter->answer;
        set_ports(&answer, waiter->port);
        waiter_free(waiter);
        query->ticket = 0;
        query->answered(loop, query, &answer);
    } else {
        waiter_free(waiter);
    }
}

/* The look-up of a name is over. Waiters leave under the mutex and are mailed without it. */
static void publish(struct resolver *resolver, const char *text,
                    const struct resolver_answer *answer, bool remembered)
{
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&resolver->mutex);
    struct name *name;
    HASH_FIND(by_text, resolver->names, text, strlen(text), name);
    name->looking = false;
    resolver->pending--;
    bool good = answer->count > 0;
    if (remembered)
        name->expires_us = clock_now_us() + (good ? resolver->ttl_us : resolver->failure_ttl_us);
    if (good || name->answer.count == 0) /* else the last good answer stays */
        name->answer = *answer;
    struct list_node *node;
    while ((node = list_pop_front(&name->waiters))) {
        list_entry(node, struct waiter, node)->answer = name->answer;
        list_push_back(&done, node);
    }
    pthread_mutex_unlock(&resolver->mutex);

    while ((node = list_pop_front(&done))) {
        struct waiter *waiter = list_entry(node, struct waiter, node);
        loop_post(waiter->loop, &waiter->mail);
    }
}

static bool is_loopback_name(const char *text)
{
    static const char *const ends[] = {"localhost", "localhost.", "localhost.localdomain",
                                       "ip6-localhost", "ip6-loopback"};
    size_t length = strlen(text);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t end = strlen(ends[i]);
        if (length >= end && text_equal_nocase(text + length - end, ends[i]) &&
            (length == end || text[length - end - 1] == '.'))
            return true;
    }
    return false;
}

static void add_address(struct resolver_answer *answer, const struct addrinfo *info)
{
    struct address address;
    if (info->ai_family == AF_UNIX || answer->count == RESOLVER_ADDRESSES_MAX ||
        !address_from(&address, info->ai_addr, info->ai_addrlen))
        return;
    for (size_t i = 0; i < answer->count; i++) {
        if (address_equal(&address, &answer->addresses[i]))
            return; /* /etc/hosts may say it twice */
    }
    answer->addresses[answer->count++] = address;
}

/* AI_ADDRCONFIG leaves out IPv6 where only the loopback has it, which is where localhost lives. */
static void look_up(struct offload_job *job)
{
    struct lookup *lookup = list_entry(job, struct lookup, job);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (!is_loopback_name(lookup->text))
        hints.ai_flags = AI_ADDRCONFIG;
    struct addrinfo *list = NULL;
    int result = getaddrinfo(lookup->text, NULL, &hints, &list);
    for (struct addrinfo *info = list; result == 0 && info; info = info->ai_next)
        add_address(&lookup->answer, info);
    if (list)
        freeaddrinfo(list);
    if (result != 0)
        snprintf(lookup->answer.problem, sizeof lookup->answer.problem, "%s", gai_strerror(result));
    else if (lookup->answer.count == 0)
        snprintf(lookup->answer.problem, sizeof lookup->answer.problem, "the name has no address");
    publish(lookup->resolver, lookup->text, &lookup->answer, true);
}

/* All has been said by publish. When it was cancelled the resolver is being freed and may be gone.
 */
static void lookup_done(struct loop *loop, struct offload_job *job)
{
    (void)loop;
    free(list_entry(job, struct lookup, job));
}

/* Called with the mutex. */
static struct name *name_get(struct resolver *resolver, const char *text)
{
    struct name *name;
    size_t length = strlen(text);
    HASH_FIND(by_text, resolver->names, text, length, name);
    if (name)
        return name;
    name = memory_new(sizeof *name + length + 1);
    memcpy(name->text, text, length);
    list_init(&name->waiters);
    HASH_ADD_KEYPTR(by_text, resolver->names, name->text, length, name);
    return name;
}

/* Without the mutex, since waking a helper is a system call. A look-up that finds no place fails
 * for all who joined it meanwhile, and is not remembered. */
static void submit(struct resolver *resolver, struct loop *loop, const char *text)
{
    size_t length = strlen(text);
    struct lookup *lookup = memory_new(sizeof *lookup + length + 1);
    lookup->job = (struct offload_job){.work = look_up, .done = lookup_done};
    lookup->resolver = resolver;
    memcpy(lookup->text, text, length);
    if (offload_submit(resolver->offload, loop, &lookup->job))
        return;
    snprintf(lookup->answer.problem, sizeof lookup->answer.problem,
             "too many names are being looked up");
    publish(resolver, text, &lookup->answer, false);
    free(lookup);
}

/* Called with the mutex. */
static void wait_for(struct resolver *resolver, struct loop *loop, struct name *name,
                     struct resolver_query *query, uint16_t port)
{
    struct waiter *waiter = memory_new(sizeof *waiter);
    waiter->mail = (struct mail){.deliver = waiter_deliver, .drop = waiter_drop};
    waiter->resolver = resolver;
    waiter->loop = loop;
    waiter->query = query;
    waiter->port = port;
    waiter->ticket = query->ticket = ++resolver->last_ticket;
    resolver->references++;
    list_push_back(&name->waiters, &waiter->node);
    HASH_ADD(by_ticket, resolver->waiters, ticket, sizeof waiter->ticket, waiter);
}

bool resolver_ask(struct resolver *resolver, struct loop *loop, struct resolver_query *query,
                  const char *name_text, uint16_t port, struct resolver_answer *answer)
{
    query->ticket = 0;
    memset(answer, 0, sizeof *answer);
    if (address_parse(&answer->addresses[0], name_text, port)) {
        answer->count = 1;
        return true;
    }
    pthread_mutex_lock(&resolver->mutex);
    struct name *name = name_get(resolver, name_text);
    bool fresh = name->expires_us > clock_now_us();
    bool first = !fresh && !name->looking;
    if (fresh)
        *answer = name->answer;
    else
        wait_for(resolver, loop, name, query, port);
    if (first) {
        name->looking = true;
        resolver->pending++;
    }
    pthread_mutex_unlock(&resolver->mutex);
    if (first)
        submit(resolver, loop, name_text);
    set_ports(answer, port);
    return fresh;
}

void resolver_cancel(struct resolver *resolver, struct loop *loop, struct resolver_query *query)
{
    (void)loop;
    if (query->ticket == 0)
        return;
    struct waiter *waiter;
    pthread_mutex_lock(&resolver->mutex);
    HASH_FIND(by_ticket, resolver->waiters, &query->ticket, sizeof query->ticket, waiter);
    pthread_mutex_unlock(&resolver->mutex);
    if (waiter) /* stays until this thread delivers it */
        waiter->query = NULL;
    query->ticket = 0;
}

void resolver_set_ttl(struct resolver *resolver, uint64_t ttl_us, uint64_t failure_ttl_us)
{
    pthread_mutex_lock(&resolver->mutex);
    resolver->ttl_us = ttl_us;
    resolver->failure_ttl_us = failure_ttl_us;
    pthread_mutex_unlock(&resolver->mutex);
}

struct row {
    char *text;
    uint64_t ttl_us;
    struct resolver_answer answer;
};

void resolver_each(struct resolver *resolver,
                   void (*row)(void *argument, const char *name, uint64_t ttl_us,
                               const struct resolver_answer *answer),
                   void *argument)
{
    uint64_t now_us = clock_now_us();
    pthread_mutex_lock(&resolver->mutex);
    size_t count = 0;
    struct row *rows = memory_new((HASH_CNT(by_text, resolver->names) + 1) * sizeof *rows);
    for (struct name *name = resolver->names; name; name = name->by_text.next) {
        rows[count].text = text_copy(name->text);
        rows[count].ttl_us = name->expires_us > now_us ? name->expires_us - now_us : 0;
        rows[count].answer = name->answer;
        count++;
    }
    pthread_mutex_unlock(&resolver->mutex);
    for (size_t i = 0; i < count; i++) {
        row(argument, rows[i].text, rows[i].ttl_us, &rows[i].answer);
        free(rows[i].text);
    }
    free(rows);
}

void resolver_counts(struct resolver *resolver, size_t *names, size_t *pending)
{
    pthread_mutex_lock(&resolver->mutex);
    *names = HASH_CNT(by_text, resolver->names);
    *pending = resolver->pending;
    pthread_mutex_unlock(&resolver->mutex);
}

/* Whoever still waits will hear nothing: no look-up finds it any more. */
static void silence(struct resolver *resolver)
{
    struct list silent;
    list_init(&silent);
    pthread_mutex_lock(&resolver->mutex);
    for (struct name *name = resolver->names; name; name = name->by_text.next) {
        struct list_node *node;
        while ((node = list_pop_front(&name->waiters)))
            list_push_back(&silent, node);
    }
    pthread_mutex_unlock(&resolver->mutex);
    struct list_node *node;
    while ((node = list_pop_front(&silent)))
        waiter_free(list_entry(node, struct waiter, node));
}

void resolver_stop(struct resolver *resolver, unsigned wait_ms)
{
    if (!resolver || !resolver->offload)
        return;
    bool ended = offload_abandon(resolver->offload, wait_ms);
    resolver->offload = NULL;
    silence(resolver);
    if (ended)
        return;
    pthread_mutex_lock(&resolver->mutex);
    resolver->references++; /* of the look-up that may come back, which never gives it back */
    pthread_mutex_unlock(&resolver->mutex);
}

void resolver_free(struct resolver *resolver)
{
    if (!resolver)
        return;
    offload_free(resolver->offload);
    silence(resolver);
    pthread_mutex_lock(&resolver->mutex);
    unlock_and_unref(resolver);
}
