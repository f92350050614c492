"""What a layer for the kernels is told, and what it refuses before anything is started."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from autosparse.errors import CompileError
from backends.cuda_kernels import cubin
from backends.cuda_kernels.layer import NUMBERS, Call, LinearLayer, Parameters
from backends.cuda_kernels.packing import pack_dense
from backends.cuda_kernels.tiles import Element
from backends.kernels.sparse_layer import Activation, Quantization

HEADER = Path(cubin.__file__).parent / "csrc" / "linear.h"


def test_parameters_are_those_of_the_header() -> None:
    """Their names, order and types: nothing else would notice that they differ."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    (body,) = re.findall(r"typedef struct \{(.*?)\} AsLinear;", text, flags=re.DOTALL)
    kinds = {"int64_t": "c_long", "int32_t": "c_int", "float": "c_float"}
    declared = []
    for line in filter(None, (part.strip() for part in body.split(";"))):
        kind, names = re.fullmatch(r"(?:const )?(\w+) (.*)", line, flags=re.DOTALL).groups()  # type: ignore[union-attr]
        for name in names.split(","):
            pointer = "*" in name
            declared.append((name.strip(" *\n"), "c_void_p" if pointer else kinds[kind]))
    assert declared == [(field[0], field[1].__name__) for field in Parameters._fields_]


def test_numbers_and_activations_are_those_of_the_header() -> None:
    text = HEADER.read_text(encoding="utf-8")
    for name, number in NUMBERS.items():
        assert f"AS_{name.upper()} = {number}" in text
    for activation in Activation:
        assert f"AS_{activation.name} = {int(activation)}" in text


def test_integers_need_their_grids() -> None:
    integers = pack_dense(np.ones((16, 64), np.int8), Element.INT8)
    with pytest.raises(CompileError, match="int8 weight has no steps"):
        LinearLayer(integers)
    halves = LinearLayer(pack_dense(np.ones((16, 64), np.float32), Element.FP16))
    with pytest.raises(CompileError, match="uint8 activations need a grid"):
        halves.parameters({}, Call(1, 0, 0, "uint8"))
    grid = Quantization(1.0, 0, np.ones(16, np.float32))
    with pytest.raises(CompileError, match="uint8 outputs need a grid"):
        LinearLayer(integers, quantization=grid).parameters({}, Call(1, 0, 0, "fp32", "uint8"))


def test_more_than_a_launch_takes_is_refused() -> None:
    layer = LinearLayer(pack_dense(np.ones((16, 64), np.float32), Element.FP16))
    assert layer.launch(8192).grid == (32, 1)
    with pytest.raises(CompileError, match="more than one launch takes"):
        layer.launch(1 << 40)
