/*
 * hand: a folder of requests. `request.N` appears (renamed, so it is whole), is carried out and
 * removed; `request.N.failed` says that it was nothing to be carried out.
 */
#include "hand.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"
#include "until.h"

static struct {
    struct constellation *sky;
    char *folder;
    char *done; /* a line for each request, in a file: the test reads it */
} hand;

static struct star *star_named(const char *name)
{
    for (int i = 0; i < hand.sky->count; i++)
        if (!strcmp(star_short(&hand.sky->stars[i]), name))
            return &hand.sky->stars[i];
    return NULL;
}

static bool carry_out(const char *what, struct star *star, struct star *other)
{
    if (!star)
        return false;
    if (!strcmp(what, "stop") || !strcmp(what, "halt")) {
        cluster_end(star->cluster, CLUSTER_FAST);
    } else if (!strcmp(what, "kill")) {
        cluster_end(star->cluster, CLUSTER_KILL);
    } else if (!strcmp(what, "start")) {
        if (!star->cluster->pid)
            cluster_again(star->cluster);
    } else if (!strcmp(what, "promote")) {
        cluster_promote(star->cluster);
    } else if (!strcmp(what, "follow") && other) {
        star_rejoin(hand.sky, star, other, false);
    } else {
        return false;
    }
    return true;
}

static void answer(const char *file)
{
    char what[32] = "", who[32] = "", whom[32] = "";
    char *text = file_text(file);
    FILE *log;

    (void)sscanf(text, "%31s %31s %31s", what, who, whom);
    if (!carry_out(what, star_named(who), star_named(whom)))
        file_write(text_of("%s.failed", file), 0644, "");
    log = fopen(hand.done, "ae");
    if (log) {
        fprintf(log, "%s", text);
        fclose(log);
    }
    free(text);
    unlink(file);
}

static void *hand_main(void *argument)
{
    for (;;) {
        DIR *folder = opendir(hand.folder);
        struct dirent *entry;

        while (folder && (entry = readdir(folder)))
            if (!strncmp(entry->d_name, "request.", 8) && !strchr(entry->d_name + 8, '.'))
                answer(text_of("%s/%s", hand.folder, entry->d_name));
        if (folder)
            closedir(folder);
        pause_ms(5);
    }
    return argument;
}

static const char SCRIPT[] = "#!/bin/sh\n"
                             "# leaves a request for the test and waits until it is carried out\n"
                             "case $1 in\n"
                             "fail) echo 'told to fail' >&2; exit 1 ;;\n"
                             "sleep) exec sleep \"$2\" ;;\n"
                             "esac\n"
                             "request=%s/request.$$\n"
                             "echo \"$*\" >$request.new\n"
                             "mv $request.new $request\n"
                             "while [ -e $request ]; do sleep 0.01; done\n"
                             "[ ! -e $request.failed ] || exit 1\n"
                             "[ $1 != stop ] || LC_ALL=C %s/pg_controldata -D %s/$2/data |\n"
                             "    grep 'Latest checkpoint location'\n";

const char *hand_start(struct constellation *sky)
{
    const char *script = text_of("%s/hand", sky->folder);
    pthread_t thread;

    hand.sky = sky;
    hand.folder = text_of("%s/requests", sky->folder);
    hand.done = text_of("%s/requests-done", sky->folder);
    folder_make(hand.folder);
    file_write(script, 0755, text_of(SCRIPT, hand.folder, program_postgres_folder(), sky->folder));
    if (pthread_create(&thread, NULL, hand_main, NULL))
        support_fail("pthread_create");
    pthread_detach(thread);
    return script;
}

int hand_count(const char *request)
{
    char *text = file_text(hand.done), *line, *rest = NULL;
    int count = 0;

    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        count += !strncmp(line, request, strlen(request));
    free(text);
    return count;
}
