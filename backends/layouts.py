"""Changes of memory layout that a recipe makes ONNX Runtime do between its layers.

Its own convolutions keep their tensors in layouts that suit them: fp32 ones in blocks of channels
(NCHWc), int8 ones with the channels last. The sparse kernels read and write NCHW, as the model
does. Where one kind hands a tensor to another, the runtime inserts a node that moves every element.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import onnx_ir as ir

from autosparse.levels import Level, Precision
from autosparse.model_graph import Layer
from backends.qdq_plan import elements_per_row

Layout = Literal["nchw", "nchwc", "nhwc"]

# These take any layout, and hand on the one they got.
_INDIFFERENT = frozenset(
    {"Add", "Mul", "Relu", "Clip", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool",
     "Concat"}
)  # fmt: skip


def layout_changes(
    graph: ir.Graph, layers: Mapping[str, Layer], levels: Mapping[str, Level]
) -> dict[str, int]:
    """Name of each change (`layout:TENSOR`) -> elements per row that it moves, or 0.

    Changes that come with a change of precision are left out: the conversion's name stands for
    both.

    Args:
        graph: the graph, in topological order.
        layers: node name -> layer.
        levels: layer name -> level.
    """
    layouts: dict[str, Layout] = {}
    integer: dict[str, bool] = {}
    found: dict[str, int] = {}
    for node in graph:
        layer = layers.get(str(node.name))
        if layer is None and node.op_type not in _INDIFFERENT:
            continue
        tensors = [
            value for value in node.inputs if value is not None and str(value.name) in layouts
        ]
        if layer is not None:
            level = levels[layer.name]
            wanted, is_integer = _layout_of(layer, level), level.precision is Precision.INT8
        elif tensors:
            wanted = layouts[str(tensors[0].name)]
            is_integer = integer[str(tensors[0].name)]
        else:
            continue
        for value in tensors:
            name = str(value.name)
            if layouts[name] != wanted and integer[name] == is_integer:
                found[f"layout:{name}"] = elements_per_row(value)
        for value in node.outputs:
            layouts[str(value.name)], integer[str(value.name)] = wanted, is_integer
    return found


def _layout_of(layer: Layer, level: Level) -> Layout:
    if layer.operator != "Conv" or level.sparsity > 0:
        return "nchw"
    return "nhwc" if level.precision is Precision.INT8 else "nchwc"
