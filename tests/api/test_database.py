"""The schema: made by the migrations, what the code says, and brought up from every release."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from api.database import Database
from api.tables import Base, KeyRow
from autosparse.errors import ConfigError, StorageError


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
