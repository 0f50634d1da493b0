/* cancel_key: what the keys of cancel requests tell without a client. */
#include <criterion/criterion.h>
#include <string.h>

#include "pgstage/session/cancel_key.h"

static const uint8_t secret[CANCEL_SECRET_LONG_BYTES + 4] = {1, 2, 3, 0xf7, 5, 6, 7, 8};

static struct cancel_key key_of(uint32_t pid, size_t bytes)
{
    struct cancel_key key = {0};

    cr_assert(cancel_key_read(&key, pid, secret, bytes));
    return key;
}

Test(cancel_key, has_one_of_two_lengths)
{
    struct cancel_key key;

    for (size_t bytes = 0; bytes <= sizeof(secret); bytes++)
        cr_assert_eq(cancel_key_read(&key, 1, secret, bytes), bytes == 4 || bytes == 32, "%zu",
                     bytes);
}

Test(cancel_key, names_its_peer_with_the_low_byte_first)
{
    struct cancel_key none = key_of(0x7f0000ffu, 4), one = key_of(0x00010000u, 4),
                      many = key_of(0x7f3412ffu, 32);

    cr_assert_eq(cancel_key_peer(&none), 0);
    cr_assert_eq(cancel_key_peer(&one), 1);
    cr_assert_eq(cancel_key_peer(&many), 0x1234);
}

Test(cancel_key, is_passed_on_as_often_as_its_last_bits_say)
{
    static const size_t lengths[] = {4, 32};

    for (size_t i = 0; i < 2; i++) {
        struct cancel_key key = key_of(0x00010000u, lengths[i]);

        for (int hop = 0; hop < 3; hop++) {
            cr_assert(cancel_key_hop(&key));
            cr_assert_eq(key.secret[3], 0xf6 - hop);
        }
        cr_assert_not(cancel_key_hop(&key));
        cr_assert_eq(key.secret[3], 0xf4); /* what the client knows is what it was */
        key.secret[3] |= 3;
        cr_assert_eq(memcmp(key.secret, secret, lengths[i]), 0);
    }
}
