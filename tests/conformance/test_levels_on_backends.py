"""Every operator at every level that a backend runs, against the dense meaning of its weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.evaluation import LoweringRequest, Target
from autosparse.levels import BASELINE, Level, Precision, Recipe
from autosparse.levels.weights import CompressedWeight
from backends import BACKENDS
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.lowering import Subject, answers, request, subject
from tests.models import Floats, Net

OPERATORS = ("Conv", "Gemm", "MatMul")
LEVELS = (
    "dense:fp32", "unstructured@0.9:fp32", "2:4:fp32", "1:4:fp32", "block1x4@0.75:fp32",
    "dense:int8", "unstructured@0.5:int8", "block1x4@0.5:int8", "block1x4@0.9:int8", "2:4:int8",
    "1:4:int8", "2:8:int8", "4:8:int8", "dense:bf16", "block1x4@0.5:bf16", "unstructured@0.9:bf16",
    "2:4:bf16",
)  # fmt: skip
COMPILES = "tvm"
_OF_BF16: dict[str, tuple[str, ...]] = {"onnxruntime": OPERATORS[1:], "tvm": ()}
"""Operators that each backend multiplies in bf16."""
each_case = pytest.mark.parametrize(
    ("name", "level"),
    [
        pytest.param(name, level, marks=pytest.mark.slow if name == COMPILES else ())
        for name in BACKENDS.names()
        for level in LEVELS
    ],
)


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """One layer of each operator, of sizes that every pattern divides."""
    net = Net()
    image = net.input("image", "batch", 8, 6, 6)
    seen = net.node("Relu", net.conv(image, "Conv", 8, 16))
    pooled = net.node("Flatten", net.node("GlobalAveragePool", seen))
    weight, bias = net.weight("Gemm.weight", 32, 16), net.weight("Gemm.bias", 32)
    mixed = net.node("Relu", net.node("Gemm", pooled, weight, bias, name="Gemm", transB=1))
    net.node("MatMul", mixed, net.weight("MatMul.weight", 32, 8), name="MatMul", to="y")
    random = np.random.default_rng(0).standard_normal((5, 8, 6, 6)).astype(np.float32)
    path = net.save(tmp_path_factory.mktemp("operators") / "operators.onnx", "y")
    return subject(path, {"image": random})


def meant(what: Subject, weights: dict[str, CompressedWeight], directory: Path) -> Floats:
    """What the stock runtime makes of these weights, dense and in fp32."""
    recipe = Recipe(
        model_sha256=what.graph.sha256, levels={la.name: BASELINE for la in what.graph.layers}
    )
    values = {n: CompressedWeight(values=w.values, bias=w.bias) for n, w in weights.items()}
    asked = LoweringRequest(what.graph, recipe, values, what.ranges)
    lowered = OnnxRuntimeBackend().lower(asked, directory)
    return np.asarray(answers(lowered, what.inputs)["y"], np.float32)


@each_case
def test_it_is_what_its_weights_mean(
    name: str, level: str, operators: Subject, tmp_path: Path
) -> None:
    backend, wanted = BACKENDS.load(name), Level.parse(level)
    target = Target(backend=name)
    chosen = {
        la.name: wanted
        for la in operators.graph.layers
        if backend.capability(la, wanted, target).runs
    }
    known = OPERATORS if wanted.precision is not Precision.BF16 else _OF_BF16[name]
    assert set(chosen) >= set(known)
    asked = request(operators, chosen)
    lowered = backend.lower(asked, tmp_path / "lowered")
    found = np.asarray(backend.open(lowered, threads=1).run(operators.inputs)["y"], np.float32)
    expected = meant(operators, dict(asked.weights), tmp_path / "meant")
    if wanted.precision is Precision.FP32:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    else:  # activations are rounded between the layers
        assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max()
    executed = backend.executed_layers(lowered, operators.graph)
    for layer in operators.graph.layers:
        if backend.capability(layer, wanted, target).can_win and layer.name in chosen:
            assert executed[layer.name].precision == wanted.precision, layer.name
            # what is dense in bf16 runs on the same kernel
            skips = wanted.sparsity > 0 or wanted.precision is Precision.BF16
            assert executed[layer.name].skips_zeros == skips, layer.name
