/*
 * inquiry.c: who is asked for, and who waits for the answer.
 *
 *   inquiry (a login) ─┐
 *   inquiry ───────────┴─► question (a user) ─► queue of a source (a scope) ─► inquirer
 *                              │ deadline            │ at most INQUIRERS_MAX connections
 *                              └──── answered, or failed: a letter home to each inquiry
 *
 * Bounded: the logins that wait (auth_query_max_waiting), the sources, their connections, and the
 * time of a question (auth_query_timeout). A host that cannot be reached is left for another one
 * until that time is over; a login that the server refuses, or a query that fails, is told at once.
 * That a database does not exist is an answer: the user is not known there. The control thread, but
 * for what the header says.
 */
#include <stdlib.h>
#include <string.h>

#include "inquiry_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/health/lookup.h"

#define KNOWN_MAX 16384
#define UNKNOWN_MAX 4096
#define SOURCES_MAX 256
/* How long a refused login of auth_user is not tried again. */
#define REFUSED_US CLOCK_SECOND
/* The longest name that is asked for; PostgreSQL's have 63 bytes. */
#define USER_MAX_BYTES 255

struct inquiries {
    /* fixed */
    struct plane *plane;
    struct secrets *secrets;
    /* owner: the control thread */
    struct source *sources; /* uthash */
    struct list retired;    /* those of an older configuration, with questions */
    /* shared: atomic */
    _Atomic int64_t waiting;
};

static void pump(struct source *source);

struct inquiries *inquiries_new(struct plane *plane)
{
    struct inquiries *inquiries = memory_new(sizeof(*inquiries));

    inquiries->plane = plane;
    inquiries->secrets = secrets_new(KNOWN_MAX, UNKNOWN_MAX);
    list_init(&inquiries->retired);
    return inquiries;
}

char *inquiry_scope(const struct settings *settings, const char *environment, const char *database)
{
    const char *where = settings->auth_dbname ? settings->auth_dbname : database;

    if (!settings->auth_user || !settings->auth_query || !where)
        return NULL;
    return text_print("%s\n%s\n%s\n%s", environment ? environment : "", where, settings->auth_user,
                      settings->auth_query);
}

enum secrets_answer inquiry_recall(struct plane *plane, const struct settings *globals,
                                   const char *scope, const char *user, uint64_t now_us,
                                   struct fetched *fetched)
{
    const struct secrets_ttl ttl = {globals->auth_query_ttl_us,
                                    globals->auth_query_negative_ttl_us};

    /* no server has such a user, and nobody need be asked or remember it */
    if (strlen(user) > USER_MAX_BYTES)
        return SECRETS_UNKNOWN;
    return secrets_find(plane->inquiries->secrets, scope, user, now_us, &ttl, fetched);
}

struct secrets *inquiries_secrets(struct plane *plane)
{
    return plane->inquiries->secrets;
}

/* ---- letters ---- */

void inquiry_free(struct inquiry *inquiry)
{
    fetched_fini(&inquiry->fetched);
    setup_unref(inquiry->setup);
    effective_unref(inquiry->effective);
    free(inquiry->scope);
    free(inquiry->user);
    free(inquiry->problem);
    free(inquiry);
}

static void drop_letter(struct mail *mail)
{
    inquiry_free((struct inquiry *)mail);
}

static void deliver_home(struct loop *loop, struct mail *mail)
{
    struct inquiry *inquiry = (struct inquiry *)mail;

    (void)loop;
    inquiry->answered(inquiry);
}

static void send_home(struct inquiry *inquiry)
{
    atomic_fetch_sub_explicit(&inquiry->plane->inquiries->waiting, 1, memory_order_relaxed);
    inquiry->mail.deliver = deliver_home;
    loop_post(inquiry->home, &inquiry->mail);
}

static void fail(struct inquiry *inquiry, const char *problem)
{
    inquiry->result = INQUIRY_FAILED;
    inquiry->problem = text_copy(problem);
    send_home(inquiry);
}

/* ---- sources ---- */

static void pump_due(struct loop *loop, struct timer *timer)
{
    (void)loop;
    pump(list_entry(timer, struct source, pump));
}

/* NULL and `problem`: its TLS files cannot be used. */
static struct source *source_new(struct inquiries *inquiries, const struct inquiry *inquiry,
                                 char *problem, size_t size)
{
    struct meaning *meaning = meaning_new(inquiries->plane, inquiry->setup,
                                          effective_ref(inquiry->effective), NULL, problem, size);
    struct source *source;

    if (!meaning)
        return NULL;
    source = memory_new(sizeof(*source));
    source->inquiries = inquiries;
    source->plane = inquiries->plane;
    source->setup = setup_ref(inquiry->setup);
    source->meaning = meaning;
    source->scope = text_copy(inquiry->scope);
    source->auth_user = inquiry->auth_user;
    source->auth_query = inquiry->auth_query;
    source->password = lookup_password(
        inquiry->effective->settings, snapshot_users(inquiry->setup->snapshot), inquiry->auth_user);
    source->pump.fire = pump_due;
    list_init(&source->queue);
    HASH_ADD_KEYPTR(hh, inquiries->sources, source->scope, strlen(source->scope), source);
    return source;
}

static void source_free(struct source *source)
{
    for (size_t i = 0; i < INQUIRERS_MAX; i++)
        inquirer_close(source->inquirers[i]);
    timer_detach(source->plane->control, &source->pump);
    meaning_unref(source->meaning);
    setup_unref(source->setup);
    free(source->scope);
    free(source->trouble);
    free(source);
}

static bool is_retired(const struct source *source)
{
    return list_node_is_listed(&source->node);
}

/* What nobody asks any more, and is of an older configuration, goes. */
static void source_look(struct source *source)
{
    if (!is_retired(source) || source->questions)
        return;
    list_remove(&source->inquiries->retired, &source->node);
    source_free(source);
}

static void retire(struct inquiries *inquiries, struct source *source)
{
    HASH_DEL(inquiries->sources, source);
    list_push_back(&inquiries->retired, &source->node);
    source_look(source);
}

/* The number of databases that clients can name by `*` has no bound; that of sources has. */
static bool make_room(struct inquiries *inquiries)
{
    struct source *source, *next;

    HASH_ITER (hh, inquiries->sources, source, next) {
        if (HASH_COUNT(inquiries->sources) < SOURCES_MAX)
            break;
        if (!source->questions)
            retire(inquiries, source);
    }
    return HASH_COUNT(inquiries->sources) < SOURCES_MAX;
}

static struct source *find_source(struct inquiries *inquiries, const struct inquiry *inquiry,
                                  char *problem, size_t size)
{
    struct source *source;

    HASH_FIND_STR(inquiries->sources, inquiry->scope, source);
    if (source && source->setup == inquiry->setup)
        return source;
    /* a reload has come between */
    if (source)
        retire(inquiries, source);
    if (make_room(inquiries))
        return source_new(inquiries, inquiry, problem, size);
    (void)text_fit(problem, size, "users of too many databases are looked up at once");
    return NULL;
}

void inquiries_renew(struct plane *plane)
{
    struct inquiries *inquiries = plane->inquiries;
    struct source *source, *next;

    secrets_expire(inquiries->secrets);
    HASH_ITER (hh, inquiries->sources, source, next)
        retire(inquiries, source);
}

/* ---- questions ---- */

static void question_free(struct question *question)
{
    struct source *source = question->source;

    for (size_t i = 0; i < INQUIRERS_MAX; i++) {
        /* nobody knows what would come on that connection next */
        if (inquirer_question(source->inquirers[i]) == question) {
            inquirer_close(source->inquirers[i]);
            source->inquirers[i] = NULL;
        }
    }
    if (list_node_is_listed(&question->node))
        list_remove(&source->queue, &question->node);
    HASH_DEL(source->questions, question);
    timer_detach(source->plane->control, &question->timer);
    free(question->user);
    free(question);
}

/* Each login that waits hears it; `fetched` NULL: not KNOWN. */
static void answer(struct question *question, enum inquiry_result result,
                   const struct fetched *fetched, const char *problem)
{
    struct list_node *node;

    while ((node = list_pop_front(&question->inquiries))) {
        struct inquiry *inquiry = list_entry(node, struct inquiry, node);

        inquiry->result = result;
        inquiry->problem = text_copy(problem);
        if (fetched)
            fetched_copy(&inquiry->fetched, fetched);
        send_home(inquiry);
    }
    question_free(question);
}

static void answer_all(struct source *source, enum inquiry_result result, const char *problem)
{
    struct question *question, *next;

    HASH_ITER (hh, source->questions, question, next) {
        if (list_node_is_listed(&question->node))
            answer(question, result, NULL, problem);
    }
}

static void question_due(struct loop *loop, struct timer *timer)
{
    struct question *question = list_entry(timer, struct question, timer);
    struct source *source = question->source;
    char *problem = text_print("auth_query was not answered within auth_query_timeout%s%s",
                               source->trouble ? "; " : "", source->trouble ? source->trouble : "");

    (void)loop;
    answer(question, INQUIRY_FAILED, NULL, problem);
    free(problem);
    pump(source);
    source_look(source);
}

static struct question *question_new(struct source *source, const char *user)
{
    struct loop *loop = source->plane->control;
    struct question *question = memory_new(sizeof(*question));

    question->source = source;
    question->user = text_copy(user);
    question->timer.fire = question_due;
    question->deadline_us =
        loop_now_us(loop) + snapshot_globals(source->setup->snapshot)->auth_query_timeout_us;
    list_init(&question->inquiries);
    HASH_ADD_KEYPTR(hh, source->questions, question->user, strlen(question->user), question);
    list_push_back(&source->queue, &question->node);
    timer_set(loop, &question->timer, question->deadline_us);
    return question;
}

static void deliver_question(struct loop *loop, struct mail *mail)
{
    struct inquiry *inquiry = (struct inquiry *)mail;
    struct inquiries *inquiries = inquiry->plane->inquiries;
    struct question *question;
    struct source *source;
    char problem[256];
    enum secrets_answer known =
        inquiry_recall(inquiry->plane, snapshot_globals(inquiry->setup->snapshot), inquiry->scope,
                       inquiry->user, loop_now_us(loop), &inquiry->fetched);

    if (known != SECRETS_MISSING) {
        inquiry->result = known == SECRETS_KNOWN ? INQUIRY_KNOWN : INQUIRY_UNKNOWN;
        send_home(inquiry);
        return;
    }
    source = find_source(inquiries, inquiry, problem, sizeof(problem));
    if (!source) {
        fail(inquiry, problem);
        return;
    }
    HASH_FIND_STR(source->questions, inquiry->user, question);
    if (!question)
        question = question_new(source, inquiry->user);
    list_push_back(&question->inquiries, &inquiry->node);
    pump(source);
}

bool inquiry_send(struct inquiry *inquiry)
{
    struct inquiries *inquiries = inquiry->plane->inquiries;
    int64_t most = snapshot_globals(inquiry->setup->snapshot)->auth_query_max_waiting;

    if (atomic_fetch_add_explicit(&inquiries->waiting, 1, memory_order_relaxed) >= most) {
        atomic_fetch_sub_explicit(&inquiries->waiting, 1, memory_order_relaxed);
        return false;
    }
    inquiry->mail.deliver = deliver_question;
    inquiry->mail.drop = drop_letter;
    loop_post(inquiry->plane->control, &inquiry->mail);
    return true;
}

/* ---- asking ---- */

/* A connection that may be asked now; those that may not any more are closed. */
static struct inquirer *take_idle(struct source *source)
{
    for (size_t i = 0; i < INQUIRERS_MAX; i++) {
        struct inquirer *inquirer = source->inquirers[i];

        if (!inquirer_is_idle(inquirer))
            continue;
        if (inquirer_is_usable(inquirer))
            return inquirer;
        inquirer_close(inquirer);
        source->inquirers[i] = NULL;
    }
    return NULL;
}

/* Opens as many as there are questions, within the bound; those that connect already count. */
static void open_more(struct source *source)
{
    uint64_t retry_at_us;
    size_t wanted = source->queue.length;

    for (size_t i = 0; i < INQUIRERS_MAX; i++)
        if (source->inquirers[i] && !inquirer_question(source->inquirers[i]) && wanted > 0)
            wanted--;
    for (size_t i = 0; i < INQUIRERS_MAX && wanted > 0; i++) {
        if (source->inquirers[i])
            continue;
        source->inquirers[i] = inquirer_open(source, &retry_at_us);
        if (!source->inquirers[i]) {
            timer_set(source->plane->control, &source->pump, retry_at_us);
            return;
        }
        wanted--;
    }
}

static void pump(struct source *source)
{
    struct inquirer *inquirer;

    while (!list_is_empty(&source->queue) && (inquirer = take_idle(source)))
        inquirer_ask(inquirer, list_entry(list_pop_front(&source->queue), struct question, node));
    if (list_is_empty(&source->queue))
        return;
    if (loop_now_us(source->plane->control) < source->refused_until_us)
        answer_all(source, INQUIRY_FAILED, source->trouble);
    else
        open_more(source);
}

void source_connected(struct source *source)
{
    free(source->trouble);
    source->trouble = NULL;
    pump(source);
    source_look(source);
}

/* Will another attempt, or another host, do better? */
static bool is_passing(const struct source *source, enum probe_error error)
{
    if (error == PROBE_TLS || error == PROBE_PROTOCOL)
        return source->meaning->host_count > 1;
    return probe_error_is_host(error) || error == PROBE_TOO_MANY || error == PROBE_STARTING_UP;
}

static void asked_in_vain(struct source *source, struct question *question, enum probe_error error)
{
    if (is_passing(source, error) && !question->is_repeated) {
        question->is_repeated = true;
        list_push_front(&source->queue, &question->node);
    } else {
        answer(question, INQUIRY_FAILED, NULL, source->trouble);
    }
}

void source_lost(struct source *source, struct inquirer *inquirer, struct question *question,
                 enum probe_error error, const char *text)
{
    struct loop *loop = source->plane->control;
    uint64_t now_us = loop_now_us(loop);

    for (size_t i = 0; i < INQUIRERS_MAX; i++)
        if (source->inquirers[i] == inquirer)
            source->inquirers[i] = NULL;
    inquirer_close(inquirer);
    if (error != PROBE_FINE) {
        log_info("%s", text);
        free(source->trouble);
        source->trouble = text_copy(text);
    }
    if (question)
        asked_in_vain(source, question, error);
    else if (error == PROBE_NO_DATABASE)
        answer_all(source, INQUIRY_UNKNOWN, NULL);
    else if (error != PROBE_FINE && !is_passing(source, error))
        source->refused_until_us = now_us + REFUSED_US;
    if (is_passing(source, error) && !list_is_empty(&source->queue))
        timer_set(loop, &source->pump, now_us + 50 * CLOCK_MS);
    else
        pump(source);
    source_look(source);
}

/* ---- answers ---- */

/* A name that is no text for the server is none of a user. */
static bool is_no_name(const struct probe_result *result)
{
    return result->error == PROBE_SERVER && strcmp(result->sqlstate, "22021") == 0;
}

void source_answered(struct source *source, struct question *question,
                     const struct probe_result *result)
{
    struct secrets *secrets = source->inquiries->secrets;
    uint64_t now_us = loop_now_us(source->plane->control);
    struct fetched fetched = {0};
    const char *problem = NULL;
    bool known = false;

    if (result->error != PROBE_FINE && !is_no_name(result)) {
        char *text = text_print("auth_query failed: %s", result->text);

        answer(question, INQUIRY_FAILED, NULL, text);
        free(text);
    } else if (result->error == PROBE_FINE &&
               !lookup_read(result->rows, question->user, &fetched, &known, &problem)) {
        answer(question, INQUIRY_FAILED, NULL, problem);
    } else {
        /* what a configuration of before has found is not remembered as news */
        if (!is_retired(source))
            secrets_put(secrets, source->scope, question->user, known ? &fetched : NULL, now_us);
        answer(question, known ? INQUIRY_KNOWN : INQUIRY_UNKNOWN, known ? &fetched : NULL, NULL);
    }
    pump(source);
    source_look(source);
}

/* ---- the end ---- */

static void source_end(struct source *source)
{
    struct question *question, *next;
    struct list_node *node;

    HASH_ITER (hh, source->questions, question, next) {
        while ((node = list_pop_front(&question->inquiries)))
            inquiry_free(list_entry(node, struct inquiry, node));
        question_free(question);
    }
    source_free(source);
}

void inquiries_free(struct inquiries *inquiries)
{
    struct source *source, *next;
    struct list_node *node;

    if (!inquiries)
        return;
    HASH_ITER (hh, inquiries->sources, source, next) {
        HASH_DEL(inquiries->sources, source);
        source_end(source);
    }
    while ((node = list_pop_front(&inquiries->retired)))
        source_end(list_entry(node, struct source, node));
    secrets_free(inquiries->secrets);
    free(inquiries);
}

void plane_each_fetched_user(struct plane *plane, void (*each)(void *argument, const char *user),
                             void *argument)
{
    secrets_each(plane->inquiries->secrets, each, argument);
}
