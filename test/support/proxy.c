/*
 * proxy: writes the INI, runs the binary under test, talks to its console, ends it and judges how
 * it ended.
 *
 *   proxy_start ─ INI ─ fork/exec ─ wait for its port ─► test ─► proxy_stop: SIGINT, a second one
 *   after a moment when clients still hold servers, SIGABRT after the deadline (the test fails)
 *
 * The sanitizers write to <folder>/sanitizer.log.<pid>; any such file fails the test.
 */
#include "proxy.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <glob.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "cluster.h"
#include "process.h"
#include "program.h"
#include "until.h"

static const char *users_text = "\"admin\" \"adminsecret\"\n"
                                "\"stats\" \"statssecret\"\n"
                                "\"app\" \"appsecret\"\n"
                                "\"other\" \"othersecret\"\n"
                                "\"crowd\" \"crowdsecret\"\n"
                                "\"throng\" \"throngsecret\"\n"
                                "\"postgres\" \"postgressecret\"\n"
                                "\"user_md5\" \"secret\"\n"
                                "\"user_scram\" \"secret\"\n"
                                "\"user_plain\" \"secret\"\n";

/* one console for each of the few proxies of a test */
static struct console {
    const struct proxy *proxy;
    PGconn *conn;
} consoles[8];
static size_t console_count;

void proxy_set_users(const char *text)
{
    users_text = text;
}

static void file_compose(struct proxy *proxy, const char *text)
{
    char *users = text_of("%s/userlist.txt", proxy->folder);
    char *all = text_of("[pgbouncer]\n"
                        "listen_addr = 127.0.0.1\n"
                        "listen_port = %d\n"
                        "unix_socket_dir = %s\n"
                        "auth_type = trust\n"
                        "auth_file = %s\n"
                        "admin_users = admin\n"
                        "stats_users = stats\n"
                        "server_tls_sslmode = disable\n"
                        "%s%s\n%s%s\n",
                        proxy->port, proxy->socket_folder, users,
                        program_is_pgbouncer() ? "" : "workers = 2\n", text,
                        strstr(text, "[databases]") ? "" : "[databases]\n* = ",
                        strstr(text, "[databases]") ? "" : cluster_route(cluster_shared()));

    file_write(users, 0600, users_text);
    file_write(proxy->file, 0644, all);
    free(all);
}

void proxy_rewrite(struct proxy *proxy, const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = text_of_list(format, arguments);
    va_end(arguments);
    file_compose(proxy, text);
    free(text);
}

/* Connected, and the loops run: a cancel request for nobody is answered with the end of the
 * connection, after which the probe counts as a client no more. */
static bool answers(const struct proxy *proxy)
{
    static const unsigned char nobody[16] = {0, 0, 0, 16, 4, 210, 22, 46};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)proxy->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = 10};
    char byte;
    bool ok;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ok = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
         send(fd, nobody, sizeof nobody, MSG_NOSIGNAL) == sizeof nobody &&
         recv(fd, &byte, 1, 0) <= 0;
    close(fd);
    return ok;
}

static void stop_at_cleanup(void *proxy)
{
    proxy_stop(proxy);
}

static void process_launch(struct proxy *proxy, const struct proxy_options *options)
{
    char *arguments[16] = {text_of("%s", program_binary())};
    char *environment[16] = {
        text_of("ASAN_OPTIONS=log_path=%s/sanitizer.log:exitcode=99:quarantine_size_mb=8",
                proxy->folder),
        text_of("UBSAN_OPTIONS=log_path=%s/sanitizer.log:print_stacktrace=1", proxy->folder),
        text_of("TSAN_OPTIONS=log_path=%s/sanitizer.log:exitcode=99", proxy->folder),
    };
    struct process_options given = {.log = proxy->log,
                                    .environment = environment,
                                    .folder = proxy->folder,
                                    .hosts = options->hosts,
                                    .descriptor_count = options->descriptor_count,
                                    .listen_pid = options->listen_pid,
                                    .keep_user = options->keep_user};
    size_t count = 1, i;

    for (i = 0; options->arguments && options->arguments[i] && count < 14; i++)
        arguments[count++] = options->arguments[i];
    arguments[count] = proxy->file;
    for (i = 0; options->environment && options->environment[i] && i < 12; i++)
        environment[3 + i] = options->environment[i];
    memcpy(given.descriptors, options->descriptors, sizeof given.descriptors);
    proxy->pid = process_start(arguments, &given);
}

static struct proxy *start(const struct proxy_options *options, const char *text)
{
    static unsigned number;
    struct proxy *proxy = calloc(1, sizeof *proxy);

    if (!proxy)
        abort();
    number++;
    if (options->twin) {
        proxy->folder = options->twin->folder;
        proxy->socket_folder = options->twin->socket_folder;
        proxy->port = options->twin->port;
    } else {
        proxy->folder = text_of("%s/%u", test_folder(), number);
        folder_make(proxy->folder);
        proxy->port = port_take();
        proxy->socket_folder = text_of("%s/s%d", program_folder(), proxy->port);
        folder_make(proxy->socket_folder);
    }
    proxy->file = text_of("%s/pgstage-%u.ini", proxy->folder, number);
    proxy->log = text_of("%s/proxy-%u.log", test_folder(), number);
    file_compose(proxy, text);
    process_launch(proxy, options);
    test_cleanup(stop_at_cleanup, proxy);
    if (options->wait_none)
        return proxy;
    if (!until(answers(proxy) || !process_is_alive(proxy->pid), PATIENCE_MS) ||
        !process_is_alive(proxy->pid))
        support_fail("%s did not start:\n%s", program_binary(), file_text(proxy->log));
    return proxy;
}

struct proxy *proxy_start(const char *format, ...)
{
    struct proxy_options options = {0};
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = text_of_list(format, arguments);
    va_end(arguments);
    return start(&options, text);
}

struct proxy *proxy_start_with(const struct proxy_options *options, const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    text = text_of_list(format, arguments);
    va_end(arguments);
    return start(options, text);
}

/* ---- its end ---- */

static void check_reports(const struct proxy *proxy)
{
    char *pattern = text_of("%s/sanitizer.log*", proxy->folder);
    glob_t found;

    if (glob(pattern, 0, NULL, &found) == 0) {
        char *report = file_text(found.gl_pathv[0]);

        unlink(found.gl_pathv[0]);
        globfree(&found);
        cr_expect_fail("a sanitizer reports:\n%s", report);
    }
    free(pattern);
}

static void ended(struct proxy *proxy, int status)
{
    proxy->pid = 0;
    proxy->stop_status = status;
    check_reports(proxy);
}

void proxy_signal(struct proxy *proxy, int signal_number)
{
    if (proxy->pid)
        kill(proxy->pid, signal_number);
}

int proxy_wait(struct proxy *proxy, int ms)
{
    int status = proxy->pid ? process_wait(proxy->pid, ms) : proxy->stop_status;

    if (status < 0)
        support_fail("it did not end within %d ms", ms);
    ended(proxy, status);
    return status;
}

void proxy_stop(struct proxy *proxy)
{
    int status;

    if (!proxy->pid)
        return;
    /* PgBouncer 1.18 means by TERM what later ones mean by a second INT */
    kill(proxy->pid, program_is_pgbouncer() ? SIGTERM : SIGINT);
    status = process_wait(proxy->pid, 300);
    if (status < 0 && !proxy_logged(proxy, "LOG ending"))
        kill(proxy->pid, SIGINT);
    if (status < 0)
        status = process_wait(proxy->pid, PATIENCE_MS);
    if (status < 0) {
        kill(proxy->pid, SIGABRT);
        process_wait(proxy->pid, PATIENCE_MS);
        cr_expect_fail("it did not stop after two SIGINT");
    } else if (!proxy->expect_failure && status > 1) {
        /* a fast exit may be 0 or 1 (PgBouncer's) */
        cr_expect_fail("it ended with status %d%s", status, status > 128 ? " (a signal)" : "");
    }
    ended(proxy, status);
}

bool proxy_is_alive(const struct proxy *proxy)
{
    return proxy->pid && process_is_alive(proxy->pid);
}

long proxy_memory_kb(const struct proxy *proxy)
{
    return process_memory_kb(proxy->pid);
}

int proxy_log_count(const struct proxy *proxy, const char *text)
{
    char *log = file_text(proxy->log);
    const char *place = log;
    int count = 0;

    while ((place = strstr(place, text))) {
        place += strlen(text);
        count++;
    }
    free(log);
    return count;
}

bool proxy_logged(const struct proxy *proxy, const char *text)
{
    return proxy_log_count(proxy, text) > 0;
}

/* ---- its console ---- */

PGconn *proxy_console(struct proxy *proxy)
{
    size_t i;

    for (i = 0; i < console_count; i++)
        if (consoles[i].proxy == proxy && PQstatus(consoles[i].conn) == CONNECTION_OK)
            return consoles[i].conn;
    if (console_count == sizeof consoles / sizeof consoles[0])
        console_count = 0;
    consoles[console_count].proxy = proxy;
    consoles[console_count].conn =
        client_open(proxy, "user=admin password=adminsecret dbname=pgbouncer");
    return consoles[console_count++].conn;
}

void proxy_do(struct proxy *proxy, const char *command)
{
    client_do(proxy_console(proxy), command);
}

char *proxy_reload(struct proxy *proxy)
{
    PGresult *result = PQexec(proxy_console(proxy), "RELOAD");
    char *problem = NULL;

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        problem = text_of("%s", PQerrorMessage(proxy_console(proxy)));
    PQclear(result);
    return problem;
}

PGresult *proxy_show(struct proxy *proxy, const char *view)
{
    PGresult *result = PQexec(proxy_console(proxy), text_of("SHOW %s", view));

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        support_fail("SHOW %s: %s", view, PQerrorMessage(proxy_console(proxy)));
    return result;
}

static bool row_counts(const PGresult *result, int row, const char *key_column, const char *key)
{
    return !key || !strcmp(PQgetvalue(result, row, PQfnumber(result, key_column)), key);
}

long proxy_figure(struct proxy *proxy, const char *view, const char *key_column, const char *key,
                  const char *column)
{
    PGresult *result = proxy_show(proxy, view);
    int field = PQfnumber(result, column);
    long sum = 0;
    int row;

    if (field < 0 || (key && PQfnumber(result, key_column) < 0))
        support_fail("SHOW %s has no column %s or %s", view, column, key ? key_column : "");
    for (row = 0; row < PQntuples(result); row++)
        if (row_counts(result, row, key_column, key))
            sum += atol(PQgetvalue(result, row, field));
    PQclear(result);
    return sum;
}

long proxy_rows(struct proxy *proxy, const char *view, const char *key_column, const char *key)
{
    PGresult *result = proxy_show(proxy, view);
    long count = 0;
    int row;

    if (key && PQfnumber(result, key_column) < 0)
        support_fail("SHOW %s has no column %s", view, key_column);
    for (row = 0; row < PQntuples(result); row++)
        if (row_counts(result, row, key_column, key))
            count++;
    PQclear(result);
    return count;
}
