/*
 * pki: certificates of every good and bad kind, made with OpenSSL (EC keys: milliseconds each).
 */
#ifndef SUPPORT_PKI_H
#define SUPPORT_PKI_H

#include <stdbool.h>

struct pki_certificate {
    char *certificate; /* file: the certificate, then its issuers except the root */
    char *key;         /* file, mode 0600 */
    const struct pki_certificate *issuer; /* NULL: signed by itself */
};

struct pki_request {
    const char *file; /* name of the files in the folder, without ending */
    const char *common_name;
    const char *names;  /* subjectAltName as OpenSSL writes it: "DNS:a.test,IP:127.0.0.1" */
    bool authority;     /* may sign others */
    int starts_in_days; /* 0: yesterday */
    int ends_in_days;   /* 0: in a year */
    const struct pki_certificate *issuer; /* NULL: signs itself */
};

/* Makes key and certificate into the folder; allocated. */
struct pki_certificate *pki_issue(const char *folder, const struct pki_request *request);

/* The program's CA, and its server certificate for pg.production.test (a DNS name only). */
const struct pki_certificate *pki_shared_ca(void);
const struct pki_certificate *pki_shared_server(void);

#endif
