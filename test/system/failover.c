/*
 * failover: scenes.
 */
#include "failover.h"

/* A probe's time is also what the logins and steps of a failover have: far more than they take. And
 * what a primary under load wrote just before it was seen last may not have been sent to a standby:
 * whoever may lose nothing promotes nobody then. */
static const char *promoter(const struct constellation *sky, const char *more)
{
    return text_of("%s%s%s", constellation_promoter(sky),
                   strstr(more, "probe_timeout") ? "" : "probe_timeout = 15\n",
                   strstr(more, "max_failover_lag") ? "" : "max_failover_lag = 1GB\n");
}

struct proxy *scene_proxy(struct constellation *sky, const struct scene_options *options)
{
    const char *state = options->state_dir,
               *more = options->environment ? options->environment : "";
    struct proxy_options given = {.twin = options->twin};

    if (!state)
        state = text_of("%s/state-%d", test_folder(), port_take());
    folder_make(state);
    return proxy_start_with(
        &given,
        "pool_mode = transaction\ndefault_environment = drill\nstate_dir = %s\n"
        "default_pool_size = 20\nmax_client_conn = 500\nlog_connections = 0\nlog_disconnections = "
        "0\n%s\n%s",
        state, options->general ? options->general : "",
        constellation_environment(
            sky, text_of("%s%s", options->promotes ? promoter(sky, more) : "", more)));
}

void scene_work(struct scene *scene, const struct ledger_options *options)
{
    struct ledger_options given = *options;

    if (given.clients == 0) {
        given.clients = 100;
        given.idle = given.cut ? 0 : 50; /* who is idle goes with its process */
        given.listeners = 6;
    }
    scene->ledger = ledger_start(scene->proxy, &given);
    if (!ledger_goes_on(scene->ledger, 50, 60000))
        support_fail("the clients do not get to work: %s", ledger_last_error(scene->ledger));
}

void scene_cut(struct scene *scene)
{
    scene->proxy->expect_failure = true;
    proxy_signal(scene->proxy, SIGKILL);
    proxy_wait(scene->proxy, PATIENCE_MS);
}

void scene_mend(struct scene *scene, const struct scene_options *options, bool forgets)
{
    struct scene_options given = *options;

    if (forgets && unlink(text_of("%s/failover.json", options->state_dir)))
        support_fail("there is no state file in %s", options->state_dir);
    given.twin = scene->proxy;
    scene->proxy = scene_proxy(scene->sky, &given);
}

struct scene *scene_start(const struct scene_options *options)
{
    struct scene *scene = calloc(1, sizeof *scene);

    if (!scene)
        abort();
    scene->sky = constellation_start(&options->sky);
    scene->proxy = scene_proxy(scene->sky, options);
    if (options->ledger.clients >= 0)
        scene_work(scene, &options->ledger);
    return scene;
}

struct ledger_verdict scene_judge(struct scene *scene, struct star *primary, struct star *old,
                                  int64_t latest_ms)
{
    ledger_stop(scene->ledger);
    return scene_compare(scene, primary, old, latest_ms);
}

struct ledger_verdict scene_compare(struct scene *scene, struct star *primary, struct star *old,
                                    int64_t latest_ms)
{
    struct ledger_verdict verdict;

    verdict = ledger_judge(scene->ledger, primary->cluster);
    ledger_expect_sound(&verdict, old != NULL);
    if (verdict.missing > 0 && old) {
        ledger_explain(scene->ledger, &verdict, old->cluster, star_switch_point(primary));
        cr_expect_eq(
            verdict.unexplained, 0,
            "%ld acknowledged transfers are missing that the old primary never had, or had "
            "before the point from which the new one went on",
            verdict.unexplained);
        if (latest_ms)
            cr_expect_leq(verdict.last_missing, latest_ms,
                          "a lost transfer was acknowledged %ld ms too late",
                          (long)(verdict.last_missing - latest_ms));
    }
    return verdict;
}

void scene_goes_on(struct scene *scene, long count)
{
    if (!ledger_goes_on(scene->ledger, count, PATIENCE_MS))
        support_fail("the clients do not go on: %s", ledger_last_error(scene->ledger));
}

long star_written(const struct star *star)
{
    return cluster_number(star->cluster, "SELECT pg_current_wal_flush_lsn() - '0/0'");
}

long seen_written(struct proxy *proxy, const struct star *star)
{
    PGresult *rows = proxy_show(proxy, "HEALTH");
    int host = PQfnumber(rows, "host"), lsn = PQfnumber(rows, "lsn");
    long written = 0;

    if (host < 0 || lsn < 0)
        support_fail("SHOW HEALTH has no column host or lsn");
    for (int row = 0; row < PQntuples(rows); row++) {
        unsigned long high, low;

        if (names_star(PQgetvalue(rows, row, host), star) &&
            sscanf(PQgetvalue(rows, row, lsn), "%lX/%lX", &high, &low) == 2)
            written = (long)(high << 32 | low);
    }
    PQclear(rows);
    return written;
}

bool scene_is_quiet(const struct scene *scene)
{
    long before = ledger_acknowledged(scene->ledger);

    pause_ms(1000);
    return ledger_acknowledged(scene->ledger) == before;
}

bool star_is_quiet(const struct star *star)
{
    long before = rows_on(star, "transfer");

    pause_ms(500);
    return rows_on(star, "transfer") == before;
}

bool names_star(const char *text, const struct star *star)
{
    return strncmp(text, star->name, strlen(star->name)) == 0;
}

char *host_field(struct proxy *proxy, const struct star *star, const char *column)
{
    PGresult *rows = proxy_show(proxy, "HOSTS");
    int host = PQfnumber(rows, "host"), field = PQfnumber(rows, column);
    char *value = NULL;

    if (host < 0 || field < 0)
        support_fail("SHOW HOSTS has no column host or %s", column);
    for (int row = 0; row < PQntuples(rows) && !value; row++)
        if (names_star(PQgetvalue(rows, row, host), star))
            value = text_of("%s", PQgetvalue(rows, row, field));
    PQclear(rows);
    return value ? value : text_of("(no such host)");
}

bool host_is(struct proxy *proxy, const struct star *star, const char *column, const char *value)
{
    char *is = host_field(proxy, star, column);
    bool same = strcmp(is, value) == 0;

    free(is);
    return same;
}

bool has_alarm(struct proxy *proxy, const char *alarm, const struct star *star)
{
    PGresult *rows = proxy_show(proxy, "ALARMS");
    int name = PQfnumber(rows, "alarm"), host = PQfnumber(rows, "host");
    bool found = false;

    if (host < 0 || name < 0)
        support_fail("SHOW ALARMS has no column alarm or host");
    for (int row = 0; row < PQntuples(rows); row++)
        if (!strcmp(PQgetvalue(rows, row, name), alarm) &&
            (!star || names_star(PQgetvalue(rows, row, host), star)))
            found = true;
    PQclear(rows);
    return found;
}

bool is_fenced(struct proxy *proxy, const struct star *star)
{
    PGresult *rows = proxy_show(proxy, "FENCES");
    int host = PQfnumber(rows, "host");
    bool found = false;

    if (host < 0)
        support_fail("SHOW FENCES has no column host");
    for (int row = 0; row < PQntuples(rows); row++)
        found = found || names_star(PQgetvalue(rows, row, host), star);
    PQclear(rows);
    return found;
}

char *last_failover(struct proxy *proxy, const char *column)
{
    PGresult *rows = proxy_show(proxy, "FAILOVERS");
    int id = PQfnumber(rows, "id"), field = PQfnumber(rows, column);
    long newest = -1;
    char *value = text_of("%s", "");

    if (id < 0 || field < 0)
        support_fail("SHOW FAILOVERS has no column id or %s", column);
    for (int row = 0; row < PQntuples(rows); row++)
        if (atol(PQgetvalue(rows, row, id)) > newest) {
            newest = atol(PQgetvalue(rows, row, id));
            value = text_of("%s", PQgetvalue(rows, row, field));
        }
    PQclear(rows);
    return value;
}

struct star *served_by(struct constellation *sky, PGconn *client)
{
    long port = client_number(client, "SELECT inet_server_port()");

    for (int i = 0; i < sky->count; i++)
        if (sky->stars[i].cluster->port == port)
            return &sky->stars[i];
    support_fail("nobody of this constellation has port %ld", port);
}

long rows_on(const struct star *star, const char *table)
{
    return cluster_number(star->cluster, text_of("SELECT count(*) FROM %s", table));
}
