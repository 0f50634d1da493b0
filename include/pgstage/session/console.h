/*
 * console: the worker's side of a client of the console: its messages go to the control thread, and
 * what that answers goes to the client. The worker's thread only.
 */
#ifndef PGSTAGE_SESSION_CONSOLE_H
#define PGSTAGE_SESSION_CONSOLE_H

#include "pgstage/session/client.h"

/* The client has logged in and may use the console: it is greeted (with `greeting`
 * before), and the control thread told. */
void console_enter(struct client *client, enum console_level level, struct buffer *greeting);
/* Bytes can be read. */
void console_readable(struct client *client);
/* It ends. */
void console_left(struct client *client);
/* A CancelRequest named it. */
void console_cancel(struct client *client);

#endif
