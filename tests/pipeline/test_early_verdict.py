"""A budget out of reach is told before costly weights are made, and only where that is sure."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.errors import CandidateError
from autosparse.evaluation import Verdict
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.alps import Alps
from autosparse.model_graph import Layer
from autosparse.pipeline.job import Engines
from autosparse.pipeline.optimize import Result
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.sparse_world import Notes, SparseWorld
from tests.pipeline.test_sparse_pilot import cells_of

# 16, 30 and 32 us of a baseline of 100 us a layer: the fastest recipe takes 16 %
FASTEST, INTEGER, SLOWER = (
    "unstructured@0.9:fp32+alps",
    "2:4:int8+alps",
    "unstructured@0.8:fp32+alps",
)
SPACE = f"""schema_version: 1
description: Dense INT8 and three sparse levels by a costly method.
levels: ["dense:int8+round_to_nearest", "{FASTEST}", "{INTEGER}", "{SLOWER}"]
"""


def run(
    planted: SparseWorld, budget: str, lane: FakeLane | None = None, *, resume: bool = False
) -> Result:
    space = planted.world.root / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")
    engines = Engines(planted.backend, lane or planted.lane, planted.progress)
    return planted.world.run(
        engines=engines, trials=6, space=str(space), latency_budget=budget, resume=resume
    )


def was_told(progress: Notes) -> bool:
    return any("out of reach" in note for note in progress.told)


def told_by(result: Result) -> str:
    (decision,) = (d for d in result.manifest.decisions if d.subject == "Early verdict")
    return decision.told


def test_out_of_reach_is_told_before_other_costly_levels_are_made(tmp_path: Path) -> None:
    planted = SparseWorld.make(tmp_path)
    result = run(planted, "10%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert was_told(planted.progress)
    assert cells_of(tmp_path, FASTEST)
    assert cells_of(tmp_path, INTEGER) == cells_of(tmp_path, SLOWER) == []
    assert result.manifest.fastest is not None
    assert result.manifest.fastest.latency_ratio == pytest.approx(0.16)
    report = Path(result.bundle) / "report.html"
    assert "the budget is out of reach" in report.read_text(encoding="utf-8")
    assert told_by(result).startswith("the budget is out of reach: the fastest levels together")


def test_what_is_nearly_within_reach_is_left_to_the_search(tmp_path: Path) -> None:
    planted = SparseWorld.make(tmp_path)
    result = run(planted, "15%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE  # the search found out
    assert not was_told(planted.progress)
    assert told_by(result).startswith("left to the search, the budget is missed by too little")
    assert all(cells_of(tmp_path, level) for level in (FASTEST, INTEGER, SLOWER))


def test_a_budget_within_reach_is_met_and_a_resumed_job_tells_the_same(tmp_path: Path) -> None:
    planted = SparseWorld.make(tmp_path)
    result = run(planted, "20%")
    assert result.verdict is Verdict.MET
    assert not was_told(planted.progress)
    assert told_by(result).startswith("the budget is within reach: the fastest levels together ")
    assert told_by(run(planted, "20%", resume=True)) == told_by(result)  # whose table is complete


def test_a_level_that_cannot_be_made_after_all_is_replaced_in_the_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pilot has other weights: what its method fails at shows only later."""
    planted = SparseWorld.make(tmp_path)
    compress = Alps.compress

    def failing(
        self: Alps, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        if layer.name == planted.world.layers[0]:
            raise CandidateError("its Hessian cannot be factored")
        return compress(self, layer, weight, level, statistics)

    monkeypatch.setattr(Alps, "compress", failing)
    result = run(planted, "10%")
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert result.manifest.fastest is not None
    # int8 in the one, 40 us, and 16 us in the others
    assert result.manifest.fastest.latency_ratio == pytest.approx(0.24)


class CountingLane(FakeLane):
    """Remembers which files were timed."""

    timed: tuple[str, ...] = ()

    def measure(self, files, *args, **fields):  # type: ignore[no-untyped-def]
        self.timed += tuple(str(sorted(map(str, self._levels(f).values()))) for f in files.values())
        return super().measure(files, *args, **fields)


def test_a_resumed_job_runs_no_pilot_again(tmp_path: Path) -> None:
    planted = SparseWorld.make(tmp_path)
    run(planted, "10%")
    (pilots,) = (tmp_path / "out").rglob("pilots.jsonl")
    before = pilots.read_bytes()
    lane = CountingLane(planted.lane.planted, planted.world.layers)
    result = run(planted, "10%", lane, resume=True)
    assert result.verdict is Verdict.LATENCY_INFEASIBLE
    assert pilots.read_bytes() == before
    assert not any("magnitude" in levels for levels in lane.timed)
