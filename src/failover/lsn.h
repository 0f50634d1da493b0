/*
 * lsn: reading positions in the WAL. Pure; any thread. (Writing them: lsn_text, health/report.h.)
 */
#ifndef PGSTAGE_FAILOVER_LSN_H
#define PGSTAGE_FAILOVER_LSN_H

#include <stdbool.h>
#include <stdint.h>

/* "0/3000148" as PostgreSQL writes it. False: it is none. */
bool lsn_parse(const char *text, uint64_t *lsn);
/* The place of the shutdown checkpoint that a demote_command tells: behind "PGSTAGE_FINAL_LSN=", or
 * in the line "Latest checkpoint location:" of pg_controldata. 0: it tells none. */
uint64_t lsn_in_output(const char *output);

#endif
