/*
 * fuzz_mask: what the slow-query log shows of a statement. No digit that begins a word and nothing
 * in quotes may come through; the result never grows beyond the text by more than the blanks and
 * question marks that stand for what was there.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/wire/mask.h"
#include "promise.h"

static bool is_part_of_name(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c >= 0x80;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer out = {0};
    bool cut = size && data[0] & 1;
    /* the bytes at the very end of an allocation, so that reading on is seen */
    char *sql = malloc(size ? size : 1);
    bool known;

    if (size)
        memcpy(sql, data + 1, size - 1);
    known = size && mask_literals(sql, size - 1, cut, &out);
    promise(out.length <= 2 * size + 8);
    for (size_t i = 0; known && i < out.length; i++) {
        unsigned char c = out.data[i], before = i ? out.data[i - 1] : ' ';

        if (c == '"') { /* a quoted name goes on to its end */
            do
                i++;
            while (i < out.length && out.data[i] != '"');
            continue;
        }
        promise(c != '\'');
        promise(!(c >= '0' && c <= '9') || is_part_of_name(before));
    }
    buffer_fini(&out);
    free(sql);
    return 0;
}
