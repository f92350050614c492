"""What a job chose for itself is told in its bundle, also by a job that is resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from autosparse.artifacts.bundle import check_bundle
from autosparse.calibration import ActivationRanges, Range, RangeObserver
from autosparse.errors import CompileError, DisturbedError
from autosparse.evaluation import LoweredModel, LoweringRequest
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result
from autosparse.pipeline.progress import Silent
from autosparse.pipeline.range_choice import decision_on_ranges
from tests.artifacts.report_example import text_of
from tests.fakes.fake_backend import FakeBackend, FakeRunner, Planted, read_levels
from tests.pipeline.test_level_choice import TypedLane
from tests.pipeline.worlds import World, layer_seconds, summed_error

PLANTED = Planted(layer_seconds, summed_error({}))
# Estimator -> the end of its ranges, and what that makes of the planted error.
ENDS = {"min_max": 3.0, "percentile": 0.5, "entropy": 2.0}
REFUSED = ENDS["entropy"]
_END = "end.txt"
PLAIN_SPACE = """schema_version: 1
description: Dense INT8 without a costly method.
levels: ["dense:int8+round_to_nearest"]
"""


@dataclass
class RangedBackend(FakeBackend):
    """How far a file is from the dense model depends on the ranges that it was lowered with."""

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        end = request.ranges.tensors["x"].high
        if end == REFUSED:
            raise CompileError("planted: no file with these ranges")
        made = super().lower(request, directory)
        (directory / _END).write_text(str(end))
        return made

    def open(self, model: LoweredModel, *, threads: int) -> FakeRunner:
        levels = read_levels(model)
        if not levels:
            return FakeRunner(0.0)
        return FakeRunner(self.planted.error(levels) * float((model.directory / _END).read_text()))


def planted_ranges(observer: RangeObserver, estimator: str | None = None) -> ActivationRanges:
    assert estimator is not None
    return ActivationRanges(tensors={"x": Range(low=0.0, high=ENDS[estimator])})


def unlabelled_world(root: Path) -> World:
    world = World.make(root, 3, PLANTED)
    with np.load(root / "validation.npz") as arrays:
        rows = arrays["x"]
    np.savez(root / "validation.npz", x=rows)
    return world


def run(world: World, *, resume: bool = False) -> Result:
    lane = TypedLane(PLANTED, world.layers)
    lane.factor = 0.8
    engines = Engines(backend=RangedBackend(PLANTED), lane=lane, progress=Silent())
    return world.run(engines=engines, trials=2, max_drop="10", resume=resume)


def told_by(result: Result) -> dict[str, str]:
    """Subject -> what was told, from the bundle."""
    return {d.subject: d.told for d in check_bundle(Path(result.bundle)).decisions}


def test_every_choice_is_told_with_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RangeObserver, "ranges", planted_ranges)
    world = unlabelled_world(tmp_path)
    first = run(world)
    told = told_by(first)
    assert list(told) == [
        "Torch beside the runtime", "Ranges of int8 activations", "Integer type of activations",
        "Early verdict", "Correction of channel statistics",
    ]  # fmt: skip
    torch = told["Torch beside the runtime"]
    assert torch.startswith("the torch executor disagrees with the runtime, relative error ")
    ranges = told["Ranges of int8 activations"]
    assert ranges.startswith("by percentile, with which plain INT8 stays nearest")
    assert "divergence with each estimator: min_max " in ranges
    assert ranges.endswith("; plain INT8 did not run with entropy")
    types = told["Integer type of activations"]
    assert types.startswith("int8; plain INT8 takes 40.0% with uint8 and 32.0% with int8 of the")
    assert told["Early verdict"] == (
        "the budget is within reach: the fastest levels together take 40.0% of the baseline's "
        "latency, and it allows 70.0%"
    )
    assert told["Correction of channel statistics"].startswith("not tried: torch does not stand")
    text = text_of(Path(first.bundle, "report.html").read_text(encoding="utf-8"))
    assert all(f"{subject} {sentence}" in text for subject, sentence in told.items())
    # what needs no label is told of answers without any
    assert "Same answer as the dense model" in text
    assert "Rows with another answer" in text

    monkeypatch.setattr(RangeObserver, "ranges", None)  # nothing is chosen again
    assert told_by(run(world, resume=True)) == told


def test_what_was_not_timed_or_asked_is_told(tmp_path: Path) -> None:
    world = World.make(tmp_path, 2, PLANTED)
    space = tmp_path / "space.yaml"
    space.write_text(PLAIN_SPACE, encoding="utf-8")

    def fail(files: Mapping[str, LoweredModel]) -> None:
        if "int8" in files:
            raise DisturbedError("planted: the machine is never quiet")

    told = told_by(world.run(engines=world.engines(fail=fail), trials=2, space=str(space)))
    types = told["Integer type of activations"]
    assert types.startswith("uint8, the types were not timed: ")
    assert "never quiet" in types
    assert told["Early verdict"] == "not asked: no level takes long to make"


def test_ranges_that_nothing_was_measured_for_are_told_as_what_they_are() -> None:
    nothing = ActivationRanges(tensors={})
    assert decision_on_ranges(nothing) is None  # no layer in int8, or an earlier version's job
    decision = decision_on_ranges(nothing.model_copy(update={"estimator": "min_max"}))
    assert decision is not None
    assert decision.told == "by min_max; plain INT8 did not run with entropy, min_max, percentile"


def test_ranges_of_an_earlier_version_and_divergences_that_are_no_numbers_are_read() -> None:
    old = ActivationRanges.model_validate_json('{"tensors":{"x":{"low":-1.0,"high":2.0}}}')
    assert (old.estimator, old.divergences) == ("", {})
    odd = old.model_copy(update={"estimator": "entropy", "divergences": {"entropy": math.nan}})
    again = ActivationRanges.model_validate_json(odd.model_dump_json())
    assert math.isnan(again.divergences["entropy"])
