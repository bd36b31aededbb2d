// Runs scenes one after another, and writes a line for each to the file that ROWGATE_OUTCOMES names: the word, the scene, and
// what was seen of it, or why it failed. What was seen is compared with the direct run's: a scene passes where it ends, and is
// right where it sees the same.

import assert from 'node:assert/strict';
import fs from 'node:fs';

// Longer than any scene takes on a loaded machine.
const LIMIT_MS = 60_000;
// Enough to tell two results apart in a report, longer ones by their length and their first bytes.
const LONGEST = 1_500;

const out = fs.openSync(process.env.ROWGATE_OUTCOMES, 'a');
const line = (word, name, text) => fs.writeSync(out, `${word}\t${name}\t${text}\n`);

export const config = {
  host: '127.0.0.1',
  port: Number(process.env.PORT),
  user: process.env.DBUSER,
  password: process.env.PASSWORD,
  database: 'test',
  connectTimeout: 20_000,
};

const scenes = [];
export const scene = (name, run) => scenes.push({ name, run });

// For a driver's `createConnection`: work on a connection of its own, and scenes of such work, with a table `t` of these columns
// where they want one.
export function over(createConnection) {
  async function connected(options, work) {
    const connection = await createConnection({ ...config, ...options });
    try {
      return await work(connection);
    } finally {
      connection.destroy();
    }
  }
  const on = (name, options, columns, work) => scene(name, () => connected(options, async (connection) => {
    if (columns) {
      await connection.query('DROP TABLE IF EXISTS t');
      await connection.query(`CREATE TABLE t (${columns}) CHARACTER SET utf8mb4`);
    }
    return work(connection);
  }));
  return { connected, on };
}

// Values as text: what JSON has no word for is named by its type.
function plain(_key, value) {
  if (typeof value === 'bigint') return `${value}n`;
  if (value === undefined) return 'undefined';
  if (value && value.type === 'Buffer' && Array.isArray(value.data)) {
    const bytes = Buffer.from(value.data);
    return bytes.length > 64 ? `<${bytes.length} bytes>` : `<${bytes.toString('hex')}>`;
  }
  return value;
}

// What a failing call rejects with: the number, the state and the text, which drivers show their users.
export async function fails(call) {
  try {
    await call();
  } catch (error) {
    return [error.errno, error.sqlState, String(error.sqlMessage ?? error.message).split('\n')[0].slice(0, 300)];
  }
  return assert.fail('it did not fail');
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function one({ name, run }) {
  line('began', name, '');
  let timer;
  const limit = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no end after ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    const seen = await Promise.race([run(), limit]);
    assert.notEqual(seen, undefined, 'a scene gives what it saw');
    const text = JSON.stringify(seen, plain);
    line('pass', name, text.length > LONGEST ? `${text.length}: ${text.slice(0, LONGEST)}` : text);
  } catch (error) {
    line('fail', name, String(error.message ?? error).replaceAll(/\s+/g, ' ').slice(0, 300));
  } finally {
    clearTimeout(timer);
  }
}

export async function run() {
  process.on('uncaughtException', (error) => console.log('uncaught', error));
  const only = process.argv[2] ?? '';
  for (const each of scenes.filter((each) => each.name.includes(only))) await one(each);
  process.exit(0);
}
