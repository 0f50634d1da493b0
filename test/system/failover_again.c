/*
 * failover_again: failovers in the midst of something else: a reload, a pause, another failover, a
 * restart of pgstage, a name that means another address.
 */
#include "failover.h"

#include <fcntl.h>

SYSTEM_SUITE(failover_again);

static void nobody_was_disconnected(struct scene *scene)
{
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%ld clients were disconnected: %s",
                 ledger_closed(scene->ledger), ledger_last_error(scene->ledger));
}

SYSTEM_TEST(failover_again, while_the_configuration_is_read_again)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    char *ini = file_text(scene->proxy->file);
    int64_t killed = 0;

    for (int i = 0; i < 20; i++) {
        /* something of the environment is another one each time, a host, too */
        file_write(scene->proxy->file, 0644,
                   text_of("%s\n[environment drill]\npool_size = %d\n%s%s\n", ini, 20 + i % 2,
                           i % 4 < 2 ? "" : "hosts = ",
                           i % 4 < 2 ? "" : text_of("%s, %s", star_host(old), star_host(new))));
        cr_expect_null(proxy_reload(scene->proxy));
        if (i == 6) {
            cluster_end(old->cluster, CLUSTER_KILL);
            killed = now_ms();
        }
        if (i == 8)
            cluster_promote(new->cluster);
    }
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
}

SYSTEM_TEST(failover_again, while_everything_is_paused)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 1}});
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];

    proxy_do(scene->proxy, "PAUSE");
    cr_assert(star_catches_up(new, old));
    cluster_end(old->cluster, CLUSTER_KILL);
    cluster_promote(new->cluster);
    cr_expect(until(host_is(scene->proxy, new, "role", "primary"), PATIENCE_MS));
    cr_expect(until(scene_is_quiet(scene), PATIENCE_MS), "PAUSE ended with the failover");
    proxy_do(scene->proxy, "RESUME");
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    /* nobody was in a transaction: nobody saw anything but a pause, and nothing is missing */
    cr_expect_eq(ledger_failed(scene->ledger) + ledger_unknown(scene->ledger), 0, "%s",
                 ledger_last_error(scene->ledger));
    scene_judge(scene, new, NULL, 0);
}

/* The new primary dies as soon as it is one. */
SYSTEM_TEST(failover_again, while_another_failover_is_under_way)
{
    struct scene *scene = scene_start(&(struct scene_options){.sky = {.standbys = 2}});
    struct star *first = &scene->sky->stars[0], *second = &scene->sky->stars[1],
                *third = &scene->sky->stars[2];

    star_repoint(scene->sky, third, second);
    cr_assert(until(star_streams(third), PATIENCE_MS));
    cr_assert(
        until(cluster_number(second->cluster, "SELECT count(*) FROM pg_stat_replication") == 1,
              PATIENCE_MS));
    cluster_end(first->cluster, CLUSTER_KILL);
    cluster_promote(second->cluster);
    cr_assert(
        until(cluster_number(third->cluster, "SELECT count(*) FROM pg_stat_wal_receiver WHERE "
                                             "status = 'streaming' AND received_tli = 2") == 1,
              PATIENCE_MS));
    cluster_end(second->cluster, CLUSTER_KILL);
    cluster_promote(third->cluster);
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    ledger_stop(scene->ledger);
    struct ledger_verdict verdict = ledger_judge(scene->ledger, third->cluster);
    ledger_expect_sound(&verdict, true);
}

/* Everybody works when pgstage dies. What was in flight is unknown, what was acknowledged is there;
 * and an older timeline is refused by a pgstage that was not there when the newer one began, and by
 * one that has forgotten everything, as long as both can be seen. */
static void a_restart(bool forgets)
{
    struct scene_options options = {.sky = {.standbys = 2},
                                    .ledger = {.cut = true},
                                    .state_dir = text_of("%s/kept", test_folder())};
    /* far longer than the new primary is frozen, and shorter */
    options.environment = forgets ? "probe_timeout = 600\n" : "probe_timeout = 1\n";
    struct scene *scene = scene_start(&options);
    struct star *old = &scene->sky->stars[0], *new = &scene->sky->stars[1];
    int64_t killed;
    long before;

    cluster_end(old->cluster, CLUSTER_KILL);
    killed = now_ms();
    cluster_promote(new->cluster);
    scene_goes_on(scene, 50);
    scene_cut(scene);
    /* the old primary is back, and the new one is slow to answer: an older timeline is all there is
     * to see at first */
    cluster_again(old->cluster);
    before = rows_on(old, "transfer");
    cluster_freeze(new->cluster, true);
    scene_mend(scene, &options, forgets);
    cr_assert(until(host_is(scene->proxy, old, "role", "primary"), PATIENCE_MS));
    /* without a state it is up to its answer, and it must come */
    cr_assert(forgets || until(host_is(scene->proxy, new, "health", "critical"), PATIENCE_MS));
    cr_expect(until(proxy_rows(scene->proxy, "ENVIRONMENTS", "failover_state",
                               forgets ? "starting" : "no_primary") == 1,
                    PATIENCE_MS),
              "it has decided without the new primary");
    cluster_freeze(new->cluster, false);
    scene_goes_on(scene, 100);
    cr_expect_eq(rows_on(old, "transfer"), before, "the old primary was written to");
    cluster_end(old->cluster, CLUSTER_KILL);
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
}

SYSTEM_TEST(failover_again, a_restarted_pgstage_knows_what_it_had_accepted)
{
    a_restart(false);
}

SYSTEM_TEST(failover_again, a_pgstage_that_lost_its_state_waits_for_every_host)
{
    a_restart(true);
}

/* In place: the file is mounted over another, and a renamed one would not be seen there. In one piece:
 * whoever reads it meanwhile sees the old names or the new ones. */
static void hosts_rewrite(const char *path, const char *text)
{
    enum { SIZE = 200 };
    char *padded = text_of("%-*s\n", SIZE, text);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, padded, SIZE + 1, 0), SIZE + 1);
    cr_assert_eq(close(fd), 0);
    free(padded);
}

/* Two servers with one port and a certificate for the service's name: what the name means is said by
 * a hosts file of pgstage's own. */
struct service {
    struct scene scene;
    const char *hosts;
    struct star *first, *second; /* on 127.0.0.1, and its standby on 127.0.0.2 */
};

static struct service service_start(const char *hosts)
{
    struct service service = {.hosts = text_of("%s/hosts", test_folder())};
    struct constellation_options options = {.standbys = 1};
    struct constellation *sky = service.scene.sky = constellation_start(&options);
    struct pki_request request = {.file = "db",
                                  .common_name = "db.drill.test",
                                  .names = "DNS:db.drill.test,DNS:pg1.drill.test",
                                  .issuer = pki_shared_ca()};
    struct pki_certificate *certificate = pki_issue(sky->folder, &request);
    struct proxy_options given = {.hosts = service.hosts};
    struct star *first = service.first = &sky->stars[0], *second = service.second = &sky->stars[1];

    (void)constellation_environment(sky, ""); /* writes monitor.password */
    for (int i = 0; i < 2; i++)
        cluster_set(
            sky->stars[i].cluster,
            text_of("ssl_cert_file = '%s'\nssl_key_file = '%s'\n%s", certificate->certificate,
                    certificate->key,
                    i ? text_of("listen_addresses = '127.0.0.2'\nport = %d", first->port) : ""));
    kill(first->cluster->pid, SIGHUP);
    cluster_end(second->cluster, CLUSTER_FAST);
    second->cluster->port = first->port;
    second->cluster->address = "127.0.0.2";
    cluster_again(second->cluster);
    cr_assert(until(star_streams(second), PATIENCE_MS));
    file_write(service.hosts, 0644, "");
    hosts_rewrite(service.hosts, hosts);
    service.scene.proxy = proxy_start_with(
        &given,
        "dns_max_ttl = 1\npool_mode = transaction\ndefault_environment = drill\nstate_dir = %s\n"
        "max_client_conn = 500\nlog_connections = 0\nlog_disconnections = 0\n"
        "[environment drill]\nclass = staging\nclient_tls_sslmode = disable\n"
        "server_tls_ca_file = %s\nmin_pool_size = 0\nhosts = db.drill.test:%d\n"
        "monitor_user = pgstage_monitor\nmonitor_password_file = %s\n"
        "[databases]\napp = dbname=app\nread = dbname=app target_session_attrs=standby\n",
        test_folder(), sky->ca_file, first->port, text_of("%s/monitor.password", sky->folder));
    scene_work(&service.scene, &(struct ledger_options){0});
    return service;
}

#define SKIP_WITHOUT_ROOT()                                                                        \
    do {                                                                                           \
        if (geteuid() != 0) {                                                                      \
            fprintf(stderr, "SKIP %s: a hosts file of its own needs root\n", __func__);            \
            cr_skip_test("needs root");                                                            \
        }                                                                                          \
    } while (0)

static char *address_of(PGconn *client)
{
    return client_value(client, "SELECT host(inet_server_addr())");
}

/* The name of the primary comes to mean another address, as with a service name that is moved. */
SYSTEM_TEST(failover_again, a_name_that_means_another_address)
{
    SKIP_WITHOUT_ROOT();
    struct service service = service_start("127.0.0.1 localhost db.drill.test\n");
    struct scene *scene = &service.scene;
    struct star *old = service.first, *new = service.second;
    PGconn *client = client_open(scene->proxy, NULL);
    long before;

    cr_expect_str_eq(address_of(client), "127.0.0.1");
    /* moved as services are: the old one is stopped, the new one promoted, the name changed */
    cluster_end(old->cluster, CLUSTER_FAST);
    cluster_promote(new->cluster);
    hosts_rewrite(service.hosts, "127.0.0.1 localhost\n127.0.0.2 db.drill.test\n");
    scene_goes_on(scene, 100);
    cr_expect_str_eq(address_of(client), "127.0.0.2");
    /* back to where the timeline is over: a mistake, and nobody is written to until it is mended */
    cluster_again(old->cluster);
    before = rows_on(old, "transfer");
    /* slow at first: logins are under way there when it is not known yet what has been reached */
    cluster_freeze(old->cluster, true);
    hosts_rewrite(service.hosts, "127.0.0.1 localhost db.drill.test\n");
    cr_expect(until(has_alarm(scene->proxy, "no_primary", NULL), PATIENCE_MS));
    pause_ms(300);
    cluster_freeze(old->cluster, false);
    cr_expect(until(has_alarm(scene->proxy, "older_timeline", NULL), PATIENCE_MS));
    pause_ms(1000);
    cr_expect_eq(rows_on(old, "transfer"), before, "the old primary was written to");
    hosts_rewrite(service.hosts, "127.0.0.1 localhost\n127.0.0.2 db.drill.test\n");
    scene_goes_on(scene, 100);
    nobody_was_disconnected(scene);
    /* a clean stop loses nothing, and the old one got nothing afterwards */
    scene_judge(scene, new, NULL, 0);
}

/* Each of its addresses is a host; then one of them is taken out, and the name is the host again. */
SYSTEM_TEST(failover_again, a_name_of_several_addresses)
{
    SKIP_WITHOUT_ROOT();
    struct service service =
        service_start("127.0.0.1 localhost db.drill.test\n127.0.0.2 db.drill.test\n");
    struct scene *scene = &service.scene;
    struct star *old = service.first, *new = service.second;
    const char *labels[] = {text_of("db.drill.test@127.0.0.1:%d", old->port),
                            text_of("db.drill.test@127.0.0.2:%d", old->port)};
    PGconn *client = client_open(scene->proxy, NULL);
    PGconn *reader = client_open(scene->proxy, "dbname=read");
    int64_t killed;

    for (int i = 0; i < 2; i++)
        cr_expect(until(proxy_rows(scene->proxy, "HOSTS", "label", labels[i]) == 1, PATIENCE_MS));
    cr_expect_str_eq(address_of(client), "127.0.0.1");
    cr_expect_str_eq(address_of(reader), "127.0.0.2");
    cluster_end(old->cluster, CLUSTER_KILL);
    killed = now_ms();
    cluster_promote(new->cluster);
    scene_goes_on(scene, 100);
    cr_expect_str_eq(address_of(client), "127.0.0.2");
    cr_expect(until(proxy_rows(scene->proxy, "FENCES", "host", labels[0]) == 1, PATIENCE_MS));
    hosts_rewrite(service.hosts, "127.0.0.1 localhost\n127.0.0.2 db.drill.test\n");
    cr_expect(until(
        proxy_rows(scene->proxy, "HOSTS", "label", text_of("db.drill.test:%d", old->port)) == 1,
        PATIENCE_MS));
    scene_goes_on(scene, 100);
    cr_expect(until(proxy_rows(scene->proxy, "HOSTS", NULL, NULL) == 1, PATIENCE_MS));
    cr_expect_str_eq(address_of(client), "127.0.0.2");
    nobody_was_disconnected(scene);
    scene_judge(scene, new, old, killed + ANSWER_LAG_MS);
}
