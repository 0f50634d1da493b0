/*
 * fuzz_ini: the whole loader of configurations, from a text in memory: grammar, options, layers,
 * validation, printing, routing. Reads no file and no variable but what the text names.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/check.h"
#include "pgstage/conf/show.h"
#include "pgstage/conf/snapshot.h"
#include "pgstage/env/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void route_some(struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot_database_count(snapshot) && i < 8; i++) {
        const struct database_config *line = snapshot_database(snapshot, i);
        struct route_request request = {.database = line->name,
                                        .listener = snapshot_listener(snapshot, 0),
                                        .sni = "x.y",
                                        .user = "u"};
        struct route route;
        enum route_result result = route_find(snapshot, &request, &route);
        if (result == ROUTE_FOUND) {
            struct effective *effective = snapshot_effective(snapshot, route.line, route.database,
                                                             route.environment, request.user);
            check(effective_same_servers(effective, effective));
            effective_unref(effective);
        }
        free(route_explain(snapshot, &request, result));
    }
}

/* What was accepted prints as something that is accepted. */
static void print_and_read_back(struct snapshot *snapshot)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    struct report report = {0};
    config_print(snapshot, NULL, stream);
    fclose(stream);
    struct snapshot *again = snapshot_parse("again", text, length, &report);
    check(again);
    check(snapshot_database_count(again) == snapshot_database_count(snapshot));
    check(snapshot_environment_count(again) == snapshot_environment_count(snapshot));
    snapshot_unref(again);
    report_fini(&report);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct report report = {0};
    struct snapshot *snapshot = snapshot_parse("fuzz", (const char *)data, size, &report);
    check((snapshot != NULL) == (report.errors == 0));
    for (size_t i = 0; i < report.count; i++)
        free(report_line(&report.entries[i]));
    if (snapshot) {
        route_some(snapshot);
        print_and_read_back(snapshot);
        snapshot_unref(snapshot);
    }
    report_fini(&report);
    return 0;
}
