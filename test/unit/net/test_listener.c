/*
 * Listening sockets: TCP, Unix, inherited; what happens to files and when descriptors run out.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "pgstage/base/log.h"
#include "pgstage/net/listener.h"

static struct loop *loop;
static const char *test_folder;
static char problem[256];
static const struct listener_options usual = {.backlog = 16, .unix_mode = 0700};

static int accepted_fds[64];
static unsigned accepted;
static struct address accepted_peer;

static void begin(void)
{
    test_folder = folder_make();
    loop = loop_new(0, NULL);
}

static void end(void)
{
    for (unsigned i = 0; i < accepted; i++)
        close(accepted_fds[i]);
    loop_free(loop);
    folder_remove();
}

TestSuite(listener, .init = begin, .fini = end);

static void on_accept(struct listener *listener, int fd, const struct address *peer)
{
    (void)listener;
    accepted_fds[accepted++] = fd;
    accepted_peer = *peer;
}

static struct listener *open_at(const struct address *address)
{
    strcpy(problem, "");
    return listener_open(address, &usual, problem, sizeof problem);
}

static struct listener *open_tcp(void)
{
    struct address address;
    cr_assert(address_parse(&address, "127.0.0.1", 0));
    struct listener *listener = open_at(&address);
    cr_assert_not_null(listener, "%s", problem);
    return listener;
}

static struct address local_address(void)
{
    struct address address;
    cr_assert(address_local(&address, test_folder, 1));
    return address;
}

static int connect_to(const struct address *address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, &address->any, address->length) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool has_accepted(void *count)
{
    return accepted >= *(unsigned *)count;
}

static bool accepts(unsigned count)
{
    return turn_until(loop, has_accepted, &count);
}

Test(listener, a_new_process_takes_the_place_of_a_socket_over)
{
    struct listener_options options = usual;
    struct address address;
    struct stat file;
    char beside[120];
    cr_assert(address_local(&address, test_folder, 7));
    options.reuse_port = true;
    struct listener *old = listener_open(&address, &options, problem, sizeof problem);
    cr_assert_not_null(old, "%s", problem);
    cr_assert(listener_start(old, loop, on_accept, NULL));
    struct listener *new = listener_open(&address, &options, problem, sizeof problem);
    cr_assert_not_null(new, "%s", problem);
    cr_assert(address_equal(listener_address(new), &address));
    cr_assert(listener_start(new, loop, on_accept, NULL));
    cr_assert_neq(stat(strcat(strcpy(beside, address.local.sun_path), ".new"), &file), 0);
    listener_close(old);
    cr_assert_eq(stat(address.local.sun_path, &file), 0);
    cr_assert_eq(file.st_mode & 0777, options.unix_mode);
    int fd = connect_to(&address);
    cr_assert(accepts(1));
    listener_close(new);
    cr_assert_neq(stat(address.local.sun_path, &file), 0);
    close(fd);
    /* but no file of anything else */
    fclose(fopen(address.local.sun_path, "w"));
    cr_assert_null(listener_open(&address, &options, problem, sizeof problem));
    cr_assert(strstr(problem, strerror(EADDRINUSE)));
    cr_assert_eq(stat(address.local.sun_path, &file), 0);
    cr_assert(S_ISREG(file.st_mode));
}

Test(listener, accepts_tcp_connections_with_their_addresses)
{
    struct listener *listener = open_tcp();
    int mark;
    cr_assert_neq(address_port(listener_address(listener)), 0);
    cr_assert(listener_start(listener, loop, on_accept, &mark));
    cr_assert_eq(listener_context(listener), &mark);
    int fd = connect_to(listener_address(listener));
    cr_assert(accepts(1));
    cr_assert(address_is_loopback(&accepted_peer));
    struct address here;
    socklen_t length = sizeof here.ip4;
    cr_assert_eq(getsockname(fd, &here.any, &length), 0);
    here.length = length;
    cr_assert(address_equal(&here, &accepted_peer));
    listener_close(listener);
    close(fd);
}

Test(listener, many_at_once_are_all_accepted)
{
    struct listener *listener = open_tcp();
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int fds[16];
    for (unsigned i = 0; i < 16; i++)
        fds[i] = connect_to(listener_address(listener));
    cr_assert(accepts(16));
    for (unsigned i = 0; i < 16; i++)
        close(fds[i]);
    listener_close(listener);
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    cr_assert_eq(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

Test(listener, connections_are_tuned_by_their_listener)
{
    struct listener_options options = usual;
    options.tuning = (struct tuning){.keepalive = true, .keepidle_s = 77, .user_timeout_ms = 4321};
    struct address address;
    cr_assert(address_parse(&address, "127.0.0.1", 0));
    struct listener *listener = listener_open(&address, &options, problem, sizeof problem);
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int fd = connect_to(listener_address(listener));
    cr_assert(accepts(1));
    cr_assert(option_of(accepted_fds[0], IPPROTO_TCP, TCP_NODELAY));
    cr_assert(option_of(accepted_fds[0], SOL_SOCKET, SO_KEEPALIVE));
    cr_assert_eq(option_of(accepted_fds[0], IPPROTO_TCP, TCP_KEEPIDLE), 77);
    cr_assert_eq(option_of(accepted_fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);

    /* all of it can be taken back */
    int untuned = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listener_tune(listener, &(struct tuning){.keepcnt = 3});
    int later = connect_to(listener_address(listener));
    cr_assert(accepts(2));
    cr_assert(option_of(accepted_fds[1], IPPROTO_TCP, TCP_NODELAY));
    cr_assert_not(option_of(accepted_fds[1], SOL_SOCKET, SO_KEEPALIVE));
    cr_assert_eq(option_of(accepted_fds[1], IPPROTO_TCP, TCP_KEEPCNT), 3);
    cr_assert_eq(option_of(accepted_fds[1], IPPROTO_TCP, TCP_KEEPIDLE),
                 option_of(untuned, IPPROTO_TCP, TCP_KEEPIDLE));
    cr_assert_eq(option_of(accepted_fds[1], IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    listener_close(listener);
    close(untuned);
    close(fd);
    close(later);
}

Test(listener, a_stopped_listener_leaves_connections_to_the_kernel)
{
    struct listener *listener = open_tcp();
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    listener_stop(listener);
    int fd = connect_to(listener_address(listener));
    cr_assert_geq(fd, 0);
    settle(loop);
    cr_assert_eq(accepted, 0);
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    cr_assert(accepts(1));
    listener_close(listener);
    close(fd);
}

Test(listener, a_shut_listener_accepts_what_is_queued_and_refuses_what_comes)
{
    struct listener *listener = open_tcp();
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int queued[3];
    for (unsigned i = 0; i < 3; i++) {
        queued[i] = connect_to(listener_address(listener));
        cr_assert_geq(queued[i], 0);
    }
    listener_shut(listener);
    cr_assert_eq(accepted, 3);
    cr_assert_eq(connect_to(listener_address(listener)), -1);
    listener_shut(listener);
    listener_close(listener);
    for (unsigned i = 0; i < 3; i++)
        close(queued[i]);
}

Test(listener, a_taken_port_is_refused_unless_shared)
{
    struct listener *first = open_tcp();
    cr_assert_null(open_at(listener_address(first)));
    cr_assert_not_null(strstr(problem, "127.0.0.1:"), "%s", problem);
    cr_assert_not_null(strstr(problem, strerror(EADDRINUSE)), "%s", problem);
    listener_close(first);

    struct listener_options shared = usual;
    shared.reuse_port = true;
    struct address address;
    cr_assert(address_parse(&address, "127.0.0.1", 0));
    first = listener_open(&address, &shared, problem, sizeof problem);
    cr_assert_not_null(first);
    struct listener *second =
        listener_open(listener_address(first), &shared, problem, sizeof problem);
    cr_assert_not_null(second, "%s", problem);
    listener_close(first);
    listener_close(second);
}

Test(listener, deferred_connections_come_with_their_first_bytes)
{
    struct listener_options deferred = usual;
    deferred.defer_accept = true;
    struct address address;
    cr_assert(address_parse(&address, "127.0.0.1", 0));
    struct listener *listener = listener_open(&address, &deferred, problem, sizeof problem);
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int fd = connect_to(listener_address(listener));
    turns_within(loop, 20);
    cr_assert_eq(accepted, 0);
    cr_assert_eq(send(fd, "x", 1, 0), 1);
    cr_assert(accepts(1));
    listener_close(listener);
    close(fd);
}

Test(listener, a_unix_socket_has_its_rights_and_goes_when_closed)
{
    struct address address = local_address();
    struct listener *listener = open_at(&address);
    cr_assert_not_null(listener, "%s", problem);
    struct stat file;
    cr_assert_eq(stat(address.local.sun_path, &file), 0);
    cr_assert_eq(file.st_mode & 0777, 0700);
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int fd = connect_to(&address);
    cr_assert(accepts(1));
    cr_assert(address_is_local(&accepted_peer));
    listener_close(listener);
    cr_assert_eq(access(address.local.sun_path, F_OK), -1);
    close(fd);
}

Test(listener, a_unix_socket_gets_its_group)
{
    struct address address = local_address();
    struct listener_options options = usual;
    char group[16];
    snprintf(group, sizeof group, "%u", getgid());
    options.unix_group = group;
    struct listener *listener = listener_open(&address, &options, problem, sizeof problem);
    cr_assert_not_null(listener, "%s", problem);
    listener_close(listener);
    options.unix_group = "no-such-group";
    cr_assert_null(listener_open(&address, &options, problem, sizeof problem));
    cr_assert_eq(access(address.local.sun_path, F_OK), -1, "nothing is left behind");
}

Test(listener, a_stale_unix_socket_is_replaced)
{
    struct address address = local_address();
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(dead, &address.any, address.length), 0);
    cr_assert_eq(listen(dead, 1), 0);
    close(dead);
    struct listener *listener = open_at(&address);
    cr_assert_not_null(listener, "%s", problem);
    int fd = connect_to(&address);
    cr_assert_geq(fd, 0);
    close(fd);
    listener_close(listener);
}

Test(listener, a_live_unix_socket_is_left_alone)
{
    struct address address = local_address();
    struct listener *first = open_at(&address);
    cr_assert_not_null(first);
    cr_assert_null(open_at(&address));
    cr_assert_not_null(strstr(problem, strerror(EADDRINUSE)), "%s", problem);
    int fd = connect_to(&address);
    cr_assert_geq(fd, 0, "the first one still answers");
    close(fd);
    listener_close(first);
}

Test(listener, a_file_that_is_no_socket_is_left_alone)
{
    struct address address = local_address();
    FILE *file = fopen(address.local.sun_path, "w");
    fclose(file);
    cr_assert_null(open_at(&address));
    cr_assert_eq(access(address.local.sun_path, F_OK), 0);
}

Test(listener, the_file_of_somebody_else_is_not_removed)
{
    struct address address = local_address();
    struct listener *first = open_at(&address);
    cr_assert_eq(unlink(address.local.sun_path), 0);
    struct listener *second = open_at(&address);
    cr_assert_not_null(second, "%s", problem);
    listener_close(first);
    cr_assert_eq(access(address.local.sun_path, F_OK), 0);
    listener_close(second);
    cr_assert_eq(access(address.local.sun_path, F_OK), -1);
}

Test(listener, an_abstract_socket_needs_no_file)
{
    struct address address;
    char name[64];
    snprintf(name, sizeof name, "@pgstage-test-%d", getpid());
    cr_assert(address_local(&address, name, 1));
    struct listener *listener = open_at(&address);
    cr_assert_not_null(listener, "%s", problem);
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int fd = connect_to(&address);
    cr_assert(accepts(1));
    listener_close(listener);
    close(fd);
}

Test(listener, an_inherited_socket_is_adopted)
{
    struct listener *given = open_tcp();
    struct address address = *listener_address(given);
    int fd = dup(listener_descriptor(given));
    listener_close(given);
    struct listener *listener = listener_adopt(fd, problem, sizeof problem);
    cr_assert_not_null(listener, "%s", problem);
    cr_assert(address_equal(listener_address(listener), &address));
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int connected = connect_to(&address);
    cr_assert(accepts(1));
    listener_close(listener);
    close(connected);
}

Test(listener, what_does_not_listen_is_not_adopted)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_null(listener_adopt(fd, problem, sizeof problem));
    cr_assert_not_null(strstr(problem, "no listening socket"));
    close(fd);
}

static void close_on_accept(struct listener *listener, int fd, const struct address *peer)
{
    on_accept(listener, fd, peer);
    listener_close(listener);
}

Test(listener, may_be_closed_while_it_accepts)
{
    struct listener *listener = open_tcp();
    cr_assert(listener_start(listener, loop, close_on_accept, NULL));
    int first = connect_to(listener_address(listener)),
        second = connect_to(listener_address(listener));
    cr_assert(accepts(1));
    settle(loop);
    cr_assert_eq(accepted, 1);
    close(first);
    close(second);
}

static void set_descriptor_limit(rlim_t limit)
{
    struct rlimit limits;
    getrlimit(RLIMIT_NOFILE, &limits);
    limits.rlim_cur = limit;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limits), 0);
}

Test(listener, rests_while_no_descriptor_is_left)
{
    struct log_settings quiet = {.file = "/dev/null"};
    cr_assert(log_open(&quiet));
    struct listener *listener = open_tcp();
    cr_assert(listener_start(listener, loop, on_accept, NULL));
    int fd = connect_to(listener_address(listener));
    struct rlimit limits;
    getrlimit(RLIMIT_NOFILE, &limits);
    set_descriptor_limit((rlim_t)fd + 1);
    cr_assert_lt(turns_within(loop, 150), 50, "it must not spin");
    cr_assert_eq(accepted, 0);
    set_descriptor_limit(limits.rlim_cur);
    cr_assert(accepts(1));
    listener_close(listener);
    close(fd);
}
