"""No room for what a job writes: told as the user's to know, wherever it strikes."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from autosparse.artifacts.bundle import check_bundle, write_bundle
from autosparse.artifacts.manifest import Manifest
from autosparse.errors import StorageError
from autosparse.evaluation import LoweredModel, Verdict
from autosparse.journal import stored_safely
from tests.artifacts.report_example import manifest
from tests.fakes.fake_backend import Planted
from tests.pipeline.worlds import World, layer_seconds, summed_error


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path, 4, Planted(layer_seconds, summed_error({})))


def no_room(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_ends_a_job_with_what_to_do(world: World, code: int) -> None:
    def full(files: Mapping[str, LoweredModel]) -> None:
        if len(files) > 1:
            raise no_room(code)

    with pytest.raises(StorageError, match="the disk is full while writing") as caught:
        world.run(engines=world.engines(fail=full), trials=3)
    assert "free some space" in caught.value.hint
    assert not (world.root / "out" / "job" / "scratch").exists()
    assert world.run(trials=3, resume=True).verdict is Verdict.MET


def test_other_errors_of_the_system_are_not_called_so(world: World) -> None:
    def gone(files: Mapping[str, LoweredModel]) -> None:
        raise no_room(errno.EIO)

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        world.run(engines=world.engines(fail=gone), trials=3)


def test_what_is_not_full_is_told_as_what_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="Permission denied") as caught,
        stored_safely(tmp_path),
    ):
        raise no_room(errno.EACCES)
    assert "--output-dir" in caught.value.hint


def test_a_bundle_without_room_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LoweredModel(tmp_path / "lowered", "model.onnx")
    (model.directory / "below").mkdir(parents=True)
    model.path.write_bytes(b"model")
    (model.directory / "below" / "weights.data").write_bytes(b"weights")
    old = write(tmp_path, model, manifest())

    def full(*arguments: object, **more: object) -> None:
        raise no_room(errno.ENOSPC)

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write(tmp_path, model, manifest(product="another"))
    assert check_bundle(tmp_path / "bundle") == old
    assert set(old.files) == {"model.onnx", "below/weights.data", "report.html"}
    assert not (tmp_path / "bundle.partial").exists()


def write(root: Path, model: LoweredModel, written: Manifest) -> Manifest:
    return write_bundle(root / "bundle", model, {"report.html": "<p>"}, written)
