/* map: the seeded hash and uthash on top of it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgstage/base/map.h"

struct entry {
    char name[32];
    int number;
    UT_hash_handle hh;
};

Test(map, hashes_equal_bytes_equally)
{
    char a[] = "app@production", b[] = "app@production";
    cr_assert_eq(map_hash(a, sizeof a), map_hash(b, sizeof b));
    cr_assert_neq(map_hash(a, sizeof a), map_hash(a, sizeof a - 2));
}

/* The hash as a new process sees it. Fresh because nothing in this one has hashed before. */
static uint32_t hash_in_a_child(void)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        uint32_t hash = map_hash("key", 3);
        _exit(write(ends[1], &hash, sizeof hash) == (ssize_t)sizeof hash ? 0 : 1);
    }
    uint32_t hash;
    cr_assert_eq(read(ends[0], &hash, sizeof hash), (ssize_t)sizeof hash);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    close(ends[0]);
    close(ends[1]);
    return hash;
}

Test(map, has_another_seed_in_another_process)
{
    /* Three, so that a chance collision of 32 bits does not fail the test. */
    uint32_t first = hash_in_a_child(), second = hash_in_a_child(), third = hash_in_a_child();
    cr_assert(first != second || second != third);
}

Test(map, finds_each_of_many_entries)
{
    struct entry *table = NULL, *entry, *next;
    for (int i = 0; i < 1000; i++) {
        entry = calloc(1, sizeof *entry);
        snprintf(entry->name, sizeof entry->name, "database%d", i);
        entry->number = i;
        HASH_ADD_STR(table, name, entry);
    }
    HASH_FIND_STR(table, "database777", entry);
    cr_assert_not_null(entry);
    cr_assert_eq(entry->number, 777);
    HASH_FIND_STR(table, "database1000", entry);
    cr_assert_null(entry);
    HASH_ITER (hh, table, entry, next) {
        HASH_DEL(table, entry);
        free(entry);
    }
    cr_assert_null(table);
}
