"""Writing a model's file, one weight at a time.

Turning a model into one message and that into bytes takes two copies of all weights beside those
that are in memory already, for every candidate of a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

# One protobuf holds at most 2 GiB; weights move to a file beside it well before that.
_EXTERNAL_DATA_FROM = 1 << 30
_SMALL_BYTES = 1 << 12
# Numbers of the fields in onnx.proto; all three hold bytes, whose length stands before them.
_GRAPH_OF_MODEL, _INITIALIZER_OF_GRAPH, _RAW_DATA_OF_TENSOR = 7, 5, 9
_LENGTH_BEFORE = 2


def save_model(model: ir.Model, path: Path) -> None:
    """Write the model, with its weights in a file beside it where they are too large for one.

    It is what `onnx_ir.save` writes, but for the order of the initializers: large ones come last.

    Args:
        model: what to write; it stays as it is.
        path: of the file.

    Raises:
        OSError: it cannot be written.
    """
    constants = model.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in constants if value.const_value is not None)
    if size > _EXTERNAL_DATA_FROM:
        ir.save(model, path, external_data=f"{path.stem}.data")
        return
    large = {name: tensor for name, tensor in _tensors(model) if tensor.nbytes > _SMALL_BYTES}
    with _emptied(model, large):
        structure = ir.to_proto(model)
    with path.open("wb") as file:
        _write(file, structure, large)


def _tensors(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype != ir.DataType.STRING:
            yield name, tensor


@contextmanager
def _emptied(model: ir.Model, large: Mapping[str, ir.TensorProtocol]) -> Iterator[None]:
    """Meanwhile, the large initializers have no elements."""
    values = [model.graph.initializers[name] for name in large]
    for value in values:
        value.const_value = ir.tensor(np.zeros(0, np.uint8), name=value.name)
    try:
        yield
    finally:
        for value, tensor in zip(values, large.values(), strict=True):
            value.const_value = tensor


def _write(
    file: BinaryIO, structure: onnx.ModelProto, large: Mapping[str, ir.TensorProtocol]
) -> None:
    """Write the message, with the large initializers in place of the empty ones."""
    kept = [tensor for tensor in structure.graph.initializer if tensor.name not in large]
    del structure.graph.initializer[:]
    structure.graph.initializer.extend(kept)
    graph = structure.graph.SerializeToString()
    structure.ClearField("graph")
    heads = {name: _head(name, tensor) for name, tensor in large.items()}
    bodies = {name: len(heads[name]) + tensor.nbytes for name, tensor in large.items()}
    length = len(graph)
    for body in bodies.values():
        length += len(_field(_INITIALIZER_OF_GRAPH, body)) + body
    file.write(structure.SerializeToString())
    file.write(_field(_GRAPH_OF_MODEL, length))
    file.write(graph)
    for name, tensor in large.items():
        file.write(_field(_INITIALIZER_OF_GRAPH, bodies[name]))
        file.write(heads[name])
        data = tensor.tobytes()
        if len(data) != tensor.nbytes:  # the lengths before it would be wrong
            raise ValueError(f"{name} has {len(data)} bytes instead of {tensor.nbytes}")
        file.write(data)


def _head(name: str, tensor: ir.TensorProtocol) -> bytes:
    """A tensor's message up to its elements."""
    message = onnx.TensorProto(
        name=name, data_type=tensor.dtype.value, dims=list(tensor.shape.numpy())
    )
    return message.SerializeToString() + _field(_RAW_DATA_OF_TENSOR, tensor.nbytes)


def _field(number: int, length: int) -> bytes:
    """What stands before a field of so many bytes."""
    return _varint(number << 3 | _LENGTH_BEFORE) + _varint(length)


def _varint(number: int) -> bytes:
    """A number in the variable-length encoding of protocol buffers."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
