/*
 * outside: whom to ask, and what is never asked. Owns nothing; any thread, a helper's.
 */
#include "pgstage/auth/outside.h"

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"

enum outside_result outside_ask(const struct outside *outside, const char *user,
                                const char *password, const char *from, uint64_t deadline_us,
                                char *problem, size_t size)
{
    (void)text_fit(problem, size, "");
    if (!*password) {
        (void)text_fit(problem, size, "the password is empty");
        return OUTSIDE_NO;
    }
    if (clock_now_us() >= deadline_us) {
        (void)text_fit(problem, size, "too many logins wait for an answer");
        return OUTSIDE_FAILED;
    }
    if (outside->method == AUTH_LDAP && outside->ldap)
        return ldap_ask(outside->ldap, user, password, deadline_us, problem, size);
    if (outside->method == AUTH_PAM && outside->pam_service)
        return pam_ask(outside->pam_service, outside->pam_folder, user, password, from, problem,
                       size);
    (void)text_fit(problem, size, "nobody is configured who could be asked");
    return OUTSIDE_FAILED;
}
