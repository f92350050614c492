"""The model graph: what intake hands to everything after it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from autosparse.errors import AutoSparseError
from autosparse.model_graph.travel import put_together, take_apart
from autosparse.tensor_spec import TensorSpec

Operator = Literal["Conv", "Gemm", "MatMul"]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One weighted operator that can be compressed.

    The weight is also seen as a matrix (output channels, K): K is the reduction axis, in the
    order kh, kw, Cin for a convolution, and counts only one group's inputs.
    """

    name: str
    """Name for people: the module path where the exporter kept it."""
    node: str
    """Name of the graph node."""
    operator: Operator
    input: str
    """Activation tensor that is read."""
    output: str
    """Tensor that the node writes."""
    weight: str
    """Initializer that holds the weight."""
    weight_shape: tuple[int, ...]
    """Shape as stored in the file."""
    bias: str | None
    """Initializer that holds the bias, where the node itself has one."""
    groups: int = 1
    """Groups of a convolution."""
    transposed: bool = False
    """Whether a Gemm stores its weight as (output channels, K)."""

    @property
    def output_axis(self) -> int:
        """Axis of the stored weight that counts output channels."""
        return 0 if self.operator == "Conv" or self.transposed else 1

    @property
    def output_channels(self) -> int:
        """Rows of the weight matrix."""
        return self.weight_shape[self.output_axis]

    @property
    def reduction(self) -> int:
        """Columns of the weight matrix: weights that are summed for one output."""
        return math.prod(self.weight_shape) // max(self.output_channels, 1)

    @property
    def input_channels(self) -> int:
        """Channels of the activation tensor: axis 1 of a Conv or Gemm, the last of a MatMul."""
        if self.operator == "Conv":
            return self.weight_shape[1] * self.groups
        return self.weight_shape[1 - self.output_axis]

    @property
    def parameters(self) -> int:
        """Number of weights, the bias left out."""
        return math.prod(self.weight_shape)

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel is convolved on its own."""
        return self.operator == "Conv" and self.groups > 1 and self.weight_shape[1] == 1

    def to_matrix(self, weight: FloatArray) -> FloatArray:
        """Stored weight -> (output channels, K)."""
        if self.operator == "Conv":
            weight = np.moveaxis(weight, 1, -1)
            return np.ascontiguousarray(weight.reshape(weight.shape[0], -1))
        return np.ascontiguousarray(weight if self.transposed else weight.T)

    def from_matrix(self, matrix: FloatArray) -> FloatArray:
        """(output channels, K) -> the stored shape."""
        if self.operator == "Conv":
            out, cin, *kernel = self.weight_shape
            return np.ascontiguousarray(np.moveaxis(matrix.reshape(out, *kernel, cin), -1, 1))
        return np.ascontiguousarray(matrix if self.transposed else matrix.T)


@dataclass(frozen=True)
class ModelGraph:
    """A validated, normalized model: batch norms folded, metadata stripped, layers found.

    `model` is never changed in place after intake: a transform works on `copy_model()`.
    """

    model: ir.Model
    sha256: str
    """Digest of the file (and its external data) that came in."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    """Weighted operators that are no layer -> the reason, for the report."""

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise AutoSparseError(f"the model graph has no layer {name!r}")

    def weight(self, layer: Layer) -> FloatArray:
        """The layer's weight as stored, float32."""
        return self.constant(layer.weight)

    def bias(self, layer: Layer) -> FloatArray | None:
        """The node's own bias, (output channels,), or None."""
        return None if layer.bias is None else self.constant(layer.bias)

    def constant(self, name: str) -> FloatArray:
        """One float initializer's values."""
        tensor = self.model.graph.initializers[name].const_value
        if tensor is None:
            raise AutoSparseError(f"initializer {name!r} has no values")
        return np.asarray(tensor.numpy(), dtype=np.float32)

    def copy_model(self) -> ir.Model:
        """A model to change: nodes are copied, constant tensors are shared."""
        return self.model.clone()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; see `travel`."""
        return {**self.__dict__, "model": take_apart(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "model": put_together(state["model"])})
