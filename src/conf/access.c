/*
 * access: allow_users, allow_from, expires_at and proxy_protocol_from, from texts to what logins
 * ask.
 *
 * Each list is read once, when a configuration is loaded, into the arena of its snapshot; a login
 * only compares. Every word that is wrong is reported at the line that says it.
 */
#include "pgstage/conf/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inside.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

#define PROBLEM_BYTES 256

/* ---- questions ---- */

bool environment_allows_user(const struct environment_config *environment, const char *user)
{
    if (!environment->allow_user_count)
        return true;
    for (size_t i = 0; i < environment->allow_user_count; i++)
        if (strcmp(environment->allow_users[i], user) == 0)
            return true;
    return false;
}

bool environment_allows_address(const struct environment_config *environment,
                                const struct sockaddr *address)
{
    return !environment->allow_from.count || cidr_list_holds(&environment->allow_from, address);
}

bool environment_is_expired(const struct environment_config *environment, uint64_t wall_us)
{
    return environment->expires_at_us && wall_us >= environment->expires_at_us;
}

/* ---- moments ---- */

/* Exactly `digits` digits, then `*at` stands behind them. */
static bool take_number(const char **at, int digits, int low, int high, int *number)
{
    *number = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *number = *number * 10 + (**at - '0');
    }
    return *number >= low && *number <= high;
}

static bool take(const char **at, char letter)
{
    if (**at != letter)
        return false;
    (*at)++;
    return true;
}

static bool take_date(const char **at, struct tm *date)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;
    if (!take_number(at, 4, 1970, 9999, &year) || !take(at, '-') ||
        !take_number(at, 2, 1, 12, &month) || !take(at, '-') ||
        !take_number(at, 2, 1, days[month - 1], &day))
        return false;
    if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
        return false;
    *date = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    return true;
}

/* `Z` or `+02:00`, `+0200`, `+02`. */
static bool take_zone(const char **at, int *offset_s)
{
    int hours, minutes = 0, sign = **at == '-' ? -1 : 1;
    *offset_s = 0;
    if (take(at, 'Z') || take(at, 'z'))
        return true;
    if (!take(at, '+') && !take(at, '-'))
        return false;
    if (!take_number(at, 2, 0, 15, &hours))
        return false;
    if (**at && ((void)take(at, ':'), !take_number(at, 2, 0, 59, &minutes)))
        return false;
    *offset_s = sign * (hours * 3600 + minutes * 60);
    return true;
}

static bool read_moment(const char *at, int64_t *seconds)
{
    struct tm date;
    int hour, minute, second = 0, offset_s;
    if (!take_date(&at, &date))
        return false;
    *seconds = timegm(&date);
    if (!*at) { /* the whole day still counts */
        *seconds += 86400;
        return true;
    }
    if ((!take(&at, 'T') && !take(&at, 't') && !take(&at, ' ')) ||
        !take_number(&at, 2, 0, 23, &hour) || !take(&at, ':') ||
        !take_number(&at, 2, 0, 59, &minute))
        return false;
    if (take(&at, ':') && !take_number(&at, 2, 0, 59, &second))
        return false;
    if (!take_zone(&at, &offset_s) || *at)
        return false;
    *seconds += hour * 3600 + minute * 60 + second - offset_s;
    return *seconds > 0;
}

bool access_time_parse(const char *text, uint64_t *wall_us, char *problem, size_t size)
{
    int64_t seconds;
    if (!read_moment(text, &seconds)) {
        snprintf(problem, size,
                 "\"%.60s\" is no time: write a day such as 2026-01-31, or a moment with its zone "
                 "such as 2026-01-31T18:00:00Z or 2026-01-31T18:00:00+02:00",
                 text);
        return false;
    }
    *wall_us = (uint64_t)seconds * CLOCK_SECOND;
    return true;
}

void access_time_print(uint64_t wall_us, char *text, size_t size)
{
    time_t seconds = (time_t)(wall_us / CLOCK_SECOND);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    if (strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        text[0] = '\0';
}

/* ---- reading a configuration ---- */

/* How many words a list can have at most. */
static size_t count_words(const char *list)
{
    size_t count = 1;
    for (; *list; list++)
        count += strchr(", \t", *list) != NULL;
    return count;
}

/* Nothing is said, or `allow_from =` stands there in so many words. A list that a variable has left
 * empty is another thing: it must not be taken for "everybody". */
static bool is_unset(const struct assignment *list)
{
    return !list || (!list->value.text && list->literal);
}

static struct cidr_list read_blocks(struct snapshot *snapshot, const struct assignment *list,
                                    struct report *report)
{
    struct cidr_list blocks = {0};
    char problem[PROBLEM_BYTES];
    if (is_unset(list))
        return blocks;
    const char *text = list->value.text ? list->value.text : "";
    struct cidr *items = arena_get(&snapshot->arena, count_words(text) * sizeof(*items));
    char *words = text_copy(text), *rest = NULL;
    size_t errors = report->errors;
    for (char *word = strtok_r(words, ", \t", &rest); word; word = strtok_r(NULL, ", \t", &rest)) {
        if (cidr_parse(&items[blocks.count], word, problem, sizeof(problem)))
            blocks.count++;
        else
            origin_error(report, &list->origin, "%s: %s", list->option->name, problem);
    }
    free(words);
    if (!blocks.count && report->errors == errors)
        origin_error(report, &list->origin, "%s names no address: write some or remove the line",
                     list->option->name);
    blocks.items = items;
    return blocks;
}

static void read_users(struct snapshot *snapshot, struct environment *environment,
                       const struct assignment *list, struct report *report)
{
    if (is_unset(list))
        return;
    const char *text = list->value.text ? list->value.text : "";
    size_t most = count_words(text);
    const char **names = arena_get(&snapshot->arena, most * sizeof(*names));
    char *words = text_copy(text), *rest = NULL;
    for (char *word = strtok_r(words, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        size_t length;
        word += strspn(word, " \t");
        length = strlen(word);
        while (length && strchr(" \t", word[length - 1]))
            length--;
        if (length)
            names[environment->config.allow_user_count++] =
                arena_copy_n(&snapshot->arena, word, length);
    }
    free(words);
    if (!environment->config.allow_user_count)
        origin_error(report, &list->origin,
                     "allow_users names no user: write some or remove the line");
    environment->config.allow_users = names;
}

static void read_expiry(struct environment *environment, const struct assignment *moment,
                        struct report *report)
{
    struct environment_config *config = &environment->config;
    char problem[PROBLEM_BYTES], text[32];
    if (!moment || !moment->value.text)
        return;
    if (!access_time_parse(moment->value.text, &config->expires_at_us, problem, sizeof(problem))) {
        origin_error(report, &moment->origin, "expires_at: %s", problem);
        return;
    }
    access_time_print(config->expires_at_us, text, sizeof(text));
    if (environment_is_expired(config, clock_wall_us()))
        origin_warning(report, &moment->origin,
                       "environment %s has expired at %s: its logins are refused", config->name,
                       text);
}

void access_resolve_environment(struct snapshot *snapshot, struct environment *environment,
                                struct report *report)
{
    const struct layer *layer = &environment->layer;
    read_users(snapshot, environment, layer_find_name(layer, "allow_users"), report);
    environment->config.allow_from =
        read_blocks(snapshot, layer_find_name(layer, "allow_from"), report);
    read_expiry(environment, layer_find_name(layer, "expires_at"), report);
}

void access_resolve_listener(struct snapshot *snapshot, struct listener *listener,
                             struct report *report)
{
    const struct assignment *from = layer_find_name(&listener->layer, "proxy_protocol_from");
    const struct assignment *on = layer_find_name(&listener->layer, "proxy_protocol");
    if (!on)
        on = layer_find_name(&snapshot->layer, "proxy_protocol");
    /* [pgstage]'s list is read, and its mistakes told, with [pgstage]'s own listener */
    if (from || !listener->config.name) {
        if (!from)
            from = layer_find_name(&snapshot->layer, "proxy_protocol_from");
        listener->config.proxy_from = read_blocks(snapshot, from, report);
    } else {
        const struct listener *own = snapshot->listeners.items[0];
        listener->config.proxy_from = own->config.proxy_from;
    }
    if (listener->settings.proxy_protocol && !listener->settings.proxy_protocol_from)
        origin_error(report, on ? &on->origin : &listener->origin,
                     "proxy_protocol needs proxy_protocol_from, the addresses whose headers are "
                     "believed");
}
