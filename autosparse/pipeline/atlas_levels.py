"""The levels that an atlas measures unless it is asked for others."""

from __future__ import annotations

from autosparse.levels import Level

DENSE_LEVELS = tuple(
    Level.parse(text) for text in ("dense:fp32", "dense:bf16", "dense:int8", "dense:int4")
)
"""What zeros have to beat: every one that the backend runs for a layer."""
SPARSE_LEVELS = tuple(
    Level.parse(text)
    for text in (
        *(f"unstructured@{share}:fp32" for share in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
        *(f"block1x4@{share}:int8" for share in (0.25, 0.5, 0.75, 0.9, 0.95)),
        "2:4:int8", "1:4:int8", "2:8:int8", "4:8:int8",
    )
)  # fmt: skip
"""Of every precision the pattern that its kernels are made for. Others are measured where they are
asked for by `levels`: each takes a file of the whole model."""
