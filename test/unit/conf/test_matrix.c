/*
 * The floor of the production classes as a matrix: each rule × each option × each place that could
 * break it × each way in which the value can get there. Every cell is refused, at its line, with
 * the rule's name and what to write.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "desk.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/option.h"
#include "pgstage/conf/rule.h"

TestSuite(matrix, .init = desk_set, .fini = desk_clear);

/* Where a value stands. `p` is a production environment, `d` another one. */
enum place {
    GLOBAL,       /* [pgstage] */
    ENVIRONMENT,  /* [environment p] */
    OTHER,        /* [environment d] */
    LISTENER,     /* [listener l], which stands for p */
    LINE_IN,      /* a@p */
    LINE_NAMES,   /* a = environment=p */
    LINE_ANY,     /* a */
    LINE_STAR,    /* * */
    LINE_STAR_IN, /* *@p */
    LINE_OTHER,   /* a@d */
    PEER,         /* [peers] */
    PLACES,
};

static const struct {
    const char *section, *lead; /* lead: the line's beginning; NULL: option = value */
    const char *variable;       /* the beginning of a variable's name; NULL: none leads there */
} places[PLACES] = {
    [GLOBAL] = {"[pgstage]", NULL, "PGSTAGE__"},
    [ENVIRONMENT] = {"[environment p]", NULL, "PGSTAGE__P__"},
    [OTHER] = {"[environment d]", NULL, "PGSTAGE__D__"},
    [LISTENER] = {"[listener l]", NULL, NULL},
    [LINE_IN] = {"[databases]", "a@p =", NULL},
    [LINE_NAMES] = {"[databases]", "a = environment=p", NULL},
    [LINE_ANY] = {"[databases]", "a =", NULL},
    [LINE_STAR] = {"[databases]", "* =", NULL},
    [LINE_STAR_IN] = {"[databases]", "*@p =", NULL},
    [LINE_OTHER] = {"[databases]", "a@d =", NULL},
    [PEER] = {"[peers]", "1 =", NULL},
};

/* How it gets there. */
enum way {
    WAY_FILE = 1,       /* the main file */
    WAY_INCLUDE = 2,    /* %include */
    WAY_FOLDER = 4,     /* pgstage.d */
    WAY_LOCAL = 8,      /* pgstage.local.ini */
    WAY_REFERENCE = 16, /* ${V} in the main file */
    WAY_VARIABLE = 32,  /* PGSTAGE__… */
    WAY_SET = 64,       /* SET on the console */
    WAY_DEFAULT = 128,  /* ${NOPE:-value} in the main file */
    WAY_PART = 256,     /* value${EMPTY} in the main file */
    IN_FILES = WAY_FILE | WAY_INCLUDE | WAY_FOLDER | WAY_LOCAL,
    ANYHOW = IN_FILES | WAY_REFERENCE | WAY_VARIABLE | WAY_SET | WAY_DEFAULT,
    LITERALLY = IN_FILES | WAY_DEFAULT | WAY_PART,
};

#define AT(place) (1u << (place))
#define LINES_OF_P (AT(LINE_IN) | AT(LINE_NAMES) | AT(LINE_ANY) | AT(LINE_STAR) | AT(LINE_STAR_IN))
#define ELSEWHERE (AT(LINE_ANY) | AT(LINE_STAR) | AT(LINE_OTHER))

static const struct row {
    enum rule_id rule;
    const char *option, *value;
    unsigned places;
    int ways;
} rows[] = {
    {RULE_TLS, "server_tls_sslmode", "disable", AT(ENVIRONMENT) | LINES_OF_P, ANYHOW},
    {RULE_TLS, "server_tls_sslmode", "allow", AT(ENVIRONMENT) | LINES_OF_P, WAY_FILE},
    {RULE_TLS, "server_tls_sslmode", "prefer", AT(ENVIRONMENT) | LINES_OF_P, WAY_FILE},
    {RULE_TLS, "server_tls_sslmode", "require", AT(ENVIRONMENT) | LINES_OF_P, ANYHOW},
    {RULE_TLS, "server_tls_sslmode", "verify-ca", AT(ENVIRONMENT) | LINES_OF_P, ANYHOW},
    {RULE_CA, "server_tls_ca_file", "", AT(ENVIRONMENT) | LINES_OF_P, IN_FILES},
    {RULE_TLS_VERSION, "server_tls_protocols", "all", AT(GLOBAL) | AT(ENVIRONMENT) | LINES_OF_P,
     ANYHOW},
    {RULE_TLS_VERSION, "server_tls_protocols", "tlsv1.2,tlsv1.1",
     AT(GLOBAL) | AT(ENVIRONMENT) | LINES_OF_P, WAY_FILE},
    {RULE_TLS_VERSION, "client_tls_protocols", "legacy", AT(GLOBAL) | AT(LISTENER), ANYHOW},
    {RULE_TLS_VERSION, "client_tls_protocols", "tlsv1.0", AT(GLOBAL) | AT(LISTENER), WAY_FILE},
    {RULE_CIPHERS, "server_tls_ciphers", "eNULL:@SECLEVEL=0",
     AT(GLOBAL) | AT(ENVIRONMENT) | LINES_OF_P, ANYHOW},
    {RULE_CIPHERS, "server_tls_ciphers", "aNULL", AT(ENVIRONMENT), WAY_FILE},
    {RULE_CIPHERS, "server_tls_ciphers", "insecure", AT(ENVIRONMENT), WAY_FILE},
    {RULE_CIPHERS, "client_tls_ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0",
     AT(GLOBAL) | AT(LISTENER), ANYHOW},
    {RULE_CLIENT_TLS, "client_tls_sslmode", "disable", AT(GLOBAL) | AT(ENVIRONMENT) | AT(LISTENER),
     ANYHOW},
    {RULE_CLIENT_TLS, "client_tls_sslmode", "allow", AT(ENVIRONMENT) | AT(LISTENER), WAY_FILE},
    {RULE_CLIENT_TLS, "client_tls_sslmode", "prefer", AT(ENVIRONMENT) | AT(LISTENER), ANYHOW},
    {RULE_LOGIN, "auth_type", "trust", AT(GLOBAL) | AT(ENVIRONMENT), ANYHOW},
    {RULE_LOGIN, "auth_type", "any", AT(GLOBAL) | AT(ENVIRONMENT), ANYHOW},
    {RULE_LOGIN, "auth_type", "plain", AT(GLOBAL) | AT(ENVIRONMENT), ANYHOW},
    {RULE_LOGIN, "auth_type", "md5", AT(GLOBAL) | AT(ENVIRONMENT), ANYHOW},
    {RULE_HBA, "auth_hba_file", "weak", AT(GLOBAL) | AT(ENVIRONMENT), ANYHOW},
    {RULE_SECRET, "password", "hunter2", AT(ENVIRONMENT) | LINES_OF_P, LITERALLY},
    {RULE_SECRET, "monitor_password", "hunter2", AT(ENVIRONMENT), LITERALLY},
    {RULE_SECRET, "failover_password", "hunter2", AT(ENVIRONMENT), LITERALLY},
    {RULE_SECRET, "auth_ldap_options", "ldapbindpasswd=x", AT(GLOBAL), LITERALLY | WAY_SET},
    {RULE_FILE, "password_file", "loose", AT(ENVIRONMENT) | LINES_OF_P, ANYHOW},
    {RULE_FILE, "password_file", "link", AT(ENVIRONMENT) | LINES_OF_P, WAY_FILE},
    {RULE_FILE, "monitor_password_file", "link", AT(ENVIRONMENT), ANYHOW},
    {RULE_FILE, "failover_password_file", "link", AT(ENVIRONMENT), ANYHOW},
    {RULE_FILE, "server_tls_key_file", "loose", AT(GLOBAL) | AT(ENVIRONMENT) | LINES_OF_P,
     ANYHOW & ~WAY_SET}, /* a key alone cannot be set */
    {RULE_FILE, "server_tls_key_file", "link", AT(GLOBAL) | AT(ENVIRONMENT), WAY_FILE},
    {RULE_FILE, "client_tls_key_file", "loose", AT(GLOBAL) | AT(ENVIRONMENT) | AT(LISTENER),
     ANYHOW},
    {RULE_FILE, "auth_file", "link", AT(GLOBAL), ANYHOW},
    {RULE_SOCKET, "hosts", "/run/postgresql", AT(ENVIRONMENT), ANYHOW},
    {RULE_SOCKET, "dr_hosts", "@abstract", AT(ENVIRONMENT), ANYHOW},
    {RULE_SOCKET, "host", "/run/postgresql", AT(LINE_IN) | AT(LINE_NAMES) | AT(LINE_STAR_IN),
     ANYHOW},
    {RULE_PEERS, "host", "10.0.0.9", AT(PEER), ANYHOW},
    {RULE_PEERS, "host", "peer.example.com", AT(PEER), WAY_FILE},
    {RULE_PEERS, "host", "127.0.0.1.example.com", AT(PEER), WAY_FILE},
    {RULE_HOST, "hosts", "y, h1", AT(OTHER), ANYHOW},
    {RULE_HOST, "hosts", "H1.", AT(OTHER), WAY_FILE},
    {RULE_HOST, "hosts", "other@h1", AT(OTHER), WAY_FILE},
    {RULE_HOST, "hosts", "other@10.0.0.2:5433", AT(OTHER), ANYHOW},
    {RULE_HOST, "hosts", "h2:5433", AT(OTHER), WAY_FILE},
    {RULE_HOST, "hosts", "10.0.2:5433", AT(OTHER), WAY_FILE},
    {RULE_HOST, "hosts", "0x0a000002:5433", AT(OTHER), WAY_FILE},
    {RULE_HOST, "hosts", "[::ffff:10.0.0.2]:5433", AT(OTHER), WAY_FILE},
    {RULE_HOST, "hosts", "h9", AT(OTHER), WAY_FILE}, /* of a line in p */
    {RULE_HOST, "dr_hosts", "h1", AT(OTHER), ANYHOW},
    {RULE_HOST, "host", "h1", ELSEWHERE, ANYHOW},
    {RULE_HOST, "host", "h2:5433", ELSEWHERE, WAY_FILE},
    {RULE_HOST, "host", "x, 10.0.0.2:5433", ELSEWHERE, ANYHOW},
};

/* One cell. */
struct cell {
    const struct row *row;
    enum place place;
    enum way way;
    char text[256];   /* the line as it stands in a file */
    const char *name; /* of the file where it stands; NULL: in none */
    int line;         /* there */
    char variable[64], main_text[2048];
};

static void write_line(struct cell *cell)
{
    const struct row *row = cell->row;
    const char *lead = places[cell->place].lead;
    char value[128];
    if (cell->way == WAY_REFERENCE) {
        setenv("V", row->value, 1);
        text_fit(value, sizeof(value), "${V}");
    } else {
        snprintf(value, sizeof(value),
                 cell->way == WAY_DEFAULT ? "${NOPE:-%s}"
                 : cell->way == WAY_PART  ? "%s${EMPTY}"
                                          : "%s",
                 row->value);
    }
    if (lead)
        snprintf(cell->text, sizeof(cell->text), "%s %s='%s'", lead, row->option, value);
    else
        snprintf(cell->text, sizeof(cell->text), "%s = %s", row->option, value);
}

/* The main file, with `more` at its end. */
static void write_main(struct cell *cell, const char *more)
{
    bool own_pair = strcmp(cell->row->option, "server_tls_key_file") == 0;
    bool hba = strcmp(cell->row->option, "auth_hba_file") == 0;
    snprintf(cell->main_text, sizeof(cell->main_text),
             "[pgstage]\n"
             "%s\n"
             "%s\n"
             "audit_log = audit\nstate_dir = state\n"
             "[environment p]\n"
             "class = production\n"
             "hosts = h1, h2@10.0.0.2:5433\n"
             "server_tls_ca_file = system\n"
             "monitor_user = m\n"
             "[environment d]\n"
             "class = review_apps\n"
             "hosts = x\n"
             "[listener l]\n"
             "listen_addr = 0.0.0.0\n"
             "listen_port = 7000\n"
             "environment = p\n"
             "[databases]\n"
             "extra@p = host=h9\n"
             "%s",
             hba ? "auth_type = hba" : "auth_type = scram-sha-256",
             own_pair ? "server_tls_cert_file = loose"
             : hba    ? "auth_hba_file = strong"
                      : "",
             more);
}

static void arrange(struct cell *cell)
{
    const char *section = places[cell->place].section;
    char more[512] = "";
    cell->name = "pgstage.ini";
    cell->line = 21;
    write_line(cell);
    switch (cell->way) {
    case WAY_INCLUDE:
    case WAY_FOLDER:
    case WAY_LOCAL:
        cell->name = cell->way == WAY_INCLUDE  ? "more.ini"
                     : cell->way == WAY_FOLDER ? "pgstage.d/50.ini"
                                               : "pgstage.local.ini";
        cell->line = 2;
        snprintf(more, sizeof(more), "%s\n%s\n", section, cell->text);
        desk_write(cell->name, more);
        text_fit(more, sizeof(more), cell->way == WAY_INCLUDE ? "%include more.ini\n" : "");
        break;
    case WAY_VARIABLE:
        snprintf(cell->variable, sizeof(cell->variable), "%s%s", places[cell->place].variable,
                 cell->row->option);
        for (char *at = cell->variable; *at; at++)
            *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 32) : *at;
        setenv(cell->variable, cell->row->value, 1);
        cell->name = NULL;
        break;
    case WAY_SET:
        cell->name = NULL;
        break;
    default:
        snprintf(more, sizeof(more), "%s\n%s\n", section, cell->text);
    }
    write_main(cell, more);
    if (cell->row->rule == RULE_HBA) { /* told at the line that breaks it */
        cell->name = "weak";
        cell->line = 1;
    }
}

static void tidy(const struct cell *cell)
{
    unlink("more.ini");
    unlink("pgstage.d/50.ini");
    unlink("pgstage.local.ini");
    unsetenv("V");
    if (*cell->variable)
        unsetenv(cell->variable);
}

/* The entry of the cell's rule at the cell's place; NULL: there is none. */
static const struct report_entry *find_entry(const struct cell *cell)
{
    const char *rule = rule_at(cell->row->rule)->name;
    for (size_t i = 0; i < desk_report.count; i++) {
        const struct report_entry *entry = &desk_report.entries[i];
        size_t length = cell->name ? strlen(cell->name) : 0;
        if (!text_equal(entry->rule, rule) || !entry->is_error)
            continue;
        if (!cell->name && !entry->file && !entry->line)
            return entry;
        if (cell->name && entry->file && strlen(entry->file) >= length &&
            strcmp(entry->file + strlen(entry->file) - length, cell->name) == 0 &&
            entry->line == cell->line)
            return entry;
    }
    return NULL;
}

static void tell(const struct cell *cell)
{
    fprintf(stderr, "%s in %s, way %d: %s\n", rule_at(cell->row->rule)->name,
            places[cell->place].section, cell->way, cell->text);
    for (size_t i = 0; i < desk_report.count; i++) {
        char *line = report_line(&desk_report.entries[i]);
        fprintf(stderr, "    %s\n", line);
        free(line);
    }
}

static bool is_refused(struct cell *cell)
{
    const struct rule *rule = rule_at(cell->row->rule);
    char tag[64],
        *advice = rule_advice(rule, cell->row->rule == RULE_SOCKET ? NULL : cell->row->option);
    snprintf(tag, sizeof(tag), " [%s]", rule->name);
    struct snapshot *snapshot = desk_load(cell->main_text), *set = NULL;
    bool loaded = snapshot != NULL;
    if (cell->way == WAY_SET && loaded) {
        report_fini(&desk_report);
        set = snapshot_set(snapshot, cell->row->option, cell->row->value, &desk_report);
        loaded = set != NULL;
    }
    const struct report_entry *entry = find_entry(cell);
    const char *from = cell->row->rule == RULE_HBA ? "md5"
                       : cell->way == WAY_SET      ? "SET: "
                       : cell->way == WAY_VARIABLE ? cell->variable
                                                   : "";
    bool good = !loaded && entry && strstr(entry->text, tag) && strstr(entry->text, rule->holds) &&
                strstr(entry->text, advice) && strstr(entry->text, from);
    snapshot_unref(set);
    snapshot_unref(snapshot);
    free(advice);
    return good;
}

/* Does this way lead to this place? */
static bool leads(const struct row *row, enum place place, enum way way)
{
    const struct option *option = option_find(SCOPE_GLOBAL, row->option);
    if (!(row->places & AT(place)) || !(row->ways & way))
        return false;
    if (way == WAY_VARIABLE)
        return places[place].variable != NULL;
    if (way == WAY_SET)
        return place == GLOBAL && option && option->reload != RELOAD_RESTART;
    return true;
}

static void make_files(void)
{
    desk_write("loose", "secret\n");
    desk_write("weak", "host all all all md5\n");
    desk_write("strong", "host all all all scram-sha-256\n");
    cr_assert_eq(chmod("loose", 0644), 0);
    cr_assert_eq(symlink("loose", "link"), 0);
    setenv("EMPTY", "", 1);
}

Test(matrix, its_base_keeps_every_rule)
{
    static const struct row none = {.option = ""};
    struct cell cell = {.row = &none};
    write_main(&cell, "");
    snapshot_unref(desk_accepts(cell.main_text));
    cr_expect_eq(desk_report.count, 0);
}

Test(matrix, no_layer_gets_below_the_floor, .timeout = 300)
{
    size_t cells = 0, rules[RULE_COUNT] = {0};
    make_files();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (enum place place = 0; place < PLACES; place++) {
            for (int way = WAY_FILE; way <= WAY_PART; way <<= 1) {
                struct cell cell = {.row = &rows[i], .place = place, .way = (enum way)way};
                if (!leads(cell.row, place, cell.way))
                    continue;
                arrange(&cell);
                bool refused = is_refused(&cell);
                if (!refused)
                    tell(&cell);
                cr_expect(refused, "row %zu, place %d, way %d", i, (int)place, way);
                tidy(&cell);
                cells++;
                rules[cell.row->rule]++;
            }
        }
    }
    cr_expect_geq(cells, 80);
    for (size_t i = 0; i < RULE_COUNT; i++)
        cr_expect_gt(rules[i], 0, "nothing breaks %s", rule_at((enum rule_id)i)->name);
}

/* What the floor is about cannot be said for a user at all. */
Test(matrix, a_user_line_has_no_way_to_say_it)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "[users]\nu = %s='%s'\n", rows[i].option, rows[i].value);
        desk_refuses(text, 2, "does not belong into [users]");
    }
}

Test(matrix, a_wider_scope_does_not_reach_below_the_class)
{
    struct cell cell = {.row = &rows[0]};
    write_main(&cell, "[pgstage]\nserver_tls_sslmode = disable\n");
    struct snapshot *snapshot = desk_accepts(cell.main_text);
    cr_expect_str_eq(desk_value(snapshot, "p", "server_tls_sslmode"), "verify-full");
    report_fini(&desk_report);
    struct snapshot *set = snapshot_set(snapshot, "server_tls_sslmode", "prefer", &desk_report);
    cr_assert(set);
    cr_expect_str_eq(desk_value(set, "p", "server_tls_sslmode"), "verify-full");
    snapshot_unref(set);
    snapshot_unref(snapshot);
}
