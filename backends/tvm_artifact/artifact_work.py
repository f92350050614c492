"""What the functions that an artifact calls do, counted from one inference and its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autosparse.errors import ConfigError
from autosparse.evaluation.simulation import NodeWork
from backends.tvm_artifact.description import ArtifactDescription
from backends.tvm_artifact.parameter_file import LayerSize

_LAYERS = ("autosparse_linear", "autosparse_convolution")
_PRODUCT = "autosparse_matmul"
_OURS = "autosparse_"
_VIEW_OF_CONSTANT = "autosparse_tensor"
_VM, _CALLED_BY_VM = "vm.", "call_tir_dyn"
"""What the virtual machine does for itself, which moves no numbers; but for one, which calls."""
_MULTIPLYING_LOOPS = ("conv", "matmul", "dense", "einsum")
"""In the names of loops that the compiler writes, fused with others or not."""


class ArtifactWork:
    """Told of every call of one inference, as `ArtifactRunner.watch` tells of them.

    Args:
        description: of the artifact.
        layers: sizes of its layers, in the order of the description.
    """

    def __init__(self, description: ArtifactDescription, layers: Sequence[LayerSize]) -> None:
        self._names = [layer.node for layer in description.layers]
        self._layers = layers
        self._found: list[NodeWork] = []
        self._loops: list[str] = []

    def nodes(self) -> list[NodeWork]:
        """What was told of, in the order of the calls.

        Raises:
            ConfigError: loops of the compiler's own multiply, of which nobody knows how fast they
                are on another device.
        """
        if self._loops:
            raise ConfigError(
                f"{self._loops[0]} is a loop that TVM writes itself, which cannot be simulated",
                hint="measure on the device, with `autosparse agent`, or take another backend",
            )
        return self._found

    def told(self, function: str, before: bool, arguments: Sequence[Any]) -> None:
        """Of a call that begins or has ended."""
        moves = not function.startswith(_VM) or function.endswith(_CALLED_BY_VM)
        if not before or not moves or function == _VIEW_OF_CONSTANT:
            return
        if not function.startswith(_OURS) and any(one in function for one in _MULTIPLYING_LOOPS):
            self._loops.append(function)
        tensors = [argument for argument in arguments if hasattr(argument, "shape")]
        if not tensors:  # a size that depends on the batch is worked out
            return
        self._found.append(self._work(function, arguments, tensors))

    def _work(self, function: str, arguments: Sequence[Any], tensors: Sequence[Any]) -> NodeWork:
        moved = sum(_bytes(tensor) for tensor in tensors)
        if function.startswith(_LAYERS):
            number = int(arguments[1])
            layer, written = self._layers[number], _elements(tensors[-1])
            rows = written // max(layer.outputs, 1)
            return NodeWork(
                node=self._names[number], operator=function, precision=layer.precision,
                pattern=layer.pattern, dense_macs=written * layer.depth,
                kept_macs=rows * layer.kept_weights, weight_bytes=layer.stored_bytes,
                activation_bytes=moved,
            )  # fmt: skip
        macs = 0
        if function == _PRODUCT:
            macs = _elements(tensors[-1]) * int(tensors[0].shape[-1])
        return NodeWork(
            node=function, operator=function, precision="fp32", pattern="dense", dense_macs=macs,
            kept_macs=macs, weight_bytes=0, activation_bytes=moved,
        )  # fmt: skip


def _elements(tensor: Any) -> int:
    return math.prod(int(size) for size in tensor.shape)


def _bytes(tensor: Any) -> int:
    return _elements(tensor) * np.dtype(str(tensor.dtype)).itemsize
