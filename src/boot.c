/*
 * boot: the story of a run.
 *
 *   load ─► background (-d) ─► user ─► log ─► descriptors ─► plane (sockets, TLS) ─► pid file ─►
 *   state_dir, probes ─► threads ─► systemd: READY ─► loop_run … signals … ─► threads end ─► pid
 * file removed
 *
 * The user is changed before sockets are bound, as in PgBouncer, unless a port under 1024 asks for
 * root; either way the configuration is read once more as that user, so that a file that only root
 * may read is found at the start and not at the first RELOAD. The main thread is the control
 * thread: signals are blocked in all threads and arrive by a signalfd of its loop.
 *
 *   TERM ─► wait for clients ┐ second TERM or INT, or QUIT at any time
 *   INT  ─► wait for servers ┴──────────────────────────────────────────► leave at once
 */
#include "boot.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "daemon.h"
#include "pgstage/admin/admin.h"
#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/users.h"
#include "pgstage/session/audit.h"
#include "pgstage/session/plane.h"
#include "pgstage/worker/loop.h"
#include "reload.h"
#include "steer.h"

/* Descriptors besides clients and servers: epoll, eventfds, listeners, log, files being read. */
#define OTHER_DESCRIPTORS 64
/* How long the end waits for answers to the console's last questions. */
#define LAST_ANSWERS_TURNS 1000

static const int signals[] = {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
#define SIGNAL_COUNT (sizeof signals / sizeof signals[0])

struct run {
    /* fixed */
    const struct boot_options *options;
    char *file; /* absolute */
    struct reload_log log;
    /* owner: main thread */
    struct loop *loop;
    struct admin *admin;
    struct plane *plane;
    struct steer steer;
    struct loop_watch signal_watch; /* of a signalfd; -1: none */
    struct pidfile pidfile;
    bool stopping;
};

/* "pgstage 0.1.0, adns: getaddrinfo, tls: OpenSSL …"; allocated. */
static char *version_text(void)
{
    return text_print("%s, adns: getaddrinfo, tls: %s", PACKAGE_STRING,
                      OpenSSL_version(OPENSSL_VERSION));
}

/* ---- what the console and signals ask for ---- */

static bool on_reload(void *context, const char *who, char **problem)
{
    struct run *run = context;
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reading the configuration",
               clock_now_us());
    bool ok = reload_file(run->plane, run->admin, run->file, &run->log, who, problem);
    if (ok)
        steer_reload(&run->steer, plane_snapshot(run->plane));
    sd_notifyf(0, "READY=1\nSTATUS=%s",
               ok ? "serving" : "serving; the latest reload failed, see the log");
    return ok;
}

static bool on_apply(void *context, struct snapshot *snapshot, const char *who, char **problem)
{
    struct run *run = context;
    if (!reload_apply(run->plane, run->admin, snapshot, &run->log, who, problem))
        return false;
    steer_reload(&run->steer, snapshot);
    return true;
}

static void on_shutdown(void *context, enum admin_shutdown how)
{
    struct run *run = context;
    run->stopping = true;
    switch (how) {
    case ADMIN_SHUTDOWN_NOW:
        sd_notify(0, "STOPPING=1\nSTATUS=ending");
        loop_stop(run->loop);
        break;
    case ADMIN_SHUTDOWN_FOR_CLIENTS:
        sd_notify(0, "STOPPING=1\nSTATUS=waiting for clients to leave");
        plane_stop(run->plane, PLANE_STOP_FOR_CLIENTS);
        break;
    case ADMIN_SHUTDOWN_FOR_SERVERS:
        sd_notify(0, "STOPPING=1\nSTATUS=waiting for transactions to end");
        plane_stop(run->plane, PLANE_STOP_FOR_SERVERS);
        break;
    }
}

static void on_idle(void *context)
{
    struct run *run = context;
    if (run->stopping) {
        log_log("nothing is left to wait for, ending");
        loop_stop(run->loop);
    }
}

static void on_terminate(struct run *run, int number)
{
    const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";
    if (run->stopping) {
        log_log("got %s while shutting down, fast exit", name);
        on_shutdown(run, ADMIN_SHUTDOWN_NOW);
    } else if (number == SIGTERM) {
        log_log("got SIGTERM, shutting down, waiting for all clients disconnect");
        on_shutdown(run, ADMIN_SHUTDOWN_FOR_CLIENTS);
    } else {
        log_log("got SIGINT, shutting down, waiting for all servers connections to be released");
        on_shutdown(run, ADMIN_SHUTDOWN_FOR_SERVERS);
    }
}

/* Who sent it is not known; that it came is. */
static void record_signal(struct run *run, int number)
{
    struct audit_record *record = audit_record_new("signal");
    audit_record_text(record, "signal", sigabbrev_np(number));
    audit_write(plane_audit(run->plane), record);
}

static void on_signal(struct run *run, int number)
{
    char *problem = NULL;
    if (number != SIGHUP)
        record_signal(run, number);
    switch (number) {
    case SIGHUP:
        log_log("got SIGHUP, re-reading config");
        audit_reopen(plane_audit(run->plane)); /* also when the load fails */
        (void)on_reload(run, "SIGHUP", &problem);
        free(problem);
        break;
    case SIGTERM:
    case SIGINT:
        on_terminate(run, number);
        break;
    case SIGQUIT:
        log_log("got SIGQUIT, fast exit");
        on_shutdown(run, ADMIN_SHUTDOWN_NOW);
        break;
    case SIGUSR1:
        log_log("got SIGUSR1, pausing all activity%s",
                admin_pause_all(run->admin) ? "" : " (it was paused already)");
        break;
    case SIGUSR2:
        log_log("got SIGUSR2, continuing from SIGUSR1%s",
                admin_resume_all(run->admin) ? "" : " (it was not paused)");
        break;
    }
}

static void on_signals(struct loop_watch *watch, uint32_t events)
{
    struct run *run = list_entry(watch, struct run, signal_watch);
    struct signalfd_siginfo infos[SIGNAL_COUNT];
    (void)events;
    /* all that have come, once: those that come meanwhile wait for the next turn */
    ssize_t got = read(watch->fd, infos, sizeof infos);
    for (ssize_t i = 0; i < got / (ssize_t)sizeof infos[0]; i++)
        on_signal(run, (int)infos[i].ssi_signo);
}

/* Before any thread begins, since threads inherit what is blocked. */
static bool watch_signals(struct run *run)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a file that may not grow is an error of write(2) */
    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaddset(&ours, signals[i]);
    if (pthread_sigmask(SIG_BLOCK, &ours, NULL) != 0)
        return false;
    run->signal_watch = (struct loop_watch){.ready = on_signals,
                                            .fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK)};
    return run->signal_watch.fd >= 0 && loop_watch(run->loop, &run->signal_watch, EPOLLIN);
}

/* ---- start ---- */

static bool fail(const char *problem)
{
    log_fatal("%s", problem);
    return false;
}

/* Whom to become, if anybody; refuses root without one. */
static bool choose_user(const struct boot_options *options, const struct snapshot *snapshot,
                        struct daemon_user *user)
{
    const char *name = options->user ? options->user : snapshot_globals(snapshot)->run_as_user;
    char problem[256];
    if (!name && geteuid() == 0)
        return fail("pgstage does not run as root: name a user with -u or the option `user`");
    if (!name)
        return true;
    if (!daemon_user_find(user, name, problem, sizeof problem))
        return fail(problem);
    if (user->uid == 0)
        return fail("pgstage does not run as root: name another user");
    return true;
}

static bool check_background(const struct boot_options *options, const struct settings *globals)
{
    char problem[512];
    if (options->background && !globals->pidfile)
        return fail("-d needs the option `pidfile`");
    if (options->background && !globals->logfile && !globals->syslog)
        return fail("-d needs a log: set `logfile` or `syslog`");
    if (globals->pidfile && !pidfile_is_free(globals->pidfile, problem, sizeof problem))
        return fail(problem);
    return true;
}

static bool needs_root_for_ports(const struct snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot_listener_count(snapshot); i++) {
        const struct settings *settings = snapshot_listener(snapshot, i)->settings;
        if (settings->listen_addr && settings->listen_port > 0 && settings->listen_port < 1024)
            return true;
    }
    return false;
}

/* At most how many server connections the configuration can lead to. */
static uint64_t expected_servers(struct snapshot *snapshot)
{
    const struct users *users = snapshot_users(snapshot);
    uint64_t user_count = users ? users_count(users) : 0, sum = 0;
    for (size_t i = 0; i < snapshot_database_count(snapshot); i++) {
        const struct database_config *line = snapshot_database(snapshot, i);
        const char *name = line->environment ? line->environment : line->in_environment;
        const struct environment_config *environment =
            name ? snapshot_find_environment(snapshot, name) : NULL;
        struct effective *effective =
            snapshot_effective(snapshot, line, line->name, environment, NULL);
        const struct settings *settings = effective->settings;
        uint64_t pools = settings->user || user_count == 0 ? 1 : user_count;
        uint64_t most =
            pools * (uint64_t)(settings_pool_size(settings) + settings->reserve_pool_size);
        uint64_t limit = (uint64_t)settings->max_db_connections;
        sum += limit > 0 && limit < most ? limit : most;
        effective_unref(effective);
    }
    return sum;
}

static void check_descriptors(struct snapshot *snapshot)
{
    struct descriptor_limit limit = descriptor_limit_raise();
    int64_t clients = snapshot_globals(snapshot)->max_client_conn;
    uint64_t expected = (uint64_t)clients + expected_servers(snapshot) + OTHER_DESCRIPTORS;
    log_info("kernel file descriptor limit: %" PRIu64 " (hard: %" PRIu64
             "); max_client_conn: %" PRId64 ", max expected fd use: %" PRIu64,
             limit.soft, limit.hard, clients, expected);
    if (expected > limit.soft)
        log_warning("%" PRIu64 " clients and servers are configured but only %" PRIu64
                    " file descriptors allowed: raise the limit (ulimit -n, LimitNOFILE=) to at "
                    "least %" PRIu64 " or lower max_client_conn and the pool sizes",
                    expected - OTHER_DESCRIPTORS, limit.soft, expected);
}

/* Sockets of systemd's socket activation. */
static struct plane_socket *inherited_sockets(size_t *count)
{
    int given = sd_listen_fds(1);
    *count = given > 0 ? (size_t)given : 0;
    struct plane_socket *sockets = memory_new((*count + 1) * sizeof *sockets);
    for (size_t i = 0; i < *count; i++)
        sockets[i].fd = SD_LISTEN_FDS_START + (int)i;
    return sockets;
}

/* Becomes the user; the configuration is then read again as that user. */
static bool become(struct run *run, const struct daemon_user *user, struct snapshot **snapshot)
{
    char problem[256];
    if (!daemon_user_become(user, problem, sizeof problem))
        return fail(problem);
    struct snapshot *again = reload_load(run->file, false, false, NULL);
    if (!again) {
        log_fatal("the configuration cannot be loaded as the user \"%s\"", user->name);
        return false;
    }
    snapshot_unref(*snapshot);
    *snapshot = again;
    return true;
}

static bool open_log(struct run *run, const struct snapshot *snapshot,
                     const struct daemon_user *user)
{
    const char *file = snapshot_globals(snapshot)->logfile;
    if (!reload_open_log(snapshot, &run->log)) {
        log_fatal("cannot open the log file %s: %s", file ? file : "", strerror(errno));
        return false;
    }
    /* Still root for a port's sake: the file must be writable afterwards too. */
    if (user->name && geteuid() == 0 && file && chown(file, user->uid, user->gid) != 0)
        log_warning("cannot give the log file %s to %s: %s", file, user->name, strerror(errno));
    return true;
}

static bool make_plane(struct run *run, struct snapshot *snapshot)
{
    char problem[512] = "";
    struct plane_hooks hooks = admin_hooks(run->admin);
    size_t count;
    struct plane_socket *sockets = inherited_sockets(&count);
    run->plane = plane_new(run->loop, snapshot, &hooks, sockets, count, problem, sizeof problem);
    free(sockets);
    return run->plane || fail(problem);
}

/* Everything up to the first client. `parent_fd` is -1 in the foreground. */
static bool start(struct run *run, struct snapshot **snapshot, const struct daemon_user *user,
                  int parent_fd)
{
    char problem[512];
    bool late = user->name && needs_root_for_ports(*snapshot);
    struct admin_callbacks callbacks = {
        .context = run,
        .reload = on_reload,
        .apply = on_apply,
        .shutdown = on_shutdown,
        .idle = on_idle,
    };
    if (user->name && !late && !become(run, user, snapshot))
        return false;
    if (!open_log(run, *snapshot, user))
        return false;
    check_descriptors(*snapshot);
    run->loop = loop_new(0, run);
    run->admin = admin_new(&callbacks);
    if (!run->loop || !watch_signals(run))
        return fail("no event loop can be made");
    if (!make_plane(run, *snapshot) || (late && !become(run, user, snapshot)))
        return false;
    const char *pidfile = snapshot_globals(*snapshot)->pidfile;
    if (pidfile && !pidfile_open(&run->pidfile, pidfile, problem, sizeof problem))
        return fail(problem);
    if (!plane_open_audit(run->plane, problem, sizeof problem))
        return fail(problem);
    reload_record(run->plane, "start", NULL, *snapshot, NULL);
    if (!steer_start(&run->steer, run->loop, run->plane, *snapshot, problem, sizeof problem))
        return fail(problem);
    if (!plane_start(run->plane))
        return fail("no thread can be started");
    admin_start(run->admin, run->plane, run->steer.monitor, run->steer.failover,
                run->steer.procedures);

    char *version = version_text();
    log_log("process up: %s", version);
    free(version);
    if (parent_fd >= 0) {
        daemon_ready(parent_fd);
        run->log.to_stderr = false;
        (void)!reload_open_log(*snapshot, &run->log);
    }
    sd_notifyf(0, "READY=1\nMAINPID=%ld\nSTATUS=serving", (long)getpid());
    return true;
}

/* ---- end ---- */

static void finish(struct run *run, bool started)
{
    steer_stop(&run->steer);
    if (started) {
        admin_stop(run->admin);
        for (int i = 0; admin_is_busy(run->admin) && i < LAST_ANSWERS_TURNS; i++)
            loop_turn(run->loop, true);
    }
    steer_end(&run->steer);
    plane_free(run->plane);
    steer_fini(&run->steer);
    pidfile_close(&run->pidfile);
    /* a late second signal must not cut the end short: they stay blocked, and nobody reads */
    if (run->signal_watch.fd >= 0) {
        loop_unwatch(run->loop, &run->signal_watch);
        close(run->signal_watch.fd);
    }
    if (run->loop)
        loop_free(run->loop);
    if (run->admin)
        admin_free(run->admin);
    free(run->file);
}

int boot_run(const struct boot_options *options)
{
    struct run run = {
        .options = options,
        .file = realpath(options->file, NULL),
        .log = {.to_stderr = !options->quiet, .verbose = options->verbose},
        .signal_watch.fd = -1,
    };
    struct daemon_user user = {0};
    int parent_fd = -1;
    bool started = false;
    if (!run.file)
        run.file = text_copy(options->file);

    struct snapshot *snapshot = reload_load(run.file, true, true, NULL);
    if (!snapshot) {
        log_fatal("the configuration has mistakes: not started");
        free(run.file);
        return EXIT_FAILURE;
    }
    if (choose_user(options, snapshot, &user) &&
        check_background(options, snapshot_globals(snapshot))) {
        if (options->background)
            parent_fd = daemon_start();
        if (options->background && parent_fd < 0)
            log_fatal("cannot go into the background: %s", strerror(errno));
        else
            started = start(&run, &snapshot, &user, parent_fd);
    }
    snapshot_unref(snapshot);
    if (started) {
        loop_run(run.loop);
        log_log("ending");
    }
    finish(&run, started);
    daemon_user_fini(&user);
    return started ? EXIT_SUCCESS : EXIT_FAILURE;
}
