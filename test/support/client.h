/*
 * client: libpq connections through the proxy, and short words for what tests ask of them.
 */
#ifndef SUPPORT_CLIENT_H
#define SUPPORT_CLIENT_H

#include <libpq-fe.h>
#include <stdbool.h>

struct proxy;

/* host=127.0.0.1, the port, dbname=app, user=app, no TLS; `extra` is more conninfo that wins. */
PGconn *client_open(const struct proxy *proxy, const char *extra);
/* The same, but may fail: see PQstatus. The error text has the SQLSTATE ("FATAL:  28P01: …"). */
PGconn *client_try(const struct proxy *proxy, const char *extra);
/* The error text of a connection that must be refused; allocated. */
char *client_refusal(const struct proxy *proxy, const char *extra);
const char *client_conninfo(const struct proxy *proxy, const char *extra);

/* A statement that must succeed. */
void client_do(PGconn *conn, const char *sql);
/* The first value; allocated. */
char *client_value(PGconn *conn, const char *sql);
long client_number(PGconn *conn, const char *sql);
/* The SQLSTATE of a statement that must fail ("-----" when the connection ended without one);
 * allocated. */
char *client_sqlstate(PGconn *conn, const char *sql);
/* Its whole message, verbose; allocated. */
char *client_error(PGconn *conn, const char *sql);

/* Asynchronous: send; is there a result; the next result within ms (the test fails after that). */
void client_start(PGconn *conn, const char *sql);
bool client_is_ready(PGconn *conn);
PGresult *client_result(PGconn *conn, int ms);
/* Reads all results; the SQLSTATE of the first error or "" ; allocated. */
char *client_finish(PGconn *conn, int ms);
/* Waits until the peer has closed the connection. */
bool client_is_closed(PGconn *conn, int ms);
/* The backend that serves a query now. */
int client_backend(PGconn *conn);

#endif
