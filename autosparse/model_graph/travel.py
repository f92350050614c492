"""How a model travels to another process: its structure as a protobuf, its weights as arrays.

A protobuf holds at most 2 GiB, and is copied as a whole. Arrays are handed over beside a pickle, so
that processes of one machine can share a single copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

_SMALL_BYTES = 1 << 10
_PLAIN_KINDS = "fiub"


class Travelling(NamedTuple):
    """A model taken apart."""

    structure: bytes
    weights: Mapping[str, npt.NDArray[np.generic]]
    """Initializer -> its values; the structure holds an empty one in its place."""


def take_apart(model: ir.Model) -> Travelling:
    """Separate the large constants from the rest; the model itself stays as it is."""
    skeleton = model.clone()
    weights: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in skeleton.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL_BYTES:
            continue
        array = np.asarray(tensor.numpy())
        if array.dtype.kind in _PLAIN_KINDS:
            weights[name] = array
            value.const_value = ir.tensor(np.zeros(0, array.dtype), name=name)
    return Travelling(ir.to_proto(skeleton).SerializeToString(), weights)


def put_together(parts: Travelling) -> ir.Model:
    """The model again; its weights are the arrays that came, read-only where they are shared."""
    model = ir.from_proto(onnx.load_model_from_string(parts.structure))
    for name, array in parts.weights.items():
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(array, name=name)
        value.shape = ir.Shape(array.shape)
    return model
