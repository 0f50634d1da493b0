/* What libpq's messages mean. The messages are those of libpq 15 with PQERRORS_VERBOSE. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "src/health/probe_inside.h"

#define BEFORE "connection to server at \"pg1.example.com\" (10.0.0.3), port 5432 failed: "

static struct probe_result sorted(enum probe_step step, const char *message)
{
    struct probe_result result = {0};
    probe_classify(step, message, false, &result);
    return result;
}

static void is(enum probe_step step, const char *message, enum probe_error error,
               const char *sqlstate, const char *text)
{
    struct probe_result result = sorted(step, message);
    cr_assert_eq(result.error, error, "%s is %s", message, probe_error_word(result.error));
    cr_assert_str_eq(result.sqlstate, sqlstate);
    cr_assert_str_eq(result.text, text);
    cr_assert_eq(result.step, step);
}

Test(probe_words, sqlstates_of_logins_are_found_behind_the_severity)
{
    is(PROBE_STEP_LOGIN,
       BEFORE
       "FATAL:  28P01: password authentication failed for user \"m\"\nLOCATION:  auth_failed, "
       "auth.c:335\n",
       PROBE_AUTH, "28P01", "password authentication failed for user \"m\"");
    is(PROBE_STEP_LOGIN, BEFORE "FATAL:  28000: no pg_hba.conf entry for host\n", PROBE_AUTH,
       "28000", "no pg_hba.conf entry for host");
    is(PROBE_STEP_LOGIN, BEFORE "FATAL:  3D000: database \"x\" does not exist\n", PROBE_NO_DATABASE,
       "3D000", "database \"x\" does not exist");
    is(PROBE_STEP_LOGIN, BEFORE "FATAL:  53300: sorry, too many clients already\n", PROBE_TOO_MANY,
       "53300", "sorry, too many clients already");
    is(PROBE_STEP_LOGIN, BEFORE "FATAL:  57P03: the database system is starting up\n",
       PROBE_STARTING_UP, "57P03", "the database system is starting up");
    is(PROBE_STEP_LOGIN, BEFORE "FATAL:  42704: unrecognized configuration parameter\n",
       PROBE_SERVER, "42704", "unrecognized configuration parameter");
}

Test(probe_words, the_severity_may_be_in_any_language)
{
    is(PROBE_STEP_LOGIN, BEFORE "致命的エラー:  57P03: データベースシステムは起動中です\n",
       PROBE_STARTING_UP, "57P03", "データベースシステムは起動中です");
}

Test(probe_words, of_several_attempts_the_last_one_counts)
{
    is(PROBE_STEP_LOGIN,
       BEFORE "SSL error: wrong version number\n" BEFORE "FATAL:  3D000: no such database\n",
       PROBE_NO_DATABASE, "3D000", "no such database");
}

Test(probe_words, what_is_said_before_tls_stands_is_a_failure_of_tls)
{
    is(PROBE_STEP_TLS, BEFORE "FATAL:  53300: too many clients, said in the clear\n", PROBE_TLS, "",
       "FATAL:  53300: too many clients, said in the clear");
    is(PROBE_STEP_TLS, BEFORE "server does not support SSL, but SSL was required\n", PROBE_TLS, "",
       "server does not support SSL, but SSL was required");
}

Test(probe_words, a_peer_that_goes_away_before_tls_stands_is_lost)
{
    is(PROBE_STEP_TLS, BEFORE "server closed the connection unexpectedly\n\tThis …\n", PROBE_LOST,
       "", "server closed the connection unexpectedly");
    is(PROBE_STEP_TLS, BEFORE "SSL SYSCALL error: Connection reset by peer\n", PROBE_LOST, "",
       "SSL SYSCALL error: Connection reset by peer");
    is(PROBE_STEP_TLS, BEFORE "SSL error: certificate verify failed\n", PROBE_TLS, "",
       "SSL error: certificate verify failed");
}

Test(probe_words, a_certificate_that_the_server_refuses_after_the_handshake_is_tls)
{
    is(PROBE_STEP_LOGIN, BEFORE "SSL error: tlsv13 alert certificate required\n", PROBE_TLS, "",
       "SSL error: tlsv13 alert certificate required");
}

Test(probe_words, failures_to_connect_say_nothing_else)
{
    is(PROBE_STEP_CONNECT, BEFORE "Connection refused\n\tIs the server running on that host?\n",
       PROBE_REFUSED, "", "Connection refused");
    is(PROBE_STEP_CONNECT, BEFORE "No route to host\n", PROBE_REFUSED, "", "No route to host");
    is(PROBE_STEP_CONNECT, BEFORE "Connection timed out\n", PROBE_TIMEOUT, "",
       "Connection timed out");
}

Test(probe_words, what_this_machine_lacks_is_not_the_hosts)
{
    is(PROBE_STEP_CONNECT, BEFORE "could not create socket: Too many open files\n", PROBE_LOCAL, "",
       "could not create socket: Too many open files");
    is(PROBE_STEP_CONNECT, BEFORE "Cannot assign requested address\n\tIs the server running?\n",
       PROBE_LOCAL, "", "Cannot assign requested address");
    /* a server may say so of itself */
    is(PROBE_STEP_LOGIN, BEFORE "could not fork new process: Cannot allocate memory\n",
       PROBE_PROTOCOL, "", "could not fork new process: Cannot allocate memory");
    cr_assert_not(probe_error_is_host(PROBE_LOCAL));
    cr_assert(probe_errno_is_local(EMFILE) && !probe_errno_is_local(ECONNREFUSED));
}

Test(probe_words, ends_of_connections_are_told_from_nonsense)
{
    is(PROBE_STEP_QUERY, "server closed the connection unexpectedly\n", PROBE_LOST, "",
       "server closed the connection unexpectedly");
    is(PROBE_STEP_QUERY, "FATAL:  57P01: terminating connection due to administrator command\n",
       PROBE_LOST, "57P01", "terminating connection due to administrator command");
    is(PROBE_STEP_LOGIN, BEFORE "expected authentication request from server, but received H\n",
       PROBE_PROTOCOL, "", "expected authentication request from server, but received H");
    is(PROBE_STEP_QUERY, "ERROR:  42501: permission denied for function f\n", PROBE_SERVER, "42501",
       "permission denied for function f");
}

Test(probe_words, a_password_that_is_not_known_is_said_in_plain_words)
{
    struct probe_result result = {0};
    probe_classify(PROBE_STEP_LOGIN, BEFORE "fe_sendauth: no password supplied\n", true, &result);
    cr_assert_eq(result.error, PROBE_AUTH);
    cr_assert_str_eq(result.text, "the server asks for a password, and none is known");
}

Test(probe_words, odd_messages_are_cut_and_cleaned)
{
    char message[3000];
    memset(message, 'x', sizeof message);
    message[sizeof message - 1] = '\0';
    message[5] = '\033';
    struct probe_result result = sorted(PROBE_STEP_LOGIN, message);
    cr_assert_eq(strlen(result.text), PROBE_TEXT_BYTES - 1);
    cr_assert_eq(result.text[5], ' ');
    is(PROBE_STEP_LOGIN, "", PROBE_PROTOCOL, "", "the connection failed");
    is(PROBE_STEP_LOGIN, NULL, PROBE_PROTOCOL, "", "the connection failed");
    is(PROBE_STEP_LOGIN, "x:  28P0", PROBE_PROTOCOL, "", "x:  28P0");
    is(PROBE_STEP_LOGIN, ":  ", PROBE_PROTOCOL, "", ":  ");
}

Test(probe_words, one_users_trouble_is_never_the_hosts)
{
    static const enum probe_error not_the_host[] = {
        PROBE_FINE, PROBE_AUTH, PROBE_NO_DATABASE, PROBE_TOO_MANY, PROBE_STARTING_UP, PROBE_SERVER};
    for (size_t i = 0; i < sizeof not_the_host / sizeof not_the_host[0]; i++)
        cr_assert_not(probe_error_is_host(not_the_host[i]));
    cr_assert(probe_error_is_host(PROBE_REFUSED));
    cr_assert(probe_error_is_host(PROBE_TIMEOUT));
    cr_assert(probe_error_is_host(PROBE_LOST));
}

/* ---- parameters ---- */

static const char *value_of(const struct probe_parameters *parameters, const char *keyword)
{
    for (size_t i = 0; i < parameters->count; i++) {
        if (text_equal(parameters->keywords[i], keyword))
            return parameters->values[i];
    }
    return NULL;
}

static const struct probe_target target = {
    .name = "pg1.example.com.",
    .port = 5433,
    .user = "m",
    .dbname = "app",
    .tls = {.mode = TLS_VERIFY_FULL, .ca_file = "/ca.pem", .protocols = "tlsv1.3"},
};

Test(probe_parameters, name_and_address_are_apart_and_gss_is_off)
{
    struct probe_parameters parameters;
    struct address address;
    char problem[256] = "";
    cr_assert(address_parse(&address, "10.0.0.3", 5433));
    cr_assert(probe_parameters_fill(&parameters, &target, &address, problem, sizeof problem), "%s",
              problem);
    cr_assert_str_eq(value_of(&parameters, "host"), "pg1.example.com");
    cr_assert_str_eq(value_of(&parameters, "hostaddr"), "10.0.0.3");
    cr_assert_str_eq(value_of(&parameters, "port"), "5433");
    cr_assert_str_eq(value_of(&parameters, "sslmode"), "verify-full");
    cr_assert_str_eq(value_of(&parameters, "sslrootcert"), "/ca.pem");
    cr_assert_str_eq(value_of(&parameters, "ssl_min_protocol_version"), "TLSv1.3");
    cr_assert_str_eq(value_of(&parameters, "gssencmode"), "disable");
    cr_assert_str_eq(value_of(&parameters, "target_session_attrs"), "any");
    cr_assert_null(value_of(&parameters, "password"));
}

Test(probe_parameters, channel_binding_is_that_of_other_connections)
{
    static const char *const words[] = {
        [CHANNEL_BINDING_DISABLE] = "disable",
        [CHANNEL_BINDING_PREFER] = "prefer",
        [CHANNEL_BINDING_REQUIRE] = "require",
    };
    struct probe_target asked = target;
    struct probe_parameters parameters;
    struct address address;
    char problem[256];
    cr_assert(address_parse(&address, "10.0.0.3", 5433));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        asked.tls.channel_binding = (enum channel_binding)i;
        cr_assert(probe_parameters_fill(&parameters, &asked, &address, problem, sizeof problem));
        cr_expect_str_eq(value_of(&parameters, "channel_binding"), words[i]);
    }
}

Test(probe_parameters, nothing_is_looked_for_in_the_accounts_home)
{
    static const char *const files[] = {"sslcert",   "sslkey",   "sslcrl",
                                        "sslcrldir", "passfile", "sslrootcert"};
    struct probe_target plain = target;
    struct probe_parameters parameters;
    struct address address;
    char problem[256];
    plain.tls = (struct tls_settings){.mode = TLS_REQUIRE};
    cr_assert(address_parse(&address, "10.0.0.3", 5433));
    cr_assert(probe_parameters_fill(&parameters, &plain, &address, problem, sizeof problem));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        cr_assert_str_eq(value_of(&parameters, files[i]), "/dev/null/none", "%s", files[i]);
}

Test(probe_parameters, a_revocation_list_that_cannot_be_read_stops_the_attempt)
{
    struct probe_target revoking = target;
    struct probe_parameters parameters;
    struct address address;
    char problem[256];
    revoking.tls.crl_file = "/nowhere/crl.pem";
    cr_assert(address_parse(&address, "10.0.0.3", 5433));
    cr_assert_not(probe_parameters_fill(&parameters, &revoking, &address, problem, sizeof problem));
    cr_assert(strstr(problem, "/nowhere/crl.pem"));
}

Test(probe_parameters, a_name_with_a_comma_is_no_list_of_hosts)
{
    struct probe_target odd = target;
    struct probe_parameters parameters;
    struct address address;
    char problem[256];
    cr_assert(address_parse(&address, "10.0.0.3", 5433));
    odd.name = "a.example.com,b.example.com";
    cr_assert_not(probe_parameters_fill(&parameters, &odd, &address, problem, sizeof problem));
    odd.name = ".example.com";
    cr_assert_not(probe_parameters_fill(&parameters, &odd, &address, problem, sizeof problem));
}

Test(probe_parameters, a_unix_socket_has_its_owner_checked)
{
    struct probe_target local = target;
    struct probe_parameters parameters;
    struct address address;
    char problem[256];
    local.name = "/run/postgresql";
    local.peer_user = "postgres";
    cr_assert(address_local(&address, local.name, local.port));
    cr_assert(probe_parameters_fill(&parameters, &local, &address, problem, sizeof problem));
    cr_assert_str_eq(value_of(&parameters, "requirepeer"), "postgres");
    cr_assert_null(value_of(&parameters, "hostaddr"));
}
