/*
 * settings: every option of the product as one field of one struct, made from tables/options.def.
 *
 * There is one struct for all scopes: `snapshot_settings` resolves the scopes (built-in default <
 * [pgstage] < class preset < [environment] < [databases] < [users]) into one complete struct. Field
 * names are the options' names with the unit behind: an option `query_wait_timeout` of type
 * DURATION is `query_wait_timeout_us`, a SIZE `max_packet_size` is `max_packet_size_bytes`; BOOL,
 * INT, ENUM and TEXT have no suffix. A duration of 0 means "off" where the option says so. A text
 * that is not set is NULL. Frozen after it was made; any thread reads it.
 */
#ifndef PGSTAGE_CONF_SETTINGS_H
#define PGSTAGE_CONF_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "pgstage/base/log.h"

enum pool_mode { POOL_MODE_SESSION, POOL_MODE_TRANSACTION, POOL_MODE_STATEMENT };

enum auth_type {
    AUTH_ANY,
    AUTH_TRUST,
    AUTH_PLAIN,
    AUTH_MD5,
    AUTH_SCRAM,
    AUTH_CERT,
    AUTH_HBA,
    AUTH_LDAP,
    AUTH_PAM,
    AUTH_PEER,
    AUTH_REJECT, /* HBA rules only */
};

/* libpq's order: a later one is stricter. */
enum tls_mode {
    TLS_DISABLE,
    TLS_ALLOW,
    TLS_PREFER,
    TLS_REQUIRE,
    TLS_VERIFY_CA,
    TLS_VERIFY_FULL,
};

/* libpq's words: may, should, must SCRAM with servers be bound to its TLS connection. */
enum channel_binding {
    CHANNEL_BINDING_DISABLE,
    CHANNEL_BINDING_PREFER,
    CHANNEL_BINDING_REQUIRE,
};

enum load_balance_hosts { BALANCE_ROUND_ROBIN, BALANCE_DISABLE, BALANCE_LEAST, BALANCE_RANDOM };

enum no_primary_action { NO_PRIMARY_WAIT, NO_PRIMARY_READ_ONLY, NO_PRIMARY_ERROR };
enum server_lost_action { SERVER_LOST_ERROR, SERVER_LOST_DISCONNECT };

/* What happens to a running query when its client vanishes. */
enum client_gone_action { CLIENT_GONE_CANCEL, CLIENT_GONE_FINISH, CLIENT_GONE_CLOSE };

/* Which role of host serves a pool. */
enum target_session_attrs {
    TARGET_ANY,
    TARGET_READ_WRITE,
    TARGET_READ_ONLY,
    TARGET_PRIMARY,
    TARGET_STANDBY,
    TARGET_PREFER_STANDBY,
};

enum listen_gap { LISTEN_GAP_DISCONNECT, LISTEN_GAP_NOTICE };
enum session_state {
    SESSION_STATE_TRACK,
    SESSION_STATE_PIN,
    SESSION_STATE_RESET,
    SESSION_STATE_RESET_ALWAYS,
    SESSION_STATE_ERROR,
};

enum failover_mode { FAILOVER_FOLLOW, FAILOVER_PROMOTE };

enum two_primaries {
    TWO_PRIMARIES_AUTO,
    TWO_PRIMARIES_NEWEST,
    TWO_PRIMARIES_KEEP,
    TWO_PRIMARIES_STOP,
};

enum on_demote { ON_DEMOTE_CLOSE, ON_DEMOTE_DRAIN };

enum dr_failover { DR_FAILOVER_MANUAL, DR_FAILOVER_AUTOMATIC };

enum monitoring {
    MONITORING_BASIC,
    MONITORING_STANDARD,
    MONITORING_ENHANCED,
    MONITORING_COMPREHENSIVE,
};

/* How the slow-query log shows a statement. */
enum query_text { QUERY_TEXT_MASKED, QUERY_TEXT_FULL, QUERY_TEXT_NONE };

/* What becomes of logins that the audit log cannot take. */
enum audit_failure { AUDIT_FAILURE_AUTO, AUDIT_FAILURE_REFUSE, AUDIT_FAILURE_CONTINUE };

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

struct settings {
#define OPTION_BOOL(name) bool name;
#define OPTION_INT(name) int64_t name;
#define OPTION_ENUM(name) int name;
#define OPTION_TEXT(name) const char *name;
#define OPTION_DURATION(name) uint64_t name##_us;
#define OPTION_SIZE(name) uint64_t name##_bytes;
#define OPTION(type, name, ...) OPTION_##type(name)
#include "pgstage/tables/options.def"
#undef OPTION
#undef OPTION_BOOL
#undef OPTION_INT
#undef OPTION_ENUM
#undef OPTION_TEXT
#undef OPTION_DURATION
#undef OPTION_SIZE
};

/* How many server connections one pool may have: pool_size, or default_pool_size where it says
 * nothing; 0: no limit. */
static inline int64_t settings_pool_size(const struct settings *settings)
{
    return settings->pool_size < 0 ? settings->default_pool_size : settings->pool_size;
}

/* From which rank on lines are written, by log_level. */
static inline enum log_rank settings_log_rank(const struct settings *settings)
{
    static const enum log_rank ranks[] = {
        [LOG_LEVEL_DEBUG] = RANK_DEBUG,
        [LOG_LEVEL_INFO] = RANK_INFO,
        [LOG_LEVEL_WARNING] = RANK_WARNING,
        [LOG_LEVEL_ERROR] = RANK_ERROR,
    };

    return ranks[settings->log_level];
}

#endif
