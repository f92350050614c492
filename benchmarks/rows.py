"""The row: one figure, what it is held against, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, field_validator


class Row(BaseModel):
    """One figure. Every figure comes from a measurement of the run that printed it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    what: str
    """What was measured, on which model, at which budget."""
    figure: float | None = None
    """Our figure; None where there is none, and `note` says why."""
    unit: str = ""
    """Unit of both figures."""
    opponent: str = ""
    """What the figure is held against; empty where it stands alone."""
    opponent_figure: float | None = None
    """The opponent's figure."""
    ratio: float | None = None
    """Our figure over the opponent's."""
    bar: str = ""
    """What is asked; empty where the row is only a report."""
    holds: bool | None = None
    """Whether the bar is met; None where there is no bar, or nothing to hold against it."""
    environment: str
    """Id of the environment that the figure was measured in."""
    note: str = ""
    """Intervals, circumstances, or the reason why there is no figure."""

    @field_validator("figure", "opponent_figure", "ratio")
    @classmethod
    def _is_a_number(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("a figure is a finite number or absent")
        return value


def ratio_of(figure: float, opponent_figure: float) -> float | None:
    """Our figure over the opponent's; None where that says nothing."""
    return figure / opponent_figure if opponent_figure else None


def failed_row(what: str, reason: str, environment: str) -> Row:
    """Something that should have given a figure and did not: it does not hold."""
    return Row(what=what, holds=False, environment=environment, note=reason)


def skipped_row(what: str, reason: str, environment: str) -> Row:
    """Something that was left out, and why: said, never silent."""
    return Row(what=what, environment=environment, note=f"skipped: {reason}")


def all_hold(rows: Iterable[Row]) -> bool:
    """Whether no bar was missed."""
    return all(row.holds is not False for row in rows)
