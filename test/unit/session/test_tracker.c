/*
 * What the tracker reads in a text: which entries each statement makes.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../../../src/session/tracker_inside.h"

static void describe(const char *text, char *out, size_t size)
{
    static const char *const kinds[] = {
        [ENTRY_SET] = "set",
        [ENTRY_RESET] = "reset",
        [ENTRY_RESET_ALL] = "reset_all",
        [ENTRY_DISCARD_ALL] = "discard_all",
        [ENTRY_PIN] = "pin",
        [ENTRY_UNPIN] = "unpin",
        [ENTRY_ASK] = "ask",
        [ENTRY_SOIL] = "soil",
        [ENTRY_STAIN] = "stain",
        [ENTRY_LISTEN] = "listen",
        [ENTRY_UNLISTEN] = "unlisten",
        [ENTRY_SAVEPOINT] = "savepoint",
        [ENTRY_RELEASE] = "release",
        [ENTRY_ROLLBACK_TO] = "rollback_to",
    };
    struct entries entries = {0}, copy;
    FILE *file = fmemopen(out, size, "w");

    if (!entries_read(&entries, text, strlen(text), 0))
        fputs("? ", file);
    entries_copy(&copy, &entries);
    entries_fini(&entries);
    for (uint32_t i = 0; i < copy.count; i++) {
        const struct entry *entry = &copy.items[i];

        fprintf(file, "%u:%s%s", entry->statement, kinds[entry->kind], entry->at_once ? "!" : "");
        if (entry->kind == ENTRY_PIN || entry->kind == ENTRY_UNPIN)
            fprintf(file, ":%s", pin_name(entry->pin));
        if (entry->name)
            fprintf(file, ":%s", entry->name);
        if (entry->value)
            fprintf(file, "%s%s", entry->words ? "=" : ":=", entry->value);
        fputc(' ', file);
    }
    fclose(file);
    entries_fini(&copy);
}

Test(tracker, reads_what_statements_do)
{
    static const struct {
        const char *text, *entries;
    } rows[] = {
        {"select 1", ""},
        {"select 1; set a = 1; commit; reset b", "1:set:a=1 3:reset:b "},
        {"set a to default; set b = 'x\xc3\xa4'; set c = E'\\x41'",
         "0:reset:a 1:set:b:=x\xc3\xa4 2:pin:setting "},
        {"set session characteristics as transaction read only, deferrable",
         "0:set:default_transaction_read_only=on 0:set:default_transaction_deferrable=on "},
        {"set search_path = pg_temp, public", "0:set:search_path=pg_temp, public 0:pin:temporary "},
        {"savepoint a; release a; rollback to a", "0:savepoint:a 1:release:a 2:rollback_to:a "},
        {"reset all; discard all; discard temp",
         "0:reset_all 1:discard_all 1:unpin!:advisory_lock 1:unpin!:prepare 2:unpin:temporary "},
        {"set role x; reset role; set session authorization default",
         "0:pin:role 1:unpin:role 2:unpin:authorization 2:unpin:role "},
        {"create temp table t (a int); drop table t", "0:pin:temporary 1:ask "},
        {"declare c cursor with hold for select 1; close c", "0:pin:cursor 1:ask "},
        {"select pg_advisory_lock(1); select pg_advisory_unlock(1)",
         "0:pin!:advisory_lock 1:ask! "},
        {"prepare p as select 1; deallocate p; deallocate all",
         "0:pin!:prepare 1:ask! 2:ask! 2:unpin!:prepare "},
        {"prepare p as select set_config('a', 'b', false), pg_advisory_lock(1)",
         "0:pin!:prepare 0:pin!:set_config 0:soil! 0:pin!:advisory_lock "},
        {"deallocate pgstage_7", "0:ask! 0:stain! "},
        {"set role none", "0:soil 0:unpin:role "},
        {"load 'x'; select setseed(1)", "0:pin!:load 1:pin!:seed "},
        {"listen x; unlisten x; unlisten *", "0:listen:x 1:unlisten:x 2:unlisten "},
        {"select set_config('a', b, false) from t", "0:pin:set_config "},
        {"select 'x; set a = 1", "? 0:ask! "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char entries[512] = "";

        describe(rows[i].text, entries, sizeof(entries));
        cr_expect_str_eq(entries, rows[i].entries, "%s: %s", rows[i].text, entries);
    }
}
