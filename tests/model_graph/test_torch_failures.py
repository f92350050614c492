"""One rule for what torch cannot do: a sentence, and no traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autosparse.errors import CandidateError, DataError, NoMemoryError
from autosparse.model_graph import load_model
from autosparse.model_graph.torch_executor import GraphModule, failures_told
from tests.models import Net


def test_an_operator_that_fails_is_named(tmp_path: Path) -> None:
    net = Net()
    table = net.constant("table", np.eye(3, dtype=np.float32))
    rows = net.node("Gather", table, net.input("at", "n", dtype=7), name="look up")
    net.node("MatMul", rows, net.weight("fc.weight", 3, 2), name="fc", to="y")
    module = GraphModule.from_graph(load_model(net.save(tmp_path / "net.onnx", "y")))
    with failures_told():
        module({"at": torch.tensor([0, 2])})
    told = r"the torch executor fails: .* ran Gather \(node 'look up'\)"
    with pytest.raises(CandidateError, match=told), failures_told():
        module({"at": torch.tensor([0, 3])})


def test_an_operator_that_is_missing_is_named(tmp_path: Path) -> None:
    net = Net()
    shrunk = net.node("Shrink", net.input("x", "n", 3), name="shrink")
    net.node("MatMul", shrunk, net.weight("fc.weight", 3, 2), name="fc", to="y")
    graph = load_model(net.save(tmp_path / "net.onnx", "y"))
    with pytest.raises(CandidateError, match="misses Shrink"), failures_told():
        GraphModule.from_graph(graph)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes\nframe 0"),
    ],
)
def test_too_little_memory_may_be_tried_again(error: Exception) -> None:
    with (
        pytest.raises(NoMemoryError, match="the torch executor fails: ") as caught,
        failures_told(),
    ):
        raise error
    assert caught.value.retryable
    assert "frame" not in caught.value.message


@pytest.mark.parametrize("error", [KeyError("a bug of ours"), DataError("wrong rows")])
def test_anything_else_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)), failures_told():
        raise error
