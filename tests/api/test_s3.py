"""The artifacts' store over the S3 protocol, with a server that goes away in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.artifact_store import ArtifactStore
from api.artifacts import Artifact
from autosparse.errors import StorageError
from tests.api.queue_world import RESULT, QueueWorld
from tests.api.s3_store import S3Store
from tests.api.test_storage import delivering

pytestmark = pytest.mark.slow
WEIGHTS = bytes(range(256)) * (6 << 12)  # more than what is read at once
JOB = "job_x"


@pytest.fixture(autouse=True)
def _impatient(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)


def files(directory: Path, **contents: bytes) -> dict[str, Artifact]:
    """What a job delivers."""
    made = {}
    for name, content in contents.items():
        path = directory / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        made[name] = Artifact(path, path.name)
    return made


def read(store: ArtifactStore) -> dict[str, bytes]:
    """What the job delivered, each file held against its digest."""
    found = {}
    for name, one in store.list(JOB).items():
        with store.open(JOB, name, one.sha256) as file:
            found[name] = file.read()
        assert hashlib.sha256(found[name]).hexdigest() == one.sha256
        assert len(found[name]) == one.size_bytes
    return found


class GoingAway(dict[str, Artifact]):
    """Files of which the second one finds nobody."""

    def __init__(self, files: dict[str, Artifact], server: S3Store) -> None:
        super().__init__(files)
        self._server = server
        self._asked = 0

    def items(self) -> Iterator[tuple[str, Artifact]]:  # type: ignore[override]
        self._asked += 1
        for number, one in enumerate(super().items()):
            # they are gone through once to list them, and once more to send them
            if self._asked == 2 and number == 1:
                self._server.stop()
            yield one


def test_the_environment_says_where_and_who(s3: str, tmp_path: Path) -> None:
    """And a bucket that is not there is made."""
    store = ArtifactStore(s3)
    assert store.list(JOB) == {}
    store.put(JOB, files(tmp_path, weights=WEIGHTS, report=b"<html>"))
    assert read(store) == {"weights": WEIGHTS, "report": b"<html>"}
    (weights, _) = store.list(JOB).values()
    with store.open(JOB, "weights", weights.sha256) as file:
        file.seek(5 << 20)
        assert file.read(1000) == WEIGHTS[5 << 20 : (5 << 20) + 1000]
        file.seek(-7, 2)
        assert file.read() == WEIGHTS[-7:]
    store.remove(JOB)
    assert read(store) == {}


def test_what_another_server_stores_is_seen_at_once(s3: str, tmp_path: Path) -> None:
    """Listings are not remembered: what one removes must not hide from another what is there."""
    one, other = ArtifactStore(s3), ArtifactStore(s3)
    other.remove(JOB)
    one.put(JOB, files(tmp_path, report=b"one"))
    other.remove(JOB)
    assert one.list(JOB) == {}


def test_an_outage_in_the_middle_loses_nothing(s3: str, s3_store: S3Store, tmp_path: Path) -> None:
    store = ArtifactStore(s3)
    store.put(JOB, files(tmp_path, report=b"first", weights=b"old"))
    again = files(tmp_path, report=b"second", weights=WEIGHTS)
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        store.put(JOB, GoingAway(again, s3_store))
    assert "127.0.0.1" not in caught.value.message
    assert "runs" in caught.value.hint
    with pytest.raises(StorageError, match="cannot be reached"):
        store.list(JOB)
    s3_store.start()
    assert read(store) == {"report": b"first", "weights": b"old"}
    store.put(JOB, again)
    assert read(store) == {"report": b"second", "weights": WEIGHTS}


def test_an_outage_while_a_file_is_read(s3: str, s3_store: S3Store, tmp_path: Path) -> None:
    store = ArtifactStore(s3)
    store.put(JOB, files(tmp_path, weights=WEIGHTS * 4))
    (one,) = store.list(JOB).values()
    with store.open(JOB, "weights", one.sha256) as file:
        assert file.read(10) == WEIGHTS[:10]
        s3_store.stop()
        with pytest.raises(StorageError, match="cannot be reached"):
            file.read()
    s3_store.start()
    assert read(store) == {"weights": WEIGHTS * 4}


def test_a_job_waits_for_a_store_that_is_away(
    s3: str, s3_store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_AWAY_SECONDS", "_STORE_AWAY_SECONDS"):
        monkeypatch.setattr(f"api.runner.{name}", 0.05)
    world = QueueWorld(tmp_path / "home", artifacts=s3, max_attempts=1)
    job = world.job([RESULT])
    expected = delivering(world.files.job(job), "{}")
    s3_store.stop()
    with world.running():
        world.until(lambda: world.states(job).count("running") > 2)
        s3_store.start()
        assert world.ended(job) == ["finished"]
    assert ArtifactStore(s3).list(job).keys() == expected.keys()
    world.database.close()
