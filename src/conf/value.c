/*
 * value: how the text of an option becomes a value in struct settings, and back.
 *
 * Durations and sizes take units; a bare number counts what it counts in PgBouncer (seconds, or
 * milliseconds where the row says so; bytes). Pure functions; any thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/option.h"

struct unit {
    const char *name;
    double factor;
};

static const struct unit duration_units[] = {
    {"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"min", 60e6}, {"h", 3600e6}, {"d", 86400e6}, {NULL, 0},
};
static const struct unit size_units[] = {
    {"B", 1}, {"kB", 1024}, {"MB", 1048576}, {"GB", 1073741824}, {"TB", 1099511627776.0}, {NULL, 0},
};

#define DURATION_HINT "a duration such as 250ms, 30s, 5min, 2h or 1d"
#define SIZE_HINT "a size such as 8192, 64kB, 16MB or 1GB"

/* Digits, at most one point: strtod alone would take "inf", "0x1p3" and a locale's comma. */
static bool number_ends(const char *text, const char **end)
{
    size_t digits = strspn(text, "0123456789");
    const char *at = text + digits;
    if (*at == '.') {
        size_t more = strspn(at + 1, "0123456789");
        digits += more;
        at += 1 + more;
    }
    *end = at;
    return digits > 0;
}

/* The decimal number from `text` to `end`, whatever the locale. */
static double number_read(const char *text, const char *end)
{
    double value = 0, scale = 1;
    bool fraction = false;
    for (; text < end; text++) {
        if (*text == '.') {
            fraction = true;
        } else if (fraction) {
            scale /= 10;
            value += (*text - '0') * scale;
        } else {
            value = value * 10 + (*text - '0');
        }
    }
    return value;
}

static bool parse_measure(const struct option *option, const char *text, const struct unit *units,
                          double bare, const char *hint, int64_t *result, char *problem,
                          size_t size)
{
    const char *end;
    if (!number_ends(text, &end)) {
        snprintf(problem, size, "\"%.60s\" is not %s", text, hint);
        return false;
    }
    double value = number_read(text, end), factor = bare;
    const char *unit = end + strspn(end, " \t");
    if (*unit) {
        const struct unit *found = units;
        while (found->name && !text_equal_nocase(found->name, unit))
            found++;
        if (!found->name) {
            snprintf(problem, size, "unknown unit \"%.20s\": write %s", unit, hint);
            return false;
        }
        factor = found->factor;
    }
    value *= factor;
    if (value < (double)option->minimum * bare || value > (double)option->maximum * bare) {
        char *low = option_print(
            option, (struct option_value){(int64_t)((double)option->minimum * bare), NULL});
        char *high = option_print(
            option, (struct option_value){(int64_t)((double)option->maximum * bare), NULL});
        snprintf(problem, size, "%.40s is out of range: %s to %s%s", text, low, high,
                 option->form == FORM_SECONDS        ? " seconds"
                 : option->form == FORM_MILLISECONDS ? " milliseconds"
                                                     : " bytes");
        free(low);
        free(high);
        return false;
    }
    *result = (int64_t)(value + 0.5);
    return true;
}

static bool parse_integer(const struct option *option, const char *text, int64_t *result,
                          char *problem, size_t size)
{
    if (option->form == FORM_AUTO && text_equal_nocase(text, "auto")) {
        *result = 0;
        return true;
    }
    const char *digits = text + (*text == '-' || *text == '+');
    bool octal = option->form == FORM_OCTAL;
    size_t span = strspn(digits, octal ? "01234567" : "0123456789");
    if (span == 0 || digits[span]) {
        snprintf(problem, size, "\"%.60s\" is not %s", text,
                 octal                       ? "an octal number such as 0777"
                 : option->form == FORM_AUTO ? "a whole number or auto"
                                             : "a whole number");
        return false;
    }
    errno = 0;
    long long value = strtoll(text, NULL, octal ? 8 : 10);
    if (errno || value < option->minimum || value > option->maximum) {
        if (octal)
            snprintf(problem, size, "%.40s is out of range: 0 to 0%" PRIo64, text,
                     (uint64_t)option->maximum);
        else
            snprintf(problem, size, "%.40s is out of range: %" PRId64 " to %" PRId64, text,
                     option->minimum, option->maximum);
        return false;
    }
    *result = value;
    return true;
}

static bool parse_bool(const char *text, int64_t *result, char *problem, size_t size)
{
    static const char *const yes[] = {"1", "yes", "on", "true", "y", "t"};
    static const char *const no[] = {"0", "no", "off", "false", "n", "f"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (text_equal_nocase(text, yes[i]) || text_equal_nocase(text, no[i])) {
            *result = text_equal_nocase(text, yes[i]);
            return true;
        }
    }
    snprintf(problem, size, "\"%.60s\" is neither yes (1, on, true) nor no (0, off, false)", text);
    return false;
}

static bool parse_word(const struct option *option, const char *text, int64_t *result,
                       char *problem, size_t size)
{
    for (const struct option_word *word = option->words; word->word; word++) {
        if (!text_equal_nocase(word->word, text))
            continue;
        *result = word->value;
        return true;
    }
    int used = snprintf(problem, size, "\"%.60s\" is none of", text);
    for (const struct option_word *word = option->words; word->word; word++) {
        if (used < 0 || (size_t)used >= size)
            break;
        used += snprintf(problem + used, size - (size_t)used, "%s %s",
                         word == option->words ? "" : ",", word->word);
    }
    return false;
}

bool option_parse(const struct option *option, const char *text, struct option_value *value,
                  char *problem, size_t size)
{
    *value = (struct option_value){0, NULL};
    switch (option->type) {
    case OPTION_TYPE_BOOL:
        return parse_bool(text, &value->number, problem, size);
    case OPTION_TYPE_INT:
        return parse_integer(option, text, &value->number, problem, size);
    case OPTION_TYPE_ENUM:
        return parse_word(option, text, &value->number, problem, size);
    case OPTION_TYPE_TEXT:
        value->text = *text ? text : NULL;
        return true;
    case OPTION_TYPE_DURATION:
        return parse_measure(option, text, duration_units,
                             option->form == FORM_MILLISECONDS ? 1e3 : 1e6, DURATION_HINT,
                             &value->number, problem, size);
    case OPTION_TYPE_SIZE:
        return parse_measure(option, text, size_units, 1, SIZE_HINT, &value->number, problem, size);
    }
    return false;
}

/* Microseconds in a bigger unit, without a needless fraction. */
static char *print_duration(int64_t value_us, int64_t unit_us)
{
    if (value_us % unit_us == 0)
        return text_print("%" PRId64, value_us / unit_us);
    int64_t rest = value_us % unit_us;
    int digits = unit_us == 1000 ? 3 : 6;
    while (rest % 10 == 0) {
        rest /= 10;
        digits--;
    }
    return text_print("%" PRId64 ".%0*" PRId64, value_us / unit_us, digits, rest);
}

char *option_print(const struct option *option, struct option_value value)
{
    switch (option->type) {
    case OPTION_TYPE_BOOL:
        return text_copy(value.number ? "1" : "0");
    case OPTION_TYPE_INT:
        if (option->form == FORM_OCTAL)
            return text_print("0%" PRIo64, (uint64_t)value.number);
        if (option->form == FORM_AUTO && value.number == 0)
            return text_copy("auto");
        return text_print("%" PRId64, value.number);
    case OPTION_TYPE_ENUM:
        for (const struct option_word *word = option->words; word->word; word++)
            if (word->value == value.number)
                return text_copy(word->word);
        break;
    case OPTION_TYPE_TEXT:
        return text_copy(value.text ? value.text : "");
    case OPTION_TYPE_DURATION:
        return print_duration(value.number, option->form == FORM_MILLISECONDS ? 1000 : 1000000);
    case OPTION_TYPE_SIZE:
        return text_print("%" PRId64, value.number);
    }
    return text_copy("");
}

void option_store(const struct option *option, struct option_value value, struct settings *settings)
{
    char *field = (char *)settings + option->offset;
    switch (option->type) {
    case OPTION_TYPE_BOOL:
        *(bool *)field = value.number != 0;
        return;
    case OPTION_TYPE_INT:
        *(int64_t *)field = value.number;
        return;
    case OPTION_TYPE_ENUM:
        *(int *)field = (int)value.number;
        return;
    case OPTION_TYPE_TEXT:
        *(const char **)field = value.text;
        return;
    case OPTION_TYPE_DURATION:
    case OPTION_TYPE_SIZE:
        *(uint64_t *)field = (uint64_t)value.number;
        return;
    }
}

struct option_value option_load(const struct option *option, const struct settings *settings)
{
    const char *field = (const char *)settings + option->offset;
    switch (option->type) {
    case OPTION_TYPE_BOOL:
        return (struct option_value){*(const bool *)field, NULL};
    case OPTION_TYPE_INT:
        return (struct option_value){*(const int64_t *)field, NULL};
    case OPTION_TYPE_ENUM:
        return (struct option_value){*(const int *)field, NULL};
    case OPTION_TYPE_TEXT:
        return (struct option_value){0, *(const char *const *)field};
    case OPTION_TYPE_DURATION:
    case OPTION_TYPE_SIZE:
        break;
    }
    return (struct option_value){(int64_t) * (const uint64_t *)field, NULL};
}

bool option_value_equal(const struct option *option, struct option_value a, struct option_value b)
{
    return option->type == OPTION_TYPE_TEXT ? text_equal(a.text, b.text) : a.number == b.number;
}

struct option_value option_default(const struct option *option)
{
    struct option_value value = {0, NULL};
    char problem[256];
    if (option->default_text)
        check(option_parse(option, option->default_text, &value, problem, sizeof(problem)));
    return value;
}

void option_defaults(struct settings *settings)
{
    for (size_t i = 0; i < option_count(); i++)
        option_store(option_at(i), option_default(option_at(i)), settings);
}
