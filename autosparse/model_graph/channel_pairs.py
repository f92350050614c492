"""Channels between layers that may be scaled or reordered without changing what a model computes.

Where one operator makes some channels and only layers read them, through nothing but operators that
treat every channel alike, a channel can be multiplied by a number where it is made and divided by
it where it is read, or change places with another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from autosparse.model_graph.graph import FloatArray, Layer, ModelGraph

Order = npt.NDArray[np.int64]
# What a positive factor of a channel passes through, and what only keeps channels apart.
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity", "Dropout", "MaxPool", "AveragePool"})
_CHANNELWISE = _HOMOGENEOUS | frozenset(
    {"Clip", "Sigmoid", "Tanh", "Gelu", "Erf", "HardSigmoid", "HardSwish", "Softplus", "Elu",
     "Selu", "Mish"}
)  # fmt: skip
_POOLS = frozenset({"MaxPool", "AveragePool"})


@dataclass(frozen=True)
class ChannelPair:
    """Who makes some channels, and who reads them."""

    name: str
    """Of the node that makes them."""
    channels: int
    made_by: tuple[tuple[str, int], ...]
    """Initializers that make them, each with its axis that counts channels."""
    readers: tuple[Layer, ...]
    """All that read them."""
    scalable: bool
    """Whether a positive factor passes through what lies between."""
    is_norm: bool
    """Whether a normalization makes them, and no layer."""


@dataclass(frozen=True)
class ChannelChange:
    """What happens to the channels of a pair."""

    pair: ChannelPair
    scale: FloatArray
    """(channels,), positive: what each is multiplied with where it is made."""
    order: Order
    """(channels,): which of the old ones comes to each place."""


Choose = Callable[[ModelGraph, ChannelPair], ChannelChange]
"""What decides on the change of a pair."""


def channel_pairs(graph: ModelGraph) -> tuple[ChannelPair, ...]:
    """Every pair of a model, in graph order."""
    readers: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        readers.setdefault(layer.input, []).append(layer)
    layers = {layer.node: layer for layer in graph.layers}
    found = (_pair(node, layers.get(str(node.name)), readers) for node in graph.model.graph)
    return tuple(pair for pair in found if pair is not None)


def input_axis(layer: Layer) -> int:
    """Axis of the stored weight that counts input channels."""
    return 1 - layer.output_axis


def changed(graph: ModelGraph, changes: Mapping[str, ChannelChange]) -> ModelGraph:
    """The same model in other weights.

    Args:
        graph: stays as it is.
        changes: pair's name -> what happens to it.
    """
    model = graph.copy_model()
    for change in changes.values():
        for name, axis in change.pair.made_by:
            _rewrite(model, name, axis, change.order, change.scale[change.order])
        for layer in change.pair.readers:
            factors = 1.0 / change.scale[change.order]
            _rewrite(model, layer.weight, input_axis(layer), change.order, factors)
    return replace(graph, model=model)


def rewritten(graph: ModelGraph, choose: Choose) -> tuple[ModelGraph, int]:
    """Change every pair as is chosen for it; and how many are others then."""
    changes = {}
    for pair in channel_pairs(graph):
        change, plain = choose(graph, pair), unchanged(pair)
        moved = not np.array_equal(change.order, plain.order)
        if moved or not np.array_equal(change.scale, plain.scale):
            changes[pair.name] = change
    return changed(graph, changes), len(changes)


def _rewrite(model: ir.Model, name: str, axis: int, order: Order, factors: FloatArray) -> None:
    """Reorder an initializer along an axis, then multiply."""
    value = model.graph.initializers[name]
    if value.const_value is not None:
        array = value.const_value.numpy().astype(np.float32)
        shape = [1] * array.ndim
        shape[axis] = -1
        array = np.take(array, order, axis=axis) * factors.reshape(shape)
        value.const_value = ir.tensor(array.astype(np.float32), name=name)


def _pair(
    node: ir.Node, layer: Layer | None, readers: Mapping[str, list[Layer]]
) -> ChannelPair | None:
    made_by = _layer_makes(node, layer) if layer is not None else _norm_makes(node)
    if not made_by:
        return None
    is_image = layer is not None and layer.operator == "Conv"
    walk = _Walk(readers, is_image, made_by)
    if not walk.follow(node.outputs[0]) or not walk.found:
        return None
    return ChannelPair(
        name=str(node.name), channels=_length(node, walk.made_by[0]),
        made_by=tuple(walk.made_by), readers=tuple(walk.found), scalable=walk.scalable,
        is_norm=layer is None,
    )  # fmt: skip


def _layer_makes(node: ir.Node, layer: Layer) -> list[tuple[str, int]]:
    if layer.groups != 1:
        return []
    inputs = [value for value in node.inputs[1:] if value is not None]
    axes = (layer.output_axis, 0)
    return _constants(list(zip(inputs, axes, strict=False)))


def _norm_makes(node: ir.Node) -> list[tuple[str, int]]:
    if node.op_type != "LayerNormalization":
        return []
    return _constants([(value, 0) for value in node.inputs[1:] if value is not None])


def _constants(given: list[tuple[ir.Value, int]]) -> list[tuple[str, int]]:
    """Their names; none where one of them is read elsewhere, too, or is no constant."""
    owned = all(value.is_initializer() and len(value.uses()) == 1 for value, _ in given)
    return [(str(value.name), axis) for value, axis in given] if owned else []


def _length(node: ir.Node, made: tuple[str, int]) -> int:
    """Channels that an initializer of a node makes."""
    values = {str(value.name): value for value in node.inputs if value is not None}
    tensor = values[made[0]].const_value
    return 0 if tensor is None else int(tensor.shape.numpy()[made[1]])


@dataclass
class _Walk:
    """From where channels are made to all who read them."""

    readers: Mapping[str, list[Layer]]
    is_image: bool
    """Whether channels are axis 1 of an image; else the last axis."""
    made_by: list[tuple[str, int]]

    def __post_init__(self) -> None:
        self.found: list[Layer] = []
        self.scalable = True

    def follow(self, value: ir.Value) -> bool:
        """Go on from a tensor; False where something else than a layer needs it."""
        if value.is_graph_output() or not value.uses():
            return False
        return all(self._pass(use.node, value) for use in value.uses())

    def _pass(self, node: ir.Node, value: ir.Value) -> bool:
        reader = next(
            (la for la in self.readers.get(str(value.name), []) if la.node == node.name), None
        )
        if reader is not None:
            self.found.append(reader)
            return reader.groups == 1 and (reader.operator == "Conv") == self.is_image
        if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
            return False
        if node.op_type == "Add" and not self.is_image:
            return self._bias(node, value) and self.follow(node.outputs[0])
        if node.op_type not in _CHANNELWISE or node.inputs[0] is not value:
            return False
        if node.op_type in _POOLS and not self.is_image:
            return False
        self.scalable &= node.op_type in _HOMOGENEOUS
        return self.follow(node.outputs[0])

    def _bias(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether an Add only adds a constant for each channel; it is one of the makers then."""
        others = [other for other in node.inputs if other is not None and other is not value]
        if len(others) != 1 or others[0].const_value is None:
            return False
        if len(others[0].const_value.shape) != 1 or others[0].const_value.shape.numpy()[0] == 1:
            return False
        own = _constants([(others[0], 0)])
        self.made_by.extend(own)
        return bool(own)


def unchanged(pair: ChannelPair) -> ChannelChange:
    """A change that changes nothing."""
    return ChannelChange(
        pair, np.ones(pair.channels, np.float32), np.arange(pair.channels, dtype=np.int64)
    )


def reading_rows(graph: ModelGraph, pair: ChannelPair) -> Iterator[FloatArray]:
    """Of every reader, (rows, channels): each row reads every channel once."""
    for layer in pair.readers:
        stored = np.moveaxis(graph.weight(layer), input_axis(layer), -1)
        yield np.ascontiguousarray(stored.reshape(-1, pair.channels))


def making_rows(graph: ModelGraph, pair: ChannelPair) -> FloatArray:
    """(channels, rest): the weights that make each channel."""
    name, axis = pair.made_by[0]
    stored = np.moveaxis(graph.constant(name), axis, 0)
    return np.ascontiguousarray(stored.reshape(pair.channels, -1))
