"""What code that loads a bundle must know: names, types and shapes, as its languages write them.

Names come from a model file, so each is written as an escaped literal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from autosparse.artifacts.manifest import Manifest

_SPEC = re.compile(r"(?P<name>.*): (?P<dtype>[a-z]+\d*) \(.*\)", re.DOTALL)
CPP_TYPES = {
    "float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t",
    "int16": "int16_t", "int8": "int8_t", "uint8": "uint8_t", "bool": "bool",
    "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
    "float16": "Ort::Float16_t",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An input or output as the snippets need it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def input_tensors(manifest: Manifest) -> tuple[Tensor, ...]:
    """Inputs with the shapes that were measured."""
    shapes = manifest.target.input_shapes
    tensors = []
    for spec in manifest.inputs:
        # the target knows the names exactly; a name may itself look like a spelled type
        known = [name for name in shapes if spec == name or spec.startswith(f"{name}: ")]
        name, dtype = _name_and_dtype(spec)
        name = max(known, key=len, default=name)
        tensors.append(Tensor(name, dtype, shapes.get(name, (manifest.target.batch_size,))))
    return tuple(tensors)


def output_names(manifest: Manifest) -> tuple[str, ...]:
    """Names of the outputs."""
    return tuple(_name_and_dtype(spec)[0] for spec in manifest.outputs)


def _name_and_dtype(spec: str) -> tuple[str, str]:
    match = _SPEC.fullmatch(spec)
    return (match["name"], match["dtype"]) if match else (spec, "float32")


def has_named_sizes(manifest: Manifest) -> bool:
    """Whether sizes of the inputs are free, and every free one has a name."""
    spelled = [spec.rpartition("(")[2].rstrip(")") for spec in manifest.inputs]
    sizes = [size.strip() for dims in spelled for size in dims.split(",")]
    return "?" not in sizes and any(size and not size.isdecimal() for size in sizes)


def numpy_type(dtype: str) -> str:
    """An element type as an attribute of NumPy."""
    return "bool_" if dtype == "bool" else dtype


def cpp_literal(name: str) -> str:
    """Octal bytes of UTF-8: three digits end by themselves, unlike hexadecimal ones."""
    return f'"{"".join(_cpp_byte(byte) for byte in name.encode("utf-8", "replace"))}"'


def _cpp_byte(byte: int) -> str:
    # a question mark could begin a trigraph
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if plain else f"\\{byte:03o}"
