"""An EfficientNet as both of torch's exporters write it: intake and executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from autosparse.model_graph import load_model
from autosparse.model_graph.cost import layer_costs
from autosparse.model_graph.torch_executor import GraphModule, unsupported_operators
from tests.efficientnet import SIZE, WIDE, EfficientNet, export
from tests.models import images

pytestmark = [
    # the exporter that most models in the field were made with says so on every call
    pytest.mark.filterwarnings(
        "ignore:You are using the legacy TorchScript-based:DeprecationWarning"
    ),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
]

SHAPE = (3, SIZE, SIZE)


@pytest.fixture(scope="module", params=[False, True], ids=["torchscript", "dynamo"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("efficientnet")
    return export(EfficientNet(), directory / "model.onnx", dynamo=request.param)


def test_every_convolution_is_a_layer(exported: Path) -> None:
    graph = load_model(exported)
    assert len(graph.layers) == 13
    assert graph.skipped == {}
    assert "BatchNormalization" not in {node.op_type for node in graph.model.graph}
    depthwise = [layer for layer in graph.layers if layer.is_depthwise]
    assert [layer.groups for layer in depthwise] == [WIDE, WIDE]
    assert [layer.weight_shape[2:] for layer in depthwise] == [(3, 3), (5, 5)]
    gates = {f"blocks.{block}.gate.{part}" for block in (0, 1) for part in ("reduce", "expand")}
    costs = layer_costs(graph, {"image": (1, *SHAPE)})
    assert gates <= costs.keys()
    # a gate works on one number for each channel: every weight is used once
    assert all(costs[name].macs == costs[name].parameters for name in gates)


def test_torch_answers_as_the_runtime_and_the_module_do(exported: Path) -> None:
    graph = load_model(exported)
    assert unsupported_operators(graph) == ()
    module = GraphModule.from_graph(graph)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    for rows in (1, 5):
        image = images(rows, seed=rows, shape=SHAPE)
        with torch.no_grad():
            found = module({"image": torch.from_numpy(image)})["logits"].numpy()
            own = EfficientNet().eval()(torch.from_numpy(image)).numpy()
        (expected,) = session.run(None, {"image": image})
        assert found.shape == (rows, 10)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-5)


def test_every_layer_has_a_gradient(exported: Path) -> None:
    module = GraphModule.from_graph(load_model(exported))
    weights = [module.layer_weight(name) for name in module.layer_names]
    output = module({"image": torch.from_numpy(images(4, shape=SHAPE))})["logits"]
    gradients = torch.autograd.grad(output.square().sum(), weights)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
