"""From an ONNX file to the files that are timed against each other: zeros by magnitude, lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir
import torch

from autosparse.calibration import NO_STATISTICS, ActivationRanges, RangeObserver
from autosparse.evaluation import Backend, LoweredModel, LoweringRequest, Target
from autosparse.evaluation.backend import Array
from autosparse.levels import BASELINE, Level, Recipe
from autosparse.levels.weights import CompressedWeight
from autosparse.methods.magnitude import Magnitude
from autosparse.methods.round_to_nearest import RoundToNearest
from autosparse.model_graph import Layer, ModelGraph, load_model
from backends.onnxruntime_backend import OnnxRuntimeBackend

INT8 = Level.parse("dense:int8")
_IMAGE_CHANNELS = 3


@dataclass
class Workload:
    """One model, and what its activations do."""

    graph: ModelGraph
    ranges: ActivationRanges
    original: LoweredModel
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the inputs that were given."""
    _weights: dict[tuple[str, str], CompressedWeight] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, inputs: Mapping[str, Array]) -> Workload:
        """Load a file and observe every tensor that may be quantized on one batch of inputs."""
        backend, graph = OnnxRuntimeBackend(), load_model(path)
        tensors = backend.calibrated_tensors(graph)
        seen = {**inputs, **backend.probe(graph, tensors, threads=1).run(inputs)}
        observer = RangeObserver()
        for name in tensors:
            observer.observe(name, seen[name].astype("float32"))
        shapes = {name: array.shape for name, array in inputs.items()}
        return cls(graph, observer.ranges(), LoweredModel(path.parent, path.name), shapes)

    def levels_at(self, level: Level, dense: Level) -> dict[str, Level]:
        """`level` for every layer where it can win, `dense` for the others.

        The convolution that reads an image stays dense: everybody leaves it so, since it costs
        the most accuracy.
        """
        return {
            layer.name: level if self.why_not(layer, level) == "" else dense
            for layer in self.graph.layers
        }

    def why_not(self, layer: Layer, level: Level) -> str:
        """Why a layer is not made sparse; empty where it is."""
        if layer.operator == "Conv" and layer.input_channels == _IMAGE_CHANNELS:
            return f"{layer.name} reads the image"
        capability = OnnxRuntimeBackend().capability(layer, level, Target())
        return capability.reason or Magnitude().why_not(layer, level)

    def lower(
        self, levels: Mapping[str, Level], directory: Path, backend: Backend | None = None
    ) -> LoweredModel:
        """Write the files of a level for every layer, for ONNX Runtime or another backend."""
        return self._lower(levels, self._weights_at(levels), directory, backend)

    def lower_without_kernels(self, levels: Mapping[str, Level], directory: Path) -> LoweredModel:
        """The same integers, zeros included, in a file of stock operators."""
        dense = {name: BASELINE if le.is_baseline else INT8 for name, le in levels.items()}
        return self._lower(dense, self._weights_at(levels), directory)

    def write_fp32(self, levels: Mapping[str, Level], path: Path) -> LoweredModel:
        """The same fp32 weights, zeros included, in a file of stock operators."""
        model = self.graph.copy_model()
        weights = self._weights_at(levels)
        for layer in self.graph.layers:
            if layer.name in weights:
                values = layer.from_matrix(weights[layer.name].values)
                model.graph.initializers[layer.weight].const_value = ir.tensor(
                    values, name=layer.weight
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        ir.save(model, path)
        return LoweredModel(path.parent, path.name)

    def forget_weights(self) -> None:
        """Give the memory of the compressed weights back."""
        self._weights.clear()

    def _lower(
        self,
        levels: Mapping[str, Level],
        weights: Mapping[str, CompressedWeight],
        directory: Path,
        backend: Backend | None = None,
    ) -> LoweredModel:
        recipe = Recipe(model_sha256=self.graph.sha256, levels=dict(levels))
        request = LoweringRequest(
            self.graph, recipe, weights, self.ranges, input_shapes=self.input_shapes
        )
        return (backend or OnnxRuntimeBackend()).lower(request, directory)

    def _weights_at(self, levels: Mapping[str, Level]) -> dict[str, CompressedWeight]:
        return {
            layer.name: self._weight_at(layer, levels[layer.name])
            for layer in self.graph.layers
            if not levels[layer.name].is_baseline
        }

    def _weight_at(self, layer: Layer, level: Level) -> CompressedWeight:
        key = layer.name, str(level)
        if key not in self._weights:
            method = RoundToNearest() if level.pattern.kind == "dense" else Magnitude()
            # a copy: the file's own arrays are read-only
            matrix = torch.tensor(layer.to_matrix(self.graph.weight(layer)))
            self._weights[key] = method.compress(layer, matrix, level, NO_STATISTICS)
        return self._weights[key]
