/*
 * saslprep: PostgreSQL's use of SASLprep over libidn's stringprep.
 *
 * PostgreSQL and libpq hash the prepared password, and the raw bytes when it cannot be prepared; a
 * pooler that does otherwise makes keys that fit no server. Pure ASCII is left alone unseen,
 * control characters included, because PostgreSQL does so. And PostgreSQL looks for prohibited
 * characters and mixed directions before it normalises, not after, as RFC 3454 has it: so the
 * profile is libidn's with the normalisation moved to its end. Owns nothing; any thread.
 */
#include "pgstage/auth/saslprep.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <stringprep.h>

#include "pgstage/auth/digest.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

/* libidn's own profile has 18 steps. */
#define PROFILE_MAX_STEPS 32
/* The longest expansion by normalisation is 11 times (U+FDFA in UTF-8). */
#define EXPANSION_MAX 12

static bool is_ascii(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

/* False when libidn's profile is longer than there is room. */
static bool make_profile(Stringprep_profile profile[PROFILE_MAX_STEPS])
{
    size_t count = 0;
    for (const Stringprep_profile *step = stringprep_saslprep; step->operation; step++) {
        if (step->operation == STRINGPREP_NFKC)
            continue;
        if (count + 2 >= PROFILE_MAX_STEPS)
            return false;
        profile[count++] = *step;
    }
    profile[count++] = (Stringprep_profile){.operation = STRINGPREP_NFKC};
    profile[count] = (Stringprep_profile){0};
    return true;
}

char *saslprep_password(const char *password)
{
    Stringprep_profile profile[PROFILE_MAX_STEPS];
    if (is_ascii(password) || !make_profile(profile))
        return text_copy(password);
    size_t length = strlen(password);
    size_t size = length * EXPANSION_MAX + 1;
    char *prepared = memory_new(size);
    memcpy(prepared, password, length);
    /* a password is a "stored string": unassigned characters are prohibited */
    int result = stringprep(prepared, size, STRINGPREP_NO_UNASSIGNED, profile);
    if (result == STRINGPREP_OK && prepared[0])
        return prepared;
    text_wipe(prepared, size);
    free(prepared);
    return text_copy(password);
}
