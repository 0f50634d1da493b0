/*
 * pam: logins that PAM judges, with a service of the test's own: pam_exec runs a script that knows
 * the passwords.
 */
#include "system.h"

SYSTEM_SUITE(pam);

/* A folder with the service `name`; the script ends with 0 when the login is to succeed. */
static const char *service(const char *name, const char *script, const char *account)
{
    const char *folder = text_of("%s/pam.d", test_folder());
    char *file = text_of("%s/%s.sh", test_folder(), name);
    char *arguments[] = {"mkdir", "-p", (char *)folder, NULL};

    cr_assert_eq(process_run(arguments, NULL, NULL), 0);
    file_write(file, 0755, text_of("#!/bin/sh\npassword=$(tr -d '\\000')\n%s\n", script));
    /* what a system has for services that have no file of their own */
    file_write(text_of("%s/other", folder), 0644,
               "auth required pam_deny.so\n"
               "account required pam_deny.so\n");
    file_write(text_of("%s/%s", folder, name), 0644,
               text_of("auth sufficient pam_exec.so quiet expose_authtok %s\n"
                       "auth required pam_deny.so\naccount required %s\n",
                       file, account));
    return folder;
}

#define KNOWS_ALICE "[ \"$PAM_USER:$password\" = alice:alicesecret ]"

static struct proxy *asking(const char *folder, const char *more)
{
    return proxy_start(
        "auth_type = pam\nauth_pam_folder = %s\n%s[databases]\napp = %s user=other\n", folder, more,
        cluster_route(cluster_shared()));
}

SYSTEM_TEST(pam, a_service_judges)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = asking(service("pgbouncer", KNOWS_ALICE, "pam_permit.so"), "");
    char *text;

    cr_assert_str_eq(
        client_value(client_open(proxy, "user=alice password=alicesecret"), "SELECT current_user"),
        "other");
    text = client_refusal(proxy, "user=alice password=wrong");
    cr_assert_has(text, "28P01");
    cr_assert_has(text, "PAM authentication failed");
    cr_assert_has(client_refusal(proxy, "user=bob password=alicesecret"), "28P01");
    cr_assert(until(proxy_logged(proxy, "PAM service pgbouncer: pam_authenticate"), PATIENCE_MS));
    cr_assert_null(strstr(file_text(proxy->log), "alicesecret"));
}

SYSTEM_TEST(pam, an_account_can_be_refused_although_the_password_is_right)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = asking(service("pgbouncer", KNOWS_ALICE, "pam_deny.so"), "");

    cr_assert_has(client_refusal(proxy, "user=alice password=alicesecret"), "28P01");
    cr_assert(until(proxy_logged(proxy, "pam_acct_mgmt"), PATIENCE_MS));
}

SYSTEM_TEST(pam, lines_of_hba_files_name_their_service)
{
    SKIP_ON_PGBOUNCER();
    char *hba = text_of("%s/hba", test_folder());
    const char *folder = service("first", KNOWS_ALICE, "pam_permit.so");

    service("second", "[ \"$PAM_USER:$password:$PAM_RHOST\" = bob:bobsecret:127.0.0.1 ]",
            "pam_permit.so");
    file_write(hba, 0600,
               "host all bob 127.0.0.1/32 pam pamservice=second\nhost all all 127.0.0.1/32 pam\n"
               "local all all trust\n");
    struct proxy *proxy =
        proxy_start("auth_type = hba\nauth_hba_file = %s\nauth_pam_folder = %s\n"
                    "auth_pam_service = first\n[databases]\napp = %s user=other\n",
                    hba, folder, cluster_route(cluster_shared()));

    client_do(client_open(proxy, "user=alice password=alicesecret"), "SELECT 1");
    client_do(client_open(proxy, "user=bob password=bobsecret"), "SELECT 1");
    cr_assert_has(client_refusal(proxy, "user=bob password=alicesecret"), "28P01");
}

/* Nothing can be taken back from a module; nobody else waits for it, not even the end. */
SYSTEM_TEST(pam, a_module_that_hangs_is_given_up)
{
    SKIP_ON_PGBOUNCER();
    char *hba = text_of("%s/hba", test_folder());
    const char *folder = service("pgbouncer", "exec sleep 120", "pam_permit.so");

    file_write(hba, 0600,
               "host all alice 127.0.0.1/32 pam\nhost all all 127.0.0.1/32 trust\n"
               "local all all trust\n");
    struct proxy *proxy = proxy_start("auth_type = hba\nauth_hba_file = %s\nauth_pam_folder = %s\n"
                                      "auth_helper_threads = 1\nauth_helper_timeout = 1\n",
                                      hba, folder);

    for (int i = 0; i < 2; i++) {
        char *text = client_refusal(proxy, "user=alice password=alicesecret");

        cr_assert_has(text, "57P03");
        cr_assert_has(text, "cannot be checked now");
    }
    client_do(client_open(proxy, "user=app"), "SELECT 1");
    proxy_stop(proxy); /* which fails if it waits for the module */
}

SYSTEM_TEST(pam, a_service_that_is_not_there_is_told_in_the_log)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy =
        asking(service("other_name", KNOWS_ALICE, "pam_permit.so"), "auth_pam_service = missing\n");

    client_refusal(proxy, "user=alice password=alicesecret");
    cr_assert(until(proxy_logged(proxy, "PAM service missing"), PATIENCE_MS));
}
