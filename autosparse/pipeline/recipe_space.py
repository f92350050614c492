"""The space of recipes: which levels each layer may be searched over, as its cells tell."""

from __future__ import annotations

from collections.abc import Sequence

from autosparse.errors import ConfigError
from autosparse.levels import Knobs, Level
from autosparse.levels.table import Cell
from autosparse.pipeline.bench import Bench
from autosparse.pipeline.job import Job
from autosparse.pipeline.layer_choices import KEPT
from autosparse.search import RecipeSpace


def resolve_space(bench: Bench) -> RecipeSpace:
    """The levels that the table says may be searched, slowest first."""
    return space_of(bench.job, bench.table.cells(), bench.knobs)


def space_of(job: Job, cells: Sequence[Cell], knobs: Knobs) -> RecipeSpace:
    """The levels of the searched ones among some cells, slowest first.

    Of several methods that make the same pattern and precision, a layer keeps the one with the
    least divergence: they run equally fast. Layers that share a level are one choice.

    Raises:
        ConfigError: a layer was to keep a level that it cannot have.
    """
    levels: dict[str, tuple[Level, ...]] = {}
    seconds: dict[tuple[str, Level], float] = {}
    for layer in job.graph.layers:
        best: dict[Level, Cell] = {}
        for cell in cells:
            if cell.searched and cell.layer == layer.name:
                key = cell.level.without_method()
                best[key] = min(best.get(key, cell), cell, key=_error)
        ordered = sorted(best.values(), key=lambda cell: -(cell.seconds or 0.0))
        levels[layer.name] = tuple(cell.level for cell in ordered)
        seconds |= {(layer.name, cell.level): cell.seconds or 0.0 for cell in ordered}
        if not ordered:
            raise _kept_in_vain(cells, layer.name)
    return RecipeSpace.grouped(
        job.graph.sha256, levels, job.groups, lambda name, level: seconds[name, level], knobs
    )


def _kept_in_vain(cells: Sequence[Cell], layer: str) -> ConfigError:
    """Only a layer that was told its level can be left without any."""
    own = [cell.reason for cell in cells if cell.layer == layer]
    reasons = [reason for reason in own if reason and KEPT not in reason]
    return ConfigError(
        f"the layer {layer} cannot have the level that it was to keep: "
        f"{reasons[-1] if reasons else 'it could not be made'}",
        hint="give it another level with --keep, or leave it to the search",
    )


def _error(cell: Cell) -> float:
    return float("inf") if cell.divergence is None else cell.divergence
