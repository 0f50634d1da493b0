/*
 * valve: a wire between pgstage and a server that can be shut, made slow or cut while it carries
 * traffic. It listens on 127.0.0.1, remembers nothing (relay.h does), and its threads end with the
 * test's process.
 */
#ifndef SUPPORT_VALVE_H
#define SUPPORT_VALVE_H

#include <stdatomic.h>

enum valve_state {
    VALVE_OPEN,
    VALVE_SHUT,   /* swallows: connections are accepted and stay, no byte passes either way */
    VALVE_REFUSE, /* connections are cut and new ones refused */
    VALVE_SLOW,   /* every piece waits for `delay_ms` */
};

struct valve {
    /* fixed */
    int port;
    const char *target_address;
    /* owner: the acceptor thread */
    int listener;
    /* shared: atomic */
    _Atomic int target_port;
    _Atomic int state; /* enum valve_state */
    _Atomic int delay_ms;
    _Atomic long accepted, passed_bytes;
    _Atomic long cuts; /* how often it was turned to VALVE_REFUSE */
    _Atomic int listening;
};

/* `port` 0: a free one. */
struct valve *valve_start(const char *target_address, int target_port);
/* Returns when it holds: after VALVE_REFUSE nobody listens, after the others somebody does. What
 * was swallowed while it was shut passes when it opens. */
void valve_turn(struct valve *valve, enum valve_state state, int delay_ms);

#endif
