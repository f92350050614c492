"""Sparse layers of one recipe: custom nodes, their functions, and the library in `kernels/`."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from autosparse.evaluation import LoweringRequest
from autosparse.model_graph import Layer
from backends.kernels.library import LIBRARY_NAME, kernel_library, put_library
from backends.kernels.lowering import SparseNode, plan_of, use_fp32_kernel, use_int8_kernel
from backends.kernels.operators import SparseOperator
from backends.kernels.support import why_not_sparse
from backends.qdq_insertion import GrowingGraph

_DIRECTORY = "kernels"
_USUAL_DOMAIN = ""


class SparseLowering:
    """What the layers of one recipe need; does nothing where none is sparse."""

    def __init__(
        self, request: LoweringRequest, growing: GrowingGraph, nodes: Mapping[str, ir.Node]
    ) -> None:
        self._request = request
        self._growing = growing
        self._nodes = nodes
        self._operators: set[SparseOperator] = set()

    def use_fp32(self, layer: Layer) -> bool:
        """Replace a layer's node where a kernel runs its level on fp32: a sparse one, or bf16."""
        sparse = self._sparse_node(layer)
        if sparse is None:
            return False
        return self._used(use_fp32_kernel(self._growing, self._nodes[layer.node], sparse))

    def use_int8(self, layer: Layer) -> bool:
        """The same for a sparse int8 level, once the integers around the layer are in place."""
        sparse = self._sparse_node(layer)
        if sparse is None:
            return False
        return self._used(use_int8_kernel(self._growing, self._nodes[layer.node], sparse))

    def define_functions(self, model: ir.Model) -> None:
        """Give every custom operator in use its dense meaning."""
        opset = model.graph.opset_imports[_USUAL_DOMAIN]
        for operator in sorted(self._operators, key=lambda o: o.name):
            function = operator.function(opset)
            model.functions[function.identifier()] = function

    def add_libraries(self, directory: Path) -> tuple[str, str]:
        """Put the library beside the model, and that of the device below it; older ones go.

        Returns:
            Their paths relative to the directory, this machine's first; empty where no layer
            needs one, and the device's also where it has this machine's architecture.
        """
        kernels = directory / _DIRECTORY
        for old in kernels.rglob(LIBRARY_NAME):
            old.unlink()
        if not self._operators:
            return "", ""
        here, there = platform.machine(), self._request.architecture
        own = put_library(kernel_library(), kernels / LIBRARY_NAME)
        if there in ("", here):
            return own.relative_to(directory).as_posix(), ""
        devices = put_library(kernel_library(there), kernels / there / LIBRARY_NAME)
        return own.relative_to(directory).as_posix(), devices.relative_to(directory).as_posix()

    def _used(self, operator: SparseOperator | None) -> bool:
        if operator is not None:
            self._operators.add(operator)
        return operator is not None

    def _sparse_node(self, layer: Layer) -> SparseNode | None:
        level = self._request.recipe.levels[layer.name]
        if why_not_sparse(layer, level, self._request.architecture):
            return None
        return SparseNode(
            layer=layer, level=level, weight=self._request.weights[layer.name],
            bias=self._request.graph.bias(layer), plan=plan_of(self._request, layer),
        )  # fmt: skip
