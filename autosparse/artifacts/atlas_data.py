"""Everything that the atlas of one model shows, and its conclusion in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from autosparse.evaluation import Environment, Target
from autosparse.levels import Level
from autosparse.levels.break_even import (
    AtlasEntry,
    BreakEven,
    LevelTime,
    break_even,
    fastest_dense,
)

_ENOUGH_LAYERS = 0.5


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileTime(_Record):
    """The whole model, every layer that can be at one level: what the borders cost is in it."""

    level: Level
    """The level."""
    layers: int
    """Layers that were at it; the others stayed as they came."""
    seconds: float
    """Median latency of one inference."""
    ratio: float
    """The same over the latency of the model as it came, from one interleaved run."""


class AtlasData(_Record):
    """The layer shapes of one model in one place."""

    model: str
    """File name of the model."""
    model_sha256: str
    """SHA-256 of the model."""
    target: Target
    """Where it runs."""
    environment: Environment
    """What it was measured on."""
    inputs: str
    """Where the timed inputs and the ranges of the activations come from, in words."""
    created: str
    """When, in UTC."""
    product: str
    """What wrote it, with its version."""
    entries: tuple[AtlasEntry, ...]
    """One for every layer shape, in graph order."""
    measured: int
    """Cells that were measured in this run."""
    reused: int
    """Cells that were known from earlier ones."""
    files: tuple[FileTime, ...] = ()
    """Whole files, as far as this model was measured itself."""

    @property
    def families(self) -> tuple[str, ...]:
        """Families of levels that were asked for."""
        every = (found.family for entry in self.entries for found in entry.break_evens)
        return tuple(dict.fromkeys(every))


@dataclass(frozen=True)
class WholeFile:
    """What the break-even of whole files is, beside that of single layers."""

    best_dense: LevelTime
    break_evens: tuple[BreakEven, ...]
    """One for every family of the atlas; unmeasured where few of the layers could be at it."""


def whole_file(data: AtlasData) -> WholeFile | None:
    """Break-evens of whole files; None where this model was not timed itself."""
    most = max((f.layers for f in data.files), default=0)
    # a file with few of its layers at a level tells nothing of the level
    times = [
        LevelTime(level=f.level, sparsity=f.level.sparsity, seconds=f.seconds)
        for f in data.files
        if f.layers >= _ENOUGH_LAYERS * most
    ]
    dense = fastest_dense(times)
    if dense is None:
        return None
    return WholeFile(dense, tuple(break_even(name, times, dense) for name in data.families))


def summary(entries: Sequence[AtlasEntry]) -> str:
    """Where zeros pay, in a sentence or two."""
    if not entries:
        return "The model has no layers, so there is nothing to measure."
    measured = [e for e in entries if any(b.verdict != "unmeasured" for b in e.break_evens)]
    if not measured:
        return (
            f"No sparse level runs here for any of {_shapes(len(entries))}: the "
            "reasons are listed level by level."
        )
    pays = [e for e in entries if any(_wins(b) for b in e.break_evens)]
    if not pays:
        return (
            f"No sparse level that was measured is faster than the best dense one, for any of "
            f"{_shapes(len(entries))}."
        )
    families = dict.fromkeys(b.family for e in entries for b in e.break_evens)
    told = [text for text in (_family_words(name, entries) for name in families) if text]
    return f"Sparsity pays for {len(pays)} of {_shapes(len(entries))}: {'; '.join(told)}."


def break_even_words(found: BreakEven) -> str:
    """From 62 %; always; never; a dash where nothing was measured."""
    if found.verdict == "from" and found.sparsity is not None:
        return f"{found.sparsity:.0%}"
    return "-" if found.verdict == "unmeasured" else found.verdict


def _shapes(count: int) -> str:
    return f"{count} layer shape{'' if count == 1 else 's'}"


def _wins(found: BreakEven) -> bool:
    return found.verdict in ("always", "from")


def _family_words(family: str, entries: Sequence[AtlasEntry]) -> str:
    """unstructured:fp32 for 3 of them (from 82 % to 91 % zeros on)."""
    won = [b for e in entries for b in e.break_evens if b.family == family and _wins(b)]
    if not won:
        return ""
    least = sorted(b.sparsity or 0.0 for b in won)
    low, high = f"{least[0]:.0%}", f"{least[-1]:.0%}"
    span = f"from {low}" if low == high else f"from {low} to {high}"
    return f"{family} for {len(won)} ({span} zeros on)"
