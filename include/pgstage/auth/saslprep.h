/*
 * saslprep: passwords made comparable before they are hashed (RFC 4013), as PostgreSQL does it.
 * Any thread.
 */
#ifndef PGSTAGE_AUTH_SASLPREP_H
#define PGSTAGE_AUTH_SASLPREP_H

/* The prepared password, or a copy of its bytes where it cannot be prepared (not UTF-8, prohibited
 * or unassigned characters, nothing left). Allocated; it is a secret: digest_free_secret. */
char *saslprep_password(const char *password) __attribute__((warn_unused_result));

#endif
