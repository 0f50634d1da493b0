/*
 * saslprep: PostgreSQL's use of SASLprep over libidn's stringprep.
 *
 * PostgreSQL and libpq hash the prepared password, and the raw bytes when it cannot be prepared; a
 * pooler that does otherwise makes keys that fit no server. Pure ASCII is left alone unseen,
 * control characters included, because PostgreSQL does so. Owns nothing; any thread.
 */
#include "pgstage/auth/saslprep.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <stringprep.h>

#include "pgstage/auth/digest.h"
#include "pgstage/base/text.h"

static bool is_ascii(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text >= 0x80)
            return false;
    }
    return true;
}

char *saslprep_password(const char *password)
{
    if (is_ascii(password))
        return text_copy(password);
    char *prepared = NULL;
    /* a password is a "stored string": unassigned characters are prohibited */
    int result = stringprep_profile(password, &prepared, "SASLprep", STRINGPREP_NO_UNASSIGNED);
    if (result == STRINGPREP_OK && prepared && prepared[0])
        return prepared;
    if (result == STRINGPREP_OK)
        digest_free_secret(prepared);
    return text_copy(password);
}
