"""What ONNX Runtime really executes: exactly the layers that were asked for, in integers.

Each case is a graph in which the runtime's own rewriting once did something else. Every subset
of its layers is lowered, and the runtime's optimized graph is read back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from autosparse.evaluation import LoweredModel
from autosparse.levels import Knobs
from backends.onnxruntime_backend import OnnxRuntimeBackend
from tests.backends.nets import NETS
from tests.lowering import INT8, Subject, answers, executed, lower, request, subject
from tests.models import Array, Floats, Net

BACKEND = OnnxRuntimeBackend()


def subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    for size in range(len(names) + 1):
        yield from itertools.combinations(names, size)


def inputs_of(net: Net, rows: int = 4) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    found: dict[str, Array] = {}
    for value in net.inputs:
        tensor = value.type.tensor_type
        shape = [rows if dim.dim_param else dim.dim_value for dim in tensor.shape.dim]
        is_float = tensor.elem_type == onnx.TensorProto.FLOAT
        drawn = rng.standard_normal(shape) if is_float else rng.integers(0, 10, shape)
        found[value.name] = drawn.astype(np.float32 if is_float else np.int64)
    return found


def precisions(what: Subject, lowered: LoweredModel) -> dict[str, str]:
    return {name: layer.precision for name, layer in executed(what, lowered).items()}


def asked(what: Subject, integer: Collection[str]) -> dict[str, str]:
    return {la.name: "int8" if la.name in integer else "fp32" for la in what.graph.layers}


def is_near(found: Array, wanted: Array) -> bool:
    """Quantized once or twice, but the same function, shape and type."""
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return False
    mine, theirs = found.astype(np.float64), wanted.astype(np.float64)
    return bool(np.abs(mine - theirs).max() <= 0.1 * np.abs(theirs).max())


@pytest.mark.parametrize("name", list(NETS))
def test_every_subset_is_executed_as_asked(tmp_path: Path, name: str) -> None:
    net, outputs = NETS[name]()
    what = subject(net.save(tmp_path / "model.onnx", *outputs), inputs_of(net))
    for chosen in subsets([layer.name for layer in what.graph.layers]):
        lowered = lower(what, chosen, tmp_path / "lowered")
        onnx.checker.check_model(str(lowered.path), full_check=True)
        assert precisions(what, lowered) == asked(what, chosen)
        answered = answers(lowered, what.inputs)
        for output, wanted in what.dense.items():
            assert is_near(answered[output], wanted), f"int8 {chosen}: {output}"


def test_every_subset_of_a_residual_network_is_executed_as_asked(
    tmp_path: Path, residual: Subject
) -> None:
    """All 128 of them: fp32 between int8, int8 between fp32, at every place."""
    for chosen in subsets([layer.name for layer in residual.graph.layers]):
        lowered = lower(residual, chosen, tmp_path)
        assert precisions(residual, lowered) == asked(residual, chosen)


def operators(lowered: LoweredModel, directory: Path) -> list[str]:
    """What the runtime made of the file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(directory / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(lowered.path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def test_a_residual_network_stays_in_integers(tmp_path: Path, residual: Subject) -> None:
    lowered = lower(residual, [la.name for la in residual.graph.layers], tmp_path)
    found = operators(lowered, tmp_path)
    assert found.count("QLinearConv") == 6
    assert found.count("QLinearAdd") == 2
    assert found.count("QGemm") == 1
    assert found.count("QLinearGlobalAveragePool") == 1
    assert found.count("QuantizeLinear") == 1  # of the image
    assert not {"Add", "Relu", "Conv", "GlobalAveragePool"} & set(found)


def test_the_kernel_and_its_node_are_told(tmp_path: Path, residual: Subject) -> None:
    found = executed(residual, lower(residual, ["stem", "classifier"], tmp_path))
    assert found["stem"].kernel == "QLinearConv"
    assert found["classifier"].kernel == "QGemm"
    assert found["block1.a"].kernel in ("Conv", "FusedConv")
    assert len({layer.node for layer in found.values()}) == len(found) == 7


@pytest.mark.parametrize("graph_level", ["disabled", "basic", "extended", "all"])
def test_the_layers_are_found_at_every_graph_level(
    tmp_path: Path, residual: Subject, graph_level: str
) -> None:
    names = [layer.name for layer in residual.graph.layers]
    knobs = Knobs.model_validate({"graph_level": graph_level})
    lowered = BACKEND.lower(request(residual, dict.fromkeys(names[::2], INT8), knobs), tmp_path)
    assert lowered.graph_level == graph_level
    found = BACKEND.executed_layers(lowered, residual.graph)
    assert list(found) == names
    if graph_level in ("disabled", "basic"):
        assert {layer.precision for layer in found.values()} == {"fp32"}


def test_profiled_nodes_are_the_executed_ones(tmp_path: Path, residual: Subject) -> None:
    lowered = lower(residual, ["stem", "block1.a"], tmp_path)
    times = BACKEND.node_times(lowered, residual.inputs, threads=1, runs=4)
    by_node = {time.node: time for time in times}
    for layer in executed(residual, lowered).values():
        assert by_node[layer.node].operator == layer.kernel
        assert by_node[layer.node].seconds >= 0
    assert list(tmp_path.iterdir()) == [lowered.path]  # the trace is cleaned up


def random_net(seed: int) -> tuple[Net, list[str]]:
    """A chain with branches of whatever stands between convolutions in practice."""
    net = Net(seed)
    pool = [(net.input("x", "n", 4, 8, 8), 4)]
    make: Mapping[str, Callable[[str, str], str]] = {
        "relu": lambda x, n: net.node("Relu", x, name=n),
        "leaky": lambda x, n: net.node("LeakyRelu", x, name=n, alpha=0.1),
        "sigmoid": lambda x, n: net.node("Sigmoid", x, name=n),
        "clip": lambda x, n: net.node(
            "Clip", x, net.constant(f"{n}.low", np.float32(net.rng.choice([0, -1]))),
            net.constant(f"{n}.high", np.float32(1)), name=n,
        ),
        "max": lambda x, n: net.node("MaxPool", x, name=n, kernel_shape=[3, 3], pads=[1] * 4),
        "mean": lambda x, n: net.node("AveragePool", x, name=n, kernel_shape=[3, 3], pads=[1] * 4),
        "turn": lambda x, n: net.node("Transpose", x, name=n, perm=[0, 1, 3, 2]),
        "shift": lambda x, n: net.node("Add", x, net.weight(f"{n}.shift", 1), name=n),
    }  # fmt: skip
    for index in range(int(net.rng.integers(4, 11))):
        source, channels = pool[int(net.rng.integers(max(0, len(pool) - 3), len(pool)))]
        name = f"n{index}"
        what = net.rng.choice(["conv", "conv", "grouped", "join", "concat", *make])
        if what == "conv":
            size = int(net.rng.choice([1, 3]))
            pool.append((net.conv(source, name, channels, 8, size), 8))
        elif what == "grouped":
            group = int(net.rng.choice([2, channels]))
            pool.append((net.conv(source, name, channels, channels, group=group), channels))
        elif what in ("join", "concat"):
            mates = [tensor for tensor, width in pool if width == channels]
            mate = mates[int(net.rng.integers(len(mates)))]
            operator = net.rng.choice(["Add", "Mul"]) if what == "join" else "Concat"
            axis: dict[str, Any] = {} if what == "join" else {"axis": 1}
            width = channels if what == "join" else 2 * channels
            pool.append((net.node(str(operator), source, mate, name=name, **axis), width))
        else:
            pool.append((make[str(what)](source, name), channels))
    output = net.conv(pool[-1][0], "last", pool[-1][1], 4)
    return net, [output]


@pytest.mark.parametrize("seed", range(12))
def test_random_subsets_of_random_networks_are_executed_as_asked(tmp_path: Path, seed: int) -> None:
    net, outputs = random_net(seed)
    x: Floats = np.random.default_rng(seed).standard_normal((3, 4, 8, 8)).astype(np.float32)
    what = subject(net.save(tmp_path / "model.onnx", *outputs), {"x": x})
    names = [layer.name for layer in what.graph.layers]
    half = len(names) // 2 + 1
    for chosen in (names, *(net.rng.permutation(names)[:half].tolist() for _ in range(4))):
        lowered = lower(what, chosen, tmp_path / "lowered")
        assert precisions(what, lowered) == asked(what, chosen)
        answered = answers(lowered, what.inputs)
        assert all(is_near(answered[name], wanted) for name, wanted in what.dense.items())
