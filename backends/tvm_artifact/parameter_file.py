"""The file of parameters: weights, biases and grids of every layer, and the larger constants.

Its layout is that of `csrc/parameters.h`; the library maps it when it is opened. Sparse weights are
stored as runs and gaps, so that the file is as small as the sparsity allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from autosparse.errors import MeasurementError
from backends.kernels.operators import StoredRuns
from backends.kernels.sparse_layer import SparseLayer

Array = npt.NDArray[Any]

PARAMETERS_VERSION = 2
_READABLE = (1, PARAMETERS_VERSION)
"""Versions that describe themselves alike; each is opened by the library that came with it."""
_MAGIC = b"ASPARAMS"
_ALIGNMENT = 64
_PIECE = 1 << 20
"""Words that are summed at once."""
_UINT8 = 1
_MOST_DIMENSIONS = 8
_TYPE_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""DLPack's, by NumPy's kind."""

_HEADER = np.dtype(
    [
        ("magic", "S8"), ("version", "<u4"), ("layers", "<u4"), ("tensors", "<u4"),
        ("reserved", "<u4"), ("bytes", "<u8"), ("sum", "<u8"), ("weighted_sum", "<u8"),
        ("description", "<u8"), ("description_bytes", "<u8"), ("code", "S64"),
    ]
)  # fmt: skip
_LAYER = np.dtype(
    [
        ("operation", "<i4"), ("run", "<i4"), ("group", "<i4"), ("input_type", "<i4"),
        ("output_type", "<i4"), ("activation", "<i4"), ("input_zero", "<i4"),
        ("output_zero", "<i4"), ("input_step", "<f4"), ("output_step", "<f4"), ("low", "<f4"),
        ("high", "<f4"), ("epsilon", "<f4"), ("plan", "<i4", 4), ("reserved", "<i4"),
        ("outputs", "<i8"), ("depth", "<i8"), ("stored_runs", "<i8"), ("channels", "<i8"),
        ("groups", "<i8"), ("kernel", "<i8", 2), ("strides", "<i8", 2), ("dilations", "<i8", 2),
        ("pads", "<i8", 4), ("values", "<i8"), ("gaps", "<i8"), ("bias", "<i8"),
        ("weight_steps", "<i8"), ("norm_scale", "<i8"), ("norm_shift", "<i8"),
    ]
)  # fmt: skip
_TENSOR = np.dtype(
    [
        ("type_code", "<i4"), ("type_bits", "<i4"), ("rank", "<i8"),
        ("shape", "<i8", _MOST_DIMENSIONS), ("values", "<i8"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class StoredLayer:
    """A layer whose weight is encoded."""

    layer: SparseLayer
    """Without positions and values."""
    weight: StoredRuns
    """Without gaps where no run is left out."""


@dataclass(frozen=True)
class LayerSize:
    """How much a layer has to do and to read, as the file says it."""

    outputs: int
    """Output channels, or features."""
    depth: int
    """Weights that are summed for one output, zeros included."""
    kept_weights: int
    """Weights that are stored, and multiplied at every position."""
    pattern: Literal["dense", "unstructured", "block", "nm"]
    """Of the zeros that its kernel skips."""
    precision: Literal["fp32", "int8"]
    stored_bytes: int
    """Weights, gaps, steps and biases."""


@dataclass
class _Arrays:
    """Arrays one after another, each aligned; `at` is where the next one goes."""

    at: int
    stored: list[tuple[int, Array]] = field(default_factory=list)

    def add(self, array: Array | None) -> int:
        """Offset of the array in the file; 0 for none."""
        if array is None:
            return 0
        begin = -(-self.at // _ALIGNMENT) * _ALIGNMENT
        self.stored.append((begin, np.ascontiguousarray(array)))
        self.at = begin + max(array.nbytes, 1)
        return begin

    def write_to(self, content: Array, records: bytes) -> None:
        """Put everything behind the header into the bytes of the file."""
        content[_HEADER.itemsize : _HEADER.itemsize + len(records)] = np.frombuffer(
            records, np.uint8
        )
        for begin, array in self.stored:
            content[begin : begin + array.nbytes] = array.reshape(-1).view(np.uint8)


def write_parameters(
    path: Path,
    layers: Sequence[StoredLayer],
    tensors: Sequence[Array],
    description: bytes,
    code: str,
) -> None:
    """Write the file.

    Args:
        path: where to.
        layers: in the order in which the library's code counts them.
        tensors: the larger constants, of at most 8 dimensions, likewise.
        description: what the model's runner must know; see `description.py`.
        code: digest that the libraries of these parameters have, 64 characters.
    """
    records = len(layers) * _LAYER.itemsize + len(tensors) * _TENSOR.itemsize
    arrays = _Arrays(_HEADER.itemsize + records)
    layer_records = np.zeros(len(layers), _LAYER)
    for record, layer in zip(layer_records, layers, strict=True):
        _describe_layer(record, layer, arrays)
    tensor_records = np.zeros(len(tensors), _TENSOR)
    for record, tensor in zip(tensor_records, tensors, strict=True):
        record["type_code"] = _TYPE_CODES[tensor.dtype.kind]
        record["type_bits"] = 8 * tensor.dtype.itemsize
        record["rank"] = tensor.ndim
        record["shape"][: tensor.ndim] = tensor.shape
        record["values"] = arrays.add(tensor)
    header = np.zeros((), _HEADER)
    header["magic"], header["version"] = _MAGIC, PARAMETERS_VERSION
    header["layers"], header["tensors"] = len(layers), len(tensors)
    header["description"] = arrays.add(np.frombuffer(description, np.uint8))
    header["description_bytes"] = len(description)
    header["code"] = code.encode()
    header["bytes"] = -(-arrays.at // _ALIGNMENT) * _ALIGNMENT
    content = np.zeros(int(header["bytes"]), np.uint8)
    arrays.write_to(content, layer_records.tobytes() + tensor_records.tobytes())
    content[: _HEADER.itemsize] = np.frombuffer(header.tobytes(), np.uint8)
    header["sum"], header["weighted_sum"] = _sums(content.view("<u8"))
    content[: _HEADER.itemsize] = np.frombuffer(header.tobytes(), np.uint8)
    with path.open("wb") as file:
        file.write(content.data)


def read_description(path: Path) -> bytes:
    """What `write_parameters` was given as the description.

    Raises:
        MeasurementError: this is no such file, or not all of it is there.
    """
    with path.open("rb") as file:
        begin = file.read(_HEADER.itemsize)
        if len(begin) < _HEADER.itemsize or not begin.startswith(_MAGIC):
            raise MeasurementError(f"{path.name} is no file of parameters that AutoSparse wrote")
        header = np.frombuffer(begin, _HEADER)[0]
        if header["version"] not in _READABLE:
            raise MeasurementError(
                f"{path.name} is of version {header['version']}, and this AutoSparse reads "
                f"{' and '.join(map(str, _READABLE))}",
                hint="use the AutoSparse that wrote it, or lower the recipe again",
            )
        size, at, count = (
            int(header[field]) for field in ("bytes", "description", "description_bytes")
        )
        if path.stat().st_size != size or at + count > size:
            raise MeasurementError(f"{path.name} is not whole", hint="copy it again")
        file.seek(at)
        return file.read(count)


def read_layer_sizes(path: Path) -> list[LayerSize]:
    """Sizes of all layers of a file that `read_description` accepted, in their order."""
    with path.open("rb") as file:
        header = np.frombuffer(file.read(_HEADER.itemsize), _HEADER)[0]
        count = int(header["layers"])
        return [_size(record) for record in np.fromfile(file, _LAYER, count)]


def _size(record: Any) -> LayerSize:
    runs, run, outputs = (int(record[name]) for name in ("stored_runs", "run", "outputs"))
    integer, skips = int(record["input_type"]) == _UINT8, bool(record["gaps"])
    items = 1 if integer else 4
    vectors = sum(bool(record[name]) for name in ("bias", "weight_steps"))
    if not skips:
        pattern: Literal["dense", "unstructured", "block", "nm"] = "dense"
    elif record["group"]:
        pattern = "nm"
    else:
        pattern = "block" if run > 1 else "unstructured"
    return LayerSize(
        outputs=outputs, depth=int(record["depth"]), kept_weights=runs * run, pattern=pattern,
        precision="int8" if integer else "fp32",
        stored_bytes=runs * run * items + (runs if skips else 0) + 4 * vectors * outputs,
    )  # fmt: skip


def _sums(words: npt.NDArray[np.uint64]) -> tuple[np.uint64, np.uint64]:
    """As the library takes them, modulo 2^64; in pieces, so that no copy of a model is made."""
    total, weighted = np.uint64(0), np.uint64(0)
    with np.errstate(over="ignore"):
        for begin in range(0, len(words), _PIECE):
            piece = words[begin : begin + _PIECE]
            places = np.arange(begin + 1, begin + 1 + len(piece), dtype=np.uint64)
            total += piece.sum(dtype=np.uint64)
            weighted += (piece * places).sum(dtype=np.uint64)
    return total, weighted


def _describe_layer(record: Any, given: StoredLayer, arrays: _Arrays) -> None:
    layer, stored = given.layer, given.weight
    record["operation"] = int(layer.convolution is not None)
    record["run"], record["group"] = layer.run, layer.group
    record["activation"] = int(layer.activation)
    record["low"], record["high"] = layer.clip
    plan = layer.plan
    record["plan"] = (int(plan.family), plan.vectors, plan.rows, plan.depth)
    record["outputs"], record["depth"] = layer.outputs, layer.depth
    record["stored_runs"] = len(stored.values)
    record["values"] = arrays.add(stored.values)
    record["gaps"] = arrays.add(stored.gaps if len(stored.gaps) else None)
    record["bias"] = arrays.add(layer.bias)
    if layer.norm is not None:
        record["epsilon"] = layer.norm.epsilon
        record["norm_scale"] = arrays.add(layer.norm.scale)
        record["norm_shift"] = arrays.add(layer.norm.shift)
    if layer.quantization is not None:
        grid = layer.quantization
        record["input_type"] = _UINT8
        record["input_step"], record["input_zero"] = grid.input_step, grid.input_zero
        record["weight_steps"] = arrays.add(grid.weight_steps)
        record["output_step"] = 1.0
        if grid.output_step is not None:
            record["output_type"] = _UINT8
            record["output_step"], record["output_zero"] = grid.output_step, grid.output_zero
    if layer.convolution is not None:
        shape = layer.convolution
        record["channels"], record["groups"] = shape.channels, shape.groups
        record["kernel"], record["strides"] = shape.kernel, shape.strides
        record["dilations"], record["pads"] = shape.dilations, shape.pads
