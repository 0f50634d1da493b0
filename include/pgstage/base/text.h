/*
 * text: NUL-terminated strings. Copies are allocated (free with free(3)) and never fail; fixed
 * targets report whether the text fitted. Any thread.
 */
#ifndef PGSTAGE_BASE_TEXT_H
#define PGSTAGE_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* An allocated copy; NULL gives NULL. */
char *text_copy(const char *text) __attribute__((warn_unused_result));
/* An allocated copy of the first `length` bytes. */
char *text_copy_n(const char *text, size_t length) __attribute__((warn_unused_result));
/* An allocated, formatted string. */
char *text_print(const char *format, ...) __attribute__((format(printf, 1, 2), warn_unused_result));
char *text_vprint(const char *format, va_list arguments)
    __attribute__((format(printf, 1, 0), warn_unused_result));
/* Copies into `target` of `size` bytes, always terminated; false when it was cut. */
bool text_fit(char *target, size_t size, const char *text);
/* Equal? Both may be NULL (NULL equals only NULL). */
bool text_equal(const char *a, const char *b);
/* Equal when ASCII case is ignored (names of options and parameters). */
bool text_equal_nocase(const char *a, const char *b);
bool text_starts_with(const char *text, const char *prefix);
/* Is `word` one of the words of a list with commas (and blanks) between? Case counts: names of
 * users differ by it. `list` may be NULL. */
bool text_in_list(const char *list, const char *word);
/* The edit distance of two short names, for "did you mean" (a swap of neighbours counts as one);
 * UINT_MAX when one is longer than 64 bytes. */
unsigned text_distance(const char *a, const char *b);
/* Overwrites `size` bytes at `secret` in a way the compiler keeps. */
void text_wipe(void *secret, size_t size);

#endif
