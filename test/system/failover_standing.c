/*
 * failover_standing: troubles that are not the death of a host: nobody is failed over, nobody else
 * is disturbed.
 */
#include "failover.h"

#include <sys/mount.h>

SYSTEM_SUITE(failover_standing);

/* In failover_mode = promote without any delay: whoever takes these for a death promotes at once.
 */
static struct scene *hasty_scene(struct scene_options options)
{
    options.promotes = true;
    options.environment = text_of("failover_delay = 0\nallow_unfenced_promotion = yes\n%s",
                                  options.environment ? options.environment : "");
    return scene_start(&options);
}

static void nothing_has_happened(struct scene *scene)
{
    cr_expect_eq(ledger_closed(scene->ledger), 0, "%s", ledger_last_error(scene->ledger));
    for (int i = 1; i < scene->sky->count; i++)
        cr_expect(star_is_in_recovery(&scene->sky->stars[i]), "%s was promoted",
                  scene->sky->stars[i].name);
    scene_judge(scene, &scene->sky->stars[0], NULL, 0);
}

SYSTEM_TEST(failover_standing, a_user_with_a_wrong_password_is_that_users_trouble)
{
    struct scene *scene;

    /* pgstage shows the server a password that the server does not know */
    proxy_set_users("\"admin\" \"adminsecret\"\n\"app\" \"appsecret\"\n\"other\" \"wrong\"\n");
    scene = hasty_scene((struct scene_options){.sky = {.standbys = 1}});
    ledger_mark(scene->ledger);
    for (int i = 0; i < 30; i++) {
        char *refusal = client_refusal(scene->proxy, "user=other");

        cr_expect(strstr(refusal, "28P01") || strstr(refusal, "28000"), "%s", refusal);
        free(refusal);
    }
    cr_expect(!host_is(scene->proxy, &scene->sky->stars[0], "health", "critical"));
    cr_expect(host_is(scene->proxy, &scene->sky->stars[0], "breaker", "closed"));
    scene_goes_on(scene, 100);
    cr_expect_eq(ledger_failed(scene->ledger) + ledger_unknown(scene->ledger), 0, "%s",
                 ledger_last_error(scene->ledger));
    nothing_has_happened(scene);
}

SYSTEM_TEST(failover_standing, a_server_that_is_full_is_not_dead)
{
    /* clients wait while there is no room, however long it takes here to fill the server */
    struct scene_options options = {.sky = {.standbys = 1},
                                    .general = "server_lifetime = 1\n",
                                    .environment = "query_wait_timeout = 120\n"};
    struct scene *scene = hasty_scene(options);
    struct star *primary = &scene->sky->stars[0];
    PGconn *crowd[120];
    int count = 0;

    /* over TCP, as an ordinary user: those that are kept for superusers do not help pgstage */
    for (; count < 120; count++) {
        crowd[count] = PQconnectdb(text_of("host=127.0.0.1 port=%d user=other password=othersecret "
                                           "dbname=app sslmode=require gssencmode=disable",
                                           primary->port));
        if (PQstatus(crowd[count]) != CONNECTION_OK) {
            PQfinish(crowd[count]);
            pause_ms(20);
            crowd[count] = NULL;
        }
        if (count > 100 && !crowd[count])
            break;
    }
    /* every fifth probe logs in anew, and is refused with 53300 */
    pause_ms(7000);
    cr_expect(!host_is(scene->proxy, primary, "health", "critical"), "53300 was taken for a death");
    cr_expect(star_is_in_recovery(&scene->sky->stars[1]), "a full server was failed over");
    for (int i = 0; i <= count && i < 120; i++)
        PQfinish(crowd[i]);
    scene_goes_on(scene, 100);
    nothing_has_happened(scene);
}

static void disk_leave(void *folder)
{
    umount2(folder, MNT_DETACH);
}

/* A real one: the primary's tables are on a file system that is full. The server lives and says
 * 53100 to whoever needs more room. */
SYSTEM_TEST(failover_standing, a_full_disk_is_told_to_its_client_and_is_no_death)
{
    struct scene *scene;
    struct star *primary;
    const char *folder, *oid;
    PGconn *direct, *client;
    char *state;

    if (geteuid() != 0) {
        fprintf(stderr, "SKIP a_full_disk_is_told_to_its_client_and_is_no_death: needs root\n");
        cr_skip_test("a small file system needs root");
    }
    scene = hasty_scene((struct scene_options){.sky = {.standbys = 1}});
    primary = &scene->sky->stars[0];
    direct = cluster_connect(primary->cluster, "app");
    /* in the data folder: the standby has its own, which is not full */
    client_do(direct, "SET allow_in_place_tablespaces = on");
    client_do(direct, "CREATE TABLESPACE small LOCATION ''");
    oid = client_value(direct, "SELECT oid FROM pg_tablespace WHERE spcname = 'small'");
    folder = text_of("%s/data/pg_tblspc/%s", primary->cluster->folder, oid);
    const char *inside = text_of("%s/%s", folder,
                                 client_value(direct, "SELECT name FROM pg_ls_dir('pg_tblspc/' || "
                                                      "(SELECT oid FROM pg_tablespace WHERE "
                                                      "spcname = 'small')) AS d (name)"));
    if (mount("tmpfs", inside, "tmpfs", 0,
              text_of("size=1m,uid=%d,gid=%d,mode=0700", (int)program_uid(), (int)program_gid()))) {
        fprintf(stderr, "SKIP a_full_disk_is_told_to_its_client_and_is_no_death: mount: %m\n");
        ledger_stop(scene->ledger);
        cr_skip_test("no small file system");
    }
    test_cleanup(disk_leave, (void *)inside);
    client_do(direct, "CREATE TABLE big (a text) TABLESPACE small");
    client_do(direct, "ALTER TABLE big OWNER TO app");
    client = client_open(scene->proxy, NULL);
    for (int i = 0; i < 5; i++) {
        state = client_sqlstate(client, "INSERT INTO big SELECT repeat('x', 1000) "
                                        "FROM generate_series(1, 5000)");
        cr_expect_str_eq(state, "53100", "%s", state);
    }
    client_do(client, "INSERT INTO note VALUES (1)");
    cr_expect(!host_is(scene->proxy, primary, "health", "critical"));
    cr_expect(host_is(scene->proxy, primary, "breaker", "closed"));
    scene_goes_on(scene, 50);
    client_do(direct, "DROP TABLE big");
    client_do(direct, "CHECKPOINT");
    nothing_has_happened(scene);
}
