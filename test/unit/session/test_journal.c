/*
 * The journal: what is left of a transaction's changes after savepoints and their ends.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/session/journal.h"

/* Plays words: "a=1" sets, "a!" resets, "*" resets all, "+s" savepoint, "-s" release, "<s" rollback
 * to, "COMMIT", "ROLLBACK", "TAKEN" (what is certain was carried out); tells what is left in the
 * same words, savepoints left out, and "|" behind what is certain. */
static void play(const char *script, char *out, size_t size, bool *lost)
{
    struct journal journal = {0};
    char *copy = strdup(script), *save = NULL;
    FILE *file;

    for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        struct entry entry = {.kind = ENTRY_RESET_ALL};
        char *equals = strchr(word, '=');

        if (strcmp(word, "COMMIT") == 0) {
            journal_commit(&journal);
            continue;
        }
        if (strcmp(word, "ROLLBACK") == 0) {
            journal_rollback(&journal);
            continue;
        }
        if (strcmp(word, "TAKEN") == 0) {
            journal_drop_certain(&journal);
            continue;
        }
        if (*word == '+' || *word == '-' || *word == '<') {
            entry.kind = *word == '+'   ? ENTRY_SAVEPOINT
                         : *word == '-' ? ENTRY_RELEASE
                                        : ENTRY_ROLLBACK_TO;
            entry.name = word + 1;
        } else if (equals) {
            *equals = '\0';
            entry.kind = ENTRY_SET;
            entry.name = word;
            entry.value = equals + 1;
        } else if (*word != '*') {
            entry.kind = ENTRY_RESET;
            word[strlen(word) - 1] = '\0';
            entry.name = word;
        }
        journal_add(&journal, &entry);
    }
    file = fmemopen(out, size, "w");
    for (uint32_t i = 0; i < journal.count; i++) {
        const struct entry *entry = &journal.entries[i];

        if (entry->kind == ENTRY_SET)
            fprintf(file, "%s=%s ", entry->name, entry->value);
        else if (entry->kind == ENTRY_RESET)
            fprintf(file, "%s! ", entry->name);
        else if (entry->kind == ENTRY_RESET_ALL)
            fprintf(file, "* ");
        if (i + 1 == journal.certain)
            fprintf(file, "| ");
    }
    fclose(file);
    *lost = journal.lost;
    journal_fini(&journal);
    cr_expect_eq(journal.bytes, 0);
    free(copy);
}

Test(journal, savepoints_undo_what_came_behind_them)
{
    static const struct {
        const char *script, *left;
        bool lost;
    } rows[] = {
        {"", "", false},
        {"a=1 b=2 a!", "a=1 b=2 a! ", false},
        {"a=1 +s a=2 <s", "a=1 ", false},
        {"a=1 +s a=2 <s a=3 <s a=4", "a=1 a=4 ", false},
        {"+s a=1 +t a=2 <s", "", false},
        {"+s a=1 +t a=2 <t", "a=1 ", false},
        {"+s a=1 +t a=2 <t <s b=1", "b=1 ", false},
        {"+s a=1 -s", "a=1 ", false},
        {"+s a=1 +t b=1 -s c=1", "a=1 b=1 c=1 ", false},
        {"+s a=1 +s a=2 <s", "a=1 ", false},
        {"+s a=1 +s a=2 -s <s", "", false},
        {"a=1 +s * +t b! <s", "a=1 ", false},
        {"+s a=1 -s <s", "a=1 ", true},
        {"<nowhere", "", true},
        {"+s -t", "", true},
        {"a=1 +s b=1 COMMIT c=1 +s d=1 <s", "a=1 b=1 | c=1 ", false},
        {"a=1 COMMIT b=1 ROLLBACK", "a=1 | ", false},
        {"a=1 COMMIT b=1 COMMIT c=1 TAKEN", "c=1 ", false},
        {"+s a=1 COMMIT <s", "a=1 | ", true},
        {"a=1 ROLLBACK b=1 TAKEN", "b=1 ", false},
        {"a=1 COMMIT TAKEN", "", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char left[256] = "";
        bool lost;

        play(rows[i].script, left, sizeof(left), &lost);
        cr_expect_str_eq(left, rows[i].left, "%s: %s", rows[i].script, left);
        cr_expect_eq(lost, rows[i].lost, "%s", rows[i].script);
    }
}

Test(journal, has_bounds)
{
    struct journal journal = {0};
    char name[] = "s";
    struct entry entry = {.kind = ENTRY_SAVEPOINT, .name = name};
    char *value;

    for (int i = 0; i < JOURNAL_ENTRIES_MAX; i++)
        journal_add(&journal, &entry);
    cr_expect_not(journal.lost);
    journal_add(&journal, &entry);
    cr_expect(journal.lost);
    cr_expect_eq(journal.count, JOURNAL_ENTRIES_MAX);
    journal_clear(&journal);
    cr_expect_not(journal.lost);
    value = malloc(JOURNAL_BYTES_MAX + 1);
    memset(value, 'x', JOURNAL_BYTES_MAX);
    value[JOURNAL_BYTES_MAX] = '\0';
    entry = (struct entry){.kind = ENTRY_SET, .name = name, .value = value};
    journal_add(&journal, &entry);
    cr_expect(journal.lost);
    cr_expect_eq(journal.count, 0);
    free(value);
    journal_fini(&journal);
}
