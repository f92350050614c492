"""What making a level table shares out among workers, as tasks of a pool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from autosparse.calibration import ActivationRanges, LayerStatistics
from autosparse.errors import CandidateError
from autosparse.evaluation import LoweredModel
from autosparse.evaluation.artifact_files import library_bytes, lowered_bytes
from autosparse.evaluation.sample import Sample
from autosparse.levels import Knobs, Level
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer
from autosparse.pipeline.calibrate import Calibration
from autosparse.pipeline.lowering import compressed, lower_layers, needed
from autosparse.pipeline.workshop import Workshop

# What the costliest methods do for a layer, an inverse for every output, is cubic in the weights of
# an output. A core of 2025 does some billions of these steps in a second, and the slowest a
# hundred million; what takes longer, and longer than this at least, hangs.
_LEAST_SECONDS, _STEPS_PER_SECOND = 900.0, 1e8


@dataclass(frozen=True)
class BuildingKit:
    """What making the cells of one table takes; implements `autosparse.pipeline.pool.Kit`."""

    workshop: Workshop
    ranges: ActivationRanges
    sample: Sample
    knobs: Knobs

    @property
    def files(self) -> Path:
        """Where its scratch directories lie."""
        return self.workshop.files

    def at(self, files: Path) -> BuildingKit:
        """See `Kit.at`."""
        return replace(self, workshop=self.workshop.at(files))

    def loaded(self) -> BuildingKit:
        """See `Kit.loaded`."""
        return replace(self, sample=self.sample.loaded())


@dataclass(frozen=True)
class Compress:
    """A task: one layer's weight at one level."""

    layer: Layer
    level: Level
    statistics: LayerStatistics

    @property
    def limit_seconds(self) -> float:
        """See `autosparse.pipeline.pool.LongTask`: without workers, it may take what it takes."""
        steps = self.layer.output_channels * self.layer.reduction**3
        return _LEAST_SECONDS + steps / _STEPS_PER_SECOND

    def __call__(self, kit: BuildingKit, /) -> CompressedWeight:
        """Let the level's method make it."""
        return compressed(kit.workshop, self.layer, self.level, self.statistics)


@dataclass(frozen=True)
class Impossible:
    """A task that has failed before it began."""

    reason: CandidateError

    def __call__(self, kit: BuildingKit, /) -> CompressedWeight:
        """Say so."""
        raise self.reason


def to_compress(layer: Layer, level: Level, calibration: Calibration) -> Compress | Impossible:
    """The task of making one weight, with what the method reads."""
    try:
        return Compress(layer, level, needed(level, layer, calibration))
    except CandidateError as error:
        return Impossible(error)


@dataclass(frozen=True)
class FileSizes:
    """Bytes on disk of one lowered model."""

    file: int
    """Everything but the library of kernels."""
    library: int
    """0 where it needs none."""

    @classmethod
    def of(cls, model: LoweredModel) -> FileSizes:
        """Look at the files."""
        library = library_bytes(model)
        return cls(lowered_bytes(model) - library, library)


@dataclass(frozen=True)
class Alone:
    """What becomes of the model with only one layer at a level."""

    divergence: float
    """Of its outputs from the dense model's."""
    sizes: FileSizes


@dataclass(frozen=True)
class AloneAtLevel:
    """A task: the model with only this layer at this level."""

    layer: str
    level: Level
    weight: CompressedWeight

    def __call__(self, kit: BuildingKit, /) -> Alone:
        """Lower, run, compare."""
        levels, weights = {self.layer: self.level}, {self.layer: self.weight}
        model = lower_layers(kit.workshop, levels, weights, kit.ranges, kit.knobs)
        divergence = kit.workshop.divergence(model, kit.sample)
        return Alone(divergence, FileSizes.of(model))
