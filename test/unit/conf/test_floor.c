/* The floor of the production classes: each rule, through each layer that could break it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "desk.h"

TestSuite(floor, .init = desk_set, .fini = desk_clear);

/* Five lines; what a test adds begins at line 6. */
#define PRODUCTION                                                                                 \
    "[environment p]\nclass = production\nhosts = h1, h2@10.0.0.2:5433\n"                          \
    "server_tls_ca_file = system\nauth_type = scram-sha-256\n"

Test(floor, what_keeps_every_rule_loads)
{
    struct snapshot *snapshot = desk_accepts(PRODUCTION);
    cr_expect(snapshot_environment(snapshot, 0)->production_class);
    cr_expect_str_eq(desk_value(snapshot, "p", "server_tls_sslmode"), "verify-full");
    snapshot_unref(snapshot);
}

Test(floor, servers_are_verified_whatever_layer_says_otherwise)
{
    static const char *const modes[] = {"disable", "allow", "prefer", "require", "verify-ca"};
    for (size_t i = 0; i < 5; i++) {
        char text[512];
        snprintf(text, sizeof(text), PRODUCTION "server_tls_sslmode = %s\n", modes[i]);
        desk_refuses(text, 6, "verify-full");
        snprintf(text, sizeof(text), PRODUCTION "[databases]\na@p = server_tls_sslmode=%s\n",
                 modes[i]);
        desk_refuses(text, 7, "verify-full");
        snprintf(text, sizeof(text), PRODUCTION "[databases]\na = server_tls_sslmode=%s\n",
                 modes[i]);
        desk_refuses(text, 7, "verify-full");
        snprintf(text, sizeof(text),
                 PRODUCTION "[databases]\na = environment=p host=h1 server_tls_sslmode=%s\n",
                 modes[i]);
        desk_refuses(text, 7, "verify-full");
    }
}

Test(floor, a_wider_scope_does_not_reach_below_the_class)
{
    struct snapshot *snapshot =
        desk_accepts(PRODUCTION "[pgstage]\nserver_tls_sslmode = disable\n");
    cr_expect_str_eq(desk_value(snapshot, "p", "server_tls_sslmode"), "verify-full");
    snapshot_unref(snapshot);
}

Test(floor, later_files_and_variables_do_not_reach_below_it)
{
    desk_write("pgstage.local.ini", "[environment p]\nserver_tls_sslmode = require\n");
    desk_refuses(PRODUCTION, 2, "verify-full");
    unlink("pgstage.local.ini");
    setenv("PGSTAGE__P__SERVER_TLS_SSLMODE", "require", 1);
    desk_refuses(PRODUCTION, 0, "PGSTAGE__P__SERVER_TLS_SSLMODE: environment p (class production)");
}

Test(floor, every_production_class_has_it)
{
    static const char *const classes[] = {"pre_production", "production", "disaster_recovery"};
    for (size_t i = 0; i < 3; i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 "[environment p]\nclass = %s\nhosts = h\nauth_type = scram-sha-256\n", classes[i]);
        desk_refuses(text, 1, "server_tls_ca_file");
    }
}

Test(floor, authorities_cannot_be_taken_away)
{
    desk_refuses(PRODUCTION "server_tls_ca_file =\n", 6, "server_tls_ca_file");
    desk_refuses(PRODUCTION "[databases]\na@p = server_tls_ca_file=''\n", 7, "server_tls_ca_file");
}

Test(floor, old_tls_is_refused)
{
    desk_refuses(PRODUCTION "server_tls_protocols = all\n", 6, "older than 1.2");
    desk_refuses("[pgstage]\nserver_tls_protocols = tlsv1.1,tlsv1.2\n" PRODUCTION, 2,
                 "older than 1.2");
}

Test(floor, secrets_do_not_stand_in_the_file)
{
    desk_refuses(PRODUCTION "password = x\n", 6, "literal password");
    desk_refuses(PRODUCTION "monitor_user = m\nmonitor_password = x\n", 7,
                 "literal monitor_password");
    desk_refuses(PRODUCTION "[databases]\na@p = user=u password=x\n", 7, "literal password");
    desk_refuses(PRODUCTION "[databases]\na = user=u password=x\n", 7, "literal password");
}

Test(floor, secrets_from_variables_and_files_are_fine)
{
    setenv("PW", "secret", 1);
    setenv("PGSTAGE__P__PASSWORD", "secret", 1);
    desk_write("pw", "secret\n");
    snapshot_unref(desk_accepts(PRODUCTION "monitor_user = m\nmonitor_password_file = pw\n"
                                           "[databases]\na@p = user=u password=${PW}\n"));
}

Test(floor, secret_files_belong_to_their_user_alone)
{
    desk_write("pw", "secret\n");
    cr_assert_eq(chmod("pw", 0644), 0);
    desk_refuses(PRODUCTION "monitor_user = m\nmonitor_password_file = pw\n", 7, "0600");
    desk_refuses(PRODUCTION "[databases]\na@p = user=u password_file=pw\n", 7, "0600");
    /* A link is no way around. */
    cr_assert_eq(symlink("pw", "link"), 0);
    desk_refuses(PRODUCTION "monitor_user = m\nmonitor_password_file = link\n", 7, "0600");
}

Test(floor, weak_logins_are_refused)
{
    static const char *const types[] = {"any", "trust", "plain", "md5"};
    for (size_t i = 0; i < 4; i++) {
        char text[512];
        snprintf(text, sizeof(text), PRODUCTION "auth_type = %s\n", types[i]);
        desk_refuses(text, 6, "any, trust, plain and md5");
    }
    desk_refuses("[pgstage]\nauth_type = trust\n[environment p]\nclass = production\nhosts = h\n"
                 "server_tls_ca_file = system\n",
                 2, "any, trust, plain and md5");
}

Test(floor, clients_come_over_tls)
{
    desk_refuses(PRODUCTION "client_tls_sslmode = prefer\n", 6, "over TLS only");
    desk_refuses(PRODUCTION "client_tls_sslmode = disable\n", 6, "over TLS only");
}

Test(floor, unix_sockets_need_the_user_behind_them)
{
    desk_refuses("[environment p]\nclass = production\nhosts = /run/postgresql\n"
                 "server_tls_ca_file = system\nauth_type = scram-sha-256\n",
                 3, "server_peer_user");
    desk_refuses(PRODUCTION "[databases]\na@p = host=/tmp\n", 7, "server_peer_user");
}

Test(floor, a_production_host_stands_in_its_own_environment_only)
{
    desk_refuses(PRODUCTION "[environment d]\nclass = review_apps\nhosts = x, h1\n", 8,
                 "h1:5432 is a host of environment p");
    desk_refuses(PRODUCTION "[environment d]\nclass = review_apps\nhosts = other@10.0.0.2:5433\n",
                 8, "is a host of environment p");
    desk_refuses(PRODUCTION "[environment d]\nclass = pre_production\nhosts = H1\n"
                            "server_tls_ca_file = system\nauth_type = scram-sha-256\n",
                 8, "is a host of environment p");
    desk_refuses(PRODUCTION "[databases]\nlegacy = host=h1\n", 7, "is a host of environment p");
    desk_refuses(PRODUCTION "[databases]\n* = host=10.0.0.2 port=5433\n", 7,
                 "is a host of environment p");
    desk_refuses(PRODUCTION "[environment d]\nclass = review_apps\nhosts = x\n"
                            "[databases]\na@d = host=h1\n",
                 10, "is a host of environment p");
}

Test(floor, the_disaster_recovery_site_may_be_an_environment_of_its_own)
{
    snapshot_unref(desk_accepts(PRODUCTION "dr_hosts = d1\n"
                                           "[environment dr]\nclass = disaster_recovery\n"
                                           "hosts = d1\nserver_tls_ca_file = system\n"
                                           "auth_type = scram-sha-256\n"));
}

Test(floor, another_port_is_another_server)
{
    snapshot_unref(
        desk_accepts(PRODUCTION "[environment d]\nclass = review_apps\nhosts = h1:6000\n"));
}

Test(floor, set_cannot_break_it)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\nauth_type = scram-sha-256\n[environment p]\nclass = production\n"
                     "hosts = h\nserver_tls_ca_file = system\n");
    report_fini(&desk_report);
    cr_expect_null(snapshot_set(snapshot, "auth_type", "trust", &desk_report));
    cr_expect(desk_said(0, "SET: environment p"));
    cr_expect_null(snapshot_set(snapshot, "server_tls_protocols", "all", &desk_report));
    snapshot_unref(snapshot);
}
