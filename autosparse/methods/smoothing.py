"""Idea: move what makes activations hard to round into the weights that read them.

Source: Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models" (arXiv:2211.10438).
Helps when: some channels of activations are far larger than the others, as behind the
normalizations of transformers, and their readers become int8: all share one step.
Does nothing when: what a normalization gives is also added to something else, as in BERT's blocks.
Cost: one pass over some calibration rows. The model computes the same.
"""

from __future__ import annotations

import numpy as np

from autosparse.model_graph import ModelGraph
from autosparse.model_graph.channel_pairs import (
    ChannelChange,
    ChannelPair,
    reading_rows,
    unchanged,
)
from autosparse.model_graph.graph import FloatArray

# The paper's alpha: how much of the difficulty the weights take over.
_SHARE = 0.5
_SMALLEST = 1e-5


def smoothing_factors(
    activations: FloatArray, weights: FloatArray, share: float = _SHARE
) -> FloatArray:
    """What to divide each channel of the activations by.

    Args:
        activations: (channels,), largest size of each.
        weights: (channels,), largest weight that reads each.
        share: 0 leaves the activations as they are, 1 gives them equal ranges.
    """
    found = np.maximum(activations, _SMALLEST) ** share
    found /= np.maximum(weights, _SMALLEST) ** (1.0 - share)
    dead = (activations <= _SMALLEST) | (weights <= _SMALLEST)
    # around 1 altogether: only ratios between channels matter
    found /= np.exp(np.log(np.where(dead, 1.0, found)).mean())
    return np.asarray(np.where(dead, 1.0, found), dtype=np.float32)


def smoothed(graph: ModelGraph, pair: ChannelPair, activations: FloatArray) -> ChannelChange:
    """The change of one pair; none where a layer makes it (see `equalization`).

    Args:
        graph: the model.
        pair: whose channels.
        activations: (channels,), largest size of each where it is read.
    """
    if not pair.scalable or not pair.is_norm:
        return unchanged(pair)
    weights = np.max([np.abs(rows).max(axis=0) for rows in reading_rows(graph, pair)], axis=0)
    factors = smoothing_factors(activations, weights)
    return ChannelChange(pair, np.asarray(1.0 / factors), unchanged(pair).order)
