/*
 * model: pools under shared limits beside a naive account of them, over long random runs.
 *
 * Several virtual workers live in this one thread; what they tell each other (opens, reclaims,
 * dooms, granted items) lies in one heap of letters and is delivered in random order. The account
 * knows every server and client by itself and compares after each step.
 */
#include "stage.h"

#include <stdlib.h>

TestSuite(model, .timeout = 300);

#define WORKERS 3
#define POOLS 5
#define CLIENTS 48
#define SERVERS 512
#define LETTERS 2048

enum letter_kind { LETTER_OPEN, LETTER_RECLAIM, LETTER_DOOM, LETTER_GRANT, LETTER_UNLINGER };

struct server {
    struct pool_item item;
    bool alive;
    unsigned generation; /* of the account */
    int client;          /* whose; -1: nobody's */
};

struct client {
    struct pool_waiter waiter;
    int pool; /* where it waits; -1: it does not */
    struct server *server;
};

struct letter {
    enum letter_kind kind;
    unsigned worker;
    struct pool *pool;
    uint64_t id;           /* of the item; GRANT: of the client */
    struct server *server; /* GRANT */
};

static struct account {
    struct pool *pool;
    const char *database, *user, *environment;
    struct pool_limits limits;
    size_t opening;
    unsigned generation;
    bool paused;
    uint64_t retry_at_us;
} accounts[POOLS];

static struct {
    int64_t database, user, environment; /* the limits on "app", "alice", "production" */
} most;

static struct server servers[SERVERS];
static struct client clients[CLIENTS];
static struct letter letters[LETTERS];
static size_t letter_count;
static uint64_t random_state;
static size_t lent, evicted, moved, lingered;

static unsigned dice(unsigned sides)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % sides;
}

static struct account *account_of(const struct pool *pool)
{
    for (unsigned i = 0; i < POOLS; i++)
        if (accounts[i].pool == pool)
            return &accounts[i];
    abort();
}

static size_t servers_in(const struct pool *pool)
{
    size_t count = 0;
    for (unsigned i = 0; i < SERVERS; i++)
        count += servers[i].alive && servers[i].item.pool == pool;
    return count;
}

static size_t in_state(const struct pool *pool, enum pool_item_state state)
{
    size_t count = 0;
    for (unsigned i = 0; i < SERVERS; i++)
        count += servers[i].alive && servers[i].item.pool == pool && servers[i].item.state == state;
    return count;
}

static size_t queued_in(const struct account *account)
{
    size_t count = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        count += clients[i].pool == account - accounts && clients[i].waiter.state == WAITER_QUEUED;
    return count;
}

/* Which limits is the pool under: bit 0 the database, 1 the user, 2 the environment. */
static bool is_under(const struct account *account, unsigned limit)
{
    switch (limit) {
    case 0:
        return !strcmp(account->database, "app") && !account->environment;
    case 1:
        return !strcmp(account->user, "alice");
    default:
        return account->environment != NULL;
    }
}

static int64_t limit_most(unsigned limit)
{
    return limit == 0 ? most.database : limit == 1 ? most.user : most.environment;
}

static int64_t limit_servers(unsigned limit)
{
    int64_t count = 0;
    for (unsigned i = 0; i < POOLS; i++)
        if (is_under(&accounts[i], limit))
            count += (int64_t)(servers_in(accounts[i].pool) + accounts[i].opening);
    return count;
}

/* ---- events ---- */

static void post(struct letter letter)
{
    if (letter_count == LETTERS)
        abort();
    letters[letter_count++] = letter;
}

static void on_open(struct pool *pool, unsigned worker)
{
    struct account *account = account_of(pool);
    account->opening++;
    size_t size = servers_in(pool) + account->opening;
    size_t cap = (size_t)(account->limits.pool_size + account->limits.reserve_pool_size);
    cr_assert(!account->limits.pool_size || size <= cap, "%zu connections, %zu allowed", size, cap);
    cr_assert_not(account->paused);
    cr_assert_geq(now_us, account->retry_at_us);
    for (unsigned i = 0; i < 3; i++)
        if (is_under(account, i) && limit_most(i))
            cr_assert_leq(limit_servers(i), limit_most(i), "limit %u", i);
    post((struct letter){.kind = LETTER_OPEN, .worker = worker, .pool = pool});
}

static void on_reclaim(struct pool *pool, unsigned worker, uint64_t item_id)
{
    post((struct letter){.kind = LETTER_RECLAIM, .worker = worker, .pool = pool, .id = item_id});
}

/* An eviction needs a pool under a full limit that has clients waiting, or a limit that was
 * lowered. */
static void account_eviction(const struct pool *pool)
{
    const struct account *victim = account_of(pool);
    bool reason = false;
    for (unsigned i = 0; i < 3; i++) {
        if (!is_under(victim, i) || !limit_most(i) || limit_servers(i) < limit_most(i))
            continue;
        reason |= limit_servers(i) > limit_most(i);
        for (unsigned j = 0; j < POOLS; j++)
            reason |= is_under(&accounts[j], i) && queued_in(&accounts[j]) > accounts[j].opening;
    }
    cr_assert(reason, "nobody needed it");
    evicted++;
}

static void on_doom(struct pool *pool, unsigned worker, uint64_t item_id, const char *why)
{
    if (!strcmp(why, "evicted"))
        account_eviction(pool);
    post((struct letter){.kind = LETTER_DOOM, .worker = worker, .pool = pool, .id = item_id});
}

static void on_drained(struct pool *pool)
{
    struct account *account = account_of(pool);
    bool obsolete = false;
    for (unsigned i = 0; i < SERVERS; i++)
        obsolete |= servers[i].alive && servers[i].item.pool == pool &&
                    servers[i].generation != account->generation;
    cr_assert((account->paused && servers_in(pool) + account->opening == 0) || !obsolete);
}

/* ---- what workers do ---- */

static struct server *server_by_id(uint64_t id)
{
    for (unsigned i = 0; i < SERVERS; i++)
        if (servers[i].alive && servers[i].item.id == id)
            return &servers[i];
    return NULL;
}

/* Returned, but kept for clients of its worker. */
static bool is_lingering(const struct server *server)
{
    return server->item.state == ITEM_ACTIVE && server->client < 0;
}

static void bury(struct server *server)
{
    struct pool *pool = server->item.pool;
    server->alive = false; /* in the account before the pool hands the place on */
    pool_remove(pool, &server->item, now_us);
}

static void link_up(struct server *server, struct client *client)
{
    struct account *account = account_of(server->item.pool);
    cr_assert_eq(server->client, -1, "lent twice");
    cr_assert_eq(server->item.state, ITEM_ACTIVE);
    cr_assert_eq(server->item.worker, client->waiter.worker);
    cr_assert_eq(client->waiter.state, WAITER_IDLE);
    cr_assert_null(client->server);
    cr_assert_not(account->paused, "lent in a paused pool");
    cr_assert_eq(server->generation, account->generation, "an obsolete one was lent");
    client->server = server;
    client->pool = -1;
    server->client = (int)(client - clients);
    lent++;
}

static struct client *client_by_id(uint64_t id)
{
    return &clients[id - 1];
}

/* Nobody who stays in the queue has waited four milliseconds longer than who was chosen. */
static void check_order(const struct account *account, const struct pool_waiter *chosen)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        if (clients[i].pool == account - accounts && clients[i].waiter.state == WAITER_QUEUED)
            cr_assert_leq(chosen->since_us, clients[i].waiter.since_us + 4000);
}

static void follow(struct server *server, enum pool_outcome outcome, const struct pool_grant *grant,
                   bool in_order)
{
    struct account *account = account_of(server->item.pool);
    const struct pool_waiter *chosen = NULL;
    switch (outcome) {
    case POOL_KEPT:
        cr_assert_eq(server->item.state, ITEM_IDLE);
        cr_assert_not(account->paused);
        break;
    case POOL_LENT:
        chosen = grant->waiter;
        link_up(server, client_by_id(grant->waiter->id));
        break;
    case POOL_MOVE:
        chosen = &client_by_id(grant->waiter_id)->waiter;
        cr_assert_eq(chosen->worker, grant->worker);
        moved++;
        post((struct letter){.kind = LETTER_GRANT,
                             .worker = grant->worker,
                             .pool = server->item.pool,
                             .id = grant->waiter_id,
                             .server = server});
        break;
    case POOL_DISCARD:
        bury(server);
        break;
    case POOL_LINGERS:
        cr_assert_eq(server->item.state, ITEM_ACTIVE);
        cr_assert_gt(grant->until_us, now_us);
        lingered++;
        post((struct letter){
            .kind = LETTER_UNLINGER, .worker = server->item.worker, .pool = server->item.pool});
        break;
    }
    if (chosen && in_order)
        check_order(account, chosen);
}

static void give_back(struct server *server)
{
    struct pool_grant grant;
    server->client = -1;
    enum pool_outcome outcome = pool_return(server->item.pool, &server->item, now_us, &grant);
    follow(server, outcome, &grant, true);
}

static void answer_open(struct pool *pool, unsigned worker)
{
    struct account *account = account_of(pool);
    struct pool_grant grant;
    account->opening--;
    if (!dice(5)) {
        account->retry_at_us = dice(2) ? now_us + dice(3000) : 0;
        pool_open_failed(pool, now_us, account->retry_at_us);
        return;
    }
    struct server *server = servers;
    while (server->alive)
        server++;
    *server = (struct server){.alive = true, .client = -1, .generation = account->generation};
    server->item.pool = pool;
    account->retry_at_us = 0;
    enum pool_outcome outcome = pool_opened(pool, &server->item, worker, now_us, &grant);
    follow(server, outcome, &grant, true);
}

static void arrive(struct letter *letter)
{
    struct server *server = letter->server;
    struct client *client = client_by_id(letter->id);
    if (!dice(20)) { /* the server was lost on its way */
        bury(server);
        return;
    }
    struct pool_waiter *waiter = client->pool >= 0 ? &client->waiter : NULL;
    if (pool_accept(letter->pool, &server->item, letter->worker, waiter))
        link_up(server, client);
    else
        give_back(server);
}

static void unlinger(struct pool *pool, unsigned worker)
{
    enum pool_outcome outcome;
    struct pool_grant grant;
    struct pool_item *item;
    while ((item = pool_unlinger(pool, worker, now_us, &outcome, &grant))) {
        cr_assert_eq(item->worker, outcome == POOL_MOVE ? grant.worker : worker);
        cr_assert_neq(outcome, POOL_LINGERS);
        follow(list_entry(item, struct server, item), outcome, &grant, true);
    }
}

static void deliver(size_t index)
{
    struct letter letter = letters[index];
    struct pool_grant grant;
    letters[index] = letters[--letter_count];
    struct server *server = server_by_id(letter.id);
    switch (letter.kind) {
    case LETTER_OPEN:
        answer_open(letter.pool, letter.worker);
        break;
    case LETTER_RECLAIM:
        if (server) {
            cr_assert_eq(server->item.worker, letter.worker);
            enum pool_outcome outcome = pool_surrender(letter.pool, &server->item, now_us, &grant);
            follow(server, outcome, &grant, false);
        }
        break;
    case LETTER_DOOM:
        if (server) {
            cr_assert_eq(server->item.state, ITEM_DOOMED);
            cr_assert_eq(server->item.worker, letter.worker);
            bury(server);
        }
        break;
    case LETTER_GRANT:
        arrive(&letter);
        break;
    case LETTER_UNLINGER:
        unlinger(letter.pool, letter.worker);
        break;
    }
}

/* ---- random steps ---- */

static void step_client(struct client *client)
{
    if (client->server) {
        struct server *server = client->server;
        client->server = NULL;
        if (dice(15))
            give_back(server);
        else
            bury(server);
    } else if (client->pool >= 0) {
        if (dice(8))
            return;
        pool_forget(accounts[client->pool].pool, &client->waiter, now_us);
        cr_assert_eq(client->waiter.state, WAITER_IDLE);
        client->pool = -1;
    } else {
        client->pool = (int)dice(POOLS);
        struct pool_item *item = pool_borrow(accounts[client->pool].pool, &client->waiter, now_us);
        if (item)
            link_up(list_entry(item, struct server, item), client);
    }
}

/* Something befalls a server that nobody uses. */
static void step_server(struct server *server)
{
    struct pool *pool = server->item.pool;
    bool owned = server->item.state == ITEM_IDLE || server->item.state == ITEM_RESERVED;
    if (!server->alive || !(owned || is_lingering(server)))
        return;
    switch (dice(4)) {
    case 0:
        bury(server);
        break;
    case 1:
        if (pool_retire(pool, &server->item, dice(2)))
            bury(server);
        break;
    default:
        if (pool_take(pool, &server->item))
            give_back(server);
        break;
    }
}

static void set_limits(int64_t database, int64_t user, int64_t environment)
{
    most.database = database;
    registry_limit_database(registry, "app", NULL, database, 0, now_us);
    most.user = user;
    registry_limit_user(registry, "alice", user, 0, now_us);
    most.environment = environment;
    registry_limit_environment(registry, "production", environment, 0, now_us);
}

static void configure(struct account *account)
{
    account->limits = (struct pool_limits){
        .pool_size = dice(4) ? 1 + dice(10) : 0,
        .min_pool_size = dice(3),
        .reserve_pool_size = dice(3),
        .reserve_pool_timeout_us = 1 + dice(5000),
        .round_robin = dice(2),
        .warm = dice(2),
    };
    pool_configure(account->pool, &account->limits, now_us);
}

static void step_control(struct account *account)
{
    switch (dice(8)) {
    case 0:
        account->paused = true;
        pool_pause(account->pool, now_us);
        break;
    case 1:
        account->generation++;
        account->retry_at_us = 0;
        pool_obsolete(account->pool, now_us);
        break;
    case 2:
        configure(account);
        break;
    case 3:
        set_limits(dice(16), dice(16), dice(16));
        break;
    default:
        account->paused = false;
        pool_resume(account->pool, now_us);
        break;
    }
}

/* ---- the account compared ---- */

static void compare(const struct account *account)
{
    struct pool *pool = account->pool;
    struct pool_counts counts = counts_of(pool);
    size_t waiting = 0, active = 0, obsolete = 0;
    for (unsigned i = 0; i < CLIENTS; i++)
        waiting += clients[i].pool == account - accounts;
    for (unsigned i = 0; i < SERVERS; i++) {
        if (!servers[i].alive || servers[i].item.pool != pool)
            continue;
        active += servers[i].client >= 0 || is_lingering(&servers[i]);
        obsolete += servers[i].generation != account->generation;
    }
    for (size_t i = 0; i < letter_count; i++)
        active += letters[i].kind == LETTER_GRANT && letters[i].pool == pool;
    cr_assert_eq(counts.active, active);
    cr_assert_eq(counts.idle, in_state(pool, ITEM_IDLE));
    cr_assert_eq(counts.reserved, in_state(pool, ITEM_RESERVED));
    cr_assert_eq(counts.doomed, in_state(pool, ITEM_DOOMED));
    cr_assert_eq(counts.idle + counts.reserved + counts.doomed + active, servers_in(pool));
    cr_assert_eq(counts.opening, account->opening);
    cr_assert_eq(counts.waiting, waiting);
    cr_assert_eq(counts.obsolete, obsolete);
    cr_assert_eq(counts.paused, account->paused);
    cr_assert(account->paused || !counts.idle || !queued_in(account),
              "somebody waits beside an idle server");
}

static void compare_limits(void)
{
    struct limit_counts counts[3];
    registry_database_counts(registry, "app", NULL, &counts[0]);
    registry_user_counts(registry, "alice", &counts[1]);
    registry_environment_counts(registry, "production", &counts[2]);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(counts[i].servers, limit_servers(i), "limit %u", i);
}

/* A full limit under which nothing is idle keeps the pool from opening. */
static bool is_held_back(const struct account *account)
{
    for (unsigned i = 0; i < 3; i++) {
        if (!is_under(account, i) || !limit_most(i) || limit_servers(i) < limit_most(i))
            continue;
        size_t idle = 0;
        for (unsigned j = 0; j < POOLS; j++)
            if (is_under(&accounts[j], i))
                idle += in_state(accounts[j].pool, ITEM_IDLE);
        if (!idle)
            return true;
    }
    return false;
}

static void deliver_all(void)
{
    while (letter_count)
        deliver(dice((unsigned)letter_count));
}

/* When all mail is delivered, whoever still waits has a reason to. */
static void settle_down(void)
{
    deliver_all();
    for (unsigned i = 0; i < POOLS; i++)
        (void)pool_pump(accounts[i].pool, now_us); /* a back-off may be over */
    deliver_all();
    for (unsigned i = 0; i < POOLS; i++) {
        const struct account *account = &accounts[i];
        size_t size = servers_in(account->pool), cap = (size_t)account->limits.pool_size;
        if (!queued_in(account) || account->paused || now_us < account->retry_at_us ||
            (cap && size >= cap))
            continue;
        cr_assert(is_held_back(account), "pool %u: clients wait for nothing", i);
    }
}

/* ---- the run ---- */

static void begin(uint64_t seed)
{
    static const char *names[POOLS][3] = {{"app", "alice", NULL},
                                          {"app", "bob", NULL},
                                          {"shop", "alice", NULL},
                                          {"shop", "bob", "production"},
                                          {"app", "alice", "production"}};
    struct registry_events events = {.pool = {on_open, on_reclaim, on_doom, on_drained}};
    random_state = seed;
    now_us = clock_now_us();
    registry = registry_new(WORKERS, &events);
    for (unsigned i = 0; i < POOLS; i++) {
        struct account *account = &accounts[i];
        struct pool_key key = {names[i][0], names[i][1], names[i][2], false};
        *account = (struct account){.database = key.database,
                                    .user = key.user,
                                    .environment = key.environment,
                                    .limits = {.pool_size = 1 + (int64_t)dice(6)}};
        account->pool = registry_pool(registry, &key, &account->limits, NULL);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = (struct client){.waiter = {.id = i + 1, .worker = dice(WORKERS)}, .pool = -1};
    set_limits(12, 10, 8);
}

static void step(void)
{
    now_us += dice(20);
    unsigned what = dice(100);
    if (what < 55)
        step_client(&clients[dice(CLIENTS)]);
    else if (what < 90 && letter_count)
        deliver(dice((unsigned)letter_count));
    else if (what < 95)
        step_server(&servers[dice(64)]);
    else if (what < 98)
        (void)pool_pump(accounts[dice(POOLS)].pool, now_us);
    else if (!dice(4))
        step_control(&accounts[dice(POOLS)]);
}

static void end(void)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        while (clients[i].server || clients[i].pool >= 0)
            step_client(&clients[i]);
    while (letter_count)
        deliver(letter_count - 1);
    for (unsigned i = 0; i < SERVERS; i++)
        if (servers[i].alive)
            bury(&servers[i]);
    while (letter_count)
        deliver(letter_count - 1);
    for (unsigned i = 0; i < POOLS; i++) {
        compare(&accounts[i]);
        cr_assert_eq(servers_in(accounts[i].pool), 0);
        pool_unref(accounts[i].pool);
    }
    compare_limits();
    registry_free(registry);
}

static void run(uint64_t seed, unsigned steps)
{
    begin(seed);
    for (unsigned i = 0; i < steps; i++) {
        step();
        for (unsigned j = 0; j < POOLS; j++)
            compare(&accounts[j]);
        compare_limits();
        if (i % 500 == 499)
            settle_down();
    }
    end();
}

static void was_about_something(unsigned steps)
{
    cr_assert_gt(lent, steps / 20);
    cr_assert_gt(moved, steps / 200);
    cr_assert_gt(lingered, steps / 4000, "%zu of %zu", lingered, lent);
    cr_assert_gt(evicted, steps / 1000);
}

Test(model, agrees_over_a_long_random_run)
{
    run(1, 40000);
    was_about_something(40000);
}

Test(model, agrees_over_another_long_random_run)
{
    run(20240229, 40000);
    was_about_something(40000);
}

Test(model, agrees_over_many_short_runs)
{
    for (uint64_t seed = 100; seed < 120; seed++)
        run(seed, 2000);
    was_about_something(20 * 2000);
}
