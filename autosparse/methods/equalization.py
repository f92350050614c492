"""Idea: give the channels between two layers equal ranges on both sides.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), cross-layer equalization. A channel with large weights where it is made and
small ones where it is read wastes the grid of its activations and of its readers: scaled by the
root of the ratio, both sides have the same range.
Helps when: channels differ much in range, as after folding batch norms, and layers become int8.
Does nothing when: no two layers follow each other through ReLU or pooling alone.
Cost: none worth naming; no data. The model computes the same.
"""

from __future__ import annotations

import numpy as np

from autosparse.model_graph import ModelGraph
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    ChannelPair,
    making_rows,
    reading_rows,
    unchanged,
)
from autosparse.model_graph.graph import FloatArray

# A channel that is all but dead is not blown up.
_WIDEST = 100.0


def equal_ranges(making: FloatArray, reading: FloatArray) -> FloatArray:
    """What to multiply each channel with, so that both its ranges are the same.

    Args:
        making: (channels,), largest weight where each is made.
        reading: (channels,), largest weight where each is read.
    """
    known = (making > 0) & (reading > 0)
    ratio = np.ones_like(making)
    ratio[known] = np.sqrt(reading[known] / making[known])
    return np.asarray(np.clip(ratio, 1.0 / _WIDEST, _WIDEST), dtype=np.float32)


def equalized(graph: ModelGraph, pair: ChannelPair) -> ChannelChange:
    """The change of one pair; none where a factor does not pass, or a normalization makes it."""
    if not pair.scalable or pair.is_norm:
        return unchanged(pair)
    making = np.abs(making_rows(graph, pair)).max(axis=1)
    reading = np.max([np.abs(rows).max(axis=0) for rows in reading_rows(graph, pair)], axis=0)
    return ChannelChange(pair, equal_ranges(making, reading), unchanged(pair).order)
