/*
 * settings: every option of the product as one field of one struct, made from tables/options.def.
 *
 * There is one struct for all scopes: `snapshot_settings` resolves the scopes (built-in default <
 * [pgstage] < class preset < [environment] < [databases] < [users]) into one complete struct. Field
 * names are the options' names with the unit behind: an option `query_wait_timeout` of type DURATION
 * is `query_wait_timeout_us`, a SIZE `max_packet_size` is `max_packet_size_bytes`; BOOL, INT, ENUM and
 * TEXT have no suffix. A duration of 0 means "off" where the option says so. A text that is not set
 * is NULL. Frozen after it was made; any thread reads it.
 */
#ifndef PGSTAGE_CONF_SETTINGS_H
#define PGSTAGE_CONF_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

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

enum load_balance_hosts { BALANCE_ROUND_ROBIN, BALANCE_DISABLE, BALANCE_LEAST, BALANCE_RANDOM };

enum server_lost_action { SERVER_LOST_ERROR, SERVER_LOST_DISCONNECT };

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

#endif
