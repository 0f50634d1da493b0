/*
 * failover_patroni: a real Patroni with a real etcd decides who the primary is; pgstage follows.
 *
 *   etcd ◄── patroni ─ pg1 ◄─┐
 *        ◄── patroni ─ pg2 ◄─┴── pgstage (failover_mode = follow) ◄── the ledger's clients
 *
 * Patroni starts the servers, so their postmasters are not children of the test: Patroni stops them
 * when it is told to end, also by the end of the test's process.
 */
#include "failover.h"

SYSTEM_SUITE(failover_patroni);

/* So long at most for programs in Python that make a server, and only then start it. */
#define START_MS (2 * PATIENCE_MS)

struct member {
    struct star *star;
    int rest_port;
    char *file; /* its YAML */
    pid_t pid;
};

struct patroni {
    struct constellation sky;
    struct member members[2];
    int etcd_port;
};

static bool is_installed(const char *program)
{
    return access(text_of("/usr/bin/%s", program), X_OK) == 0;
}

static void end_process(void *argument)
{
    pid_t *pid = argument;

    if (*pid && process_is_alive(*pid)) {
        kill(*pid, SIGTERM);
        if (process_wait(*pid, 15000) < 0) {
            kill(*pid, SIGKILL);
            process_wait(*pid, 5000);
        }
    }
    *pid = 0;
}

static void etcd_start(struct patroni *patroni)
{
    static pid_t pid;
    int peer_port = port_take();
    char *folder = text_of("%s/etcd", test_folder());
    char *client = text_of("http://127.0.0.1:%d", patroni->etcd_port);
    char *peer = text_of("http://127.0.0.1:%d", peer_port);
    char *arguments[] = {"etcd",
                         "--name",
                         "one",
                         "--data-dir",
                         text_of("%s/data", folder),
                         "--listen-client-urls",
                         client,
                         "--advertise-client-urls",
                         client,
                         "--listen-peer-urls",
                         peer,
                         "--initial-advertise-peer-urls",
                         peer,
                         "--initial-cluster",
                         text_of("one=%s", peer),
                         "--unsafe-no-fsync",
                         NULL};
    struct process_options options = {.log = text_of("%s/etcd.log", test_folder())};

    /* the folder is etcd's own, 0700 */
    folder_make(folder);
    pid = process_start(arguments, &options);
    test_cleanup(end_process, &pid);
}

static const char YAML[] =
    "scope: drill\n"
    "name: %s\n"
    "restapi: {listen: '127.0.0.1:%d', connect_address: '127.0.0.1:%d'}\n"
    "etcd3: {host: '127.0.0.1:%d'}\n"
    "bootstrap:\n"
    "  dcs:\n"
    "    ttl: 20\n"
    "    loop_wait: 1\n"
    "    retry_timeout: 3\n"
    "    synchronous_mode: true\n"
    "    postgresql: {use_pg_rewind: true}\n"
    "  initdb: [encoding: UTF8, locale: C, no-sync, wal-segsize: '1']\n"
    "postgresql:\n"
    "  listen: '127.0.0.1:%d'\n"
    "  connect_address: '127.0.0.1:%d'\n"
    "  use_unix_socket: true\n"
    "  data_dir: %s\n"
    "  bin_dir: %s\n"
    "  basebackup: [checkpoint: fast, no-sync]\n"
    "  pgpass: %s/pgpass\n"
    "  authentication:\n"
    "    superuser: {username: postgres, password: postgressecret, sslmode: require}\n"
    "    replication: {username: replicator, password: replicatorsecret, sslmode: require}\n"
    "  pg_hba:\n"
    "  - local all all trust\n"
    "  - hostssl replication replicator 127.0.0.1/32 scram-sha-256\n"
    "  - hostssl all all 127.0.0.1/32 scram-sha-256\n"
    "  parameters:\n"
    "    unix_socket_directories: %s\n"
    "    ssl: 'on'\n"
    "    ssl_cert_file: %s\n"
    "    ssl_key_file: %s\n"
    "    fsync: 'off'\n"
    "    shared_buffers: 16MB\n"
    "    autovacuum: 'off'\n"
    "    jit: 'off'\n";

/* Its files; the server's certificate is for its name, as in every constellation. */
static void member_make(struct patroni *patroni, int number)
{
    struct constellation *sky = &patroni->sky;
    struct member *member = &patroni->members[number];
    struct star *star = &sky->stars[sky->count++];
    struct cluster *cluster = calloc(1, sizeof *cluster);
    const char *short_name = text_of("pg%d", number + 1);
    struct pki_request request = {.file = short_name, .issuer = pki_shared_ca()};
    struct pki_certificate *certificate;

    star->name = request.common_name = text_of("%s.drill.test", short_name);
    request.names = text_of("DNS:%s", star->name);
    certificate = pki_issue(sky->folder, &request);
    cluster->folder = text_of("%s/%s", sky->folder, short_name);
    cluster->port = star->port = port_take();
    cluster->address = "127.0.0.1";
    cluster->socket_folder = text_of("%s/s%d", program_folder(), cluster->port);
    folder_make(cluster->folder);
    folder_make(cluster->socket_folder);
    star->cluster = cluster;
    member->star = star;
    member->rest_port = port_take();
    member->file = text_of("%s/%s.yml", sky->folder, short_name);
    file_write(member->file, 0600,
               text_of(YAML, short_name, member->rest_port, member->rest_port, patroni->etcd_port,
                       cluster->port, cluster->port, text_of("%s/data", cluster->folder),
                       program_postgres_folder(), cluster->folder, cluster->socket_folder,
                       certificate->certificate, certificate->key));
}

static void member_start(struct member *member)
{
    char *arguments[] = {"patroni", member->file, NULL};
    char *environment[] = {"HOME=/nonexistent", "LC_ALL=C", NULL};
    struct process_options options = {.log = text_of("%s.log", member->file),
                                      .environment = environment,
                                      .death_signal = SIGTERM};

    member->pid = process_start(arguments, &options);
}

/* kill -9 of Patroni and of all of its server: the machine has gone. The postmaster was started by
 * Patroni: its pid, and those of its children, are where it writes them down. */
static void member_kill(struct member *member)
{
    const char *data = text_of("%s/data", member->star->cluster->folder);
    pid_t postmaster = (pid_t)atoi(file_text(text_of("%s/postmaster.pid", data)));
    char *children, *rest = NULL;

    cr_assert_gt(postmaster, 1);
    kill(member->pid, SIGKILL);
    process_wait(member->pid, 5000);
    member->pid = 0;
    kill(postmaster, SIGSTOP);
    children = file_text(text_of("/proc/%d/task/%d/children", (int)postmaster, (int)postmaster));
    for (char *word = strtok_r(children, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        kill((pid_t)atoi(word), SIGKILL);
    kill(postmaster, SIGKILL);
    cr_assert(until(kill(postmaster, 0) != 0, PATIENCE_MS));
    unlink(text_of("%s/postmaster.pid", data));
}

static bool takes_writes(const struct member *member)
{
    PGconn *conn =
        PQconnectdb(text_of("host=%s port=%d user=postgres dbname=postgres",
                            member->star->cluster->socket_folder, member->star->cluster->port));
    PGresult *result = PQexec(conn, "SELECT pg_is_in_recovery()");
    bool takes = PQntuples(result) == 1 && PQgetvalue(result, 0, 0)[0] == 'f';

    PQclear(result);
    PQfinish(conn);
    return takes;
}

static void fill(const struct star *star)
{
    PGconn *conn = cluster_connect(star->cluster, "postgres");

    client_do(conn, "CREATE ROLE app LOGIN");
    client_do(conn, "CREATE ROLE other LOGIN");
    client_do(conn, "CREATE DATABASE app OWNER app");
    PQfinish(conn);
    constellation_fill(star);
}

static struct patroni *patroni_start(void)
{
    struct patroni *patroni = calloc(1, sizeof *patroni);
    struct member *first = &patroni->members[0];

    patroni->sky.folder = test_folder();
    patroni->sky.ca_file = pki_shared_ca()->certificate;
    patroni->sky.dr = -1;
    patroni->etcd_port = port_take();
    etcd_start(patroni);
    member_make(patroni, 0);
    member_make(patroni, 1);
    for (int i = 0; i < 2; i++)
        test_cleanup(end_process, &patroni->members[i].pid);
    member_start(first);
    if (!until(takes_writes(first), START_MS))
        support_fail("Patroni starts no primary:\n%s", file_text(text_of("%s.log", first->file)));
    fill(first->star);
    member_start(&patroni->members[1]);
    if (!until(cluster_number(first->star->cluster, "SELECT count(*) FROM pg_stat_replication "
                                                    "WHERE sync_state = 'sync'") == 1,
               START_MS))
        support_fail("Patroni starts no synchronous standby:\n%s",
                     file_text(text_of("%s.log", patroni->members[1].file)));
    return patroni;
}

static bool follows(const struct member *member)
{
    PGconn *conn =
        PQconnectdb(text_of("host=%s port=%d user=postgres dbname=postgres",
                            member->star->cluster->socket_folder, member->star->cluster->port));
    PGresult *result = PQexec(conn, "SELECT status FROM pg_stat_wal_receiver");
    bool is = PQntuples(result) == 1 && !strcmp(PQgetvalue(result, 0, 0), "streaming");

    PQclear(result);
    PQfinish(conn);
    return is;
}

/* In Patroni's own list of members: it switches over to nobody but a synchronous standby. */
static bool is_listed_as(const struct member *member, const char *role)
{
    char *arguments[] = {"patronictl", "-c", member->file, "list", NULL};
    char *output;
    bool is;

    (void)process_run(arguments, NULL, &output);
    is = strstr(output, role) != NULL;
    free(output);
    return is;
}

static long complaints(const struct ledger *ledger)
{
    return ledger_failed(ledger) + ledger_unknown(ledger) + ledger_closed(ledger);
}

/* First a machine dies, and Patroni fails over; then it is back, and an operator switches over to
 * it through pgstage, which holds its clients while Patroni does it. */
SYSTEM_TEST(failover_patroni, its_failover_and_its_switchover_are_followed_and_lose_nothing)
{
    if (!is_installed("patroni") || !is_installed("etcd")) {
        fprintf(stderr, "SKIP failover_patroni: Patroni or etcd is not installed "
                        "(scripts/install-packages test)\n");
        cr_skip_test("no Patroni or etcd");
    }
    struct patroni *patroni = patroni_start();
    struct member *one = &patroni->members[0], *two = &patroni->members[1];
    struct scene scene = {.sky = &patroni->sky};
    struct scene_options options = {
        .environment = text_of(
            "probe_timeout = 5\nswitchover_command = patronictl -c %s switchover --candidate pg1 "
            "--force drill\n",
            two->file)};
    long before;

    scene.proxy = scene_proxy(scene.sky, &options);
    scene_work(&scene, &options.ledger);

    member_kill(one);
    /* Patroni waits for the leader's key to expire: ttl */
    cr_assert(until(takes_writes(two), START_MS), "%s", file_text(text_of("%s.log", two->file)));
    scene_goes_on(&scene, 50);
    cr_expect_eq(ledger_closed(scene.ledger), 0, "%s", ledger_last_error(scene.ledger));

    member_start(one);
    cr_assert(until(is_listed_as(two, "Sync Standby"), START_MS), "%s",
              file_text(text_of("%s.log", one->file)));
    cr_assert(until(host_is(scene.proxy, one->star, "role", "standby"), PATIENCE_MS));
    before = complaints(scene.ledger);
    proxy_do(scene.proxy, text_of("FAILOVER drill TO %s PLANNED", one->star->name));
    cr_expect(takes_writes(one));
    scene_goes_on(&scene, 50);
    cr_expect_eq(complaints(scene.ledger), before, "the switchover was no mere pause: %s",
                 ledger_last_error(scene.ledger));
    cr_expect(until(follows(two), PATIENCE_MS));
    scene_judge(&scene, one->star, NULL, 0);
}
