"""The table of all operators. To add one: an entry in the theme it belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.model_graph.torch_executor import (
    activations,
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    matrix,
    normalization,
    pooling,
    quantization,
    reduction,
    resampling,
    shape,
)
from autosparse.model_graph.torch_executor.operator import Operator

OPERATORS: Mapping[str, Operator] = {
    **activations.OPERATORS,
    **attention.OPERATORS,
    **convolution.OPERATORS,
    **creation.OPERATORS,
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **matrix.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **quantization.OPERATORS,
    **reduction.OPERATORS,
    **resampling.OPERATORS,
    **shape.OPERATORS,
}
"""Operators of the standard ONNX domain by name."""
