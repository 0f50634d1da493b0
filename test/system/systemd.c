/*
 * systemd: notification, socket activation, and a new process that takes over from an old one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

/* From now on this process and what it starts have sockets of the families in the unit only, as
 * systemd does it. */
static void keep_to_the_families_of_the_unit(void)
{
    static const struct {
        const char *name;
        unsigned family;
    } known[] = {{"AF_UNIX", AF_UNIX},
                 {"AF_INET", AF_INET},
                 {"AF_INET6", AF_INET6},
                 {"AF_NETLINK", AF_NETLINK}};
    struct sock_filter filter[16] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
    };
    unsigned short length = 4;
    const char *source = getenv("srcdir");
    char *rest = NULL,
         *unit = file_text(text_of("%s/conf/systemd/pgstage.service.in", source ? source : ".")),
         *row = strstr(unit, "\nRestrictAddressFamilies=");

    cr_assert(row, "the unit is found from the folder of the sources, or by $srcdir");
    for (char *name = strtok_r(strchr(row, '=') + 1, " \n", &rest);
         name && !strncmp(name, "AF_", 3); name = strtok_r(NULL, " \n", &rest)) {
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            if (strcmp(known[i].name, name))
                continue;
            filter[length++] =
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, known[i].family, 0, 1);
            filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        }
    }
    filter[length++] =
        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
    struct sock_fprog program = {length, filter};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

SYSTEM_TEST(systemd, the_units_address_families_are_all_that_is_needed)
{
    SKIP_ON_PGBOUNCER();
    char *rules = text_of("%s/hba", test_folder());

    file_write(rules, 0600, "local all all trust\nhost all all samehost trust\n");
    keep_to_the_families_of_the_unit();
    struct proxy *proxy = proxy_start("auth_type = hba\nauth_hba_file = %s\n", rules);
    client_do(client_open(proxy, NULL), "SELECT 1");
}
