"""The atlas as one HTML file in the style of the report, which needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autosparse.artifacts.atlas_chart import AtlasDrawing, atlas_drawings, mark_words
from autosparse.artifacts.atlas_data import AtlasData, break_even_words, summary, whole_file
from autosparse.artifacts.report import render_page, render_part
from autosparse.artifacts.report_words import (
    GAP,
    UNKNOWN,
    level_meaning,
    milliseconds,
    plural,
    share,
    short,
    significant,
)
from autosparse.levels.break_even import AtlasEntry, BreakEven, LevelTime

_SYMBOLS = ("dot", "square", "diamond", "ring")
_COLOURS = 5


@dataclass(frozen=True)
class LevelRow:
    """One level of one layer shape."""

    level: str
    meaning: str
    sparsity: str
    time: str
    over_dense: str
    kernel: str
    remark: str


@dataclass(frozen=True)
class EntryView:
    """One layer shape."""

    title: str
    layers: str
    dense: str
    """The best dense level in a sentence."""
    best_dense: str
    break_evens: tuple[str, ...]
    """One for every family, in as few words as possible."""
    facts: tuple[tuple[str, str], ...]
    drawings: tuple[AtlasDrawing, ...]
    tips: list[list[str]]
    rows: tuple[LevelRow, ...]


@dataclass(frozen=True)
class FileRow:
    """The whole model at one level."""

    level: str
    layers: str
    time: str
    ratio: str


@dataclass(frozen=True)
class FamilyView:
    """How a family looks in every chart."""

    name: str
    number: int
    colour: int
    symbol: str


def render_atlas(data: AtlasData) -> str:
    """Return the atlas as one HTML document."""
    return render_page("atlas.html", _sections(data, "h2"), ("atlas.css",))


def render_shapes(data: AtlasData) -> str:
    """Break-evens and charts alone, as a piece of a page that has the atlas's style."""
    return render_part("atlas_part.html", **_sections(data, "h3"))


def _sections(data: AtlasData, heading: str) -> dict[str, Any]:
    """Everything the templates name.

    Args:
        data: the atlas.
        heading: tag of the headings of layer shapes.
    """
    families, whole = data.families, whole_file(data)
    return {
        "heading": heading,
        "data": data,
        "model_name": short(data.model),
        "summary": summary(data.entries),
        "families": [
            FamilyView(name, number, number % _COLOURS, _SYMBOLS[number % len(_SYMBOLS)])
            for number, name in enumerate(families)
        ],
        "entries": [_entry(entry, families) for entry in data.entries],
        "whole": None
        if whole is None
        else (
            f"{whole.best_dense.level}, {_microseconds(whole.best_dense.seconds)}",
            [_few_words(found) for found in whole.break_evens],
        ),
        "files": [
            FileRow(
                str(f.level), plural(f.layers, "layer"), milliseconds(f.seconds), share(f.ratio)
            )
            for f in data.files
        ],
        "target_yaml": data.target.to_yaml(),
    }


def _entry(entry: AtlasEntry, families: tuple[str, ...]) -> EntryView:
    dense = entry.best_dense
    return EntryView(
        title=entry.shape.title,
        layers=_layer_words(entry),
        dense="no dense level was measured"
        if dense is None
        else f"best dense: {dense.level}, {_microseconds(dense.seconds)}",
        best_dense=UNKNOWN if dense is None else f"{dense.level}, {_microseconds(dense.seconds)}",
        break_evens=tuple(_few_words(found) for found in entry.break_evens),
        facts=tuple((found.family, _fact(found)) for found in entry.break_evens),
        drawings=atlas_drawings(entry, families),
        tips=mark_words(entry, families),
        rows=tuple(_row(time, dense) for time in entry.times),
    )


def _few_words(found: BreakEven) -> str:
    words = break_even_words(found)
    return UNKNOWN if found.verdict == "unmeasured" else words.replace("%", f"{GAP}%")


def _fact(found: BreakEven) -> str:
    if found.verdict == "from":
        return f"faster from {_few_words(found)} zeros on"
    if found.verdict == "always":
        return f"always faster (measured from {share(found.sparsity, 0)} on)"
    return "never faster" if found.verdict == "never" else "not measured"


def _layer_words(entry: AtlasEntry) -> str:
    first = short(entry.layers[0])
    if len(entry.layers) == 1:
        return first
    return f"{first} and {plural(len(entry.layers) - 1, 'more layer')}"


def _row(time: LevelTime, dense: LevelTime | None) -> LevelRow:
    ratio = UNKNOWN
    if time.seconds is not None and dense is not None and dense.seconds:
        ratio = share(time.seconds / dense.seconds)
    return LevelRow(
        level=str(time.level),
        meaning=level_meaning(str(time.level)),
        sparsity=share(time.sparsity, 0),
        time=_microseconds(time.seconds),
        over_dense=ratio,
        kernel=_kernel_words(time),
        remark=time.reason or ("from an earlier run" if time.reused else ""),
    )


def _kernel_words(time: LevelTime) -> str:
    if not time.kernel:
        return UNKNOWN
    return f"{time.kernel} ({time.plan})" if time.plan else time.kernel


def _microseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{significant(seconds * 1e6)}{GAP}us"
