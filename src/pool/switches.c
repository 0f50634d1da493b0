/*
 * switches.c: which databases are on or off (paused, disabled), by name, whether they have pools or
 * not.
 *
 * Under the registry's mutex. Each word has a number; for a database the latest word that is about
 * it counts, whether it was said of everything, of its name in all environments, or of it alone. A
 * word makes the earlier ones about the same databases pointless: those are dropped.
 */
#include <stdlib.h>

#include "inside.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"

struct word {
    char *key;
    size_t key_length;
    char *database;
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

/* Kinds of keys: a name in all environments, a name in one (or in none). */
#define EVERYWHERE '*'
#define ONE '1'

struct switches *switches_new(void)
{
    return memory_new(sizeof(struct switches));
}

static void drop(struct switches *switches, struct word *word)
{
    HASH_DEL(switches->words, word);
    free(word->key);
    free(word->database);
    free(word);
}

/* Drops the words about a name, or all. */
static void drop_about(struct switches *switches, const char *database)
{
    struct word *word, *next;
    HASH_ITER (hh, switches->words, word, next) {
        if (!database || text_equal(word->database, database))
            drop(switches, word);
    }
}

void switches_free(struct switches *switches)
{
    drop_about(switches, NULL);
    free(switches);
}

static struct word *find(const struct switches *switches, char kind, const char *database,
                         const char *environment)
{
    size_t length;
    struct word *word;
    char *key = registry_key(kind, database, environment, NULL, &length);
    HASH_FIND(hh, switches->words, key, length, word);
    free(key);
    return word;
}

void switches_set(struct switches *switches, const char *database, const char *environment, bool on)
{
    uint64_t number = ++switches->last_number;
    if (!database || !environment)
        drop_about(switches, database);
    if (!database) {
        switches->all.number = number;
        switches->all.on = on;
        return;
    }
    char kind = environment ? ONE : EVERYWHERE;
    struct word *word = find(switches, kind, database, environment);
    if (!word) {
        word = memory_new(sizeof(*word));
        word->key = registry_key(kind, database, environment, NULL, &word->key_length);
        word->database = text_copy(database);
        HASH_ADD_KEYPTR(hh, switches->words, word->key, word->key_length, word);
    }
    word->number = number;
    word->on = on;
}

bool switches_get(const struct switches *switches, const char *database, const char *environment)
{
    uint64_t number = switches->all.number;
    bool on = switches->all.on;
    for (int pass = 0; database && pass < 2; pass++) {
        if (pass == 1 && !environment)
            break;
        struct word *word = pass ? find(switches, ONE, database, environment)
                                 : find(switches, EVERYWHERE, database, NULL);
        if (word && word->number > number) {
            number = word->number;
            on = word->on;
        }
    }
    return on;
}
