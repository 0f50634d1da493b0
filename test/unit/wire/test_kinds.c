/* kinds: the table of message types. */
#include <criterion/criterion.h>

#include "pgstage/wire/kinds.h"

Test(kinds, tell_the_same_byte_apart_by_direction)
{
    cr_assert_str_eq(kind_name(KIND_CLIENT, 'D'), "Describe");
    cr_assert_str_eq(kind_name(KIND_SERVER, 'D'), "DataRow");
    cr_assert_eq(kind_find(KIND_CLIENT, 'D')->relay, KIND_ANSWER);
    cr_assert_eq(kind_find(KIND_SERVER, 'D')->relay, KIND_FORWARD);
    cr_assert_eq(kind_find(KIND_CLIENT, 'X')->relay, KIND_LOCAL);
    cr_assert_eq(kind_find(KIND_CLIENT, 'c')->relay, KIND_MARK);
    cr_assert_eq(kind_find(KIND_SERVER, 'Z')->relay, KIND_INSPECT);
}

Test(kinds, refuse_what_has_no_place_after_the_login)
{
    cr_assert_eq(kind_find(KIND_CLIENT, 'p')->relay, KIND_REFUSE);
    cr_assert_eq(kind_find(KIND_SERVER, 'R')->relay, KIND_REFUSE);
}

Test(kinds, hold_every_row_of_the_table_and_refuse_every_other_byte)
{
    static const char *const bytes[] = {"BCdcfDEHFPpQSX", "RKv123CdcGHWDIEVnNAtSsZT"};
    for (int direction = KIND_CLIENT; direction <= KIND_SERVER; direction++) {
        for (int byte = 0; byte < 256; byte++) {
            const struct kind *kind = kind_find(direction, (uint8_t)byte);
            if (byte != 0 && strchr(bytes[direction], byte)) {
                cr_expect_not_null(kind->name, "byte %d", byte);
                continue;
            }
            cr_expect_null(kind->name, "byte %d", byte);
            cr_expect_eq(kind->relay, KIND_REFUSE, "byte %d", byte);
            cr_expect_str_eq(kind_name(direction, (uint8_t)byte), "unknown");
        }
    }
}
