/*
 * ldap: options of LDAP logins.
 *
 *   name=value … ──take──> fields ──finish──> what goes with what, and the URIs for libldap
 *
 *   ldapurl = ldap[s]://host[:port]/basedn[?attribute[?scope[?filter]]]
 *
 * A URL is taken apart here, not by libldap: its parts are options like the others, and what stands
 * in it that is no option is refused. The thread that loads.
 */
#include "pgstage/conf/ldap.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgstage/base/buffer.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/arena.h"
#include "pgstage/conf/host.h"

struct taking {
    struct arena *arena;
    struct ldap_options *options;
    char *problem;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct taking *taking, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(taking->problem, taking->size, format, arguments);
    va_end(arguments);
    return false;
}

void ldap_options_init(struct ldap_options *options)
{
    *options = (struct ldap_options){.reach = LDAP_REACH_SUBTREE};
}

/* ---- values ---- */

static bool take_text(struct taking *taking, const char **field, const char *value)
{
    *field = arena_copy(taking->arena, value);
    return true;
}

static bool take_port(struct taking *taking, const char *value)
{
    char *end;
    unsigned long port = strtoul(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || port < 1 || port > 65535)
        return refuse(taking, "\"%.40s\" is no port", value);
    taking->options->port = (uint16_t)port;
    return true;
}

/* Names of hosts, which go into URIs: nothing in them may mean something else there. */
static bool take_servers(struct taking *taking, const char *value)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._:[] ";
    if (value[strspn(value, letters)])
        return refuse(taking, "\"%.100s\" is no list of host names with blanks between", value);
    if (!value[strspn(value, " ")])
        return refuse(taking, "ldapserver names no host");
    return take_text(taking, &taking->options->servers, value);
}

static bool take_scheme(struct taking *taking, const char *value)
{
    taking->options->is_ldaps = text_equal_nocase(value, "ldaps");
    if (taking->options->is_ldaps || text_equal_nocase(value, "ldap"))
        return true;
    return refuse(taking, "the scheme is ldap or ldaps, not \"%.40s\"", value);
}

static bool take_tls(struct taking *taking, const char *value)
{
    taking->options->start_tls = strcmp(value, "1") == 0;
    if (taking->options->start_tls || strcmp(value, "0") == 0)
        return true;
    return refuse(taking, "ldaptls is 0 or 1, not \"%.40s\"", value);
}

static bool take_filter(struct taking *taking, const char *value)
{
    if (!strstr(value, "$username"))
        return refuse(taking, "a filter without $username finds the same for everybody");
    return take_text(taking, &taking->options->filter, value);
}

static bool take_attribute(struct taking *taking, const char *value)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-.;";
    if (!*value || value[strspn(value, letters)])
        return refuse(taking, "\"%.60s\" is no attribute's name", value);
    return take_text(taking, &taking->options->attribute, value);
}

/* ---- URLs ---- */

static int hex_digit(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    character = (char)tolower((unsigned char)character);
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* Undoes %XX of a piece; NULL: it is malformed, or has a NUL. */
static char *decode(struct taking *taking, const char *text, size_t length)
{
    char *plain = (char *)arena_copy_n(taking->arena, text, length);
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        int high, low;
        if (text[i] != '%') {
            plain[out++] = text[i];
            continue;
        }
        if (length - i < 3 || (high = hex_digit(text[i + 1])) < 0 ||
            (low = hex_digit(text[i + 2])) < 0 || high * 16 + low == 0) {
            (void)refuse(taking, "malformed %% in the URL");
            return NULL;
        }
        plain[out++] = (char)(high * 16 + low);
        i += 2;
    }
    plain[out] = '\0';
    return plain;
}

/* Takes up to `end` off the URL; what stands behind `end` is left. */
static char *take_piece(struct taking *taking, const char **url, char end)
{
    const char *stop = strchr(*url, end);
    size_t length = stop ? (size_t)(stop - *url) : strlen(*url);
    char *piece = decode(taking, *url, length);
    *url += length + (stop != NULL);
    return piece;
}

static bool take_reach(struct taking *taking, const char *word)
{
    static const char *const words[] = {"base", "one", "sub"};
    for (size_t i = 0; i < 3; i++) {
        taking->options->reach = (enum ldap_reach)i;
        if (text_equal_nocase(word, words[i]))
            return true;
    }
    return refuse(taking, "the scope of the URL is base, one or sub, not \"%.40s\"", word);
}

/* host[:port], an IPv6 address in brackets. */
static bool take_authority(struct taking *taking, char *authority)
{
    char *close = *authority == '[' ? strchr(authority, ']') : NULL;
    char *colon = strchr(close ? close : authority, ':');
    if (!*authority)
        return refuse(taking, "the URL names no host");
    if (colon) {
        *colon = '\0';
        if (!take_port(taking, colon + 1))
            return false;
    }
    if (strchr(authority, ' '))
        return refuse(taking, "\"%.100s\" is no host name", authority);
    return take_servers(taking, authority);
}

static bool take_url(struct taking *taking, const char *url)
{
    const char *rest = strstr(url, "://");
    char *piece, *scheme = rest ? decode(taking, url, (size_t)(rest - url)) : NULL;
    if (!scheme || !take_scheme(taking, scheme))
        return refuse(taking, "the URL begins with ldap:// or ldaps://");
    rest += 3;
    size_t length = strcspn(rest, "/?");
    if (rest[length] == '?')
        return refuse(taking, "a / stands behind the host of the URL");
    if (!(piece = take_piece(taking, &rest, '/')) || !take_authority(taking, piece))
        return false;
    if (!(piece = take_piece(taking, &rest, '?')) ||
        !take_text(taking, &taking->options->base_dn, piece))
        return false;
    if (!(piece = take_piece(taking, &rest, '?')) || (*piece && !take_attribute(taking, piece)))
        return false;
    if (!(piece = take_piece(taking, &rest, '?')) || (*piece && !take_reach(taking, piece)))
        return false;
    if (!(piece = take_piece(taking, &rest, '?')) || (*piece && !take_filter(taking, piece)))
        return false;
    return !*rest || refuse(taking, "the URL has extensions, which are not supported");
}

/* ---- options ---- */

bool ldap_options_take(struct arena *arena, struct ldap_options *options, const char *name,
                       const char *value, char *problem, size_t size)
{
    struct taking taking = {arena, options, problem, size};
    const struct {
        const char *name;
        const char **field;
    } texts[] = {
        {"ldapprefix", &options->prefix},
        {"ldapsuffix", &options->suffix},
        {"ldapbasedn", &options->base_dn},
        {"ldapbinddn", &options->bind_dn},
        {"ldapbindpasswd", &options->bind_password},
    };
    const struct {
        const char *name;
        bool (*take)(struct taking *taking, const char *value);
    } others[] = {
        {"ldapserver", take_servers},
        {"ldapport", take_port},
        {"ldapscheme", take_scheme},
        {"ldaptls", take_tls},
        {"ldapurl", take_url},
        {"ldapsearchattribute", take_attribute},
        {"ldapsearchfilter", take_filter},
    };
    *problem = '\0';
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (strcmp(name, texts[i].name) == 0)
            return take_text(&taking, texts[i].field, value);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strcmp(name, others[i].name) == 0)
            return others[i].take(&taking, value);
    return false;
}

/* "ldap://a:389 ldap://b:389". */
static const char *make_uris(struct arena *arena, const struct ldap_options *options)
{
    struct buffer uris = {0};
    char *list = text_copy(options->servers), *rest = NULL;
    unsigned port = options->port ? options->port : options->is_ldaps ? 636 : 389;
    for (char *one = strtok_r(list, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
        /* PostgreSQL takes a port behind a name of the list too */
        bool has_port = *one == '[' ? strstr(one, "]:") != NULL
                                    : strchr(one, ':') && !strchr(strchr(one, ':') + 1, ':');
        bool bare_ip6 = *one != '[' && strchr(one, ':') && !has_port;
        buffer_print(&uris, "%s%s://%s%s%s", uris.length ? " " : "",
                     options->is_ldaps ? "ldaps" : "ldap", bare_ip6 ? "[" : "", one,
                     bare_ip6 ? "]" : "");
        if (!has_port)
            buffer_print(&uris, ":%u", port);
    }
    free(list);
    const char *made = arena_copy_n(arena, (const char *)uris.data, uris.length);
    buffer_fini(&uris);
    return made;
}

bool ldap_options_finish(struct arena *arena, struct ldap_options *options, char *problem,
                         size_t size)
{
    struct taking taking = {arena, options, problem, size};
    bool bind = options->prefix || options->suffix;
    bool search = options->base_dn || options->bind_dn || options->bind_password ||
                  options->attribute || options->filter;
    *problem = '\0';
    if (!options->servers)
        return refuse(&taking, "ldap needs ldapserver=HOST or ldapurl=URL");
    if (bind && search)
        return refuse(&taking, "ldapprefix and ldapsuffix are for a simple bind, ldapbasedn, "
                               "ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter "
                               "and ldapurl for search+bind: one or the other");
    if (!bind && !options->base_dn)
        return refuse(&taking, "ldap needs ldapbasedn=, ldapprefix= or ldapsuffix=");
    if (options->attribute && options->filter)
        return refuse(&taking, "ldapsearchattribute and ldapsearchfilter cannot be used together");
    if (options->is_ldaps && options->start_tls)
        return refuse(&taking, "ldaps and ldaptls=1 are two ways to TLS: one or the other");
    if (!options->bind_dn != !options->bind_password)
        return refuse(&taking, "ldapbinddn and ldapbindpasswd need each other: a bind without a "
                               "password is an anonymous one");
    options->is_search = !bind;
    options->uris = make_uris(arena, options);
    return true;
}

/* Is every server of the list this machine? */
static bool are_here(const char *servers)
{
    char *list = text_copy(servers), *rest = NULL;
    bool here = true;
    for (char *one = strtok_r(list, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
        char *colon = strchr(one, ':');
        if (colon && !strchr(colon + 1, ':'))
            *colon = '\0';
        here = here && host_name_is_loopback(one);
    }
    free(list);
    return here;
}

bool ldap_options_are_clear(const struct ldap_options *options)
{
    return !options->is_ldaps && !options->start_tls && !are_here(options->servers);
}
