"""The atlas on disk: how long layers of one shape take at a level, in the place of measurement.

Latency depends on a layer's shape and on how many zeros there are, hardly on the weights: what was
measured with one model holds for every other model with layers of that shape, in the same place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autosparse.journal import Journal, stored_safely
from autosparse.levels.level import Level

ATLAS_FILE = "atlas.jsonl"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LayerShape(_Record):
    """Everything of a layer that its latency depends on, but for the level."""

    operator: str
    """Conv, Gemm or MatMul."""
    weight_shape: tuple[int, ...]
    """Shape of the weight as the model stores it."""
    groups: int = 1
    """Groups of a convolution."""
    attributes: str = ""
    """What else the node says and the runtime's work depends on: `strides=2,2`."""
    input_shape: tuple[int, ...] | None = None
    """Shape of the activations in one inference; None where it is not known."""

    @property
    def title(self) -> str:
        """Conv 16x8x3x3 on 1x8x32x32, strides=2,2."""
        return f"{self.short_title}, {self.attributes}" if self.attributes else self.short_title

    @property
    def short_title(self) -> str:
        """Conv 16x8x3x3 on 1x8x32x32."""
        weight = f"{self.operator} {_times(self.weight_shape)}"
        return weight if self.input_shape is None else f"{weight} on {_times(self.input_shape)}"


class Place(_Record):
    """Where something was measured: seconds from another place mean nothing here."""

    environment: str
    """Id of the environment."""
    target: str
    """Name of the target."""
    device: str
    """Kind of device."""
    backend: str
    """Backend that ran the layer."""
    threads: int
    """Threads of one inference."""


class Tuning(_Record):
    """Which of a backend's plans was taken for layers of one shape at one level, and why."""

    tried: int
    """Plans that were timed beside the usual one."""
    plan: str = ""
    """The plan that was faster beyond the noise; empty where the usual one stays."""
    ratio: float
    """Latency of the best plan over the usual one's, in the run that decided."""
    low: float
    """Lower end of that ratio's 95 % interval."""
    high: float
    """Its upper end: below 1 where the plan was taken."""

    def as_usual(self) -> Tuning:
        """The same evidence, the usual plan all the same."""
        return self.model_copy(update={"plan": ""})


class AtlasCell(_Record):
    """Layers of one shape at one level, in one place."""

    schema_version: Literal[1] = 1
    """Version of this record's schema."""
    place: Place
    """Where it was measured."""
    shape: LayerShape
    """Of what layers."""
    level: Level
    """At what level; methods make no difference to a latency, so none is named."""
    seconds: float | None
    """Share of one inference that the runtime spends in one such layer, every layer of the model
    being at this level; None where the level is not what runs."""
    reason: str = ""
    """Why there is no latency."""
    kernel: str = ""
    """Operator that the runtime executed."""
    layers: int = 1
    """Layers whose times were averaged."""
    model_sha256: str
    """SHA-256 of the model that it was measured with."""
    tuning: Tuning | None = None
    """What trying other plans came to; None where the usual one was measured and no other tried."""

    @property
    def plan(self) -> str:
        """What it was measured with; empty for the usual one."""
        return "" if self.tuning is None else self.tuning.plan


class Atlas:
    """What is known about one place. Of two records of the same cell, the later one counts.

    Raises:
        StorageError: the journal cannot be read or written, or is damaged.
    """

    def __init__(self, directory: Path, place: Place) -> None:
        self.place = place
        with stored_safely(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(directory / ATLAS_FILE, AtlasCell)
        here = (cell for cell in self._journal.records if cell.place == place)
        self._cells = {(cell.shape, cell.level): cell for cell in here}

    def __len__(self) -> int:
        return len(self._cells)

    def find(self, shape: LayerShape, level: Level) -> AtlasCell | None:
        """What was measured here, or None; the level's method makes no difference."""
        return self._cells.get((shape, level.without_method()))

    def put(self, cell: AtlasCell) -> None:
        """Add or replace a cell of this place."""
        self._journal.append(cell)
        self._cells[(cell.shape, cell.level)] = cell


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
