/*
 * text: copies, comparisons and the small questions asked of NUL-terminated strings.
 *
 * Nothing here keeps state or knows the locale: names of options and parameters are ASCII, so case
 * is ASCII's too (strcasecmp would follow the process's locale). Any thread.
 */
#include "pgstage/base/text.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"

/* Names longer than this are not worth a "did you mean", and the tables below stay on the stack. */
#define DISTANCE_MAX 64

char *text_copy(const char *text)
{
    return text ? text_copy_n(text, strlen(text)) : NULL;
}

char *text_copy_n(const char *text, size_t length)
{
    check(length < SIZE_MAX);
    char *copy = memory_get(length + 1);
    if (length)
        memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *text_print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = text_vprint(format, arguments);
    va_end(arguments);
    return text;
}

char *text_vprint(const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    check(length >= 0);
    char *text = memory_get((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

bool text_fit(char *target, size_t size, const char *text)
{
    check(size > 0);
    size_t length = strlen(text);
    bool fits = length < size;
    if (!fits)
        length = size - 1;
    memcpy(target, text, length);
    target[length] = '\0';
    return fits;
}

bool text_equal(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0;
}

static unsigned char ascii_lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

bool text_equal_nocase(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    while (*a && ascii_lower(*a) == ascii_lower(*b)) {
        a++;
        b++;
    }
    return ascii_lower(*a) == ascii_lower(*b);
}

bool text_in_list(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; length > 0 && at && *at;) {
        at += strspn(at, ", \t");
        const char *end = strchrnul(at, ',');
        const char *next = end;
        while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        if ((size_t)(end - at) == length && memcmp(at, word, length) == 0)
            return true;
        at = next;
    }
    return false;
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/*
 * Optimal string alignment: insert, delete, replace and swap of neighbours cost one each, because
 * swapped letters are what people mistype most. Three rows of the table are kept.
 */
unsigned text_distance(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > DISTANCE_MAX || b_length > DISTANCE_MAX)
        return UINT_MAX;

    unsigned rows[3][DISTANCE_MAX + 1];
    unsigned *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        previous[j] = (unsigned)j;
    for (size_t i = 1; i <= a_length; i++) {
        current[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned replace = previous[j - 1] + (a[i - 1] != b[j - 1]);
            unsigned best = smaller(replace, smaller(previous[j], current[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = smaller(best, before[j - 2] + 1);
            current[j] = best;
        }
        unsigned *oldest = before;
        before = previous;
        previous = current;
        current = oldest;
    }
    return previous[b_length];
}

void text_wipe(void *secret, size_t size)
{
    if (size)
        explicit_bzero(secret, size);
}
