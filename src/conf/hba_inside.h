/*
 * hba_inside: rules and names as hba.c keeps them, for the files of conf/ that read and check them.
 *
 *   file ──hba_words.c──> lines of fields of words ──hba.c──> rules   ──hba_check.c──> fits the
 * rest ──ident.c──> maps
 */
#ifndef PGSTAGE_CONF_HBA_INSIDE_H
#define PGSTAGE_CONF_HBA_INSIDE_H

#include <regex.h>

#include "pgstage/base/cidr.h"
#include "pgstage/conf/arena.h"
#include "pgstage/conf/hba.h"

/* ---- hba_words.c ---- */

struct hba_word {
    const char *text;        /* without quotes; cut before the '@' of `name@environment` */
    bool quoted;             /* began with a quote: no keyword, list or pattern */
    const char *environment; /* behind the last '@' outside of quotes; NULL: none */
    const char *whole;       /* with it, for messages and for words that know no environment */
};

/* One word, or several with commas between. */
struct hba_field {
    const struct hba_word *words;
    size_t count;
};

struct hba_line {
    int number;
    const struct hba_field *fields;
    size_t count;
};

/* A file of lines; owns all memory of what is made from it. */
struct hba_words {
    struct arena arena;
    struct report *report;
    const char *file;   /* for messages */
    const char *folder; /* of its lists; NULL: no other file is read */
    struct hba_line *lines;
    size_t count;
    unsigned lists; /* that were read */
    regex_t **patterns;
    size_t pattern_count;
};

/* Mistakes go into the report, and the line that has one is left out. False: the file cannot be
 * read. A zeroed struct before, hba_words_fini behind in any case. */
bool hba_words_load(struct hba_words *words, const char *file, struct report *report)
    __attribute__((warn_unused_result));
void hba_words_parse(struct hba_words *words, const char *name, const char *text, size_t length,
                     struct report *report);
void hba_words_fini(struct hba_words *words);
/* Compiles a pattern that lives as long as `words`; NULL and a mistake at the line when it cannot
 * be. */
const regex_t *hba_pattern(struct hba_words *words, int line, const char *text)
    __attribute__((warn_unused_result));
/* Does it fit anywhere in the text? Never in one of more than 255 bytes: the time that a pattern
 * takes grows with it, and names come from clients. */
bool hba_pattern_fits(const regex_t *pattern, const char *text, regmatch_t *groups, size_t count);
/* An unquoted word that is this keyword? */
bool hba_word_is(const struct hba_word *word, const char *keyword);
void hba_error(const struct hba_words *words, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- hba.c ---- */

enum hba_kind { HBA_LOCAL, HBA_HOST, HBA_HOSTSSL, HBA_HOSTNOSSL };

enum hba_match {
    HBA_ALL,
    HBA_EXACT,
    HBA_PATTERN,
    HBA_SAMEUSER,    /* databases only */
    HBA_REPLICATION, /* databases only */
};

struct hba_name {
    enum hba_match match;
    const char *text;        /* HBA_EXACT */
    const regex_t *pattern;  /* HBA_PATTERN */
    const char *environment; /* only there; NULL: anywhere */
};

struct hba_names {
    const struct hba_name *items;
    size_t count;
};

struct hba_rule {
    int line;
    enum hba_kind kind;
    struct hba_names databases, users;
    bool any_address;
    struct cidr_list addresses;
    enum auth_type method;
    enum hba_certificate certificate;
    const char *map;
    struct ldap_options *ldap;       /* AUTH_LDAP */
    const char *pam_service;         /* AUTH_PAM; NULL: auth_pam_service */
    const char *const *environments; /* of `environment=` */
    size_t environment_count;        /* 0: anywhere */
};

struct hba {
    /* fixed */
    struct hba_words words; /* owns all memory */
    struct hba_rule *rules;
    size_t count;
};

/* The word that files use for a method. */
const char *hba_method_name(enum auth_type method);
bool hba_name_fits(const struct hba_name *name, const char *text);

#endif
