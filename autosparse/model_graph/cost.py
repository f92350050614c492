"""What the layers cost: multiply-accumulates and sizes, for the shapes of one target.

They describe the dense model. Nothing is decided by them: latency is measured.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import onnxscript.optimizer

from autosparse.model_graph.graph import Layer, ModelGraph

# Larger constants tell shape inference nothing that their own shape does not.
_VALUES_UP_TO = 1024
# Masks and positions that shapes are computed from.
_FOLDED_UP_TO = 1 << 16
_BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class LayerCost:
    """Cost of one dense layer in one inference."""

    macs: int | None
    """Multiply-accumulates, the bias left out; None where a shape is not known before it runs."""
    parameters: int
    """Weights, the bias left out."""
    weight_bytes: int
    """Bytes of the weights as float32."""
    output_elements: int | None
    """Numbers that the layer writes; None where their count is not known before it runs."""


def layer_costs(
    graph: ModelGraph, input_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, LayerCost]:
    """Cost of every layer by name, in graph order.

    Args:
        graph: the model graph.
        input_shapes: shape of every graph input, the batch included.
    """
    elements = _element_counts(graph, input_shapes)
    return {layer.name: _cost(layer, elements.get(layer.output)) for layer in graph.layers}


def _cost(layer: Layer, output_elements: int | None) -> LayerCost:
    return LayerCost(
        # every number of the output is one sum over K, whatever the operator
        macs=None if output_elements is None else output_elements * layer.reduction,
        parameters=layer.parameters,
        weight_bytes=layer.parameters * _BYTES_PER_WEIGHT,
        output_elements=output_elements,
    )


def _element_counts(
    graph: ModelGraph, input_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Tensor -> number of its elements, where shape inference finds out."""
    model = _shell(graph, input_shapes)
    # exporters compute the shapes that they reshape to: with the inputs' fixed, those are constants
    with _quietly("onnxscript.optimizer"):
        onnxscript.optimizer.fold_constants(
            model, onnx_shape_inference=True, input_size_limit=_VALUES_UP_TO,
            output_size_limit=_FOLDED_UP_TO,
        )  # fmt: skip
    try:
        inferred = onnx.shape_inference.infer_shapes(
            ir.to_proto(model), check_type=False, strict_mode=False, data_prop=True
        )
    except onnx.shape_inference.InferenceError:
        return {}  # the shapes contradict the graph: running it will say where
    counts: dict[str, int] = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        shape = value.type.tensor_type.shape
        if not value.type.tensor_type.HasField("shape"):
            continue
        if all(dim.HasField("dim_value") for dim in shape.dim):
            counts[value.name] = math.prod(dim.dim_value for dim in shape.dim)
    return counts


@contextmanager
def _quietly(library: str) -> Iterator[None]:
    """What a library could not fold stays as it is: no warning to whoever asked for costs."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _shell(graph: ModelGraph, input_shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """The graph with the inputs' shapes fixed, other shapes forgotten and large constants empty."""
    model = graph.copy_model()
    for value in model.graph.inputs:
        if str(value.name) in input_shapes:
            value.shape = ir.Shape(input_shapes[str(value.name)])
    for node in model.graph:
        for output in node.outputs:
            output.shape = None
    for name, value in list(model.graph.initializers.items()):
        constant = value.const_value
        if constant is None or constant.size <= _VALUES_UP_TO:
            continue
        del model.graph.initializers[name]
        value.const_value = None
        value.shape, value.dtype = ir.Shape(constant.shape.numpy()), constant.dtype
        model.graph.inputs.append(value)
    return model
