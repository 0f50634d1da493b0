/*
 * monitor_name: the names of an environment's hosts and what addresses they have.
 *
 *   name ─ looked up each dns_max_ttl ─► addresses ─ one: a host whose label is the name
 *                                                  └ several: a host for each, named name@address
 *
 * An address that changes makes another host of a name, of which nothing is known. A look-up that
 * fails changes nothing; while a name has never been resolved it stands as a host that is down.
 * Whoever listens hears of the addresses before the hosts that come and go.
 */
#include <stdlib.h>
#include <string.h>

#include "monitor_inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/host.h"

/* The least time between look-ups of a name, whatever dns_max_ttl says. */
#define LOOK_UP_LEAST_US CLOCK_SECOND

/* ---- hosts of a name ---- */

static void drop_host(struct monitored *host)
{
    list_remove(&host->environment->hosts, &host->node);
    monitored_changed(host, MONITOR_GONE);
    monitored_free(host);
}

/* Behind the other hosts of its name and of the names before it. */
static void add_host(struct monitor_name *name, const struct address *address, bool several)
{
    struct monitor_environment *environment = name->environment;
    struct monitored *host = monitored_new(name, address, several);
    uint64_t now_us = loop_now_us(environment->monitor->loop);

    list_push_back(&environment->hosts, &host->node);
    /* a name service gets as long to answer as a server */
    monitored_schedule(host, address ? now_us : now_us + environment->settings->probe_timeout_us);
    /* whose address this is must be known before anybody connects to it, probed or not */
    monitored_changed(host, MONITOR_NEW);
}

/* hosts in the order of the names, whenever some were added. */
static void order_hosts(struct monitor_environment *environment)
{
    struct list ordered;
    struct list_node *node;

    list_init(&ordered);
    list_for_each (name_node, &environment->names) {
        struct monitor_name *name = list_entry(name_node, struct monitor_name, node);

        list_for_each_safe (host_node, &environment->hosts) {
            struct monitored *host = list_entry(host_node, struct monitored, node);

            if (host->name != name)
                continue;
            list_remove(&environment->hosts, &host->node);
            list_push_back(&ordered, &host->node);
        }
    }
    while ((node = list_pop_front(&ordered)))
        list_push_back(&environment->hosts, node);
}

static bool is_answered(const struct resolver_answer *answer, const struct address *address)
{
    for (size_t i = 0; i < answer->count; i++)
        if (address_equal(&answer->addresses[i], address))
            return true;
    return false;
}

static bool has_host(const struct monitor_name *name, const struct address *address)
{
    list_for_each (node, &name->environment->hosts) {
        const struct monitored *host = list_entry(node, struct monitored, node);

        if (host->name == name && address_equal(&host->address, address))
            return true;
    }
    return false;
}

static void tell_addresses(const struct monitor_name *name, const struct resolver_answer *answer)
{
    const struct monitor_hooks *hooks = &name->environment->monitor->hooks;
    char texts[RESOLVER_ADDRESSES_MAX][ADDRESS_TEXT_BYTES];
    const char *addresses[RESOLVER_ADDRESSES_MAX];

    if (!hooks->addresses)
        return;
    for (size_t i = 0; i < answer->count; i++)
        addresses[i] = address_host_text(&answer->addresses[i], texts[i]);
    hooks->addresses(hooks->context, name->environment->name, &name->config, addresses,
                     answer->count);
}

static size_t count_hosts(const struct monitor_name *name)
{
    size_t count = 0;

    list_for_each (node, &name->environment->hosts) {
        const struct monitored *host = list_entry(node, struct monitored, node);

        count += host->name == name && host->address.length > 0;
    }
    return count;
}

/* The name means these addresses now. */
static void take_addresses(struct monitor_name *name, const struct resolver_answer *answer)
{
    struct monitor_environment *environment = name->environment;
    bool several = answer->count > 1, relabel = (count_hosts(name) > 1) != several;
    bool same = !relabel && count_hosts(name) == answer->count;

    for (size_t i = 0; i < answer->count && same; i++)
        same = has_host(name, &answer->addresses[i]);
    if (same)
        return;
    tell_addresses(name, answer);
    list_for_each_safe (node, &environment->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (host->name == name && (relabel || !is_answered(answer, &host->address)))
            drop_host(host);
    }
    for (size_t i = 0; i < answer->count; i++)
        if (!has_host(name, &answer->addresses[i]))
            add_host(name, &answer->addresses[i], several);
    order_hosts(environment);
}

/* ---- names ---- */

/* Two names of one answer may be one address (getaddrinfo repeats itself with odd hosts files). */
static void drop_duplicates(struct resolver_answer *answer)
{
    size_t kept = 0;

    for (size_t i = 0; i < answer->count; i++) {
        bool seen = false;

        for (size_t k = 0; k < kept && !seen; k++)
            seen = address_equal(&answer->addresses[k], &answer->addresses[i]);
        if (!seen)
            answer->addresses[kept++] = answer->addresses[i];
    }
    answer->count = kept;
}

static void resolved(struct monitor_name *name, const struct resolver_answer *given)
{
    struct monitor *monitor = name->environment->monitor;
    struct resolver_answer answer = *given;
    uint64_t again_us = monitor->dns_ttl_us;

    if (again_us < LOOK_UP_LEAST_US)
        again_us = LOOK_UP_LEAST_US;
    timer_set(monitor->loop, &name->timer, loop_now_us(monitor->loop) + again_us);
    if (answer.count == 0) {
        /* what was known stays in use */
        (void)text_fit(name->problem, sizeof name->problem,
                       answer.problem[0] ? answer.problem : "the name has no address");
        return;
    }
    name->problem[0] = '\0';
    drop_duplicates(&answer);
    take_addresses(name, &answer);
}

static void on_resolved(struct loop *loop, struct resolver_query *query,
                        const struct resolver_answer *answer)
{
    (void)loop;
    resolved(list_entry(query, struct monitor_name, query), answer);
}

static void look_up(struct monitor_name *name)
{
    struct monitor *monitor = name->environment->monitor;
    const struct host_config *config = &name->config;
    struct resolver_answer answer = {0};

    if (host_is_socket(config)) {
        answer.count = address_local(&answer.addresses[0], config->name, config->port);
        (void)text_fit(name->problem, sizeof name->problem, "the path of the socket is too long");
        take_addresses(name, &answer);
        return;
    }
    if (name->query.ticket)
        return;
    if (resolver_ask(monitor->resolver, monitor->loop, &name->query,
                     config->address ? config->address : config->name, config->port, &answer))
        resolved(name, &answer);
}

static void on_look_up(struct loop *loop, struct timer *timer)
{
    (void)loop;
    look_up(list_entry(timer, struct monitor_name, timer));
}

static struct monitor_name *name_new(struct monitor_environment *environment,
                                     const struct host_config *config, bool is_dr)
{
    struct monitor_name *name = memory_new(sizeof *name);

    name->environment = environment;
    name->text_name = text_copy(config->name);
    name->text_address = text_copy(config->address);
    name->config = (struct host_config){name->text_name, name->text_address, config->port};
    name->is_dr = is_dr;
    name->query.answered = on_resolved;
    name->timer.fire = on_look_up;
    return name;
}

static void name_free(struct monitor_name *name)
{
    struct monitor *monitor = name->environment->monitor;

    list_for_each_safe (node, &name->environment->hosts) {
        struct monitored *host = list_entry(node, struct monitored, node);

        if (host->name == name)
            drop_host(host);
    }
    if (name->query.ticket)
        resolver_cancel(monitor->resolver, monitor->loop, &name->query);
    timer_detach(monitor->loop, &name->timer);
    free(name->text_name);
    free(name->text_address);
    free(name);
}

static bool name_is(const struct monitor_name *name, const struct host_config *config, bool is_dr)
{
    return name->is_dr == is_dr && host_lists_equal(&name->config, 1, config, 1);
}

/* Moves the name to `kept`, or makes it there. */
static void keep_name(struct monitor_environment *environment, struct list *kept,
                      const struct host_config *config, bool is_dr)
{
    list_for_each_safe (node, &environment->names) {
        struct monitor_name *name = list_entry(node, struct monitor_name, node);

        if (name_is(name, config, is_dr)) {
            list_remove(&environment->names, &name->node);
            list_push_back(kept, &name->node);
            return;
        }
    }
    list_push_back(kept, &name_new(environment, config, is_dr)->node);
}

void environment_take_names(struct monitor_environment *environment)
{
    const struct environment_config *config = environment->config;
    static const struct resolver_answer nothing;
    struct list kept;
    struct list_node *gone;

    list_init(&kept);
    for (size_t i = 0; i < config->host_count; i++)
        keep_name(environment, &kept, &config->hosts[i], false);
    for (size_t i = 0; i < config->dr_host_count; i++)
        keep_name(environment, &kept, &config->dr_hosts[i], true);
    while ((gone = list_pop_front(&environment->names)))
        name_free(list_entry(gone, struct monitor_name, node));
    while ((gone = list_pop_front(&kept)))
        list_push_back(&environment->names, gone);
    list_for_each (node, &environment->names) {
        struct monitor_name *name = list_entry(node, struct monitor_name, node);

        if (name->resolved)
            continue;
        name->resolved = true;
        tell_addresses(name, &nothing); /* that there is such a host */
        look_up(name);
        if (count_hosts(name) == 0)
            add_host(name, NULL, false);
    }
    order_hosts(environment);
}

void environment_drop_names(struct monitor_environment *environment)
{
    struct list_node *node;

    while ((node = list_pop_front(&environment->names)))
        name_free(list_entry(node, struct monitor_name, node));
}
