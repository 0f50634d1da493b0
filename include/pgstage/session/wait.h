/*
 * wait: a client that has asked and waits for a server: for how long, and what it is told when that
 * is over. The worker's thread. Asking and forgetting are client_borrow and client_forget_wait.
 */
#ifndef PGSTAGE_SESSION_WAIT_H
#define PGSTAGE_SESSION_WAIT_H

#include <stdint.h>

struct client;

/* WELCOME and WAITING: when it began to wait, of the loop's clock. */
uint64_t wait_since_us(const struct client *client);
/* WELCOME and WAITING: when it is to be looked at; 0: never. */
uint64_t wait_due(const struct client *client);
/* It is time: a notice, or the end of its wait. */
void wait_is_due(struct client *client, uint64_t now_us);
/* The gate has been shut or opened, a primary was missed or found, or a login on a server was refused.
 * May end the client. */
void wait_look(struct client *client);
/* The request that waits, or was given a server but not sent yet, gets this ERROR at the end of the
 * turn; the client stays. */
void wait_refuse(struct client *client, const char *sqlstate, const char *text);

#endif
