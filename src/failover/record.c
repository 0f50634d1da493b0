/*
 * record.c: what was decided, for the audit log: who takes writes from now on, fences, failovers.
 *
 *   ward ─ record ─► world->record (steer.c) ─► the audit log's thread
 *
 * What operators say stands there as their commands; this is what became of it, and above all what
 * pgstage decides by itself. Nothing waits for the disk.
 */
#include "inside.h"

void ward_record(const struct ward *ward, struct failover_record record)
{
    const struct failover *failover = ward->failover;
    if (failover->is_stopped || !failover->world.record)
        return;
    record.environment = ward->name;
    failover->world.record(failover->world.context, &record);
}

void ward_record_episode(const struct ward *ward, const struct episode *episode)
{
    bool ends = episode->result != EPISODE_RUNNING;
    ward_record(ward, (struct failover_record){
                          .what = ends ? "end" : "begin",
                          .host = episode->to,
                          .from = episode->from,
                          .type = episode_type_word(episode->type),
                          .reason = ends ? episode->text : episode->trigger,
                          .result = ends ? episode_result_word(episode->result) : NULL,
                          .episode = ends ? episode : NULL,
                      });
}
