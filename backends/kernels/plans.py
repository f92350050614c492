"""Plans that are worth trying for a sparse layer on a target, beside the library's usual choice.

What is usual was measured on one processor for many shapes (`csrc/linear_fp32.c` and its like say
how); another cache, another number of registers or another shape may want another tile. A plan
changes how a layer is computed and never what: on a processor that has no such tile, the nearest
one is taken. `autosparse profile --atlas --plans` times them, and a job takes what won.
"""

from __future__ import annotations

from autosparse.levels import Level, Precision
from autosparse.model_graph import Layer
from backends.kernels.sparse_layer import Family, KernelPlan

_WHOLE_DEPTH = 1 << 20
"""All features in one pass."""
_FAMILIES = (
    KernelPlan(Family.BROADCAST), KernelPlan(Family.PERMUTE), KernelPlan(Family.PERMUTE, vectors=4),
)  # fmt: skip
_FP32_PRODUCTS = (
    *(KernelPlan(depth=depth) for depth in (64, 128, 256, 512)),
    *(KernelPlan(vectors=v, rows=r) for v, r in ((2, 4), (6, 4), (4, 2), (6, 2), (8, 2))),
    *_FAMILIES,
)
_INT8_PRODUCTS = (
    *(KernelPlan(depth=depth) for depth in (256, 512, 1024, 2048)),
    *(KernelPlan(vectors=v, rows=r) for v, r in ((2, 4), (2, 8), (4, 2), (8, 2))),
    *_FAMILIES,
)
_BF16_PRODUCTS = tuple(KernelPlan(depth=depth) for depth in (64, 128, 512, 1024))
_FP32_CONVOLUTIONS = (
    *(KernelPlan(depth=depth) for depth in (16, 64, _WHOLE_DEPTH)),
    *(KernelPlan(vectors=v) for v in (4, 6, 8, 10, 12, 14)),
)
_INT8_CONVOLUTIONS = (
    *(KernelPlan(depth=depth) for depth in (32, 128, _WHOLE_DEPTH)),
    *(KernelPlan(vectors=v) for v in (2, 3, 4, 6)),
    KernelPlan(Family.BROADCAST), KernelPlan(Family.PERMUTE), KernelPlan(Family.PERMUTE, vectors=2),
)  # fmt: skip


def plans_for(layer: Layer, level: Level) -> tuple[KernelPlan, ...]:
    """What a layer's kernel may be told, in no order; none for levels that the runtime computes."""
    if level.precision is Precision.BF16:
        return _BF16_PRODUCTS
    if level.sparsity == 0:
        return ()
    integer = level.precision is Precision.INT8
    if layer.operator == "Conv":
        return _INT8_CONVOLUTIONS if integer else _FP32_CONVOLUTIONS
    return _INT8_PRODUCTS if integer else _FP32_PRODUCTS
