/*
 * pam: asks the system's PAM whether a password is right and the account may be used.
 *
 *   pam_start ─ pam_authenticate ◄─ conversation: the password, once ─ pam_acct_mgmt ─ yes/no
 *
 * A module that asks for more than a password gets no answer. Its delay after a failure is left
 * out: pgstage has its own, and a helper thread must not be held up by it. A module may block for
 * as long as it likes; the session gives up on it, the thread is its own until it returns. Blocks;
 * a helper thread.
 */
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/digest.h"
#include "pgstage/auth/outside.h"
#include "pgstage/base/text.h"

struct conversation {
    const char *password;
    bool asked_more; /* than a password */
};

static void free_answers(struct pam_response *answers, int count)
{
    for (int i = 0; i < count; i++)
        digest_free_secret(answers[i].resp);
    free(answers);
}

/* PAM frees the answers with free(3). */
static int converse(int count, const struct pam_message **questions, struct pam_response **answers,
                    void *argument)
{
    struct conversation *conversation = argument;
    if (count <= 0 || count > PAM_MAX_NUM_MSG)
        return PAM_CONV_ERR;
    struct pam_response *made = calloc((size_t)count, sizeof *made);
    if (!made)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++) {
        switch (questions[i]->msg_style) {
        case PAM_PROMPT_ECHO_OFF:
            made[i].resp = text_copy(conversation->password);
            break;
        case PAM_ERROR_MSG:
        case PAM_TEXT_INFO:
            break;
        default:
            conversation->asked_more = true;
            free_answers(made, count);
            return PAM_CONV_ERR;
        }
    }
    *answers = made;
    return PAM_SUCCESS;
}

static void no_delay(int code, unsigned delay_us, void *argument)
{
    (void)code, (void)delay_us, (void)argument;
}

/* Did a module judge, or did it not get to that? */
static bool is_judgement(int code)
{
    switch (code) {
    case PAM_AUTH_ERR:
    case PAM_PERM_DENIED:
    case PAM_USER_UNKNOWN:
    case PAM_MAXTRIES:
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_AUTHTOK_EXPIRED:
    case PAM_CRED_EXPIRED:
    case PAM_CRED_INSUFFICIENT:
        return true;
    default:
        return false;
    }
}

static int set_items(pam_handle_t *handle, const char *from)
{
    int code = PAM_SUCCESS;
    if (from)
        code = pam_set_item(handle, PAM_RHOST, from);
    if (code == PAM_SUCCESS)
        code = pam_set_item(handle, PAM_FAIL_DELAY, (const void *)no_delay);
    return code;
}

enum outside_result pam_ask(const char *service, const char *folder, const char *user,
                            const char *password, const char *from, char *problem, size_t size)
{
    struct conversation conversation = {.password = password};
    const struct pam_conv how = {converse, &conversation};
    pam_handle_t *handle = NULL;
    const char *step = "pam_start";
    int code = folder ? pam_start_confdir(service, user, &how, folder, &handle)
                      : pam_start(service, user, &how, &handle);
    if (code == PAM_SUCCESS) {
        step = "pam_set_item";
        code = set_items(handle, from);
    }
    if (code == PAM_SUCCESS) {
        step = "pam_authenticate";
        code = pam_authenticate(handle, 0);
    }
    if (code == PAM_SUCCESS) {
        step = "pam_acct_mgmt";
        code = pam_acct_mgmt(handle, 0);
    }
    if (code != PAM_SUCCESS)
        snprintf(problem, size, "PAM service %s: %s: %s%s", service, step,
                 handle ? pam_strerror(handle, code) : "failed",
                 conversation.asked_more ? " (it asked for more than a password)" : "");
    if (handle)
        pam_end(handle, code);
    if (code == PAM_SUCCESS)
        return OUTSIDE_YES;
    return is_judgement(code) ? OUTSIDE_NO : OUTSIDE_FAILED;
}
