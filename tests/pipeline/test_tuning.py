"""Trials of loops are the backend's: a job hands on how many, and may not change it midway."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import Environment, LoweredModel, LoweringRequest, read_environment
from tests.fakes.fake_backend import FakeBackend, Planted
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.worlds import World, layer_seconds, summed_error


@dataclass
class Counting(FakeBackend):
    """Remembers how many trials it was asked for."""

    asked: set[int] = field(default_factory=set)

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        self.asked.add(request.tuning_trials)
        return super().lower(request, directory)


def test_every_lowering_is_asked_for_as_many_trials(tmp_path: Path) -> None:
    world = World.make(tmp_path, 2, Planted(layer_seconds, summed_error({})))
    backend = Counting(world.planted)
    engines = replace(world.engines(), backend=backend)
    world.run(engines=engines, tune=7, trials=3)
    assert backend.asked == {7}
    with pytest.raises(ConfigError, match="another --tune: 7"):
        world.run(engines=engines, resume=True, tune=8, trials=3)


class Elsewhere(FakeLane):
    """A device of another architecture."""

    def environment(self) -> Environment:
        return read_environment().model_copy(update={"system": "Linux 6.1 vax"})


def test_trials_for_another_architecture_are_refused_before_anything_is_measured(
    tmp_path: Path,
) -> None:
    world = World.make(tmp_path, 2, Planted(layer_seconds, summed_error({})))
    lane = Elsewhere(world.planted, world.layers)
    backend = FakeBackend(world.planted, delivers_onnx=False)
    engines = replace(world.engines(), backend=backend, lane=lane)
    target = "rpc://10.0.0.9:9190"
    with pytest.raises(ConfigError, match="--tune: loops for vax cannot be tried") as caught:
        world.run(engines=engines, tune=4, trials=3, target=target)
    assert "leave --tune away" in caught.value.hint
    assert lane.measured == backend.lowered == []
    # it is the trials that are refused, and not the device; and who compiles nothing tries nothing
    world.run(engines=engines, trials=3, target=target, output_dir=tmp_path / "untuned")
    plain = replace(engines, backend=FakeBackend(world.planted))
    world.run(engines=plain, tune=4, trials=3, target=target, output_dir=tmp_path / "plain")
