"""What a resumed or verified job must not take: other inputs than those it was started with."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import BundleError, ConfigError, MeasurementError, ModelError
from autosparse.evaluation import LoweredModel, Target, Verdict
from autosparse.journal import Journal
from autosparse.pipeline.config import read_config
from autosparse.pipeline.job import Engines, settled
from autosparse.pipeline.optimize import run_job
from autosparse.pipeline.verify import run_verify
from autosparse.pipeline.workspace import Workspace
from autosparse.search import CandidateRecord, Rung
from autosparse.search.strategies import STRATEGIES
from tests.fakes.fake_backend import Planted
from tests.models import Net
from tests.pipeline.worlds import ROWS, World, layer_seconds, summed_error


def make_world(root: Path) -> World:
    return World.make(root, 4, Planted(layer_seconds, summed_error({})))


def test_another_exclude_is_refused_on_resume(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run(trials=3)
    with pytest.raises(ConfigError, match="--exclude"):
        world.run(trials=3, resume=True, exclude=("layer0",))


def test_a_model_replaced_under_its_path_is_refused_on_resume(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run(trials=3)
    # the same layers, other weights
    net = Net(seed=99)
    value = net.input("x", "batch", 8)
    for index in range(4):
        weight = net.weight(f"layer{index}.weight", 8, 4 if index == 3 else 8)
        value = net.node("Gemm", value, weight, to="logits" if index == 3 else "")
    net.save(world.root / "model.onnx", "logits")
    with pytest.raises(ConfigError, match="the model file is not the one"):
        world.run(trials=3, resume=True)


def test_verify_refuses_other_validation_rows(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    result = world.run(trials=3)
    with np.load(tmp_path / "validation.npz") as file:
        np.savez(tmp_path / "validation.npz", x=file["x"], labels=(file["labels"] + 1) % 4)
    engines = world.engines()
    with pytest.raises(BundleError, match="not the validation file"):
        run_verify(Path(result.bundle), lambda backend: engines)


def test_verify_holds_on_what_it_was_made_from(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    result = world.run(trials=3)
    engines = world.engines()
    assert run_verify(Path(result.bundle), lambda backend: engines).verdict is Verdict.MET


def test_verify_may_ask_another_device(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    result = world.run(trials=3)
    asked: list[Target] = []

    def engines_for(target: Target) -> Engines:
        asked.append(target)
        return world.engines()

    there = "rpc://127.0.0.1:9190"
    assert run_verify(Path(result.bundle), engines_for, target=there).verdict is Verdict.MET
    (tmp_path / "board.yaml").write_text(f"name: board\nthreads: 3\naddress: {there}\n")
    run_verify(Path(result.bundle), engines_for, target=str(tmp_path / "board.yaml"))
    assert [(t.address, t.threads) for t in asked] == [(there, 1), (there, 3)]
    assert asked[1].name == "board"
    assert asked[0].input_shapes == asked[1].input_shapes == result.manifest.target.input_shapes
    (tmp_path / "board.yaml").write_text("backend: tvm\n")
    with pytest.raises(ConfigError, match="the bundle runs in onnxruntime"):
        run_verify(Path(result.bundle), engines_for, target=str(tmp_path / "board.yaml"))


def test_a_changed_target_file_is_refused_on_resume(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    path = tmp_path / "device.yaml"
    path.write_text("threads: 2\n")
    world.run(trials=3, target=str(path))
    world.run(trials=3, target=str(path), resume=True)
    path.write_text("threads: 1\n")
    with pytest.raises(ConfigError, match="the target file is not the one"):
        world.run(trials=3, target=str(path), resume=True)


def test_the_stored_configuration_can_be_given_again(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    path = tmp_path / "device.yaml"
    path.write_text("threads: 2\nbatch_size: 3\n")
    world.run(trials=3, target=str(path))
    stored = read_config({}, Workspace(tmp_path / "out").config)
    assert (stored.threads, stored.batch_size) == (2, 3)
    assert settled(stored) == stored
    run_job(stored, world.engines(), resume=True)


def test_a_job_from_before_the_target_decided_is_resumed(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    path = tmp_path / "device.yaml"
    path.write_text("threads: 2\n")
    world.run(trials=3, target=str(path))
    config = Workspace(tmp_path / "out").config
    config.write_text(config.read_text().replace('"threads": 2', '"threads": 1'))
    (config.parent / "inputs.json").write_text("{}")
    world.run(trials=3, target=str(path), resume=True)


def test_verify_needs_the_target_file_no_more(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    path = tmp_path / "device.yaml"
    path.write_text("name: device\nthreads: 2\nbatch_size: 3\n")
    result = world.run(trials=3, target=str(path))
    path.unlink()
    engines = world.engines()
    found = run_verify(Path(result.bundle), lambda backend: engines)
    assert found.verdict is Verdict.MET
    assert (found.manifest.target.threads, found.manifest.target.batch_size) == (2, 3)


def test_verify_needs_nothing_that_only_the_search_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space of one's own, and a strategy of somebody else's."""
    world = make_world(tmp_path)
    space = tmp_path / "space.yaml"
    space.write_text("description: plain INT8\nlevels: [dense:int8+round_to_nearest]\n")
    kept = ("layer2=dense:fp32",)
    result = world.run(trials=3, space=str(space), strategy="random", keep=kept)
    space.unlink()
    STRATEGIES.names()  # and third parties are read, who could bring it back
    monkeypatch.delitem(STRATEGIES._entries, "random")
    monkeypatch.delitem(STRATEGIES._loaded, "random")
    engines = world.engines()
    found = run_verify(Path(result.bundle), lambda backend: engines)
    assert found.verdict is Verdict.MET
    assert found.verified.contract.budget == found.manifest.contract.budget
    assert found.verified.contract.max_drop == found.manifest.contract.max_drop


def test_the_manifest_counts_the_rows_it_was_made_from(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    test = world.root / "test.npz"
    with np.load(world.root / "validation.npz") as file:
        np.savez(test, x=file["x"][:30], labels=file["labels"][:30])
    manifest = world.run(trials=3, test=test).manifest
    assert {role: given.rows for role, given in manifest.data.items()} == {
        "calibration": 32, "validation": ROWS, "test": 30,
    }  # fmt: skip
    assert manifest.model.rows is None


def test_a_refused_job_leaves_the_directory_free(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    shutil.copy(world.root / "model.onnx", world.root / "right.onnx")
    (world.root / "model.onnx").write_text("no model")
    with pytest.raises(ModelError):
        world.run(trials=3)
    assert not (tmp_path / "out").exists()
    shutil.copy(world.root / "right.onnx", world.root / "model.onnx")
    assert world.run(trials=3).verdict is Verdict.MET


def test_a_disturbed_measurement_is_not_remembered_for_ever(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    calls = itertools.count()

    def disturbed(files: Mapping[str, LoweredModel]) -> None:
        if next(calls) % 9 == 8:
            raise MeasurementError("every round of samples was disturbed")

    world.run(trials=6, engines=world.engines(fail=disturbed))
    log = Journal(Workspace(tmp_path / "out").candidates, CandidateRecord)
    assert not [record for record in log.records if record.rung is Rung.FAILED]


def test_a_relative_drop_of_a_divergence_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with pytest.raises(ConfigError, match="of the dense model is 0"):
        world.run(metric="kl", max_drop="1%")


def test_a_wrong_strategy_is_refused_before_anything_runs(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    engines = world.engines()
    with pytest.raises(ConfigError, match="no strategy is called"):
        world.run(strategy="evolutoin", engines=engines)
    assert not (tmp_path / "out").exists()
