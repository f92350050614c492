"""Nothing slower than the model as it came is delivered, and no dense file passes for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autosparse.cli.optimize import verdict_sentence
from autosparse.evaluation import LoweredModel, LoweringRequest, Measurement, Verdict
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.verify import run_verify
from tests.fakes.fake_backend import FakeBackend, Planted, is_int8, read_levels
from tests.fakes.fake_lane import ROUNDS, FakeLane, slowed
from tests.pipeline.worlds import World, layer_seconds, summed_error

LAYERS = 3


@dataclass
class RuntimeOfItsOwn(FakeLane):
    """Whatever was lowered takes longer by a factor than the same layers as they came."""

    slower: float = 1.0

    def _measurement(self, label: str, model: LoweredModel) -> Measurement:
        measured = super()._measurement(label, model)
        return slowed(measured, self.slower) if read_levels(model) else measured


@dataclass
class WithKernels(FakeBackend):
    """Ships a library beside the model."""

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        lowered = super().lower(request, directory)
        (directory / "kernels").mkdir()
        (directory / "kernels" / "sparse.so").write_bytes(b"code")
        return replace(lowered, library="kernels/sparse.so")


def world_of(root: Path, *, slow_int8: bool = False) -> World:
    def seconds(name: str, level: Level) -> float:
        return 150e-6 if slow_int8 and is_int8(level) else layer_seconds(name, level)

    return World.make(root, LAYERS, Planted(seconds, summed_error({})))


def foreign(world: World, slower: float) -> Engines:
    """A backend with files and a runtime of its own, as TVM's."""
    lane = RuntimeOfItsOwn(world.planted, world.layers, slower=slower)
    return Engines(FakeBackend(world.planted, delivers_onnx=False), lane, Silent())


def in_fp32(bundle: str) -> int:
    levels = Recipe.load(Path(bundle) / "recipe.yaml").levels
    return sum(level == BASELINE for level in levels.values())


def page_of(bundle: str) -> str:
    page = Path(bundle, "report.html").read_text(encoding="utf-8")
    return page.replace("\N{NO-BREAK SPACE}", " ")


def test_a_dense_answer_is_the_very_file_that_came(tmp_path: Path) -> None:
    """On a noisy machine, too: a file that was lowered anew measures a hair above itself."""
    world = world_of(tmp_path, slow_int8=True)
    result = world.run(engines=world.engines(noise=0.05), latency_budget="100%", trials=1)
    assert result.verdict is Verdict.MET
    delivered = Path(result.bundle, "model.onnx").read_bytes()
    assert delivered == (world.root / "model.onnx").read_bytes()
    assert result.manifest.latency.ratio == 1.0
    assert result.manifest.latency.p50 == result.manifest.latency.baseline_p50
    # and is not timed again and again for being so near to its bound
    assert result.manifest.latency.samples == 9 * ROUNDS
    took = f"{result.manifest.latency.p50 * 1e3:.3f} ms"
    assert f"The dense model as it came, {took}" in page_of(result.bundle)
    noisy = world.engines(noise=0.05)
    assert run_verify(Path(result.bundle), lambda target: noisy).verdict is Verdict.MET


def test_a_dense_answer_is_none_where_layers_were_to_keep_a_level(tmp_path: Path) -> None:
    result = world_of(tmp_path).run(latency_budget="100%", keep=("layer0=dense:int8",), trials=2)
    assert result.verdict is Verdict.MET
    assert in_fp32(result.bundle) < LAYERS


def test_the_fallback_is_the_very_file_that_came(tmp_path: Path) -> None:
    world = world_of(tmp_path, slow_int8=True)
    result = world.run(latency_budget="50%", trials=1)
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    delivered = Path(result.bundle, "model.onnx").read_bytes()
    assert delivered == (world.root / "model.onnx").read_bytes()


def test_a_dense_file_for_another_runtime_is_held_to_the_same_rule(tmp_path: Path) -> None:
    """The most accurate of what is not slower: the nearest one is inside this budget, and is."""
    world = world_of(tmp_path)
    engines = foreign(world, 1.5)
    result = world.run(engines=engines, latency_budget="200%", max_drop="50pt", trials=8)
    assert result.verdict is Verdict.MET
    # 150, 120, 90 and 60 % with three, two, one and no layer in fp32
    assert in_fp32(result.bundle) == 1
    assert result.manifest.latency.ratio == pytest.approx(0.9)
    assert not result.manifest.stands_in


def test_a_dense_file_for_another_runtime_may_be_the_answer(tmp_path: Path) -> None:
    world = world_of(tmp_path, slow_int8=True)
    result = world.run(engines=foreign(world, 0.8), latency_budget="90%", trials=2)
    assert result.verdict is Verdict.MET
    assert in_fp32(result.bundle) == LAYERS
    assert "No layer compressed, 1.25x faster: 0.240 ms instead of 0.300 ms" in page_of(
        result.bundle
    )


def test_where_another_runtime_is_slower_the_model_as_it_came_stands_in(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    result = world.run(engines=foreign(world, 3.0), latency_budget="200%", max_drop="50pt")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    delivered = Path(result.bundle, "model.onnx").read_bytes()
    assert delivered == (world.root / "model.onnx").read_bytes()
    assert result.manifest.stands_in
    assert result.manifest.latency.ratio == 1.0
    sentence = verdict_sentence(result.manifest)
    assert "the fastest recipe takes 0.360 ms (120.0% of the baseline)" in sentence
    assert "nothing slower than the model as it came is delivered" in sentence
    page = page_of(result.bundle)
    assert "cannot be met" not in page
    assert "delivered in its place, and runs in ONNX Runtime" in page
    found = run_verify(Path(result.bundle), lambda target: foreign(world, 3.0))
    assert found.verdict is Verdict.LATENCY_INFEASIBLE


def test_the_report_tells_how_to_register_the_kernels_that_are_delivered(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    engines = replace(world.engines(), backend=WithKernels(world.planted))
    result = world.run(engines=engines, trials=1)
    assert Path(result.bundle, "kernels", "sparse.so").is_file()
    assert "register_custom_ops_library(&#39;bundle/kernels/sparse.so&#39;)" in page_of(
        result.bundle
    )
