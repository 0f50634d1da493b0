// node-postgres (pg) with its defaults; named statements by the `name` of a query.
'use strict';
const assert = require('node:assert');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { Client, Pool } = require('pg');
const copy = require('pg-copy-streams');
const { SESSION, OTHERS, CLIENTS, TRANSACTIONS, Skip, restartServer, run } = require('./tap.js');

async function connect(settings) {
  const client = new Client(settings);
  client.on('error', () => {}); // the end of an idle connection
  await client.connect();
  return client;
}

// Runs `work` with as many clients as it has parameters, and ends them.
async function using(work, settings = []) {
  const clients = [];
  for (let i = 0; i < work.length; i++) clients.push(await connect(settings[i]));
  try {
    await work(...clients);
  } finally {
    for (const client of clients) await client.end();
  }
}

async function value(client, text, values, name) {
  const result = await client.query({ text, values, name, rowMode: 'array' });
  return result.rows[0][0];
}

const cases = {
  connect: () => using(async (client) => {
    assert.ok(Number(await value(client, 'SHOW server_version_num')) >= 90000);
  }),

  'simple query': () => using(async (client) => {
    assert.deepStrictEqual((await client.query("SELECT 1 AS a, 'two' AS b")).rows, [{ a: 1, b: 'two' }]);
    const several = await client.query('SELECT 1 AS a; SELECT 2 AS a');
    assert.deepStrictEqual(several.map((result) => result.rows[0].a), [1, 2]);
  }),

  'parametrised query': () => using(async (client) => {
    const long = 'x'.repeat(300000);
    const result = await client.query({
      text: 'SELECT $1::int, $2::text, $3::bytea, $4::int, $5::text, $6::int[]',
      values: [7, 'täxt', Buffer.from([0, 1]), null, long, [1, 2]],
      rowMode: 'array',
    });
    assert.deepStrictEqual(result.rows, [[7, 'täxt', Buffer.from([0, 1]), null, long, [1, 2]]]);
  }),

  'prepared statement over transactions': async () => {
    const client = await connect();
    const others = [];
    const servers = new Set();
    for (let i = 0; i < OTHERS; i++) others.push(await connect());
    for (let n = 0; n < 20; n++) {
      // the others take all servers, then one gives up its own: only that is free
      for (const other of others) await other.query('BEGIN');
      if (OTHERS) await others[n % OTHERS].query('COMMIT');
      await client.query('BEGIN');
      assert.strictEqual(await value(client, 'SELECT $1::int + 1', [n], 'plus'), n + 1);
      servers.add(await value(client, 'SELECT pg_backend_pid()', [], 'server'));
      await client.query('COMMIT');
      for (const other of others) {
        await other.query('COMMIT');
        assert.strictEqual(await value(other, 'SELECT $1::int + 2', [n], 'plus'), n + 2);
      }
    }
    assert.strictEqual(servers.size, OTHERS || 1);
    for (const each of [client, ...others]) await each.end();
  },

  'prepared statement over a server restart': async () => {
    let client = await connect();
    assert.strictEqual(await value(client, 'SELECT $1::int * 2', [4], 'twice'), 8);
    await restartServer();
    if (SESSION) {
      await assert.rejects(value(client, 'SELECT $1::int * 2', [4], 'twice'));
      client = await connect();
    }
    for (let n = 0; n < 10; n++) assert.strictEqual(await value(client, 'SELECT $1::int * 2', [n], 'twice'), n * 2);
    await client.end();
  },

  'commit and rollback': () => using(async (client) => {
    await client.query('DELETE FROM item');
    for (const [id, end] of [[1, 'COMMIT'], [2, 'ROLLBACK']]) {
      await client.query('BEGIN');
      await client.query('INSERT INTO item VALUES ($1, $2)', [id, end]);
      await client.query(end);
    }
    await client.query("BEGIN; SAVEPOINT s; INSERT INTO item VALUES (3, 'lost'); ROLLBACK TO s; COMMIT");
    assert.deepStrictEqual((await client.query('SELECT id FROM item')).rows, [{ id: 1 }]);
  }),

  'error and recovery': () => using(async (client) => {
    await assert.rejects(client.query('SELECT 1 / 0'), { code: '22012' });
    for (const name of [undefined, 'divide', 'divide']) {
      await assert.rejects(value(client, 'SELECT 1 / $1::int', [0], name), { code: '22012' });
    }
    await client.query('BEGIN');
    await assert.rejects(client.query('SELECT nonsense'), { code: '42703' });
    await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
    await client.query('ROLLBACK');
    // the one name that it has for two texts is an error of the driver's own
    assert.strictEqual(await value(client, 'SELECT 1 / $1::int', [1], 'divide'), 1);
  }),

  'copy in and out': () => using(async (client) => {
    const lines = [];
    for (let n = 0; n < 5000; n++) lines.push(`${n}\tname ${n}\n`);
    await pipeline(Readable.from(lines), client.query(copy.from('COPY copied FROM STDIN')));
    let out = '';
    for await (const chunk of client.query(copy.to('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT'))) out += chunk;
    assert.strictEqual(out, lines.join(''));
    await assert.rejects(
      pipeline(Readable.from(['no number\tx\n']), client.query(copy.from('COPY copied FROM STDIN'))),
      { code: '22P02' });
    assert.strictEqual(await value(client, 'SELECT count(*)::int FROM copied'), 5000);
  }),

  cancel: () => using(async (client) => {
    const running = assert.rejects(client.query('SELECT pg_sleep(50)'), { code: '57014' });
    await using(async (other) => {
      while (!(await value(other, "SELECT count(*)::int FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'")));
    });
    new Client().cancel(client, client._getActiveQuery ? client._getActiveQuery() : client.activeQuery);
    await running;
    assert.strictEqual(await value(client, 'SELECT 1'), 1);
  }),

  'set local': () => using(async (client) => {
    await client.query('BEGIN');
    await client.query("SET LOCAL work_mem = '7MB'");
    assert.strictEqual(await value(client, 'SHOW work_mem'), '7MB');
    await client.query('COMMIT');
    assert.strictEqual(await value(client, 'SHOW work_mem'), '4MB');
  }),

  'set of a reported parameter': () => using(async (one, two) => {
    await one.query("SET TimeZone = 'Asia/Tokyo'");
    await two.query("SET TimeZone = 'America/Lima'");
    for (let n = 0; n < 10; n++) {
      assert.strictEqual(await value(one, 'SHOW TimeZone'), 'Asia/Tokyo');
      assert.strictEqual(await value(two, 'SHOW TimeZone'), 'America/Lima');
    }
  }),

  'set of another parameter': () => using(async (one, two) => {
    await one.query('SET search_path = tenant_a');
    await one.query("SET app.tenant = 'a'");
    await two.query("SELECT set_config('search_path', 'tenant_b', false)");
    for (let n = 0; n < 10; n++) {
      assert.strictEqual(await value(one, "SELECT current_schema() || current_setting('app.tenant')"), 'tenant_aa');
      assert.strictEqual(await value(two, 'SELECT current_schema()'), 'tenant_b');
      assert.ok(!(await value(two, "SELECT current_setting('app.tenant', true)")));
    }
  }),

  'startup options': () => using(async (one, two) => {
    for (let n = 0; n < 10; n++) {
      assert.strictEqual(await value(one, 'SHOW statement_timeout'), '77s');
      assert.strictEqual(await value(one, 'SHOW idle_in_transaction_session_timeout'), '88s');
      assert.strictEqual(await value(one, 'SELECT current_schema()'), 'tenant_b');
      assert.strictEqual(await value(two, 'SHOW statement_timeout'), '0');
    }
  }, [{ statement_timeout: 77000, idle_in_transaction_session_timeout: 88000, options: '-c search_path=tenant_b' }]),

  'session state that pins': () => using(async (one, two) => {
    await one.query('CREATE TEMP TABLE mine AS SELECT 1 AS n');
    assert.ok(await value(one, 'SELECT pg_try_advisory_lock(42)'));
    await one.query('DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)');
    for (let n = 0; n < 10; n++) {
      assert.strictEqual(await value(one, 'SELECT n FROM mine'), 1);
      assert.ok(!(await value(two, 'SELECT pg_try_advisory_lock(42)')));
    }
    assert.strictEqual((await one.query('FETCH ALL FROM held')).rows.length, 3);
    assert.ok(await value(one, 'SELECT pg_advisory_unlock($1)', [42]));
    assert.ok(await value(two, 'SELECT pg_try_advisory_lock($1)', [42]));
  }),

  'listen and notify': () => using(async (one, two) => {
    const seen = [];
    const both = new Promise((resolve) => {
      one.on('notification', ({ channel, payload }) => {
        seen.push([channel, payload]);
        if (seen.length === 2) resolve();
      });
    });
    await one.query('LISTEN news');
    await two.query("NOTIFY news, 'first'");
    await two.query('SELECT pg_notify($1, $2)', ['news', 'second']);
    await both;
    assert.deepStrictEqual(seen, [['news', 'first'], ['news', 'second']]);
  }),

  pipeline: async () => {
    throw new Skip('pg sends a query when the one before it is answered');
  },

  'large object': async () => {
    throw new Skip('pg has no large object interface');
  },

  '20 clients keep to themselves': async () => {
    const work = async (number) => {
      const client = await connect({ application_name: `client ${number}` });
      await client.query(`SET app.client = '${number}'`);
      for (let n = 0; n < TRANSACTIONS; n++) {
        await client.query('BEGIN');
        await client.query('INSERT INTO seen VALUES ($1, $2)', [number, n]);
        const { rows } = await client.query({
          name: 'look',
          text: `SELECT $1::int, $2::int, current_setting('application_name'), current_setting('app.client')::int,
                 count(*)::int, max(n) FROM seen WHERE client = $1`,
          values: [number, n],
          rowMode: 'array',
        });
        assert.deepStrictEqual(rows, [[number, n, `client ${number}`, number, n + 1, n]]);
        await client.query('COMMIT');
      }
      await client.end();
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, number) => work(number)));
  },

  pool: async () => {
    const pool = new Pool({ max: 3 });
    const results = await Promise.all(Array.from({ length: 100 }, (_, n) =>
      pool.query({ name: 'next', text: 'SELECT $1::int + 1 AS next', values: [n] })));
    assert.deepStrictEqual(results.map(({ rows }) => rows[0].next), Array.from({ length: 100 }, (_, n) => n + 1));
    await pool.end();
  },
};

run(cases, ['pool']);
