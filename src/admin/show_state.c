/*
 * show_state: what the process itself is doing: SHOW HELP, VERSION, STATE, LISTS, MEM,
 * DNS_HOSTS, DNS_ZONES.
 *
 * Control thread, but for the totals of LISTS and MEM, which each worker counts for itself.
 */
#include <malloc.h>
#include <stdlib.h>

#include "config.h"
#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/users.h"
#include "pgstage/net/resolver.h"
#include "pgstage/pool/registry.h"
#include "pgstage/wire/message.h"

/* psql shows DETAIL, the text alone is what other clients show: so the list is in the text. */
void command_show_help(struct admin *admin, struct console_job *job)
{
    (void)admin;
    char *help = command_help();
    char *text = text_print("Console usage%s", help);
    message_notice(&job->notices, "NOTICE", "00000", text);
    free(text);
    free(help);
    console_done(job);
}

void command_show_version(struct admin *admin, struct console_job *job)
{
    (void)admin;
    result_begin(&job->result);
    result_text(&job->result, PACKAGE_STRING);
    result_end(&job->result);
    console_done(job);
}

static void put_state(struct result *result, const char *key, bool value)
{
    result_begin(result);
    result_text(result, key);
    result_yes(result, value);
    result_end(result);
}

void command_show_state(struct admin *admin, struct console_job *job)
{
    bool paused = registry_is_paused(plane_registry(admin->plane), NULL, NULL);
    put_state(&job->result, "active", !paused);
    put_state(&job->result, "paused", paused);
    put_state(&job->result, "suspended", false);
    put_state(&job->result, "shutting_down", plane_is_stopping(admin->plane));
    console_done(job);
}

/* ---- lists and memory ---- */

static void count_worker(struct loop *loop, const struct console_job *job, void *part)
{
    (void)job;
    worker_totals(loop, part);
}

static struct worker_totals sum_totals(const struct gathering *gathering)
{
    struct worker_totals sum = {0};
    for (unsigned i = 0; i < gathering->count; i++) {
        const struct worker_totals *part = gathering_part(gathering, i);
        sum.login_clients += part->login_clients;
        sum.used_clients += part->used_clients;
        sum.free_clients += part->free_clients;
        sum.used_servers += part->used_servers;
        sum.free_servers += part->free_servers;
        sum.client_bytes += part->client_bytes;
        sum.server_bytes += part->server_bytes;
        sum.buffer_bytes += part->buffer_bytes;
        sum.used_exchanges += part->used_exchanges;
        sum.free_exchanges += part->free_exchanges;
        sum.exchange_bytes += part->exchange_bytes;
        sum.moved_servers += part->moved_servers;
    }
    return sum;
}

static void count_one(struct effective *effective, void *argument)
{
    size_t *count = argument;
    (void)effective;
    (*count)++;
}

static void put_lists(struct gathering *gathering)
{
    struct admin *admin = gathering->admin;
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    const struct users *users = snapshot_users(snapshot);
    struct worker_totals totals = sum_totals(gathering);
    size_t databases = 0, names = 0, pending = 0;
    struct login_totals logins;
    plane_login_totals(admin->plane, &logins);
    databases_each(admin, count_one, &databases);
    resolver_counts(plane_resolver(admin->plane), &names, &pending);
    const struct {
        const char *name;
        uint64_t items;
    } lists[] = {
        {"databases", databases},
        {"users", users ? users_count(users) : 0},
        {"peers", snapshot_peer_count(snapshot)},
        {"pools", registry_pool_count(plane_registry(admin->plane))},
        {"peer_pools", snapshot_peer_count(snapshot)},
        {"free_clients", totals.free_clients},
        {"used_clients", totals.used_clients},
        {"login_clients", totals.login_clients},
        {"free_servers", totals.free_servers},
        {"used_servers", totals.used_servers},
        {"dns_names", names},
        {"dns_zones", 0},
        {"dns_queries", 0},
        {"dns_pending", pending},
        {"environments", snapshot_environment_count(snapshot)},
        {"listeners", snapshot_listener_count(snapshot)},
        {"workers", plane_worker_count(admin->plane)},
        {"console_sessions", console_session_count(admin->console)},
        {"login_failures", logins.failures},
        {"login_refusals", logins.refusals},
        {"login_failure_addresses", logins.addresses},
        {"login_refused_addresses", logins.refused_addresses},
        {"moved_servers", totals.moved_servers},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        result_begin(&gathering->job->result);
        result_text(&gathering->job->result, lists[i].name);
        result_uint(&gathering->job->result, lists[i].items);
        result_end(&gathering->job->result);
    }
    console_done(gathering->job);
}

void command_show_lists(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct worker_totals), count_worker, put_lists);
}

static void put_memory(struct result *result, const char *name, uint64_t size, uint64_t used,
                       uint64_t free_count, uint64_t total)
{
    result_begin(result);
    result_text(result, name);
    result_uint(result, size);
    result_uint(result, used);
    result_uint(result, free_count);
    result_uint(result, total);
    result_end(result);
}

static void put_mem(struct gathering *gathering)
{
    struct result *result = &gathering->job->result;
    struct worker_totals totals = sum_totals(gathering);
    struct mallinfo2 heap = mallinfo2();
    put_memory(result, "client_cache",
               totals.used_clients ? totals.client_bytes / totals.used_clients : 0,
               totals.used_clients, totals.free_clients, totals.client_bytes);
    put_memory(result, "server_cache",
               totals.used_servers ? totals.server_bytes / totals.used_servers : 0,
               totals.used_servers, totals.free_servers, totals.server_bytes);
    uint64_t exchanges = totals.used_exchanges + totals.free_exchanges;
    put_memory(result, "exchange_cache", exchanges ? totals.exchange_bytes / exchanges : 0,
               totals.used_exchanges, totals.free_exchanges, totals.exchange_bytes);
    put_memory(result, "iobuf_cache", 1, totals.buffer_bytes, 0, totals.buffer_bytes);
    put_memory(result, "heap", 1, heap.uordblks + heap.hblkhd, heap.fordblks,
               heap.arena + heap.hblkhd);
    console_done(gathering->job);
}

void command_show_mem(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct worker_totals), count_worker, put_mem);
}

/* ---- names ---- */

static void put_dns_host(void *argument, const char *name, uint64_t ttl_us,
                         const struct resolver_answer *answer)
{
    struct result *result = argument;
    struct buffer addresses = {0};
    for (size_t i = 0; i < answer->count; i++) {
        char text[ADDRESS_TEXT_BYTES];
        buffer_print(&addresses, "%s%s", i ? "," : "",
                     address_host_text(&answer->addresses[i], text));
    }
    buffer_put_u8(&addresses, '\0');
    result_begin(result);
    result_text(result, name);
    result_uint(result, ttl_us / CLOCK_SECOND);
    result_text(result, (const char *)addresses.data);
    result_end(result);
    buffer_fini(&addresses);
}

void command_show_dns_hosts(struct admin *admin, struct console_job *job)
{
    resolver_each(plane_resolver(admin->plane), put_dns_host, &job->result);
    console_done(job);
}

void command_show_dns_zones(struct admin *admin, struct console_job *job)
{
    (void)admin;
    console_done(job);
}
