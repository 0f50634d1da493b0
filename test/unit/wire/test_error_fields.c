/* error_fields: what is read from ErrorResponse and NoticeResponse. */
#include <criterion/criterion.h>

#include "pgstage/wire/message.h"
#include "piece.h"

Test(error_fields, are_read_from_what_a_server_sends)
{
    static const char body[] = "SFEHLER\0VERROR\0C42P01\0Mno such thing\0Ddetail\0Hhint\0"
                               "Fparse.c\0L12\0Rf\0";
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)body, sizeof body), 0);
    cr_assert_str_eq(fields.severity, "ERROR");
    cr_assert_str_eq(fields.sqlstate, "42P01");
    cr_assert_str_eq(fields.message, "no such thing");
    cr_assert_str_eq(fields.detail, "detail");
    cr_assert_str_eq(fields.hint, "hint");
}

Test(error_fields, that_are_absent_are_empty_texts_and_XX000)
{
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)"Moops\0", 7), 0);
    cr_assert_str_eq(fields.sqlstate, "XX000");
    cr_assert_str_eq(fields.severity, "");
    cr_assert_str_eq(fields.detail, "");
    cr_assert_str_eq(fields.hint, "");
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)"", 1), 0);
    cr_assert_str_eq(fields.message, "");
}

Test(error_fields, take_the_localised_severity_of_an_old_server)
{
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)"SFATAL\0", 8), 0);
    cr_assert_str_eq(fields.severity, "FATAL");
}

Test(error_fields, prefer_the_plain_severity_in_either_order)
{
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)"VFATAL\0SFATALE\0", 16), 0);
    cr_assert_str_eq(fields.severity, "FATAL");
}

Test(error_fields, do_not_pass_on_a_sqlstate_that_is_none)
{
    static const char *const bad[] = {"", "4200", "420000", "42p01", "42 01", "'; --"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buffer body = {0};
        buffer_put_u8(&body, 'C');
        buffer_put_string(&body, bad[i]);
        buffer_put_u8(&body, 0);
        struct error_fields fields;
        cr_expect_eq(error_fields_read(&fields, body.data, body.length), 0);
        cr_expect_str_eq(fields.sqlstate, "XX000", "%s", bad[i]);
        buffer_fini(&body);
    }
}

Test(error_fields, fail_at_every_truncation_and_keep_what_was_read)
{
    static const char body[] = "VERROR\0C57P01\0Mterminating\0";
    struct error_fields fields;
    for (size_t length = 0; length < sizeof body; length++) {
        uint8_t *piece = piece_of(body, length);
        cr_expect_eq(error_fields_read(&fields, piece, length), -1, "%zu bytes", length);
        cr_expect_str_eq(fields.sqlstate, length >= 14 ? "57P01" : "XX000", "%zu bytes", length);
        free(piece);
    }
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)body, sizeof body), 0);
}

Test(error_fields, fail_on_bytes_behind_the_terminator)
{
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, (const uint8_t *)"Mx\0\0junk", 8), -1);
    cr_assert_str_eq(fields.message, "x");
}

Test(error_fields, survive_every_single_byte_change)
{
    static const char body[] = "SERROR\0VERROR\0C42601\0Msyntax\0";
    for (size_t i = 0; i < sizeof body; i++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *piece = piece_of(body, sizeof body);
            piece[i] = (uint8_t)value;
            struct error_fields fields;
            (void)error_fields_read(&fields, piece, sizeof body);
            cr_expect_eq(strlen(fields.sqlstate), 5);
            cr_expect_leq(strlen(fields.message), sizeof body);
            free(piece);
        }
    }
}
