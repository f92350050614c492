"""A lane whose candidates are off by scripted factors, in runs of a scripted length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autosparse.evaluation import LoweredModel, Measurement, Target, TimingSettings
from autosparse.pipeline.stopwatch import BASELINE_LABEL
from tests.fakes.fake_lane import ROUNDS, FakeLane


@dataclass
class NoisyLane(FakeLane):
    """Candidates' rounds are off by factors in runs of so many rounds; other runs are exact.

    Whatever is asked, every run has as many rounds as those of `FakeLane`.
    """

    factors: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """Rounds asked for -> factor of each round."""
    asked: list[tuple[frozenset[str], int]] = field(default_factory=list)
    """Files and rounds of every run."""
    fresh: list[bool] = field(default_factory=list)
    """Whether every run was asked for in a process of its own."""

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        self.asked.append((frozenset(files), settings.rounds))
        self.fresh.append(fresh)
        found = super().measure(files, inputs, target, settings, fresh=fresh)
        factors = self.factors.get(settings.rounds, (1.0,) * ROUNDS)
        return {
            label: m if label == BASELINE_LABEL else _slower(m, factors)
            for label, m in found.items()
        }

    def rounds_of(self, recipe_id: str) -> list[int]:
        """Rounds that were asked for in every run of one recipe alone."""
        return [rounds for files, rounds in self.asked if files == {BASELINE_LABEL, recipe_id}]


def _slower(measurement: Measurement, factors: Sequence[float]) -> Measurement:
    blocks = tuple(
        block.model_copy(
            update={"samples_seconds": tuple(s * factor for s in block.samples_seconds)}
        )
        for block, factor in zip(measurement.blocks, factors, strict=True)
    )
    return measurement.model_copy(update={"blocks": blocks})
