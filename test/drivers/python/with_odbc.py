"""psqlODBC by pyodbc, with its defaults: prepared on the server (UseServerSidePrepare), a savepoint around each
statement of a transaction (Protocol 7.4-2)."""
import glob
import os
import sys
import threading
import time

import pyodbc

from tap import OTHERS, SESSION, TRANSACTIONS, Skip, concurrently, equal, restart_server, run

LIBRARY = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")[0]
pyodbc.pooling = False


def connect(more="", **settings):
    settings.setdefault("autocommit", True)
    return pyodbc.connect(f"Driver={LIBRARY};Server=127.0.0.1;Port={os.environ['PGPORT']};Database=app;Uid=app;"
                          f"SSLmode=disable;{more}", **settings)


def value(conn, sql, *arguments):
    return conn.execute(sql, *arguments).fetchone()[0]


def refused(state, conn, sql, *arguments):
    try:
        conn.execute(sql, *arguments).fetchall()
    except pyodbc.Error as error:
        equal(error.args[0], state)
        return
    raise AssertionError(f"no error where {state} is due")


def case_connect():
    conn = connect()
    equal(conn.getinfo(pyodbc.SQL_DBMS_NAME), "PostgreSQL")
    conn.close()


def case_simple_query():
    conn = connect()
    equal([tuple(row) for row in conn.execute("SELECT 1, 'two'")], [(1, "two")])
    conn.close()


def case_parametrised_query():
    conn = connect()
    long_text = "x" * 100000
    row = conn.execute("SELECT ?::int, ?::text, ?::bytea, ?::int, ?::text", 7, "täxt", b"\0\1", None, long_text).fetchone()
    equal((row[0], row[1], bytes(row[2]), row[3], row[4]), (7, "täxt", b"\0\1", None, long_text))
    conn.cursor().executemany("INSERT INTO item VALUES (?, ?)", [(n, str(n)) for n in range(200)])
    equal(value(conn, "SELECT sum(id) FROM item WHERE name = id::text"), 19900)
    conn.execute("DELETE FROM item")
    conn.close()


def case_prepared_statement_over_transactions():
    conn, others = connect(autocommit=False), [connect(autocommit=False) for _ in range(OTHERS)]
    prepared, servers = conn.cursor(), set()
    for n in range(20):
        # the others take all servers, then one gives up its own: only that is free
        for other in others:
            other.execute("SELECT 1").fetchall()
        if others:
            others[n % OTHERS].commit()
        result, server = prepared.execute("SELECT ?::int + 1, pg_backend_pid()", n).fetchone()
        equal(result, n + 1)
        servers.add(server)
        conn.commit()
        for other in others:
            other.commit()
    equal(len(servers), OTHERS or 1)
    for each in (conn, *others):
        each.close()


def case_prepared_statement_over_a_server_restart():
    conn = connect()
    prepared = conn.cursor()
    equal(prepared.execute("SELECT ?::int * 2", 4).fetchone()[0], 8)
    restart_server()
    if SESSION:
        try:
            prepared.execute("SELECT ?::int * 2", 4)
            raise AssertionError("a session outlived its server")
        except pyodbc.Error:
            conn = connect()
            prepared = conn.cursor()
    for n in range(10):
        equal(prepared.execute("SELECT ?::int * 2", n).fetchone()[0], n * 2)
    conn.close()


def case_commit_and_rollback():
    conn = connect(autocommit=False)
    conn.execute("INSERT INTO item VALUES (?, 'kept')", 1)
    conn.commit()
    conn.execute("INSERT INTO item VALUES (?, 'lost')", 2)
    conn.rollback()
    equal([row[0] for row in conn.execute("SELECT id FROM item")], [1])
    conn.commit()
    conn.close()


def case_error_and_recovery():
    conn = connect()
    for _ in range(3):
        refused("22012", conn, "SELECT 1 / ?::int", 0)
    conn.autocommit = False
    # the statement alone is undone, to the driver's savepoint
    conn.execute("INSERT INTO item VALUES (10, 'kept')")
    refused("42703", conn, "SELECT nonsense")
    equal(value(conn, "SELECT count(*) FROM item WHERE id = 10"), 1)
    conn.rollback()
    equal(value(conn, "SELECT 1 / ?::int", 1), 1)
    conn.close()


def case_copy_in_and_out():
    raise Skip("ODBC has no COPY")


def case_cancel():
    conn, other = connect(), connect()
    cursor = conn.cursor()

    def cancel():
        while not value(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                               " AND query LIKE 'SELECT pg_sleep(50)%' AND pid <> pg_backend_pid()"):
            time.sleep(0.01)
        cursor.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        cursor.execute("SELECT pg_sleep(50)")
        raise AssertionError("not cancelled")
    except pyodbc.Error as error:
        assert error.args[0] in ("57014", "HY008"), error
    canceller.join()
    equal(value(conn, "SELECT 1"), 1)
    conn.close()
    other.close()


def case_set_local():
    conn = connect(autocommit=False)
    conn.execute("SET LOCAL work_mem = '7MB'")
    equal(value(conn, "SHOW work_mem"), "7MB")
    conn.commit()
    equal(value(conn, "SHOW work_mem"), "4MB")
    conn.close()


def case_set_of_a_reported_parameter():
    one, two = connect(), connect()
    one.execute("SET TimeZone = 'Asia/Tokyo'")
    two.execute("SET TimeZone = 'America/Lima'")
    for _ in range(10):
        equal(value(one, "SHOW TimeZone"), "Asia/Tokyo")
        equal(value(two, "SHOW TimeZone"), "America/Lima")
    one.close()
    two.close()


def case_set_of_another_parameter():
    one, two = connect("ConnSettings=SET search_path = tenant_a"), connect()
    one.execute("SET app.tenant = 'a'")
    two.execute("SELECT set_config('search_path', 'tenant_b', false)").fetchall()
    for _ in range(10):
        equal(value(one, "SELECT current_schema() || current_setting('app.tenant')"), "tenant_aa")
        equal(value(two, "SELECT current_schema()"), "tenant_b")
        assert not value(two, "SELECT current_setting('app.tenant', true)")
    one.close()
    two.close()


def case_startup_options():
    one, two = connect("pqopt={options='-c statement_timeout=77s'}"), connect()
    for _ in range(10):
        equal(value(one, "SHOW statement_timeout"), "77s")
        equal(value(two, "SHOW statement_timeout"), "0")
        equal(value(two, "SHOW extra_float_digits"), "2")  # the driver always asks for it
    one.close()
    two.close()


def case_session_state_that_pins():
    one, two = connect(), connect()
    one.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
    equal(value(one, "SELECT pg_try_advisory_lock(42)::int"), 1)
    for _ in range(10):
        equal(value(one, "SELECT n FROM mine"), 1)
        equal(value(two, "SELECT pg_try_advisory_lock(42)::int"), 0)
    equal(value(one, "SELECT pg_advisory_unlock(42)::int"), 1)
    equal(value(two, "SELECT pg_try_advisory_lock(42)::int"), 1)
    one.close()
    two.close()


def case_listen_and_notify():
    raise Skip("ODBC has no notifications")


def case_pipeline():
    raise Skip("ODBC has no pipelines")


def case_large_object():
    raise Skip("ODBC has no large object interface")


def client_work(number):
    conn = connect()
    conn.execute(f"SET application_name = 'client {number}'")
    conn.execute(f"SET app.client = '{number}'")
    conn.autocommit = False
    for n in range(TRANSACTIONS):
        conn.execute("INSERT INTO seen VALUES (?, ?)", number, n)
        row = conn.execute("SELECT concat_ws(' ', ?::int, ?::int, current_setting('application_name'), "
                           "current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = ?",
                           number, n, number).fetchone()
        equal(row[0], f"{number} {n} client {number} {number} {n + 1} {n}")
        conn.commit()
    conn.close()


def case_20_clients_keep_to_themselves():
    concurrently(client_work)


def case_declare_and_fetch():
    conn = connect("UseDeclareFetch=1;Fetch=50")
    equal(sum(row[0] for row in conn.execute("SELECT generate_series(1, 1000)")), 500500)
    conn.close()


if __name__ == "__main__":
    run(sys.modules[__name__], ["declare and fetch"])
