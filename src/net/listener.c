/*
 * listener: a listening socket and the accepting from it.
 *
 *   open or adopt ─► start ⇄ stop ─► close
 *                      │ no descriptors left
 *                      └─► rests (a timer), then accepts again
 *
 * A Unix socket file is bound, given its rights and owner, and only then listened on, so nobody
 * gets in through the wider rights of a moment. A file that is there already is replaced when it is
 * a socket that refuses connections. One that somebody answers at is left alone, but with
 * SO_REUSEPORT a new process takes the place over: its file is made beside the other one and renamed
 * when it listens, so that nobody is refused meanwhile. On closing only the file that was made here is
 * removed: another process may have put its own in the place.
 *
 * After listener_start the listener belongs to that loop's thread. The owner may close it inside
 * on_accept; the memory goes at the end of the turn.
 */
#include "pgstage/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/clock.h"
#include "pgstage/base/log.h"
#include "pgstage/base/memory.h"
#include "pgstage/worker/loop.h"
#include "pgstage/worker/timer.h"

#define ACCEPTS_PER_TURN 64
/* So many turns in a row in which all accepts find a connection: more are tried. */
#define BUSY_TURNS 8
#define REST_US (100 * CLOCK_MS)
/* Behind the name of a file that will take another one's place. */
#define BESIDE ".new"
/* How long the kernel keeps a connection that sends nothing from us. */
#define DEFER_ACCEPT_SECONDS 45

struct listener {
    /* fixed */
    struct address address;
    bool has_file; /* made a Unix socket file, with these: */
    dev_t file_device;
    ino_t file_inode;

    /* owner */
    struct loop_watch watch; /* `fd` -1: closed */
    struct loop *loop;       /* NULL: not accepting */
    listener_accepted *on_accept;
    void *context;
    struct timer rest;
    bool exhausted;      /* out of descriptors: said once until an accept works */
    unsigned at_once;    /* accepts that are tried in the next turn */
    uint64_t busy_turn;  /* the last turn in which all of them found a connection … */
    unsigned busy_turns; /* … and how many of those there were in a row */
};

static void explain(char *problem, size_t size, const struct address *address, const char *what)
{
    char where[ADDRESS_TEXT_BYTES], words[128];
    const char *reason = strerror_r(errno, words, sizeof words);
    snprintf(problem, size, "%s: %s: %s", address_text(address, where), what, reason);
}

static bool has_file(const struct address *address)
{
    return address_is_local(address) && address->local.sun_path[0] != '\0';
}

/* Does somebody answer at this Unix socket? A full queue is an answer. */
static bool is_live(const struct address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true; /* not known: leave it alone */
    bool live = connect(fd, &address->any, address->length) == 0 ||
                (errno != ECONNREFUSED && errno != ENOENT);
    close(fd);
    return live;
}

static bool is_socket(const char *path)
{
    struct stat file;
    return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode);
}

static bool remove_stale(const struct address *address)
{
    if (!has_file(address) || !is_socket(address->local.sun_path) || is_live(address)) {
        errno = EADDRINUSE;
        return false;
    }
    return unlink(address->local.sun_path) == 0 || errno == ENOENT;
}

static bool find_group(const char *name, gid_t *id)
{
    char buffer[4096];
    struct group group, *found = NULL;
    int error = getgrnam_r(name, &group, buffer, sizeof buffer, &found);
    if (found) {
        *id = found->gr_gid;
        return true;
    }
    char *end;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (error == 0 && errno == 0 && end != name && !*end && number < (gid_t)-1) {
        *id = (gid_t)number;
        return true;
    }
    errno = error ? error : EINVAL;
    return false;
}

static bool give_rights(const char *path, const struct listener_options *options)
{
    gid_t group;
    if (options->unix_group && *options->unix_group &&
        (!find_group(options->unix_group, &group) || lchown(path, (uid_t)-1, group) != 0))
        return false;
    return chmod(path, options->unix_mode & 0777) == 0;
}

static void set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

/* Only SO_REUSEPORT decides about who else may listen; the rest is comfort and may be refused. */
static bool set_options(struct listener *listener, const struct listener_options *options)
{
    if (address_is_local(&listener->address))
        return fchmod(listener->watch.fd, 0600) == 0; /* the file's rights until give_rights */
    set(listener->watch.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (listener->address.any.sa_family == AF_INET6)
        set(listener->watch.fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    tuning_apply_listening(listener->watch.fd, &options->tuning);
    if (options->defer_accept)
        set(listener->watch.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, DEFER_ACCEPT_SECONDS);
    int on = 1;
    return !options->reuse_port ||
           setsockopt(listener->watch.fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
}

/* The file beside the place, for one who takes it over. */
static bool bind_beside(struct listener *listener)
{
    struct address *address = &listener->address;
    size_t length = strlen(address->local.sun_path);
    if (length + sizeof BESIDE > sizeof address->local.sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(address->local.sun_path + length, BESIDE, sizeof BESIDE);
    address->length += sizeof BESIDE - 1;
    if (is_socket(address->local.sun_path))
        (void)unlink(address->local.sun_path); /* of one that was killed on the way */
    return bind(listener->watch.fd, &address->any, address->length) == 0;
}

static bool bind_to(struct listener *listener, bool takes_over)
{
    const struct address *address = &listener->address;
    if (bind(listener->watch.fd, &address->any, address->length) == 0)
        return true;
    if (errno != EADDRINUSE)
        return false;
    if (remove_stale(address))
        return bind(listener->watch.fd, &address->any, address->length) == 0;
    return takes_over && has_file(address) && is_socket(address->local.sun_path) &&
           bind_beside(listener);
}

/* What was made beside goes to its place. */
static bool move_file(struct listener *listener, const struct address *place)
{
    char beside[sizeof place->local.sun_path];
    if (!has_file(place) || strcmp(listener->address.local.sun_path, place->local.sun_path) == 0)
        return true;
    strcpy(beside, listener->address.local.sun_path);
    listener->address = *place;
    if (rename(beside, place->local.sun_path) == 0)
        return true;
    (void)unlink(beside);
    return false;
}

/* Remembers which file is ours, then lets others in. */
static bool publish_file(struct listener *listener, const struct listener_options *options)
{
    struct stat file;
    const char *path = listener->address.local.sun_path;
    if (!has_file(&listener->address))
        return true;
    if (lstat(path, &file) != 0)
        return false;
    listener->has_file = true;
    listener->file_device = file.st_dev;
    listener->file_inode = file.st_ino;
    return give_rights(path, options);
}

/* Port 0 has become a real one. */
static bool learn_address(struct listener *listener)
{
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    return getsockname(listener->watch.fd, (struct sockaddr *)&storage, &length) == 0 &&
           address_from(&listener->address, (struct sockaddr *)&storage, length);
}

struct listener *listener_open(const struct address *address,
                               const struct listener_options *options, char *problem, size_t size)
{
    struct listener *listener = memory_new(sizeof *listener);
    listener->address = *address;
    const char *failed = NULL;
    listener->watch.fd =
        socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->watch.fd < 0)
        failed = "cannot make a socket";
    else if (!set_options(listener, options))
        failed = "cannot set options";
    else if (!bind_to(listener, options->reuse_port))
        failed = "cannot listen";
    else if (!publish_file(listener, options))
        failed = "cannot set the rights of the socket";
    else if (listen(listener->watch.fd, options->backlog) != 0 || !learn_address(listener) ||
             !move_file(listener, address))
        failed = "cannot listen";
    if (!failed)
        return listener;
    explain(problem, size, address, failed);
    listener_close(listener);
    return NULL;
}

struct listener *listener_adopt(int fd, char *problem, size_t size)
{
    struct listener *listener = memory_new(sizeof *listener);
    listener->watch.fd = fd;
    int listening = 0, flags = fcntl(fd, F_GETFL);
    socklen_t length = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening &&
        learn_address(listener) && flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
        fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
        return listener;
    snprintf(problem, size, "descriptor %d is no listening socket", fd);
    free(listener);
    return NULL;
}

void listener_tune(struct listener *listener, const struct tuning *tuning)
{
    if (listener->watch.fd >= 0 && !address_is_local(&listener->address))
        tuning_apply_listening(listener->watch.fd, tuning);
}

static void rest(struct listener *listener, int error)
{
    char words[128], where[ADDRESS_TEXT_BYTES];
    if (!listener->exhausted)
        log_error("%s: cannot accept connections for now: %s",
                  address_text(&listener->address, where), strerror_r(error, words, sizeof words));
    listener->exhausted = true;
    loop_unwatch(listener->loop, &listener->watch);
    timer_set(listener->loop, &listener->rest, loop_now_us(listener->loop) + REST_US);
}

static void on_rested(struct loop *loop, struct timer *timer)
{
    struct listener *listener = list_entry(timer, struct listener, rest);
    if (!loop_watch(loop, &listener->watch, EPOLLIN))
        timer_set(loop, timer, loop_now_us(loop) + REST_US);
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Up to `limit` connections; how many calls found one. Stopping or closing the listener inside
 * on_accept clears `loop`. */
static unsigned accept_some(struct listener *listener, unsigned limit)
{
    for (unsigned i = 0; i < limit; i++) {
        struct sockaddr_storage storage;
        socklen_t length = sizeof storage;
        if (!listener->loop)
            return i;
        int accepted = accept4(listener->watch.fd, (struct sockaddr *)&storage, &length,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return i;
            if (is_shortage(errno)) {
                rest(listener, errno);
                return i;
            }
            continue; /* that connection is gone already, or a signal came */
        }
        listener->exhausted = false;
        struct address peer;
        if (address_from(&peer, (struct sockaddr *)&storage, length))
            listener->on_accept(listener, accepted, &peer);
        else
            close(accepted);
    }
    return limit;
}

/* Trying until nothing is left costs a call for nothing each time, which is much for the one login
 * that comes now and then: as many are tried as there were the last time, and twice as many when
 * that was always too few. epoll tells of those that are left in the next turn. */
static void on_connection(struct loop_watch *watch, uint32_t events)
{
    struct listener *listener = list_entry(watch, struct listener, watch);
    uint64_t turn = loop_turns(listener->loop);
    (void)events;
    if (listener->busy_turn != turn - 1)
        listener->busy_turns = 0;
    if (listener->busy_turns == BUSY_TURNS) {
        listener->busy_turns = 0;
        if (listener->at_once < ACCEPTS_PER_TURN)
            listener->at_once *= 2;
    }
    unsigned tried = listener->at_once, found = accept_some(listener, tried);
    if (found == tried) {
        listener->busy_turn = turn;
        listener->busy_turns++;
    } else {
        listener->at_once = found ? found : 1;
    }
}

bool listener_start(struct listener *listener, struct loop *loop, listener_accepted *on_accept,
                    void *context)
{
    listener_stop(listener);
    listener->on_accept = on_accept;
    listener->context = context;
    listener->rest.fire = on_rested;
    listener->at_once = 1;
    listener->watch.ready = on_connection;
    if (!loop_watch(loop, &listener->watch, EPOLLIN))
        return false;
    listener->loop = loop;
    return true;
}

void listener_stop(struct listener *listener)
{
    if (!listener->loop)
        return;
    loop_unwatch(listener->loop, &listener->watch);
    timer_clear(&listener->rest);
    timer_detach(listener->loop, &listener->rest);
    listener->loop = NULL;
}

void listener_shut(struct listener *listener)
{
    while (listener->loop && accept_some(listener, ACCEPTS_PER_TURN) == ACCEPTS_PER_TURN)
        ;
    listener_stop(listener);
    if (listener->watch.fd >= 0)
        close(listener->watch.fd);
    listener->watch.fd = -1;
}

void listener_close(struct listener *listener)
{
    if (!listener)
        return;
    struct loop *loop = listener->loop;
    listener_stop(listener);
    if (listener->watch.fd >= 0)
        close(listener->watch.fd);
    listener->watch.fd = -1;
    struct stat file;
    const char *path = listener->address.local.sun_path;
    if (listener->has_file && lstat(path, &file) == 0 && file.st_dev == listener->file_device &&
        file.st_ino == listener->file_inode)
        unlink(path);
    if (loop)
        loop_release(loop, listener, free);
    else
        free(listener);
}

void *listener_context(const struct listener *listener)
{
    return listener->context;
}

const struct address *listener_address(const struct listener *listener)
{
    return &listener->address;
}

int listener_descriptor(const struct listener *listener)
{
    return listener->watch.fd;
}
