"""Is an impossible budget recognised, and never a possible one taken for impossible?

Planted worlds, as the tests use them: everything is real but the runtime and the clock. What a
whole file costs is more than its layers do, so the table alone does not tell the fastest recipe.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autosparse.evaluation import Verdict
from autosparse.levels import BASELINE, Level
from benchmarks.rows import Row
from tests.fakes.fake_backend import Levels, Planted, is_int8
from tests.pipeline.worlds import World, summed_error

_LAYERS = 6
_INT8 = Level.parse("dense:int8")
# Asked for this much below, and above, what the fastest of all recipes takes.
_BELOW, _ABOVE = 0.97, 1.03
_TRIALS = 3


def infeasible_rows(directory: Path, cases: int, environment: str) -> Iterator[Row]:
    """Half of the cases just below the fastest recipe's latency, half just above."""
    recognised, claimed, slowest = 0, 0, 0.0
    for case in range(cases):
        is_impossible = case % 2 == 0
        planted = _planted(case)
        fastest = _fastest(planted) / planted.latency(_recipe((False,) * _LAYERS))
        budget = fastest * (_BELOW if is_impossible else _ABOVE)
        world = World.make(directory / f"case{case}", _LAYERS, planted)
        result = world.run(latency_budget=f"{100 * budget:.3f}%", trials=_TRIALS)
        says_so = result.verdict is Verdict.LATENCY_INFEASIBLE
        recognised += is_impossible and says_so
        claimed += says_so and not is_impossible
        if says_so:
            limit = world.config().time_limit
            slowest = max(slowest, result.manifest.search.seconds / limit)
    impossible = (cases + 1) // 2
    yield Row(
        what="infeasible budgets recognised", figure=recognised, unit=f"of {impossible}",
        bar="all", holds=recognised == impossible, environment=environment,
        note=f"budgets at {_BELOW:.0%} of the fastest of all recipes; slowest verdict after "
        f"{slowest:.1%} of the time limit",
    )  # fmt: skip
    yield Row(
        what="feasible budgets called infeasible", figure=claimed, unit=f"of {cases - impossible}",
        bar="none", holds=claimed == 0, environment=environment,
        note=f"budgets at {_ABOVE:.0%} of the fastest of all recipes",
    )  # fmt: skip


def _planted(case: int) -> Planted:
    """Layers of random cost; some int8 layers are slower, and changing the format costs."""
    rng = np.random.default_rng(case)
    names = [f"layer{index}" for index in range(_LAYERS)]
    dense = dict(zip(names, rng.uniform(60e-6, 140e-6, _LAYERS), strict=True))
    gain = dict(zip(names, rng.uniform(0.3, 1.1, _LAYERS), strict=True))
    border = float(rng.uniform(0.0, 20e-6))

    def seconds(name: str, level: Level) -> float:
        return float(dense[name] * (gain[name] if is_int8(level) else 1.0))

    def joint(levels: Levels) -> float:
        formats = [is_int8(level) for level in levels.values()]
        return border * sum(a != b for a, b in itertools.pairwise(formats))

    return Planted(seconds, summed_error({}), joint_seconds=joint)


def _recipe(integer: tuple[bool, ...]) -> dict[str, Level]:
    return {f"layer{i}": _INT8 if chosen else BASELINE for i, chosen in enumerate(integer)}


def _fastest(planted: Planted) -> float:
    """Of all recipes."""
    every = itertools.product((False, True), repeat=_LAYERS)
    return min(planted.latency(_recipe(integer)) for integer in every)
