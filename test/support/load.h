/*
 * load: clients that query all the time, each in a thread of its own, while a test does something
 * to the proxy or the server. The threads only count; the test asserts.
 */
#ifndef SUPPORT_LOAD_H
#define SUPPORT_LOAD_H

#include <stdbool.h>

struct proxy;
struct load;

struct load_options {
    const char *conninfo; /* extra; NULL: none */
    const char *sql;      /* NULL: a transaction of three statements that checks its own backend */
    int clients;
    bool reconnect; /* connect anew after a lost connection */
};

struct load *load_start(const struct proxy *proxy, const struct load_options *options);
/* So far; may be read at any time. */
long load_done(const struct load *load);
long load_errors(const struct load *load);
long load_lost(const struct load *load); /* connections lost, or refused */
/* Ends the threads; then the counts are final. */
void load_stop(struct load *load);
/* The text of the first error; "" when there was none. */
const char *load_first_error(const struct load *load);

#endif
