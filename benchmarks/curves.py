"""Curves over the number of evaluations, as an SVG file that needs nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autosparse.artifacts.chart_scales import Frame, Kind, Scale
from benchmarks.tabulated import Floats

_FRAME = Frame(width=760, height=420, left=64, right=170, top=40)
_COLOURS = ("#0b6e4f", "#c1121f", "#1d4ed8", "#b45309", "#6d28d9", "#334155")


def write_curves(
    path: Path, title: str, axis: str, curves: Mapping[str, Floats], *, kind: Kind = "linear"
) -> None:
    """Draw one line for each name; the first evaluations without a figure are left out.

    Where there is no figure at all, nothing is written.

    Args:
        path: of the SVG file.
        title: above the chart.
        axis: what the ordinate is.
        curves: name -> (evaluations,) figures, infinite where there is none yet.
        kind: of the ordinate's scale; figures have to be positive where it is "log".
    """
    known = np.array([v for curve in curves.values() for v in curve if np.isfinite(v)])
    if not len(known):
        return
    longest = max(len(curve) for curve in curves.values())
    low, high = float(known.min()), float(known.max())
    if low == high:
        low, high = 0.9 * low - 1e-9, 1.1 * high + 1e-9
    x, y = Scale(1.0, float(longest), *_FRAME.x_range), Scale(low, high, *_FRAME.y_range, kind=kind)
    parts = [_axes(x, y, title, axis)]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{x(index + 1)},{y(float(value))}"
            for index, value in enumerate(curve)
            if np.isfinite(value)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
        at = _FRAME.top + 18 * number
        parts.append(_text(_FRAME.width - _FRAME.right + 12, at, name, colour))
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_FRAME.width} {_FRAME.height}" '
        f'font-family="sans-serif" font-size="12">\n{body}\n</svg>\n',
        encoding="utf-8",
    )


def _axes(x: Scale, y: Scale, title: str, axis: str) -> str:
    left, right = _FRAME.x_range
    bottom, top = _FRAME.y_range
    parts = [
        _text(left, 20, title),
        _text(left, top - 6, axis),
        _text((left + right) / 2 - 30, _FRAME.height - 8, "evaluations"),
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>',
    ]
    parts += [_text(tick.at - 8, bottom + 16, tick.label) for tick in x.ticks(60)]
    parts += [_text(8, tick.at + 4, tick.label) for tick in y.ticks(40)]
    return "\n".join(parts)


def _text(x: float, y: float, text: str, colour: str = "#222") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}">{html.escape(text)}</text>'
