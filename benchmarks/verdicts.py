"""Who is better, and is it more than chance: paired bootstrap over rows, and the tally of cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_RESAMPLES = 2000
_TAIL = 2.5


class Outcome(StrEnum):
    """How one cell ended for us."""

    BETTER = "better"
    """Less divergence, beyond the interval."""
    WORSE = "worse"
    """More divergence, beyond the interval."""
    TIE = "tie"
    """The interval holds zero."""
    ONLY_OURS = "only ours"
    """The opponent has no file inside the budget."""
    ONLY_THEIRS = "only theirs"
    """We have no file inside the budget, and the opponent has."""

    @property
    def is_loss(self) -> bool:
        """Whether the opponent would have been the better choice."""
        return self in (Outcome.WORSE, Outcome.ONLY_THEIRS)


@dataclass(frozen=True)
class Difference:
    """Ours minus theirs, with its 95 % interval from rows resampled in pairs."""

    mean: float
    low: float
    high: float

    @property
    def outcome(self) -> Outcome:
        """What the interval says, for a quantity of which less is better."""
        if self.high < 0:
            return Outcome.BETTER
        return Outcome.WORSE if self.low > 0 else Outcome.TIE

    def __str__(self) -> str:
        return f"{self.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"


def paired_difference(ours: Floats, theirs: Floats) -> Difference:
    """Difference of means over the same rows.

    Args:
        ours: (rows,).
        theirs: (rows,).

    Raises:
        ValueError: the rows differ in number, or hold NaN or infinity.
    """
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise ValueError(f"rows of shape {ours.shape} and {theirs.shape} are no pairs")
    gaps = ours - theirs
    if not np.isfinite(gaps).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(gaps))} rows are NaN or infinite")
    rng = np.random.default_rng(0)
    means = [gaps[rng.integers(0, len(gaps), len(gaps))].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [_TAIL, 100 - _TAIL])
    return Difference(float(gaps.mean()), float(low), float(high))


@dataclass(frozen=True)
class Tally:
    """Outcomes of all cells against one opponent."""

    cells: int
    better: int
    losses: int

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Tally:
        """Count."""
        counted = list(outcomes)
        return cls(
            cells=len(counted),
            better=sum(o is Outcome.BETTER for o in counted),
            losses=sum(o.is_loss for o in counted),
        )

    @property
    def mostly_better(self) -> bool:
        """Whether at least half of the cells are better beyond the interval."""
        return 2 * self.better >= self.cells
