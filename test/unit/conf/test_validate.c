/* Validation: every mistake at once, each at its line. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"

TestSuite(validate, .init = desk_set, .fini = desk_clear);

#define ENVIRONMENT "[environment e]\nclass = review_apps\nhosts = h\n"

Test(validate, all_mistakes_are_reported_at_once_in_the_order_of_the_file)
{
    cr_expect_null(desk_load("[pgstage]\n"
                             "listen_prt = 1\n"          /* 2 */
                             "auth_type = ldap\n"        /* 3 */
                             "query_timeout = 5m\n"      /* 4 */
                             "default_environment = x\n" /* 5 */
                             "pool_size = 3\n"           /* 6 */
                             "auth_file = none\n"        /* 7 */
                             "max_client_conn = -4\n"    /* 8 */
                             "[nonsense]\n"              /* 9 */
                             "[environment b]\n"         /* 10 */
                             "class = prodction\n"       /* 11 */
                             "[environment c]\n"
                             "hosts = h:99999\n" /* 13 */
                             "[listener l]\n"
                             "environment = q\n" /* 15 */
                             "[databases]\n"
                             "a = host=x port=abc\n" /* 17 */
                             "pgbouncer = host=x\n"  /* 18 */
                             "loose line\n"));       /* 19 */
    static const int lines[] = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17, 18, 19};
    int last = 0;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        cr_expect(desk_said(lines[i], ""), "nothing about line %d", lines[i]);
    for (size_t i = 0; i < desk_report.count; i++) {
        cr_expect_geq(desk_report.entries[i].line, last);
        last = desk_report.entries[i].line;
    }
}

Test(validate, an_entry_reads_as_file_line_kind_and_text)
{
    cr_expect_null(desk_load("[pgstage]\nlisten_port = x\n"));
    char *line = report_line(&desk_report.entries[0]);
    cr_expect(strstr(line, "/pgstage.ini:2: error: listen_port: \"x\" is not a whole number"), "%s",
              line);
    free(line);
}

Test(validate, unknown_options_are_answered_with_the_nearest_name)
{
    desk_refuses("[pgstage]\nlisten_prt = 1\n", 2, "did you mean listen_port?");
    desk_refuses("[databases]\na = dbnme=x\n", 2, "did you mean dbname?");
    desk_refuses(ENVIRONMENT "host = h\n", 4, "into [databases], [peers]");
    desk_refuses("[users]\nu = dbname=x\n", 2, "does not belong into [users]");
}

Test(validate, unknown_classes_are_answered_with_the_nearest_one)
{
    desk_refuses("[environment e]\nclass = prodution\nhosts = h\n", 2, "did you mean production?");
    desk_refuses("[environment e]\nclass = x\nhosts = h\n", 2,
                 "there are: local_development, feature_branch, ");
}

Test(validate, names_of_environments_must_exist)
{
    desk_refuses("[pgstage]\ndefault_environment = producton\n[environment production]\n"
                 "hosts = h\n",
                 2, "did you mean production?");
    desk_refuses("[databases]\na@nowhere =\n", 2, "no environment \"nowhere\"");
    desk_refuses("[databases]\na = environment=nowhere\n", 2, "no environment \"nowhere\"");
    desk_refuses("[listener l]\nlisten_port = 1\nenvironment = nowhere\n", 3,
                 "no environment \"nowhere\"");
}

Test(validate, a_line_cannot_be_in_two_environments)
{
    desk_refuses(ENVIRONMENT "[environment f]\nhosts = g\n[databases]\na@e = environment=f\n", 7,
                 "cannot be in environment f");
}

Test(validate, names_of_the_console_are_no_databases)
{
    desk_refuses("[databases]\npgbouncer = host=h\n", 2, "console");
    desk_refuses("[databases]\npgstage = host=h\n", 2, "console");
}

Test(validate, environments_need_hosts)
{
    desk_refuses("[environment e]\nclass = review_apps\n", 1, "has no hosts");
    desk_refuses("[environment e]\nclass = review_apps\nhosts =\n", 3, "has no hosts");
    desk_refuses("[environment e]\nclass = review_apps\nhosts = a,,b\n", 3, "hosts: ");
}

Test(validate, section_names_that_cannot_be_named_are_refused)
{
    desk_refuses("[environment a b]\nhosts = h\n", 1, "not a name");
    desk_refuses("[environment a@b]\nhosts = h\n", 1, "not a name");
    desk_refuses("[environment]\nhosts = h\n", 1, "unknown section");
    desk_refuses("[pgstage x]\n", 1, "unknown section");
}

Test(validate, two_listeners_cannot_share_a_port)
{
    desk_refuses("[pgstage]\nlisten_addr = 127.0.0.1\n[listener l]\nlisten_addr = 127.0.0.1\n", 3,
                 "same port 6432");
    desk_refuses("[pgstage]\nunix_socket_dir =\nlisten_addr = 127.0.0.1\n[listener l]\n"
                 "listen_addr = *\nlisten_port = 6432\n",
                 6, "same port 6432");
    snapshot_unref(desk_accepts("[pgstage]\nunix_socket_dir =\nlisten_addr = 127.0.0.1\n"
                                "[listener l]\nlisten_addr = 127.0.0.2\n"));
}

Test(validate, somebody_must_be_able_to_connect)
{
    desk_refuses("[pgstage]\nunix_socket_dir =\n", 2, "nobody could connect");
}

Test(validate, a_socket_has_a_path_that_the_kernel_takes)
{
    static const char longest[] = "/a234567890b234567890c234567890d234567890e234567890f234567890g23"
                                  "4567890h234567890i234567890";
    static const char *const forms[] = {
        "[pgstage]\nlisten_port = 65432\nunix_socket_dir = %s%s\n",
        "[databases]\n\na = host=%s%s port=65432\n",
        "[environment e]\nclass = review_apps\nhosts = %s%s:65432\n",
    };
    char text[512];
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        snprintf(text, sizeof(text), forms[i], longest, "1");
        snapshot_unref(desk_accepts(text));
        snprintf(text, sizeof(text), forms[i], longest, "12");
        desk_refuses(text, 3, "longer than 107 bytes");
    }
}

Test(validate, ldap_and_pam_must_be_able_to_work)
{
    desk_refuses("[pgstage]\nauth_type = ldap\n", 2, "needs auth_ldap_options");
    desk_refuses("[pgstage]\nauth_type = ldap\nauth_ldap_options = ldapprefix=cn=\n", 3,
                 "needs ldapserver");
    desk_refuses("[pgstage]\nauth_ldap_options = ldapserver=h ldapbindpassword=hidden\n", 2,
                 "ldapbindpassword is none of them");
    cr_expect_not(desk_said(0, "hidden"));
    desk_refuses("[pgstage]\nauth_ldap_options = ldapserver=\"h\n", 2, "a quote is not closed");
    desk_refuses("[pgstage]\nauth_ldap_options = ldapserver=h,i\n", 2, "blanks between");
    snapshot_unref(desk_accepts("[pgstage]\nauth_type = ldap\n"
                                "auth_ldap_options = ldapserver=h ldapsuffix=\",dc=a, dc=b\"\n"));
    cr_expect(desk_said(2, "no secret here that pgstage could log in on servers with"));
    cr_expect_not(desk_said(0, "come over a wire"));
    snapshot_unref(desk_accepts("[pgstage]\nauth_type = pam\n[databases]\n"
                                "app = host=h user=one password=x\n"));
    cr_expect_not(desk_said(0, "no secret here"));
    snapshot_unref(desk_accepts("[pgstage]\nlisten_addr = 127.0.0.1, 10.0.0.1\nauth_type = pam\n"));
    cr_expect(desk_said(3, "clients that come over a wire are refused"));
}

Test(validate, auth_query_must_be_able_to_work)
{
    desk_refuses("[pgstage]\nauth_user = a\nauth_query = SELECT 1\n", 3, "$1 stands for the user");
    desk_refuses("[databases]\napp = host=h\nb = host=h auth_user=a auth_query='SELECT 1, 2'\n", 3,
                 "$1 stands for the user");
    desk_refuses("[pgstage]\nauth_user = a\nauth_dbname = nosuch\n[databases]\napp = host=h\n", 3,
                 "auth_dbname = nosuch: there is no such line");
    desk_refuses(ENVIRONMENT "auth_user = a\nauth_dbname = other\n[databases]\napp = dbname=x\n"
                             "other = host=elsewhere\n",
                 5, "for environment");
    snapshot_unref(desk_accepts("[pgstage]\nauth_query = SELECT a, b FROM c($1)\n"));
    cr_expect(desk_said(2, "auth_query has no effect without auth_user"));
    snapshot_unref(
        desk_accepts("[pgstage]\nauth_user = a\nauth_dbname = app\n"
                     "auth_query = SELECT a, b FROM c($1)\n[databases]\napp = host=h\n"));
    snapshot_unref(desk_accepts("[pgstage]\nauth_query = SELECT a, b FROM c($1)\n"
                                "[databases]\napp = host=h auth_user=a\n"));
}

Test(validate, auth_user_needs_a_password)
{
    desk_write("hashed", "\"a\" \"md500112233445566778899aabbccddeeff\"\n");
    desk_write("plain", "\"a\" \"password\"\n");
    snapshot_unref(desk_accepts("[pgstage]\nauth_user = a\nauth_file = hashed\n"));
    cr_expect(desk_said(2, "no password in auth_file"));
    snapshot_unref(desk_accepts("[pgstage]\nauth_user = a\nauth_file = plain\n"));
    cr_expect_not(desk_said(0, "no password in auth_file"));
}

Test(validate, required_channel_binding_needs_tls)
{
    desk_refuses("[pgstage]\nserver_channel_binding = require\n", 2,
                 "server_channel_binding = require needs TLS");
    desk_refuses(
        "[databases]\na = host=h server_tls_sslmode=prefer server_channel_binding=require\n", 2,
        "server_channel_binding = require needs TLS");
    snapshot_unref(desk_accepts("[databases]\na = host=h server_tls_sslmode=require "
                                "server_channel_binding=require\n"));
    desk_refuses("[pgstage]\nserver_channel_binding = yes\n", 2, "disable, prefer, require");
}

Test(validate, verification_needs_authorities)
{
    desk_refuses("[pgstage]\nserver_tls_sslmode = verify-ca\n", 2, "needs server_tls_ca_file");
    desk_refuses("[environment e]\nclass = staging\nhosts = h\n", 1, "needs server_tls_ca_file");
    desk_refuses("[databases]\na = host=h server_tls_sslmode=verify-full\n", 2,
                 "needs server_tls_ca_file");
    snapshot_unref(
        desk_accepts("[environment e]\nclass = staging\nhosts = h\nserver_tls_ca_file = system\n"));
}

Test(validate, tls_for_clients_needs_a_certificate)
{
    desk_refuses("[pgstage]\nclient_tls_sslmode = require\n", 2, "needs client_tls_key_file");
    desk_refuses("[listener l]\nlisten_port = 1\nclient_tls_sslmode = prefer\n", 3,
                 "needs client_tls_key_file");
    desk_refuses("[pgstage]\nclient_tls_cert_file = pgstage.ini\n", 2, "need each other");
    desk_refuses("[pgstage]\nserver_tls_key_file = pgstage.ini\n", 2, "need each other");
}

Test(validate, files_that_cannot_be_read_are_named)
{
    desk_refuses("[pgstage]\nserver_tls_ca_file = none.pem\n", 2, "cannot read none.pem");
    desk_refuses("[pgstage]\nauth_type = hba\nauth_hba_file = none.conf\n", 3, "none.conf");
    desk_refuses("[pgstage]\nauth_file = none.txt\n", 2, "cannot read none.txt");
    desk_refuses("[databases]\na = host=h password_file=none\n", 2, "cannot read none");
    desk_refuses(ENVIRONMENT "server_tls_crl_file = none.crl\n", 4, "cannot read none.crl");
}

Test(validate, a_user_list_with_a_mistake_is_named_with_its_line)
{
    desk_write("u", "\"a\" \"b\"\noops\n");
    cr_expect_null(desk_load("[pgstage]\nauth_file = u\n"));
    cr_expect_str_eq(desk_report.entries[0].file, "u");
    cr_expect_eq(desk_report.entries[0].line, 2);
}

Test(validate, secrets_are_given_once)
{
    desk_write("pw", "x\n");
    desk_write("empty", "\n");
    desk_refuses("[databases]\na = host=h password=x password_file=pw\n", 2, "exclude each other");
    desk_refuses("[databases]\na = host=h password_file=empty\n", 2, "is empty");
    desk_refuses(ENVIRONMENT "monitor_password = x\n", 4, "needs monitor_user");
}

Test(validate, session_state_knows_five_words)
{
    static const char *const words[] = {"track", "pin", "reset", "reset_always", "error"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char text[64];

        snprintf(text, sizeof(text), "[pgstage]\nsession_state = %s\n", words[i]);
        snapshot_unref(desk_accepts(text));
    }
    desk_refuses("[pgstage]\nsession_state = follow\n", 2, "track");
}

Test(validate, odd_pool_sizes_are_warned_about)
{
    snapshot_unref(desk_accepts(ENVIRONMENT "pool_size = 50\n"));
    cr_expect(desk_said(4, "more than 1.5 times"));
    snapshot_unref(desk_accepts(ENVIRONMENT "min_pool_size = 6\n"));
    cr_expect(desk_said(4, "more than pool_size"));
    snapshot_unref(desk_accepts("[environment e]\nhosts = h\n"));
    cr_expect(desk_said(1, "has no class"));
}

Test(validate, tls_versions_are_known_words)
{
    desk_refuses("[pgstage]\nserver_tls_protocols = tlsv1.2, sslv3\n", 2, "\"sslv3\"");
    snapshot_unref(desk_accepts("[pgstage]\nclient_tls_protocols = tlsv1.2,tlsv1.3\n"));
}

Test(validate, peers_have_an_id_and_a_host)
{
    desk_refuses("[peers]\n0 = host=h\n", 2, "1 to 16383");
    desk_refuses("[peers]\n16384 = host=h\n", 2, "1 to 16383");
    desk_refuses("[peers]\nx = host=h\n", 2, "1 to 16383");
    desk_refuses("[peers]\n1 =\n", 2, "has no host");
}

Test(validate, connection_strings_are_read_strictly)
{
    desk_refuses("[databases]\na = host=h loose\n", 2, "expected key=value");
    desk_refuses("[databases]\na = connect_query='x\n", 2, "not closed");
    desk_refuses("[databases]\na = host= port=1\n", 2, "host has an empty value");
}

Test(validate, a_missing_variable_is_a_mistake_of_its_line)
{
    unsetenv("NOPE");
    desk_refuses("[pgstage]\nlogfile = ${NOPE}/x\n", 2, "NOPE is not set");
    desk_refuses("[databases]\na = host=${NOPE}\n", 2, "NOPE is not set");
}

Test(validate, one_tls_server_name_means_one_environment)
{
    desk_refuses("[environment a]\nhosts = h\nsni = x.example.com\n"
                 "[environment b]\nhosts = g\nsni = y, X.example.com\n",
                 6, "already means environment a");
}

Test(validate, only_a_database_has_an_environment_behind_its_name)
{
    desk_refuses(ENVIRONMENT "[users]\n\"u\"@e = pool_size=1\n", 5, "only a database");
}

/* Accepted with a warning of these words at this line, and with no other one. */
static void warns(const char *text, int line, const char *words)
{
    snapshot_unref(desk_accepts(text));
    cr_expect(desk_said(line, words), "nothing about \"%s\" at line %d", words, line);
    cr_expect_eq(desk_report.count, 1, "%zu entries for %s", desk_report.count, words);
}

static void says_nothing(const char *text)
{
    snapshot_unref(desk_accepts(text));
    cr_expect_eq(desk_report.count, 0, "%s", desk_report.count ? desk_report.entries[0].text : "");
}

#define STAGING "[environment s]\nclass = staging\nhosts = g\nserver_tls_ca_file = system\n"

Test(validate, pools_that_exceed_their_class_are_warned_about_wherever_they_are_said)
{
    warns(ENVIRONMENT "[databases]\na@e = pool_size=8\n", 5, "more than 1.5 times the 5");
    says_nothing(ENVIRONMENT "[databases]\na@e = pool_size=7\n");
    /* Where it is fine in one of the environments that it serves, it is meant for that one. */
    says_nothing(ENVIRONMENT STAGING "[databases]\na = pool_size=30\n");
    warns(ENVIRONMENT STAGING "[databases]\na = pool_size=31\n", 9, "of class staging");
    warns(ENVIRONMENT "[users]\nu = pool_size=9\n", 5, "of class review_apps");
    says_nothing("[databases]\na = host=h pool_size=900\n");
}

Test(validate, pools_that_add_up_to_more_than_a_limit_are_warned_about)
{
    warns(ENVIRONMENT "max_server_connections = 9\n[databases]\na =\nb@e =\n", 4,
          "add up to 10 with one user each, more than max_server_connections 9");
    says_nothing(ENVIRONMENT "max_server_connections = 10\n[databases]\na =\nb@e =\n");
    /* One that is said twice counts once, a smaller limit of its own counts. */
    says_nothing(ENVIRONMENT "max_server_connections = 5\n[databases]\na =\na@e =\n* =\n");
    says_nothing(ENVIRONMENT "max_server_connections = 6\n"
                             "[databases]\na =\nb@e = pool_size=1 max_db_connections=1\n");
    warns(ENVIRONMENT "max_server_connections = 4\n", 1, "so the pool is never full");
    warns("[databases]\na = host=h pool_size=30 max_db_connections=10\n", 2,
          "more than max_db_connections 10");
    warns("[users]\nu = pool_size=9 max_user_connections=8\n", 2,
          "more than max_user_connections 8");
    warns("[databases]\na = host=h pool_size=3 min_pool_size=4\n", 2, "more than pool_size 3");
    says_nothing(STAGING "pool_size = 3\n[databases]\na@s = pool_size=2\n"); /* the class keeps 5 */
}

Test(validate, options_that_undo_each_other_are_warned_about)
{
    warns("[pgstage]\nreserve_pool_size = 5\nreserve_pool_timeout = 0\n", 3, "never uses it");
    warns("[pgstage]\nserver_reset_query =\nserver_reset_query_always = 1\n", 3, "is empty");
    warns("[pgstage]\ntransaction_timeout = 5\nquery_timeout = 6\n", 3, "is shorter");
    warns(ENVIRONMENT "transaction_timeout = 5\nidle_transaction_timeout = 6\n", 4, "is shorter");
    warns(ENVIRONMENT "server_tls_ca_file = system\n", 4, "below verify-ca");
    warns("[databases]\na = host=h password=x\n", 2, "without user");
    warns("[pgstage]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\nunix_socket_group = x\n", 4,
          "unix_socket_dir is empty");
    says_nothing("[pgstage]\ntransaction_timeout = 6\nquery_timeout = 5\n"
                 "[databases]\na = host=h user=u password=x\n");
    says_nothing(ENVIRONMENT "user = u\n[databases]\na@e = password=x\n");
}

Test(validate, production_promotes_behind_a_fence_only)
{
#define PROMOTES                                                                                   \
    "[pgstage]\nauth_type = scram-sha-256\nstate_dir = /tmp\n[environment p]\n"                    \
    "class = production\nhosts = h, i\nserver_tls_ca_file = system\nfailover_user = f\n"           \
    "failover_mode = promote\n"
    desk_refuses(PROMOTES, 9, "needs fence_command");
    snapshot_unref(desk_accepts(PROMOTES "fence_command = /bin/true\n"));
    snapshot_unref(desk_accepts(PROMOTES "allow_unfenced_promotion = yes\n"));
}

/* Among other things. */
static void warns_too(const char *text, int line, const char *words)
{
    snapshot_unref(desk_accepts(text));
    cr_expect(desk_said(line, words), "nothing about \"%s\" at line %d", words, line);
}

Test(validate, production_promotes_only_with_a_memory)
{
    desk_refuses("[pgstage]\nauth_type = scram-sha-256\n[environment p]\nclass = production\n"
                 "hosts = h, i\nserver_tls_ca_file = system\nfailover_user = f\n"
                 "fence_command = /bin/true\nfailover_mode = promote\n",
                 9, "needs state_dir");
    warns_too(ENVIRONMENT "failover_user = f\nfailover_mode = promote\n", 5, "without state_dir");
}

Test(validate, promoting_needs_what_it_acts_with)
{
#define PROMOTE ENVIRONMENT "failover_user = f\nfailover_mode = promote\n"
    desk_refuses(ENVIRONMENT "failover_mode = promote\n", 4, "needs failover_user");
    desk_refuses(ENVIRONMENT "failover_password = x\n", 4, "needs failover_user");
    desk_refuses(PROMOTE "demote_command = d\n", 6, "need each other");
    desk_refuses(PROMOTE "undemote_command = d\n", 6, "need each other");
    snapshot_unref(desk_accepts(PROMOTE "demote_command = d\nundemote_command = u\n"));
    warns_too(PROMOTE, 5, "no second host");
    warns_too(PROMOTE "switchover_command = s\n", 6, "no effect");
}

Test(validate, following_promotes_nothing)
{
    warns_too(ENVIRONMENT "fence_command = f\n", 4, "no effect: failover_mode is follow");
    warns_too(ENVIRONMENT "demote_command = f\n", 4, "no effect: failover_mode is follow");
    desk_refuses(ENVIRONMENT "dr_hosts = d\ndr_failover = automatic\n", 5,
                 "needs failover_mode = promote");
    snapshot_unref(desk_accepts(ENVIRONMENT "switchover_command = patronictl\n"));
}

Test(validate, dr_options_need_a_dr_site)
{
    desk_refuses(PROMOTE "dr_failover = automatic\n", 6, "needs dr_hosts");
    warns_too(ENVIRONMENT "rpo_limit = 5s\n", 4, "no dr_hosts");
    warns_too(ENVIRONMENT "rto_target = 5min\n", 4, "no dr_hosts");
}

Test(validate, probes_have_sensible_times)
{
    desk_refuses(ENVIRONMENT "probe_interval = 5ms\n", 4, "at least 10ms, or 0");
    desk_refuses(ENVIRONMENT "probe_fast_interval = 0\n", 4, "at least 10ms");
    desk_refuses(ENVIRONMENT "probe_timeout = 0\n", 4, "at least 10ms");
    desk_refuses(ENVIRONMENT "probe_rise = 0\n", 4, "probe_rise");
    snapshot_unref(desk_accepts(ENVIRONMENT "probe_interval = 0\nprobe_timeout = 0\n"));
    snapshot_unref(desk_accepts(ENVIRONMENT "probe_interval = 10ms\n"));
}

Test(validate, what_needs_probes_says_so)
{
    warns_too(ENVIRONMENT "max_replica_lag = 5s\n", 4, "max_replica_lag has no effect");
    warns_too(PROMOTE, 5, "nobody watches the hosts");
    warns_too(ENVIRONMENT "monitor_user = m\nprobe_interval = 0\nmax_replica_lag = 5s\n", 6,
              "max_replica_lag has no effect");
    snapshot_unref(desk_accepts(ENVIRONMENT "monitor_user = m\nmax_replica_lag = 5s\n"));
    cr_expect_not(desk_said(0, "has no effect"));
}

Test(validate, production_without_an_audit_log_is_a_warning)
{
    snapshot_unref(desk_accepts("[pgstage]\nauth_type = scram-sha-256\n[environment p]\n"
                                "class = production\nhosts = h\nserver_tls_ca_file = system\n"));
    cr_expect(desk_said(3, "write audit_log = FILE in [pgstage]"));
    snapshot_unref(desk_accepts("[pgstage]\nauth_type = scram-sha-256\naudit_log = a\n"
                                "[environment p]\nclass = production\nhosts = h\n"
                                "server_tls_ca_file = system\n"));
    cr_expect_not(desk_said(0, "audit_log"));
    snapshot_unref(desk_accepts("[environment d]\nclass = staging\nhosts = h\n"
                                "server_tls_ca_file = system\n"));
    cr_expect_not(desk_said(0, "audit_log"));
}
