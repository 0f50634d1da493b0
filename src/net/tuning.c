/*
 * tuning: setsockopt, for connections and for what they inherit from their listening socket.
 *
 * Linux hands TCP_NODELAY, keepalive and TCP_USER_TIMEOUT on from a listening socket to what is
 * accepted from it: set once there they cost nothing for each connection. A listening socket may be
 * tuned again after a reload, so "the system's value" must be set there by its number, which a new
 * socket tells.
 */
#include "pgstage/net/tuning.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/conf/settings.h"

struct tuning tuning_of(const struct settings *settings)
{
    return (struct tuning){
        .keepalive = settings->tcp_keepalive,
        .keepidle_s = (int)settings->tcp_keepidle,
        .keepintvl_s = (int)settings->tcp_keepintvl,
        .keepcnt = (int)settings->tcp_keepcnt,
        .user_timeout_ms = (int)(settings->tcp_user_timeout_us / CLOCK_MS),
        .socket_buffer_bytes = (int)settings->tcp_socket_buffer_bytes,
    };
}

static void set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

static void set_wanted(int fd, int name, int value)
{
    if (value > 0)
        set(fd, IPPROTO_TCP, name, value);
}

void tuning_buffers(int fd, const struct tuning *tuning)
{
    if (tuning->socket_buffer_bytes <= 0)
        return;
    set(fd, SOL_SOCKET, SO_SNDBUF, tuning->socket_buffer_bytes);
    set(fd, SOL_SOCKET, SO_RCVBUF, tuning->socket_buffer_bytes);
}

void tuning_apply(int fd, const struct tuning *tuning)
{
    tuning_buffers(fd, tuning);
    if (tuning->keepalive) {
        set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_wanted(fd, TCP_KEEPIDLE, tuning->keepidle_s);
        set_wanted(fd, TCP_KEEPINTVL, tuning->keepintvl_s);
        set_wanted(fd, TCP_KEEPCNT, tuning->keepcnt);
    }
    set_wanted(fd, TCP_USER_TIMEOUT, tuning->user_timeout_ms);
}

/* `value`, or where it is 0 what `fresh`, a socket that nobody has tuned, has. */
static void set_or_default(int fd, int fresh, int name, int value)
{
    socklen_t length = sizeof value;
    if (value > 0 || getsockopt(fresh, IPPROTO_TCP, name, &value, &length) == 0)
        set(fd, IPPROTO_TCP, name, value);
}

void tuning_apply_listening(int fd, const struct tuning *tuning)
{
    int fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, tuning->keepalive);
    set_or_default(fd, fresh, TCP_KEEPIDLE, tuning->keepidle_s);
    set_or_default(fd, fresh, TCP_KEEPINTVL, tuning->keepintvl_s);
    set_or_default(fd, fresh, TCP_KEEPCNT, tuning->keepcnt);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, tuning->user_timeout_ms);
    if (fresh >= 0)
        close(fresh);
}
