/* buffer: what is put in comes out in the same bytes, whatever the growth in between. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "pgstage/base/buffer.h"

Test(buffer, keeps_bytes_over_many_growths)
{
    struct buffer buffer = {0};
    for (unsigned i = 0; i < 100000; i++)
        buffer_put_u8(&buffer, (uint8_t)(i * 7));
    cr_assert_eq(buffer.length, 100000);
    for (unsigned i = 0; i < 100000; i++)
        cr_assert_eq(buffer.data[i], (uint8_t)(i * 7));
    buffer_fini(&buffer);
}

Test(buffer, writes_numbers_in_network_order)
{
    struct buffer buffer = {0};
    buffer_put_u16(&buffer, 0x0102);
    buffer_put_u32(&buffer, 0x03040506);
    cr_assert_eq(buffer.length, 6);
    cr_assert_arr_eq(buffer.data, "\x01\x02\x03\x04\x05\x06", 6);
    buffer_fini(&buffer);
}

Test(buffer, puts_a_string_with_its_nul)
{
    struct buffer buffer = {0};
    buffer_put_string(&buffer, "abc");
    buffer_put_string(&buffer, NULL);
    cr_assert_eq(buffer.length, 5);
    cr_assert_arr_eq(buffer.data, "abc\0\0", 5);
    buffer_fini(&buffer);
}

Test(buffer, prints_without_a_nul_into_new_and_old_room)
{
    struct buffer buffer = {0};
    buffer_print(&buffer, "%d", 12);
    buffer_print(&buffer, "-%s", "x");
    cr_assert_eq(buffer.length, 4);
    cr_assert_arr_eq(buffer.data, "12-x", 4);
    buffer_fini(&buffer);
}

Test(buffer, prints_a_text_that_fills_the_room_exactly)
{
    struct buffer buffer = {0};
    size_t room = 32;
    for (size_t filled = 0; filled < 80; filled++) { /* every position of the growth in between */
        buffer.length = 0;
        (void)buffer_reserve(&buffer, filled + 1);
        memset(buffer.data, '.', filled);
        buffer.length = filled;
        buffer_print(&buffer, "%032d", 7);
        cr_assert_eq(buffer.length, filled + room);
        cr_assert_arr_eq(buffer.data + filled, "00000000000000000000000000000007", room);
    }
    buffer_fini(&buffer);
}

Test(buffer, reserves_without_changing_the_length)
{
    struct buffer buffer = {0};
    buffer_put(&buffer, "ab", 2);
    uint8_t *room = buffer_reserve(&buffer, 1000);
    memset(room, 'x', 1000);
    cr_assert_eq(buffer.length, 2);
    cr_assert_geq(buffer.capacity, 1002);
    cr_assert_eq(room, buffer.data + 2);
    buffer_fini(&buffer);
}

Test(buffer, gives_a_place_even_for_nothing)
{
    struct buffer buffer = {0};
    cr_assert_not_null(buffer_reserve(&buffer, 0));
    buffer_put(&buffer, NULL, 0);
    cr_assert_eq(buffer.length, 0);
    buffer_fini(&buffer);
}

Test(buffer, fills_in_a_length_afterwards)
{
    struct buffer buffer = {0};
    buffer_put_u8(&buffer, 'Q');
    buffer_put_u32(&buffer, 0);
    buffer_put_string(&buffer, "x");
    buffer_set_u32(&buffer, 1, (uint32_t)buffer.length - 1);
    cr_assert_arr_eq(buffer.data, "Q\0\0\0\x06x\0", 7);
    buffer_fini(&buffer);
}

Test(buffer, refuses_to_fill_in_beyond_its_end, .signal = SIGABRT)
{
    struct buffer buffer = {0};
    buffer_put_u32(&buffer, 0);
    buffer_set_u32(&buffer, 1, 0);
}

Test(buffer, consumes_from_the_front)
{
    struct buffer buffer = {0};
    buffer_put(&buffer, "abcdef", 6);
    buffer_consume(&buffer, 4);
    cr_assert_eq(buffer.length, 2);
    cr_assert_arr_eq(buffer.data, "ef", 2);
    buffer_consume(&buffer, 2);
    cr_assert_eq(buffer.length, 0);
    buffer_fini(&buffer);
}

Test(buffer, can_be_used_again_after_fini)
{
    struct buffer buffer = {0};
    buffer_put(&buffer, "ab", 2);
    buffer_fini(&buffer);
    cr_assert_null(buffer.data);
    cr_assert_eq(buffer.length, 0);
    buffer_put(&buffer, "c", 1);
    cr_assert_arr_eq(buffer.data, "c", 1);
    buffer_fini(&buffer);
}
