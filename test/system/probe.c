/*
 * probe: the probe itself (health/probe.h) on a loop of the test's, before real and fake servers:
 * what it calls each kind of failure, that a kept connection serves again and again, and that it
 * can be closed in whatever it is doing.
 */
#include <stdatomic.h>

#include "pgstage/base/clock.h"
#include "pgstage/health/probe.h"
#include "system.h"

static struct loop *loop;
static struct resolver *resolver;

/* What the callback was told. */
static struct seen {
    bool told;
    struct probe_result result;
    char value[64];
    struct probe *close; /* inside the callback */
} seen;

static void set_up(void)
{
    signal(SIGPIPE, SIG_IGN);
    loop = loop_new(0, NULL);
    resolver = resolver_new(CLOCK_SECOND, CLOCK_SECOND);
}

static void tear_down(void)
{
    loop_turn(loop, false);
    resolver_free(resolver);
    loop_free(loop);
    test_end();
}

TestSuite(probe, .init = set_up, .fini = tear_down, .timeout = TEST_LIMIT_S);

static void on_told(struct probe *probe, void *context, const struct probe_result *result)
{
    struct seen *into = context;

    into->told = true;
    into->result = *result;
    into->value[0] = '\0';
    if (result->rows && PQntuples(result->rows) > 0)
        snprintf(into->value, sizeof into->value, "%s", PQgetvalue(result->rows, 0, 0));
    if (into->close == probe)
        probe_close(probe);
}

static uint64_t in_ms(int ms)
{
    return clock_now_us() + (uint64_t)ms * CLOCK_MS;
}

static struct probe_target target_of(int port, const char *user)
{
    return (struct probe_target){
        .name = "pg.production.test",
        .address = "127.0.0.1",
        .port = (uint16_t)port,
        .user = user,
        .dbname = "app",
        .tls = {.mode = TLS_VERIFY_FULL, .ca_file = pki_shared_ca()->certificate}};
}

static void wait_told(void)
{
    int64_t end = now_ms() + PATIENCE_MS + 10000;

    while (!seen.told && now_ms() < end)
        loop_turn(loop, true);
    cr_assert(seen.told, "no callback");
}

static struct probe *opened(const struct probe_target *target, int ms)
{
    seen = (struct seen){0};
    struct probe *probe = probe_open(loop, resolver, target, in_ms(ms), on_told, &seen);
    cr_assert(!seen.told, "a callback from inside probe_open");
    wait_told();
    return probe;
}

static void fails(const struct probe_target *target, int ms, enum probe_error error,
                  enum probe_step step, const char *sqlstate)
{
    struct probe *probe = opened(target, ms);

    cr_assert_eq(seen.result.error, error, "%s: %s", probe_error_word(seen.result.error),
                 seen.result.text);
    cr_assert_eq(seen.result.step, step, "step %d: %s", (int)seen.result.step, seen.result.text);
    cr_assert_str_eq(seen.result.sqlstate, sqlstate);
    cr_assert_neq(seen.result.text[0], '\0');
    cr_assert(!probe_is_idle(probe));
    probe_close(probe);
}

static void ask(struct probe *probe, const char *sql, int ms)
{
    seen = (struct seen){0};
    probe_query(probe, sql, in_ms(ms), on_told);
    cr_assert(!seen.told, "a callback from inside probe_query");
    wait_told();
}

Test(probe, a_kept_connection_answers_again_and_again)
{
    struct probe_target target = target_of(cluster_shared()->port, "app");
    struct probe *probe = opened(&target, PATIENCE_MS);
    char backend[64], tls[96];

    cr_assert_eq(seen.result.error, PROBE_FINE, "%s", seen.result.text);
    probe_describe_tls(probe, tls, sizeof tls);
    cr_assert_has(tls, "TLSv1.3");
    ask(probe, "SELECT pg_backend_pid()", PATIENCE_MS);
    snprintf(backend, sizeof backend, "%s", seen.value);
    for (int i = 0; i < 20; i++) {
        ask(probe, "SELECT pg_backend_pid()", PATIENCE_MS);
        cr_assert_eq(seen.result.error, PROBE_FINE);
        cr_assert_str_eq(seen.value, backend);
        cr_assert(probe_is_idle(probe));
    }
    ask(probe, "SELECT 1 / 0", PATIENCE_MS);
    cr_assert_eq(seen.result.error, PROBE_SERVER);
    cr_assert_str_eq(seen.result.sqlstate, "22012");
    ask(probe, "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        PATIENCE_MS);
    cr_assert_str_eq(seen.value, "pgstage");
    ask(probe, "SELECT repeat('x', 3000000)", PATIENCE_MS);
    cr_assert_eq(seen.result.error, PROBE_FINE);
    probe_close(probe);
}

Test(probe, the_end_of_a_kept_connection_is_lost_not_a_failed_query)
{
    struct probe_target target = target_of(cluster_shared()->port, "throng");
    struct probe *probe = opened(&target, PATIENCE_MS);

    cr_assert_eq(cluster_number(cluster_shared(),
                                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                                "WHERE usename = 'throng'"),
                 1);
    ask(probe, "SELECT 1", PATIENCE_MS);
    cr_assert_eq(seen.result.error, PROBE_LOST, "%s", seen.result.text);
    cr_assert(!probe_is_idle(probe));
    ask(probe, "SELECT 1", PATIENCE_MS);
    cr_assert_eq(seen.result.error, PROBE_LOST);
    probe_close(probe);
}

Test(probe, a_query_that_takes_too_long_is_a_timeout)
{
    struct probe_target target = target_of(cluster_shared()->port, "app");
    struct probe *probe = opened(&target, PATIENCE_MS);

    ask(probe, "SELECT pg_sleep(200)", 200);
    cr_assert_eq(seen.result.error, PROBE_TIMEOUT);
    cr_assert_eq(seen.result.step, PROBE_STEP_QUERY);
    probe_close(probe);
}

Test(probe, refused_logins_have_their_kind)
{
    struct probe_target wrong = target_of(cluster_shared()->port, "user_scram");
    fails(&wrong, PATIENCE_MS, PROBE_AUTH, PROBE_STEP_LOGIN, "");
    wrong.password = "nonsense";
    fails(&wrong, PATIENCE_MS, PROBE_AUTH, PROBE_STEP_LOGIN, "28P01");
    wrong.user = "nobody_of_this_name";
    wrong.password = NULL;
    fails(&wrong, PATIENCE_MS, PROBE_AUTH, PROBE_STEP_LOGIN, "28000");
    wrong.user = "app";
    wrong.dbname = "nowhere";
    fails(&wrong, PATIENCE_MS, PROBE_NO_DATABASE, PROBE_STEP_LOGIN, "3D000");
}

Test(probe, hosts_that_are_not_there_have_their_kind)
{
    struct probe_target target = target_of(port_take(), "app");
    fails(&target, PATIENCE_MS, PROBE_REFUSED, PROBE_STEP_CONNECT, "");
    target.address = NULL;
    target.name = "nowhere.invalid";
    fails(&target, PATIENCE_MS, PROBE_DNS, PROBE_STEP_RESOLVE, "");
}

static const char *fatal_state; /* set before its fake is started */

static void serve_fatal(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (fake_startup(wire, 'N'))
        fake_error(wire, "FATAL", fatal_state, "as the test wants it");
}

static void serve_nonsense(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (fake_startup(wire, 'N'))
        wire_write(wire, "HTTP/1.0 400 Bad Request\r\n\r\n", 28);
    fake_hang(wire);
}

static void serve_stall(struct wire *wire, struct fake *fake)
{
    const char *answer = fake->context;

    if (*answer)
        fake_startup(wire, *answer);
    fake_hang(wire);
}

Test(probe, busy_and_starting_servers_are_not_dead_ones)
{
    static const struct {
        const char *state;
        enum probe_error error;
    } cases[] = {{"53300", PROBE_TOO_MANY}, {"57P03", PROBE_STARTING_UP}, {"XX000", PROBE_SERVER}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fatal_state = cases[i].state;
        struct fake *fake = fake_start(serve_fatal, NULL);
        struct probe_target target = target_of(fake->port, "app");

        target.tls.mode = TLS_DISABLE;
        fails(&target, PATIENCE_MS, cases[i].error, PROBE_STEP_LOGIN, cases[i].state);
    }
}

Test(probe, what_is_no_postgresql_is_a_protocol_error)
{
    struct fake *fake = fake_start(serve_nonsense, NULL);
    struct probe_target target = target_of(fake->port, "app");

    target.tls.mode = TLS_DISABLE;
    fails(&target, PATIENCE_MS, PROBE_PROTOCOL, PROBE_STEP_LOGIN, "");
}

Test(probe, stalls_end_at_the_deadline_and_say_where)
{
    static const struct {
        const char *answer;
        enum tls_mode mode;
        enum probe_step step;
    } cases[] = {{"", TLS_VERIFY_FULL, PROBE_STEP_TLS},
                 {"S", TLS_VERIFY_FULL, PROBE_STEP_TLS},
                 {"N", TLS_DISABLE, PROBE_STEP_LOGIN}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake *fake = fake_start(serve_stall, cases[i].answer);
        struct probe_target target = target_of(fake->port, "app");

        target.tls.mode = cases[i].mode;
        fails(&target, 2000, PROBE_TIMEOUT, cases[i].step, "");
    }
}

/* ---- libpq's own checks, without the handshake of CHECK before them ---- */

static const struct pki_certificate *shown;
static _Atomic int secured;

static void serve_tls(struct wire *wire, struct fake *fake)
{
    unsigned char byte;

    (void)fake;
    fake_startup(wire, 'S');
    if (wire_accept_tls(wire, shown->certificate, shown->key) &&
        wire_take(wire, &byte, 1, PATIENCE_MS))
        atomic_fetch_add(&secured, 1);
}

static void refuses(const struct pki_request *request, const char *words)
{
    shown = pki_issue(test_folder(), request);
    atomic_store(&secured, 0);
    struct fake *fake = fake_start(serve_tls, NULL);
    struct probe_target target = target_of(fake->port, "app");

    target.password = "not for everybody";
    fails(&target, PATIENCE_MS, PROBE_TLS, PROBE_STEP_TLS, "");
    cr_assert_has(seen.result.text, words);
    cr_assert_eq(atomic_load(&secured), 0, "the server was told something");
}

Test(probe, libpq_refuses_bad_certificates)
{
    struct pki_request request = {.file = "bad",
                                  .common_name = "pg.production.test",
                                  .names = "DNS:pg.production.test",
                                  .issuer = pki_shared_ca()};
    struct pki_request wrong = request, expired = request, own = request, unknown = request;
    struct pki_request ca_request = {.file = "ca2", .common_name = "Two", .authority = true};

    wrong.names = "DNS:pg.elsewhere.test";
    refuses(&wrong, "does not match host name");
    wrong.names = "IP:127.0.0.1";
    wrong.common_name = "somewhere";
    refuses(&wrong, "does not match host name");
    expired.starts_in_days = -30;
    expired.ends_in_days = -1;
    refuses(&expired, "certificate verify failed");
    own.issuer = NULL;
    refuses(&own, "certificate verify failed");
    unknown.issuer = pki_issue(test_folder(), &ca_request);
    refuses(&unknown, "certificate verify failed");
}

static void serve_n(struct wire *wire, struct fake *fake)
{
    (void)fake;
    if (fake_startup(wire, 'N'))
        atomic_fetch_add(&secured, 1);
}

Test(probe, libpq_refuses_n)
{
    atomic_store(&secured, 0);
    struct fake *fake = fake_start(serve_n, NULL);
    struct probe_target target = target_of(fake->port, "app");

    fails(&target, PATIENCE_MS, PROBE_TLS, PROBE_STEP_TLS, "");
    cr_assert_eq(atomic_load(&secured), 0, "a startup packet was sent in the clear");
}

/* prefer: the handshake breaks, and libpq comes again on another socket */
static void serve_second_thoughts(struct wire *wire, struct fake *fake)
{
    if (atomic_load(&fake->accepted) == 1) {
        fake_startup(wire, 'S');
        wire_write(wire, "this is no TLS record", 21);
        return;
    }
    if (fake_startup(wire, 'N')) {
        fake_welcome(wire);
        fake_answer(wire, "second");
    }
}

Test(probe, a_socket_that_libpq_exchanges_is_followed)
{
    struct fake *fake = fake_start(serve_second_thoughts, NULL);
    struct probe_target target = target_of(fake->port, "app");

    target.tls = (struct tls_settings){.mode = TLS_PREFER};
    struct probe *probe = opened(&target, PATIENCE_MS);
    cr_assert_eq(seen.result.error, PROBE_FINE, "%s", seen.result.text);
    ask(probe, "SELECT 'x'", PATIENCE_MS);
    cr_assert_str_eq(seen.value, "second");
    cr_assert_eq(atomic_load(&fake->accepted), 2);
    probe_close(probe);
}

/* ---- closing ---- */

Test(probe, it_can_be_closed_in_whatever_it_does)
{
    struct probe_target good = target_of(cluster_shared()->port, "app"), named = good;

    named.address = NULL;
    named.name = "nowhere.invalid";
    for (int turns = 0; turns < 12; turns++) {
        seen = (struct seen){0};
        struct probe *first = probe_open(loop, resolver, &good, in_ms(PATIENCE_MS), on_told, &seen);
        struct probe *second =
            probe_open(loop, resolver, &named, in_ms(PATIENCE_MS), on_told, &seen);

        for (int i = 0; i < turns && !seen.told; i++)
            loop_turn(loop, true);
        probe_close(first);
        probe_close(second);
        seen.told = false;
        for (int i = 0; i < 3; i++)
            loop_turn(loop, false);
        cr_assert(!seen.told, "a callback after probe_close");
    }
    probe_close(NULL);
}

Test(probe, it_can_be_closed_by_its_callback)
{
    struct probe_target target = target_of(cluster_shared()->port, "app");

    seen = (struct seen){0};
    seen.close = probe_open(loop, resolver, &target, in_ms(PATIENCE_MS), on_told, &seen);
    wait_told();
    struct probe *probe = opened(&target, PATIENCE_MS);
    seen = (struct seen){.close = probe};
    probe_query(probe, "SELECT 1", in_ms(PATIENCE_MS), on_told);
    wait_told();
    cr_assert_str_eq(seen.value, "1");
    probe = opened(&target, PATIENCE_MS);
    probe_query(probe, "SELECT pg_sleep(200)", in_ms(PATIENCE_MS), on_told);
    probe_close(probe);
}
