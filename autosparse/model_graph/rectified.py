"""Layers behind which there is nothing but a ReLU: what they compute below zero is lost."""

from __future__ import annotations

import onnx_ir as ir

from autosparse.model_graph.graph import ModelGraph


def rectified_layers(graph: ModelGraph) -> frozenset[str]:
    """Names of the layers whose output is read by ReLUs alone, or by Clips from 0 on."""
    delivered = {value.name for value in graph.model.graph.outputs}
    computed = {value.name: value for node in graph.model.graph for value in node.outputs}
    return frozenset(
        layer.name
        for layer in graph.layers
        if layer.output not in delivered
        and (readers := computed[layer.output].consumers())
        and all(_rectifies(reader) for reader in readers)
    )


def _rectifies(node: ir.Node) -> bool:
    if node.op_type == "Relu":
        return True
    least = node.inputs[1] if node.op_type == "Clip" and len(node.inputs) > 1 else None
    return (
        least is not None and least.const_value is not None and not least.const_value.numpy().any()
    )
