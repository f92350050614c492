"""Rows as text: one line while the run goes on, an aligned table at its end."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchmarks.rows import Row

_HEADER = ("what", "figure", "unit", "opponent", "its figure", "ratio", "bar", "holds", "env")
_RIGHT = frozenset({"figure", "its figure", "ratio"})
_NOTE_WIDTH, _NOTE_INDENT = 116, " " * 4
_SMALL, _LARGE = 1e-3, 1e5


def render_line(row: Row) -> str:
    """One row in one line, for whoever watches."""
    parts = [row.what]
    if row.figure is not None:
        parts.append(f"{render_number(row.figure)} {row.unit}".rstrip())
    if row.opponent_figure is not None:
        parts.append(f"against {render_number(row.opponent_figure)} ({row.opponent})")
    if row.ratio is not None:
        parts.append(f"ratio {render_number(row.ratio)}")
    if row.bar:
        parts.append(f"bar {row.bar}: {render_holds(row.holds)}")
    elif row.holds is not None:
        parts.append(render_holds(row.holds))
    if row.note:
        parts.append(row.note)
    return " | ".join(parts)


def render_table(rows: Sequence[Row]) -> str:
    """All rows, aligned, each with its note below it."""
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [_HEADER, *cells]) for i in range(len(_HEADER))]
    lines = [_aligned(_HEADER, widths), "  ".join("-" * width for width in widths)]
    for row, line in zip(rows, cells, strict=True):
        lines.append(_aligned(line, widths))
        lines.extend(
            textwrap.wrap(
                row.note, _NOTE_WIDTH, initial_indent=_NOTE_INDENT, subsequent_indent=_NOTE_INDENT
            )
        )
    return "\n".join(lines) + "\n"


def render_number(number: float | None) -> str:
    """Four digits, in whichever notation is shorter to read."""
    if number is None:
        return ""
    if number == int(number) and abs(number) < _LARGE:
        return str(int(number))
    if _SMALL <= abs(number) < _LARGE:
        return f"{number:.4g}"
    return f"{number:.3e}"


def render_holds(holds: bool | None) -> str:
    """`yes`, `NO`, or a dash where there is nothing to hold."""
    return "-" if holds is None else "yes" if holds else "NO"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what, render_number(row.figure), row.unit, row.opponent,
        render_number(row.opponent_figure), render_number(row.ratio), row.bar,
        render_holds(row.holds), row.environment,
    )  # fmt: skip


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, _HEADER, strict=True)
    ]
    return "  ".join(padded).rstrip()
