/* Which environment serves a client, and the URL that says so. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "desk.h"
#include "pgstage/env/route.h"
#include "pgstage/env/url.h"

TestSuite(route, .init = desk_set, .fini = desk_clear);
TestSuite(url, .init = desk_set, .fini = desk_clear);

#define ENVIRONMENTS                                                                               \
    "[environment dev]\nclass = review_apps\nhosts = d\n"                                          \
    "[environment stg]\nclass = review_apps\nhosts = s\nsni = stg.example.com, "                   \
    "*.stg.example.com\n"                                                                          \
    "[environment prd]\nclass = load_testing\nhosts = p\n"

#define DATABASES                                                                                  \
    "[databases]\napp = dbname=all\napp@prd = dbname=special\nreports = environment=prd\n"         \
    "legacy = host=old dbname=legacy\nonly@stg =\n'a@b' = host=lit\n"

/* "environment/dbname", or "!" and the result. */
static const char *found(struct snapshot *snapshot, const char *name, size_t listener,
                         const char *sni)
{
    static char result[128];
    struct route_request request = {.database = name,
                                    .listener = snapshot_listener(snapshot, listener),
                                    .sni = sni,
                                    .user = "u"};
    struct route route;
    enum route_result answer = route_find(snapshot, &request, &route);
    if (answer != ROUTE_FOUND) {
        snprintf(result, sizeof(result), "!%d", answer);
        return result;
    }
    struct effective *effective =
        snapshot_effective(snapshot, route.line, route.database, route.environment, "u");
    snprintf(result, sizeof(result), "%s/%s@%s", route.environment ? route.environment->name : "-",
             effective->dbname, effective->hosts[0].name);
    effective_unref(effective);
    return result;
}

#define NO_DATABASE "!1"
#define AMBIGUOUS "!2"
#define NO_ENVIRONMENT "!3"

Test(route, the_name_asked_for_decides_first)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\ndefault_environment = dev\n" ENVIRONMENTS
                     "[listener l]\nlisten_port = 1\nenvironment = dev\n" DATABASES);
    cr_expect_str_eq(found(snapshot, "app@stg", 1, "prd.example.com"), "stg/all@s");
    cr_expect_str_eq(found(snapshot, "app@prd", 1, NULL), "prd/special@p");
    cr_expect_str_eq(found(snapshot, "app@nowhere", 1, NULL), NO_ENVIRONMENT);
    snapshot_unref(snapshot);
}

Test(route, then_the_listener_then_sni_then_the_line_then_the_default)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\ndefault_environment = dev\n" ENVIRONMENTS
                     "[listener l]\nlisten_port = 1\nenvironment = prd\n" DATABASES);
    cr_expect_str_eq(found(snapshot, "app", 1, "stg.example.com"), "prd/special@p");
    cr_expect_str_eq(found(snapshot, "app", 0, "stg.example.com"), "stg/all@s");
    cr_expect_str_eq(found(snapshot, "app", 0, "X.STG.example.com"), "stg/all@s");
    cr_expect_str_eq(found(snapshot, "app", 0, "x.y.stg.example.com"), "dev/all@d");
    cr_expect_str_eq(found(snapshot, "reports", 0, NULL), "prd/reports@p");
    cr_expect_str_eq(found(snapshot, "app", 0, "unknown.example.com"), "dev/all@d");
    cr_expect_str_eq(found(snapshot, "app", 0, NULL), "dev/all@d");
    snapshot_unref(snapshot);
}

Test(route, a_line_bound_to_one_environment_serves_no_other)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENTS DATABASES "* =\n");
    cr_expect_str_eq(found(snapshot, "reports@dev", 0, NULL), NO_ENVIRONMENT);
    cr_expect_str_eq(found(snapshot, "reports@prd", 0, NULL), "prd/reports@p");
    snapshot_unref(snapshot);
}

Test(route, a_pgbouncer_line_is_in_no_environment)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\ndefault_environment = dev\n" ENVIRONMENTS
                     "[listener l]\nlisten_port = 1\nenvironment = prd\n" DATABASES);
    cr_expect_str_eq(found(snapshot, "legacy", 0, NULL), "-/legacy@old");
    cr_expect_str_eq(found(snapshot, "legacy@prd", 0, NULL), NO_ENVIRONMENT);
    cr_expect_str_eq(found(snapshot, "legacy", 1, NULL), NO_ENVIRONMENT);
    cr_expect_str_eq(found(snapshot, "legacy", 0, "stg.example.com"), NO_ENVIRONMENT);
    snapshot_unref(snapshot);
}

Test(route, without_a_default_the_client_has_to_choose)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENTS DATABASES);
    struct route_request request = {.database = "app"};
    struct route route;
    cr_expect_str_eq(found(snapshot, "app", 0, NULL), AMBIGUOUS);
    cr_expect_str_eq(found(snapshot, "only", 0, NULL), AMBIGUOUS);
    cr_expect_str_eq(found(snapshot, "none", 0, NULL), NO_DATABASE);
    char *text = route_explain(snapshot, &request, route_find(snapshot, &request, &route));
    cr_expect_str_eq(
        text, "database \"app\" needs an environment: connect to one of app@dev, app@stg, app@prd");
    free(text);
    snapshot_unref(snapshot);
}

Test(route, an_unknown_database_is_named_as_pgbouncer_does)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENTS DATABASES);
    struct route_request request = {.database = "none"};
    char *text = route_explain(snapshot, &request, ROUTE_NO_DATABASE);
    cr_expect_str_eq(text, "no such database: none");
    free(text);
    snapshot_unref(snapshot);
}

Test(route, the_more_specific_line_wins_over_the_fallback)
{
    struct snapshot *snapshot =
        desk_accepts("[pgstage]\ndefault_environment = dev\n" ENVIRONMENTS
                     "[databases]\n* = dbname=any\n*@prd = dbname=anyprd\napp = dbname=all\n"
                     "app@prd = dbname=special\nonly@stg =\n");
    cr_expect_str_eq(found(snapshot, "app", 0, NULL), "dev/all@d");
    cr_expect_str_eq(found(snapshot, "app@prd", 0, NULL), "prd/special@p");
    cr_expect_str_eq(found(snapshot, "other@prd", 0, NULL), "prd/anyprd@p");
    cr_expect_str_eq(found(snapshot, "other", 0, NULL), "dev/any@d");
    cr_expect_str_eq(found(snapshot, "only@stg", 0, NULL), "stg/only@s");
    snapshot_unref(snapshot);
}

Test(route, a_quoted_name_may_hold_an_at_sign)
{
    struct snapshot *snapshot = desk_accepts(ENVIRONMENTS DATABASES);
    cr_expect_str_eq(found(snapshot, "a@b", 0, NULL), "-/a@b@lit");
    snapshot_unref(snapshot);
}

Test(route, without_environments_everything_is_pgbouncer_style)
{
    struct snapshot *snapshot = desk_accepts("[databases]\na =\nb = host=h\n* = host=any\n");
    cr_expect_str_eq(found(snapshot, "a", 0, NULL), "-/a@/tmp");
    cr_expect_str_eq(found(snapshot, "b", 0, NULL), "-/b@h");
    cr_expect_str_eq(found(snapshot, "zzz", 0, NULL), "-/zzz@any");
    snapshot_unref(snapshot);
}

Test(route, odd_names_are_refused)
{
    char name[400];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct snapshot *snapshot = desk_accepts(ENVIRONMENTS "[databases]\n* =\n");
    cr_expect_str_eq(found(snapshot, "", 0, NULL), NO_DATABASE);
    cr_expect_str_eq(found(snapshot, name, 0, NULL), NO_DATABASE);
    cr_expect_str_eq(found(snapshot, "@", 0, NULL), NO_ENVIRONMENT);
    cr_expect_str_eq(found(snapshot, "a@", 0, NULL), NO_ENVIRONMENT);
    snapshot_unref(snapshot);
}

static const char *url(struct snapshot *snapshot, const char *name)
{
    static char result[512];
    char problem[512];
    char *text = url_print(snapshot, name, problem, sizeof(problem));
    snprintf(result, sizeof(result), "%s", text ? text : problem);
    free(text);
    return result;
}

Test(url, names_the_listener_and_the_environment)
{
    struct snapshot *snapshot = desk_accepts(
        "[pgstage]\nlisten_addr = 127.0.0.1, ::1\nlisten_port = 7000\n"
        "default_environment = dev\n" ENVIRONMENTS
        "[listener l]\nlisten_addr = ::1\nlisten_port = 7001\nenvironment = stg\n" DATABASES
        "'my db' =\n");
    cr_expect_str_eq(url(snapshot, "app"), "postgresql://127.0.0.1:7000/app?sslmode=disable");
    cr_expect_str_eq(url(snapshot, "app@prd"),
                     "postgresql://127.0.0.1:7000/app%40prd?sslmode=disable");
    cr_expect_str_eq(url(snapshot, "app@stg"), "postgresql://[::1]:7001/app?sslmode=disable");
    cr_expect_str_eq(url(snapshot, "my db"), "postgresql://127.0.0.1:7000/my%20db?sslmode=disable");
    cr_expect_str_eq(url(snapshot, "none"), "no such database: none");
    snapshot_unref(snapshot);
}

Test(url, names_the_socket_when_there_is_no_address)
{
    struct snapshot *snapshot = desk_accepts("[databases]\na = host=h\n");
    cr_expect_str_eq(url(snapshot, "a"), "postgresql:///a?host=%2Ftmp&port=6432");
    snapshot_unref(snapshot);
}
