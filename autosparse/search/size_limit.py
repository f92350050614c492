"""The size of files, predicted from the level table: to screen candidates, never to judge them.

The table knows the model's files with one layer at a level. What layers add to those of the dense
model is added up; what neighbours share is counted twice then, so that the sum is corrected by the
sizes of recipes that were lowered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from autosparse.levels import Level
from autosparse.levels.table import Cell
from autosparse.search.space import RecipeSpace

# A sum may be wrong by this share of the bound: what is near it is lowered, and its files tell.
TOLERANCE = 0.05


class SizeLimit:
    """What files may weigh, and what recipes are thought to.

    Args:
        bound: in bytes; infinite where only memory is limited.
        dense: size of the files with every layer as it came, in bytes.
        alone: (layer, level) -> its cell, which knows the files with only that layer at that level.
    """

    def __init__(self, bound: float, dense: int, alone: Mapping[tuple[str, Level], Cell]) -> None:
        self.bound = self.aim = bound
        self._dense = dense
        self._added = {key: (cell.file_bytes or dense) - dense for key, cell in alone.items()}
        self._libraries = {key: cell.library_bytes for key, cell in alone.items()}
        self._ratios: dict[str, float] = {}
        self._correction = 1.0

    @classmethod
    def of(cls, bound: float, cells: Iterable[Cell], space: RecipeSpace) -> SizeLimit | None:
        """The limit for a space; None where an earlier version built the table, without sizes."""
        known = {(c.layer, c.level): c for c in cells if c.file_bytes is not None}
        dense = next((c.file_bytes for c in known.values() if c.level.is_baseline), None)
        wanted = [(name, level) for name, own in space.layers.items() for level in own.levels]
        if dense is None or any(key not in known for key in wanted):
            return None
        return cls(bound, dense, {key: known[key] for key in wanted})

    def aim_at(self, size: float) -> None:
        """Have strategies look for files no larger than this, too: it screens none out."""
        self.aim = min(self.bound, size)

    def added(self, layer: str, level: Level) -> int:
        """Bytes that a layer at a level adds to the dense model's; negative where it saves."""
        return self._added[layer, level]

    def library(self, layer: str, level: Level) -> int:
        """Size of the library of kernels that a layer at a level needs; 0 where it needs none."""
        return self._libraries[layer, level]

    def learn(self, recipe_id: str, levels: Mapping[str, Level], size: int) -> None:
        """Take in the size of a recipe of the space that was lowered, in bytes."""
        self._ratios[recipe_id] = size / max(self._sum(levels), 1.0)
        self._correction = median(self._ratios.values())

    def predict(self, levels: Mapping[str, Level]) -> float:
        """Size of a recipe's files in bytes."""
        return self._correction * self._sum(levels)

    def excludes(self, predicted: float) -> bool:
        """Whether a file is surely too large, although the prediction may be wrong."""
        return predicted > self.bound * (1 + TOLERANCE)

    def _sum(self, levels: Mapping[str, Level]) -> float:
        library = max((self.library(*item) for item in levels.items()), default=0)
        return self._dense + sum(self.added(*item) for item in levels.items()) + library
