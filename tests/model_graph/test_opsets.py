"""Every opset from the oldest that we read to the newest that there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from autosparse.model_graph import load_model
from autosparse.model_graph.intake import OLDEST_OPSET
from autosparse.model_graph.torch_executor import GraphModule, unsupported_operators
from tests.models import Floats, Net, images

OPSETS = range(OLDEST_OPSET, onnx.defs.onnx_opset_version() + 1)
SURELY_RUN = 23
"""Any ONNX Runtime that the package asks for opens models of this opset."""


def net_of(opset: int) -> Net:
    """Operators whose definitions changed on the way, and a weight behind three of them."""
    net = Net(opset=opset)
    conv = net.conv(net.input("image", "batch", 3, 8, 8), "conv", 3, 4, bias=False)
    norm = [net.weight(f"norm.{name}", 4) for name in ("scale", "shift", "mean")]
    norm.append(net.constant("norm.variance", np.array([0.5, 1, 2, 4], np.float32)))
    value = net.node("Relu", net.node("BatchNormalization", conv, *norm))
    value = net.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    if opset < 18:
        value = net.node("ReduceMean", value, axes=[2, 3])
    else:
        value = net.node("ReduceMean", value, net.constant("axes", np.array([2, 3])))
    value = net.node("Reshape", value, net.constant("rows", np.array([-1, 4])))
    half = net.constant("fc.weight", net.rng.standard_normal(20).astype(np.float16))
    weight = net.node("Cast", half)
    net.nodes[-1].attribute.append(onnx.helper.make_attribute("to", TensorProto.FLOAT))
    weight = net.node("Reshape", weight, net.constant("matrix", np.array([5, 4])))
    weight = net.node("Transpose", weight, perm=[1, 0])
    product = net.node("MatMul", value, weight, name="fc")
    net.node("Softmax", product, axis=-1, to="y")
    return net


def opened(model: onnx.ModelProto) -> ort.InferenceSession | None:
    """A session; None where the installed ONNX Runtime is older than the opset."""
    try:
        return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common base of their own
        if "till opset" not in str(error):
            raise
        return None


def answers(session: ort.InferenceSession, image: Floats) -> Floats:
    return np.asarray(session.run(None, {"image": image})[0])


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_is_read_and_answers_alike(tmp_path: Path, opset: int) -> None:
    path = net_of(opset).save(tmp_path / "model.onnx", "y")
    graph = load_model(path)
    assert [(layer.name, layer.weight_shape) for layer in graph.layers] == [
        ("conv", (4, 3, 3, 3)), ("fc", (4, 5)),
    ]  # fmt: skip
    assert unsupported_operators(graph) == ()
    image = images(3)
    with torch.no_grad():
        found = GraphModule.from_graph(graph)({"image": torch.from_numpy(image)})["y"].numpy()
    session = opened(onnx.load(str(path)))
    if session is None:
        assert opset > SURELY_RUN
        return
    expected = answers(session, image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    normalized = opened(ir.to_proto(graph.model))
    assert normalized is not None
    np.testing.assert_allclose(answers(normalized, image), expected, rtol=1e-4, atol=1e-6)
