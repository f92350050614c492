"""Convolutions that the kernels refuse, known before a file is written that nothing opens.

The numbers are those of `csrc/conv_broadcast.c`, and for strides, dilations and pads those of
`csrc/ort_kernel.c`, which says them of a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from autosparse.model_graph import Layer

LONGEST_WINDOW = 64
"""Places of a window along an axis."""
MOST_OUTPUTS = 1 << 22
MOST_PLANES = 1 << 24
"""Input channels, those of all groups, times places of the window."""
LARGEST_STEP = 1024
"""Stride and dilation."""
LARGEST_PAD = 4096


def why_not_convolved(layer: Layer) -> str:
    """Why no kernel has a two-dimensional convolution's weight; empty where one does."""
    height, width = layer.weight_shape[2:]
    if max(height, width) > LONGEST_WINDOW:
        return (
            f"{layer.name}: the sparse kernels know windows of up to {LONGEST_WINDOW} places along "
            f"an axis, and it has {height}x{width}"
        )
    if layer.output_channels > MOST_OUTPUTS:
        return (
            f"{layer.name}: the sparse kernels know up to {MOST_OUTPUTS} output channels, and it "
            f"has {layer.output_channels}"
        )
    planes = height * width * layer.input_channels
    if planes > MOST_PLANES:
        return (
            f"{layer.name}: the sparse kernels know up to {MOST_PLANES} inputs of a window, and it "
            f"has {planes}"
        )
    return ""


def moves_too_far(node: ir.Node) -> bool:
    """Whether a convolution's strides, dilations or pads are none that the kernels take."""
    steps = [*_numbers(node, "strides"), *_numbers(node, "dilations")]
    return any(not 1 <= step <= LARGEST_STEP for step in steps) or any(
        not 0 <= pad <= LARGEST_PAD for pad in _numbers(node, "pads")
    )


def _numbers(node: ir.Node, name: str) -> Sequence[int]:
    found = node.attributes.get(name)
    return () if found is None else found.as_ints()
