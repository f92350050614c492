"""The schema: made by the migrations, what the code says, and brought up from every release."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, func, insert, select

import api
from api.database import Database
from api.jobs import describe_job
from api.tables import Base, EventRow, JobRow, KeyRow, UploadRow
from autosparse.errors import ConfigError, StorageError

RELEASED = sorted((Path(__file__).parents[1] / "compat" / "schemas").glob("*.sql"))
"""A small database of every release that changed the schema, named after its revision."""


def test_the_migrations_make_what_the_code_says(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'service.sqlite3'}")
    database.upgrade()
    database.upgrade()  # nothing is left to do
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def _add_and_fail(database: Database, row: KeyRow) -> None:
    with database.writing() as session:
        session.add(row)
        session.flush()
        raise ZeroDivisionError


def test_what_fails_half_way_is_not_stored(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'service.sqlite3'}")
    database.upgrade()
    row = KeyRow(id="key_1", name="", digest=b"", scopes=[], created=0.0, revoked=None)
    with pytest.raises(ZeroDivisionError):
        _add_and_fail(database, row)
    with database.reading() as session:
        assert session.get(KeyRow, "key_1") is None
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "nodialect://x", "sqlite+nodriver:///x"])
def test_a_wrong_url_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        Database(url)


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nowhere' / 'service.sqlite3'}")
    with pytest.raises(StorageError, match="cannot be opened"):
        database.upgrade()
    database.close()


def at_revision(engine: Engine, revision: str) -> None:
    """Make an empty database what an earlier release made of it."""
    config = Config()
    config.set_main_option("script_location", str(Path(api.__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(current: Any, _: object) -> Any:
        return script._upgrade_revs(revision, current)

    with (
        engine.begin() as connection,
        EnvironmentContext(config, script, fn=steps) as environment,
    ):
        environment.configure(connection=connection)
        environment.run_migrations()


def copy(old: Path, engine: Engine) -> None:
    """Put the rows of a SQLite file into a database with the same schema."""
    source = create_engine(f"sqlite:///{old}")
    tables = MetaData()
    tables.reflect(source)
    with source.connect() as reading, engine.begin() as writing:
        for table in tables.sorted_tables:
            rows = [dict(row) for row in reading.execute(select(table)).mappings()]
            if rows and table.name != "alembic_version":
                writing.execute(insert(table), rows)
    source.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("released", RELEASED, ids=[path.stem for path in RELEASED])
def test_the_database_of_a_release_is_brought_up(
    request: pytest.FixtureRequest, tmp_path: Path, released: Path, kind: str
) -> None:
    """Each stored one has a row in every table, and all of them are there afterwards."""
    old = tmp_path / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(old)) as connection:
        connection.executescript(released.read_text())
    database = Database(f"sqlite:///{old}")
    if kind == "postgresql":
        postgres = request.getfixturevalue("postgres")
        database = Database(postgres.url(f"released{released.stem}"))
        at_revision(database.engine, released.stem)
        copy(old, database.engine)
    database.upgrade()
    with database.engine.connect() as connected:
        context = MigrationContext.configure(connected)
        assert compare_metadata(context, Base.metadata) == []
    with database.reading() as session:
        job = session.get_one(JobRow, "job_one")
        told = describe_job(session, job)
        assert (told.kind, told.state, told.verdict, told.kept) == (
            "search", "finished", "met", False,
        )  # fmt: skip
        assert told.best is not None
        assert told.request["latency_budget"] == "60%"
        assert session.scalar(select(func.count()).select_from(EventRow)) == 2
        assert session.get_one(UploadRow, "mdl_one").found["layers"] == 7
        assert session.get_one(KeyRow, "key_one").digest == b"\x00\xff"
    database.close()
