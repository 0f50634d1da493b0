/*
 * fuzz_ldap: options and URLs of LDAP logins, and what is made of a user's name. Lines: the user's
 * name, then `name=value` each.
 */
#include <stdlib.h>
#include <string.h>

#include "pgstage/auth/outside.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/arena.h"
#include "pgstage/conf/ldap.h"
#include "promise.h"

/* How many of these stand in a text without a backslash and its two digits, or its one. */
static size_t count_bare(const char *text, const char *of)
{
    size_t count = 0;
    for (; *text; text++) {
        if (*text == '\\')
            text += text[1] ? 1 : 0;
        else
            count += strchr(of, *text) != NULL;
    }
    return count;
}

static void ask_about(const struct ldap_options *options, const char *user)
{
    char *filter = ldap_filter_for(options, user), *plain = ldap_filter_for(options, "u");
    char *name = ldap_name_for(options, user), *plain_name = ldap_name_for(options, "u");
    bool is_dn = (options->prefix && strchr(options->prefix, '=')) ||
                 (options->suffix && strchr(options->suffix, '='));
    /* no name makes another filter, or another name, than a harmless one does */
    if (!options->filter || !strchr(options->filter, '\\'))
        promise(count_bare(filter, "()*|&!") == count_bare(plain, "()*|&!"));
    if (is_dn && !(options->prefix && strchr(options->prefix, '\\')) &&
        !(options->suffix && strchr(options->suffix, '\\')))
        promise(count_bare(name, ",+=;") == count_bare(plain_name, ",+=;"));
    free(filter);
    free(plain);
    free(name);
    free(plain_name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct ldap_options options;
    char problem[256] = "", *text = text_copy_n((const char *)data, size), *rest = NULL;
    const char *user = strtok_r(text, "\n", &rest);
    bool good = true;

    ldap_options_init(&options);
    for (char *line; good && (line = strtok_r(NULL, "\n", &rest));) {
        char *equals = strchr(line, '=');
        if (!equals)
            break;
        *equals = '\0';
        good = ldap_options_take(&arena, &options, line, equals + 1, problem, sizeof problem);
    }
    if (good && ldap_options_finish(&arena, &options, problem, sizeof problem)) {
        promise(options.uris && options.servers);
        promise(text_starts_with(options.uris, options.is_ldaps ? "ldaps://" : "ldap://"));
        promise(!options.is_ldaps || !ldap_options_are_clear(&options));
        ask_about(&options, user ? user : "");
    } else {
        promise(!good || *problem);
    }
    arena_fini(&arena);
    free(text);
    return 0;
}
