/* frame: messages are found at every split, and no length is believed. */
#include <criterion/criterion.h>

#include "pgstage/wire/frame.h"
#include "piece.h"

Test(frame, finds_the_type_and_the_length_of_a_message)
{
    struct frame frame;
    cr_assert_eq(frame_peek((const uint8_t *)"Q\0\0\0\x0dSELECT 1", 14, 100, &frame), FRAME_OK);
    cr_assert_eq(frame.type, 'Q');
    cr_assert_eq(frame.body_bytes, 9);
}

Test(frame, needs_only_the_header_to_know_the_length)
{
    struct frame frame;
    cr_assert_eq(frame_peek((const uint8_t *)"d\0\x01\0\0", 5, 1 << 20, &frame), FRAME_OK);
    cr_assert_eq(frame.body_bytes, 65536 - 4);
}

Test(frame, waits_for_the_rest_of_a_split_header)
{
    struct frame frame;
    for (size_t length = 0; length < FRAME_HEADER_BYTES; length++) {
        uint8_t *piece = piece_of("Q\0\0\0\x04", length);
        cr_expect_eq(frame_peek(piece, length, 100, &frame), FRAME_PARTIAL, "%zu bytes", length);
        free(piece);
    }
}

Test(frame, takes_a_message_without_a_body)
{
    struct frame frame;
    cr_assert_eq(frame_peek((const uint8_t *)"S\0\0\0\x04", 5, 0, &frame), FRAME_OK);
    cr_assert_eq(frame.body_bytes, 0);
}

Test(frame, refuses_a_length_that_does_not_hold_itself)
{
    struct frame frame;
    for (uint8_t length = 0; length < 4; length++) {
        const uint8_t header[] = {'Q', 0, 0, 0, length};
        cr_expect_eq(frame_peek(header, sizeof header, 100, &frame), FRAME_BAD, "length %u",
                     length);
    }
}

Test(frame, refuses_a_body_over_the_limit_and_takes_one_at_it)
{
    struct frame frame;
    cr_assert_eq(frame_peek((const uint8_t *)"Q\0\0\0\x68", 5, 100, &frame), FRAME_OK);
    cr_assert_eq(frame.body_bytes, 100);
    cr_assert_eq(frame_peek((const uint8_t *)"Q\0\0\0\x69", 5, 100, &frame), FRAME_BAD);
}

Test(frame, refuses_a_negative_length_under_any_limit)
{
    struct frame frame;
    cr_assert_eq(frame_peek((const uint8_t *)"Q\xff\xff\xff\xff", 5, UINT32_MAX, &frame),
                 FRAME_BAD);
    cr_assert_eq(frame_peek((const uint8_t *)"Q\x80\0\0\0", 5, UINT32_MAX, &frame), FRAME_BAD);
    cr_assert_eq(frame_peek((const uint8_t *)"Q\x7f\xff\xff\xff", 5, UINT32_MAX, &frame), FRAME_OK);
    cr_assert_eq(frame.body_bytes, INT32_MAX - 4);
}

Test(frame, refuses_type_zero)
{
    struct frame frame;
    cr_assert_eq(frame_peek((const uint8_t *)"\0\0\0\0\x08", 5, 100, &frame), FRAME_BAD);
}

Test(reader, reads_fields_in_network_order)
{
    struct reader reader;
    reader_init(&reader, (const uint8_t *)"\x01\x02\x03\x04\x05\x06\x07name\0ab", 14);
    cr_assert_eq(reader_u8(&reader), 1);
    cr_assert_eq(reader_u16(&reader), 0x0203);
    cr_assert_eq(reader_u32(&reader), 0x04050607);
    cr_assert_str_eq(reader_string(&reader), "name");
    cr_assert_not(reader_is_done(&reader));
    cr_assert_arr_eq(reader_bytes(&reader, 2), "ab", 2);
    cr_assert(reader_is_done(&reader));
}

Test(reader, fails_at_every_truncation_and_stays_failed)
{
    static const uint8_t body[] = "\x01\x02\x03\x04\x05\x06\x07name\0ab";
    for (size_t length = 0; length < 14; length++) {
        uint8_t *piece = piece_of(body, length);
        struct reader reader;
        reader_init(&reader, piece, length);
        (void)reader_u8(&reader);
        (void)reader_u16(&reader);
        (void)reader_u32(&reader);
        (void)reader_string(&reader);
        cr_expect_null(reader_bytes(&reader, 2), "%zu bytes", length);
        cr_expect(reader.failed, "%zu bytes", length);
        cr_expect_not(reader_is_done(&reader), "%zu bytes", length);
        cr_expect_eq(reader_u8(&reader), 0);
        cr_expect_eq(reader_u16(&reader), 0);
        cr_expect_eq(reader_u32(&reader), 0);
        cr_expect_str_eq(reader_string(&reader), "");
        free(piece);
    }
}

Test(reader, does_not_wrap_on_an_absurd_count)
{
    struct reader reader;
    reader_init(&reader, (const uint8_t *)"abcd", 4);
    cr_assert_eq(reader_u8(&reader), 'a');
    cr_assert_null(reader_bytes(&reader, SIZE_MAX));
    cr_assert(reader.failed);
}

Test(reader, does_not_read_a_string_without_its_nul)
{
    uint8_t *piece = piece_of("abc", 3);
    struct reader reader;
    reader_init(&reader, piece, 3);
    cr_assert_str_eq(reader_string(&reader), "");
    cr_assert(reader.failed);
    free(piece);
}

Test(reader, of_nothing_is_done)
{
    struct reader reader;
    reader_init(&reader, NULL, 0);
    cr_assert(reader_is_done(&reader));
    cr_assert_str_eq(reader_string(&reader), "");
    cr_assert_not(reader_is_done(&reader));
}
