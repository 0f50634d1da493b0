/*
 * origin: where a value comes from. Texts live as long as the snapshot.
 */
#ifndef PGSTAGE_CONF_ORIGIN_H
#define PGSTAGE_CONF_ORIGIN_H

enum origin_kind {
    ORIGIN_DEFAULT,  /* built in */
    ORIGIN_FILE,     /* `name` is the file */
    ORIGIN_VARIABLE, /* `name` is the environment variable */
    ORIGIN_PRESET,   /* `name` is the class */
    ORIGIN_SET,      /* the console's SET */
};

struct origin {
    enum origin_kind kind;
    const char *name;
    int line;
};

/* "/etc/pgstage.ini:12", "variable PGSTAGE__X", "class production", "SET", "default"; allocated. */
char *origin_print(const struct origin *origin) __attribute__((warn_unused_result));

#endif
