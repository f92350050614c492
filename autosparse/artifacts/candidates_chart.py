"""Geometry of the plot of candidates: its axes, and which of many marks are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autosparse.artifacts.front_chart import FRAMES, Axes, Bounds, Point, front_axes
from autosparse.artifacts.report_data import CandidatePoint

MOST_MARKS = 600
"""Marks of one rung: more would only cover each other, and swell the file."""

_FINEST = 3.0
"""Pixels of the wide drawing that are one place, where nothing has to be left out."""
_COARSER = 1.25
_ROOM = 1.3
_LOW = 0.05
"""Share of the divergences that the linear part of their axis holds."""
_LINEAR_PART = 0.06
_DEEPEST = 1e4


@dataclass(frozen=True)
class Drawn:
    """A candidate that is drawn, and how many it stands for."""

    candidate: CandidatePoint
    stands_for: int
    """Candidates of its rung at this place, itself included."""


def candidate_axes(points: Sequence[Point], budget: float) -> Axes:
    """Latency as in the plot of trials; divergence over its decades, since it spans some.

    Args:
        points: everything that will be drawn, the baseline at (1, 0) included.
        budget: largest share of the baseline's latency.
    """
    axes = front_axes(points, Bounds(budget=budget, allowed=0.0))
    positive = sorted(p.drop for p in points if p.drop > 0.0) or [1.0]
    top = positive[-1] * _ROOM
    lowest = max(positive[int(_LOW * (len(positive) - 1))], top / _DEEPEST)
    linear_up_to = 10.0 ** math.floor(math.log10(lowest))
    return replace(
        axes, top=top, bottom=-_LINEAR_PART * linear_up_to, y_kind="symlog",
        linear_up_to=linear_up_to,
    )  # fmt: skip


def thinned(
    candidates: Sequence[CandidatePoint], axes: Axes, most: int = MOST_MARKS
) -> tuple[Drawn, ...]:
    """One candidate for each place of the plot.

    Of those that would cover it, the best one on the front of them all; where none is, any, so that
    the marks lie as the candidates do.

    Places are squares of the wide drawing, as small as keeps their number within bounds.

    Args:
        candidates: of one rung.
        axes: of the plot.
        most: how many may be drawn.
    """
    front = _front(candidates)

    def worth(candidate: CandidatePoint) -> tuple[bool, float, str]:
        leads = candidate.recipe_id in front
        return not leads, candidate.divergence if leads else 0.0, candidate.recipe_id

    x, y = axes.x_scale(FRAMES[0]), axes.y_scale(FRAMES[0])
    spots = [(x(c.predicted_ratio), y(c.divergence)) for c in candidates]
    side = _FINEST
    while True:
        places: dict[tuple[int, int], list[CandidatePoint]] = {}
        for candidate, (across, down) in zip(candidates, spots, strict=True):
            places.setdefault((int(across // side), int(down // side)), []).append(candidate)
        if len(places) <= most:
            return tuple(Drawn(min(alike, key=worth), len(alike)) for alike in places.values())
        side *= _COARSER


def _front(candidates: Sequence[CandidatePoint]) -> frozenset[str]:
    """Recipes that no other one beats in both latency and divergence."""
    front: list[CandidatePoint] = []
    for candidate in sorted(candidates, key=lambda c: (c.predicted_ratio, c.divergence)):
        if not front or candidate.divergence < front[-1].divergence:
            front.append(candidate)
    return frozenset(candidate.recipe_id for candidate in front)
