/*
 * proxy: the real pgstage process (or PgBouncer, see program.h) with a configuration of the test's.
 */
#ifndef SUPPORT_PROXY_H
#define SUPPORT_PROXY_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

struct proxy {
    char *file;   /* its INI */
    char *log;    /* its stdout and stderr */
    char *folder; /* of the INI and the logs */
    char *socket_folder;
    int port;
    pid_t pid;           /* 0: ended */
    int stop_status;     /* exit status once it has ended */
    bool expect_failure; /* its exit status is the test's own business */
};

struct proxy_options {
    char *const *arguments;   /* before the file, NULL at the end */
    char *const *environment; /* "NAME=value", NULL at the end */
    int descriptors[4];       /* handed on as 3, 4 … */
    int descriptor_count;
    bool listen_pid;          /* say LISTEN_PID and LISTEN_FDS about them */
    bool keep_user;           /* start as root when we are root */
    const char *hosts;        /* stands in the place of its /etc/hosts */
    bool wait_none;           /* do not wait until it answers */
    const struct proxy *twin; /* the same port and socket folder as this one */
};

/*
 * Starts with a configuration that begins like this, followed by the given text (which may hold any
 * sections), followed by `[databases]` with `*` to the shared cluster when the text has no such
 * section:
 *
 *     [pgbouncer]
 *     listen_addr = 127.0.0.1, listen_port, unix_socket_dir, auth_type = trust, auth_file,
 *     admin_users = admin, stats_users = stats, workers = 2, server_tls_sslmode = disable
 *
 * Returns when it accepts connections. It is stopped at the test's end, and then the test fails
 * when it had crashed, ended badly or written a sanitizer's report.
 */
struct proxy *proxy_start(const char *format, ...) __attribute__((format(printf, 1, 2)));
struct proxy *proxy_start_with(const struct proxy_options *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Writes the file anew (the same frame) without telling the process. */
void proxy_rewrite(struct proxy *proxy, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The users in auth_file of proxies that are started after this; `"name" "secret"` lines. */
void proxy_set_users(const char *text);
/* RELOAD on the console. NULL when it succeeded, else the error text; allocated. */
char *proxy_reload(struct proxy *proxy);
void proxy_signal(struct proxy *proxy, int signal_number);
/* Waits for its end: the exit status (128 + signal when killed); fails the test after `ms`. */
int proxy_wait(struct proxy *proxy, int ms);
/* Ends it as test_end does. */
void proxy_stop(struct proxy *proxy);
bool proxy_is_alive(const struct proxy *proxy);
long proxy_memory_kb(const struct proxy *proxy);
/* Is there this text in its log? */
bool proxy_logged(const struct proxy *proxy, const char *text);
int proxy_log_count(const struct proxy *proxy, const char *text);

/* A console connection as `admin`; kept, one for each proxy. */
PGconn *proxy_console(struct proxy *proxy);
/* A command on the console; fails the test when it fails. */
void proxy_do(struct proxy *proxy, const char *command);
/* SHOW view, to be cleared by the caller. */
PGresult *proxy_show(struct proxy *proxy, const char *view);
/* The number in `column` of SHOW view, summed over the rows where `key_column` is `key` (NULL:
 * all). */
long proxy_figure(struct proxy *proxy, const char *view, const char *key_column, const char *key,
                  const char *column);
/* How many rows SHOW view has where key_column is `key` (NULL: all). */
long proxy_rows(struct proxy *proxy, const char *view, const char *key_column, const char *key);

#endif
