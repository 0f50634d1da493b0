/*
 * switches.c: which databases are on or off (paused, disabled), by name, whether they have pools or
 * not.
 *
 * Under the registry's mutex. Each word has a number; for a database the latest word that is about
 * it counts, whether it was said of everything, of its environment, of its name in all
 * environments, or of it alone. A word makes the earlier ones about the same databases pointless:
 * those are dropped.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct word {
    char *key;
    size_t key_length;
    char *database;    /* NULL: all of the environment */
    char *environment; /* NULL: all environments, or none */
    uint64_t number;
    bool on;
    UT_hash_handle hh;
};

struct switches {
    struct word *words; /* table */
    uint64_t last_number;
    struct {
        uint64_t number;
        bool on;
    } all;
};

/* Kinds of keys: a name in all environments, a name in one, all names of one environment. */
#define EVERYWHERE '*'
#define ONE '1'
#define ENVIRONMENT 'e'

struct switches *switches_new(void)
{
    return memory_new(sizeof(struct switches));
}

static void drop(struct switches *switches, struct word *word)
{
    HASH_DEL(switches->words, word);
    free(word->key);
    free(word->database);
    free(word->environment);
    free(word);
}

/* Drops the words about a name, about an environment, or all. */
static void drop_about(struct switches *switches, const char *database, const char *environment)
{
    struct word *word, *next;
    HASH_ITER (hh, switches->words, word, next) {
        if ((!database || text_equal(word->database, database)) &&
            (!environment || text_equal(word->environment, environment)))
            drop(switches, word);
    }
}

void switches_free(struct switches *switches)
{
    drop_about(switches, NULL, NULL);
    free(switches);
}

static struct word *find(const struct switches *switches, char kind, const char *database,
                         const char *environment)
{
    size_t length;
    struct word *word;
    if (!switches->words)
        return NULL; /* each login asks */
    char *key = registry_key(kind, database, environment, NULL, &length);
    HASH_FIND(hh, switches->words, key, length, word);
    free(key);
    return word;
}

void switches_set(struct switches *switches, const char *database, const char *environment, bool on)
{
    uint64_t number = ++switches->last_number;
    if (!database || !environment)
        drop_about(switches, database, environment);
    if (!database && !environment) {
        switches->all.number = number;
        switches->all.on = on;
        return;
    }
    char kind = !environment ? EVERYWHERE : database ? ONE : ENVIRONMENT;
    struct word *word = find(switches, kind, database, environment);
    if (!word) {
        word = memory_new(sizeof(*word));
        word->key = registry_key(kind, database, environment, NULL, &word->key_length);
        word->database = text_copy(database);
        word->environment = text_copy(environment);
        HASH_ADD_KEYPTR(hh, switches->words, word->key, word->key_length, word);
    }
    word->number = number;
    word->on = on;
}

bool switches_get(const struct switches *switches, const char *database, const char *environment)
{
    uint64_t number = switches->all.number;
    bool on = switches->all.on;
    static const char kinds[] = {ENVIRONMENT, EVERYWHERE, ONE};
    for (unsigned i = 0; i < sizeof kinds; i++) {
        bool has_name = kinds[i] != ENVIRONMENT, has_environment = kinds[i] != EVERYWHERE;
        if ((has_name && !database) || (has_environment && !environment))
            continue;
        struct word *word = find(switches, kinds[i], has_name ? database : NULL,
                                 has_environment ? environment : NULL);
        if (word && word->number > number) {
            number = word->number;
            on = word->on;
        }
    }
    return on;
}
