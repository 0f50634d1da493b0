/*
 * operation: the process itself: its command line, signals, pid file, log, and how it ends.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "system.h"

SYSTEM_SUITE(operation);

static int run_with(char **output, const char *first, const char *second)
{
    char *arguments[] = {text_of("%s", program_binary()), text_of("%s", first),
                         second ? text_of("%s", second) : NULL, NULL};

    return process_run(arguments, NULL, output);
}

SYSTEM_TEST(operation, version_and_help_say_what_it_is)
{
    char *output;

    cr_assert_eq(run_with(&output, "--version", NULL), 0);
    cr_assert_has(output, program_is_pgbouncer() ? "PgBouncer" : "pgstage");
    cr_assert_eq(run_with(&output, "--help", NULL), 0);
    cr_assert_has(output, "Usage");
    if (program_is_pgbouncer())
        return;
    cr_assert_eq(run_with(&output, "-V", NULL), 0);
    cr_assert_eq(run_with(&output, "-h", NULL), 0);
    cr_assert_neq(run_with(&output, "--frobnicate", NULL), 0);
    cr_assert_neq(run_with(&output, "/nonexistent/pgstage.ini", NULL), 0);
    cr_assert_has(output, "/nonexistent/pgstage.ini");
}

SYSTEM_TEST(operation, check_says_whether_a_file_is_good)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    char *output, *bad = text_of("%s/bad.ini", test_folder());

    cr_assert_eq(run_with(&output, "--check", proxy->file), 0, "%s", output);
    file_write(
        bad, 0644,
        "[pgstage]\npool_mod = transaction\nmax_client_conn = many\n"
        "server_idle_timeout = 5 parsecs\nnot_an_option = 1\n[databases]\napp = port=99999\n");
    cr_assert_eq(run_with(&output, "--check", bad), 1);
    cr_assert_has(output, "bad.ini:2:");
    cr_assert_has(output, "pool_mode");
    cr_assert_has(output, "bad.ini:3:");
    cr_assert_has(output, "bad.ini:4:");
    cr_assert_has(output, "bad.ini:5:");
    cr_assert_has(output, "bad.ini:7:");
    cr_assert_neq(run_with(&output, bad, NULL), 0);
    cr_assert_has(output, "bad.ini:2:");
}

SYSTEM_TEST(operation, a_busy_port_is_reported)
{
    struct proxy *first = proxy_start("pool_mode = transaction\n");
    struct proxy_options options = {.wait_none = true};
    struct proxy *second =
        proxy_start_with(&options, "listen_port = %d\nunix_socket_dir =\n", first->port);

    second->expect_failure = true;
    cr_assert_neq(proxy_wait(second, PATIENCE_MS), 0);
    cr_assert(proxy_logged(second, text_of("%d", first->port)), "%s", file_text(second->log));
    client_do(client_open(first, NULL), "SELECT 1");
}

SYSTEM_TEST(operation, it_refuses_to_run_as_root)
{
    struct proxy_options options = {.wait_none = true, .keep_user = true};

    if (geteuid())
        cr_skip_test("needs root");
    struct proxy *proxy = proxy_start_with(&options, "pool_mode = transaction\n");
    proxy->expect_failure = true;
    cr_assert_neq(proxy_wait(proxy, PATIENCE_MS), 0);
    cr_assert(until(proxy_logged(proxy, "root"), PATIENCE_MS));
}

SYSTEM_TEST(operation, the_user_option_gives_root_up)
{
    char *arguments[] = {"-u", text_of("%s", program_user()), NULL};
    struct proxy_options options = {.keep_user = true, .arguments = arguments};

    if (geteuid())
        cr_skip_test("needs root");
    struct proxy *proxy = proxy_start_with(&options, "pool_mode = transaction\n");
    client_do(client_open(proxy, NULL), "SELECT 1");
    char *status = file_text(text_of("/proc/%d/status", (int)proxy->pid));
    char *uid =
        text_of("Uid:\t%d\t%d\t%d", (int)program_uid(), (int)program_uid(), (int)program_uid());
    cr_assert_has(status, uid);
}

SYSTEM_TEST(operation, pidfile_holds_the_pid_and_goes_with_the_process)
{
    char *pidfile = text_of("%s/pid", test_folder());
    struct proxy *proxy = proxy_start("pidfile = %s\n", pidfile);

    cr_assert_eq(atoi(file_text(pidfile)), proxy->pid);
    proxy_stop(proxy);
    cr_assert_str_eq(file_text(pidfile), "");
}

SYSTEM_TEST(operation, daemon_goes_into_the_background)
{
    char *pidfile = text_of("%s/pid", test_folder()),
         *logfile = text_of("%s/own.log", test_folder());
    char *arguments[] = {"-d", NULL};
    struct proxy_options options = {.arguments = arguments, .wait_none = true};
    struct proxy *proxy =
        proxy_start_with(&options, "pidfile = %s\nlogfile = %s\n", pidfile, logfile);

    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0, "%s", file_text(proxy->log));
    cr_assert(until(atoi(file_text(pidfile)) > 0, PATIENCE_MS));
    int pid = atoi(file_text(pidfile));
    PGconn *client = NULL;
    cr_assert(
        until((client = client_try(proxy, NULL), PQstatus(client) == CONNECTION_OK), PATIENCE_MS));
    client_do(client, "SELECT 1");
    PQfinish(client);
    kill(pid, SIGINT);
    cr_assert(until(access(pidfile, F_OK), PATIENCE_MS));
    if (!access(pidfile, F_OK))
        kill(pid, SIGKILL);
    cr_assert_has(file_text(logfile), "process up");
}

SYSTEM_TEST(operation, hup_reloads_the_configuration)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nquery_wait_timeout = 50\n");

    proxy_rewrite(proxy, "pool_mode = transaction\nquery_wait_timeout = 51\n");
    proxy_signal(proxy, SIGHUP);
    cr_assert(until(proxy_figure(proxy, "CONFIG", "key", "query_wait_timeout", "value") == 51,
                    PATIENCE_MS));
}

static char *many_lines(int count)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    for (int i = 0; i < count; i++)
        fprintf(out, "d%d = host=127.0.0.1 dbname=app\n", i);
    fclose(out);
    return text;
}

struct storm {
    pid_t pid;
    atomic_bool over;
};

static void *storm_main(void *argument)
{
    struct storm *storm = argument;

    while (!atomic_load(&storm->over))
        kill(storm->pid, SIGHUP);
    return NULL;
}

SYSTEM_TEST(operation, a_storm_of_hup_stops_neither_the_console_nor_a_stop)
{
    SKIP_ON_PGBOUNCER();
    char *lines = many_lines(4000); /* the next one comes while they are read */
    struct proxy *proxy = proxy_start("[databases]\n%s", lines);
    struct storm storm = {.pid = proxy->pid};
    PGconn *console = proxy_console(proxy);
    bool answered, heard;
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, storm_main, &storm), 0);
    cr_expect(until(proxy_log_count(proxy, "got SIGHUP") > 3, PATIENCE_MS));
    client_start(console, "SHOW VERSION");
    answered = until(client_is_ready(console), PATIENCE_MS);
    proxy_signal(proxy, SIGINT);
    heard = until(proxy_logged(proxy, "got SIGINT"), PATIENCE_MS);
    atomic_store(&storm.over, true);
    pthread_join(thread, NULL);
    cr_assert(answered);
    cr_assert(heard);
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
    free(lines);
}

SYSTEM_TEST(operation, usr1_pauses_and_usr2_resumes)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT 1");
    proxy_console(proxy);
    proxy_signal(proxy, SIGUSR1);
    cr_assert(until(proxy_rows(proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    client_start(client, "SELECT 1");
    pause_ms(200);
    cr_assert_not(client_is_ready(client));
    proxy_signal(proxy, SIGUSR2);
    cr_assert_str_eq(client_finish(client, PATIENCE_MS), "");
}

SYSTEM_TEST(operation, int_ends_when_transactions_are_over)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *busy = client_open(proxy, NULL);

    client_do(busy, "BEGIN");
    proxy_signal(proxy, SIGINT);
    pause_ms(300);
    cr_assert(proxy_is_alive(proxy));
    client_do(busy, "COMMIT");
    cr_assert_leq(proxy_wait(proxy, PATIENCE_MS), program_is_pgbouncer() ? 1 : 0);
}

/* Nobody gets in any more (who still did, left again). */
static bool refuses(const struct proxy *proxy)
{
    PGconn *late = client_try(proxy, NULL);
    bool refused = PQstatus(late) == CONNECTION_BAD;

    PQfinish(late);
    return refused;
}

SYSTEM_TEST(operation, term_waits_for_clients_and_takes_no_new_ones)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "SELECT 1");
    proxy_signal(proxy, SIGTERM);
    cr_assert(until(refuses(proxy), PATIENCE_MS));
    client_do(client, "SELECT 2");
    PQfinish(client);
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
}

SYSTEM_TEST(operation, a_second_term_ends_at_once)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    struct wire *wire = wire_client(proxy);

    wire_query(wire, "BEGIN");
    cr_assert_str_eq(wire_types(wire, 'Z', PATIENCE_MS), "CZ");
    proxy_signal(proxy, SIGTERM);
    cr_assert(until(proxy_logged(proxy, "SIGTERM"), PATIENCE_MS));
    proxy_signal(proxy, SIGTERM);
    cr_assert_leq(proxy_wait(proxy, PATIENCE_MS), 1);
    char *error = wire_error(wire, PATIENCE_MS);
    cr_assert_has(error, "57P01");
}

SYSTEM_TEST(operation, quit_ends_at_once)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    PGconn *client = client_open(proxy, NULL);

    client_do(client, "BEGIN");
    proxy_signal(proxy, SIGQUIT);
    cr_assert_leq(proxy_wait(proxy, PATIENCE_MS), 1);
    cr_assert(client_is_closed(client, PATIENCE_MS));
}

SYSTEM_TEST(operation, an_idle_process_ends_within_a_second_of_any_signal)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT};
    int i;

    for (i = 0; i < (program_is_pgbouncer() ? 2 : 3); i++) {
        struct proxy *proxy = proxy_start("pool_mode = transaction\n");
        PGconn *client = client_open(proxy, NULL);

        client_do(client, "SELECT 1");
        PQfinish(client);
        proxy_signal(proxy, signals[i]);
        cr_assert_leq(proxy_wait(proxy, PATIENCE_MS), 1);
    }
}

SYSTEM_TEST(operation, the_log_has_one_line_for_each_connections_end)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    int before, i;

    client_do(client_open(proxy, NULL), "SELECT 1");
    /* the one that looked whether it had started */
    cr_assert(
        until(program_is_pgbouncer() || proxy_logged(proxy, "failed cancel request"), PATIENCE_MS));
    before = proxy_log_count(proxy, "closing because:");
    for (i = 0; i < 5; i++) {
        PGconn *client = client_open(proxy, NULL);

        client_do(client, "SELECT 1");
        PQfinish(client);
    }
    cr_assert(
        until(proxy_log_count(proxy, "closing because: client close request") == 5, PATIENCE_MS));
    cr_assert_eq(proxy_log_count(proxy, "closing because:") - before, 5);
    cr_assert(proxy_logged(proxy, "(age="));
    cr_assert(until(proxy_logged(proxy, "login attempt: db=app user=app tls=no"), PATIENCE_MS));
    cr_assert(until(proxy_logged(proxy, "new connection to server"), PATIENCE_MS));
}

SYSTEM_TEST(operation, log_switches_work)
{
    struct proxy *proxy = proxy_start("log_connections = 0\nlog_disconnections = 0\n"
                                      "log_pooler_errors = 0\n");

    PQfinish(client_open(proxy, NULL));
    client_do(client_open(proxy, NULL), "SELECT 1");
    cr_assert_not(proxy_logged(proxy, "login attempt: db=app user=app"));
    cr_assert_not(proxy_logged(proxy, "app/app@127.0.0.1") && proxy_logged(proxy, "close request"));
}

SYSTEM_TEST(operation, logfile_is_written_and_reopened_on_hup)
{
    char *logfile = text_of("%s/own.log", test_folder());
    char *moved = text_of("%s/own.log.1", test_folder());
    struct proxy *proxy = proxy_start("logfile = %s\n", logfile);

    cr_assert(until(strstr(file_text(logfile), "process up") != NULL, PATIENCE_MS));
    cr_assert_eq(rename(logfile, moved), 0);
    proxy_signal(proxy, SIGHUP);
    cr_assert(until(
        (PQfinish(client_open(proxy, NULL)), strstr(file_text(logfile), "login attempt") != NULL),
        PATIENCE_MS));
}

SYSTEM_TEST(operation, descriptors_are_given_back)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\n");
    int before, i;

    for (i = 0; i < 20; i++)
        PQfinish(client_open(proxy, NULL));
    proxy_console(proxy);
    before = process_descriptor_count(proxy->pid);
    for (i = 0; i < 200; i++)
        PQfinish(client_open(proxy, NULL));
    cr_assert(until(process_descriptor_count(proxy->pid) <= before + 2, PATIENCE_MS));
}

SYSTEM_TEST(operation, memory_stays_flat_over_many_short_connections)
{
    struct proxy *proxy = proxy_start("pool_mode = transaction\nauth_type = plain\n");
    long before = 0, grown = LONG_MAX;

    /* caches, and what a sanitizer keeps, are filled sooner or later: what leaks grows in each round */
    for (int round = 0; round < 5 && grown >= 6 * 1024; round++) {
        for (int i = 0; i < 600; i++) {
            PGconn *client = client_open(proxy, "password=appsecret");

            client_do(client, "SELECT 1");
            PQfinish(client);
        }
        grown = round ? proxy_memory_kb(proxy) - before : LONG_MAX;
        before = proxy_memory_kb(proxy);
    }
    cr_assert_lt(grown, 6 * 1024);
}
