/*
 * message: builds protocol messages at the end of a buffer, and reads ErrorResponse fields.
 * Pure; any thread.
 */
#ifndef PGSTAGE_WIRE_MESSAGE_H
#define PGSTAGE_WIRE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "pgstage/base/buffer.h"

/* Starts a message of `type` (0: none, as a StartupMessage); give the result to message_end, which
 * writes the length. Between them, put the body with buffer_put_*. */
size_t message_begin(struct buffer *out, uint8_t type);
void message_end(struct buffer *out, size_t begin);
/* A message with no body (Sync, Flush, Terminate, CopyDone …). */
void message_empty(struct buffer *out, uint8_t type);

/* ErrorResponse / NoticeResponse. `detail` and `hint` may be NULL. Texts are cut at 8 kB. */
void message_error(struct buffer *out, const char *severity, const char *sqlstate, const char *text,
                   const char *detail, const char *hint);
void message_notice(struct buffer *out, const char *severity, const char *sqlstate,
                    const char *text);
void message_ready(struct buffer *out, char status);
void message_parameter_status(struct buffer *out, const char *name, const char *value);
void message_backend_key(struct buffer *out, uint32_t pid, const uint8_t *secret, size_t length);
/* AuthenticationRequest with its code and data. */
void message_authentication(struct buffer *out, uint32_t code, const void *data, size_t length);
void message_password(struct buffer *out, const void *bytes, size_t length);
void message_negotiate(struct buffer *out, uint32_t newest_minor, const char *const *unknown,
                       size_t count);
void message_query(struct buffer *out, const char *text);
void message_parse(struct buffer *out, const char *statement, const char *query);
/* Close of a statement ('S') or portal ('P'). */
void message_close(struct buffer *out, char what, const char *name);
void message_command_complete(struct buffer *out, const char *tag);
/* All columns are text. */
void message_row_description(struct buffer *out, const char *const *names, size_t count);
/* A NULL value is SQL's NULL. */
void message_data_row(struct buffer *out, const char *const *values, size_t count);
void message_startup(struct buffer *out, uint32_t version, const char *const *names_and_values,
                     size_t pairs);
void message_ssl_request(struct buffer *out);
void message_cancel(struct buffer *out, uint32_t pid, const uint8_t *secret, size_t length);

/* The fields of an ErrorResponse or NoticeResponse; pointers into the body. Absent fields are ""
 * (a server need not send every field), `sqlstate` then "XX000". */
struct error_fields {
    const char *severity; /* the non-localised one ('V') where there is one */
    const char *sqlstate;
    const char *message;
    const char *detail;
    const char *hint;
};
/* -1 when the body is malformed (fields found before are kept). */
int error_fields_read(struct error_fields *fields, const uint8_t *body, size_t length);

#endif
