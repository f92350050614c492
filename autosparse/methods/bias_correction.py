"""Idea: what a compressed weight loses on the average input, the bias can give back.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction" (arXiv:1906.04721), with means measured in place of those derived from batch norms.
Helps when: inputs have a mean far from zero, as after a ReLU, and zeros or rounding shift it.
Does nothing when: inputs have mean zero, or channel means are re-estimated after stitching anyway.
Cost: none worth naming; one pass over the calibration data for the means.
"""

from __future__ import annotations

from torch import Tensor


def bias_change(weight: Tensor, compressed: Tensor, input_means: Tensor) -> Tensor:
    """What to add to the bias so that every output channel keeps its mean.

    Args:
        weight: (output channels, K), as it came.
        compressed: (output channels, K), as the layer will multiply with it.
        input_means: (groups, K); output channels are split evenly over the groups.

    Returns:
        (output channels,).
    """
    means = input_means.repeat_interleave(weight.shape[0] // input_means.shape[0], dim=0)
    return ((weight - compressed) * means).sum(dim=1)
