/*
 * The monitor on a loop of the test's, with a name service of the test's and servers that only
 * answer a request for TLS: which hosts there are, when they are probed, and what is told of them.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/text.h"
#include "pgstage/health/monitor.h"

/* ---- the name service: what `pg.test` means ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *means[4];

static struct addrinfo *entry(const char *text, struct addrinfo *next)
{
    struct address address;
    struct addrinfo *info = calloc(1, sizeof *info + sizeof address);

    if (!info || !address_parse(&address, text, 0))
        abort();
    info->ai_family = address.any.sa_family;
    info->ai_addrlen = address.length;
    info->ai_addr = (struct sockaddr *)(info + 1);
    memcpy(info->ai_addr, &address.any, address.length);
    info->ai_next = next;
    return info;
}

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict list)
{
    struct addrinfo *found = NULL;

    (void)service;
    (void)hints;
    *list = NULL;
    pthread_mutex_lock(&mutex);
    for (size_t i = 4; i-- > 0 && strcmp(name, "pg.test") == 0;)
        if (means[i])
            found = entry(means[i], found);
    pthread_mutex_unlock(&mutex);
    *list = found;
    return found ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;

        free(list);
        list = next;
    }
}

static void name_means(const char *first, const char *second)
{
    pthread_mutex_lock(&mutex);
    means[0] = first;
    means[1] = second;
    pthread_mutex_unlock(&mutex);
}

/* ---- servers: on 127.0.0.1 … 127.0.0.3, all on one port ---- */

enum { SILENT, ANSWERS, ENDS };

struct peer {
    int fd;
    _Atomic int does;
    _Atomic unsigned asked;
};

static struct peer peers[3];
static int port;

static void *serve(void *argument)
{
    struct peer *peer = argument;

    for (;;) {
        unsigned char request[8];
        int fd = accept(peer->fd, NULL, NULL);

        if (fd < 0)
            return NULL;
        if (atomic_load(&peer->does) == SILENT) {
            atomic_fetch_add(&peer->asked, 1);
            continue; /* left open */
        }
        if (recv(fd, request, sizeof request, MSG_WAITALL) == sizeof request) {
            atomic_fetch_add(&peer->asked, 1);
            if (atomic_load(&peer->does) == ANSWERS)
                (void)!write(fd, "N", 1);
        }
        close(fd);
    }
}

static void listen_on(struct peer *peer, unsigned char last)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(0x7f000000u | last),
                                  .sin_port = htons((uint16_t)port)};
    socklen_t length = sizeof address;
    pthread_t thread;

    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(peer->fd, (struct sockaddr *)&address, length), 0);
    cr_assert_eq(listen(peer->fd, 64), 0);
    getsockname(peer->fd, (struct sockaddr *)&address, &length);
    port = ntohs(address.sin_port);
    atomic_store(&peer->does, ANSWERS);
    cr_assert_eq(pthread_create(&thread, NULL, serve, peer), 0);
    pthread_detach(thread);
}

/* ---- the monitor ---- */

static struct loop *loop;
static struct resolver *resolver;
static struct monitor *monitor;
static struct snapshot *snapshot;
static char told[4096]; /* "label+" new, "label-" gone, "name=a,b" addresses, in order */

static void note(const char *text)
{
    strncat(told, text, sizeof told - strlen(told) - 1);
}

static void on_changed(void *context, const struct host_report *report, unsigned what)
{
    char *text = text_print("%s%s%s ", report->label, what & MONITOR_NEW ? "+" : "",
                            what & MONITOR_GONE ? "-" : "");

    (void)context;
    if (what & (MONITOR_NEW | MONITOR_GONE))
        note(text);
    free(text);
}

static void on_addresses(void *context, const char *environment, const struct host_config *host,
                         const char *const *addresses, size_t count)
{
    (void)context;
    (void)environment;
    note(host->name);
    note("=");
    for (size_t i = 0; i < count; i++) {
        note(i ? "," : "");
        note(addresses[i]);
    }
    note(" ");
}

static void load(const char *hosts, const char *more)
{
    struct report report = {0};
    char *text = text_print("[pgstage]\ndns_max_ttl = 0\n[environment e]\n"
                            "class = local_development\nserver_tls_sslmode = disable\n"
                            "probe_interval = 20ms\nprobe_fast_interval = 10ms\n"
                            "probe_timeout = 300ms\nhosts = %s\n%s\n[databases]\n"
                            "app = environment=e\n",
                            hosts, more);

    snapshot_unref(snapshot);
    snapshot = snapshot_parse("test", text, strlen(text), &report);
    cr_assert_not_null(snapshot, "%s", report.count ? report.entries[0].text : "");
    report_fini(&report);
    free(text);
    monitor_load(monitor, snapshot);
}

static void set_up(void)
{
    struct monitor_hooks hooks = {.changed = on_changed, .addresses = on_addresses};

    signal(SIGPIPE, SIG_IGN);
    name_means("127.0.0.1", NULL);
    for (unsigned char i = 0; i < 3; i++)
        listen_on(&peers[i], (unsigned char)(i + 1));
    loop = loop_new(0, NULL);
    resolver = resolver_new(1, 1); /* names are looked up again and again */
    monitor = monitor_new(loop, resolver, &hooks);
}

static void tear_down(void)
{
    monitor_free(monitor);
    loop_turn(loop, false);
    snapshot_unref(snapshot);
    resolver_free(resolver);
    loop_free(loop);
}

TestSuite(monitor, .init = set_up, .fini = tear_down, .timeout = 300);

static bool turn_until_health(const char *label, enum health health)
{
    uint64_t end_us = clock_now_us() + 20 * CLOCK_SECOND;

    while (clock_now_us() < end_us) {
        const struct host_report *report = monitor_find(monitor, "e", label);

        if (report && report->health == health)
            return true;
        loop_turn(loop, true);
    }
    return false;
}

static const char *labelled(const char *name)
{
    static char texts[8][64];
    static unsigned turn;
    char *text = texts[turn++ % 8];

    snprintf(text, 64, "%s:%d", name, port);
    return text;
}

static void count_host(void *argument, const struct host_report *report)
{
    (void)report;
    (*(size_t *)argument)++;
}

static size_t host_count(void)
{
    size_t count = 0;

    monitor_each(monitor, "e", count_host, &count);
    return count;
}

Test(monitor, a_name_with_one_address_is_one_host)
{
    const struct host_report *report;

    load(labelled("pg.test"), "");
    cr_assert(turn_until_health(labelled("pg.test"), HEALTH_HEALTHY));
    report = monitor_find(monitor, "e", labelled("pg.test"));
    cr_assert_str_eq(report->address, "127.0.0.1");
    cr_assert_str_eq(report->name, "pg.test");
    cr_assert_eq(report->port, port);
    cr_assert_eq(report->login, PROBE_LOGIN_NONE);
    cr_assert_eq(host_count(), 1);
    cr_assert_null(monitor_find(monitor, "f", labelled("pg.test")));
}

Test(monitor, each_address_of_a_name_is_a_host_of_its_own)
{
    name_means("127.0.0.1", "127.0.0.2");
    atomic_store(&peers[1].does, ENDS);
    load(labelled("pg.test"), "");
    cr_assert(turn_until_health(labelled("pg.test@127.0.0.1"), HEALTH_HEALTHY), "%s", told);
    cr_assert(turn_until_health(labelled("pg.test@127.0.0.2"), HEALTH_CRITICAL));
    cr_assert_eq(host_count(), 2);
    cr_assert_eq(monitor_find(monitor, "e", labelled("pg.test@127.0.0.1"))->health, HEALTH_HEALTHY);
}

Test(monitor, an_address_that_changes_is_another_host)
{
    load(labelled("pg.test"), "");
    cr_assert(turn_until_health(labelled("pg.test"), HEALTH_HEALTHY));
    monitor_note(monitor, "e", labelled("pg.test"), EVIDENCE_PRIMARY);
    cr_assert_eq(monitor_find(monitor, "e", labelled("pg.test"))->role, ROLE_PRIMARY);
    told[0] = '\0';
    name_means("127.0.0.2", NULL);
    for (int i = 0; i < 1000 && !strstr(told, "+"); i++)
        loop_turn(loop, true);
    /* the addresses first, then the old one's end, then the new one */
    char *expected =
        text_print("pg.test=127.0.0.2 %s- %s+ ", labelled("pg.test"), labelled("pg.test"));
    cr_assert_str_eq(told, expected);
    free(expected);
    cr_assert_eq(monitor_find(monitor, "e", labelled("pg.test"))->role, ROLE_UNKNOWN,
                 "what was known of the other one");
    cr_assert_str_eq(monitor_find(monitor, "e", labelled("pg.test"))->address, "127.0.0.2");
}

Test(monitor, addresses_come_and_go)
{
    load(labelled("pg.test"), "");
    cr_assert(turn_until_health(labelled("pg.test"), HEALTH_HEALTHY));
    name_means("127.0.0.1", "127.0.0.3");
    cr_assert(turn_until_health(labelled("pg.test@127.0.0.3"), HEALTH_HEALTHY), "%s", told);
    cr_assert_null(monitor_find(monitor, "e", labelled("pg.test")));
    name_means("127.0.0.3", "127.0.0.2");
    cr_assert(turn_until_health(labelled("pg.test@127.0.0.2"), HEALTH_HEALTHY), "%s", told);
    cr_assert_null(monitor_find(monitor, "e", labelled("pg.test@127.0.0.1")));
    name_means("127.0.0.2", NULL);
    cr_assert(turn_until_health(labelled("pg.test"), HEALTH_HEALTHY), "%s", told);
    cr_assert_eq(host_count(), 1);
    /* a name service that fails changes nothing */
    told[0] = '\0';
    name_means(NULL, NULL);
    for (int i = 0; i < 50; i++)
        loop_turn(loop, true);
    cr_assert_str_eq(told, "");
    cr_assert_eq(host_count(), 1);
}

Test(monitor, a_name_that_never_resolves_is_a_host_that_is_down)
{
    name_means(NULL, NULL);
    load(labelled("pg.test"), "");
    cr_assert_eq(host_count(), 1);
    cr_assert(turn_until_health(labelled("pg.test"), HEALTH_CRITICAL));
    cr_assert_eq(monitor_find(monitor, "e", labelled("pg.test"))->error, PROBE_DNS);
    name_means("127.0.0.1", NULL);
    cr_assert(turn_until_health(labelled("pg.test"), HEALTH_HEALTHY), "and up when it does");
}

Test(monitor, a_server_that_accepts_and_says_nothing_is_down)
{
    load(labelled("127.0.0.1"), "");
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_HEALTHY));
    atomic_store(&peers[0].does, SILENT);
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_CRITICAL));
    cr_assert_eq(monitor_find(monitor, "e", labelled("127.0.0.1"))->error, PROBE_TIMEOUT);
    cr_assert_eq(monitor_find(monitor, "e", labelled("127.0.0.1"))->breaker, BREAKER_OPEN);
    atomic_store(&peers[0].does, ANSWERS);
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_HEALTHY));
    cr_assert_eq(monitor_find(monitor, "e", labelled("127.0.0.1"))->breaker, BREAKER_CLOSED);
}

Test(monitor, evidence_brings_the_next_probe_forward_and_decides_nothing)
{
    unsigned asked;

    load(labelled("127.0.0.1"), "probe_interval = 1h\nprobe_fast_interval = 10ms");
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_HEALTHY));
    asked = atomic_load(&peers[0].asked);
    cr_assert_eq(asked, 1);
    monitor_note(monitor, "e", labelled("127.0.0.1"), EVIDENCE_TROUBLE);
    cr_assert_eq(monitor_find(monitor, "e", labelled("127.0.0.1"))->health, HEALTH_HEALTHY);
    for (int i = 0; i < 1000 && atomic_load(&peers[0].asked) == asked; i++)
        loop_turn(loop, true);
    cr_assert_eq(atomic_load(&peers[0].asked), asked + 1);
    cr_assert_eq(monitor_find(monitor, "e", labelled("127.0.0.1"))->health, HEALTH_HEALTHY);
    monitor_note(monitor, "e", "no such host", EVIDENCE_TROUBLE);
}

/* What it saw would else be taken for what is, for ever. */
Test(monitor, what_a_login_has_seen_is_forgotten_with_it)
{
    load(labelled("127.0.0.1"), "probe_interval = 1h\nmonitor_user = m");
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_CRITICAL) ||
              turn_until_health(labelled("127.0.0.1"), HEALTH_WARNING));
    load(labelled("127.0.0.1"), "probe_interval = 1h\nmonitor_user = n");
    cr_assert_neq(monitor_find(monitor, "e", labelled("127.0.0.1"))->health, HEALTH_UNKNOWN);
    load(labelled("127.0.0.1"), "probe_interval = 1h");
    cr_assert_eq(monitor_find(monitor, "e", labelled("127.0.0.1"))->health, HEALTH_UNKNOWN);
}

Test(monitor, a_load_compares_by_value)
{
    char *both = text_print("%s, %s", labelled("127.0.0.1"), labelled("127.0.0.2"));
    unsigned good;

    load(both, "");
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_HEALTHY));
    cr_assert(turn_until_health(labelled("127.0.0.2"), HEALTH_HEALTHY));
    good = monitor_find(monitor, "e", labelled("127.0.0.2"))->good;
    told[0] = '\0';
    load(labelled("127.0.0.2"), "probe_fall = 3");
    char *expected = text_print("%s- ", labelled("127.0.0.1"));
    cr_assert_str_eq(told, expected);
    free(expected);
    cr_assert_eq(host_count(), 1);
    cr_assert_geq(monitor_find(monitor, "e", labelled("127.0.0.2"))->good, good);
    load(both, "dr_hosts = 127.0.0.3");
    cr_assert_eq(host_count(), 3);
    cr_assert(turn_until_health(labelled("127.0.0.1"), HEALTH_HEALTHY));
    free(both);
}

Test(monitor, can_be_freed_in_whatever_it_does)
{
    struct monitor_hooks hooks = {0};

    for (int turns = 0; turns < 20; turns++) {
        struct monitor *other = monitor_new(loop, resolver, &hooks);

        load(labelled("pg.test"), "monitor_user = somebody\nmonitor_password = x");
        monitor_load(other, snapshot);
        for (int i = 0; i < turns; i++)
            loop_turn(loop, false);
        monitor_free(other);
        loop_turn(loop, false);
    }
}
