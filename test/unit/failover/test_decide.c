/*
 * Which host is to take writes: a table of cases, each a line of text in and a line out.
 *
 * Hosts: `name=LOOK`, with blanks between. LOOK: U not asked yet, D down, B blind, W7 writes on
 * timeline 7, S7 a standby, S7+ one that streams; then any of `?` (the latest probe failed), `!`
 * (another cluster), `0` behind `!` (identifier not known), `^6` (was seen to stream timeline 6
 * before), `/d` (of dr_hosts), `@` (one postmaster). Situation: `host/timeline` (accepted, `-`
 * none), then host~kind for fences, `>host/timeline` an intent, `dr`. Policy: f follow, p promote;
 * n newest, k keep, s stop; m maintenance; 1 the first decision.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/failover/decide.h"

struct row {
    const char *promise, *policy, *situation, *hosts, *expected;
};

static struct policy read_policy(const char *text)
{
    return (struct policy){
        .promotes = strchr(text, 'p') != NULL,
        .two_primaries = strchr(text, 'n')   ? TWO_PRIMARIES_NEWEST
                         : strchr(text, 'k') ? TWO_PRIMARIES_KEEP
                         : strchr(text, 's') ? TWO_PRIMARIES_STOP
                                             : TWO_PRIMARIES_AUTO,
        .in_maintenance = strchr(text, 'm') != NULL,
        .is_first = strchr(text, '1') != NULL,
    };
}

static void read_fence(struct situation *situation, char *word)
{
    char *kind = strchr(word, '~');
    *kind++ = '\0';
    enum fence_kind fence = *kind == 'f'   ? FENCE_FORMER
                            : *kind == 'c' ? FENCE_CONTENDER
                            : *kind == 'p' ? FENCE_PROCEDURE
                                           : FENCE_OPERATOR;
    (void)situation_fence_set(situation, word, fence, "test", 1);
}

static struct situation *read_situation(const char *text)
{
    struct situation *situation = situation_new("e");
    char *copy = text_copy(text), *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *slash = strchr(word, '/');
        if (strchr(word, '~')) {
            read_fence(situation, word);
        } else if (strcmp(word, "dr") == 0) {
            situation->dr_in_force = true;
        } else if (*word == '>' && slash) {
            *slash = '\0';
            situation_intent_set(situation, "automatic", NULL, word + 1, (uint32_t)atoi(slash + 1),
                                 1);
        } else if (slash) {
            bool dr = situation->dr_in_force;
            *slash = '\0';
            situation_accept(situation, word, 1, (uint32_t)atoi(slash + 1), dr, 1);
        }
    }
    free(copy);
    return situation;
}

static struct sighting read_host(char *word)
{
    char *look = strchr(word, '=');
    *look++ = '\0';
    struct sighting host = {.host = word, .is_fresh = true};
    host.sight = *look == 'U'   ? SIGHT_UNASKED
                 : *look == 'D' ? SIGHT_DOWN
                 : *look == 'B' ? SIGHT_BLIND
                 : *look == 'S' ? SIGHT_STANDBY
                                : SIGHT_WRITER;
    host.timeline = (uint32_t)strtoul(look + 1, &look, 10);
    host.system_identifier = host.sight >= SIGHT_STANDBY ? 1 : 0;
    for (; *look; look++) {
        if (*look == '+')
            host.is_streaming = true;
        else if (*look == '?')
            host.is_fresh = false;
        else if (*look == '!')
            host.system_identifier = look[1] == '0' ? 0 : 2;
        else if (*look == '^')
            host.streamed_timeline = (uint32_t)atoi(look + 1);
        else if (*look == 'd')
            host.is_dr = true;
        else if (*look == '@')
            host.started_wall_us = 1;
    }
    return host;
}

static char *print(const struct decision *decision, const struct sighting *hosts, size_t count)
{
    static const char *const words[] = {
        [VERDICT_WAIT] = "wait",     [VERDICT_KEEP] = "keep",
        [VERDICT_ACCEPT] = "accept", [VERDICT_UNVERIFIED] = "unverified",
        [VERDICT_NONE] = "none",     [VERDICT_STOP] = "stop",
    };
    struct buffer out = {0};
    buffer_print(&out, "%s", words[decision->verdict]);
    if (decision->host != DECISION_NO_HOST)
        buffer_print(&out, " %s", hosts[decision->host].host);
    if (decision->has_alarm)
        buffer_print(&out, " (%s)", alarm_word(decision->alarm));
    for (size_t i = 0; i < count; i++) {
        const struct host_decision *of = &decision->of[i];
        if (of->fence != FENCE_NONE || of->unfence || of->shut_out || of->has_alarm)
            buffer_print(&out, "; %s", hosts[i].host);
        if (of->fence != FENCE_NONE)
            buffer_print(&out, " fence=%s", fence_word(of->fence));
        if (of->unfence)
            buffer_print(&out, " unfence");
        if (of->shut_out)
            buffer_print(&out, " shut");
        if (of->has_alarm)
            buffer_print(&out, " %s", alarm_word(of->alarm));
    }
    buffer_put_u8(&out, '\0');
    return (char *)out.data;
}

static void try_row(const struct row *row)
{
    struct situation *situation = read_situation(row->situation);
    struct policy policy = read_policy(row->policy);
    struct sighting hosts[8];
    size_t count = 0;
    char *copy = text_copy(row->hosts), *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        hosts[count++] = read_host(word);
    struct decision *decision = malloc(sizeof *decision);
    decide(situation, &policy, hosts, count, decision);
    char *text = print(decision, hosts, count);
    cr_expect_str_eq(text, row->expected, "%s [%s | %s | %s]: %s, expected %s (%s)", row->promise,
                     row->policy, row->situation, row->hosts, text, row->expected,
                     decision->reason);
    free(text);
    free(decision);
    free(copy);
    situation_free(situation);
}

#define TRY(rows)                                                                                  \
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows)[0]; i++)                                    \
    try_row(&(rows)[i])

Test(decide, the_first_primary)
{
    static const struct row rows[] = {
        {"nobody may write before all have answered", "f1", "-", "a=W1 b=U", "wait"},
        {"also when the state is known", "f1", "a/1", "a=W1 b=U", "wait"},
        {"the one that writes is accepted", "f1", "-", "a=S1+ b=W1 c=S1+", "accept b"},
        {"a host that is down has been asked", "f1", "-", "a=W1 b=D", "accept a"},
        {"a host of the other site need not answer", "f1", "-", "a=W1 b=U/d", "accept a; b shut"},
        {"later a new host is not waited for", "f", "a/1", "a=W1 b=U", "keep a"},
        {"only standbys", "f1", "-", "a=S1 b=S1", "none (no_primary)"},
        {"everything is down", "f1", "-", "a=D b=D", "none (no_primary)"},
        {"everything is down, and back", "f", "a/3", "a=D b=D", "none (no_primary)"},
        {"… back", "f", "a/3", "a=W3 b=S3+", "keep a"},
        {"the newest of two", "f1", "-", "a=W1 b=W2",
         "accept b; a fence=former_primary shut two_primaries"},
        {"also when one is to be kept, as there is none to keep", "pk1", "-", "a=W1 b=W2",
         "accept b; a fence=former_primary shut two_primaries"},
        {"equal ones stop", "f1", "-", "a=W1 b=W1",
         "stop (equal_timelines); a fence=contender shut equal_timelines; b "
         "fence=contender shut equal_timelines"},
        {"two that differ stop where that is asked for", "fs1", "-", "a=W1 b=W2",
         "stop (two_primaries); a fence=contender shut two_primaries; b fence=contender "
         "shut two_primaries"},
        {"maintenance does not keep the first one out", "f1m", "-", "a=W1 b=S1+", "accept a"},
    };
    TRY(rows);
}

Test(decide, what_cannot_be_read)
{
    static const struct row rows[] = {
        {"nothing can be verified: blind ones may be tried", "f1", "-", "a=B b=B",
         "unverified; a blind; b blind"},
        {"a writer that is seen is better", "f1", "-", "a=B b=W1", "accept b; a blind"},
        {"the accepted primary stays", "f", "a/1", "a=B b=S1+", "keep a; a blind"},
        {"… also after a restart", "f1", "a/1", "a=B b=S1+", "keep a; a blind"},
        {"… unless another has taken over", "f", "a/1", "a=B b=W2",
         "accept b; a fence=former_primary shut blind"},
        {"… which `keep` does not believe", "p", "a/1", "a=B b=W2",
         "keep a; a blind; b fence=former_primary shut two_primaries"},
        {"a blind host is none to fall back to once one is known", "f", "a/1", "a=D b=B",
         "none (no_primary); b blind"},
        {"a fenced one is not tried", "f1", "- a~o", "a=B b=S1", "none (no_primary); a shut blind"},
    };
    TRY(rows);
}

Test(decide, the_primary_goes)
{
    static const struct row rows[] = {
        {"nothing else writes", "f", "a/1", "a=D b=S1", "none (no_primary)"},
        {"one bad probe is no death", "f", "a/1", "a=W1? b=S1+", "keep a"},
        {"it is a standby now", "f", "a/1", "a=S1 b=S1", "none (no_primary)"},
        {"another was promoted", "f", "a/1", "a=D b=W2", "accept b; a fence=former_primary shut"},
        {"before the first bad probe of the old one counts", "f", "a/1", "a=W1? b=W2",
         "accept b; a fence=former_primary shut"},
        {"… but keep waits for it", "p", "a/1", "a=W1? b=W2",
         "keep a; b fence=former_primary shut two_primaries"},
        {"in promote mode somebody else's promotion is followed once it is down", "p", "a/1",
         "a=D b=W2", "accept b; a fence=former_primary shut"},
        {"the old one follows already: it is let in when the line has changed", "f", "a/1",
         "a=S2+ b=W2", "accept b; a fence=former_primary shut"},
        {"a promoted host that has vanished is not accepted", "f", "a/1", "a=D b=W2?",
         "none (no_primary)"},
        {"the accepted host is not configured any more", "f", "z/1", "a=W1 b=S1+", "accept a"},
        {"… and nobody writes", "f", "z/1", "a=S1 b=S1", "none (no_primary)"},
        {"an older line is refused", "f", "a/3", "a=D b=W2", "none (no_primary); b older_timeline"},
        {"the accepted one restored from an old backup is refused", "f", "a/3", "a=W2 b=S3",
         "none (no_primary); a older_timeline"},
        {"the same line without having followed it is a sibling", "f", "a/2", "a=D b=W2",
         "none (no_primary); b older_timeline"},
        {"the same line by one that followed it", "f", "a/2", "a=D b=W2^2",
         "accept b; a fence=former_primary shut"},
        {"another cluster is refused", "f", "a/1", "a=D b=W5!",
         "none (no_primary); b shut wrong_cluster"},
        {"another cluster's standby is shut out", "f", "a/1", "a=W1 b=S1+!",
         "keep a; b shut wrong_cluster"},
        {"another cluster behind the accepted address is refused", "f", "a/1", "a=W1! b=S1",
         "none (no_primary); a shut wrong_cluster"},
        {"hosts that differ at the start stop", "f1", "-", "a=W1 b=S1!",
         "stop (wrong_cluster); a shut; b shut"},
        {"in maintenance nothing is followed", "fm", "a/1", "a=D b=W2", "none (no_primary)"},
        {"… but the accepted one comes back", "fm", "a/1", "a=W1 b=S1", "keep a"},
        {"a new line of the accepted one is kept", "f", "a/1", "a=W2 b=S1", "keep a"},
        {"whose line cannot be read is not accepted", "f", "a/1", "a=D b=W0", "none (no_primary)"},
        {"… nor one whose identity cannot be read", "f", "a/1", "a=D b=W2!0", "none (no_primary)"},
    };
    TRY(rows);
}

Test(decide, two_writers)
{
    static const struct row rows[] = {
        {"following: the newest", "f", "a/1", "a=W1 b=W2",
         "accept b; a fence=former_primary shut two_primaries"},
        {"promoting: the accepted one", "p", "a/1", "a=W1 b=W2",
         "keep a; b fence=former_primary shut two_primaries"},
        {"promoting, told to take the newest", "pn", "a/1", "a=W1 b=W2",
         "accept b; a fence=former_primary shut two_primaries"},
        {"told to stop", "fs", "a/1", "a=W1 b=W2",
         "stop (two_primaries); a fence=contender shut two_primaries; b fence=contender "
         "shut two_primaries"},
        {"equal ones stop, whatever is said", "pk", "a/2", "a=W2 b=W2",
         "stop (equal_timelines); a fence=contender shut equal_timelines; b "
         "fence=contender shut equal_timelines"},
        {"two siblings beside one that is kept", "pk", "a/1", "a=W1 b=W2 c=W2",
         "keep a; b fence=former_primary shut two_primaries; c fence=former_primary shut "
         "two_primaries"},
        {"two siblings: neither", "f", "a/1", "a=W1 b=W2 c=W2",
         "stop (equal_timelines); b fence=contender shut equal_timelines; c "
         "fence=contender shut equal_timelines"},
        {"in maintenance nothing is decided", "fm", "a/1", "a=W1 b=W2",
         "keep a; b shut two_primaries"},
        {"two names of one server are one", "f", "a/1", "a=W1@ b=W1@", "keep a"},
        {"… also at the start", "f1", "-", "a=W1@ b=W1@", "accept a"},
        {"… also when only the second still answers", "f", "a/1", "a=D@ b=W1@",
         "accept b; a fence=former_primary shut"},
        {"an old writer beside the accepted one", "f", "b/2", "a=W1 b=W2",
         "keep b; a fence=former_primary shut two_primaries"},
    };
    TRY(rows);
}

Test(decide, contenders_until_one_is_left)
{
    static const struct row rows[] = {
        {"they are two", "f", "a/2 a~c b~c", "a=W2 b=W2",
         "stop (equal_timelines); a shut equal_timelines; b shut equal_timelines"},
        {"the other one went down: the accepted one goes on", "f", "a/2 a~c b~c", "a=W2 b=D",
         "keep a; a unfence; b fence=former_primary shut"},
        {"the accepted one went down: nobody knows", "f", "a/2 a~c b~c", "a=D b=W2",
         "stop (equal_timelines); a shut; b shut equal_timelines"},
        {"none was accepted: going down proves nothing", "f", "- a~c b~c", "a=W2 b=D",
         "stop (equal_timelines); a shut equal_timelines; b shut"},
        {"one streams from the other", "f", "- a~c b~c", "a=W2 b=S2+",
         "accept a; a unfence; b fence=former_primary shut"},
        {"the operator has fenced one", "f", "a/2 a~o b~c", "a=W2 b=W2^2",
         "accept b; a shut two_primaries; b unfence"},
        {"the operator has accepted one", "f", "b/2 a~c", "a=D b=W2", "keep b; a unfence"},
        {"the old one follows the new one after a stop", "fs", "a/1 a~c b~c", "a=S2+ b=W2",
         "accept b; a fence=former_primary shut; b unfence"},
        {"they are remembered over a restart", "f1", "a/2 a~c b~c", "a=W2 b=W2",
         "stop (equal_timelines); a shut equal_timelines; b shut equal_timelines"},
    };
    TRY(rows);
}

Test(decide, fences)
{
    static const struct row rows[] = {
        {"a former primary that writes stays out", "f", "b/2 a~f", "a=W1 b=W2",
         "keep b; a shut two_primaries"},
        {"also when it is all there is", "f", "b/2 a~f", "a=W1 b=D",
         "none (no_primary); a shut older_timeline"},
        {"a standby that does not stream stays out", "f", "b/2 a~f", "a=S2 b=W2", "keep b; a shut"},
        {"one that streams another line too", "f", "b/2 a~f", "a=S1+ b=W2", "keep b; a shut"},
        {"one that streams the accepted line is let in", "f", "b/2 a~f", "a=S2+ b=W2",
         "keep b; a unfence"},
        {"… not on a stale view", "f", "b/2 a~f", "a=S2+? b=W2", "keep b; a shut"},
        {"… nor another cluster's", "f", "b/2 a~f", "a=S2+! b=W2", "keep b; a shut wrong_cluster"},
        {"the operator's fence stays", "f", "b/2 a~o", "a=S2+ b=W2", "keep b; a shut"},
        {"the operator's fence of the accepted primary", "f", "b/2 b~o", "a=S2+ b=W2",
         "none (no_primary); b shut"},
        {"fenced by a failover, it streams", "f", "b/2 a~p", "a=S2+ b=W2", "keep b; a unfence"},
        {"a cascaded standby's stream counts as well", "f", "c/3 a~f", "a=S3+ b=S3+ c=W3",
         "keep c; a unfence"},
        {"a standby of an old line is not read from", "f", "b/2", "a=S1+ b=W2", "keep b; a shut"},
        {"one that waits for a new upstream is", "f", "b/2", "a=S1 b=W2", "keep b"},
    };
    TRY(rows);
}

Test(decide, the_other_site)
{
    static const struct row rows[] = {
        {"a standby there is not used", "f", "a/1", "a=W1 d=S1+/d", "keep a; d shut"},
        {"a writer there is refused", "f", "a/1", "a=D d=W2/d",
         "none (no_primary); d shut dr_primary"},
        {"also beside the primary", "f", "a/1", "a=W1 d=W2/d", "keep a; d shut dr_primary"},
        {"also at the start", "f1", "-", "a=D d=W2/d", "none (no_primary); d shut dr_primary"},
        {"in force: it is the primary", "f", "dr d/2", "a=D d=W2/d", "keep d; a shut"},
        {"in force: the old site comes back and waits", "f", "dr d/2", "a=W1 d=W2/d",
         "keep d; a fence=former_primary shut two_primaries"},
        {"in force: the old site has even promoted", "f", "dr d/2", "a=D b=W3 d=W2/d",
         "keep d; a shut; b fence=former_primary shut two_primaries"},
        {"in force: the old site follows", "f", "dr d/2 a~f", "a=S2+ d=W2/d", "keep d; a unfence"},
        {"in force: another host there takes over", "f", "dr d/2", "a=D d=D/d e=W3/d",
         "accept e; a shut; d fence=former_primary shut"},
        {"in force: nobody there writes, the old site does", "f", "dr d/2", "a=W3 d=D/d",
         "none (no_primary); a shut"},
    };
    TRY(rows);
}

Test(decide, a_promotion_that_was_begun_before_a_restart)
{
    static const struct row rows[] = {
        {"it took place", "p1", "a/1 a~p >b/1", "a=D b=W2", "accept b; a shut"},
        {"it took place although the old one is there", "p1", "a/1 a~p >b/1", "a=W1 b=W2",
         "accept b; a shut two_primaries"},
        {"it did not (yet)", "p1", "a/1 a~p >b/1", "a=D b=S1",
         "none (unfinished_failover); a shut"},
        {"nobody knows", "p1", "a/1 a~p >b/1", "a=W1 b=D", "none (unfinished_failover); a shut"},
        {"the candidate writes on the old line: that was no promotion", "p1", "a/1 a~p >b/1",
         "a=D b=W1", "none (unfinished_failover); a shut"},
        {"the candidate is another cluster's now", "p1", "a/1 a~p >b/1", "a=D b=W2!",
         "none (unfinished_failover); a shut; b shut wrong_cluster"},
        {"the candidate is not configured any more", "p1", "a/1 a~p >z/1", "a=D b=S1",
         "none (unfinished_failover); a shut"},
        {"the old one's stream does not unfence it meanwhile", "p1", "a/1 a~p >b/1", "a=S1+ b=S1",
         "none (unfinished_failover); a shut"},
    };
    TRY(rows);
}

/* Whatever the hosts show, no decision lets another cluster, an older line or a fenced host write.
 */
Test(decide, no_view_of_the_hosts_leads_to_a_forbidden_primary)
{
    static const char *const looks[] = {"U",   "D",  "B",   "W1",  "W2", "W3",   "W2?",
                                        "W2!", "W0", "S1+", "S2+", "S2", "S2+!", "W2^2"};
    static const char *const situations[] = {"-",       "a/2",         "b/2 a~f",     "c/1",
                                             "a/2 b~o", "a/2 a~c b~c", "a/2 a~p >b/2"};
    static const char *const policies[] = {"f", "f1", "p", "fs", "fm", "pn1"};
    struct decision *decision = malloc(sizeof *decision);
    size_t look_count = sizeof looks / sizeof looks[0], tried = 0;
    for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++) {
        for (size_t s = 0; s < sizeof situations / sizeof situations[0]; s++) {
            for (size_t n = 0; n < look_count * look_count * look_count; n++) {
                char words[3][16];
                struct sighting hosts[3];
                size_t rest = n;
                for (size_t i = 0; i < 3; i++, rest /= look_count) {
                    snprintf(words[i], sizeof words[i], "%c=%s", (char)('a' + i),
                             looks[rest % look_count]);
                    hosts[i] = read_host(words[i]);
                }
                struct situation *situation = read_situation(situations[s]);
                struct policy policy = read_policy(policies[p]);
                decide(situation, &policy, hosts, 3, decision);
                tried++;
                if (decision->host != DECISION_NO_HOST) {
                    const struct sighting *host = &hosts[decision->host];
                    const struct fence *fence = situation_fence(situation, host->host);
                    cr_assert(!fence || fence->kind != FENCE_OPERATOR);
                    cr_assert(!fence || decision->of[decision->host].unfence ||
                              decision->verdict == VERDICT_ACCEPT);
                    cr_assert(host->sight == SIGHT_WRITER ||
                              (host->sight == SIGHT_BLIND && decision->verdict == VERDICT_KEEP));
                    cr_assert(host->sight == SIGHT_BLIND || !host->timeline ||
                              host->timeline >= situation->timeline);
                    cr_assert(!situation->system_identifier || host->system_identifier != 2);
                    cr_assert_not(decision->of[decision->host].shut_out);
                    cr_assert_eq(decision->of[decision->host].fence, FENCE_NONE);
                }
                situation_free(situation);
            }
        }
    }
    free(decision);
    cr_assert(tried > 100000);
}

Test(decide, every_alarm_stands_in_the_documentation)
{
    const char *folder = getenv("srcdir");
    char *path = text_print("%s/doc/failover.md", folder ? folder : ".");
    FILE *file = fopen(path, "r");
    if (!file)
        cr_skip_test("no %s", path);
    char *page = calloc(1, 65536);
    cr_assert(fread(page, 1, 65535, file) > 0);
    fclose(file);
    for (int i = 0; i < ALARM_KINDS; i++) {
        char *row = text_print("| `%s` | %s |", alarm_word((enum alarm_kind)i),
                               alarm_help((enum alarm_kind)i));
        cr_expect(strstr(page, row), "doc/failover.md lacks: %s", row);
        free(row);
    }
    for (int i = FENCE_NONE + 1; i < FENCE_KINDS; i++) {
        char *word = text_print("`%s`", fence_word((enum fence_kind)i));
        cr_expect(strstr(page, word), "doc/failover.md lacks %s", word);
        free(word);
    }
    free(page);
    free(path);
}
