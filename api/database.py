"""The connection to the database: SQLite with one writer, or PostgreSQL; and its schema."""

from __future__ import annotations

import re
import secrets
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionFreeError
from sqlalchemy.orm import Session

from api.tables import Base
from autosparse.errors import ConfigError, StorageError

_MIGRATIONS = Path(__file__).with_name("migrations")
_ALPHABET = string.ascii_letters + string.digits
_SCHEMA_LOCK = 0x4155544F  # any number that nobody else takes
_BUSY_SECONDS = 20
_CACHED_KIB = 256
ID_PATTERN = r"^[a-z]{2,6}_[A-Za-z0-9]{1,32}$"
"""What every identifier looks like."""
_ID = re.compile(ID_PATTERN.removesuffix("$"))


def new_id(prefix: str) -> str:
    """An identifier that cannot be guessed, fit for a URL and a file name."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(22))


def is_id(text: str) -> bool:
    """Whether something may be an identifier; what is none is asked of no database.

    PostgreSQL, for one, takes no text with a zero in it.
    """
    return _ID.fullmatch(text) is not None


class Database:
    """Transactions that read, and transactions that write.

    On SQLite a writing transaction begins as one, so that two of them wait for each other instead
    of failing half-way.

    Raises:
        ConfigError: the URL is none, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self.engine: Engine = create_engine(url, **_options(url))
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigError(
                f"the database's URL cannot be used: {error}",
                hint="give sqlite:///FILE, or postgresql+psycopg://USER@HOST/NAME with psycopg "
                "installed",
            ) from error
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for looking."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are stored together at the end, or not at all."""
        engine = self.engine.execution_options(writes=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def hold(self, session: Session, what: str) -> None:
        """Keep others away from something until this writing transaction ends.

        SQLite has one writer anyway.
        """
        if session.get_bind().dialect.name == "postgresql":
            session.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": what}
            )

    def upgrade(self) -> None:
        """Bring the schema to this release's, from that of any earlier one.

        Raises:
            StorageError: the database cannot be opened.
        """
        try:
            with self.engine.execution_options(writes=True).begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
                _migrate(connection)
        except OperationalError as error:
            raise StorageError(
                f"the database cannot be opened: {error.orig}",
                hint="make its directory writable, or see that its server runs",
            ) from error

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def clock_of(session: Session) -> float:
    """Seconds since 1970 by the one clock that leases are compared with.

    That is PostgreSQL's, so that the clocks of its clients need not agree; SQLite is for the
    processes of one machine, which have one clock.
    """
    if session.get_bind().dialect.name == "postgresql":
        asked = text("SELECT extract(epoch FROM clock_timestamp())")
        return float(session.execute(asked).scalar_one())
    return time.time()


def why_away(error: Exception) -> str | None:
    """Why the database does not answer for the moment; None where something else is wrong.

    That is no server, a connection that was closed, a writer that is not done, or no connection
    that is free. Whatever the database said itself of what it was asked is a bug of ours.
    """
    if isinstance(error, NoConnectionFreeError):
        return str(error)
    if isinstance(error, DBAPIError) and (
        isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
    ):
        return str(error.orig)  # without what was asked, which may hold what nobody is to read
    return None


def _options(url: str) -> dict[str, Any]:
    # as many connections as there are threads that answer requests; the one that was used last is
    # used next, since each has memory of its own
    pool = {"pool_size": 10, "max_overflow": 40, "pool_use_lifo": True}
    if url.startswith("sqlite"):
        return {**pool, "connect_args": {"timeout": _BUSY_SECONDS, "check_same_thread": False}}
    return {**pool, "pool_pre_ping": True}


def _set_up_sqlite(connection: DBAPIConnection, _: object) -> None:
    # the driver's own idea of when a transaction begins is switched off: see _begin_sqlite
    connection.isolation_level = None
    cursor = connection.cursor()
    # pages that one connection keeps are of use to no other, and the system keeps them anyway
    few = f"cache_size=-{_CACHED_KIB}"
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", few):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _: object) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(
            connection=connection, target_metadata=Base.metadata, transactional_ddl=True
        )
        environment.run_migrations()
