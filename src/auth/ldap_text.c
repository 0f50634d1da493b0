/*
 * ldap_text: user names within filters and distinguished names.
 *
 *   filter  (RFC 4515)   * ( ) \ and bytes outside of printable ASCII     \2a
 *   name    (RFC 4514)   , + " \ < > ; = and a first # or blank, a last blank     \,
 *
 * A name comes from whoever connects. As a value it can match itself only: no second condition, no
 * other branch of the tree. Pure; any thread.
 */
#include <string.h>

#include "pgstage/auth/outside.h"

static const char hex[] = "0123456789abcdef";

static void put_hex(struct buffer *out, unsigned char byte)
{
    buffer_print(out, "\\%c%c", hex[byte >> 4], hex[byte & 15]);
}

void ldap_put_filter_value(struct buffer *out, const char *value)
{
    for (; *value; value++) {
        unsigned char byte = (unsigned char)*value;
        if (byte < 0x20 || byte > 0x7e || strchr("*()\\/&|!=<>~", byte))
            put_hex(out, byte);
        else
            buffer_put_u8(out, byte);
    }
}

void ldap_put_dn_value(struct buffer *out, const char *value)
{
    for (const char *at = value; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        bool at_edge = (at == value && (byte == '#' || byte == ' ')) || (!at[1] && byte == ' ');
        if (byte < 0x20 || byte > 0x7e)
            put_hex(out, byte);
        else if (at_edge || strchr(",+\"\\<>;=", byte))
            buffer_print(out, "\\%c", byte);
        else
            buffer_put_u8(out, byte);
    }
}

static char *finish(struct buffer *text)
{
    buffer_put_u8(text, 0);
    return (char *)text->data;
}

char *ldap_filter_for(const struct ldap_options *options, const char *user)
{
    static const char mark[] = "$username";
    struct buffer filter = {0};
    if (!options->filter) {
        buffer_print(&filter, "(%s=", options->attribute ? options->attribute : "uid");
        ldap_put_filter_value(&filter, user);
        buffer_print(&filter, ")");
        return finish(&filter);
    }
    for (const char *at = options->filter; *at;) {
        if (strncmp(at, mark, sizeof mark - 1) == 0) {
            ldap_put_filter_value(&filter, user);
            at += sizeof mark - 1;
        } else {
            buffer_put_u8(&filter, (uint8_t)*at++);
        }
    }
    return finish(&filter);
}

/* "cn=" user ",dc=example" is a distinguished name; "" user "@example.com" and "EXAMPLE\" user are
 * the names of Active Directory, which are no DN and are not written as one. */
char *ldap_name_for(const struct ldap_options *options, const char *user)
{
    const char *prefix = options->prefix ? options->prefix : "";
    const char *suffix = options->suffix ? options->suffix : "";
    bool is_dn = strchr(prefix, '=') || strchr(suffix, '=');
    struct buffer name = {0};
    buffer_print(&name, "%s", prefix);
    if (is_dn)
        ldap_put_dn_value(&name, user);
    else
        buffer_print(&name, "%s", user);
    buffer_print(&name, "%s", suffix);
    return finish(&name);
}
