/*
 * tls_floor.c: the least that a login over TLS can cost: one connection after the other is accepted,
 * shaken hands with through the same OpenSSL context that pgstage makes, and welcomed whoever it is.
 * No pooler can be cheaper while OpenSSL does its handshakes.
 *
 *   tls_floor PORT CERTIFICATE-FILE KEY-FILE
 *
 * Blocking, one thread. Prints "ready" when it listens; ends with SIGTERM.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pgstage/base/buffer.h"
#include "pgstage/net/tls.h"
#include "pgstage/wire/message.h"

/* SSLRequest, and the S that answers it. */
static bool agree(int fd)
{
    uint8_t request[8];

    return recv(fd, request, sizeof(request), MSG_WAITALL) == sizeof(request) &&
           send(fd, "S", 1, MSG_NOSIGNAL) == 1;
}

/* The handshake; then what the client says first is answered with a welcome, and its next word is
 * its last. */
static void serve(SSL *ssl, int fd, const struct buffer *welcome)
{
    uint8_t bytes[4096];

    if (SSL_set_fd(ssl, fd) != 1 || SSL_accept(ssl) != 1)
        return;
    if (SSL_read(ssl, bytes, sizeof(bytes)) > 0 &&
        SSL_write(ssl, welcome->data, (int)welcome->length) > 0)
        (void)SSL_read(ssl, bytes, sizeof(bytes));
    SSL_shutdown(ssl);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096))
        return -1;
    return listener;
}

int main(int argc, char **argv)
{
    struct buffer welcome = {0};
    struct tls_context *context;
    struct tls_settings settings = {.mode = TLS_ALLOW};
    char problem[256] = "";
    int listener;

    if (argc != 4 || atoi(argv[1]) <= 0) {
        fprintf(stderr, "usage: tls_floor PORT CERTIFICATE-FILE KEY-FILE\n");
        return 2;
    }
    settings.cert_file = argv[2];
    settings.key_file = argv[3];
    context = tls_context_for_clients(&settings, problem, sizeof(problem));
    listener = listen_on(atoi(argv[1]));
    if (!context || listener < 0) {
        fprintf(stderr, "tls_floor: %s\n", context ? "cannot listen" : problem);
        return 1;
    }
    message_authentication(&welcome, 0, NULL, 0);
    message_ready(&welcome, 'I');
    signal(SIGPIPE, SIG_IGN); /* of clients that leave in the middle */
    puts("ready");
    fflush(stdout);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        SSL *ssl = fd >= 0 && agree(fd) ? tls_accept_new(context) : NULL;

        if (ssl)
            serve(ssl, fd, &welcome);
        SSL_free(ssl);
        if (fd >= 0)
            close(fd);
    }
}
