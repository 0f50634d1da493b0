/* result: cells in both formats. */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/admin/result.h"

static const struct column items[] = {
    {"a", COLUMN_INT4, NULL},
    {"b", COLUMN_INT8, NULL},
    {"c", COLUMN_NUMERIC, NULL},
    {"d", COLUMN_TEXT, NULL},
};
static const struct columns columns = {items, 4};
static const uint16_t binary[] = {1, 1, 1, 1};

/* One row with these values; the message's bytes behind header and column count. */
static struct buffer row(const uint16_t *formats, int64_t a, int64_t b, uint64_t c)
{
    struct result result;
    result_init(&result, &columns, formats);
    result_begin(&result);
    result_int(&result, a);
    result_int(&result, b);
    result_uint(&result, c);
    result_text(&result, NULL);
    result_end(&result);
    struct buffer bytes = result.rows;
    buffer_consume(&bytes, 7);
    return bytes;
}

static void expect(struct buffer bytes, const char *wanted, size_t length)
{
    cr_expect(bytes.length == length && memcmp(bytes.data, wanted, length) == 0);
    buffer_fini(&bytes);
}

#define EXPECT(bytes, text) expect(bytes, text, sizeof text - 1)

Test(result, shows_numbers_as_text)
{
    EXPECT(row(NULL, -7, 8, 9), "\0\0\0\2-7\0\0\0\1"
                                "8\0\0\0\1"
                                "9\xff\xff\xff\xff");
}

Test(result, shows_numbers_in_binary)
{
    EXPECT(row(binary, -2, 258, 0), "\0\0\0\4\xff\xff\xff\xfe"
                                    "\0\0\0\10\0\0\0\0\0\0\1\2"
                                    "\0\0\0\10\0\0\0\0\0\0\0\0"
                                    "\xff\xff\xff\xff");
}

Test(result, shows_numeric_in_digits_of_ten_thousand)
{
    /* 12 3456 7890: three digits, weight 2 */
    EXPECT(row(binary, 0, 0, 1234567890), "\0\0\0\4\0\0\0\0"
                                          "\0\0\0\10\0\0\0\0\0\0\0\0"
                                          "\0\0\0\16\0\3\0\2\0\0\0\0\0\14\xd\x80\x1e\xd2"
                                          "\xff\xff\xff\xff");
}

Test(result, does_not_let_a_small_column_wrap_around)
{
    EXPECT(row(NULL, INT64_C(5000000000), 1, 1), "\0\0\0\12"
                                                 "2147483647"
                                                 "\0\0\0\1"
                                                 "1\0\0\0\1"
                                                 "1\xff\xff\xff\xff");
}

Test(result, puts_parts_together)
{
    struct result whole, part;
    result_init(&whole, &columns_of_version, NULL);
    result_part(&part, &whole);
    for (int i = 0; i < 3; i++) {
        struct result *target = i < 2 ? &part : &whole;
        result_begin(target);
        result_print(target, "%d", i);
        result_end(target);
    }
    result_append(&whole, &part);
    cr_expect_eq(whole.row_count, 3);
    cr_expect_eq(part.rows.length, 0);
    cr_expect_eq(whole.rows.length, 3 * (1 + 4 + 2 + 4 + 1));
    result_fini(&whole);
}
