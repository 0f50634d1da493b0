/*
 * class: the environment classes of tables/classes.def as data. Constant; any thread.
 */
#ifndef PGSTAGE_CONF_CLASS_H
#define PGSTAGE_CONF_CLASS_H

#include <stdbool.h>
#include <stddef.h>

/* What a class presets, in the order of the columns of classes.def. */
enum class_preset {
    PRESET_POOL_SIZE,
    PRESET_MIN_POOL_SIZE,
    PRESET_QUERY_WAIT_TIMEOUT,
    PRESET_SERVER_IDLE_TIMEOUT,
    PRESET_IDLE_TRANSACTION_TIMEOUT,
    PRESET_SERVER_TLS_SSLMODE,
    PRESET_CLIENT_TLS_SSLMODE,
    PRESET_STATEMENT_TIMEOUT,
    PRESET_MONITORING,
    PRESET_LOG_LEVEL,
    PRESET_FAILOVER_MODE,
    PRESET_COUNT,
};

struct environment_class {
    const char *name;
    bool production;
    const char *purpose;
    const char *presets[PRESET_COUNT]; /* option texts; NULL: the class presets nothing */
};

size_t class_count(void);
const struct environment_class *class_at(size_t index);
/* NULL when there is no such class. */
const struct environment_class *class_find(const char *name);
/* The known class nearest to a mistyped one, or NULL when none is near. */
const char *class_nearest(const char *name);
/* The option that a preset sets. */
const char *class_preset_option(enum class_preset preset);

#endif
