"""Trials of loops are the backend's: a job hands on how many, and may not change it midway."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autosparse.errors import ConfigError
from autosparse.evaluation import LoweredModel, LoweringRequest
from tests.fakes.fake_backend import FakeBackend, Planted
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
