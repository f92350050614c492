"""Whole graphs in the torch executor: what it computes, its gradients, and what may be changed."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor

from autosparse.errors import AutoSparseError, DataError
from autosparse.model_graph import load_model
from autosparse.model_graph.torch_executor import GraphModule, unsupported_operators
from tests.exported_models import MODELS, WIDTH, WORDS, export_model, inputs_of

Arrays = Mapping[str, npt.NDArray[np.generic]]
Export = Callable[[str, int, bool], Path]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Export a model once per opset and exporter, with free batch and length."""
    return functools.partial(export_model, tmp_path_factory.mktemp("models"))


def run_torch(module: GraphModule, inputs: Arrays) -> list[npt.NDArray[np.float32]]:
    with torch.no_grad():
        outputs = module({name: torch.from_numpy(array) for name, array in inputs.items()})
    return [outputs[name].numpy() for name in module.output_names]


def run_onnxruntime(model: Path | ir.Model, inputs: Arrays) -> list[npt.NDArray[np.float32]]:
    source: str | bytes = str(model)
    if isinstance(model, ir.Model):
        in_memory = ir.external_data.load_to_model(model)
        source = ir.serde.serialize_model(in_memory).SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def assert_close(
    computed: list[npt.NDArray[np.float32]], expected: list[npt.NDArray[np.float32]]
) -> None:
    for ours, theirs in zip(computed, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


# ONNX Runtime's Attention, of opset 23, does not broadcast the encoder's mask.
EXPORTS = [
    *((name, opset, dynamo) for name in MODELS for opset, dynamo in ((17, False), (20, True))),
    ("resnet", 13, False),
    ("encoder", 14, False),
    ("encoder", 18, True),
    ("decoder", 22, True),
    ("decoder", 23, True),
    ("vision_transformer", 23, True),
]


@pytest.mark.parametrize(("name", "opset", "dynamo"), EXPORTS)
def test_same_outputs_as_onnxruntime(name: str, opset: int, dynamo: bool, export: Export) -> None:
    path = export(name, opset, dynamo)
    graph = load_model(path)
    assert unsupported_operators(graph) == ()
    module = GraphModule.from_graph(graph)
    for batch, length in ((1, 3), (5, 11)):
        inputs = inputs_of(name, batch, length)
        assert_close(run_torch(module, inputs), run_onnxruntime(path, inputs))


@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_computed_on_the_cpu(name: str, export: Export) -> None:
    # the meta device has shapes and no values: nothing there can be read as a number
    module = GraphModule.from_graph(load_model(export(name, 20, True))).to("meta")
    inputs = {key: torch.from_numpy(array) for key, array in inputs_of(name, 3, 9).items()}
    (output,) = module({key: tensor.to("meta") for key, tensor in inputs.items()}).values()
    assert output.device.type == "meta"
    assert output.shape[0] == 3


@pytest.mark.parametrize(
    ("name", "dynamo"), [("resnet", False), ("mobilenet_v3", True), ("decoder", True)]
)
def test_gradient_of_a_weight_is_the_slope(name: str, dynamo: bool, export: Export) -> None:
    module = GraphModule.from_graph(load_model(export(name, 20 if dynamo else 17, dynamo))).double()
    inputs = {
        key: tensor.double() if tensor.is_floating_point() else tensor
        for key, array in inputs_of(name, 3, 5).items()
        for tensor in [torch.from_numpy(array)]
    }

    def loss() -> Tensor:
        (output,) = module.forward(inputs).values()
        return output.square().mean()

    weights = [module.layer_weight(layer) for layer in module.layer_names]
    gradients = torch.autograd.grad(loss(), weights)
    torch.manual_seed(0)
    for weight, gradient in zip(weights, gradients, strict=True):
        direction, centre, step = torch.randn_like(weight), weight.detach().clone(), 1e-6
        with torch.no_grad():
            weight.copy_(centre + step * direction)
            above = loss()
            weight.copy_(centre - step * direction)
            below = loss()
            weight.copy_(centre)
        slope = (above - below) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet", "decoder"])
def test_weights_are_swapped_as_in_the_file(name: str, export: Export) -> None:
    graph = load_model(export(name, 20, True))
    module = GraphModule.from_graph(graph)
    changed = graph.copy_model()
    inputs = inputs_of(name, 2, 6)
    before = run_torch(module, inputs)
    for layer in graph.layers:
        weight = graph.weight(layer)
        pruned = np.where(np.abs(weight) > np.median(np.abs(weight)), weight, np.float32(0))
        changed.graph.initializers[layer.weight].const_value = ir.tensor(pruned, name=layer.weight)
        parameter = module.layer_weight(layer.name)
        module.set_layer_weight(layer.name, torch.from_numpy(pruned))
        assert module.layer_weight(layer.name) is parameter  # an optimizer would still hold it
        assert parameter.is_leaf
        assert parameter.requires_grad
    after = run_torch(module, inputs)
    assert np.abs(after[0] - before[0]).max() > 0.01
    assert_close(after, run_onnxruntime(changed, inputs))
    assert_close(run_torch(GraphModule.from_graph(graph), inputs), before)  # the graph is its own


def test_layers_are_parameters_and_other_floats_buffers(export: Export) -> None:
    graph = load_model(export("encoder", 20, True))
    module = GraphModule.from_graph(graph)
    assert module.layer_names == tuple(layer.name for layer in graph.layers)
    layers = {id(module.layer_weight(name)) for name in module.layer_names}
    biases = {id(module.layer_bias(name)) for name in module.layer_names}
    assert {id(parameter) for parameter in module.parameters()} <= layers | biases
    assert all(buffer.dtype != torch.int64 for buffer in module.buffers())
    assert any(buffer.shape == (WORDS, WIDTH) for buffer in module.buffers())
    with pytest.raises(AutoSparseError, match="no layer 'nowhere'"):
        module.layer_weight("nowhere")
    with pytest.raises(AutoSparseError, match="shape"):
        module.set_layer_weight(module.layer_names[0], torch.zeros(1))


def test_a_shared_weight_is_one_parameter_until_it_is_set(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
        twice (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 2, 3, 4}>
        { h = MatMul(x, w)  y = MatMul(h, w) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "twice.onnx")
    module = GraphModule.from_graph(load_model(tmp_path / "twice.onnx"))
    first, second = module.layer_names
    assert module.layer_weight(first) is module.layer_weight(second)
    assert len(list(module.parameters())) == 1
    module.set_layer_weight(first, torch.eye(2))
    assert len(list(module.parameters())) == 2
    assert module({"x": torch.eye(2)})["y"].tolist() == [[1, 2], [3, 4]]


def test_observers_see_what_each_layer_reads(export: Export) -> None:
    graph = load_model(export("encoder", 17, False))
    module = GraphModule.from_graph(graph)
    inputs = inputs_of("encoder", 2, 9)
    watched = list(dict.fromkeys(["ids", *(layer.input for layer in graph.layers)]))
    seen: dict[str, npt.NDArray[np.float32]] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        return lambda value: seen.update({name: value.numpy()})

    with torch.no_grad():
        module(
            {name: torch.from_numpy(array) for name, array in inputs.items()},
            {name: keep(name) for name in watched},
        )
    assert list(seen) == watched
    shown = graph.copy_model()
    values = {value.name: value for node in shown.graph for value in node.outputs}
    shown.graph.outputs[:] = [values[name] for name in watched[1:]]
    assert_close([seen[name] for name in watched[1:]], run_onnxruntime(shown, inputs))
    with pytest.raises(AutoSparseError, match="no tensor 'nowhere'"):
        module({"ids": torch.zeros(1, 1), "mask": torch.ones(1, 1)}, {"nowhere": print})


def test_a_hook_changes_what_the_rest_of_the_graph_reads(export: Export) -> None:
    graph = load_model(export("resnet", 17, False))
    module = GraphModule.from_graph(graph)
    image, hooked = torch.from_numpy(inputs_of("resnet", 2, 0)["image"]), graph.layers[1].input
    seen: list[Tensor] = []
    with torch.no_grad():
        double = module({"image": 2 * image}, {hooked: seen.append})
        hooks = {"image": lambda value: 2 * value}
        same = module({"image": image}, {hooked: seen.append}, hooks)
        constant = module({"image": image}, {hooked: seen.append}, {hooked: torch.zeros_like})
        other = module({"image": -image}, hooks={hooked: torch.zeros_like})
    name = graph.outputs[0].name
    assert torch.equal(double[name], same[name])
    assert torch.equal(seen[0], seen[1])
    assert not seen[2].any()  # an observer sees what is passed on
    assert constant[name].shape == other[name].shape
    with pytest.raises(AutoSparseError, match="no tensor 'nowhere'"):
        module({"image": image}, hooks={"nowhere": torch.zeros_like})


def test_a_value_is_freed_after_its_last_use(export: Export) -> None:
    graph = load_model(export("resnet", 17, False))
    module = GraphModule.from_graph(graph)
    first: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []
    with torch.no_grad():
        module(
            {"image": torch.zeros(1, 3, 16, 16)},
            {
                graph.layers[1].input: lambda value: first.append(weakref.ref(value)),
                graph.outputs[0].name: lambda value: alive.append(first[0]() is not None),
            },
        )
    assert alive == [False]


def test_inputs_must_be_the_graphs(export: Export) -> None:
    module = GraphModule.from_graph(load_model(export("encoder", 17, False)))
    with pytest.raises(DataError, match="the model reads ids, mask, but was given ids"):
        module({"ids": torch.zeros(1, 4, dtype=torch.int64)})


def test_a_failing_node_is_named(export: Export) -> None:
    module = GraphModule.from_graph(load_model(export("resnet", 17, False)))
    with pytest.raises(RuntimeError, match=r"while the torch executor ran Conv \(node '"):
        module({"image": torch.zeros(1, 4, 16, 16)})
