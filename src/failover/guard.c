/*
 * guard: each guard is a function that says whether it holds and why (not).
 *
 *   of the environment ── mode, commands, maintenance, interval, fence, primary, site
 *   of a candidate ────── candidate, identity, timeline, streaming, receiver, highest, lag,
 *                         synchronous, rpo
 *
 * Whether a guard that does not hold refuses depends on the type of the failover alone, and that
 * stands in guards.def. A standby's position is the greater of what it has received and replayed:
 * one that was restarted while its primary is dead has received less than it has replayed.
 */
#include "pgstage/failover/guard.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/health/report.h"

/* One candidate, or none, in one case. */
struct look {
    const struct guard_case *of;
    size_t candidate;
    struct guard_row *row; /* that is being judged */
};

/* ---- words ---- */

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

static bool say(struct look *look, bool holds, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes the reason down and passes the verdict on. */
static bool say(struct look *look, bool holds, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(look->row->text, sizeof look->row->text, format, arguments);
    va_end(arguments);
    return holds;
}

static const struct guard_host *host_at(const struct look *look, size_t index)
{
    return index < look->of->count ? &look->of->hosts[index] : NULL;
}

static const struct guard_host *candidate_of(const struct look *look)
{
    return host_at(look, look->candidate);
}

static bool is_planned(const struct look *look)
{
    return look->of->type == EPISODE_PLANNED;
}

static uint64_t position(const struct guard_host *host)
{
    return host->received_lsn > host->replayed_lsn ? host->received_lsn : host->replayed_lsn;
}

/* ---- of the environment ---- */

static bool guard_mode(struct look *look)
{
    if (!look->of->promotes)
        return say(look, false,
                   "failover_mode = follow: something else promotes here, pgstage "
                   "only follows");
    if (!look->of->has_user)
        return say(look, false, "failover_user is not set: there is nobody to promote as");
    return say(look, true, "failover_mode = promote");
}

static bool guard_commands(struct look *look)
{
    const struct guard_case *of = look->of;
    if (of->type != EPISODE_PLANNED)
        return say(look, true, "no planned switchover");
    if (!of->promotes && !of->has_switchover)
        return say(look, false,
                   "failover_mode = follow and there is no switchover_command: nothing "
                   "could make the standby a primary");
    if (!of->promotes)
        return say(look, true, "switchover_command");
    if (!of->has_user)
        return say(look, false, "failover_user is not set: there is nobody to promote as");
    if (!of->has_demote || !of->has_undemote)
        return say(look, false,
                   "there is no %s: only a stopped server is fenced from other clients, and a "
                   "switchover that fails must be able to start it again",
                   of->has_demote ? "undemote_command" : "demote_command");
    return say(look, true, "demote_command and undemote_command");
}

static bool guard_maintenance(struct look *look)
{
    return look->of->in_maintenance ? say(look, false, "MAINTENANCE is in force")
                                    : say(look, true, "no maintenance");
}

static bool guard_interval(struct look *look)
{
    const struct guard_case *of = look->of;
    if (of->since_automatic_us == UINT64_MAX)
        return say(look, true, "no automatic failover yet");
    return say(look, of->since_automatic_us >= of->min_interval_us,
               "the latest automatic failover was %.0f s ago, failover_min_interval is %.0f s",
               seconds(of->since_automatic_us), seconds(of->min_interval_us));
}

static bool guard_fence(struct look *look)
{
    const struct guard_case *of = look->of;
    if (of->has_fence)
        return say(look, true, "fence_command must exit with 0");
    if (of->allow_unfenced)
        return say(look, true, "no fence_command, allow_unfenced_promotion = yes");
    return say(look, !of->production,
               "no fence_command: nothing makes sure that the old primary is stopped");
}

static bool primary_of_planned(struct look *look, const struct guard_host *primary)
{
    if (!primary)
        return say(look, false, "no primary is accepted at present");
    if (look->of->critical_us > 0 || !primary->answers)
        return say(look, false,
                   "the primary %s does not answer: without it there is no planned "
                   "switchover (FAILOVER promotes behind the other guards)",
                   primary->host);
    if (primary->role != GUARD_ROLE_WRITER)
        return say(look, false, "the primary %s takes no writes", primary->host);
    return say(look, true, "%s takes writes", primary->host);
}

static bool guard_primary(struct look *look)
{
    const struct guard_case *of = look->of;
    const struct guard_host *primary = host_at(look, of->primary);
    if (is_planned(look))
        return primary_of_planned(look, primary);
    if (!primary && of->type == EPISODE_AUTOMATIC)
        return say(look, false, "no primary was ever accepted, so none is missing");
    if (!primary)
        return say(look, true, "no primary is accepted at present");
    if (of->critical_us == 0)
        return primary->role == GUARD_ROLE_WRITER || of->type == EPISODE_AUTOMATIC
                   ? say(look, false,
                         "the primary %s is not down; PLANNED switches over without loss",
                         primary->host)
                   : say(look, true, "the former primary %s takes no writes", primary->host);
    if (of->type != EPISODE_AUTOMATIC)
        return say(look, true, "%s has been critical for %.1f s", primary->host,
                   seconds(of->critical_us));
    return say(look, of->critical_us >= of->delay_us,
               "%s has been critical for %.1f s, the delay is %.1f s", primary->host,
               seconds(of->critical_us), seconds(of->delay_us));
}

static bool guard_site(struct look *look)
{
    const struct guard_case *of = look->of;
    if (!of->leaves_site)
        return say(look, true, "no DR failover");
    for (size_t i = 0; i < of->count; i++) {
        const struct guard_host *host = &of->hosts[i];
        if (host->is_dr != of->is_dr && host->answers && !host->is_fenced &&
            host->role != GUARD_ROLE_UNKNOWN)
            return say(look, false, "%s of `hosts` answers", host->host);
    }
    return say(look, true, "no host of `hosts` can be used");
}

/* ---- of a candidate ---- */

static bool guard_candidate(struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    if (!host)
        return say(look, false,
                   look->of->is_dr ? "there is no other host in dr_hosts"
                                   : "there is no other host");
    if (look->candidate == look->of->primary)
        return say(look, false, "%s is the accepted primary already", host->host);
    if (host->is_fenced)
        return say(look, false, "%s is fenced (UNFENCE, when it is known to be good)", host->host);
    if (!host->answers)
        return say(look, false, "%s does not answer", host->host);
    if (host->role == GUARD_ROLE_WRITER)
        return say(look, false, "%s takes writes already (ACCEPT makes it the primary)",
                   host->host);
    if (host->role != GUARD_ROLE_STANDBY)
        return say(look, false, "the role of %s cannot be read", host->host);
    return say(look, true, "%s is a standby that answers", host->host);
}

static bool guard_identity(struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    uint64_t expected = look->of->system_identifier;
    if (!host || host->system_identifier == 0)
        return say(look, false, "the candidate's system identifier is not known");
    if (expected == 0)
        return say(look, false,
                   "the expected system identifier is not known: no primary has been "
                   "accepted yet (ACCEPT)");
    return say(look, host->system_identifier == expected,
               "the system identifier of %s is %" PRIu64 ", that of the environment %" PRIu64,
               host->host, host->system_identifier, expected);
}

static bool guard_timeline(struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    uint32_t accepted = look->of->timeline;
    if (!host || host->timeline == 0)
        return say(look, false, "the candidate's timeline is not known");
    return say(look, host->timeline >= accepted,
               "%s is on timeline %" PRIu32 ", the accepted one is %" PRIu32, host->host,
               host->timeline, accepted);
}

static bool streaming_of_planned(struct look *look, const struct guard_host *host)
{
    const struct guard_host *upstream = host_at(look, host->upstream);
    if (host->receiver != GUARD_RECEIVER_STREAMS)
        return say(look, false, "%s does not stream from anybody", host->host);
    if (upstream && host->upstream != look->of->primary)
        return say(look, false, "%s streams from %s, not from the primary", host->host,
                   upstream->host);
    return say(look, true, "%s streams%s", host->host, upstream ? " from the primary" : "");
}

static bool guard_streaming(struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    if (!host)
        return say(look, false, "there is no candidate");
    if (is_planned(look))
        return streaming_of_planned(look, host);
    return say(look, host->has_streamed, "%s %s streaming when the primary was last seen",
               host->host, host->has_streamed ? "was" : "was not");
}

/* Up the chain of standbys to the one that would hear the primary itself. */
static const struct guard_host *witness_of(const struct look *look, const struct guard_host *host)
{
    for (size_t steps = 0; steps < look->of->count; steps++) {
        const struct guard_host *upstream = host_at(look, host->upstream);
        if (!upstream || host->upstream == look->of->primary ||
            host->receiver == GUARD_RECEIVER_NONE || upstream->role == GUARD_ROLE_WRITER)
            return host;
        host = upstream;
    }
    return host;
}

static bool guard_receiver(struct look *look)
{
    const struct guard_host *host = candidate_of(look), *witness;
    if (!host)
        return say(look, false, "there is no candidate");
    witness = witness_of(look, host);
    const char *through = witness == host ? "" : ", which the candidate streams from,";
    if (witness != host && !witness->answers)
        return say(look, true, "%s%s does not answer", witness->host, through);
    if (witness->receiver == GUARD_RECEIVER_NONE)
        return say(look, true, "%s%s has lost the primary", witness->host, through);
    if (witness->receiver_timeout_us == 0)
        return say(look, false,
                   "%s%s still has a WAL receiver and its wal_receiver_timeout is 0: whether the "
                   "primary is dead cannot be told",
                   witness->host, through);
    return say(look, witness->silent_us > witness->receiver_timeout_us,
               "%s%s has not heard of the primary for %.1f s, its wal_receiver_timeout is %.1f s",
               witness->host, through, seconds(witness->silent_us),
               seconds(witness->receiver_timeout_us));
}

/* Is `a` further than `b`? */
static bool is_ahead(const struct guard_host *a, const struct guard_host *b)
{
    return a->timeline != b->timeline ? a->timeline > b->timeline : position(a) > position(b);
}

/* May it be promoted at all, as far as it alone is concerned? */
static bool is_standby_of_ours(const struct guard_case *of, size_t index)
{
    const struct guard_host *host = &of->hosts[index];
    return index != of->primary && host->answers && !host->is_fenced &&
           host->role == GUARD_ROLE_STANDBY && host->system_identifier == of->system_identifier &&
           host->timeline >= of->timeline;
}

static bool guard_highest(struct look *look)
{
    const struct guard_host *host = candidate_of(look), *best = host;
    char own[20], other[20];
    if (!host)
        return say(look, false, "there is no candidate");
    for (size_t i = 0; i < look->of->count; i++) {
        const struct guard_host *rival = &look->of->hosts[i];
        if (rival->is_dr == look->of->is_dr && is_standby_of_ours(look->of, i) &&
            is_ahead(rival, best))
            best = rival;
    }
    if (best == host)
        return say(look, true, "%s is the most advanced: timeline %" PRIu32 ", %s", host->host,
                   host->timeline, lsn_text(position(host), own));
    if (is_planned(look)) /* it will have received everything before it is promoted */
        return say(look, true, "%s is further, %s will catch up", best->host, host->host);
    return say(look, false, "%s is further: timeline %" PRIu32 ", %s; %s: timeline %" PRIu32 ", %s",
               best->host, best->timeline, lsn_text(position(best), other), host->host,
               host->timeline, lsn_text(position(host), own));
}

/* What the candidate lacks of what is known of the primary; -1: nothing is known. */
static int64_t loss_bytes(const struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    uint64_t last = look->of->primary_lsn;
    if (!host || last == 0 || position(host) == 0)
        return -1;
    return last > position(host) ? (int64_t)(last - position(host)) : 0;
}

static int64_t loss_us(const struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    int64_t bytes = loss_bytes(look);
    if (!host || bytes < 0)
        return -1;
    return bytes == 0 ? 0 : host->lag_us;
}

static bool guard_lag(struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    int64_t bytes = loss_bytes(look);
    char last[20];
    if (bytes < 0)
        return say(look, look->of->type == EPISODE_MANUAL,
                   "what the primary had written last is not known, so neither is what would be "
                   "lost");
    return say(look, (uint64_t)bytes <= look->of->max_lag_bytes,
               "%s lacks %" PRId64 " bytes of %s, last seen on the primary; max_failover_lag is "
               "%" PRIu64,
               host->host, bytes, lsn_text(look->of->primary_lsn, last), look->of->max_lag_bytes);
}

static bool guard_synchronous(struct look *look)
{
    const struct guard_host *host = candidate_of(look);
    if (!look->of->sync_in_force)
        return say(look, true, "no synchronous replication was in force");
    if (!host)
        return say(look, false, "there is no candidate");
    return say(look, host->in_sync_set, "%s was %sone of the synchronous standbys", host->host,
               host->in_sync_set ? "" : "not ");
}

static bool guard_rpo(struct look *look)
{
    uint64_t limit = look->of->rpo_limit_us;
    int64_t lost = loss_us(look);
    if (!look->of->leaves_site)
        return say(look, true, "no DR failover");
    if (limit == 0)
        return say(look, true, "no rpo_limit");
    if (lost < 0)
        return say(look, false, "how much would be lost is not known, rpo_limit is %.1f s",
                   seconds(limit));
    return say(look, (uint64_t)lost <= limit, "about %.1f s would be lost, rpo_limit is %.1f s",
               seconds((uint64_t)lost), seconds(limit));
}

/* ---- all of them ---- */

static const struct {
    const char *word, *asked;
} guards[GUARD_COUNT] = {
#define GUARD(id, name, types, help) [GUARD_##id] = {.word = name, .asked = types},
#include "pgstage/tables/guards.def"
#undef GUARD
};

static bool (*const judges[GUARD_COUNT])(struct look *look) = {
    [GUARD_MODE] = guard_mode,
    [GUARD_COMMANDS] = guard_commands,
    [GUARD_MAINTENANCE] = guard_maintenance,
    [GUARD_INTERVAL] = guard_interval,
    [GUARD_FENCE] = guard_fence,
    [GUARD_PRIMARY] = guard_primary,
    [GUARD_SITE] = guard_site,
    [GUARD_CANDIDATE] = guard_candidate,
    [GUARD_IDENTITY] = guard_identity,
    [GUARD_TIMELINE] = guard_timeline,
    [GUARD_STREAMING] = guard_streaming,
    [GUARD_RECEIVER] = guard_receiver,
    [GUARD_HIGHEST] = guard_highest,
    [GUARD_LAG] = guard_lag,
    [GUARD_SYNCHRONOUS] = guard_synchronous,
    [GUARD_RPO] = guard_rpo,
};

const char *guard_word(enum guard_id id)
{
    return guards[id].word;
}

const char *guard_verdict_word(enum guard_verdict verdict)
{
    static const char *const words[] = {
        [GUARD_OK] = "ok", [GUARD_REFUSES] = "refused", [GUARD_NOT_ASKED] = "not asked"};
    return words[verdict];
}

static bool is_asked(enum guard_id id, enum episode_type type)
{
    static const char letters[] = {[EPISODE_AUTOMATIC] = 'A',
                                   [EPISODE_MANUAL] = 'M',
                                   [EPISODE_PLANNED] = 'P',
                                   [EPISODE_EMERGENCY] = 'E'};
    return strchr(guards[id].asked, letters[type]) != NULL;
}

static void judge(const struct guard_case *guarded, size_t candidate, struct guard_report *report)
{
    struct look look = {.of = guarded, .candidate = candidate};
    *report = (struct guard_report){.allowed = true, .candidate = candidate};
    for (size_t i = 0; i < GUARD_COUNT; i++) {
        struct guard_row *row = look.row = &report->rows[i];
        bool holds = judges[i](&look);
        row->verdict = holds                                       ? GUARD_OK
                       : is_asked((enum guard_id)i, guarded->type) ? GUARD_REFUSES
                                                                   : GUARD_NOT_ASKED;
        report->allowed = report->allowed && row->verdict != GUARD_REFUSES;
    }
    report->loss_bytes = loss_bytes(&look);
    report->loss_us = loss_us(&look);
}

/* Better to report on, or to take: one that is allowed; then one that is a standby of ours at all;
 * at the DR site the first in the file; else the furthest, a synchronous one before others. */
static bool is_better(const struct guard_case *guarded, const struct guard_report *a,
                      const struct guard_report *b)
{
    if (b->candidate == GUARD_NO_HOST)
        return true;
    const struct guard_host *one = &guarded->hosts[a->candidate];
    const struct guard_host *other = &guarded->hosts[b->candidate];
    bool ours = is_standby_of_ours(guarded, a->candidate);
    if (a->allowed != b->allowed)
        return a->allowed;
    if (ours != is_standby_of_ours(guarded, b->candidate))
        return ours;
    if (guarded->is_dr)
        return false;
    if (is_ahead(one, other) || is_ahead(other, one))
        return is_ahead(one, other);
    return one->in_sync_set && !other->in_sync_set;
}

void guard_judge(const struct guard_case *guarded, struct guard_report *report)
{
    if (guarded->wanted != GUARD_NO_HOST) {
        judge(guarded, guarded->wanted, report);
        return;
    }
    judge(guarded, GUARD_NO_HOST, report);
    for (size_t i = 0; i < guarded->count; i++) {
        struct guard_report one;
        if (i == guarded->primary || guarded->hosts[i].is_dr != guarded->is_dr)
            continue;
        judge(guarded, i, &one);
        if (is_better(guarded, &one, report))
            *report = one;
    }
}

enum guard_id guard_first_refusal(const struct guard_report *report)
{
    size_t i = 0;
    while (i < GUARD_COUNT && report->rows[i].verdict != GUARD_REFUSES)
        i++;
    return (enum guard_id)i;
}

char *guard_refusals(const struct guard_report *report)
{
    struct buffer text = {0};
    for (size_t i = 0; i < GUARD_COUNT; i++) {
        if (report->rows[i].verdict == GUARD_REFUSES)
            buffer_print(&text, "%s%s: %s", text.length ? "; " : "", guards[i].word,
                         report->rows[i].text);
    }
    buffer_put_u8(&text, '\0');
    return (char *)text.data;
}
