/* startup: the packets before a login, at every split and truncation. */
#include <criterion/criterion.h>

#include "pgstage/base/buffer.h"
#include "pgstage/wire/message.h"
#include "pgstage/wire/startup.h"
#include "piece.h"

static struct buffer out;

static void empty_out(void)
{
    buffer_fini(&out);
}

TestSuite(startup, .fini = empty_out);

#define VERSION_3_0 (UINT32_C(3) << 16)

/* A packet of this version with these bytes behind it, terminators included as given. */
static void packet(uint32_t version, const char *body, size_t length)
{
    size_t begin = message_begin(&out, 0);
    buffer_put_u32(&out, version);
    buffer_put(&out, body, length);
    message_end(&out, begin);
}

static enum startup_result parse(struct startup *startup)
{
    return startup_parse(out.data, out.length, startup);
}

static void put_good(void)
{
    static const char *const pairs[] = {"user",    "alice", "database", "app@production",
                                        "options", "",      "user",     "again"};
    message_startup(&out, VERSION_3_0, pairs, 4);
}

Test(startup, gives_the_parameters_in_their_order)
{
    put_good();
    struct startup startup;
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.kind, STARTUP_MESSAGE);
    cr_assert_eq(startup.major, 3);
    cr_assert_eq(startup.minor, 0);
    cr_assert_eq(startup.total_bytes, out.length);
    size_t offset = 0;
    const char *name, *value;
    cr_assert(startup_next(&startup, &offset, &name, &value));
    cr_assert_str_eq(name, "user");
    cr_assert_str_eq(value, "alice");
    cr_assert(startup_next(&startup, &offset, &name, &value));
    cr_assert_str_eq(value, "app@production");
    cr_assert(startup_next(&startup, &offset, &name, &value));
    cr_assert_str_eq(name, "options");
    cr_assert_str_eq(value, "");
    cr_assert(startup_next(&startup, &offset, &name, &value));
    cr_assert_str_eq(value, "again");
    cr_assert_not(startup_next(&startup, &offset, &name, &value));
}

Test(startup, waits_at_every_split)
{
    put_good();
    struct startup startup;
    for (size_t length = 0; length < out.length; length++) {
        uint8_t *piece = piece_of(out.data, length);
        cr_expect_eq(startup_parse(piece, length, &startup), STARTUP_PARTIAL, "%zu bytes", length);
        free(piece);
    }
}

Test(startup, leaves_bytes_behind_the_packet_alone)
{
    put_good();
    size_t length = out.length;
    buffer_put(&out, "p\0\0\0\x05", 5);
    struct startup startup;
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.total_bytes, length);
}

Test(startup, refuses_every_packet_cut_short_inside_its_length)
{
    put_good();
    struct startup startup;
    for (size_t length = 8; length < out.length; length++) {
        uint8_t *piece = piece_of(out.data, length);
        piece[2] = (uint8_t)(length >> 8);
        piece[3] = (uint8_t)length;
        cr_expect_eq(startup_parse(piece, length, &startup), STARTUP_BAD, "%zu bytes", length);
        cr_expect_not_null(startup.problem);
        free(piece);
    }
}

Test(startup, wants_a_terminator_as_the_last_byte)
{
    struct startup startup;
    packet(VERSION_3_0, "user\0alice\0\0x", 13);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
    buffer_fini(&out);
    packet(VERSION_3_0, "user\0alice\0\0\0", 13);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
    buffer_fini(&out);
    packet(VERSION_3_0, "user\0alice\0", 11);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
    buffer_fini(&out);
    packet(VERSION_3_0, "", 0);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
}

Test(startup, wants_a_value_for_each_name)
{
    struct startup startup;
    packet(VERSION_3_0, "user\0alice\0database\0\0", 21);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
    buffer_fini(&out);
    packet(VERSION_3_0, "user\0\0", 6);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
}

Test(startup, refuses_parameters_behind_an_empty_name)
{
    struct startup startup;
    packet(VERSION_3_0, "user\0alice\0\0database\0app\0\0", 26);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
}

Test(startup, without_parameters_is_well_formed)
{
    struct startup startup;
    packet(VERSION_3_0, "", 1);
    cr_assert_eq(parse(&startup), STARTUP_OK);
    size_t offset = 0;
    const char *name, *value;
    cr_assert_not(startup_next(&startup, &offset, &name, &value));
}

Test(startup, takes_later_minor_versions)
{
    struct startup startup;
    packet(VERSION_3_0 | 2, "user\0alice\0_pq_.x\0y\0\0", 21);
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.minor, 2);
}

Test(startup, hands_out_protocol_2_unread)
{
    struct startup startup;
    char body[288];
    memset(body, 'x', sizeof body);
    packet(UINT32_C(2) << 16, body, sizeof body);
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.kind, STARTUP_MESSAGE);
    cr_assert_eq(startup.major, 2);
    size_t offset = 0;
    const char *name, *value;
    cr_assert_not(startup_next(&startup, &offset, &name, &value));
}

Test(startup, refuses_lengths_out_of_bounds_with_four_bytes_seen)
{
    static const uint8_t bad[][4] = {
        {0, 0, 0, 0},
        {0, 0, 0, 7},
        {0, 0, STARTUP_MAX_BYTES >> 8, (STARTUP_MAX_BYTES & 255) + 1},
        {'G', 'E', 'T', ' '},
        {0x16, 3, 1, 2},
        {0xff, 0xff, 0xff, 0xff},
    };
    struct startup startup;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(startup_parse(bad[i], 4, &startup), STARTUP_BAD, "case %zu", i);
}

Test(startup, takes_the_longest_packet)
{
    char *body = calloc(1, STARTUP_MAX_BYTES);
    memset(body, 'v', STARTUP_MAX_BYTES);
    memcpy(body, "user", 5);
    body[STARTUP_MAX_BYTES - 8 - 2] = body[STARTUP_MAX_BYTES - 8 - 1] = 0;
    packet(VERSION_3_0, body, STARTUP_MAX_BYTES - 8);
    struct startup startup;
    cr_assert_eq(parse(&startup), STARTUP_OK);
    size_t offset = 0;
    const char *name, *value;
    cr_assert(startup_next(&startup, &offset, &name, &value));
    cr_assert_eq(strlen(value), STARTUP_MAX_BYTES - 8 - 2 - 5);
    free(body);
}

Test(startup, knows_the_encryption_requests)
{
    struct startup startup;
    cr_assert_eq(startup_parse((const uint8_t *)"\0\0\0\x08\x04\xd2\x16\x2f", 8, &startup),
                 STARTUP_OK);
    cr_assert_eq(startup.kind, STARTUP_SSL);
    cr_assert_eq(startup.total_bytes, 8);
    cr_assert_eq(startup_parse((const uint8_t *)"\0\0\0\x08\x04\xd2\x16\x30", 8, &startup),
                 STARTUP_OK);
    cr_assert_eq(startup.kind, STARTUP_GSSENC);
}

/* What is stuffed behind SSLRequest must stay visible: the caller compares with total_bytes. */
Test(startup, shows_bytes_stuffed_behind_an_encryption_request)
{
    message_ssl_request(&out);
    put_good();
    struct startup startup;
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.kind, STARTUP_SSL);
    cr_assert_eq(startup.total_bytes, 8);
}

Test(startup, refuses_an_encryption_request_of_another_length)
{
    struct startup startup;
    cr_assert_eq(startup_parse((const uint8_t *)"\0\0\0\x09\x04\xd2\x16\x2f", 8, &startup),
                 STARTUP_BAD);
    cr_assert_eq(startup_parse((const uint8_t *)"\0\0\0\x0c\x04\xd2\x16\x30", 8, &startup),
                 STARTUP_BAD);
}

Test(startup, refuses_unknown_request_codes)
{
    struct startup startup;
    cr_assert_eq(startup_parse((const uint8_t *)"\0\0\0\x08\x04\xd2\x16\x31", 8, &startup),
                 STARTUP_BAD);
}

Test(startup, reads_a_cancel_request)
{
    message_cancel(&out, 0x01020304, (const uint8_t *)"\xaa\xbb\xcc\0", 4);
    cr_assert_eq(out.length, 16);
    struct startup startup;
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.kind, STARTUP_CANCEL);
    cr_assert_eq(startup.cancel_pid, 0x01020304);
    cr_assert_eq(startup.cancel_secret_bytes, 4);
    cr_assert_arr_eq(startup.cancel_secret, "\xaa\xbb\xcc\0", 4);
}

Test(startup, reads_a_cancel_request_at_every_split)
{
    message_cancel(&out, 7, (const uint8_t *)"abcd", 4);
    struct startup startup;
    for (size_t length = 0; length < out.length; length++) {
        uint8_t *piece = piece_of(out.data, length);
        cr_expect_eq(startup_parse(piece, length, &startup), STARTUP_PARTIAL, "%zu bytes", length);
        free(piece);
    }
}

Test(startup, takes_a_cancel_request_one_byte_too_long)
{
    message_cancel(&out, 7, (const uint8_t *)"abcd", 5);
    struct startup startup;
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.total_bytes, 17);
    cr_assert_eq(startup.cancel_secret_bytes, 4);
}

Test(startup, bounds_the_cancel_secret)
{
    uint8_t secret[CANCEL_KEY_MAX_BYTES + 1] = {1};
    struct startup startup;
    message_cancel(&out, 7, secret, 32);
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.cancel_secret_bytes, 32);
    buffer_fini(&out);
    message_cancel(&out, 7, secret, CANCEL_KEY_MAX_BYTES);
    cr_assert_eq(parse(&startup), STARTUP_OK);
    cr_assert_eq(startup.cancel_secret_bytes, CANCEL_KEY_MAX_BYTES);
    buffer_fini(&out);
    message_cancel(&out, 7, secret, CANCEL_KEY_MAX_BYTES + 1);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
    buffer_fini(&out);
    message_cancel(&out, 7, secret, 3);
    cr_assert_eq(parse(&startup), STARTUP_BAD);
}

Test(startup, survives_every_single_byte_change)
{
    put_good();
    for (size_t i = 0; i < out.length; i++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *piece = piece_of(out.data, out.length);
            piece[i] = (uint8_t)value;
            struct startup startup;
            if (startup_parse(piece, out.length, &startup) == STARTUP_OK) {
                size_t offset = 0, count = 0;
                const char *name, *text;
                while (startup_next(&startup, &offset, &name, &text))
                    count++;
                cr_expect_leq(startup.total_bytes, out.length);
                cr_expect_leq(count, 5);
            }
            free(piece);
        }
    }
}

static bool negotiated(const char *body, size_t length, uint32_t asked, uint32_t *minor)
{
    return startup_negotiated((const uint8_t *)body, length, asked, minor);
}

Test(startup, a_server_may_say_that_it_speaks_an_older_version)
{
    uint32_t minor;
    cr_assert(negotiated("\0\3\0\0\0\0\0\0", 8, 2, &minor));
    cr_assert_eq(minor, 0);
    cr_assert(negotiated("\0\3\0\1\0\0\0\0", 8, 2, &minor));
    cr_assert_eq(minor, 1);
    cr_assert(negotiated("\0\0\0\0\0\0\0\0", 8, 2, &minor)); /* the minor version alone */
    cr_assert_eq(minor, 0);
}

Test(startup, a_server_may_not_say_what_nobody_asked_for)
{
    uint32_t minor;
    cr_assert_not(negotiated("\0\3\0\3\0\0\0\0", 8, 2, &minor)); /* newer */
    cr_assert_not(negotiated("\0\4\0\0\0\0\0\0", 8, 2, &minor)); /* another major one */
    cr_assert_not(negotiated("\0\2\0\0\0\0\0\0", 8, 2, &minor));
    cr_assert_not(negotiated("\0\3\0\0\0\0\0\1_pq_.x\0", 15, 2, &minor)); /* an option */
    cr_assert_not(negotiated("\0\3\0\0\0\0\0\0", 7, 2, &minor));
    cr_assert_not(negotiated("\0\3\0\0\0\0\0\0\0", 9, 2, &minor));
    cr_assert_not(negotiated("", 0, 2, &minor));
}
