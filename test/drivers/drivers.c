/*
 * drivers: real drivers against a real PostgreSQL through pgstage.
 *
 *   driver ──20 clients──► pgstage (2 workers) ──4 servers──► cluster
 *      └──── "restart" ───► this test ───────── ends and starts ──┘
 *
 * Each driver of drivers.def is a program of its own, in its own language, that prints the cases of
 * cases.def as TAP. Each run has a cluster and a pgstage to itself, so a restart disturbs nobody
 * else. What the drivers print is printed here again, with the mode and the driver before each
 * case: scripts/test counts these lines.
 *
 * Environment of a driver: PGHOST, PGPORT, PGUSER, PGDATABASE; PGSTAGE_TEST_MODE, "session" or
 * "transaction"; PGSTAGE_TEST_CASES, the names of cases.def, each with ";" behind it;
 * PGSTAGE_TEST_CONTROL, a port of 127.0.0.1 that answers "done" to the line
 * "restart" once PostgreSQL has been restarted; PGSTAGE_TEST_FOLDER, where it may write.
 * PGSTAGE_TEST_DRIVERS and PGSTAGE_TEST_DRIVERS_BUILT name test/drivers of the sources and of the
 * build.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster.h"
#include "process.h"
#include "program.h"
#include "proxy.h"
#include "until.h"

enum {
    POOL_SIZE = 4,
    DRIVER_DEADLINE_MS = 100000,
    SUITE_DEADLINE_S = 150,
};

static const char *const cases[] = {
#define CASE(name) name,
#include "cases.def"
#undef CASE
};

static const char case_list[] =
#define CASE(name) name ";"
#include "cases.def"
#undef CASE
    "";

static const char SCHEMA[] =
    "CREATE TABLE item (id int PRIMARY KEY, name text);"
    "CREATE TABLE copied (id int, name text);"
    "CREATE TABLE seen (client int, n int);"
    "CREATE INDEX ON seen (client);"
    "ALTER TABLE item OWNER TO app; ALTER TABLE copied OWNER TO app; ALTER TABLE seen OWNER TO app;"
    "GRANT ALL ON SCHEMA public TO app;"
    "CREATE SCHEMA tenant_a AUTHORIZATION app; CREATE SCHEMA tenant_b AUTHORIZATION app;";

/* ---- the driver's way to have PostgreSQL restarted ---- */

static int control_open(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    *port = port_take();
    address.sin_port = htons((uint16_t)*port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 8))
        support_fail("the control port: %m");
    return fd;
}

static bool readable(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    return poll(&wait, 1, ms) > 0;
}

static void control_serve(int listener, struct cluster *cluster)
{
    int fd = accept(listener, NULL, NULL);
    char line[32] = "";
    size_t length = 0;

    if (fd < 0)
        return;
    while (length < sizeof line - 1 && !strchr(line, '\n') && readable(fd, 5000)) {
        ssize_t count = read(fd, line + length, sizeof line - 1 - length);

        if (count <= 0)
            break;
        length += (size_t)count;
        line[length] = 0;
    }
    if (!strncmp(line, "restart\n", strlen("restart\n"))) {
        cluster_end(cluster, CLUSTER_FAST);
        cluster_again(cluster);
        if (write(fd, "done\n", strlen("done\n")) < 0)
            fprintf(stderr, "the driver did not wait for the restart: %s\n", strerror(errno));
    }
    close(fd);
}

/* ---- a run ---- */

static char *place(const char *word)
{
    const char *sources = getenv("PGSTAGE_TEST_DRIVERS");
    const char *built = getenv("PGSTAGE_TEST_DRIVERS_BUILT");

    if (!strncmp(word, "source:", strlen("source:")))
        return text_of("%s/%s", sources ? sources : "test/drivers", strchr(word, ':') + 1);
    if (!strncmp(word, "build:", strlen("build:")))
        return text_of("%s/%s", built ? built : "test/drivers", strchr(word, ':') + 1);
    return text_of("%s", word);
}

/* PGSTAGE_TEST_DIRECT=1: past pgstage, to see whether a case expects what PostgreSQL does. */
static int port_of(const struct proxy *proxy, const struct cluster *cluster)
{
    return getenv("PGSTAGE_TEST_DIRECT") ? cluster->port : proxy->port;
}

/* Its exit status, or -1 when it did not end in time. */
static int driver_run(const char *const *words, const char *mode, const struct proxy *proxy,
                      struct cluster *cluster, const char *log)
{
    int port;
    int listener = control_open(&port);
    int64_t deadline = now_ms() + DRIVER_DEADLINE_MS;
    char *arguments[16] = {NULL};
    char *environment[] = {"PGHOST=127.0.0.1",
                           text_of("PGPORT=%d", port_of(proxy, cluster)),
                           "PGUSER=app",
                           "PGDATABASE=app",
                           text_of("PGSTAGE_TEST_MODE=%s", mode),
                           text_of("PGSTAGE_TEST_CASES=%s", case_list),
                           text_of("PGSTAGE_TEST_CONTROL=%d", port),
                           text_of("PGSTAGE_TEST_FOLDER=%s", test_folder()),
                           text_of("NODE_PATH=%s", place("build:node/node_modules")),
                           "PYTHONDONTWRITEBYTECODE=1",
                           NULL};
    struct process_options options = {
        .log = log, .environment = environment, .folder = test_folder(), .keep_user = true};
    pid_t pid;
    int status;

    for (size_t i = 0; i < 15 && words[i]; i++)
        arguments[i] = place(words[i]);
    pid = process_start(arguments, &options);
    while (process_is_alive(pid) && now_ms() < deadline)
        if (readable(listener, 20))
            control_serve(listener, cluster);
    status = process_wait(pid, 0);
    if (status < 0) {
        kill(pid, SIGKILL);
        process_wait(pid, 5000);
    }
    close(listener);
    return status;
}

/* ---- its verdicts ---- */

/* The name in "ok 12 - name" or "not ok 12 - name", cut at " # "; NULL for any other line. */
static char *case_name(const char *line, bool *ok)
{
    char *name, *comment;
    int number = 0, length = 0;

    *ok = strncmp(line, "not ", strlen("not ")) != 0;
    if (sscanf(*ok ? line : line + strlen("not "), "ok %d - %n", &number, &length) != 1 ||
        length == 0)
        return NULL;
    name = text_of("%s", line + length + (*ok ? 0 : strlen("not ")));
    comment = strstr(name, " # ");
    if (comment)
        *comment = 0;
    return name;
}

/* Prints the run's verdicts as lines of `mode driver`; gives what is wrong with them, or NULL. The
 * first `total` have to be those of cases.def. */
static char *judge(const char *driver, const char *mode, char *text, size_t total)
{
    char *rest = NULL;
    char *wrong = NULL;
    size_t expected = 0;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        bool ok;
        char *name = case_name(line, &ok);

        if (!name) {
            printf("# %s %s: %s\n", mode, driver, line);
            continue;
        }
        if (expected < total && strcmp(name, cases[expected]) != 0 && !wrong)
            wrong = text_of("\"%s\" where \"%s\" is due", name, cases[expected]);
        expected++;
        if (!ok && !wrong)
            wrong = text_of("%s", name);
        printf("%s %zu - %s %s: %s\n", ok ? "ok" : "not ok", expected, mode, driver,
               strstr(line, " - ") + strlen(" - "));
    }
    if (!wrong && expected < total)
        wrong = text_of("no verdict for \"%s\"", cases[expected]);
    if (!wrong && expected == 0)
        wrong = text_of("no verdict at all");
    fflush(stdout);
    return wrong;
}

static void driver_test(const char *driver, const char *mode, size_t total,
                        const char *const *words)
{
    struct cluster *cluster = cluster_start(&(struct cluster_options){.settings = NULL});
    struct proxy *proxy = proxy_start("pool_mode = %s\n"
                                      "default_pool_size = %d\n"
                                      "max_client_conn = 200\n"
                                      "query_wait_timeout = 60\n"
                                      "[databases]\n"
                                      "* = %s\n",
                                      mode, POOL_SIZE, cluster_route(cluster));
    const char *log = text_of("%s/driver.txt", test_folder());
    PGconn *conn = cluster_connect(cluster, "app");
    PGresult *result = PQexec(conn, SCHEMA);
    char *wrong;
    int status;

    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
    status = driver_run(words, mode, proxy, cluster, log);
    wrong = judge(driver, mode, file_text(log), total);
    cr_assert_neq(status, -1, "%s in %s mode does not end", driver, mode);
    cr_assert_null(wrong, "%s in %s mode: %s", driver, mode, wrong);
    cr_assert_eq(status, 0,
                 "%s in %s mode ended with status %d (is it installed? "
                 "scripts/install-packages drivers)",
                 driver, mode, status);
    test_end();
}

TestSuite(session, .fini = test_end, .timeout = SUITE_DEADLINE_S);
TestSuite(transaction, .fini = test_end, .timeout = SUITE_DEADLINE_S);

#define RUNS(name, total, ...)                                                                     \
    Test(session, name)                                                                            \
    {                                                                                              \
        driver_test(#name, "session", total, (const char *const[]){__VA_ARGS__, NULL});            \
    }                                                                                              \
    Test(transaction, name)                                                                        \
    {                                                                                              \
        driver_test(#name, "transaction", total, (const char *const[]){__VA_ARGS__, NULL});        \
    }
#define DRIVER(name, ...) RUNS(name, sizeof cases / sizeof cases[0], __VA_ARGS__)
#define ORM(name, ...) RUNS(name, 0, __VA_ARGS__)
#include "drivers.def"
#undef DRIVER
#undef ORM
