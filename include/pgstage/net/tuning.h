/*
 * tuning: the kernel's options of a TCP connection (tcp_… in the configuration). Any thread.
 */
#ifndef PGSTAGE_NET_TUNING_H
#define PGSTAGE_NET_TUNING_H

#include <stdbool.h>

struct settings;

struct tuning {
    bool keepalive;
    int keepidle_s, keepintvl_s, keepcnt; /* 0: the system's */
    int user_timeout_ms;                  /* 0: the system's */
    int socket_buffer_bytes;              /* 0: the system's */
};

/* As the options tcp_… say. */
struct tuning tuning_of(const struct settings *settings);
/* For a connection of TCP. A refused option leaves the system's value, which is no reason to lose
 * it. */
void tuning_apply(int fd, const struct tuning *tuning);
/* For a listening socket of TCP: the connections that come afterwards inherit it all, with
 * TCP_NODELAY, and cost no call of their own. May be called again with another tuning.
 * `socket_buffer_bytes` is left out, since no later tuning could take it back: set it with
 * tuning_buffers. */
void tuning_apply_listening(int fd, const struct tuning *tuning);
/* `socket_buffer_bytes` alone, for any kind of socket; 0: nothing is done. */
void tuning_buffers(int fd, const struct tuning *tuning);

#endif
