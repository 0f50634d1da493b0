/*
 * show_socket: SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS.
 *
 * Each worker writes its own connections as rows on its own thread; the control thread only joins
 * them. So a view over thousands of connections never holds anything up for longer than one worker
 * needs for its share.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

enum extent { EXTENT_CLIENTS, EXTENT_SERVERS, EXTENT_SOCKETS, EXTENT_ACTIVE };

struct listing {
    struct result *result;
    enum extent extent;
};

static void put_time(struct result *result, uint64_t wall_us)
{
    if (wall_us == 0) {
        result_null(result);
        return;
    }
    time_t seconds = (time_t)(wall_us / CLOCK_SECOND);
    struct tm tm;
    char text[64];
    if (!localtime_r(&seconds, &tm) || strftime(text, sizeof text, "%F %T %Z", &tm) == 0)
        result_null(result);
    else
        result_text(result, text);
}

static void put_pointer(struct result *result, const void *pointer)
{
    if (pointer)
        result_print(result, "%p", pointer);
    else
        result_text(result, "");
}

/* SOCKETS names the lists that PgBouncer keeps: cl_active, sv_login … */
static void put_state(struct result *result, const struct socket_view *view, enum extent extent)
{
    if (extent < EXTENT_SOCKETS)
        result_text(result, view->state);
    else if (view->type == 'C')
        result_print(result, "cl_%s", text_equal(view->state, "idle") ? "active" : view->state);
    else
        result_print(result, "sv_%s", text_equal(view->state, "new") ? "login" : view->state);
}

static void put_buffers(struct result *result, const struct socket_view *view)
{
    for (int i = 0; i < 5; i++)
        result_int(result, 0);
    result_uint(result, view->received_bytes_waiting);
    result_uint(result, view->sent_bytes_waiting);
}

static void put_row(void *argument, const struct socket_view *view)
{
    const struct listing *listing = argument;
    struct result *result = listing->result;
    if (listing->extent == EXTENT_ACTIVE && !view->received_bytes_waiting &&
        !view->sent_bytes_waiting)
        return;
    char *database = database_name(view->database, view->environment);
    result_begin(result);
    result_print(result, "%c", view->type);
    result_text(result, view->user);
    result_text(result, database);
    result_text(result, view->replication);
    put_state(result, view, listing->extent);
    result_text(result, view->addr);
    result_int(result, view->port);
    result_text(result, view->local_addr);
    result_int(result, view->local_port);
    put_time(result, view->connect_wall_us);
    put_time(result, view->request_wall_us);
    result_uint(result, view->wait_us / CLOCK_SECOND);
    result_uint(result, view->wait_us % CLOCK_SECOND);
    result_int(result, view->close_needed);
    put_pointer(result, view->self);
    put_pointer(result, view->link);
    result_uint(result, view->remote_pid);
    result_text(result, view->tls);
    result_text(result, view->application_name);
    result_uint(result, view->prepared_statements);
    result_uint(result, view->id);
    if (listing->extent >= EXTENT_SOCKETS)
        put_buffers(result, view);
    result_text(result, view->environment && *view->environment ? view->environment : NULL);
    result_text(result, view->host);
    result_uint(result, view->worker);
    if (listing->extent == EXTENT_CLIENTS)
        result_text(result, view->pinned);
    if (listing->extent < EXTENT_SOCKETS)
        result_text(result, view->protocol);
    result_end(result);
    free(database);
}

static void list_part(struct loop *loop, const struct console_job *job, void *part,
                      enum extent extent, bool clients, bool servers)
{
    struct listing listing = {.result = part, .extent = extent};
    result_part(listing.result, &job->result);
    if (clients)
        worker_each_client(loop, put_row, &listing);
    if (servers)
        worker_each_server(loop, put_row, &listing);
}

static void list_clients(struct loop *loop, const struct console_job *job, void *part)
{
    list_part(loop, job, part, EXTENT_CLIENTS, true, false);
}

static void list_servers(struct loop *loop, const struct console_job *job, void *part)
{
    list_part(loop, job, part, EXTENT_SERVERS, false, true);
}

static void list_sockets(struct loop *loop, const struct console_job *job, void *part)
{
    list_part(loop, job, part, EXTENT_SOCKETS, true, true);
}

static void list_active_sockets(struct loop *loop, const struct console_job *job, void *part)
{
    list_part(loop, job, part, EXTENT_ACTIVE, true, true);
}

static void join(struct gathering *gathering)
{
    for (unsigned i = 0; i < gathering->count; i++)
        result_append(&gathering->job->result, gathering_part(gathering, i));
    console_done(gathering->job);
}

void command_show_clients(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct result), list_clients, join);
}

void command_show_servers(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct result), list_servers, join);
}

void command_show_sockets(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct result), list_sockets, join);
}

void command_show_active_sockets(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct result), list_active_sockets, join);
}
