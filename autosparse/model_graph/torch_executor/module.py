"""The model graph as a torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn

from autosparse.errors import AutoSparseError, DataError
from autosparse.model_graph.graph import Layer, ModelGraph
from autosparse.model_graph.torch_executor.node import NodeFailedError
from autosparse.model_graph.torch_executor.plan import (
    Operand,
    Step,
    constant_key,
    operand,
    plan_steps,
)
from autosparse.model_graph.torch_executor.tensors import to_torch

Observer = Callable[[Tensor], None]
"""Is called with a tensor as soon as it is computed; must not change it."""
Hook = Callable[[Tensor], Tensor]
"""Is called with a tensor as soon as it is computed; returns what takes its place."""

_WEIGHT, _BIAS = 1, 2  # input positions of Conv, Gemm and MatMul
_HOST = torch.device("cpu")


class GraphModule(nn.Module):
    """Runs an ONNX graph with torch, as inference does: batch norms fixed, nothing dropped.

    Weights and biases of the layers are parameters, other constants are buffers; 64-bit integers
    stay on the CPU, where shapes are computed anew in each run, so that batch and sequence length
    may change from one call to the next. The mode (`train`, `eval`) changes nothing.

    Args:
        model: sorted topologically, functions inlined.
        layers: whose weights and biases become parameters.

    Raises:
        ModelError: the graph needs something that the executor does not have; all of it is named.
    """

    def __init__(self, model: ir.Model, layers: Sequence[Layer] = ()) -> None:
        super().__init__()
        bindings: dict[tuple[str, int], str] = {}
        for layer in layers:
            bindings[layer.node, _WEIGHT] = constant_key("weight", layer.name)
            if layer.bias is not None:
                bindings[layer.node, _BIAS] = constant_key("bias", layer.name)
        self._steps = plan_steps(model, bindings)
        self._layers = {layer.name: layer for layer in layers}
        self._outputs = {str(value.name): operand(value) for value in model.graph.outputs}
        self._host_constants: dict[str, Tensor] = {}
        self.input_names = tuple(
            str(value.name) for value in model.graph.inputs if not value.is_initializer()
        )
        self._register_constants(model)

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> GraphModule:
        """Build the module of a model graph; its tensors are copied.

        Raises:
            ModelError: the graph needs something that the executor does not have.
        """
        return cls(graph.model, graph.layers)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Keys of what `forward` returns."""
        return tuple(self._outputs)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers in graph order."""
        return tuple(self._layers)

    def layer_weight(self, name: str) -> nn.Parameter:
        """Return a layer's weight in the shape that the file stores."""
        return self.get_parameter(constant_key("weight", self._layer(name).name))

    def layer_bias(self, name: str) -> nn.Parameter | None:
        """Return the bias of a layer's own node, (output channels,), or None."""
        layer = self._layer(name)
        return None if layer.bias is None else self.get_parameter(constant_key("bias", name))

    def set_layer_weight(self, name: str, weight: Tensor) -> None:
        """Overwrite a layer's weight in place, outside any gradient.

        A weight that is shared (by two layers, or with an embedding) is one parameter until one
        of its layers is set: that layer then gets a parameter of its own, the others keep theirs.

        Args:
            name: the layer.
            weight: shaped as the weight it replaces.
        """
        old = self.layer_weight(name)
        if weight.shape != old.shape:
            raise AutoSparseError(
                f"layer {name!r} has a weight of shape {tuple(old.shape)}, "
                f"not {tuple(weight.shape)}"
            )
        if sum(parameter is old for parameter in self._parameters.values()) > 1:
            own = nn.Parameter(weight.detach().to(old).clone(), requires_grad=old.requires_grad)
            self.register_parameter(constant_key("weight", name), own)
            return
        with torch.no_grad():
            old.copy_(weight)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        observers: Mapping[str, Observer] | None = None,
        hooks: Mapping[str, Hook] | None = None,
    ) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            inputs: a tensor for every graph input.
            observers: name of a graph input or of a node's output -> what is called with it. The
                order of the calls is that of the computation.
            hooks: name of a graph input or of a node's output -> what is called with it and
                returns the value that the rest of the graph, and an observer, gets in its place.

        Returns:
            A tensor for every graph output.

        Raises:
            DataError: the inputs are not those of the graph.
        """
        observers, hooks = observers or {}, hooks or {}
        self._check_names(inputs, [*observers, *hooks])
        constants: dict[str, Tensor] = {
            **self._host_constants,
            **dict(self.named_buffers(recurse=False)),
            **dict(self.named_parameters(recurse=False, remove_duplicate=False)),
        }
        values = dict(inputs)
        for name in self.input_names:
            values[name] = _shown(name, values[name], observers, hooks)
        for step in self._steps:
            computed = _run(step, values, constants)
            for name, value in zip(step.outputs, computed, strict=False):
                if name:
                    values[name] = _shown(name, value, observers, hooks)
            for name in step.last_uses:
                del values[name]
        return {name: _find(source, values, constants) for name, source in self._outputs.items()}

    def _layer(self, name: str) -> Layer:
        if name not in self._layers:
            raise AutoSparseError(f"the model graph has no layer {name!r}")
        return self._layers[name]

    def _register_constants(self, model: ir.Model) -> None:
        """Copy what the steps and the outputs read; a tensor that is shared stays shared."""
        parameters: dict[str, nn.Parameter] = {}
        for layer in self._layers.values():
            named = {"weight": layer.weight, "bias": layer.bias}
            for kind, initializer in named.items():
                if initializer is None:
                    continue
                if initializer not in parameters:
                    parameters[initializer] = nn.Parameter(_values(model, initializer))
                self.register_parameter(constant_key(kind, layer.name), parameters[initializer])
        for initializer in self._unbound_constants(model):
            key = constant_key("constant", initializer)
            if initializer in parameters:
                self.register_parameter(key, parameters[initializer])
                continue
            tensor = _values(model, initializer)
            if tensor.dtype == torch.int64:
                self._host_constants[key] = tensor
            else:
                self.register_buffer(key, tensor)

    def _unbound_constants(self, model: ir.Model) -> list[str]:
        """Initializers that are read under their own name."""
        read = {source.name for step in self._steps for source in step.inputs if source}
        read.update(source.name for source in self._outputs.values() if source.is_constant)
        return [name for name in model.graph.initializers if constant_key("constant", name) in read]

    def _check_names(self, inputs: Mapping[str, Tensor], watched: Sequence[str]) -> None:
        if inputs.keys() != set(self.input_names):
            raise DataError(
                f"the model reads {', '.join(self.input_names)}, "
                f"but was given {', '.join(inputs) or 'nothing'}"
            )
        if watched:
            known = {name for step in self._steps for name in step.outputs}.union(self.input_names)
            unknown = [name for name in watched if name not in known]
            if unknown:
                raise AutoSparseError(f"the model graph computes no tensor {unknown[0]!r}")


def _values(model: ir.Model, initializer: str) -> Tensor:
    tensor = model.graph.initializers[initializer].const_value
    if tensor is None:
        raise AutoSparseError(f"initializer {initializer!r} has no values")
    return to_torch(tensor)


def _shown(
    name: str, value: Tensor, observers: Mapping[str, Observer], hooks: Mapping[str, Hook]
) -> Tensor:
    """The value that is passed on, once everyone who asked has seen it."""
    if name in hooks:
        value = hooks[name](value)
    if name in observers:
        observers[name](value)
    return value


def _find(source: Operand, values: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> Tensor:
    return constants[source.name] if source.is_constant else values[source.name]


def _run(
    step: Step, values: Mapping[str, Tensor], constants: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    arguments = [
        None if source is None else _find(source, values, constants) for source in step.inputs
    ]
    try:
        result = step.kernel(*_place(arguments, step.host_inputs))
    except (MemoryError, AutoSparseError):
        raise
    except Exception as error:  # torch raises what it likes
        lines = (line for line in str(error).splitlines() if line.strip())
        first = next(lines, type(error).__name__)
        where = f"while the torch executor ran {step.operator} (node {step.node!r})"
        raise NodeFailedError(f"{first}, {where}") from error
    return result if isinstance(result, tuple) else (result,)


def _place(arguments: Sequence[Tensor | None], host: frozenset[int]) -> list[Tensor | None]:
    """Bring the inputs of one node together on the accelerator, where one of them is there.

    What is computed from sizes alone lives on the CPU until it meets data.
    """
    device = _HOST
    for position, argument in enumerate(arguments):
        if argument is not None and position not in host and argument.device != _HOST:
            device = argument.device
    return [
        None if argument is None else argument.to(_HOST if position in host else device)
        for position, argument in enumerate(arguments)
    ]
