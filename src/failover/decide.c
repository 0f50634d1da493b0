/*
 * decide.c: which host is to take writes.
 *
 *   1 everybody has answered?                    no → WAIT (only before the first decision)
 *   2 is there one identity?                     no → STOP, until ACCEPT
 *   3 who may not even be considered?            another cluster, fenced, older timeline, other
 * site 4 an intent of a promotion?                  its candidate writes → ACCEPT it, else NONE 5
 * contenders of equal standing left?         yes → STOP 6 writers that remain:  none → NONE (or
 * KEEP / UNVERIFIED when we are merely blind) one  → KEEP, or ACCEPT when it continues the accepted
 * history more → two_primaries; equal timelines always STOP 7 whoever else takes writes is fenced
 * and alarmed
 *
 * What must stay true: no verdict lets two hosts take writes; another cluster and an older timeline
 * are never accepted; a fence goes only when its host is seen to stream the accepted timeline.
 * Hosts of dr_hosts are considered exactly while a DR failover is in force, and then those of
 * `hosts` are not: only a planned switchover leads back.
 */
#include "pgstage/failover/decide.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/base/text.h"

static const struct {
    const char *word, *help;
} alarms[ALARM_KINDS] = {
#define ALARM(id, word, help) [ALARM_##id] = {word, help},
#include "pgstage/tables/alarms.def"
#undef ALARM
};

const char *alarm_word(enum alarm_kind kind)
{
    return alarms[kind].word;
}

const char *alarm_help(enum alarm_kind kind)
{
    return alarms[kind].help;
}

/* auto resolved: newest when following, keep when promoting. */
static enum two_primaries two_primaries_of(const struct policy *policy)
{
    if (policy->two_primaries != TWO_PRIMARIES_AUTO)
        return policy->two_primaries;
    return policy->promotes ? TWO_PRIMARIES_KEEP : TWO_PRIMARIES_NEWEST;
}

/* What is worked out about one host on the way. */
struct view {
    enum fence_kind fence; /* as it will be after this decision */
    bool in_site;          /* of `hosts`, or of dr_hosts while a DR failover is in force */
    bool is_ours;          /* its system identifier is the expected one, or not known */
    bool is_writer;        /* takes writes, and is no second name of one that is listed already */
    bool may_win;          /* is_writer, and nothing speaks against it */
};

struct desk {
    const struct situation *situation;
    const struct policy *policy;
    const struct sighting *hosts;
    size_t count;
    struct decision *decision;
    uint64_t identifier; /* expected; 0: not known */
    size_t accepted;     /* its place; DECISION_NO_HOST: none, or it is not configured any more */
    struct view views[DECIDE_HOSTS_MAX];
};

__attribute__((format(printf, 4, 5))) static void conclude(struct desk *desk, enum verdict verdict,
                                                           size_t host, const char *format, ...)
{
    struct decision *decision = desk->decision;
    va_list arguments;
    decision->verdict = verdict;
    decision->host = host;
    va_start(arguments, format);
    vsnprintf(decision->reason, sizeof decision->reason, format, arguments);
    va_end(arguments);
}

static void alarm_environment(struct desk *desk, enum alarm_kind alarm)
{
    desk->decision->has_alarm = true;
    desk->decision->alarm = alarm;
}

__attribute__((format(printf, 4, 5))) static void
alarm_host(struct desk *desk, size_t host, enum alarm_kind alarm, const char *format, ...)
{
    struct host_decision *of = &desk->decision->of[host];
    va_list arguments;
    of->has_alarm = true;
    of->alarm = alarm;
    va_start(arguments, format);
    vsnprintf(of->text, sizeof of->text, format, arguments);
    va_end(arguments);
}

static void fence(struct desk *desk, size_t host, enum fence_kind kind)
{
    struct view *view = &desk->views[host];
    if (view->fence == FENCE_OPERATOR || view->fence == kind)
        return;
    view->fence = kind;
    view->may_win = false;
    desk->decision->of[host].fence = kind;
    desk->decision->of[host].unfence = false;
}

static void unfence(struct desk *desk, size_t host)
{
    desk->views[host].fence = FENCE_NONE;
    desk->decision->of[host].unfence = true;
    desk->decision->of[host].fence = FENCE_NONE;
}

/* ---- 1 and 2: answers and identity ---- */

static bool somebody_is_unasked(struct desk *desk)
{
    size_t missing = 0;
    for (size_t i = 0; i < desk->count; i++)
        missing += desk->views[i].in_site && desk->hosts[i].sight == SIGHT_UNASKED;
    if (missing == 0)
        return false;
    conclude(desk, VERDICT_WAIT, DECISION_NO_HOST, "%zu host%s not answered yet", missing,
             missing == 1 ? " has" : "s have");
    return true;
}

/* The identifier that is expected: the accepted one, or the one that all hosts agree on. False:
 * they do not. */
static bool find_identity(struct desk *desk)
{
    desk->identifier = desk->situation->system_identifier;
    if (desk->identifier)
        return true;
    size_t first = DECISION_NO_HOST;
    for (size_t i = 0; i < desk->count; i++) {
        uint64_t identifier = desk->hosts[i].system_identifier;
        if (!desk->views[i].in_site || !identifier)
            continue;
        if (first == DECISION_NO_HOST) {
            first = i;
            desk->identifier = identifier;
        } else if (identifier != desk->identifier) {
            conclude(desk, VERDICT_STOP, DECISION_NO_HOST,
                     "%s belongs to the cluster %" PRIu64 " and %s to %" PRIu64
                     ": ACCEPT has to say which is meant",
                     desk->hosts[first].host, desk->identifier, desk->hosts[i].host, identifier);
            alarm_environment(desk, ALARM_WRONG_CLUSTER);
            return false;
        }
    }
    return true;
}

/* ---- 3: who may be considered ---- */

static bool is_same_server(const struct desk *desk, size_t a, size_t b)
{
    const struct sighting *one = &desk->hosts[a], *other = &desk->hosts[b];
    return one->sight == SIGHT_WRITER && other->sight == SIGHT_WRITER &&
           one->started_wall_us == other->started_wall_us &&
           one->system_identifier == other->system_identifier;
}

/* A second name of a server that is listed already (the accepted one's name goes first). */
static bool is_second_name(const struct desk *desk, size_t host)
{
    uint64_t started = desk->hosts[host].started_wall_us;
    if (!started || host == desk->accepted)
        return false;
    if (desk->accepted != DECISION_NO_HOST && is_same_server(desk, desk->accepted, host))
        return true;
    for (size_t i = 0; i < host; i++) {
        if (is_same_server(desk, i, host))
            return true;
    }
    return false;
}

static void look_at_identity(struct desk *desk, size_t host)
{
    const struct sighting *sighting = &desk->hosts[host];
    struct view *view = &desk->views[host];
    view->is_ours = !sighting->system_identifier || !desk->identifier ||
                    sighting->system_identifier == desk->identifier;
    if (view->is_ours)
        return;
    desk->decision->of[host].shut_out = true;
    alarm_host(desk, host, ALARM_WRONG_CLUSTER,
               "its system identifier is %" PRIu64 ", expected is %" PRIu64,
               sighting->system_identifier, desk->identifier);
}

/* Does it follow the accepted primary, or one of those that do? */
static bool follows(const struct desk *desk, size_t host)
{
    const struct sighting *sighting = &desk->hosts[host];
    return sighting->sight == SIGHT_STANDBY && sighting->is_fresh && sighting->is_streaming &&
           desk->views[host].is_ours && sighting->system_identifier && desk->situation->accepted &&
           desk->situation->timeline && sighting->timeline == desk->situation->timeline;
}

static void look_at_fence(struct desk *desk, size_t host)
{
    struct view *view = &desk->views[host];
    if (view->fence == FENCE_NONE || view->fence == FENCE_OPERATOR || !follows(desk, host))
        return;
    /* while another host is to say which line counts, streaming proves nothing */
    if (desk->situation->intent)
        return;
    unfence(desk, host);
}

static void look_at_writer(struct desk *desk, size_t host)
{
    const struct sighting *sighting = &desk->hosts[host];
    struct view *view = &desk->views[host];
    uint32_t known = desk->situation->timeline;
    view->is_writer =
        sighting->sight == SIGHT_WRITER && view->is_ours && !is_second_name(desk, host);
    if (!view->is_writer)
        return;
    if (!view->in_site) {
        if (sighting->is_dr)
            alarm_host(desk, host, ALARM_DR_PRIMARY,
                       "takes writes on timeline %" PRIu32 ", but no DR failover is in force",
                       sighting->timeline);
        return;
    }
    if (known && sighting->timeline && sighting->timeline < known) {
        if (sighting->is_fresh)
            alarm_host(desk, host, ALARM_OLDER_TIMELINE,
                       "takes writes on timeline %" PRIu32 ", older than the accepted %" PRIu32,
                       sighting->timeline, known);
        return;
    }
    /* of any but the accepted one everything must be known */
    bool is_known =
        sighting->timeline && (sighting->system_identifier || !desk->situation->system_identifier);
    view->may_win = view->fence == FENCE_NONE && (is_known || host == desk->accepted);
}

static void look_at_reads(struct desk *desk, size_t host)
{
    const struct sighting *sighting = &desk->hosts[host];
    bool follows_old_line = sighting->sight == SIGHT_STANDBY && sighting->is_streaming &&
                            sighting->timeline && sighting->timeline < desk->situation->timeline;
    if (desk->views[host].fence != FENCE_NONE || follows_old_line ||
        (!desk->views[host].in_site && !follows(desk, host)))
        desk->decision->of[host].shut_out = true;
    if (sighting->is_dr && !desk->situation->dr_in_force)
        desk->decision->of[host].shut_out = true;
    if (sighting->sight == SIGHT_BLIND && desk->views[host].in_site)
        alarm_host(desk, host, ALARM_BLIND, "it answers, but its role cannot be read");
}

/* ---- 4: a promotion that pgstage itself had begun ---- */

static size_t find(const struct desk *desk, const char *key)
{
    for (size_t i = 0; key && i < desk->count; i++) {
        if (text_equal(desk->hosts[i].host, key))
            return i;
    }
    return DECISION_NO_HOST;
}

static void finish_intent(struct desk *desk)
{
    const struct intent *intent = desk->situation->intent;
    size_t to = find(desk, intent->to);
    const struct sighting *candidate = to == DECISION_NO_HOST ? NULL : &desk->hosts[to];
    bool writes = candidate && candidate->sight == SIGHT_WRITER && candidate->is_fresh &&
                  desk->views[to].is_ours && candidate->timeline > intent->timeline &&
                  candidate->timeline >= desk->situation->timeline &&
                  desk->views[to].fence != FENCE_OPERATOR;
    if (writes) {
        conclude(desk, VERDICT_ACCEPT, to,
                 "its promotion had been begun, and it takes writes on timeline %" PRIu32,
                 candidate->timeline);
        return;
    }
    conclude(desk, VERDICT_NONE, DECISION_NO_HOST,
             "the promotion of %s had been begun, and it does not take writes on a newer timeline",
             intent->to);
    alarm_environment(desk, ALARM_UNFINISHED_FAILOVER);
}

/* ---- 5: contenders ---- */

/* Every one of them that still takes writes. */
static void alarm_contenders(struct desk *desk)
{
    uint32_t timeline = 0;
    enum alarm_kind alarm = ALARM_EQUAL_TIMELINES;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < desk->count; i++) {
            const struct sighting *sighting = &desk->hosts[i];
            if (desk->views[i].fence != FENCE_CONTENDER || sighting->sight != SIGHT_WRITER)
                continue;
            if (pass == 1)
                alarm_host(desk, i, alarm,
                           "takes writes on timeline %" PRIu32 ", as another did at the same time",
                           sighting->timeline);
            else if (timeline && timeline != sighting->timeline)
                alarm = ALARM_TWO_PRIMARIES;
            timeline = sighting->timeline;
        }
    }
    alarm_environment(desk, alarm);
}

/* True: they are still more than one. */
static bool contenders_remain(struct desk *desk)
{
    size_t count = 0, last = 0, other_writers = 0;
    for (size_t i = 0; i < desk->count; i++) {
        const struct sighting *sighting = &desk->hosts[i];
        if (desk->views[i].fence != FENCE_CONTENDER)
            continue;
        if (sighting->sight == SIGHT_STANDBY && sighting->is_fresh && sighting->is_streaming) {
            fence(desk, i, FENCE_FORMER); /* it has given way */
            continue;
        }
        count++;
        last = i;
        other_writers += i != desk->accepted && desk->hosts[i].sight == SIGHT_WRITER;
    }
    bool accepted_contends =
        desk->accepted != DECISION_NO_HOST && desk->views[desk->accepted].fence == FENCE_CONTENDER;
    if (count == 0)
        return false;
    if (count > 1 && !(accepted_contends && other_writers == 0)) {
        conclude(desk, VERDICT_STOP, DECISION_NO_HOST,
                 "%zu hosts took writes at once, none of them is known to be the right one", count);
        alarm_contenders(desk);
        return true;
    }
    /* one is left, or only the accepted one still takes writes */
    size_t winner = count == 1 ? last : desk->accepted;
    for (size_t i = 0; i < desk->count; i++) {
        if (desk->views[i].fence == FENCE_CONTENDER && i != winner)
            fence(desk, i, FENCE_FORMER);
    }
    unfence(desk, winner);
    desk->decision->of[winner].shut_out = false;
    look_at_writer(desk, winner);
    return false;
}

/* ---- 6: the writers that remain ---- */

static void describe_loss(struct desk *desk)
{
    const struct situation *situation = desk->situation;
    static const char *const looks[] = {
        [SIGHT_UNASKED] = "has not answered yet",
        [SIGHT_DOWN] = "is down",
        [SIGHT_BLIND] = "cannot be read",
        [SIGHT_STANDBY] = "is a standby",
        [SIGHT_WRITER] = "is refused",
    };
    if (desk->accepted == DECISION_NO_HOST) {
        conclude(desk, VERDICT_NONE, DECISION_NO_HOST, "no host that may be accepted takes writes");
    } else {
        enum sight sight = desk->hosts[desk->accepted].sight;
        bool is_fenced = desk->views[desk->accepted].fence != FENCE_NONE;
        conclude(desk, VERDICT_NONE, DECISION_NO_HOST, "the accepted primary %s %s",
                 situation->accepted,
                 sight == SIGHT_WRITER && is_fenced ? "is fenced: UNFENCE it, or FAILOVER"
                                                    : looks[sight]);
    }
    alarm_environment(desk, ALARM_NO_PRIMARY);
}

static void without_writer(struct desk *desk)
{
    size_t accepted = desk->accepted;
    if (accepted != DECISION_NO_HOST) {
        const struct sighting *sighting = &desk->hosts[accepted];
        if (sighting->sight == SIGHT_BLIND && !sighting->was_standby &&
            desk->views[accepted].is_ours && desk->views[accepted].fence == FENCE_NONE)
            conclude(desk, VERDICT_KEEP, accepted, "it answers, but its role cannot be read");
        else
            describe_loss(desk);
        return;
    }
    for (size_t i = 0; i < desk->count; i++) {
        if (desk->views[i].in_site && desk->hosts[i].sight == SIGHT_BLIND &&
            desk->views[i].fence == FENCE_NONE && !desk->situation->accepted) {
            conclude(desk, VERDICT_UNVERIFIED, DECISION_NO_HOST,
                     "%s answers, but its role cannot be read", desk->hosts[i].host);
            return;
        }
    }
    describe_loss(desk);
}

/* Keeps the accepted primary if it (perhaps) takes writes; else there is none. */
static void stay(struct desk *desk, const char *why)
{
    size_t accepted = desk->accepted;
    if (accepted != DECISION_NO_HOST && desk->views[accepted].may_win) {
        conclude(desk, VERDICT_KEEP, accepted, "%s", why);
        return;
    }
    without_writer(desk);
    if (desk->decision->verdict == VERDICT_NONE)
        snprintf(desk->decision->reason, sizeof desk->decision->reason, "%s", why);
}

/* `writer` is not the accepted primary, and nobody of its standing takes writes. */
static void consider(struct desk *desk, size_t writer)
{
    const struct sighting *sighting = &desk->hosts[writer];
    const struct situation *situation = desk->situation;
    char why[DECISION_TEXT_BYTES];
    if (!situation->accepted) {
        conclude(desk, VERDICT_ACCEPT, writer, "it takes writes on timeline %" PRIu32,
                 sighting->timeline);
        return;
    }
    if (desk->policy->in_maintenance) {
        snprintf(why, sizeof why, "%s takes writes, but MAINTENANCE is on", sighting->host);
        stay(desk, why);
        return;
    }
    if (!sighting->is_fresh) {
        snprintf(why, sizeof why, "%s took writes, but does not answer", sighting->host);
        stay(desk, why);
        return;
    }
    if (two_primaries_of(desk->policy) == TWO_PRIMARIES_KEEP &&
        desk->accepted != DECISION_NO_HOST && desk->hosts[desk->accepted].sight == SIGHT_BLIND) {
        snprintf(why, sizeof why, "%s takes writes; two_primaries says to keep", sighting->host);
        stay(desk, why);
        return;
    }
    /* A promotion begins a timeline. Without one, a sibling of the accepted primary, promoted from
     * the same ancestor, looks the same: it must have been seen to follow the accepted history. */
    if (desk->accepted != DECISION_NO_HOST && sighting->timeline == situation->timeline &&
        sighting->streamed_timeline < situation->timeline &&
        !(sighting->started_wall_us &&
          sighting->started_wall_us == desk->hosts[desk->accepted].started_wall_us)) {
        alarm_host(desk, writer, ALARM_OLDER_TIMELINE,
                   "takes writes on timeline %" PRIu32
                   " like the accepted primary before, but was never seen to stream it",
                   sighting->timeline);
        snprintf(why, sizeof why, "%s is no known continuation of the accepted history",
                 sighting->host);
        stay(desk, why);
        return;
    }
    conclude(desk, VERDICT_ACCEPT, writer, "it takes writes on timeline %" PRIu32,
             sighting->timeline);
}

static void make_contenders(struct desk *desk, uint32_t timeline, enum alarm_kind alarm)
{
    size_t count = 0;
    for (size_t i = 0; i < desk->count; i++) {
        if (desk->views[i].may_win && desk->hosts[i].timeline >= timeline) {
            count++;
            alarm_host(desk, i, alarm, "takes writes on timeline %" PRIu32,
                       desk->hosts[i].timeline);
            fence(desk, i, FENCE_CONTENDER);
            desk->decision->of[i].shut_out = true;
        }
    }
    conclude(desk, VERDICT_STOP, DECISION_NO_HOST, "%zu hosts take writes at once%s", count,
             alarm == ALARM_EQUAL_TIMELINES ? ", on the same timeline" : "");
    alarm_environment(desk, alarm);
}

static void choose_writer(struct desk *desk)
{
    size_t count = 0, equal = 0, newest = DECISION_NO_HOST;
    for (size_t i = 0; i < desk->count; i++) {
        if (!desk->views[i].may_win)
            continue;
        count++;
        if (newest == DECISION_NO_HOST || desk->hosts[i].timeline > desk->hosts[newest].timeline) {
            newest = i;
            equal = 1;
        } else if (desk->hosts[i].timeline == desk->hosts[newest].timeline) {
            equal++;
        }
    }
    bool accepted_writes =
        desk->accepted != DECISION_NO_HOST && desk->views[desk->accepted].may_win;
    enum two_primaries two = two_primaries_of(desk->policy);
    if (count == 0) {
        without_writer(desk);
    } else if (count > 1 && accepted_writes && desk->policy->in_maintenance) {
        stay(desk, "another host takes writes too, but MAINTENANCE is on");
    } else if (count > 1 && two == TWO_PRIMARIES_KEEP && accepted_writes &&
               desk->hosts[desk->accepted].timeline < desk->hosts[newest].timeline) {
        conclude(desk, VERDICT_KEEP, desk->accepted,
                 "%s takes writes too; two_primaries says to keep", desk->hosts[newest].host);
    } else if (equal > 1) {
        make_contenders(desk, desk->hosts[newest].timeline, ALARM_EQUAL_TIMELINES);
    } else if (count > 1 && two == TWO_PRIMARIES_STOP) {
        make_contenders(desk, 0, ALARM_TWO_PRIMARIES);
    } else if (newest == desk->accepted) {
        conclude(desk, VERDICT_KEEP, newest, "it takes writes");
    } else {
        consider(desk, newest);
    }
}

/* ---- 7: the others ---- */

/* Beside a primary, whoever else takes writes is shut out until it streams. */
static void fence_others(struct desk *desk)
{
    size_t chosen = desk->decision->host;
    bool fences = !desk->policy->in_maintenance;
    for (size_t i = 0; i < desk->count; i++) {
        const struct sighting *sighting = &desk->hosts[i];
        if (i == chosen || !desk->views[i].is_writer)
            continue;
        desk->decision->of[i].shut_out = true;
        if (sighting->is_dr && !desk->views[i].in_site)
            continue; /* has an alarm of its own */
        if (sighting->is_fresh)
            alarm_host(desk, i, ALARM_TWO_PRIMARIES,
                       "takes writes on timeline %" PRIu32 " beside the primary %s",
                       sighting->timeline, desk->hosts[chosen].host);
        if (sighting->is_fresh && fences && desk->views[i].fence == FENCE_NONE)
            fence(desk, i, FENCE_FORMER);
    }
    if (desk->decision->verdict != VERDICT_ACCEPT)
        return;
    /* the former primary must stream from the new one first, whatever it looks like at present */
    size_t former = desk->accepted;
    if (former != DECISION_NO_HOST && former != chosen && desk->views[former].fence == FENCE_NONE) {
        fence(desk, former, FENCE_FORMER);
        desk->decision->of[former].shut_out = true;
    }
}

static void look_at_all(struct desk *desk)
{
    for (size_t i = 0; i < desk->count; i++)
        look_at_identity(desk, i);
    for (size_t i = 0; i < desk->count; i++) {
        look_at_fence(desk, i);
        look_at_writer(desk, i);
        look_at_reads(desk, i);
    }
}

void decide(const struct situation *situation, const struct policy *policy,
            const struct sighting *hosts, size_t count, struct decision *decision)
{
    struct desk desk = {
        .situation = situation,
        .policy = policy,
        .hosts = hosts,
        .count = count,
        .decision = decision,
    };
    check(count <= DECIDE_HOSTS_MAX);
    memset(decision, 0, sizeof *decision);
    decision->host = DECISION_NO_HOST;
    desk.accepted = find(&desk, situation->accepted);
    for (size_t i = 0; i < count; i++) {
        const struct fence *held = situation_fence(situation, hosts[i].host);
        desk.views[i].in_site = hosts[i].is_dr == situation->dr_in_force;
        desk.views[i].fence = held ? held->kind : FENCE_NONE;
    }
    if (policy->is_first && somebody_is_unasked(&desk))
        return;
    if (!find_identity(&desk)) {
        for (size_t i = 0; i < count; i++)
            decision->of[i].shut_out = hosts[i].system_identifier != 0;
        return;
    }
    look_at_all(&desk);
    if (situation->intent)
        finish_intent(&desk);
    else if (!contenders_remain(&desk))
        choose_writer(&desk);
    if (decision->host != DECISION_NO_HOST)
        fence_others(&desk);
}
