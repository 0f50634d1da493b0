/* The floor of the production classes: what keeps it, and its corners. Each rule through each layer
 * is in test_matrix.c. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "desk.h"
#include "pgstage/conf/rule.h"

TestSuite(floor, .init = desk_set, .fini = desk_clear);

/* Six lines; what a test adds begins at line 7. */
#define PRODUCTION                                                                                 \
    "[pgstage]\nauth_type = scram-sha-256\n"                                                       \
    "[environment p]\nclass = production\nhosts = h1, h2@10.0.0.2:5433\n"                          \
    "server_tls_ca_file = system\n"

Test(floor, what_keeps_every_rule_loads)
{
    struct snapshot *snapshot = desk_accepts(PRODUCTION);
    cr_expect(snapshot_environment(snapshot, 0)->production_class);
    cr_expect_str_eq(desk_value(snapshot, "p", "server_tls_sslmode"), "verify-full");
    snapshot_unref(snapshot);
}

Test(floor, every_production_class_has_it)
{
    static const char *const classes[] = {"pre_production", "production", "disaster_recovery"};
    for (size_t i = 0; i < 3; i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 "[pgstage]\nauth_type = scram-sha-256\n[environment p]\nclass = %s\nhosts = h\n",
                 classes[i]);
        desk_refuses(text, 3, "server_tls_ca_file");
    }
}

Test(floor, a_stricter_value_is_fine)
{
    snapshot_unref(desk_accepts(PRODUCTION "server_tls_protocols = tlsv1.3\n"
                                           "server_tls_ciphers = ECDHE+AESGCM\n"));
}

Test(floor, authorities_may_stand_for_all_and_then_cannot_be_taken_away)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nauth_type = scram-sha-256\nserver_tls_ca_file = system\n"
                     "[environment p]\nclass = production\nhosts = h\n");
    report_fini(&desk_report);
    cr_expect_null(snapshot_set(snapshot, "server_tls_ca_file", "", &desk_report));
    cr_expect(desk_said(0, "SET: environment p"));
    cr_expect(desk_said(0, "[production-ca]"));
    snapshot_unref(snapshot);
}

Test(floor, the_default_login_is_too_weak_for_it)
{
    desk_refuses("[environment p]\nclass = production\nhosts = h\nserver_tls_ca_file = system\n", 0,
                 "auth_type = md5 (the default)");
    /* An environment's own login does not guard the console. */
    desk_refuses("[environment p]\nclass = production\nhosts = h\nserver_tls_ca_file = system\n"
                 "auth_type = scram-sha-256\n",
                 0, "[production-login]");
}

Test(floor, another_environment_may_have_weaker_logins)
{
    snapshot_unref(desk_accepts(PRODUCTION "[environment d]\nclass = local_development\n"
                                           "hosts = 127.0.0.1\nauth_type = trust\n"));
}

Test(floor, secrets_from_variables_and_files_are_fine)
{
    setenv("PW", "secret", 1);
    setenv("LINE", "user=u password=secret", 1);
    setenv("PGSTAGE__P__PASSWORD", "secret", 1);
    desk_write("pw", "secret\n");
    snapshot_unref(desk_accepts(PRODUCTION "monitor_user = m\nmonitor_password_file = pw\n"
                                           "[databases]\na@p = user=u password=${PW}\n"
                                           "b@p = ${LINE}\nc@p = password=${PW:-}\n"));
}

Test(floor, a_line_that_stands_in_a_default_is_literal)
{
    desk_refuses(PRODUCTION "[databases]\na@p = ${NOPE:-user=u password=hunter2}\n", 8,
                 "[production-secret]");
}

Test(floor, root_may_share_a_secret_file_with_a_group)
{
    if (geteuid() != 0)
        cr_skip_test("only root can give files away");
    desk_write("pw", "secret\n");
    static const struct {
        uid_t owner;
        mode_t mode;
        bool good;
    } cases[] = {
        {0, 0600, true},  {0, 0640, true},     {0, 0400, true},     {0, 0644, false},
        {0, 0660, false}, {65534, 0600, true}, {65534, 0640, true}, {1, 0640, false},
    };
    cr_assert_eq(chmod(".", 0755), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* Read by nobody, who is in the file's group. */
        cr_assert_eq(chown("pw", cases[i].owner, 65534), 0);
        cr_assert_eq(chmod("pw", cases[i].mode), 0);
        bool other = cases[i].owner == 1, own = cases[i].owner == 65534;
        desk_write("pgstage.ini", PRODUCTION "monitor_user = m\nmonitor_password_file = pw\n");
        cr_assert_eq(chmod("pgstage.ini", 0644), 0);
        if (other || own)
            cr_assert_eq(setegid(65534) | seteuid(65534), 0);
        struct snapshot *snapshot = desk_load(NULL);
        cr_assert_eq(seteuid(0) | setegid(0), 0);
        /* A file of its own must not be open to its group either. */
        bool good = cases[i].good && !(own && cases[i].mode == 0640);
        cr_expect_eq(snapshot != NULL, good, "owner %u, mode %o", (unsigned)cases[i].owner,
                     (unsigned)cases[i].mode);
        cr_expect(snapshot || desk_said(8, "[production-file]"));
        snapshot_unref(snapshot);
    }
}

Test(floor, a_loopback_listener_for_production_may_do_without_tls)
{
#define BOUND(addresses)                                                                           \
    PRODUCTION "[listener l]\nenvironment = p\nlisten_port = 7000\nclient_tls_sslmode = disable\n" \
               "listen_addr = " addresses "\n"
    snapshot_unref(desk_accepts(BOUND("127.0.0.1, ::1")));
    snapshot_unref(desk_accepts(BOUND("localhost")));
    desk_refuses(BOUND("127.0.0.1, 10.1.1.1"), 10, "[production-client-tls]");
    desk_refuses(BOUND("*"), 10, "[production-client-tls]");
}

Test(floor, peers_on_this_machine_are_fine)
{
    snapshot_unref(desk_accepts(PRODUCTION "[peers]\n1 = host=127.0.0.1\n2 = host=/run/pgstage\n"
                                           "3 = host=localhost port=7000\n4 = host=::1\n"));
}

Test(floor, a_socket_behind_a_link_is_the_same_host)
{
    cr_assert_eq(mkdir("sockets", 0700), 0);
    cr_assert_eq(symlink("sockets", "other"), 0);
    char text[1024], folder[256];
    cr_assert(getcwd(folder, sizeof(folder)));
    snprintf(text, sizeof(text),
             PRODUCTION "[databases]\na@p = host=%s/sockets\nlegacy = host=%s//other/\n", folder,
             folder);
    desk_refuses(text, 9, "[production-host]");
}

Test(floor, a_socket_is_fine_with_the_user_behind_it)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nauth_type = scram-sha-256\n[environment p]\nclass = production\n"
                     "hosts = /run/postgresql\nserver_tls_ca_file = system\n"
                     "server_peer_user = root\n"
                     "[environment d]\nclass = review_apps\nhosts = x\nserver_peer_user = 4711\n"
                     "[environment e]\nclass = review_apps\nhosts = x\n");
    cr_expect_eq(snapshot_environment(snapshot, 0)->server_peer_uid, 0);
    cr_expect_eq(snapshot_environment(snapshot, 1)->server_peer_uid, 4711);
    cr_expect_eq(snapshot_environment(snapshot, 2)->server_peer_uid, -1);
    snapshot_unref(snapshot);
    desk_refuses(PRODUCTION "server_peer_user = nobody_of_this_name\n", 7, "no system user");
}

Test(floor, what_the_loopback_is_called_does_not_matter)
{
    desk_refuses("[pgstage]\nauth_type = scram-sha-256\n[environment p]\nclass = production\n"
                 "hosts = pg.example.com@127.0.0.1\nserver_tls_ca_file = system\n"
                 "[databases]\nlegacy = host=localhost\n",
                 8, "[production-host]");
}

Test(floor, another_production_class_has_no_right_to_its_hosts)
{
    desk_refuses(PRODUCTION "[environment d]\nclass = pre_production\nhosts = H1\n"
                            "server_tls_ca_file = system\n",
                 9, "is a host of environment p");
}

Test(floor, the_disaster_recovery_site_may_be_an_environment_of_its_own)
{
    snapshot_unref(desk_accepts(PRODUCTION "dr_hosts = d1\n"
                                           "[environment dr]\nclass = disaster_recovery\n"
                                           "hosts = d1\nserver_tls_ca_file = system\n"));
}

Test(floor, another_port_is_another_server)
{
    snapshot_unref(
        desk_accepts(PRODUCTION "[environment d]\nclass = review_apps\nhosts = h1:6000\n"));
}

Test(floor, a_line_may_name_a_host_of_its_own_environment)
{
    snapshot_unref(desk_accepts(PRODUCTION "[databases]\na@p = host=h1\n"
                                           "b = environment=p host=10.0.0.2 port=5433\n"));
}

Test(floor, a_rule_is_found_by_its_options)
{
    cr_expect_eq(rule_of_option("server_tls_sslmode"), rule_at(RULE_TLS));
    cr_expect_eq(rule_of_option("host"), rule_at(RULE_HOST));
    cr_expect_null(rule_of_option("server_tls"));
    char *advice = rule_advice(rule_at(RULE_SECRET), "monitor_password");
    cr_expect(strstr(advice, "monitor_password = ${VARIABLE}"), "%s", advice);
    free(advice);
}

Test(floor, ldap_reaches_its_servers_over_tls_only)
{
#define LDAP(options)                                                                              \
    "[pgstage]\nauth_type = scram-sha-256\nauth_ldap_options = " options                           \
    "\n[environment p]\nclass = production\nhosts = h\nserver_tls_ca_file = system\n"              \
    "auth_type = ldap\n"
    desk_refuses(LDAP("ldapserver=h ldapprefix=cn="), 3, "[production-login]");
    snapshot_unref(desk_accepts(LDAP("ldapserver=h ldapprefix=cn= ldaptls=1")));
    snapshot_unref(desk_accepts(LDAP("ldapserver=127.0.0.1 ldapprefix=cn=")));
    desk_refuses(LDAP("ldapurl=ldaps://h/dc=x ldapbinddn=cn=r ldapbindpasswd=p"), 3,
                 "[production-secret]");
#undef LDAP
}
