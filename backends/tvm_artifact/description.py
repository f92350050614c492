"""What an artifact says of itself: stored with its parameters, read by whoever runs it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

ENTRY, FIXED_ENTRY = "main", "main_fixed"
"""Functions of the library: for any sizes of free dimensions, and for those of the target."""


class ArtifactTensor(BaseModel):
    """An input or output of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    dtype: str
    """As NumPy spells it."""
    shape: tuple[int | str, ...]
    """A name where any size will do; equal names stand for equal sizes."""


class ArtifactLayer(BaseModel):
    """A layer of the model, as the library runs it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    node: str
    """Name of its node in the model graph."""
    function: str
    """Function of the library that computes it; the place in this list is its first number."""
    precision: Literal["fp32", "int8"]
    skips_zeros: bool


class ArtifactDescription(BaseModel):
    """Everything that is not code or numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    architecture: str
    """Of the machine that made it, as `platform.machine()` spells it; a library for another device
    may lie beside its own."""
    instruction_set: str
    """What the library of that machine needs, for example `avx512-vnni`."""
    runtime: str = ""
    """Version of TVM that compiled it, whose runtime it needs; empty where an earlier AutoSparse
    did."""
    inputs: tuple[ArtifactTensor, ...]
    outputs: tuple[ArtifactTensor, ...]
    layers: tuple[ArtifactLayer, ...]
    fixed_sizes: dict[str, int] = {}
    """Free dimension -> its size in the library's second entry; empty where there is none."""
