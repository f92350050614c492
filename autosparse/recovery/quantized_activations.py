"""Activations on the grids of the lowered file, differentiably, where int8 layers read or write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir
import torch
from torch import Tensor

from autosparse.calibration import ActivationGrid
from autosparse.model_graph import ModelGraph

_LOWEST, _HIGHEST = 0, 255


def on_grid(values: Tensor, grid: ActivationGrid) -> Tensor:
    """The nearest points of a grid; the gradient passes where a value lies within its range."""
    return torch.fake_quantize_per_tensor_affine(
        values, grid.scale, grid.zero_point, _LOWEST, _HIGHEST
    )


def with_taps(
    graph: ModelGraph, grids: Iterable[ActivationGrid]
) -> tuple[ir.Model, Mapping[str, ActivationGrid]]:
    """A model in which every quantized value has a name of its own.

    Some readers of a tensor see integers and others the float: the former get an Identity in
    between, whose output is what is rounded.

    Returns:
        The model, and the tensor to round -> its grid.
    """
    model = graph.copy_model()
    values = {str(v.name): v for v in model.graph.inputs}
    values.update((str(v.name), v) for node in model.graph for v in node.outputs)
    taken = set(values) | set(map(str, model.graph.initializers))
    rounded: dict[str, ActivationGrid] = {}
    for grid in grids:
        source = values[grid.tensor]
        if grid.readers is None:
            rounded[grid.tensor] = grid
            continue
        tap = ir.Node("", "Identity", [source], num_outputs=1, name=f"{grid.tensor}_tap")
        tap.outputs[0].name = _new_name(f"{grid.tensor}_rounded", taken)
        for use in source.uses():
            if use.node is not tap and str(use.node.name) in grid.readers:
                use.node.replace_input_with(use.idx, tap.outputs[0])
        producer = source.producer()
        if producer is None:
            model.graph.insert_before(model.graph[0], tap)
        else:
            model.graph.insert_after(producer, tap)
        rounded[str(tap.outputs[0].name)] = grid
    return model, rounded


def _new_name(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name
