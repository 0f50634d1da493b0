/*
 * probe_parameters: what libpq is told. Everything, because what it is not told it looks for: in
 * PG* variables, in ~/.postgresql and ~/.pgpass of the account, in pg_service.conf.
 *
 *   host=<name>  hostaddr=<address>     the name is checked, the address is used: no second look-up
 *   sslmode      as the other server connections (`allow` never begins TLS there, so it is disable)
 *   sslrootcert  `system` is the distribution's bundle (libpq knows the word since 16 only)
 *   gssencmode   disable: GSS encryption would come before TLS and replace it
 *
 * An empty value would mean the default again, so files that are not to be looked for are given a
 * path that cannot exist. A revocation list that cannot be read libpq passes over in silence; here
 * it stops the attempt.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "pgstage/base/text.h"
#include "probe_inside.h"

#define NO_FILE "/dev/null/none"

static void add(struct probe_parameters *parameters, const char *keyword, const char *value)
{
    if (!value || !*value)
        return;
    parameters->keywords[parameters->count] = keyword;
    parameters->values[parameters->count++] = value;
}

static bool is_set(const char *text)
{
    return text && *text;
}

static bool refuse(char *problem, size_t size, const char *what, const char *file)
{
    snprintf(problem, size, "%s \"%.300s\" cannot be used", what, file);
    return false;
}

static bool crl_is_readable(const char *file)
{
    FILE *stream = fopen(file, "re");
    if (!stream)
        return false;
    X509_CRL *list = PEM_read_X509_CRL(stream, NULL, NULL, NULL);
    bool good = list != NULL;
    X509_CRL_free(list);
    ERR_clear_error();
    fclose(stream);
    return good;
}

static const char *mode_word(enum tls_mode mode)
{
    switch (mode) {
    case TLS_DISABLE:
    case TLS_ALLOW:
        break;
    case TLS_PREFER:
        return "prefer";
    case TLS_REQUIRE:
        return "require";
    case TLS_VERIFY_CA:
        return "verify-ca";
    case TLS_VERIFY_FULL:
        return "verify-full";
    }
    return "disable";
}

static const char *binding_word(enum channel_binding binding)
{
    switch (binding) {
    case CHANNEL_BINDING_DISABLE:
        return "disable";
    case CHANNEL_BINDING_REQUIRE:
        return "require";
    case CHANNEL_BINDING_PREFER:
        break;
    }
    return "prefer";
}

static bool add_tls(struct probe_parameters *parameters, const struct tls_settings *tls,
                    char *problem, size_t size)
{
    const char *minimum, *maximum, *authorities = NO_FILE, *revoked = NO_FILE;
    if (!tls_version_range(tls->protocols, &minimum, &maximum))
        return refuse(problem, size, "the list of TLS protocols", tls->protocols);
    if (tls->mode >= TLS_VERIFY_CA) {
        authorities = text_equal(tls->ca_file, "system") ? tls_system_bundle() : tls->ca_file;
        if (!is_set(authorities))
            return refuse(problem, size, "the CA file", tls->ca_file ? tls->ca_file : "");
        if (is_set(tls->crl_file)) {
            revoked = tls->crl_file;
            if (!crl_is_readable(revoked))
                return refuse(problem, size, "the CRL file", revoked);
        }
    }
    add(parameters, "sslmode", mode_word(tls->mode));
    add(parameters, "sslrootcert", authorities);
    add(parameters, "sslcrl", revoked);
    add(parameters, "sslcrldir", NO_FILE);
    add(parameters, "sslcert", is_set(tls->cert_file) ? tls->cert_file : NO_FILE);
    add(parameters, "sslkey", is_set(tls->key_file) ? tls->key_file : NO_FILE);
    add(parameters, "sslsni", "1");
    add(parameters, "sslcompression", "0");
    add(parameters, "ssl_min_protocol_version", minimum);
    add(parameters, "ssl_max_protocol_version", maximum);
    return true;
}

/* The name as certificates write it: without the dot that ends an absolute name. False: a name that
 * cannot be checked. */
static bool put_host(struct probe_parameters *parameters, const struct probe_target *target,
                     const struct address *address)
{
    if (!text_fit(parameters->host, sizeof parameters->host, target->name))
        return false;
    size_t length = strlen(parameters->host);
    if (!address_is_local(address) && length > 0 && parameters->host[length - 1] == '.')
        parameters->host[length - 1] = '\0';
    /* libpq reads a comma as the next host of a list */
    return parameters->host[0] && parameters->host[0] != '.' && !strchr(parameters->host, ',');
}

bool probe_parameters_fill(struct probe_parameters *parameters, const struct probe_target *target,
                           const struct address *address, char *problem, size_t size)
{
    *parameters = (struct probe_parameters){0};
    if (!put_host(parameters, target, address))
        return refuse(problem, size, "the host name", target->name);
    snprintf(parameters->port, sizeof parameters->port, "%u", target->port);
    add(parameters, "host", parameters->host);
    if (!address_is_local(address)) {
        add(parameters, "hostaddr", address_host_text(address, parameters->address));
        if (!add_tls(parameters, &target->tls, problem, size))
            return false;
    } else {
        /* no wire is crossed, and libpq has no TLS there */
        add(parameters, "sslmode", "disable");
        add(parameters, "requirepeer", target->peer_user);
    }
    add(parameters, "port", parameters->port);
    add(parameters, "user", target->user);
    add(parameters, "password", target->password);
    add(parameters, "passfile", NO_FILE);
    add(parameters, "dbname", target->dbname);
    add(parameters, "gssencmode", "disable");
    add(parameters, "channel_binding", binding_word(target->tls.channel_binding));
    add(parameters, "target_session_attrs", "any");
    add(parameters, "application_name", "pgstage");
    add(parameters, "client_encoding", "UTF8");
    add(parameters, "connect_timeout", "0"); /* the deadline is ours */
    add(parameters, "keepalives", "1");
    return true;
}
