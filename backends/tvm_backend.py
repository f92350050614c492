"""TVM on CPU: one library per model, whose layers run on our kernels, dense ones included.

What the model came as, and what calibration looks at, is ONNX Runtime's: that is what runs today,
and what an artifact is held against.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autosparse.calibration import ActivationGrid, ActivationRanges
from autosparse.errors import CompileError
from autosparse.evaluation import (
    Capability,
    ExecutedLayer,
    LoweredModel,
    LoweringRequest,
    Target,
)
from autosparse.evaluation.backend import Array, NodeTime, Runner
from autosparse.evaluation.simulation import NodeWork
from autosparse.levels import Dense, Level, Precision
from autosparse.model_graph import Layer, ModelGraph
from autosparse.tensor_spec import TensorSpec
from backends.kernels.library import put_library
from backends.kernels.plans import plans_for
from backends.kernels.support import why_no_kernels, why_not_sparse
from backends.onnxruntime_backend import OnnxRuntimeBackend
from backends.qdq_plan import bare_conversions, plan_qdq
from backends.tvm_artifact.artifact_work import ArtifactWork
from backends.tvm_artifact.build import LIBRARY_NAME, build_library
from backends.tvm_artifact.description import ArtifactDescription, ArtifactTensor
from backends.tvm_artifact.lowering import artifact_graph, is_flat_or_image, why_not_int8
from backends.tvm_artifact.parameter_file import read_layer_sizes, write_parameters
from backends.tvm_artifact.runner import ArtifactRunner, described, installed_tvm

PARAMETERS_NAME = "model.params"
_OF_DEVICES = "kernels"
"""Directory of libraries for other architectures, as in bundles for ONNX Runtime."""
_ONNX = ".onnx"
_WARMUP_RUNS = 5
_ONE_THREAD = 1


class TvmBackend:
    """Artifacts for TVM's runtime: compiled code, and a file of parameters."""

    name = "tvm"
    summary = "TVM on CPU: a compiled library per model, fp32, INT8 or sparse kernels per layer"
    delivers_onnx = False

    def __init__(self) -> None:
        self._onnxruntime = OnnxRuntimeBackend()

    def capability(self, layer: Layer, level: Level, target: Target) -> Capability:
        """fp32 and INT8, dense or sparse, of what the kernels know."""
        if level.precision not in (Precision.FP32, Precision.INT8):
            return Capability.no(f"{layer.name}: TVM has no {level} {layer.operator} of ours")
        missing = why_no_kernels(target.architecture)
        if missing:
            return Capability.no(f"{layer.name}: {missing}")
        if level.precision is Precision.INT8:
            reason = why_not_int8(layer)
            if reason:
                return Capability.no(reason)
        if isinstance(level.pattern, Dense):
            return Capability.wins()
        reason = why_not_sparse(layer, level)
        if reason and not is_flat_or_image(layer):  # it stays what it is, with its own weight
            return Capability.no(reason)
        return Capability.no_faster(reason) if reason else Capability.wins()

    def plans(self, layer: Layer, level: Level) -> Sequence[str]:
        """Tiles and families of the sparse kernels."""
        return [str(plan) for plan in plans_for(layer, level)]

    def conversions(self, graph: ModelGraph, levels: Mapping[str, Level]) -> Mapping[str, int]:
        """Quantize and dequantize nodes that no kernel absorbs; all layouts are the model's."""
        integer = _integer_layers(graph, levels)
        return bare_conversions(graph.model.graph, plan_qdq(graph.model.graph, integer))

    def calibrated_tensors(self, graph: ModelGraph) -> Sequence[str]:
        """Inputs and results of the layers and of what can join them."""
        return self._onnxruntime.calibrated_tensors(graph)

    def rounded_activations(
        self, graph: ModelGraph, levels: Mapping[str, Level], ranges: ActivationRanges
    ) -> Sequence[ActivationGrid]:
        """Grids of the tensors that carry a QuantizeLinear/DequantizeLinear pair."""
        return self._onnxruntime.rounded_activations(graph, levels, ranges)

    def probe(self, graph: ModelGraph, tensors: Sequence[str], threads: int) -> Runner:
        """The model as it came, in ONNX Runtime: its tensors have the same values."""
        return self._onnxruntime.probe(graph, tensors, threads)

    def lower(self, request: LoweringRequest, directory: Path) -> LoweredModel:
        """Write `model.so` and `model.params`, and a device's `kernels/ARCHITECTURE/model.so`."""
        missing = why_no_kernels(request.architecture)
        crosses = request.architecture not in ("", platform.machine())
        if missing:
            raise CompileError(missing)
        if crosses and request.tuning_trials:
            raise CompileError(
                f"loops for {request.architecture} cannot be tried on {platform.machine()}",
                hint="leave --tune away, or build on such a machine",
            )
        graph = artifact_graph(request)
        sizes = _fixed_sizes(request)
        built = build_library(graph.model, sizes, trials=request.tuning_trials)
        description = ArtifactDescription(
            architecture=platform.machine(),
            instruction_set=built.instruction_set,
            runtime=installed_tvm(),
            inputs=tuple(_tensor(spec) for spec in request.graph.inputs),
            outputs=tuple(_tensor(spec) for spec in request.graph.outputs),
            layers=tuple(graph.described),
            fixed_sizes=sizes,
        )
        directory.mkdir(parents=True, exist_ok=True)
        put_library(built.path, directory / LIBRARY_NAME)
        write_parameters(
            directory / PARAMETERS_NAME, graph.layers, graph.constants,
            description.model_dump_json().encode(), built.code,
        )  # fmt: skip
        for old in (directory / _OF_DEVICES).glob(f"*/{LIBRARY_NAME}"):
            old.unlink()
        device = ""
        if crosses:
            device = f"{_OF_DEVICES}/{request.architecture}/{LIBRARY_NAME}"
            theirs = build_library(graph.model, sizes, request.architecture)
            put_library(theirs.path, directory / device)
        return LoweredModel(directory, PARAMETERS_NAME, library=LIBRARY_NAME, device_library=device)

    def open(self, model: LoweredModel, *, threads: int) -> Runner:
        """Open an artifact, or the model as it came."""
        if model.path.suffix == _ONNX:
            return self._onnxruntime.open(model, threads=threads)
        return _open(model, threads)

    def executed_layers(self, model: LoweredModel, graph: ModelGraph) -> dict[str, ExecutedLayer]:
        """What the artifact says that its functions compute."""
        if model.path.suffix == _ONNX:
            return self._onnxruntime.executed_layers(model, graph)
        described_layers = {layer.node: layer for layer in described(model.path).layers}
        found = {}
        for layer in graph.layers:
            ran = described_layers.get(layer.node)
            if ran is not None:
                found[layer.name] = ExecutedLayer(
                    kernel=ran.function, precision=ran.precision, node=ran.node,
                    skips_zeros=ran.skips_zeros,
                )  # fmt: skip
        return found

    def node_times(
        self, model: LoweredModel, inputs: Mapping[str, Array], *, threads: int, runs: int
    ) -> Sequence[NodeTime]:
        """Mean time of every function that the graph calls; layers by the names of their nodes."""
        if model.path.suffix == _ONNX:
            return self._onnxruntime.node_times(model, inputs, threads=threads, runs=runs)
        runner = _open(model, threads)
        for _ in range(_WARMUP_RUNS):
            runner.run(inputs)
        stopwatch = _CallTimes([layer.node for layer in runner.description.layers])
        runner.watch(stopwatch.told)
        for _ in range(runs):
            runner.run(inputs)
        return [
            NodeTime(node=node, operator=function, seconds=seconds / runs)
            for (node, function), seconds in stopwatch.seconds.items()
        ]

    def node_work(self, model: LoweredModel, inputs: Mapping[str, Array]) -> Sequence[NodeWork]:
        """Multiplications and bytes of every function that the graph calls, counted here.

        Raises:
            ConfigError: loops that the compiler wrote multiply in it.
        """
        if model.path.suffix == _ONNX:
            return self._onnxruntime.node_work(model, inputs)
        runner = _open(model, _ONE_THREAD)
        counter = ArtifactWork(runner.description, read_layer_sizes(model.path))
        runner.watch(counter.told)
        runner.run(inputs)
        return counter.nodes()


class _CallTimes:
    """Seconds of each function of a graph, added up."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self._began = 0.0
        self.seconds: dict[tuple[str, str], float] = {}
        """(node, function) -> seconds."""

    def told(self, function: str, before: bool, arguments: Sequence[Any]) -> None:
        """Of a call that begins or has ended."""
        if before:
            self._began = time.perf_counter()
            return
        taken = time.perf_counter() - self._began
        node = function
        if function.startswith(("autosparse_linear", "autosparse_convolution")):
            node = self._nodes[int(arguments[1])]
        key = node, function
        self.seconds[key] = self.seconds.get(key, 0.0) + taken


def _open(model: LoweredModel, threads: int) -> ArtifactRunner:
    library = model.library_path or model.directory / LIBRARY_NAME
    return ArtifactRunner(library, model.path, threads=threads)


def _fixed_sizes(request: LoweringRequest) -> dict[str, int]:
    """Sizes of the free dimensions on the target; none where one is not known or has no name."""
    sizes: dict[str, int] = {}
    for spec in request.graph.inputs:
        given = request.input_shapes.get(spec.name, ())
        if len(given) != len(spec.shape):
            return {}
        for dim, size in zip(spec.shape, given, strict=True):
            if dim == "" or (isinstance(dim, str) and sizes.setdefault(dim, size) != size):
                return {}
    return sizes


def _integer_layers(graph: ModelGraph, levels: Mapping[str, Level]) -> dict[str, Layer]:
    return {la.node: la for la in graph.layers if levels[la.name].precision is Precision.INT8}


def _tensor(spec: TensorSpec) -> ArtifactTensor:
    return ArtifactTensor(name=spec.name, dtype=str(spec.dtype), shape=spec.shape)
