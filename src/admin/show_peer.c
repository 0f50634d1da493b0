/*
 * show_peer: SHOW PEERS and SHOW PEER_POOLS: the other processes behind the same address, and the
 * cancel requests that are on their way to them.
 *
 * Each peer's requests are with one worker, which alone knows of them; a peer that no worker speaks
 * of has none.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/memory.h"

void command_show_peers(struct admin *admin, struct console_job *job)
{
    const struct snapshot *snapshot = plane_snapshot(admin->plane);
    int64_t by_default = snapshot_globals(snapshot)->default_pool_size;
    for (size_t i = 0; i < snapshot_peer_count(snapshot); i++) {
        const struct peer_config *peer = snapshot_peer(snapshot, i);
        result_begin(&job->result);
        result_int(&job->result, peer->id);
        result_text(&job->result, peer->host);
        result_int(&job->result, peer->port);
        result_int(&job->result, peer->pool_size >= 0 ? peer->pool_size : by_default);
        result_end(&job->result);
    }
    console_done(job);
}

struct views {
    struct peer_view *views;
    size_t count;
};

static void note_peer(void *argument, const struct peer_view *view)
{
    struct views *views = argument;
    views->views = memory_resize(views->views, views->count + 1, sizeof *views->views);
    views->views[views->count++] = *view;
}

static void note_peers(struct loop *loop, const struct console_job *job, void *part)
{
    (void)job;
    worker_each_peer(loop, note_peer, part);
}

static struct peer_view view_of(struct gathering *gathering, int64_t id)
{
    for (unsigned i = 0; i < gathering->count; i++) {
        const struct views *views = gathering_part(gathering, i);
        for (size_t k = 0; k < views->count; k++)
            if (views->views[k].id == id)
                return views->views[k];
    }
    return (struct peer_view){.id = id};
}

static void put_peer_pools(struct gathering *gathering)
{
    const struct snapshot *snapshot = plane_snapshot(gathering->admin->plane);
    struct result *result = &gathering->job->result;
    for (size_t i = 0; i < snapshot_peer_count(snapshot); i++) {
        struct peer_view view = view_of(gathering, snapshot_peer(snapshot, i)->id);
        result_begin(result);
        result_int(result, view.id);
        result_uint(result, view.sent);
        result_uint(result, view.waiting + view.connecting);
        result_uint(result, view.sent);
        result_uint(result, view.connecting);
        result_end(result);
    }
    for (unsigned i = 0; i < gathering->count; i++)
        free(((struct views *)gathering_part(gathering, i))->views);
    console_done(gathering->job);
}

void command_show_peer_pools(struct admin *admin, struct console_job *job)
{
    gathering_start(admin, job, sizeof(struct views), note_peers, put_peer_pools);
}
