/*
 * failover: scenes.
 */
#include "failover.h"

struct proxy *scene_proxy(struct constellation *sky, const struct scene_options *options)
{
    const char *state = options->state_dir;

    if (!state)
        state = text_of("%s/state-%d", test_folder(), port_take());
    folder_make(state);
    return proxy_start(
        "pool_mode = transaction\ndefault_environment = drill\nstate_dir = %s\n"
        "default_pool_size = 20\nmax_client_conn = 500\nlog_connections = 0\nlog_disconnections = "
        "0\n%s\n%s",
        state, options->general ? options->general : "",
        constellation_environment(sky, text_of("%s%s",
                                               options->promotes ? constellation_promoter(sky) : "",
                                               options->environment ? options->environment : "")));
}

struct scene *scene_start(const struct scene_options *options)
{
    struct scene *scene = calloc(1, sizeof *scene);
    struct ledger_options ledger = options->ledger;

    if (!scene)
        abort();
    scene->sky = constellation_start(&options->sky);
    scene->proxy = scene_proxy(scene->sky, options);
    if (ledger.clients == 0) {
        ledger.clients = 100;
        ledger.idle = 50;
    }
    if (ledger.clients > 0) {
        scene->ledger = ledger_start(scene->proxy, &ledger);
        if (!ledger_goes_on(scene->ledger, 50, 60000))
            support_fail("the clients do not get to work: %s", ledger_last_error(scene->ledger));
    }
    return scene;
}

struct ledger_verdict scene_judge(struct scene *scene, struct star *primary, struct star *old,
                                  int64_t latest_ms)
{
    struct ledger_verdict verdict;

    ledger_stop(scene->ledger);
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
