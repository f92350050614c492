"""The fastest recipe is found where no change of one layer alone leads to it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from autosparse.evaluation import Verdict
from autosparse.levels import Level
from autosparse.pipeline.job import Engines
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.sparse_world import SparseWorld, planted_seconds

SPACE = """schema_version: 1
description: Dense INT8, N:M in int8 and unstructured in fp32.
levels: ["dense:int8+round_to_nearest", "2:4:int8+magnitude", "unstructured@0.5:fp32+magnitude"]
"""
BORDER = 15e-6


def seconds(name: str, level: Level) -> float:
    """The last two layers are a little faster with N:M, the others far slower."""
    if level.sparsity and is_int8(level):
        return 12e-6 if name in ("layer2", "layer3") else 60e-6
    return 14e-6 if level.sparsity else planted_seconds(name, level)


def borders(levels: Levels) -> float:
    """Passing from one number format to the other costs more than one layer saves."""
    kinds = [is_int8(level) for level in levels.values()]
    return BORDER * sum(a != b for a, b in itertools.pairwise(kinds))


@pytest.mark.parametrize(("budget", "verdict"), [("15%", "met"), ("13%", "latency-infeasible")])
def test_layers_that_only_pay_together_are_changed_together(
    tmp_path: Path, budget: str, verdict: str
) -> None:
    """All unstructured takes 14 %; the fastest levels alone 16.75 %, one of them changed more."""
    world = SparseWorld.make(tmp_path, count=4)
    planted = Planted(seconds, lambda levels: 0.0, joint_seconds=borders)
    space = tmp_path / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    world.backend.planted = planted
    engines = Engines(world.backend, FakeLane(planted, world.world.layers), world.progress)
    result = world.world.run(
        engines=engines, space=str(space), latency_budget=budget, max_drop="50pt", trials=8
    )
    assert result.verdict is Verdict(verdict)
    assert result.manifest.fastest is not None
    assert result.manifest.fastest.latency_ratio == pytest.approx(0.14)
