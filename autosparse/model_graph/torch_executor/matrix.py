"""Matrix products."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autosparse.model_graph.torch_executor.node import NodeView
from autosparse.model_graph.torch_executor.operator import Kernel, Operator, plain


def _build_gemm(node: NodeView) -> Kernel:
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    transpose_a, transpose_b = node.flag("transA"), node.flag("transB")

    def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        """(M, K) x (K, N) plus what broadcasts to (M, N) -> (M, N)."""
        a = a.t() if transpose_a else a
        b = b.t() if transpose_b else b
        if c is not None and a.is_floating_point():
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        product = torch.mm(a, b)
        if alpha != 1.0:
            product = (alpha * product).to(a.dtype)
        return product if c is None else product + (beta * c).to(a.dtype)

    return gemm


def _build_einsum(node: NodeView) -> Kernel:
    equation = node.text("equation")
    return lambda *operands: torch.einsum(equation, *operands)


OPERATORS: Mapping[str, Operator] = {
    "Einsum": Operator(_build_einsum),
    "Gemm": Operator(_build_gemm),
    "MatMul": plain(torch.matmul),
}
