/*
 * step.h: the steps, for plan.c. Each begins, or takes back, and ends with procedure_next,
 * procedure_fail or procedure_undone. Control thread.
 */
#ifndef PGSTAGE_FAILOVER_STEP_H
#define PGSTAGE_FAILOVER_STEP_H

#include "procedure_inside.h"

/* How long one login of failover_user may take: as long as a probe, but at least 3 s and at most
 * 15 s. */
uint64_t procedure_login_limit_us(const struct procedure *procedure);
/* The intent of a switchover that has not come to its promotion. */
#define INTENT_DEMOTE "demotion"
#define PROMOTE_LIMIT_US (120 * CLOCK_SECOND)

void step_locks(struct procedure *procedure);
void step_hold(struct procedure *procedure);
void step_fence(struct procedure *procedure);
void step_close(struct procedure *procedure);
void step_final(struct procedure *procedure);
void step_intent(struct procedure *procedure);
void undo_intent(struct procedure *procedure);
void step_promote(struct procedure *procedure);
void step_prove(struct procedure *procedure);
void step_accept(struct procedure *procedure);
void step_release(struct procedure *procedure);
void step_repoint(struct procedure *procedure);

void step_checkpoint(struct procedure *procedure);
void step_approach(struct procedure *procedure);
void undo_hold(struct procedure *procedure);
void step_drain(struct procedure *procedure);
void step_position(struct procedure *procedure);
void step_mark(struct procedure *procedure);
void step_undemote(struct procedure *procedure);
void step_demote(struct procedure *procedure);
void undo_demote(struct procedure *procedure);
void step_stopped(struct procedure *procedure);
void step_received(struct procedure *procedure);
void step_switchover(struct procedure *procedure);
void step_follow(struct procedure *procedure);

/* What is written down has not come to the disk in FAILOVER_PATIENCE_US: the alarm, and a note. */
void procedure_disk_is_late(struct procedure *procedure);
/* Asks every delegate what it is, then calls `surveyed`. */
void procedure_survey(struct procedure *procedure, void (*surveyed)(struct procedure *procedure));
#endif
