"""The plot of candidates: how far everything came that was proposed, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.candidates_chart import Drawn, candidate_axes, thinned
from autosparse.artifacts.front_chart import (
    DRAWING_ORDER,
    FRAMES,
    Bounds,
    FrontDrawing,
    Point,
    draw_front,
)
from autosparse.artifacts.report_data import CandidatePoint, TrialPoint
from autosparse.artifacts.report_front import FrontSource, baseline_tip, mark_kind, mark_label
from autosparse.artifacts.report_words import (
    budget_words,
    count,
    milliseconds,
    plural,
    share,
    significant,
)

_RUNG_WORDS = {
    "screened": ("screened, never run", "by the sum of its layers'"),
    "sampled": ("run on a few rows, not measured", "on those rows"),
}
"""What happened, and where the divergence is from; in drawing order, below what was measured."""


@dataclass(frozen=True)
class CandidatesView:
    """The plot and its words."""

    drawings: tuple[FrontDrawing, ...]
    tips: tuple[tuple[str, ...], ...]
    """Lines of text of every mark, in the marks' order."""
    summary: str
    notes: tuple[str, ...]
    percentile: str
    budget_label: str
    kinds: frozenset[str]
    """What is in the plot, for the legend."""


def candidates_view(
    candidates: Sequence[CandidatePoint], source: FrontSource, failed: int
) -> CandidatesView | None:
    """Lay the plot out; None where nothing was proposed that was not measured.

    Args:
        candidates: what was proposed and not measured.
        source: what was measured, and the contract.
        failed: candidates that could not be lowered, run or timed.
    """
    finite = [c for c in candidates if math.isfinite(c.predicted_ratio + c.divergence)]
    if not finite:
        return None
    trials = _in_drawing_order(source)
    measured = [
        *(Point(t.latency_ratio, t.divergence, kind, mark_label(t, kind)) for t, kind in trials),
        Point(1.0, 0.0, "baseline", "baseline"),
    ]
    budget = source.contract.latency_ratio
    axes = candidate_axes([*(_point(c) for c in finite), *measured], budget)
    by_rung = ([c for c in finite if c.rung == rung] for rung in _RUNG_WORDS)
    drawn = [one for members in by_rung for one in thinned(members, axes)]
    points = [*(_point(one.candidate) for one in drawn), *measured]
    bounds = Bounds(budget, 0.0)
    return CandidatesView(
        drawings=tuple(draw_front(frame, axes, points, (), bounds) for frame in FRAMES),
        tips=(
            *(_tip(one) for one in drawn),
            *(_trial_tip(trial) for trial, _ in trials),
            baseline_tip(source.contract),
        ),
        summary=_summary(finite, len(trials)),
        notes=_notes(candidates, finite, drawn, failed),
        percentile=source.contract.percentile,
        budget_label=f"budget {budget_words(source.contract)}",
        kinds=frozenset(point.kind for point in points),
    )


def _in_drawing_order(source: FrontSource) -> list[tuple[TrialPoint, str]]:
    marked = [
        (trial, mark_kind(trial, source.delivered))
        for trial in source.trials
        if math.isfinite(trial.latency_ratio + trial.divergence)
    ]
    return sorted(marked, key=lambda m: (DRAWING_ORDER.index(m[1]), m[0].latency_ratio))


def _point(candidate: CandidatePoint) -> Point:
    return Point(candidate.predicted_ratio, candidate.divergence, candidate.rung)


def _tip(drawn: Drawn) -> tuple[str, ...]:
    candidate = drawn.candidate
    rung, judged = _RUNG_WORDS[candidate.rung]
    lines = [
        f"recipe {candidate.recipe_id}",
        f"rung: {rung}",
        f"latency: {share(candidate.predicted_ratio)} of the baseline, predicted",
        f"divergence {significant(candidate.divergence)} {judged}",
    ]
    if candidate.reason:
        lines.append(candidate.reason)
    if drawn.stands_for > 1:
        lines.append(f"stands for {count(drawn.stands_for)} of its rung that lie here")
    return tuple(lines)


def _trial_tip(trial: TrialPoint) -> tuple[str, ...]:
    ratio = share(trial.latency_ratio)
    return (
        f"recipe {trial.recipe_id}",
        f"rung: measured, a trial proposed by {trial.proposed_by}",
        f"latency: {milliseconds(trial.latency_seconds)}, {ratio} of the baseline, measured",
        f"divergence {significant(trial.divergence)} on the rows that select",
    )


def _summary(finite: Sequence[CandidatePoint], trials: int) -> str:
    screened = sum(candidate.rung == "screened" for candidate in finite)
    return (
        f"{plural(screened, 'candidate')} screened by prediction, {count(len(finite) - screened)} "
        f"run on a few rows and no further, {count(trials)} measured."
    )


def _notes(
    candidates: Sequence[CandidatePoint],
    finite: Sequence[CandidatePoint],
    drawn: Sequence[Drawn],
    failed: int,
) -> tuple[str, ...]:
    """Whatever is not drawn is said."""
    notes = []
    if len(drawn) < len(finite):
        notes.append(
            f"{count(len(drawn))} marks stand for {plural(len(finite), 'candidate')}: where marks "
            "of a rung would cover each other one is drawn, the best of those that nothing beats "
            "before any other, and tells how many lie there."
        )
    if len(finite) < len(candidates):
        without = plural(len(candidates) - len(finite), "candidate")
        notes.append(f"{without} without finite numbers left out.")
    if failed:
        notes.append(
            f"{plural(failed, 'candidate')} could not be lowered, run or timed, and "
            f"{'has' if failed == 1 else 'have'} no place here."
        )
    return tuple(notes)
