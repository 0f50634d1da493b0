"""psycopg2: libpq's simple queries, parameters put into the text by the driver."""
import io
import sys
import threading
import time

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

from tap import SESSION, TRANSACTIONS, Skip, concurrently, equal, restart_server, run


def connect(**settings):
    conn = psycopg2.connect("", **settings)
    conn.autocommit = True
    return conn


def rows(conn, sql, *arguments):
    with conn.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchall() if cursor.description else None


def value(conn, sql, *arguments):
    return rows(conn, sql, *arguments)[0][0]


def case_connect():
    conn = connect()
    assert conn.server_version >= 90000
    conn.close()


def case_simple_query():
    conn = connect()
    equal(rows(conn, "SELECT 1, 'two'"), [(1, "two")])
    equal(rows(conn, "SELECT 1; SELECT 2"), [(2,)])
    conn.close()


def case_parametrised_query():
    conn = connect()
    long_text = "x" * 300000
    row = rows(conn, "SELECT %s, %s, %s, %s, %s", 7, "täxt", psycopg2.Binary(b"\0\1"), None, long_text)[0]
    equal((row[0], row[1], bytes(row[2]), row[3], row[4]), (7, "täxt", b"\0\1", None, long_text))
    with conn.cursor() as cursor:
        psycopg2.extras.execute_values(cursor, "INSERT INTO item VALUES %s",
                                       [(n, str(n)) for n in range(1000)])
    equal(value(conn, "SELECT sum(id) FROM item WHERE name = id::text"), 499500)
    rows(conn, "DELETE FROM item")
    conn.close()


def case_prepared_statement_over_transactions():
    """psycopg2 has no interface for them: people use SQL's PREPARE."""
    one, two = connect(), connect()
    rows(one, "PREPARE plus (int) AS SELECT $1 + 1")
    rows(two, "PREPARE plus (int) AS SELECT $1 + 2")
    for n in range(30):
        equal(value(one, "EXECUTE plus (%s)", n), n + 1)
        equal(value(two, "EXECUTE plus (%s)", n), n + 2)
    rows(one, "DEALLOCATE plus")
    one.close()
    two.close()


def case_prepared_statement_over_a_server_restart():
    """What SQL prepared was the session's: the client is told, and connects anew."""
    conn = connect()
    rows(conn, "PREPARE twice (int) AS SELECT $1 * 2")
    restart_server()
    try:
        value(conn, "EXECUTE twice (1)")
        raise AssertionError("a statement outlived its server")
    except psycopg2.OperationalError:
        conn = connect()
    rows(conn, "PREPARE twice (int) AS SELECT $1 * 2")
    equal(value(conn, "EXECUTE twice (4)"), 8)
    conn.close()


def case_commit_and_rollback():
    conn = connect()
    conn.autocommit = False
    with conn:
        rows(conn, "INSERT INTO item VALUES (1, 'kept')")
    rows(conn, "INSERT INTO item VALUES (2, 'lost')")
    conn.rollback()
    rows(conn, "SAVEPOINT here")
    rows(conn, "INSERT INTO item VALUES (3, 'lost')")
    rows(conn, "ROLLBACK TO here")
    rows(conn, "INSERT INTO item VALUES (4, 'kept')")
    conn.commit()
    equal(rows(conn, "SELECT id FROM item ORDER BY id"), [(1,), (4,)])
    conn.close()


def case_error_and_recovery():
    conn = connect()
    try:
        rows(conn, "SELECT 1 / 0")
        raise AssertionError("no error")
    except psycopg2.errors.DivisionByZero:
        pass
    conn.autocommit = False
    try:
        rows(conn, "SELECT nonsense")
    except psycopg2.errors.UndefinedColumn:
        pass
    try:
        rows(conn, "SELECT 1")
        raise AssertionError("not aborted")
    except psycopg2.errors.InFailedSqlTransaction:
        pass
    conn.rollback()
    equal(value(conn, "SELECT 1"), 1)
    conn.close()


def case_copy_in_and_out():
    conn = connect()
    text = "".join(f"{n}\tname {n}\n" for n in range(5000))
    with conn.cursor() as cursor:
        cursor.copy_from(io.StringIO(text), "copied")
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", out)
        equal(out.getvalue(), text)
        try:
            cursor.copy_from(io.StringIO("no number\tx\n"), "copied")
            raise AssertionError("no error")
        except psycopg2.errors.InvalidTextRepresentation:
            pass
    equal(value(conn, "SELECT count(*) FROM copied"), 5000)
    conn.close()


def case_cancel():
    conn, other = connect(), connect()

    def cancel():
        while not value(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                               " AND query = 'SELECT pg_sleep(50)'"):
            time.sleep(0.01)
        conn.cancel()

    timer = threading.Thread(target=cancel)
    timer.start()
    try:
        rows(conn, "SELECT pg_sleep(50)")
        raise AssertionError("not cancelled")
    except psycopg2.errors.QueryCanceled:
        pass
    timer.join()
    equal(value(conn, "SELECT 1"), 1)
    conn.close()
    other.close()


def case_set_local():
    conn = connect()
    conn.autocommit = False
    rows(conn, "SET LOCAL work_mem = '7MB'")
    equal(value(conn, "SHOW work_mem"), "7MB")
    conn.commit()
    equal(value(conn, "SHOW work_mem"), "4MB")
    conn.close()


def case_set_of_a_reported_parameter():
    one, two = connect(), connect()
    rows(one, "SET TimeZone = 'Asia/Tokyo'")
    rows(two, "SET TimeZone = 'America/Lima'")
    two.set_client_encoding("LATIN1")
    # by SET default_transaction_…
    one.set_session(isolation_level="SERIALIZABLE", readonly=True)
    for _ in range(10):
        equal(value(one, "SHOW TimeZone"), "Asia/Tokyo")
        equal(value(two, "SHOW TimeZone"), "America/Lima")
        equal(value(two, "SELECT 'ä' || chr(246)"), "äö")
        equal(value(one, "SHOW transaction_read_only"), "on")
        equal(value(two, "SHOW transaction_isolation"), "read committed")
    one.close()
    two.close()


def case_set_of_another_parameter():
    one, two = connect(), connect()
    rows(one, "SET search_path = tenant_a")
    rows(one, "SET app.tenant = 'a'")
    rows(two, "SELECT set_config('search_path', 'tenant_b', false)")
    for _ in range(10):
        equal(value(one, "SELECT current_schema() || current_setting('app.tenant')"), "tenant_aa")
        equal(value(two, "SELECT current_schema()"), "tenant_b")
        assert not value(two, "SELECT current_setting('app.tenant', true)")
    one.close()
    two.close()


def case_startup_options():
    one, two = connect(options="-c statement_timeout=77s -c search_path=tenant_b"), connect()
    for _ in range(10):
        equal(value(one, "SHOW statement_timeout"), "77s")
        equal(value(one, "SELECT current_schema()"), "tenant_b")
        equal(value(two, "SHOW statement_timeout"), "0")
    one.close()
    two.close()


def case_session_state_that_pins():
    one, two = connect(), connect()
    rows(one, "CREATE TEMP TABLE mine AS SELECT 1 AS n")
    assert value(one, "SELECT pg_try_advisory_lock(42)")
    with one.cursor("held", withhold=True) as held:
        held.execute("SELECT generate_series(1, 3)")
        for _ in range(10):
            equal(value(one, "SELECT n FROM mine"), 1)
            assert not value(two, "SELECT pg_try_advisory_lock(42)")
        equal(held.fetchall(), [(1,), (2,), (3,)])
    assert value(one, "SELECT pg_advisory_unlock(42)")
    assert value(two, "SELECT pg_try_advisory_lock(42)")
    one.reset()  # ABORT, RESET ALL, SET SESSION AUTHORIZATION DEFAULT
    one.close()
    two.close()


def case_listen_and_notify():
    one, two = connect(), connect()
    rows(one, "LISTEN news")
    rows(two, "NOTIFY news, 'first'")
    two.autocommit = False
    rows(two, "SELECT pg_notify('news', 'second')")
    two.commit()
    end = time.monotonic() + 30
    while len(one.notifies) < 2 and time.monotonic() < end:
        one.poll()
        time.sleep(0.005)
    equal([(notify.channel, notify.payload) for notify in one.notifies],
          [("news", "first"), ("news", "second")])
    one.close()
    two.close()


def case_pipeline():
    raise Skip("psycopg2 has no pipelines")


def case_large_object():
    conn = connect()
    conn.autocommit = False
    data = bytes(range(256)) * 4000
    lobject = conn.lobject(0, "wb")
    number = lobject.oid
    lobject.write(data)
    lobject.close()
    conn.commit()
    lobject = conn.lobject(number, "rb")
    equal(lobject.read(), data)
    lobject.seek(256 * 10)
    equal(lobject.read(3), b"\0\1\2")
    lobject.close()
    conn.lobject(number, "n").unlink()
    conn.commit()
    conn.close()


def client_work(number):
    conn = connect()
    rows(conn, f"SET application_name = 'client {number}'")
    rows(conn, f"SET app.client = '{number}'")
    conn.autocommit = False
    for n in range(TRANSACTIONS):
        with conn:
            rows(conn, "INSERT INTO seen VALUES (%s, %s)", number, n)
            equal(rows(conn, "SELECT %s, %s, current_setting('application_name'), "
                             "current_setting('app.client')::int, count(*), max(n) "
                             "FROM seen WHERE client = %s", number, n, number),
                  [(number, n, f"client {number}", number, n + 1, n)])
    conn.close()


def case_20_clients_keep_to_themselves():
    concurrently(client_work)


if __name__ == "__main__":
    run(sys.modules[__name__])
