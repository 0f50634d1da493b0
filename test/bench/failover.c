/*
 * failover: how long writes stand still when a primary dies or is moved, and what clients see of
 * it.
 *
 * One test, chosen with --filter, is one measurement: it starts a constellation (three servers over
 * TLS) and pgstage, does the thing once, checks that nothing was lost, and adds lines "name value"
 * in milliseconds (or counts) to the file that BENCH_OUTPUT names. scripts/bench runs each several
 * times and prints the medians.
 *
 * A write counts from the moment before the kill to the acknowledgement of the first transfer that
 * was begun when the primary had gone. What PostgreSQL takes for the promotion itself stands in its
 * log: from "received promote request" to "database system is ready to accept connections".
 */
#include "failover.h"

#include <time.h>

#include "hand.h"

TestSuite(bench, .fini = test_end, .timeout = 200);

static void report(const char *name, double value)
{
    const char *path = getenv("BENCH_OUTPUT");
    FILE *file = path ? fopen(path, "ae") : stderr;

    cr_assert_not_null(file);
    fprintf(file, "%s %.1f\n", name, value);
    if (path)
        fclose(file);
}

/* Milliseconds of the day of the first line of the server's log that has this text and comes after
 * another that has `after`; -1 without one. */
static double log_ms(const struct star *star, const char *after, const char *text)
{
    char *log = file_text(text_of("%s/postgres.log", star->cluster->folder));
    char *line, *rest = NULL;
    bool seen = after == NULL;
    int hours, minutes;
    double seconds;

    for (line = strtok_r(log, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        seen = seen || strstr(line, after);
        if (seen && strstr(line, text) &&
            sscanf(line, "%*d-%*d-%*d %d:%d:%lf", &hours, &minutes, &seconds) == 3)
            return ((hours * 60 + minutes) * 60 + seconds) * 1000;
    }
    return -1;
}

static double wall_ms(void)
{
    struct timespec time;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &time);
    gmtime_r(&time.tv_sec, &tm);
    return ((tm.tm_hour * 60 + tm.tm_min) * 60 + tm.tm_sec) * 1000.0 +
           (double)time.tv_nsec / 1000000;
}

static double promotion_ms(const struct star *star)
{
    static const char REQUEST[] = "received promote request",
                      READY[] = "ready to accept connections";

    /* it takes writes a moment before it says so */
    cr_assert(until(log_ms(star, REQUEST, READY) >= 0, PATIENCE_MS));
    return log_ms(star, REQUEST, READY) - log_ms(star, NULL, REQUEST);
}

/* On a session that is open before: nothing but the promotion is waited for. */
static PGconn *promoter_open(const struct star *star)
{
    return cluster_connect(star->cluster, "postgres");
}

static void promote(PGconn *promoter)
{
    client_do(promoter, "SELECT pg_promote(false)");
}

static struct scene *scene_of(struct scene_options options)
{
    struct scene *scene;

    options.sky.standbys = 2;
    options.ledger.clients = 20;
    options.ledger.idle = 100;
    options.ledger.pause_ms = 2;
    scene = scene_start(&options);
    /* everything warm: pools filled, probes regular */
    pause_ms(2000);
    scene_goes_on(scene, 100);
    return scene;
}

/* The primary went between `from_ms` and the ledger's mark. */
static void finish(struct scene *scene, struct star *new, struct star *old, double from_ms,
                   double mark_ms)
{
    struct ledger_verdict verdict;
    double first_ms;

    scene_goes_on(scene, 20);
    first_ms = ledger_first_ms(scene->ledger) + mark_ms - from_ms;
    report("first_write", first_ms);
    report("promotion", promotion_ms(new));
    report("request", log_ms(new, NULL, "received promote request") - from_ms);
    report("beyond", first_ms - promotion_ms(new));
    verdict = scene_judge(scene, new, old, 0);
    report("idle_lost", verdict.idle_lost);
    report("disconnected", (double)verdict.closed);
    report("unknown", (double)verdict.unknown);
    report("failed", (double)verdict.failed);
    report("lost_by_replication", (double)verdict.missing);
}

Test(bench, kill_follow)
{
    struct scene *scene = scene_of((struct scene_options){0});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *promoter = promoter_open(new);
    double from = wall_ms(), mark;

    cluster_end(old->cluster, CLUSTER_KILL);
    ledger_mark(scene->ledger);
    mark = wall_ms();
    promote(promoter);
    finish(scene, new, old, from, mark);
}

Test(bench, kill_promote)
{
    struct scene *scene = scene_of((struct scene_options){
        .promotes = true, .environment = "failover_delay = 0\nallow_unfenced_promotion = yes\n"});
    struct star *old = &scene->sky->stars[0], *new;
    double from = wall_ms(), mark;

    cluster_end(old->cluster, CLUSTER_KILL);
    ledger_mark(scene->ledger);
    mark = wall_ms();
    scene_goes_on(scene, 1);
    new = &scene->sky->stars[star_is_in_recovery(&scene->sky->stars[1]) ? 2 : 1];
    finish(scene, new, old, from, mark);
}

/* Default settings; the other side of the network promotes at once, so this is the time that
 * pgstage takes to see that nobody answers there. */
Test(bench, black_hole)
{
    SKIP_WITHOUT_NETWORK();
    struct scene *scene = scene_of((struct scene_options){.sky = {.network = {true}}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *promoter = promoter_open(new);
    double from = wall_ms(), mark;

    network_drop(old->network, true);
    ledger_mark(scene->ledger);
    mark = wall_ms();
    promote(promoter);
    scene_goes_on(scene, 20);
    cluster_end(old->cluster, CLUSTER_KILL);
    finish(scene, new, old, from, mark);
}

/* pgbench's own log of each transaction: the longest one is the longest pause that a client saw. */
static double longest_in(const char *folder)
{
    char *find[] = {
        "sh", "-c",
        text_of("cat %s/pgbench_log.* | sort -k3,3 -n | tail -n 1 | cut -d' ' -f3", folder), NULL};
    char *output;

    cr_assert_eq(process_run(find, NULL, &output), 0, "%s", output);
    return atof(output) / 1000;
}

Test(bench, planned)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct scene_options options = {.sky = {.standbys = 2}, .promotes = true};
    const char *hand, *folder = text_of("%s/load", test_folder());
    char *fill[] = {"-i", "-q", "-s", "5", NULL, NULL};
    char *output;
    double demoted;
    pid_t pid;
    int status;

    scene->sky = constellation_start(&options.sky);
    fill[4] =
        text_of("host=%s port=%d user=app dbname=app", scene->sky->stars[0].cluster->socket_folder,
                scene->sky->stars[0].cluster->port);
    free(cluster_tool("pgbench", fill));
    hand = hand_start(scene->sky);
    options.environment = text_of("allow_unfenced_promotion = yes\ndemote_command = %s stop pg1\n"
                                  "undemote_command = %s start pg1\n",
                                  hand, hand);
    scene->proxy = scene_proxy(scene->sky, &options);
    folder_make(folder);
    char *load[] = {text_of("%s/pgbench", program_postgres_folder()),
                    "-n",
                    "-c",
                    "20",
                    "-j",
                    "2",
                    "-T",
                    "8",
                    "-l",
                    text_of("host=127.0.0.1 port=%d user=app dbname=app sslmode=disable "
                            "gssencmode=disable",
                            scene->proxy->port),
                    NULL};
    struct process_options given = {.folder = folder, .log = text_of("%s/pgbench.log", folder)};
    pid = process_start(load, &given);
    pause_ms(3000);
    double from = wall_ms();
    proxy_do(scene->proxy, text_of("FAILOVER drill TO %s PLANNED", scene->sky->stars[1].name));
    report("command", wall_ms() - from);
    demoted = log_ms(&scene->sky->stars[0], NULL, "database system is shut down") -
              log_ms(&scene->sky->stars[0], NULL, "received fast shutdown request");
    status = process_wait(pid, 60000);
    output = file_text(given.log);
    cr_expect_eq(status, 0, "%s", output);
    cr_expect(strstr(output, "number of failed transactions: 0 "), "%s", output);
    report("longest_pause", longest_in(folder));
    report("demote", demoted);
    report("promotion", promotion_ms(&scene->sky->stars[1]));
    report("beyond", longest_in(folder) - demoted);
    report("errors", status == 0 && strstr(output, "failed transactions: 0 ") ? 0 : 1);
    cr_expect_not(star_is_in_recovery(&scene->sky->stars[1]));
}
