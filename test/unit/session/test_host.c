/* Records of hosts: labels, standings, and names with several addresses. */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/session/host.h"
#include "pgstage/session/plane.h"

static struct hosts *hosts;
static const struct host_config config = {"pg.example", NULL, 5432};
static const char *gone[8];
static size_t gone_count;

static void set_up(void)
{
    hosts = hosts_new();
    gone_count = 0;
}

static void tear_down(void)
{
    hosts_free(hosts);
}

TestSuite(host, .init = set_up, .fini = tear_down);

static void on_gone(void *argument, struct host *part)
{
    (void)argument;
    gone[gone_count++] = host_label(part);
}

static void split(struct host *host, const char *first, const char *second)
{
    const char *addresses[] = {first, second};

    gone_count = 0;
    hosts_split(hosts, host, addresses, (size_t)(first != NULL) + (second != NULL), on_gone, NULL);
}

Test(host, is_found_by_its_label_and_environment)
{
    struct host *host = hosts_get(hosts, "e", &config);
    struct host_config numeric = {"pg.example", "10.0.0.3", 5433};

    cr_assert_str_eq(host_label(host), "pg.example:5432");
    cr_assert_eq(hosts_get(hosts, "e", &config), host);
    cr_assert_eq(hosts_find(hosts, "e", "pg.example:5432"), host);
    cr_assert_null(hosts_find(hosts, "f", "pg.example:5432"));
    cr_assert_neq(hosts_get(hosts, NULL, &config), host);
    cr_assert_str_eq(host_label(hosts_get(hosts, "e", &numeric)), "pg.example@10.0.0.3:5433");
}

Test(host, keeps_its_standing)
{
    struct host *host = hosts_get(hosts, "e", &config);
    struct standing standing = {ALLOW_YES, ALLOW_NO, true, true, 0, 0};
    struct standing read = host_standing(host);

    cr_assert_eq(read.write, ALLOW_UNKNOWN);
    cr_assert(!read.breaker_open);
    cr_assert(host_set_standing(host, &standing));
    cr_assert(!host_set_standing(host, &standing), "the same is no news");
    read = host_standing(host);
    cr_assert_eq(read.write, ALLOW_YES);
    cr_assert_eq(read.standby, ALLOW_NO);
    cr_assert(read.read_only && read.breaker_open);
}

Test(host, keeps_what_a_connection_must_find_there)
{
    struct host *host = hosts_get(hosts, "e", &config);
    struct standing standing = {.write = ALLOW_YES, .system_identifier = 7, .timeline = 2};

    cr_assert_eq(host_identity(host).system_identifier, 0);
    cr_assert(host_set_standing(host, &standing));
    cr_assert_eq(host_identity(host).system_identifier, 7);
    cr_assert_eq(host_identity(host).timeline, 2);
    cr_assert(!host_set_standing(host, &standing), "the same is no news");
    standing.timeline = 3;
    cr_assert(host_set_standing(host, &standing));
    standing.system_identifier = 8;
    cr_assert(host_set_standing(host, &standing));
    cr_assert_eq(host_identity(host).timeline, 3);
}

Test(host, with_several_addresses_is_several)
{
    struct host *host = hosts_get(hosts, "e", &config), *parts[4];
    struct standing standing = {.write = ALLOW_YES};

    cr_assert_eq(host_use_parts(host, parts, 4), 1);
    cr_assert_eq(parts[0], host);
    host_unuse(host);
    split(host, "10.0.0.1", "10.0.0.2");
    cr_assert_eq(gone_count, 1, "connections by the bare name may be to either");
    cr_assert_eq(host_use_parts(host, parts, 4), 2);
    cr_assert_str_eq(host_label(parts[0]), "pg.example@10.0.0.1:5432");
    cr_assert_str_eq(host_address_text(parts[1]), "10.0.0.2");
    cr_assert(host_set_standing(parts[1], &standing));
    host_unuse(parts[0]);
    /* the second is in use, and goes later than the first */
    split(host, "10.0.0.3", "10.0.0.4");
    cr_assert_eq(gone_count, 2);
    cr_assert_null(hosts_find(hosts, "e", "pg.example@10.0.0.1:5432"));
    cr_assert_eq(hosts_find(hosts, "e", "pg.example@10.0.0.2:5432"), parts[1]);
    host_unuse(parts[1]);
    split(host, "10.0.0.3", "10.0.0.4");
    cr_assert_eq(gone_count, 0);
    cr_assert_null(hosts_find(hosts, "e", "pg.example@10.0.0.2:5432"));
    split(host, "10.0.0.3", NULL);
    cr_assert_eq(gone_count, 2);
    cr_assert_eq(host_use_parts(host, parts, 4), 1);
    cr_assert_eq(parts[0], host);
    host_unuse(host);
    cr_assert_null(hosts_find(hosts, "e", "pg.example@10.0.0.4:5432"));
}

Test(host, whose_address_changes_is_another_one)
{
    struct host *host = hosts_get(hosts, "e", &config);
    struct standing standing = {.write = ALLOW_YES};

    split(host, NULL, NULL);
    split(host, "10.0.0.1", NULL);
    cr_assert_eq(gone_count, 0, "its first address");
    host_set_standing(host, &standing);
    split(host, "10.0.0.1", NULL);
    cr_assert_eq(gone_count, 0);
    cr_assert_eq(host_standing(host).write, ALLOW_YES);
    split(host, "10.0.0.2", NULL);
    cr_assert_eq(gone_count, 1);
    cr_assert_eq(host_standing(host).write, ALLOW_UNKNOWN, "nothing has been said of this one");
}

Test(host, that_the_configuration_names_is_never_freed)
{
    struct host *host = hosts_get(hosts, "e", &config);
    struct host_config same = {"pg.example", "10.0.0.1", 5432};
    struct host *named = hosts_get(hosts, "e", &same);

    split(host, "10.0.0.1", "10.0.0.2");
    split(host, "10.0.0.3", "10.0.0.4");
    cr_assert_eq(hosts_find(hosts, "e", "pg.example@10.0.0.1:5432"), named);
}

Test(host, trouble_is_told_once_in_a_while)
{
    struct host *host = hosts_get(hosts, "e", &config);

    cr_assert(host_saw_trouble(host, 1000, 100));
    cr_assert(!host_saw_trouble(host, 1099, 100));
    cr_assert(host_saw_trouble(host, 1100, 100));
    cr_assert(host_saw_role(host, true, 1000000, 500000));
    cr_assert(!host_saw_role(host, true, 1400000, 500000));
    cr_assert(host_saw_role(host, false, 1400001, 500000), "another role is news");
    cr_assert(!host_saw_role(host, true, 1400002, 500000), "but not every time");
    cr_assert(!host_saw_role(host, false, 1500001, 500000));
    cr_assert(host_saw_role(host, true, 1500001, 500000));
    cr_assert(host_saw_role(host, true, 2000001, 500000));
}

Test(host, that_refuses_is_left_alone_for_a_moment_whatever_the_option_says)
{
    struct host *host = hosts_get(hosts, "e", &config);
    uint64_t now_us = 1000000;

    for (int i = 0; i < 3; i++) {
        uint64_t retry_at_us = host_failed(host, now_us, 0, "refused");

        cr_assert_eq(retry_at_us, now_us + SERVER_LEAST_PAUSE_US);
        now_us = retry_at_us;
    }
    cr_assert_eq(host_failed(host, now_us, 300000, "refused"), now_us + 200000);
}

Test(host, is_forgiven_when_somebody_knows_better)
{
    struct host *host = hosts_get(hosts, "e", &config);

    cr_assert_gt(host_failed(host, 1000, 1000000, "no"), 1000);
    host_is_misfit(host, true, 5000);
    cr_assert_eq(host_misfit_until(host, true), 5000);
    cr_assert_eq(host_misfit_until(host, false), 0);
    host_forgive(host);
    cr_assert_eq(host_retry_at(host), 0);
    cr_assert_eq(host_misfit_until(host, true), 0);
}
