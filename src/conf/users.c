/*
 * users: the user list (auth_file): `"name" "secret"` a line, `;` comments, "" for a quote inside.
 *
 * Read once for each load and immutable afterwards, so any thread may look up. The whole file stays
 * in memory and the names and secrets are pieces of it; it is wiped when it is freed.
 */
#include "pgstage/conf/users.h"

#include <stdlib.h>
#include <string.h>

#include "pgstage/base/map.h"
#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/conf/arena.h"
#include "pgstage/conf/file.h"

#define USERS_MAX_BYTES ((size_t)256 << 20)
#define BLANKS " \t\r\f\v"

struct user {
    struct user_secret secret;
    UT_hash_handle hh;
};

struct users {
    struct arena arena;
    struct user *by_name;
    struct user **in_order;
    size_t count;
};

enum secret_kind secret_kind_of(const char *secret)
{
    static const char scram[] = "SCRAM-SHA-256$";
    if (!*secret)
        return SECRET_NONE;
    if (strncmp(secret, "md5", 3) == 0 && strlen(secret) == 35 &&
        strspn(secret + 3, "0123456789abcdef") == 32)
        return SECRET_MD5;
    if (strncmp(secret, scram, sizeof(scram) - 1) == 0) {
        const char *dollar = strchr(secret + sizeof(scram) - 1, '$');
        if (dollar && strchr(secret, ':') && strchr(secret, ':') < dollar && strchr(dollar, ':'))
            return SECRET_SCRAM;
    }
    return SECRET_PLAIN;
}

/* Reads one "quoted" word in place; returns what stands behind it, or NULL. */
static char *read_word(char *text, const char **word)
{
    if (*text != '"')
        return NULL;
    char *out = text + 1;
    *word = out;
    for (text++; *text; text++) {
        if (*text == '"' && *++text != '"') {
            *out = '\0';
            /* When nothing was doubled the end mark replaced the closing quote. */
            return text;
        }
        *out++ = *text;
    }
    return NULL;
}

static void users_put(struct users *users, const char *name, const char *secret)
{
    struct user *user;
    HASH_FIND_STR(users->by_name, name, user);
    if (!user) {
        user = arena_get(&users->arena, sizeof(*user));
        user->secret.user = arena_copy(&users->arena, name);
        HASH_ADD_KEYPTR(hh, users->by_name, user->secret.user, strlen(name), user);
        if ((users->count & (users->count - 1)) == 0)
            users->in_order = memory_resize(users->in_order, users->count ? users->count * 2 : 1,
                                            sizeof(struct user *));
        users->in_order[users->count++] = user;
    }
    user->secret.secret = arena_copy(&users->arena, secret);
    user->secret.kind = secret_kind_of(secret);
}

/* True when the line is good. What stands behind the secret is left to other programs. */
static bool users_read_line(struct users *users, char *line, const char **problem)
{
    const char *name, *secret;
    line += strspn(line, BLANKS);
    if (!*line || *line == ';' || *line == '#')
        return true;
    *problem = "expected \"user\" \"secret\", both in double quotes";
    char *behind = read_word(line, &name);
    if (!behind)
        return false;
    behind += strspn(behind, BLANKS);
    if (!read_word(behind, &secret))
        return false;
    if (!*name) {
        *problem = "the user's name is empty";
        return false;
    }
    users_put(users, name, secret);
    return true;
}

struct users *users_load(const char *file, struct report *report)
{
    char problem[1024];
    size_t length;
    char *text = file_read(file, USERS_MAX_BYTES, &length, NULL, problem, sizeof(problem));
    if (!text) {
        report_error(report, NULL, 0, "%s", problem);
        return NULL;
    }
    struct users *users = memory_new(sizeof(*users));
    bool good = true;
    int number = 0;
    for (char *at = text, *end = text + length; at < end;) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        char *stop = newline ? newline : end;
        const char *what = "there is a NUL byte in this line";
        number++;
        *stop = '\0';
        if (strlen(at) != (size_t)(stop - at) || !users_read_line(users, at, &what)) {
            report_error(report, file, number, "%s", what);
            good = false;
        }
        at = stop + 1;
    }
    text_wipe(text, length);
    free(text);
    if (!good) {
        users_free(users);
        return NULL;
    }
    return users;
}

void users_free(struct users *users)
{
    if (!users)
        return;
    HASH_CLEAR(hh, users->by_name);
    free(users->in_order);
    arena_fini(&users->arena);
    free(users);
}

enum secret_kind users_usual_kind(const struct users *users)
{
    size_t counts[SECRET_SCRAM + 1] = {0};
    enum secret_kind usual = SECRET_PLAIN;

    /* a sample says enough, and a login must not walk a long list */
    for (size_t i = 0; i < users->count && i < 64; i++)
        counts[users->in_order[i]->secret.kind]++;
    for (int kind = SECRET_PLAIN; kind <= SECRET_SCRAM; kind++)
        if (counts[kind] > counts[usual])
            usual = (enum secret_kind)kind;
    return usual;
}

const struct user_secret *users_find(const struct users *users, const char *name)
{
    struct user *user = NULL;
    if (users)
        HASH_FIND_STR(users->by_name, name, user);
    return user ? &user->secret : NULL;
}

size_t users_count(const struct users *users)
{
    return users ? users->count : 0;
}

const struct user_secret *users_at(const struct users *users, size_t index)
{
    return &users->in_order[index]->secret;
}
