"""A lane that answers with planted latencies, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autosparse.evaluation import (
    Environment,
    LoweredModel,
    Measurement,
    Target,
    TimingSettings,
    read_environment,
)
from autosparse.evaluation.backend import NodeTime
from autosparse.evaluation.measurement import Block
from autosparse.levels import BASELINE, Level
from tests.fakes.fake_backend import Planted, read_levels

ROUNDS = 5


class Killed(BaseException):
    """The driver is killed here: nothing may catch it."""


def slowed(measurement: Measurement, factor: float) -> Measurement:
    """The measurement, every sample of which took longer by a factor."""
    blocks = tuple(
        block.model_copy(
            update={"samples_seconds": tuple(factor * s for s in block.samples_seconds)}
        )
        for block in measurement.blocks
    )
    return measurement.model_copy(update={"blocks": blocks})


@dataclass
class FakeLane:
    """Implements `MeasurementLane`; `layers` are the names of the dense model's layers."""

    planted: Planted
    layers: Sequence[str]
    noise: float = 0.0
    fail: Callable[[Mapping[str, LoweredModel]], None] = lambda files: None
    """Called before every measurement; may raise."""
    measured: list[str] = field(default_factory=list)

    def environment(self) -> Environment:
        return read_environment()

    def measure(
        self,
        files: Mapping[str, LoweredModel],
        inputs: Path,
        target: Target,
        settings: TimingSettings,
        *,
        fresh: bool = False,
    ) -> dict[str, Measurement]:
        self.fail(files)
        self.measured.extend(files)
        return {label: self._measurement(label, model) for label, model in files.items()}

    def profile(
        self, model: LoweredModel, inputs: Path, target: Target, *, runs: int
    ) -> Sequence[NodeTime]:
        levels = self._levels(model)
        return [
            NodeTime(node=name, operator="Gemm", seconds=self.planted.seconds(name, level))
            for name, level in levels.items()
        ]

    def close(self) -> None:
        """Nothing is open."""

    def _levels(self, model: LoweredModel) -> dict[str, Level]:
        return {**dict.fromkeys(self.layers, BASELINE), **read_levels(model)}

    def _measurement(self, label: str, model: LoweredModel) -> Measurement:
        levels = self._levels(model)
        seconds = self.planted.latency(levels)
        rng = np.random.default_rng(len(self.measured))
        blocks = tuple(
            Block(
                samples_seconds=tuple(
                    float(s) for s in seconds * (1 + self.noise * rng.standard_normal(9))
                ),
                slowdown=0.0,
                accepted=True,
            )
            for _ in range(ROUNDS)
        )
        return Measurement(
            label=label,
            file_sha256=model.sha256(),
            target="fake",
            environment=self.environment().id,
            warmup_runs=0,
            blocks=blocks,
            peak_memory_bytes=self.planted.memory(levels),
        )
