"""Break-even: from how many zeros on a kind of level is faster than every dense one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.levels.atlas import LayerShape
from autosparse.levels.level import Level
from autosparse.levels.pattern import NM, Block


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LevelTime(_Record):
    """One level of the layers of one shape."""

    level: Level
    """The level, without a method."""
    sparsity: float
    """Fraction of weights that it makes zero."""
    seconds: float | None
    """One such layer's share of an inference; None where there is none."""
    kernel: str = ""
    """Operator that the runtime executed."""
    reason: str = ""
    """Why there is no latency."""
    reused: bool = False
    """Whether it was measured in an earlier run."""
    plan: str = ""
    """The backend's plan that it was measured with, where another than the usual one is faster."""


class BreakEven(_Record):
    """What one family of levels has to offer for the layers of one shape."""

    family: str
    """Pattern and precision of levels that differ in their sparsity only."""
    verdict: Literal["always", "from", "never", "unmeasured"]
    """`from` some sparsity on it is faster than every dense level; `always`: already with the
    fewest zeros that were measured; `never`: not even with the most."""
    sparsity: float | None = None
    """The fraction of zeros from which on it is faster, where it lies between two measured ones;
    the least one measured where it is `always`."""


class AtlasEntry(_Record):
    """Layers of one shape: every level that was asked for, and the break-evens that follow."""

    shape: LayerShape
    """What the layers have in common."""
    layers: tuple[str, ...]
    """Their names in this model."""
    times: tuple[LevelTime, ...]
    """Every level in the order it was asked for."""
    best_dense: LevelTime | None
    """The fastest dense level: what zeros have to beat. None where none was measured."""
    break_evens: tuple[BreakEven, ...]
    """One for every family that was asked for."""

    @classmethod
    def of(cls, shape: LayerShape, layers: Sequence[str], times: Sequence[LevelTime]) -> AtlasEntry:
        """Conclude from the times."""
        dense = fastest_dense(times)
        families = dict.fromkeys(family_of(t.level) for t in times if t.sparsity > 0)
        return cls(
            shape=shape,
            layers=tuple(layers),
            times=tuple(times),
            best_dense=dense,
            break_evens=tuple(break_even(family, times, dense) for family in families),
        )


def family_of(level: Level) -> str:
    """What a level has in common with those of other sparsity: `N:4:int8`, `block1x4:int8`."""
    pattern = level.pattern
    if isinstance(pattern, NM):
        kind = f"N:{pattern.group}"
    elif isinstance(pattern, Block):
        kind = f"block{pattern.rows}x{pattern.columns}"
    else:
        kind = pattern.kind
    return f"{kind}:{level.precision.value}"


def fastest_dense(times: Sequence[LevelTime]) -> LevelTime | None:
    """The dense level that takes the least time; None where none has one."""
    dense = [t for t in times if t.sparsity == 0 and t.seconds is not None]
    return min(dense, key=lambda t: t.seconds or 0.0, default=None)


def measured_points(family: str, times: Sequence[LevelTime]) -> list[tuple[float, float]]:
    """(sparsity, seconds) of a family's measured levels, the fewest zeros first."""
    return sorted(
        (t.sparsity, t.seconds)
        for t in times
        if t.sparsity > 0 and t.seconds is not None and family_of(t.level) == family
    )


def break_even(family: str, times: Sequence[LevelTime], dense: LevelTime | None) -> BreakEven:
    """The least sparsity from which on a family is faster than the best dense level.

    Between two measured sparsities, latency is taken to be a straight line. Where the times are
    not in order, the last crossing counts: from there on it is faster whatever is chosen.
    """
    points = measured_points(family, times)
    if not points or dense is None or dense.seconds is None:
        return BreakEven(family=family, verdict="unmeasured")
    bound = dense.seconds
    if points[-1][1] >= bound:
        return BreakEven(family=family, verdict="never")
    for (low, slower), (high, faster) in reversed(list(itertools.pairwise(points))):
        if slower >= bound > faster:
            at = low + (high - low) * (slower - bound) / (slower - faster)
            return BreakEven(family=family, verdict="from", sparsity=at)
    return BreakEven(family=family, verdict="always", sparsity=points[0][0])
