"""asyncpg with its defaults: every statement is prepared under a name and kept (statement_cache_size)."""
import asyncio
import io
import sys

import asyncpg

from tap import CLIENTS, OTHERS, SESSION, TRANSACTIONS, Skip, equal, restart_server, run


def connect(**settings):
    return asyncpg.connect(host="127.0.0.1", timeout=30, ssl=False, **settings)


async def case_connect():
    conn = await connect()
    assert conn.get_server_version().major >= 9
    await conn.close()


async def case_simple_query():
    conn = await connect()
    equal(tuple(await conn.fetchrow("SELECT 1, 'two'")), (1, "two"))
    equal(await conn.execute("SELECT 1; SELECT 2"), "SELECT 1")
    await conn.close()


async def case_parametrised_query():
    conn = await connect()
    long_text = "x" * 300000
    row = await conn.fetchrow("SELECT $1::int, $2::text, $3::bytea, $4::int, $5::text, $6::int[]",
                              7, "täxt", b"\0\1", None, long_text, [1, 2])
    equal(tuple(row), (7, "täxt", b"\0\1", None, long_text, [1, 2]))
    await conn.execute("DELETE FROM item")
    await conn.executemany("INSERT INTO item VALUES ($1, $2)", [(n, str(n)) for n in range(1000)])
    equal(await conn.fetchval("SELECT sum(id) FROM item WHERE name = id::text"), 499500)
    await conn.execute("DELETE FROM item")
    await conn.close()


async def case_prepared_statement_over_transactions():
    conn, others = await connect(), [await connect() for _ in range(OTHERS)]
    prepared = await conn.prepare("SELECT $1::int + 1, pg_backend_pid()")
    # prepare() sends Flush, not Sync: the server stays with its client until the first execution
    servers = {(await prepared.fetchrow(0))[1]}
    for n in range(20):
        # the others take all servers, then one gives up its own: only that is free
        for other in others:
            await other.execute("BEGIN")
        if others:
            await others[n % OTHERS].execute("COMMIT")
        async with conn.transaction():
            result, server = await prepared.fetchrow(n)
            equal(result, n + 1)
            servers.add(server)
            # the cache of statements
            equal(await conn.fetchval("SELECT $1::text || '!'", str(n)), f"{n}!")
        for other in others:
            await other.execute("COMMIT")
    equal(len(servers), OTHERS or 1)
    for each in (conn, *others):
        await each.close()


async def case_prepared_statement_over_a_server_restart():
    conn = await connect()
    prepared = await conn.prepare("SELECT $1::int * 2")
    equal(await prepared.fetchval(4), 8)
    await asyncio.to_thread(restart_server)
    if SESSION:
        try:
            await prepared.fetchval(4)
            raise AssertionError("a session outlived its server")
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError,
                asyncpg.AdminShutdownError, ConnectionError):
            conn = await connect()
            prepared = await conn.prepare("SELECT $1::int * 2")
    for n in range(10):
        equal(await prepared.fetchval(n), n * 2)
    await conn.close()


async def case_commit_and_rollback():
    conn = await connect()
    await conn.execute("DELETE FROM item")
    async with conn.transaction():
        await conn.execute("INSERT INTO item VALUES (1, 'kept')")
    transaction = conn.transaction(isolation="serializable")
    await transaction.start()
    await conn.execute("INSERT INTO item VALUES (2, 'lost')")
    await transaction.rollback()
    async with conn.transaction():
        savepoint = conn.transaction()
        await savepoint.start()
        await conn.execute("INSERT INTO item VALUES (3, 'lost')")
        await savepoint.rollback()
        await conn.execute("INSERT INTO item VALUES (4, 'kept')")
    equal([row[0] for row in await conn.fetch("SELECT id FROM item ORDER BY id")], [1, 4])
    await conn.close()


async def case_error_and_recovery():
    conn = await connect()
    for _ in range(3):
        try:
            await conn.fetchval("SELECT 1 / $1::int", 0)
            raise AssertionError("no error")
        except asyncpg.DivisionByZeroError:
            pass
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.fetchval("SELECT nonsense")
    except asyncpg.UndefinedColumnError:
        pass
    try:
        await conn.fetchval("SELECT 1")
        raise AssertionError("not aborted")
    except asyncpg.InFailedSQLTransactionError:
        pass
    await transaction.rollback()
    equal(await conn.fetchval("SELECT 1"), 1)
    await conn.close()


async def case_copy_in_and_out():
    conn = await connect()
    rows = [(n, f"name {n}") for n in range(5000)]
    equal(await conn.copy_records_to_table("copied", records=rows), "COPY 5000")
    out = io.BytesIO()
    await conn.copy_from_query("SELECT * FROM copied ORDER BY id", output=out)
    equal(out.getvalue().decode(), "".join(f"{n}\t{name}\n" for n, name in rows))
    try:
        await conn.copy_to_table("copied", source=io.BytesIO(b"no number\tx\n"))
        raise AssertionError("no error")
    except asyncpg.InvalidTextRepresentationError:
        pass
    equal(await conn.fetchval("SELECT count(*) FROM copied"), 5000)
    await conn.close()


async def case_cancel():
    conn, other = await connect(), await connect()
    # a deadline of the driver's own is a CancelRequest
    try:
        await conn.fetchval("SELECT pg_sleep(50)", timeout=0.3)
        raise AssertionError("not cancelled")
    except asyncio.TimeoutError:
        pass
    equal(await conn.fetchval("SELECT 1"), 1)
    while await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                               " AND query LIKE 'SELECT pg_sleep%'"):
        await asyncio.sleep(0.01)
    await conn.close()
    await other.close()


async def case_set_local():
    conn = await connect()
    async with conn.transaction():
        await conn.execute("SET LOCAL work_mem = '7MB'")
        equal(await conn.fetchval("SHOW work_mem"), "7MB")
    equal(await conn.fetchval("SHOW work_mem"), "4MB")
    await conn.close()


async def case_set_of_a_reported_parameter():
    one, two = await connect(), await connect()
    await one.execute("SET TimeZone = 'Asia/Tokyo'")
    await two.execute("SET TimeZone = 'America/Lima'")
    for _ in range(10):
        equal(await one.fetchval("SHOW TimeZone"), "Asia/Tokyo")
        equal(await two.fetchval("SHOW TimeZone"), "America/Lima")
    equal(one.get_settings().TimeZone, "Asia/Tokyo")
    await one.close()
    await two.close()


async def case_set_of_another_parameter():
    one, two = await connect(), await connect()
    await one.execute("SET search_path = tenant_a")
    await one.execute("SET app.tenant = 'a'")
    await two.execute("SELECT set_config('search_path', 'tenant_b', false)")
    for _ in range(10):
        equal(await one.fetchval("SELECT current_schema() || current_setting('app.tenant')"),
              "tenant_aa")
        equal(await two.fetchval("SELECT current_schema()"), "tenant_b")
        assert not await two.fetchval("SELECT current_setting('app.tenant', true)")
    await one.close()
    await two.close()


async def case_startup_options():
    one = await connect(server_settings={"statement_timeout": "77s", "search_path": "tenant_b",
                                         "jit": "off"})
    two = await connect()
    for _ in range(10):
        equal(await one.fetchval("SHOW statement_timeout"), "77s")
        equal(await one.fetchval("SELECT current_schema()"), "tenant_b")
        equal(await two.fetchval("SHOW statement_timeout"), "0")
    await one.close()
    await two.close()


async def case_session_state_that_pins():
    one, two = await connect(), await connect()
    await one.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
    assert await one.fetchval("SELECT pg_try_advisory_lock(42)")
    await one.execute("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
    for _ in range(10):
        equal(await one.fetchval("SELECT n FROM mine"), 1)
        assert not await two.fetchval("SELECT pg_try_advisory_lock(42)")
    equal([row[0] for row in await one.fetch("FETCH ALL FROM held")], [1, 2, 3])
    # what asyncpg's pool does with a connection that comes back
    await one.reset()
    assert await two.fetchval("SELECT pg_try_advisory_lock(42)")
    await one.close()
    await two.close()


async def case_listen_and_notify():
    one, two = await connect(), await connect()
    seen = asyncio.Queue()
    await one.add_listener("news", lambda *notify: seen.put_nowait(notify[2:]))
    await two.execute("NOTIFY news, 'first'")
    async with two.transaction():
        await two.execute("SELECT pg_notify('news', 'second')")
    equal([await seen.get(), await seen.get()], [("news", "first"), ("news", "second")])
    await one.close()
    await two.close()


async def case_pipeline():
    raise Skip("asyncpg has no interface for pipelines (executemany is shown above)")


async def case_large_object():
    raise Skip("asyncpg has no large object interface")


async def client_work(number):
    conn = await connect()
    await conn.execute(f"SET application_name = 'client {number}'")
    await conn.execute(f"SET app.client = '{number}'")
    for n in range(TRANSACTIONS):
        async with conn.transaction():
            await conn.execute("INSERT INTO seen VALUES ($1, $2)", number, n)
            row = await conn.fetchrow(
                "SELECT $1::int, $2::int, current_setting('application_name'), "
                "current_setting('app.client')::int, count(*), max(n) FROM seen "
                "WHERE client = $1", number, n)
            equal(tuple(row), (number, n, f"client {number}", number, n + 1, n))
    await conn.close()


async def case_20_clients_keep_to_themselves():
    await asyncio.gather(*(client_work(number) for number in range(CLIENTS)))


async def case_pool():
    """asyncpg's own pool: between its users a connection is reset, by several statements in one."""
    async def use(pool, number):
        async with pool.acquire() as conn:
            equal(await conn.fetchval("SELECT current_setting('app.person', true)") or "", "")
            await conn.execute(f"SET app.person = '{number}'")
            equal(await conn.fetchval("SELECT current_setting('app.person')"), str(number))

    async with asyncpg.create_pool(host="127.0.0.1", ssl=False, min_size=1, max_size=3) as pool:
        await asyncio.gather(*(use(pool, number) for number in range(100)))


async def case_type_introspection():
    """Types are looked up on first use, by statements that asyncpg prepares between ours."""
    one, two = await connect(), await connect()
    await one.execute("CREATE TYPE colour AS ENUM ('red', 'blue'); CREATE DOMAIN small AS int")
    equal(await two.fetchval("SELECT $1::colour[]", ["red", "blue"]), ["red", "blue"])
    equal(await one.fetchval("SELECT (1, 'x')::item"), (1, "x"))
    equal(await two.fetchval("SELECT (1, 'x')::item"), (1, "x"))
    await one.close()
    await two.close()


async def case_cursor():
    conn = await connect()
    async with conn.transaction():
        numbers = [row[0] async for row in conn.cursor("SELECT generate_series(1, 500)")]
    equal(numbers, list(range(1, 501)))
    await conn.close()


async def case_schema_change_under_a_prepared_statement():
    one, two = await connect(), await connect()
    await one.execute("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
    equal(tuple(await two.fetchrow("SELECT * FROM changing")), (1,))
    await one.execute("ALTER TABLE changing ADD b text DEFAULT 'b'")
    # asyncpg itself drops its cache at this error, and prepares again
    equal(tuple(await two.fetchrow("SELECT * FROM changing")), (1, "b"))
    await one.close()
    await two.close()


if __name__ == "__main__":
    run(sys.modules[__name__],
        ["pool", "type introspection", "cursor", "schema change under a prepared statement"])
