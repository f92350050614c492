"""Is an impossible budget recognised in time, and never a possible one taken for impossible?

Planted worlds, as the tests use them: everything is real but the runtime and the clock, which only
the job's own work moves. What a whole file costs is more than its layers do, so the table alone
does not tell the fastest recipe. Every second world has sparse levels that a costly solver makes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autosparse.evaluation import Verdict
from autosparse.levels import BASELINE, Level
from autosparse.pipeline.job import Engines
from autosparse.pipeline.progress import Silent
from benchmarks.rows import Row
from tests.fakes.fake_backend import FakeBackend, Levels, Planted, is_int8
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_lane import FakeLane
from tests.pipeline.sparse_world import SparseBackend
from tests.pipeline.worlds import World, summed_error

_LAYERS = 4
# Asked for this much below, and above, what the fastest of all recipes takes.
_BELOW, _ABOVE = 0.97, 1.03
# Costly levels are made where the budget is nearer than this: then it is not clearly out of reach.
_CLEARLY_BELOW = 0.85
# Nearer: the pilots of the costly levels do not tell, and the verdict waits until they are made.
_NEARLY = 0.95
_TRIALS = 3
_MOST_OF_THE_TIME = 0.1
_INT8 = Level.parse("dense:int8")
_SPARSE = (Level.parse("unstructured@0.9:fp32"), Level.parse("2:4:int8"))
_SPACE = """schema_version: 1
description: Dense INT8 and two sparse levels by a costly method.
levels: ["dense:int8+round_to_nearest", "unstructured@0.9:fp32+alps", "2:4:int8+alps"]
"""


@dataclass(frozen=True)
class Case:
    """A world, and a budget that it can or cannot meet."""

    planted: Planted
    options: tuple[Level, ...]
    fastest: float
    """Latency of the fastest of all recipes over the dense model's."""
    asked: float
    """The budget over the latency of the fastest of all recipes."""

    @property
    def is_impossible(self) -> bool:
        """Whether no recipe meets the budget."""
        return self.asked < 1.0

    @property
    def budget(self) -> float:
        """As a share of the baseline's latency."""
        return self.fastest * self.asked


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    says_impossible: bool
    share: float
    """Of the time limit, when a person could know it."""


@dataclass
class Witness(Silent):
    """Notes when the first words tell whether the budget can be met."""

    clock: FakeClock
    told: float | None = None

    def note(self, text: str) -> None:
        """The early verdict."""
        if "out of reach" in text:
            self._heard()

    def stage(self, name: str, detail: str = "") -> None:
        """What follows the descent to the fastest recipe."""
        if name == "starts":
            self._heard()

    def _heard(self) -> None:
        self.told = self.clock() if self.told is None else self.told


def case_of(number: int) -> Case:
    """Half of the cases cannot be met, half of the worlds have sparse levels."""
    is_sparse = number // 2 % 2 == 1
    below = _CLEARLY_BELOW if is_sparse else _BELOW
    return _case(number, below if number % 2 == 0 else _ABOVE, is_sparse=is_sparse)


def near_case_of(number: int) -> Case:
    """A world with costly levels, and a budget that is missed by little."""
    return _case(number, _NEARLY, is_sparse=True)


def _case(seed: int, asked: float, *, is_sparse: bool) -> Case:
    options = (BASELINE, _INT8, *(_SPARSE if is_sparse else ()))
    planted = _planted(seed, options)
    every = itertools.product(options, repeat=_LAYERS)
    latencies = [planted.latency(_recipe(chosen)) for chosen in every]
    return Case(planted, options, min(latencies) / latencies[0], asked)


def play_case(case: Case, root: Path) -> Outcome:
    """Run a whole job in the case's world."""
    world = World.make(root, _LAYERS, case.planted)
    is_sparse = len(case.options) > 2
    backend = SparseBackend(case.planted) if is_sparse else FakeBackend(case.planted)
    space = root / "space.yaml"
    space.write_text(_SPACE, encoding="utf-8")
    clock = FakeClock()
    witness = Witness(clock)
    engines = clock.watch(Engines(backend, FakeLane(case.planted, world.layers), witness))
    asked: dict[str, Any] = {"latency_budget": f"{100 * case.budget:.3f}%", "trials": _TRIALS}
    if is_sparse:
        asked["space"] = str(space)
    result = world.run(engines=engines, **asked)
    says_so = result.verdict is Verdict.LATENCY_INFEASIBLE
    return Outcome(says_so, (witness.told or clock()) / world.config().time_limit)


def infeasible_rows(directory: Path, cases: int, environment: str) -> Iterator[Row]:
    """Half of the cases below the fastest recipe's latency, half just above.

    Budgets that are missed by little where there are costly levels are rows of their own: what
    makes the others early is that nothing costly is made.
    """
    played = [
        (case, play_case(case, directory / f"case{number}"))
        for number in range(cases)
        for case in [case_of(number)]
    ]
    impossible = [outcome for case, outcome in played if case.is_impossible]
    possible = [outcome for case, outcome in played if not case.is_impossible]
    recognised = sum(outcome.says_impossible for outcome in impossible)
    claimed = sum(outcome.says_impossible for outcome in possible)
    slowest = max((outcome.share for outcome in impossible), default=0.0)
    yield Row(
        what="infeasible budgets recognised", figure=recognised, unit=f"of {len(impossible)}",
        bar="all", holds=recognised == len(impossible), environment=environment,
        note=f"budgets at {_BELOW:.0%} of the fastest of all recipes; at {_CLEARLY_BELOW:.0%} "
        "where there are costly levels",
    )  # fmt: skip
    yield Row(
        what="feasible budgets called infeasible", figure=claimed, unit=f"of {len(possible)}",
        bar="none", holds=claimed == 0, environment=environment,
        note=f"budgets at {_ABOVE:.0%} of the fastest of all recipes",
    )  # fmt: skip
    yield Row(
        what="slowest verdict of infeasibility", figure=100 * slowest, unit="% of the time limit",
        bar=f"<= {_MOST_OF_THE_TIME:.0%}", holds=slowest <= _MOST_OF_THE_TIME,
        environment=environment,
        note="on a clock that only the job's work moves; a layer by a solver takes 20 s",
    )  # fmt: skip
    # of as many as there are impossible ones, in worlds of their own
    seeds = range(cases, cases + len(impossible))
    near = [play_case(near_case_of(seed), directory / f"near{seed}") for seed in seeds]
    yield from near_rows(near, environment)


def near_rows(near: Sequence[Outcome], environment: str) -> Iterator[Row]:
    """Budgets that costly levels miss by little: the verdict waits until those are made."""
    recognised = sum(outcome.says_impossible for outcome in near)
    slowest = max((outcome.share for outcome in near), default=0.0)
    asked = f"budgets at {_NEARLY:.0%} of the fastest of all recipes, all with costly levels"
    yield Row(
        what="infeasible budgets recognised, missed by little", figure=recognised,
        unit=f"of {len(near)}", bar="all", holds=recognised == len(near),
        environment=environment, note=asked,
    )  # fmt: skip
    yield Row(
        what="slowest verdict of infeasibility, missed by little", figure=100 * slowest,
        unit="% of the time limit", bar=f"<= {_MOST_OF_THE_TIME:.0%}",
        holds=slowest <= _MOST_OF_THE_TIME, environment=environment,
        note=f"{asked}; {sum(o.share <= _MOST_OF_THE_TIME for o in near)} of {len(near)} in time",
    )  # fmt: skip


def _planted(seed: int, options: tuple[Level, ...]) -> Planted:
    """Layers of random cost; some levels are slower, and changing the format costs."""
    rng = np.random.default_rng(seed)
    names = [f"layer{index}" for index in range(_LAYERS)]
    dense = dict(zip(names, rng.uniform(60e-6, 140e-6, _LAYERS), strict=True))
    gain = {
        (name, level): rng.uniform(0.3, 1.1) if level == _INT8 else rng.uniform(0.1, 0.6)
        for name in names
        for level in options[1:]
    }
    border = float(rng.uniform(0.0, 20e-6))

    def seconds(name: str, level: Level) -> float:
        return float(dense[name] * gain.get((name, level.without_method()), 1.0))

    def joint(levels: Levels) -> float:
        formats = [is_int8(level) for level in levels.values()]
        return border * sum(a != b for a, b in itertools.pairwise(formats))

    return Planted(seconds, summed_error({}), joint_seconds=joint)


def _recipe(chosen: tuple[Level, ...]) -> dict[str, Level]:
    return {f"layer{index}": level for index, level in enumerate(chosen)}
