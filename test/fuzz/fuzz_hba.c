/*
 * fuzz_hba: HBA rules and maps of user names. The first byte chooses; then the file, a NUL, and the
 * login that is asked about (user, database, environment, separated by newlines).
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/conf/hba.h"
#include "promise.h"

static void ask_rules(const struct hba *hba, char *words)
{
    char *rest = NULL;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000005)};
    const char *user = strtok_r(words, "\n", &rest), *database = strtok_r(NULL, "\n", &rest);

    for (int i = 0; i < 8; i++) {
        struct hba_login login = {
            .user = user ? user : "",
            .database = database ? database : "",
            .environment = i & 1 ? rest : NULL,
            .is_local = i & 2,
            .has_tls = i & 4,
            .address = (struct sockaddr *)&address,
        };
        struct hba_verdict verdict, again;
        bool found = hba_find(hba, &login, &verdict);

        promise(found == hba_find(hba, &login, &again));
        promise(!found || (verdict.line > 0 && verdict.line == again.line));
        promise(!found || verdict.method != AUTH_PEER || login.is_local);
        promise(!found || verdict.method != AUTH_CERT || login.has_tls);
    }
}

static void ask_maps(const struct ident *ident, char *words)
{
    char *rest = NULL;
    const char *map = strtok_r(words, "\n", &rest), *name = strtok_r(NULL, "\n", &rest);

    if (!map || !name || !rest)
        return;
    promise(!ident_allows(ident, map, name, rest) || ident_has_map(ident, map));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct report report = {0};
    const uint8_t *end = size > 1 ? memchr(data + 1, 0, size - 1) : NULL;
    size_t length = end ? (size_t)(end - data) - 1 : size ? size - 1 : 0;
    char *words = end ? text_copy_n((const char *)end + 1, size - length - 2) : text_copy("");

    if (size && data[0] & 1) {
        struct ident *ident = ident_parse("fuzz", (const char *)data + 1, length, &report);

        promise((ident != NULL) == (report.errors == 0));
        if (ident)
            ask_maps(ident, words);
        ident_free(ident);
    } else if (size) {
        struct hba *hba = hba_parse("fuzz", (const char *)data + 1, length, &report);

        promise((hba != NULL) == (report.errors == 0));
        if (hba)
            ask_rules(hba, words);
        hba_free(hba);
    }
    for (size_t i = 0; i < report.count; i++)
        promise(report.entries[i].line > 0);
    report_fini(&report);
    free(words);
    return 0;
}
