from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from autosparse.model_graph import ModelGraph, load_model
from autosparse.model_graph.cost import LayerCost, layer_costs
from tests.models import Net, residual_cnn


def graph_of(net: Net, path: Path, *outputs: str) -> ModelGraph:
    return load_model(net.save(path / "model.onnx", *outputs))


def test_a_convolution_sums_every_output_over_its_window(tmp_path: Path) -> None:
    net = Net()
    image = net.input("image", "batch", 3, 9, 8)
    net.node("Relu", net.conv(image, "stem", 3, 16, strides=[2, 1]), to="out")
    # padded by one: rows (9 + 2 - 3) // 2 + 1 = 5, columns 8
    costs = layer_costs(graph_of(net, tmp_path, "out"), {"image": (2, 3, 9, 8)})
    assert costs == {
        "stem": LayerCost(
            macs=2 * 16 * 5 * 8 * (3 * 3 * 3), parameters=432, weight_bytes=1728,
            output_elements=2 * 16 * 5 * 8,
        )
    }  # fmt: skip


@pytest.mark.parametrize(("groups", "window"), [(1, 8 * 9), (2, 4 * 9), (8, 9)])
def test_a_group_counts_only_its_own_inputs(tmp_path: Path, groups: int, window: int) -> None:
    net = Net()
    net.node("Relu", net.conv(net.input("x", 1, 8, 4, 4), "a", 8, 8, group=groups), to="out")
    (cost,) = layer_costs(graph_of(net, tmp_path, "out"), {"x": (1, 8, 4, 4)}).values()
    assert cost.macs == 8 * 4 * 4 * window


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_multiplies_rows_by_the_weight(tmp_path: Path, transposed: int) -> None:
    net = Net()
    weight = net.weight("fc.weight", *((4, 6) if transposed else (6, 4)))
    net.node("Gemm", net.input("x", "batch", 6), weight, name="fc", to="out", transB=transposed)
    (cost,) = layer_costs(graph_of(net, tmp_path, "out"), {"x": (5, 6)}).values()
    assert (cost.macs, cost.output_elements) == (5 * 6 * 4, 5 * 4)


def test_a_matmul_of_many_axes_counts_all_of_them(tmp_path: Path) -> None:
    net = Net()
    tokens = net.input("tokens", "batch", "heads", "length", 6)
    net.node("MatMul", tokens, net.weight("fc.weight", 6, 4), name="fc", to="out")
    (cost,) = layer_costs(graph_of(net, tmp_path, "out"), {"tokens": (2, 3, 7, 6)}).values()
    assert cost.macs == 2 * 3 * 7 * 6 * 4


def test_shapes_are_followed_through_a_computed_reshape(tmp_path: Path) -> None:
    """(batch, 3, length) -> (batch * length, 3), its shape computed from the input's own."""
    net = Net()
    x = net.input("x", "batch", 3, "length")
    sizes = [net.node("Gather", net.node("Shape", x), net.constant(f"axis{i}", i)) for i in (0, 2)]
    rows = net.node("Unsqueeze", net.node("Mul", *sizes), net.constant("zero", np.array([0])))
    shape = net.node("Concat", rows, net.constant("three", np.array([3])), axis=0)
    flat = net.node("Reshape", net.node("Transpose", x, perm=[0, 2, 1]), shape)
    net.node("MatMul", flat, net.weight("fc.weight", 3, 4), name="fc", to="out")
    (cost,) = layer_costs(graph_of(net, tmp_path, "out"), {"x": (2, 3, 5)}).values()
    assert cost.macs == 2 * 5 * 3 * 4


def test_what_depends_on_values_is_not_known(tmp_path: Path) -> None:
    net = Net()
    chosen = net.input("chosen", "batch", dtype=onnx.TensorProto.BOOL)
    rows = net.node("Compress", net.input("x", "batch", 6), chosen, axis=0)
    net.node("MatMul", rows, net.weight("fc.weight", 6, 4), name="fc", to="out")
    shapes = {"chosen": (5,), "x": (5, 6)}
    (cost,) = layer_costs(graph_of(net, tmp_path, "out"), shapes).values()
    assert cost == LayerCost(macs=None, parameters=24, weight_bytes=96, output_elements=None)


def test_inputs_that_contradict_the_graph_leave_it_unknown(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "batch", 6)
    flat = net.node("Reshape", x, net.constant("shape", np.array([3, 2])))
    net.node("MatMul", flat, net.weight("fc.weight", 2, 4), name="fc", to="out")
    (cost,) = layer_costs(graph_of(net, tmp_path, "out"), {"x": (5, 6)}).values()
    assert cost.parameters == 8


def test_every_layer_is_there_and_the_graph_stays_as_it_was(tmp_path: Path) -> None:
    graph = graph_of(residual_cnn(), tmp_path, "logits")
    before = graph.inputs, {n: v.shape for n, v in graph.model.graph.initializers.items()}
    costs = layer_costs(graph, {"image": (1, 3, 8, 8)})
    assert list(costs) == [layer.name for layer in graph.layers]
    assert all(cost.macs for cost in costs.values())
    assert before == (
        graph.inputs,
        {n: v.shape for n, v in graph.model.graph.initializers.items()},
    )
    assert graph.weight(graph.layers[0]).shape == (8, 3, 3, 3)
    assert str(graph.model.graph.inputs[0].shape) == "[batch,3,8,8]"


class TwoHeads(torch.nn.Module):
    """Attention as exporters write it: positions and heads by shapes that the graph computes."""

    def __init__(self) -> None:
        super().__init__()
        self.places: torch.Tensor
        self.word, self.position = torch.nn.Embedding(50, 16), torch.nn.Embedding(32, 16)
        self.qkv, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 24)
        self.register_buffer("places", torch.arange(32)[None])

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length = ids.shape
        x = self.word(ids) + self.position(self.places[:, :length])
        query, key, value = self.qkv(x).reshape(batch, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
        hidden = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e9
        weights = torch.softmax(query @ key.transpose(2, 3) + hidden, -1)
        mixed: torch.Tensor = self.out((weights @ value).transpose(1, 2).reshape(batch, length, 16))
        return mixed


@pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript-based:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
)
@pytest.mark.parametrize("dynamo", [pytest.param(True, marks=pytest.mark.slow), False])
def test_layers_of_an_exported_attention_have_costs(
    tmp_path: Path, dynamo: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ids = torch.zeros((2, 7), dtype=torch.int64)
    free = {0: "batch", 1: "length"}
    dynamic = tuple(dict.fromkeys(free, torch.export.Dim.DYNAMIC) for _ in range(2))
    axes = {"dynamic_shapes": dynamic} if dynamo else {"dynamic_axes": {"ids": free, "mask": free}}
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        TwoHeads().eval(), (ids, torch.ones_like(ids)), path, input_names=["ids", "mask"],
        dynamo=dynamo, verbose=False, **axes,
    )  # fmt: skip
    caplog.clear()
    costs = layer_costs(load_model(path), {"ids": (1, 5), "mask": (1, 5)})
    # one row: an axis of length 1 beside an unknown one has an unknown length
    assert [cost.macs for cost in costs.values()] == [5 * 16 * 48, 5 * 16 * 24]
    assert not caplog.records
