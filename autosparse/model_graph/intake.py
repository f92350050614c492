"""Intake: from a file somebody brings to a validated, normalized model graph.

Nothing is executed here, and nothing outside the model's own directory is read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer
from google.protobuf.message import DecodeError
from onnx_ir.passes import common as ir_passes

from autosparse.errors import ModelError, where_it_was_sought
from autosparse.model_graph.external_data import check_external_data
from autosparse.model_graph.graph import ModelGraph
from autosparse.model_graph.layers import find_layers, module_scopes
from autosparse.tensor_spec import TensorSpec

OLDEST_OPSET = 13
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Constants are folded up to this many elements: enough for a transposed weight of a large
# decoder, far from what a hostile Expand could ask for.
_FOLD_LIMIT = 1 << 27
# Reading takes time with the square of this: 3 s for 5,000 nodes in a row, 39 s for 20,000. A file
# of some megabytes can have millions.
_MOST_NODES = 50_000
# Inlining takes time with the square of this: some seconds here, hours for a hostile file.
_MOST_INLINED_NODES = 5_000


def load_model(path: Path) -> ModelGraph:
    """Read, check and normalize an ONNX file.

    Raises:
        ModelError: in one sentence, what is wrong with the file and what to do.
    """
    proto = _parse(path)
    _check_size(proto, path)
    sha256 = _sha256(path, *check_external_data(proto, path.parent))
    _check(proto, path)
    model = _normalize(path)
    scopes = module_scopes(model)
    ir_passes.ClearMetadataAndDocStringPass()(model)
    layers, skipped = find_layers(model, scopes)
    if not layers:
        raise ModelError(f"{path.name} has no compressible layer", hint=_what_is_missing(skipped))
    return ModelGraph(
        model=model,
        sha256=sha256,
        inputs=tuple(_spec(value, path) for value in model.graph.inputs),
        outputs=tuple(_spec(value, path) for value in model.graph.outputs),
        layers=layers,
        skipped=skipped,
    )


def _what_is_missing(skipped: Mapping[str, str]) -> str:
    """What a layer is, and why most of the weighted operators that there are, are none."""
    layer = "a layer is a Conv, Gemm or MatMul with a constant float32 weight"
    if not skipped:
        return layer
    reason, _ = Counter(skipped.values()).most_common(1)[0]
    return f"{layer}; most of what is here is none because {reason}"


def check_file(path: Path) -> None:
    """Make sure that a file is an ONNX model with all its weights; what is in it may be anything.

    Raises:
        ModelError: it is none, or its external data are missing, truncated or elsewhere.
    """
    check_external_data(_parse(path), path.parent)


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"there is no model file {path}", hint=where_it_was_sought(path))
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except PermissionError as error:
        raise ModelError(f"the model {path} cannot be read: {error.strerror}") from error
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path.name} is not an ONNX file, or it is truncated",
            hint="export the model again, or check the download",
        ) from error
    if not proto.graph.node or not proto.ir_version:
        raise ModelError(
            f"{path.name} holds no ONNX graph", hint="export the model to ONNX and give that file"
        )
    return proto


def _sha256(*files: Path) -> str:
    """Digest of all files in a row."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read: {error.strerror}",
                hint="give yourself the right to read it, or copy the model with its data",
            ) from error
    return digest.hexdigest()


def _check_size(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse too many nodes, inner graphs included, before anything works through them."""
    left = _MOST_NODES
    waiting = [proto.graph.node, *(function.node for function in proto.functions)]
    while waiting:
        nodes = waiting.pop()
        left -= len(nodes)
        if left < 0:
            raise ModelError(
                f"{path.name} has more than {_MOST_NODES} nodes",
                hint="export it without loops that are unrolled, or divide it",
            )
        for attribute in (attribute for node in nodes for attribute in node.attribute):
            if attribute.HasField("g"):
                waiting.append(attribute.g.node)
            waiting.extend(graph.node for graph in attribute.graphs)


def _check(proto: onnx.ModelProto, path: Path) -> None:
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(
            f"{path.name} uses opset {opset}, supported are {OLDEST_OPSET} to {newest}",
            hint="export it with another opset, or convert it with onnx.version_converter",
        )
    local = {(function.domain, function.name) for function in proto.functions}
    for node in proto.graph.node:
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in local:
            raise ModelError(
                f"{path.name}: node {node.name!r} uses the operator {node.domain}::{node.op_type}, "
                "which stock ONNX Runtime does not have",
                hint="export the model without custom operators",
            )
    _check_functions(proto, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "invalid graph")
        raise ModelError(
            f"{path.name} is not a valid ONNX model: {first.strip()}",
            hint="export it again; onnx.checker.check_model shows the whole list",
        ) from error
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path.name} cannot be checked: {error}") from error


def _check_functions(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse functions that call themselves, or that grow beyond measure when inlined."""
    bodies = {(f.domain, f.name): f.node for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], callers: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in callers:
                raise ModelError(
                    f"{path.name}: the function {node.domain}::{node.op_type} calls itself"
                )
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key], (*callers, key))
            total += sizes.get(key, 1)
        return total

    if bodies and size(proto.graph.node, ()) > _MOST_INLINED_NODES:
        raise ModelError(
            f"{path.name} has model-local functions that grow to more than "
            f"{_MOST_INLINED_NODES} nodes",
            hint="export it without functions",
        )


def _normalize(path: Path) -> ir.Model:
    """Inline functions, fold constants and batch norms, name every node, read every constant."""
    try:
        model = ir.load(str(path), format="protobuf")
        _simplify(model)
        # what is made from the model lies elsewhere, where references to its data lead nowhere
        ir.external_data.load_to_model(model)
        for value in model.graph.initializers.values():
            if value.const_value is not None:
                value.const_value.numpy()
    except Exception as error:  # the libraries' exceptions have no common base of their own
        raise ModelError(
            f"{path.name} cannot be read: {_root_cause(error)}",
            hint="export the model again, or check the download",
        ) from error
    return model


def _simplify(model: ir.Model) -> None:
    ir_passes.RemoveInitializersFromInputsPass()(model)
    onnxscript.optimizer.optimize(
        model, input_size_limit=_FOLD_LIMIT, output_size_limit=_FOLD_LIMIT, inline=True
    )
    # a Constant node's value can be pruned and quantized only as an initializer
    ir_passes.LiftConstantsToInitializersPass(lift_all_constants=False)(model)
    _join_biases(model.graph)
    ir_passes.RemoveUnusedNodesPass()(model)
    ir_passes.TopologicalSortPass()(model)
    ir_passes.NameFixPass()(model)


def _join_biases(graph: ir.Graph) -> None:
    """Turn MatMul and Add into Gemm where the input is a matrix: runtimes do it behind our back."""
    for add in [node for node in graph if node.op_type == "Add" and not node.domain]:
        product = add.inputs[0] if _is_matrix_product(add.inputs[0]) else add.inputs[1]
        bias = add.inputs[1] if product is add.inputs[0] else add.inputs[0]
        if product is None or bias is None or not _is_matrix_product(product):
            continue
        matmul = product.producer()
        weight = None if matmul is None else matmul.inputs[1]
        if matmul is None or weight is None or weight.shape is None or bias.const_value is None:
            continue
        if bias.const_value.shape.numpy() != weight.shape.numpy()[1:]:
            continue
        gemm = ir.Node("", "Gemm", [*matmul.inputs, bias], name=matmul.name, num_outputs=1)
        gemm.metadata_props.update(matmul.metadata_props)
        ir.convenience.replace_nodes_and_values(
            graph, add, [matmul, add], [gemm], [add.outputs[0]], [gemm.outputs[0]]
        )


def _is_matrix_product(value: ir.Value | None) -> bool:
    """Whether it is read once, and is the product of a matrix and a constant one of floats."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "MatMul" or node.domain:
        return False
    if len(value.uses()) != 1 or value.is_graph_output():
        return False
    left, right = node.inputs
    if left is None or left.shape is None or right is None or right.const_value is None:
        return False
    tensor = right.const_value
    return len(left.shape) == 2 and len(tensor.shape) == 2 and tensor.dtype == ir.DataType.FLOAT


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0]


def _spec(value: ir.Value, path: Path) -> TensorSpec:
    if value.shape is None or value.dtype is None:
        raise ModelError(
            f"{path.name}: {value.name!r} has no declared type or rank",
            hint="export the model with typed inputs and outputs",
        )
    dims = tuple(dim if isinstance(dim, int) else str(dim.value or "") for dim in value.shape)
    return TensorSpec(str(value.name), np.dtype(value.dtype.numpy()), dims)
