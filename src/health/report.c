/*
 * report: the words of reports. Pure.
 */
#include "pgstage/health/report.h"

#include <inttypes.h>
#include <stdio.h>

const char *health_word(enum health health)
{
    static const char *const words[] = {
        [HEALTH_UNKNOWN] = "unknown",
        [HEALTH_HEALTHY] = "healthy",
        [HEALTH_WARNING] = "warning",
        [HEALTH_CRITICAL] = "critical",
    };
    return words[health];
}

const char *role_word(enum role role)
{
    static const char *const words[] = {
        [ROLE_UNKNOWN] = "unknown",
        [ROLE_PRIMARY] = "primary",
        [ROLE_STANDBY] = "standby",
        [ROLE_ORPHANED] = "orphaned",
    };
    return words[role];
}

const char *breaker_word(enum breaker breaker)
{
    static const char *const words[] = {
        [BREAKER_CLOSED] = "closed",
        [BREAKER_OPEN] = "open",
        [BREAKER_HALF_OPEN] = "half_open",
    };
    return words[breaker];
}

const char *probe_login_word(enum probe_login login)
{
    static const char *const words[] = {
        [PROBE_LOGIN_NONE] = "handshake",
        [PROBE_LOGIN_MONITOR] = "monitor_user",
        [PROBE_LOGIN_FORCED] = "user",
    };
    return words[login];
}

const char *receiver_word(enum receiver_state state)
{
    static const char *const words[] = {
        [RECEIVER_UNKNOWN] = "unknown",
        [RECEIVER_NONE] = "none",
        [RECEIVER_STREAMING] = "streaming",
        [RECEIVER_OTHER] = "not streaming",
    };
    return words[state];
}

const char *sync_word(enum sync_state state)
{
    static const char *const words[] = {
        [SYNC_UNKNOWN] = "",      [SYNC_ASYNC] = "async", [SYNC_POTENTIAL] = "potential",
        [SYNC_QUORUM] = "quorum", [SYNC_SYNC] = "sync",
    };
    return words[state];
}

const char *lsn_text(uint64_t lsn, char text[20])
{
    text[0] = '\0';
    if (lsn)
        snprintf(text, 20, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return text;
}
