/*
 * check: everything at once, under one deadline.
 *
 *   subjects ─► hosts ─► names resolved ─► a visit for each address ─► rows, in the order of the
 * file
 *
 * `pending` counts names and visits under way; each of them ends by itself, at the deadline at the
 * latest, and the last one defers the call of `done`, so that nothing is freed that is on the
 * stack. A host of several addresses is well when one of them can be reached, as for the pools,
 * which try them in turn.
 */
#include "pgstage/health/check.h"

#include <stdlib.h>
#include <string.h>

#include "check_inside.h"
#include "pgstage/base/buffer.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* ---- the end ---- */

static void host_free(struct check_host *host)
{
    struct list_node *node;
    if (host->query.ticket)
        resolver_cancel(host->check->resolver, host->check->loop, &host->query);
    while ((node = list_pop_front(&host->visits)))
        check_visit_free(list_entry(node, struct check_visit, node));
    check_rows_fini(&host->rows);
    free(host->label);
    free(host);
}

static void release(struct check *check)
{
    struct list_node *node, *inner;
    while ((node = list_pop_front(&check->subjects))) {
        struct check_subject *subject = list_entry(node, struct check_subject, node);
        while ((inner = list_pop_front(&subject->hosts)))
            host_free(list_entry(inner, struct check_host, node));
        check_subject_free(subject);
    }
    timer_detach(check->loop, &check->timer);
    loop_undefer(check->loop, &check->task);
    snapshot_unref(check->snapshot);
    free(check);
}

void check_cancel(struct check *check)
{
    release(check);
}

/* ---- rows of all ---- */

static void move_rows(struct check_rows *to, struct check_rows *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct check_row *row = &from->items[i];
        check_rows_add(to, row->environment, row->host, row->check, row->verdict, row->duration_us,
                       "%s", row->detail);
    }
    check_rows_fini(from);
}

static void gather_host(struct check_rows *rows, struct check_host *host)
{
    bool reached = false;
    list_for_each (node, &host->visits) {
        reached = reached || list_entry(node, struct check_visit, node)->reached;
    }
    move_rows(rows, &host->rows);
    list_for_each (node, &host->visits) {
        struct check_visit *visit = list_entry(node, struct check_visit, node);
        if (reached && !visit->reached && visit->rows.count > 0)
            visit->rows.items[0].verdict = CHECK_WARNING;
        move_rows(rows, &visit->rows);
    }
}

struct census {
    size_t primaries, answered, silent;
    struct buffer names; /* of the primaries */
    const char *system_identifier;
    bool differ;
};

static void count_host(struct census *census, const struct check_host *host)
{
    bool answered = false;
    list_for_each (node, &host->visits) {
        const struct check_visit *visit = list_entry(node, struct check_visit, node);
        if (!visit->answered || answered)
            continue; /* addresses of one server are not two servers */
        answered = true;
        if (census->system_identifier &&
            !text_equal(census->system_identifier, visit->system_identifier))
            census->differ = true;
        census->system_identifier = visit->system_identifier;
        if (!visit->in_recovery && !host->dr)
            buffer_print(&census->names, "%s%s", census->primaries++ ? ", " : "", host->label);
    }
    if (!host->dr && answered)
        census->answered++;
    else if (!host->dr)
        census->silent++;
}

/* What only all hosts together show. */
static void judge_cluster(struct check_rows *rows, const struct check_subject *subject)
{
    struct census census = {0};
    list_for_each (node, &subject->hosts) {
        count_host(&census, list_entry(node, struct check_host, node));
    }
    buffer_put_u8(&census.names, '\0');
    const char *names = (const char *)census.names.data;
    if (subject->environment && census.answered > 0) {
        if (census.primaries == 1)
            check_rows_add(rows, subject->environment, NULL, "primary", CHECK_OK, 0, "%s", names);
        else if (census.primaries > 1)
            check_rows_add(rows, subject->environment, NULL, "primary", CHECK_ERROR, 0,
                           "several hosts take writes: %s", names);
        else
            check_rows_add(rows, subject->environment, NULL, "primary", CHECK_ERROR, 0,
                           census.silent ? "none of the hosts that answered"
                                         : "none: every host is a standby");
        if (census.differ)
            check_rows_add(rows, subject->environment, NULL, "cluster", CHECK_ERROR, 0,
                           "the hosts do not belong to one cluster: their system identifiers "
                           "differ");
    }
    buffer_fini(&census.names);
}

static void finish(struct loop_task *task)
{
    struct check *check = list_entry(task, struct check, task);
    struct check_rows rows = {0};
    list_for_each (node, &check->subjects) {
        struct check_subject *subject = list_entry(node, struct check_subject, node);
        list_for_each (inner, &subject->hosts) {
            gather_host(&rows, list_entry(inner, struct check_host, node));
        }
        judge_cluster(&rows, subject);
    }
    check->done(check->context, &rows);
    check_rows_fini(&rows);
    release(check);
}

void check_went_on(struct check *check)
{
    if (--check->pending == 0)
        loop_defer(check->loop, &check->task);
}

/* ---- names ---- */

static void resolved(struct check_host *host, const struct resolver_answer *answer)
{
    struct check *check = host->check;
    const char *environment = host->subject->environment;
    uint64_t duration_us = loop_now_us(check->loop) - host->begin_us;
    struct buffer names = {0};
    char text[ADDRESS_TEXT_BYTES];

    host->resolved = true;
    if (answer->count == 0)
        check_rows_add(&host->rows, environment, host->label, "dns", CHECK_ERROR, duration_us,
                       "dns: %s", answer->problem[0] ? answer->problem : "no address");
    for (size_t i = 0; i < answer->count; i++) {
        buffer_print(&names, "%s%s", i ? ", " : "", address_host_text(&answer->addresses[i], text));
        check_visit_start(host, &answer->addresses[i], answer->count > 1);
    }
    buffer_put_u8(&names, '\0');
    if (answer->count > 0)
        check_rows_add(&host->rows, environment, host->label, "dns", CHECK_OK, duration_us, "%s",
                       (const char *)names.data);
    buffer_fini(&names);
    check_went_on(check);
}

static void on_resolved(struct loop *loop, struct resolver_query *query,
                        const struct resolver_answer *answer)
{
    (void)loop;
    resolved(list_entry(query, struct check_host, query), answer);
}

/* Names that have no answer by now will not be waited for. */
static void on_deadline(struct loop *loop, struct timer *timer)
{
    static const struct resolver_answer none = {.problem =
                                                    "no answer from the name service in time"};
    struct check *check = list_entry(timer, struct check, timer);
    list_for_each (node, &check->subjects) {
        struct check_subject *subject = list_entry(node, struct check_subject, node);
        list_for_each (inner, &subject->hosts) {
            struct check_host *host = list_entry(inner, struct check_host, node);
            if (host->resolved)
                continue;
            resolver_cancel(check->resolver, loop, &host->query);
            host->query.ticket = 0;
            resolved(host, &none);
        }
    }
}

static void start_host(struct check_host *host)
{
    struct check *check = host->check;
    const struct host_config *config = host->config;
    const char *target = config->address ? config->address : config->name;
    struct resolver_answer answer = {0};

    check->pending++;
    host->begin_us = loop_now_us(check->loop);
    if (host->subject->tls_problem[0]) {
        check_rows_add(&host->rows, host->subject->environment, host->label, "tls", CHECK_ERROR, 0,
                       "tls: %s", host->subject->tls_problem);
        host->resolved = true;
        check_went_on(check);
    } else if (config->name[0] == '/' || config->name[0] == '@') {
        answer.count = address_local(&answer.addresses[0], config->name, config->port);
        (void)text_fit(answer.problem, sizeof answer.problem, "the path of the socket is too long");
        resolved(host, &answer);
    } else if (resolver_ask(check->resolver, check->loop, &host->query, target, config->port,
                            &answer)) {
        resolved(host, &answer);
    }
}

/* ---- the beginning ---- */

static void add_hosts(struct check_subject *subject, struct check *check,
                      const struct check_demands *demands, const struct host_config *hosts,
                      size_t count, bool dr)
{
    for (size_t i = 0; i < count; i++) {
        struct check_host *host = memory_new(sizeof *host);
        bool local = hosts[i].name[0] == '/' || hosts[i].name[0] == '@';
        host->check = check;
        host->subject = subject;
        host->config = &hosts[i];
        host->dr = dr;
        host->label =
            local ? text_copy(hosts[i].name) : text_print("%s:%u", hosts[i].name, hosts[i].port);
        host->query.answered = on_resolved;
        list_init(&host->visits);
        check_demands_find(demands, host->config, &host->demand);
        list_push_back(&subject->hosts, &host->node);
    }
}

struct check *check_start(struct loop *loop, struct resolver *resolver, struct snapshot *snapshot,
                          const char *database, const char *environment, check_done *done,
                          void *context)
{
    struct check *check = memory_new(sizeof *check);
    struct check_demands *demands;
    check->loop = loop;
    check->resolver = resolver;
    check->snapshot = snapshot_ref(snapshot);
    check->done = done;
    check->context = context;
    check->task.run = finish;
    check->timer.fire = on_deadline;
    check->pending = 1; /* until all have begun */
    list_init(&check->subjects);
    demands = check_subjects_collect(&check->subjects, snapshot, database, environment);
    check->deadline_us = clock_now_us() + snapshot_globals(snapshot)->check_timeout_us;
    timer_set(loop, &check->timer, check->deadline_us);
    list_for_each (node, &check->subjects) {
        struct check_subject *subject = list_entry(node, struct check_subject, node);
        const struct effective *effective = subject->effective;
        const struct environment_config *of = effective->environment;
        add_hosts(subject, check, demands, effective->hosts, effective->host_count, false);
        if (of && effective->hosts == of->hosts)
            add_hosts(subject, check, demands, of->dr_hosts, of->dr_host_count, true);
        list_for_each (inner, &subject->hosts) {
            start_host(list_entry(inner, struct check_host, node));
        }
    }
    check_demands_free(demands);
    check_went_on(check);
    return check;
}
