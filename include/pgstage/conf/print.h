/*
 * print: the sample file and the reference page, made from the tables. Any thread.
 */
#ifndef PGSTAGE_CONF_PRINT_H
#define PGSTAGE_CONF_PRINT_H

#include <stdio.h>

/* conf/pgstage.ini: complete and commented; it loads as it is. */
void conf_print_sample(FILE *out);
/* doc/reference-options.md: every option and every class. */
void conf_print_reference(FILE *out);
/* The table of rules in doc/production.md. */
void conf_print_rules(FILE *out);

#endif
