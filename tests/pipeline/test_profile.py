"""Where the time of a model goes, in a planted world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from autosparse.errors import MeasurementError, ModelError
from autosparse.evaluation import LoweredModel, Target
from autosparse.evaluation.backend import NodeTime
from autosparse.pipeline.job import Engines
from autosparse.pipeline.profile import run_profile
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.sparse_world import SparseWorld


class LaneWithRest(FakeLane):
    """The profiler reports other nodes too, and all of them twice as slow as they are."""

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        layers = [
            t.model_copy(update={"seconds": 2 * t.seconds * 0.7})
            for t in super().profile(model, inputs, target, runs=runs)
        ]
        others = [("add1", "Add", 60e-6), ("add2", "Add", 60e-6), ("soft", "Softmax", 60e-6)]
        rest = [NodeTime(node=n, operator=o, seconds=s) for n, o, s in others]
        return [*layers, *rest]


def test_shares_are_those_of_the_measured_latency(tmp_path: Path) -> None:
    world = SparseWorld.make(tmp_path / "world")
    lane = LaneWithRest(world.lane.planted, world.world.layers)
    engines = Engines(backend=world.backend, lane=lane, progress=world.progress)
    profile = run_profile(world.config(), engines)
    assert profile.seconds == pytest.approx(300e-6)
    assert [layer.layer for layer in profile.layers] == list(world.world.layers)
    assert [layer.seconds for layer in profile.layers] == pytest.approx([70e-6] * 3)
    assert [layer.share for layer in profile.layers] == pytest.approx([0.7 / 3] * 3)
    assert [(r.operator, r.nodes) for r in profile.rest] == [("Add", 2), ("Softmax", 1)]
    assert [r.seconds for r in profile.rest] == pytest.approx([60e-6, 30e-6])
    assert profile.inputs == "random numbers"


def test_a_model_that_does_not_run_is_the_users_to_know(tmp_path: Path) -> None:
    world = SparseWorld.make(tmp_path / "world")

    def fail(files: object) -> None:
        raise MeasurementError("ONNX Runtime failed: an axis is wrong")

    world.lane.fail = fail
    with pytest.raises(ModelError, match=r"model\.onnx does not run: ONNX Runtime failed"):
        run_profile(world.config(), world.engines)
