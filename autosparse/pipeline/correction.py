"""The correct step: after stitching, channels get the dense model's mean and spread back.

Whether that helps is measured, once for each kind of level, and kept with the level table: within
a job, the same recipe always gives the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from autosparse.artifacts.manifest import Decision
from autosparse.calibration import ActivationRanges
from autosparse.errors import CandidateError
from autosparse.evaluation.sample import Sample
from autosparse.heap import return_freed_memory
from autosparse.journal import Journal
from autosparse.levels import Knobs, Level
from autosparse.levels.table import Cell, LevelTable
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph.torch_executor import GraphModule, failures_told
from autosparse.pipeline.job import Job, first_rows
from autosparse.pipeline.lowering import lower_layers
from autosparse.recovery.statistics_correction import StatisticsCorrection

_ROWS = 128
# Fewer rows tell too little of a channel's spread.
_FEWEST_ROWS = 16
# One tensor's share; a dozen of that size may be alive at a time.
_LARGEST_BYTES = 16 << 20
# What lowers the divergence by less than this is not worth a pass for every recipe.
_WORTHWHILE = 0.02
_SUBJECT = "Correction of channel statistics"


class CorrectionEffect(BaseModel):
    """What the correction does to one kind of level, every layer that may have it being at it."""

    # a recipe that breaks the model gives a divergence that is no number
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    kind: Level
    plain: float
    """Divergence without it."""
    corrected: float
    """Divergence with it."""

    @property
    def helps(self) -> bool:
        """Whether it lowers the divergence; False where one of them is not a number."""
        return self.corrected < (1 - _WORTHWHILE) * self.plain


@dataclass(frozen=True)
class Correction:
    """The correction of a whole job."""

    method: StatisticsCorrection
    kinds: frozenset[Level]
    """Levels, without their methods, whose layers are corrected."""

    def apply(
        self, levels: Mapping[str, Level], weights: Mapping[str, CompressedWeight]
    ) -> Mapping[str, CompressedWeight]:
        """A recipe's weights, corrected where that helps.

        Raises:
            CandidateError: torch cannot run the model with them.
        """
        chosen = {name for name in weights if levels[name].without_method() in self.kinds}
        if not chosen:
            return weights
        with failures_told():
            corrected = self.method.correct(weights, chosen)
        return_freed_memory()
        return corrected


@dataclass(frozen=True)
class Decided:
    """Whether channels are corrected, and what the report tells of it."""

    correction: Correction | None
    """None where nothing is to be corrected."""
    decision: Decision | None
    """None where there is nothing that could be."""


def not_tried(why: str) -> Decision:
    """What the report tells where the correction was left out."""
    return Decision(subject=_SUBJECT, told=f"not tried: {why}")


@dataclass(frozen=True)
class CorrectionTest:
    """What measuring the effect needs: the table is complete, the search has not begun."""

    job: Job
    table: LevelTable
    ranges: ActivationRanges
    sample: Sample
    knobs: Knobs = field(default_factory=Knobs)

    def decide(self, path: Path) -> Decided:
        """Measure each kind of level with and without.

        Args:
            path: journal of what was measured; a resumed job decides as it did before.
        """
        uniform = self._uniform_levels()
        if not uniform:
            return Decided(None, None)
        method = _prepare(self.job)
        return_freed_memory()
        if isinstance(method, str):
            self.job.engines.progress.note(f"no correction of channel statistics: {method}")
            return Decided(None, not_tried(method))
        journal = Journal(path, CorrectionEffect)
        known = {effect.kind: effect for effect in journal.records}
        failed: list[str] = []
        for kind, levels in uniform.items():
            if kind not in known:
                try:
                    known[kind] = self._effect(kind, levels, method)
                except CandidateError as error:
                    failed.append(f"correction of {kind} is not tried: {error}")
                    self.job.engines.progress.note(failed[-1])
                    continue
                journal.append(known[kind])
            self.job.engines.progress.note(_told(known[kind]))
        helped = frozenset(kind for kind, effect in known.items() if effect.helps)
        tried = f"made where it helps: at {len(helped)} of {len(known)} kinds of level"
        decision = Decision(subject=_SUBJECT, told="; ".join((tried, *failed)))
        return Decided(Correction(method, helped) if helped else None, decision)

    def _uniform_levels(self) -> dict[Level, dict[str, Level]]:
        """Kind of level -> for every layer that may have it, the nearest to the dense model."""
        best: dict[Level, dict[str, Cell]] = {}
        for cell in self.table.cells():
            if not cell.searched or cell.level.is_baseline or cell.divergence is None:
                continue
            of_kind = best.setdefault(cell.level.without_method(), {})
            other = of_kind.get(cell.layer)
            if other is None or cell.divergence < (other.divergence or 0.0):
                of_kind[cell.layer] = cell
        return {
            kind: {name: cell.level for name, cell in cells.items()} for kind, cells in best.items()
        }

    def _effect(
        self, kind: Level, levels: Mapping[str, Level], method: StatisticsCorrection
    ) -> CorrectionEffect:
        weights = {name: self.table.weight(name, level) for name, level in levels.items()}
        try:
            plain = self._divergence(levels, weights)
            with failures_told():
                changed = method.correct(weights, set(weights))
            corrected = self._divergence(levels, changed)
        finally:
            return_freed_memory()  # of a pass through torch: the next file is opened beside it
        return CorrectionEffect(kind=kind, plain=plain, corrected=corrected)

    def _divergence(
        self, levels: Mapping[str, Level], weights: Mapping[str, CompressedWeight]
    ) -> float:
        model = lower_layers(self.job, levels, weights, self.ranges, self.knobs)
        return self.job.divergence(model, self.sample)


def _prepare(job: Job) -> StatisticsCorrection | str:
    """Collect the dense model's moments; or why that cannot be."""
    try:
        with failures_told():
            rows = _batch_rows(job)
            if rows < _FEWEST_ROWS:
                return f"{rows} rows at once are too few"
            return StatisticsCorrection(job.graph, first_rows(job.calibration, rows).inputs)
    except CandidateError as error:
        return error.message


def _batch_rows(job: Job) -> int:
    """How many calibration rows go through the executor at once."""
    available = len(job.calibration)
    if job.has_fixed_batch:
        rows = job.target.batch_size
        return rows if rows <= min(available, _rows_in_memory(job, rows)) else 0
    return min(available, _ROWS, _rows_in_memory(job, 1))


def _rows_in_memory(job: Job, batch: int) -> int:
    """How many rows keep the largest output of a layer within its share of the memory."""
    sizes = [1]

    def observe(values: Tensor) -> None:
        sizes.append(values.numel() * values.element_size())

    inputs = first_rows(job.calibration, batch).inputs
    with torch.no_grad():
        GraphModule.from_graph(job.graph)(
            {name: torch.tensor(np.asarray(array)) for name, array in inputs.items()},
            observers={layer.output: observe for layer in job.graph.layers},
        )
    return _LARGEST_BYTES * batch // max(sizes)


def _told(effect: CorrectionEffect) -> str:
    what = "corrected" if effect.helps else "not corrected"
    return (
        f"channel statistics of {effect.kind} are {what} "
        f"(divergence {effect.plain:.3g}, with correction {effect.corrected:.3g})"
    )
