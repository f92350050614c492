"""Every measured recipe as drop, latency, size and peak memory, and which of them are the front."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autosparse.artifacts.manifest import FrontPoint, Offer
from autosparse.evaluation import Contract
from autosparse.evaluation.dominance import dominators
from autosparse.pipeline.records import TrialRecord

_BASELINE = "baseline"
_MOST_OFFERS = 5


def measured_front(trials: Sequence[TrialRecord], contract: Contract) -> tuple[FrontPoint, ...]:
    """The trials, those that nothing dominates first, each part from the fastest on.

    The model as it came takes part: what is no better than it in anything is not on the front.
    """
    ordered = _fastest_first(trials)
    as_it_came = (0.0, 1.0, contract.baseline_size_bytes, contract.baseline_peak_memory_bytes)
    found = dominators([as_it_came, *(objectives(trial) for trial in ordered)])[1:]
    names = [_BASELINE, *(trial.recipe.id for trial in ordered)]
    points = [
        FrontPoint(
            **dict(offer_of(trial)),
            proposed_by=trial.proposed_by,
            meets_contract=trial.evidence.meets(contract),
            dominated_by=None if by is None else names[by],
        )
        for trial, by in zip(ordered, found, strict=True)
    ]
    return tuple(sorted(points, key=lambda point: point.dominated_by is not None))


def objectives(trial: TrialRecord) -> tuple[float | None, ...]:
    """Drop, latency, size and peak memory: of all four, less is better."""
    evidence = trial.evidence
    return (
        evidence.drop, evidence.latency_ratio, evidence.size_bytes, evidence.peak_memory_bytes,
    )  # fmt: skip


def offer_of(trial: TrialRecord) -> Offer:
    """A contract that this trial would meet."""
    return Offer(
        recipe_id=trial.recipe.id,
        latency_seconds=trial.latency_seconds,
        latency_ratio=trial.evidence.latency_ratio,
        drop=trial.evidence.drop,
        size_bytes=trial.evidence.size_bytes,
        peak_memory_bytes=trial.evidence.peak_memory_bytes,
    )


def nearest_offers(trials: Sequence[TrialRecord], contract: Contract) -> tuple[Offer, ...]:
    """The front of what was measured, from the fastest on: what could be had instead.

    Over drop and latency, and over what else the contract limits.

    Args:
        trials: what was measured.
        contract: what was asked.
    """
    compared = (
        True, True, contract.max_size is not None, contract.max_memory is not None,
    )  # fmt: skip
    faster = [t for t in _fastest_first(trials) if t.evidence.latency_ratio <= 1.0]
    points = [
        [value for value, counts in zip(objectives(t), compared, strict=True) if counts]
        for t in faster
    ]
    front = [t for t, by in zip(faster, dominators(points), strict=True) if by is None]
    nearest = sorted(front, key=lambda t: t.evidence.violation(contract))[:_MOST_OFFERS]
    return tuple(offer_of(t) for t in sorted(nearest, key=lambda t: t.evidence.latency_ratio))


def _fastest_first(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those with finite numbers; a drop may be none where a metric fails on what came out."""
    finite = [t for t in trials if math.isfinite(t.evidence.latency_ratio + t.evidence.drop)]
    return sorted(finite, key=lambda t: (t.evidence.latency_ratio, t.evidence.drop))
