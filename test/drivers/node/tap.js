// tap: what the Node.js drivers share: cases in their order, verdicts as TAP, the restart of PostgreSQL.
'use strict';
const net = require('node:net');

const CASES = process.env.PGSTAGE_TEST_CASES.replace(/;$/, '').split(';');
const SESSION = process.env.PGSTAGE_TEST_MODE === 'session';
const CASE_MS = 40000;

// Thrown by a case for which the driver has no means; says what is missing.
class Skip extends Error {}

function restartServer() {
  return new Promise((resolve, reject) => {
    const control = net.connect(Number(process.env.PGSTAGE_TEST_CONTROL), '127.0.0.1');
    control.on('error', reject);
    control.on('data', () => { control.end(); resolve(); });
    control.write('restart\n');
  });
}

function deadline(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('does not end')), CASE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// `cases`: a function for each name of the list, and for each of `extra`.
async function run(cases, extra = []) {
  let number = 0;
  let failed = 0;
  for (const name of [...CASES, ...extra]) {
    number++;
    try {
      await deadline(cases[name]());
      console.log(`ok ${number} - ${name}`);
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`ok ${number} - ${name} # SKIP ${error.message}`);
        continue;
      }
      failed++;
      console.log(`not ok ${number} - ${name}\n${error.stack}`);
    }
  }
  process.exit(failed ? 1 : 0);
}

module.exports = {
  SESSION,
  // who take all servers but one, so that a client has to go to another server (not in session mode)
  OTHERS: SESSION ? 0 : 4,
  CLIENTS: 20,
  TRANSACTIONS: 100,
  Skip,
  restartServer,
  run,
};
