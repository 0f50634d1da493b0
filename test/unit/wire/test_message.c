/* message: the messages that pgstage writes itself. */
#include <criterion/criterion.h>

#include "pgstage/wire/frame.h"
#include "pgstage/wire/message.h"

static struct buffer out;

static void empty_out(void)
{
    buffer_fini(&out);
}

TestSuite(message, .fini = empty_out);

/* The buffer holds exactly these bytes. */
#define expect_bytes(text)                                                                         \
    do {                                                                                           \
        cr_assert_eq(out.length, sizeof(text) - 1, "%zu bytes", out.length);                       \
        cr_assert_arr_eq(out.data, text, sizeof(text) - 1);                                        \
    } while (0)

Test(message, of_a_type_only_is_five_bytes)
{
    message_empty(&out, 'S');
    expect_bytes("S\0\0\0\x04");
}

Test(message, begins_behind_what_the_buffer_holds)
{
    message_ready(&out, 'I');
    message_ready(&out, 'E');
    expect_bytes("Z\0\0\0\x05IZ\0\0\0\x05"
                 "E");
}

Test(message, keeps_its_length_right_when_the_buffer_moves)
{
    char text[70000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    message_query(&out, text);
    struct frame frame;
    cr_assert_eq(frame_peek(out.data, out.length, UINT32_MAX, &frame), FRAME_OK);
    cr_assert_eq(frame.body_bytes, sizeof text);
    cr_assert_eq(out.length, FRAME_HEADER_BYTES + sizeof text);
}

Test(message, error_has_both_severities_and_the_optional_fields)
{
    message_error(&out, "FATAL", "28P01", "no", "because", "try again");
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, out.data + 5, out.length - 5), 0);
    cr_assert_eq(out.data[0], 'E');
    cr_assert_arr_eq(out.data + 5, "SFATAL\0VFATAL\0C28P01\0Mno\0", 25);
    cr_assert_str_eq(fields.detail, "because");
    cr_assert_str_eq(fields.hint, "try again");
}

Test(message, error_leaves_out_detail_and_hint_that_are_null)
{
    message_error(&out, "ERROR", "08P01", "x", NULL, NULL);
    expect_bytes("E\0\0\0\x1dSERROR\0VERROR\0C08P01\0Mx\0\0");
}

Test(message, error_text_is_cut_at_8_kB_between_characters)
{
    char text[9001];
    memset(text, 'a', sizeof text);
    text[9000] = 0;
    memcpy(text + 8190, "\xe2\x82\xac", 3); /* the euro sign lies across the limit */
    message_error(&out, "ERROR", "08P01", text, NULL, NULL);
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, out.data + 5, out.length - 5), 0);
    cr_assert_eq(strlen(fields.message), 8190);
}

Test(message, error_text_at_the_limit_is_whole)
{
    char text[8193];
    memset(text, 'a', sizeof text);
    text[8192] = 0;
    message_notice(&out, "NOTICE", "00000", text);
    struct error_fields fields;
    cr_assert_eq(out.data[0], 'N');
    cr_assert_eq(error_fields_read(&fields, out.data + 5, out.length - 5), 0);
    cr_assert_eq(strlen(fields.message), 8192);
}

Test(message, error_text_of_continuation_bytes_only_does_not_run_off)
{
    char text[9001];
    memset(text, 0x80, sizeof text);
    text[9000] = 0;
    message_error(&out, "ERROR", "08P01", text, NULL, NULL);
    struct error_fields fields;
    cr_assert_eq(error_fields_read(&fields, out.data + 5, out.length - 5), 0);
    cr_assert_leq(strlen(fields.message), 8192);
}

Test(message, tells_a_parameter)
{
    message_parameter_status(&out, "TimeZone", "UTC");
    expect_bytes("S\0\0\0\x11TimeZone\0UTC\0");
}

Test(message, tells_a_cancel_key_of_any_length)
{
    message_backend_key(&out, 0x7fffffff, (const uint8_t *)"\1\2\3\4\5", 5);
    expect_bytes("K\0\0\0\x0d\x7f\xff\xff\xff\1\2\3\4\5");
}

Test(message, asks_for_a_password)
{
    message_authentication(&out, 3, NULL, 0);
    message_authentication(&out, 5, "salt", 4);
    expect_bytes("R\0\0\0\x08\0\0\0\x03R\0\0\0\x0c\0\0\0\x05salt");
}

Test(message, gives_a_password)
{
    message_password(&out, "secret", 7);
    expect_bytes("p\0\0\0\x0bsecret\0");
}

Test(message, negotiates_with_the_whole_version_as_libpq_expects_it)
{
    static const char *const unknown[] = {"_pq_.a", "_pq_.b"};
    message_negotiate(&out, 2, unknown, 2);
    expect_bytes("v\0\0\0\x1a\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0");
}

Test(message, parses_and_closes_statements)
{
    message_parse(&out, "s", "SELECT 1");
    message_close(&out, 'S', "s");
    expect_bytes("P\0\0\0\x11s\0SELECT 1\0\0\0"
                 "C\0\0\0\x07Ss\0");
}

Test(message, describes_text_columns_and_their_rows)
{
    static const char *const names[] = {"a", "b"};
    static const char *const values[] = {"x", NULL};
    message_row_description(&out, names, 2);
    message_data_row(&out, values, 2);
    message_command_complete(&out, "SHOW");
    expect_bytes("T\0\0\0\x2e\0\2"
                 "a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
                 "b\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
                 "D\0\0\0\x0f\0\2\0\0\0\1x\xff\xff\xff\xff"
                 "C\0\0\0\x09SHOW\0");
}

Test(message, starts_up_asks_for_tls_and_cancels)
{
    static const char *const pairs[] = {"user", "u"};
    message_startup(&out, UINT32_C(3) << 16, pairs, 1);
    message_ssl_request(&out);
    message_cancel(&out, 1, (const uint8_t *)"key!", 4);
    expect_bytes("\0\0\0\x10\0\3\0\0user\0u\0\0"
                 "\0\0\0\x08\x04\xd2\x16\x2f"
                 "\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1key!");
}
