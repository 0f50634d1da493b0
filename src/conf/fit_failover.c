/*
 * fit_failover: what an environment's options about failover make of each other.
 *
 * An error is a procedure that could never do what the options ask for: it would be found out at
 * three in the morning. What merely has no effect is a warning. Runs on the thread that loads, on
 * resolved settings.
 */
#include "inside.h"
#include "pgstage/base/clock.h"

/* Probes that come in less time, or are given up after less, tell nothing. */
#define PROBE_LEAST_US (10 * CLOCK_MS)

/* A place for a message: the option's line, else the section's. */
static const struct origin *place(const struct environment *environment, const char *option)
{
    const struct assignment *assignment = layer_find_name(&environment->layer, option);
    return assignment ? &assignment->origin : &environment->origin;
}

static void fit_login(const struct environment *environment, struct report *report)
{
    const struct settings *settings = &environment->settings;
    if (!settings->failover_user &&
        (settings->failover_password || settings->failover_password_file))
        origin_error(report, place(environment, "failover_password"),
                     "failover_password needs failover_user");
}

/* failover_mode = promote: pgstage acts itself. */
static void fit_promote(const struct snapshot *snapshot, const struct environment *environment,
                        struct report *report)
{
    const struct settings *settings = &environment->settings;
    const struct environment_config *config = &environment->config;
    const struct origin *mode = place(environment, "failover_mode");
    if (!settings->failover_user)
        origin_error(report, mode,
                     "failover_mode = promote needs failover_user, the login that promotes");
    if (config->production_class && !settings->fence_command && !settings->allow_unfenced_promotion)
        origin_error(report, mode,
                     "failover_mode = promote in a production class needs fence_command, which "
                     "makes sure that the old primary is stopped (or allow_unfenced_promotion = "
                     "yes)");
    if (!snapshot->globals.state_dir && config->production_class)
        origin_error(report, mode,
                     "failover_mode = promote in a production class needs state_dir in [pgstage]: "
                     "what was promoted and fenced must survive a restart");
    else if (!snapshot->globals.state_dir)
        origin_warning(report, mode,
                       "failover_mode = promote without state_dir: what was promoted and fenced is "
                       "forgotten at a restart");
    if (config->host_count + config->dr_host_count < 2)
        origin_warning(report, mode,
                       "failover_mode = promote has no effect: there is no second host");
    if (!settings->demote_command != !settings->undemote_command)
        origin_error(
            report,
            place(environment, settings->demote_command ? "demote_command" : "undemote_command"),
            "demote_command and undemote_command need each other: a switchover that fails "
            "must be able to start the old primary again");
    if (settings->switchover_command)
        origin_warning(report, place(environment, "switchover_command"),
                       "switchover_command has no effect: failover_mode is promote");
}

/* failover_mode = follow: something else promotes. */
static void fit_follow(const struct snapshot *snapshot, const struct environment *environment,
                       struct report *report)
{
    const struct settings *settings = &environment->settings;
    const struct environment_config *config = &environment->config;
    if (!snapshot->globals.state_dir && config->production_class && config->host_count > 1)
        origin_warning(
            report, place(environment, "hosts"),
            "environment %s (class %s) has several hosts and [pgstage] no state_dir: "
            "which of them was the primary, and who is fenced, is forgotten at a restart",
            config->name, config->class_name);
    const struct {
        const char *option;
        const char *value;
    } commands[] = {
        {"fence_command", settings->fence_command},
        {"demote_command", settings->demote_command},
        {"undemote_command", settings->undemote_command},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].value)
            origin_warning(report, place(environment, commands[i].option),
                           "%s has no effect: failover_mode is follow", commands[i].option);
    }
    if (settings->dr_failover == DR_FAILOVER_AUTOMATIC)
        origin_error(
            report, place(environment, "dr_failover"),
            "dr_failover = automatic needs failover_mode = promote: in follow mode pgstage "
            "promotes nothing, at the DR site neither");
}

static void fit_dr(const struct environment *environment, struct report *report)
{
    const struct settings *settings = &environment->settings;
    if (environment->config.dr_host_count)
        return;
    if (settings->dr_failover == DR_FAILOVER_AUTOMATIC)
        origin_error(report, place(environment, "dr_failover"),
                     "dr_failover = automatic needs dr_hosts");
    if (settings->rpo_limit_us)
        origin_warning(report, place(environment, "rpo_limit"),
                       "rpo_limit has no effect: there are no dr_hosts");
    if (settings->rto_target_us)
        origin_warning(report, place(environment, "rto_target"),
                       "rto_target has no effect: there are no dr_hosts");
}

/* What the probes need, and what needs them. */
static void fit_probes(const struct environment *environment, struct report *report)
{
    const struct settings *settings = &environment->settings;
    bool watches = settings->probe_interval_us && (settings->monitor_user || settings->user);
    const struct {
        const char *option;
        uint64_t value_us;
    } spans[] = {
        {"probe_interval", settings->probe_interval_us},
        {"probe_fast_interval", settings->probe_fast_interval_us},
        {"probe_timeout", settings->probe_timeout_us},
    };
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        if (settings->probe_interval_us && spans[i].value_us < PROBE_LEAST_US)
            origin_error(report, place(environment, spans[i].option), "%s must be at least 10ms%s",
                         spans[i].option, i == 0 ? ", or 0 for no probes" : "");
    }
    if (watches)
        return;
    if (settings->max_replica_lag_us)
        origin_warning(report, place(environment, "max_replica_lag"),
                       "max_replica_lag has no effect: nobody can ask for the lag without "
                       "monitor_user and probes");
    if (settings->failover_mode == FAILOVER_PROMOTE)
        origin_warning(report, place(environment, "failover_mode"),
                       "failover_mode = promote has no effect: nobody watches the hosts without "
                       "monitor_user and probes");
}

void fit_failover(const struct snapshot *snapshot, const struct environment *environment,
                  struct report *report)
{
    fit_login(environment, report);
    if (environment->settings.failover_mode == FAILOVER_PROMOTE)
        fit_promote(snapshot, environment, report);
    else
        fit_follow(snapshot, environment, report);
    fit_dr(environment, report);
    fit_probes(environment, report);
}
