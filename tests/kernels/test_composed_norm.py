"""LayerNormalization as files before opset 17 spell it, behind a product: it joins the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autosparse.levels import Level
from tests.kernels.test_lowering import BACKEND, UNSTRUCTURED, both_answers, lowered
from tests.lowering import Subject, subject
from tests.models import Net, images


def composed_norm(
    net: Net, x: str, *, axes: Sequence[int] = (-1,), power: float | None = None,
    scale: tuple[int, ...] = (24,), read_twice: bool = False,
) -> str:  # fmt: skip
    """What LayerNormalization does, spelled out, as exporters did before opset 17."""

    def mean(value: str) -> str:
        if net.opset < 18:
            return net.node("ReduceMean", value, axes=list(axes))
        return net.node(
            "ReduceMean", value, net.constant(f"axes_of_{value}", np.array(axes, np.int64))
        )

    off = net.node("Sub", x, mean(x))
    if power is None:
        square = net.node("Mul", off, off)
    else:
        square = net.node("Pow", off, net.constant("power", np.float32(power)))
    variance = net.node("Add", mean(square), net.constant("epsilon", np.float32(1e-3)))
    unit = net.node("Div", off, net.node("Sqrt", variance))
    made = net.node("Add", net.node("Mul", unit, net.weight("gamma", *scale)),
                    net.weight("beta", 24))  # fmt: skip
    return net.node("Add", made, off) if read_twice else made


def block_with_composed_norm(opset: int, path: Path, **fields: Any) -> Subject:
    """A product of which each output has six of 24 weights, its bias, a residual, the norm."""
    net = Net(opset=opset)
    x = net.input("x", "batch", 5, 24)
    kept = np.argsort(net.rng.random((24, 24)), axis=0) < 6
    drawn = np.where(kept, net.rng.standard_normal((24, 24)), 0).astype(np.float32)
    product = net.node("MatMul", x, net.constant("fc", drawn), name="fc")
    added = net.node("Add", net.node("Add", product, net.weight("bias", 24)), x)
    net.node("Identity", composed_norm(net, added, **fields), to="y")
    return subject(net.save(path, "y"), {"x": images(3, shape=(5, 24))})


@pytest.mark.parametrize("opset", [13, 16, 18])
@pytest.mark.parametrize("fields", [{}, {"power": 2.0}, {"axes": (2,)}], ids=str)
@pytest.mark.parametrize(
    ("level", "kernel", "least"),
    [
        ("unstructured@0.75:fp32", "SparseMatMulAddNorm", 2e-5),
        ("unstructured@0.75:int8", "QSparseMatMulToFloatAddNorm", 0.1),
    ],
)
def test_a_normalization_that_is_spelled_out_joins_it_too(
    level: str, kernel: str, least: float, fields: dict[str, Any], opset: int, tmp_path: Path
) -> None:
    what = block_with_composed_norm(opset, tmp_path / "fc.onnx", **fields)
    model, executed = lowered(what, {"fc": Level.parse(level)}, tmp_path / "sparse")
    assert executed["fc"].kernel == kernel
    with_kernels, without = both_answers(model, what.inputs, tmp_path)
    np.testing.assert_allclose(with_kernels, without, rtol=1e-4, atol=2e-5)
    # the level takes no weight away that is not zero, so the dense model's answer is the right one
    dense = what.dense["y"].astype(np.float32)
    np.testing.assert_allclose(with_kernels, dense, rtol=1e-4, atol=least)


@pytest.mark.parametrize(
    "fields",
    [
        {"power": 4.0},
        {"axes": (1, 2)},
        {"axes": (1,)},
        {"scale": (5, 1)},
        {"scale": (1, 1, 1, 24)},
        {"read_twice": True},
    ],
    ids=str,
)
def test_what_only_looks_like_a_normalization_stays(fields: dict[str, Any], tmp_path: Path) -> None:
    what = block_with_composed_norm(13, tmp_path / "fc.onnx", **fields)
    model, executed = lowered(what, {"fc": UNSTRUCTURED}, tmp_path / "sparse")
    assert executed["fc"].kernel == "SparseMatMulAdd"
    (found,) = BACKEND.open(model, threads=1).run(what.inputs).values()
    dense = what.dense["y"].astype(np.float32)
    np.testing.assert_allclose(found.astype(np.float32), dense, rtol=1e-3, atol=1e-4)
