/*
 * expiry: environments that end by themselves (`expires_at`). Control thread.
 */
#ifndef PGSTAGE_SESSION_EXPIRY_H
#define PGSTAGE_SESSION_EXPIRY_H

#include "pgstage/session/worker.h"

/* Looks which environments have expired, drains those that have since the last look, warns of those
 * that will within a day, and looks again when the next one is due. After a start and after each
 * reload (`anew`: what is known of earlier looks is forgotten). */
void expiry_look(struct plane *plane, bool anew);
/* No look will come any more. */
void expiry_stop(struct plane *plane);

#endif
