/*
 * alarm.c: what somebody should look at, from when it begins until it ends; each end and beginning
 * is one line in the log.
 *
 * An alarm is a state, not an event: whoever looks says between alarms_begin and alarms_end what
 * holds, and what was not said has ended.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

static void alarm_free(struct alarm *alarm)
{
    free(alarm->host);
    free(alarm->detail);
    free(alarm);
}

static void say(const struct alarm *alarm, const char *environment, bool begins)
{
    const char *host = alarm->host ? alarm->host : "";
    const char *in = environment ? environment : "pgstage";
    if (begins)
        log_warning("ALARM %s: %s%s%s: %s", alarm_word(alarm->kind), in, *host ? ": " : "", host,
                    alarm->detail);
    else
        log_log("alarm %s is over: %s%s%s", alarm_word(alarm->kind), in, *host ? ": " : "", host);
}

void alarm_raise(struct alarms *alarms, const char *environment, const char *host,
                 enum alarm_kind kind, const char *detail)
{
    struct alarm **place = &alarms->first;
    while (*place && !((*place)->kind == kind && text_equal((*place)->host, host)))
        place = &(*place)->next;
    struct alarm *alarm = *place;
    if (!alarm) {
        *place = alarm = memory_new(sizeof *alarm);
        alarm->kind = kind;
        alarm->host = text_copy(host);
        alarm->detail = text_copy(detail);
        alarm->since_wall_us = clock_wall_us();
        say(alarm, environment, true);
    } else if (!text_equal(alarm->detail, detail)) {
        free(alarm->detail);
        alarm->detail = text_copy(detail);
    }
    alarm->is_wanted = true;
}

void alarms_begin(struct alarms *alarms)
{
    for (struct alarm *alarm = alarms->first; alarm; alarm = alarm->next)
        alarm->is_wanted = false;
}

void alarms_end(struct alarms *alarms, const char *environment)
{
    struct alarm **place = &alarms->first;
    while (*place) {
        struct alarm *alarm = *place;
        if (alarm->is_wanted) {
            place = &alarm->next;
            continue;
        }
        *place = alarm->next;
        say(alarm, environment, false);
        alarm_free(alarm);
    }
}

void alarm_end(struct alarms *alarms, const char *environment, enum alarm_kind kind)
{
    for (struct alarm *alarm = alarms->first; alarm; alarm = alarm->next)
        alarm->is_wanted = alarm->kind != kind;
    alarms_end(alarms, environment);
}

void alarms_fini(struct alarms *alarms)
{
    struct alarm *alarm;
    while ((alarm = alarms->first)) {
        alarms->first = alarm->next;
        alarm_free(alarm);
    }
}
