"""psycopg 3 with its defaults: statements are prepared by themselves after a few executions."""
import asyncio
import sys
import threading
import time

import psycopg

from tap import CLIENTS, OTHERS, SESSION, TRANSACTIONS, Skip, equal, restart_server, run


def connect(**settings):
    return psycopg.connect("", autocommit=True, **settings)


def value(conn, sql, *arguments, **settings):
    return conn.execute(sql, arguments or None, **settings).fetchone()[0]


def case_connect():
    with connect() as conn:
        equal(conn.info.status, psycopg.pq.ConnStatus.OK)
        assert conn.info.server_version >= 90000


def case_simple_query():
    with connect() as conn:
        equal(conn.execute("SELECT 1, 'two'").fetchall(), [(1, "two")])
        equal(conn.execute("SELECT").fetchall(), [()])


def case_parametrised_query():
    with connect() as conn:
        long_text = "x" * 300000
        row = conn.execute(
            "SELECT %s::int, %s::text, %b::bytea, %s::int, %s::text",
            (7, "täxt", b"\0\1", None, long_text),
        ).fetchone()
        equal(row, (7, "täxt", b"\0\1", None, long_text))


def case_prepared_statement_over_transactions():
    conn, others = connect(), [connect() for _ in range(OTHERS)]
    servers = set()
    for n in range(20):
        # the others take all servers, then one gives up its own: only that is free
        for other in others:
            other.execute("BEGIN")
        if others:
            others[n % OTHERS].execute("COMMIT")
        with conn.transaction():
            equal(value(conn, "SELECT %s::int + 1", n, prepare=True), n + 1)
            # prepared by itself from the fifth time on
            equal(value(conn, "SELECT %s::text || '!'", str(n)), f"{n}!")
            servers.add(value(conn, "SELECT pg_backend_pid()", prepare=True))
        for other in others:
            other.execute("COMMIT")
    equal(len(servers), OTHERS or 1)
    for other in others:
        other.close()
    conn.close()


def case_prepared_statement_over_a_server_restart():
    conn = connect()
    for n in range(10):
        equal(value(conn, "SELECT %s::int * 2", n, prepare=True), n * 2)
    restart_server()
    if SESSION:
        try:
            value(conn, "SELECT %s::int * 2", 1, prepare=True)
            raise AssertionError("a session outlived its server")
        except psycopg.OperationalError:
            conn = connect()
    for n in range(10):
        equal(value(conn, "SELECT %s::int * 2", n, prepare=True), n * 2)
    conn.close()


def case_commit_and_rollback():
    with connect() as conn:
        with conn.transaction():
            conn.execute("INSERT INTO item VALUES (1, 'kept')")
        with conn.transaction(force_rollback=True):
            conn.execute("INSERT INTO item VALUES (2, 'lost')")
        with conn.transaction():
            with conn.transaction(force_rollback=True):  # a savepoint
                conn.execute("INSERT INTO item VALUES (3, 'lost')")
            conn.execute("INSERT INTO item VALUES (4, 'kept')")
        equal(conn.execute("SELECT id FROM item ORDER BY id").fetchall(), [(1,), (4,)])


def case_error_and_recovery():
    with connect() as conn:
        for prepare in (False, True):
            try:
                conn.execute("SELECT 1 / %s", (0,), prepare=prepare)
                raise AssertionError("no error")
            except psycopg.errors.DivisionByZero:
                pass
        conn.autocommit = False
        try:
            conn.execute("SELECT nonsense")
        except psycopg.errors.UndefinedColumn:
            pass
        try:
            conn.execute("SELECT 1")
            raise AssertionError("not aborted")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        conn.rollback()
        equal(value(conn, "SELECT 1"), 1)


def case_copy_in_and_out():
    rows = [(n, f"name {n}") for n in range(5000)]
    with connect() as conn:
        with conn.cursor().copy("COPY copied FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        with conn.cursor().copy("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            equal(list(copy.rows()), rows)
        try:
            with conn.cursor().copy("COPY copied FROM STDIN") as copy:
                copy.write_row(("no number", ""))
            raise AssertionError("no error")
        except psycopg.errors.InvalidTextRepresentation:
            pass
        equal(value(conn, "SELECT count(*) FROM copied"), 5000)


def case_cancel():
    with connect() as conn:
        timer = threading.Thread(target=lambda: (running(), conn.cancel()))

        def running():
            with connect() as other:
                while not value(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                       " AND query = 'SELECT pg_sleep(50)'"):
                    time.sleep(0.01)

        timer.start()
        try:
            conn.execute("SELECT pg_sleep(50)")
            raise AssertionError("not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        timer.join()
        equal(value(conn, "SELECT 1"), 1)


def case_set_local():
    with connect() as conn:
        with conn.transaction():
            conn.execute("SET LOCAL work_mem = '7MB'")
            equal(value(conn, "SHOW work_mem"), "7MB")
        equal(value(conn, "SHOW work_mem"), "4MB")


def case_set_of_a_reported_parameter():
    with connect() as one, connect() as two:
        one.execute("SET TimeZone = 'Asia/Tokyo'")
        two.execute("SET TimeZone = 'America/Lima'")
        for _ in range(10):
            equal(value(one, "SHOW TimeZone"), "Asia/Tokyo")
            equal(value(two, "SHOW TimeZone"), "America/Lima")
        equal(one.info.parameter_status("TimeZone"), "Asia/Tokyo")
        equal(str(value(one, "SELECT now()").tzinfo), "Asia/Tokyo")


def case_set_of_another_parameter():
    with connect() as one, connect() as two:
        one.execute("SET search_path = tenant_a")
        one.execute("SET app.tenant = 'a'")
        two.execute("SELECT set_config('search_path', 'tenant_b', false)")
        for _ in range(10):
            equal(value(one, "SELECT current_schema() || current_setting('app.tenant')"), "tenant_aa")
            equal(value(two, "SELECT current_schema()"), "tenant_b")
            assert value(two, "SELECT current_setting('app.tenant', true)") in (None, "")


def case_startup_options():
    with connect(options="-c statement_timeout=77s -c search_path=tenant_b") as one, connect() as two:
        for _ in range(10):
            equal(value(one, "SHOW statement_timeout"), "77s")
            equal(value(one, "SELECT current_schema()"), "tenant_b")
            equal(value(two, "SHOW statement_timeout"), "0")


def case_session_state_that_pins():
    with connect() as one, connect() as two:
        one.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
        assert value(one, "SELECT pg_try_advisory_lock(42)")
        one.execute("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
        for _ in range(10):
            equal(value(one, "SELECT n FROM mine"), 1)
            assert not value(two, "SELECT pg_try_advisory_lock(42)")
        equal(one.execute("FETCH ALL FROM held").fetchall(), [(1,), (2,), (3,)])
        assert value(one, "SELECT pg_advisory_unlock(42)")
        assert value(two, "SELECT pg_try_advisory_lock(42)")


def case_listen_and_notify():
    with connect() as one, connect() as two:
        one.execute("LISTEN news")
        two.execute("NOTIFY news, 'first'")
        with two.transaction():
            two.execute("SELECT pg_notify('news', 'second')")
        seen = []
        for notify in one.notifies():
            seen.append((notify.channel, notify.payload))
            if len(seen) == 2:
                break
        equal(seen, [("news", "first"), ("news", "second")])


def case_pipeline():
    if not psycopg.Pipeline.is_supported():
        raise Skip("libpq is too old")
    with connect() as conn:
        with conn.pipeline():
            cursors = [conn.execute("SELECT %s::int", (n,)) for n in range(200)]
        equal([cursor.fetchone()[0] for cursor in cursors], list(range(200)))
        try:
            with conn.pipeline() as pipeline:
                first = conn.execute("SELECT 1")
                pipeline.sync()
                conn.execute("SELECT 1 / 0")
                conn.execute("SELECT 3")
                pipeline.sync()
            raise AssertionError("no error")
        except psycopg.errors.DivisionByZero:
            pass
        equal(first.fetchone()[0], 1)
        equal(value(conn, "SELECT 4"), 4)


def case_large_object():
    raise Skip("psycopg 3 has no large object interface")


async def client_work(number):
    conn = await psycopg.AsyncConnection.connect("", autocommit=True)
    async with conn:
        await conn.execute(f"SET application_name = 'client {number}'")
        await conn.execute(f"SET app.client = '{number}'")
        for n in range(TRANSACTIONS):
            async with conn.transaction():
                await conn.execute("INSERT INTO seen VALUES (%s, %s)", (number, n))
                cursor = await conn.execute(
                    "SELECT %s::int, %s::int, current_setting('application_name'), "
                    "current_setting('app.client')::int, count(*), max(n) FROM seen WHERE client = %s",
                    (number, n, number),
                )
                equal(await cursor.fetchone(),
                      (number, n, f"client {number}", number, n + 1, n))


async def case_20_clients_keep_to_themselves():
    await asyncio.gather(*(client_work(number) for number in range(CLIENTS)))


def case_statements_are_deallocated():
    """Beyond prepared_max, psycopg deallocates the oldest by SQL."""
    with connect() as conn:
        conn.prepared_max = 3
        for _ in range(3):
            for n in range(8):
                equal(value(conn, f"SELECT %s::int + {n}", 1, prepare=True), n + 1)


def case_server_side_cursor():
    with connect() as conn:
        with conn.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 1000)")
            equal(value(conn, "SELECT 5"), 5)
            equal(len(cursor.fetchall()), 1000)


if __name__ == "__main__":
    run(sys.modules[__name__], ["statements are deallocated", "server side cursor"])
