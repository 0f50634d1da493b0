/*
 * systemd: notification, socket activation, and a new process that takes over from an old one.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "system.h"

SYSTEM_SUITE(systemd);

/* The next datagram that holds `word`, within `ms`. */
static bool notified(int fd, const char *word, int ms)
{
    int64_t deadline = now_ms() + ms;

    while (now_ms() < deadline) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        char text[4096] = "";

        if (poll(&wait, 1, (int)(deadline - now_ms())) <= 0)
            return false;
        if (recv(fd, text, sizeof text - 1, 0) > 0 && strstr(text, word))
            return true;
    }
    return false;
}

SYSTEM_TEST(systemd, is_told_of_ready_reloading_and_stopping)
{
    SKIP_ON_PGBOUNCER();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char *path = text_of("%s/n%d", program_folder(), (int)getpid());
    char *environment[] = {text_of("NOTIFY_SOCKET=%s", path), NULL};
    struct proxy_options options = {.environment = environment};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    path_give(path);
    struct proxy *proxy = proxy_start_with(&options, "pool_mode = transaction\n");
    cr_assert(notified(fd, "READY=1", PATIENCE_MS));
    proxy_signal(proxy, SIGHUP);
    cr_assert(notified(fd, "RELOADING=1", PATIENCE_MS));
    cr_assert(notified(fd, "READY=1", PATIENCE_MS));
    proxy_signal(proxy, SIGINT);
    cr_assert(notified(fd, "STOPPING=1", PATIENCE_MS));
    cr_assert_eq(proxy_wait(proxy, PATIENCE_MS), 0);
}

static int listening_socket(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(fd, 64), 0);
    return fd;
}

SYSTEM_TEST(systemd, sockets_that_it_hands_over_are_used)
{
    int port = port_take();
    struct proxy_options options = {
        .descriptors = {listening_socket(port)}, .descriptor_count = 1, .listen_pid = true};
    struct proxy *proxy;

    options.wait_none = true;
    proxy = proxy_start_with(&options, "pool_mode = transaction\n");
    cr_assert(until(proxy_logged(proxy, "process up"), PATIENCE_MS));
    client_do(client_open(proxy, text_of("port=%d", port)), "SELECT 1");
}

SYSTEM_TEST(systemd, several_processes_share_a_port_by_so_reuseport)
{
    struct proxy *first = proxy_start("pool_mode = transaction\nso_reuseport = 1\n");
    struct proxy_options options = {.twin = first, .wait_none = true};
    struct proxy *second = proxy_start_with(
        &options, "pool_mode = transaction\nso_reuseport = 1\nunix_socket_dir =\n");
    int i;

    cr_assert(until(proxy_logged(second, "process up"), PATIENCE_MS));
    for (i = 0; i < 40; i++)
        PQfinish(client_open(first, NULL));
    cr_assert_gt(proxy_log_count(first, "login attempt: db=app"), 0);
    cr_assert_gt(proxy_log_count(second, "login attempt: db=app"), 0);
}

/* How many TCP sockets listen on this port, of whichever process. */
static int listening_on(int port)
{
    char *all = file_text("/proc/net/tcp"), *rest = NULL;
    int count = 0;

    for (char *line = strtok_r(all, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        unsigned local, state;

        if (sscanf(line, " %*d: %*8x:%4x %*8x:%*4x %2x", &local, &state) == 2 &&
            local == (unsigned)port && state == 0x0a)
            count++;
    }
    free(all);
    return count;
}

SYSTEM_TEST(systemd, a_new_process_takes_over_while_the_old_one_drains)
{
    SKIP_ON_PGBOUNCER();
    struct proxy *first = proxy_start("pool_mode = transaction\nso_reuseport = 1\n");
    struct load_options options = {.clients = 8, .sql = "SELECT 1"};
    struct load_options reconnecting = {.clients = 4, .sql = "SELECT 1", .reconnect = true};
    struct load *old = load_start(first, &options);

    cr_assert(until(load_done(old) > 50, PATIENCE_MS));
    int alone = listening_on(first->port), both;
    struct proxy_options twin = {.twin = first, .wait_none = true};
    struct proxy *second = proxy_start_with(&twin, "pool_mode = transaction\nso_reuseport = 1\n");
    cr_assert(until(proxy_logged(second, "process up"), PATIENCE_MS));
    both = listening_on(first->port);
    cr_assert_gt(both, alone);
    proxy_signal(first, SIGTERM);
    /* the old process has let the port go: all that comes now is the new one's */
    cr_assert(until(listening_on(first->port) == both - alone, PATIENCE_MS));
    struct load *fresh = load_start(second, &reconnecting);
    cr_assert(until(load_done(fresh) > 50, PATIENCE_MS));
    long before = load_done(old);
    cr_assert(until(load_done(old) > before + 20, PATIENCE_MS),
              "the old one's clients are served on");
    load_stop(old);
    cr_assert_eq(load_errors(old) + load_lost(old), 0, "%s", load_first_error(old));
    cr_assert_eq(proxy_wait(first, PATIENCE_MS), 0);
    /* the Unix socket too */
    client_do(client_open(second, text_of("host=%s", second->socket_folder)), "SELECT 1");
    load_stop(fresh);
    cr_assert_eq(load_errors(fresh) + load_lost(fresh), 0, "%s", load_first_error(fresh));
}
