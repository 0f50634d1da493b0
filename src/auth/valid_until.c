/*
 * valid_until: reads the time up to which a password is good.
 *
 *     2026-01-31 18:00:00.5+05:30     date, time, fraction, zone: all but the date may be missing
 *     infinity   -infinity   0044-03-15 00:00:00+00 BC
 *
 * What cannot be read is told, never guessed: a password that is good for ever by mistake is worse
 * than a login that is refused. Pure; any thread.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/secrets.h"
#include "pgstage/base/clock.h"

#define FOR_EVER UINT64_MAX
#define DAY_SECONDS 86400

/* Between `least` and `most` digits. */
static bool read_number(const char **text, int least, int most, int64_t *number)
{
    int digits = 0;
    *number = 0;
    while (digits < most && **text >= '0' && **text <= '9') {
        *number = *number * 10 + (*(*text)++ - '0');
        digits++;
    }
    return digits >= least;
}

static bool take(const char **text, char character)
{
    if (**text != character)
        return false;
    (*text)++;
    return true;
}

/* Days from 1970 of a date of the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool read_date(const char **text, int64_t *seconds)
{
    static const int lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year, month, day;
    if (!read_number(text, 4, 6, &year) || !take(text, '-') || !read_number(text, 2, 2, &month) ||
        !take(text, '-') || !read_number(text, 2, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > lengths[month - 1])
        return false;
    *seconds = days_of(year, month, day) * DAY_SECONDS;
    return true;
}

/* HH:MM:SS[.ffffff]; the fraction is cut to microseconds. */
static bool read_time(const char **text, int64_t *seconds, int64_t *micros)
{
    int64_t hour, minute, second, digit, unit = 100000;
    if (!read_number(text, 2, 2, &hour) || !take(text, ':') || !read_number(text, 2, 2, &minute) ||
        !take(text, ':') || !read_number(text, 2, 2, &second))
        return false;
    if (hour > 24 || minute > 59 || second > 60)
        return false;
    *seconds += hour * 3600 + minute * 60 + second;
    if (!take(text, '.'))
        return true;
    if (**text < '0' || **text > '9')
        return false;
    for (; read_number(text, 1, 1, &digit); unit /= 10)
        *micros += digit * unit;
    return true;
}

/* +HH[:MM[:SS]]: seconds east of Greenwich. */
static bool read_zone(const char **text, int64_t *east)
{
    int64_t sign = **text == '-' ? -1 : 1, hours, minutes = 0, seconds = 0;
    (*text)++;
    if (!read_number(text, 2, 2, &hours))
        return false;
    if (take(text, ':') && !read_number(text, 2, 2, &minutes))
        return false;
    if (take(text, ':') && !read_number(text, 2, 2, &seconds))
        return false;
    *east = sign * (hours * 3600 + minutes * 60 + seconds);
    return hours < 24 && minutes < 60 && seconds < 60;
}

bool valid_until_parse(const char *text, uint64_t *until_us)
{
    int64_t seconds = 0, micros = 0, east = 0;
    *until_us = FOR_EVER;
    if (!text || !*text || strcmp(text, "infinity") == 0)
        return true;
    *until_us = 0;
    if (strcmp(text, "-infinity") == 0)
        return true;
    if (!read_date(&text, &seconds))
        return false;
    if ((take(&text, ' ') || take(&text, 'T')) && *text != 'B' &&
        !read_time(&text, &seconds, &micros))
        return false;
    if ((*text == '+' || *text == '-') && !read_zone(&text, &east))
        return false;
    (void)take(&text, 'Z');
    /* before Christ is long ago, whatever the year */
    if (strcmp(text, " BC") == 0 || strcmp(text, "BC") == 0)
        return true;
    if (*text)
        return false;
    if (seconds > east)
        *until_us = (uint64_t)(seconds - east) * CLOCK_SECOND + (uint64_t)micros;
    return true;
}
