"""The atlas in planted worlds: the break-even comes out where it was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.artifacts.atlas_data import AtlasData
from autosparse.errors import ConfigError, MeasurementError, ModelError, StorageError
from autosparse.evaluation import LoweredModel, read_environment
from autosparse.levels.break_even import BreakEven, LevelTime
from autosparse.pipeline.atlas import run_atlas
from autosparse.pipeline.atlas_levels import SPARSE_LEVELS
from tests.fakes.fake_backend import Levels
from tests.pipeline.sparse_world import SparseWorld


@pytest.fixture
def world(tmp_path: Path) -> SparseWorld:
    return SparseWorld.make(tmp_path / "world")


def found(data: AtlasData, family: str, shape: int = 0) -> BreakEven:
    return next(b for b in data.entries[shape].break_evens if b.family == family)


def time_of(data: AtlasData, level: str, shape: int = 0) -> LevelTime:
    return next(t for t in data.entries[shape].times if str(t.level) == level)


def test_the_break_even_is_where_it_was_planted(world: SparseWorld) -> None:
    data = run_atlas(world.atlas_config(), world.engines)
    assert {str(t.level) for t in data.entries[0].times} == {
        "dense:fp32", "dense:bf16", "dense:int8", "dense:int4", *map(str, SPARSE_LEVELS)
    }  # fmt: skip
    assert found(data, "unstructured:fp32").verdict == "from"
    assert found(data, "unstructured:fp32").sparsity == pytest.approx(0.75)
    assert found(data, "block1x4:int8").verdict == "never"
    assert found(data, "N:4:int8").verdict == "always"
    best = data.entries[0].best_dense
    assert best is not None
    assert str(best.level) == "dense:int8"
    assert best.seconds == pytest.approx(40e-6)


@pytest.mark.parametrize("runs", [True, False])
def test_zeros_have_to_beat_bf16_where_the_backend_has_it(world: SparseWorld, runs: bool) -> None:
    plain = world.lane.planted.seconds
    world.lane.planted.seconds = lambda n, lv: (
        20e-6 if str(lv.without_method()) == "dense:bf16" else plain(n, lv)
    )
    world.backend.refused = set() if runs else {"dense:bf16"}
    data = run_atlas(world.atlas_config(), world.engines)
    best = data.entries[0].best_dense
    assert best is not None
    assert str(best.level) == ("dense:bf16" if runs else "dense:int8")
    assert found(data, "unstructured:fp32").sparsity == pytest.approx(0.875 if runs else 0.75)
    assert found(data, "N:4:int8").verdict == ("never" if runs else "always")


def test_layers_of_one_shape_are_one_entry(world: SparseWorld) -> None:
    data = run_atlas(world.atlas_config(), world.engines)
    first, last = data.entries
    assert first.layers == world.world.layers[:2]
    assert last.layers == world.world.layers[2:]
    assert first.shape.title == "Gemm 8x8 on 1x8"
    assert last.shape.title == "Gemm 8x4 on 1x8"


def test_the_time_of_an_entry_is_the_mean_of_its_layers(tmp_path: Path) -> None:
    world = SparseWorld.make(tmp_path / "world")
    first = world.world.layers[0]
    plain = world.lane.planted.seconds
    world.lane.planted.seconds = lambda n, lv: plain(n, lv) * (3.0 if n == first else 1.0)
    data = run_atlas(world.atlas_config(levels="2:4:int8"), world.engines)
    assert time_of(data, "2:4:int8").seconds == pytest.approx(60e-6)


def test_what_was_measured_is_not_measured_again(world: SparseWorld) -> None:
    first = run_atlas(world.atlas_config(), world.engines)
    assert first.measured > 0
    assert first.reused == 0
    files = len(world.lane.measured)
    again = run_atlas(world.atlas_config(), world.engines)
    assert len(world.lane.measured) == files
    assert (again.measured, again.reused) == (0, first.measured)
    assert [e.break_evens for e in again.entries] == [e.break_evens for e in first.entries]
    assert again.files == first.files


def test_fresh_measures_again(world: SparseWorld) -> None:
    first = run_atlas(world.atlas_config(), world.engines)
    again = run_atlas(world.atlas_config(fresh=True), world.engines)
    assert (again.measured, again.reused) == (first.measured, 0)


def test_another_model_with_the_same_shapes_reuses_them(world: SparseWorld, tmp_path: Path) -> None:
    run_atlas(world.atlas_config(), world.engines)
    larger = SparseWorld.make(tmp_path / "larger", count=5)
    data = run_atlas(larger.atlas_config(output_dir=tmp_path / "world" / "atlas"), larger.engines)
    assert data.measured == 0
    assert larger.lane.measured == []
    assert len(data.entries[0].layers) == 4
    assert data.files == ()


def test_another_environment_measures_for_itself(world: SparseWorld) -> None:
    first = run_atlas(world.atlas_config(), world.engines)
    journal = world.world.root / "atlas" / "atlas.jsonl"
    text = journal.read_text().replace(read_environment().id, "0" * 12)
    journal.write_text(text)
    again = run_atlas(world.atlas_config(), world.engines)
    assert (again.measured, again.reused) == (first.measured, 0)


def test_other_threads_measure_for_themselves(world: SparseWorld) -> None:
    run_atlas(world.atlas_config(), world.engines)
    assert run_atlas(world.atlas_config(threads=2), world.engines).reused == 0


def test_a_level_that_is_executed_densely_does_not_count(world: SparseWorld) -> None:
    world.backend.densely = {"2:4:int8", "1:4:int8"}
    data = run_atlas(world.atlas_config(), world.engines)
    assert found(data, "N:4:int8").verdict == "unmeasured"
    assert found(data, "N:8:int8").verdict == "always"
    time = time_of(data, "2:4:int8")
    assert time.seconds is None
    assert "the runtime executes 2:4:int8 as Gemm, no faster" in time.reason
    # what the runtime makes of it is known by now
    assert time_of(run_atlas(world.atlas_config(), world.engines), "2:4:int8").reused


def test_a_refused_level_is_listed_with_its_reason(world: SparseWorld) -> None:
    world.backend.refused = {"2:4:int8"}
    data = run_atlas(world.atlas_config(), world.engines)
    time = time_of(data, "2:4:int8")
    assert (time.seconds, time.reason) == (None, f"{world.world.layers[0]}: refused by plan")
    assert time_of(data, "1:4:int8").seconds is not None


def test_a_failing_level_is_a_value_with_its_reason(tmp_path: Path) -> None:
    broken = SparseWorld.make(tmp_path / "world", broken="2:4:int8+magnitude")
    data = run_atlas(broken.atlas_config(), broken.engines)
    assert time_of(data, "2:4:int8").reason == "the kernel does not compile"
    assert time_of(data, "1:4:int8").seconds is not None
    # it is not remembered: the next run finds it mended
    mended = SparseWorld.make(tmp_path / "world")
    again = run_atlas(mended.atlas_config(), mended.engines)
    assert time_of(again, "2:4:int8").seconds == pytest.approx(30e-6)
    assert again.measured == 2


def test_a_layer_that_does_not_run_costs_the_others_nothing(world: SparseWorld) -> None:
    last = world.world.layers[-1]

    def broken(levels: Levels) -> str:
        return f"{last} has no such kernel" if str(levels[last]).startswith("2:4:int8") else ""

    world.backend.planted.broken = broken
    data = run_atlas(world.atlas_config(), world.engines)
    assert time_of(data, "2:4:int8").seconds == pytest.approx(30e-6)
    lost = time_of(data, "2:4:int8", shape=1)
    assert (lost.seconds, lost.reason) == (None, f"{last} has no such kernel")
    assert time_of(data, "1:4:int8", shape=1).seconds is not None
    (told,) = world.progress.told
    assert told.startswith(f"2:4:int8 could not be measured for {last}: ")


def test_of_layers_of_one_shape_one_that_runs_is_enough(world: SparseWorld) -> None:
    first = world.world.layers[0]

    def broken(levels: Levels) -> str:
        return "no such kernel" if str(levels[first]).startswith("2:4:int8") else ""

    world.backend.planted.broken = broken
    data = run_atlas(world.atlas_config(), world.engines)
    assert all(entry.break_evens for entry in data.entries)
    assert time_of(data, "2:4:int8").seconds == pytest.approx(30e-6)
    assert time_of(data, "2:4:int8", shape=1).seconds == pytest.approx(30e-6)


def test_a_measurement_that_fails_is_a_value_too(world: SparseWorld) -> None:
    def fail(files: object) -> None:
        assert isinstance(files, dict)
        uniform: LoweredModel = files["uniform"]
        if "1:4:int8" in uniform.path.read_text():
            raise MeasurementError("killed by signal 11")

    world.lane.fail = fail
    data = run_atlas(world.atlas_config(), world.engines)
    assert time_of(data, "1:4:int8").reason == "killed by signal 11"
    assert found(data, "N:4:int8").verdict == "always"


def test_only_the_levels_that_were_asked_for(world: SparseWorld) -> None:
    data = run_atlas(world.atlas_config(levels=["2:4:int8,unstructured@0.8:fp32"]), world.engines)
    assert data.families == ("N:4:int8", "unstructured:fp32")


def test_inputs_come_from_the_calibration_file_where_it_is_given(world: SparseWorld) -> None:
    given = world.world.root / "calibration.npz"
    data = run_atlas(world.atlas_config(calibration=given), world.engines)
    assert data.inputs == "rows of calibration.npz"
    assert run_atlas(world.atlas_config(), world.engines).inputs == "random numbers"


def test_the_page_and_whole_files_are_there(world: SparseWorld) -> None:
    data = run_atlas(world.atlas_config(), world.engines)
    page = (world.world.root / "atlas" / "atlas.html").read_text()
    assert "Sparsity pays for 2 of" in page
    ratios = {str(f.level): f.ratio for f in data.files}
    assert ratios["dense:fp32"] == pytest.approx(1.0)
    assert ratios["2:4:int8"] == pytest.approx(0.3)


def test_what_is_wrong_is_told(world: SparseWorld, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dense:int8 has no zeros"):
        world.atlas_config(levels=["dense:int8"])
    with pytest.raises(ConfigError, match="is no level"):
        world.atlas_config(levels=["often"])
    with pytest.raises(ConfigError, match="--fresh belongs to the atlas"):
        world.config(fresh=True)
    with pytest.raises(ModelError, match="there is no model file"):
        run_atlas(world.atlas_config(model=tmp_path / "gone.onnx"), world.engines)
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(StorageError):
        run_atlas(world.atlas_config(output_dir=taken), world.engines)
