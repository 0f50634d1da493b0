/*
 * standing: role, lag, breaker and who was accepted, as one word for the data plane.
 *
 *                    role of the host        write                     standby
 *   accepted         primary or unknown      yes                       no
 *   another is       any                     no                        by role
 *   nobody decides   primary                 yes                       no
 *                    standby, orphaned       no                        yes, unless it is too late
 *                    unknown, or hearsay     logins find out           logins find out
 *                    … but not seen lately   logins find out           as above
 *
 * What clients' connections have seen of a host that no probe can look into is not good enough to
 * keep others from looking again. Hosts of the disaster recovery site serve nobody unless accepted.
 */
#include "pgstage/failover/standing.h"

static enum allowance standby_of(const struct host_report *report)
{
    if (report->hearsay || report->role == ROLE_UNKNOWN)
        return ALLOW_UNKNOWN;
    return report->role != ROLE_PRIMARY && !report->lag_over ? ALLOW_YES : ALLOW_NO;
}

static enum allowance write_of(const struct host_report *report)
{
    if (report->hearsay || report->role == ROLE_UNKNOWN)
        return ALLOW_UNKNOWN;
    return report->role == ROLE_PRIMARY ? ALLOW_YES : ALLOW_NO;
}

/* A host that fails at TLS answers at once, and clients are to hear what is wrong with it: nothing
 * is won by keeping connections away. */
static bool is_left_alone(const struct host_report *report)
{
    return report->breaker != BREAKER_CLOSED && report->error != PROBE_TLS;
}

struct standing standing_of(const struct host_report *report, enum standing_writer writer,
                            bool shut_out)
{
    struct standing standing = {
        .write = ALLOW_NO,
        .standby = ALLOW_NO,
        .read_only = report->read_only,
        .breaker_open = is_left_alone(report),
    };

    if (shut_out || (report->is_dr && writer != WRITER_THIS))
        return standing;
    /* an accepted primary that has come back as a standby takes no writes, whoever accepted it */
    if (writer == WRITER_THIS && write_of(report) != ALLOW_NO) {
        standing.write = ALLOW_YES;
        return standing;
    }
    standing.standby = standby_of(report);
    /* what was seen before nobody could look any more may be so on several hosts */
    if (writer == WRITER_BY_ROLE)
        standing.write = report->error == PROBE_FINE ? write_of(report) : ALLOW_UNKNOWN;
    return standing;
}
