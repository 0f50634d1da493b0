/*
 * class: the twelve environment classes and what they preset.
 *
 * Constant data made from tables/classes.def; any thread. A preset beats [pgstage] (a class is
 * chosen by name for one environment) and yields to everything the environment itself says.
 */
#include "pgstage/conf/class.h"

#include <string.h>

#include "pgstage/base/text.h"

static const struct environment_class classes[] = {
#define CLASS(name, production, purpose, ...) {#name, production, purpose, {__VA_ARGS__}},
#include "pgstage/tables/classes.def"
#undef CLASS
};

static const char *const preset_options[PRESET_COUNT] = {
    [PRESET_POOL_SIZE] = "pool_size",
    [PRESET_MIN_POOL_SIZE] = "min_pool_size",
    [PRESET_QUERY_WAIT_TIMEOUT] = "query_wait_timeout",
    [PRESET_SERVER_IDLE_TIMEOUT] = "server_idle_timeout",
    [PRESET_IDLE_TRANSACTION_TIMEOUT] = "idle_transaction_timeout",
    [PRESET_SERVER_TLS_SSLMODE] = "server_tls_sslmode",
    [PRESET_CLIENT_TLS_SSLMODE] = "client_tls_sslmode",
    [PRESET_STATEMENT_TIMEOUT] = "statement_timeout",
    [PRESET_MONITORING] = "monitoring",
    [PRESET_LOG_LEVEL] = "log_level",
    [PRESET_FAILOVER_MODE] = "failover_mode",
};

size_t class_count(void)
{
    return sizeof(classes) / sizeof(classes[0]);
}

const struct environment_class *class_at(size_t index)
{
    return &classes[index];
}

const struct environment_class *class_find(const char *name)
{
    for (size_t i = 0; i < class_count(); i++)
        if (strcmp(classes[i].name, name) == 0)
            return &classes[i];
    return NULL;
}

const char *class_nearest(const char *name)
{
    const char *nearest = NULL;
    unsigned best = (unsigned)strlen(name) / 2 + 1;
    for (size_t i = 0; i < class_count(); i++) {
        unsigned distance = text_distance(name, classes[i].name);
        if (distance < best) {
            nearest = classes[i].name;
            best = distance;
        }
    }
    return nearest;
}

const char *class_preset_option(enum class_preset preset)
{
    return preset_options[preset];
}
