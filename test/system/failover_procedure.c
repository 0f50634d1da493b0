/*
 * failover_procedure: what operators see of procedures: what is refused and why, what DRY RUN and
 * DRILL say, what commands are told, and how a procedure ends that is aborted or interrupted.
 */
#include "failover.h"
#include "hand.h"

SYSTEM_SUITE(failover_procedure);

/* A constellation, its hand, and pgstage in promote mode; no clients but the test's own. `commands`
 * gets the path of the hand. */
static struct scene *quiet_scene(const struct scene_options *given, const char *commands)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct scene_options options = *given;

    if (!scene)
        abort();
    scene->sky = constellation_start(&options.sky);
    options.promotes = true;
    char *with_hand = text_of("%s", "");
    const char *hand = hand_start(scene->sky);
    for (const char *p = commands; *p; p++)
        with_hand = *p == '%' ? text_of("%s%s", with_hand, hand) : text_of("%s%c", with_hand, *p);
    options.environment = with_hand;
    scene->proxy = scene_proxy(scene->sky, &options);
    if (!until(host_is(scene->proxy, &scene->sky->stars[0], "role", "primary"), PATIENCE_MS))
        support_fail("pgstage does not see its primary");
    for (int i = 1; i < scene->sky->count; i++)
        if (!until(host_is(scene->proxy, &scene->sky->stars[i], "role", "standby"), PATIENCE_MS))
            support_fail("pgstage does not see its standby %s", scene->sky->stars[i].name);
    client_do(client_open(scene->proxy, NULL), "INSERT INTO note VALUES (0)");
    return scene;
}

#define UNFENCED "failover_delay = 0\nallow_unfenced_promotion = yes\n"
#define SWITCHES UNFENCED "demote_command = % stop pg1\nundemote_command = % start pg1\n"

static PGresult *told(struct scene *scene, const char *command)
{
    PGresult *result = PQexec(proxy_console(scene->proxy), command);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        support_fail("%s: %s", command, PQerrorMessage(proxy_console(scene->proxy)));
    return result;
}

/* "result: detail" of the first row of this kind and name (NULL: any); "none" without one. */
static const char *row_of(const PGresult *rows, const char *item, const char *name)
{
    for (int row = 0; row < PQntuples(rows); row++)
        if (!strcmp(PQgetvalue(rows, row, 0), item) &&
            (!name || !strncmp(PQgetvalue(rows, row, 1), name, strlen(name))))
            return text_of("%s: %s", PQgetvalue(rows, row, 2), PQgetvalue(rows, row, 3));
    return "none";
}

/* Whoever is counted as held has been heard by pgstage before it is let go. */
static bool so_many_wait(struct scene *scene, long count)
{
    return proxy_figure(scene->proxy, "POOLS", NULL, NULL, "cl_waiting") == count;
}

static bool nobody_promoted(const struct scene *scene)
{
    for (int i = 1; i < scene->sky->count; i++)
        if (!star_is_in_recovery(&scene->sky->stars[i]))
            return false;
    return true;
}

SYSTEM_TEST(failover_procedure, dry_run_shows_everything_and_changes_nothing)
{
    struct scene_options options = {.sky = {.standbys = 2}};
    struct scene *scene = quiet_scene(&options, SWITCHES);
    PGresult *rows = told(scene, "FAILOVER drill DRY RUN");

    cr_assert_has(row_of(rows, "guard", "primary"), "refused: ");
    cr_assert_has(row_of(rows, "guard", "primary"), "is not down");
    cr_assert_has(row_of(rows, "guard", "identity"), "ok: ");
    cr_assert_has(row_of(rows, "step", "promote"), "no way back");
    cr_assert_has(row_of(rows, "estimate", "loss"), "bytes");
    rows = told(scene, "FAILOVER drill PLANNED DRY RUN");
    cr_assert_has(row_of(rows, "candidate", NULL), "ok: from pg1.drill.test");
    cr_assert_has(row_of(rows, "step", "demote"), "undemote_command");
    cr_assert_has(row_of(rows, "guard", "streaming"), "ok: ");
    cr_assert(nobody_promoted(scene));
    cr_assert_eq(hand_count("stop"), 0);
    cr_assert_str_eq(last_failover(scene->proxy, "id"), "");
}

SYSTEM_TEST(failover_procedure, refusals_say_why)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene = quiet_scene(&options, UNFENCED);
    PGconn *console = proxy_console(scene->proxy);
    char *text;

    text = client_error(console, "FAILOVER drill");
    cr_assert_has(text, "55000");
    cr_assert_has(text, "is not down");
    cr_assert_has(text, "receiver: pg2.drill.test");
    text = client_error(console, "FAILOVER drill PLANNED");
    cr_assert_has(text, "demote_command");
    cr_assert_has(client_error(console, "FAILOVER nowhere"), "3D000");
    cr_assert_has(client_error(console, "FAILOVER drill TO nobody.example.com"), "22023");
    cr_assert_has(client_error(console, "FAILBACK drill"), "no failover");
    cr_assert_has(client_error(console, "ABORT FAILOVER drill"), "no failover of drill");
    cr_assert_has(client_error(console, "ABORT FAILOVER nowhere"), "3D000");
    cr_assert_has(client_error(console, "DRILL drill"), "no dr_hosts");
    cr_assert_str_eq(client_sqlstate(client_open(scene->proxy, "user=stats dbname=pgstage"),
                                     "FAILOVER drill EMERGENCY"),
                     "42501");
    cr_assert(nobody_promoted(scene));
}

/* failover_user may not promote: found by CHECK, told by the failover, and tried again later. */
SYSTEM_TEST(failover_procedure, a_missing_grant_is_named_and_nothing_is_promoted_until_it_is_there)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene = quiet_scene(&options, UNFENCED);
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    const char *lacks = "lacks: EXECUTE ON FUNCTION pg_promote(boolean, integer)";
    PGconn *client = client_open(scene->proxy, NULL);
    PGconn *direct = cluster_connect(old->cluster, "postgres");
    bool found = false;

    client_do(direct, "REVOKE EXECUTE ON FUNCTION pg_promote(boolean, integer) FROM "
                      "pgstage_failover");
    cr_assert(star_catches_up(new, old));
    PGresult *rows = told(scene, "CHECK drill");
    for (int row = 0; row < PQntuples(rows); row++)
        found = found || (!strcmp(PQgetvalue(rows, row, 2), "failover_user") &&
                          strstr(PQgetvalue(rows, row, 4), lacks));
    cr_expect(found, "CHECK does not say: %s", lacks);
    cluster_end(old->cluster, CLUSTER_KILL);
    cr_assert(until(!strcmp(last_failover(scene->proxy, "result"), "failed"), PATIENCE_MS));
    cr_assert_has(last_failover(scene->proxy, "detail"), "refuses pg_promote");
    cr_assert(star_is_in_recovery(new));
    /* nothing has changed: the old primary is as good as before */
    cluster_again(old->cluster);
    client_do(client, "INSERT INTO note VALUES (1)");
    cr_expect_eq(served_by(scene->sky, client), old);
    client_do(cluster_connect(old->cluster, "postgres"),
              "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO pgstage_failover");
    cr_assert(until(star_streams(new), PATIENCE_MS));
    cr_assert(star_catches_up(new, old));
    cr_assert(until(host_is(scene->proxy, new, "role", "standby"), PATIENCE_MS));
    cluster_end(old->cluster, CLUSTER_KILL);
    cr_assert(until(host_is(scene->proxy, old, "health", "critical"), PATIENCE_MS));
    client_do(client, "INSERT INTO note VALUES (2)");
    cr_expect_eq(served_by(scene->sky, client), new);
}

/* A line of the audit log with all of these. */
static bool audited(const char *file, const char *a, const char *b, const char *c)
{
    char *text = file_text(file), *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (strstr(line, "\"event\":\"failover\"") && strstr(line, a) && strstr(line, b) &&
            strstr(line, c))
            return true;
    return false;
}

static char *alarm_detail(struct proxy *proxy, const char *alarm)
{
    PGresult *rows = proxy_show(proxy, "ALARMS");
    char *detail = text_of("%s", "");

    for (int row = 0; row < PQntuples(rows); row++)
        if (!strcmp(PQgetvalue(rows, row, PQfnumber(rows, "alarm")), alarm))
            detail = text_of("%s", PQgetvalue(rows, row, PQfnumber(rows, "detail")));
    PQclear(rows);
    return detail;
}

/* Nobody asked for it, so nobody's command stands in the audit log: what pgstage decides does. And
 * clients are counted as held once each. */
SYSTEM_TEST(failover_procedure, what_it_decides_by_itself_is_audited_alarmed_and_counted)
{
    enum { HELD = 7 };
    const char *audit = text_of("%s/audit.log", test_folder());
    struct scene_options options = {.sky = {.standbys = 1},
                                    .general = text_of("audit_log = %s\n", audit)};
    const char *is_off = text_of("%s/is-off", test_folder());
    struct scene *scene =
        quiet_scene(&options, text_of("failover_delay = 0\nfence_command = test -e %s\n", is_off));
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *clients[HELD], *idle = client_open(scene->proxy, NULL);
    char *detail;

    client_do(idle, "SELECT 1");
    for (int i = 0; i < HELD; i++)
        clients[i] = client_open(scene->proxy, NULL);
    cluster_end(old->cluster, CLUSTER_KILL);
    cr_assert(until(proxy_rows(scene->proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    for (int i = 0; i < HELD; i++)
        client_start(clients[i], "INSERT INTO note VALUES (1)");
    cr_assert(until(so_many_wait(scene, HELD), PATIENCE_MS));
    /* its fence fails: the alarm says so, for as long as that is how it is */
    cr_assert(until(has_alarm(scene->proxy, "promotion_refused", NULL), PATIENCE_MS));
    cr_assert(until(strstr(detail = alarm_detail(scene->proxy, "promotion_refused"),
                           "fence_command") != NULL,
                    PATIENCE_MS),
              "%s", detail);
    cr_assert(until(audited(audit, "\"what\":\"end\"", "\"result\":\"failed\"", "fence_command"),
                    PATIENCE_MS));
    file_write(is_off, 0644, "");
    for (int i = 0; i < HELD; i++)
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
    cr_assert(until(!strcmp(last_failover(scene->proxy, "result"), "done"), PATIENCE_MS));
    cr_assert(until(!has_alarm(scene->proxy, "promotion_refused", NULL), PATIENCE_MS));
    cr_expect_str_eq(last_failover(scene->proxy, "clients_held"), text_of("%d", HELD));
    cr_assert(until(proxy_log_count(scene->proxy, "ALARM promotion_refused") == 1, PATIENCE_MS));
    cr_assert(until(audited(audit, "\"what\":\"begin\"", "\"type\":\"automatic\"", old->name),
                    PATIENCE_MS));
    cr_assert(
        until(audited(audit, "\"what\":\"accept\"", new->name, "\"timeline\":2"), PATIENCE_MS));
    cr_assert(
        until(audited(audit, "\"what\":\"fence\"", old->name, "former_primary"), PATIENCE_MS));
    cr_assert(
        until(audited(audit, "\"what\":\"end\"", "\"result\":\"done\"", new->name), PATIENCE_MS));
}

/* The configuration that holds, without its environment. */
static void take_environment_out(struct scene *scene)
{
    char *ini = file_text(scene->proxy->file), *environment = strstr(ini, "[environment drill]");

    cr_assert_not_null(environment);
    *environment = '\0';
    char *name = strstr(ini, "default_environment = drill");
    cr_assert_not_null(name);
    memset(name, ' ', strlen("default_environment = drill"));
    file_write(scene->proxy->file, 0644,
               text_of("%s\n[databases]\nother = host=127.0.0.1 port=1\n", ini));
    cr_assert_null(proxy_reload(scene->proxy));
}

/* While its fence_command runs. */
SYSTEM_TEST(failover_procedure, an_environment_that_is_taken_out_takes_its_failover_along)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    const char *go_on = text_of("%s/go-on", test_folder());
    struct scene *scene =
        quiet_scene(&options, text_of("failover_delay = 0\nfence_command = until test -e %s; do "
                                      "sleep 0.1; done\n",
                                      go_on));
    char *ini = file_text(scene->proxy->file);

    cluster_end(scene->sky->stars[0].cluster, CLUSTER_KILL);
    cr_assert(until(proxy_logged(scene->proxy, "fence_command: started"), PATIENCE_MS));
    take_environment_out(scene);
    file_write(go_on, 0644, "");
    cr_assert(until(!strcmp(last_failover(scene->proxy, "result"), "failed"), PATIENCE_MS));
    cr_assert_has(last_failover(scene->proxy, "detail"), "is no environment of the configuration");
    cr_assert(nobody_promoted(scene));
    /* it is there again, and the primary still is not */
    file_write(scene->proxy->file, 0644, ini);
    cr_assert_null(proxy_reload(scene->proxy));
    cr_assert(
        until(host_is(scene->proxy, &scene->sky->stars[1], "health", "healthy"), PATIENCE_MS));
    (void)told(scene, "FAILOVER drill EMERGENCY");
    client_do(client_open(scene->proxy, NULL), "INSERT INTO note VALUES (1)");
}

/* A promotion by somebody else: what the new primary lacked is told as far as probes saw it. */
SYSTEM_TEST(failover_procedure, what_was_followed_tells_its_lag_and_whom_it_held)
{
    enum { HELD = 5 };
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene =
        scene_start(&(struct scene_options){.sky = options.sky, .ledger = {.clients = -1}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    PGconn *clients[HELD], *direct = cluster_connect(old->cluster, "app");
    long lag;

    for (int i = 0; i < HELD; i++)
        clients[i] = client_open(scene->proxy, NULL);
    client_do(clients[0], "INSERT INTO note VALUES (1)");
    cr_assert(star_catches_up(new, old));
    cluster_freeze(new->cluster, true);
    client_do(direct, "INSERT INTO note SELECT generate_series(1, 20000)");
    lag = star_written(old);
    cr_assert(until(seen_written(scene->proxy, old) >= lag, PATIENCE_MS));
    cluster_end(old->cluster, CLUSTER_KILL);
    cr_assert(until(proxy_rows(scene->proxy, "SERVERS", NULL, NULL) == 0, PATIENCE_MS));
    for (int i = 0; i < HELD; i++)
        client_start(clients[i], "INSERT INTO note VALUES (2)");
    cr_assert(until(so_many_wait(scene, HELD), PATIENCE_MS));
    cluster_freeze(new->cluster, false);
    cr_assert(until(host_is(scene->proxy, new, "health", "healthy") ||
                        host_is(scene->proxy, new, "health", "warning"),
                    PATIENCE_MS));
    lag -= star_received(new);
    cluster_promote(new->cluster);
    for (int i = 0; i < HELD; i++)
        cr_assert_str_eq(client_finish(clients[i], PATIENCE_MS), "");
    cr_expect_str_eq(last_failover(scene->proxy, "clients_held"), text_of("%d", HELD));
    cr_assert_gt(lag, 0);
    cr_expect_geq(atol(last_failover(scene->proxy, "lag_bytes")), lag);
}

/* The old primary is black-holed as it were for everybody: its fence tells what it was told. */
SYSTEM_TEST(failover_procedure, commands_are_told_what_happens_and_no_password)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    const char *told_file = text_of("%s/told", test_folder());
    struct scene *scene;
    char *text;

    scene = quiet_scene(&options, text_of("failover_delay = 0\n"
                                          "fence_command = env > %s.fence\n"
                                          "on_failover_command = env > %s.new; mv %s.new %s\n",
                                          told_file, told_file, told_file, told_file));
    cluster_end(scene->sky->stars[0].cluster, CLUSTER_KILL);
    cr_assert(until(access(told_file, F_OK) == 0, PATIENCE_MS));
    text = file_text(told_file);
    cr_assert_has(text, "PGSTAGE_ENVIRONMENT=drill\n");
    cr_assert_has(text, "PGSTAGE_FAILOVER_TYPE=automatic\n");
    cr_assert_has(text, "PGSTAGE_OLD_HOST=pg1.drill.test\n");
    cr_assert_has(text, "PGSTAGE_NEW_HOST=pg2.drill.test\n");
    cr_assert_has(text, "PGSTAGE_RESULT=done\n");
    cr_assert(strstr(text, "secret") == NULL, "%s", text);
    text = file_text(text_of("%s.fence", told_file));
    cr_assert_has(text, "PGSTAGE_COMMAND=fence_command\n");
    cr_assert_has(text, text_of("PGSTAGE_OLD_PORT=%d\n", scene->sky->stars[0].port));
}

/* … also of a failover that somebody else carried out. */
SYSTEM_TEST(failover_procedure, on_failover_command_hears_of_what_was_followed)
{
    struct constellation *sky = constellation_start(&(struct constellation_options){.standbys = 1});
    const char *told_file = text_of("%s/told", test_folder());
    struct scene_options given = {.environment =
                                      text_of("on_failover_command = env > %s.new; mv %s.new %s\n",
                                              told_file, told_file, told_file)};
    struct proxy *proxy = scene_proxy(sky, &given);
    char *text;

    client_do(client_open(proxy, NULL), "INSERT INTO note VALUES (0)");
    cr_assert(until(host_is(proxy, &sky->stars[1], "role", "standby"), PATIENCE_MS));
    cluster_end(sky->stars[0].cluster, CLUSTER_KILL);
    cluster_promote(sky->stars[1].cluster);
    cr_assert(until(access(told_file, F_OK) == 0, PATIENCE_MS));
    text = file_text(told_file);
    cr_assert_has(text, "PGSTAGE_OLD_HOST=pg1.drill.test\n");
    cr_assert_has(text, "PGSTAGE_NEW_HOST=pg2.drill.test\n");
    cr_assert_has(text, "PGSTAGE_RESULT=done\n");
}

/* ABORT while the demote_command takes its time: it is ended, and the primary goes on. */
SYSTEM_TEST(failover_procedure, abort_ends_where_it_began)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene = quiet_scene(
        &options, UNFENCED "demote_command = % sleep 300\nundemote_command = % start pg1\n");
    struct star *old = &scene->sky->stars[0];
    PGconn *console = client_open(scene->proxy, "user=admin dbname=pgstage");
    PGconn *client = client_open(scene->proxy, NULL);
    char *state;

    client_do(client, "INSERT INTO note VALUES (1)");
    client_start(console, "FAILOVER drill PLANNED");
    cr_assert(until(proxy_logged(scene->proxy, "demote_command: started"), PATIENCE_MS));
    client_start(client, "INSERT INTO note VALUES (2)");
    (void)told(scene, "ABORT FAILOVER drill");
    state = client_finish(console, PATIENCE_MS);
    cr_assert_str_eq(state, "57014");
    state = client_finish(client, PATIENCE_MS);
    cr_assert_str_eq(state, "", "a client saw %s", state);
    cr_assert_str_eq(last_failover(scene->proxy, "result"), "aborted");
    cr_assert_eq(hand_count("start pg1"), 1);
    cr_assert(nobody_promoted(scene));
    client_do(client, "INSERT INTO note VALUES (3)");
    cr_assert_eq(served_by(scene->sky, client), old);
    cr_assert_eq(rows_on(old, "note"), 4);
}

/* A command that hangs is ended at its deadline, and what it began is taken back. */
SYSTEM_TEST(failover_procedure, a_command_that_hangs_does_not_hold_clients_for_long)
{
    struct scene_options options = {.sky = {.standbys = 1}};
    struct scene *scene =
        quiet_scene(&options, UNFENCED "demote_command = % stop pg1; % sleep 300\n"
                                       "undemote_command = % start pg1\n"
                                       "failover_command_timeout = 20\n");
    struct star *old = &scene->sky->stars[0];
    PGconn *client = client_open(scene->proxy, NULL);
    char *text;

    /* the time is enough for a server to start, on a busy machine too */
    text = client_error(proxy_console(scene->proxy), "FAILOVER drill PLANNED");
    cr_assert_has(text, "demote_command did not end in time");
    cr_assert_has(text, "way back demote: done");
    cr_assert_eq(hand_count("start pg1"), 1);
    client_do(client, "INSERT INTO note VALUES (1)");
    cr_assert_eq(served_by(scene->sky, client), old);
    cr_assert(nobody_promoted(scene));
}

/* In follow mode something else promotes: switchover_command asks it to, while clients wait. */
SYSTEM_TEST(failover_procedure, in_follow_mode_switchover_command_does_it_while_clients_wait)
{
    struct constellation *sky = constellation_start(&(struct constellation_options){.standbys = 1});
    struct load_options options = {.clients = 20};
    const char *hand = hand_start(sky);
    struct star *old = &sky->stars[0], *new = &sky->stars[1];
    struct scene_options given = {
        .environment =
            text_of("probe_timeout = 15\nswitchover_command = %s stop pg1 && %s promote pg2\n",
                    hand, hand)};
    struct proxy *proxy = scene_proxy(sky, &given);
    struct load *load = load_start(proxy, &options);
    long done;

    cr_assert(until(load_done(load) > 100, PATIENCE_MS));
    cr_assert(until(host_is(proxy, new, "role", "standby"), PATIENCE_MS));
    proxy_do(proxy, "FAILOVER drill PLANNED");
    done = load_done(load);
    cr_expect_str_eq(last_failover(proxy, "type"), "planned");
    cr_expect(until(!strcmp(last_failover(proxy, "result"), "done"), PATIENCE_MS));
    cr_expect(until(load_done(load) > done + 100, PATIENCE_MS));
    load_stop(load);
    cr_expect_eq(load_errors(load) + load_lost(load), 0, "clients saw errors: %s",
                 load_first_error(load));
    cr_expect_not(star_is_in_recovery(new));
    cr_expect(until(host_is(proxy, old, "health", "critical"), PATIENCE_MS));
}

/* The DR site is ready; then its host is not there. */
SYSTEM_TEST(failover_procedure, drill_tries_everything_and_moves_nothing)
{
    struct scene_options options = {.sky = {.standbys = 1, .dr = true}};
    struct scene *scene = quiet_scene(&options, UNFENCED "rpo_limit = 30s\nrto_target = 5min\n"
                                                         "user = app\npassword = appsecret\n");
    PGresult *rows = told(scene, "DRILL drill");
    struct star *dr = &scene->sky->stars[scene->sky->dr];

    cr_assert_has(row_of(rows, "role", dr->name), "ok: standby");
    cr_assert_has(row_of(rows, "streaming", dr->name), "ok: ");
    cr_assert_has(row_of(rows, "failover_user", dr->name), "ok: pgstage_failover logs in");
    cr_assert_has(row_of(rows, "grants", dr->name), "ok: ");
    cr_assert_has(row_of(rows, "login", dr->name), "ok: as app to app");
    cr_assert_has(row_of(rows, "rpo", dr->name), "rpo_limit is 30.0 s");
    cr_assert_has(row_of(rows, "rto", dr->name), "rto_target is 300.0 s");
    cr_assert_has(row_of(rows, "ready", NULL), "yes");
    cr_assert(nobody_promoted(scene));
    cluster_end(dr->cluster, CLUSTER_FAST);
    cr_assert(until(host_is(scene->proxy, dr, "health", "critical"), PATIENCE_MS));
    rows = told(scene, "DRILL drill");
    cr_assert_has(row_of(rows, "reachable", dr->name), "error: ");
    cr_assert_has(row_of(rows, "ready", NULL), "error: no");
}

/* The DR standby has not heard of the last seconds of the site's life. */
SYSTEM_TEST(failover_procedure, a_dr_failover_that_loses_too_much_is_refused)
{
    struct scene_options options = {.sky = {.standbys = 1, .dr = true}};
    struct scene *scene =
        quiet_scene(&options, UNFENCED "rpo_limit = 1ms\nmax_failover_lag = 1GB\n");
    struct star *old = &scene->sky->stars[0], *near = &scene->sky->stars[1],
                *far = &scene->sky->stars[scene->sky->dr];
    PGconn *client = client_open(scene->proxy, NULL);
    PGconn *direct = cluster_connect(old->cluster, "app");
    char *text;

    client_do(client, "INSERT INTO note VALUES (1)");
    cr_assert(star_catches_up(far, old));
    cluster_freeze(far->cluster, true);
    client_do(direct, "INSERT INTO note SELECT generate_series(1, 20000)");
    long written = star_written(old);
    cr_assert(until(seen_written(scene->proxy, old) >= written, PATIENCE_MS));
    cluster_end(old->cluster, CLUSTER_KILL);
    cluster_end(near->cluster, CLUSTER_KILL);
    cluster_freeze(far->cluster, false);
    cr_assert(until(has_alarm(scene->proxy, "no_primary", NULL), PATIENCE_MS));
    cr_assert(until(host_is(scene->proxy, far, "health", "healthy") ||
                        host_is(scene->proxy, far, "health", "warning"),
                    PATIENCE_MS));
    cr_assert(until(host_is(scene->proxy, near, "health", "critical"), PATIENCE_MS));
    text = client_error(proxy_console(scene->proxy), "FAILOVER drill");
    cr_assert_has(text, "rpo_limit");
    PGresult *rows = told(scene, "FAILOVER drill EMERGENCY DRY RUN");
    cr_assert_has(row_of(rows, "guard", "rpo"), "not asked: ");
    cr_assert_has(row_of(rows, "estimate", "loss"), "bytes");
    cr_assert_has(row_of(rows, "candidate", far->name), "ok: ");
    (void)told(scene, "FAILOVER drill EMERGENCY");
    client_do(client, "INSERT INTO note VALUES (2)");
    cr_expect_eq(served_by(scene->sky, client), far);
    cr_expect_gt(atol(last_failover(scene->proxy, "lag_bytes")), 0);
}

/* dr_failover = automatic: when nothing of the site is left. */
SYSTEM_TEST(failover_procedure, dr_by_itself_when_the_site_is_lost)
{
    struct scene_options options = {.sky = {.standbys = 1, .dr = true}};
    struct scene *scene =
        quiet_scene(&options, UNFENCED "dr_failover = automatic\ndr_failover_delay = 1\n");
    struct star *far = &scene->sky->stars[scene->sky->dr];
    PGconn *client = client_open(scene->proxy, NULL);

    cr_assert(star_catches_up(far, &scene->sky->stars[0]));
    cluster_end(scene->sky->stars[1].cluster, CLUSTER_KILL);
    cr_assert(
        until(host_is(scene->proxy, &scene->sky->stars[1], "health", "critical"), PATIENCE_MS));
    cr_assert(star_is_in_recovery(far));
    cluster_end(scene->sky->stars[0].cluster, CLUSTER_KILL);
    cr_assert(
        until(host_is(scene->proxy, &scene->sky->stars[0], "health", "critical"), PATIENCE_MS));
    client_do(client, "INSERT INTO note VALUES (1)");
    cr_assert_eq(served_by(scene->sky, client), far);
    cr_assert_str_eq(last_failover(scene->proxy, "type"), "automatic");
    cr_assert_has(last_failover(scene->proxy, "trigger"), "no host of the site");
}

/* The process of a server that replays WAL. */
static pid_t startup_of(const struct star *star)
{
    return (pid_t)cluster_number(star->cluster,
                                 "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'");
}

/* pgstage dies while the old primary is stopped and nobody is promoted yet: the next one starts it.
 */
SYSTEM_TEST(failover_procedure, a_restart_in_a_switchover_starts_the_old_primary_again)
{
    struct scene_options options = {.sky = {.standbys = 1},
                                    .state_dir = text_of("%s/kept", test_folder())};
    const char *commands = UNFENCED "demote_command = % stop pg1; % sleep 60\n"
                                    "undemote_command = % start pg1\n";
    struct scene *scene = quiet_scene(&options, commands);
    PGconn *console = client_open(scene->proxy, "user=admin dbname=pgstage");
    struct proxy *next;
    PGconn *client;

    client_start(console, "FAILOVER drill PLANNED");
    cr_assert(until(hand_count("stop pg1") == 1, PATIENCE_MS));
    scene->proxy->expect_failure = true;
    proxy_signal(scene->proxy, SIGKILL);
    proxy_wait(scene->proxy, PATIENCE_MS);
    options.promotes = true;
    options.environment = text_of(UNFENCED "demote_command = /bin/false\n"
                                           "undemote_command = %s/hand start pg1\n",
                                  scene->sky->folder);
    next = scene_proxy(scene->sky, &options);
    client = client_open(next, NULL);
    client_do(client, "INSERT INTO note VALUES (1)");
    cr_assert_eq(served_by(scene->sky, client), &scene->sky->stars[0]);
    cr_assert(nobody_promoted(scene));
    cr_assert_eq(hand_count("start pg1"), 1);
    cr_assert(until(!strcmp(last_failover(next, "result"), "failed"), PATIENCE_MS));
    cr_assert_has(last_failover(next, "detail"), "takes writes again");
}

/* pg_promote has been asked for and hangs, and pgstage dies: the next one finds the intent. */
SYSTEM_TEST(failover_procedure, a_restart_between_intent_and_promotion_goes_on)
{
    struct scene_options options = {.sky = {.standbys = 1},
                                    .state_dir = text_of("%s/kept", test_folder())};
    struct scene *scene = quiet_scene(&options, UNFENCED);
    struct star *new = &scene->sky->stars[1];
    pid_t startup = startup_of(new);
    struct proxy *next;
    PGconn *client;

    cr_assert(star_catches_up(new, &scene->sky->stars[0]));
    cr_assert_eq(kill(startup, SIGSTOP), 0);
    cluster_end(scene->sky->stars[0].cluster, CLUSTER_KILL);
    cr_assert(until(proxy_logged(scene->proxy, "promote: pg_promote()"), PATIENCE_MS));
    scene->proxy->expect_failure = true;
    proxy_signal(scene->proxy, SIGKILL);
    proxy_wait(scene->proxy, PATIENCE_MS);
    cr_assert(star_is_in_recovery(new));
    options.promotes = true;
    options.environment = UNFENCED;
    next = scene_proxy(scene->sky, &options);
    cr_assert(until(proxy_logged(next, "found unfinished at the start"), PATIENCE_MS));
    cr_assert_eq(kill(startup, SIGCONT), 0);
    client = client_open(next, NULL);
    client_do(client, "INSERT INTO note VALUES (1)");
    cr_assert_eq(served_by(scene->sky, client), new);
    cr_assert(until(!strcmp(last_failover(next, "result"), "done"), PATIENCE_MS));
}
