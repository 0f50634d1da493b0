/*
 * prepared.c: what a client's Parse, Bind, Describe and Close become on their way to the server.
 *
 *   P "a" text    the server has the text: ParseComplete is produced here, nothing is sent
 *                 it has not:              [Close of the least used] P "pgstage_7" text
 *   B p "a" …     it has not:              [Close …] [P "pgstage_7" text]  B p "pgstage_7" …
 *   D S "a"       as Bind
 *   C S "a"       passes as it is: no server knows the name, so it answers CloseComplete; where the
 *                 name looks like one of ours, that of nobody is closed
 *
 * Names that a client does not have pass as they are: the server refuses them at the right place
 * in the pipeline, and what belongs to the batch fails with it, as it must. The same holds for a
 * name that is in use: the server is asked to parse the text over a statement that it has. Where
 * pgstage itself must refuse, a Describe that cannot succeed takes the message's place, and its
 * error is replaced (prepared_answer.c).
 *
 * What is not certain yet is not guessed: when a name or a server's statement was changed in an
 * earlier batch that is not answered, the message is held until it is.
 */
#include "pgstage/session/prepared.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pgstage/base/memory.h"
#include "pgstage/base/text.h"
#include "pgstage/wire/frame.h"
#include "pgstage/wire/intent.h"
#include "pgstage/wire/sql.h"
#include "prepared_inside.h"

/* At most so many statements are closed on a server before one is parsed. */
#define CLOSES_PER_PARSE 3
/* Bytes up to this are copied, so that the write has fewer pieces. */
#define COPIED_BYTES 128
_Static_assert((CLOSES_PER_PARSE + 2) * (FRAME_HEADER_BYTES + 1 + SERVER_NAME_BYTES) + 64 +
                       2 * COPIED_BYTES <=
                   OUTGOING_MESSAGE_BYTES,
               "scratch of one message");

/* A name that nobody ever prepares, and one for what is to be deallocated at once. */
#define NOBODY "pgstage_none"
#define DOOMED "pgstage_gone"

static const struct settings *settings_of(const struct client *client)
{
    return share_settings(client->share);
}

static bool follows_names(const struct client *client)
{
    return settings_of(client)->max_prepared_statements > 0;
}

static struct transaction *transaction_of(const struct client *client)
{
    return &client->server->transaction;
}

static bool is_doubtful(const struct client *client, uint32_t pending, uint32_t batch)
{
    return pending && transaction_is_doubtful(transaction_of(client), batch);
}

/* The server's entry for a statement; NULL: it has none that will be there. */
static struct kept_statement *kept_of(const struct client *client,
                                      const struct statement *statement)
{
    struct prepared *prepared = client->server->prepared;

    return prepared ? statement_set_find(&prepared->set, statement) : NULL;
}

static bool is_doubtful_there(const struct client *client, const struct statement *statement)
{
    const struct kept_statement *kept = kept_of(client, statement);

    return kept && is_doubtful(client, kept->pending, kept->batch);
}

/* Everything beside the text that decides what it means, in one piece of memory of the worker. */
static const struct buffer *context_of(struct client *client)
{
    static const char *const names[] = {"client_encoding", "standard_conforming_strings",
                                        "search_path", "role"};
    struct buffer *context = &client->worker->context;

    context->length = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        buffer_put_string(context, parameters_get(client->parameters, names[i]));
    buffer_put_u8(context, client->sql_mode); /* where its server has other defaults */
    return context;
}

struct statement *prepared_take(struct client *client, const void *text, size_t bytes,
                                uint8_t intent)
{
    const struct buffer *context = context_of(client);
    struct statement *statement =
        statement_take(client->worker->plane->statements, text, bytes, context->data,
                       context->length, settings_of(client)->prepared_statements_memory_bytes);

    if (statement)
        statement_set_intent(statement, intent);
    return statement;
}

/* ------------------------------ looking ------------------------------ */

/* Where the string at `at` ends (behind its NUL); 0: not in what is there. */
static size_t string_end(const struct passing *passing, size_t at)
{
    const uint8_t *end;

    if (at >= passing->there)
        return 0;
    if (passing->data[at] == '\0')
        return at + 1;
    end = memchr(passing->data + at, '\0', passing->there - at);

    return end ? (size_t)(end - passing->data) + 1 : 0;
}

/* Finds the statement's name; PREPARED_PASS when it is there. */
static enum prepared_step find_name(const struct passing *passing, struct prepared_plan *plan)
{
    size_t at = FRAME_HEADER_BYTES;

    if (passing->type == 'D' || passing->type == 'C')
        at++;
    else if (passing->type == 'B')
        at = string_end(passing, at);
    plan->name_at = at;
    plan->rest_at = at ? string_end(passing, at) : 0;
    if (plan->rest_at)
        return PREPARED_PASS;
    /* whole and without a name: the server has words for that; too long a name: nobody has */
    plan->kind = PLAN_PASS;
    return passing->there == passing->total ? PREPARED_PASS : PREPARED_FAIL;
}

bool prepared_wants_more(const struct client *client, const struct passing *passing)
{
    struct prepared_plan plan = {.kind = PLAN_PASS};

    if (passing->there >= LOOP_BUFFER_BYTES || !prepared_concerns(client, passing->type))
        return false;
    if (passing->type == 'S' || passing->type == 'Q')
        return false;
    (void)find_name(passing, &plan);
    return plan.rest_at == 0;
}

static enum prepared_step refuse(struct prepared_plan *plan, const char *sqlstate, const char *text,
                                 const char *hint)
{
    plan->kind = PLAN_REFUSE;
    plan->sqlstate = sqlstate;
    plan->text = text;
    plan->hint = hint;
    return PREPARED_TAKE;
}

static enum prepared_step look_at_unknown(const char *name, struct prepared_plan *plan)
{
    if (prepared_is_ours(name))
        return refuse(plan, "26000", NULL, NULL);
    return PREPARED_PASS;
}

static enum prepared_step look_at_parse(struct client *client, const struct passing *passing,
                                        struct prepared_plan *plan)
{
    bool whole = passing->there == passing->total;

    if (plan->name && plan->name->asked) {
        plan->kind = PLAN_DUPLICATE;
        return PREPARED_TAKE;
    }
    if (!plan->name && client->names &&
        statement_names_count(client->names) >=
            (size_t)settings_of(client)->max_client_prepared_statements)
        return refuse(plan, "54000", "too many prepared statements",
                      "See max_client_prepared_statements in the configuration of the pooler.");
    if (!whole) {
        plan->kind = PLAN_PARSE_LONG;
        return PREPARED_TAKE;
    }
    plan->kind = PLAN_PARSE;
    plan->statement = prepared_take(client, passing->data + plan->rest_at,
                                    passing->total - plan->rest_at, passing->intent);
    if (!plan->statement)
        return refuse(plan, "53200", "no memory left for prepared statements",
                      "See prepared_statements_memory in the configuration of the pooler.");
    if (is_doubtful_there(client, plan->statement)) {
        statement_give(plan->statement);
        return PREPARED_HOLD;
    }
    return PREPARED_TAKE;
}

/* A server that lacks the statement is given it in the client's present context; the name follows.
 */
static bool fit_context(struct client *client, struct statement_name *name)
{
    const struct buffer *context = context_of(client);
    struct statement *statement = name->asked, *fitting;
    const uint8_t *text;
    size_t bytes;

    if (name->pending || statement_is_in_context(statement, context->data, context->length))
        return true;
    text = statement_text(statement, &bytes);
    fitting = prepared_take(client, text, bytes,
                            (uint8_t)intent_of((const char *)text, strlen((const char *)text),
                                               false, client->sql_mode));
    if (!fitting)
        return false;
    statement_names_replace(client->names, name, fitting);
    return true;
}

static enum prepared_step look_at_use(struct client *client, struct prepared_plan *plan,
                                      const char *name)
{
    struct kept_statement *kept;

    if (!plan->name || !plan->name->asked)
        return look_at_unknown(name, plan);
    kept = kept_of(client, plan->name->asked);
    if (!kept || !kept->asked) {
        if (statement_is_long(plan->name->asked))
            return PREPARED_PASS; /* its server has gone: nobody knows it any more */
        if (!fit_context(client, plan->name))
            return refuse(plan, "53200", "no memory left for prepared statements", NULL);
    }
    plan->kind = PLAN_USE;
    plan->statement = plan->name->asked;
    plan->intent = statement_intent(plan->statement);
    return is_doubtful_there(client, plan->statement) ? PREPARED_HOLD : PREPARED_TAKE;
}

static enum prepared_step look_at_close(struct prepared_plan *plan, const char *name)
{
    if (plan->name && plan->name->asked)
        plan->kind = PLAN_CLOSE;
    else if (prepared_is_ours(name))
        plan->kind = PLAN_CLOSE; /* of NOBODY */
    return plan->kind == PLAN_CLOSE ? PREPARED_TAKE : PREPARED_PASS;
}

static enum prepared_step look_at_unnamed(struct client *client, const struct passing *passing,
                                          struct prepared_plan *plan)
{
    if (passing->type == 'C') {
        unnamed_forget(client);
        return PREPARED_PASS;
    }
    if (passing->type == 'P') {
        unnamed_parse(client, passing->data + plan->rest_at, passing->there - plan->rest_at,
                      passing->there == passing->total, passing->intent);
        return PREPARED_PASS;
    }
    plan->intent = client->unnamed.intent;
    switch (unnamed_look(client)) {
    case UNNAMED_UNCERTAIN:
        return PREPARED_HOLD;
    case UNNAMED_REPARSE:
        plan->kind = PLAN_REPARSE;
        return PREPARED_TAKE;
    case UNNAMED_MISSING:
        plan->kind = PLAN_MISSING;
        return PREPARED_TAKE;
    case UNNAMED_THERE:
        break;
    }
    if (passing->type == 'B')
        unnamed_bound(client);
    return PREPARED_PASS;
}

static bool is_end(const struct sql_token *token)
{
    return token->kind == SQL_END || (token->kind == SQL_SYMBOL && *token->text == ';');
}

/* Behind DEALLOCATE: the name, as PostgreSQL reads it, and its token; false for anything else. */
static bool read_deallocated(struct sql_lexer *lexer, char name[STATEMENT_NAME_MAX_BYTES + 1],
                             struct sql_token *token)
{
    *token = sql_token(lexer);
    if (sql_token_is(token, "prepare")) {
        struct sql_lexer ahead = *lexer;
        struct sql_token next = sql_token(&ahead);

        if (!is_end(&next)) {
            *token = next;
            *lexer = ahead;
        }
    }
    return !sql_token_is(token, "all") && sql_token_is_folded_here(token) &&
           sql_token_name(token, name, STATEMENT_NAME_MAX_BYTES + 1);
}

/* The DEALLOCATE [PREPARE] name of a text, which may be one of several statements: the name, and
 * its token. False when there is none, or more than one. */
static bool find_deallocate(const char *sql, size_t length, unsigned mode,
                            char name[STATEMENT_NAME_MAX_BYTES + 1], struct sql_token *found)
{
    struct sql_lexer lexer = {.text = sql, .length = length, .mode = mode};
    struct sql_token token;

    found->length = 0;
    do {
        token = sql_token(&lexer);
        if (sql_token_is(&token, "deallocate")) {
            if (found->length > 0 || !read_deallocated(&lexer, name, found))
                return false;
            token = sql_token(&lexer);
            if (!is_end(&token))
                return false;
        }
        while (!is_end(&token)) {
            if (token.kind == SQL_BAD)
                return false;
            token = sql_token(&lexer);
        }
    } while (token.kind != SQL_END);
    return found->length > 0;
}

/* SQL's DEALLOCATE of a name that was prepared by a message: its server knows it by another name,
 * and keeps it for others. */
static enum prepared_step look_at_deallocate(struct client *client, const struct passing *passing,
                                             struct prepared_plan *plan, size_t at)
{
    char name[STATEMENT_NAME_MAX_BYTES + 1];
    const struct transaction *transaction = transaction_of(client);
    const char *sql = (const char *)passing->data + at;
    struct sql_token token;
    size_t end;

    if (!client->names || !(passing->intent & INTENT_STATE) || passing->there < passing->total)
        return PREPARED_PASS;
    end = string_end(passing, at);
    if (!end || !find_deallocate(sql, end - at - 1, client->sql_mode, name, &token))
        return PREPARED_PASS;
    plan->name = statement_names_find(client->names, name);
    if (!plan->name)
        return PREPARED_PASS;
    /* whether it would fail because of an aborted transaction must be known */
    if (transaction->count > 0 && passing->type == 'Q')
        return transaction->batch_open ? PREPARED_PASS : PREPARED_HOLD;
    if (!plan->name->asked || transaction->status == 'E' || !transaction_may_produce(transaction))
        return PREPARED_PASS;
    plan->kind = PLAN_DEALLOCATE;
    plan->name_at = (size_t)(token.text - (const char *)passing->data);
    plan->rest_at = plan->name_at + token.length;
    return PREPARED_TAKE;
}

/* May the text deallocate all names at once? Only asked of texts that the tracker has noted. */
static bool may_wipe(const char *text)
{
    return text && (strcasestr(text, "deallocate") || strcasestr(text, "discard"));
}

/* Notes that the client's names may all be gone when this message is answered. */
static void note_wipe(struct client *client, const struct passing *passing)
{
    const char *text = NULL;
    size_t at = FRAME_HEADER_BYTES;

    if (passing->type == 'P')
        at = string_end(passing, at);
    if (passing->type == 'B')
        text = prepared_bound_text(client, passing->data + FRAME_HEADER_BYTES,
                                   passing->there - FRAME_HEADER_BYTES);
    else if (at && string_end(passing, at))
        text = (const char *)passing->data + at;
    if (!may_wipe(text))
        return;
    client->names->wiped = true;
    client->names->wiped_batch = server_next_batch(client->server);
}

static bool may_be_wiped(const struct client *client)
{
    const struct statement_names *names = client->names;

    return names && names->wiped &&
           transaction_is_doubtful(transaction_of(client), names->wiped_batch);
}

/* The usual case, of a client without names: Parse of the unnamed statement, or Bind of what this
 * very batch has parsed. */
static bool is_usual(struct client *client, const struct passing *passing,
                     struct prepared_plan *plan)
{
    const uint8_t *body = passing->data + FRAME_HEADER_BYTES;
    const struct server *server = client->server;

    if (client->names || passing->there < FRAME_HEADER_BYTES + 2 || body[0] != '\0')
        return false;
    if (passing->type == 'P' && passing->there == passing->total) {
        unnamed_parse(client, body + 1, passing->there - FRAME_HEADER_BYTES - 1, true,
                      passing->intent);
        return true;
    }
    if (passing->type != 'B' || body[1] != '\0' || server->unnamed_links != server->links ||
        client->unnamed.batch != transaction_batch(&server->transaction))
        return false;
    plan->intent = client->unnamed.intent;
    unnamed_bound(client);
    return true;
}

enum prepared_step prepared_look(struct client *client, const struct passing *passing,
                                 struct prepared_plan *plan)
{
    enum prepared_step step;
    const char *name;
    bool ignoring = transaction_is_ignoring(transaction_of(client));

    if (!ignoring && is_usual(client, passing, plan))
        return PREPARED_PASS;
    plan->kind = PLAN_PASS;
    plan->name = NULL;
    plan->intent = INTENT_COMMITS; /* who knows what there is by this name */
    if (ignoring && passing->type != 'S')
        return PREPARED_PASS; /* the server will not even look at it */
    if (passing->type == 'S') {
        unnamed_sync(client);
        return PREPARED_PASS;
    }
    if (may_be_wiped(client))
        return PREPARED_HOLD;
    if (passing->noted && client->names)
        note_wipe(client, passing);
    if (passing->type == 'Q') {
        step = look_at_deallocate(client, passing, plan, FRAME_HEADER_BYTES);
        if (step != PREPARED_HOLD && client->unnamed.state != UNNAMED_NONE)
            unnamed_forget(client);
        return step;
    }
    if ((passing->type == 'D' || passing->type == 'C') &&
        (passing->there == FRAME_HEADER_BYTES || passing->data[FRAME_HEADER_BYTES] != 'S'))
        return PREPARED_PASS; /* a portal, or nonsense */
    step = find_name(passing, plan);
    if (step != PREPARED_PASS || !plan->rest_at)
        return step;
    name = (const char *)passing->data + plan->name_at;
    if (!*name) {
        step = passing->type == 'P' && client->names
                   ? look_at_deallocate(client, passing, plan, plan->rest_at)
                   : PREPARED_PASS;
        return step == PREPARED_PASS ? look_at_unnamed(client, passing, plan) : step;
    }
    if (!follows_names(client) && !client->names)
        return PREPARED_PASS;
    plan->name = client->names ? statement_names_find(client->names, name) : NULL;
    if (plan->name && is_doubtful(client, plan->name->pending, plan->name->batch))
        return PREPARED_HOLD;
    switch (passing->type) {
    case 'P':
        return look_at_parse(client, passing, plan);
    case 'C':
        return look_at_close(plan, name);
    default:
        return look_at_use(client, plan, name);
    }
}

/* ------------------------------ sending ------------------------------ */

/* Enters a message with what its answer will make true; NULL: the server will ignore it. */
static struct change *ask(struct client *client, uint8_t type, enum answer_action action)
{
    if (!transaction_ask(transaction_of(client), type, (unsigned)action | ANSWER_TAGGED))
        return NULL;
    return prepared_expect(client->server);
}

static void ask_plain(struct client *client, uint8_t type, enum answer_action action)
{
    (void)transaction_ask(transaction_of(client), type, action);
}

/* The client's name will stand for the statement (whose reference is taken over). */
static void expect_name(struct client *client, struct change *change, struct statement_name *name,
                        struct statement *statement)
{
    change->name = name;
    change->statement = statement;
    statement_names_ask(name, statement, transaction_batch(transaction_of(client)));
}

static void expect_kept(struct client *client, struct change *change, struct kept_statement *kept,
                        bool there)
{
    change->kept = kept;
    change->there = there;
    statement_set_ask(&client->server->prepared->set, kept, there,
                      transaction_batch(transaction_of(client)));
}

static void close_kept(struct client *client, struct kept_statement *kept, struct outgoing *out)
{
    struct change *change = ask(client, 'C', ANSWER_QUIET);

    expect_kept(client, change, kept, false);
    outgoing_header(out, 'C', 1 + (size_t)kept->name_bytes);
    outgoing_copy(out, "S", 1);
    outgoing_copy(out, kept->name, kept->name_bytes);
}

/* Room on the server for one more. */
static void make_room(struct client *client, struct outgoing *out)
{
    struct statement_set *set = &prepared_of(client->server)->set;
    int64_t most = settings_of(client)->max_prepared_statements;

    for (int i = 0; i < CLOSES_PER_PARSE; i++) {
        struct kept_statement *kept = statement_set_surplus(
            set, most > 0 ? (size_t)most : 1, transaction_batch(transaction_of(client)));

        if (!kept)
            return;
        close_kept(client, kept, out);
    }
}

static void count_parse(struct client *client)
{
    counter_add(&client->share->stats->server_parse_count, 1);
}

static void put_parse(struct outgoing *out, const struct kept_statement *kept, const void *text,
                      size_t there, size_t bytes)
{
    outgoing_header(out, 'P', kept->name_bytes + bytes);
    outgoing_copy(out, kept->name, kept->name_bytes);
    outgoing_add(out, text, there);
}

/* The server is given a statement that it lacks, for a message that needs it. */
static struct kept_statement *provide(struct client *client, struct statement *statement,
                                      struct outgoing *out)
{
    struct statement_set *set = &prepared_of(client->server)->set;
    struct kept_statement *kept = statement_set_find(set, statement);
    struct change *change;
    const uint8_t *text;
    size_t bytes;

    if (kept && kept->asked) {
        statement_set_touch(set, kept);
        return kept;
    }
    make_room(client, out);
    text = statement_text(statement, &bytes);
    kept = statement_set_get(set, statement);
    change = ask(client, 'P', ANSWER_QUIET);
    expect_kept(client, change, kept, true);
    put_parse(out, kept, text, bytes, bytes);
    count_parse(client);
    return kept;
}

/* The server has an empty statement of this name then. */
static void put_doomed(struct client *client, struct outgoing *out)
{
    static const char empty[] = DOOMED "\0\0\0";

    ask_plain(client, 'C', ANSWER_QUIET);
    outgoing_header(out, 'C', 1 + sizeof(DOOMED));
    outgoing_add(out, "S" DOOMED, 1 + sizeof(DOOMED));
    ask_plain(client, 'P', ANSWER_QUIET);
    outgoing_header(out, 'P', sizeof(empty));
    outgoing_add(out, empty, sizeof(empty));
}

static const char *name_of(const struct passing *passing, const struct prepared_plan *plan)
{
    return (const char *)passing->data + plan->name_at;
}

static struct statement_name *name_for(struct client *client, const struct passing *passing,
                                       const struct prepared_plan *plan)
{
    if (plan->name)
        return plan->name;
    if (!client->names)
        client->names = memory_new(sizeof(*client->names));
    return statement_names_get(client->names, name_of(passing, plan));
}

static void send_parse(struct client *client, const struct passing *passing,
                       struct prepared_plan *plan, struct outgoing *out)
{
    struct transaction *transaction = transaction_of(client);
    struct statement_set *set = &prepared_of(client->server)->set;
    struct statement *statement = plan->statement;
    struct kept_statement *kept;
    struct change *change;

    if (plan->kind == PLAN_PARSE_LONG)
        statement = statement_take_long(client->worker->plane->statements);
    if (plan->kind == PLAN_PARSE_LONG)
        statement_set_intent(statement, passing->intent);
    kept = statement_set_find(set, statement);
    if (kept && kept->asked && !passing->noted && transaction_may_produce(transaction)) {
        statement_set_touch(set, kept);
        change = ask(client, 'P', ANSWER_PRODUCE);
        expect_name(client, change, name_for(client, passing, plan), statement);
        return;
    }
    if (kept && kept->asked)
        close_kept(client, kept, out); /* what it would say now must come from the server */
    else
        make_room(client, out);
    kept = statement_set_get(set, statement);
    change = ask(client, 'P', ANSWER_FORWARD);
    expect_kept(client, change, kept, true);
    expect_name(client, change, name_for(client, passing, plan), statement);
    put_parse(out, kept, passing->data + plan->rest_at, passing->there - plan->rest_at,
              passing->total - plan->rest_at);
    count_parse(client);
}

/* The name is in use: the server is given a text under a name that it has for sure, and says what
 * is wrong with that after whatever else may be wrong. */
static void send_duplicate(struct client *client, const struct passing *passing,
                           struct prepared_plan *plan, struct outgoing *out)
{
    struct change *change;

    put_doomed(client, out);
    change = ask(client, 'P', ANSWER_FORWARD);
    change->used = plan->name;
    change->sqlstate = text_copy("42P05");
    change->text = text_print("prepared statement \"%s\" already exists", name_of(passing, plan));
    statement_names_use(plan->name);
    outgoing_header(out, 'P', sizeof(DOOMED) + passing->total - plan->rest_at);
    outgoing_add(out, DOOMED, sizeof(DOOMED));
    outgoing_add(out, passing->data + plan->rest_at, passing->there - plan->rest_at);
}

static void put_bytes(struct outgoing *out, const uint8_t *bytes, size_t count)
{
    if (count <= COPIED_BYTES)
        outgoing_copy(out, bytes, count);
    else
        outgoing_add(out, bytes, count);
}

static void send_use(struct client *client, const struct passing *passing,
                     struct prepared_plan *plan, struct outgoing *out)
{
    struct kept_statement *kept = provide(client, plan->statement, out);
    struct change *change = ask(client, passing->type, ANSWER_FORWARD);
    size_t before = plan->name_at - FRAME_HEADER_BYTES, rest = passing->there - plan->rest_at;

    change->number = kept->number;
    change->used = plan->name;
    statement_names_use(plan->name);
    outgoing_header(out, passing->type, before + kept->name_bytes + passing->total - plan->rest_at);
    put_bytes(out, passing->data + FRAME_HEADER_BYTES, before);
    outgoing_copy(out, kept->name, kept->name_bytes);
    put_bytes(out, passing->data + plan->rest_at, rest);
}

static void send_close(struct client *client, const struct passing *passing,
                       struct prepared_plan *plan, struct outgoing *out)
{
    if (plan->name)
        expect_name(client, ask(client, 'C', ANSWER_FORWARD), plan->name, NULL);
    else
        ask_plain(client, 'C', ANSWER_FORWARD);
    if (prepared_is_ours(name_of(passing, plan))) {
        outgoing_header(out, 'C', 1 + sizeof(NOBODY));
        outgoing_add(out, "S" NOBODY, 1 + sizeof(NOBODY));
    } else {
        outgoing_add(out, passing->data, passing->there);
    }
}

static void send_refusal(struct client *client, const struct passing *passing,
                         struct prepared_plan *plan, struct outgoing *out)
{
    struct change *change = ask(client, 'D', ANSWER_FORWARD);

    change->sqlstate = text_copy(plan->sqlstate);
    change->text =
        plan->text ? text_copy(plan->text)
                   : text_print("prepared statement \"%s\" does not exist", name_of(passing, plan));
    change->hint = plan->hint ? text_copy(plan->hint) : NULL;
    outgoing_header(out, 'D', 1 + sizeof(NOBODY));
    outgoing_add(out, "S" NOBODY, 1 + sizeof(NOBODY));
}

/* An empty statement is prepared and deallocated in place of the client's. */
static void send_deallocate(struct client *client, const struct passing *passing,
                            struct prepared_plan *plan, struct outgoing *out)
{
    static const char doomed[] = DOOMED;
    size_t name_bytes = plan->rest_at - plan->name_at;
    struct change *change;

    put_doomed(client, out);
    change = ask(client, passing->type, ANSWER_FORWARD);
    expect_name(client, change, plan->name, NULL);
    change->by_tag = passing->type == 'Q';
    outgoing_header(out, passing->type,
                    passing->total - FRAME_HEADER_BYTES - name_bytes + strlen(doomed));
    outgoing_add(out, passing->data + FRAME_HEADER_BYTES, plan->name_at - FRAME_HEADER_BYTES);
    outgoing_add(out, doomed, strlen(doomed));
    outgoing_add(out, passing->data + plan->rest_at, passing->total - plan->rest_at);
    if (passing->type == 'P')
        unnamed_parse(client, (const uint8_t *)"\0\0", 3, true, INTENT_EMPTY);
}

/* The unnamed statement that this server lacks is parsed before the message, or closed. */
static void send_unnamed(struct client *client, const struct passing *passing,
                         struct prepared_plan *plan, struct outgoing *out)
{
    struct unnamed *unnamed = &client->unnamed;

    if (plan->kind == PLAN_REPARSE) {
        size_t bytes = 0;
        const uint8_t *text = unnamed_text(unnamed, &bytes);

        ask_plain(client, 'P', ANSWER_QUIET);
        outgoing_header(out, 'P', 1 + bytes);
        outgoing_copy(out, "", 1);
        outgoing_add(out, text, bytes);
        out->urgent = true; /* the text may be replaced by the next message */
        unnamed->batch = transaction_batch(transaction_of(client));
        unnamed->bound |= passing->type == 'B';
        unnamed_is_there(client);
    } else {
        ask_plain(client, 'C', ANSWER_QUIET);
        outgoing_header(out, 'C', 2);
        outgoing_add(out, "S", 2);
    }
    ask_plain(client, passing->type, ANSWER_FORWARD);
    outgoing_add(out, passing->data, passing->there);
}

void prepared_send(struct client *client, const struct passing *passing, struct prepared_plan *plan,
                   struct outgoing *out)
{
    switch (plan->kind) {
    case PLAN_PARSE:
    case PLAN_PARSE_LONG:
        send_parse(client, passing, plan, out);
        break;
    case PLAN_DUPLICATE:
        send_duplicate(client, passing, plan, out);
        break;
    case PLAN_USE:
        send_use(client, passing, plan, out);
        break;
    case PLAN_CLOSE:
        send_close(client, passing, plan, out);
        break;
    case PLAN_REFUSE:
        send_refusal(client, passing, plan, out);
        break;
    case PLAN_DEALLOCATE:
        send_deallocate(client, passing, plan, out);
        break;
    case PLAN_REPARSE:
    case PLAN_MISSING:
        send_unnamed(client, passing, plan, out);
        break;
    case PLAN_PASS:
        break;
    }
}
