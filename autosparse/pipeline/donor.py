"""A donor: the level table of a job on another target, whose compressed weights are those of this.

What a method makes of a layer depends on the model, the calibration data and the seed, and on no
device. What a layer's level does to the model's answers depends on how the file is lowered, too:
it is taken from a donor whose files are the same ones. Seconds are nobody's but their device's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from autosparse.calibration import ActivationRanges
from autosparse.levels import Knobs, Level
from autosparse.levels.table import Cell, WeightFiles
from autosparse.levels.weights import CompressedWeight
from autosparse.pipeline.building import Alone, FileSizes
from autosparse.pipeline.workshop import Plans


@dataclass(frozen=True)
class Donor:
    """What another job made; its files are only read, and may be gone before this job ends."""

    name: str
    """What the other job is called."""
    cells: dict[tuple[str, Level], Cell]
    """Its level table."""
    files: WeightFiles
    """Its weights."""
    ranges: ActivationRanges | None
    """Ranges of its activations; None where its backend is another one, or it has none."""
    knobs: Knobs | None
    """How it asks the runtime to run files; None where its files are not the ones of this job."""
    plans: Plans = field(default_factory=dict)
    """Of layers that it computes in another way than as usual."""

    @property
    def note(self) -> str:
        """What the report tells of it."""
        evaluated = "" if self.knobs is None else ", and what they do to the model's answers,"
        return f"compressed weights{evaluated} are those of the job {self.name}, where it has them"

    def weights(self, level: Level, layers: Iterable[str]) -> dict[str, CompressedWeight]:
        """Layer -> its weight at a level, for the layers that have one."""
        return {
            layer: self.files.weight(layer, level)
            for layer in layers
            if self.files.has_weight(layer, level)
        }

    def alone(
        self,
        level: Level,
        layers: Iterable[str],
        ranges: ActivationRanges,
        knobs: Knobs,
        plans: Plans,
    ) -> dict[str, Alone]:
        """Layer -> what becomes of the model with only it at the level, where that is known.

        Args:
            level: the level.
            layers: names of the layers.
            ranges: of this job's activations, which may be older than what the other one has.
            knobs: how this job asks the runtime to run files.
            plans: of the layers that this job computes in another way than as usual.
        """
        if (ranges, knobs) != (self.ranges, self.knobs):
            return {}
        key = level.without_method()
        cells = {
            layer: self.cells.get((layer, level))
            for layer in layers
            if plans.get((layer, key)) == self.plans.get((layer, key))
        }
        return {
            layer: Alone(cell.divergence, FileSizes(cell.file_bytes, cell.library_bytes))
            for layer, cell in cells.items()
            if cell is not None and cell.divergence is not None and cell.file_bytes is not None
        }
