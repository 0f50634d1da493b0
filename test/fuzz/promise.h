/*
 * promise: what must be true for every input; a fuzz target that finds it broken crashes there.
 */
#ifndef PGSTAGE_FUZZ_PROMISE_H
#define PGSTAGE_FUZZ_PROMISE_H

#include <stddef.h>
#include <stdint.h>

#define promise(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            __builtin_trap();                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
