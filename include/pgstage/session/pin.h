/*
 * pin: a client that must keep its server between transactions, and why.
 *
 * In transaction and statement mode a server goes back to its pool when a transaction ends. A
 * pinned client keeps it until the last of its pins is taken away, or until it ends. The reasons
 * are rows of tables/pins.def. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_PIN_H
#define PGSTAGE_SESSION_PIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

enum pin {
#define PIN(name, leaves, help) PIN_##name,
#include "pgstage/tables/pins.def"
#undef PIN
    PIN_COUNT,
};

/* What a pinned client leaves behind in its server's session when it goes. */
enum pin_leaves { PIN_LEAVES_CLEAN, PIN_LEAVES_SOILED, PIN_LEAVES_DIRTY };

/* The client keeps its server from now on. Harmless when it is pinned for this reason already. */
void client_pin(struct client *client, enum pin reason);
/* This reason has gone. When it was the last one, the server goes back as soon as it is free; the
 * caller need do nothing more when it is inside the relay, else it calls server_settled. */
void client_unpin(struct client *client, enum pin reason);
/* Takes all away; tells the worst of what they leave in the server's session. */
enum pin_leaves client_unpin_all(struct client *client);
/* The names of the reasons in this mask (client->pins) with commas between; `text` is returned, ""
 * for none. */
const char *pins_text(uint32_t pins, char *text, size_t size);
const char *pin_name(enum pin reason);
enum pin_leaves pin_leaves(enum pin reason);
const char *pin_help(enum pin reason);

#endif
