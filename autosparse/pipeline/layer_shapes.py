"""What layers' latencies depend on, read off the graph and one inference; and where that holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from autosparse.calibration import ActivationRanges, RangeObserver
from autosparse.evaluation import Backend, Environment, Target
from autosparse.evaluation.backend import Array
from autosparse.levels.atlas import LayerShape, Place
from autosparse.model_graph import ModelGraph

# Said by the weight's shape already, or by a field of its own.
_TOLD_ELSEWHERE = frozenset({"kernel_shape", "group"})
# What an exporter may write out or leave away.
_USUAL: Mapping[str, frozenset[object]] = {
    "strides": frozenset({1}), "dilations": frozenset({1}), "pads": frozenset({0}),
    "auto_pad": frozenset({"NOTSET"}), "transA": frozenset({0}), "transB": frozenset({0}),
    "alpha": frozenset({1.0}), "beta": frozenset({1.0}),
}  # fmt: skip


def place_of(target: Target, environment: Environment) -> Place:
    """Where something is measured now."""
    return Place(
        environment=environment.id,
        target=target.name,
        device=target.device,
        backend=target.backend,
        threads=target.threads,
    )


def observe_layers(
    graph: ModelGraph, backend: Backend, inferences: Iterable[Mapping[str, Array]]
) -> tuple[dict[str, LayerShape], ActivationRanges]:
    """Run some inferences, and see the shapes and ranges of the activations.

    Args:
        graph: the model graph.
        backend: what runs it.
        inferences: inputs in the target's shapes.

    Returns:
        Layer name -> what its latency depends on; and the ranges of every tensor that may be
        asked for.

    Raises:
        MeasurementError: the runtime refuses the model or its inputs.
    """
    ranged = set(backend.calibrated_tensors(graph))
    read = {layer.input for layer in graph.layers}
    runner = backend.probe(graph, sorted(ranged | read), threads=len(os.sched_getaffinity(0)))
    observer = RangeObserver()
    shapes: dict[str, tuple[int, ...]] = {}
    for inputs in inferences:
        for name, values in {**inputs, **runner.run(inputs)}.items():
            shapes.setdefault(name, values.shape)
            if name in ranged:
                observer.observe(name, values.astype(np.float32, copy=False))
    nodes = {str(node.name): node for node in graph.model.graph}
    found = {
        layer.name: LayerShape(
            operator=layer.operator,
            weight_shape=layer.weight_shape,
            groups=layer.groups,
            attributes=_attributes(nodes[layer.node]),
            input_shape=shapes.get(layer.input),
        )
        for layer in graph.layers
    }
    return found, observer.ranges()


def _attributes(node: ir.Node) -> str:
    """`strides=2,2`, and only what is not as usual; `bias` where the node adds one."""
    told: list[str] = ["bias"] if len(node.inputs) > 2 and node.inputs[2] is not None else []
    for name, attribute in sorted(node.attributes.items()):
        value = attribute.value
        values = list(value) if isinstance(value, list | tuple) else [value]
        if name in _TOLD_ELSEWHERE or _USUAL.get(name, frozenset()).issuperset(values):
            continue
        told.append(f"{name}={','.join(map(str, values))}")
    return ", ".join(told)
