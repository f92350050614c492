"""Snapshots of a directory that is being written to: whole, sent in parts, and never half there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from api import snapshots
from api.remote_place import opened_place
from api.snapshot_store import SnapshotStore
from api.snapshots import SnapshotMaker, goes_on_from, restore
from autosparse.errors import StorageError
from tests.api.test_storage import no_room

JOB = "job_x"
WEIGHTS = np.random.default_rng(7).bytes(10 << 20)  # three pieces


class Counting(SnapshotStore):
    """Tells the sizes of what it is sent."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent: list[int] = []

    def write(self, job: str, pieces: Mapping[str, bytes]) -> None:
        self.sent += map(len, pieces.values())
        super().write(job, pieces)


@pytest.fixture(params=["memory", "disk", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return f"file://{tmp_path}/kept"
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job's directory as its process writes it."""
    directory = tmp_path / "job_x"
    for name, content in {
        "log.txt": b"begins\n", "out/job/study.journal": b"one\n", "out/job/empty.jsonl": b"",
        "out/job/level_table/here/weights/a.npz": WEIGHTS,
    }.items():  # fmt: skip
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return directory


def content(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "snapshot")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def restored(store: SnapshotStore, name: str | None, directory: Path) -> dict[str, bytes]:
    """What a runner has that takes the job."""
    restore(store, JOB, name, directory, directory.with_name("scratch"))
    assert goes_on_from(directory) == name
    assert not directory.with_name("scratch").exists()
    assert not directory.with_name("scratch-former").exists()
    return content(directory)


def append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)


def test_a_directory_comes_back_as_it_was(url: str, job: Path, tmp_path: Path) -> None:
    expected = content(job)
    for name in ("given/model/secret", "out/job/scratch/x", "out/bundle/model.onnx", "out/job/lock",
                 "internal.log", "out/job/config.partial", "ended.json"):  # fmt: skip
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        (job / name).write_bytes(b"none of anybody else's business")
    (job / "out" / "link").symlink_to("/etc/passwd")
    name = SnapshotMaker(SnapshotStore(url), JOB, job, "run_a", None).make()
    other = tmp_path / "elsewhere" / JOB
    other.mkdir(parents=True)
    (other / "what was there").touch()
    assert restored(SnapshotStore(url), name, other) == expected
    assert restored(SnapshotStore(url), None, other) == {}


def test_what_is_there_is_not_sent_again(url: str, job: Path, tmp_path: Path) -> None:
    store = Counting(url)
    maker = SnapshotMaker(store, JOB, job, "run_a", None)
    first = maker.make()
    assert sum(store.sent) > len(WEIGHTS)
    store.sent.clear()
    append(job / "out/job/study.journal", b"two\n")
    append(job / "out/job/level_table/here/weights/a.npz", b"the last piece grows")
    second = maker.make()
    assert sum(store.sent) < len(WEIGHTS) / 3, "the last piece, the log, the list"
    store.sent.clear()
    assert maker.make() == second
    assert store.sent == [], "nothing has changed"
    # another runner knows what is there, too
    append(job / "log.txt", b"goes on\n")
    third = SnapshotMaker(store, JOB, job, "run_b", second).make()
    assert sum(store.sent) < 2000
    assert restored(store, third, tmp_path / "b" / JOB) == content(job)
    assert restored(store, first, tmp_path / "a" / JOB)["out/job/study.journal"] == b"one\n"


def objects(url: str) -> list[str]:
    fs, root = opened_place(url)
    found: list[str] = fs.find(root)
    return found


def test_what_only_earlier_ones_had_goes(url: str, job: Path, tmp_path: Path) -> None:
    store = SnapshotStore(url)
    maker = SnapshotMaker(store, JOB, job, "run_a", None)
    for number in range(5):
        (job / "out/job/checkpoint.pt").write_bytes(bytes(1000 + number))
        maker.settle(maker.make())
    assert len(objects(url)) == len(set(content(job).values()) - {b""}) + 2 + 1, "2 more pieces"
    name = goes_on_from(job)
    assert restored(store, name, tmp_path / "elsewhere" / JOB) == content(job)
    store.remove(JOB)
    assert objects(url) == []
    store.remove(JOB)


def test_nobody_removes_what_another_needs(memory: str, job: Path, tmp_path: Path) -> None:
    """A runner that lost the job, and has not noticed yet."""
    store = SnapshotStore(memory)
    slow = SnapshotMaker(store, JOB, job, "run_slow", None)
    taken = slow.make()
    slow.settle(taken)
    other = tmp_path / "elsewhere" / JOB
    restored(store, taken, other)
    append(other / "log.txt", b"goes on\n")
    quick = SnapshotMaker(store, JOB, other, "run_quick", taken)
    name = quick.make()
    quick.settle(name)
    (job / "log.txt").write_bytes(b"goes on\n")
    late = slow.make()  # it is refused: nobody is told its name
    assert restored(store, name, other) == content(other)
    assert late != name


@pytest.mark.parametrize("after", [0, 2, 4])
def test_half_a_snapshot_is_none(
    memory: str, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A store that goes away in the middle: the last one is whole, and the next one goes on."""
    store = SnapshotStore(memory)
    maker = SnapshotMaker(store, JOB, job, "run_a", None)
    first, before = maker.make(), content(job)
    for number in range(4):
        (job / f"{number}.npz").write_bytes(bytes([number]) * 1000)
    fs, calls = type(fsspec.filesystem("memory")), itertools.count()
    pipe_file = fs.pipe_file

    def breaks_off(self: Any, *args: Any, **kwargs: Any) -> Any:
        return no_room() if next(calls) >= after else pipe_file(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fs, "pipe_file", breaks_off)
        with pytest.raises(StorageError, match="cannot be reached"):
            maker.make()
    assert restored(store, first, tmp_path / "elsewhere" / JOB) == before
    assert restored(store, maker.make(), tmp_path / "elsewhere" / JOB) == content(job)


def test_a_damaged_piece_is_refused(memory: str, job: Path, tmp_path: Path) -> None:
    store = SnapshotStore(memory)
    name = SnapshotMaker(store, JOB, job, "run_a", None).make()
    fs = fsspec.filesystem("memory")
    (piece, *_) = (one for one in objects(memory) if not one.endswith(name))
    fs.pipe_file(piece, b"another")
    other = tmp_path / "elsewhere" / JOB
    other.mkdir(parents=True)
    (other / "mine").touch()
    with pytest.raises(StorageError, match="damaged"):
        restore(store, JOB, name, other, other.with_name("scratch"))
    assert list(content(other)) == ["mine"], "it is as it was"


def test_a_file_that_is_replaced_while_it_is_read(
    memory: str, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the first half of the new file under the size of the old one."""
    real = snapshots._one_moment
    replaced: list[bool] = []

    def replacing(directory: Path) -> Any:
        seen = real(directory)
        if not replaced:
            replaced.append(True)
            new = tmp_path / "new"
            new.write_bytes(b"a longer one than before" * 10)
            new.replace(job / "log.txt")
        return seen

    monkeypatch.setattr(snapshots, "_one_moment", replacing)
    store = SnapshotStore(memory)
    name = SnapshotMaker(store, JOB, job, "run_a", None).make()
    found = restored(store, name, tmp_path / "elsewhere" / JOB)
    assert found["log.txt"] == b"a longer one than before" * 10


def test_files_that_never_rest(memory: str, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, numbers = snapshots._looked_at, itertools.count()

    def restless(directory: Path) -> Iterator[tuple[Path, Any]]:
        yield from real(directory)
        yield directory / "restless", next(numbers)

    monkeypatch.setattr(snapshots, "_looked_at", restless)
    monkeypatch.setattr(snapshots, "_BETWEEN_LOOKS_SECONDS", 0.0)
    with pytest.raises(StorageError, match="all the time"):
        SnapshotMaker(SnapshotStore(memory), JOB, job, "run_a", None).make()
