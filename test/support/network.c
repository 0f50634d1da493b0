/*
 * network: `ip netns`, a veth pair, and neighbours that are not there.
 *
 *   ours: pgNNNNa 198.18.x.1 ════ host0 198.18.x.2 :the namespace's
 *
 * Packets are dropped by giving each end a wrong hardware address for the other one: the frames
 * arrive, are meant for somebody else and vanish, without an ICMP message or an error for the
 * sender. 198.18.0.0/15 is reserved for tests (RFC 2544) and routed nowhere.
 */
#include "network.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "program.h"

static int ip_try(const char *command, char **output)
{
    char *words[24] = {NULL}, *rest = NULL, *word;
    struct process_options options = {.keep_user = true};
    int count = 0;

    for (word = strtok_r(text_of("ip %s", command), " ", &rest); word && count < 23;
         word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    return process_run(words, &options, output);
}

__attribute__((format(printf, 1, 2))) static void ip(const char *format, ...)
{
    char command[512], *output;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    if (ip_try(command, &output) != 0)
        support_fail("ip %s: %s", command, output);
    free(output);
}

const char *network_refusal(void)
{
    char *name = text_of("pgstage-try-%d", (int)getpid());
    char *output;

    if (geteuid())
        return "network namespaces need root";
    if (ip_try(text_of("netns add %s", name), &output) != 0)
        return text_of("no network namespace: %s", output);
    if (ip_try(text_of("link add %s type veth peer name host0 netns %s",
                       text_of("pg%da", (int)getpid()), name),
               &output) != 0) {
        ip("netns del %s", name);
        return text_of("no virtual cable: %s", output);
    }
    ip("netns del %s", name);
    return NULL;
}

static void end_at_cleanup(void *argument)
{
    struct network *network = argument;

    /* the cable goes with it, at once and not when the last socket has given up */
    (void)ip_try(text_of("link del %s", network->device), NULL);
    (void)ip_try(text_of("netns del %s", network->name), NULL);
}

struct network *network_start(void)
{
    struct network *network = calloc(1, sizeof *network);
    /* the port lock keeps the number for us as long as this process lives */
    int number = port_take() - 20000;

    if (!network)
        abort();
    network->name = text_of("pgstage-%d", number);
    network->device = text_of("pg%da", number);
    network->outside = text_of("198.18.%d.%d", number / 64, number % 64 * 4 + 1);
    network->inside = text_of("198.18.%d.%d", number / 64, number % 64 * 4 + 2);
    ip("netns add %s", network->name);
    test_cleanup(end_at_cleanup, network);
    ip("link add %s type veth peer name host0 netns %s", network->device, network->name);
    ip("addr add %s/30 dev %s", network->outside, network->device);
    ip("link set %s up", network->device);
    ip("-n %s addr add %s/30 dev host0", network->name, network->inside);
    ip("-n %s link set host0 up", network->name);
    ip("-n %s link set lo up", network->name);
    return network;
}

void network_drop(const struct network *network, bool dropped)
{
    static const char NOBODY[] = "02:00:00:00:00:99";

    if (dropped) {
        ip("neigh replace %s lladdr %s dev %s nud permanent", network->inside, NOBODY,
           network->device);
        ip("-n %s neigh replace %s lladdr %s dev host0 nud permanent", network->name,
           network->outside, NOBODY);
    } else {
        ip("neigh del %s dev %s", network->inside, network->device);
        ip("-n %s neigh del %s dev host0", network->name, network->outside);
    }
}
