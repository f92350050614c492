"""Guard-rails as the report shows them: what an average hides, and what is only counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.artifacts.layer_rows import LayerRow
from autosparse.artifacts.report_data import ChangedRow, ClassAccuracy, Confidence, GuardRails
from autosparse.artifacts.report_words import QualityWords, count, plural, share


@dataclass(frozen=True)
class ClassRow:
    """One class; the change as a bar from the middle."""

    label: int
    rows: int
    baseline: str
    delivered: str
    change: str
    change_value: float
    bar: float
    """Half-width of the bar in pixels, at most half of the cell's."""


@dataclass(frozen=True)
class GuardRailsView:
    """What an average hides."""

    facts: tuple[tuple[str, str], ...]
    has_labels: bool
    """Whether it can be told what is right."""
    classes: tuple[ClassRow, ...]
    worst: str
    half_width: int
    changed: tuple[ChangedRow, ...]
    more_changed: int
    """Changed rows that are not listed."""


_HALF_BAR = 40


def guard_rails_view(rails: GuardRails) -> GuardRailsView:
    """Word the guard-rails, the worst class first."""
    words = QualityWords("top1")
    classes = sorted(rails.classes, key=lambda c: c.delivered - c.baseline)
    longest = max((abs(c.delivered - c.baseline) for c in classes), default=0.0)
    return GuardRailsView(
        facts=(
            ("Same answer as the dense model", share(rails.agreement, 2)),
            *_counted_rows(rails),
            *(() if rails.confidence is None else _confidence(rails.confidence)),
        ),
        has_labels=rails.fixed_rows is not None,
        classes=tuple(_class_row(c, longest, words) for c in classes),
        worst=_worst(classes, words),
        half_width=_HALF_BAR,
        changed=rails.changed,
        more_changed=rails.changed_rows - len(rails.changed),
    )


def _counted_rows(rails: GuardRails) -> tuple[tuple[str, str], ...]:
    """Rows with another answer: which way they changed, where that can be told."""
    if rails.fixed_rows is None or rails.broken_rows is None:
        return (("Rows with another answer", count(rails.changed_rows)),)
    return (
        ("Fixed: dense wrong, delivered right", plural(rails.fixed_rows, "row")),
        ("Broken: dense right, delivered wrong", plural(rails.broken_rows, "row")),
    )


def _class_row(item: ClassAccuracy, longest: float, words: QualityWords) -> ClassRow:
    change = item.delivered - item.baseline
    return ClassRow(
        label=item.label,
        rows=item.rows,
        baseline=share(item.baseline),
        delivered=share(item.delivered),
        change=words.change(-change),
        change_value=change,
        bar=round(abs(change) / longest * _HALF_BAR, 1) if longest else 0.0,
    )


def _worst(classes: Sequence[ClassAccuracy], words: QualityWords) -> str:
    losing = [c for c in classes if c.delivered < c.baseline]
    if not losing:
        return "No class lost accuracy."
    worst = losing[0]
    verb = "loses" if len(losing) == 1 else "lose"
    return (
        f"{len(losing)} of {plural(len(classes), 'class').replace('classs', 'classes')} {verb} "
        f"accuracy; the most is class {worst.label}: "
        f"{words.change(worst.baseline - worst.delivered)} on {plural(worst.rows, 'row')}."
    )


def _confidence(found: Confidence) -> tuple[tuple[str, str], ...]:
    """Terms and values."""
    facts = (
        ("Confidence beside accuracy, dense", f"{share(found.baseline)} apart"),
        ("The same, delivered", f"{share(found.delivered)} apart"),
    )
    if found.scaled >= found.delivered:
        return facts
    told = f"{share(found.scaled)} apart, logits divided by {found.temperature:.2f}"
    return (*facts, ("Delivered, at its best temperature", told))


def counted_sentence(rows: Sequence[LayerRow], latency_ratio: float) -> str:
    """What is counted beside what is measured; empty where nothing could be counted.

    Args:
        rows: of the delivered model.
        latency_ratio: measured, delivered over baseline.
    """
    known = [(row.macs, row.sparsity) for row in rows if row.macs is not None]
    whole = sum(macs for macs, _ in known)
    if not whole:
        return ""
    left = round(sum(macs * (1.0 - sparsity) for macs, sparsity in known))
    return (
        f"Counted: {count(left)} of {count(whole)} multiply-accumulates of the layers are not with "
        f"a zero, {share(left / whole)}. Measured: the latency is {share(latency_ratio)} of the "
        "baseline's. Only what is measured was decided by."
    )
