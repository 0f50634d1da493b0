/*
 * lsn.c: positions in the WAL as text.
 */
#include "lsn.h"

#include <stdlib.h>
#include <string.h>

bool lsn_parse(const char *text, uint64_t *lsn)
{
    char *end;
    if (!strchr("0123456789abcdefABCDEF", *text) || !*text)
        return false;
    unsigned long long high = strtoull(text, &end, 16);
    if (*end != '/' || high > UINT32_MAX || !end[1] || !strchr("0123456789abcdefABCDEF", end[1]))
        return false;
    unsigned long long low = strtoull(end + 1, &end, 16);
    *lsn = (uint64_t)high << 32 | (uint64_t)low;
    return low <= UINT32_MAX && !*end;
}

uint64_t lsn_in_output(const char *output)
{
    static const char *const labels[] = {"PGSTAGE_FINAL_LSN=", "Latest checkpoint location:"};
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        const char *at = strstr(output, labels[i]);
        char word[24];
        uint64_t lsn;
        if (!at)
            continue;
        at += strlen(labels[i]);
        at += strspn(at, " \t");
        size_t length = strspn(at, "0123456789abcdefABCDEF/");
        if (length >= sizeof word)
            continue;
        memcpy(word, at, length);
        word[length] = '\0';
        if (lsn_parse(word, &lsn))
            return lsn;
    }
    return 0;
}
