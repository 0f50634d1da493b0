/*
 * desk: what the tests of the configuration have in common.
 */
#include "desk.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/text.h"
#include "pgstage/conf/show.h"
#include "pgstage/env/route.h"

struct report desk_report;
static char folder[64], shown[8192];

void desk_set(void)
{
    text_fit(folder, sizeof(folder), "/tmp/pgstage-conf-XXXXXX");
    cr_assert(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

void desk_clear(void)
{
    char command[128];
    report_fini(&desk_report);
    cr_assert_eq(chdir("/"), 0);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    cr_assert_eq(system(command), 0);
}

const char *desk_path(const char *name)
{
    snprintf(shown, sizeof(shown), "%s/%s", folder, name);
    return shown;
}

void desk_write(const char *path, const char *text)
{
    char *copy = text_copy(path);
    for (char *slash = copy; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        (void)mkdir(copy, 0700);
        *slash = '/';
    }
    int fd = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(fd >= 0, "%s", copy);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    free(copy);
}

struct snapshot *desk_load(const char *text)
{
    report_fini(&desk_report);
    if (text)
        desk_write("pgstage.ini", text);
    char *path = text_copy(desk_path("pgstage.ini"));
    struct snapshot *snapshot = snapshot_load(path, false, &desk_report);
    free(path);
    return snapshot;
}

bool desk_said(int line, const char *words)
{
    for (size_t i = 0; i < desk_report.count; i++)
        if ((!line || desk_report.entries[i].line == line) &&
            strstr(desk_report.entries[i].text, words))
            return true;
    return false;
}

static void desk_tell(void)
{
    for (size_t i = 0; i < desk_report.count; i++) {
        char *line = report_line(&desk_report.entries[i]);
        fprintf(stderr, "    %s\n", line);
        free(line);
    }
}

void desk_refuses(const char *text, int line, const char *words)
{
    struct snapshot *snapshot = desk_load(text);
    bool said = desk_said(line, words);
    if (snapshot || !said)
        desk_tell();
    cr_assert_null(snapshot, "was accepted");
    cr_assert(said, "did not say \"%s\" at line %d", words, line);
}

struct snapshot *desk_accepts(const char *text)
{
    struct snapshot *snapshot = desk_load(text);
    if (!snapshot)
        desk_tell();
    cr_assert(snapshot, "was refused");
    return snapshot;
}

struct effective *desk_effective(struct snapshot *snapshot, const char *name, const char *user)
{
    struct route_request request = {.database = name, .user = user};
    struct route route;
    enum route_result result = route_find(snapshot, &request, &route);
    cr_assert_eq(result, ROUTE_FOUND, "%s: %d", name, result);
    return snapshot_effective(snapshot, route.line, route.database, route.environment, user);
}

static const char *desk_row(const struct snapshot *snapshot, const char *environment,
                            const char *key, bool origin)
{
    struct config_row row = {0};
    shown[0] = '\0';
    const struct environment_config *own =
        environment ? snapshot_find_environment(snapshot, environment) : NULL;
    while (config_row_next(snapshot, NULL, own, &row))
        if (strcmp(row.key, key) == 0)
            text_fit(shown, sizeof(shown), origin ? row.origin : row.value);
    return shown;
}

const char *desk_origin(const struct snapshot *snapshot, const char *environment, const char *key)
{
    return desk_row(snapshot, environment, key, true);
}

const char *desk_value(const struct snapshot *snapshot, const char *environment, const char *key)
{
    return desk_row(snapshot, environment, key, false);
}
