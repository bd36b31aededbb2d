// mariadb's whole interface (the npm package, promises and callbacks): connections, pools and clusters, text and binary protocol,
// batches, streams, transactions, several statements, types, errors, COM_CHANGE_USER, COM_RESET_CONNECTION, timeouts, files.

import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import mariadb from 'mariadb';
import callbacks from 'mariadb/callback.js';
import { config, fails, over, run, scene, sleep } from './scenes.mjs';

const { connected, on } = over(mariadb.createConnection);

const rows = (result) => Array.from(result);
const described = (result) => result.meta.map((field) => [
  field.name(), field.orgName(), field.table(), field.schema(), field.type, field.flags, field.columnLength, field.scale,
]);
const counts = (result) => [result.affectedRows, result.insertId, result.warningStatus];

// Connections.
on('connect: ping and version', {}, null, async (c) => {
  await c.ping();
  return [c.isValid(), c.serverVersion(), c.info.isMariaDB(), c.info.hasMinVersion(5, 7, 0), c.info.database];
});
scene('connect: by URL', async () => {
  const { user, password, port } = config;
  const c = await mariadb.createConnection(`mariadb://${user}:${password}@127.0.0.1:${port}/test?dateStrings=true`);
  const seen = rows(await c.query("SELECT DATABASE() AS d, CAST('2020-01-02' AS DATE) AS at"));
  await c.end();
  return seen;
});
scene('connect: wrong password', async () =>
  (await fails(() => mariadb.createConnection({ ...config, password: 'wrong' }))).slice(0, 2));
scene('connect: no such database', async () =>
  (await fails(() => mariadb.createConnection({ ...config, database: 'nowhere' }))).slice(0, 2));
on('connect: variables and first statements', { sessionVariables: { wait_timeout: 1234 }, initSql: ["SET @a = 'first'"] }, null, async (c) =>
  rows(await c.query('SELECT @@wait_timeout AS w, @a AS a')));
on('connect: attributes', { connectAttributes: { program_name: 'scenes' } }, null, async (c) => rows(await c.query('SELECT 1 AS a')));
on('connect: compressed', { compress: true }, null, async (c) => rows(await c.query("SELECT REPEAT('a', 100000) AS a"))[0].a.length);
for (const collation of ['UTF8MB4_UNICODE_CI', 'LATIN1_SWEDISH_CI']) {
  on(`connect: collation ${collation}`, { collation }, null, async (c) => rows(await c.query("SELECT 'äß' AS a, @@collation_connection AS b")));
}
on('connect: found rows', { foundRows: false }, 'a INT', async (c) => {
  await c.query('INSERT INTO t VALUES (1), (2)');
  return counts(await c.query('UPDATE t SET a = 1'));
});
on('connect: end and use', {}, null, async (c) => {
  await c.end();
  return (await fails(() => c.query('SELECT 1')))[0];
});
on('connect: the server ends it', {}, null, async (c) => {
  await c.query('SET wait_timeout=1');
  await sleep(2500);
  return [c.isValid(), typeof (await fails(() => c.query('SELECT 1')))[2]];
});
on('connect: KILL from another', {}, null, (victim) => connected({}, async (other) => {
  await other.query('KILL ?', [victim.threadId]);
  await sleep(1000);
  return [victim.isValid(), (await fails(() => victim.query('SELECT 1'))).length];
}));
on('connect: several bytes at a time', { pipelining: false }, null, async (c) =>
  (await Promise.all([1, 2, 3].map((i) => c.query('SELECT ? AS i', [i])))).map(rows));

// Text protocol.
on('query: rows and definitions', {}, 'id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20) NOT NULL, b DECIMAL(9,3) UNSIGNED, KEY (b)', async (c) => {
  await c.query("INSERT INTO t (a, b) VALUES ('x', 1.5), ('y', NULL)");
  const result = await c.query('SELECT id, a AS named, b, id + 1 AS sum FROM t AS u ORDER BY id');
  return [rows(result), described(result)];
});
on('query: no rows', {}, 'a INT', async (c) => described(await c.query('SELECT a FROM t')));
on('query: placeholders', {}, null, async (c) =>
  rows(await c.query('SELECT ? AS a, ? AS b, ? AS c', ["it's \\ \0 \"", null, Buffer.from([0, 39, 92, 255])])));
on('query: named placeholders', { namedPlaceholders: true }, null, async (c) =>
  [rows(await c.query('SELECT :a AS a, :b AS b', { a: 1, b: 'two' })), rows(await c.execute('SELECT :a AS a', { a: 1 }))]);
on('query: shapes', {}, null, async (c) => {
  const sql = 'SELECT 1 AS a, 2 AS b UNION SELECT 3, 4';
  const cast = await c.query({ sql, typeCast: (field, next) => (field.name() === 'a' ? `<${field.string()}>` : next()) });
  const nested = await c.query({ sql: 'SELECT x.a, y.a FROM (SELECT 1 AS a) AS x, (SELECT 2 AS a) AS y', nestTables: '_' });
  return [rows(await c.query({ sql, rowsAsArray: true })), rows(cast), rows(nested), rows((await c.query({ sql, metaAsArray: true }))[0])];
});
on('query: counts', {}, 'id INT PRIMARY KEY AUTO_INCREMENT, a INT', async (c) => {
  const seen = [];
  for (const sql of ['INSERT INTO t (a) VALUES (1), (2), (3)', 'UPDATE t SET a = 2', 'UPDATE t SET a = 5 WHERE id = 2', 'DELETE FROM t WHERE id > 1',
    "INSERT IGNORE INTO t VALUES (1, 'x')", 'REPLACE INTO t VALUES (1, 7)', 'INSERT INTO t VALUES (1, 8) ON DUPLICATE KEY UPDATE a = VALUES(a)']) {
    seen.push(counts(await c.query(sql)));
  }
  return [seen, rows(await c.query('SELECT * FROM t'))];
});
on('query: returning', {}, 'id INT PRIMARY KEY AUTO_INCREMENT, a INT', async (c) => {
  if (!c.info.isMariaDB()) return 'MariaDB only';
  return rows(await c.query('INSERT INTO t (a) VALUES (5), (6) RETURNING id, a'));
});
on('query: warnings', {}, null, async (c) => {
  const result = await c.query("SELECT CAST('1x' AS UNSIGNED) AS a");
  return [rows(result), rows(await c.query('SHOW WARNINGS'))];
});
on('query: pipelined', {}, null, async (c) => (await Promise.all(Array.from({ length: 100 }, (_, i) => c.query('SELECT ? AS i', [i])))).map((r) => r[0].i));
on('query: pipelined, with an error among them', {}, null, async (c) => Promise.all(['SELECT 1 AS a', 'NONSENSE', 'SELECT 2 AS a'].map((sql) =>
  c.query(sql).then(rows, (error) => [error.errno, error.sqlState]))));
on('query: rows of 20 MiB', {}, null, async (c) => rows(await c.query("SELECT REPEAT('a', 20 << 20) AS a, 1 AS b")).map((row) => [row.a.length, row.b]));
on('query: a text of 20 MiB', {}, 'a LONGBLOB', async (c) => {
  await c.query('INSERT INTO t VALUES (?)', [Buffer.alloc(10 << 20, 7)]);
  const [row] = await c.query(`SELECT LENGTH('${'x'.repeat(20 << 20)}') AS n`);
  return [row, rows(await c.query('SELECT LENGTH(a) AS n FROM t'))];
});

// Binary protocol.
on('execute: parameters', { timezone: 'Z' }, null, async (c) => rows(await c.execute(
  'SELECT ? AS i, ? AS f, ? AS s, ? AS n, ? AS b, ? AS d, ? AS t, ? AS big',
  [7, 1.5, 'tëxt', null, Buffer.from([0, 1, 255]), new Date(Date.UTC(2020, 1, 3, 4, 5, 6, 7)), true, 2n ** 62n],
)));
on('execute: rows and definitions', {}, 'id INT PRIMARY KEY, a VARCHAR(9), b DOUBLE', async (c) => {
  await c.execute('INSERT INTO t VALUES (?, ?, ?), (?, ?, ?)', [1, 'x', 0.1, 2, null, null]);
  const result = await c.execute('SELECT id, a, b FROM t WHERE id < ? ORDER BY id', [9]);
  return [rows(result), described(result)];
});
on('prepare: used many times', {}, null, async (c) => {
  const statement = await c.prepare('SELECT ? + ? AS sum');
  const seen = [];
  for (let i = 0; i < 20; i++) seen.push((await statement.execute([i, 1]))[0].sum);
  statement.close();
  return [seen, statement.parameterCount];
});
on('prepare: types that change', {}, null, async (c) => {
  const statement = await c.prepare('SELECT ? AS a');
  const seen = [];
  for (const value of [1, 'one', null, 1.5, Buffer.from('x'), null]) seen.push(rows(await statement.execute([value])));
  statement.close();
  return seen;
});
on('prepare: more than are kept', { prepareCacheLength: 4 }, null, async (c) => {
  const seen = [];
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 10; i++) seen.push((await c.execute(`SELECT ${i} + ? AS a`, [round]))[0].a);
  }
  return seen;
});
on('prepare: what is no statement', {}, null, async (c) => (await fails(() => c.prepare('SELEC 1'))).slice(0, 2));
on('prepare: rows as a stream', {}, null, async (c) => {
  const statement = await c.prepare('SELECT 1 AS a UNION SELECT 2 UNION SELECT ?');
  const seen = [];
  for await (const row of statement.executeStream([3])) seen.push(row);
  statement.close();
  return seen;
});
on('execute: a parameter of 17 MiB', {}, 'a LONGBLOB', async (c) => {
  await c.execute('INSERT INTO t VALUES (?)', [Buffer.alloc(17 << 20, 3)]);
  return rows(await c.execute('SELECT a, LENGTH(a) AS n FROM t')).map((row) => [row.a.length, row.n, row.a.every((byte) => byte === 3)]);
});
on('execute: a parameter that is a stream', {}, 'a LONGBLOB', async (c) => {
  await c.execute('INSERT INTO t VALUES (?)', [Readable.from([Buffer.alloc(300_000, 1), Buffer.alloc(300_000, 2)])]);
  await c.query('INSERT INTO t VALUES (?)', [Readable.from([Buffer.alloc(100_000, 1)])]);
  return rows(await c.query('SELECT LENGTH(a) AS n, MD5(a) AS m FROM t').catch(() => c.query('SELECT LENGTH(a) AS n FROM t')));
});

// Batches.
for (const [name, options] of [['as the driver likes', {}], ['rewritten', { bulk: false }]]) {
  on(`batch: ${name}`, options, 'id INT PRIMARY KEY AUTO_INCREMENT, a INT, b VARCHAR(20)', async (c) => {
    const values = Array.from({ length: 1000 }, (_, i) => [i, i % 7 ? `row ${i}` : null]);
    const result = await c.batch('INSERT INTO t (a, b) VALUES (?, ?)', values);
    await c.batch('UPDATE t SET b = ? WHERE a = ?', [['x', 1], ['y', 2]]);
    return [result.affectedRows, rows(await c.query('SELECT COUNT(*) AS n, SUM(a) AS s, SUM(b IS NULL) AS e FROM t')), rows(await c.query("SELECT a FROM t WHERE b IN ('x', 'y')"))];
  });
  on(`batch: an error in the middle, ${name}`, options, 'a INT PRIMARY KEY', async (c) => {
    const error = await fails(() => c.batch('INSERT INTO t VALUES (?)', [[1], [2], [1], [3]]));
    return error.slice(0, 2);
  });
}
on('batch: named', { namedPlaceholders: true }, 'a INT, b VARCHAR(9)', async (c) => {
  await c.batch('INSERT INTO t VALUES (:a, :b)', [{ a: 1, b: 'x' }, { a: 2, b: null }]);
  return rows(await c.query('SELECT * FROM t'));
});

// Types, by both protocols.
const TYPES = `i8 TINYINT, u8 TINYINT UNSIGNED, i16 SMALLINT, i24 MEDIUMINT, i32 INT, i64 BIGINT, u64 BIGINT UNSIGNED, f FLOAT, d DOUBLE,
  de DECIMAL(30,10), b BIT(13), y YEAR, da DATE, ti TIME(6), dt DATETIME(6), ts TIMESTAMP(3) NULL, c CHAR(5), v VARCHAR(50), bi BINARY(4), vb VARBINARY(9),
  tt TINYTEXT, t TEXT, mt MEDIUMTEXT, bl BLOB, e ENUM('a','b'), s SET('x','y','z'), g POINT`;
const VALUES = [
  "(-128, 255, -32768, -8388608, -2147483648, -9223372036854775808, 18446744073709551615, 1.5, 1e-300, 12345678901234567890.0123456789, b'1010101010101', 1999, '1000-01-01', '-838:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.123', 'abc', 'žluť 🐎', 'ab', x'00FF', '', 'text', REPEAT('m', 70000), x'0001', 'b', 'x,z', ST_GeomFromText('POINT(1 2)'))",
  `(${Array(27).fill('NULL').join(', ')})`,
];
for (const [name, options] of [['as they are', {}], ['dates as strings', { dateStrings: true }], ['numbers as numbers', { bigIntAsNumber: true, decimalAsNumber: true, checkNumberRange: false }], ['in UTC', { timezone: 'Z', bitOneIsBoolean: false }]]) {
  on(`types: ${name}`, options, TYPES, async (c) => {
    await c.query(`INSERT INTO t VALUES ${VALUES.join(', ')}`);
    const brief = (result) => [rows(result).map((row) => ({ ...row, mt: row.mt?.length })), described(result)];
    return [brief(await c.query('SELECT * FROM t')), brief(await c.execute('SELECT * FROM t'))];
  });
}
on('types: JSON', {}, 'j JSON, k JSON', async (c) => {
  await c.execute('INSERT INTO t VALUES (?, ?)', ['{"a": [1, {"b": null}]}', '3']);
  return [rows(await c.query('SELECT j, k FROM t')), rows(await c.execute('SELECT j FROM t'))];
});
on('types: a number out of range', { checkNumberRange: true, bigIntAsNumber: true }, null, async (c) =>
  (await fails(() => c.query('SELECT 9223372036854775807 AS a')))[0]);

// Streams.
const counted = 'SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n AS n, REPEAT(\'s\', 200) AS s FROM test.digits a, test.digits b, test.digits c, test.digits d';
on('stream: rows', {}, null, async (c) => {
  await c.query('CREATE OR REPLACE TABLE digits (n INT)').catch(async () => {
    await c.query('DROP TABLE IF EXISTS digits');
    await c.query('CREATE TABLE digits (n INT)');
  });
  await c.query('INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)');
  let [count, sum] = [0, 0];
  for await (const row of c.queryStream(counted)) {
    count += 1;
    sum += Number(row.n);
    if (count % 1000 === 0) await sleep(5);
  }
  return [count, sum];
});
on('stream: into a pipeline', {}, null, async (c) => {
  let count = 0;
  const sink = new Writable({ objectMode: true, write: (_row, _encoding, done) => { count += 1; setImmediate(done); } });
  await pipeline(c.queryStream(counted), sink);
  return count;
});
on('stream: left in the middle', {}, null, async (c) => {
  const stream = c.queryStream(counted);
  for await (const row of stream) {
    if (Number(row.n) === 7) stream.close();
  }
  return rows(await c.query('SELECT 1 AS a'));
});
on('stream: an error', {}, null, async (c) => {
  const stream = c.queryStream('SELECT nothing_of_the_kind');
  const [error] = await once(stream.resume(), 'error');
  return [error.errno, error.sqlState];
});

// Transactions and sessions.
on('transaction: commit, rollback, savepoint', {}, 'a INT', async (c) => {
  await c.beginTransaction();
  await c.query('INSERT INTO t VALUES (1)');
  await c.query('SAVEPOINT one');
  await c.query('INSERT INTO t VALUES (2)');
  await c.query('ROLLBACK TO one');
  await c.commit();
  await c.beginTransaction();
  await c.query('DELETE FROM t');
  await c.rollback();
  await c.rollback(); // sent only where a transaction is open
  return rows(await c.query('SELECT a FROM t'));
});
on('transaction: a lock is waited for', {}, 'a INT PRIMARY KEY', (c) => connected({}, async (other) => {
  await c.query('INSERT INTO t VALUES (1)');
  await c.beginTransaction();
  await c.query('SELECT a FROM t FOR UPDATE');
  await other.query('SET innodb_lock_wait_timeout = 1');
  return (await fails(() => other.query('UPDATE t SET a = 2'))).slice(0, 2);
}));
on('session: variables and temporary tables', {}, null, async (c) => {
  await c.query("SET @a = 5, @b = 'x'");
  await c.query('CREATE TEMPORARY TABLE own (a INT)');
  await c.query('INSERT INTO own VALUES (4)');
  return [rows(await c.query('SELECT @a AS a, @b AS b')), rows(await c.query('SELECT a FROM own'))];
});
on('session: a sequence', {}, null, async (c) => {
  if (!c.info.isMariaDB()) return 'MariaDB only';
  await c.query('CREATE OR REPLACE SEQUENCE numbers');
  return rows(await c.query('SELECT NEXT VALUE FOR numbers AS a, NEXTVAL(numbers) AS b'));
});

// Several statements, procedures.
on('several: results', { multipleStatements: true }, 'a INT', async (c) => {
  const results = await c.query('INSERT INTO t VALUES (1), (2); SELECT a FROM t; SELECT 5 AS b, NULL AS c; DELETE FROM t');
  return [counts(results[0]), rows(results[1]), rows(results[2]), counts(results[3])];
});
on('several: an error in the middle', { multipleStatements: true }, 'a INT PRIMARY KEY', async (c) => {
  const error = await fails(() => c.query('INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)'));
  return [error.slice(0, 2), rows(await c.query('SELECT * FROM t'))];
});
on('several: not agreed to', {}, null, async (c) => (await fails(() => c.query('SELECT 1; SELECT 2'))).slice(0, 2));
on('procedure: results and OUT', {}, null, async (c) => {
  await c.query('DROP PROCEDURE IF EXISTS p');
  await c.query('CREATE PROCEDURE p(IN i INT, OUT o INT) BEGIN SELECT i AS i; SELECT i + 1 AS a, 2 AS b; SET o = i * 2; END');
  const [first, second] = await c.query('CALL p(4, @o)');
  const executed = await c.execute('CALL p(?, ?)', [5, null]).then((all) => all.filter(Array.isArray).map(rows), (error) => [error.errno]);
  return [rows(first), rows(second), executed, rows(await c.query('SELECT @o AS o'))];
});

// Errors.
on('error: numbers and states', {}, 'a INT PRIMARY KEY, b INT NOT NULL', async (c) => {
  await c.query('INSERT INTO t VALUES (1, 1)');
  const seen = [];
  for (const sql of ['SELECT * FRM t', 'INSERT INTO t VALUES (1, 1)', 'INSERT INTO t VALUES (2, NULL)', 'SELECT f(1, 2, 3', 'SELECT * FROM missing', 'SELECT missing FROM t', 'USE nowhere']) {
    seen.push(await c.query(sql).then(rows, (e) => [e.errno, e.code, e.sqlState, e.fatal]));
  }
  return [seen, rows(await c.query('SELECT 1 AS a'))];
});

// COM_CHANGE_USER and COM_RESET_CONNECTION.
on('change user: to another database', {}, null, async (c) => {
  await c.query('SET @a = 1');
  await c.changeUser({ user: config.user, password: config.password, database: 'test2' });
  return rows(await c.query('SELECT DATABASE() AS d, @a AS a'));
});
on('reset: nothing stays', {}, null, async (c) => {
  await c.query('SET @a = 1');
  await c.execute('SELECT ? AS a', [1]);
  await c.reset();
  return [rows(await c.query('SELECT @a AS a, DATABASE() AS d')), rows(await c.execute('SELECT ? AS a', [2]))];
});

// Time.
on('timeout: of a statement, by the server', {}, null, async (c) => {
  if (!c.info.isMariaDB()) return 'MariaDB only';
  return (await fails(() => c.query({ sql: 'SELECT SLEEP(3)', timeout: 200 }))).slice(0, 2);
});
scene('timeout: of the socket', async () => {
  const c = await mariadb.createConnection({ ...config, socketTimeout: 500 });
  c.on('error', () => {});
  return (await fails(() => c.query('SELECT SLEEP(3)')))[0];
});
on('timeout: KILL QUERY from another', {}, null, (c) => connected({}, async (other) => {
  const slow = c.query('SELECT SLEEP(20) AS a').then(rows, (error) => [error.errno, error.sqlState]);
  await sleep(500);
  await other.query('KILL QUERY ?', [c.threadId]);
  return [await slow, rows(await c.query('SELECT 1 AS a'))];
}));

// Files.
function file(text) {
  const name = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'scene-')), 'file');
  fs.writeFileSync(name, text);
  return name;
}
on('file: LOAD DATA LOCAL', { permitLocalInfile: true }, 'a INT, b VARCHAR(9)', async (c) => {
  const result = await c.query(`LOAD DATA LOCAL INFILE '${file('1,one\n2,two\n')}' INTO TABLE t FIELDS TERMINATED BY ','`);
  return [counts(result), rows(await c.query('SELECT * FROM t'))];
});
on('file: of 5 MiB', { permitLocalInfile: true }, 'a VARCHAR(99)', async (c) => {
  const text = Array.from({ length: 50_000 }, (_, i) => `${String(i).padStart(90, 'x')}\n`).join('');
  const result = await c.query(`LOAD DATA LOCAL INFILE '${file(text)}' INTO TABLE t`);
  return [counts(result), rows(await c.query('SELECT COUNT(*) AS n, MAX(a) AS m FROM t'))];
});
on('file: not permitted', {}, 'a INT', async (c) =>
  [(await fails(() => c.query(`LOAD DATA LOCAL INFILE '${file('1\n')}' INTO TABLE t`))).length, rows(await c.query('SELECT COUNT(*) AS n FROM t'))]);
on('file: of statements', {}, null, async (c) => {
  await c.importFile({ file: file('-- a dump\nDROP TABLE IF EXISTS imported;\nCREATE TABLE imported (a INT);\nINSERT INTO imported VALUES (1), (2);\n') });
  return rows(await c.query('SELECT * FROM imported'));
});

// Pools and clusters.
scene('pool: queries, batches and limits', async () => {
  const pool = mariadb.createPool({ ...config, connectionLimit: 3 });
  const all = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.query('SELECT ? AS i', [i])));
  const executed = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.execute('SELECT ? AS i', [i])));
  const connection = await pool.getConnection();
  await connection.query('SET @mine = 1');
  await connection.release();
  const total = pool.totalConnections();
  await pool.end();
  return [all.map((r) => r[0].i), executed.map((r) => r[0].i), total <= 3];
});
scene('pool: resets between uses', async () => {
  const pool = mariadb.createPool({ ...config, connectionLimit: 1, resetAfterUse: true });
  const connection = await pool.getConnection();
  await connection.query('SET @mine = 1');
  await connection.beginTransaction();
  await connection.release();
  const seen = rows(await pool.query('SELECT @mine AS mine'));
  await pool.end();
  return seen;
});
scene('pool: none is left', async () => {
  const pool = mariadb.createPool({ ...config, connectionLimit: 1, acquireTimeout: 300 });
  const held = await pool.getConnection();
  const error = await fails(() => pool.query('SELECT 1'));
  await held.release();
  await pool.end();
  return error[0];
});
scene('pool: a storm', async () => {
  const pools = Array.from({ length: 10 }, () => mariadb.createPool({ ...config, connectionLimit: 5 }));
  const work = async (pool, i) => {
    const connection = await pool.getConnection();
    try {
      await connection.query('SET @mark = ?', [i]);
      return Number((await connection.query('SELECT @mark = ? AS own', [i]))[0].own);
    } finally {
      await connection.release();
    }
  };
  const all = await Promise.all(pools.flatMap((pool, p) => Array.from({ length: 50 }, (_, i) => work(pool, p * 50 + i))));
  await Promise.all(pools.map((pool) => pool.end()));
  return all.reduce((sum, own) => sum + own, 0);
});
scene('pool: a cluster', async () => {
  const cluster = mariadb.createPoolCluster();
  cluster.add('ONE', config);
  cluster.add('TWO', config);
  const seen = [];
  for (const name of ['ONE', 'TWO']) {
    const connection = await cluster.getConnection(name);
    seen.push(rows(await connection.query('SELECT 1 AS a')));
    await connection.release();
  }
  await cluster.end();
  return seen;
});
scene('callbacks: query and end', () => new Promise((done, fail) => {
  const c = callbacks.createConnection(config);
  c.query('SELECT 1 AS a', (error, result) => (error ? fail(error) : c.end(() => done(rows(result)))));
}));

await run();
