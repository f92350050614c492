"""Plans of kernels in planted worlds: what is faster is taken, where it is, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from autosparse.artifacts.atlas_data import AtlasData
from autosparse.errors import CompileError, ConfigError, MeasurementError
from autosparse.evaluation import LoweredModel, LoweringRequest, Measurement
from autosparse.evaluation.backend import NodeTime
from autosparse.journal import Journal
from autosparse.levels import Level
from autosparse.levels.atlas import AtlasCell
from autosparse.pipeline.atlas import run_atlas
from autosparse.pipeline.atlas_plans import PLANS_FILE, JobPlans
from autosparse.pipeline.optimize import run_job
from autosparse.pipeline.plan_tuning import PlanMeasurement
from tests.fakes.fake_backend import read_levels, read_plans
from tests.fakes.fake_lane import FakeLane, slowed
from tests.pipeline.sparse_world import SparseWorld

LEVEL = "block1x4@0.5:int8"
FAST, SLOW, EVEN = "wide", "narrow", "even"


@dataclass
class PlanLane(FakeLane):
    """Plans make a file slower or faster: by one factor for a layer alone, another in a model."""

    jitter: float = 0.0
    """Of every block on its own."""
    alone: Mapping[str, float] = field(default_factory=dict)
    together: Mapping[str, float] = field(default_factory=dict)

    def _measurement(self, label: str, model: LoweredModel) -> Measurement:
        plain = slowed(super()._measurement(label, model), self._factor(model))
        rng = np.random.default_rng([len(self.measured), *label.encode()])
        blocks = tuple(
            slowed(plain.model_copy(update={"blocks": (block,)}), drawn).blocks[0]
            for block, drawn in zip(plain.blocks, 1 + self.jitter * rng.random(99), strict=False)
        )
        return plain.model_copy(update={"blocks": blocks})

    def profile(
        self, model: LoweredModel, inputs: Path, target: object, *, runs: int
    ) -> list[NodeTime]:
        plans = read_plans(model)
        times = super().profile(model, inputs, target, runs=runs)  # type: ignore[arg-type]
        return [
            t.model_copy(update={"seconds": t.seconds * self.together.get(plan, 1.0)})
            for t in times
            for plan in (plans.get(t.node, ""),)
        ]

    def _factor(self, model: LoweredModel) -> float:
        plans = read_plans(model)
        factors = self.alone if len(read_levels(model)) == 1 else self.together
        return min((factors.get(plan, 1.0) for plan in plans.values()), default=1.0)


def planned_world(
    root: Path, alone: Mapping[str, float], together: Mapping[str, float] | None = None,
    jitter: float = 0.0,
) -> SparseWorld:  # fmt: skip
    world = SparseWorld.make(root)
    world.backend.offered = (SLOW, FAST, EVEN)
    world.lane = PlanLane(
        world.lane.planted, world.lane.layers, jitter=jitter, alone=alone,
        together=alone if together is None else together,
    )  # fmt: skip
    return world


def tuned(world: SparseWorld, **fields: object) -> AtlasData:
    return run_atlas(world.atlas_config(levels=[LEVEL], plans=True, **fields), world.engines)


def cells(world: SparseWorld) -> list[AtlasCell]:
    records = Journal(world.world.root / "atlas" / "atlas.jsonl", AtlasCell).records
    return [cell for cell in records if str(cell.level) == LEVEL]


PLANTED = {FAST: 0.8, SLOW: 1.3, EVEN: 1.0}


def test_the_fastest_plan_is_kept_with_its_evidence(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    data = tuned(world)
    for cell in cells(world):
        assert cell.tuning is not None
        assert (cell.plan, cell.tuning.tried) == (FAST, 3)
        assert cell.tuning.ratio == pytest.approx(0.8)
        assert cell.tuning.high < 1.0
        # what it takes in the model is measured with that plan
        assert cell.seconds == pytest.approx(0.8 * 60e-6)
    (level,) = [t for t in data.entries[0].times if str(t.level) == LEVEL]
    assert level.plan == FAST
    raw = Journal(world.world.root / "atlas" / "plan_measurements.jsonl", PlanMeasurement).records
    assert len(raw) == 2  # one for each layer shape
    assert raw[0].ratios == pytest.approx(PLANTED)
    assert raw[0].decision.ratio("p50") == pytest.approx(0.8)


def test_what_is_not_faster_beyond_the_noise_changes_nothing(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", {FAST: 0.999, SLOW: 1.2}, jitter=0.3)
    data = tuned(world)
    for cell in cells(world):
        assert cell.tuning is not None
        assert (cell.plan, cell.tuning.tried) == ("", 3)
        assert cell.tuning.high >= 1.0
    assert {t.plan for e in data.entries for t in e.times} == {""}


def test_what_is_only_faster_alone_is_not_used(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED, {FAST: 1.1, SLOW: 1.0})
    tuned(world)
    assert [cell.plan for cell in cells(world)] == ["", ""]
    (told,) = [text for text in world.progress.told if "whole model no faster" in text]
    assert told.startswith(LEVEL)


def test_what_is_known_is_not_tried_again(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    tuned(world)
    files = len(world.lane.measured)
    assert tuned(world).measured == 0
    assert len(world.lane.measured) == files
    tuned(world, fresh=True)
    assert len(world.lane.measured) > files


def test_a_known_atlas_is_tuned_later(tmp_path: Path) -> None:
    """Where a plan wins, the cell is timed again; elsewhere what was measured stays."""
    world = planned_world(tmp_path / "world", {SLOW: 1.1})
    run_atlas(world.atlas_config(levels=[LEVEL]), world.engines)
    assert [cell.tuning for cell in cells(world)] == [None, None]
    assert tuned(world).measured == 0
    assert [c.tuning is None for c in cells(world)] == [True, True, False, False]
    faster = planned_world(tmp_path / "faster", PLANTED)
    run_atlas(faster.atlas_config(levels=[LEVEL]), faster.engines)
    assert tuned(faster).measured == 2
    assert [cell.plan for cell in cells(faster)] == ["", "", FAST, FAST]


def test_plans_are_not_tried_unless_asked_for(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    run_atlas(world.atlas_config(levels=[LEVEL]), world.engines)
    assert not {"usual", FAST, SLOW} & set(world.lane.measured)
    with pytest.raises(ConfigError, match="--plans belongs to the atlas"):
        world.config(plans=True)


def test_a_plan_that_does_not_compile_is_left_out(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    lower = world.backend.lower

    def refusing(request: LoweringRequest, directory: Path) -> LoweredModel:
        if FAST in request.plans.values():
            raise CompileError("no such tile")
        return lower(request, directory)

    world.backend.lower = refusing  # type: ignore[method-assign]
    tuned(world)
    assert [cell.tuning.tried for cell in cells(world) if cell.tuning] == [2, 2]
    assert f"the plan {FAST} is left out: no such tile" in world.progress.told


def test_a_tuning_that_fails_leaves_the_usual_plan(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)

    def fail(files: Mapping[str, LoweredModel]) -> None:
        if SLOW in files:
            raise MeasurementError("killed by signal 4")

    world.lane.fail = fail
    data = tuned(world)
    assert [cell.tuning for cell in cells(world)] == [None, None]
    assert all(t.seconds for t in data.entries[0].times if str(t.level) == LEVEL)
    assert any("killed by signal 4" in text for text in world.progress.told)


def space(world: SparseWorld) -> str:
    path = world.world.root / "space.yaml"
    path.write_text(
        "schema_version: 1\ndescription: planted\nlevels:\n"
        f"  - dense:int8+round_to_nearest\n  - {LEVEL}+magnitude\n"
    )
    return str(path)


def seen_plans(world: SparseWorld, **fields: object) -> set[str]:
    """Of every file with the level that a job lowered."""
    found: set[str] = set()
    lower = world.backend.lower

    def watching(request: LoweringRequest, directory: Path) -> LoweredModel:
        for layer, level in request.recipe.levels.items():
            if level.without_method() == Level.parse(LEVEL):
                found.add(request.plans.get(layer, "usual"))
        return lower(request, directory)

    world.backend.lower = watching  # type: ignore[method-assign]
    run_job(world.world.config(space=space(world), trials=4, **fields), world.engines)
    world.backend.lower = lower  # type: ignore[method-assign]
    return found


def quick_blocks(world: SparseWorld) -> None:
    """Blocks that win, so that the atlas does not refuse them."""
    plain = world.lane.planted.seconds
    world.lane.planted.seconds = lambda n, lv: (
        plain(n, lv) * (0.1 if lv.pattern.kind == "block" else 1.0)
    )


def test_a_job_takes_the_plans_of_its_atlas(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    quick_blocks(world)
    tuned(world)
    atlas = world.world.root / "atlas"
    assert seen_plans(world, atlas=atlas) == {FAST}
    report = (world.world.root / "out" / "bundle" / "report.html").read_text()
    assert "for 3 of the layers, the kernels of some levels take another plan" in report
    assert seen_plans(world, output_dir=tmp_path / "without") == {"usual"}


def test_a_job_keeps_the_plans_that_it_began_with(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    quick_blocks(world)
    tuned(world)
    atlas = world.world.root / "atlas"
    seen_plans(world, atlas=atlas)
    (kept,) = (world.world.root / "out" / "job").rglob(PLANS_FILE)
    (record,) = Journal(kept, JobPlans).records
    assert {(p.layer, p.plan) for p in record.plans} == {(n, FAST) for n in world.world.layers}
    journal = atlas / "atlas.jsonl"
    journal.write_text(journal.read_text().replace(FAST, SLOW))
    job = world.world.config(space=space(world), trials=6, atlas=atlas)
    run_job(job, world.engines, resume=True)
    assert Journal(kept, JobPlans).records == (record,)


def test_words_that_the_backend_does_not_know_are_left_aside(tmp_path: Path) -> None:
    world = planned_world(tmp_path / "world", PLANTED)
    quick_blocks(world)
    tuned(world)
    world.backend.offered = (SLOW,)
    assert seen_plans(world, atlas=world.world.root / "atlas") == {"usual"}
    assert any("does not know, and it is left aside: wide" in t for t in world.progress.told)
