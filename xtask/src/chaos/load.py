"""Mixed load by PyMySQL, without end: every row carries its session's marker, and every error is told.

Lines on stdout: `n COUNT` (answers that were right), `e CODE TEXT` (an error), `x TEXT` (what must never be).
SIGTERM ends it in good order.
"""
import os, random, signal, socket, struct, sys, tempfile, threading, time
import pymysql
from pymysql.constants import CLIENT

port, agent, worker, name, threads, patience = sys.argv[1:]
port, patience = int(port), float(patience)
stop, lock, right = threading.Event(), threading.Lock(), [0]
signal.signal(signal.SIGTERM, lambda *_: stop.set())


def say(line):
    with lock:
        print(line.replace("\n", " ")[:300], flush=True)


def crossed(what, mark, got):
    say("x %s of %s: %r" % (what, mark, got))


class Aborted(Exception):
    pass


class Session:
    def __init__(self, mark, kind):
        self.mark, self.kind = mark, kind
        self.db = pymysql.connect(
            host="127.0.0.1", port=port, user=kind, password=agent if kind == "agent" else worker, database="shop",
            connect_timeout=60, read_timeout=patience, write_timeout=patience, autocommit=True,
            local_infile=kind == "worker", client_flag=CLIENT.MULTI_STATEMENTS)

    def ask(self, sql, cursor=pymysql.cursors.Cursor):
        k = self.db.cursor(cursor)
        k.execute(sql)
        rows = k.fetchall()
        right[0] += 1
        return rows

    def marked(self, sql, count=None, cursor=pymysql.cursors.Cursor):
        rows = self.ask(sql, cursor)
        for row in rows:
            if row[0] != self.mark:
                crossed("a row", self.mark, row)
        if count is not None and len(rows) != count:
            crossed("%d rows instead of %d" % (len(rows), count), self.mark, sql[:60])
        return rows

    def begin(self):
        (left, _), = self.ask("SELECT @mark, 1")
        if left is not None:
            crossed("a variable", self.mark, left)
        self.ask("SET @mark = '%s'" % self.mark)

    # what both do

    def variable(self):
        self.marked("SELECT @mark", 1)

    def big(self):
        size = random.choice([70_000, 1 << 20, 17 << 20])
        (_, text), = self.marked("SELECT '%s', REPEAT('x', %d)" % (self.mark, size), 1)
        if len(text) != size:
            crossed("%d bytes" % len(text), self.mark, size)

    def long(self):
        size = random.choice([1000, 70_000, 3 << 20])
        (_, length), = self.marked("SELECT '%s', LENGTH('%s')" % (self.mark, "y" * size), 1)
        if length != size:
            crossed("a length", self.mark, length)

    def transaction(self):
        at = random.randint(1, 6000)
        self.ask("BEGIN")
        self.ask("UPDATE orders SET state = '%s' WHERE id = %d" % (self.mark[-16:], at))
        (_, state), = self.marked("SELECT '%s', state FROM orders WHERE id = %d" % (self.mark, at), 1)
        if state != self.mark[-16:]:
            crossed("a transaction", self.mark, state)
        self.ask("ROLLBACK")

    def several(self):
        k = self.db.cursor()
        k.execute("SELECT '%s', 1; SET @n = 1; SELECT '%s', 2, id FROM orders WHERE id < 9" % (self.mark, self.mark))
        seen = []
        while True:
            if k.description:
                seen += [row[:2] for row in k.fetchall()]
            if not k.nextset():
                break
        if seen != [(self.mark, 1)] + [(self.mark, 2)] * 8:
            crossed("several results", self.mark, seen)
        right[0] += 1

    def error(self):
        self.ask("INSERT INTO orders VALUES (1, 1, '2026-01-01', 'x', 1)")

    # the governed one

    def masked(self):
        low = random.randint(1, 1900)
        sql = "SELECT '%s', id, name, ssn FROM customers WHERE id BETWEEN %d AND %d"
        for row in self.marked(sql % (self.mark, low, low + 20), 21):
            if row[3] != "[redacted]":
                say("x not masked: %r" % (row,))

    def stream(self):
        sql = "SELECT '%s', a.id, a.ssn FROM customers a JOIN orders b ON b.id < 8"
        for row in self.marked(sql % self.mark, 14_000, pymysql.cursors.SSCursor):
            if row[2] != "[redacted]":
                say("x not masked: %r" % (row,))

    def denied(self):
        self.ask("SELECT id FROM customers WHERE ssn = '1'")

    def held(self):
        self.ask("DELETE FROM payments")

    # the ungoverned one

    def temporary(self):
        k = self.db.cursor()
        k.execute("CREATE TEMPORARY TABLE own (m VARCHAR(80), n INT)")
        k.execute("INSERT INTO own VALUES " + ", ".join("('%s', %d)" % (self.mark, n) for n in range(20)))
        self.marked("SELECT m, n FROM own", 20)
        self.ask("DROP TEMPORARY TABLE own")

    def file(self):
        self.ask("CREATE TEMPORARY TABLE loaded (m VARCHAR(80), n INT)")
        with tempfile.NamedTemporaryFile("w", prefix="chaos") as file:
            count = random.choice([10, 5000, 100_000])
            file.writelines("%s\t%d\n" % (self.mark, n) for n in range(count))
            file.flush()
            self.ask("LOAD DATA LOCAL INFILE '%s' INTO TABLE loaded" % file.name)
            self.marked("SELECT m, n FROM loaded", count, pymysql.cursors.SSCursor)
        self.ask("DROP TEMPORARY TABLE loaded")

    def locks(self):
        (holder, own), = self.ask("SELECT IS_USED_LOCK('%s'), CONNECTION_ID()" % self.mark)
        if holder not in (None, own):
            crossed("a lock", self.mark, holder)
        self.ask("SELECT GET_LOCK('%s', 0)" % self.mark)

    def raw_stream(self):
        self.marked("SELECT '%s', a.* FROM orders a JOIN orders b ON b.id < 4" % self.mark, 18_000, pymysql.cursors.SSCursor)

    def vanish(self):
        """Gone in the middle of an answer: reset, or without a word."""
        sql = random.choice(["SELECT '%s', a.*, b.* FROM orders a JOIN orders b ON b.id < 50" % self.mark, "SELECT SLEEP(2)"])
        self.db._execute_command(3, sql)
        time.sleep(random.random() / 20)
        if random.random() < 0.7:
            self.db._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.db._force_close()
        raise Aborted


BOTH = ["variable", "variable", "big", "long", "transaction", "several", "error"]
OPS = {"agent": BOTH * 2 + ["masked"] * 12 + ["stream"] + ["stream", "denied", "held"], "worker": BOTH + ["temporary", "file", "locks", "raw_stream"]}


def run(session):
    session.begin()
    for _ in range(random.randint(3, 25)):
        if stop.is_set():
            break
        if random.random() < 0.02:
            session.vanish()
        try:
            getattr(session, random.choice(OPS[session.kind]))()
        except pymysql.err.MySQLError as error:
            tell(error)
            if not session.db.open or error.args[0] in (1053, 1158, 1317, 1429, 1835, 2006, 2013, 3100):
                raise Aborted
            session.db.rollback()
            # What was half done would be in the way.
            if session.kind == "worker":
                session.ask("DROP TEMPORARY TABLE IF EXISTS own, loaded")
        time.sleep(random.random() / 30)
    session.db.close()


def tell(error):
    code = error.args[0] if error.args and isinstance(error.args[0], int) else -1
    text = str(error.args[-1]) if error.args else repr(error)
    if "timed out" in text:
        say("x hung: %s" % text)
    say("e %d %s" % (code, text))


def loop(thread):
    number = 0
    while not stop.is_set():
        number += 1
        try:
            run(Session("%s-%d-%d" % (name, thread, number), random.choice(["agent", "worker"])))
        except Aborted:
            pass
        except pymysql.err.MySQLError as error:
            tell(error)
            time.sleep(0.3)
        except OSError as error:
            say("e 2013 %s" % error)
            time.sleep(0.3)
        except Exception as error:
            say("x %s: %r" % (type(error).__name__, error))


for thread in range(int(threads)):
    threading.Thread(target=loop, args=(thread,)).start()
told = 0
while threading.active_count() > 1:
    time.sleep(1)
    now = right[0]
    say("n %d" % (now - told))
    told = now
