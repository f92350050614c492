"""The contract of a backend: what lowers a recipe to files and runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from autosparse.calibration import ActivationGrid, ActivationRanges
from autosparse.evaluation.target import Target
from autosparse.levels import Level, Recipe
from autosparse.levels.weights import CompressedWeight
from autosparse.model_graph import Layer, ModelGraph

Array = npt.NDArray[np.generic]


class Capability(BaseModel):
    """Whether a backend really runs one level for one layer, and whether that can be faster."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    runs: bool
    """Whether the backend can lower the level at all."""
    can_win: bool
    """Whether it may be faster than the layer as it came."""
    reason: str
    """Why not, in a sentence with the layer's name and numbers; empty where it can win."""

    @classmethod
    def wins(cls) -> Capability:
        """It runs, and may be faster."""
        return cls(runs=True, can_win=True, reason="")

    @classmethod
    def no_faster(cls, reason: str) -> Capability:
        """It runs, but never faster than dense."""
        return cls(runs=True, can_win=False, reason=reason)

    @classmethod
    def no(cls, reason: str) -> Capability:
        """It does not run here."""
        return cls(runs=False, can_win=False, reason=reason)


@dataclass(frozen=True)
class LoweringRequest:
    """Everything that a recipe needs to become files."""

    graph: ModelGraph
    recipe: Recipe
    weights: Mapping[str, CompressedWeight]
    """Layer name -> its weight at the recipe's level; baseline layers may be left out."""
    ranges: ActivationRanges
    architecture: str = ""
    """Of the device that runs the files, beside this machine; empty where they are the same."""
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of one inference on the target, where they are known: what a backend may prepare
    for. The files must run other sizes of free dimensions too."""
    tuning_trials: int = 0
    """For each loop nest that a backend compiles and has no kernel for; others pay no heed."""
    plans: Mapping[str, str] = field(default_factory=dict)
    """Layer name -> one of the backend's plans for its level; others are computed as usual."""


@dataclass(frozen=True)
class LoweredModel:
    """Files that a backend can open: `entry` is the one to load."""

    directory: Path
    entry: str
    graph_level: Literal["disabled", "basic", "extended", "all"] = "all"
    library: str = ""
    """Library of custom operators to load with it, relative to the directory. It is native code:
    named by whoever lowered the model or checked its bundle, never found by looking around."""
    device_library: str = ""
    """The same library for a device of another architecture; empty where it is this machine's."""

    @property
    def library_path(self) -> Path | None:
        """The library to load, or None."""
        return self.directory / self.library if self.library else None

    @property
    def path(self) -> Path:
        """The file to load."""
        return self.directory / self.entry

    def sha256(self) -> str:
        """Digest of the file to load."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


class ExecutedLayer(BaseModel):
    """What the runtime really executes for one layer, after its own optimizations."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kernel: str
    """Operator that the runtime executes, for example `QLinearConv`."""
    precision: Literal["fp32", "bf16", "int8", "int4", "other"]
    """Arithmetic of that operator; int4 where it reads 4-bit weights."""
    node: str
    """Name of the executed node, as `node_times` reports it."""
    skips_zeros: bool = False
    """Whether it leaves out the weights that are zero."""


class NodeTime(BaseModel):
    """Seconds that the runtime spends in one node of one inference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    operator: str
    seconds: float


@runtime_checkable
class Runner(Protocol):
    """An opened file."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One inference: every input by name -> every output by name."""


@runtime_checkable
class Backend(Protocol):
    """Lowers recipes and runs files. One instance serves a whole process."""

    name: str
    summary: str
    """One line for `autosparse backends`."""
    delivers_onnx: bool
    """Whether its files are ONNX models: a dense answer is then the very file that came."""

    def capability(self, layer: Layer, level: Level, target: Target) -> Capability:
        """Whether `level` runs for `layer` on `target`, and whether it can be faster."""

    def plans(self, layer: Layer, level: Level) -> Sequence[str]:
        """Other ways of computing a level than the usual one, in the backend's own words.

        A plan changes how long a layer takes and not what it computes: which is the fastest on a
        target is measured there. None where there is no choice.
        """

    def conversions(self, graph: ModelGraph, levels: Mapping[str, Level]) -> Mapping[str, int]:
        """What a recipe makes the runtime do between its layers: the boundary costs.

        Args:
            graph: the model graph.
            levels: layer name -> level.

        Returns:
            Name of each conversion (`quantize:TENSOR`, `dequantize:TENSOR` ...) -> elements per
            row that it converts, or 0 where the model does not tell. Equal names cost the same in
            every recipe.
        """

    def calibrated_tensors(self, graph: ModelGraph) -> Sequence[str]:
        """Activation tensors whose ranges `lower` may ask for."""

    def rounded_activations(
        self, graph: ModelGraph, levels: Mapping[str, Level], ranges: ActivationRanges
    ) -> Sequence[ActivationGrid]:
        """Activations that the lowered file rounds, so that a training can round them, too.

        Raises:
            CompileError: a tensor that would be rounded was not calibrated.
        """

    def probe(self, graph: ModelGraph, tensors: Sequence[str], threads: int) -> Runner:
        """Open the dense model so that the named intermediate tensors are outputs too."""

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        """Write the files of one recipe.

        Raises:
            CompileError: this recipe cannot be lowered; the search goes on without it.
        """

    def open(self, model: LoweredModel, *, threads: int) -> Runner:
        """Open files for running.

        Raises:
            MeasurementError: the runtime refuses them.
        """

    def executed_layers(self, model: LoweredModel, graph: ModelGraph) -> dict[str, ExecutedLayer]:
        """What the runtime makes of each layer, read off its own optimized graph."""

    def node_times(
        self, model: LoweredModel, inputs: Mapping[str, Array], *, threads: int, runs: int
    ) -> Sequence[NodeTime]:
        """Mean time of every node the runtime executes, from its own profiler."""
