"""Layers whose negative values are lost, told by what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autosparse.model_graph import load_model
from autosparse.model_graph.rectified import rectified_layers
from tests.models import Net, residual_cnn


def test_a_residual_net(tmp_path: Path) -> None:
    """What an Add joins is rectified behind it, not before."""
    graph = load_model(residual_cnn().save(tmp_path / "net.onnx", "logits"))
    assert rectified_layers(graph) == {"stem", "block1.a", "block2.a"}


@pytest.mark.parametrize(
    ("operator", "least", "expected"),
    [
        ("Relu", None, True),
        ("Clip", 0.0, True),
        ("Clip", -1.0, False),
        ("LeakyRelu", None, False),
        ("Sigmoid", None, False),
    ],
)
def test_what_follows_a_layer(
    tmp_path: Path, operator: str, least: float | None, expected: bool
) -> None:
    net = Net()
    x = net.input("x", "batch", 8)
    made = net.node("Gemm", x, net.weight("fc.weight", 8, 8), name="fc", transB=1)
    bound = [] if least is None else [net.constant("least", np.array(least, np.float32))]
    active = net.node(operator, made, *bound, name="active")
    net.node("Gemm", active, net.weight("last.weight", 4, 8), name="last", to="y", transB=1)
    graph = load_model(net.save(tmp_path / "net.onnx", "y"))
    assert rectified_layers(graph) == ({"fc"} if expected else frozenset())


def test_an_output_that_is_delivered_or_read_elsewhere_is_not(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "batch", 8)
    first = net.node("Gemm", x, net.weight("a.weight", 8, 8), name="a", to="a_out", transB=1)
    second = net.node("Gemm", x, net.weight("b.weight", 8, 8), name="b", transB=1)
    net.node("Relu", first, name="relu", to="y")
    rectified = net.node("Relu", second, name="other")
    net.node("Add", rectified, second, name="sum", to="z")
    graph = load_model(net.save(tmp_path / "net.onnx", "y", "a_out", "z"))
    assert rectified_layers(graph) == frozenset()
