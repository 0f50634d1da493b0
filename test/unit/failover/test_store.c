/*
 * The state file: what was written is found again, a damaged file is noticed, only one process uses
 * the folder, and many writes in a row end with the last one.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgstage/base/text.h"
#include "pgstage/failover/store.h"
#include "pgstage/worker/loop.h"

static char folder[64];
static struct loop *loop;
static char problem[256];

static void begin(void)
{
    strcpy(folder, "/tmp/pgstage-store-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    loop = loop_new(0, NULL);
    cr_assert_not_null(loop);
}

static void end(void)
{
    char *command = text_print("rm -rf %s", folder);
    loop_free(loop);
    cr_assert_eq(system(command), 0);
    free(command);
}

TestSuite(store, .init = begin, .fini = end, .timeout = 300);

static char *path(const char *name)
{
    return text_print("%s/%s", folder, name);
}

static void put_file(const char *text)
{
    char *name = path("failover.json");
    FILE *file = fopen(name, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    free(name);
}

static struct store *open_it(void)
{
    struct store *store = store_open(loop, folder, problem, sizeof problem);
    cr_assert_not_null(store, "%s", problem);
    return store;
}

struct answers {
    int count, bad;
};

static void on_written(void *context, const char *why)
{
    struct answers *answers = context;
    answers->count++;
    answers->bad += *why != '\0';
}

static int read_value(void)
{
    struct store *store = open_it();
    json_t *content = NULL;
    cr_assert_eq(store_load(store, &content, problem, sizeof problem), STORE_READ, "%s", problem);
    int value = (int)json_integer_value(json_object_get(content, "value"));
    json_decref(content);
    store_close(store);
    return value;
}

Test(store, what_was_written_is_found_again)
{
    struct store *store = open_it();
    struct answers answers = {0};
    json_t *content = NULL;
    cr_assert_eq(store_load(store, &content, problem, sizeof problem), STORE_MISSING);
    store_write(store, json_pack("{si}", "value", 7), on_written, &answers);
    cr_assert_eq(answers.count, 0, "told from inside the call");
    while (answers.count == 0)
        loop_turn(loop, true);
    cr_assert_eq(answers.bad, 0);
    store_close(store);
    cr_assert_eq(read_value(), 7);
    struct stat seen;
    char *name = path("failover.json");
    cr_assert_eq(stat(name, &seen), 0);
    cr_assert_eq(seen.st_mode & 0777, 0600);
    free(name);
}

Test(store, many_writes_in_a_row_end_with_the_last_and_tell_everybody)
{
    struct store *store = open_it();
    struct answers answers = {0};
    for (int i = 1; i <= 500; i++)
        store_write(store, json_pack("{si}", "value", i), on_written, &answers);
    while (answers.count < 500)
        loop_turn(loop, true);
    cr_assert_eq(answers.bad, 0);
    store_close(store);
    cr_assert_eq(read_value(), 500);
}

Test(store, what_was_asked_for_last_is_written_at_the_end_too)
{
    struct store *store = open_it();
    struct answers answers = {0};
    for (int i = 1; i <= 5; i++)
        store_write(store, json_pack("{si}", "value", i), on_written, &answers);
    store_close(store);
    cr_assert_eq(read_value(), 5);
    loop_turn(loop, false);
    cr_assert_eq(answers.count, 0);
}

Test(store, a_damaged_file_is_noticed_and_can_be_put_aside)
{
    static const char *const damaged[] = {
        "", "{", "[1]", "{\"value\": 1", "{\"a\":1,\"a\":2}", "\x01\x02"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        json_t *content = NULL;
        put_file(damaged[i]);
        struct store *store = open_it();
        cr_assert_eq(store_load(store, &content, problem, sizeof problem), STORE_DAMAGED, "%s",
                     damaged[i]);
        cr_assert_null(content);
        cr_assert(strstr(problem, "failover.json"));
        cr_assert(store_put_aside(store));
        cr_assert_eq(store_load(store, &content, problem, sizeof problem), STORE_MISSING);
        store_close(store);
    }
}

Test(store, only_one_uses_the_folder)
{
    struct store *store = open_it();
    cr_assert_null(store_open(loop, folder, problem, sizeof problem));
    cr_assert(strstr(problem, "in use by another process"), "%s", problem);
    store_close(store);
    store = open_it();
    store_close(store);
}

Test(store, a_folder_that_is_missing_is_made)
{
    char *inner = path("state");
    struct store *store = store_open(loop, inner, problem, sizeof problem);
    cr_assert_not_null(store, "%s", problem);
    struct stat seen;
    cr_assert_eq(stat(inner, &seen), 0);
    cr_assert_eq(seen.st_mode & 0777, 0700);
    store_close(store);
    free(inner);
}

Test(store, a_folder_that_others_may_write_to_is_refused)
{
    cr_assert_eq(chmod(folder, 0777), 0);
    cr_assert_null(store_open(loop, folder, problem, sizeof problem));
    cr_assert(strstr(problem, "may be written by others"), "%s", problem);
    cr_assert_null(store_open(loop, "/nowhere/at/all", problem, sizeof problem));
    cr_assert(strstr(problem, "/nowhere/at/all"), "%s", problem);
}

Test(store, a_write_that_fails_is_told_and_leaves_the_old_file)
{
    struct store *store = open_it();
    struct answers answers = {0};
    store_write(store, json_pack("{si}", "value", 1), on_written, &answers);
    while (answers.count < 1)
        loop_turn(loop, true);
    /* a folder where the new file would be: works for root as well */
    char *name = path("failover.json.new");
    cr_assert_eq(mkdir(name, 0700), 0);
    store_write(store, json_pack("{si}", "value", 2), on_written, &answers);
    while (answers.count < 2)
        loop_turn(loop, true);
    cr_assert_eq(answers.bad, 1);
    cr_assert_eq(rmdir(name), 0);
    free(name);
    store_close(store);
    cr_assert_eq(read_value(), 1);
}
