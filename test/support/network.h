/*
 * network: a host of its own kind, in a network namespace, reached over a pair of virtual cables
 * that can be made to drop every packet in both directions: a black hole, as when a machine has
 * lost its power. Needs root and `ip` (iproute2); tests ask network_is_possible and skip themselves
 * visibly without.
 */
#ifndef SUPPORT_NETWORK_H
#define SUPPORT_NETWORK_H

#include <stdbool.h>

struct network {
    /* fixed */
    char *name;    /* of the namespace */
    char *inside;  /* the address in it */
    char *outside; /* our end of the cable */
    char *device;  /* our end's name; the other end is `host0` */
};

/* NULL: yes; else why not. */
const char *network_refusal(void);
/* Ends the running test, with the reason on stderr, when there can be no namespace. */
#define SKIP_WITHOUT_NETWORK()                                                                     \
    do {                                                                                           \
        const char *refusal_ = network_refusal();                                                  \
        if (refusal_) {                                                                            \
            fprintf(stderr, "SKIP %s: %s\n", __func__, refusal_);                                  \
            cr_skip_test("%s", refusal_);                                                          \
        }                                                                                          \
    } while (0)

/* Removed at the end of the test. */
struct network *network_start(void);
/* From now on no packet passes, and nobody says so; or they pass again. */
void network_drop(const struct network *network, bool dropped);

#endif
