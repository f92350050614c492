"""One layer of a model as a model of its own: what is to be timed apart from everything else."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, shape_inference

from autosparse.model_graph.graph import Layer, ModelGraph
from autosparse.model_graph.intake import load_model

SINGLE_INPUT = "x"
"""Name of the only input."""


def single_layer(
    graph: ModelGraph, layer: Layer, input_shape: tuple[int, ...], path: Path
) -> ModelGraph:
    """Write a model of this layer alone, with its weight, bias and attributes, and load it.

    Args:
        graph: where the layer comes from.
        layer: which one it is.
        input_shape: of its activations, all sizes fixed.
        path: the file to write.

    Raises:
        ModelError: such a layer cannot stand alone.
    """
    node = next(n for n in graph.model.graph if n.name == layer.node)
    alone = ir.serde.serialize_node(node)
    names = [SINGLE_INPUT, "weight"] + ["bias"] * (layer.bias is not None)
    del alone.input[:], alone.output[:]
    alone.input.extend(names)
    alone.output.append("y")
    constants = [numpy_helper.from_array(graph.weight(layer), "weight")]
    if layer.bias is not None:
        constants.append(numpy_helper.from_array(graph.constant(layer.bias), "bias"))
    made = helper.make_graph(
        [alone], "single layer",
        [helper.make_tensor_value_info(SINGLE_INPUT, TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants,
    )  # fmt: skip
    opset = graph.model.graph.opset_imports[""]
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = graph.model.ir_version
    onnx.save(shape_inference.infer_shapes(model), str(path))
    return load_model(path)
