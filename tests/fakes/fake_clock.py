"""A clock that only a job's own work moves: hours of it in a second, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from autosparse.errors import CandidateError
from autosparse.evaluation import LoweredModel, LoweringRequest, Measurement, Target, TimingSettings
from autosparse.pipeline.building import Compress
from autosparse.pipeline.job import Engines
from autosparse.pipeline.pool import A, K, Pool, Task
from tests.fakes.fake_backend import FakeBackend, FakeRunner
from tests.fakes.fake_lane import FakeLane

T = TypeVar("T")


@dataclass(frozen=True)
class Costs:
    """What a job's work takes, in seconds; by default as with a network of some million weights."""

    lower: float = 0.3
    evaluate: float = 1.0
    """Opening a file and running rows through it."""
    open_for_timing: float = 0.3
    canaries: float = 0.002
    """Beside each block of samples."""
    compress: float = 0.5
    """A layer by rounding or magnitude, or as it came."""
    compress_costly: float = 20.0
    """A layer by a solver."""


class FakeClock:
    """Seconds that passed."""

    def __init__(self, costs: Costs | None = None) -> None:
        self.now = 0.0
        self.costs = costs or Costs()

    def __call__(self) -> float:
        return self.now

    def watch(self, engines: Engines) -> Engines:
        """The engines, whose work moves this clock. They must be fakes of this package."""
        backend, lane = engines.backend, engines.lane
        assert isinstance(backend, FakeBackend)
        assert isinstance(lane, FakeLane)
        self._slow_down(backend, lane)
        return replace(engines, pool=_ClockedPool(engines.pool, self), clock=self)

    def _slow_down(self, backend: FakeBackend, lane: FakeLane) -> None:
        lower, open_, measure = backend.lower, backend.open, lane.measure

        def lowered(request: LoweringRequest, directory: Path) -> LoweredModel:
            self.now += self.costs.lower
            return lower(request, directory)

        def opened(model: LoweredModel, *, threads: int) -> FakeRunner:
            self.now += self.costs.evaluate
            return open_(model, threads=threads)

        def measured(
            files: Mapping[str, LoweredModel], inputs: Path, target: Target,
            settings: TimingSettings, *, fresh: bool = False,
        ) -> dict[str, Measurement]:  # fmt: skip
            block = settings.block_seconds + self.costs.canaries
            self.now += len(files) * (self.costs.open_for_timing + settings.rounds * block)
            return measure(files, inputs, target, settings, fresh=fresh)

        backend.__dict__.update(lower=lowered, open=opened)
        lane.__dict__.update(measure=measured)


@dataclass(frozen=True)
class _ClockedPool:
    """Implements `Pool`; what compresses layers takes its time."""

    pool: Pool
    clock: FakeClock

    @property
    def sees_files(self) -> bool:
        return self.pool.sees_files

    def run(self, kit: K, tasks: Iterable[Task[K, A]]) -> list[A | CandidateError]:
        return self.pool.run(kit, map(self._counted, tasks))

    def _counted(self, task: T) -> T:
        if isinstance(task, Compress):
            costly = task.level.method not in (None, "round_to_nearest", "magnitude")
            costs = self.clock.costs
            self.clock.now += costs.compress_costly if costly else costs.compress
        return task
