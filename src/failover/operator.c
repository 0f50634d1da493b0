/*
 * operator.c: what an operator says on the console: FENCE, UNFENCE, ACCEPT, MAINTENANCE.
 *
 *   read and refuse ─► note it, look ─► (close, change) ─► write down ─► answer
 *
 * An answer comes when it holds and is on the disk; where the disk refuses, the answer is an error
 * that says that it holds all the same. While a procedure has claimed the environment these are
 * refused: two hands on one wheel.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct operation {
    struct list_node node; /* in failover->operations */
    struct failover *failover;
    struct ward *ward;
    failover_answered *answered; /* NULL: nobody waits any more */
    void *context;
    unsigned pending; /* closing, writing down */
    struct failover_answer answer;
};

static struct operation *operation_new(struct failover *failover, failover_answered *answered,
                                       void *context)
{
    struct operation *operation = memory_new(sizeof *operation);
    operation->failover = failover;
    operation->answered = answered;
    operation->context = context;
    operation->answer.ok = true;
    list_push_back(&failover->operations, &operation->node);
    return operation;
}

static void finish(struct operation *operation)
{
    list_remove(&operation->failover->operations, &operation->node);
    if (operation->answered)
        operation->answered(operation->context, &operation->answer);
    free(operation);
}

static void on_refused(void *context, int value)
{
    (void)value;
    finish(context);
}

__attribute__((format(printf, 3, 4))) static void
fill(struct failover_answer *answer, const char *sqlstate, const char *format, ...)
{
    va_list arguments;
    answer->ok = false;
    (void)text_fit(answer->sqlstate, sizeof answer->sqlstate, sqlstate);
    va_start(arguments, format);
    vsnprintf(answer->text, sizeof answer->text, format, arguments);
    va_end(arguments);
}

/* `answer` has been filled. */
static void refuse(struct operation *operation)
{
    failover_later(operation->failover, on_refused, operation, 0);
}

/* ---- which host ---- */

struct search {
    const char *spelling;
    const struct ward *ward;
    const struct ward_host *host;
    size_t count;
    char candidates[384];
};

static bool is_meant(const struct ward_host *host, const char *spelling)
{
    char *full = text_print("%s:%u", host->name, host->port);
    bool meant = text_equal_nocase(host->label, spelling) ||
                 text_equal_nocase(host->name, spelling) || text_equal_nocase(full, spelling);
    free(full);
    return meant;
}

static void search_ward(struct search *search, const struct ward *ward)
{
    list_for_each (node, &ward->hosts) {
        const struct ward_host *host = list_entry(node, struct ward_host, node);
        if (!host->is_listed || !is_meant(host, search->spelling))
            continue;
        size_t used = strlen(search->candidates);
        snprintf(search->candidates + used, sizeof search->candidates - used, "%s%s@%s",
                 used ? ", " : "", host->label, ward->name);
        search->ward = ward;
        search->host = host;
        search->count++;
    }
}

static void search_all(struct search *search, const struct failover *failover)
{
    struct ward *ward, *next;
    HASH_ITER (hh, failover->wards, ward, next) {
        if (ward->is_listed)
            search_ward(search, ward);
    }
}

/* `label@environment`. */
static void search_qualified(struct search *search, const struct failover *failover,
                             const char *spelling)
{
    const char *at = strrchr(spelling, '@');
    const struct ward *ward = at ? ward_find(failover, at + 1) : NULL;
    if (!ward || !ward->is_listed)
        return;
    char *label = text_copy_n(spelling, (size_t)(at - spelling));
    search->spelling = label;
    search_ward(search, ward);
    search->spelling = spelling;
    free(label);
}

bool failover_find_host(const struct failover *failover, const char *environment,
                        const char *spelling, const char **key, const char **of_environment,
                        struct failover_answer *answer)
{
    struct search search = {.spelling = spelling};
    const struct ward *only = environment ? ward_find(failover, environment) : NULL;
    if (only && only->is_listed)
        search_ward(&search, only);
    else if (!environment)
        search_all(&search, failover);
    if (search.count == 0)
        search_qualified(&search, failover, spelling);
    if (search.count == 1 && (!only || search.ward == only)) {
        *key = search.host->label;
        *of_environment = search.ward->name;
        return true;
    }
    memset(answer, 0, sizeof *answer);
    if (search.count > 1) {
        fill(answer, "42725", "\"%.200s\" means several hosts", spelling);
        snprintf(answer->hint, sizeof answer->hint, "Write one of: %s", search.candidates);
    } else {
        fill(answer, "42704", "no such host: %.200s", spelling);
        text_fit(answer->hint, sizeof answer->hint, "SHOW HOSTS lists the hosts.");
    }
    return false;
}

/* The host that is meant, or the operation is refused. */
static struct ward_host *find_host(struct operation *operation, const char *environment,
                                   const char *spelling)
{
    const char *key, *of;
    if (!failover_find_host(operation->failover, environment, spelling, &key, &of,
                            &operation->answer)) {
        refuse(operation);
        return NULL;
    }
    operation->ward = ward_find(operation->failover, of);
    return ward_host_find(operation->ward, key);
}

/* Nothing else may be under way. */
static bool may_act(struct operation *operation)
{
    const struct ward *ward = operation->ward;
    if (ward->is_claimed)
        fill(&operation->answer, "55006", "a failover of \"%s\" is under way", ward->name);
    else if (ward_is_changing(ward) || ward->operation)
        fill(&operation->answer, "55006", "\"%s\" is being switched to another primary",
             ward->name);
    else
        return true;
    text_fit(operation->answer.hint, sizeof operation->answer.hint,
             "SHOW FAILOVERS shows how far it is.");
    refuse(operation);
    return false;
}

/* ---- the end of each ---- */

static void step_done(struct operation *operation)
{
    if (--operation->pending == 0)
        finish(operation);
}

static void on_saved(void *context, enum failover_saved how)
{
    struct operation *operation = context;
    if (how == FAILOVER_NOT_SAVED) {
        fill(&operation->answer, "58030", "it holds now, but cannot be written to state_dir");
        text_fit(operation->answer.hint, sizeof operation->answer.hint,
                 "It would not survive a restart. SHOW ALARMS gives the reason.");
    }
    step_done(operation);
}

static void save(struct operation *operation)
{
    operation->pending++;
    keep_save(operation->failover, on_saved, operation);
}

static void on_closed(void *argument)
{
    struct operation *operation = argument;
    step_done(operation);
}

/* ---- FENCE and UNFENCE ---- */

void failover_fence_command(struct failover *failover, const char *spelling, const char *by,
                            failover_answered *answered, void *context)
{
    struct operation *operation = operation_new(failover, answered, context);
    const struct failover_world *world = &failover->world;
    struct ward_host *host = find_host(operation, NULL, spelling);
    if (!host || !may_act(operation))
        return;
    struct ward *ward = operation->ward;
    char *why = text_print("FENCE by %s", by);
    (void)ward_fence(ward, host->label, FENCE_OPERATOR, why);
    char *label = text_copy(host->label);
    ward_look(ward); /* nothing new goes there from here on */
    operation->pending++;
    world->close_host(world->context, ward->name, label, why, on_closed, operation);
    save(operation);
    free(label);
    free(why);
}

void failover_unfence_command(struct failover *failover, const char *spelling, const char *by,
                              failover_answered *answered, void *context)
{
    struct operation *operation = operation_new(failover, answered, context);
    struct ward_host *host = find_host(operation, NULL, spelling);
    if (!host || !may_act(operation))
        return;
    struct ward *ward = operation->ward;
    char *why = text_print("UNFENCE by %s", by);
    if (ward_unfence(ward, host->label, why)) {
        ward_look(ward);
        save(operation);
    } else {
        fill(&operation->answer, "55000", "%s is not fenced", host->label);
        refuse(operation);
    }
    free(why);
}

/* ---- ACCEPT ---- */

static const char *look_of(const struct sighting *sighting)
{
    switch (sighting->sight) {
    case SIGHT_UNASKED:
        return "it has not answered yet";
    case SIGHT_DOWN:
        return "it is down";
    case SIGHT_BLIND:
        return "its role cannot be read";
    case SIGHT_STANDBY:
        return "it is a standby";
    case SIGHT_WRITER:
        break;
    }
    return "its last probe failed";
}

void failover_accept_command(struct failover *failover, const char *environment,
                             const char *spelling, const char *by, failover_answered *answered,
                             void *context)
{
    struct operation *operation = operation_new(failover, answered, context);
    struct ward *ward = ward_find(failover, environment);
    if (ward && ward->is_listed)
        ward_ask(ward); /* first: hosts that have gone since the last look are gone after it */
    struct ward_host *host = find_host(operation, environment, spelling);
    if (!host || !may_act(operation))
        return;
    if (host->sighting.sight != SIGHT_WRITER || !host->sighting.is_fresh) {
        fill(&operation->answer, "55000", "%s does not take writes: %s", host->label,
             look_of(&host->sighting));
        text_fit(operation->answer.hint, sizeof operation->answer.hint,
                 "Only a host that takes writes can be the accepted primary.");
        refuse(operation);
        return;
    }
    char *trigger = text_print("ACCEPT by %s", by);
    log_log("failover: %s: %s: %s, system identifier %" PRIu64 ", timeline %" PRIu32, ward->name,
            trigger, host->label, host->sighting.system_identifier, host->sighting.timeline);
    if (host->sighting.system_identifier != ward->situation->system_identifier) {
        list_for_each (node, &ward->hosts)
            list_entry(node, struct ward_host, node)->streamed_timeline = 0;
    }
    alarm_end(&failover->alarms, NULL, ALARM_STATE_LOST);
    ward->has_decided = true;
    ward->operation = operation;
    /* the operator has said which of them is right: the others are former ones, not its equals */
    list_for_each (node, &ward->hosts) {
        const struct ward_host *other = list_entry(node, struct ward_host, node);
        const struct fence *fence = situation_fence(ward->situation, other->label);
        if (fence && fence->kind == FENCE_CONTENDER && !text_equal(other->label, host->label))
            (void)ward_fence(ward, other->label, FENCE_FORMER, trigger);
    }
    change_begin(ward, &host->sighting, EPISODE_MANUAL, trigger, true);
    free(trigger);
}

void operation_changed(struct ward *ward, const char *failure)
{
    struct operation *operation = ward->operation;
    if (!operation)
        return;
    ward->operation = NULL;
    if (failure)
        fill(&operation->answer, "55000", "it is accepted, but %s", failure);
    save(operation);
}

/* ---- MAINTENANCE ---- */

void failover_maintenance_command(struct failover *failover, const char *environment, bool on,
                                  uint64_t for_us, const char *by, failover_answered *answered,
                                  void *context)
{
    struct operation *operation = operation_new(failover, answered, context);
    struct ward *ward = ward_find(failover, environment);
    if (!ward || !ward->is_listed) {
        fill(&operation->answer, "3D000", "no such environment with hosts: %.200s", environment);
        refuse(operation);
        return;
    }
    maintenance_set(ward, on, for_us);
    if (!on)
        log_log("failover: %s: MAINTENANCE OFF by %s", environment, by);
    else if (for_us)
        log_log("failover: %s: MAINTENANCE ON for %" PRIu64 " s by %s: no automatic action",
                environment, for_us / CLOCK_SECOND, by);
    else
        log_log("failover: %s: MAINTENANCE ON until OFF by %s: no automatic action", environment,
                by);
    ward_look_later(ward);
    save(operation);
}

/* ---- leaving ---- */

void failover_forget(struct failover *failover, void *context)
{
    list_for_each (node, &failover->operations) {
        struct operation *operation = list_entry(node, struct operation, node);
        if (operation->context == context)
            operation->answered = NULL;
    }
}

void operations_end(struct failover *failover)
{
    list_for_each (node, &failover->operations) {
        struct operation *operation = list_entry(node, struct operation, node);
        failover_answered *answered = operation->answered;
        operation->answered = NULL;
        fill(&operation->answer, "57P01", "pgstage is shutting down");
        if (answered)
            answered(operation->context, &operation->answer);
    }
}

void operations_free(struct failover *failover)
{
    while (!list_is_empty(&failover->operations)) {
        struct operation *operation =
            list_entry(list_first(&failover->operations), struct operation, node);
        list_remove(&failover->operations, &operation->node);
        free(operation);
    }
}
