"""Every operator of the torch executor: on ONNX's own node tests, and on what those leave out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from autosparse.errors import ModelError
from autosparse.model_graph import load_model
from autosparse.model_graph.torch_executor import (
    GraphModule,
    find_unsupported,
    unsupported_operators,
)
from autosparse.model_graph.torch_executor.table import OPERATORS
from autosparse.model_graph.torch_executor.tensors import to_torch

OLDEST_OPSET = 13

# What the executor says -> why it is left out. A case is refused for one of these, or has to run.
REFUSED = {
    r" of (float8\w+|float4e2m1|u?int[24]) tensors$": "torch does not compute in so few bits",
    r" of uint(16|32|64) tensors$": "torch has the type, but few operators for it",
    r" of string tensors$": "there are no strings in torch",
    r" of no tensor$": "sequences and optional values are no tensors",
    r" as opset (7|11) defines it$": "intake refuses models of that age",
    r"^Attention with 4 outputs$": "the scores are an output for debugging",
    r"^Attention with nonpad_kv_seqlen$": "a cache outside the graph",
    r"^Attention with left_window_size$": "newer than what runtimes implement",
    r"^AveragePool with dilations$": "torch has none, no exporter writes them",
    r"^BatchNormalization with 3 outputs$": "training",
    r"^MaxPool with 2 outputs$": "the positions of the maxima",
    r"^(Deq|Q)uantizeLinear with block_size$": "scales per block",
    r"^Resize with antialias$": "no exporter of the supported models writes it",
    r"^Resize with coordinate_transformation_mode 'tf_crop_and_resize'$": "a crop, no resize",
}

# Refused while they run, because it takes the values to know.
REFUSED_LATE = {
    "test_resize_downsample_scales_cubic_align_corners": "align_corners to a fractional size",
    "test_resize_downsample_scales_linear_align_corners": "align_corners to a fractional size",
    "test_training_dropout": "training_mode",
    "test_training_dropout_default": "training_mode",
    "test_training_dropout_default_mask": "training_mode",
    "test_training_dropout_mask": "training_mode",
}


def collect_cases() -> dict[str, TestCase]:
    """ONNX's node tests whose operators are all in our table, the same values in every run."""
    state = np.random.get_state()  # noqa: NPY002 (the cases draw from the global generator)
    np.random.seed(0)  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases overflow and divide by zero on purpose
        cases = collect_testcases(None)
    np.random.set_state(state)  # noqa: NPY002
    return {
        case.name: case
        for case in cases
        if case.model is not None
        and all(
            node.op_type in OPERATORS and node.domain in ("", "ai.onnx")
            for node in case.model.graph.node
        )
    }


def model_of(case: TestCase) -> ir.Model:
    """The model of a case; in opset 13 where all its operators are defined there as in an older."""
    assert case.model is not None
    proto = onnx.ModelProto()
    proto.CopyFrom(case.model)
    for opset in proto.opset_import:
        definitions = [
            onnx.defs.get_schema(node.op_type, OLDEST_OPSET).since_version
            for node in proto.graph.node
            if opset.version < OLDEST_OPSET
        ]
        if definitions and max(definitions) <= opset.version:
            opset.version = OLDEST_OPSET
    return ir.serde.deserialize_model(proto)


CASES = collect_cases()
MODELS = {name: model_of(case) for name, case in CASES.items()}
UNSUPPORTED = {name: find_unsupported(model) for name, model in MODELS.items()}
RUNNABLE = [name for name in CASES if not UNSUPPORTED[name] and name not in REFUSED_LATE]


def tensor_of(value: object) -> torch.Tensor:
    if isinstance(value, onnx.TensorProto):
        return to_torch(ir.serde.deserialize_tensor(value))
    array = np.asarray(value)
    return to_torch(ir.Tensor(array, dtype=ir.DataType.from_numpy(array.dtype)))


def run_case(name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Computed and expected value of every output."""
    module = GraphModule(MODELS[name])
    data_sets = CASES[name].data_sets
    assert data_sets is not None
    pairs = []
    for inputs, outputs in data_sets:
        given = zip(module.input_names, map(tensor_of, inputs), strict=True)
        computed = module(dict(given))
        pairs += list(zip(computed.values(), map(tensor_of, outputs), strict=True))
    return pairs


@pytest.mark.parametrize("name", RUNNABLE)
def test_node_case(name: str) -> None:
    case = CASES[name]
    for computed, expected in run_case(name):
        assert computed.dtype == expected.dtype
        rounding = 4 * torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
        torch.testing.assert_close(
            computed, expected, rtol=max(case.rtol, rounding), atol=case.atol, equal_nan=True
        )


def test_refusals_are_the_known_ones() -> None:
    refused: set[str] = set()
    for name, missing in UNSUPPORTED.items():
        for sentence in missing:
            what, _, _ = sentence.partition(" (node")
            reasons = {pattern for pattern in REFUSED if re.search(pattern, what)}
            assert reasons, f"{name}: {what}"
            refused |= reasons
    assert refused == set(REFUSED)


@pytest.mark.parametrize(("name", "reason"), REFUSED_LATE.items())
def test_refused_while_running(name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        run_case(name)


def test_every_operator_has_a_case() -> None:
    covered = {
        nodes[0].op_type
        for nodes in (list(MODELS[name].graph) for name in RUNNABLE)
        if len(nodes) == 1
    }
    assert set(OPERATORS) == covered


Shapes = Mapping[str, Sequence[int]]
Constants = Mapping[str, npt.ArrayLike]
IMAGE: dict[str, tuple[int, ...]] = {"x": (2, 4, 9, 8)}
FILTER: dict[str, tuple[int, ...]] = {"w": (6, 2, 3, 3), "b": (6,)}

# Opset, node, shapes of random inputs, and constants: what ONNX's own cases leave out.
AGAINST_ONNXRUNTIME: list[tuple[int, str, Shapes, Constants]] = [
    (13, "y = Conv <group=2, pads=[1,2], dilations=[2], strides=[2]> (x, w, b)",
     {"x": (2, 4, 11), "w": (6, 2, 3), "b": (6,)}, {}),
    (22, "y = Conv <pads=[0,1,1,1,1,0]> (x, w)", {"x": (1, 2, 4, 5, 6), "w": (3, 2, 2, 3, 2)}, {}),
    (13, "y = Conv <group=2, auto_pad='SAME_LOWER', strides=[2,3]> (x, w, b)", IMAGE | FILTER, {}),
    (13, "y = Conv <group=2, auto_pad='SAME_UPPER', strides=[2,3]> (x, w, b)", IMAGE | FILTER, {}),
    (13, "y = Conv <group=2, auto_pad='VALID'> (x, w, b)", IMAGE | FILTER, {}),
    (13, "y = Conv <group=4, pads=[1,1,1,1]> (x, w)", IMAGE | {"w": (4, 1, 3, 3)}, {}),
    (13, "y = ConvTranspose <group=2, strides=[2,2], pads=[1,0,2,1], output_padding=[1,0]> (x, w)",
     IMAGE | {"w": (4, 3, 3, 3)}, {}),
    (13, "y = ConvTranspose <strides=[3,2], output_shape=[28,15]> (x, w, b)",
     IMAGE | {"w": (4, 3, 2, 2), "b": (3,)}, {}),
    (13, "y = ConvTranspose <auto_pad='SAME_UPPER', strides=[3,2], output_shape=[24,17]> (x, w)",
     IMAGE | {"w": (4, 3, 2, 2)}, {}),
    (13, "y = ConvTranspose <auto_pad='SAME_UPPER', strides=[2,3]> (x, w)",
     IMAGE | {"w": (4, 3, 4, 4)}, {}),
    (13, "y = MaxPool <kernel_shape=[3,2], strides=[2,3], ceil_mode=1, pads=[1,0,0,1]> (x)",
     IMAGE, {}),
    (13, "y = MaxPool <kernel_shape=[3], dilations=[2], ceil_mode=1, strides=[3]> (x)",
     {"x": (2, 3, 12)}, {}),
    (13, "y = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[0,1,1,1]> (x)",
     IMAGE, {}),
    (22, "y = AveragePool <kernel_shape=[3,2], count_include_pad=1, pads=[1,0,1,1]> (x)",
     IMAGE, {}),
    (13, "y = BatchNormalization (x, s, b, m, v)",
     {"x": (5, 3), "s": (3,), "b": (3,), "m": (3,)}, {"v": [0.5, 1.0, 2.0]}),
    (18, "y = GroupNormalization <num_groups=2> (x, s, b)", IMAGE | {"s": (2,), "b": (2,)}, {}),
    (17, "y = LayerNormalization <axis=1> (x, s)", {"x": (2, 3, 4), "s": (3, 4)}, {}),
    (17, "y = LayerNormalization <axis=1> (x, s, b)", {"x": (2, 3, 4), "s": (4,), "b": (3, 1)}, {}),
    (13, "y = InstanceNormalization (x, s, b)", {"x": (2, 3, 1), "s": (3,), "b": (3,)}, {}),
    (13, "y = Gemm <transA=1, alpha=0.5, beta=2.0> (a, b, c)",
     {"a": (3, 5), "b": (3, 4), "c": (5, 1)}, {}),
    (13, "y = Clip (x, , high)", IMAGE, {"high": 0.5}),
    (13, "y = Div (a, b)", {}, {"a": [-7, 7, -7, 7], "b": [2, -2, -2, 2]}),
    (13, "y = Mod (a, b)", {}, {"a": [-7, 7, -7, 7], "b": [3, -3, -3, 3]}),
    (13, "y = Pow (a, b)", {"a": (3,)}, {"b": [2, 3, 0]}),
    (13, "y = Slice (x, starts, ends, axes, steps)", {"x": (6, 7)},
     {"starts": [-100, 5], "ends": [-200, -100], "axes": [0, 1], "steps": [-1, -2]}),
    (13, "y = Pad <mode='reflect'> (x, pads)", IMAGE, {"pads": [0, 0, 2, 3, 0, 0, 1, 0]}),
    (13, "y = Pad (x, pads)", IMAGE, {"pads": [0, 0, -2, 3, 0, 0, 1, -1]}),
    (13, "y = ReduceMean <axes=[-1], keepdims=0> (x)", IMAGE, {}),
    (13, "y = ReduceL2 <axes=[1, 2]> (x)", IMAGE, {}),
    (18, "y = ReduceMean <noop_with_empty_axes=1> (x)", IMAGE, {}),
    (18, "a, b, c = Split <axis=1, num_outputs=3> (x)", {"x": (2, 7)}, {}),
    (13, "y = QuantizeLinear <axis=1> (x, s, z)", IMAGE,
     {"s": [0.02, 0.1, 0.5, 1.0], "z": [0] * 4}),
    (13, "y = ScatterND (x, i, u)", {"x": (4, 3), "u": (2, 3)}, {"i": [[-1], [1]]}),
    (13, "y = GatherND <batch_dims=1> (x, i)", {"x": (2, 3, 4)}, {"i": [[[-1], [0]], [[1], [2]]]}),
    (13, "y = CumSum <exclusive=1, reverse=1> (x, axis)", IMAGE, {"axis": -2}),
    (13, "y = OneHot <axis=0> (i, d, v)", {}, {"i": [-1, 0, 5, 2], "d": 3, "v": [0.5, 2.0]}),
    (13, "y = Expand (x, shape)", {"x": (3, 1)}, {"shape": [2, 1, 4]}),
]  # fmt: skip

RESIZE_MODES = [
    f"mode='{mode}', coordinate_transformation_mode='{coordinates}'"
    for mode in ("nearest", "linear", "cubic")
    for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric")
]
AGAINST_ONNXRUNTIME += [
    (18, f"y = Resize <{mode}> (x, , scales)", {"x": (1, 2, 7, 10)}, {"scales": [1.0, 1.0, *by]})
    for mode in RESIZE_MODES
    for by in ([0.6, 2.7], [2.0, 0.5], [11 / 7, 0.3])
]
RESIZE_CORNERS = [
    f"mode='{mode}', coordinate_transformation_mode='align_corners'"
    for mode in ("nearest", "linear", "cubic")
]
AGAINST_ONNXRUNTIME += [
    (18, f"y = Resize <{mode}> (x, , , sizes)", {"x": (1, 2, 7, 10)}, {"sizes": [1, 2, 12, 6]})
    for mode in RESIZE_CORNERS
]


def arrays_of(shapes: Shapes, constants: Constants) -> dict[str, npt.NDArray[np.generic]]:
    generator = np.random.default_rng(0)
    arrays: dict[str, npt.NDArray[np.generic]] = {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    for name, values in constants.items():
        array = np.asarray(values)
        arrays[name] = array.astype(np.float32) if array.dtype == np.float64 else array
    if "z" in arrays:
        arrays["z"] = arrays["z"].astype(np.int8)
    return arrays


def single_node(
    text: str, opset: int, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> onnx.ModelProto:
    node = onnx.parser.parse_node(text.replace("'", '"'))
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arrays.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.helper.make_graph([node], "single", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(("opset", "text", "shapes", "constants"), AGAINST_ONNXRUNTIME)
def test_agrees_with_onnxruntime(
    opset: int, text: str, shapes: Shapes, constants: Constants
) -> None:
    arrays = arrays_of(shapes, constants)
    proto = single_node(text, opset, arrays)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    module = GraphModule(ir.serde.deserialize_model(proto))
    computed = module({name: torch.from_numpy(array) for name, array in arrays.items()})
    for name, expected in zip(module.output_names, session.run(None, arrays), strict=True):
        torch.testing.assert_close(computed[name], torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("opset", "text", "shapes", "constants"),
    [
        (13, "y = ReduceL2 (x)", {}, {"x": [0.0, 0.0]}),
        (13, "y = Selu (x)", {}, {"x": [-200.0, 0.0, 200.0]}),
        (13, "y = Softplus (x)", {}, {"x": [-200.0, 0.0, 200.0]}),
        (23, "y = Attention (q, k, v, mask)",
         {"q": (1, 1, 2, 4), "k": (1, 1, 3, 4), "v": (1, 1, 3, 4)},
         {"mask": [[True, True, False], [False, False, False]]}),
    ],
)  # fmt: skip
def test_gradient_is_finite_where_the_formula_is_not(
    opset: int, text: str, shapes: Shapes, constants: Constants
) -> None:
    arrays = arrays_of(shapes, constants)
    module = GraphModule(ir.serde.deserialize_model(single_node(text, opset, arrays)))
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    differentiable = [x.requires_grad_() for x in inputs.values() if x.is_floating_point()]
    gradients = torch.autograd.grad(module.forward(inputs)["y"].sum(), differentiable)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_is_missing_is_named_before_anything_runs(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
        gaps (float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y)
        <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[4] s = {1.0, 1.0, 0.5, 0.5},
         float r = {0.1}, bool t = {1}>
        {
            a = Conv(x, w)
            b = Shrink(a)
            c = Shrink(b)
            d = Dropout(c, r, t)
            y = Resize <mode = "linear", antialias = 1> (d, , s)
        }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "gaps.onnx")
    graph = load_model(tmp_path / "gaps.onnx")
    shrink, dropout, resize = unsupported_operators(graph)
    assert shrink.startswith("Shrink (nodes '")
    assert dropout.startswith("Dropout with training_mode (node '")
    assert resize.startswith("Resize with antialias (node '")
    with pytest.raises(ModelError, match=r"Shrink .*; Dropout .*; Resize") as caught:
        GraphModule.from_graph(graph)
    assert "ONNX Runtime" in caught.value.hint


def bare_model(node: ir.Node) -> ir.Model:
    return ir.Model(ir.Graph([], [], nodes=[node], opset_imports={"": 18}), ir_version=10)


def test_an_attribute_that_nobody_reads_is_refused() -> None:
    with pytest.raises(ModelError, match="Relu with attribute news"):
        GraphModule(bare_model(ir.node("Relu", [ir.val("x")], attributes={"news": 1})))


def test_an_operator_of_another_domain_is_refused() -> None:
    with pytest.raises(ModelError, match=r"com\.microsoft::Gelu"):
        GraphModule(bare_model(ir.node("Gelu", [ir.val("x")], domain="com.microsoft")))


def test_an_operator_that_the_opset_does_not_define_is_refused() -> None:
    with pytest.raises(ModelError, match="Gelu, which opset 18 does not define"):
        GraphModule(bare_model(ir.node("Gelu", [ir.val("x")])))
