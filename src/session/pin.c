/*
 * pin.c: which clients keep their server between transactions, and why (tables/pins.def).
 *
 * client->pins is a mask of reasons. Each worker counts how often a reason came up and how many of
 * its clients have it now; SHOW PINS adds them up.
 */
#include "pgstage/session/pin.h"

#include <string.h>

#include "pgstage/base/text.h"
#include "pgstage/session/client.h"

static const struct {
    const char *name, *help;
    enum pin_leaves leaves;
} pins[] = {
#define PIN(name, leaves, help) {#name, help, PIN_LEAVES_##leaves},
#include "pgstage/tables/pins.def"
#undef PIN
};

_Static_assert(PIN_COUNT <= 32, "client->pins has a bit for each reason");

void client_pin(struct client *client, enum pin reason)
{
    if (client->pins & UINT32_C(1) << reason)
        return;
    client->pins |= UINT32_C(1) << reason;
    counter_add(&client->worker->pins_made[reason], 1);
    counter_add(&client->worker->pins_held[reason], 1);
    client_log(client, RANK_DEBUG, "pinned: %s", pins[reason].help);
}

void client_unpin(struct client *client, enum pin reason)
{
    if (!(client->pins & UINT32_C(1) << reason))
        return;
    client->pins &= ~(UINT32_C(1) << reason);
    counter_add(&client->worker->pins_held[reason], (uint64_t)-1);
}

enum pin_leaves client_unpin_all(struct client *client)
{
    enum pin_leaves left = PIN_LEAVES_CLEAN;

    for (int i = 0; client->pins; i++) {
        if (!(client->pins & UINT32_C(1) << i))
            continue;
        if (pins[i].leaves > left)
            left = pins[i].leaves;
        client_unpin(client, (enum pin)i);
    }
    return left;
}

const char *pins_text(uint32_t mask, char *text, size_t size)
{
    size_t length = 0;

    text[0] = '\0';
    for (int i = 0; i < PIN_COUNT; i++) {
        if (!(mask & UINT32_C(1) << i) || length + strlen(pins[i].name) + 2 > size)
            continue;
        if (length)
            text[length++] = ',';
        (void)text_fit(text + length, size - length, pins[i].name);
        length += strlen(pins[i].name);
    }
    return text;
}

const char *pin_name(enum pin reason)
{
    return pins[reason].name;
}

enum pin_leaves pin_leaves(enum pin reason)
{
    return pins[reason].leaves;
}

const char *pin_help(enum pin reason)
{
    return pins[reason].help;
}
