// postgres.js with its defaults: every query is prepared under a name, and sent behind those not yet answered.
'use strict';
const assert = require('node:assert');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const postgres = require('postgres');
const { SESSION, OTHERS, CLIENTS, TRANSACTIONS, restartServer, run } = require('./tap.js');

// One connection, opened at its first query.
function connect(settings) {
  return postgres({ host: '127.0.0.1', max: 1, onnotice: () => {}, ...settings });
}

async function using(work, settings = []) {
  const clients = Array.from({ length: work.length }, (_, i) => connect(settings[i]));
  try {
    await work(...clients);
  } finally {
    for (const sql of clients) await sql.end({ timeout: 1 });
  }
}

const cases = {
  connect: () => using(async (sql) => {
    assert.ok(Number((await sql`SHOW server_version_num`)[0].server_version_num) >= 90000);
  }),

  'simple query': () => using(async (sql) => {
    assert.deepStrictEqual([...(await sql`SELECT 1 AS a, 'two' AS b`.simple())], [{ a: 1, b: 'two' }]);
    const several = await sql.unsafe('SELECT 1 AS a; SELECT 2 AS a');
    assert.deepStrictEqual(several.map((rows) => rows[0].a), [1, 2]);
  }),

  'parametrised query': () => using(async (sql) => {
    const long = 'x'.repeat(300000);
    const rows = await sql`SELECT ${7}::int, ${'täxt'}::text, ${Buffer.from([0, 1])}::bytea, ${null}::int, ${long}::text,
                           ${[1, 2]}::int[]`.values();
    assert.deepStrictEqual([...rows], [[7, 'täxt', Buffer.from([0, 1]), null, long, [1, 2]]]);
    await sql`INSERT INTO item ${sql(Array.from({ length: 500 }, (_, id) => ({ id, name: String(id) })))}`;
    assert.strictEqual((await sql`DELETE FROM item WHERE name = id::text`).count, 500);
  }),

  'prepared statement over transactions': async () => {
    const sql = connect();
    const others = Array.from({ length: OTHERS }, () => connect());
    const servers = new Set();
    for (let n = 0; n < 20; n++) {
      // the others take all servers, then one gives up its own: only that is free
      for (const other of others) await other.unsafe('BEGIN');
      if (OTHERS) await others[n % OTHERS].unsafe('COMMIT');
      await sql.begin(async (sql) => {
        const [row] = await sql`SELECT ${n}::int + 1 AS next, pg_backend_pid() AS server`;
        assert.strictEqual(row.next, n + 1);
        servers.add(row.server);
      });
      for (const other of others) await other.unsafe('COMMIT');
    }
    assert.strictEqual(servers.size, OTHERS || 1);
    for (const each of [sql, ...others]) await each.end();
  },

  'prepared statement over a server restart': () => using(async (sql) => {
    const twice = async (n) => (await sql`SELECT ${n}::int * 2 AS twice`)[0].twice;
    assert.strictEqual(await twice(4), 8);
    await restartServer();
    // in session mode its connection is gone: postgres.js opens another one, maybe after an error
    if (SESSION) await twice(4).catch(() => {});
    for (let n = 0; n < 10; n++) assert.strictEqual(await twice(n), n * 2);
  }),

  'commit and rollback': () => using(async (sql) => {
    await sql`DELETE FROM item`;
    await sql.begin((sql) => sql`INSERT INTO item VALUES (1, 'kept')`);
    await assert.rejects(sql.begin(async (sql) => {
      await sql`INSERT INTO item VALUES (2, 'lost')`;
      throw new Error('rollback');
    }), { message: 'rollback' });
    await sql.begin(async (sql) => {
      await sql.savepoint(async (sql) => {
        await sql`INSERT INTO item VALUES (3, 'lost')`;
        throw new Error('to the savepoint');
      }).catch(() => {});
      await sql`INSERT INTO item VALUES (4, 'kept')`;
    });
    assert.deepStrictEqual((await sql`SELECT id FROM item ORDER BY id`).map(({ id }) => id), [1, 4]);
  }),

  'error and recovery': () => using(async (sql) => {
    for (let n = 0; n < 3; n++) await assert.rejects(sql`SELECT 1 / ${0}::int`, { code: '22012' });
    await assert.rejects(sql.begin(async (sql) => {
      await sql`SELECT nonsense`.catch((error) => assert.strictEqual(error.code, '42703'));
      await sql`SELECT 1`;
    }), { code: /42703|25P02/ });
    assert.deepStrictEqual([...(await sql`SELECT 1 / ${1}::int AS one`)], [{ one: 1 }]);
  }),

  // Left alone, since it hangs in postgres.js at some sizes of packets, also without pgstage: what comes behind a
  // COPY TO on the same connection, and a COPY FROM that fails.
  'copy in and out': () => using(async (sql, other) => {
    const lines = Array.from({ length: 5000 }, (_, n) => `${n}\tname ${n}\n`);
    await pipeline(Readable.from(lines), await sql`COPY copied FROM STDIN`.writable());
    assert.strictEqual((await sql`SELECT count(*)::int AS count FROM copied`)[0].count, 5000);
    let out = '';
    for await (const chunk of await other`COPY (SELECT * FROM copied ORDER BY id) TO STDOUT`.readable()) out += chunk;
    assert.strictEqual(out, lines.join(''));
  }),

  cancel: () => using(async (sql, other) => {
    const sleep = sql`SELECT pg_sleep(50)`.simple();
    const running = assert.rejects(sleep, { code: '57014' });
    while (!(await other`SELECT count(*)::int AS n FROM pg_stat_activity
                         WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'`)[0].n);
    sleep.cancel();
    await running;
    assert.strictEqual((await sql`SELECT 1 AS one`)[0].one, 1);
  }),

  'set local': () => using(async (sql) => {
    await sql.begin(async (sql) => {
      await sql`SET LOCAL work_mem = '7MB'`;
      assert.strictEqual((await sql`SHOW work_mem`)[0].work_mem, '7MB');
    });
    assert.strictEqual((await sql`SHOW work_mem`)[0].work_mem, '4MB');
  }),

  'set of a reported parameter': () => using(async (one, two) => {
    await one`SET TimeZone = 'Asia/Tokyo'`;
    await two`SET TimeZone = 'America/Lima'`;
    for (let n = 0; n < 10; n++) {
      assert.strictEqual((await one`SHOW TimeZone`)[0].TimeZone, 'Asia/Tokyo');
      assert.strictEqual((await two`SHOW TimeZone`)[0].TimeZone, 'America/Lima');
    }
    assert.strictEqual(one.parameters.TimeZone, 'Asia/Tokyo');
  }),

  'set of another parameter': () => using(async (one, two) => {
    await one`SET search_path = tenant_a`;
    await one`SET app.tenant = 'a'`;
    await two`SELECT set_config('search_path', 'tenant_b', false)`;
    for (let n = 0; n < 10; n++) {
      const [{ tenant }] = await one`SELECT current_schema() || current_setting('app.tenant') AS tenant`;
      assert.strictEqual(tenant, 'tenant_aa');
      const [row] = await two`SELECT current_schema() AS schema, current_setting('app.tenant', true) AS other`;
      assert.strictEqual(row.schema, 'tenant_b');
      assert.ok(!row.other);
    }
  }),

  'startup options': () => using(async (one, two) => {
    for (let n = 0; n < 10; n++) {
      assert.strictEqual((await one`SHOW statement_timeout`)[0].statement_timeout, '77s');
      assert.strictEqual((await one`SELECT current_schema() AS schema`)[0].schema, 'tenant_b');
      assert.strictEqual((await two`SHOW statement_timeout`)[0].statement_timeout, '0');
    }
  }, [{ connection: { statement_timeout: 77000, search_path: 'tenant_b' } }]),

  'session state that pins': () => using(async (one, two) => {
    await one`CREATE TEMP TABLE mine AS SELECT 1 AS n`;
    assert.ok((await one`SELECT pg_try_advisory_lock(42) AS got`)[0].got);
    await one`DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)`.simple();
    for (let n = 0; n < 10; n++) {
      assert.strictEqual((await one`SELECT n FROM mine`)[0].n, 1);
      assert.ok(!(await two`SELECT pg_try_advisory_lock(42) AS got`)[0].got);
    }
    assert.strictEqual((await one`FETCH ALL FROM held`.simple()).length, 3);
    assert.ok((await one`SELECT pg_advisory_unlock(42) AS freed`)[0].freed);
    assert.ok((await two`SELECT pg_try_advisory_lock(42) AS got`)[0].got);
  }),

  // sql.listen() has a connection of its own
  'listen and notify': () => using(async (one, two) => {
    const seen = [];
    let done;
    const both = new Promise((resolve) => { done = resolve; });
    await one.listen('news', (payload) => {
      seen.push(payload);
      if (seen.length === 2) done();
    });
    await two.notify('news', 'first');
    await two`SELECT pg_notify('news', 'second')`;
    await both;
    assert.deepStrictEqual(seen, ['first', 'second']);
  }),

  pipeline: () => using(async (sql) => {
    // all on one connection, none waits for the one before
    const queries = Array.from({ length: 200 }, (_, n) =>
      n % 50 === 49 ? sql`SELECT 1 / ${0}::int`.catch((error) => [{ n: error.code }]) : sql`SELECT ${n}::int AS n`);
    const results = await Promise.all(queries);
    results.forEach(([row], n) => assert.strictEqual(row.n, n % 50 === 49 ? '22012' : n));
  }),

  'large object': () => using(async (sql) => {
    const data = Buffer.alloc(200000, 'abc');
    const object = await sql.largeObject(); // in a transaction and a connection of its own
    await pipeline(Readable.from([data.subarray(0, 60000), data.subarray(60000)]), await object.writable());
    await object.close();
    assert.strictEqual((await sql`SELECT length(lo_get(oid)) AS length FROM pg_largeobject_metadata`)[0].length, 200000);
  }),

  '20 clients keep to themselves': async () => {
    const work = async (number) => {
      const sql = connect({ connection: { application_name: `client ${number}` } });
      await sql.unsafe(`SET app.client = '${number}'`);
      for (let n = 0; n < TRANSACTIONS; n++) {
        await sql.begin(async (sql) => {
          await sql`INSERT INTO seen VALUES (${number}, ${n})`;
          const rows = await sql`
            SELECT ${number}::int, ${n}::int, current_setting('application_name'), current_setting('app.client')::int,
            count(*)::int, max(n) FROM seen WHERE client = ${number}`.values();
          assert.deepStrictEqual([...rows], [[number, n, `client ${number}`, number, n + 1, n]]);
        });
      }
      await sql.end();
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, number) => work(number)));
  },

  'cursor': () => using(async (sql) => {
    let sum = 0;
    for await (const rows of sql`SELECT generate_series(1, 1000) AS n`.cursor(100)) for (const { n } of rows) sum += n;
    assert.strictEqual(sum, 500500);
  }),
};

run(cases, ['cursor']);
