/*
 * random: no byte is given twice, and a child of a fork has its own.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgstage/base/random.h"

TestSuite(random);

#define DRAWS 300 /* more than one supply */

Test(random, draws_differ)
{
    static unsigned char draws[DRAWS][8];

    for (int i = 0; i < DRAWS; i++) {
        cr_assert(random_bytes(draws[i], sizeof(draws[i])));
        for (int j = 0; j < i; j++)
            cr_assert_neq(memcmp(draws[i], draws[j], sizeof(draws[i])), 0);
    }
}

Test(random, a_large_piece_is_filled)
{
    static unsigned char bytes[4096], zeros[16];

    cr_assert(random_bytes(bytes, sizeof(bytes)));
    for (size_t i = 0; i < sizeof(bytes); i += sizeof(zeros))
        cr_assert_neq(memcmp(bytes + i, zeros, sizeof(zeros)), 0);
}

Test(random, a_child_does_not_repeat_its_parent)
{
    unsigned char ours[16], theirs[16];
    int ends[2], status;
    pid_t child;

    cr_assert(random_bytes(ours, 1)); /* a supply is there */
    cr_assert_eq(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        bool good = random_bytes(theirs, sizeof(theirs)) &&
                    write(ends[1], theirs, sizeof(theirs)) == sizeof(theirs);
        _exit(good ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_assert_eq(read(ends[0], theirs, sizeof(theirs)), (ssize_t)sizeof(theirs));
    cr_assert(random_bytes(ours, sizeof(ours)));
    cr_assert_neq(memcmp(ours, theirs, sizeof(ours)), 0);
}
