"""SQLAlchemy with its defaults, on asyncpg and psycopg2: engines with pools of their own."""
import asyncio
import contextlib
import os
import sys

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, declarative_base

from tap import SESSION, equal, restart_server, run_own

Base = declarative_base()


class Person(Base):
    __tablename__ = "person"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50), nullable=False)


def address(driver):
    return f"postgresql+{driver}://app@127.0.0.1:{os.environ['PGPORT']}/app"


@contextlib.contextmanager
def using(**settings):
    engine = sa.create_engine(address("psycopg2"), **settings)
    try:
        yield engine
    finally:
        engine.dispose()


def async_engine(**settings):
    settings.setdefault("pool_size", 3)
    settings.setdefault("max_overflow", 0)
    return create_async_engine(address("asyncpg"), connect_args={"ssl": False}, **settings)


def case_create_tables():
    with using() as engine, engine.begin() as conn:
        Base.metadata.drop_all(conn)
        Base.metadata.create_all(conn)
        equal(sa.inspect(conn).get_columns("person")[1]["name"], "name")


def case_sessions_and_rollback():
    with using() as engine, Session(engine) as session:
        session.add_all(Person(name=f"name {n}") for n in range(100))
        session.commit()
        session.add(Person(name=None))
        try:
            session.flush()
            raise AssertionError("no error")
        except sa.exc.IntegrityError:
            session.rollback()
        equal(session.query(Person).count(), 100)


async def reads(engine, times):
    async def one(n):
        async with AsyncSession(engine) as session:
            row = await session.scalar(sa.select(Person.name).where(Person.id == n % 100 + 1))
            equal(row, f"name {n % 100}")
            async with session.begin_nested():
                await session.execute(sa.text("SELECT 1"))
            await session.commit()

    await asyncio.gather(*(one(n) for n in range(times)))


async def case_asyncpg_prepares_under_its_own_names():
    """Names like __asyncpg_stmt_1__ in every connection: no NullPool, no prepared_statement_name_func."""
    one, two = async_engine(), async_engine()
    await asyncio.gather(*(reads(engine, 200) for engine in (one, two)[: 1 if SESSION else 2]))
    await one.dispose()
    await two.dispose()


async def case_asyncpg_with_the_settings_for_other_poolers():
    engine = create_async_engine(address("asyncpg") + "?prepared_statement_cache_size=0", poolclass=sa.pool.NullPool,
                                 connect_args={"ssl": False, "statement_cache_size": 0})
    for _ in range(5):
        await reads(engine, 4)
    await engine.dispose()


async def case_schema_change_under_a_prepared_statement():
    """In a transaction PostgreSQL refuses the old plan; SQLAlchemy then forgets it. That is so without a pooler, too."""
    engine = async_engine(pool_size=1)
    await reads(engine, 30)
    async with engine.begin() as conn:
        await conn.execute(sa.text("ALTER TABLE person ALTER name TYPE text"))
    try:
        await reads(engine, 1)
    except sa.exc.DBAPIError as error:
        assert "cached statement plan is invalid" in str(error)
    await reads(engine, 30)
    await engine.dispose()


async def case_server_restart():
    engine = async_engine(pool_pre_ping=SESSION)
    await reads(engine, 20)
    await asyncio.to_thread(restart_server)
    await reads(engine, 20)
    await engine.dispose()


def case_server_side_cursor():
    with using() as engine, engine.connect() as conn:
        result = conn.execution_options(stream_results=True, max_row_buffer=10).execute(sa.select(Person.id))
        equal(len(result.fetchall()), 100)


def case_insert_many():
    with using() as engine, engine.begin() as conn:
        conn.execute(sa.insert(Person), [{"name": f"more {n}"} for n in range(2000)])
        equal(conn.scalar(sa.select(sa.func.count()).select_from(Person)), 2100)
        conn.execute(sa.delete(Person).where(Person.name.like("more %")))


def case_isolation_level():
    with using(isolation_level="SERIALIZABLE") as serializable, using() as plain:
        for _ in range(5):
            with serializable.connect() as one, plain.connect() as two:
                equal(one.get_isolation_level(), "SERIALIZABLE")
                equal(two.get_isolation_level(), "READ COMMITTED")


def case_search_path_of_a_tenant():
    """Set once for each connection of an engine: what people were told to use SET LOCAL for."""
    with using() as one, using() as two:
        tenants = {"tenant_a": one, "tenant_b": two}
        for name, engine in tenants.items():

            @sa.event.listens_for(engine, "connect", insert=True)
            def choose(connection, _, name=name):
                connection.autocommit = True
                connection.cursor().execute(f"SET SESSION search_path = {name}")
                connection.autocommit = False

        for _ in range(10):
            for name, engine in tenants.items():
                with engine.connect() as conn:
                    equal(conn.scalar(sa.text("SELECT current_schema()")), name)


if __name__ == "__main__":
    run_own(sys.modules[__name__])
