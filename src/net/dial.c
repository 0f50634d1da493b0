/*
 * dial: a resolver's answer with a place in it.
 */
#include "pgstage/net/dial.h"

#include "pgstage/base/list.h"

static void answered(struct loop *loop, struct resolver_query *query,
                     const struct resolver_answer *answer)
{
    struct dial *dial = list_entry(query, struct dial, query);

    (void)loop;
    dial->answer = *answer;
    dial->ready(dial);
}

void dial_init(struct dial *dial, struct loop *loop, struct resolver *resolver,
               void (*ready)(struct dial *dial))
{
    *dial = (struct dial){.loop = loop, .resolver = resolver, .ready = ready};
    dial->query.answered = answered;
}

bool dial_begin(struct dial *dial, const char *name, uint16_t port)
{
    dial->next = dial->answer.count = 0;
    dial->answer.problem[0] = '\0';
    if (name[0] != '/' && name[0] != '@')
        return resolver_ask(dial->resolver, dial->loop, &dial->query, name, port, &dial->answer);
    dial->answer.count = address_local(&dial->answer.addresses[0], name, port);
    return true;
}

const struct address *dial_next(struct dial *dial)
{
    return dial_has_next(dial) ? &dial->answer.addresses[dial->next++] : NULL;
}

bool dial_has_next(const struct dial *dial)
{
    return dial->next < dial->answer.count;
}

void dial_again(struct dial *dial)
{
    if (dial->next > 0)
        dial->next--;
}

const char *dial_problem(const struct dial *dial)
{
    if (dial->answer.count > 0)
        return NULL;
    return dial->answer.problem[0] ? dial->answer.problem : "no address";
}

void dial_end(struct dial *dial)
{
    if (dial->query.ticket)
        resolver_cancel(dial->resolver, dial->loop, &dial->query);
}
