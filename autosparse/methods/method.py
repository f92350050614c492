"""The contract of a method: how a dense layer becomes a level.

A method is a pure function on tensors inside a thin class. To add one: copy `magnitude.py`, write
its card (the module's docstring), and add one line to `METHODS`; the conformance suite finds it.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from autosparse.calibration import LayerStatistics
from autosparse.levels import Level
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer

Statistic = Literal["input_norms", "hessian", "gradient_norms", "row_gradients"]

Family = Literal["rounding", "score", "solver"]
"""Rounding puts weights on a grid; a score ranks them and leaves the kept ones as they are; a
solver chooses and changes them together."""


@runtime_checkable
class Method(Protocol):
    """Makes levels of one layer."""

    name: str
    summary: str
    """One line for `autosparse methods`."""
    source: str
    """Paper or system it embodies."""
    needs: frozenset[Statistic]
    """Statistics it reads; empty for a method that needs no calibration data."""
    family: Family
    """What kind of method it is."""
    cost: str
    """What it costs beside reading the statistics, in a few words."""

    def why_not(self, layer: Layer, level: Level) -> str:
        """Why the method cannot make `level` of `layer`, with its name and numbers; else empty."""

    def compress(
        self, layer: Layer, weight: Tensor, level: Level, statistics: LayerStatistics
    ) -> CompressedWeight:
        """Make the level.

        Args:
            layer: the layer's description.
            weight: (output channels, K) float32; never changed in place.
            level: what to make; `why_not` returned an empty string for it.
            statistics: holds at least what `needs` names.
        """
