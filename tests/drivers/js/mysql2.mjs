// mysql2's whole interface: connections, pools, text and binary protocol, streams, transactions, several statements, types,
// errors, COM_CHANGE_USER, timeouts, files.

import { once } from 'node:events';
import { Readable } from 'node:stream';
import callbacks from 'mysql2';
import mysql from 'mysql2/promise';
import { config, fails, over, run, scene, sleep } from './scenes.mjs';

const { connected, on } = over(mysql.createConnection);

const BINARY = 63;
const described = (fields) => fields.map((field) => [
  field.name, field.orgName, field.table, field.schema, field.columnType, field.flags, field.columnLength,
  field.characterSet === BINARY ? 'binary' : 'text', field.decimals,
]);
const counts = (result) => [
  result.affectedRows, result.changedRows, result.insertId, result.warningStatus, result.serverStatus,
];

// Connections.
on('connect: ping', {}, null, async (c) => [await c.ping(), await c.query('SELECT 1 AS one')].length);
scene('connect: by URL', async () => {
  const { user, password, port } = config;
  const c = await mysql.createConnection(`mysql://${user}:${password}@127.0.0.1:${port}/test?dateStrings=true`);
  const [rows] = await c.query("SELECT DATABASE() AS d, CAST('2020-01-02' AS DATE) AS at");
  await c.end();
  return rows;
});
scene('connect: wrong password', async () =>
  (await fails(() => mysql.createConnection({ ...config, password: 'wrong' }))).slice(0, 2));
scene('connect: no such database', () => fails(() => mysql.createConnection({ ...config, database: 'nowhere' })));
scene('connect: without a database', async () => connected({ database: undefined }, async (c) => {
  const none = await fails(() => c.query('SELECT * FROM nothing_of_the_kind'));
  await c.query('USE test');
  return [none.slice(0, 2), await c.query('SELECT DATABASE() AS d').then(([rows]) => rows)];
}));
on('connect: attributes and flags', {
  connectAttributes: { program_name: 'scenes', more: 'x'.repeat(300) }, flags: ['-CONNECT_WITH_DB', 'IGNORE_SPACE'],
}, null, async (c) => (await c.query('SELECT COUNT (*) AS n FROM DUAL'))[0]);
on('connect: compressed', { compress: true }, null, async (c) =>
  (await c.query("SELECT REPEAT('a', 100000) AS a"))[0][0].a.length);
for (const charset of ['UTF8MB4_UNICODE_CI', 'LATIN1_SWEDISH_CI', 'ASCII_GENERAL_CI']) {
  on(`connect: charset ${charset}`, { charset }, null, async (c) => (await c.query("SELECT 'äß' AS a, HEX('ä') AS h"))[0]);
}
on('connect: end and use', {}, null, async (c) => {
  await c.end();
  return (await fails(() => c.query('SELECT 1')))[2];
});
on('connect: the server ends it', {}, null, async (c) => {
  await c.query('SET wait_timeout=1');
  const ended = once(c.connection, 'error').then(() => 'error event');
  const gone = await Promise.race([ended, once(c.connection, 'end').then(() => 'end event'), sleep(4000).then(() => 'nothing')]);
  return [gone, typeof (await fails(() => c.query('SELECT 1')))[2]];
});
on('connect: KILL from another', {}, null, (victim) => connected({}, async (other) => {
  const ended = new Promise((done) => victim.connection.on('error', () => done('ended')));
  await other.query('KILL ?', [victim.threadId]);
  return [await Promise.race([ended, sleep(5000).then(() => 'open')]), (await fails(() => victim.query('SELECT 1'))).length];
}));

// Text protocol.
on('query: rows and definitions', {}, 'id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20) NOT NULL, b DECIMAL(9,3) UNSIGNED, KEY (b)', async (c) => {
  await c.query("INSERT INTO t (a, b) VALUES ('x', 1.5), ('y', NULL)");
  const [rows, fields] = await c.query('SELECT id, a AS named, b, id + 1 AS sum FROM t AS u ORDER BY id');
  return [rows, described(fields)];
});
on('query: no rows', {}, 'a INT', async (c) => c.query('SELECT a FROM t').then(([rows, fields]) => [rows, described(fields)]));
on('query: collations in definitions', {}, null, async (c) => {
  const [, fields] = await c.query("SELECT 'a' AS a, x'00' AS b, 1 AS c");
  return fields.map((field) => field.characterSet);
});
on('query: placeholders', {}, null, async (c) =>
  (await c.query('SELECT ? AS a, ? AS b, ? AS c, ?? FROM (SELECT 1 AS d) AS x', ["it's \\ \0 \"", null, [1, 2], 'd']).catch((e) => [e.code]))[0]);
on('query: named placeholders', { namedPlaceholders: true }, null, async (c) =>
  [(await c.query('SELECT :a AS a, :b AS b', { a: 1, b: 'two' }))[0], (await c.execute('SELECT :a AS a, :a + 1 AS b', { a: 1 }))[0]]);
on('query: shapes', {}, null, async (c) => {
  const sql = 'SELECT 1 AS a, 2 AS b UNION SELECT 3, 4';
  const nested = await c.query({ sql: 'SELECT x.a, y.a FROM (SELECT 1 AS a) AS x, (SELECT 2 AS a) AS y', nestTables: '_' });
  const cast = await c.query({ sql, typeCast: (field, next) => (field.name === 'a' ? `<${field.string()}>` : next()) });
  return [(await c.query({ sql, rowsAsArray: true }))[0], nested[0], cast[0]];
});
on('query: what came of it', {}, 'a INT', async (c) => [
  (await c.query('INSERT INTO t VALUES (1), (2)'))[0].info, (await c.execute('UPDATE t SET a = 3'))[0].info,
]);
on('query: counts', { flags: ['-FOUND_ROWS'] }, 'id INT PRIMARY KEY AUTO_INCREMENT, a INT', async (c) => {
  const seen = [];
  for (const sql of ['INSERT INTO t (a) VALUES (1), (2), (3)', 'UPDATE t SET a = 2', 'UPDATE t SET a = 5 WHERE id = 2', 'DELETE FROM t WHERE id > 1',
    "INSERT IGNORE INTO t VALUES (1, 'x')", 'REPLACE INTO t VALUES (1, 7)', 'INSERT INTO t VALUES (1, 8) ON DUPLICATE KEY UPDATE a = VALUES(a)']) {
    seen.push(counts((await c.query(sql))[0]));
  }
  return [seen, (await c.query('SELECT * FROM t'))[0]];
});
on('query: found rows', {}, 'a INT', async (c) => {
  await c.query('INSERT INTO t VALUES (1), (2)');
  return counts((await c.query('UPDATE t SET a = 1'))[0]);
});
on('query: warnings', {}, null, async (c) => {
  const [, first] = [await c.query("SELECT CAST('1x' AS UNSIGNED)"), await c.query('SHOW WARNINGS')];
  return [first[0], (await c.query('SHOW COUNT(*) WARNINGS'))[0]];
});
on('query: pipelined', {}, null, async (c) => {
  const all = await Promise.all(Array.from({ length: 100 }, (_, i) => c.query('SELECT ? AS i', [i])));
  return all.map(([rows]) => rows[0].i);
});
on('query: an empty one', {}, null, (c) => fails(() => c.query('')));
on('query: comments', {}, null, async (c) =>
  [(await c.query('/* a */ SELECT /*! 1 */ + 1 AS a -- end\n # more'))[0], await c.query('-- nothing').then(([r]) => r, (e) => e.errno)]);
on('query: a row of 20 MiB', { }, null, async (c) => (await c.query("SELECT REPEAT('a', 20 << 20) AS a, 1 AS b"))[0].map((row) => [row.a.length, row.b]));
on('query: a text of 20 MiB', {}, 'a LONGBLOB', async (c) => {
  await c.query('INSERT INTO t VALUES (?)', [Buffer.alloc(10 << 20, 7)]);
  await c.query(`SELECT LENGTH('${'x'.repeat(20 << 20)}') AS n`).then(([rows]) => rows);
  return (await c.query('SELECT LENGTH(a) AS n FROM t'))[0];
});
on('query: 50,000 rows', {}, null, async (c) => {
  const digits = (name) => `(SELECT 0 AS ${name} ${Array.from({ length: 9 }, (_, i) => `UNION SELECT ${i + 1}`).join(' ')}) AS ${name}_`;
  const [rows] = await c.query(`SELECT a + 10*b + 100*c + 1000*d + 10000*e AS n, REPEAT('z', 50) AS z FROM ${['a', 'b', 'c', 'd', 'e'].map(digits).join(', ')} HAVING n < 50000`);
  return [rows.length, rows.reduce((sum, row) => sum + row.n, 0)];
});

// Binary protocol.
on('execute: parameters', {}, null, async (c) => (await c.execute(
  'SELECT ? AS i, ? AS f, ? AS s, ? AS n, ? AS b, ? AS d, ? AS t, ? AS j, ? AS big',
  [7, 1.5, 'tëxt', null, Buffer.from([0, 1, 255]), new Date(Date.UTC(2020, 1, 3, 4, 5, 6, 7)), true, { a: [1] }, 2n ** 62n],
))[0]);
on('execute: rows and definitions', {}, 'id INT PRIMARY KEY, a VARCHAR(9), b DOUBLE', async (c) => {
  await c.execute('INSERT INTO t VALUES (?, ?, ?), (?, ?, ?)', [1, 'x', 0.1, 2, null, null]);
  const [rows, fields] = await c.execute('SELECT id, a, b FROM t WHERE id < ? ORDER BY id', [9]);
  return [rows, described(fields)];
});
on('execute: counts', {}, 'id INT PRIMARY KEY AUTO_INCREMENT, a INT', async (c) => {
  const seen = [];
  for (let i = 0; i < 3; i++) seen.push(counts((await c.execute('INSERT INTO t (a) VALUES (?)', [i]))[0]));
  return [seen, counts((await c.execute('UPDATE t SET a = a + ? WHERE a > ?', [1, 0]))[0])];
});
on('prepare: used many times', {}, null, async (c) => {
  const statement = await c.prepare('SELECT ? + ? AS sum');
  const seen = [];
  for (let i = 0; i < 20; i++) seen.push((await statement.execute([i, 1]))[0][0].sum);
  const { parameters, columns } = statement.statement;
  await statement.close();
  return [seen, parameters.length, described(columns)];
});
on('prepare: types that change', {}, null, async (c) => {
  const statement = await c.prepare('SELECT ? AS a');
  const seen = [];
  for (const value of [1, 'one', null, 1.5, Buffer.from('x'), null]) seen.push((await statement.execute([value]))[0]);
  return seen;
});
on('prepare: more than are kept', { maxPreparedStatements: 4 }, null, async (c) => {
  const seen = [];
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 10; i++) seen.push((await c.execute(`SELECT ${i} + ? AS a`, [round]))[0][0].a);
  }
  return seen;
});
on('prepare: what is no statement', {}, null, async (c) => [await fails(() => c.prepare('SELEC 1')), await fails(() => c.execute('SELECT 1; SELECT 2'))].map((e) => e.slice(0, 2)));
on('prepare: unprepare', {}, null, async (c) => {
  await c.execute('SELECT 5 AS a');
  c.unprepare('SELECT 5 AS a');
  return (await c.execute('SELECT 5 AS a'))[0];
});
on('prepare: a table that changes', {}, 'a INT', async (c) => {
  await c.query('INSERT INTO t VALUES (1)');
  const statement = await c.prepare('SELECT * FROM t');
  const before = (await statement.execute([]))[0];
  await c.query("ALTER TABLE t ADD COLUMN b INT DEFAULT 9");
  return [before, (await c.query('SELECT * FROM t'))[0], (await c.execute('SELECT a, b FROM t'))[0]];
});
on('execute: a parameter of 17 MiB', {}, 'a LONGBLOB', async (c) => {
  await c.execute('INSERT INTO t VALUES (?)', [Buffer.alloc(17 << 20, 3)]);
  const [rows] = await c.execute('SELECT a, LENGTH(a) AS n FROM t');
  return rows.map((row) => [row.a.length, row.n, row.a.every((byte) => byte === 3)]);
});
on('execute: bulk', {}, 'a INT, b VARCHAR(20)', async (c) => {
  const rows = Array.from({ length: 2000 }, (_, i) => [i, `row ${i}`]);
  const [result] = await c.query('INSERT INTO t VALUES ?', [rows]);
  for (const row of rows.slice(0, 100)) await c.execute('INSERT INTO t VALUES (?, ?)', row);
  return [counts(result), (await c.query('SELECT COUNT(*) AS n, SUM(a) AS s FROM t'))[0]];
});

// Types, by both protocols.
const TYPES = `i8 TINYINT, u8 TINYINT UNSIGNED, i16 SMALLINT, i24 MEDIUMINT, i32 INT, i64 BIGINT, u64 BIGINT UNSIGNED, f FLOAT, d DOUBLE,
  de DECIMAL(30,10), b BIT(13), y YEAR, da DATE, ti TIME(6), dt DATETIME(6), ts TIMESTAMP(3) NULL, c CHAR(5), v VARCHAR(50), bi BINARY(4), vb VARBINARY(9),
  tt TINYTEXT, t TEXT, mt MEDIUMTEXT, bl BLOB, e ENUM('a','b'), s SET('x','y','z'), g POINT`;
const VALUES = [
  "(-128, 255, -32768, -8388608, -2147483648, -9223372036854775808, 18446744073709551615, 1.5, 1e-300, 12345678901234567890.0123456789, b'1010101010101', 1999, '1000-01-01', '-838:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.123', 'abc', 'žluť 🐎', 'ab', x'00FF', '', 'text', REPEAT('m', 70000), x'0001', 'b', 'x,z', ST_GeomFromText('POINT(1 2)'))",
  `(${Array(27).fill('NULL').join(', ')})`,
];
for (const [name, options] of [['as they are', {}], ['dates as strings', { dateStrings: true }], ['big numbers as strings', { supportBigNumbers: true, bigNumberStrings: true }], ['in UTC, decimals as numbers', { timezone: 'Z', decimalNumbers: true }]]) {
  on(`types: ${name}`, options, TYPES, async (c) => {
    await c.query(`INSERT INTO t VALUES ${VALUES.join(', ')}`);
    const brief = ([rows, fields]) => [rows.map((row) => ({ ...row, mt: row.mt?.length })), described(fields)];
    return [brief(await c.query('SELECT * FROM t')), brief(await c.execute('SELECT * FROM t'))];
  });
}
on('types: written by parameters', { timezone: 'Z' }, TYPES, async (c) => {
  const row = { i8: 1, u64: '18446744073709551615', i64: '-5', f: 0.5, d: Math.PI, de: '1.25', da: '2020-02-29', ti: '01:02:03.5', dt: new Date(0), v: '🐎', vb: Buffer.from('x'), t: 'long', e: 'a' };
  await c.query('INSERT INTO t SET ?', [row]);
  const names = Object.keys(row);
  await c.execute(`INSERT INTO t (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`, Object.values(row));
  return (await c.query(`SELECT ${names.join(', ')} FROM t`))[0];
});
on('types: JSON', {}, 'j JSON, k JSON', async (c) => {
  await c.execute('INSERT INTO t VALUES (?, ?)', ['{"a": [1, {"b": null}]}', '3']);
  const [rows, fields] = await c.query('SELECT j, k FROM t');
  return [rows, (await c.execute('SELECT j FROM t'))[0], described(fields)];
});
on('types: zero dates', { dateStrings: true }, 'a DATE, b DATETIME', async (c) => {
  await c.query("SET sql_mode = ''");
  await c.query("INSERT INTO t VALUES ('0000-00-00', '0000-00-00 00:00:00')");
  return [(await c.query('SELECT * FROM t'))[0], (await c.execute('SELECT * FROM t'))[0]];
});

// Streams.
const counted = 'SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n AS n, REPEAT(\'s\', 200) AS s FROM test.digits a, test.digits b, test.digits c, test.digits d';
async function digits() {
  await connected({}, async (c) => {
    await c.query('DROP TABLE IF EXISTS digits');
    await c.query('CREATE TABLE digits (n INT)');
    await c.query('INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)');
  });
}
for (const method of ['query', 'execute']) {
  scene(`stream: ${method}`, async () => {
    await digits();
    const c = callbacks.createConnection(config);
    let [rows, sum] = [0, 0];
    for await (const row of c[method](counted).stream({ highWaterMark: 5 })) {
      rows += 1;
      sum += row.n;
      if (rows % 1000 === 0) await sleep(5);
    }
    c.destroy();
    return [rows, sum];
  });
}
scene('stream: an error', async () => {
  const c = callbacks.createConnection(config);
  const stream = c.query('SELECT nothing_of_the_kind').stream();
  const [error] = await once(stream.resume(), 'error');
  c.destroy();
  return [error.errno, error.sqlState, error.sqlMessage];
});
scene('stream: left in the middle', async () => {
  const c = callbacks.createConnection(config);
  const query = c.query(counted);
  await new Promise((done) => query.on('result', done));
  c.destroy();
  return connected({}, async (after) => (await after.query('SELECT 1 AS a'))[0]);
});

// Transactions and locks.
on('transaction: commit, rollback, savepoint', {}, 'a INT', async (c) => {
  await c.beginTransaction();
  await c.query('INSERT INTO t VALUES (1)');
  await c.query('SAVEPOINT one');
  await c.query('INSERT INTO t VALUES (2)');
  await c.query('ROLLBACK TO SAVEPOINT one');
  await c.query('RELEASE SAVEPOINT one');
  const inside = (await c.query('SELECT a FROM t'))[0];
  await c.commit();
  await c.beginTransaction();
  await c.query('DELETE FROM t');
  await c.rollback();
  return [inside, (await c.query('SELECT a FROM t'))[0]];
});
on('transaction: seen by nobody else', {}, 'a INT', (c) => connected({}, async (other) => {
  await c.query('SET autocommit = 0');
  await c.query('INSERT INTO t VALUES (1)');
  const before = (await other.query('SELECT COUNT(*) AS n FROM t'))[0];
  await c.query('COMMIT');
  return [before, (await other.query('SELECT COUNT(*) AS n FROM t'))[0]];
}));
on('transaction: isolation', {}, null, async (c) => {
  await c.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED');
  await c.query('START TRANSACTION READ ONLY');
  await c.query('COMMIT');
  await c.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
  return (await c.query("SHOW VARIABLES LIKE 't%isolation'"))[0].map((row) => row.Value);
});
on('transaction: a lock is waited for', {}, 'a INT PRIMARY KEY', (c) => connected({}, async (other) => {
  await c.query('INSERT INTO t VALUES (1)');
  await c.beginTransaction();
  await c.query('SELECT a FROM t FOR UPDATE');
  await other.query('SET innodb_lock_wait_timeout = 1');
  return fails(() => other.query('UPDATE t SET a = 2'));
}));
on('locks: tables and names', {}, 'a INT', (c) => connected({}, async (other) => {
  await c.query('LOCK TABLES t WRITE');
  await other.query('SET lock_wait_timeout = 1');
  const waited = await fails(() => other.query('INSERT INTO t VALUES (1)'));
  await c.query('UNLOCK TABLES');
  await c.query("SELECT GET_LOCK('scene', 1)");
  const [taken] = await other.query("SELECT GET_LOCK('scene', 0) AS taken, IS_FREE_LOCK('scene') AS free");
  return [waited.slice(0, 2), taken];
}));
on('session: variables and temporary tables', {}, null, async (c) => {
  await c.query("SET @a = 5, @b = 'x'");
  const set = (await c.query('SELECT @a AS a, @b AS b'))[0];
  await c.query('CREATE TEMPORARY TABLE own (a INT)');
  await c.query('INSERT INTO own VALUES (4)');
  return [set, (await c.query('SELECT a FROM own'))[0], await connected({}, async (other) => (await other.query('SELECT @a AS a'))[0])];
});
on('session: last id and counts', {}, 'id INT PRIMARY KEY AUTO_INCREMENT', async (c) => {
  await c.query('INSERT INTO t VALUES (), ()');
  return [(await c.query('SELECT LAST_INSERT_ID() AS id'))[0], (await c.query('SELECT ROW_COUNT() AS n'))[0]];
});

// Several statements, procedures.
on('several: results', { multipleStatements: true }, 'a INT', async (c) => {
  const [results, fields] = await c.query('INSERT INTO t VALUES (1), (2); SELECT a FROM t; SELECT 5 AS b, NULL AS c; DELETE FROM t');
  return [counts(results[0]), results[1], results[2], counts(results[3]), fields.map((of) => of && described(of))];
});
on('several: an error in the middle', { multipleStatements: true }, 'a INT PRIMARY KEY', async (c) => {
  const error = await fails(() => c.query('INSERT INTO t VALUES (1); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)'));
  return [error, (await c.query('SELECT * FROM t'))[0]];
});
on('several: not agreed to', {}, null, async (c) => (await fails(() => c.query('SELECT 1; SELECT 2'))).slice(0, 2));
on('several: many', { multipleStatements: true }, null, async (c) =>
  (await c.query(Array.from({ length: 300 }, (_, i) => `SELECT ${i} AS a`).join(';')))[0].map((rows) => rows[0].a));
on('procedure: results and OUT', { multipleStatements: true }, 'a INT', async (c) => {
  await c.query('DROP PROCEDURE IF EXISTS p');
  await c.query('CREATE PROCEDURE p(IN i INT, OUT o INT) BEGIN SELECT i AS i; SELECT i + 1 AS a, 2 AS b; SET o = i * 2; END');
  const [results] = await c.query('CALL p(4, @o)');
  const [executed] = await c.execute('CALL p(?, @o)', [5]);
  return [results, executed, (await c.query('SELECT @o AS o'))[0]];
});
on('function: its own', {}, null, async (c) => {
  await c.query('DROP FUNCTION IF EXISTS f');
  await c.query('CREATE FUNCTION f(i INT) RETURNS INT DETERMINISTIC RETURN i * 3');
  return [(await c.query('SELECT f(4) AS a'))[0], (await c.execute('SELECT f(?) AS a', [5]))[0]];
});

// Errors.
on('error: numbers and states', {}, 'a INT PRIMARY KEY, b INT NOT NULL', async (c) => {
  await c.query('INSERT INTO t VALUES (1, 1)');
  const seen = [];
  for (const sql of ['SELECT * FRM t', 'INSERT INTO t VALUES (1, 1)', 'INSERT INTO t VALUES (2, NULL)', 'SELECT f(1, 2, 3', "SELECT 'open", 'SELECT 1/0 AS a FROM t']) {
    // An unfinished text is refused in the gateway's words to the governed.
    const words = (e) => (sql.includes('open') ? [] : [e.sqlMessage]);
    seen.push(await c.query(sql).then(([rows]) => rows, (e) => [e.errno, e.code, e.sqlState, ...words(e)]));
  }
  return seen;
});
on('error: names', {}, 'a INT', async (c) => {
  const seen = [];
  for (const sql of ['SELECT * FROM missing', 'SELECT missing FROM t', 'SELECT t.missing FROM t', 'SELECT missing.a FROM t', 'INSERT INTO missing VALUES (1)', 'SELECT missing(1)', 'SELECT * FROM nowhere.t', 'USE nowhere', 'DROP TABLE missing']) {
    seen.push((await fails(() => c.query(sql))).slice(0, 2));
    if (sql.startsWith('SELECT')) seen.push((await fails(() => c.execute(sql))).slice(0, 2));
  }
  return seen;
});
on('error: the connection goes on', {}, null, async (c) => [(await fails(() => c.query('NONSENSE'))).slice(0, 2), (await c.query('SELECT 1 AS a'))[0]]);

// COM_CHANGE_USER and COM_RESET_CONNECTION.
on('change user: to another database', {}, null, async (c) => {
  await c.query('SET @a = 1');
  await c.changeUser({ ...config, database: 'test2' });
  return (await c.query('SELECT DATABASE() AS d, @a AS a'))[0];
});
on('change user: wrong password', {}, null, async (c) => (await fails(() => c.changeUser({ ...config, password: 'wrong' }))).slice(0, 2));
on('change user: prepared statements go', {}, null, async (c) => {
  await c.execute('SELECT ? AS a', [1]);
  await c.changeUser({ ...config });
  return (await c.execute('SELECT ? AS a', [2]))[0];
});
on('reset: nothing stays', {}, null, async (c) => {
  await c.query('SET @a = 1');
  await c.execute('SELECT ? AS a', [1]);
  if (!c.reset) return 'no reset';
  await c.reset();
  return [(await c.query('SELECT @a AS a'))[0], (await c.execute('SELECT ? AS a', [2]))[0]];
});

// Time.
on('timeout: of a statement', {}, null, async (c) =>
  (await fails(() => c.query({ sql: 'SELECT SLEEP(3)', timeout: 200 })))[2]);
on('timeout: KILL QUERY from another', {}, null, (c) => connected({}, async (other) => {
  const slow = c.query('SELECT SLEEP(20) AS a').then(([rows]) => rows, (error) => [error.errno, error.sqlState]);
  await sleep(500);
  await other.query('KILL QUERY ?', [c.threadId]);
  return [await slow, (await c.query('SELECT 1 AS a'))[0]];
}));

// Files.
const csv = (text) => () => Readable.from([Buffer.from(text)]);
on('file: LOAD DATA LOCAL', {}, 'a INT, b VARCHAR(9)', async (c) => {
  const [result] = await c.query({ sql: "LOAD DATA LOCAL INFILE 'scene.csv' INTO TABLE t FIELDS TERMINATED BY ','", infileStreamFactory: csv('1,one\n2,two\n') });
  return [counts(result), (await c.query('SELECT * FROM t'))[0]];
});
on('file: of 5 MiB', {}, 'a VARCHAR(99)', async (c) => {
  // A piece is a packet of its own.
  const piece = (p) => Array.from({ length: 500 }, (_, i) => `${String(p * 500 + i).padStart(90, 'x')}\n`).join('');
  const pieces = Array.from({ length: 100 }, (_, p) => piece(p));
  const [result] = await c.query({ sql: "LOAD DATA LOCAL INFILE 'big' INTO TABLE t", infileStreamFactory: () => Readable.from(pieces.map((text) => Buffer.from(text))) });
  return [counts(result), (await c.query('SELECT COUNT(*) AS n, MAX(a) AS m FROM t'))[0]];
});
on('file: none is given', {}, 'a INT', async (c) => {
  const error = await fails(() => c.query("LOAD DATA LOCAL INFILE 'scene.csv' INTO TABLE t"));
  return [typeof error[2], (await c.query('SELECT COUNT(*) AS n FROM t'))[0]];
});

// Pools.
scene('pool: queries and limits', async () => {
  const pool = mysql.createPool({ ...config, connectionLimit: 3 });
  const all = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.query('SELECT ? AS i', [i])));
  const executed = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.execute('SELECT ? AS i', [i])));
  const connection = await pool.getConnection();
  await connection.query('SET @mine = 1');
  connection.release();
  await pool.end();
  return [all, executed].map((of) => of.map(([rows]) => rows[0].i));
});
scene('pool: none is left', async () => {
  const pool = mysql.createPool({ ...config, connectionLimit: 1, waitForConnections: false });
  const held = await pool.getConnection();
  const error = await fails(() => pool.query('SELECT 1'));
  held.release();
  await pool.end();
  return error[2];
});
scene('pool: one that ended is replaced', async () => {
  const pool = mysql.createPool({ ...config, connectionLimit: 1 });
  const first = await pool.getConnection();
  first.destroy();
  const [rows] = await pool.query('SELECT 1 AS a');
  await pool.end();
  return rows;
});
scene('pool: a storm', async () => {
  const pools = Array.from({ length: 10 }, () => mysql.createPool({ ...config, connectionLimit: 5 }));
  const work = async (pool, i) => {
    const connection = await pool.getConnection();
    try {
      await connection.query('SET @mark = ?', [i]);
      return (await connection.query('SELECT @mark = ? AS own', [i]))[0][0].own;
    } finally {
      connection.release();
    }
  };
  const all = await Promise.all(pools.flatMap((pool, p) => Array.from({ length: 50 }, (_, i) => work(pool, p * 50 + i))));
  await Promise.all(pools.map((pool) => pool.end()));
  return all.reduce((sum, own) => sum + own, 0);
});
scene('pool: a cluster', async () => {
  const cluster = mysql.createPoolCluster();
  cluster.add('ONE', config);
  cluster.add('TWO', config);
  const seen = [];
  for (const name of ['ONE', 'TWO', '*']) {
    const connection = await cluster.getConnection(name);
    seen.push((await connection.query('SELECT 1 AS a'))[0]);
    connection.release();
  }
  await cluster.end();
  return seen;
});

await run();
